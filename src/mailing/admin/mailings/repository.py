"""Queries of the list and the form."""

from datetime import datetime

from msgspec import Struct
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from mailing.mailings.states import MailingStatus


class MailingRow(Struct, frozen=True):
    id: int
    text: str
    status: MailingStatus
    starts_at: datetime
    ends_at: datetime
    planned: int
    sent: int
    waiting: int


# The newest first. Index: the primary key, backwards; a rare word walks on, through mailings and not through messages.
# A database in the C locale, such as the embedded one, knows small and capital letters of ASCII only: hence spellings.
_LIST = text("""
    SELECT g.id, g.text, g.status, g.starts_at, g.ends_at, c.planned, c.sent, c.pending + c.sending
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
    spellings = [words.lower(), words.upper(), words.capitalize()]
    asked = {"words": words, "spellings": spellings, "status": status, "before": before, "count": limit + 1}
    return [MailingRow(row[0], row[1], MailingStatus(row[2]), *row[3:]) for row in await session.execute(_LIST, asked)]


class Choice(Struct, frozen=True):
    """A tag or an operator code, with its number of clients who have not opted out."""

    value: str
    clients: int


MAX_CHOICES = 100  # as many as a filter may hold

# Every client is read, once for both: two thirds of the time of two statements. The most frequent come first.
_CHOICES = text(f"""
    WITH pair AS MATERIALIZED (
        SELECT tag, operator_code, count(*) AS clients FROM client WHERE NOT opted_out GROUP BY tag, operator_code
    )
    (SELECT 'tag', tag, sum(clients)::bigint FROM pair WHERE tag IS NOT NULL
     GROUP BY tag ORDER BY 3 DESC, 2 LIMIT {MAX_CHOICES})
    UNION ALL
    (SELECT 'operator_code', operator_code, sum(clients)::bigint FROM pair
     GROUP BY operator_code ORDER BY 3 DESC, 2 LIMIT {MAX_CHOICES})
""")  # noqa: S608 - a constant of this module


class Choices(Struct, frozen=True):
    tags: list[Choice]
    operator_codes: list[Choice]


async def choices(session: AsyncSession, *, tags: list[str], operator_codes: list[str]) -> Choices:
    """Return the options. The chosen `tags` and `operator_codes` are included even if no client has them."""
    found: dict[str, list[Choice]] = {"tag": [], "operator_code": []}
    for name, value, clients in await session.execute(_CHOICES):
        found[name].append(Choice(value, clients))
    return Choices(_with_chosen(tags, found["tag"]), _with_chosen(operator_codes, found["operator_code"]))


def _with_chosen(chosen: list[str], found: list[Choice]) -> list[Choice]:
    missing = set(chosen) - {choice.value for choice in found}
    return found + [Choice(value, 0) for value in sorted(missing)]
