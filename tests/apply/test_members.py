"""Members in the replicated state: what a change does, what is refused, and what never returns."""

import pytest

from kvshim.apply.members import (
    apply_attributes,
    apply_change,
    apply_spare,
    apply_update,
    members_of,
    membership_of,
    removed_of,
    store_members,
)
from kvshim.apply.outcome import MembersChanged
from kvshim.errors import (
    MemberExists,
    MemberNotFound,
    MemberNotLearner,
    MemberRefused,
    PeerURLExists,
)
from kvshim.pb.kvshim.member_pb2 import (
    Member,
    MemberAttributesRequest,
    MemberChange,
    MemberUpdateRequest,
    SpareRequest,
)
from raft.types import ChangeKind, ConfChange, MemberId, Membership

COMMAND = 77


class Meta:
    def __init__(self):
        self.values = {}

    def meta(self, name):
        return self.values.get(name)

    def meta_put(self, name, value):
        self.values[name] = value


def url(number):
    return f"http://10.0.0.{number}:2380"


@pytest.fixture
def batch():
    meta = Meta()
    store_members(meta, [Member(id=1, name="a", peer_urls=[url(1)])])
    return meta


def change(batch, kind, member_id, **fields):
    member = Member(id=member_id, **fields)
    context = MemberChange(id=COMMAND, member=member).SerializeToString()
    command_id, applied = apply_change(batch, ConfChange(kind, MemberId(member_id), context))
    assert command_id == COMMAND
    return applied


def test_a_learner_comes_gets_a_vote_and_goes(batch):
    change(batch, ChangeKind.ADD_LEARNER, 2, peer_urls=[url(2)])
    assert membership_of(batch) == Membership.of([1], [2])
    change(batch, ChangeKind.PROMOTE, 2)
    assert membership_of(batch) == Membership.of([1, 2])
    assert list(members_of(batch)[1].peer_urls) == [url(2)]
    change(batch, ChangeKind.DEMOTE, 2)
    assert membership_of(batch) == Membership.of([1], [2])
    change(batch, ChangeKind.REMOVE, 2)
    assert membership_of(batch) == Membership.of([1])
    assert removed_of(batch) == {2}


def test_the_answer_and_the_effect_list_all_members(batch):
    applied = change(batch, ChangeKind.ADD_VOTER, 2, peer_urls=[url(2)])
    assert [member.id for member in applied.response.members] == [1, 2]
    (effect,) = applied.effects
    assert effect == MembersChanged(tuple(members_of(batch)))


@pytest.mark.parametrize(
    ("kind", "member_id", "error"),
    [
        (ChangeKind.ADD_LEARNER, 1, MemberExists),
        (ChangeKind.ADD_VOTER, 1, MemberExists),
        (ChangeKind.PROMOTE, 1, MemberNotLearner),
        (ChangeKind.PROMOTE, 9, MemberNotFound),
        (ChangeKind.REMOVE, 9, MemberNotFound),
        (ChangeKind.REMOVE, 1, MemberRefused),
        (ChangeKind.DEMOTE, 1, MemberRefused),
    ],
)
def test_what_no_longer_fits_is_refused_and_changes_nothing(batch, kind, member_id, error):
    before = dict(batch.values)
    applied = change(batch, kind, member_id)
    assert type(applied.response) is error
    assert applied.effects == ()
    assert batch.values == before


def test_a_removed_id_never_comes_back(batch):
    change(batch, ChangeKind.ADD_VOTER, 2, peer_urls=[url(2)])
    change(batch, ChangeKind.REMOVE, 2)
    applied = change(batch, ChangeKind.ADD_LEARNER, 2, peer_urls=[url(2)])
    assert isinstance(applied.response, MemberNotFound)
    assert membership_of(batch) == Membership.of([1])


def test_a_member_tells_its_name_and_moves(batch):
    change(batch, ChangeKind.ADD_VOTER, 2, peer_urls=[url(2)])
    change(batch, ChangeKind.REMOVE, 1)
    apply_attributes(batch, MemberAttributesRequest(id=2, name="b", client_urls=["http://b:2379"]))
    apply_update(batch, MemberUpdateRequest(id=2, peer_urls=[url(3)]))
    expected = Member(id=2, name="b", client_urls=["http://b:2379"], peer_urls=[url(3)])
    assert members_of(batch) == [expected]
    assert removed_of(batch) == {1}


def test_an_update_finds_its_member_and_takes_no_other_members_address(batch):
    change(batch, ChangeKind.ADD_VOTER, 2, peer_urls=[url(2)])
    with pytest.raises(MemberNotFound):
        apply_update(batch, MemberUpdateRequest(id=9, peer_urls=[url(9)]))
    with pytest.raises(PeerURLExists):
        apply_update(batch, MemberUpdateRequest(id=2, peer_urls=[url(1)]))
    apply_update(batch, MemberUpdateRequest(id=2, peer_urls=[url(2)]))


def spare(batch, number, **fields):
    member = Member(id=number, peer_urls=[url(number)], managed=True, **fields)
    return apply_spare(batch, SpareRequest(add=member))


def test_a_spare_is_on_the_list_and_unknown_to_the_log(batch):
    applied = spare(batch, 2, name="b")
    assert [member.id for member in applied.response.members] == [1, 2]
    assert members_of(batch)[1].spare
    assert members_of(batch)[1].learner, "it has no vote, as clients see it"
    assert membership_of(batch) == Membership.of([1])


def test_a_spare_becomes_a_standby_and_a_spare_again_and_stays_who_it_is(batch):
    spare(batch, 2, name="b", failure_domain="rack")
    change(batch, ChangeKind.ADD_LEARNER, 2, name="of the past", peer_urls=[url(9)])
    assert membership_of(batch) == Membership.of([1], [2])
    standby = members_of(batch)[1]
    assert (standby.name, standby.spare, standby.managed) == ("b", False, True)
    assert list(standby.peer_urls) == [url(2)]
    change(batch, ChangeKind.REMOVE, 2, spare=True)
    assert membership_of(batch) == Membership.of([1])
    assert members_of(batch)[1].failure_domain == "rack"
    assert members_of(batch)[1].spare
    assert removed_of(batch) == set(), "its id is still its own"


def test_a_spare_that_is_removed_never_returns(batch):
    spare(batch, 2)
    apply_spare(batch, SpareRequest(remove=2))
    assert [member.id for member in members_of(batch)] == [1]
    with pytest.raises(MemberExists):
        spare(batch, 2)
    change(batch, ChangeKind.ADD_LEARNER, 2)
    assert membership_of(batch) == Membership.of([1])


def test_what_a_spare_may_not_be(batch):
    with pytest.raises(MemberExists):
        spare(batch, 1)
    with pytest.raises(PeerURLExists):
        apply_spare(batch, SpareRequest(add=Member(id=2, peer_urls=[url(1)])))
    with pytest.raises(MemberNotFound):
        apply_spare(batch, SpareRequest(remove=9))
    with pytest.raises(MemberRefused):
        apply_spare(batch, SpareRequest(remove=1))


def test_a_failure_domain_is_kept_by_whoever_names_none(batch):
    request = MemberAttributesRequest(id=1, name="a", failure_domain="rack")
    apply_attributes(batch, request)
    apply_attributes(batch, MemberAttributesRequest(id=1, name="new"))
    assert (members_of(batch)[0].name, members_of(batch)[0].failure_domain) == ("new", "rack")
