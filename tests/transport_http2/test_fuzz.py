"""Sessions that went wrong: mutated, cut and random bytes. Never an exception nor much memory."""

import random
import tracemalloc

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.transport_http2 import peer as p
from tests.transport_http2.peer import PREFACE, Peer, message
from tests.transport_http2.sessions import answer_everything, check, session

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
