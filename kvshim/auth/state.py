"""Who there is and what each may do, at one point of the log. Immutable, so any thread may ask.

Rules, their order and their errors are etcd's (`server/auth/store.go`).
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final, TypeVar

from kvshim.auth.ranges import MergedRanges
from kvshim.errors import AuthOldRevision, PermissionDenied, UserEmpty, UserNotFound
from kvshim.pb.etcd.auth_pb2 import Permission, Role, User
from kvshim.types import KeyRange

ROOT: Final = "root"
"""The user that must exist while authentication is on, and the role that may do everything."""

FIRST_REVISION: Final = 1
"""Of an empty store, so that 0 can mean "nobody"."""

_T = TypeVar("_T")
_NONE: Final[Mapping[str, None]] = MappingProxyType({})

_READS: Final = (Permission.READ, Permission.READWRITE)
_WRITES: Final = (Permission.WRITE, Permission.READWRITE)


@dataclass(frozen=True, slots=True)
class Identity:
    """Who calls, and at which revision of users and permissions that was found out."""

    user: str
    revision: int


NOBODY: Final = Identity("", 0)


@dataclass(frozen=True, slots=True)
class _Granted:
    """The permissions of all of a user's roles together."""

    reads: MergedRanges
    writes: MergedRanges


@dataclass(frozen=True, slots=True)
class AuthState:
    """Users and roles by name. `revision` grows with every change of them."""

    enabled: bool = False
    revision: int = FIRST_REVISION
    users: Mapping[str, User] = field(default_factory=dict)
    roles: Mapping[str, Role] = field(default_factory=dict)
    _granted: dict[str, _Granted] = field(default_factory=dict, compare=False)
    """Merged when first asked for; two threads that merge at once find the same."""

    def changed(
        self, users: Mapping[str, User | None] = _NONE, roles: Mapping[str, Role | None] = _NONE
    ) -> AuthState:
        """The next state, with these users and roles put, or removed where None is given."""
        return replace(
            self,
            revision=self.revision + 1,
            users=_updated(self.users, users),
            roles=_updated(self.roles, roles),
            _granted={},
        )

    def check_admin(self, who: Identity | None) -> None:
        """Raise unless that user has the role root. Does not look at the revision, as in etcd."""
        if not self.enabled:
            return
        if who is None or not who.user:
            raise UserEmpty
        user = self.users.get(who.user)
        if user is None:
            raise UserNotFound
        if ROOT not in user.roles:
            raise PermissionDenied

    def check_read(self, who: Identity, keys: KeyRange) -> None:
        """Raise unless that user may read all of these keys."""
        granted = self._look_up(who)
        if granted is not None and not granted.reads.cover(keys):
            raise PermissionDenied

    def check_write(self, who: Identity, keys: KeyRange) -> None:
        """Raise unless that user may write all of these keys."""
        granted = self._look_up(who)
        if granted is not None and not granted.writes.cover(keys):
            raise PermissionDenied

    def has_role(self, user: str, role: str) -> bool:
        """True when there is that user and has that role."""
        found = self.users.get(user)
        return found is not None and role in found.roles

    def is_admin(self, who: Identity) -> bool:
        """True when `check_admin` passes."""
        return not self.enabled or self.has_role(who.user, ROOT)

    def _look_up(self, who: Identity) -> _Granted | None:
        """What must cover the keys; None when everything is allowed."""
        if not self.enabled:
            return None
        if who.revision == 0:
            raise UserEmpty
        if who.revision < self.revision:
            raise AuthOldRevision
        user = self.users.get(who.user)
        if user is None:
            raise PermissionDenied
        if ROOT in user.roles:
            return None
        granted = self._granted.get(who.user)
        if granted is None:
            granted = self._granted[who.user] = self._merge(user)
        return granted

    def _merge(self, user: User) -> _Granted:
        permissions = [
            permission
            for role in user.roles
            if role in self.roles
            for permission in self.roles[role].keyPermission
        ]
        return _Granted(_ranges(permissions, _READS), _ranges(permissions, _WRITES))


def _ranges(permissions: Iterable[Permission], kinds: Container[int]) -> MergedRanges:
    return MergedRanges(
        KeyRange.of(permission.key, permission.range_end)
        for permission in permissions
        if permission.permType in kinds
    )


def _updated(before: Mapping[str, _T], news: Mapping[str, _T | None]) -> Mapping[str, _T]:
    if not news:
        return before
    after = dict(before)
    for name, value in news.items():
        if value is None:
            after.pop(name, None)
        else:
            after[name] = value
    return after
