import hashlib
import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailing.access import users
from mailing.access.common_passwords import LISTS, problem_of
from mailing.errors import ConfigurationError
from support.database import Database
from support.users import PASSWORD

MANIFEST: dict[str, Any] = tomllib.loads((LISTS / "MANIFEST.toml").read_text())
WEAK = {
    "follow the keyboard": ["1234567890", "0987654321", "1122334455", "abcdefghij", "qwertyuiop"],
    "repeat itself": ["abcabcabcabc", "abc1abc1ab", "passwordpassword"],
    "too common": [
        *("password123", "PassWord123!", "pass word 123", "p@ssw0rd123", "2024football", "q1w2e3r4t5"),
        "\N{FULLWIDTH LATIN SMALL LETTER P}assword123",
    ],
    "name": ["annapetrova", "Anna.Petrova1", "avortepanna", "mailing2026", "Mailing-Anna-1", "anna-password"],
}


@pytest.mark.parametrize(("why", "password"), [(why, each) for why, weak in WEAK.items() for each in weak])
def test_a_password_that_is_tried_first_is_told_why_and_what_to_take(password: str, why: str) -> None:
    problem = problem_of(password, ["anna.petrova"])
    assert problem
    assert why in problem
    assert "use several random words" in problem
    assert password not in problem


@pytest.mark.parametrize(
    "password", [PASSWORD, "a different one now", "x9$kfQ2pLmZ1", "annabelle lee sails", "mailing is what we do"]
)
def test_nothing_is_asked_of_what_a_password_is_made_of(password: str) -> None:
    assert problem_of(password, ["anna.petrova"]) is None


@given(st.text(min_size=10, max_size=200), st.text(max_size=100))
def test_any_password_and_any_name_can_be_judged(password: str, name: str) -> None:
    problem_of(password, [name])


async def test_the_first_users_password_is_refused_by_the_name_of_its_setting(db: Database) -> None:
    for weak in ("1234567890", "password123", "admin-mailing"):
        with pytest.raises(ConfigurationError, match=r"MAILING_ADMIN_PASSWORD .* use several random words"):
            await users.create_first(db.sessions, weak)
    assert await users.create_first(db.sessions, PASSWORD)
    assert not await users.create_first(db.sessions, "password123")


def test_every_list_is_as_it_was_published_and_brings_its_licence() -> None:
    listed = {file["path"]: file["sha256"] for package in MANIFEST["package"] for file in package["file"]}
    found = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in LISTS.iterdir()}
    assert found.pop("MANIFEST.toml")
    assert found == listed
    assert {package["licence"] for package in MANIFEST["package"]} == {"MIT", "BSD-3-Clause"}
