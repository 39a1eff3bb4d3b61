"""Messages, Readies and states as the golden scripts show them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator

from raft.core import ConfChange, CoreStatus, Entry, EntryKind, Membership, Proposal, Ready, Role
from raft.core.messages import Envelope
from raft.core.types import SnapshotMeta


def message(m: Envelope) -> str:
    fields = []
    for field in dataclasses.fields(m)[3:]:
        if field.name != "session":
            fields.append(f"{field.name}={value(getattr(m, field.name))}")
    return " ".join([f"{m.sender}->{m.to} {type(m).__name__} term={m.term}", *fields])


def value(what: object) -> str:
    match what:
        case SnapshotMeta(index, term, membership):
            return f"{index}/{term}{{{members(membership)}}}"
        case tuple():
            return "[" + " ".join(map(value, what)) + "]"
        case Entry():
            return f"{what.index}/{what.term}{content(what)}"
        case Proposal():
            return content(what)[1:]
        case bool():
            return "yes" if what else "no"
        case _:
            return str(what)


def content(what: Entry | Proposal) -> str:
    if what.kind is EntryKind.CONF_CHANGE:
        change = ConfChange.decode(what.data)
        return f":{change.kind.name}({change.member})"
    text = what.data.decode(errors="backslashreplace")
    if len(text) > 20:
        text = f"{text[:3]}..{len(text)}"
    return f":{text}" if text else ""


def members(membership: Membership) -> str:
    text = "voters=" + ids(membership.voters)
    return text + (" learners=" + ids(membership.learners) if membership.learners else "")


def ids(numbers: Iterable[int]) -> str:
    return ",".join(map(str, sorted(numbers)))


def ready(rd: Ready) -> Iterator[str]:
    if rd.hard_state is not None:
        hard = rd.hard_state
        sync = "" if rd.must_sync else " (no sync)"
        yield f"persist term={hard.term} vote={hard.vote} commit={hard.commit}{sync}"
    if rd.snapshot is not None:
        yield f"persist snapshot {value(rd.snapshot)}"
    if rd.entries:
        yield f"persist {value(rd.entries)}"
    for order in rd.snapshot_orders:
        yield f"send snapshot of at least {order.index} to {order.to}"
    for m in rd.messages:
        yield f"send {message(m)}"
    for m in rd.after_persist:
        yield f"then {message(m)}"
    if rd.committed:
        yield f"apply {value(rd.committed)}"
    for read in rd.reads:
        yield f"read {read.context} at {read.index}"
    if rd.reads_lost:
        yield f"reads lost: {ids(rd.reads_lost)}"
    if rd.refused:
        yield f"forwards refused: {ids(rd.refused)}"


def status(st: CoreStatus) -> Iterator[str]:
    leader = f" leader={st.leader}" if st.leader else ""
    transfer = f" transferee={st.transferee}" if st.transferee else ""
    yield (
        f"{st.member_id}: {st.role.name} term={st.term} vote={st.vote}{leader}"
        f" log={st.first_index}..{st.last_index} commit={st.commit} applied={st.applied}"
        f" {members(st.membership)}{transfer}"
    )
    if st.role is Role.LEADER:
        for member, p in st.followers.items():
            silent = "" if p.recent_active else " silent"
            yield f"  {member}: {p.flow.name} match={p.match} next={p.next}{silent}"
