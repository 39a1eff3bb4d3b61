"""Commands of clients beside the registers, as real ones send them, and members who propose them.

Deletes, transactions, compactions, leases: all of them change what watchers see.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import count
from random import Random
from typing import Any

from kvshim.pb.etcd import rpc_pb2
from kvshim.pb.kvshim.command_pb2 import Command
from raft.core import Node, Proposal
from raft.interface import ProposalDropped
from tests.sim.whole_member import WholeMember
from tests.sim.world import World

KEYS = tuple(b"a/%d" % number for number in range(8))
LEASES_MAX = 6
FIRST_ID = 1 << 32
"""The ids of these commands lie above those of the registers'."""

_PUT = rpc_pb2.PutRequest
_DELETE = rpc_pb2.DeleteRangeRequest
_OP = rpc_pb2.RequestOp


def register_put(number: int, key: str, value: int) -> bytes:
    """A client's put; `number` is its own for ever."""
    put = _PUT(key=key.encode(), value=b"%d" % value)
    return Command(id=number, put=put).SerializeToString()


def some_command(random: Random, number: int, revision: int) -> Command:
    """One that somebody might send who sees this revision."""
    kind = random.choices(
        ("put", "delete", "txn", "grant", "revoke", "compact"), (8, 4, 6, 2, 1, 2)
    )[0]
    command = Command(id=number)
    one, two = random.sample(KEYS, 2)
    value = b"%d" % number
    match kind:
        case "put":
            lease = random.randint(1, LEASES_MAX) if random.random() < 0.4 else 0
            command.put.CopyFrom(_PUT(key=one, value=value, lease=lease))
        case "delete":
            many = b"a/4" if random.random() < 0.3 else b""
            command.delete_range.CopyFrom(_DELETE(key=KEYS[0] if many else one, range_end=many))
        case "txn":
            compare: Any = rpc_pb2.Compare
            absent = compare(
                key=one, result=compare.EQUAL, target=compare.VERSION, version=random.choice((0, 1))
            )
            command.txn.CopyFrom(
                rpc_pb2.TxnRequest(
                    compare=[absent],
                    success=[
                        _OP(request_put=_PUT(key=one, value=value)),
                        _OP(request_put=_PUT(key=two, value=value)),
                    ],
                    failure=[
                        _OP(request_delete_range=_DELETE(key=one)),
                        _OP(request_put=_PUT(key=two, value=value)),
                    ],
                )
            )
        case "grant":
            grant = rpc_pb2.LeaseGrantRequest(ID=random.randint(1, LEASES_MAX), TTL=60)
            command.lease_grant.CopyFrom(grant)
        case "revoke":
            command.lease_revoke.ID = random.randint(1, LEASES_MAX)
        case _:
            command.compaction.revision = max(revision - random.randrange(30), 0)
    return command


@dataclass(slots=True)
class Others:
    """Propose some command at some member every now and then; nobody waits for the answer."""

    world: World
    members: dict[int, WholeMember]
    ids: count[int] = field(default_factory=lambda: count(FIRST_ID))
    pause_us: tuple[float, float] = (5_000, 60_000)
    stopped: bool = False

    def start(self) -> None:
        """Begin."""
        self.world.after(self.world.between(*self.pause_us), self._propose)

    def _propose(self) -> None:
        if self.stopped:
            return
        self.start()
        up = [member for _, member in sorted(self.members.items()) if member.up]
        if not up:
            return
        member = self.world.random.choice(up)
        command = some_command(self.world.random, next(self.ids), member.store.revision)

        def propose(node: Node) -> None:
            try:
                node.propose([Proposal(command.SerializeToString())])
            except ProposalDropped:
                return

        member.run(propose)
