"""Cluster and MoveLeader on a cluster of one: a learner that never comes, and what is refused."""

import itertools

import pytest

from kvshim.pb.etcd import rpc_pb2 as pb
from tests.api.errors import ApiError, Code, refused

FAILED = Code.FAILED_PRECONDITION
NOT_FOUND = ApiError(Code.NOT_FOUND, "etcdserver: member not found")
URL_EXISTS = ApiError(FAILED, "etcdserver: Peer URLs already exists")
BAD_URLS = ApiError(Code.INVALID_ARGUMENT, "etcdserver: given member URLs are invalid")
NOT_STARTED = ApiError(
    Code.UNKNOWN, "etcdserver: re-configuration failed due to not enough started members"
)
NOT_LEARNER = ApiError(FAILED, "etcdserver: can only promote a learner member")
NOT_READY = ApiError(
    FAILED, "etcdserver: can only promote a learner member which is in sync with leader"
)
TOO_MANY_LEARNERS = ApiError(FAILED, "etcdserver: too many learner members in cluster")
BAD_TRANSFEREE = ApiError(FAILED, "etcdserver: bad leader transferee")

HERE, THERE, ELSEWHERE = (f"http://127.0.0.1:{port}" for port in (1, 2, 3))

_ports = itertools.count(10)


def call(client, name, **fields):
    """Cluster.Member<name>."""
    request = getattr(pb, f"Member{name}Request")(**fields)
    method, response = f"etcdserverpb.Cluster/Member{name}", getattr(pb, f"Member{name}Response")
    return client.call(method, request, response)


def move_leader(client, target):
    request = pb.MoveLeaderRequest(targetID=target)
    return client.call("etcdserverpb.Maintenance/MoveLeader", request, pb.MoveLeaderResponse)


@pytest.fixture(scope="module")
def client(launch):
    """A cluster of one; each test leaves it so."""
    return launch()


@pytest.fixture
def learner(client):
    """A learner that was added and never comes.

    At an address of its own: etcd gives one address the same id twice within a second.
    """
    address = f"http://127.0.0.1:{next(_ports)}"
    member = call(client, "Add", peerURLs=[address], isLearner=True).member
    yield member
    call(client, "Remove", ID=member.ID)


def test_an_added_learner_is_listed_unstarted(client):
    response = call(client, "Add", peerURLs=[HERE], isLearner=True)
    added = response.member
    assert added == pb.Member(ID=added.ID, peerURLs=[HERE], isLearner=True)
    assert response.header.revision == 0
    assert response.header.member_id == client.status().header.member_id
    assert added in response.members
    assert list(client.members().members) == list(response.members)
    assert len(response.members) == 2
    client.put(b"k", b"goes on")
    left = call(client, "Remove", ID=added.ID).members
    assert [member.ID for member in left] == [response.header.member_id]
    assert list(client.members().members) == list(left)


def test_a_server_that_answers_is_known_by_name_and_addresses(launch):
    for _ in range(5):
        own = launch()
        (member,) = own.members().members
        assert member.name == "story"
        assert list(member.clientURLs) == [f"http://{own.target}"]


@pytest.mark.kvshim_only
def test_a_member_added_again_at_once_has_another_id(client):
    ids = set()
    for _ in range(3):
        member = call(client, "Add", peerURLs=[HERE], isLearner=True).member
        ids.add(member.ID)
        call(client, "Remove", ID=member.ID)
        client.put(b"k", b"goes on")
    assert len(ids) == 3


def test_a_removed_member_is_not_found(client, learner):
    other = call(client, "Update", ID=learner.ID, peerURLs=[THERE]).members
    assert [list(m.peerURLs) for m in other if m.ID == learner.ID] == [[THERE]]
    for name, fields in (("Remove", {}), ("Update", {"peerURLs": [ELSEWHERE]}), ("Promote", {})):
        with refused(NOT_FOUND):
            call(client, name, ID=learner.ID + 1, **fields)


def test_a_learner_that_never_came_gets_no_vote(client, learner):
    with refused(NOT_READY):
        call(client, "Promote", ID=learner.ID)
    assert any(m.ID == learner.ID and m.isLearner for m in client.members().members)


def test_one_learner_at_a_time(client, learner):
    with refused(TOO_MANY_LEARNERS):
        call(client, "Add", peerURLs=[THERE], isLearner=True)


def test_an_address_belongs_to_one_member(client, learner):
    (own,) = (m for m in client.members().members if m.ID != learner.ID)
    with refused(URL_EXISTS):
        call(client, "Add", peerURLs=list(own.peerURLs))
    with refused(URL_EXISTS):
        call(client, "Update", ID=learner.ID, peerURLs=list(own.peerURLs))


@pytest.mark.parametrize(
    "urls", [[], ["127.0.0.1:2380"], ["ftp://127.0.0.1:1"], ["http://127.0.0.1"], [HERE + "/path"]]
)
def test_bad_addresses_are_refused(client, urls):
    with refused(BAD_URLS):
        call(client, "Add", peerURLs=urls)


def test_the_last_voter_cannot_be_removed(client):
    with refused(NOT_STARTED):
        call(client, "Remove", ID=client.status().header.member_id)


def test_a_voter_cannot_be_promoted(client):
    with refused(NOT_LEARNER):
        call(client, "Promote", ID=client.status().header.member_id)


def test_leadership_moves_to_voters_only(client, learner):
    for target in (0, learner.ID, learner.ID + 1):
        with refused(BAD_TRANSFEREE):
            move_leader(client, target)
    own = client.status().header.member_id
    assert not move_leader(client, own).HasField("header")
    assert client.status().leader == own
