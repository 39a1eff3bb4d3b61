"""Clients that ask for a leader are told at once that there is none; the others wait."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any, cast

import pytest

from kvshim.api.guard import guard
from kvshim.errors import NoLeader
from kvshim.logs import Logger
from kvshim.pb.etcd import rpc_pb2
from kvshim.rpc import Bidi, ServerStream, Unary
from tests.server.cluster import OTHER, Log


class Asking:
    peer = "test"

    def __init__(self, metadata: Mapping[str, str]) -> None:
        self.metadata = metadata


STRICT, PATIENT = Asking({"hasleader": "true"}), Asking({})


async def unary(_request: object, _call: object) -> bytes:
    return b"answer"


async def stream(_request: object, _call: object) -> AsyncIterator[bytes]:
    yield b"answer"


async def bidi(_call: object) -> None:
    pass


async def call_all(log: Log, call: Asking) -> list[type[BaseException] | None]:
    """What became of a call of each kind."""
    methods = guard(
        [
            Unary("/a/Unary", rpc_pb2.RangeRequest, unary),
            ServerStream("/a/Stream", rpc_pb2.RangeRequest, stream),
            Bidi("/a/Bidi", rpc_pb2.WatchRequest, bidi),
        ],
        log,
        cast("Logger", None),
        5.0,
        lambda: False,
    )
    one, many, both = (cast("Any", method.handler) for method in methods)
    request, results = rpc_pb2.RangeRequest(), []

    async def drain() -> None:
        assert [reply async for reply in many(request, call)] == [b"answer"]

    for attempt in (one(request, call), drain(), both(call)):
        try:
            await attempt
            results.append(None)
        except NoLeader as error:
            results.append(type(error))
    return results


@pytest.mark.parametrize(
    ("leader", "call", "outcome"),
    [(0, STRICT, NoLeader), (0, PATIENT, None), (OTHER, STRICT, None)],
)
async def test_new_calls_of_every_kind_fail_without_a_leader_only_if_they_ask_to(
    leader, call, outcome
):
    log = Log()
    if leader:
        log.lead(leader)
    assert await call_all(log, call) == [outcome] * 3
