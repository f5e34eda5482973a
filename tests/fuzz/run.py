"""`make fuzz`: 10,000 and more cases against the API, which has its own database role. Prints what was tried and found.

Exit code 0: nothing found.
"""

import argparse
import asyncio
import os
import signal
import sys
import time

from fuzz.attack import Findings, attack
from mailing.settings import Settings
from support.postgres import postgres_server
from support.roles import furnish, url_as


def main() -> int:
    arguments = argparse.ArgumentParser(prog="make fuzz", description=__doc__)
    arguments.add_argument("--examples", type=int, default=400, help="the most cases of an operation in a phase")
    arguments.add_argument("--seed", type=int, default=1)
    given = arguments.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that no server is left behind
    server = postgres_server(os.environ.get("MAILING_TEST_DATABASE_URL"))
    began = time.monotonic()
    try:
        server.start()
        asyncio.run(furnish(server.url))
        settings = Settings(
            database_url=url_as("mailing_api", server.url), api_key="a-key-for-the-fuzz-run", log_level="error"
        )
        findings = attack(settings, examples=given.examples, seed=given.seed)
    finally:
        server.stop()
    print(report(findings, seconds=time.monotonic() - began, seed=given.seed))
    return 1 if findings.failures else 0


def report(findings: Findings, *, seconds: float, seed: int) -> str:
    phases = ", ".join(f"{phase} {count:,}" for phase, count in findings.cases.items())
    names = sorted({name for name, _ in findings.checks})
    lines = [f"  {name:32}{_verdicts(findings, name)}" for name in names]
    failures = [f"\n{key}\n{told}" for key, told in findings.failures.items()]
    total = f"{findings.cases.total():,} cases ({phases}) in {seconds:.0f} s, seed {seed}"
    return "\n".join([total, *lines, f"{len(failures)} failures", *failures])


def _verdicts(findings: Findings, name: str) -> str:
    passed, failed = (findings.checks[name, verdict] for verdict in ("success", "failure"))
    return f"{passed:7,} passed  {failed:5,} failed"


if __name__ == "__main__":
    sys.exit(main())
