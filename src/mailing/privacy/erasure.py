"""Export and erase a person's data.

A person is identified by a phone. An erasure deletes the client and every copy of the phone; counts stay, under ids
that identify no one. A keyed hash of the phone remains, so that no import restores the person by mistake.
"""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from msgspec import Struct
from msgspec.structs import asdict
from sqlalchemy.ext.asyncio import AsyncSession

from mailing.clients.repository import ClientRepository, client_with_phone
from mailing.clients.schemas import ClientOut
from mailing.clients.suppression import suppression_of
from mailing.clients.upload.repository import delete_rows_with_phone
from mailing.database.engine import Sessions, transaction
from mailing.errors import Conflict, FieldError, Invalid, NotFound
from mailing.events import COMMAND_LINE, record_event
from mailing.messages.redaction import has_phone, redact_phone
from mailing.privacy import repository
from mailing.privacy.repository import Erasure
from mailing.reasons.codes import stored_reason, words_of

CALL_TIMEOUT_S = 90  # by then a call has ended, or its lease has expired and the sweep has recovered the message


class Person(Struct, frozen=True, kw_only=True):
    """All data about a phone. `client` has it now; its messages may contain an earlier phone of the client.

    `opted_out` is the entry on the list of opt-outs, which survives the client and an erasure.
    """

    phone: str
    client: ClientOut | None
    messages: list[dict[str, Any]]
    events: list[dict[str, Any]]
    erased_at: datetime | None
    opted_out: dict[str, Any] | None


async def export_person(session: AsyncSession, phone: str) -> Person:
    client = await client_with_phone(session, phone)
    client_id = client.id if client else None
    found = await repository.messages_of_person(session, phone, client_id)
    messages = [_in_words(row, "status_reason") for row in found]
    ids = [message["id"] for message in messages]
    attempts = [_in_words(row, "reason") for row in await repository.attempts_of(session, ids)]
    listed = await suppression_of(session, phone)
    return Person(
        phone=phone,
        client=client,
        messages=[
            {**message, "attempts": [each for each in attempts if each["message_id"] == message["id"]]}
            for message in messages
        ],
        events=await repository.events_of(session, client_id, ids),
        erased_at=await repository.erased_at(session, phone),
        opted_out=_in_words(asdict(listed), "reason") if listed else None,
    )


def _in_words(row: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Replace the parameters of a row's reason by its words, under `name`."""
    columns = dict(row)
    reason = stored_reason(columns["reason_code"], columns.pop("reason_params"))
    return columns | {name: words_of(reason) or None}


class Erased(Struct, frozen=True):
    client: bool
    messages: int


async def erase(sessions: Sessions, phone: str, *, timeout_s: float = CALL_TIMEOUT_S) -> Erased:
    """Erase a person; safe to run again after an interruption. Conflict if a message is in a call after `timeout_s`."""
    async with transaction(sessions) as session:
        await repository.record_erasure(session, phone)
        client_id = await _remove_client(session, phone)
        await repository.redact_events(session, phone, client_id)
        await repository.delete_answers(session, phone)
        await delete_rows_with_phone(session, phone)
    deadline = asyncio.get_running_loop().time() + timeout_s
    messages = 0
    while True:
        async with transaction(sessions) as session:
            messages += await redact_phone(session, phone)
        async with transaction(sessions) as session:
            if not await has_phone(session, phone):
                return Erased(client_id is not None, messages)
        if asyncio.get_running_loop().time() > deadline:
            raise Conflict("A message to this phone is still in a call; run the erasure again in a minute.")
        await asyncio.sleep(1)


async def _remove_client(session: AsyncSession, phone: str) -> int | None:
    """Delete the client and cancel its unsent messages, as DELETE does. None: there is no client."""
    client = await client_with_phone(session, phone)
    if client is None:
        return None
    await ClientRepository(session).remove(client.id, by=COMMAND_LINE)
    await record_event(session, "client.erased", by=COMMAND_LINE, client_id=client.id)
    return client.id


async def allow_again(session: AsyncSession, phone: str) -> None:
    """Allow the phone to be stored again; erased data stays erased. NotFound if it is not blocked."""
    if not await repository.revoke_erasure(session, phone):
        raise NotFound("No person with this phone was erased; the phone can be stored already.")


async def reapply(sessions: Sessions, log: Sequence[Erasure]) -> int:
    """Apply a log of erasures to a restored backup. Returns the number of people erased again.

    Raises Invalid for the log of another installation, whose hashes match no phone here.
    """
    async with transaction(sessions) as session:
        if {each.installation for each in log} - {await repository.installation_id(session)}:
            raise Invalid(FieldError("log", "was written by another installation; its hashes match no phone here"))
        await repository.adopt_erasures(session, log)
        phones = await repository.erased_but_present(session)
    for phone in phones:
        await erase(sessions, phone)
    return len(phones)
