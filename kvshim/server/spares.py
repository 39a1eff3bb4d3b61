"""What members with data know of the spares: who is there, and telling them who the members are.

A spare asks one member, if it can the leader, and the answer waits until there is news or some
seconds have passed. So a spare costs one small call now and then, and whoever leads knows which
spares it could call upon. Event loop.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from typing import Final

from google.protobuf.message import DecodeError

from kvshim.apply.members import members_of
from kvshim.errors import RequestError
from kvshim.mvcc.store import Store
from kvshim.pb.kvshim.member_pb2 import FollowAnswer, FollowRequest, MemberAttributesRequest
from kvshim.server.leadership import Leadership
from kvshim.server.members import MemberBook
from raft.transport.options import CallPeer, CallRefused

METHOD: Final = "follow"
NEWS_SECONDS: Final = 5.0
"""So long an answer waits for news."""
ABSENT_SECONDS: Final = 3.0
"""A spare that has asked nothing for so long is not there."""
STATE_BYTES: Final = 16


class SpareDesk:
    """Answers spares, and knows which of them are there."""

    def __init__(
        self,
        store: Store,
        book: MemberBook,
        leadership: Leadership,
        *,
        publish: Callable[[MemberAttributesRequest], Awaitable[None]],
        now: Callable[[], float],
    ) -> None:
        """`publish` says through the log what a member is called. Raises `RequestError`."""
        self._store = store
        self._publish = publish
        self._leadership = leadership
        self._now = now
        self._asking: dict[int, int] = {}
        self._asked_at: dict[int, float] = {}
        self._formats: dict[int, int] = {}
        self._news = asyncio.Event()
        book.listeners.append(lambda _: self._tell())
        leadership.on_change(self._tell)

    def present(self) -> set[int]:
        """Members that ask now, or did a moment ago."""
        since = self._now() - ABSENT_SECONDS
        self._asked_at = {m: at for m, at in self._asked_at.items() if at > since}
        return self._asked_at.keys() | self._asking.keys()

    def announced(self) -> dict[int, int]:
        """By member that is there, the newest cluster version that its program can run at."""
        return {member: self._formats[member] for member in self.present()}

    async def handle(self, payload: bytes, peer: CallPeer) -> bytes:
        """Answer `follow`."""
        member = peer.member_id
        if member is None:
            raise CallRefused("not-a-member", "only members of the cluster may call this")
        try:
            request = FollowRequest.FromString(payload)
        except DecodeError:
            raise CallRefused("refused", "the request cannot be read") from None
        self._formats[member] = request.format_version
        self._asking[member] = self._asking.get(member, 0) + 1
        try:
            await self._note(member, request)
            return (await self._answer(request.state)).SerializeToString()
        finally:
            self._asking[member] -= 1
            if not self._asking[member]:
                del self._asking[member]
            self._asked_at[member] = self._now()

    async def _note(self, member: int, request: FollowRequest) -> None:
        """What the spare is called, if that is new; it can write nothing to the log itself."""
        if self._leadership.has_leader and request.HasField("attributes"):
            request.attributes.id = member
            try:
                await self._publish(request.attributes)
            except RequestError as error:
                raise CallRefused("refused", error.message) from None

    async def _answer(self, known: bytes) -> FollowAnswer:
        answer = self._read()
        try:
            async with asyncio.timeout(NEWS_SECONDS):
                while answer.state == known:
                    await self._news.wait()
                    answer = self._read()
        except TimeoutError:
            pass
        return answer

    def _read(self) -> FollowAnswer:
        applied_index = self._store.applied_index  # the snapshot below is this new, or newer
        with self._store.read_short() as view:
            members = members_of(view)
        answer = FollowAnswer(members=members, leader_id=self._leadership.leader_id)
        told = answer.SerializeToString(deterministic=True)
        answer.state = hashlib.sha256(told).digest()[:STATE_BYTES]
        answer.applied_index = applied_index
        return answer

    def _tell(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()
