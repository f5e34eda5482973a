"""Secrets, phones and texts that stand nowhere else in the world, and the places where they must not turn up."""

import base64
import re
import secrets
from collections.abc import Iterable, Iterator, Mapping

PHONE = re.compile(r"(?<!\d)7\d{10}(?!\d)")


class Canaries:
    """Each kind is a word to tell by which one was found; what is found is never shown."""

    def __init__(self, phones: int) -> None:
        first = 79_000_000_000 + secrets.randbelow(900_000_000)
        self.phones = [str(first + number) for number in range(phones)]
        self._secrets: dict[str, str] = {}

    def new(self, kind: str) -> str:
        """Return a new secret, valid as a password, a token, a header and a text."""
        return self.keep(kind, "canary" + secrets.token_hex(12))

    def keep(self, kind: str, secret: str) -> str:
        """One that the product has made."""
        self._secrets[secret] = f"{kind} {len(self._secrets) + 1}"
        return secret

    def __len__(self) -> int:
        return len(self._secrets)

    def found_in(self, places: Mapping[str, str]) -> list[str]:
        """`place: kind` of all that sing where they must not, also in the coding of HTTP's and SMTP's passwords."""
        return sorted({f"{place}: {kind}" for place, told in places.items() for kind in self._kinds_in(told)})

    def _kinds_in(self, told: str) -> Iterator[str]:
        yield from (kind for secret, kind in self._secrets.items() if secret in told)
        decoded = " ".join(_decoded(re.findall(r"[A-Za-z0-9+/]{24,}={0,2}", told)))
        yield from (f"{kind}, in base64" for secret, kind in self._secrets.items() if secret in decoded)
        if not {*PHONE.findall(told), *PHONE.findall(decoded)}.isdisjoint(self.phones):
            yield "phone"


def _decoded(words: Iterable[str]) -> Iterator[str]:
    for word in words:
        whole = word[:-1] if len(word) % 4 == 1 else word  # one letter alone holds no byte
        yield base64.b64decode(whole + "=" * (-len(whole) % 4), validate=False).decode("latin-1")
