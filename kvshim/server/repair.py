"""`kvshim repair` and mending by itself: a member's store is replaced, compared, and acquitted.

The operator may ask any node about any member; the one concerned does it. Event loop.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any, Final

from kvshim.errors import KvshimError, NoLeader, RequestError
from kvshim.pb.kvshim.member_pb2 import Member
from kvshim.server.divergence import COMPARE_METHOD, POLL_SECONDS, Divergence
from kvshim.server.leadership import Leadership
from kvshim.server.members import MemberBook
from kvshim.server.resync import RepairError, Resync

REPAIR_METHOD: Final = "repair"
"""Has another member repair itself; asked again until it says how that ended."""

CALL_SECONDS: Final = 5.0
COMPARE_SECONDS_MAX: Final = 3600.0
SILENT_SECONDS_MAX: Final = 60.0
"""How long the other side may not answer."""


class Repair:
    """`call(member, method, payload)` asks a member."""

    def __init__(
        self,
        resync: Resync,
        divergence: Divergence,
        book: MemberBook,
        leadership: Leadership,
        call: Callable[[int, str, bytes], Awaitable[bytes]],
    ) -> None:
        self._resync = resync
        self._divergence = divergence
        self._book = book
        self._leadership = leadership
        self._call = call
        self._running: asyncio.Task[Mapping[str, Any]] | None = None
        resync.after = self.compare

    async def admin(self, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        """The operator asks: {"member": id or name; empty for this one}. Raises `RepairError`."""
        member = self._find(str(arguments.get("member", "")))
        if member.id == self._book.own_id:
            return await self._repair()
        return await self._until_done(member.id, REPAIR_METHOD, {})

    async def handle(self, _payload: bytes) -> bytes:
        """Another member asks on the operator's behalf."""
        if self._running is None:
            self._running = asyncio.create_task(self._repair())
        task = self._running
        await asyncio.wait([task], timeout=POLL_SECONDS)
        if not task.done():
            return b"{}"
        self._running = None
        try:
            return json.dumps(task.result()).encode()
        except (KvshimError, RequestError) as error:
            return json.dumps({"failed": str(error)}).encode()

    async def compare(self) -> Mapping[str, Any]:
        """Have the leader compare this member with the others. Raises `RepairError`."""
        asked = {"member": f"{self._book.own_id:x}"}
        return await self._until_done(None, COMPARE_METHOD, asked)

    async def _repair(self) -> Mapping[str, Any]:
        await self._resync.run("kvshim repair")
        found = await self.compare()
        return {"member": f"{self._book.own_id:x}", **found}

    async def _until_done(
        self, member: int | None, method: str, asked: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        """Ask a member, or whoever leads, until the answer is there."""
        loop = asyncio.get_running_loop()
        until = loop.time() + COMPARE_SECONDS_MAX
        heard = loop.time()
        payload = json.dumps(asked).encode()
        while loop.time() < until:
            try:
                found = json.loads(await self._ask(member, method, payload))
            except Exception as error:  # the network's, the other side's, a change of leader
                if loop.time() - heard > SILENT_SECONDS_MAX:
                    whom = "the leader" if member is None else f"member {member:x}"
                    raise RepairError(f"{whom} does not answer: {error}") from None
            else:
                heard = loop.time()
                if "failed" in found:
                    raise RepairError(str(found["failed"]))
                if found:
                    return dict(found)
            await asyncio.sleep(POLL_SECONDS)
        raise RepairError("the store was replaced, but comparing it takes too long")

    async def _ask(self, member: int | None, method: str, payload: bytes) -> bytes:
        if member is not None:
            return await self._call(member, method, payload)
        if self._leadership.leads:
            return await self._divergence.handle_compare(payload)
        if not self._leadership.has_leader:
            raise NoLeader
        return await self._call(self._leadership.leader_id, method, payload)

    def _find(self, named: str) -> Member:
        wanted = self._book.own_id
        if named:
            with suppress(ValueError):
                wanted = int(named, 16)
        for member in self._book.members:
            if member.name == named != "" or member.id == wanted:
                return member
        raise RepairError(f"there is no member {named}: kvshim status lists them")
