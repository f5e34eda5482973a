"""Static files, served from the package, so that pages load nothing from other hosts."""

import asyncio
import gzip
import hashlib
import threading
from pathlib import Path

from litestar import Response, get
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath
from msgspec import Struct

from mailing.errors import NotFound
from mailing.web.state import AnyRequest

STATIC = Path(__file__).parents[1] / "static"
IMMUTABLE = "public, max-age=31536000, immutable"
REVALIDATE = "no-cache"  # the browser caches the file and revalidates its ETag

_MEDIA_TYPES = {
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
    ".txt": "text/plain",
}


class _Asset(Struct, frozen=True):
    raw: bytes
    gzipped: bytes
    etag: str


def static_files() -> HTTPRouteHandler:
    """Build the handler of `/static/…`. Names are looked up in a fixed list, so no path leaves the directory."""
    files = {
        "/" + path.relative_to(STATIC).as_posix(): path for path in STATIC.rglob("*") if path.suffix in _MEDIA_TYPES
    }

    @get("/static/{name:path}", include_in_schema=False)
    async def static_file(request: AnyRequest, name: FromPath[Path]) -> Response[bytes | None]:
        path = files.get(name.as_posix())
        if path is None:
            raise NotFound("There is no such file.")
        asset = _assets[path] if path in _assets else await asyncio.to_thread(_load, path)
        headers = _headers(path, asset)
        if asset.etag in request.headers.get("if-none-match", ""):
            return Response(None, status_code=304, headers=headers)
        if "gzip" not in request.headers.get("accept-encoding", ""):
            return Response(asset.raw, media_type=_MEDIA_TYPES[path.suffix], headers=headers)
        headers["Content-Encoding"] = "gzip"
        return Response(asset.gzipped, media_type=_MEDIA_TYPES[path.suffix], headers=headers)

    return static_file


_assets: dict[Path, _Asset] = {}
_lock = threading.Lock()


def _load(path: Path) -> _Asset:
    """Load once per process, also for concurrent requests: compressing Swagger UI (1.73 to 0.46 MB) takes 60 ms.

    All answers share one object in memory, however many clients read it and however slowly.
    """
    with _lock:
        if path not in _assets:
            raw = path.read_bytes()
            _assets[path] = _Asset(raw, gzip.compress(raw, mtime=0), f'W/"{hashlib.sha256(raw).hexdigest()[:20]}"')
        return _assets[path]


def _headers(path: Path, asset: _Asset) -> dict[str, str]:
    """Build the headers. A vendored file has its version in the path, so it never changes."""
    vendored = path.is_relative_to(STATIC / "vendor")
    return {
        "Cache-Control": IMMUTABLE if vendored else REVALIDATE,
        "ETag": asset.etag,
        "Vary": "Accept-Encoding",
    }
