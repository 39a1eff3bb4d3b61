"""One connection on the event loop: bytes of a transport to `Connection`, its events to runners.

Everything that calls send in one turn of the loop leaves in one write. While the socket does not
take what is written, nothing is read and handlers that send wait. Every wait for the client has a
limit of time.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from kvshim.errors import Code
from kvshim.transport.client_certs import (
    CertificateRefused,
    ClientCertificatePolicy,
    common_name_of,
    peer_certificate,
)
from kvshim.transport.codec import unknown_path
from kvshim.transport.http2 import frames
from kvshim.transport.http2.call import Http2Call
from kvshim.transport.http2.connection import Connection, ConnectionOptions
from kvshim.transport.http2.events import (
    CallOpened,
    CallReset,
    ConnectionFailed,
    Drained,
    Event,
    HalfClosed,
    MessageReceived,
    RequestRefused,
)
from kvshim.transport.http2.plain import PlainRunner
from kvshim.transport.http2.runner import MethodRunner
from kvshim.transport.http2.shares import Shares
from kvshim.transport.http2.wire import ConnectionFault, ErrorCode

LINGER_SECONDS = 1.0
"""After GOAWAY for a fault: input is read and dropped, since closing at once could discard it."""

STALL_CHECKS = 4
"""How often a stall is looked for in the time that it may last."""

PING_PAYLOAD = b"kvshim!?"


@dataclass(slots=True)
class Serving:
    """What all connections of one server share."""

    loop: asyncio.AbstractEventLoop
    runners: Mapping[str, MethodRunner]
    services: frozenset[str]
    options: ConnectionOptions
    policy: ClientCertificatePolicy | None
    keepalive_interval_seconds: float
    keepalive_timeout_seconds: float
    reject: Callable[[str], None]
    """Told why a connection is ended."""
    shares: Shares
    plain: PlainRunner | None = None
    """Answers what is no call."""
    protocols: set[Http2Protocol] = field(default_factory=set)
    none_left: asyncio.Event = field(default_factory=asyncio.Event)
    """Set whenever the last connection is gone."""


class Http2Protocol(asyncio.Protocol):
    """Drives one connection from its transport being made to its being lost."""

    def __init__(self, serving: Serving) -> None:
        self._serving = serving
        self._limits = serving.options.limits
        self._loop = serving.loop
        self.connection = Connection(serving.options)
        self._share = serving.shares.take(self._shed)
        self.peer = ""
        self._transport: asyncio.Transport | None = None
        self._certificate: bytes | None = None
        self._is_secure = False
        self._calls: dict[int, tuple[Http2Call, MethodRunner | PlainRunner]] = {}
        self._is_paused = False
        self._unread = b""
        """What came and waits for its turn."""
        self._is_flush_due = False
        self._room: asyncio.Event | None = None
        """Set when the socket takes more; made when somebody waits for that."""
        self._drained: asyncio.Future[None] | None = None
        self._received_at = 0.0
        self._pinged_at = 0.0
        self._timers: dict[str, asyncio.TimerHandle] = {}

    # --- What asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        if len(self._serving.protocols) >= self._limits.connections_max:
            self._serving.reject("too many connections")
            transport.abort()
            return
        self._serving.protocols.add(self)
        self.peer = peer_name(transport.get_extra_info("peername"))
        secured = transport.get_extra_info("ssl_object")
        if secured is not None:
            self._is_secure = True
            self._certificate = _certificate(secured)
        _send_at_once(transport)
        transport.set_write_buffer_limits(high=self._limits.write_buffer_bytes)
        self._received_at = self._loop.time()
        self._after("preface", self._limits.preface_seconds_max, self._no_preface)
        if self._serving.keepalive_interval_seconds > 0:
            self._after("keepalive", self._serving.keepalive_interval_seconds, self._keep_alive)
        self.flush_soon()

    def data_received(self, data: bytes) -> None:
        self._received_at = now = self._loop.time()
        if len(data) > self._limits.turn_bytes_max:
            data = self._share_of_turn(data)
        connection = self.connection
        is_flush_due, self._is_flush_due = self._is_flush_due, True  # at the end of this, if not
        for event in connection.receive(data, now):
            self._obey(event)
        if connection.is_established and "preface" in self._timers:
            self._cancel_timer("preface")
        if not is_flush_due:
            self.flush()

    def pause_writing(self) -> None:
        self._is_paused = True
        assert self._transport is not None
        self._transport.pause_reading()
        self._after("write", self._limits.write_seconds_max, self._cut)

    def resume_writing(self) -> None:
        self._is_paused = False
        assert self._transport is not None
        self._cancel_timer("write")
        self._resume_reading()
        self.flush_soon()

    def connection_lost(self, _error: Exception | None) -> None:
        self._serving.protocols.discard(self)
        if not self._serving.protocols:
            self._serving.none_left.set()
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        self._reset_calls()
        self._tell_drained()
        self._serving.shares.give_back(self._share)
        self._transport = None

    # --- What calls and the server call

    @property
    def is_secure(self) -> bool:
        return self._is_secure

    @cached_property
    def common_name(self) -> str | None:
        return None if self._certificate is None else common_name_of(self._certificate)

    @property
    def is_full(self) -> bool:
        sender = self.connection.sender
        return self._is_paused or sender.output_bytes > self._limits.write_buffer_bytes

    def flush(self) -> None:
        self._is_flush_due = False
        transport, sender = self._transport, self.connection.sender
        if transport is None or self._is_paused or transport.is_closing():
            return
        if sender.has_backlog:
            for stream in sender.pump(self._limits.write_buffer_bytes):
                known = self._calls.get(stream.id)
                if known is not None and known[0].room is not None:
                    known[0].room.set()
        if sender.output:
            transport.write(b"".join(sender.take()))
        self._account()
        if self._is_paused:
            return
        if self._room is not None:
            self._room.set()
            self._room = None
        if sender.has_backlog:
            self.flush_soon()
        elif self.connection.streams.queued and "stall" not in self._timers:
            self._watch_for_stalls()

    def flush_soon(self) -> None:
        if not self._is_flush_due:
            self._is_flush_due = True
            self._loop.call_soon(self.flush)

    async def room(self) -> None:
        if self._room is None:
            self._room = asyncio.Event()
        await self._room.wait()

    def admit(self) -> None:
        policy = self._serving.policy
        if policy is None or not self._is_secure:
            return
        if self._certificate is None:
            raise CertificateRefused
        policy.admit(self._certificate)

    def forget(self, call: Http2Call) -> None:
        self._calls.pop(call.stream.id, None)

    def drain(self) -> asyncio.Future[None]:
        """Ask the client to go elsewhere with new calls. Done when it does, or is gone."""
        if self._drained is None:
            self._drained = self._loop.create_future()
            self.connection.drain()
            self.flush_soon()
        return self._drained

    def refuse(self) -> None:
        """Take no more calls of this client."""
        self.connection.refuse()
        self.flush_soon()

    def close(self) -> None:
        """Write what there is, then close."""
        self.flush()
        # To close twice leaves a TLS transport of Python 3.11.2 unable to abort.
        if self._transport is not None and not self._transport.is_closing():
            self._transport.close()

    def abort(self) -> None:
        """Cut the connection; what is unsent is lost."""
        if self._transport is not None:
            self._transport.abort()

    # --- Inside

    def _account(self) -> None:
        connection, streams = self.connection, self.connection.streams
        if not connection.is_failed:
            held = streams.held + streams.queued
            self._serving.shares.resize(self._share, len(streams.open), held)

    def _shed(self, reason: str) -> None:
        self.connection.fail(ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, reason))
        self._failed(ErrorCode.ENHANCE_YOUR_CALM, reason)

    def _share_of_turn(self, data: bytes) -> bytes:
        """The first of these bytes; the rest is read in later turns, and nothing else before."""
        share = self._limits.turn_bytes_max
        self._unread = data[share:]
        assert self._transport is not None
        self._transport.pause_reading()
        self._loop.call_soon(self._resume_reading)
        return data[:share]

    def _resume_reading(self) -> None:
        """Go on with what came already, else with the socket; not while the client is too slow."""
        if self._transport is None or self._is_paused:
            return
        data, self._unread = self._unread, b""
        if len(data) <= self._limits.turn_bytes_max:
            self._transport.resume_reading()
        if data:
            self.data_received(data)

    def _obey(self, event: Event) -> None:
        match event:
            case MessageReceived(stream, data, is_last):
                known = self._calls.get(stream.id)
                if known is not None:
                    call, runner = known
                    runner.received(call, data)
                    if is_last:
                        runner.half_closed(call)
            case CallOpened(stream, timeout_seconds):
                opened_by: MethodRunner | PlainRunner | None
                if stream.head.refusal is None:
                    opened_by = self._serving.runners.get(stream.head.path)
                else:
                    opened_by = self._serving.plain
                if opened_by is None:
                    stream.is_discarding = True
                    text = unknown_path(stream.head.path, self._serving.services)
                    self.connection.sender.end(stream, Code.UNIMPLEMENTED, text)
                    return
                new = opened_by.opened(self, stream, timeout_seconds)
                self._calls[stream.id] = new, opened_by
            case HalfClosed(stream):
                known = self._calls.get(stream.id)
                if known is not None:
                    known[1].half_closed(known[0])
            case RequestRefused(stream, error):
                known = self._calls.get(stream.id)
                if known is not None:
                    known[1].refused(known[0], error)
            case CallReset(stream, _):
                known = self._calls.get(stream.id)
                if known is None:
                    self.connection.handler_ended()
                else:
                    known[1].reset(known[0])
            case ConnectionFailed(code, text):
                self._failed(code, text)
            case Drained():
                self._tell_drained()

    def _failed(self, code: ErrorCode, text: str) -> None:
        self._serving.reject(f"{code.name}: {text}")
        self._reset_calls()
        self.flush_soon()
        self._after("linger", LINGER_SECONDS, self.close)

    def _tell_drained(self) -> None:
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)

    def _reset_calls(self) -> None:
        for call, runner in list(self._calls.values()):
            runner.reset(call)

    def _after(self, name: str, seconds: float, action: Callable[[], None]) -> None:
        self._cancel_timer(name)
        self._timers[name] = self._loop.call_later(seconds, action)

    def _cancel_timer(self, name: str) -> None:
        timer = self._timers.pop(name, None)
        if timer is not None:
            timer.cancel()

    def _no_preface(self) -> None:
        self._serving.reject("no HTTP/2 preface in time")
        self.abort()

    def _cut(self) -> None:
        self._serving.reject("the client takes no bytes")
        self.abort()

    def _watch_for_stalls(self) -> None:
        self._timers.pop("stall", None)
        if not self.connection.streams.queued:
            return
        for event in self.connection.reset_stalled(self._loop.time()):
            self._obey(event)
        self.flush_soon()
        seconds = self._limits.stall_seconds_max / STALL_CHECKS
        self._after("stall", seconds, self._watch_for_stalls)

    def _keep_alive(self) -> None:
        """Ping a client that was silent for the whole interval; cut it if it stays silent."""
        interval = self._serving.keepalive_interval_seconds
        silent = self._loop.time() - self._received_at
        if silent < interval:
            self._after("keepalive", interval - silent, self._keep_alive)
            return
        self.connection.sender.control(frames.ping(PING_PAYLOAD))
        self.flush_soon()
        self._pinged_at = self._loop.time()
        self._after("keepalive", self._serving.keepalive_timeout_seconds, self._check_alive)

    def _check_alive(self) -> None:
        if self._received_at < self._pinged_at:
            self._serving.reject("no answer to a keepalive ping")
            self.abort()
        else:
            self._keep_alive()


def _send_at_once(transport: asyncio.Transport) -> None:
    """Switch Nagle's algorithm off, which makes an answer wait 40 ms for an acknowledgement.

    asyncio does so for sockets that name their protocol; those that we listen on do not.
    """
    sock = transport.get_extra_info("socket")
    if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def peer_name(address: object) -> str:
    """`host:port`, or the path of a Unix socket."""
    if not isinstance(address, tuple):
        return address if isinstance(address, str) else ""
    host, port = address[0], address[1]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _certificate(connection: ssl.SSLObject) -> bytes | None:
    try:
        return peer_certificate(connection)
    except CertificateRefused:
        return None
