"""Deadlines expire soon after their time, in order, unless taken back."""

import asyncio

from kvshim.transport.http2.deadlines import TICK_SECONDS, Deadlines


async def test_deadlines_expire_late_by_a_tick_and_never_early():
    loop = asyncio.get_running_loop()
    expired: list[tuple[str, float]] = []
    deadlines = Deadlines[str](loop, lambda name: expired.append((name, loop.time())))
    now = loop.time()
    at = {"late": now + 0.15, "soon": now + 0.05, "past": now - 1, "never": now + 0.1}
    for name, deadline in at.items():
        deadlines.add(name, deadline)
    deadlines.discard("never", at["never"])
    deadlines.discard("unknown", now + 7)
    await asyncio.sleep(0.3)
    assert [name for name, _ in expired] == ["past", "soon", "late"]
    for name, when in expired[1:]:
        assert at[name] <= when < at[name] + TICK_SECONDS + 0.1
    assert deadlines._timer is None


async def test_a_deadline_added_after_all_have_passed():
    loop = asyncio.get_running_loop()
    expired: list[int] = []
    deadlines = Deadlines[int](loop, expired.append)
    for number in range(3):
        deadlines.add(number, loop.time() + 0.01)
        await asyncio.sleep(0.1)
    assert expired == [0, 1, 2]


async def test_one_that_expires_may_take_back_another():
    loop = asyncio.get_running_loop()
    deadline = loop.time() + 0.01
    expired: list[int] = []

    def expire(number: int) -> None:
        expired.append(number)
        deadlines.discard(2 - number, deadline)

    deadlines = Deadlines[int](loop, expire)
    deadlines.add(0, deadline)
    deadlines.add(1, deadline + 1)
    await asyncio.sleep(0.1)
    assert expired == [0]
