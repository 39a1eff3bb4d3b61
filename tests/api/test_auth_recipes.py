"""Auth while it is on: locks and elections are their caller's own reads and writes."""

import pytest

from kvshim.pb.etcd import election_pb2, lock_pb2
from tests.api.errors import ApiError, Code, refused
from tests.api.test_lock import lock, lock_later, wait_for_queue
from tests.api.users import (
    READWRITE,
    ROOT_PASSWORD,
    UserClient,
    add_root,
    add_user,
    auth,
    login,
)
from tests.support.grpc_client import EtcdClient

DENIED = ApiError(Code.UNKNOWN, "etcdserver: permission denied")
NOBODY = ApiError(Code.UNKNOWN, "etcdserver: user name is empty")


@pytest.fixture(scope="module")
def nobody(launch) -> EtcdClient:
    client = launch("--bcrypt-cost=4")
    add_root(client)
    add_user(client, "ann", (READWRITE, b"ann/", b"ann0"))
    auth(client, "Enable")
    return client


@pytest.fixture
def ann(nobody):
    client = UserClient(nobody.target, ("token", login(nobody, "ann", "ann")))
    yield client
    client.close()


@pytest.fixture
def root(nobody):
    client = UserClient(nobody.target, ("token", login(nobody, "root", ROOT_PASSWORD)))
    yield client
    client.close()


def test_a_user_locks_where_he_may_write(ann):
    held = lock(ann, b"ann/mutex", ann.grant(60).ID)
    ann.call("v3lockpb.Lock/Unlock", lock_pb2.UnlockRequest(key=held.key), lock_pb2.UnlockResponse)
    with refused(DENIED):
        lock(ann, b"bob/mutex", ann.grant(60).ID)
    with refused(DENIED):
        ann.call(
            "v3lockpb.Lock/Unlock", lock_pb2.UnlockRequest(key=b"bob"), lock_pb2.UnlockResponse
        )


def test_a_user_leads_where_he_may_write(ann, root):
    campaign = election_pb2.CampaignRequest(name=b"ann/chair", value=b"ann", lease=ann.grant(60).ID)
    ann.call("v3electionpb.Election/Campaign", campaign, election_pb2.CampaignResponse)
    asked = election_pb2.LeaderRequest(name=b"ann/chair")
    leader = root.call("v3electionpb.Election/Leader", asked, election_pb2.LeaderResponse)
    assert leader.kv.value == b"ann"
    campaign.name = b"bob/chair"
    with refused(DENIED):
        ann.call("v3electionpb.Election/Campaign", campaign, election_pb2.CampaignResponse)


def test_who_says_nothing_locks_nothing(nobody):
    with refused(NOBODY):
        lock(nobody, b"ann/mutex")
    with refused(NOBODY):
        lock(nobody, b"ann/mutex", 4711)


@pytest.mark.kvshim_only
def test_a_waiter_that_gives_up_deletes_its_key_itself(ann):
    """etcd deletes it in nobody's name, which is refused, so the key stays as long as its lease."""
    lock(ann, b"ann/queue", ann.grant(60).ID)
    waiting = lock_later(ann, b"ann/queue", ann.grant(60).ID)
    wait_for_queue(ann, b"ann/queue", 2)
    waiting.cancel()
    wait_for_queue(ann, b"ann/queue", 1)
