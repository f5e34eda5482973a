"""A file of clients: chosen, looked at, imported by a worker, its result."""

import os
from typing import Any

from litestar import Response, get
from litestar.datastructures import UploadFile
from litestar.exceptions import HTTPException
from litestar.params import FromPath
from litestar.response import Stream

from mailing.admin.form_keys import FIELD, begin
from mailing.admin.forms import post_form
from mailing.admin.guards import EDITOR
from mailing.admin.pages import message_of, page, redirect
from mailing.admin.viewer import CurrentViewer
from mailing.clients.csv_header import COLUMNS
from mailing.clients.routes import csv_file
from mailing.clients.upload import actions, repository
from mailing.clients.upload.actions import MAX_FILE_BYTES
from mailing.clients.upload.job import MAX_REJECTED_FIELDS
from mailing.clients.upload.rejected_rows import rejected_rows_csv
from mailing.clients.upload.schemas import UploadStatus
from mailing.database.engine import transaction
from mailing.errors import Invalid
from mailing.reasons.refusals import RefusalCode, refused_field
from mailing.web.concurrency_limits import limited
from mailing.web.parameters import Caller, Id, Session
from mailing.web.state import AnyRequest, AppState

MAX_BODY_BYTES = MAX_FILE_BYTES + 100_000  # bytes; what a form puts around its file is less
MAX_UPLOADS = 10
MAX_ROW_ERRORS = 20


@get("/upload", guards=EDITOR)
async def choose(request: AnyRequest, session: Session) -> Response[str]:
    return await _upload_page(request, session, error="", status=200)


@post_form("/upload", guards=EDITOR, request_max_body_size=MAX_BODY_BYTES, **limited("imports"))
async def send(
    request: AnyRequest, session: Session, viewer: CurrentViewer, state: AppState, caller: Caller
) -> Response[Any]:
    try:
        async with transaction(state.sessions) as looking:
            await actions.ensure_capacity(looking, by=caller)
        file = await _file(request)
        await actions.ensure_importable(file.read, size=_size(file))
        if (key := request.query_params.get(FIELD)) and (stored := await begin(request, key)):
            return stored
        await file.seek(0)
        upload_id = await actions.save_upload(session, file.read, name=file.filename, size=_size(file), by=caller)
    except Invalid as refused:
        error = " ".join(_capital(message_of(viewer, each)) for each in refused.errors)
        return await _upload_page(request, session, error=error, status=400)
    except actions.TooManyFiles as refused:
        error = _capital(refused.refusal.words(viewer.language))
        answer = await _upload_page(request, session, error=error, status=429)
        answer.headers["Retry-After"] = str(refused.wait_s)
        return answer
    return redirect(f"/admin/clients/uploads/{upload_id}")


async def _file(request: AnyRequest) -> UploadFile:
    try:
        file = (await request.form()).get("file")
    except HTTPException as refused:
        raise Invalid(actions.too_large()) if refused.status_code == 413 else refused from None
    except (UnicodeDecodeError, LookupError):
        file = None
    if not isinstance(file, UploadFile):
        raise Invalid(refused_field("file", RefusalCode.no_file))
    return file


def _size(file: UploadFile) -> int:
    size = file.file.seek(0, os.SEEK_END)
    file.file.seek(0)
    return size


def _capital(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:] + "."


async def _upload_page(request: AnyRequest, session: Session, *, error: str, status: int) -> Response[str]:
    return page(
        request,
        "clients/upload.html",
        status=status,
        errors={"file": error} if error else None,
        uploads=await repository.newest_uploads(session, count=MAX_UPLOADS, actor=str(request.user)),
        columns=COLUMNS,
        megabytes=MAX_FILE_BYTES // 10**6,
        days=repository.RESULT_RETENTION_D,
    )


@get("/uploads/{upload_id:int}", guards=EDITOR)
async def show(request: AnyRequest, session: Session, upload_id: FromPath[Id]) -> Response[str]:
    upload = await repository.get_upload(session, upload_id)
    if upload.status == UploadStatus.uploaded:
        preview, hours = await actions.preview_of(session, upload), repository.UNCONFIRMED_RETENTION_H
        return page(request, "clients/preview.html", upload=upload, preview=preview, hours=hours)
    return page(
        request,
        "clients/outcome.html",
        upload=upload,
        rejected_fields=await repository.rejected_fields(session, upload.id, count=MAX_ROW_ERRORS),
        capped=await repository.count_rejected_fields(session, upload.id) >= MAX_REJECTED_FIELDS,
        most=MAX_REJECTED_FIELDS,
        days=repository.RESULT_RETENTION_D,
    )


@post_form("/uploads/{upload_id:int}/import", guards=EDITOR)
async def confirm(session: Session, caller: Caller, upload_id: FromPath[Id]) -> Response[None]:
    await actions.confirm(session, upload_id, by=caller)
    return redirect(f"/admin/clients/uploads/{upload_id}")


@post_form("/uploads/{upload_id:int}/discard", guards=EDITOR)
async def discard(session: Session, viewer: CurrentViewer, upload_id: FromPath[Id]) -> Response[None]:
    await actions.discard(session, upload_id)
    return redirect("/admin/clients/upload", notice=viewer.gettext("The file was discarded; nothing was imported."))


@get("/uploads/{upload_id:int}/rejected-rows", guards=EDITOR, **limited("exports"))
async def rejected_rows(session: Session, viewer: CurrentViewer, state: AppState, upload_id: FromPath[Id]) -> Stream:
    upload = await repository.get_upload(session, upload_id)
    rows = rejected_rows_csv(state.exporting, upload.id, language=viewer.language)
    return await csv_file(state, rows, name=f"left-out-{upload.id}.csv")


HANDLERS = [choose, send, show, confirm, discard, rejected_rows]
