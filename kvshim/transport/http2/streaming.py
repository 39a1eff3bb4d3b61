"""Answers of several parts, from a generator to a stream of a connection. Event loop only.

Python interprets this file also where its room is compiled: what is compiled must not await in
`finally` (docs/adr/0020-compiled.md), and a generator that is left halfway has to be closed.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Any

from google.protobuf.message import Message

from kvshim.errors import ResponseTooLarge
from kvshim.rpc import MESSAGE_BYTES_MAX, SlicedBody
from kvshim.transport.codec import encode
from kvshim.transport.http2.call import Http2Call
from kvshim.transport.http2.wire import ErrorCode


async def send_all(
    call: Http2Call, replies: AsyncIterator[Message | bytes], on_sent: Callable[[int], None]
) -> None:
    """Send messages as the handler gives them, then an OK; `on_sent` is told each one's bytes."""
    try:
        async for reply in replies:
            message = encode(reply)
            await call.send_message(message)
            on_sent(len(message))
    finally:
        await close(replies)
    call.driver.connection.sender.end(call.stream)


async def send_slices(call: Http2Call, body: SlicedBody) -> None:
    """Send one message as its slices come, then an OK; one that comes short ends by a reset."""
    if body.length > MESSAGE_BYTES_MAX:
        raise ResponseTooLarge(body.length, MESSAGE_BYTES_MAX)
    sender = call.driver.connection.sender
    left = body.length
    has_begun = False
    try:
        async for part in body.slices:
            if not has_begun:
                sender.begin_message(call.stream, body.length)
                has_begun = True
            left -= len(part)
            if left < 0:
                break
            await call.send_part(part)
        if left:
            raise ValueError(f"sliced body of {body.length} bytes came as {body.length - left}")
    except BaseException:
        if has_begun:
            sender.reset(call.stream, ErrorCode.INTERNAL_ERROR)
        raise
    finally:
        await close(body.slices)
    sender.end(call.stream)


async def close(replies: AsyncIterator[Any]) -> None:
    """A generator left halfway must free what it holds now, not when it is collected."""
    if isinstance(replies, AsyncGenerator):
        await replies.aclose()
