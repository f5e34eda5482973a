"""What became of every message: rows and calls against what was promised."""

from collections import Counter

import msgspec

from chaos.record import Record, Violation
from chaos.site import Site
from chaos.witness import Entry

FINAL = {"sent", "failed", "cancelled", "expired", "unknown"}


async def judge(here: Site, record: Record) -> None:
    lines = here.witness.ledger.read_bytes().splitlines()
    entries = [msgspec.json.decode(line, type=Entry) for line in lines]
    accepted = Counter(entry.id for entry in entries)
    record.beginnings = sorted(entry.at for entry in entries)
    record.accepted_again = sum(times > 1 for times in accepted.values())
    async with here.database.connection() as connection:
        rows = await connection.fetch("SELECT id, status FROM message")
        repeated = await connection.fetch(
            """SELECT reason, count(*) FROM (
                   SELECT DISTINCT ON (message_id) message_id, reason FROM attempt
                   WHERE outcome = 'ambiguous' AND message_id = ANY($1) ORDER BY message_id, number) a
               GROUP BY reason""",
            [id_ for id_, times in accepted.items() if times > 1],
        )
    record.repeated = dict(map(tuple, repeated))
    for row in rows:
        if row["status"] not in FINAL:
            record.violations.append(Violation("I2", row["id"], f"is {row['status']} at the end"))
        if row["status"] == "sent" and not accepted[row["id"]]:
            record.violations.append(Violation("I3", row["id"], "is sent and was never accepted"))
        if row["status"] in {"failed", "expired", "cancelled"} and accepted[row["id"]]:
            record.violations.append(Violation("I4", row["id"], f"is {row['status']} and was accepted"))
