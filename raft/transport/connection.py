"""One TCP or TLS connection that carries frames. Event loop.

Frames go to `on_frames` as they come, all of one read at once; before that is set they wait for
`receive`, and while many wait, nothing is read: TCP then holds back the sender.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final, cast

from raft.transport.frames import Frame, FrameReader, Kind, ProtocolError, frame
from raft.transport.options import PeerCertificate

HELLO_BYTES_MAX: Final = 4_096
"""The largest frame before both sides know each other."""

_INBOX_BYTES_MAX: Final = 2 << 20
_WRITE_BUFFER_BYTES: Final = 1 << 20

PING: Final = frame(Kind.PING)
_PONG: Final = frame(Kind.PONG)
_PONG_AFTER_BYTES: Final = 256 << 10

FINISH_SECONDS_MAX: float = 1.0
"""How long the other side may take for what was written before the end."""


class ConnectionEnded(OSError):
    """The connection is gone; says why."""

    def __str__(self) -> str:
        return str(self.args[0])


class FrameConnection(asyncio.Protocol):
    """Frames in, frames out. Ends once, with a reason; `closed` is set then."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self._loop = loop
        self._reader = FrameReader(HELLO_BYTES_MAX)
        self._transport: asyncio.Transport | None = None
        self._inbox: deque[Frame] = deque()
        self._inbox_bytes = 0
        self._arrived = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self._unanswered_bytes = 0
        self.on_frames: Callable[[list[Frame]], None] | None = None
        self.on_writable: Callable[[], None] | None = None
        self.on_ended: Callable[[str], None] | None = None
        self.closed = asyncio.Event()
        self.reason = ""
        self.heard_at = loop.time()
        self.made_at = self.heard_at

    # What asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=_WRITE_BUFFER_BYTES)
        sock = transport.get_extra_info("socket")
        with suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.heard_at = self._loop.time()
        if self.reason:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self.heard_at = self._loop.time()
        try:
            frames = self._reader.feed(data)
            self._answer_pings(len(data), frames)
            if self.on_frames is not None:
                if frames:
                    self.on_frames(frames)
                return
        except ProtocolError as error:
            self.end(str(error))
            return
        self._keep(frames)

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()
        if self.on_writable is not None:
            self.on_writable()

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended(describe(exc) if exc else "the other side closed the connection")

    # What we call

    @property
    def writable(self) -> bool:
        """May more be written without piling up?"""
        return self._writable.is_set() and not self.reason

    @property
    def certificate(self) -> PeerCertificate | None:
        """The other side's, if it showed one and TLS verified it."""
        assert self._transport is not None
        tls: ssl.SSLObject | None = self._transport.get_extra_info("ssl_object")
        if tls is None or tls.context.verify_mode is ssl.CERT_NONE:
            return None
        der = tls.getpeercert(binary_form=True)
        return PeerCertificate(der) if der else None

    @property
    def encrypted(self) -> bool:
        """Is it TLS?"""
        assert self._transport is not None
        return self._transport.get_extra_info("ssl_object") is not None

    def allow(self, body_bytes_max: int) -> None:
        """How large frames may be from now on."""
        self._reader.body_bytes_max = body_bytes_max

    def deliver_to(self, on_frames: Callable[[list[Frame]], None]) -> None:
        """Hand frames over as they come, first those that wait. Raises `ProtocolError`."""
        waiting = list(self._inbox)
        self._inbox.clear()
        self._inbox_bytes = 0
        self.on_frames = on_frames
        if waiting:
            on_frames(waiting)
        self._resume_reading()

    async def receive(self) -> Frame:
        """The next frame. Raises `ConnectionEnded`."""
        while not self._inbox:
            if self.reason:
                raise ConnectionEnded(self.reason)
            self._arrived.clear()
            await self._arrived.wait()
        kind, body = self._inbox.popleft()
        self._inbox_bytes -= len(body)
        if self._inbox_bytes < _INBOX_BYTES_MAX // 2:
            self._resume_reading()
        return kind, body

    def write(self, data: bytes) -> None:
        """Send whole frames, as far as the connection still lives."""
        if self._transport is not None and not self.reason:
            self._transport.write(data)

    def write_all(self, pieces: Sequence[bytes]) -> None:
        """Send the pieces of frames in one go; TLS would encrypt each by itself."""
        if self._transport is not None and not self.reason:
            self._transport.write(b"".join(pieces))

    def end(self, reason: str) -> None:
        """Break it off at once; what was not sent yet is lost."""
        if self._transport is not None:
            self._transport.abort()
        self._ended(reason)

    def finish(self, reason: str) -> None:
        """Close it behind what was written; broken off if the other side does not take it."""
        if self._transport is not None and not self.reason:
            # To close twice leaves a TLS transport of Python 3.11.2 unable to abort.
            if not self._transport.is_closing():
                self._transport.close()
            self._loop.call_later(FINISH_SECONDS_MAX, self._transport.abort)
        self._ended(reason)

    def release(self) -> asyncio.Transport:
        """Give the transport away: what comes on it from now on is no frames, and not ours."""
        transport, self._transport = self._transport, None
        if transport is None or self.reason:
            raise ConnectionEnded(self.reason)
        transport.resume_reading()
        self._ended("it was given away")
        return transport

    async def part(self, reason: str) -> None:
        """Close it when the other side has, or after this long: for last words amid its data.

        Closing over data that was not read would reset the connection, and they would be lost.
        """
        self.on_frames = _ignore
        self._inbox.clear()
        self._resume_reading()
        with suppress(TimeoutError):
            async with asyncio.timeout(FINISH_SECONDS_MAX):
                await self.closed.wait()
        self.end(reason)

    def _ended(self, reason: str) -> None:
        if self.reason:
            return
        self.reason = reason
        self.closed.set()
        self._arrived.set()
        self._writable.set()
        if self.on_ended is not None:
            self.on_ended(reason)

    def _answer_pings(self, size: int, frames: list[Frame]) -> None:
        """A long transfer is answered too: a ping behind it could come too late."""
        self._unanswered_bytes += size
        pinged = self._unanswered_bytes >= _PONG_AFTER_BYTES
        for kind, _ in frames:
            if kind in (Kind.PING, Kind.PONG):
                pinged = pinged or any(kind == Kind.PING for kind, _ in frames)
                frames[:] = [item for item in frames if item[0] not in (Kind.PING, Kind.PONG)]
                break
        if pinged:
            self._unanswered_bytes = 0
            self.write(_PONG)

    def _keep(self, frames: list[Frame]) -> None:
        self._inbox.extend(frames)
        self._inbox_bytes += sum(len(body) for _, body in frames)
        if self._inbox_bytes > _INBOX_BYTES_MAX or len(self._inbox) > 1_000:
            assert self._transport is not None
            self._transport.pause_reading()
        self._arrived.set()

    def _resume_reading(self) -> None:
        if self._transport is not None and not self.reason:
            self._transport.resume_reading()


def _ignore(frames: list[Frame]) -> None:
    """Nothing that still comes matters."""


def describe(error: BaseException) -> str:
    """Why a connection failed, as a phrase."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate was not accepted: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed: {error.reason or error}"
    if isinstance(error, TimeoutError):
        return str(error) or "no answer in time"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
