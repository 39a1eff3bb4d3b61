"""What stands above apply in one life of a simulated process: the production rooms, wired.

Watch service and hub, lessor and its primacy, proposer and reader, as `kvshim.node.parts` joins
them, on a loop in simulated time. Calls to the leader go over the simulated network.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from types import SimpleNamespace
from typing import Any, NoReturn, cast

from kvshim.api.header import Headers
from kvshim.api.watch import WatchService
from kvshim.apply.members import members_of
from kvshim.node.delivery import Delivery
from kvshim.server.alarms import Alarms
from kvshim.server.leadership import Leadership
from kvshim.server.lease_calls import KEEPALIVE_METHOD, LeaseCalls, LeasePrimacy
from kvshim.server.lease_proposals import LeaseProposals
from kvshim.server.lessor import Lessor
from kvshim.server.members import MemberBook
from kvshim.server.physical import PhysicalCompaction
from kvshim.server.proposer import Proposer
from kvshim.server.quota import Quota
from kvshim.server.reader import Reader
from kvshim.server.settling import Settling
from kvshim.server.versions import ClusterVersion
from kvshim.watch.hub import Hub
from raft import interface as raft
from raft.core import Node, Proposal, ReadState, TooManyReads
from raft.core.ready import Ready
from tests.sim.member import TICK_US
from tests.sim.process_loop import PACE, ProcessLoop
from tests.sim.whole_disk import CLUSTER
from tests.sim.whole_member import WholeMember

ELECTION_SECONDS = PACE * 5 * TICK_US / 1e6
TIMEOUT_SECONDS = PACE * 1.0
PROGRESS_SECONDS = PACE * 0.5
REQUEST_BYTES_MAX = 1 << 20
RESPONSE_BYTES_MAX = 400
"""Where responses are split into fragments for who asked for it."""

FIRST_READ = 1 << 40
"""The numbers of reads asked for here; those of the registers' clients lie below."""


class Log:
    """A `ReplicatedLog` by way of a simulated member's queue."""

    def __init__(self, member: WholeMember, loop: ProcessLoop) -> None:
        self._member, self._loop = member, loop
        zero = raft.Index(0)
        self._status = raft.LogStatus(
            member.options.member_id, 0, raft.Term(0), zero, zero, zero, raft.Membership()
        )
        self._reads: dict[int, asyncio.Future[raft.Index]] = {}
        self._number = FIRST_READ

    def status(self) -> raft.LogStatus:
        return self._status

    def look(self, ready: Ready) -> bool:
        """The member did this; True if leader or term changed."""
        before = self._status
        self._status = self._member.log_status(ready.leader)
        after = self._status
        return (before.leader_id, before.term) != (after.leader_id, after.term)

    def propose(self, command: bytes) -> None:
        if self._status.leader_id == 0:
            raise raft.NoLeader("no leader is known")

        def propose(node: Node) -> None:
            try:
                node.propose([Proposal(command)])
            except raft.ProposalDropped:
                return  # lost: whoever waits for it gives up in time

        self._member.run(propose)

    async def read_index(self) -> raft.Index:
        self._number += 1
        number = self._number
        future = self._reads[number] = self._loop.create_future()

        def read(node: Node) -> None:
            try:
                node.read_index(number)
            except (raft.ProposalDropped, TooManyReads):
                self.lost([number])

        self._member.run(read)
        try:
            return await future
        finally:
            del self._reads[number]

    def found(self, reads: Sequence[ReadState]) -> None:
        """These reads have an index."""
        for read in reads:
            future = self._reads.get(read.context)
            if future is not None and not future.done():
                future.set_result(read.index)

    def lost(self, contexts: Sequence[int]) -> None:
        """These were not confirmed."""
        for context in contexts:
            future = self._reads.get(context)
            if future is not None and not future.done():
                future.set_exception(raft.NoLeader("the leader was lost"))


class Server:
    """One life. `ask` takes a renewal to another member and has its answer, if it comes."""

    def __init__(
        self,
        member: WholeMember,
        ask: Callable[[Server, int, bytes], asyncio.Future[bytes]],
    ) -> None:
        self.member = member
        self.id = member.id
        loop = self.loop = ProcessLoop(member)
        store = member.store
        log = self.log = Log(member, loop)
        kept = cast(Any, log)
        leadership = self.leadership = Leadership(self.id, ELECTION_SECONDS, loop.time)
        with loop.running():
            with store.read() as view:
                leases, members = list(view.leases()), members_of(view)
                version = ClusterVersion(view.format_version)
            proposer = self.proposer = Proposer(
                kept,
                self.id,
                REQUEST_BYTES_MAX,
                TIMEOUT_SECONDS,
                leadership=leadership,
                gate=version,
            )
            reader = Reader(store, kept, cast(Any, None), TIMEOUT_SECONDS, leadership)
            proposals = LeaseProposals(proposer, leadership)
            lessor = self.lessor = Lessor(
                (), proposals.revoke, loop.time, lambda _: None, proposals.checkpoint
            )
            self.delivery = Delivery(
                loop=loop,
                hub=Hub(store, cast(Any, None), PROGRESS_SECONDS, cast(Any, _LOGGER)),
                lessor=lessor,
                members=MemberBook(self.id, members, proposer),
                version=version,
                alarms=Alarms((), self.id),
                quota=Quota(-1, lambda: 0, cast(Any, _loud), REQUEST_BYTES_MAX),
                proposer=proposer,
                reader=reader,
                physical=PhysicalCompaction(
                    store.physically_compacted, lambda: store.compact_revision
                ),
                settling=Settling(loop, store),
                reports=cast(Any, SimpleNamespace(alarm_changed=_loud)),
                on_fatal=_fatal,
            )
            LeasePrimacy(lessor, reader, leadership)
            lessor.restore(leases)

            async def forward(method: str, payload: bytes) -> bytes:
                assert method == KEEPALIVE_METHOD
                return await ask(self, leadership.leader_id, payload)

            self.lease_calls = LeaseCalls(lessor, reader, leadership, forward, TIMEOUT_SECONDS)
            headers = Headers(CLUSTER, self.id, store, kept)
            self.watches = WatchService(
                self.delivery.hub, headers.encode, RESPONSE_BYTES_MAX, lambda: leadership.has_leader
            )
            leadership.on_leaderless(self.watches.leader_lost)
            leadership.start()
            self._counting = self.spawn(lessor.run())

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run something that must not fail."""
        task = self.loop.create_task(work)
        task.add_done_callback(_must_not_fail)
        return task

    def rest(self) -> None:
        """End no lease from here on."""
        self._counting.cancel()

    def looked(self, ready: Ready) -> None:
        """The member's raft thread tells its view, as `raft.node` does."""
        if self.log.look(ready):
            status = self.log.status()
            self.loop.call_soon(self.leadership.observe, status.leader_id, status.term)


def _must_not_fail(task: asyncio.Task[None]) -> None:
    if not task.cancelled():
        task.result()


def _quiet(*_: object, **__: object) -> None: ...


def _loud(*words: object, **more: object) -> NoReturn:
    raise AssertionError(f"{words} {more}")


def _fatal(error: BaseException) -> NoReturn:
    raise error


_LOGGER = SimpleNamespace(warn=_quiet, error=_loud)
