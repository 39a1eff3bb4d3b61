"""How a member begins: as one of a new cluster's first members, or where it left off.

Called once, before anything runs.
"""

from __future__ import annotations

from kvshim.config import Config
from kvshim.node.identity import cluster_id_of, member_id_of
from kvshim.node.storage import Storage
from kvshim.pb.kvshim.member_pb2 import Member
from kvshim.types import ClusterID, MemberID


def form(storage: Storage, config: Config) -> tuple[MemberID, ClusterID]:
    """The member's and its cluster's ids; fresh data becomes that of a new cluster.

    What is on disk counts: flags about forming a cluster matter only once, as in etcd.
    """
    if not storage.is_fresh:
        member_id, cluster_id = MemberID(storage.log.member_id), ClusterID(storage.log.cluster_id)
        if not storage.members() and storage.log.last_index > 0:
            storage.name_sole_member(_member(config, member_id))
        return member_id, cluster_id
    members = [
        Member(
            id=member_id_of(map(str, urls), config.initial_cluster_token),
            peer_urls=sorted(map(str, urls)),
        )
        for _, urls in config.initial_cluster
    ]
    cluster_id = cluster_id_of([MemberID(member.id) for member in members])
    own = dict(config.initial_cluster)[config.name]
    member_id = member_id_of(map(str, own), config.initial_cluster_token)
    storage.begin_cluster(cluster_id, member_id, members)
    return member_id, cluster_id


def _member(config: Config, member_id: int) -> Member:
    return Member(
        id=member_id,
        name=config.name,
        peer_urls=[str(url) for url in config.initial_advertise_peer_urls],
        client_urls=[str(url) for url in config.advertise_client_urls],
    )
