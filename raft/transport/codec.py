"""Raft's messages <-> frames.

Sender and receiver are not in the frame: they are the connection's. Every body is one message of
`protos/raft/peer.proto`.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import Any, Final

from google.protobuf.message import DecodeError

from raft.core.messages import (
    AppendRejected,
    AppendRequest,
    AppendResponse,
    Forward,
    ForwardRefused,
    Heartbeat,
    HeartbeatResponse,
    Message,
    NewerTerm,
    PreVoteRequest,
    PreVoteResponse,
    ReadIndexRequest,
    ReadIndexResponse,
    TimeoutNow,
    VoteRequest,
    VoteResponse,
)
from raft.core.types import Proposal
from raft.pb import peer_pb2 as pb
from raft.transport.frames import Kind, ProtocolError, head
from raft.types import Entry, EntryKind, Index, MemberId, Term

_Encode = Callable[[Any], bytes]
_Decode = Callable[[MemberId, MemberId, bytes], Message]

_Maker = Callable[..., Any]

_KINDS: Final = tuple(EntryKind)

# Messages of plain numbers: their fields, without sender and receiver, are those of the protobuf.
# An `AppendResponse` is one too, but so frequent that it is written out below.
_PLAIN: Final[dict[type, tuple[Kind, Any, tuple[str, ...]]]] = {
    PreVoteRequest: (Kind.PRE_VOTE_REQUEST, pb.PreVoteRequest, ("last_index", "last_term")),
    PreVoteResponse: (Kind.PRE_VOTE_RESPONSE, pb.PreVoteResponse, ("granted",)),
    VoteRequest: (Kind.VOTE_REQUEST, pb.VoteRequest, ("last_index", "last_term", "transfer")),
    VoteResponse: (Kind.VOTE_RESPONSE, pb.VoteResponse, ("granted",)),
    AppendRejected: (
        Kind.APPEND_REJECTED,
        pb.AppendRejected,
        ("index", "hint_index", "hint_term"),
    ),
    Heartbeat: (Kind.HEARTBEAT, pb.Heartbeat, ("commit", "round", "quiet")),
    HeartbeatResponse: (Kind.HEARTBEAT_RESPONSE, pb.HeartbeatResponse, ("round",)),
    NewerTerm: (Kind.NEWER_TERM, pb.NewerTerm, ()),
    TimeoutNow: (Kind.TIMEOUT_NOW, pb.TimeoutNow, ()),
    ForwardRefused: (Kind.FORWARD_REFUSED, pb.ForwardRefused, ("session", "sequence")),
    ReadIndexRequest: (Kind.READ_INDEX_REQUEST, pb.ReadIndexRequest, ("session", "sequence")),
    ReadIndexResponse: (
        Kind.READ_INDEX_RESPONSE,
        pb.ReadIndexResponse,
        ("session", "sequence", "index"),
    ),
}


def encode(message: Message) -> tuple[bytes, bytes]:
    """The head and the body of the frame, apart, so that a large body is not copied again.

    Raises TypeError for an `InstallSnapshot`, which only travels with its file.
    """
    coder = _ENCODERS.get(type(message))
    if coder is None:
        raise TypeError(f"{type(message).__name__} is not sent as a message")
    kind, encoder = coder
    body = encoder(message)
    return head(kind, len(body)), body


def decode(sender: MemberId, to: MemberId, kind: int, body: bytes) -> Message:
    """The message of a frame. Raises `ProtocolError`."""
    decoder = _DECODERS.get(kind)
    if decoder is None:
        raise ProtocolError(f"a frame of kind {kind} came, which means nothing here")
    try:
        return decoder(sender, to, body)
    except (DecodeError, IndexError) as error:
        raise ProtocolError(f"a frame of kind {kind} came that cannot be read: {error}") from None


def _plain_encoder(wire: _Maker, names: tuple[str, ...]) -> _Encode:
    fields = ("term", *names)
    # An attrgetter of one name gives no tuple.
    values = attrgetter(*fields) if names else lambda message: (message.term,)

    def encoder(message: Message) -> bytes:
        body: bytes = wire(**dict(zip(fields, values(message), strict=True))).SerializeToString()
        return body

    return encoder


def _plain_decoder(message: _Maker, wire: _Maker, names: tuple[str, ...]) -> _Decode:
    parse = attrgetter("FromString")(wire)
    values = attrgetter("term", *names) if names else lambda parsed: (parsed.term,)

    def decoder(sender: MemberId, to: MemberId, body: bytes) -> Message:
        decoded: Message = message(sender, to, *values(parse(body)))
        return decoded

    return decoder


def _encode_append(message: AppendRequest) -> bytes:
    wire = pb.AppendRequest(
        term=message.term,
        prev_index=message.prev_index,
        prev_term=message.prev_term,
        commit=message.commit,
    )
    add = wire.entries.add
    for entry in message.entries:
        add(index=entry.index, term=entry.term, data=entry.data, kind=entry.kind)
    return wire.SerializeToString()


def _decode_append(sender: MemberId, to: MemberId, body: bytes) -> AppendRequest:
    wire = pb.AppendRequest.FromString(body)
    entries = tuple(
        [
            Entry(Index(entry.index), Term(entry.term), entry.data, _KINDS[entry.kind])
            for entry in wire.entries
        ]
    )
    return AppendRequest(
        sender,
        to,
        Term(wire.term),
        Index(wire.prev_index),
        Term(wire.prev_term),
        entries,
        Index(wire.commit),
    )


def _encode_append_response(message: AppendResponse) -> bytes:
    return pb.AppendResponse(term=message.term, index=message.index).SerializeToString()


def _decode_append_response(sender: MemberId, to: MemberId, body: bytes) -> AppendResponse:
    wire = pb.AppendResponse.FromString(body)
    return AppendResponse(sender, to, Term(wire.term), Index(wire.index))


def _encode_forward(message: Forward) -> bytes:
    wire = pb.Forward(term=message.term, session=message.session, sequence=message.sequence)
    for proposal in message.proposals:
        wire.proposals.add(data=proposal.data, kind=proposal.kind)
    return wire.SerializeToString()


def _decode_forward(sender: MemberId, to: MemberId, body: bytes) -> Forward:
    wire = pb.Forward.FromString(body)
    proposals = tuple([Proposal(item.data, _KINDS[item.kind]) for item in wire.proposals])
    return Forward(sender, to, Term(wire.term), wire.session, wire.sequence, proposals)


_ENCODERS: Final[dict[type, tuple[Kind, _Encode]]] = {
    message: (kind, _plain_encoder(wire, names)) for message, (kind, wire, names) in _PLAIN.items()
}
_ENCODERS[AppendRequest] = Kind.APPEND_REQUEST, _encode_append
_ENCODERS[AppendResponse] = Kind.APPEND_RESPONSE, _encode_append_response
_ENCODERS[Forward] = Kind.FORWARD, _encode_forward

_DECODERS: Final[dict[int, _Decode]] = {
    int(kind): _plain_decoder(message, wire, names)
    for message, (kind, wire, names) in _PLAIN.items()
}
_DECODERS[Kind.APPEND_REQUEST] = _decode_append
_DECODERS[Kind.APPEND_RESPONSE] = _decode_append_response
_DECODERS[Kind.FORWARD] = _decode_forward
