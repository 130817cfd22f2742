"""Reads the last message of subjects in a stream that keeps one message of each."""

import asyncio
import json
from collections.abc import Mapping, Sequence

from nats.errors import Error as NatsError

from chassis.events.bus import Bus


async def read_last(
    bus: Bus, stream: str, subjects: Sequence[str], *, limit_s: float
) -> Mapping[str, bytes]:
    """The last message by subject, by one request; `subjects` may end with `>`.

    The stream must allow direct reads. The broker returns at most 1,024 messages.

    Raises:
        NatsError: the broker refused, or cannot be reached.
        TimeoutError: it did not answer within `limit_s`.
    """
    client = bus.client
    inbox = client.new_inbox()
    subscription = await client.subscribe(inbox)
    try:
        request = json.dumps({"multi_last": list(subjects)}).encode()
        found: dict[str, bytes] = {}
        async with asyncio.timeout(limit_s):
            await client.publish(f"$JS.API.DIRECT.GET.{stream}", request, reply=inbox)
            while True:
                message = await subscription.next_msg(timeout=limit_s)
                headers = message.headers or {}
                # 204 follows the last message, 404 tells that there is none.
                if (status := headers.get("Status")) in ("204", "404"):
                    return found
                if status:
                    raise NatsError(f"{status} {headers.get('Description', '')}")
                found[headers["Nats-Subject"]] = message.data
    finally:
        await subscription.unsubscribe()
