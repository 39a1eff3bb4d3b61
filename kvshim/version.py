"""Versions that clients and operators see."""

from kvshim import __version__

KVSHIM_VERSION = __version__

ETCD_VERSION = "3.6.13"
"""What `Status` and `/version` report: the newest etcd whose promises kvshim keeps so far.

3.7 is answered once all of it is there. Kubernetes asks for 3.5.13 or later; RangeStream needs no
version, since clients notice by calling it.
"""

CLUSTER_VERSION = "3.6.0"
"""`major.minor.0` of `ETCD_VERSION`, as etcd reports the version its members agreed on."""
