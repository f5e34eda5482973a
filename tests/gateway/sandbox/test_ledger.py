"""The sandbox's own memory and chance, and its life as a process."""

import asyncio
import signal
import sys
from collections import Counter
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailing.errors import Invalid, MailingError
from mailing.gateway.sandbox import ledger as ledger_module
from mailing.gateway.sandbox.behaviour import Behaviour, Reaction, react
from mailing.gateway.sandbox.ledger import Ledger
from mailing.web.validation import parse
from support.gateway_calls import gateway, send

AT = datetime(2030, 5, 17, 12, 0, 0, 123456, tzinfo=UTC)


def accept(ledger: Ledger, message_id: int, text: str = "hello") -> None:
    ledger.accept(message_id, phone=79161234567, text=text, at=AT)


@given(ids=st.lists(st.integers(-(2**63), 2**63 - 1) | st.integers(1, 3)))
def test_every_acceptance_is_kept_in_order_with_its_repeats(ids: list[int]) -> None:
    ledger = Ledger()
    for number, message_id in enumerate(ids):
        accept(ledger, message_id, f"text {number % 3}")
    entries = ledger.page(after=0, limit=1000)
    assert [(entry.seq, entry.id) for entry in entries] == list(enumerate(ids, 1))
    assert [entry.repeats for entry in entries] == [ids[:number].count(each) for number, each in enumerate(ids)]
    assert [entry.text for entry in entries] == [f"text {number % 3}" for number in range(len(ids))]
    assert ledger.newest(1000) == entries[::-1]
    assert all(ledger.of(each) == [entry for entry in entries if entry.id == each] for each in ids)
    assert (ledger.unique_ids, len(ledger)) == (len(set(ids)), len(ids))
    assert ledger.repeated_ids == sum(count > 1 for count in Counter(ids).values())


def test_a_line_cut_by_a_kill_is_dropped_and_the_next_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    ledger = Ledger(path)
    accept(ledger, 1)
    ledger.close()
    path.write_bytes(path.read_bytes() + b'{"seq":2,"id":2,"pho')
    again = Ledger(path)
    accept(again, 3)
    again.close()
    third = Ledger(path)
    assert [(entry.seq, entry.id, entry.at) for entry in third.page(after=0, limit=9)] == [(1, 1, AT), (2, 3, AT)]
    third.clear()
    third.close()
    assert path.read_bytes() == b""


@pytest.mark.parametrize("text", ["dear diary\n", "dear diary", "\xff"])
def test_a_file_that_is_no_ledger_is_not_touched(tmp_path: Path, text: str) -> None:
    path = tmp_path / "notes.txt"
    path.write_text(text)
    with pytest.raises(MailingError, match=r"notes\.txt cannot be the ledger \(line 1 .*; name another file"):
        Ledger(path)
    assert path.read_text() == text


@pytest.mark.parametrize("path", ["/", "/dev/zero", "/proc/none/ledger"])
def test_what_cannot_be_a_ledger_is_refused_with_the_remedy(path: str) -> None:
    with pytest.raises(MailingError, match=rf"{path} cannot be the ledger \(.+\); name another file"):
        Ledger(Path(path))


def test_a_full_ledger_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_module, "MAX_ENTRIES", 1)
    ledger = Ledger()
    assert not ledger.is_full
    accept(ledger, 1)
    assert ledger.is_full


def test_the_same_seed_replays_in_any_order_and_another_does_not() -> None:
    behaviour = Behaviour(seed=1, drop=0.3, hang=0.3, latency_s=1, latency_jitter_s=0.5)
    calls = [(message_id, nth) for message_id in range(100) for nth in (1, 2)]
    first = {call: react(behaviour, *call) for call in calls}
    assert first == {call: react(behaviour, *call) for call in reversed(calls)}
    other = Behaviour(seed=2, drop=0.3, hang=0.3, latency_s=1, latency_jitter_s=0.5)
    assert first != {call: react(other, *call) for call in calls}
    assert all(0.5 <= latency_s <= 1.5 for _, latency_s in first.values())


def test_the_chances_are_what_they_say() -> None:
    behaviour = Behaviour(error_500=0.05, throttle_429=0.03, garbage=0.02, accept_then_drop=0.1)
    seen = Counter(react(behaviour, message_id, 1)[0] for message_id in range(20_000))
    expected = {Reaction.error_500: 0.05, Reaction.throttle_429: 0.03, Reaction.garbage: 0.02, Reaction.accept: 0.8}
    assert all(abs(seen[reaction] / 20_000 - chance) < 0.01 for reaction, chance in expected.items())
    assert set(seen) == {*expected, Reaction.accept_then_drop}


@given(
    body=st.binary() | st.dictionaries(st.sampled_from(["drop", "down", "x"]), st.integers()).map(str).map(str.encode)
)
def test_a_body_is_a_behaviour_or_refused_by_its_fields(body: bytes) -> None:
    with suppress(Invalid):
        assert isinstance(parse(body, Behaviour), Behaviour)


async def start_process(path: Path) -> tuple[asyncio.subprocess.Process, int]:
    command = [sys.executable, "-m", "mailing", "sandbox", "--port", "0", "--ledger", str(path)]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    address = (await process.stdout.readline()).decode().split()[-1]
    return process, urlsplit(address).port or 0


async def test_sigterm_ends_it_well_and_a_kill_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    for stop, exit_code in ((signal.SIGKILL, -signal.SIGKILL), (signal.SIGTERM, 0)):
        process, port = await start_process(path)
        async with gateway(port) as client:
            await asyncio.gather(*(send(client, number) for number in range(20)))
        process.send_signal(stop)
        assert await process.wait() == exit_code
    ledger = Ledger(path)
    assert (len(ledger), ledger.repeated_ids) == (40, 20)
    ledger.close()
