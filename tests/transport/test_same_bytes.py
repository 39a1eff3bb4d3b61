"""Both transports, the same handlers: what a client receives is the same, byte for byte."""

from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from grpc.aio import AioRpcError

from kvshim.transport.http2.server import Http2Server
from tests.transport import serving
from tests.transport.serving import RANGE, SERVICE, Served

OF_A_LIBRARY = {"grpc-accept-encoding", "accept-encoding", "user-agent", "date"}
"""What a gRPC implementation says about itself."""

Heard = tuple[list[bytes], str, str, list[tuple[str, Any]], list[tuple[str, Any]]]
"""Messages, code, details, leading and trailing metadata."""

CALLS: dict[str, tuple[str, list[bytes], int]] = {
    "an answer": ("Unary", [b"four"], 0),
    "an answer in bytes": ("Unary", [b"bytes"], 0),
    "an answer in slices": ("Unary", [b"sliced"], 0),
    "an error": ("Unary", [b"compacted"], 0),
    "a bug": ("Unary", [b"bug"], 0),
    "messages": ("Stream", [b"x"], 5),
    "an error after messages": ("Stream", [b"compacted"], 5),
    "answers on a stream": ("Bidi", [b"a", b"bc", b""], 0),
    "an error on a stream": ("Bidi", [b"a", b"compacted"], 0),
    # No message: a client of grpc.aio that still sends one when the answer comes sees INTERNAL.
    "an unknown method": ("Nothing", [], 0),
}


@pytest.fixture
async def both(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[list[Served]]:
    async with serving.serving() as oracle:
        monkeypatch.setattr(serving, "GrpcioServer", Http2Server)
        async with serving.serving() as ours:
            assert type(ours.server) is not type(oracle.server)
            yield [oracle, ours]


@pytest.mark.parametrize("name", CALLS)
async def test_a_call_is_answered_with_the_same_bytes(name: str, both: list[Served]):
    method, keys, limit = CALLS[name]
    requests = [RANGE(key=key, limit=limit).SerializeToString() for key in keys]
    oracle, ours = [await heard(served.channel, method, requests) for served in both]
    assert ours == oracle


@pytest.mark.parametrize("wire", [b"\xff\xff", bytes(4_000_000)], ids=["no message", "too large"])
async def test_a_request_that_is_refused_is_refused_in_the_same_words(
    wire: bytes, both: list[Served]
):
    oracle, ours = [await heard(served.channel, "Unary", [wire]) for served in both]
    assert ours == oracle
    assert ours[1] != "OK"


async def heard(channel: Any, method: str, requests: list[bytes]) -> Heard:
    """The call by its bytes: to gRPC every method is a stream both ways."""
    call = channel.stream_stream(SERVICE + method)(iter(requests), timeout=20)
    messages = []
    try:
        async for message in call:
            messages.append(message)
    except AioRpcError:
        pass
    code = await call.code()
    assert isinstance(code, grpc.StatusCode)
    leading, trailing = await call.initial_metadata(), await call.trailing_metadata()
    return messages, code.name, await call.details(), _kept(leading), _kept(trailing)


def _kept(metadata: Any) -> list[tuple[str, Any]]:
    return [(name, value) for name, value in metadata or () if name not in OF_A_LIBRARY]
