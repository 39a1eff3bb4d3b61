"""What an operator wants to know of a cluster: who is in it, who leads, and what it survives.

Plain values, as they go through the admin socket; the `kvshim status` command shows them. A
follower asks the leader, since only that knows how far the others are. Event loop.
"""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

from kvshim.backend.backend import Sizes
from kvshim.backend.backups import BackupRecord
from kvshim.config.role_numbers import ROLE_NUMBERS_DEFAULT, RoleNumbers
from kvshim.pb.kvshim.member_pb2 import Member
from kvshim.server.expiry import Expiry, warnings
from kvshim.server.leadership import Leadership
from kvshim.server.members import MemberBook
from kvshim.server.role_steps import role_of
from kvshim.server.versions import ClusterVersion
from kvshim.version import FORMAT_VERSION
from raft.interface import ReplicatedLog

METHOD = "status"
"""The call by which a follower asks the leader."""

_LEADERS_VIEW = ("members", "quorum", "wanted", "leader_id", "leader_since", "term")
"""What the leader knows better than the member that was asked, which may be a spare."""


def quorum(
    members: Sequence[Member], reached: AbstractSet[int], wanted: RoleNumbers
) -> dict[str, Any]:
    """The arithmetic of majorities, and what is unwise about it."""
    voters = [member.id for member in members if not member.learner]
    majority = len(voters) // 2 + 1
    warnings = []
    if len(voters) == 2:
        warnings.append("two voters survive the loss of none: add a third node")
    elif len(voters) == 1 and len(members) == 2 and wanted.voters > 1:
        warnings.append(
            "one of two nodes votes, and nothing can be written without it: add a third"
        )
    elif len(voters) % 2 == 0 and voters:
        warnings.append(
            f"{len(voters)} voters survive no more than {len(voters) - 1} would: an odd number is"
            " better"
        )
    there = len(reached & set(voters))
    if there < majority:
        warnings.append(f"{there} of {len(voters)} voters are reached, {majority} are needed")
    elif there == majority and len(voters) > 1 and there < len(voters):
        warnings.append("one more voter lost, and nothing can be written")
    return {
        "voters": len(voters),
        "majority": majority,
        "failures_tolerated": len(voters) - majority,
        "voters_reached": there,
        "warnings": warnings,
    }


class ClusterStatus:
    """Gathers it. `ask_leader` calls a method at the leader, `reached` names who is connected,
    `announced` the newest cluster version that their programs can run at.
    """

    def __init__(
        self,
        cluster_id: int,
        book: MemberBook,
        leadership: Leadership,
        log: ReplicatedLog,
        *,
        leader_id: Callable[[], int],
        numbers: Callable[[], RoleNumbers | None],
        version: ClusterVersion,
        announced: Callable[[], Mapping[int, int]],
        reached: Callable[[], AbstractSet[int]],
        ask_leader: Callable[[str, bytes], Awaitable[bytes]],
        sizes: Callable[[], Sizes],
        applied: Callable[[], int],
        now: Callable[[], float],
        certificates: Callable[[], Sequence[Expiry]],
        backup: Callable[[], BackupRecord | None],
    ) -> None:
        self._cluster_id = cluster_id
        self._book = book
        self._leadership = leadership
        self._log = log
        self._leader_id = leader_id
        self._numbers = numbers
        self._version = version
        self._announced = announced
        self._reached = reached
        self._ask_leader = ask_leader
        self._sizes = sizes
        self._applied = applied
        self._now = now
        self._certificates = certificates
        self._backup = backup

    async def admin(self, _arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        """The operator asks: this view, with the leader's of the others if it answers."""
        here = {**self._view(), **self._own()}
        if not self._leadership.leads and self._leader_id():
            try:
                there = json.loads(await self._ask_leader(METHOD, b""))
            except Exception:
                return here
            here |= {key: there[key] for key in _LEADERS_VIEW if key in there}
        return here

    async def handle(self, _payload: bytes) -> bytes:
        """Another member asks."""
        return json.dumps(self._view()).encode()

    def _own(self) -> dict[str, Any]:
        """What concerns the node that was asked, whoever leads."""
        found, backup = self._certificates(), self._backup()
        return {
            "certificates": [
                {
                    "kind": expiry.kind,
                    "file": expiry.file,
                    "not_after": "" if expiry.error else _date(expiry.not_after),
                }
                for expiry in found
            ],
            "last_backup": None
            if backup is None
            else {
                "taken_at": _date(backup.taken_at),
                "kind": backup.kind,
                "path": backup.path,
                "revision": backup.revision,
            },
            "warnings": warnings(found),
        }

    def _view(self) -> dict[str, Any]:
        status, sizes, leadership = self._log.status(), self._sizes(), self._leadership
        matches, reached = dict(status.matches), self._reached()
        wanted = self._numbers() or ROLE_NUMBERS_DEFAULT
        versions = {**self._announced(), self._book.own_id: FORMAT_VERSION}
        return {
            "cluster_id": f"{self._cluster_id:x}",
            "member_id": f"{self._book.own_id:x}",
            "leader_id": f"{leadership.leader_id:x}" if leadership.has_leader else "",
            "leader_since": _date(time.time() + leadership.since - self._now()),
            "term": int(status.term),
            "applied_index": self._applied(),
            "commit_index": int(status.commit_index),
            "cluster_version": self._version.current,
            "program_version": FORMAT_VERSION,
            "db_bytes": sizes.db_bytes,
            "db_bytes_in_use": sizes.db_bytes_in_use,
            "wanted": {"voters": wanted.voters, "standbys": wanted.standbys},
            "members": [
                {
                    "id": f"{member.id:x}",
                    "name": member.name,
                    "role": role_of(member).value,
                    "failure_domain": member.failure_domain,
                    "leads": member.id == leadership.leader_id,
                    "reached": member.id in reached,
                    "lag_entries": status.last_index - matches[member.id]  # type: ignore[index]
                    if member.id in matches
                    else (0 if member.id == self._book.own_id and leadership.leads else None),
                    "program_version": versions.get(member.id),
                    "peer_urls": list(member.peer_urls),
                    "client_urls": list(member.client_urls),
                }
                for member in self._book.members
            ],
            "quorum": quorum(self._book.members, reached, wanted),
        }


def _date(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
