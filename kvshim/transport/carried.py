"""Clients that are served by another member than the one they connected to. Event loop only.

`CarryingFront` is the side without data: it ends the client's TLS, checks its certificate by this
member's flags, and from then on carries bytes to a member that serves them. `CarriedTransport` is
how the serving side sees such a client: with the address and the certificate that it has, not with
those of the member between. Neither side looks into what is carried, so every call, stream and
page works, and the pace is the client's own.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterable
from typing import Protocol

from kvshim.errors import RequestError
from kvshim.transport.client_certs import ClientCertificatePolicy, peer_certificate
from raft.transport import CarriedClient

Carry = Callable[[CarriedClient], Awaitable[asyncio.Transport]]
"""Find a member that serves this client. Raises `OSError` when there is none."""

SILENT_SECONDS_MAX = 10
"""After which TCP gives up a member that takes nothing or answers no probe."""


class Detour(Protocol):
    """Who serves the clients of this member."""

    def wanted(self) -> bool:
        """Is it another one?"""

    async def carry(self, client: CarriedClient) -> asyncio.Transport:
        """`Carry`."""


class CarryingFront:
    """The open connections of clients that another member serves."""

    def __init__(
        self, carry: Carry, policy: ClientCertificatePolicy | None, connections_max: int
    ) -> None:
        self._carry = carry
        self._policy = policy
        self._connections_max = connections_max
        self._open: set[_Carrying] = set()

    def __len__(self) -> int:
        return len(self._open)

    def protocol(self) -> asyncio.Protocol:
        """For a connection that has come in."""
        return _Carrying(self)

    def close(self) -> None:
        """End all of them."""
        for carrying in list(self._open):
            carrying.close()

    def admit(self, carrying: _Carrying, transport: asyncio.Transport) -> CarriedClient | None:
        """Who the client is; None for one that is not welcome."""
        if len(self._open) >= self._connections_max:
            return None
        self._open.add(carrying)
        secured = transport.get_extra_info("ssl_object")
        certificate = b""
        if secured is not None:
            certificate = secured.getpeercert(binary_form=True) or b""
            try:
                if self._policy is not None:
                    self._policy.admit(peer_certificate(secured))
            except RequestError:
                return None
        address = transport.get_extra_info("peername")
        host, port = address[:2] if isinstance(address, tuple) else ("", 0)
        return CarriedClient(host, port, secured is not None, certificate)

    def forget(self, carrying: _Carrying) -> None:
        """It has ended."""
        self._open.discard(carrying)

    async def carry(self, client: CarriedClient) -> asyncio.Transport:
        """See `Carry`."""
        return await self._carry(client)


class _Carrying(asyncio.Protocol):
    """One client: no more is read than comes first until there is somewhere to carry it."""

    def __init__(self, front: CarryingFront) -> None:
        self._front = front
        self._near: asyncio.Transport | None = None
        self._far: asyncio.Transport | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._early = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        client = self._front.admit(self, transport)
        if client is None:
            transport.abort()
            return
        self._near = transport
        self._connecting = asyncio.create_task(self._connect(transport, client))

    def data_received(self, data: bytes) -> None:
        if self._far is not None:
            self._far.write(data)
        elif self._near is not None:
            # Not when the connection is made: asyncio of Python 3.11.2 reads on after that.
            self._near.pause_reading()
            self._early += data

    def pause_writing(self) -> None:
        if self._far is not None:
            self._far.pause_reading()

    def resume_writing(self) -> None:
        if self._far is not None:
            self._far.resume_reading()

    def connection_lost(self, _error: Exception | None) -> None:
        self._front.forget(self)
        if self._connecting is not None:
            self._connecting.cancel()
        if self._far is not None:
            self._far.close()
        self._near = self._far = None

    def close(self) -> None:
        """End it; the client connects anew."""
        if self._near is not None:
            self._near.close()

    async def _connect(self, near: asyncio.Transport, client: CarriedClient) -> None:
        try:
            far = await self._front.carry(client)
        except OSError:
            near.abort()
            return
        _notice_silence(far)
        far.set_protocol(_Back(near, far))
        self._far = far
        far.write(self._early)
        self._early = b""
        near.resume_reading()


class _Back(asyncio.Protocol):
    """What comes back from the member that serves."""

    def __init__(self, near: asyncio.Transport, far: asyncio.Transport) -> None:
        self._near = near
        self._far = far

    def data_received(self, data: bytes) -> None:
        self._near.write(data)

    def pause_writing(self) -> None:
        self._near.pause_reading()

    def resume_writing(self) -> None:
        self._near.resume_reading()

    def connection_lost(self, _error: Exception | None) -> None:
        self._near.close()


def _notice_silence(transport: asyncio.Transport) -> None:
    """A member that has vanished sends no end: TCP is to notice in seconds, not in minutes."""
    sock = transport.get_extra_info("socket")
    if sock is None:
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (
        ("TCP_KEEPIDLE", SILENT_SECONDS_MAX // 2),
        ("TCP_KEEPINTVL", 1),
        ("TCP_USER_TIMEOUT", SILENT_SECONDS_MAX * 1_000),
    ):
        if hasattr(socket, option):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)


class _ClientTls:
    """The TLS of the client's own connection, as far as anybody asks about it."""

    def __init__(self, certificate: bytes) -> None:
        self._certificate = certificate

    def getpeercert(self, binary_form: bool = False) -> bytes | None:  # noqa: FBT001, FBT002 - as ssl has it
        """The certificate in DER; nobody here asks for it in another form."""
        assert binary_form
        return self._certificate or None

    def selected_alpn_protocol(self) -> str | None:
        """Not said: the first bytes tell, and nothing may be written before them."""
        return None


class CarriedTransport(asyncio.Transport):
    """A connection between members that is a client's: all but who it is goes to the real one."""

    def __init__(self, real: asyncio.Transport, client: CarriedClient) -> None:
        super().__init__()
        self._real = real
        self._client = client

    def get_extra_info(self, name: str, default: object = None) -> object:
        """The client's address and TLS; the socket is the real one."""
        match name:
            case "peername":
                return (self._client.host, self._client.port)
            case "ssl_object":
                encrypted = self._client.encrypted
                return _ClientTls(self._client.certificate) if encrypted else default
            case "peercert" | "cipher" | "sslcontext" | "compression":
                return default
            case _:
                return self._real.get_extra_info(name, default)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._real.write(data)

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        self._real.writelines(list_of_data)

    def is_closing(self) -> bool:
        return self._real.is_closing()

    def close(self) -> None:
        self._real.close()

    def abort(self) -> None:
        self._real.abort()

    def is_reading(self) -> bool:
        return self._real.is_reading()

    def pause_reading(self) -> None:
        self._real.pause_reading()

    def resume_reading(self) -> None:
        self._real.resume_reading()

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._real.set_protocol(protocol)

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._real.get_protocol()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._real.set_write_buffer_limits(high=high, low=low)

    def get_write_buffer_size(self) -> int:
        return self._real.get_write_buffer_size()

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._real.get_write_buffer_limits()

    def can_write_eof(self) -> bool:
        return False
