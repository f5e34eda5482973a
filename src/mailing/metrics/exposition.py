"""The metrics in Prometheus' exposition format: names, labels, help. docs/metrics.md says what each is for."""

from collections.abc import Iterator, Mapping

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

from mailing.gateway.outcome import Outcome
from mailing.gateway.repository import GatewayState
from mailing.mailings.states import MailingStatus
from mailing.metrics.repository import MAX_COUNTED, Audits, Reports, Snapshot
from mailing.observability import counters

WAITS = ("window", "retry", "rate", "breaker")


def families(standing: Snapshot) -> Iterator[Metric]:
    """Yield the metrics of the whole service, the same from every API process."""
    yield from _messages(standing)
    yield from _gateway(standing.gateway)
    yield from _counted(standing.tallies)
    yield from _queue(standing)
    yield from _connections(standing)
    yield from _audits(standing.audits)
    yield from _reports(standing.reports)


def _messages(standing: Snapshot) -> Iterator[Metric]:
    mailings = dict.fromkeys(MailingStatus, 0) | standing.mailings
    waiting = dict.fromkeys(WAITS, 0) | standing.waiting
    upto = f"counted up to {MAX_COUNTED}"
    yield _gauges("mailing_mailings", "Mailings by status", "status", mailings)
    yield _gauges("mailing_messages", "Messages by status", "status", standing.messages)
    yield _gauge(
        "mailing_oldest_due_message_age_seconds", "Seconds since the oldest due message became due", standing.due_age_s
    )
    yield _gauge("mailing_messages_due", f"Messages that could be sent now; {upto}", standing.due)
    yield _gauges("mailing_messages_waiting", f"Messages that may be sent later, by reason; {upto}", "reason", waiting)


def _gateway(state: GatewayState) -> Iterator[Metric]:
    pause_s = (state.throttled_until - state.now).total_seconds() if state.throttled_until else 0
    yield _gauge(
        "mailing_circuit_breaker_open",
        "1 if the circuit breaker is open and only probes are sent",
        bool(state.open_since),
    )
    yield _gauge(
        "mailing_gateway_retry_after_seconds", "Seconds until the pause that the gateway asked for ends", pause_s
    )
    yield _gauge("mailing_gateway_stopped", "1 if an operator stopped all sending", bool(state.stopped_at))
    yield _gauge(
        "mailing_gateway_rate_limit", "Calls per second that all workers may make together; 0 is no limit", state.rate
    )
    yield _gauge("mailing_restored", "1 if the database was restored from a backup and nothing is sent", state.restored)


def _counted(counts: counters.Counts) -> Iterator[Metric]:
    def labelled(name: str, *known: str) -> Mapping[str, float]:
        return dict.fromkeys(known, 0.0) | {label: value for (found, label), value in counts.items() if found == name}

    yield _counters("mailing_gateway_calls", "Gateway calls by outcome", "outcome", labelled(counters.CALLS, *Outcome))
    yield _histogram(labelled(counters.CALL_BUCKETS), sum_s=counts.get((counters.CALL_SECONDS, ""), 0))
    waits = labelled(counters.RATE_LIMIT_WAIT_S, "claim", "call")
    yield _counters(
        "mailing_rate_limit_wait_seconds", "Time workers waited for the rate limit or a pause, by stage", "stage", waits
    )
    postponed = labelled(counters.POSTPONED, *WAITS, "released")
    yield _counters("mailing_postponed", "Claimed messages returned without an outcome, by reason", "reason", postponed)
    recovered = labelled(counters.RECOVERED, "leases", "jobs")
    yield _counters("mailing_recovered", "Leases and jobs recovered from lost workers", "kind", recovered)
    stale = counts.get((counters.STALE_RESULTS, ""), 0)
    yield CounterMetricFamily(
        "mailing_stale_results", "Call results that arrived after their lease expired", value=stale
    )


def _queue(standing: Snapshot) -> Iterator[Metric]:
    jobs = GaugeMetricFamily("mailing_jobs", "Jobs by task and state", labels=["task", "state"])
    for each in standing.jobs:
        jobs.add_metric([each.task, each.state], each.count)
    yield jobs
    age_s = max((each.age_s for each in standing.jobs), default=0)
    yield _gauge("mailing_oldest_job_age_seconds", "Seconds the oldest ready job has waited", age_s)
    yield _gauge("mailing_workers", "Workers with a heartbeat in the last 30 s", standing.workers)


def _connections(standing: Snapshot) -> Iterator[Metric]:
    labels = ["part", "state"]
    connections = GaugeMetricFamily(
        "mailing_database_connections", "Database connections of Mailing by part and state", labels=labels
    )
    for each in standing.connections:
        connections.add_metric([each.part, each.state], each.count)
    yield connections
    yield _gauge("mailing_database_connections_used", "Database connections of all programs", standing.server.used)
    yield _gauge("mailing_database_connections_limit", "The server's max_connections", standing.server.limit)


def _audits(audits: Audits) -> Iterator[Metric]:
    yield _gauge("mailing_counters_drift", "Difference between counters and messages; must be 0", audits.drift)
    yield from _age(
        "mailing_counters_audit_age_seconds", "Seconds since the counters were last audited", audits.newest_age_s
    )


def _reports(reports: Reports) -> Iterator[Metric]:
    yield _gauge("mailing_reports_overdue", "Daily reports that are due and not sent", reports.overdue)
    yield from _age(
        "mailing_report_age_seconds", "Seconds since the newest daily report was sent", reports.newest_age_s
    )


def _gauge(name: str, help_: str, value: float) -> Metric:
    return GaugeMetricFamily(name, help_, value=value)


def _age(name: str, help_: str, value: float | None) -> Iterator[Metric]:
    if value is not None:
        yield _gauge(name, help_, value)


def _gauges(name: str, help_: str, label: str, values: Mapping[str, float]) -> Metric:
    family = GaugeMetricFamily(name, help_, labels=[label])
    for each, value in values.items():
        family.add_metric([each], value)
    return family


def _counters(name: str, help_: str, label: str, values: Mapping[str, float]) -> Metric:
    family = CounterMetricFamily(name, help_, labels=[label])
    for each, value in values.items():
        family.add_metric([each], value)
    return family


def _histogram(buckets: Mapping[str, float], *, sum_s: float) -> Metric:
    """Make the buckets cumulative: workers count each call in one bucket only."""
    family = HistogramMetricFamily("mailing_gateway_call_seconds", "Duration of gateway calls in seconds")
    cumulative, below = [], 0.0
    for bound in [*map(str, counters.BOUNDS_S), "+Inf"]:
        below += buckets.get(bound, 0)
        cumulative.append((bound, below))
    family.add_metric([], cumulative, sum_value=sum_s)
    return family
