"""Sessions of a client, and what a server makes of them: for tests and for the fuzzer."""

import random
from typing import Any

from kvshim.transport.http2.events import CallReset, ConnectionFailed, MessageReceived
from kvshim.transport.http2.stream import State
from tests.transport_http2 import peer as p
from tests.transport_http2.peer import PREFACE, Peer, message, raw_frame, request_headers


def answer_everything(peer: Peer, events: list[Any]) -> None:
    """What a server would do with these events."""
    for event in events:
        if isinstance(event, MessageReceived):
            if event.stream.head.path == p.BIDI_PATH:
                peer.connection.consumed(event.stream, len(event.data))
                peer.connection.sender.message(event.stream, event.data * 3)
            else:
                peer.connection.sender.reply(event.stream, event.data * 3)
        elif isinstance(event, CallReset):
            peer.connection.handler_ended()


def check(peer: Peer) -> None:
    """What holds of a connection at any time."""
    connection = peer.connection
    assert all(stream.state is not State.CLOSED for stream in connection.streams)
    assert connection.streams.queued == sum(stream.queued for stream in connection.streams)
    assert connection._lingering >= 0
    assert connection.streams.held == sum(stream.held for stream in connection.streams)
    failed = [event for event in peer.events if isinstance(event, ConnectionFailed)]
    assert connection.is_failed == bool(failed)
    assert len(failed) < 2


def session(seed: int) -> bytes:
    """A client that behaves: unary calls, uploads, streams, pings, resets."""
    chance, peer = random.Random(seed), Peer()
    wire = PREFACE + raw_frame(p.SETTINGS, 0, 0, b"\0\4\0\1\0\0")
    for number in range(chance.randrange(1, 12)):
        stream_id = 2 * number + 1
        path = chance.choice([p.PATH, p.BIDI_PATH])
        timeout = f"{chance.randrange(1, 99999)}m"
        block = peer.encoder.encode(request_headers(path, grpc_timeout=timeout))
        wire += raw_frame(p.HEADERS, p.END_HEADERS, stream_id, block)
        body = message(bytes(chance.randrange(0, 3000)))
        middle = chance.randrange(len(body))
        wire += raw_frame(p.DATA, 0, stream_id, body[:middle])
        if chance.random() < 0.2:
            wire += raw_frame(p.RST_STREAM, 0, stream_id, bytes(4))
        else:
            wire += raw_frame(p.DATA, p.END_STREAM, stream_id, body[middle:])
        if chance.random() < 0.3:
            wire += raw_frame(p.WINDOW_UPDATE, 0, 0, b"\0\0\x10\0")
    return wire
