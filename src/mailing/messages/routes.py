"""`/mailing/api/messages`: what happened to one message."""

from litestar import get

from mailing.messages.queries import get_message
from mailing.messages.schemas import MessageDetail
from mailing.web.parameters import Id, Session


@get("/messages/{message_id:int}", summary="Read a message with its attempts", tags=["messages"])
async def read_message(session: Session, message_id: Id) -> MessageDetail:
    """`id` is also the id that the gateway gets, in every attempt."""
    return await get_message(session, message_id)
