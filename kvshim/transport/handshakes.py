"""TLS connections of a listening socket, whose handshakes are admitted at a limited rate.

A handshake costs the event loop about a millisecond, so that a thousand clients which come back at
once would hold up everybody else for a second. Here they wait in the kernel's queue for their turn,
and one that stays silent is counted as a connection from the start. Event loop only.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable

from raft.transport.pace import Pace

ACCEPT_RETRY_SECONDS = 1.0
"""After a failure of `accept`, which is the lack of descriptors or memory."""

ProtocolFactory = Callable[[], asyncio.BaseProtocol]
Admit = Callable[[], bool]
"""Whether there is room for one more connection; says so itself if there is none."""


class TlsListener:
    """Accepts until it is closed; connections that were given away go on."""

    def __init__(
        self,
        sock: socket.socket,
        context: ssl.SSLContext,
        protocol: ProtocolFactory,
        *,
        pace: Pace,
        handshake_seconds_max: float,
        admit: Admit,
    ) -> None:
        self._sock = sock
        self._context = context
        self._protocol = protocol
        self._pace = pace
        self._handshake_seconds_max = handshake_seconds_max
        self._admit = admit
        self._handshakes: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()
        self._accepting = self._loop.create_task(self._accept())
        self._accepting.add_done_callback(lambda _: sock.close())

    @property
    def handshakes(self) -> int:
        """Those under way."""
        return len(self._handshakes)

    def close(self) -> None:
        """Accept nobody more and end the handshakes that are under way."""
        self._accepting.cancel()
        for task in self._handshakes:
            task.cancel()

    async def _accept(self) -> None:
        while True:
            await self._pace.turn()
            try:
                connection, _ = await self._loop.sock_accept(self._sock)
            except OSError as error:
                # As asyncio reports it of the sockets that it accepts from itself.
                context = {"message": "cannot accept a connection", "exception": error}
                self._loop.call_exception_handler(context)
                await asyncio.sleep(ACCEPT_RETRY_SECONDS)
                continue
            if not self._admit():
                connection.close()
                continue
            task = self._loop.create_task(self._shake_hands(connection))
            self._handshakes.add(task)
            task.add_done_callback(self._handshakes.discard)

    async def _shake_hands(self, connection: socket.socket) -> None:
        """Give the connection to its protocol; one that fails is closed by asyncio."""
        with contextlib.suppress(OSError):
            await self._loop.connect_accepted_socket(
                self._protocol,
                connection,
                ssl=self._context,
                ssl_handshake_timeout=self._handshake_seconds_max,
            )
