"""Which path of HTTP is which method of gRPC. The same as etcd 3.7's; RangeStream has none."""

from __future__ import annotations

PREFIX = "/v3/"
OLD_PREFIX = "/v3beta/"
"""etcd still answers to it."""

_KV = {
    "range": "Range",
    "put": "Put",
    "deleterange": "DeleteRange",
    "txn": "Txn",
    "compaction": "Compact",
}
_LEASE = {
    "grant": "LeaseGrant",
    "revoke": "LeaseRevoke",
    "keepalive": "LeaseKeepAlive",
    "timetolive": "LeaseTimeToLive",
    "leases": "LeaseLeases",
}
_UNDER_KV = ("revoke", "timetolive", "leases")
"""Of leases, at the paths that they had first."""

_CLUSTER = {
    "add": "MemberAdd",
    "remove": "MemberRemove",
    "update": "MemberUpdate",
    "list": "MemberList",
    "promote": "MemberPromote",
}
_MAINTENANCE = {
    "alarm": "Alarm",
    "status": "Status",
    "defragment": "Defragment",
    "hash": "Hash",
    "hashkv": "HashKV",
    "snapshot": "Snapshot",
    "transfer-leadership": "MoveLeader",
    "downgrade": "Downgrade",
}
_AUTH = {
    "enable": "AuthEnable",
    "disable": "AuthDisable",
    "status": "AuthStatus",
    "authenticate": "Authenticate",
    "user/add": "UserAdd",
    "user/get": "UserGet",
    "user/list": "UserList",
    "user/delete": "UserDelete",
    "user/changepw": "UserChangePassword",
    "user/grant": "UserGrantRole",
    "user/revoke": "UserRevokeRole",
    "role/add": "RoleAdd",
    "role/get": "RoleGet",
    "role/list": "RoleList",
    "role/delete": "RoleDelete",
    "role/grant": "RoleGrantPermission",
    "role/revoke": "RoleRevokePermission",
}
_LOCK = {"lock": "Lock", "unlock": "Unlock"}
_ELECTION = {
    "campaign": "Campaign",
    "proclaim": "Proclaim",
    "leader": "Leader",
    "observe": "Observe",
    "resign": "Resign",
}
_SERVICES = (
    ("kv/", "etcdserverpb.KV", _KV),
    ("", "etcdserverpb.Watch", {"watch": "Watch"}),
    ("lease/", "etcdserverpb.Lease", _LEASE),
    ("kv/lease/", "etcdserverpb.Lease", {path: _LEASE[path] for path in _UNDER_KV}),
    ("cluster/member/", "etcdserverpb.Cluster", _CLUSTER),
    ("maintenance/", "etcdserverpb.Maintenance", _MAINTENANCE),
    ("auth/", "etcdserverpb.Auth", _AUTH),
    ("lock/", "v3lockpb.Lock", _LOCK),
    ("election/", "v3electionpb.Election", _ELECTION),
)

METHODS = {
    f"{PREFIX}{begin}{path}": f"/{service}/{method}"
    for begin, service, table in _SERVICES
    for path, method in table.items()
}
"""The path of each method, as `kvshim.rpc` has it, by the path of HTTP."""


def method_at(path: str) -> str | None:
    """The method that a path of HTTP leads to, if any."""
    if path.startswith(OLD_PREFIX):
        path = PREFIX + path.removeprefix(OLD_PREFIX)
    return METHODS.get(path)
