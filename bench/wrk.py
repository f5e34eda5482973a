"""wrk, a client that is faster than any server here."""

import re

from bench.children import run
from bench.errors import BenchError
from bench.lab import Lab


def requests_a_second(lab: Lab, url: str, *options: str, connections: int = 64) -> float:
    """Measure requests per second. Raise BenchError if an answer was an error."""
    seconds = lab.count(4, quick=1)
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", *options, url]
    printed = run(command, {})[2]
    if re.search(r"Non-2xx|Socket errors", printed):
        raise BenchError(f"{url}: {printed}")
    found = re.search(r"Requests/sec:\s+([\d.]+)", printed)
    assert found
    return float(found[1])
