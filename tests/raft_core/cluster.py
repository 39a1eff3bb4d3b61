"""A cluster that a golden script drives by hand: nothing moves unless a command says so.

options KEY=VALUE...          options of members added from here on
add N... [learners=N,N]       members that begin together, behind a snapshot at entry 1
add-empty N                   a newcomer that knows nothing
campaign N | tick N [COUNT]
propose N TEXT... | propose-size N BYTES
change N KIND M               KIND: add-learner add-voter promote demote remove
read N CONTEXT | transfer N M
ready N                       one Ready: write, send, apply
deliver [A->B...]             let messages arrive, all or those of the links named
drop [A->B...] | repeat A->B  lose messages, or double them
stabilize [N...]              Readies and messages until nothing is left
disk N hold|release           keep writes back (and what waits for them); let them through
apply N hold|release          keep the state machine from applying
crash N | restart N           what was not written is lost
compact N INDEX
snapshot-report N M arrived|failed | unreachable N M
status [N...] | log N... | pending
quiet COMMAND                 without showing what happens
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from random import Random

from raft.core import (
    ChangeKind,
    ConfChange,
    CoreOptions,
    EntryKind,
    HardState,
    MemberId,
    Membership,
    Node,
    Proposal,
    Ready,
    SnapshotMeta,
    StartState,
    TooManyReads,
)
from raft.core.messages import InstallSnapshot, Message
from raft.interface import Index, LogError, ProposalDropped, Term
from tests.raft_core import render
from tests.raft_core.memory_log import MemoryLog

KINDS = {kind.name.lower().replace("_", "-"): kind for kind in ChangeKind}


class Member:
    """A node, its disk and its state machine, which only remembers how far it is."""

    def __init__(self, options: CoreOptions, log: MemoryLog, start: StartState) -> None:
        self.options = options
        self.log = log
        self.hard_state = start.hard_state
        self.membership = start.membership
        self.applied = start.applied
        self.disk_held = self.apply_held = False
        self.writes: list[Ready] = []
        self.to_apply: list[Ready] = []
        self.lives = 0
        self.node: Node | None = None
        self.start()

    @property
    def id(self) -> MemberId:
        return self.options.member_id

    def start(self) -> None:
        self.lives += 1
        self.node = Node(
            self.options,
            self.log,
            StartState(self.hard_state, self.membership, self.applied),
            Random(100 * self.id + self.lives),
        )

    def crash(self) -> None:
        self.node = None
        self.writes.clear()
        self.to_apply.clear()
        self.disk_held = self.apply_held = False

    def write(self, ready: Ready) -> None:
        if ready.snapshot is not None:
            self.log.reset(ready.snapshot.index, ready.snapshot.term)
            self.membership, self.applied = ready.snapshot.membership, ready.snapshot.index
        if ready.entries:
            self.log.write(ready.entries)
        if ready.hard_state is not None:
            self.hard_state = ready.hard_state

    def apply(self, ready: Ready) -> None:
        for entry in ready.committed:
            if entry.kind is EntryKind.CONF_CHANGE:
                try:
                    self.membership = self.membership.after(ConfChange.decode(entry.data))
                except ProposalDropped:
                    continue
        self.applied = ready.committed[-1].index


class Cluster:
    """Runs commands; `out` is what happened since the last."""

    def __init__(self) -> None:
        self.members: dict[int, Member] = {}
        self.wire: list[Message] = []
        self.out: list[str] = []
        self.options: dict[str, int] = {}
        self.seen: dict[int, tuple[object, ...]] = {}

    def run(self, line: str) -> list[str]:
        """Run one command and say what happened."""
        name, *words = line.split()
        if name == "quiet":
            self.run(" ".join(words))
            return ["ok"]
        command: Callable[..., None] = getattr(self, "do_" + name.replace("-", "_"))
        self.out = []
        try:
            command(*words)
        except (ProposalDropped, TooManyReads, LogError) as error:
            self.out.append(f"{type(error).__name__}: {error}")
        self._show_roles()
        return self.out or ["ok"]

    # -- members

    def do_options(self, *pairs: str) -> None:
        for pair in pairs:
            key, number = pair.split("=")
            self.options[key] = int(number)

    def do_add(self, *words: str) -> None:
        learners: set[int] = set()
        numbers = []
        for word in words:
            if word.startswith("learners="):
                learners = set(map(int, word[9:].split(",")))
            else:
                numbers.append(int(word))
        membership = Membership.of(set(numbers) - learners, learners)
        hard = HardState(Term(1), MemberId(0), Index(1))
        for number in numbers:
            self._add(number, MemoryLog(1, 1), StartState(hard, membership, Index(1)))

    def do_add_empty(self, number: str) -> None:
        self._add(int(number), MemoryLog(), StartState())

    def do_crash(self, number: str) -> None:
        self.members[int(number)].crash()
        self.seen.pop(int(number))

    def do_restart(self, number: str) -> None:
        self.members[int(number)].start()

    # -- inputs

    def do_campaign(self, number: str) -> None:
        self._node(number).campaign()

    def do_tick(self, number: str, count: str = "1") -> None:
        for _ in range(int(count)):
            self._node(number).tick()
            self._show_roles()

    def do_propose(self, number: str, *texts: str) -> None:
        self._propose(number, [Proposal(text.encode()) for text in texts])

    def do_propose_size(self, number: str, size: str) -> None:
        self._propose(number, [Proposal(b"x" * int(size))])

    def do_change(self, number: str, kind: str, member: str) -> None:
        change = ConfChange(KINDS[kind], MemberId(int(member)))
        sequence = self._node(number).propose_change(change)
        if sequence:
            self.out.append(f"forwarded as {sequence}")

    def do_read(self, number: str, context: str) -> None:
        self._node(number).read_index(int(context))

    def do_transfer(self, number: str, to: str) -> None:
        self._node(number).transfer_leadership(MemberId(int(to)))

    def do_snapshot_report(self, number: str, member: str, outcome: str) -> None:
        arrived = {"arrived": True, "failed": False}[outcome]
        self._node(number).report_snapshot(MemberId(int(member)), arrived=arrived)

    def do_unreachable(self, number: str, member: str) -> None:
        self._node(number).report_unreachable(MemberId(int(member)))

    def do_compact(self, number: str, index: str) -> None:
        self.members[int(number)].log.compact(int(index))

    # -- what moves

    def do_ready(self, number: str) -> None:
        self._ready(self.members[int(number)])

    def do_deliver(self, *links: str) -> None:
        taken = self._take(links)
        for message in taken:
            self._arrive(message)

    def do_drop(self, *links: str) -> None:
        for message in self._take(links):
            self.out.append(f"lost {render.message(message)}")

    def do_drop_last(self, link: str) -> None:
        last = [at for at, m in enumerate(self.wire) if f"{m.sender}->{m.to}" == link][-1]
        self.out.append(f"lost {render.message(self.wire.pop(last))}")

    def do_repeat(self, *links: str) -> None:
        self.wire += [m for m in self.wire if f"{m.sender}->{m.to}" in links]

    def do_stabilize(self, *numbers: str) -> None:
        chosen = set(map(int, numbers)) or set(self.members)
        for _ in range(200):
            moved = False
            for number in sorted(chosen):
                member = self.members[number]
                while member.node is not None and member.node.has_ready():
                    self._ready(member)
                    moved = True
            arrived = [m for m in self.wire if m.to in chosen and m.to in self.members]
            self.wire = [m for m in self.wire if m not in arrived]
            for message in arrived:
                self._arrive(message)
            if not moved and not arrived:
                return
        raise AssertionError("it does not come to rest")

    def do_disk(self, number: str, what: str) -> None:
        member = self.members[int(number)]
        member.disk_held = what == "hold"
        if not member.disk_held:
            writes, member.writes = member.writes, []
            for ready in writes:
                self._write(member, ready)

    def do_apply(self, number: str, what: str) -> None:
        member = self.members[int(number)]
        member.apply_held = what == "hold"
        if not member.apply_held:
            waiting, member.to_apply = member.to_apply, []
            for ready in waiting:
                self._apply(member, ready)

    # -- views

    def do_status(self, *numbers: str) -> None:
        for number in numbers or self.members:
            node = self.members[int(number)].node
            if node is not None:
                self.out.extend(render.status(node.status()))

    def do_log(self, *numbers: str) -> None:
        for number in numbers:
            log = self.members[int(number)].log
            self.out.append(f"{number}: {log.cut[0]}/{log.cut[1]} {render.value(tuple(log.kept))}")

    def do_pending(self) -> None:
        self.out += map(render.message, self.wire)

    # -- the harness itself

    def _node(self, number: str) -> Node:
        node = self.members[int(number)].node
        assert node is not None, f"{number} is down"
        return node

    def _add(self, number: int, log: MemoryLog, start: StartState) -> None:
        options = dataclasses.replace(CoreOptions(MemberId(number)), **self.options)
        self.members[number] = Member(options, log, start)

    def _propose(self, number: str, proposals: list[Proposal]) -> None:
        sequence = self._node(number).propose(proposals)
        if sequence:
            self.out.append(f"forwarded as {sequence}")

    def _take(self, links: Iterable[str]) -> list[Message]:
        chosen = set(links)
        taken = [m for m in self.wire if not chosen or f"{m.sender}->{m.to}" in chosen]
        self.wire = [m for m in self.wire if m not in taken]
        return taken

    def _arrive(self, message: Message) -> None:
        member = self.members.get(message.to)
        if member is None or member.node is None:
            self.out.append(f"lost {render.message(message)}")
            return
        self.out.append(f"{message.to} gets {render.message(message)}")
        member.node.step(message)
        self._show_roles()

    def _ready(self, member: Member) -> None:
        assert member.node is not None
        ready = member.node.ready()
        lines = list(render.ready(ready))
        if lines:
            self.out.append(f"{member.id} is ready")
            self.out += [f"  {line}" for line in lines]
        self.wire += ready.messages
        for order in ready.snapshot_orders:
            index = member.applied
            meta = SnapshotMeta(index, member.log.term_at(index), member.membership)
            self.wire.append(InstallSnapshot(member.id, order.to, order.term, meta))
        if member.disk_held:
            member.writes.append(ready)
        else:
            self._write(member, ready)
        if not ready.committed:
            return
        if member.apply_held:
            member.to_apply.append(ready)
        else:
            self._apply(member, ready)

    def _write(self, member: Member, ready: Ready) -> None:
        assert member.node is not None
        member.write(ready)
        self.wire += ready.after_persist
        member.node.persisted(ready.number)

    def _apply(self, member: Member, ready: Ready) -> None:
        assert member.node is not None
        before = member.membership
        member.apply(ready)
        member.node.applied(member.applied)
        if member.membership != before:
            self.out.append(f"{member.id} has {render.members(member.membership)}")

    def _show_roles(self) -> None:
        for number, member in self.members.items():
            if member.node is None:
                continue
            st = member.node.status()
            view = (st.role, st.term, st.leader)
            if self.seen.get(number) not in (None, view):
                leader = f" of {st.leader}" if st.leader not in (0, number) else ""
                self.out.append(f"{number} is {st.role.name}{leader} in term {st.term}")
            self.seen[number] = view
