"""Ends the calls whose clients gave them a time. Event loop only.

A timer for each call would cost more than all the rest that the transport does for it. So calls
that are answered soon get none, and others share one if their deadlines come together.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, TypeAlias

from kvshim.transport.http2.call import Http2Call

SLOT_SECONDS: Final = 0.02
"""A call ends up to this much after its deadline; its client has given it up by itself then."""

_Expire: TypeAlias = Callable[[Http2Call], None]


class Deadlines:
    """Of all calls of one server."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._new: list[tuple[Http2Call, float, _Expire]] = []
        self._slots: dict[int, tuple[dict[Http2Call, _Expire], asyncio.TimerHandle]] = {}

    def watch(self, call: Http2Call, deadline: float, expire: _Expire) -> None:
        """Call `expire` at the loop's time `deadline` or a little later, unless it is over then."""
        if not self._new:
            self._loop.call_later(SLOT_SECONDS, self._look)
        self._new.append((call, deadline, expire))

    def forget(self, call: Http2Call) -> None:
        """The call is over."""
        slot = self._slots.get(call.slot)
        if slot is None:
            return
        calls, timer = slot
        calls.pop(call, None)
        if not calls:
            timer.cancel()
            del self._slots[call.slot]

    def _look(self) -> None:
        """Most calls are over by now."""
        for call, deadline, expire in self._new:
            if not call.is_over:
                self._place(call, deadline, expire)
        self._new.clear()

    def _place(self, call: Http2Call, deadline: float, expire: _Expire) -> None:
        call.slot = number = int(deadline / SLOT_SECONDS) + 1
        slot = self._slots.get(number)
        if slot is None:
            timer = self._loop.call_at(number * SLOT_SECONDS, self._end, number)
            slot = self._slots[number] = {}, timer
        slot[0][call] = expire

    def _end(self, number: int) -> None:
        calls, _ = self._slots.pop(number)
        for call, expire in calls.items():
            expire(call)
