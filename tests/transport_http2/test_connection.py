"""A connection's events and answers, and what becomes of clients that break the rules."""

import struct

import pytest

from kvshim.errors import Code
from kvshim.transport.http2.events import (
    CallOpened,
    CallReset,
    ConnectionFailed,
    Drained,
    HalfClosed,
    MessageReceived,
    RequestRefused,
)
from kvshim.transport.http2.wire import STREAM_ID_MAX
from tests.transport_http2 import peer as p
from tests.transport_http2.peer import Peer, message, raw_frame, request_headers


def test_the_server_says_its_settings_first():
    peer = Peer(greet=False, streams_max=7)
    peer.hear()
    kind, _, _, payload = peer.control[0]
    assert kind == p.SETTINGS
    settings = dict(struct.iter_unpack(">HL", payload))
    assert settings[3] == 7
    peer.send(p.PREFACE + raw_frame(p.SETTINGS, 0, 0))
    peer.hear()
    assert (p.SETTINGS, p.ACK, 0, b"") in peer.control


def test_a_unary_call_in_one_segment_and_its_reply_in_another():
    peer = Peer()
    block = peer.encoder.encode(request_headers(grpc_timeout="5S", hasleader="true"))
    events = peer.send(
        raw_frame(p.HEADERS, p.END_HEADERS, 1, block)
        + raw_frame(p.DATA, p.END_STREAM, 1, message(b"hello"))
    )
    opened, received = events
    assert isinstance(opened, CallOpened)
    assert opened.timeout_seconds == 5
    assert opened.stream.head.metadata["hasleader"] == "true"
    assert received == MessageReceived(opened.stream, b"hello", is_last=True)
    peer.connection.sender.reply(opened.stream, b"world")
    answer = peer.answer()
    assert answer.headers == [
        [(":status", "200"), ("content-type", "application/grpc")],
        [("grpc-status", "0")],
    ]
    assert answer.data == message(b"world")
    assert answer.ended
    assert answer.reset is None
    assert len(peer.connection.streams) == 0


def test_an_answer_before_the_request_has_ended_asks_for_no_more_of_it():
    peer = Peer()
    stream = peer.open()
    peer.connection.sender.end(stream, Code.UNAVAILABLE, "no")
    assert peer.answer().ended
    assert peer.answer().reset == 0
    assert peer.frame(p.DATA, 0, 1, message(b"late")) == []
    assert peer.headers(1, [], flags=p.END_STREAM) == []
    assert peer.went_away() is None


def test_an_error_without_messages_is_one_headers_frame():
    peer = Peer()
    stream = peer.open()
    peer.connection.sender.end(stream, Code.OUT_OF_RANGE, "50% ü")
    [block] = peer.answer().headers
    assert dict(block) == {
        ":status": "200",
        "content-type": "application/grpc",
        "grpc-status": "11",
        "grpc-message": "50%25 %C3%BC",
    }


def test_a_long_status_goes_over_several_frames():
    peer = Peer()
    peer.connection.sender.end(peer.open(), Code.INTERNAL, "x" * 40_000)
    assert peer.answer().fields["grpc-message"] == "x" * 40_000


def test_messages_both_ways_on_a_stream():
    peer = Peer()
    stream = peer.open(path=p.BIDI_PATH)
    assert peer.frame(p.DATA, 0, 1, message(b"a") + message(b"b")) == [
        MessageReceived(stream, b"a", is_last=False),
        MessageReceived(stream, b"b", is_last=False),
    ]
    for data in (b"1", b"22"):
        peer.connection.sender.message(stream, data)
    assert peer.frame(p.DATA, p.END_STREAM, 1) == [HalfClosed(stream)]
    peer.connection.sender.end(stream)
    assert peer.answer().data == message(b"1") + message(b"22")
    assert peer.answer().fields["grpc-status"] == "0"


def test_trailers_end_a_request():
    peer = Peer()
    stream = peer.open()
    peer.frame(p.DATA, 0, 1, message(b"x"))
    assert peer.headers(1, [("x", "y")], flags=p.END_STREAM) == [HalfClosed(stream)]


def test_headers_in_pieces_with_padding_and_priority():
    peer = Peer()
    block = peer.encoder.encode(request_headers())
    first = b"\2" + b"\0\0\0\0\x10" + block[:5] + b"\0\0"
    flags = p.PADDED | p.PRIORITY_FLAG
    assert peer.frame(p.HEADERS, flags, 1, first) == []
    assert peer.frame(p.CONTINUATION, 0, 1, block[5:9]) == []
    [opened] = peer.frame(p.CONTINUATION, p.END_HEADERS, 1, block[9:])
    assert opened.stream.head.path == p.PATH


def test_a_request_that_ends_inside_a_message_is_refused():
    peer = Peer()
    stream = peer.open()
    [event] = peer.frame(p.DATA, p.END_STREAM, 1, message(b"hello")[:-1])
    assert isinstance(event, RequestRefused)
    assert event.stream is stream
    assert event.error.code == Code.INTERNAL


def test_a_refused_message_stops_the_reading_of_its_stream():
    peer = Peer(message_bytes_max=10)
    peer.open()
    [event] = peer.frame(p.DATA, 0, 1, message(bytes(11)))
    assert isinstance(event, RequestRefused)
    assert peer.frame(p.DATA, p.END_STREAM, 1, message(b"more")) == []


def test_a_reset_reaches_the_handler():
    peer = Peer()
    stream = peer.open()
    assert peer.frame(p.RST_STREAM, 0, 1, struct.pack(">L", 8)) == [CallReset(stream, 8)]
    peer.connection.sender.message(stream, b"nobody reads this")
    peer.connection.sender.end(stream)
    assert peer.answer().headers == []


@pytest.mark.parametrize(
    ("fields", "status", "code"),
    [
        ({":method": "GET"}, "405", "13"),
        ({"content-type": "text/html"}, "415", "13"),
        ({"grpc-timeout": "soon"}, "400", "13"),
    ],
)
def test_requests_that_are_no_calls_are_answered(fields, status, code):
    peer = Peer()
    merged = {**dict(request_headers()), **fields}
    assert peer.headers(1, list(merged.items()), p.END_STREAM) == []
    assert peer.headers(3, list(merged.items())) == []
    assert 3 not in peer.answers, "it may turn out to be malformed yet"
    assert peer.frame(p.DATA, p.END_STREAM, 3, b"body") == []
    for stream_id in (1, 3):
        answer = peer.answer(stream_id)
        assert (answer.fields[":status"], answer.fields["grpc-status"]) == (status, code)
        assert answer.ended
        assert answer.reset is None
    assert len(peer.connection.streams) == 0


def test_an_endless_request_that_is_no_call_is_answered_too():
    peer = Peer()
    peer.headers(1, [*request_headers()[:4]])
    for _ in range(5):
        peer.frame(p.DATA, 0, 1, bytes(16_000))
    assert peer.answer().fields[":status"] == "415"
    assert peer.answer().reset == 0


def test_pings_are_answered():
    peer = Peer()
    peer.frame(p.PING, 0, 0, b"12345678")
    peer.hear()
    assert (p.PING, p.ACK, 0, b"12345678") in peer.control


def test_draining_takes_the_calls_that_are_under_way():
    peer = Peer()
    peer.open(1)
    peer.connection.drain()
    assert peer.went_away() == (STREAM_ID_MAX, 0, "")
    [ping] = [payload for kind, flags, _, payload in peer.control if kind == p.PING and not flags]
    assert peer.open(3)
    assert peer.frame(p.PING, p.ACK, 0, b"an older") == []
    assert peer.open(5)
    assert peer.frame(p.PING, p.ACK, 0, ping) == [Drained()]
    peer.control.clear()
    assert peer.went_away() == (5, 0, "")


def test_refusing_lets_open_calls_end_and_takes_no_new_ones():
    peer = Peer()
    stream = peer.open(1)
    peer.connection.refuse()
    peer.connection.refuse()
    assert peer.went_away() == (1, 0, "")
    assert sum(kind == p.GOAWAY for kind, *_ in peer.control) == 1
    assert peer.headers(3) == []
    assert peer.frame(p.DATA, p.END_STREAM, 3, message(b"x")) == []
    peer.connection.sender.reply(stream, b"done")
    assert peer.answer(1).data == message(b"done")
    assert 3 not in peer.answers


def test_a_smaller_header_table_is_acknowledged_in_our_next_block():
    peer = Peer()
    peer.decoder.max_allowed_table_size = 0
    peer.settings((1, 0))
    for stream_id in (1, 3):
        stream = peer.open(stream_id)
        peer.connection.sender.reply(stream, b"x")
        assert peer.answer(stream_id).fields["grpc-status"] == "0"


def test_unknown_frames_and_settings_are_ignored():
    peer = Peer()
    peer.frame(0xBB, 0xFF, 0, b"whatever")
    peer.settings((0xFFFF, 1))
    peer.frame(p.PRIORITY, 0, 5, b"\0\0\0\1\0")
    assert peer.open(1)
    assert peer.went_away() is None


WORD = struct.pack(">L", 1)
GET = [(":method", "POST"), (":path", "/"), ("x", "y"), (":scheme", "http")]

CONNECTION_FAULTS = {
    "DATA on stream 0": [(p.DATA, 0, 0, b"x")],
    "DATA on an idle stream": [(p.DATA, 0, 5, b"x")],
    "HEADERS on an even stream": [(p.HEADERS, p.END_HEADERS, 2, b"")],
    "HEADERS on stream 0": [(p.HEADERS, p.END_HEADERS, 0, b"")],
    "HEADERS that do not decode": [(p.HEADERS, p.END_HEADERS, 1, b"\x80")],
    "a block interrupted": [(p.HEADERS, 0, 1, b""), (p.PING, 0, 0, bytes(8))],
    "a block on another stream": [(p.HEADERS, 0, 1, b""), (p.CONTINUATION, 0, 3, b"")],
    "CONTINUATION alone": [(p.CONTINUATION, 0, 1, b"")],
    "RST_STREAM on an idle stream": [(p.RST_STREAM, 0, 1, WORD)],
    "RST_STREAM on stream 0": [(p.RST_STREAM, 0, 0, WORD)],
    "RST_STREAM too short": [(p.RST_STREAM, 0, 1, b"")],
    "SETTINGS on a stream": [(p.SETTINGS, 0, 1, b"")],
    "SETTINGS of a bad length": [(p.SETTINGS, 0, 0, b"12345")],
    "SETTINGS ACK with content": [(p.SETTINGS, p.ACK, 0, bytes(6))],
    "ENABLE_PUSH of 2": [(p.SETTINGS, 0, 0, struct.pack(">HL", 2, 2))],
    "INITIAL_WINDOW_SIZE too large": [(p.SETTINGS, 0, 0, struct.pack(">HL", 4, 2**31))],
    "MAX_FRAME_SIZE too small": [(p.SETTINGS, 0, 0, struct.pack(">HL", 5, 16_383))],
    "MAX_FRAME_SIZE too large": [(p.SETTINGS, 0, 0, struct.pack(">HL", 5, 2**24))],
    "PUSH_PROMISE": [(p.PUSH_PROMISE, 0, 1, bytes(4))],
    "PING on a stream": [(p.PING, 0, 1, bytes(8))],
    "PING of a bad length": [(p.PING, 0, 0, bytes(7))],
    "GOAWAY on a stream": [(p.GOAWAY, 0, 1, bytes(8))],
    "GOAWAY of a bad length": [(p.GOAWAY, 0, 0, bytes(7))],
    "WINDOW_UPDATE of 0": [(p.WINDOW_UPDATE, 0, 0, bytes(4))],
    "WINDOW_UPDATE on an idle stream": [(p.WINDOW_UPDATE, 0, 1, WORD)],
    "WINDOW_UPDATE of a bad length": [(p.WINDOW_UPDATE, 0, 0, bytes(3))],
    "WINDOW_UPDATE over the maximum": [(p.WINDOW_UPDATE, 0, 0, struct.pack(">L", 2**31 - 1))],
    "PRIORITY on stream 0": [(p.PRIORITY, 0, 0, bytes(5))],
    "more padding than frame": [(p.HEADERS, p.END_HEADERS | p.PADDED, 1, b"\5ab")],
    "a frame too large": [(p.DATA, 0, 1, bytes(16_385))],
}


@pytest.mark.parametrize("name", CONNECTION_FAULTS)
def test_faults_that_end_the_connection(name):
    peer = Peer()
    for frame in CONNECTION_FAULTS[name]:
        peer.frame(*frame)
    [event] = peer.events
    assert isinstance(event, ConnectionFailed)
    gone = peer.went_away()
    assert gone is not None
    assert gone[1] == event.code != 0
    assert peer.headers(7) == [], "nothing is read any more"


@pytest.mark.parametrize(
    "first", [raw_frame(p.PING, 0, 0, bytes(8)), raw_frame(p.SETTINGS, p.ACK, 0)]
)
def test_the_client_must_begin_with_settings(first):
    peer = Peer(greet=False)
    [event] = peer.send(p.PREFACE + first)
    assert isinstance(event, ConnectionFailed)


STREAM_FAULTS = {
    "DATA after the end": (5, [(p.DATA, p.END_STREAM, 1, message(b"")), (p.DATA, 0, 1, b"x")]),
    "WINDOW_UPDATE of 0": (1, [(p.WINDOW_UPDATE, 0, 1, bytes(4))]),
    "WINDOW_UPDATE over the maximum": (
        3,
        [(p.WINDOW_UPDATE, 0, 1, struct.pack(">L", 2**31 - 1))],
    ),
    "trailers that do not end": (1, [(p.HEADERS, p.END_HEADERS, 1, b"\x82")]),
    "pseudo-headers in trailers": (1, [(p.HEADERS, p.END_HEADERS | p.END_STREAM, 1, b"\x82")]),
    "PRIORITY of a bad length": (6, [(p.PRIORITY, 0, 1, bytes(4))]),
}


@pytest.mark.parametrize("name", STREAM_FAULTS)
def test_faults_that_end_a_stream(name):
    code, faults = STREAM_FAULTS[name]
    peer = Peer()
    stream = peer.open(1)
    for frame in faults:
        peer.frame(*frame)
    assert peer.events[-1] == CallReset(stream, code)
    assert peer.answer(1).reset == code
    assert peer.went_away() is None
    assert peer.open(3), "the connection goes on"


def test_a_malformed_request_ends_its_stream_alone():
    peer = Peer()
    assert peer.headers(1, GET) == []
    assert peer.answer(1).reset == 1
    assert peer.frame(p.DATA, 0, 1, b"under way") == []
    assert peer.open(3)


def test_a_content_length_that_is_wrong():
    peer = Peer()
    peer.headers(1, request_headers(content_length="99"))
    [event] = peer.frame(p.DATA, p.END_STREAM, 1, message(b"x"))
    assert isinstance(event, CallReset)
    peer.headers(3, request_headers(content_length="6"))
    assert peer.frame(p.DATA, p.END_STREAM, 3, message(b"x"))[-1].data == b"x"


def test_data_and_headers_on_a_stream_that_ended():
    peer = Peer()
    stream = peer.open(1)
    peer.frame(p.DATA, p.END_STREAM, 1, message(b"x"))
    peer.connection.sender.reply(stream, b"")
    assert peer.answer(1).ended
    peer.frame(p.DATA, 0, 1, b"x")
    assert peer.answer(1).reset == 5
    stream = peer.open(3)
    peer.frame(p.DATA, p.END_STREAM, 3, message(b"x"))
    peer.connection.sender.reply(stream, b"")
    peer.headers(3)
    gone = peer.went_away()
    assert gone is not None
    assert gone[1] == 5
