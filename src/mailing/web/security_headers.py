"""Security headers of every answer. `RequestLog` adds those that the answer does not have."""

from functools import cache

from litestar.types import HTTPScope

# For answers that are not pages: nothing is loaded, run or framed. Pages set their own policy.
POLICY = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

ALWAYS = {
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
PRIVATE = {"Cache-Control": "no-store"}  # for the API: its answers hold phones and texts
SECURE = {"Strict-Transport-Security": "max-age=31536000"}


def safe_headers(scope: HTTPScope) -> list[tuple[bytes, bytes]]:
    return _pairs(scope.get("scheme") == "https", scope["path"].startswith("/mailing/api/"))


@cache
def _pairs(is_secure: bool, is_private: bool) -> list[tuple[bytes, bytes]]:
    headers = ALWAYS | (PRIVATE if is_private else {}) | (SECURE if is_secure else {})
    return [(name.lower().encode(), value.encode()) for name, value in headers.items()]
