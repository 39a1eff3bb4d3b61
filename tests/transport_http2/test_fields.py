"""Header blocks: read as the `hpack` library reads them, written so that it reads them."""

import tracemalloc
from urllib.parse import unquote

import pytest
from hpack import Decoder, Encoder
from hypothesis import given
from hypothesis import strategies as st

from kvshim.transport.http2 import fields
from kvshim.transport.http2.fields import FieldDecoder
from kvshim.transport.http2.wire import ConnectionFault, ErrorCode

LIMIT = 64 * 1024
NAMES = st.sampled_from([b":path", b":method", b"te", b"grpc-timeout", b"x", b"user-agent"])
VALUES = st.one_of(st.sampled_from([b"POST", b"/", b"trailers"]), st.binary(max_size=40))
BLOCKS = st.lists(st.lists(st.tuples(NAMES, VALUES, st.booleans()), max_size=12), max_size=12)


@given(BLOCKS, st.booleans(), st.integers(0, 4096))
def test_a_connections_blocks_mean_what_the_library_says(blocks, huffman, table_bytes):
    encoder, ours = Encoder(), FieldDecoder(LIMIT)
    for number, block in enumerate(blocks):
        if number == 3:
            encoder.header_table_size = table_bytes
        wire = encoder.encode(block, huffman=huffman)
        assert ours.decode(wire) == [(name, value) for name, value, _ in block]


@given(st.binary(max_size=300))
def test_any_bytes_are_fields_or_a_fault(block):
    ours, library = FieldDecoder(LIMIT), Decoder(LIMIT)
    try:
        found = ours.decode(block)
    except ConnectionFault:
        return
    assert found == [tuple(pair) for pair in library.decode(block, raw=True)]


@pytest.mark.parametrize(
    "block",
    [b"\x80", b"\xbe", b"\xff\xff\xff\xff\xff\xff\xff", b"\x82\x20", b"\x20" * 3, b"\x40\x85"],
)
def test_blocks_that_are_broken(block):
    with pytest.raises(ConnectionFault) as caught:
        FieldDecoder(LIMIT).decode(block)
    assert caught.value.code == ErrorCode.COMPRESSION_ERROR


def test_a_small_block_cannot_become_a_long_list():
    ours = FieldDecoder(LIMIT)
    big = Encoder().encode([(b"x", b"v" * 4000)])
    ours.decode(big)
    tracemalloc.start()
    with pytest.raises(ConnectionFault) as caught:
        ours.decode(b"\xbe" * 60_000)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert caught.value.code == ErrorCode.ENHANCE_YOUR_CALM
    assert peak < 1_000_000


def test_blocks_of_ours_are_read_by_the_library():
    assert Decoder().decode(fields.RESPONSE) == [
        (":status", "200"),
        ("content-type", "application/grpc"),
    ]
    assert Decoder().decode(fields.TRAILERS_OK) == [("grpc-status", "0")]
    refusal = Decoder().decode(fields.refusal(415, 13, "no"))
    assert dict(refusal) == {
        ":status": "415",
        "content-type": "application/grpc",
        "grpc-status": "13",
        "grpc-message": "no",
    }


@given(st.integers(0, 16), st.text(max_size=300))
def test_every_status_text_survives(code, text):
    decoded = dict(Decoder(1 << 20).decode(fields.trailers(code, text)))
    assert decoded["grpc-status"] == str(code)
    expected = text.encode("utf-8", "replace").decode()
    assert unquote(decoded.get("grpc-message", "")) == expected


def test_texts_are_percent_encoded():
    assert fields.encode_text("100% naïve\n") == b"100%25 na%C3%AFve%0A"
