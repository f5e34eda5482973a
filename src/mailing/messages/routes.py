"""`/mailing/api/messages`: what happened to one message."""

from litestar import get

from mailing.messages.queries import message_story
from mailing.messages.schemas import MessageStory
from mailing.web.parameters import Id, Session, documented


@get(
    "/messages/{message_id:int}",
    summary="Read a message with its attempts",
    operation_id="read_message",
    responses=documented(400, 404),
    tags=["messages"],
)
async def read_message(session: Session, message_id: Id) -> MessageStory:
    """`id` is also the id the gateway knows it by, in every attempt."""
    return await message_story(session, message_id)
