"""What a hostile client may cost: each limit is met, and what stays below it is served."""

import struct
import tracemalloc

import pytest

from kvshim.errors import Code
from kvshim.transport.http2.events import CallReset
from kvshim.transport.http2.limits import Limits, Meter
from kvshim.transport.http2.request import HEAD_BYTES_REMEMBERED_MAX, HeadTable
from kvshim.transport.http2.stream import RESET_REMEMBERED_MAX, StreamTable
from raft.transport.pace import Rate
from tests.transport_http2 import peer as p
from tests.transport_http2.peer import Peer, message, raw_frame, request_headers

CALM = 11


def test_a_meter_allows_its_burst_and_its_rate():
    meter = Meter(Rate(burst=3, per_second=2))
    assert [meter.exceeded(100.0) for _ in range(4)] == [False, False, False, True]
    assert [meter.exceeded(102.0) for _ in range(4)] == [False, False, False, True]
    assert not meter.exceeded(1000.0)


def calmed(peer: Peer, text: str) -> bool:
    gone = peer.went_away()
    return gone is not None and gone[1] == CALM and text in gone[2]


def test_streams_on_one_connection():
    peer = Peer(streams_max=2)
    peer.open(1)
    peer.open(3)
    assert peer.headers(5) == []
    assert peer.answer(5).reset == 7, "REFUSED_STREAM: the client may try again"
    peer.frame(p.RST_STREAM, 0, 1, struct.pack(">L", 8))
    assert peer.open(7)


def test_handlers_of_streams_that_were_reset_count():
    peer = Peer(streams_max=2)
    for stream_id in (1, 3):
        peer.open(stream_id)
        peer.frame(p.RST_STREAM, 0, stream_id, struct.pack(">L", 8))
    assert peer.headers(5) == []
    assert peer.answer(5).reset == 7
    peer.connection.handler_ended()
    assert peer.open(7)


def test_rapid_reset():
    peer = Peer(limits=Limits(resets=Rate(10, 1.0)))
    for number in range(11):
        peer.headers(2 * number + 1)
        peer.frame(p.RST_STREAM, 0, 2 * number + 1, struct.pack(">L", 8))
        peer.connection.handler_ended()
    assert calmed(peer, "too_many_resets")


def test_rapid_resets_that_the_client_makes_us_send():
    peer = Peer(limits=Limits(resets=Rate(10, 1.0)))
    for number in range(11):
        peer.headers(2 * number + 1)
        peer.frame(p.WINDOW_UPDATE, 0, 2 * number + 1, bytes(4))
        peer.connection.handler_ended()
    assert calmed(peer, "too_many_resets")


def test_cancelling_calls_at_a_human_pace_is_fine():
    peer = Peer(limits=Limits(resets=Rate(10, 1.0)))
    for number in range(100):
        peer.now += 1
        peer.headers(2 * number + 1)
        peer.frame(p.RST_STREAM, 0, 2 * number + 1, struct.pack(">L", 8))
        peer.connection.handler_ended()
    assert peer.went_away() is None


def test_a_header_list_that_is_too_long():
    peer = Peer()
    field = "v" * 1000
    peer.headers(1, [*request_headers(), *((f"x-{n}", field) for n in range(14))])
    assert len(peer.events) == 1
    big = [("big", "v" * 3000)]
    peer.headers(3, [*request_headers(), *big])
    assert len(peer.events) == 2
    peer.headers(5, [*request_headers(), *big * 30])
    assert calmed(peer, "headers over")


def test_a_header_block_that_is_too_long():
    peer = Peer()
    peer.frame(p.HEADERS, 0, 1, bytes(16_384))
    for _ in range(5):
        peer.frame(p.CONTINUATION, 0, 1, bytes(16_384))
    assert calmed(peer, "header block too large")


def test_continuation_flood():
    peer = Peer()
    peer.frame(p.HEADERS, 0, 1)
    for _ in range(Limits().continuations_max):
        peer.frame(p.CONTINUATION, 0, 1)
    assert calmed(peer, "header block too large")


def test_settings_flood():
    peer = Peer()
    for _ in range(Limits().settings.burst - 1):
        peer.frame(p.SETTINGS, 0, 0)
    assert peer.went_away() is None
    peer.frame(p.SETTINGS, 0, 0)
    assert calmed(peer, "too_many_settings")


IDLE = [
    (p.PRIORITY, 0, 1, b"\0\0\0\5\0"),
    (p.DATA, 0, 1, b""),
    (p.DATA, p.PADDED, 1, b"\1\0"),
    (0xBB, 0, 1, b""),
    (p.PING, p.ACK, 0, bytes(8)),
    (p.SETTINGS, p.ACK, 0, b""),
    (p.GOAWAY, 0, 0, bytes(8)),
    (p.RST_STREAM, 0, 3, bytes(4)),
]


@pytest.mark.parametrize("frame", IDLE)
def test_frames_that_move_nothing(frame):
    peer = Peer(limits=Limits(idle_frames=Rate(10, 1.0)))
    peer.open(3)
    peer.frame(p.RST_STREAM, 0, 3, bytes(4))
    peer.connection.streams.highest_id = 0
    peer.open(1)
    peer.connection.streams.highest_id = 3
    for _ in range(10):
        peer.frame(*frame)
    assert peer.went_away() is None
    peer.frame(*frame)
    assert calmed(peer, "without progress")


@pytest.mark.parametrize("end", [(p.DATA, p.END_STREAM, b""), (p.RST_STREAM, 0, bytes(4))])
def test_calls_may_be_answered_before_the_client_has_ended_them(end):
    """Some clients end a call in a frame of its own, which may come after the answer."""
    kind, flags, payload = end
    peer = Peer(limits=Limits(idle_frames=Rate(10, 1.0), resets=Rate(10, 1.0)))
    for stream_id in range(1, 201, 2):
        stream = peer.open(stream_id)
        peer.frame(p.DATA, 0, stream_id, message(b"get"))
        peer.connection.sender.message(stream, b"got")
        peer.connection.sender.end(stream)
        peer.frame(kind, flags, stream_id, payload)
    assert peer.went_away() is None


def test_a_client_that_ends_a_call_again_and_again():
    peer = Peer(limits=Limits(resets=Rate(10, 1.0)))
    stream = peer.open()
    peer.connection.sender.message(stream, b"got")
    peer.connection.sender.end(stream)
    for _ in range(21):
        peer.frame(p.DATA, p.END_STREAM, 1)
    assert peer.went_away() is None
    peer.frame(p.DATA, p.END_STREAM, 1)
    assert calmed(peer, "too_many_resets")


def ping(peer: Peer, count: int, every_seconds: float) -> None:
    for _ in range(count):
        peer.frame(p.PING, 0, 0, bytes(8))
        peer.now += every_seconds


def test_pings_at_the_agreed_pace():
    peer = Peer()
    ping(peer, 100, 5.0)
    assert peer.went_away() is None


def test_the_third_ping_too_early_is_one_too_many():
    peer = Peer()
    ping(peer, 3, 4.9)
    assert peer.went_away() is None
    ping(peer, 1, 4.9)
    assert calmed(peer, "too_many_pings")


@pytest.mark.parametrize(("messages", "pings", "every_seconds"), [(50, 3, 0.1), (5_000, 1, 0.001)])
def test_pings_that_follow_data_are_free(messages, pings, every_seconds):
    """grpc-go sends one with every event of a busy watch; ending its connection would hold up
    every watch on it for a second."""
    peer = Peer()
    stream = peer.open()
    for _ in range(messages):
        peer.connection.sender.message(stream, b"x")
        ping(peer, pings, every_seconds)
    assert peer.went_away() is None


def test_pings_without_an_agreed_pace_have_a_limit():
    peer = Peer(between_pings_seconds=0.0, limits=Limits(pings=Rate(20, 1.0)))
    ping(peer, 20, 0.0)
    assert peer.went_away() is None
    ping(peer, 1, 0.0)
    assert calmed(peer, "too_many_pings")


def test_requests_that_never_arrive_whole():
    peer = Peer(limits=Limits(buffered_bytes_max=100_000))
    for number in range(12):
        peer.headers(2 * number + 1)
        peer.frame(p.DATA, 0, 2 * number + 1, message(bytes(20_000))[:10_000])
    assert calmed(peer, "too much unfinished")


def test_requests_that_arrive_whole_may_be_as_many_as_they_like():
    peer = Peer(limits=Limits(buffered_bytes_max=100_000))
    for number in range(100):
        wire = message(bytes(20_000))
        peer.headers(2 * number + 1)
        peer.frame(p.DATA, 0, 2 * number + 1, wire[:10_000])
        peer.frame(p.DATA, p.END_STREAM, 2 * number + 1, wire[10_000:])
    assert peer.went_away() is None


def test_what_a_stream_held_counts_no_longer_once_it_is_over():
    """The server ends it, by a deadline for example; or a handler takes a message too late."""
    peer = Peer(limits=Limits(buffered_bytes_max=100_000))
    half = message(bytes(20_000))[:10_000]
    for number in range(40):
        stream = peer.open(4 * number + 1)
        peer.frame(p.DATA, 0, stream.id, half)
        peer.connection.sender.end(stream, Code.DEADLINE_EXCEEDED, "")
        late = peer.open(4 * number + 3, p.BIDI_PATH)
        peer.frame(p.DATA, 0, late.id, message(b"x" * 3000) * 2)
        peer.frame(p.RST_STREAM, 0, late.id, struct.pack(">L", 8))
        peer.connection.consumed(late, 3000)
    assert peer.went_away() is None
    assert peer.connection.streams.held == 0


def test_a_stream_whose_client_opens_no_window_is_reset():
    limits = Limits(stall_seconds_max=10)
    peer = Peer(limits=limits)
    stalled = peer.open(1)
    peer.connection.sender.reply(stalled, bytes(100_000))
    slow = peer.open(3)
    peer.open_window(0, 1 << 20)
    peer.connection.sender.reply(slow, bytes(100_000))
    peer.hear()
    events = []
    for _ in range(20):
        peer.now += 1
        peer.open_window(3, 10)
        peer.hear()
        events += peer.connection.reset_stalled(peer.now)
    assert events == [CallReset(stalled, 8)]
    assert peer.answer(1).reset == 8
    assert peer.answer(3).reset is None


def test_only_so_many_reset_streams_are_remembered():
    table = StreamTable()
    for stream_id in range(3 * RESET_REMEMBERED_MAX):
        table.remember_reset(stream_id)
    assert not table.was_reset(0)
    assert table.was_reset(3 * RESET_REMEMBERED_MAX - 1)
    assert len(table._reset) == RESET_REMEMBERED_MAX


def test_a_long_head_is_not_remembered():
    table = HeadTable()
    fields = [(name.encode(), value.encode()) for name, value in request_headers()]
    long = [*fields, (b"x-long", b"v" * HEAD_BYTES_REMEMBERED_MAX)]
    assert table.understand(1, long)[0].metadata["x-long"]
    assert tuple(long) not in table._heads


def test_memory_of_answers_that_nobody_reads_is_shared_or_bounded():
    """A client that asks and never opens its window costs what it asked for, and no copies."""
    peer = Peer()
    peer.settings((4, 0))
    reply = bytes(1_000_000)
    tracemalloc.start()
    for number in range(50):
        peer.connection.sender.reply(peer.open(2 * number + 1), reply)
    peer.hear()
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 1_000_000


def test_bytes_of_a_frame_that_never_ends():
    peer = Peer()
    for _ in range(100):
        peer.send(b"")
        peer.send(raw_frame(p.DATA, 0, 1, bytes(16_000))[:100])
        if peer.went_away():
            break
    assert len(peer.connection._reader._rest) <= 16_384 + 9
