"""Versions that clients and operators see."""

from kvshim import __version__

KVSHIM_VERSION = __version__

ETCD_VERSION = "3.6.13"
"""What `Status` and `/version` report: the newest etcd whose promises kvshim keeps so far.

3.7 is answered once all of it is there. Kubernetes asks for 3.5.13 or later; RangeStream needs no
version, since clients notice by calling it.
"""

CLUSTER_VERSION = "3.6.0"
"""`major.minor.0` of `ETCD_VERSION`: what etcd reports once its members agreed on that."""

FORMAT_VERSION = 4
"""The newest cluster version that this program knows: what log entries, kv.db and snapshots may
hold. The cluster runs at the lowest of its members' (docs/adr/0016); `kvshim.apply.versions` says
what came with each.
"""

_SERVED_BY_ALL = {1: "3.6.0"}
"""From which cluster version on all members serve an etcd version: with a new minor of
`ETCD_VERSION` comes a new `FORMAT_VERSION`, and a line here."""


def etcd_cluster_version(version: int) -> str:
    """The etcd version that every member of a cluster of this version serves."""
    return _SERVED_BY_ALL[max(least for least in _SERVED_BY_ALL if least <= version)]
