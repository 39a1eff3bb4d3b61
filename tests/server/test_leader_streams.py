"""Streams that asked for a leader end without one, whatever they wait for; the others go on."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import cast

import pytest

from kvshim.api.leader_streams import LeaderStreams
from kvshim.errors import NoLeader
from kvshim.rpc import Call


class Asking:
    peer = "test"

    def __init__(self, metadata: Mapping[str, str]) -> None:
        self.metadata = metadata

    def deadline_seconds(self) -> None:
        return None


async def serve(streams: LeaderStreams, over: asyncio.Event, metadata: Mapping[str, str]) -> str:
    async with streams.of(cast("Call", Asking(metadata))):
        await over.wait()
        return "ended by itself"


async def test_only_those_that_asked_for_a_leader_end() -> None:
    streams, over = LeaderStreams(), asyncio.Event()
    strict = asyncio.create_task(serve(streams, over, {"hasleader": "true"}))
    patient = asyncio.create_task(serve(streams, over, {}))
    await asyncio.sleep(0)
    streams.leader_lost()
    streams.leader_lost()
    with pytest.raises(NoLeader):
        await strict
    later = asyncio.create_task(serve(streams, over, {"hasleader": "true"}))
    await asyncio.sleep(0)
    over.set()
    assert [await patient, await later] == ["ended by itself"] * 2
    streams.leader_lost()  # nobody is left


async def test_a_timeout_of_its_own_is_no_missing_leader_and_a_client_may_leave() -> None:
    streams = LeaderStreams()
    strict = cast("Call", Asking({"hasleader": "true"}))
    with pytest.raises(TimeoutError):
        async with streams.of(strict), asyncio.timeout(0):
            await asyncio.sleep(5)
    leaving = asyncio.create_task(serve(streams, asyncio.Event(), {"hasleader": "true"}))
    await asyncio.sleep(0)
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
