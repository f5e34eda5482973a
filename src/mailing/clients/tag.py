"""A tag is a free label: any script and any sign, but no character that can't be seen or typed.

Control characters are not allowed, so a CSV row and a log line stay one line. Neither is a space at either end: `vip`
and `vip ` would be two audiences that look the same.
"""

import re

MAX_LENGTH = 100
RULE = f"1 to {MAX_LENGTH} characters without control characters, and without spaces at either end"

PATTERN = r"^[^\u0000-\u001f\u007f-\u009f]+$"  # for the documentation; `is_tag` decides

# C0, DEL, C1 and lone surrogates. JSON can't contain the last; in a CSV file they stand for bytes that are not UTF-8.
_FORBIDDEN = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]").search


def is_tag(value: str) -> bool:
    return 0 < len(value) <= MAX_LENGTH and not _FORBIDDEN(value) and value == value.strip()
