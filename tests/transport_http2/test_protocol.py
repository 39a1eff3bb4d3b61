"""The connection on the event loop with real sockets: limits of time, backpressure, one write."""

import asyncio
import itertools
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from grpc.aio import AioRpcError

from kvshim.config import MetricsLevel
from kvshim.metrics.registry import Metrics
from kvshim.pb.etcd import rpc_pb2
from kvshim.rpc import Bidi, BidiCall, Call, SlicedBody, Unary
from kvshim.transport.http2 import frames
from kvshim.transport.http2 import server as server_module
from kvshim.transport.http2.connection import DRAIN_PING
from kvshim.transport.http2.limits import Limits
from kvshim.transport.http2.protocol import Http2Protocol
from kvshim.transport.http2.server import Http2Server
from kvshim.transport.http2.shares import TOO_MANY_BYTES, TOO_MANY_STREAMS
from kvshim.transport.options import ServerOptions
from tests.transport.serving import LOCAL, RANGE, SERVICE, Handlers, LogBook, eventually
from tests.transport_http2 import peer as p
from tests.transport_http2.peer import Peer, message, raw_frame

UNARY = SERVICE + "Unary"
GREETING = p.PREFACE + raw_frame(p.SETTINGS, 0, 0)
SLICE = bytes(range(256)) * 256


class Big:
    """Answers that are larger than any buffer."""

    def __init__(self, slices: int = 0) -> None:
        self.slices = slices
        self.sent = 0
        self.received = 0
        self.closed = False

    async def unary(self, request: Any, _call: Call) -> Any:
        if request.key == b"small":
            return b"small"
        if request.key == b"whole":
            return b"\x0a\x00" + bytes(20_000_000)
        lacking = int(request.key == b"short")
        return SlicedBody(len(SLICE) * self.slices + lacking, self._parts())

    async def bidi(self, call: BidiCall) -> None:
        size = len(SLICE)
        while (request := await call.receive()) is not None:
            assert isinstance(request, rpc_pb2.RangeRequest)
            self.received += len(request.key)
            size = request.limit or size
            if request.key == b"take all":
                continue
            for _ in range(self.slices):
                await call.send(SLICE[:size])
                self.sent += 1

    async def _parts(self) -> AsyncIterator[bytes]:
        try:
            for _ in range(self.slices):
                yield SLICE
                self.sent += 1
        finally:
            self.closed = True


@asynccontextmanager
async def served(
    handlers: Any, limits: Limits | None = None, **options: Any
) -> AsyncIterator[tuple[Http2Server, int, LogBook]]:
    methods = [
        Unary(UNARY, RANGE, handlers.unary),
        Bidi(SERVICE + "Bidi", RANGE, handlers.bidi),
    ]
    log = LogBook()
    server = Http2Server(
        methods,
        ServerOptions(listen_urls=(LOCAL,), **options),
        Metrics(MetricsLevel.BASIC).calls,
        log,
        limits,
    )
    [url] = server.bind()
    await server.start()
    try:
        yield server, url.port, log
    finally:
        await server.stop(0)


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
    try:
        yield reader, writer
    finally:
        writer.close()


async def ends(reader: asyncio.StreamReader, seconds: float = 5) -> bytes:
    """What is left to read; fails if the server does not end the connection in time."""
    heard = b""
    async with asyncio.timeout(seconds):
        try:
            while data := await reader.read(1 << 16):
                heard += data
        except ConnectionResetError:
            pass
    return heard


def reasons(log: LogBook) -> list[str]:
    return [fields["reason"] for _, _, fields in log.lines if "reason" in fields]


def ask(
    key: bytes,
    path: str = UNARY,
    stream_id: int = 1,
    flags: int = p.END_STREAM,
    limit: int = 0,
    **headers: str,
) -> bytes:
    block = Peer().encoder.encode(p.request_headers(path, **headers))
    body = message(RANGE(key=key, limit=limit).SerializeToString())
    return raw_frame(p.HEADERS, p.END_HEADERS, stream_id, block) + raw_frame(
        p.DATA, flags, stream_id, body
    )


@pytest.mark.parametrize(
    "said", [b"", p.PREFACE[:10], p.PREFACE], ids=["nothing", "half a preface", "a preface"]
)
async def test_a_client_that_does_not_begin_loses_its_connection(said):
    limits = Limits(preface_seconds_max=0.2)
    async with served(Handlers(), limits) as (_, port, log), connected(port) as (reader, writer):
        writer.write(said)
        await ends(reader)
        assert reasons(log) == ["no HTTP/2 preface in time"]


async def test_a_client_that_began_is_not_timed():
    limits = Limits(preface_seconds_max=0.2)
    async with served(Handlers(), limits) as (_, port, log), connected(port) as (reader, writer):
        writer.write(GREETING)
        await asyncio.sleep(0.4)
        writer.write(ask(b"four"))
        async with asyncio.timeout(5):
            await reader.readuntil(b"grpc-status")
        assert reasons(log) == []


async def test_another_protocol_is_told_goodbye():
    async with served(Handlers()) as (_, port, _), connected(port) as (reader, writer):
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        assert b"no HTTP/2 preface" in await ends(reader)


async def test_connections_are_limited():
    limits = Limits(connections_max=1)
    async with (
        served(Handlers(), limits) as (_, port, log),
        connected(port) as (first, _),
        connected(port) as (second, _),
    ):
        assert await ends(second) == b""
        assert reasons(log) == ["too many connections"]
        assert await first.read(9)


async def test_whoever_has_most_of_too_many_streams_is_ended_and_the_others_go_on():
    limits = Limits(server_streams_max=20)
    async with (
        served(Big(), limits) as (server, port, log),
        connected(port) as (many, opens_many),
        connected(port) as (few, opens_few),
    ):
        for writer, count, together in ((opens_many, 15, 15), (opens_few, 5, 20)):
            asks = (ask(b"x", SERVICE + "Bidi", 2 * n + 1, flags=0) for n in range(count))
            writer.write(GREETING + b"".join(asks))
            await eventually(lambda wanted=together: server._serving.shares.streams == wanted)
        opens_few.write(ask(b"x", SERVICE + "Bidi", 11, flags=0))
        assert TOO_MANY_STREAMS.encode() in await ends(many)
        assert reasons(log) == [f"ENHANCE_YOUR_CALM: {TOO_MANY_STREAMS}"]
        assert server._serving.shares.streams == 6
        opens_few.write(ask(b"small", stream_id=13))
        async with asyncio.timeout(5):
            await few.readuntil(b"grpc-status")


async def test_whoever_has_most_of_too_many_bytes_is_ended():
    limits = Limits(server_bytes_max=100_000)
    half = message(bytes(40_000))[:20_000]
    async with (
        served(Big(), limits) as (server, port, log),
        connected(port) as (many, sends_much),
        connected(port) as (_, sends_less),
    ):
        block = Peer().encoder.encode(p.request_headers(UNARY))
        for writer, count, left in ((sends_much, 4, 80_000), (sends_less, 2, 40_000)):
            writer.write(GREETING)
            for n in range(count):
                writer.write(raw_frame(p.HEADERS, p.END_HEADERS, 2 * n + 1, block))
                for first in range(0, len(half), 10_000):
                    writer.write(raw_frame(p.DATA, 0, 2 * n + 1, half[first : first + 10_000]))
            await eventually(lambda wanted=left: server._serving.shares.bytes == wanted)
        assert TOO_MANY_BYTES.encode() in await ends(many)
        assert server._serving.shares.bytes == 40_000
    assert reasons(log) == [f"ENHANCE_YOUR_CALM: {TOO_MANY_BYTES}"]


async def test_calls_that_have_ended_and_connections_that_are_gone_have_no_share():
    limits = Limits(server_streams_max=3)
    async with served(Big(), limits) as (server, port, log):
        for _ in range(5):
            async with connected(port) as (reader, writer):
                asks = b"".join(ask(b"x", SERVICE + "Bidi", 2 * n + 1, flags=0) for n in range(2))
                writer.write(GREETING + asks)
                for n in range(3, 10):
                    writer.write(ask(b"small", stream_id=2 * n + 1))
                    async with asyncio.timeout(5):
                        await reader.readuntil(b"grpc-status")
            await eventually(lambda: server._serving.shares.streams == 0)
        assert reasons(log) == []


async def test_a_client_that_reads_nothing_is_cut_off():
    limits = Limits(write_seconds_max=0.3)
    big = Big(slices=1000)
    async with served(big, limits) as (_, port, log), connected(port) as (reader, writer):
        window = b"\0\4\x7f\xff\xff\xff"
        writer.write(p.PREFACE + raw_frame(p.SETTINGS, 0, 0, window))
        writer.write(raw_frame(p.WINDOW_UPDATE, 0, 0, b"\x7f\0\0\0") + ask(b"sliced"))
        await asyncio.sleep(1)
        assert reasons(log) == ["the client takes no bytes"]
        assert big.closed
        assert big.sent < 300, "the handler waited for the socket"
        await ends(reader)


@pytest.mark.parametrize("size", [10_000, 60_000])
async def test_a_handler_waits_for_a_client_that_reads_nothing(size):
    big = Big(slices=100_000)
    async with served(big) as (server, port, _), connected(port) as (_, writer):
        writer.write(p.PREFACE + raw_frame(p.SETTINGS, 0, 0, b"\0\4\x7f\xff\xff\xff"))
        writer.write(raw_frame(p.WINDOW_UPDATE, 0, 0, b"\x7f\0\0\0"))
        writer.write(ask(b"x", SERVICE + "Bidi", limit=size))
        await asyncio.sleep(0.5)
        sent = big.sent
        assert 0 < sent * size < 20_000_000
        await asyncio.sleep(0.3)
        assert big.sent == sent
        [protocol] = server._serving.protocols
        assert protocol._transport is not None
        assert not protocol._transport.is_reading(), "nor can it ask for more"


async def test_a_sliced_body_that_comes_short_is_reset_and_never_ended():
    async with served(Big(slices=1)) as (_, port, log), connected(port) as (reader, writer):
        writer.write(GREETING + raw_frame(p.WINDOW_UPDATE, 0, 0, b"\0\1\0\0"))
        writer.write(ask(b"short") + raw_frame(p.WINDOW_UPDATE, 0, 1, b"\0\1\0\0"))
        async with asyncio.timeout(5):
            heard = await reader.readuntil(raw_frame(p.RST_STREAM, 0, 1, b"\0\0\0\2"))
        assert b"grpc-status" not in heard
        assert "came as" in str(log.lines[0][2]["exc_info"])


async def test_an_upload_of_many_messages_is_given_its_window_back():
    big = Big()
    async with served(big) as (_, port, _), channel_to(port) as channel:
        stream = channel.stream_stream(SERVICE + "Bidi", RANGE.SerializeToString)()
        async with asyncio.timeout(10):
            for _ in range(200):
                await stream.write(RANGE(key=bytes(10_000)))
            await stream.done_writing()
            assert await stream.code() == grpc.StatusCode.OK
        assert big.received == 2_000_000


async def test_a_client_that_opens_no_window_loses_the_stream():
    limits = Limits(stall_seconds_max=0.4)
    big = Big(slices=1000)
    async with served(big, limits) as (_, port, _), connected(port) as (reader, writer):
        writer.write(GREETING + ask(b"sliced"))
        async with asyncio.timeout(5):
            await reader.readuntil(raw_frame(p.RST_STREAM, 0, 1, b"\0\0\0\x08"))
        await asyncio.sleep(0.05)
        assert big.closed
        assert big.sent <= 2, "the handler waited for the window"
        writer.write(ask(b"sliced", stream_id=3))
        async with asyncio.timeout(5):
            await reader.readuntil(raw_frame(p.RST_STREAM, 0, 3, b"\0\0\0\x08"))


async def test_a_silent_client_is_pinged_and_then_cut_off():
    timing = {"keepalive_interval_seconds": 0.2, "keepalive_timeout_seconds": 0.2}
    async with served(Handlers(), **timing) as (_, port, log), connected(port) as (reader, writer):
        writer.write(GREETING)
        assert b"\0\0\x08\x06\0" in await ends(reader)
        assert reasons(log) == ["no answer to a keepalive ping"]


async def test_a_client_that_answers_pings_stays():
    timing = {"keepalive_interval_seconds": 0.1, "keepalive_timeout_seconds": 0.1}
    async with served(Handlers(), **timing) as (_, port, log), connected(port) as (reader, writer):
        writer.write(GREETING)
        async with asyncio.timeout(10):
            for _ in range(5):
                await reader.readuntil(b"\0\0\x08\x06\0\0\0\0\0")
                writer.write(raw_frame(p.PING, p.ACK, 0, await reader.readexactly(8)))
        assert reasons(log) == []


async def test_answers_do_not_wait_for_acknowledgements():
    async with served(Handlers()) as (server, port, _), connected(port) as (reader, _):
        assert await reader.read(9)
        [protocol] = server._serving.protocols
        assert protocol._transport is not None
        sock = protocol._transport.get_extra_info("socket")
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


async def test_answers_of_one_turn_leave_in_one_write(monkeypatch: pytest.MonkeyPatch):
    writes: list[bytes] = []
    record_writes(monkeypatch, writes)
    async with served(Handlers()) as (_, port, _), connected(port) as (reader, writer):
        writer.write(GREETING)
        await asyncio.sleep(0.05)
        writes.clear()
        writer.write(b"".join(ask(b"four", stream_id=2 * n + 1) for n in range(50)))
        async with asyncio.timeout(5):
            for _ in range(50):
                await reader.readuntil(b"grpc-status\x010")
        assert len(writes) <= 2


class Flooding(Handlers):
    """Sends so many KiB and says that nothing follows; `seen` is what was written by then."""

    def __init__(self, writes: list[bytes]) -> None:
        super().__init__()
        self.writes = writes
        self.seen: list[int] = []

    async def bidi(self, call: BidiCall) -> None:
        while (request := await call.receive()) is not None:
            assert isinstance(request, rpc_pb2.RangeRequest)
            self.writes.clear()
            for _ in range(request.limit):
                await call.send(bytes(1024))
            call.flush()
            self.seen.append(sum(map(len, self.writes)))


async def test_much_leaves_before_the_turn_ends_and_little_with_it(monkeypatch: pytest.MonkeyPatch):
    writes: list[bytes] = []
    record_writes(monkeypatch, writes)
    handlers = Flooding(writes)
    async with served(handlers) as (_, port, _), channel_to(port) as channel:
        call = channel.stream_stream(SERVICE + "Bidi", RANGE.SerializeToString)()
        for kib in (2, 20, 3):
            await call.write(RANGE(limit=kib))
            for _ in range(kib):
                await call.read()
    small, much, small_again = handlers.seen
    assert small == small_again == 0
    assert much > 20 * 1024


def record_writes(monkeypatch: pytest.MonkeyPatch, writes: list[bytes]) -> None:
    made = Http2Protocol.connection_made

    def watched(self: Http2Protocol, transport: Any) -> None:
        made(self, transport)
        plain = transport.write
        transport_write = lambda data: (writes.append(data), plain(data))  # noqa: E731
        monkeypatch.setattr(self, "_transport", Recorder(transport, transport_write))

    monkeypatch.setattr(Http2Protocol, "connection_made", watched)


class Recorder:
    """A transport whose writes are looked at."""

    def __init__(self, transport: Any, write: Any) -> None:
        self._transport = transport
        self.write = write

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


UNLIMITED = [("grpc.max_receive_message_length", -1), ("grpc.use_local_subchannel_pool", 1)]


def channel_to(port: int) -> Any:
    return grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=UNLIMITED)


def raw_unary(channel: Any) -> Any:
    """A call whose reply stays bytes."""
    return channel.unary_unary(UNARY, lambda m: m.SerializeToString(), None)


@pytest.mark.parametrize("key", [b"whole", b"sliced"])
async def test_large_responses_arrive_whole(key):
    async with served(Big(slices=400)) as (_, port, _), channel_to(port) as channel:
        answer = await raw_unary(channel)(RANGE(key=key), timeout=30)
    expected = SLICE * 400 if key == b"sliced" else b"\x0a\x00" + bytes(20_000_000)
    assert answer == expected


async def test_a_call_beside_a_large_response_does_not_wait_for_it():
    async with served(Big(slices=10_000)) as (_, port, _), channel_to(port) as channel:
        stream = channel.stream_stream(SERVICE + "Bidi", lambda m: m.SerializeToString(), None)()
        await stream.write(RANGE())
        for _ in range(10):
            await stream.read()
        assert await raw_unary(channel)(RANGE(key=b"small"), timeout=5) == b"small"
        stream.cancel()


async def test_a_burst_of_calls_is_read_in_turns_of_the_loop():
    """Given 200 KiB of requests in one segment, no turn of the loop begins more than a few."""
    handlers = Handlers()
    async with served(handlers) as (server, port, _), connected(port) as (reader, writer):
        writer.write(GREETING)
        async with asyncio.timeout(5):
            await reader.readuntil(raw_frame(p.SETTINGS, p.ACK, 0))
        [protocol] = server._serving.protocols
        one = len(ask(b"four"))
        burst = b"".join(ask(b"four", stream_id=2 * n + 1) for n in range(200_000 // one))
        protocol.data_received(burst)
        begun = [0]
        async with asyncio.timeout(10):
            while len(handlers.calls) < 200_000 // one:
                await asyncio.sleep(0)
                begun.append(len(handlers.calls))
        steps = [after - before for before, after in itertools.pairwise(begun)]
        assert max(steps) <= Limits().turn_bytes_max // one + 1
        answered = b""
        while answered.count(b"grpc-status") < 200_000 // one:
            async with asyncio.timeout(5):
                answered += await reader.read(1 << 20)


async def test_gzip_from_a_client_is_read():
    async with served(Handlers()) as (_, port, _), channel_to(port) as channel:
        call = channel.unary_unary(
            UNARY, lambda m: m.SerializeToString(), rpc_pb2.RangeResponse.FromString
        )
        request = RANGE(key=b"k" * 10_000)
        answer = await call(request, compression=grpc.Compression.Gzip, timeout=5)
        assert answer.count == 10_000
        with pytest.raises(AioRpcError) as caught:
            await call(request, compression=grpc.Compression.Deflate, timeout=5)
        assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED


async def test_a_lost_connection_ends_its_calls():
    handlers = Handlers()
    async with served(handlers) as (server, port, log), connected(port) as (_, writer):
        writer.write(GREETING + ask(b"wait"))
        await handlers.entered.wait()
        writer.transport.abort()
        async with asyncio.timeout(5):
            while handlers.cancelled != ["unary"]:  # noqa: ASYNC110 - a list, not an event
                await asyncio.sleep(0.01)
        assert server._running.tasks == set()
        assert log.lines == []


async def test_a_fault_ends_the_calls_of_its_connection():
    handlers = Handlers()
    async with served(handlers) as (_, port, _), connected(port) as (reader, writer):
        writer.write(GREETING + ask(b"wait"))
        await handlers.entered.wait()
        writer.write(raw_frame(p.PING, 0, 0, b"short"))
        assert b"PING of a bad length" in await ends(reader)
        assert handlers.cancelled == ["unary"]


@pytest.mark.parametrize("path", [UNARY, SERVICE + "Bidi"])
async def test_a_call_that_is_reset_before_its_handler_begins(path):
    handlers = Handlers()
    async with served(handlers) as (server, port, log), connected(port) as (reader, writer):
        reset = raw_frame(p.RST_STREAM, 0, 1, b"\0\0\0\x08")
        writer.write(GREETING + ask(b"wait", path, flags=0) + reset + ask(b"four", stream_id=3))
        async with asyncio.timeout(5):
            await reader.readuntil(b"grpc-status\x010")
        assert handlers.cancelled == []
        assert server._running.tasks == set()
        assert log.lines == []
        for protocol in server._serving.protocols:
            assert protocol.connection._lingering == 0
            assert protocol._calls == {}


async def test_a_deadline_that_has_passed_already():
    handlers = Handlers()
    async with served(handlers) as (_, port, _), connected(port) as (reader, writer):
        block = Peer().encoder.encode(p.request_headers(UNARY, grpc_timeout="0n"))
        writer.write(GREETING + raw_frame(p.HEADERS, p.END_HEADERS, 1, block))
        async with asyncio.timeout(5):
            await reader.readuntil(b"context deadline exceeded")
        assert handlers.calls == []


@pytest.mark.parametrize("flags", [0, p.END_STREAM])
async def test_a_unary_call_without_a_message(flags):
    async with served(Handlers()) as (_, port, _), connected(port) as (reader, writer):
        block = Peer().encoder.encode(p.request_headers(UNARY))
        writer.write(GREETING + raw_frame(p.HEADERS, p.END_HEADERS | flags, 1, block))
        if not flags:
            writer.write(raw_frame(p.DATA, p.END_STREAM, 1))
        async with asyncio.timeout(5):
            await reader.readuntil(b"unexpected EOF")


async def test_stopping_says_goodbye_to_idle_clients():
    async with served(Handlers()) as (server, port, _), connected(port) as (reader, writer):
        writer.write(GREETING)
        await asyncio.sleep(0.05)
        async with asyncio.timeout(2):
            await server.stop(5)
        assert raw_frame(p.GOAWAY, 0, 0, bytes(8)) in await ends(reader)


@asynccontextmanager
async def stopping(
    handlers: Any, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[bytes, asyncio.StreamReader, asyncio.StreamWriter]]:
    """A server that waits for its client to go elsewhere, what it said, and the client's side.

    In the end the server must have stopped, far sooner than it would wait.
    """
    monkeypatch.setattr(server_module, "DRAIN_SECONDS_MAX", 60)
    async with served(handlers) as (server, port, _), connected(port) as (reader, writer):
        writer.write(GREETING)
        await asyncio.sleep(0.05)
        stop = asyncio.create_task(server.stop(60))
        async with asyncio.timeout(5):
            yield await reader.readuntil(frames.ping(DRAIN_PING)), reader, writer
            await stop


async def test_a_call_that_was_under_way_when_the_server_stops_is_served(monkeypatch):
    async with stopping(Big(), monkeypatch) as (told, reader, writer):
        assert raw_frame(p.GOAWAY, 0, 0, b"\x7f\xff\xff\xff" + bytes(4)) in told
        writer.write(ask(b"small") + frames.ping_ack(DRAIN_PING))
        heard = await ends(reader)
    assert b"small" in heard
    assert b"grpc-status" in heard
    assert raw_frame(p.GOAWAY, 0, 0, b"\0\0\0\1" + bytes(4)) in heard


async def test_stopping_does_not_wait_for_clients_that_have_gone(monkeypatch):
    async with stopping(Handlers(), monkeypatch) as (_, _, writer):
        writer.close()
