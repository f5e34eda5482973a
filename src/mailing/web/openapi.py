"""`/docs`: Swagger UI, Redoc and their OpenAPI document.

The pages are our own because Litestar's have inline scripts, which would need `script-src 'unsafe-inline'`.
"""

from typing import Any

from litestar import MediaType, Router, get
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin, OpenAPIRenderPlugin
from litestar.openapi.spec import Components, License, OpenAPI, SecurityScheme, Tag
from litestar.response import Redirect

from mailing import __version__
from mailing.web.openapi_document import Document
from mailing.web.state import AnyRequest

DESCRIPTION = """
Send one short text to every client that a mailing's filter selects.
The same document as [Swagger UI](/docs/), [Redoc](/docs/redoc) and [JSON](/docs/openapi.json).

**Authorization.** Send `Authorization: Bearer <key>` with every call. `mailing key create` makes a key;
in Swagger UI press *Authorize* and paste it.

**Errors** are [RFC 9457](https://www.rfc-editor.org/rfc/rfc9457) `application/problem+json`:
`title`, `status`, and a `detail` for people. A 400 names every bad field at once in `errors`:
`[{"field": "filter.tags.0", "message": "…"}]`. 409 means that the state or a unique value forbids it.
429 and 503 have `Retry-After`. After a 503 check whether the change was applied before you retry.

**Idempotency.** A POST with an `Idempotency-Key` header can be sent again: it is done once, and answered the same.

**Lists** answer `{"items": […], "next_cursor": "…"}`. Take `limit` items (1-500, default 50); pass `next_cursor`
as `cursor` for the next page until it is `null`. A page costs the same however deep it is.
An unknown query parameter or field is refused, not ignored; so is a text with a NUL character.

**Times** are RFC 3339 with an offset, such as `2026-03-01T09:00:00+03:00`; answers are in UTC (`…Z`).
Local times in a mailing's window (`09:00`) are wall-clock times in the client's time zone.

**A trailing slash** never matters: `/mailing/api/clients/` is `/mailing/api/clients`.
"""

TAGS = {
    "clients": "Who can receive a text: phone, operator code, tag, time zone.",
    "mailings": "One text to all clients that a filter selects, between a start and an end.",
    "messages": "One client's message in one mailing, its attempts, and everything that happened to it.",
    "gateway": "The gateway that all workers send through: its breaker, the rate limit, the stop of all sending.",
    "statistics": "How many messages each mailing planned, sent and did not send, and why.",
    "events": "Everything that happened to a mailing, a message or a client, in order.",
}

# Redoc adds two <style> elements: an empty one that styled-components fill through the CSSOM, and one for scroll bars.
# Their hashes avoid 'unsafe-inline'. Swagger UI needs neither.
_REDOC_STYLES = (
    "'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=' 'sha256-QMIg+bpjm3JdElJ388KYke01izlUW0UoNOeKjpMxdgc='"
)

CSP = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        f"style-src 'self' {_REDOC_STYLES}",
        "img-src 'self' data:",  # Swagger UI's icons; Redoc's logo from its maker's CDN stays away
        "connect-src 'self'",
        "worker-src blob:",  # Redoc's search
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)

HEADERS = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": CSP,
}

_PAGE = """<!doctype html>
<html lang="en">
  <head>
    <meta charset="utf-8">
    <meta name="viewport" content="width=device-width, initial-scale=1">
    <title>{title}</title>
    <link rel="icon" href="/static/favicon.svg" type="image/svg+xml">
    {styles}
  </head>
  <body>
    <div id="page"></div>
    <noscript>This page needs JavaScript; the document itself is at <a href="/docs/openapi.json">/docs/openapi.json</a>.
    </noscript>
    {scripts}
  </body>
</html>
"""

_SWAGGER = "/static/vendor/swagger-ui-dist-5.35.0"
_REDOC = "/static/vendor/redoc-2.5.4"


class Page(OpenAPIRenderPlugin):
    """An HTML page that only loads its styles and scripts."""

    def __init__(self, path: str, title: str, *, styles: tuple[str, ...], scripts: tuple[str, ...]) -> None:
        super().__init__(path=path)
        self._html = _PAGE.format(
            title=title,
            styles="\n    ".join(f'<link rel="stylesheet" href="{url}">' for url in styles),
            scripts="\n    ".join(f'<script src="{url}"></script>' for url in scripts),
        ).encode()

    def render(self, request: AnyRequest, openapi_schema: dict[str, Any]) -> bytes:
        del request, openapi_schema  # the page fetches the document
        return self._html


class Config(OpenAPIConfig):
    def to_openapi_schema(self) -> OpenAPI:
        return Document(**vars(super().to_openapi_schema()))


def openapi_config() -> OpenAPIConfig:
    return Config(
        title="Mailing",
        version=__version__,
        description=DESCRIPTION.strip(),
        license=License(name="Apache-2.0", identifier="Apache-2.0"),
        components=Components(security_schemes={"key": _BEARER}),
        tags=[Tag(name=name, description=description) for name, description in TAGS.items()],
        use_handler_docstrings=True,
        operation_id_creator=lambda handler, _method, _path: handler.handler_name,  # clients name their methods so
        path="/docs",
        openapi_router=Router("/docs", route_handlers=[], include_in_schema=False, response_headers=HEADERS),
        render_plugins=[
            Page(
                "/",
                "Mailing API: Swagger UI",
                styles=(f"{_SWAGGER}/swagger-ui.css", "/static/docs/page.css"),
                scripts=(f"{_SWAGGER}/swagger-ui-bundle.js", "/static/docs/swagger-init.js"),
            ),
            Page(
                "/redoc",
                "Mailing API: Redoc",
                styles=("/static/docs/page.css",),
                scripts=(f"{_REDOC}/redoc.standalone.js", "/static/docs/redoc-init.js"),
            ),
            JsonRenderPlugin(path="/openapi.json", media_type=MediaType.JSON),
        ],
    )


_BEARER = SecurityScheme(type="http", scheme="bearer", description="A key made by `mailing key create`.")


@get("/", include_in_schema=False, sync_to_thread=False)
def landing() -> Redirect:
    return Redirect("/docs/")
