"""What is fuzzed: a function for each parser that clients reach, and what must hold of any input.

A target takes bytes and returns; whatever it raises is a finding. The faults that a parser may
answer with are caught here, nothing else is. Pure code but for `http_1`, which needs a loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

from hpack import Decoder, HPACKError

from kvshim.errors import RequestError
from kvshim.gateway.mapping import parse, to_json
from kvshim.gateway.values import NotJson, ValueReader
from kvshim.http.connection import Connection as Http1Connection
from kvshim.http.limits import Limits as Http1Limits
from kvshim.pb.etcd import rpc_pb2
from kvshim.transport.codec import decode
from kvshim.transport.first_bytes import FirstBytes
from kvshim.transport.http2.events import Event
from kvshim.transport.http2.fields import FieldDecoder
from kvshim.transport.http2.limits import Limits
from kvshim.transport.http2.messages import GZIP, MessageReader
from kvshim.transport.http2.wire import PREFACE, ConnectionFault
from kvshim.transport.plain import Exchange
from tests.transport_http2.peer import Peer
from tests.transport_http2.sessions import answer_everything, check

MESSAGE_BYTES_MAX = 4096
HEADER_LIST_BYTES_MAX = Limits().header_list_bytes_max

OUTPUT_BYTES_MIN = 64 * 1024
OUTPUT_FACTOR_MAX = 64
"""A server may owe so much for each byte it was sent: a refusal is 200 bytes, a request 12."""

OURS_ALONE = ("table size changed", "too many table size", "headers over")
"""Faults of limits that the hpack library does not know."""

LOOP = asyncio.new_event_loop()


def connection(data: bytes) -> None:
    """A server that answers everything: no invariant breaks, no output runs away."""
    peer = _peer()
    for piece in _pieces(data):
        answer_everything(peer, peer.send(piece))
        peer.connection.sender.pump(1 << 20)
        check(peer)
    peer.connection.reset_stalled(peer.now + 1000)
    check(peer)
    owed = sum(map(len, peer.connection.sender.take()))
    assert owed <= OUTPUT_BYTES_MIN + OUTPUT_FACTOR_MAX * len(data), owed


def cuts(data: bytes) -> None:
    """Where TCP cuts the bytes changes neither events nor output."""
    whole, cut = _peer(), _peer()
    at_once = list(map(_fact, whole.send(data[1:])))
    piecewise = [_fact(event) for piece in _pieces(data) for event in cut.send(piece)]
    assert at_once == piecewise
    assert b"".join(whole.connection.sender.take()) == b"".join(cut.connection.sender.take())


def fields(data: bytes) -> None:
    """Blocks of one connection, by our decoder and by the library's: the same fields."""
    ours = FieldDecoder(HEADER_LIST_BYTES_MAX)
    theirs = Decoder(max_header_list_size=HEADER_LIST_BYTES_MAX)
    for block in _blocks(data):
        expected: list[tuple[bytes, bytes]] | None
        try:
            expected = [(bytes(n), bytes(v)) for n, v in theirs.decode(block, raw=True)]
        except (HPACKError, IndexError, ValueError):
            expected = None
        try:
            read = ours.decode(block)
        except ConnectionFault as caught:
            fault = caught.text
        else:
            fault = ""
        if fault:
            assert expected is None or fault.startswith(OURS_ALONE), (fault, expected)
            return
        assert read == expected
        assert sum(len(n) + len(v) + 32 for n, v in read) <= HEADER_LIST_BYTES_MAX


def messages(data: bytes) -> None:
    """gRPC messages in DATA, packed too: none larger than allowed, those read are decoded."""
    reader = MessageReader(MESSAGE_BYTES_MAX, GZIP)
    try:
        for piece in _pieces(data):
            for message in reader.read(piece):
                assert len(message) <= MESSAGE_BYTES_MAX
                decode(rpc_pb2.TxnRequest, message, MESSAGE_BYTES_MAX)
            assert reader.held <= MESSAGE_BYTES_MAX + 5
    except RequestError:
        pass


def first_bytes(data: bytes) -> None:
    """HTTP/2 if all of its preface came, undecided while it may come, else HTTP/1.1."""
    LOOP.run_until_complete(_first_bytes(data))


async def _first_bytes(data: bytes) -> None:
    given: list[tuple[str, bytes]] = []
    protocol = FirstBytes(
        lambda _, first: given.append(("2", first)),
        lambda _, first: given.append(("1", first)),
        set(),
        60.0,
        lambda: True,
    )
    protocol.connection_made(_Transport())
    came = b""
    for piece in _pieces(data):
        if given:
            break
        came += piece
        protocol.data_received(piece)
    protocol.connection_lost(None)
    if came.startswith(PREFACE):
        assert given == [("2", came)]
    elif PREFACE.startswith(came):
        assert given == []
    else:
        assert given == [("1", came)]


def http_1(data: bytes) -> None:
    """Requests of HTTP/1.1 to an application that reads their bodies."""
    LOOP.run_until_complete(_http_1(data))


async def _http_1(data: bytes) -> None:
    reader, transport = asyncio.StreamReader(), _Transport()
    protocol = asyncio.StreamReaderProtocol(reader)
    protocol.connection_made(transport)
    writer = asyncio.StreamWriter(transport, protocol, reader, LOOP)
    for piece in _pieces(data):
        reader.feed_data(piece)
    reader.feed_eof()
    await Http1Connection(reader, writer, _Reading(), Http1Limits()).serve()
    assert transport.written <= OUTPUT_BYTES_MIN + OUTPUT_FACTOR_MAX * len(data)


class _Reading:
    async def answer(self, exchange: Exchange) -> None:
        size = 0
        while data := await exchange.receive():
            size += len(data)
        body = str(size).encode()
        await exchange.begin(200, [("Content-Length", str(len(body)))])
        await exchange.send(body)


def json(data: bytes) -> None:
    """Bodies of the gateway: what is understood comes out again as JSON of the same meaning."""
    reader = ValueReader(MESSAGE_BYTES_MAX)
    try:
        for piece in _pieces(data):
            for value in reader.read(piece):
                message = parse(rpc_pb2.TxnRequest, value)
                assert parse(rpc_pb2.TxnRequest, to_json(message).encode()) == message
    except NotJson:
        pass


TARGETS: tuple[Callable[[bytes], None], ...] = (
    connection, cuts, fields, messages, first_bytes, http_1, json,
)  # fmt: skip


def run(data: bytes) -> None:
    """The first byte chooses the target; the rest is its input."""
    if data:
        TARGETS[data[0] % len(TARGETS)](data[1:])


def _peer() -> Peer:
    return Peer(greet=False, message_bytes_max=MESSAGE_BYTES_MAX)


def _pieces(data: bytes) -> Iterator[bytes]:
    """The input without its first byte, which says how long a piece is."""
    if data:
        size, rest = data[0] + 1, data[1:]
        for begin in range(0, len(rest), size):
            yield rest[begin : begin + size]


def _blocks(data: bytes) -> Iterator[bytes]:
    """Each behind a byte of length."""
    while data:
        yield data[1 : data[0] + 1]
        data = data[data[0] + 1 :]


def _fact(event: Event) -> tuple[Any, ...]:
    """An event, comparable between two connections."""
    facts = event._asdict()
    stream, error = facts.pop("stream", None), facts.pop("error", None)
    return type(event), stream and (stream.id, stream.head), str(error), *facts.values()


class _Transport(asyncio.Transport):
    """Counts what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = 0

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += len(data)

    def is_closing(self) -> bool:
        return False

    def close(self) -> None:
        pass

    def abort(self) -> None:
        pass
