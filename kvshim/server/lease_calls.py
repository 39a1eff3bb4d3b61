"""Renewing leases and telling their time on any member: only the leader counts it, others ask it.

`LeasePrimacy` makes the lessor primary while this member leads in a confirmed term; `LeaseCalls`
answers here when it is, and at the leader when it is not. Event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeAlias, TypeVar

from google.protobuf.message import DecodeError

from kvshim.errors import LeaseNotFound, NoLeader, RequestError, RequestTimedOut, Stopped
from kvshim.pb.etcd import rpc_pb2
from kvshim.server.leadership import Leadership
from kvshim.server.lessor import Lessor, NotPrimary
from kvshim.server.reader import Reader
from kvshim.types import LeaseID

KEEPALIVE_METHOD = "lease-keepalive"
TTL_METHOD = "lease-ttl"

PAUSE_SECONDS = 0.05
"""Between two tries to reach a leader, as in etcd."""

Forward: TypeAlias = Callable[[str, bytes], Awaitable[bytes]]
"""Call a method at the leader: (name, payload) -> reply. It may raise any error; it is tried again
until the request timeout, since neither call does harm twice."""

TRY_SECONDS = 2.0
"""For one call to a leader, which may have died meanwhile."""

_T = TypeVar("_T")


class LeasePrimacy:
    """Demotes the lessor when this member ceases to lead; promotes it once its term is confirmed.

    Confirmed means that the store has applied all that earlier leaders committed: also the
    renewals that cleared a checkpoint. Event loop.
    """

    def __init__(self, lessor: Lessor, reader: Reader, leadership: Leadership) -> None:
        self._lessor = lessor
        self._reader = reader
        self._leadership = leadership
        self._task: asyncio.Task[None] | None = None
        lessor.demote()
        leadership.on_change(self._follow)

    def stop(self) -> None:
        """Promote no more."""
        if self._task is not None:
            self._task.cancel()
            self._task = None

    def _follow(self) -> None:
        self.stop()
        self._lessor.demote()
        if self._leadership.leads:
            self._task = asyncio.get_running_loop().create_task(self._promote())

    async def _promote(self) -> None:
        while True:
            try:
                await self._reader.confirmed()
            except Stopped:
                return
            except RequestError:
                await asyncio.sleep(PAUSE_SECONDS)
            else:
                self._lessor.promote(self._leadership.election_seconds)
                return


class LeaseCalls:
    """`keep_alive` and `time_to_live` wherever they are asked; `handle_...` answer other members.

    Without `leadership` or `forward` it can only wait until this member counts itself.
    """

    def __init__(
        self,
        lessor: Lessor,
        reader: Reader,
        leadership: Leadership | None = None,
        forward: Forward | None = None,
        timeout_seconds: float = 7.0,
    ) -> None:
        self._lessor = lessor
        self._reader = reader
        self._leadership = leadership
        self._forward = forward
        self._timeout_seconds = timeout_seconds

    async def keep_alive(self, lease: LeaseID) -> int:
        """Renew; returns the time to live in seconds. Raises `LeaseNotFound` and, after the
        request timeout, `NoLeader` or `RequestTimedOut`.
        """
        return await self._wherever(
            lambda: self._renew_here(lease), lambda forward: _renew_there(forward, lease)
        )

    async def time_to_live(self, lease: LeaseID) -> tuple[int, int]:
        """(seconds left, granted seconds). Raises as `keep_alive` does."""
        return await self._wherever(
            lambda: self._look_here(lease), lambda forward: _look_there(forward, lease)
        )

    async def handle_keepalive(self, payload: bytes) -> bytes:
        """A follower asks: LeaseKeepAliveRequest in, LeaseKeepAliveResponse out, TTL 0 for a lease
        that does not exist. Raises `NoLeader` when this member is not primary.
        """
        request = _parsed(rpc_pb2.LeaseKeepAliveRequest, payload)
        response = rpc_pb2.LeaseKeepAliveResponse(ID=request.ID)
        try:
            response.TTL = await self._renew_here(LeaseID(request.ID))
        except LeaseNotFound:
            response.TTL = 0
        except NotPrimary:
            raise NoLeader from None
        return response.SerializeToString()

    async def handle_ttl(self, payload: bytes) -> bytes:
        """A follower asks: LeaseTimeToLiveRequest in, LeaseTimeToLiveResponse out, TTL -1 for a
        lease that does not exist; never with keys. Raises `NoLeader` when not primary.
        """
        request = _parsed(rpc_pb2.LeaseTimeToLiveRequest, payload)
        response = rpc_pb2.LeaseTimeToLiveResponse(ID=request.ID, TTL=-1)
        try:
            response.TTL, response.grantedTTL = await self._look_here(LeaseID(request.ID))
        except LeaseNotFound:
            response.TTL = -1
        except NotPrimary:
            raise NoLeader from None
        return response.SerializeToString()

    async def _renew_here(self, lease: LeaseID) -> int:
        if not self._lessor.primary:
            raise NotPrimary
        # Confirms that this member still leads and knows every lease granted before this call.
        await self._reader.confirmed()
        return await self._lessor.keep_alive(lease)

    async def _look_here(self, lease: LeaseID) -> tuple[int, int]:
        if not self._lessor.primary:
            raise NotPrimary
        await self._reader.confirmed()
        return self._lessor.time_to_live(lease)

    async def _wherever(
        self,
        here: Callable[[], Awaitable[_T]],
        there: Callable[[Forward], Awaitable[_T]],
    ) -> _T:
        try:
            return await here()
        except NotPrimary:
            pass
        leadership, forward = self._leadership, self._forward
        try:
            async with asyncio.timeout(self._timeout_seconds):
                while True:
                    if leadership is not None:
                        await leadership.known()
                    try:
                        if leadership is None or leadership.leads or forward is None:
                            return await here()
                        async with asyncio.timeout(TRY_SECONDS):
                            return await there(forward)
                    except (LeaseNotFound, Stopped):
                        raise
                    except Exception:
                        await asyncio.sleep(PAUSE_SECONDS)
        except TimeoutError:
            known = leadership is not None and leadership.has_leader
            raise (RequestTimedOut if known else NoLeader) from None


async def _renew_there(forward: Forward, lease: LeaseID) -> int:
    request = rpc_pb2.LeaseKeepAliveRequest(ID=lease)
    reply = await forward(KEEPALIVE_METHOD, request.SerializeToString())
    response = rpc_pb2.LeaseKeepAliveResponse.FromString(reply)
    if response.TTL <= 0:
        raise LeaseNotFound
    return response.TTL


async def _look_there(forward: Forward, lease: LeaseID) -> tuple[int, int]:
    request = rpc_pb2.LeaseTimeToLiveRequest(ID=lease)
    reply = await forward(TTL_METHOD, request.SerializeToString())
    response = rpc_pb2.LeaseTimeToLiveResponse.FromString(reply)
    if response.grantedTTL == 0:
        raise LeaseNotFound
    return response.TTL, response.grantedTTL


_R = TypeVar("_R", rpc_pb2.LeaseKeepAliveRequest, rpc_pb2.LeaseTimeToLiveRequest)


def _parsed(kind: type[_R], payload: bytes) -> _R:
    try:
        return kind.FromString(payload)
    except DecodeError:
        raise LeaseNotFound from None
