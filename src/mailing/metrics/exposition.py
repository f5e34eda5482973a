"""Read the service's Prometheus metrics: names, labels and help. docs/metrics.md says what each is for."""

from collections.abc import AsyncIterator, Iterator, Mapping
from functools import partial
from itertools import accumulate, product
from typing import Any

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from sqlalchemy.ext.asyncio import AsyncSession

from mailing.gateway import repository as gateway
from mailing.gateway.outcome import Outcome
from mailing.job_queue.inspection import job_counts, live_workers
from mailing.mailings.counts import totals
from mailing.mailings.states import MailingStatus
from mailing.messages.states import MessageStatus
from mailing.metrics import repository
from mailing.metrics.repository import MAX_COUNTED, by_label
from mailing.observability import counters
from mailing.observability.counters import Buckets
from mailing.receipts import counters as receipts
from mailing.restore.repository import witnesses
from mailing.restore.witness import FailoverVerdict

WAITS = ("window", "retry", "rate", "breaker")


async def families(session: AsyncSession, *, with_receipts: bool) -> list[Metric]:
    """Read the metrics of the whole service: the same from every API process.

    `with_receipts`: also those of receipts and replies, for a provider that sends them.
    """
    parts = (_messages, _gateway, _failover, _queue, _connections, _audits, _reports)
    found = [metric for part in parts async for metric in part(session)]
    counted = await counters.totals(session)
    found += _calls(counted)
    if with_receipts:
        delivery = (await session.execute(repository.DELIVERY)).mappings().one()
        found.append(_gauges("mailing_messages_delivery", "Sent messages by their receipt", delivery, "delivery"))
        found += _receipts(counted)
    return found


async def _messages(session: AsyncSession) -> AsyncIterator[Metric]:
    mailings = dict.fromkeys(MailingStatus, 0) | await by_label(session, repository.MAILINGS)
    yield _gauges("mailing_mailings", "Mailings by status", mailings, "status")
    counts = (await totals(session)).messages
    messages = {status: getattr(counts, status) for status in MessageStatus}
    yield _gauges("mailing_messages", "Messages by status", messages, "status")
    due_age_s = await session.scalar(repository.DUE_AGE_S)
    yield _gauge("mailing_oldest_due_message_age_seconds", "Age of the oldest due message", due_age_s)
    upto = f"counted up to {MAX_COUNTED}"
    due = await session.scalar(repository.DUE)
    yield _gauge("mailing_messages_due", f"Messages that could be sent now; {upto}", due)
    waiting = dict.fromkeys(WAITS, 0) | await by_label(session, repository.WAITING)
    yield _gauges("mailing_messages_waiting", f"Messages that may be sent later, by reason; {upto}", waiting, "reason")


async def _gateway(session: AsyncSession) -> AsyncIterator[Metric]:
    state = await gateway.read(session)
    pause_s = (state.paused_until - state.now).total_seconds() if state.paused_until else 0
    is_open = bool(state.breaker_opened_at)
    yield _gauge("mailing_circuit_breaker_open", "1: the circuit breaker is open, only probes are sent", is_open)
    until = "Seconds until calls may be made again after a Retry-After"
    yield _gauge("mailing_gateway_retry_after_seconds", until, pause_s)
    yield _gauge("mailing_gateway_stopped", "1: an operator has stopped all sending", bool(state.stopped_at))
    yield _gauge("mailing_gateway_rate_limit", "Calls per second of all workers; 0: no limit", state.rate)
    yield _gauge("mailing_restored", "1: restored from a backup, sending is disabled", state.restored)


async def _failover(session: AsyncSession) -> AsyncIterator[Metric]:
    about = "Processes by failover verdict; docs/cluster.md lists the verdicts"
    counts: dict[tuple[str, str], int] = dict.fromkeys(product(("api", "worker"), FailoverVerdict), 0)
    counts |= {(each.kind, each.verdict): each.count for each in await witnesses(session)}
    yield _gauges("mailing_failover_verdicts", about, counts, "kind", "verdict")


async def _queue(session: AsyncSession) -> AsyncIterator[Metric]:
    jobs = await job_counts(session)
    counts = {(each.task, each.state): each.count for each in jobs}
    yield _gauges("mailing_jobs", "Jobs by task and state", counts, "task", "state")
    age_s = max((each.age_s for each in jobs), default=0)
    yield _gauge("mailing_oldest_job_age_seconds", "Age of the oldest job that is ready to run", age_s)
    yield _gauge("mailing_workers", "Workers with a heartbeat in the last 30 s", await live_workers(session))


async def _connections(session: AsyncSession) -> AsyncIterator[Metric]:
    about = "Database connections of Mailing, by component and state"
    counts = {(part, state): count for part, state, count in await session.execute(repository.CONNECTIONS)}
    yield _gauges("mailing_database_connections", about, counts, "part", "state")
    server = (await session.execute(repository.SERVER)).one()
    yield _gauge("mailing_database_connections_used", "Connections of all programs to the database server", server.used)
    yield _gauge("mailing_database_connections_limit", "The server's max_connections", server.limit)


async def _audits(session: AsyncSession) -> AsyncIterator[Metric]:
    audits = (await session.execute(repository.AUDITS)).one()
    yield _gauge("mailing_counters_drift", "Difference between counters and messages; must be 0", audits.drift)
    yield _gauge("mailing_counters_audit_age_seconds", "Time since the last audit of the counters", audits.newest_age_s)


async def _reports(session: AsyncSession) -> AsyncIterator[Metric]:
    reports = (await session.execute(repository.REPORTS)).one()
    yield _gauge("mailing_reports_overdue", "Daily reports that are due and not sent", reports.overdue)
    yield _gauge("mailing_report_age_seconds", "Time since the last daily report was sent", reports.newest_age_s)


def _calls(counted: counters.Counts) -> Iterator[Metric]:
    labelled = partial(_labelled, counted)
    yield _counters("mailing_gateway_calls", "Gateway calls by outcome", labelled(counters.CALLS, *Outcome), "outcome")
    buckets, sum_s = labelled(counters.CALL_BUCKETS), counted.get((counters.CALL_SECONDS, ""), 0)
    yield _histogram("mailing_gateway_call_seconds", "Duration of calls", counters.CALL_S, buckets, sum_s=sum_s)
    waits = labelled(counters.RATE_LIMIT_WAIT_S, "claim", "call")
    about = "Time spent waiting for the rate limit and pauses"
    yield _counters("mailing_rate_limit_wait_seconds", about, waits, "stage")
    postponed = labelled(counters.POSTPONED, *WAITS, "released")
    yield _counters("mailing_postponed", "Claimed messages that were postponed, by reason", postponed, "reason")
    repairs = labelled(counters.RECOVERED, "leases", "jobs")
    yield _counters("mailing_recovered", "Leases and jobs of lost workers that the sweep recovered", repairs, "kind")
    lost = counted.get((counters.STALE_RESULTS, ""), 0)
    yield CounterMetricFamily("mailing_stale_results", "Results that arrived after their lease had expired", value=lost)


def _receipts(counted: counters.Counts) -> Iterator[Metric]:
    labelled = partial(_labelled, counted)
    received = labelled(receipts.RECEIPTS, *receipts.RESULTS)
    yield _counters("mailing_receipts", "Receipts by result", received, "result")
    replies = labelled(receipts.REPLIES, *receipts.REPLY_RESULTS)
    yield _counters("mailing_replies", "Replies from phones by result", replies, "result")
    about = "From the acceptance of a message to its final receipt"
    buckets, sum_s = labelled(receipts.DELAY_BUCKETS), counted.get((receipts.DELAY_SECONDS, ""), 0)
    yield _histogram("mailing_receipt_delay_seconds", about, receipts.DELAY_S, buckets, sum_s=sum_s)


def _labelled(counted: counters.Counts, name: str, *known: str) -> dict[str, float]:
    return dict.fromkeys(known, 0.0) | {label: value for (found, label), value in counted.items() if found == name}


def _gauge(name: str, about: str, value: float | None) -> Metric:
    """Build a gauge; None has no sample."""
    return GaugeMetricFamily(name, about, value=value)


def _family(
    kind: type[GaugeMetricFamily | CounterMetricFamily],
    name: str,
    about: str,
    values: Mapping[Any, float],
    *labels: str,
) -> Metric:
    """Build a family. The keys of `values` are a label each, or as many as there are `labels`."""
    family = kind(name, about, labels=labels)
    for key, value in values.items():
        family.add_metric([key] if isinstance(key, str) else key, value)
    return family


_gauges = partial(_family, GaugeMetricFamily)
_counters = partial(_family, CounterMetricFamily)


def _histogram(name: str, about: str, buckets: Buckets, found: Mapping[str, float], *, sum_s: float) -> Metric:
    """Build a histogram. Each call is counted in one bucket; a Prometheus bucket includes all smaller ones."""
    cumulative = accumulate(found.get(label, 0) for label in buckets.labels)
    family = HistogramMetricFamily(name, about)
    family.add_metric([], list(zip(buckets.labels, cumulative, strict=True)), sum_value=sum_s)
    return family
