"""A reading as Prometheus has it: every name, its labels and its help. docs/metrics.md says what each is for."""

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
    """Of the whole service: the same from every API process."""
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
    upto = f"at most {MAX_COUNTED} are counted"
    yield _gauges("mailing_mailings", "Mailings by status", "status", mailings)
    yield _gauges("mailing_messages", "Messages by status", "status", standing.messages)
    yield _gauge("mailing_due_age_seconds", "How long the oldest due message has been due", standing.due_age_s)
    yield _gauge("mailing_messages_due", f"Messages that could be sent now; {upto}", standing.due)
    yield _gauges("mailing_messages_waiting", f"Messages that may be sent later, by reason; {upto}", "reason", waiting)


def _gateway(state: GatewayState) -> Iterator[Metric]:
    pause_s = (state.paused_until - state.now).total_seconds() if state.paused_until else 0
    yield _gauge("mailing_breaker_open", "1: the breaker is open, only probes are sent", bool(state.breaker_opened_at))
    yield _gauge("mailing_gateway_pause_seconds", "How much longer the gateway wants to be left alone", pause_s)
    yield _gauge("mailing_gateway_stopped", "1: an operator stopped all sending", bool(state.stopped_at))
    yield _gauge("mailing_gateway_rate_limit", "Calls per second that all workers may make; 0: no limit", state.rate)
    yield _gauge("mailing_restored", "1: restored from a backup, nothing is sent", state.restored)


def _counted(counts: counters.Counts) -> Iterator[Metric]:
    def labelled(name: str, *known: str) -> Mapping[str, float]:
        return dict.fromkeys(known, 0.0) | {label: value for (found, label), value in counts.items() if found == name}

    yield _counters("mailing_gateway_calls", "Calls by outcome", "outcome", labelled(counters.CALLS, *Outcome))
    yield _histogram(labelled(counters.CALL_BUCKETS), sum_s=counts.get((counters.CALL_SECONDS, ""), 0))
    waits = labelled(counters.GATE_SECONDS, "claim", "call")
    yield _counters("mailing_gateway_wait_seconds", "Time spent waiting for the rate limit and pauses", "before", waits)
    postponed = labelled(counters.POSTPONED, *WAITS, "released")
    yield _counters("mailing_postponed", "Claimed messages that went back to wait, by reason", "reason", postponed)
    repairs = labelled(counters.REPAIRS, "leases", "jobs")
    yield _counters("mailing_repairs", "What the sweep mended after lost workers", "kind", repairs)
    lost = counts.get((counters.LEASES_LOST, ""), 0)
    yield CounterMetricFamily("mailing_leases_lost", "Results that came after their lease had run out", value=lost)


def _queue(standing: Snapshot) -> Iterator[Metric]:
    jobs = GaugeMetricFamily("mailing_jobs", "Jobs by task and state", labels=["task", "state"])
    for each in standing.jobs:
        jobs.add_metric([each.task, each.state], each.count)
    yield jobs
    age_s = max((each.age_s for each in standing.jobs), default=0)
    yield _gauge("mailing_job_age_seconds", "How long the oldest ready job has waited", age_s)
    yield _gauge("mailing_workers", "Workers that said within 30 s that they are there", standing.workers)


def _connections(standing: Snapshot) -> Iterator[Metric]:
    labels = ["part", "state"]
    connections = GaugeMetricFamily("mailing_database_connections", "Connections of Mailing's parts", labels=labels)
    for each in standing.connections:
        connections.add_metric([each.part, each.state], each.count)
    yield connections
    yield _gauge("mailing_database_connections_used", "Connections of all programs", standing.server.used)
    yield _gauge("mailing_database_connections_limit", "The server's max_connections", standing.server.limit)


def _audits(audits: Audits) -> Iterator[Metric]:
    yield _gauge("mailing_counters_drift", "Difference between counters and messages; must be 0", audits.drift)
    yield from _age("mailing_counters_audit_age_seconds", "Since counters were last audited", audits.newest_age_s)


def _reports(reports: Reports) -> Iterator[Metric]:
    yield _gauge("mailing_reports_overdue", "Daily reports that should have gone out", reports.overdue)
    yield from _age("mailing_report_age_seconds", "Since the newest daily report went out", reports.newest_age_s)


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
    """Workers count each call in one bucket; Prometheus wants each bucket to hold the smaller ones, too."""
    family = HistogramMetricFamily("mailing_gateway_call_seconds", "How long calls took")
    cumulative, below = [], 0.0
    for bound in [*map(str, counters.BOUNDS_S), "+Inf"]:
        below += buckets.get(bound, 0)
        cumulative.append((bound, below))
    family.add_metric([], cumulative, sum_value=sum_s)
    return family
