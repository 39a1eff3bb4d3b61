"""The `hasleader` request header: a client that would rather fail than wait without a leader."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from google.protobuf.message import Message

from kvshim.errors import NoLeader
from kvshim.rpc import Call, Method, Reply, Unary
from raft.interface import ReplicatedLog


def require_leader(call: Call, log: ReplicatedLog) -> None:
    """Raise `NoLeader` when the client asked for a leader and none is known."""
    if call.metadata.get("hasleader") == "true" and log.status().leader_id == 0:
        raise NoLeader


def leader_required(methods: Sequence[Method], log: ReplicatedLog) -> list[Method]:
    """The same methods, their unary calls failing at once when a required leader is missing."""
    return [_guard(method, log) if isinstance(method, Unary) else method for method in methods]


def _guard(method: Unary, log: ReplicatedLog) -> Unary:
    handler = method.handler

    async def guarded(request: Message, call: Call) -> Reply:
        require_leader(call, log)
        return await handler(request, call)

    return replace(method, handler=guarded)
