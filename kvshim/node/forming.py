"""How a member begins: first of a new cluster, joining one, or where it left off.

Called once, before anything runs. What is on disk counts: flags about forming a cluster matter only
once, as in etcd.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kvshim.config import ClusterState, Config, Url
from kvshim.errors import StartupError
from kvshim.logs import Logger
from kvshim.node.identity import cluster_id_of, member_id_of
from kvshim.node.peers import ask_cluster
from kvshim.node.recovery import new_cluster_id, settle_plan
from kvshim.node.storage import Storage
from kvshim.pb.kvshim.member_pb2 import Member
from kvshim.pki.files import Pki
from kvshim.server.joining import Joined
from kvshim.types import ClusterID, MemberID


@dataclass(frozen=True, slots=True)
class Formation:
    """Whose data it is. `others` is who to talk to while the store does not name the members yet:
    a member that joins learns them with its first snapshot.
    """

    member_id: MemberID
    cluster_id: ClusterID
    others: Sequence[Member] = ()


async def form(storage: Storage, config: Config, directory: Path, logger: Logger) -> Formation:
    """Raises `StartupError`."""
    settle_plan(directory, storage.log.cluster_id)
    if storage.lost_its_first_members:
        storage.store_first_members(_remembered(config, storage.log.member_id))
    if not storage.is_fresh:
        member_id, cluster_id = MemberID(storage.log.member_id), ClusterID(storage.log.cluster_id)
        if storage.members():
            return Formation(member_id, cluster_id)
        if storage.log.last_index > 0:
            storage.name_sole_member(_member(config, member_id))
            return Formation(member_id, cluster_id)
    if storage.is_imported:
        return _begin_alone(storage, config, directory)
    if (joined := _joined(directory)) is not None:
        if storage.is_fresh:
            storage.begin_joining(joined.cluster_id, joined.member_id)
        return Formation(
            MemberID(joined.member_id), ClusterID(joined.cluster_id), _introduced(joined)
        )
    if not storage.is_fresh:
        info = await ask_cluster(_others(config), config, directory, logger)
        return Formation(member_id, cluster_id, info.members.members)
    if config.initial_cluster_state is ClusterState.EXISTING:
        return await _join(storage, config, directory, logger)
    return _begin(storage, config)


def _joined(directory: Path) -> Joined | None:
    """What `kvshim join` was answered, if this data is that of a node that joined."""
    joined = Joined.load(directory)
    return joined if joined is not None and Pki.of(directory).exists() else None


def _introduced(joined: Joined) -> list[Member]:
    return [
        Member(
            id=peer.id,
            name=peer.name,
            peer_urls=peer.peer_urls,
            learner=peer.learner,
            managed=peer.id == joined.member_id,
            spare=peer.spare,
        )
        for peer in joined.members
    ]


def _begin(storage: Storage, config: Config) -> Formation:
    """A new cluster. If flags name its members, they give the same ids on each of them; without
    any, a cluster id of its own keeps this cluster apart from all others that began so.
    """
    members = _first_members(config)
    if config.initial_cluster_given:
        cluster_id = cluster_id_of([MemberID(member.id) for member in members])
    else:
        cluster_id = ClusterID(new_cluster_id())
    own = dict(config.initial_cluster)[config.name]
    member_id = member_id_of(map(str, own), config.initial_cluster_token)
    storage.begin_cluster(cluster_id, member_id, members)
    return Formation(member_id, cluster_id)


def _begin_alone(storage: Storage, config: Config, directory: Path) -> Formation:
    """A new cluster on data that was imported, which other members would lack."""
    joins = config.initial_cluster_state is ClusterState.EXISTING or _joined(directory) is not None
    if joins or len(config.initial_cluster) > 1:
        raise StartupError(
            f"the data in {config.data_dir} was imported, so a cluster begins with this member"
            " alone: name no other in --initial-cluster, and let the others join when it runs"
        )
    return _begin(storage, config)


def _first_members(config: Config) -> list[Member]:
    members = [
        Member(
            id=member_id_of(map(str, urls), config.initial_cluster_token),
            peer_urls=sorted(map(str, urls)),
        )
        for _, urls in config.initial_cluster
    ]
    return sorted(members, key=lambda member: member.id)


def _remembered(config: Config, own_id: int) -> list[Member]:
    """The first members of a cluster whose log is there but not its store. Raises `StartupError`.

    A member that was alone keeps its id, whatever its addresses are by now.
    """
    members = _first_members(config)
    if len(members) == 1:
        return [_member(config, own_id)]
    if all(member.id != own_id for member in members):
        raise StartupError(
            f"the store in {config.data_dir} is missing, and --initial-cluster does not name the"
            " members that its log began with: give the first --initial-cluster again"
        )
    return members


async def _join(storage: Storage, config: Config, directory: Path, logger: Logger) -> Formation:
    """A cluster that knows this member by its peer addresses already (`etcdctl member add`)."""
    info = await ask_cluster(_others(config), config, directory, logger)
    own = {str(url) for url in config.initial_advertise_peer_urls}
    for member in info.members.members:
        if own == set(member.peer_urls):
            storage.begin_joining(info.cluster_id, member.id)
            return Formation(MemberID(member.id), ClusterID(info.cluster_id), info.members.members)
    raise StartupError(
        f"the cluster has no member at {_listed(config.initial_advertise_peer_urls)}:"
        " add it first, with etcdctl member add"
    )


def _others(config: Config) -> list[Url]:
    return [url for name, urls in config.initial_cluster if name != config.name for url in urls]


def _listed(urls: tuple[Url, ...]) -> str:
    return ",".join(map(str, urls))


def _member(config: Config, member_id: int) -> Member:
    return Member(
        id=member_id,
        name=config.name,
        peer_urls=[str(url) for url in config.initial_advertise_peer_urls],
        client_urls=[str(url) for url in config.advertise_client_urls],
    )
