"""One call to the gateway with aiohttp, the fastest client for the asynchronous peers."""

import aiohttp
import msgspec


def session(connections: int) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=connections, keepalive_timeout=60),
        headers={"Content-Type": "application/json"},
        cookie_jar=aiohttp.DummyCookieJar(),
    )


async def send(http: aiohttp.ClientSession, url: str, message_id: int, phone: str, text: str) -> None:
    """Send a message. Raise RuntimeError unless it is accepted."""
    body = msgspec.json.encode({"id": message_id, "phone": int(phone), "text": text})
    async with http.post(f"{url}/send/{message_id}", data=body) as answer:
        if answer.status != 200 or msgspec.json.decode(await answer.read()).get("code") != 0:
            raise RuntimeError(f"message {message_id} was not accepted")
