"""Versions that clients and operators see."""

from kvshim import __version__

KVSHIM_VERSION = __version__

ETCD_VERSION = "3.7.3"
"""What `Status` and `/version` report: the etcd whose API is served, docs/COMPATIBILITY.md."""

FORMAT_VERSION = 5
"""The newest cluster version that this program knows: what log entries, kv.db and snapshots may
hold, and what members serve. The cluster runs at the lowest of its members' (docs/adr/0016);
`kvshim.apply.versions` says what came with each.
"""

_SERVED_BY_ALL = {1: "3.6.0", 5: "3.7.0"}
"""From which cluster version on all members serve an etcd version: with a new minor of
`ETCD_VERSION` comes a new `FORMAT_VERSION`, and a line here. 5 brought nothing else."""


def etcd_cluster_version(version: int) -> str:
    """The etcd version, `major.minor.0`, that every member of a cluster of this version serves."""
    return _SERVED_BY_ALL[max(least for least in _SERVED_BY_ALL if least <= version)]
