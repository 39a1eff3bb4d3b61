"""The version that the cluster runs at, and what came with each. Apply thread; the table anywhere.

A member stops at a command that it does not know, so a new kind waits until every member knows it:
the leader raises the cluster's version through the log once all have announced that they can, and
whoever proposes is held to `LEAST_VERSIONS`. The version is kv.db's `user_version`, so a snapshot
carries it and an older program refuses the file. docs/adr/0016.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Protocol

from kvshim.apply.outcome import Applied, VersionRaised
from kvshim.errors import StorageError
from kvshim.pb.kvshim.command_pb2 import ClusterVersionRequest, ClusterVersionResponse
from kvshim.version import FORMAT_VERSION

ROLES_VERSION: Final = 3
"""From which on there are spares: a learner that goes and stays a member, and failure domains."""

AUTH_VERSION: Final = 4
"""From which on there are users and roles."""

LEAST_VERSIONS: Final[Mapping[str, int]] = {
    "put": 1,
    "delete_range": 1,
    "txn": 1,
    "compaction": 1,
    "lease_grant": 1,
    "lease_revoke": 1,
    "lease_checkpoint": 1,
    "alarm": 1,
    "member_attributes": 1,
    "member_update": 1,
    "token_add": 1,
    "token_spend": 1,
    # Came with 2, and leads there: proposed only when all have announced the version it names.
    "cluster_version": 1,
    "spare": ROLES_VERSION,
    "role_numbers": ROLES_VERSION,
    "auth_enable": AUTH_VERSION,
    "auth_disable": AUTH_VERSION,
    "login": AUTH_VERSION,
    "user_add": AUTH_VERSION,
    "user_delete": AUTH_VERSION,
    "user_change_password": AUTH_VERSION,
    "user_grant_role": AUTH_VERSION,
    "user_revoke_role": AUTH_VERSION,
    "role_add": AUTH_VERSION,
    "role_delete": AUTH_VERSION,
    "role_grant_permission": AUTH_VERSION,
    "role_revoke_permission": AUTH_VERSION,
}
"""From which cluster version on a kind of command may be proposed."""


class Versioned(Protocol):
    """The batch that is being applied."""

    @property
    def format_version(self) -> int: ...
    def raise_format(self, version: int) -> None: ...


def kinds_above(version: int) -> frozenset[str]:
    """The kinds of command that a cluster of this version does not take yet."""
    return frozenset(kind for kind, least in LEAST_VERSIONS.items() if least > version)


def apply_cluster_version(batch: Versioned, request: ClusterVersionRequest) -> Applied:
    """Raise the version; it never goes down. Raises `StorageError` for one beyond this program."""
    if request.version > FORMAT_VERSION:
        raise StorageError(
            f"the cluster runs at version {request.version} now, this program knows up to "
            f"{FORMAT_VERSION}: start the newer program; the data was left as it is"
        )
    if request.version <= batch.format_version:
        return Applied(ClusterVersionResponse())
    batch.raise_format(request.version)
    return Applied(ClusterVersionResponse(), effects=(VersionRaised(request.version),))
