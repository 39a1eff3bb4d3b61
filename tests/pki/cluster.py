"""A cluster as far as trust goes: real files, real TLS sockets, tokens in a real store.

The log between the voters is left out: they share one store, as members do once an entry is
applied on each.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from contextlib import asynccontextmanager
from pathlib import Path

from kvshim.apply.dispatch import Applier
from kvshim.apply.tokens import find_token
from kvshim.backend.backend import Backend
from kvshim.errors import RequestError
from kvshim.logs import make_logger
from kvshim.mvcc.store import Store
from kvshim.pb.kvshim.member_pb2 import Member
from kvshim.pki.contexts import PeerTls
from kvshim.pki.files import Pki
from kvshim.server.admission import Admission
from kvshim.server.certificates import CertificateKeeper
from kvshim.server.joining import strangers_calls
from kvshim.server.peer_trust import authorizer, serve
from raft.transport.options import CallRefused, Identity, TransportOptions
from raft.transport.transport import PeerTransport

CLUSTER_ID = 0xC105


class Lines:
    """A log output to look into."""

    def __init__(self):
        self.text = ""

    def write(self, line):
        self.text += line.decode()


class Shared:
    """What every member has applied."""

    def __init__(self, path: Path):
        self.store = Store(Backend.open(path / "kv-1.db"))
        self.applier = Applier(())
        self.members: list[Member] = []
        self.removed: set[int] = set()
        self.index = 0
        self.now = time.time()

    def apply(self, command):
        self.index += 1
        with self.store.write() as batch:
            response = self.applier.apply(batch, command, 1).response
            batch.set_applied(self.index, 1)
        if isinstance(response, RequestError):
            raise response
        return response


class Voter:
    """One member: its files, its view as `Cluster`, its server."""

    def __init__(self, shared: Shared, data_dir: Path, member_id: int):
        self.shared = shared
        self.cluster_id, self.member_id = CLUSTER_ID, member_id
        self.pki = Pki.of(data_dir)
        self.lines = Lines()
        self.monotonic = 0.0
        self.fail_next_add = False

    # `kvshim.server.admission.Cluster`

    def members(self):
        return self.shared.members

    async def add(self, member):
        if self.fail_next_add:
            self.fail_next_add = False
            raise RequestError("etcdserver: request timed out")
        await asyncio.sleep(0.01)  # both of two that come at once are on their way by then
        if any(known.id == member.id for known in self.shared.members):
            raise RequestError("etcdserver: member ID already exist")
        self.shared.members.append(member)

    async def remove(self, member_id):
        self.shared.members[:] = [m for m in self.shared.members if m.id != member_id]
        self.shared.removed.add(member_id)

    async def token(self, token_id):
        with self.shared.store.read() as view:
            return find_token(view, token_id)

    async def propose(self, command, response):
        await asyncio.sleep(0)  # as a log does: others may come in between
        answer = self.shared.apply(command)
        assert isinstance(answer, response)
        return answer

    # Its server

    async def serve(self):
        self.tls = PeerTls(self.pki)
        options = TransportOptions(
            snapshot_dir=self.pki.folder.parent / "snapshots",
            server_tls=self.tls.server,
            client_tls=self.tls.client,
            authorize=authorizer(self.shared.removed.__contains__),
        )
        self.transport = LosingTransport(
            Identity(CLUSTER_ID, self.member_id), Silent(), options=options
        )
        log = make_logger(self.lines, [lambda _, __, fields: repr(fields).encode()], 10)
        self.admission = Admission(
            self.pki,
            self,
            log,
            wall_clock=lambda: self.shared.now,
            clock=lambda: self.monotonic,
        )
        self.members_changed = asyncio.Event()
        self.step_done = asyncio.Event()
        self.keeper = CertificateKeeper(
            self.pki,
            self.tls,
            self,
            self.transport,
            log=log,
            changed=self._changed,
            wall_clock=lambda: self.shared.now,
        )
        serve(self.admission, self.transport)
        ((_, self.port),) = self.transport.bind([("127.0.0.1", 0, True)])
        self.address = f"127.0.0.1:{self.port}"
        await self.transport.start()

    async def _changed(self):
        self.step_done.set()
        await self.members_changed.wait()
        self.members_changed.clear()

    async def stop(self):
        await self.transport.stop()


class Silent:
    """`raft.transport.Receiver`: there is no log here."""

    def received(self, messages):
        raise AssertionError(messages)

    def unreachable(self, member):
        pass

    async def snapshot_received(self, message, path):
        raise AssertionError(message)


class LosingTransport(PeerTransport):
    """The real one, but for answers to joiners that are lost on the way."""

    answers_lost = 0

    def handle(self, method, handler, *, open_to_strangers=False):
        async def losing(payload, peer):
            answer = await handler(payload, peer)
            if method == "join" and self.answers_lost:
                self.answers_lost -= 1
                raise CallRefused("lost", "the answer was lost")
            return answer

        super().handle(method, losing, open_to_strangers=open_to_strangers)


class Calls:
    """Of a node that is no member; for tests that come in between."""

    def __init__(self):
        self._calls = strangers_calls(Path("unused"))

    async def call(self, url, method, payload, timeout, *, tls):  # noqa: ASYNC109
        return await self._calls.call(url, method, payload, timeout, tls=tls)


@asynccontextmanager
async def cluster_of_one(path: Path, *, founded_at: float | None = None):
    """The first member, which holds the CA's key."""
    shared = Shared(path)
    first = Voter(shared, path / "first", 1)
    first.pki.found(CLUSTER_ID, 1, ["127.0.0.1"], founded_at or shared.now)
    await first.serve()
    shared.members.append(Member(id=1, name="first", peer_urls=(f"https://{first.address}",)))
    try:
        yield first
    finally:
        await first.stop()
        shared.store.backend.close()


@asynccontextmanager
async def second_voter(first: Voter, data_dir: Path, joined):
    """A node that joined, serving, and promoted to voter."""
    second = Voter(first.shared, data_dir, joined.member_id)
    await second.serve()
    known = Member(id=joined.member_id, name=joined.name, peer_urls=(f"https://{second.address}",))
    first.shared.members[:] = [
        known if m.id == joined.member_id else m for m in first.shared.members
    ]
    try:
        yield second
    finally:
        await second.stop()


@asynccontextmanager
async def impostor(chain: ssl.SSLContext):
    """A server that keeps whatever is sent to it."""
    heard = bytearray()

    async def listen(reader, writer):
        try:
            while data := await reader.read(4096):
                heard.extend(data)
        except OSError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(listen, "127.0.0.1", 0, ssl=chain)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}", heard
    finally:
        server.close()
