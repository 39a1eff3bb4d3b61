"""Random steps of all services but KV: leases, watches, users, members, maintenance, recipes."""

from __future__ import annotations

from random import Random
from typing import Any

from conformance.differential import keys, kv
from conformance.differential.keys import chance
from conformance.differential.run import ROOT_PASSWORD
from conformance.differential.steps import Step

TTL_MAX = 9_000_000_000
USERS = ("ann", "bob")
ROLES = ("reader", "writer", "root")
NAMES = ("mutex", "n", "")


def lease(random: Random) -> Step:
    match random.randrange(10):
        case 0 | 1 | 2:
            ttl = random.choice((1000, 5000, 100, TTL_MAX, TTL_MAX + 1))
            chosen = 0 if chance(random, 15) else random.choice(keys.LEASES)
            return {"call": "Lease/LeaseGrant", "request": {"ID": chosen, "TTL": ttl}}
        case 3 | 4:
            return {"call": "Lease/LeaseRevoke", "request": {"ID": keys.lease(random)}}
        case 5 | 6:
            request = {"ID": keys.lease(random)} | keys.flags(random, 60, "keys")
            return {"call": "Lease/LeaseTimeToLive", "request": request}
        case 7:
            return {"call": "Lease/LeaseLeases", "request": {}}
        case _:
            return {"keepalive": [keys.lease(random) for _ in range(random.choice((1, 1, 2)))]}


def watch(random: Random) -> Step:
    name = random.choice(("w", "w", "v"))
    kind = random.random()
    if kind < 0.70:
        create = keys.span(random)
        if chance(random, 35):
            future = {"$now": random.choice((1, 2, 4))}
            create["start_revision"] = future if chance(random, 25) else keys.revision(random)
        if chance(random, 25):
            create["watch_id"] = random.choice((0, 1, 2, 7, -2))
        if chance(random, 20):
            create["filters"] = random.choice(
                (["NOPUT"], ["NODELETE"], ["NOPUT", "NODELETE"], ["NOPUT", "NOPUT"])
            )
        create |= keys.flags(random, 25, "prev_kv", "fragment", "progress_notify")
        return {"watch": name, "create": create}
    if kind < 0.85:
        return {"watch": name, "cancel": random.choice((0, 0, 1, 1, 2, 7, 99))}
    return {"watch": name, "progress": True}


def maintenance(random: Random) -> Step:
    match random.randrange(9):
        case 0:
            return _call("Maintenance/Status")
        case 1:
            return _call("Maintenance/Hash")
        case 2:
            return _call("Maintenance/Defragment")
        case 3:
            return _call("Maintenance/MoveLeader", targetID=random.choice((0, 1, {"$member": 1})))
        case 4:
            version = random.choice(("", "3", "3.5", "3.4.0", "v3.6", "3.x", "4.0", "3.8.0"))
            action = random.choice(("VALIDATE", "ENABLE", "CANCEL", 3))
            return _call("Maintenance/Downgrade", action=action, version=version)
        case 5 | 6:
            alarm = random.choice(("NONE", "NOSPACE", "CORRUPT"))
            member = random.choice((0, 1, {"$member": 0}))
            action = random.choice(("GET", "ACTIVATE", "DEACTIVATE", "DEACTIVATE"))
            return _call("Maintenance/Alarm", action=action, memberID=member, alarm=alarm)
        case _:
            return kv.hash_kv(random)


def cluster(random: Random) -> Step:
    member = random.choice((0, 1, {"$member": 0}, {"$member": 1}))
    # etcd makes a member's id of its URLs and the second, and takes no id again that it removed.
    url = f"http://127.0.0.1:{random.randrange(1, 60_000)}"
    bad = random.choice(([], [""], ["nonsense"], ["http://"], ["ftp://a:1"], [f"{url}/p"]))
    match random.randrange(6):
        case 0:
            return _call("Cluster/MemberList", linearizable=chance(random, 50))
        case 1:
            peers = [url] if chance(random, 40) else bad
            learner = {"isLearner": True} if peers == [url] else {}
            return _call("Cluster/MemberAdd", peerURLs=peers, **learner)
        case 2:
            other = random.choice((0, 1, {"$member": 1}))
            return _call("Cluster/MemberRemove", ID=other)
        case 3:
            # Of a member that is there etcd takes any text; see docs/differences.md.
            return _call("Cluster/MemberUpdate", ID=random.choice((0, 1)), peerURLs=bad)
        case 4:
            return _call("Cluster/MemberPromote", ID=member)
        case _:
            return _call("Maintenance/Status")


def auth(random: Random) -> Step:
    """Administration; root keeps its password and its role."""
    user, role = random.choice((*USERS, "")), random.choice((*ROLES, ""))
    password = random.choice(("a", "b"))
    match random.randrange(14):
        case 0:
            options = {"options": {"no_password": True}} if chance(random, 15) else {}
            return _call("Auth/UserAdd", name=user, password=password, **options)
        case 1:
            return _call("Auth/UserGet", name=user)
        case 2:
            return _call("Auth/UserList")
        case 3:
            return _call("Auth/UserDelete", name=user)
        case 4:
            return _call("Auth/UserChangePassword", name=user, password=password)
        case 5:
            return _call("Auth/UserGrantRole", user=user, role=role)
        case 6:
            return _call("Auth/UserRevokeRole", name=user, role=role)
        case 7:
            return _call("Auth/RoleAdd", name=role)
        case 8:
            return _call("Auth/RoleGet", role=role)
        case 9:
            return _call("Auth/RoleList")
        case 10:
            return _call("Auth/RoleDelete", role=random.choice(ROLES[:2]))
        case 11:
            permission = {"permType": random.choice((0, 1, 2, 3)), **keys.span(random)}
            given = {"perm": permission} if chance(random, 95) else {}
            return _call("Auth/RoleGrantPermission", name=role, **given)
        case 12:
            return _call("Auth/RoleRevokePermission", role=role, **keys.span(random))
        case _:
            return _call("Auth/AuthStatus")


def login(random: Random) -> Step:
    return _call(
        "Auth/Authenticate", name=random.choice((*USERS, "nobody")), password=random.choice("abc")
    )


def auth_begin(random: Random) -> list[Step]:
    """Users who may something, and authentication on."""
    root = {"name": "root", "password": ROOT_PASSWORD}
    return [
        _call("Auth/UserAdd", **root),
        *([_call("Auth/AuthEnable")] if chance(random, 20) else []),
        _call("Auth/UserGrantRole", user="root", role="root"),
        _call("Auth/UserAdd", name="ann", password="a"),
        _call("Auth/RoleAdd", name="reader"),
        _call("Auth/RoleAdd", name="writer"),
        *(
            _call(
                "Auth/RoleGrantPermission",
                name=role,
                perm={"permType": random.choice((0, 1, 2)), **keys.span(random)},
            )
            for role in ("reader", "writer")
        ),
        _call("Auth/UserGrantRole", user="ann", role=random.choice(ROLES[:2])),
        _call("Auth/AuthEnable"),
        _call("Auth/Authenticate", **root),
        _call("Auth/Authenticate", name="ann", password="a"),
    ]


def recipes(random: Random) -> list[Step]:
    """A lock or an election, alone or waited for."""
    name = random.choice(NAMES)
    first, second = random.sample(keys.LEASES, 2)
    nobody = _call("KV/DeleteRange", key=f"{name}/", range_end=f"{name}0")
    match random.randrange(9):
        case 0:
            lock = _call("Lock/Lock", name=name, lease=first)
            return [nobody, *[lock] * random.choice((1, 2))]
        case 1:
            held = {"key": f"{name}/{first:x}"} if chance(random, 80) else {"key": ""}
            return [_call("Lock/Unlock", **held)]
        case 2:
            return [_call("Election/Leader", name=name)]
        case 3:
            campaign = {"name": name, "lease": random.choice((0, first, first))}
            values = random.choice(("1", "12", "11"))
            return [
                nobody,
                *(
                    _call("Election/Campaign", **campaign, value=v)
                    for v in values[: 1 if not campaign["lease"] else 2]
                ),
            ]
        case 4:
            leader = {"leader": {"$leader": 0}} if chance(random, 80) else {}
            return [_call("Election/Proclaim", value="3", **leader)]
        case 5:
            return [_call("Election/Resign", leader={"$leader": 0})]
        case 6:
            return _contended(random, name, first, second)
        case 7:
            other = f"{name}/x"
            return [_call("KV/Put", key=other, value="x"), {"observe": name}]
        case _:
            return [nobody]


def _contended(random: Random, name: str, first: int, second: int) -> list[Step]:
    """Two who want the same; the second gets it, gives up, or loses its own key."""
    keys_of = [f"{name}/{lease:x}" for lease in (first, second)]
    kind = random.choice(("Lock/Lock", "Election/Campaign"))
    waiting = {
        "later": "c",
        "call": kind,
        "request": {"name": name, "lease": second},
        "queued": keys_of[1],
    }
    begin = [
        _call("KV/DeleteRange", key=f"{name}/", range_end=f"{name}0"),
        _call("Lease/LeaseGrant", ID=first, TTL=1000),
        _call("Lease/LeaseGrant", ID=second, TTL=1000),
        _call(kind, name=name, lease=first),
        waiting,
    ]
    deletion = _call("KV/DeleteRange", key=keys_of[0])
    match random.randrange(4):
        case 0:
            return [*begin, deletion, {"join": "c"}]
        case 1:
            return [*begin, {"abandon": "c"}, deletion]
        case 2:
            return [*begin, _call("Lease/LeaseRevoke", ID=first), {"join": "c"}]
        case _:
            return [*begin, _call("Lease/LeaseRevoke", ID=second), deletion, {"join": "c"}]


def _call(name: str, /, **request: Any) -> Step:
    return {"call": name, "request": request}
