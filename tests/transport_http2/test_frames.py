"""Cutting bytes into frames, however the network has cut them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvshim.transport.http2 import frames
from kvshim.transport.http2.frames import FrameReader
from kvshim.transport.http2.wire import PADDED, ConnectionFault, ErrorCode
from tests.transport_http2.peer import PREFACE, raw_frame

FRAMES = st.lists(
    st.tuples(
        st.integers(0, 255), st.integers(0, 255), st.integers(0, 2**31 - 1), st.binary(max_size=99)
    ),
    max_size=8,
)


@given(FRAMES, st.data())
def test_frames_arrive_whole_and_in_order_however_they_are_cut(sent, data):
    wire = PREFACE + b"".join(raw_frame(*item) for item in sent)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(wire)), max_size=10)))
    reader, read = FrameReader(), []
    for begin, end in zip([0, *cuts], [*cuts, len(wire)], strict=True):
        read += reader.read(wire[begin:end])
    assert read == sent


def test_bytes_one_by_one():
    wire = PREFACE + raw_frame(6, 0, 0, b"12345678")
    reader = FrameReader()
    read = [item for byte in wire for item in reader.read(bytes([byte]))]
    assert read == [(6, 0, 0, b"12345678")]


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\r\n\r\n", PREFACE[:-1] + b"x", b"\0"])
def test_another_protocol_is_noticed_at_its_first_wrong_byte(data):
    with pytest.raises(ConnectionFault, match="preface"):
        list(FrameReader().read(data))


def test_a_frame_over_the_limit_is_refused_by_its_header():
    reader = FrameReader(100)
    list(reader.read(PREFACE + raw_frame(0, 0, 1, bytes(100))))
    with pytest.raises(ConnectionFault) as caught:
        list(reader.read(raw_frame(0, 0, 1, bytes(101))[:9]))
    assert caught.value.code == ErrorCode.FRAME_SIZE_ERROR


def test_the_reserved_bit_of_a_stream_id_is_ignored():
    wire = bytearray(raw_frame(0, 0, 1))
    wire[5] |= 0x80
    assert list(FrameReader().read(PREFACE + wire)) == [(0, 0, 1, b"")]


@pytest.mark.parametrize(
    ("payload", "content"),
    [(b"\0abc", b"abc"), (b"\2abc\0\0", b"abc"), (b"\0", b""), (b"\1\0", b"")],
)
def test_padding_is_taken_off(payload, content):
    assert frames.unpad(payload) == content
    assert frames.header_fragment(PADDED, 1, payload) == content


@pytest.mark.parametrize("payload", [b"", b"\1", b"\5abc\0"])
def test_padding_longer_than_its_frame(payload):
    with pytest.raises(ConnectionFault):
        frames.unpad(payload)


def test_frames_that_are_written():
    assert frames.frame(frames.FrameType.PING, 1, 0, b"x") == raw_frame(6, 1, 0, b"x")
    assert frames.rst_stream(3, ErrorCode.CANCEL) == raw_frame(3, 0, 3, b"\0\0\0\x08")
    assert frames.window_update(5, 7) == raw_frame(8, 0, 5, b"\0\0\0\x07")
    assert frames.go_away(9, ErrorCode.NO_ERROR, b"bye") == raw_frame(
        7, 0, 0, bytes(3) + b"\x09" + bytes(4) + b"bye"
    )
    assert frames.frame(frames.FrameType.DATA, 0, 1, bytes(70_000)) == raw_frame(
        0, 0, 1, bytes(70_000)
    )
