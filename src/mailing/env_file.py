"""`.env` files: every line is an assignment, a comment or blank, or it is refused with its number.

Quotes, `export` and inline comments follow python-dotenv. Its parser is called directly: its public functions return a
dict, without unreadable lines, repeated names and line numbers (decision 29). What a shell would replace is refused,
except in single quotes. No message repeats a value, because it may be a secret.
"""

import codecs
import re
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

import msgspec

from mailing.errors import ConfigurationError

_FOREIGN = (  # longer marks first: that of UTF-32 starts with that of UTF-16
    (codecs.BOM_UTF32_LE, "UTF-32"),
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
    (b"\0", "UTF-16"),
)
_AS_UTF8 = "save it as UTF-8"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SET = re.compile(r"\s*(set|setx|setenv|declare|let|env)\s", re.IGNORECASE)
_COLON = re.compile(r"\s*(?:export\s+)?\"?[\w.-]+\"?\s*:")
# what a shell would replace: inside a value, or as the whole of it; a password may hold a lone $ or `
_SHELL = re.compile(r"\$\{[^}]*\}|^\$[A-Za-z_]\w*$|^\$\(.*\)$|^`.*`$", re.DOTALL).search
_QUOTED = re.compile(r"[^=]*=\s*(['\"])")


class Assignment(msgspec.Struct, frozen=True):
    name: str
    value: str
    line: int


def read_env_file(path: Path) -> tuple[list[Assignment], list[str]]:
    """Read the assignments and the problems, each with its line. A missing file has neither.

    Raise ConfigurationError if the file cannot be read at all.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        if path.is_symlink():
            raise ConfigurationError([f"{path} is a link to a file that is not there"]) from None
        return [], []
    except OSError as error:
        raise ConfigurationError([f"{path} cannot be read: {error.strerror}"]) from None
    return _parse(_decode(path, content), path.name)


def _decode(path: Path, content: bytes) -> str:
    for mark, encoding in _FOREIGN:
        if content.startswith(mark) or (mark == b"\0" and mark in content):
            raise ConfigurationError([f"{path} is not UTF-8 but seems to be {encoding}; {_AS_UTF8}"])
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = len(re.findall(rb"\r\n|\r|\n", content[: error.start])) + 1
        problem = f"{path} line {line} is not UTF-8 (byte 0x{content[error.start]:02x}), perhaps Windows-1251"
        raise ConfigurationError([f"{problem}; {_AS_UTF8}"]) from None


def _parse(text: str, file: str) -> tuple[list[Assignment], list[str]]:
    from dotenv.parser import parse_stream  # noqa: PLC0415 - needed only if there is a file

    assignments, problems = [], []
    for binding in parse_stream(StringIO(re.sub(r"\r\n?", "\n", text))):
        statement = binding.original.string.lstrip()
        line = binding.original.line + binding.original.string.removesuffix(statement).count("\n")
        if binding.error or (binding.key is not None and binding.value is None):
            problems.append(f"{file} line {line}: {_complaint(statement)}")
        elif binding.key is not None and binding.value is not None:
            found = Assignment(binding.key, binding.value, line)
            problems += [f"{file} line {line}: {flaw}" for flaw in _flaws(found, statement)]
            assignments.append(found)
    return assignments, problems


def _complaint(statement: str) -> str:
    first = statement.partition("\n")[0]
    if _SET.match(first):
        return f"leave out {first.split()[0]!r}: a line is NAME=value"
    if _COLON.match(first):
        return "there must be = after the name, not a colon: NAME=value"
    if "=" not in first:
        return "there is no =; a line is NAME=value, or a comment that begins with #"
    if opened := _QUOTED.match(first):
        return f"the {opened[1]} before the value is not closed, or something other than a comment follows the value"
    return "a line is NAME=value, or a comment that begins with #"


def _flaws(found: Assignment, statement: str) -> Iterator[str]:
    if not _NAME.fullmatch(found.name):
        yield "the name must consist of A-Z, 0-9 and _, without quotes, blanks or other signs"
    if re.search(r"(^[\"']?|\s)MAILING_\w+\s*[=:]", found.value, re.IGNORECASE):
        yield "a line is one NAME=value; here another assignment is in the value"
    quoted = _QUOTED.match(statement)
    if _SHELL(found.value) and not (quoted and quoted[1] == "'"):
        yield "${…} is not replaced here, nor are $NAME, $(…) and `…`: write the value, or put it in single quotes"
