"""Every message comes out of a frame as it went in, however the stream was cut."""

from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from raft.core.messages import InstallSnapshot, Message
from raft.core.types import Proposal
from raft.pb import peer_pb2 as pb
from raft.transport.codec import decode, encode
from raft.transport.frames import FrameReader, Kind, ProtocolError, frame
from raft.types import Entry, EntryKind, Index, MemberId, SnapshotMeta, Term

NUMBERS = some.integers(0, 2**64 - 1)
SENT = [message for message in get_args(Message) if message is not InstallSnapshot]

some.register_type_strategy(
    Entry, some.builds(Entry, NUMBERS, NUMBERS, some.binary(), some.sampled_from(EntryKind))
)
some.register_type_strategy(
    Proposal, some.builds(Proposal, some.binary(), some.sampled_from(EntryKind))
)
for name in (Index, Term, MemberId):
    some.register_type_strategy(name, NUMBERS)


@pytest.mark.parametrize("kind", SENT, ids=lambda kind: kind.__name__)
@given(data=some.data())
@settings(max_examples=40, deadline=None)
def test_every_message_comes_back(kind: type[Message], data: some.DataObject):
    numbers = {"session", "sequence", "round"} & set(kind.__dataclass_fields__)
    message = data.draw(some.builds(kind, **dict.fromkeys(numbers, NUMBERS)))
    head, body = encode(message)
    [(number, cut)] = FrameReader(1 << 20).feed(head + body)
    assert decode(message.sender, message.to, number, cut) == message


@given(
    bodies=some.lists(some.binary(max_size=300), max_size=20),
    cuts=some.lists(some.integers(1, 200), min_size=1, max_size=50),
)
@settings(deadline=None)
def test_frames_are_found_however_the_stream_is_cut(bodies: list[bytes], cuts: list[int]):
    stream = b"".join(frame(40 + number, body) for number, body in enumerate(bodies))
    reader = FrameReader(1_000)
    found = []
    while stream:
        size = cuts[len(found) % len(cuts)]
        piece, stream = stream[:size], stream[size:]
        found += reader.feed(piece)
    assert found == [(40 + number, body) for number, body in enumerate(bodies)]


def test_a_frame_that_is_too_large_is_refused_before_it_is_there():
    reader = FrameReader(100)
    assert reader.feed(frame(1, bytes(100))) == [(1, bytes(100))]
    with pytest.raises(ProtocolError, match="101 bytes came, at most 100"):
        reader.feed(frame(1, bytes(101))[:5])


def test_what_cannot_be_read_is_one_error():
    strange = pb.AppendRequest(entries=[pb.Entry(index=1, kind=9)]).SerializeToString()
    for kind, body in ((Kind.HEARTBEAT, b"\xff"), (99, b""), (Kind.APPEND_REQUEST, strange)):
        with pytest.raises(ProtocolError, match=f"a frame of kind {int(kind)} came"):
            decode(MemberId(1), MemberId(2), kind, body)


def test_a_snapshot_is_no_plain_message():
    meta = SnapshotMeta(Index(1), Term(1), None)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        encode(InstallSnapshot(MemberId(1), MemberId(2), Term(1), meta))
