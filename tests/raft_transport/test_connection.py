"""A connection's end, on transports as asyncio of Python 3.11.2 (Debian 12) has them."""

import asyncio
import socket

import pytest

from raft.transport import connection as module
from raft.transport.connection import FrameConnection


class TlsTransport(asyncio.Transport):
    """After the other side's close; a second close takes away what `abort` needs."""

    def __init__(self) -> None:
        super().__init__()
        self._socket = socket.socket()
        self.closed_again = False
        self.aborted = asyncio.Event()

    def get_extra_info(self, name: str, default: object = None) -> object:
        return self._socket if name == "socket" else default

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def is_closing(self) -> bool:
        return True

    def close(self) -> None:
        self.closed_again = True

    def abort(self) -> None:
        self._socket.close()
        assert not self.closed_again, "'NoneType' object has no attribute '_abort'"
        self.aborted.set()


async def test_what_the_other_side_has_closed_is_not_closed_again(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "FINISH_SECONDS_MAX", 0.01)
    transport, connection = TlsTransport(), FrameConnection()
    connection.connection_made(transport)
    connection.finish("all is said")
    async with asyncio.timeout(5):
        await transport.aborted.wait()
