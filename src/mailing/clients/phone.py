"""A phone is 7XXXXXXXXXX: eleven ASCII digits. Anything else is rejected, never corrected.

`8916…` or `+7 916…` could be corrected by guessing, but a wrong guess is a message to a stranger.
"""

import re

PATTERN = "^7[0-9]{10}$"
LENGTH = 11
RULE = "11 digits beginning with 7, such as 79161234567: write 7 for +7 or 8, and no spaces, dashes or brackets"

OPERATOR_CODE_PATTERN = "^[0-9]{3}$"
OPERATOR_CODE_LENGTH = 3
OPERATOR_CODE_RULE = "3 digits, such as 916; leave it out to take digits 2 to 4 of the phone"

# fullmatch, because `$` alone lets a line break follow
is_phone = re.compile("7[0-9]{10}").fullmatch
is_operator_code = re.compile("[0-9]{3}").fullmatch


def operator_code_of(phone: str) -> str:
    return phone[1:4]
