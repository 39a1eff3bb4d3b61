"""Sessions that went wrong: mutated, cut and random bytes. Never an exception nor much memory."""

import random
import tracemalloc

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kvshim.transport.http2.events import CallReset, ConnectionFailed, MessageReceived
from kvshim.transport.http2.stream import State
from tests.transport_http2 import peer as p
from tests.transport_http2.peer import PREFACE, Peer, message, raw_frame, request_headers

FRAME = st.tuples(
    st.integers(0, 10),
    st.sampled_from([0, 1, 4, 5, 8, 9, 12, 13, 0x20, 0x2C, 0x2D, 255]),
    st.sampled_from([0, 1, 2, 3, 5, 2**31 - 1]),
    st.one_of(
        st.binary(max_size=30),
        st.sampled_from(
            [
                b"\0\0\0\1",
                b"\x7f\xff\xff\xff",
                bytes(8),
                b"\0\4\0\0\0\0",
                b"\0\4\x7f\xff\xff\xff",
                b"\0\5\0\1\0\0",
                b"\0\1\0\0\0\0",
                message(b"hello"),
                message(b"x" * 20)[:10],
                b"\x82\x86\x84\x41\x01x",
            ]
        ),
    ),
)
QUIET = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def answer_everything(peer: Peer, events: list) -> None:
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
    failed = [event for event in peer.events if isinstance(event, ConnectionFailed)]
    assert connection.is_failed == bool(failed)
    assert len(failed) < 2


@QUIET
@given(st.lists(FRAME, max_size=20), st.booleans())
def test_frames_without_rhyme(frames, opened):
    peer = Peer()
    if opened:
        peer.open(1, p.BIDI_PATH)
    for frame in frames:
        answer_everything(peer, peer.frame(*frame))
        check(peer)
    peer.connection.sender.pump(1 << 20)
    peer.connection.reset_stalled(peer.now + 1000)
    check(peer)


@QUIET
@given(st.binary(max_size=400), st.booleans())
def test_bytes_without_rhyme(data, greeted):
    peer = Peer(greet=greeted)
    peer.send(data)
    check(peer)


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


@QUIET
@given(st.integers(0, 2**32), st.integers(0, 8), st.integers(1, 4000))
def test_sessions_that_were_damaged_on_the_way(seed, damages, piece):
    chance = random.Random(seed)
    wire = bytearray(session(seed))
    for _ in range(damages):
        at = chance.randrange(len(PREFACE), len(wire))
        match chance.randrange(3):
            case 0:
                wire[at] = chance.randrange(256)
            case 1:
                del wire[at : at + chance.randrange(1, 30)]
            case _:
                wire[at:at] = chance.randbytes(chance.randrange(1, 30))
    peer = Peer(greet=False)
    for begin in range(0, len(wire), piece):
        answer_everything(peer, peer.send(bytes(wire[begin : begin + piece])))
        peer.connection.sender.pump(1 << 20)
        check(peer)
    if not damages:
        assert not peer.connection.is_failed
        peer.hear()


def test_hours_of_damage_take_no_memory():
    """Whatever ends, ends with all that it held."""
    peers = []
    for seed in range(30):
        peer = Peer(greet=False)
        peer.send(session(seed))
        peers.append(peer)
    tracemalloc.start()
    peer = Peer()
    for number in range(3000):
        stream_id = 2 * number + 1
        peer.now += 1
        peer.headers(stream_id)
        peer.frame(p.DATA, 0, stream_id, message(bytes(5000))[:3000])
        peer.frame(p.RST_STREAM, 0, stream_id, bytes(4))
        peer.connection.handler_ended()
        peer.events.clear()
        peer.connection.sender.take()
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 500_000
