"""Recognise how a CSV file is encoded and how its lines end, and hand on UTF-8 lines that end in LF.

UTF-16 is recognised by its byte order mark, or by the zero bytes of its ASCII characters. Windows-1251 has no mark: a
file is read as such from its first line that is not ASCII, if that line is not UTF-8 and reads as Russian words.
"""

import codecs
import re
from typing import Final

from mailing.errors import Invalid
from mailing.reasons.refusals import RefusalCode, refused_field

UTF_8, UTF_16, WINDOWS_1251 = "UTF-8", "UTF-16", "Windows-1251"

_MAX_HELD: Final = 64 * 1024  # bytes without a line break, before the kind of line break is given up as unknown
NOT_CSV: Final = {
    b"PK\x03\x04": RefusalCode.workbook,
    b"\xd0\xcf\x11\xe0": RefusalCode.old_workbook,
    b"\x1f\x8b": RefusalCode.gzip,
    b"BZh": RefusalCode.bzip2,
    b"\xfd7zXZ": RefusalCode.xz,
    b"\x28\xb5\x2f\xfd": RefusalCode.zstandard,
    b"7z\xbc\xaf": RefusalCode.seven_zip,
    b"Rar!": RefusalCode.rar,
    b"%PDF": RefusalCode.pdf,
}
_UTF_16: Final = {b"\xff\xfe": "utf-16-le", b"\xfe\xff": "utf-16-be"}
_HALF: Final = "\udcff"  # for a character that the file ends within: its line is rejected
_SNIFFED: Final = 8  # bytes
_CR: Final = re.compile(rb"\r(?!\n)")

_CYRILLIC = "\u0410-\u044f\u0401\u0451"
_OTHER_SIGNS = (
    "\u00a0\u00ab\u00bb\u2013\u2014\u2018\u2019\u201c\u201d\u2026\u2116\u00a9\u00ae\u2122\u20ac\u00b0\u00a7\u00b7"
)
# Words of Cyrillic letters alone, in one case or capitalised. Latin letters beside them, or capitals within a word, are
# signs of another encoding.
_READS_AS_RUSSIAN = re.compile(
    rf"(?:[\x09\x20-\x7e{_OTHER_SIGNS}]|(?<![A-Za-z{_CYRILLIC}])"
    rf"(?:[\u0410-\u042f\u0401]?[\u0430-\u044f\u0451]+|[\u0410-\u042f\u0401]+)(?![A-Za-z{_CYRILLIC}]))*"
).fullmatch


class LineDecoder:
    """Turns a file's bytes into UTF-8 with LF line ends. `encoding` is UTF_8 or UTF_16.

    Bytes that are not text of the encoding stay as they are, or become bytes that are not UTF-8: their line is
    rejected later, alone.
    """

    def __init__(self) -> None:
        self.encoding = UTF_8
        self._held = b""
        self._is_started = False
        self._utf_16: codecs.IncrementalDecoder | None = None
        self._is_cr: bool | None = None  # whether a lone CR ends a line; None: not known yet

    def feed(self, data: bytes, *, final: bool = False) -> bytes:
        """Decode a chunk. Raises Invalid for a file that is not CSV, by its first bytes."""
        if not self._is_started:
            self._held += data
            if len(self._held) < _SNIFFED and not final:
                return b""
            self._is_started, data, self._held = True, self._held, b""
            self._sniff(data)
        if self._utf_16:
            half = _HALF if final and self._utf_16.getstate()[0] else ""
            data = (self._utf_16.decode(data) + half).encode("utf-8", "surrogatepass")
        return self._with_lf(data, final=final)

    def _sniff(self, start: bytes) -> None:
        for magic, code in NOT_CSV.items():
            if start.startswith(magic):
                raise Invalid(refused_field("header", code))
        codec = _UTF_16.get(start[:2])
        if codec is None and len(start) >= 4 and 0 in start[:4]:
            codec = "utf-16-le" if start[1] == start[3] == 0 else "utf-16-be" if start[0] == start[2] == 0 else None
        if codec:
            self.encoding = UTF_16
            self._utf_16 = codecs.getincrementaldecoder(codec)("surrogatepass")

    def _with_lf(self, data: bytes, *, final: bool) -> bytes:
        """Old Macintosh files end lines with CR; the first line end decides for the file."""
        if self._is_cr is None:
            data, self._held = self._held + data, b""
            first = min((at for at in (data.find(b"\r"), data.find(b"\n")) if at >= 0), default=-1)
            is_certain = first >= 0 and (data[first : first + 1] == b"\n" or first + 1 < len(data))
            if not (is_certain or final or len(data) > _MAX_HELD):
                self._held = data
                return b""
            self._is_cr = data[first : first + 1] == b"\r" and data[first + 1 : first + 2] != b"\n" and first >= 0
        return self._without_cr(data, final=final) if self._is_cr else data

    def _without_cr(self, data: bytes, *, final: bool) -> bytes:
        data, self._held = self._held + data, b""
        if data.endswith(b"\r") and not final:  # an LF may follow
            data, self._held = data[:-1], b"\r"
        return _CR.sub(b"\n", data)


class TextDecoder:
    """Decodes lines as UTF-8, or as Windows-1251 from the first line that says so."""

    def __init__(self) -> None:
        self.encoding: str | None = None  # None while all lines were ASCII

    def decode(self, lines: bytes) -> str:
        """Decode complete lines. A byte that cannot be decoded becomes a lone surrogate, as with `surrogateescape`."""
        if self.encoding != WINDOWS_1251:
            try:
                text = lines.decode()
            except UnicodeDecodeError:
                pass
            else:
                if not text.isascii():
                    self.encoding = UTF_8
                return text
        if self.encoding == UTF_8:
            return lines.decode("utf-8", "surrogateescape")
        return "".join(self._line(line) for line in lines.splitlines(keepends=True))

    def _line(self, line: bytes) -> str:
        if line.isascii():
            return line.decode()
        is_utf_8 = _is_utf_8(line)
        if self.encoding is None:
            self.encoding = UTF_8 if is_utf_8 else WINDOWS_1251 if _is_windows_1251(line) else None
        if self.encoding == WINDOWS_1251 and not is_utf_8:
            return line.decode("cp1251", "surrogateescape")
        if self.encoding == WINDOWS_1251:
            return line.decode("ascii", "surrogateescape")  # two encodings in one file: this line is rejected
        return line.decode("utf-8", "surrogateescape")


def _is_utf_8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


def _is_windows_1251(line: bytes) -> bool:
    try:
        text = line.decode("cp1251")
    except UnicodeDecodeError:
        return False
    return _READS_AS_RUSSIAN(text.rstrip("\r\n")) is not None
