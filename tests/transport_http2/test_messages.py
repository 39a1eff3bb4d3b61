"""gRPC's framing of messages, gzip, and sizes that are checked before memory is taken."""

import gzip
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvshim.errors import Code, RequestError
from kvshim.transport.http2.messages import MessageReader
from tests.transport_http2.peer import message


@given(st.lists(st.binary(max_size=50), max_size=6), st.data())
def test_messages_arrive_whole_however_they_are_cut(sent, data):
    wire = b"".join(message(item) for item in sent)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(wire)), max_size=12)))
    reader, read = MessageReader(1000, "identity"), []
    for begin, end in zip([0, *cuts], [*cuts, len(wire)], strict=True):
        read += reader.read(wire[begin:end])
    assert read == sent
    assert reader.held == 0


def test_what_is_held_is_told():
    reader = MessageReader(1000, "identity")
    assert reader.read(message(b"12345")[:7]) == []
    assert reader.held == 7


def refusal(reader: MessageReader, data: bytes) -> RequestError:
    with pytest.raises(RequestError) as caught:
        reader.read(data)
    return caught.value


@pytest.mark.parametrize("cut", [5, 3, 1000])
def test_a_message_over_the_limit_is_refused_by_its_prefix(cut):
    reader = MessageReader(10, "identity")
    wire = message(bytes(11))
    reader.read(wire[: cut % 5])
    error = refusal(reader, wire[cut % 5 :])
    assert error.code == Code.RESOURCE_EXHAUSTED
    assert error.message == "grpc: received message larger than max (11 vs. 10)"


def test_gzip_is_unpacked():
    reader = MessageReader(1000, "gzip")
    assert reader.read(message(gzip.compress(b"hello"), 1)) == [b"hello"]
    assert reader.read(message(b"plain")) == [b"plain"]


def test_a_small_message_cannot_unpack_to_a_huge_one():
    bomb = message(gzip.compress(bytes(200_000_000), 9), 1)
    reader = MessageReader(1_000_000, "gzip")
    tracemalloc.start()
    error = refusal(reader, bomb)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert error.code == Code.RESOURCE_EXHAUSTED
    assert peak < 5_000_000


@pytest.mark.parametrize(
    ("encoding", "data", "code"),
    [
        ("identity", message(b"x", 1), Code.INTERNAL),
        ("identity", message(b"x", 2), Code.INTERNAL),
        ("snappy", message(b"x", 1), Code.UNIMPLEMENTED),
        ("gzip", message(b"no gzip", 1), Code.INTERNAL),
        ("gzip", message(gzip.compress(b"x" * 100)[:-9], 1), Code.INTERNAL),
    ],
    ids=["flag without encoding", "unknown flag", "unknown encoding", "no gzip", "cut gzip"],
)
def test_messages_that_cannot_be_read(encoding, data, code):
    assert refusal(MessageReader(1000, encoding), data).code == code
