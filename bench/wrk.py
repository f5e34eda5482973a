"""wrk, a client that is faster than any server here."""

import re

from bench.children import run
from bench.cost import Meter
from bench.errors import BenchError
from bench.lab import Lab
from bench.measure import Sample

PATIENCE_S = 20  # wrk's own 2 s are an error only of a busy machine


def load(lab: Lab, pid: int, url: str, *options: str, connections: int) -> Sample:
    """Measure a server under load: requests per second, its CPU time and PostgreSQL's."""
    with Meter({"party": pid, "postgres": lab.cluster.postmaster}) as meter:
        rate = requests_a_second(lab, url, *options, connections=connections)
    return Sample(rate, round(rate * meter.seconds), meter.cpu_s)


def requests_a_second(lab: Lab, url: str, *options: str, connections: int = 64) -> float:
    """Measure requests per second. Raise BenchError if an answer was an error, or took more than PATIENCE_S."""
    seconds = lab.count(4, quick=1)
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", f"--timeout={PATIENCE_S}s", *options, url]
    printed = run(command, {})[2]
    if re.search(r"Non-2xx|Socket errors", printed):
        raise BenchError(f"{url}: {printed}")
    found = re.search(r"Requests/sec:\s+([\d.]+)", printed)
    assert found
    return float(found[1])
