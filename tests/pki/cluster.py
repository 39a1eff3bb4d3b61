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
from kvshim.config.url import parse_url
from kvshim.errors import RequestError
from kvshim.logs import make_logger
from kvshim.mvcc.store import Store
from kvshim.pki.certificates import authorize
from kvshim.pki.contexts import PeerTls
from kvshim.pki.files import Pki
from kvshim.server.admission import Admission, Caller, KnownMember
from kvshim.server.certificates import CertificateKeeper

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
        self.members: list[KnownMember] = []
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
        self.answers_lost = 0

    # `kvshim.server.admission.Cluster`

    def members(self):
        return self.shared.members

    async def add(self, member):
        if self.fail_next_add:
            self.fail_next_add = False
            raise RequestError("etcdserver: request timed out")
        self.shared.members.append(member)

    async def remove(self, member_id):
        self.shared.members[:] = [m for m in self.shared.members if m.id != member_id]

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
        log = make_logger(self.lines, [lambda _, __, fields: repr(fields).encode()], 10)
        self.admission = Admission(
            self.pki,
            self,
            log,
            wall_clock=lambda: self.shared.now,
            clock=lambda: self.monotonic,
        )
        self.keeper = CertificateKeeper(
            self.pki, self.tls, self, Calls(), log=log, wall_clock=lambda: self.shared.now
        )
        self.server = await asyncio.start_server(self._answer, "127.0.0.1", 0, ssl=self.tls.server)
        self.port = self.server.sockets[0].getsockname()[1]
        self.address = f"127.0.0.1:{self.port}"

    async def stop(self):
        self.server.close()

    async def _answer(self, reader, writer):
        try:
            method = (await _read(reader)).decode()
            payload = await _read(reader)
            certificate = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
            caller = Caller(writer.get_extra_info("peername")[0], certificate)
            handlers = dict(self.admission.open_handlers())
            if authorize(certificate, CLUSTER_ID, 0) is None:
                handlers |= self.admission.member_handlers()
            if method in handlers:
                answer = await handlers[method](caller, payload)
                if method == "join" and self.answers_lost:
                    self.answers_lost -= 1
                else:
                    _write(writer, answer)
        except (OSError, EOFError):
            pass
        finally:
            writer.close()


class Calls:
    """`kvshim.server.joining.PeerCalls`: a connection for each call."""

    async def call(self, url, method, payload, timeout, tls):  # noqa: ASYNC109
        where = parse_url(url)
        async with asyncio.timeout(timeout):
            reader, writer = await asyncio.open_connection(where.host, where.port, ssl=tls)
            try:
                _write(writer, method.encode())
                _write(writer, payload)
                return await _read(reader)
            except EOFError:
                raise ConnectionResetError("the server hung up") from None
            finally:
                writer.close()


def _write(writer, data):
    writer.write(len(data).to_bytes(4, "big") + data)


async def _read(reader):
    return await reader.readexactly(int.from_bytes(await reader.readexactly(4), "big"))


@asynccontextmanager
async def cluster_of_one(path: Path, *, founded_at: float | None = None):
    """The first member, which holds the CA's key."""
    shared = Shared(path)
    first = Voter(shared, path / "first", 1)
    first.pki.found(CLUSTER_ID, 1, ["127.0.0.1"], founded_at or shared.now)
    await first.serve()
    shared.members.append(KnownMember(1, "first", (f"https://{first.address}",)))
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
    known = KnownMember(joined.member_id, joined.name, (f"https://{second.address}",))
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
