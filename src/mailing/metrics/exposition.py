"""Convert a snapshot to Prometheus metrics: names, labels and help. docs/metrics.md says what each is for."""

from collections.abc import Iterator, Mapping
from functools import partial
from itertools import accumulate, product

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

from mailing.gateway.outcome import Outcome
from mailing.gateway.repository import GatewayState
from mailing.mailings.states import MailingStatus
from mailing.metrics.repository import MAX_COUNTED, Audits, Reports, Snapshot
from mailing.observability import counters
from mailing.receipts import counters as receipts
from mailing.restore.repository import Witnesses
from mailing.restore.witness import Verdict

WAITS = ("window", "retry", "rate", "breaker")


def families(snapshot: Snapshot) -> Iterator[Metric]:
    """Return the metrics of the whole service: the same from every API process."""
    yield from _messages(snapshot)
    yield from _gateway(snapshot.gateway)
    yield _failover(snapshot.witnesses)
    yield from _counted(snapshot.counters)
    yield from _queue(snapshot)
    yield from _connections(snapshot)
    yield from _audits(snapshot.audits)
    yield from _reports(snapshot.reports)


def receipt_families(snapshot: Snapshot) -> Iterator[Metric]:
    """Return the metrics of receipts and replies, for a provider that sends them."""
    received = _labelled(snapshot.counters, receipts.RECEIPTS, *receipts.RESULTS)
    yield _gauges("mailing_messages_delivery", "Sent messages by their receipt", "delivery", snapshot.delivery)
    yield _counters("mailing_receipts", "Receipts by what became of them", "result", received)
    replies = _labelled(snapshot.counters, receipts.REPLIES, *receipts.REPLY_RESULTS)
    yield _counters("mailing_replies", "Replies from phones, by what became of them", "result", replies)
    buckets = _labelled(snapshot.counters, receipts.DELAY_BUCKETS)
    yield _histogram(
        "mailing_receipt_delay_seconds",
        "From the acceptance of a message to its final receipt",
        {bound: buckets.get(bound, 0) for bound in (*map(str, receipts.BOUNDS_S), "+Inf")},
        sum_s=snapshot.counters.get((receipts.DELAY_SECONDS, ""), 0),
    )


def _messages(snapshot: Snapshot) -> Iterator[Metric]:
    mailings = dict.fromkeys(MailingStatus, 0) | snapshot.mailings
    waiting = dict.fromkeys(WAITS, 0) | snapshot.waiting
    upto = f"counted up to {MAX_COUNTED}"
    yield _gauges("mailing_mailings", "Mailings by status", "status", mailings)
    yield _gauges("mailing_messages", "Messages by status", "status", snapshot.messages)
    yield _gauge("mailing_oldest_due_message_age_seconds", "Age of the oldest due message", snapshot.due_age_s)
    yield _gauge("mailing_messages_due", f"Messages that could be sent now; {upto}", snapshot.due)
    yield _gauges("mailing_messages_waiting", f"Messages that may be sent later, by reason; {upto}", "reason", waiting)


def _gateway(state: GatewayState) -> Iterator[Metric]:
    pause_s = (state.paused_until - state.now).total_seconds() if state.paused_until else 0
    yield _gauge(
        "mailing_circuit_breaker_open",
        "1: the circuit breaker is open, only probes are sent",
        bool(state.breaker_opened_at),
    )
    yield _gauge(
        "mailing_gateway_retry_after_seconds", "Seconds until calls may be made again after a Retry-After", pause_s
    )
    yield _gauge("mailing_gateway_stopped", "1: an operator has stopped all sending", bool(state.stopped_at))
    yield _gauge("mailing_gateway_rate_limit", "Calls per second of all workers; 0: no limit", state.rate)
    yield _gauge("mailing_restored", "1: restored from a backup, sending is disabled", state.restored)


def _failover(found: list[Witnesses]) -> Metric:
    about = "Processes by what they say of a failover: at home of the next one, in another database of the last one"
    metric = GaugeMetricFamily("mailing_failover_verdicts", about, labels=["kind", "verdict"])
    counts = {(each.kind, each.verdict): each.count for each in found}
    for kind, verdict in product(("api", "worker"), Verdict):
        metric.add_metric([kind, verdict], counts.get((kind, verdict), 0))
    return metric


def _labelled(counts: counters.Counts, name: str, *known: str) -> Mapping[str, float]:
    return dict.fromkeys(known, 0.0) | {label: value for (found, label), value in counts.items() if found == name}


def _counted(counts: counters.Counts) -> Iterator[Metric]:
    labelled = partial(_labelled, counts)
    yield _counters("mailing_gateway_calls", "Gateway calls by outcome", "outcome", labelled(counters.CALLS, *Outcome))
    buckets = labelled(counters.CALL_BUCKETS)
    yield _histogram(
        "mailing_gateway_call_seconds",
        "Duration of calls",
        {bound: buckets.get(bound, 0) for bound in (*map(str, counters.BOUNDS_S), "+Inf")},
        sum_s=counts.get((counters.CALL_SECONDS, ""), 0),
    )
    waits = labelled(counters.RATE_LIMIT_WAIT_S, "claim", "call")
    yield _counters(
        "mailing_rate_limit_wait_seconds", "Time spent waiting for the rate limit and pauses", "stage", waits
    )
    postponed = labelled(counters.POSTPONED, *WAITS, "released")
    yield _counters("mailing_postponed", "Claimed messages that were postponed, by reason", "reason", postponed)
    repairs = labelled(counters.RECOVERED, "leases", "jobs")
    yield _counters("mailing_recovered", "Leases and jobs of lost workers that the sweep recovered", "kind", repairs)
    lost = counts.get((counters.STALE_RESULTS, ""), 0)
    yield CounterMetricFamily("mailing_stale_results", "Results that arrived after their lease had expired", value=lost)


def _queue(snapshot: Snapshot) -> Iterator[Metric]:
    jobs = GaugeMetricFamily("mailing_jobs", "Jobs by task and state", labels=["task", "state"])
    for each in snapshot.jobs:
        jobs.add_metric([each.task, each.state], each.count)
    yield jobs
    age_s = max((each.age_s for each in snapshot.jobs), default=0)
    yield _gauge("mailing_oldest_job_age_seconds", "Age of the oldest job that is ready to run", age_s)
    yield _gauge("mailing_workers", "Workers with a heartbeat in the last 30 s", snapshot.workers)


def _connections(snapshot: Snapshot) -> Iterator[Metric]:
    labels = ["part", "state"]
    connections = GaugeMetricFamily(
        "mailing_database_connections", "Database connections of Mailing, by component and state", labels=labels
    )
    for each in snapshot.connections:
        connections.add_metric([each.component, each.state], each.count)
    yield connections
    yield _gauge(
        "mailing_database_connections_used", "Connections of all programs to the database server", snapshot.server.used
    )
    yield _gauge("mailing_database_connections_limit", "The server's max_connections", snapshot.server.limit)


def _audits(audits: Audits) -> Iterator[Metric]:
    yield _gauge("mailing_counters_drift", "Difference between counters and messages; must be 0", audits.drift)
    yield from _age(
        "mailing_counters_audit_age_seconds", "Time since the last audit of the counters", audits.newest_age_s
    )


def _reports(reports: Reports) -> Iterator[Metric]:
    yield _gauge("mailing_reports_overdue", "Daily reports that are due and not sent", reports.overdue)
    yield from _age("mailing_report_age_seconds", "Time since the last daily report was sent", reports.newest_age_s)


def _gauge(name: str, help_: str, value: float) -> Metric:
    return GaugeMetricFamily(name, help_, value=value)


def _age(name: str, help_: str, value: float | None) -> Iterator[Metric]:
    if value is not None:
        yield _gauge(name, help_, value)


def _family(
    kind: type[GaugeMetricFamily | CounterMetricFamily], name: str, help_: str, label: str, values: Mapping[str, float]
) -> Metric:
    family = kind(name, help_, labels=[label])
    for each, value in values.items():
        family.add_metric([each], value)
    return family


_gauges = partial(_family, GaugeMetricFamily)
_counters = partial(_family, CounterMetricFamily)


def _histogram(name: str, help_: str, buckets: Mapping[str, float], *, sum_s: float) -> Metric:
    """Build a histogram. Each call is counted in one bucket; a Prometheus bucket includes all smaller ones."""
    family = HistogramMetricFamily(name, help_)
    family.add_metric([], list(zip(buckets, accumulate(buckets.values()), strict=True)), sum_value=sum_s)
    return family
