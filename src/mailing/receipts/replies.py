"""Replies from phones: a reply with an opt-out word opts its phone out. Other replies are not stored."""

from mailing.clients.phone import is_phone, normalised_phone
from mailing.clients.repository import client_with_phone
from mailing.clients.suppression import attribute_opt_outs, opt_out_phone
from mailing.database.engine import Sessions, transaction
from mailing.events import record_event
from mailing.gateway.providers.receipt import Reply
from mailing.messages.cancellation import cancel_of_client
from mailing.observability.log import get
from mailing.reasons.codes import ReasonCode
from mailing.receipts.opt_out_words import OptOutWords, opt_out_word

logger = get(__name__)

ACTOR = "reply"


async def take_reply(sessions: Sessions, reply: Reply, words: OptOutWords) -> bool:
    """Opt the phone out if the reply says so. Return whether it did."""
    word, phone = opt_out_word(reply.text, words), _phone_of(reply)
    if word is None or phone is None:
        return False
    await _opt_out(sessions, phone, word=word)
    return True


async def _opt_out(sessions: Sessions, phone: str, *, word: str) -> None:
    """Opt out the phone, and its client if there is one; unsent messages are cancelled in the same transaction.

    The event with the word is the evidence. It has no client if the phone has none.
    """
    async with transaction(sessions) as session:
        client = await client_with_phone(session, phone)
        await attribute_opt_outs(session, by=ACTOR, reason=ReasonCode.replied, word=word)
        opted = await opt_out_phone(session, phone, has_client=client is not None)
        for client_id in opted.clients:
            stopped = await cancel_of_client(session, client_id, reason=ReasonCode.client_opted_out)
            await record_event(session, "client.opted_out", by=ACTOR, client_id=client_id, stopped=stopped, word=word)
        if opted.added and not opted.clients:
            await record_event(session, "reply.opted_out", by=ACTOR, word=word)
    if opted.clients or opted.added:
        logger.info("opted out by a reply", clients=len(opted.clients))


def _phone_of(reply: Reply) -> str | None:
    """Return the phone as it is stored; None if it is no phone that could be a client's, such as a short number."""
    try:
        phone = normalised_phone(reply.phone)
    except ValueError:
        return None
    return phone if isinstance(phone, str) and is_phone(phone) else None
