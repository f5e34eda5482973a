"""A campaign as a trace tells it: from the request over its plan to the calls."""

import os

import pytest

from mailing.observability import tracing
from mailing.process.ports import free_port
from support.campaign import Campaign
from support.trace_collector import collecting


async def test_a_campaign_can_be_followed_from_the_request_over_its_plan_to_its_calls(
    campaign: Campaign, monkeypatch: pytest.MonkeyPatch
) -> None:
    await campaign.clients(60)
    await campaign.sandbox.behave(error_500=0.2, seed=3)
    with collecting() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        tracing.start("tests", os.environ)
        async with campaign.working():
            mailing = await campaign.mailing(text="canary")
            assert await campaign.finished(mailing) == {"planned": 60, "sent": 60}
        tracing.finish()
        request = collector.one("POST /mailing/api/mailings")
        # The sweep wakes a due mailing too: such a plan has a trace of its own.
        plans = [span for span in collector.named("plan_mailing") if span.trace == request.trace]
        runs = {span.id: span for span in collector.named("send_mailing")}
        assert {plan.parent for plan in plans} == {request.id}
        assert {plan.attributes["mailing_id"] for plan in plans} == {mailing}
        assert {plan.id for plan in plans} & {run.parent for run in runs.values()}
        parts = [span for name in ("claim", "calls", "record") for span in collector.named(name)]
        assert {runs[part.parent].trace == part.trace for part in parts} == {True}
        calls = [span.attributes for span in collector.named("calls")]
        assert sum(each.get("accepted", 0) for each in calls) == 60
        assert sum(run.attributes.get("recorded", 0) for run in runs.values()) == sum(
            each["messages"] for each in calls
        )
        assert len(calls) < 60, "no span for each call"
        retried = [run for run in runs.values() if run.links]
        assert {(run.parent, len(run.links)) for run in retried} == {("", 1)}
        phones = {str(item["phone"]) for item in await campaign.sandbox.ledger()}
        assert [secret for secret in (*phones, "canary", "Bearer") if secret in collector.received] == []


async def test_a_campaign_goes_out_while_the_collector_is_away(
    campaign: Campaign, monkeypatch: pytest.MonkeyPatch
) -> None:
    await campaign.clients(50)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{free_port()}")
    tracing.start("tests", os.environ)
    async with campaign.working():
        assert await campaign.finished(await campaign.mailing()) == {"planned": 50, "sent": 50}
    tracing.finish()
    assert (await campaign.sandbox.summary())["accepted"] == 50
