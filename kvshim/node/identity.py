"""The ids of a new cluster and its first member, computed as etcd computes them.

Equal flags give equal ids, so a node that takes an etcd's place keeps the ids that dashboards and
scripts know (etcd `server/etcdserver/api/membership`). Pure.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from kvshim.types import ClusterID, MemberID


def member_id_of(peer_urls: Iterable[str], cluster_token: str) -> MemberID:
    """The id of a member of a cluster formed by flags."""
    return MemberID(
        _first_eight_bytes("".join(sorted(peer_urls)).encode() + cluster_token.encode())
    )


def cluster_id_of(member_ids: Iterable[MemberID]) -> ClusterID:
    """The id of the cluster that these members form."""
    joined = b"".join(member.to_bytes(8, "big") for member in sorted(member_ids))
    return ClusterID(_first_eight_bytes(joined))


def _first_eight_bytes(data: bytes) -> int:
    return int.from_bytes(hashlib.sha1(data, usedforsecurity=False).digest()[:8], "big")
