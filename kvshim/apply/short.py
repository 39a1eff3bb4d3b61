"""Which commands take no longer than a moment to apply: those that name each key they touch.

Such are all writes of kube-apiserver. Whatever looks at a range of keys may take seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from kvshim.pb.etcd import rpc_pb2
from kvshim.pb.kvshim.command_pb2 import Command
from raft.interface import Entry, EntryKind

ENTRIES_MAX: Final = 64
BYTES_MAX: Final = 256 << 10
OPERATIONS_MAX: Final = 8
"""Of a short transaction, in each of its lists."""


def short_commands(entries: Sequence[Entry]) -> list[Command | None] | None:
    """The commands of these entries, None for one that asks nothing; None if they take long."""
    if len(entries) > ENTRIES_MAX or sum(len(entry.data) for entry in entries) > BYTES_MAX:
        return None
    commands: list[Command | None] = []
    for entry in entries:
        command = command_of(entry)
        if entry.kind is EntryKind.CONF_CHANGE or (command is not None and not _is_short(command)):
            return None
        commands.append(command)
    return commands


def command_of(entry: Entry) -> Command | None:
    """What an entry asks of the store; None if it is empty or changes the members."""
    if entry.kind is EntryKind.CONF_CHANGE or not entry.data:
        return None
    return Command.FromString(entry.data)


def _is_short(command: Command) -> bool:
    match command.WhichOneof("operation"):
        case "txn":
            return _is_short_txn(command.txn)
        case "put" | "lease_grant":
            return True
        case "delete_range":
            return not command.delete_range.range_end
        case _:
            return False


def _is_short_txn(request: rpc_pb2.TxnRequest) -> bool:
    compares = request.compare
    if len(compares) > OPERATIONS_MAX or any(compare.range_end for compare in compares):
        return False
    return _are_short(request.success) and _are_short(request.failure)


def _are_short(operations: Sequence[rpc_pb2.RequestOp]) -> bool:
    if len(operations) > OPERATIONS_MAX:
        return False
    for operation in operations:
        match operation.WhichOneof("request"):
            case "request_put":
                pass
            case "request_range" if not operation.request_range.range_end:
                pass
            case "request_delete_range" if not operation.request_delete_range.range_end:
                pass
            case _:
                return False
    return True
