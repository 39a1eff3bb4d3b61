"""The storage quota: refuse early, tell the cluster by an alarm, take it back when there is room.

File sizes differ between members, so a member checks its own before proposing; what apply refuses
depends on the replicated alarm alone. Event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from kvshim.apply.quota import cost_of
from kvshim.errors import NoSpace, RequestError
from kvshim.pb.kvshim.command_pb2 import Command

CLEAR_BELOW = 0.9
"""The alarm goes when the bytes in use fall below this share of the quota."""

COST_PER_BYTE_MAX = 64
"""No command is estimated at more for a byte of it: a put takes 7 bytes at least and counts 257.
Farther than that from the quota nobody needs to know what a command costs."""

CHECK_SECONDS = 1.0
"""How often the size is looked at while the alarm stands, and only then."""


class Quota:
    """Guards `limit_bytes`, below 0 nothing; `change_alarm(raised)` proposes the NOSPACE alarm.

    Commands are no longer than `request_bytes_max`.
    """

    def __init__(
        self,
        limit_bytes: int,
        in_use: Callable[[], int],
        change_alarm: Callable[[bool], Awaitable[None]],
        request_bytes_max: int,
    ) -> None:
        self.limit_bytes = limit_bytes
        self._in_use = in_use
        self._change_alarm = change_alarm
        self._cost_max = COST_PER_BYTE_MAX * request_bytes_max
        self._raised = asyncio.Event()

    def has_room(self, command: Command) -> bool:
        """Does the command fit, or need no space?"""
        if self.limit_bytes < 0 or self._in_use() < self.limit_bytes - self._cost_max:
            return True
        cost = cost_of(command)
        return cost == 0 or self._in_use() + cost < self.limit_bytes

    async def check(self, command: Command) -> None:
        """Raise `NoSpace`, and the alarm, when the command would not fit."""
        if self.has_room(command):
            return
        if not self._raised.is_set():
            await self._change_alarm(True)  # noqa: FBT003
        raise NoSpace

    def observe(self, standing: bool) -> None:  # noqa: FBT001
        """Follow whether this member's NOSPACE alarm stands."""
        if standing:
            self._raised.set()
        else:
            self._raised.clear()

    async def run(self) -> None:
        """Clear the alarm once there is space again, until cancelled."""
        while True:
            await self._raised.wait()
            await asyncio.sleep(CHECK_SECONDS)
            if self._raised.is_set() and self._in_use() < CLEAR_BELOW * self.limit_bytes:
                try:
                    await self._change_alarm(False)  # noqa: FBT003
                except RequestError:
                    continue
