"""The sandbox's behaviour, and its reaction to one call. Pure: the same seed, id and call give the same reaction."""

import struct
from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum
from hashlib import blake2b
from typing import Annotated, Any, Final

import msgspec

from mailing.errors import FieldError

Seconds = Annotated[float, msgspec.Meta(ge=0, le=3600)]
Chance = Annotated[float, msgspec.Meta(ge=0, le=1)]
Address = Annotated[str, msgspec.Meta(pattern="^(https?://[^ ]+)?$", max_length=500)]
TEN_YEARS_S: Final = 315_360_000


class Reaction(StrEnum):
    """The reaction to one valid call. Each but `accept` is a field of `Behaviour` with its chance."""

    accept = "accept"
    error_500 = "error_500"
    throttle_429 = "throttle_429"
    refuse_400 = "refuse_400"
    soft_refusal = "soft_refusal"
    unauthorized_401 = "unauthorized_401"
    garbage = "garbage"
    invalid_http = "invalid_http"
    hang = "hang"
    accept_then_drop = "accept_then_drop"
    drop = "drop"


FAULTS: Final = tuple(reaction for reaction in Reaction if reaction is not Reaction.accept)


class Behaviour(msgspec.Struct, frozen=True, kw_only=True):
    """The chances are per call and add up to 1 at most. The rest of the calls is accepted.

    The latency is uniform in `latency_s` ± `latency_jitter_s`, never below 0. `down` closes every call's connection
    before reading it. `recognises_ids` answers 409 to an id that was accepted before.

    The chances of receipts are per accepted message and independent of each other: not delivered; before the call is
    answered; the same twice; the final one first; a forged one beside it; none. `receipts_to` is for a provider whose
    receipts all come to one address, and `receipts_secret` the word that it signs them with. A `reply` comes from the
    phone with `reply_text` to `replies_to`.
    """

    down: bool = False
    recognises_ids: bool = False
    latency_s: Seconds = 0.0
    latency_jitter_s: Seconds = 0.0
    error_500: Chance = 0.0
    throttle_429: Chance = 0.0
    retry_after_s: Annotated[int, msgspec.Meta(ge=-TEN_YEARS_S, le=TEN_YEARS_S)] = 1
    refuse_400: Chance = 0.0
    soft_refusal: Chance = 0.0
    unauthorized_401: Chance = 0.0
    garbage: Chance = 0.0
    invalid_http: Chance = 0.0
    hang: Chance = 0.0
    accept_then_drop: Chance = 0.0
    drop: Chance = 0.0
    receipt_after_s: Seconds = 0.2
    receipt_undelivered: Chance = 0.0
    receipt_early: Chance = 0.0
    receipt_twice: Chance = 0.0
    receipt_reversed: Chance = 0.0
    receipt_forged: Chance = 0.0
    receipt_lost: Chance = 0.0
    receipts_to: Address = ""
    receipts_secret: Annotated[str, msgspec.Meta(max_length=100)] = ""
    reply: Chance = 0.0
    reply_text: Annotated[str, msgspec.Meta(max_length=500)] = "STOP"
    replies_to: Address = ""
    seed: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)] = 0

    @staticmethod
    def contradictions(fields: Mapping[str, Any]) -> Iterator[FieldError]:
        chances = {fault: fields[fault] for fault in FAULTS if fields.get(fault)}
        total = sum(chances.values())
        if total > 1 + 1e-9:
            yield from (FieldError(fault, f"the chances add up to {total:g}, more than 1") for fault in chances)

    @property
    def is_calm(self) -> bool:
        """Whether no call needs a draw."""
        return not self.latency_s and not self.latency_jitter_s and not any(getattr(self, fault) for fault in FAULTS)


def draws(seed: int, message_id: int, nth_call: int, *, count: int, purpose: bytes = b"") -> list[float]:
    """Draw numbers in [0, 1) from seed, id and call number, not in sequence: a run replays in any order of calls."""
    call = struct.pack("<qqq", seed, message_id, nth_call)
    drawn = blake2b(call, digest_size=8 * count, person=purpose).digest()
    return [number / 2**64 for number in struct.unpack(f"<{count}Q", drawn)]


def choose(chances: Iterable[tuple[str, float]], draw: float) -> str | None:
    """Return the name that a number in [0, 1) stands for. None stands for the chance that is left over."""
    for name, chance in chances:
        draw -= chance
        if draw < 0:
            return name
    return None


def react(behaviour: Behaviour, message_id: int, nth_call: int) -> tuple[Reaction, float]:
    """Draw the reaction to the nth call of an id, and its latency in seconds."""
    first, second = draws(behaviour.seed, message_id, nth_call, count=2)
    chosen = choose(((fault, getattr(behaviour, fault)) for fault in FAULTS), first)
    latency_s = behaviour.latency_s + behaviour.latency_jitter_s * (2 * second - 1)
    return Reaction(chosen or Reaction.accept), max(latency_s, 0.0)


class ReceiptPlan(msgspec.Struct, frozen=True):
    """The receipts of one accepted message, drawn by the chances of the same names."""

    receipt_undelivered: bool
    receipt_early: bool
    receipt_twice: bool
    receipt_reversed: bool
    receipt_forged: bool
    receipt_lost: bool
    reply: bool


def plan_receipt(behaviour: Behaviour, message_id: int, nth_call: int) -> ReceiptPlan:
    chances = [getattr(behaviour, name) for name in ReceiptPlan.__struct_fields__]
    drawn = draws(behaviour.seed, message_id, nth_call, count=len(chances), purpose=b"receipt")
    return ReceiptPlan(*(draw < chance for draw, chance in zip(drawn, chances, strict=True)))
