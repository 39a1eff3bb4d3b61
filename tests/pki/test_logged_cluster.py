"""Admission on the node's own proposer, reader and member book: the log alone is cut short here."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest

from kvshim.apply.dispatch import Applier
from kvshim.apply.members import apply_change, members_of, store_members
from kvshim.backend.backend import Backend
from kvshim.errors import RequestError
from kvshim.mvcc.store import Store
from kvshim.pb.kvshim.command_pb2 import Command
from kvshim.pb.kvshim.member_pb2 import Member
from kvshim.pb.kvshim.token_pb2 import Token, TokenAddRequest, TokenAddResponse
from kvshim.server import peer_trust
from kvshim.server.admission import Refused
from kvshim.server.members import MemberBook
from kvshim.server.peer_trust import LoggedCluster
from kvshim.server.proposer import Proposer
from kvshim.server.reader import Reader
from raft.interface import ConfChangeRefused, Index


class InstantLog:
    """A log of one member that applies at once, and refuses as many changes as it is told."""

    def __init__(self, store):
        self.store = store
        self.refusals = 0
        self.changes = 0
        self.index = 1
        self.applier = Applier(())

    def propose(self, data):
        command = Command.FromString(data)
        self._apply(
            lambda batch: (command.id, self.applier.apply(batch, command, 1)),
        )

    async def propose_change(self, change):
        if self.refusals:
            self.refusals -= 1
            raise ConfChangeRefused("another change is under way")
        self.changes += 1
        self._apply(lambda batch: apply_change(batch, change))

    def _apply(self, execute):
        self.index += 1
        with self.store.write() as batch:
            command_id, applied = execute(batch)
            batch.set_applied(self.index, 1)
        self.book.observe(applied.effects)
        answers = [(command_id, applied.response)]
        asyncio.get_running_loop().call_soon(self.proposer.settle, answers)

    async def read_index(self):
        return Index(self.index)


@pytest.fixture
async def log(tmp_path):
    store = Store(Backend.open(tmp_path / "kv-1.db"))
    first = Member(id=1, name="first", peer_urls=["https://10.0.0.1:2380"])
    with store.write() as batch:
        store_members(batch, [first])
        batch.set_applied(1, 1)
    log = InstantLog(store)
    log.proposer = Proposer(log, 1, 1 << 20, 5.0)
    log.book = MemberBook(1, [first], log.proposer)
    with ThreadPoolExecutor(1) as readers:
        reader = Reader(store, log, readers, 5.0)
        log.cluster = LoggedCluster(7, log.book, log.proposer, reader, numbers=lambda: None)
        yield log
    store.backend.close()


def newcomer():
    return Member(
        id=2,
        name="second",
        peer_urls=["https://10.0.0.2:2380"],
        client_urls=["https://10.0.0.2:2379"],
        learner=True,
        managed=True,
        failure_domain="rack 2",
    )


async def test_a_newcomer_is_stored_as_it_said_it_is_under_the_id_of_its_key(log):
    await log.cluster.add(newcomer())
    with log.store.read() as view:
        assert members_of(view)[1] == newcomer()
    assert list(log.cluster.members()) == list(log.book.members)
    await log.cluster.add(newcomer())  # asked twice, changed once
    assert log.changes == 1


async def test_a_newcomer_waits_while_another_change_is_under_way(log, monkeypatch):
    monkeypatch.setattr(peer_trust, "RETRY_SECONDS", 0.0)
    log.refusals = 3
    await log.cluster.add(newcomer())
    assert log.changes == 1


async def test_a_newcomer_does_not_wait_for_ever(log, monkeypatch):
    monkeypatch.setattr(peer_trust, "RETRY_SECONDS", 0.0)
    monkeypatch.setattr(peer_trust, "ADD_TIMEOUT_SECONDS", 0.0)
    log.refusals = 1_000_000
    with pytest.raises(Refused, match="another change is under way"):
        await log.cluster.add(newcomer())
    assert log.changes == 0


async def test_a_removed_id_does_not_come_back(log):
    await log.cluster.add(newcomer())
    await log.cluster.remove(2)
    with pytest.raises(RequestError):
        await log.cluster.add(newcomer())
    assert [member.id for member in log.cluster.members()] == [1]


async def test_a_token_is_found_by_the_read_that_follows_it(log):
    token = Token(id=b"t", verifier=b"v", expires_ms=1000)
    command = Command(token_add=TokenAddRequest(token=token, now_ms=0))
    await log.cluster.propose(command, TokenAddResponse)
    assert await log.cluster.token(b"t") == token
    assert await log.cluster.token(b"u") is None
