"""Windows both ways: nothing is sent over them, and uploads never wait for them."""

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvshim.transport.http2.events import CallReset, ConnectionFailed
from kvshim.transport.http2.limits import Limits
from tests.transport_http2 import peer as p
from tests.transport_http2.peer import Peer, message

WINDOW = 65_535


def test_a_large_response_waits_for_the_streams_window():
    peer = Peer()
    stream = peer.open()
    peer.connection.sender.reply(stream, bytes(100_000))
    assert len(peer.answer().data) == WINDOW
    assert not peer.answer().ended
    peer.open_window(0, 1 << 20)
    assert len(peer.answer().data) == WINDOW
    peer.open_window(1, 1 << 20)
    assert peer.answer().data == message(bytes(100_000))
    assert peer.answer().ended
    assert max(peer.answer().frames) <= 16_384


def test_a_large_response_waits_for_the_connections_window():
    peer = Peer()
    peer.settings((4, 1 << 20))
    stream = peer.open()
    peer.connection.sender.reply(stream, bytes(100_000))
    assert len(peer.answer().data) == WINDOW
    peer.open_window(0, 1 << 20)
    assert peer.answer().data == message(bytes(100_000))


def test_small_replies_pass_a_stream_that_is_stalled():
    peer = Peer()
    peer.open_window(0, 1 << 20)
    peer.connection.sender.reply(peer.open(1), bytes(100_000))
    peer.hear()
    peer.connection.sender.reply(peer.open(3), b"small")
    assert peer.answer(3).ended
    assert not peer.answer(1).ended


def test_streams_with_much_to_send_take_turns():
    peer = Peer()
    for stream_id in (1, 3):
        peer.connection.sender.reply(peer.open(stream_id), bytes(60_000))
    peer.hear()
    sizes = [sum(peer.answer(stream_id).frames) for stream_id in (1, 3)]
    assert sum(sizes) == WINDOW
    assert min(sizes) > 16_000


def test_a_window_may_become_negative_by_settings():
    peer = Peer()
    stream = peer.open()
    peer.connection.sender.message(stream, bytes(16_000))
    peer.settings((4, 1000))
    peer.connection.sender.message(stream, b"x")
    assert len(peer.answer().data) == 16_005
    peer.open_window(1, 15_005)
    assert len(peer.answer().data) == 16_005, "exactly zero lets nothing through"
    peer.open_window(1, 1)
    assert len(peer.answer().data) == 16_006


def test_larger_frames_are_sent_to_clients_that_take_them():
    peer = Peer()
    peer.settings((5, 1 << 20), (4, 1 << 20))
    peer.open_window(0, 1 << 20)
    peer.connection.sender.reply(peer.open(), bytes(200_000))
    assert max(peer.answer().frames) == 65_536


def test_messages_that_wait_share_frames():
    peer = Peer()
    peer.settings((4, 0))
    stream = peer.open()
    for _ in range(100):
        peer.connection.sender.message(stream, b"x" * 10)
    assert peer.answer().data == b""
    peer.open_window(1, 10_000)
    assert peer.answer().data == message(b"x" * 10) * 100
    assert len(peer.answer().frames) == 1


def test_a_message_in_parts():
    peer = Peer()
    stream = peer.open()
    sender = peer.connection.sender
    sender.begin_message(stream, 5)
    sender.part(stream, b"he")
    sender.part(stream, b"llo")
    sender.end(stream)
    assert peer.answer().data == message(b"hello")
    assert peer.answer().ended


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from([1, 3, 5]), st.integers(0, 40_000)), max_size=12),
    st.lists(st.tuples(st.sampled_from([0, 1, 3, 5]), st.integers(1, 50_000)), max_size=20),
    st.integers(0, 70_000),
)
def test_whatever_is_sent_arrives_in_order_and_within_windows(sends, updates, initial):
    peer = Peer()
    peer.settings((4, initial))
    sender = peer.connection.sender
    windows = {0: WINDOW, 1: initial, 3: initial, 5: initial}
    streams = {stream_id: peer.open(stream_id) for stream_id in (1, 3, 5)}
    expected = {1: b"", 3: b"", 5: b""}
    for number, (stream_id, size) in enumerate(sends):
        data = bytes([number]) * size
        sender.message(streams[stream_id], data)
        expected[stream_id] += message(data)
    for stream in streams.values():
        sender.end(stream)
    for stream_id, increment in updates:
        check(peer, windows, expected)
        windows[stream_id] += increment
        peer.open_window(stream_id, increment)
    check(peer, windows, expected)
    for stream_id in (0, 1, 3, 5):
        peer.open_window(stream_id, 1_000_000)
    for stream_id, data in expected.items():
        answer = peer.answer(stream_id)
        assert answer.data == data
        assert answer.ended
    assert peer.connection.streams.queued == 0


def check(peer, windows, expected):
    sent = {stream_id: len(peer.answer(stream_id).data) for stream_id in expected}
    assert sum(sent.values()) <= windows[0]
    for stream_id, data in expected.items():
        assert sent[stream_id] <= windows[stream_id] or not sent[stream_id]
        assert data.startswith(peer.answer(stream_id).data)
        could = min(len(data), windows[stream_id])
        assert sent[stream_id] == could or sum(sent.values()) == windows[0]


# --- Receiving


@pytest.mark.parametrize("path", [p.PATH, p.BIDI_PATH])
def test_an_upload_larger_than_all_windows_never_waits(path):
    peer = Peer()
    stream = peer.open(path=path)
    size = 3_000_000
    wire = message(bytes(size))
    stream_window = connection_window = 0
    for begin in range(0, len(wire), 16_384):
        part = wire[begin : begin + 16_384]
        peer.frame(p.DATA, 0, 1, part)
        stream_window = Limits().stream_window_bytes + peer.updates(1) - begin - len(part)
        connection_window = WINDOW + peer.updates(0) - begin - len(part)
        if begin + len(part) < len(wire):
            assert min(stream_window, connection_window) > 0
    [received] = peer.events[1:]
    assert len(received.data) == size
    assert received.stream is stream


def test_a_streams_window_waits_for_its_handler():
    limits = Limits(stream_window_bytes=1000)
    peer = Peer(limits=limits)
    stream = peer.open(path=p.BIDI_PATH)
    for _ in range(9):
        peer.frame(p.DATA, 0, 1, message(bytes(95)))
    assert peer.updates(1) == 0
    for _ in range(9):
        peer.connection.consumed(stream, 95)
    assert peer.updates(1) >= 500
    before = peer.updates(1)
    peer.frame(p.DATA, 0, 1, message(bytes(95)))
    peer.connection.consumed(stream, 95)
    assert peer.updates(1) - before in (0, 500, 600)


def test_a_client_that_overruns_a_streams_window_loses_the_stream():
    peer = Peer(limits=Limits(stream_window_bytes=1000))
    stream = peer.open(path=p.BIDI_PATH)
    [*_, event] = peer.frame(p.DATA, 0, 1, message(bytes(10)) * 67)
    assert event == CallReset(stream, 3)


def test_a_client_that_overruns_the_connections_window_loses_the_connection():
    peer = Peer(limits=Limits(connection_window_bytes=WINDOW + 1))
    # Every byte is given back at once, so only a single read can overrun it.
    peer.connection._windows._window = 10
    [event] = peer.frame(p.DATA, 0, 1, bytes(11))
    assert isinstance(event, ConnectionFailed)
    assert event.code == 3


def test_padding_counts_for_windows():
    peer = Peer(limits=Limits(stream_window_bytes=200))
    peer.open(path=p.BIDI_PATH)
    peer.frame(p.DATA, p.PADDED, 1, b"\x96" + message(b"") + bytes(150))
    assert peer.updates(1) >= 150


def test_data_on_streams_that_we_reset_gives_the_connections_window_back():
    peer = Peer()
    peer.frame(p.HEADERS, p.END_HEADERS, 1, b"\x82")
    before = peer.updates(0)
    for _ in range(100):
        peer.frame(p.DATA, 0, 1, bytes(16_384))
    assert peer.updates(0) - before > 1_000_000
    assert peer.went_away() is None


def test_a_reset_forgets_what_waited():
    peer = Peer()
    stream = peer.open()
    peer.connection.sender.reply(stream, bytes(1_000_000))
    peer.frame(p.RST_STREAM, 0, 1, struct.pack(">L", 8))
    assert peer.connection.streams.queued == 0
    peer.open_window(0, 1 << 20)
    assert len(peer.answer().data) == 0
