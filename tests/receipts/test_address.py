import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailing.receipts.address import (
    account_receipts_path,
    is_account_receipts,
    is_replies,
    message_of,
    receipt_path,
    replies_path,
)

KEY = bytes(range(32))
OTHER = bytes(range(1, 33))
IDS = st.integers(1, 2**63 - 1)


def test_an_address_fits_into_what_providers_take() -> None:
    path = receipt_path(KEY, "kannel", 2**63 - 1)
    assert re.fullmatch(r"/receipts/[0-9]+\.[A-Za-z0-9_-]{22}", path)
    assert len(path) <= 52


@given(IDS)
def test_an_address_names_its_message(message_id: int) -> None:
    assert message_of(receipt_path(KEY, "kannel", message_id), key=KEY, provider="kannel") == message_id


@given(IDS, IDS)
def test_the_address_of_a_message_gives_no_other(message_id: int, other: int) -> None:
    walked = receipt_path(KEY, "kannel", message_id).replace(f"/{message_id}.", f"/{other}.")
    assert message_of(walked, key=KEY, provider="kannel") == (message_id if other == message_id else None)


@pytest.mark.parametrize(
    "path",
    [
        receipt_path(OTHER, "kannel", 7),
        receipt_path(KEY, "infobip", 7),
        receipt_path(KEY, "kannel", 7).replace("/7.", "/07."),
        receipt_path(KEY, "kannel", 7).replace("/7.", "/7 ."),
        receipt_path(KEY, "kannel", 7).replace("/7.", "/\N{ARABIC-INDIC DIGIT SEVEN}."),
        receipt_path(KEY, "kannel", 7) + "=",
        receipt_path(KEY, "kannel", 7)[:-1],
        receipt_path(KEY, "kannel", 7).swapcase(),
        account_receipts_path(KEY, "kannel"),
        replies_path(KEY, "kannel").replace("/replies/kannel", "/receipts/7"),
        "/receipts/7.",
        "/receipts/7",
        "/receipts/",
        "/receipts/\ud800",
        "/receipts/" + "9" * 10_000,
    ],
)
def test_what_we_did_not_make_is_refused(path: str) -> None:
    assert message_of(path, key=KEY, provider="kannel") is None


@given(st.text())
def test_no_text_is_an_address_or_an_error(path: str) -> None:
    assert message_of(path, key=KEY, provider="kannel") is None
    assert not is_replies(path, key=KEY, provider="kannel")


def test_each_purpose_has_its_address() -> None:
    receipts, replies = account_receipts_path(KEY, "smsc"), replies_path(KEY, "smsc")
    assert is_account_receipts(receipts, key=KEY, provider="smsc")
    assert is_replies(replies, key=KEY, provider="smsc")
    assert not is_replies(receipts.replace("/receipts", "/replies"), key=KEY, provider="smsc")
    assert not is_account_receipts(replies.replace("/replies", "/receipts"), key=KEY, provider="smsc")
    assert not is_account_receipts(account_receipts_path(OTHER, "smsc"), key=KEY, provider="smsc")
    assert not is_account_receipts(account_receipts_path(KEY, "infobip"), key=KEY, provider="smsc")
