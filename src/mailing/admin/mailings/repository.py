"""Queries of the list and the form."""

from collections.abc import Sequence
from datetime import datetime
from typing import Literal

from msgspec import Struct
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from mailing.database.rows import all_as
from mailing.mailings.states import MailingStatus


class MailingRow(Struct, frozen=True):
    id: int
    text: str
    status: str
    starts_at: datetime
    ends_at: datetime
    planned: int
    sent: int
    waiting: int


# The newest first. Index: the primary key, backwards; a rare word walks on, through mailings and not through messages.
# A database in the C locale, such as the embedded one, knows small and capital letters of ASCII only: hence spellings.
_LIST = text("""
    SELECT g.id, g.text, g.status, g.starts_at, g.ends_at, c.planned, c.sent, c.pending + c.sending AS waiting
    FROM mailing g JOIN mailing_counts c ON c.mailing_id = g.id
    WHERE g.id < :before AND g.deleted_at IS NULL AND g.test_of_mailing_id IS NULL
      AND (CAST(:status AS text) IS NULL OR g.status = :status)
      AND (CAST(:words AS text) = '' OR g.id::text = :words OR strpos(lower(g.text), lower(:words)) > 0
        OR EXISTS (SELECT FROM unnest(CAST(:spellings AS text[])) AS s (words) WHERE strpos(g.text, s.words) > 0))
    ORDER BY g.id DESC LIMIT :count
""")


async def list_mailings(
    session: AsyncSession, *, words: str, status: MailingStatus | None, before: int, limit: int
) -> list[MailingRow]:
    """Return up to `limit` + 1 rows. `words` are searched in the text, or are the mailing's id."""
    asked = {"words": words, "spellings": _spellings(words), "status": status, "before": before, "count": limit + 1}
    return all_as(MailingRow, await session.execute(_LIST, asked))


def _spellings(words: str) -> list[str]:
    return [words.lower(), words.upper(), words.capitalize()]


class Choice(Struct, frozen=True):
    """A tag or an operator code. `clients` is PostgreSQL's estimate of how many have it; None for a rare one."""

    value: str
    clients: int | None = None


class Choices(Struct, frozen=True):
    """The chosen values, then others that match the words; `more`: there are others yet."""

    chosen: list[Choice]
    others: list[Choice]
    more: bool


MAX_OTHERS = 30
MAX_SEARCHED = 2000  # values; a rarer one is found by its whole name

# From one value to the next along the index of the column, so that the clients of a value are not read; an exact count
# would read them all. 300 values of 1,000,000 clients: 5 ms. The most frequent come first.
_CHOICES = """
    WITH RECURSIVE each (value) AS (
        (SELECT {column} FROM client ORDER BY {column} LIMIT 1)
        UNION ALL
        SELECT (SELECT c.{column} FROM client c WHERE c.{column} > e.value ORDER BY c.{column} LIMIT 1)
        FROM each e WHERE e.value IS NOT NULL
    ), searched AS (
        SELECT value FROM (SELECT value FROM each LIMIT {most}) e
        WHERE EXISTS (SELECT FROM unnest(CAST(:spellings AS text[])) AS s (words) WHERE strpos(e.value, s.words) > 0)
        UNION SELECT :words WHERE EXISTS (SELECT FROM client WHERE {column} = :words)
    ), frequent AS (
        SELECT f.value, CAST(f.share * k.reltuples AS bigint) AS clients
        FROM pg_stats s JOIN pg_class k ON k.oid = CAST('client' AS regclass) CROSS JOIN LATERAL unnest(
            CAST(CAST(s.most_common_vals AS text) AS text[]), s.most_common_freqs) AS f (value, share)
        WHERE s.schemaname = current_schema AND s.tablename = 'client' AND s.attname = '{column}'
    )
    SELECT value, clients FROM searched LEFT JOIN frequent USING (value) WHERE value <> ALL(CAST(:chosen AS text[]))
    ORDER BY clients DESC NULLS LAST, value LIMIT {limit} + 1
"""
_CHOICES_OF = {
    name: text(_CHOICES.format(column=column, most=MAX_SEARCHED, limit=MAX_OTHERS))
    for name, column in (("tags", "tag"), ("operator_codes", "operator_code"))
}


async def choices(
    session: AsyncSession, name: Literal["tags", "operator_codes"], *, words: str, chosen: Sequence[str]
) -> Choices:
    """Find up to MAX_OTHERS values with the words in them. What is chosen is listed even if no client has it."""
    words, storable = words.replace("\x00", ""), [value for value in chosen if "\x00" not in value]
    asked = {"words": words, "spellings": _spellings(words), "chosen": storable}
    found = all_as(Choice, await session.execute(_CHOICES_OF[name], asked))
    return Choices([Choice(value) for value in sorted(chosen)], found[:MAX_OTHERS], len(found) > MAX_OTHERS)
