"""Members compare what they hold; the leader asks, and raises the alarm CORRUPT about who is wrong.

Three things are compared, each at a point that is the same for all: the hashes of segments of the
log as they were applied (`kvshim.apply.rolling`), every few seconds and for nothing; what each
compaction hashed before it thinned the history out, likewise; and the whole history as it lies on
the disk at one revision, seldom, since it is read for that. docs/adr/0011 says why. Event loop.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Hashable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any, Final

from kvshim.apply.rolling import RollingHash
from kvshim.errors import KvshimError, NotLeader, RequestError, StorageError
from kvshim.logs import Event, Logger
from kvshim.mvcc.hashing import hash_content
from kvshim.mvcc.records import KeyValueHash
from kvshim.mvcc.store import Store
from kvshim.server.leadership import Leadership
from kvshim.server.members import MemberBook
from kvshim.server.verdict import NOBODY_KNOWN, Verdict, judge

HASHES_METHOD: Final = "hashes-1"
"""What a member knows without reading; the number is that of the way segments are hashed."""

CONTENT_METHOD: Final = "content-hash"
"""The hash of all that a member holds at a revision, asked for until it is ready."""

COMPARE_METHOD: Final = "compare"
"""A member that was repaired asks the leader whether it is equal now."""

LOOK_SECONDS: Final = 5.0
CALL_SECONDS: Final = 5.0
POLL_SECONDS: Final = 0.2

UNDECIDED_LOOKS: Final = 6
"""So often those who have not answered are waited for before nobody is named."""

CONTENT_SECONDS_MIN: Final = 600.0
CONTENT_SHARE: Final = 200
"""The whole history is read every ten minutes, and at most a two-hundredth of the time."""

CONTENT_SECONDS_MAX: Final = 1800.0
"""How long the members may take to read it."""

CONTENT_TRIES: Final = 4
"""Compactions may take what was to be compared away."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """All members' stores at one revision: who holds what the leader or most hold, who does not.

    `silent` did not answer, or cannot be compared now.
    """

    revision: int
    equal: frozenset[int]
    named: frozenset[int]
    silent: frozenset[int]

    @property
    def all_equal(self) -> bool:
        """Did everybody answer, the same?"""
        return not self.named and not self.silent


class Divergence:
    """Answers members who compare; while this member leads, it is who asks.

    `call(member, method, payload)` asks a member, `change_alarm(member, raised)` proposes the alarm
    CORRUPT, `standing()` names the members whose CORRUPT alarm stands, `every_seconds` is the time
    between comparisons of the whole history, 0 for the default.
    """

    def __init__(
        self,
        store: Store,
        rolling: RollingHash,
        leadership: Leadership,
        book: MemberBook,
        *,
        call: Callable[[int, str, bytes], Awaitable[bytes]],
        reached: Callable[[], AbstractSet[int]],
        on_thread: Callable[[Callable[[], KeyValueHash]], Awaitable[KeyValueHash]],
        change_alarm: Callable[[int, bool], Awaitable[None]],
        standing: Callable[[], AbstractSet[int]],
        resign: Callable[[], Awaitable[None]],
        busy: Callable[[], bool],
        every_seconds: float,
        logger: Logger,
    ) -> None:
        self._store = store
        self._rolling = rolling
        self._leadership = leadership
        self._book = book
        self._call = call
        self._reached = reached
        self._on_thread = on_thread
        self._change_alarm = change_alarm
        self._standing = standing
        self._resign = resign
        self._busy = busy
        self._every_seconds = every_seconds
        self._logger = logger
        self._hashing: tuple[int, asyncio.Task[KeyValueHash]] | None = None
        self._comparing: dict[int, asyncio.Task[Comparison]] = {}
        self._undecided = 0
        self._one_at_a_time = asyncio.Lock()
        self._content_seconds = 0.0
        self.comparisons_total = 0
        self.differences_total = 0

    # -- whoever is asked

    async def handle_hashes(self, _payload: bytes) -> bytes:
        """The leader asks for what is known."""
        return json.dumps(self._known()).encode()

    async def handle_content(self, payload: bytes) -> bytes:
        """The leader asks for the hash at {"revision": R}; `{}` is no answer yet."""
        try:
            revision = int(json.loads(payload)["revision"])
        except (ValueError, KeyError, TypeError):
            revision = 0
        return json.dumps(self._content(revision)).encode()

    async def handle_compare(self, payload: bytes) -> bytes:
        """A member asks the leader to compare it with all: {"member": id}; `{}`: not yet done.

        Raises `NotLeader`.
        """
        if not self._leadership.leads:
            raise NotLeader
        try:
            member = int(json.loads(payload)["member"], 16)
        except (ValueError, KeyError, TypeError):
            raise NotLeader from None
        task = self._comparing.get(member)
        if task is None:
            if member not in self._members():
                raise NotLeader
            task = self._comparing[member] = asyncio.create_task(self.compare(acquit=member))
        await asyncio.wait([task], timeout=POLL_SECONDS)
        if not task.done():
            return b"{}"
        del self._comparing[member]
        found = task.result()
        return json.dumps(
            {
                "revision": found.revision,
                "equal": member in found.equal,
                "named": [f"{named:x}" for named in sorted(found.named)],
                "silent": [f"{silent:x}" for silent in sorted(found.silent)],
            }
        ).encode()

    # -- the leader

    async def run(self) -> None:
        """Compare, while this member leads others, until cancelled."""
        content_at = time.monotonic() + self._interval()
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            if not self._leadership.leads or len(self._book.holders) < 2 or self._busy():
                continue
            try:
                await self._look()
                if time.monotonic() >= content_at:
                    await self.compare()
                    content_at = time.monotonic() + self._interval()
            except RequestError:
                continue  # no leader any more, or no majority: whoever leads then compares

    async def compare(self, acquit: int | None = None) -> Comparison:
        """Compare the whole history of all members now; one who is wrong gets the alarm.

        `acquit` names a member that was repaired: if it is equal to the others it loses the alarm.
        Raises `RequestError` when the alarms cannot be changed.
        """
        async with self._one_at_a_time:
            for _ in range(CONTENT_TRIES):
                found = await self._compare_once()
                if found is not None:
                    break
            else:
                revision = int(self._store.revision)
                return Comparison(revision, frozenset(), frozenset(), self._members())
        self.comparisons_total += 1
        if found.named:
            await self._accuse(found.named, point=f"revision {found.revision}")
        if acquit in found.equal:
            cleared = {acquit, NOBODY_KNOWN} if found.all_equal else {acquit}
            for member in sorted(self._standing() & cleared):
                await self._change_alarm(member, False)  # noqa: FBT003
        return found

    async def _look(self) -> None:
        """What everybody knows already."""
        others = sorted(self._others() & self._reached())
        answers = await asyncio.gather(*(self._ask(member, HASHES_METHOD, {}) for member in others))
        known: dict[int, Mapping[str, Any]] = {self._book.own_id: self._known()}
        known.update({m: a for m, a in zip(others, answers, strict=True) if a is not None})
        self.comparisons_total += 1
        differing = {
            point: verdict
            for point, values in _points(known).items()
            if (verdict := judge(values, self._members())).named
        }
        decided = [(p, v) for p, v in differing.items() if NOBODY_KNOWN not in v.named]
        if decided:
            await self._accuse(decided[0][1].named, decided[0][0])
        elif differing and NOBODY_KNOWN not in self._standing():
            await self._decide(*next(iter(differing.items())))
        else:
            self._undecided = 0

    async def _decide(self, point: str, verdict: Verdict) -> None:
        """Two differ, and the others do not know that point: what lies on their disks may tell."""
        if (await self.compare()).named or self._standing():
            return
        self._undecided += 1
        if verdict.final or self._undecided > UNDECIDED_LOOKS:
            await self._accuse(verdict.named, point)

    async def _compare_once(self) -> Comparison | None:
        """None when it has to be done again at a later revision."""
        began = time.monotonic()
        revision = int(self._store.revision)
        members = self._members()
        answers = await asyncio.gather(*(self._content_of(m, revision) for m in sorted(members)))
        self._content_seconds = time.monotonic() - began
        found = {m: a for m, a in zip(sorted(members), answers, strict=True) if a is not None}
        own = found.get(self._book.own_id)
        if own is None or any(answer[1] != own[1] for answer in found.values()):
            return None  # compacted meanwhile, or just on one of them
        wrong = judge(found, members).named
        equal = frozenset[int]() if NOBODY_KNOWN in wrong else frozenset(found.keys() - wrong)
        return Comparison(revision, equal, wrong, members - found.keys())

    async def _content_of(self, member: int, revision: int) -> tuple[int, int] | None:
        """(hash, compact revision) of a member; None when it does not say."""
        asked = {"revision": revision}
        until = time.monotonic() + CONTENT_SECONDS_MAX
        missed = 0
        while time.monotonic() < until and missed < 3:
            own = member == self._book.own_id
            answer = self._content(revision) if own else await self._ask_content(member, asked)
            if answer is None:
                missed += 1
            elif "refused" in answer:
                return None
            elif "hash" in answer:
                return int(answer["hash"]), int(answer["compact"])
            await asyncio.sleep(POLL_SECONDS)
        return None

    async def _ask_content(self, member: int, asked: Mapping[str, Any]) -> Mapping[str, Any] | None:
        if member not in self._reached():
            return None
        return await self._ask(member, CONTENT_METHOD, asked)

    async def _ask(
        self, member: int, method: str, asked: Mapping[str, Any]
    ) -> Mapping[str, Any] | None:
        try:
            answer = json.loads(await self._call(member, method, json.dumps(asked).encode()))
        except Exception:  # the network's, or the other side's: it does not answer
            return None
        return answer if isinstance(answer, dict) else None

    async def _accuse(self, named: AbstractSet[int], point: str) -> None:
        new = named - self._standing()
        if not new:
            return
        self.differences_total += len(new)
        self._logger.error(
            Event.MEMBERS_DIFFER,
            member_ids=[f"{member:x}" for member in sorted(new)],
            point=point,
        )
        for member in sorted(new):
            await self._change_alarm(member, True)  # noqa: FBT003
        if self._book.own_id in new:
            await self._resign()

    # -- this member

    def _known(self) -> Mapping[str, Any]:
        if self._busy():
            return {}
        return {
            "segments": [[number, crc] for number, crc in self._rolling.segments().items()],
            "compactions": [list(known) for known in self._store.compaction_hashes()],
        }

    def _content(self, revision: int) -> Mapping[str, Any]:
        """The hash at a revision; reading begins with the first question, one at a time."""
        if self._busy():
            return {"refused": "the store is being replaced"}
        if self._hashing is None or self._hashing[0] != revision:
            if revision > self._store.revision or (
                self._hashing is not None and not self._hashing[1].done()
            ):
                return {}
            self._hashing = revision, asyncio.create_task(self._hash(revision))
        task = self._hashing[1]
        if not task.done():
            return {}
        self._hashing = None
        try:
            found = task.result()
        except (RequestError, KvshimError) as error:
            return {"refused": str(error)}
        return {"hash": found.hash, "compact": found.compact_revision}

    async def _hash(self, revision: int) -> KeyValueHash:
        """Raises `Compacted`, `StorageError`."""
        backend = self._store.backend
        found = await self._on_thread(lambda: hash_content(self._store, revision))
        if self._store.backend is not backend or self._busy():
            raise StorageError("the store was replaced")
        return found

    def _members(self) -> frozenset[int]:
        return frozenset(member.id for member in self._book.holders)

    def _others(self) -> frozenset[int]:
        return self._members() - {self._book.own_id}

    def _interval(self) -> float:
        if self._every_seconds > 0:
            return self._every_seconds
        return max(CONTENT_SECONDS_MIN, CONTENT_SHARE * self._content_seconds)


def _points(known: Mapping[int, Mapping[str, Any]]) -> dict[str, dict[int, Hashable]]:
    """What each member has at each point that it knows of."""
    points: dict[str, dict[int, Hashable]] = {}
    for member, hashes in known.items():
        for number, crc in hashes.get("segments", ()):
            points.setdefault(f"log segment {int(number)}", {})[member] = int(crc)
        for value, compact, revision in hashes.get("compactions", ()):
            name = f"compaction of {int(revision)} after {int(compact)}"
            points.setdefault(name, {})[member] = int(value)
    return points
