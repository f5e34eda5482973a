"""Queries of the form."""

from collections.abc import Sequence
from typing import Literal

from msgspec import Struct
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from mailing.database.rows import all_as
from mailing.statistics.mailing_list import spellings


class Choice(Struct, frozen=True):
    """A tag or an operator code. `clients` is PostgreSQL's estimate of how many have it; None for a rare one."""

    value: str
    clients: int | None = None


class Choices(Struct, frozen=True):
    """The chosen values, then others that match the words; `more`: there are still more."""

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
    asked = {"words": words, "spellings": spellings(words), "chosen": storable}
    found = all_as(Choice, await session.execute(_CHOICES_OF[name], asked))
    return Choices([Choice(value) for value in sorted(chosen)], found[:MAX_OTHERS], len(found) > MAX_OTHERS)
