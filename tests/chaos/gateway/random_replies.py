"""Replies that no gateway should give, drawn from a seed: the bytes, and in what pieces they come."""

import random
import string
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

GOOD: Final = b'{"code":0,"message":"OK"}'
DEEP: Final = 100_000


class Reply(msgspec.Struct, frozen=True):
    """`pieces` are written one after the other, `pause_s` apart; then the connection is left as `then` says."""

    pieces: list[bytes]
    pause_s: float
    then: str
    """keep, close, reset or hang."""


def draw(seed: int, number: int) -> Reply:
    """Draw a reply: the same seed and number give the same one."""
    chance = random.Random(f"{seed}:{number}")  # noqa: S311 - a test's dice
    whole = chance.choice(SHAPES)(chance)
    pieces = _cut(chance, whole) if chance.random() < 0.3 else [whole]
    then = chance.choices(["keep", "close", "reset", "hang"], [6, 4, 1, 0.1])[0]
    return Reply(pieces, chance.choice([0, 0, 0, 0.002]), then)


def _cut(chance: random.Random, whole: bytes) -> list[bytes]:
    cuts = sorted(chance.randrange(len(whole) + 1) for _ in range(chance.randrange(1, 6)))
    return [whole[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(whole)], strict=True)]


def _noise(chance: random.Random) -> bytes:
    return chance.randbytes(chance.choice([0, 1, 7, 100, 5_000]))


def _decent(chance: random.Random) -> bytes:
    status = chance.choice(
        [200, 200, 200, 200, 200, 200, 201, 204, 299, 302, 400, 401, 408, 409, 422, 425, 429, 500, 503]
    )
    return _http(chance, status, _body(chance))


def _odd(chance: random.Random) -> bytes:
    return _http(chance, chance.choice([0, 99, 100, 101, 102, 103, 199, 304, 418, 599, 600, 999, 1000]), _body(chance))


def _mutated(chance: random.Random) -> bytes:
    reply = bytearray(_decent(chance))
    for _ in range(chance.randrange(1, 8)):
        place = chance.randrange(len(reply) + 1)
        match chance.randrange(3):
            case 0:
                reply[place:place] = chance.randbytes(chance.randrange(1, 4))
            case 1:
                del reply[place : place + chance.randrange(1, 20)]
            case _:
                reply[place : place + 1] = chance.randbytes(1)
    return bytes(reply)


def _chunked(chance: random.Random) -> bytes:
    size = chance.choice(["19", "0", "-1", "FFFFFFFFFFFFFFFF", "zz", "19;x=" + "y" * 300, " 19", "1" * 50])
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + size.encode() + b"\r\n" + GOOD + chance.choice([b"\r\n0\r\n\r\n", b"", b"\n0\n\n", b"\r\n"])


def _twice(chance: random.Random) -> bytes:
    return _decent(chance) + _decent(chance)


def _http(chance: random.Random, status: int, body: bytes) -> bytes:
    length = chance.choice([len(body)] * 18 + [0, len(body) - 1, len(body) + 9, -5, 2**63, 2**80])
    headers = [f"Content-Length: {length}"] if chance.random() < 0.9 else []
    headers += [chance.choice(HEADERS)(chance) for _ in range(chance.choice([0, 0, 0, 1, 2, 3]))]
    chance.shuffle(headers)
    reason = chance.choice(["OK"] * 6 + ["", "\xff\xfe", "x" * 500])
    version = chance.choice(["HTTP/1.1"] * 27 + ["HTTP/1.0", "HTTP/2.0", "HTTP/0.9", "http/1.1"])
    head = "\r\n".join([f"{version} {status} {reason}", *headers])
    return head.encode("latin-1", "replace") + b"\r\n\r\n" + body


def _body(chance: random.Random) -> bytes:
    return chance.choice(BODIES)(chance)


def _object(chance: random.Random) -> bytes:
    code = chance.choice(["0", "0", "0", "1", "-7", "0.0", "true", "null", '"0"', "NaN", "1e400", "9" * 30, "[]", "{}"])
    extra = chance.choice(["", ',"message":"OK"', ',"id":7', ',"id":"8"', ',"code":0', ',"code":1', ',"x":[1,2,3]'])
    return ('{"code":' + code + extra + "}").encode()


HEADERS: Final[list[Callable[[random.Random], str]]] = [
    lambda chance: (
        "Content-Type: " + chance.choice(["application/json", "text/json", "", "\x01", "a/b; charset=utf-7"])
    ),
    lambda chance: (
        "Retry-After: "
        + chance.choice(
            ["0", "5", "-3", "1.5", "", "315360000", "9" * 400, "Wed, 21 Oct 2037 07:28:00 GMT", "soon", "\xe9"]
        )
    ),
    lambda chance: "Content-Encoding: " + chance.choice(["gzip", "br", "deflate", "identity", "x, y"]),
    lambda chance: "Transfer-Encoding: " + chance.choice(["chunked", "gzip, chunked", "identity", "\x00"]),
    lambda chance: "Connection: " + chance.choice(["close", "keep-alive", "upgrade", "x"]),
    lambda chance: "Location: " + chance.choice(["http://127.0.0.1:1/", "//elsewhere", "\\", "javascript:1"]),
    lambda chance: "Set-Cookie: a=" + "b" * chance.choice([1, 4_000]),
    lambda chance: "".join(chance.choices(string.printable, k=chance.randrange(1, 60))),
    lambda chance: f"X-Long: {'z' * chance.choice([100, 9_000, 70_000])}",
]
BODIES: Final[list[Callable[[random.Random], bytes]]] = [
    *[lambda _: GOOD] * 9,
    _object,
    _object,
    _object,
    _noise,
    lambda _: b"",
    lambda chance: chance.choice(
        [b"null", b"[]", b"0", b'"0"', b"true", b"{}", b"{", b'{"code":0', b"\xef\xbb\xbf" + GOOD]
    ),
    lambda _: GOOD.decode().encode("utf-16"),
    lambda _: b"<!doctype html><title>Maintenance</title>",
    lambda _: b"[" * DEEP,
    lambda _: b'{"a":' * DEEP,
    lambda chance: GOOD + b" " * chance.choice([10, 60_000, 70_000, 200_000]),
]
SHAPES: Final[Sequence[Callable[[random.Random], bytes]]] = [
    *[_decent] * 12,
    *[_mutated] * 3,
    _odd,
    _chunked,
    _twice,
    _noise,
]
