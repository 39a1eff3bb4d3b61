"""A client may leave in the very moment in which its change is made."""

import asyncio

import pytest

from kvshim.api.recipes import to_its_end


@pytest.mark.kvshim_only
def test_a_change_is_known_to_whoever_is_cancelled_meanwhile():
    told: list[object] = []

    async def change() -> str:
        await asyncio.sleep(0.01)
        return "made"

    async def handler() -> None:
        told.append(await to_its_end(change()))
        try:
            await asyncio.sleep(10)
        except asyncio.CancelledError:
            told.append("left")
            raise

    async def story() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.001):
                await handler()

    asyncio.run(story())
    assert told == ["made", "left"]
