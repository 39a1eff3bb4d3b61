"""Runs a sequence on one server and writes down everything it answers. Blocking.

Kinds of steps, by the key that names them:

    call       a unary call or a server's stream, with `request`; `as` names who calls
    keepalive  a stream that renews leases, given as a list
    watch      on the stream of this name: `create`, `cancel` with an id, or `progress`
    later      a call of Lock or Election that waits; `queued` is the key it puts first
    join       its answer
    abandon    its client leaves
    observe    the first answer to an observer of an election

Nothing depends on time: before an answer could depend on how far a watcher is, its stream is
settled, which is to say that the server has told that it is up to date.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from google.protobuf.message import Message

from conformance.differential.client import Client, Failure, Metadata, method
from conformance.differential.steps import Known, Sequence, Step, message
from conformance.differential.streams import Streams
from kvshim.pb.etcd import election_pb2, rpc_pb2

ROOT_PASSWORD = "root"
QUEUED_SECONDS_MAX = 15.0
POLL_SECONDS = 0.005
COMPACTED = -5
"""No compaction ever is of this revision."""
LARGEST = (1 << 63) - 1
CHOSEN_MIN = 1 << 40
"""Ids of leases from here on, but for the largest, are made by servers."""
EVERYTHING = {"key": "\x00", "range_end": "\x00"}

Answer: TypeAlias = "Message | list[Message] | Failure | str"


@dataclass(slots=True)
class Transcript:
    """What one server answered; `names` are the ids that it chose, by what to call them.

    `sessions` is whether a lock or an election was asked for. etcd begins to renew its lease and
    stops at once: whether a request to renew leaves meanwhile is a matter of luck, and with it the
    order in which leases end. `stayed` is whether the key of a client that gave up did.
    """

    answers: list[tuple[str, Answer]] = field(default_factory=list)
    names: dict[int, str] = field(default_factory=dict)
    sessions: bool = False
    stayed: bool = False
    requests: int = 0
    base: int = 0


class Run:
    """One sequence on one server."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.known = Known()
        self.transcript = Transcript()
        self._tokens: dict[str, Metadata] = {}
        self._waiting: dict[str, tuple[Any, str]] = {}
        self._streams = Streams(client, self.known, self._fill)

    def run(self, steps: Sequence) -> Transcript:
        """All steps, then a look at everything, then the store is emptied."""
        called = (str(step.get("call", "")) for step in steps)
        self.transcript.sessions = any(name.startswith(("Lock/", "Election/")) for name in called)
        self._begin()
        try:
            for number, step in enumerate(steps):
                self._step(f"{number}", step)
            self._end()
        finally:
            self._streams.close()
        self._clean(steps)
        self.transcript.base = self.known.base
        return self.transcript

    def _begin(self) -> None:
        found = self._call("KV/Range", {"key": "-"})
        assert isinstance(found, rpc_pb2.RangeResponse), found
        self.known.base = self.known.now
        self.known.members.append(found.header.member_id)

    def _step(self, label: str, step: Step) -> None:
        match step:
            case {"later": name, "call": _}:
                self._later(name, step)
            case {"call": name}:
                if name == "KV/Compact":
                    self._streams.settle()
                answer = self._call(name, step.get("request", {}), step.get("as"))
                if name == "KV/Compact":
                    self._finish_compaction()
                self._tell(f"{label} {name}", answer)
                self._learn(name, step, answer)
            case {"keepalive": leases}:
                resolved = [
                    self.known.resolve("$lease", lease["$lease"])
                    if isinstance(lease, dict)
                    else lease
                    for lease in leases
                ]
                metadata = self._tokens.get(step.get("as", ""), ())
                self.transcript.requests += len(resolved)
                self._tell(f"{label} LeaseKeepAlive", self._client.keep_alive(resolved, metadata))
            case {"watch": name}:
                self.transcript.requests += 1
                told = self._streams.step(name, step, self._tokens.get(step.get("as", ""), ()))
                if told is not None:
                    self._tell(f"{label} Watch", told)
            case {"join": name}:
                self._join(label, name)
            case {"abandon": name}:
                self._abandon(name)
            case {"observe": name}:
                self._observe(label, name.encode("latin-1"))
            case _:
                raise ValueError(f"no such step: {step}")

    def _call(self, name: str, request: dict[str, Any], who: str | None = None) -> Answer:
        described = method(name)
        metadata = self._tokens.get(who, ()) if who else ()
        self.transcript.requests += 1
        built = message(described.request, request, self.known)
        answer = self._client.call(name, built, metadata)
        if isinstance(answer, rpc_pb2.CompactionResponse):
            self.known.compactions.append(built.revision)  # type: ignore[attr-defined]
        for part in answer if isinstance(answer, list) else [answer]:
            if not isinstance(part, Failure):
                told = getattr(part, "range_response", part)
                self.known.now = max(self.known.now, told.header.revision)
        return answer

    def _tell(self, label: str, answer: Answer) -> None:
        self.transcript.answers.append((label, answer))

    def _learn(self, name: str, step: Step, answer: Answer) -> None:
        """Remember what later steps refer to, and name the ids that the server chose."""
        match answer:
            case rpc_pb2.LeaseGrantResponse() if not step["request"].get("ID"):
                self._chosen(answer.ID)
            case rpc_pb2.AuthenticateResponse():
                self._tokens[step["request"]["name"]] = (("token", answer.token),)
            case rpc_pb2.MemberAddResponse():
                self.transcript.names[answer.member.ID] = f"member{len(self.known.members)}"
                self.known.members.append(answer.member.ID)
            case election_pb2.CampaignResponse():
                self.known.leaders.append(answer.leader)
                if not step["request"].get("lease"):
                    self._chosen(answer.leader.lease)

    def _chosen(self, lease: int) -> None:
        self.transcript.names[lease] = f"lease{len(self.known.leases)}"
        self.known.leases.append(lease)

    def _finish_compaction(self) -> None:
        """Wait until the rows are gone: with nothing alive etcd hashes whatever is there. A
        physical compaction that is refused waits for those before it, in both."""
        self._call("KV/Compact", {"revision": COMPACTED, "physical": True}, self._root)

    @property
    def _root(self) -> str | None:
        return "root" if "root" in self._tokens else None

    # --- calls that wait

    def _later(self, name: str, step: Step) -> None:
        self.transcript.requests += 1
        request = message(method(step["call"]).request, step["request"], self.known)
        call = self._client.later(step["call"], request)
        self._waiting[name] = call, step["queued"]
        self._wait_for_key(step["queued"], lambda found: found or call.done())

    def _join(self, label: str, name: str) -> None:
        if (waiting := self._waiting.pop(name, None)) is None:
            return
        call = waiting[0]
        failure = call.exception()
        answer = Failure.of(call) if failure is not None else call.result()
        self._tell(f"{label} join", answer)
        if isinstance(answer, election_pb2.CampaignResponse):
            self.known.leaders.append(answer.leader)

    def _abandon(self, name: str) -> None:
        if (waiting := self._waiting.pop(name, None)) is None:
            return
        call, key = waiting
        if not call.done():
            call.cancel()
            self.transcript.stayed |= not self._wait_for_key(key, lambda found: not found)

    def _wait_for_key(self, key: str, done: Any) -> bool:
        """Whether it came, or went, within the time; if not, that is told."""
        deadline = time.monotonic() + QUEUED_SECONDS_MAX
        while time.monotonic() < deadline:
            found = self._call("KV/Range", {"key": key})
            if isinstance(found, Failure) or done(bool(found.kvs)):  # type: ignore[union-attr]
                return True
            time.sleep(POLL_SECONDS)
        self._tell(f"key {key}", "is not as it should be")
        return False

    def _observe(self, label: str, name: bytes) -> None:
        stream = self._client.channel.unary_stream(
            "/v3electionpb.Election/Observe",
            request_serializer=election_pb2.LeaderRequest.SerializeToString,
            response_deserializer=election_pb2.LeaderResponse.FromString,
        )
        observed = stream(election_pb2.LeaderRequest(name=name), timeout=QUEUED_SECONDS_MAX)
        self._tell(f"{label} observe", next(observed))
        observed.cancel()

    # --- the end

    def _fill(self) -> None:
        """One more revision, so that watchers of the future see it come."""
        self._call("KV/Put", {"key": "~"}, self._root)

    def _end(self) -> None:
        for call, _ in self._waiting.values():
            call.cancel()
        self._streams.settle()
        for label, answer in self._streams.told():
            self._tell(label, answer)
        for name, request in (
            ("KV/Range", EVERYTHING),
            ("Lease/LeaseLeases", {}),
            ("Maintenance/HashKV", {}),
        ):
            answer = self._call(name, request, self._root)
            for lease in getattr(answer, "leases", ()):
                if CHOSEN_MIN <= lease.ID < LARGEST and lease.ID not in self.transcript.names:
                    self._chosen(lease.ID)  # by a session that nobody told of
            self._tell(f"end {name}", answer)

    def _clean(self, steps: Sequence) -> None:
        """Empty the store, as far as this sequence can have filled it."""
        used = {str(step.get("call", "")) for step in steps}
        if any(name.startswith("Auth/") for name in used):
            self._clean_auth()
        if "Maintenance/Alarm" in used:
            self._clean_alarms()
        if "Cluster/MemberAdd" in used:
            self._clean_members()
        leases = self._call("Lease/LeaseLeases", {})
        for lease in getattr(leases, "leases", ()):
            self._call("Lease/LeaseRevoke", {"ID": lease.ID})
        for _ in range(2):
            self._call("KV/Put", {"key": "~"})
            self._tell("clean", self._call("KV/DeleteRange", EVERYTHING))
            compaction = {"revision": self.known.now, "physical": True}
            self._tell("clean", self._call("KV/Compact", compaction))
        # What a compaction thins out is hashed as well, and told when it is over.
        request = {"revision": {"$compacted": 1}}
        self._tell("clean HashKV", self._call("Maintenance/HashKV", request))

    def _clean_auth(self) -> None:
        """Users and roles go; the name root must have the password it was given."""
        root = {"name": "root", "password": ROOT_PASSWORD}
        logged_in = self._call("Auth/Authenticate", root)
        if isinstance(logged_in, rpc_pb2.AuthenticateResponse):
            self._tokens["root"] = (("token", logged_in.token),)
            self._call("Auth/AuthDisable", {}, "root")
        for name in getattr(self._call("Auth/UserList", {}), "users", ()):
            self._call("Auth/UserDelete", {"name": name})
        for name in getattr(self._call("Auth/RoleList", {}), "roles", ()):
            self._call("Auth/RoleDelete", {"role": name})
        status = self._call("Auth/AuthStatus", {})
        self._tell("clean", status)

    def _clean_alarms(self) -> None:
        alarms = self._call("Maintenance/Alarm", {"action": "GET"})
        for alarm in getattr(alarms, "alarms", ()):
            request = {"action": "DEACTIVATE", "memberID": alarm.memberID, "alarm": alarm.alarm}
            self._call("Maintenance/Alarm", request)

    def _clean_members(self) -> None:
        for member in getattr(self._call("Cluster/MemberList", {}), "members", ()):
            if self.known.members[0] != member.ID:
                self._call("Cluster/MemberRemove", {"ID": member.ID})
