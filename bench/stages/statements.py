"""The database's part of dispatch: our two statements from Python, and the same from pgbench."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from bench.children import Child, run
from bench.lab import Lab
from bench.measure import Goal, Party, Sample, Stage, per_second
from bench.senders import PLANNED, ROUND, planned_mailing
from mailing.messages import claim, results
from mailing.sending.recording import BATCH

MAILING, PGBENCH = "Mailing's claim and record", "pgbench, the same statements"

_DONE = "SELECT sent, (SELECT count(*) FROM attempt) FROM mailing_counts"
# Values in place of our parameters: every message of the batch was accepted.
_ACCEPTED = {
    "ids": "':ids'::bigint[]",
    "numbers": "':numbers'::int[]",
    "statuses": "array_fill('sent'::text, ARRAY[:n])",
    "by_plan": "array_fill(false, ARRAY[:n])",
    "attempts": "array_fill(1, ARRAY[:n])",
    "soft_refusals": "array_fill(0, ARRAY[:n])",
    "maybe_accepted": "array_fill(false, ARRAY[:n])",
    "due": "array_fill(now(), ARRAY[:n])",
    "closes": "array_fill(now(), ARRAY[:n])",
    "wait_reasons": "array_fill(NULL::text, ARRAY[:n])",
    "reason_codes": "array_fill(NULL::text, ARRAY[:n])",
    "reason_params": "array_fill(NULL::text, ARRAY[:n])",
    "outcomes": "array_fill('accepted'::text, ARRAY[:n])",
    "started": "array_fill(now(), ARRAY[:n])",
    "durations": "array_fill(5, ARRAY[:n])",
    "http": "array_fill(200, ARRAY[:n])",
    "codes": "array_fill(0::bigint, ARRAY[:n])",
    "answer_codes": "array_fill(NULL::text, ARRAY[:n])",
    "answer_params": "array_fill(NULL::text, ARRAY[:n])",
    "provider_ids": "array_fill(NULL::text, ARRAY[:n])",
    "mailing_id": "1",
    "revision": "1",
}


@contextmanager
def _parties(lab: Lab) -> Iterator[list[Party]]:
    messages = lab.count(100_000, quick=5_000)

    def ours() -> Sample:
        with lab.database(ROUND, like=PLANNED) as url:
            lab.sql(ROUND, "UPDATE mailing SET status = 'running'")
            with Child("bench.ours.claim_and_record", {"database": url, "count": messages}, lab.log) as child:
                meter = child.work({"postgres": lab.cluster.postmaster})
            lab.check(ROUND, _DONE, messages, messages)
        return per_second(messages, meter)

    def pgbench() -> Sample:
        script = lab.directory / "claim_and_record.sql"
        script.write_text(_script(), "utf-8")
        with lab.database(ROUND, like=PLANNED) as url:
            lab.sql(ROUND, "UPDATE mailing SET status = 'running'")
            times = str(messages // BATCH)
            command = [lab.tool("pgbench"), "--no-vacuum", "-t", times, "-f", str(script), url]
            meter, _, _ = run(command, {"postgres": lab.cluster.postmaster})
            lab.check(ROUND, _DONE, messages, messages)
        return per_second(messages, meter)

    with planned_mailing(lab, messages):
        yield [Party(MAILING, ours), Party(PGBENCH, pgbench)]


def _script() -> str:
    bounds = {"mailing_id": "1", "count": str(BATCH), "probe": "false", "lease_s": "60"}
    claimed = filled(claim._CLAIM.text, bounds)  # noqa: SLF001 - the statements themselves are measured
    recorded = filled(results._RECORD.text, _ACCEPTED)  # noqa: SLF001 - as above
    return f"""
        BEGIN;
        WITH claimed AS ({claimed}) SELECT count(*) AS n, array_agg(id) AS ids, array_agg(claim_no) AS numbers
        FROM claimed \\gset
        COMMIT;
        BEGIN;
        {recorded};
        COMMIT;
    """


def filled(statement: str, values: Mapping[str, str]) -> str:
    """Put values in the place of our parameters."""
    return re.sub(r"(?<!:):([a-z_]+)\b", lambda found: values[found[1]], statement)


STAGE = Stage(
    name="statements",
    title="The database's part of dispatch alone",
    unit="messages/s",
    parties=_parties,
    goals=(Goal(MAILING, PGBENCH, least=0.5),),
    notes=(
        (
            f"A claim of {BATCH} messages and the record of their results, each a transaction, one after another over "
            "one connection: called from Python, and as a pgbench script of the same two statements."
        ),
    ),
)
