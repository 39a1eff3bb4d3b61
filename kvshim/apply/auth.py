"""Users, roles and permissions as replicated state: who may ask for a command, and changing them.

`AuthApplier` holds the state that the batch has come to; `publish` shows it to the rest of the
node, and what became of logins. Checks, quirks and errors are etcd's (`server/auth/store.go`,
`server/etcdserver/apply/auth.go`). Apply thread.
"""

from __future__ import annotations

from base64 import b64decode
from bisect import bisect_left
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final, TypeAlias

from kvshim.apply.access import check_command
from kvshim.apply.outcome import Applied
from kvshim.auth.book import AuthBook
from kvshim.auth.state import ROOT, AuthState, Identity
from kvshim.auth.tokens import SimpleTokens
from kvshim.errors import (
    AuthFailed,
    AuthNotEnabled,
    InvalidAuthManagement,
    NoPasswordUser,
    PermissionNotGiven,
    PermissionNotGranted,
    RoleEmpty,
    RoleExists,
    RoleNotFound,
    RoleNotGranted,
    RootRoleMissing,
    RootUserMissing,
    UserEmpty,
    UserExists,
    UserNotFound,
)
from kvshim.mvcc.store import WriteBatch
from kvshim.mvcc.view import ReadView
from kvshim.pb.etcd import rpc_pb2
from kvshim.pb.etcd.auth_pb2 import Permission, Role, User, UserAddOptions
from kvshim.pb.kvshim.command_pb2 import Command, LoginRequest, LoginResponse

TokenNews: TypeAlias = Callable[[SimpleTokens], None]


def load_auth(view: ReadView) -> AuthState:
    """The state as a snapshot has it."""
    records = view.auth()
    if records is None:
        return AuthState()
    users = map(User.FromString, records.users)
    roles = map(Role.FromString, records.roles)
    return AuthState(
        records.enabled,
        records.revision,
        {user.name.decode(): user for user in users},
        {role.name.decode(): role for role in roles},
    )


class AuthApplier:
    """Checks commands and applies those on users and roles."""

    def __init__(self, book: AuthBook, state: AuthState) -> None:
        self.state = state
        self._book = book
        self._news: list[TokenNews] = []

    def publish(self) -> None:
        """The batch is about to be committed: all that it changed counts from now on."""
        if self.state is not self._book.state:
            self._book.state = self.state
        if self._news:
            for tell in self._news:
                tell(self._book.tokens)
            self._news.clear()

    def check(self, view: ReadView, command: Command) -> None:
        """Raise unless the command's user may do this, at the state it has come to."""
        if command.decided_in_term == 0:  # else the cluster itself decided it
            who = Identity(command.user, command.auth_revision)
            check_command(self.state, view, who, command)

    def apply(self, batch: WriteBatch, kind: str, command: Command, index: int) -> Applied:
        """Apply the command's operation, which is of a `kind` among `AUTH_KINDS`."""
        if kind == "login":
            return self._login(command.login, index, batch.revision)
        change, response = _CHANGES[kind]
        change(self, batch, getattr(command, kind))
        return Applied(response(header=rpc_pb2.ResponseHeader(revision=batch.revision)))

    # --- one method a command: all checks first, then the change -------------------------------

    def _login(self, request: LoginRequest, index: int, revision: int) -> Applied:
        """The password was checked before; what may have changed since is looked at again."""
        if not self.state.enabled:
            raise AuthNotEnabled
        user = self.state.users.get(request.name)
        if user is None or user.options.no_password:
            raise AuthFailed
        response = LoginResponse(
            header=rpc_pb2.ResponseHeader(revision=revision), auth_revision=self.state.revision
        )
        if request.token_prefix:
            response.token = token = f"{request.token_prefix}.{index}"
            self._news.append(lambda tokens: tokens.assign(token, request.name))
        return Applied(response)

    def _enable(self, batch: WriteBatch, _request: rpc_pb2.AuthEnableRequest) -> None:
        """Does not move the revision, as in etcd."""
        if self.state.enabled:
            return
        root = self.state.users.get(ROOT)
        if root is None:
            raise RootUserMissing
        if ROOT not in root.roles:
            raise RootRoleMissing
        self.state = replace(self.state, enabled=True)
        batch.auth_put(1, self.state.revision)

    def _disable(self, batch: WriteBatch, _request: rpc_pb2.AuthDisableRequest) -> None:
        if not self.state.enabled:
            return
        self.state = replace(self.state, enabled=False)
        self._change(batch)
        self._news.append(SimpleTokens.clear)

    def _user_add(self, batch: WriteBatch, request: rpc_pb2.AuthUserAddRequest) -> None:
        if not request.name:
            raise UserEmpty
        if request.name in self.state.users:
            raise UserExists
        options = UserAddOptions(no_password=request.options.no_password)
        user = User(name=request.name.encode(), options=options)
        if not options.no_password:
            user.password = _decoded(request.hashedPassword)
        self._change(batch, users={request.name: user})

    def _user_delete(self, batch: WriteBatch, request: rpc_pb2.AuthUserDeleteRequest) -> None:
        if self.state.enabled and request.name == ROOT:
            raise InvalidAuthManagement
        self._user(request.name)
        self._change(batch, users={request.name: None})
        self._news.append(lambda tokens: tokens.forget_user(request.name))

    def _user_change_password(
        self, batch: WriteBatch, request: rpc_pb2.AuthUserChangePasswordRequest
    ) -> None:
        user = self._user(request.name)
        password = b"" if user.options.no_password else _decoded(request.hashedPassword)
        changed = User(name=user.name, password=password, roles=user.roles, options=user.options)
        self._change(batch, users={request.name: changed})
        self._news.append(lambda tokens: tokens.forget_user(request.name))

    def _grant_role(self, batch: WriteBatch, request: rpc_pb2.AuthUserGrantRoleRequest) -> None:
        """The role root may be granted before it exists; granting one twice changes nothing."""
        user = self._user(request.user)
        if request.role != ROOT:
            self._role(request.role)
        if request.role not in user.roles:
            changed = _with_roles(user, sorted([*user.roles, request.role]))
            self._change(batch, users={request.user: changed})

    def _revoke_role(self, batch: WriteBatch, request: rpc_pb2.AuthUserRevokeRoleRequest) -> None:
        if self.state.enabled and request.name == ROOT and request.role == ROOT:
            raise InvalidAuthManagement
        user = self._user(request.name)
        if request.role not in user.roles:
            raise RoleNotGranted
        self._change(batch, users={request.name: _without_role(user, request.role)})

    def _role_add(self, batch: WriteBatch, request: rpc_pb2.AuthRoleAddRequest) -> None:
        if not request.name:
            raise RoleEmpty
        if request.name in self.state.roles:
            raise RoleExists
        self._change(batch, roles={request.name: Role(name=request.name.encode())})

    def _role_delete(self, batch: WriteBatch, request: rpc_pb2.AuthRoleDeleteRequest) -> None:
        if self.state.enabled and request.role == ROOT:
            raise InvalidAuthManagement
        self._role(request.role)
        users = {
            name: _without_role(user, request.role)
            for name, user in self.state.users.items()
            if request.role in user.roles
        }
        self._change(batch, users=users, roles={request.role: None})

    def _grant_permission(
        self, batch: WriteBatch, request: rpc_pb2.AuthRoleGrantPermissionRequest
    ) -> None:
        """Only the first permission of a key is looked at for one to replace, as in etcd."""
        if not request.HasField("perm"):
            raise PermissionNotGiven
        key, end = request.perm.key, request.perm.range_end
        if not key or (end and end != b"\x00" and key >= end):
            raise InvalidAuthManagement
        role = Role()
        role.CopyFrom(self._role(request.name))
        permissions = role.keyPermission
        position = bisect_left(permissions, key, key=_key_of)
        found = permissions[position] if position < len(permissions) else None
        if found is not None and (found.key, found.range_end) == (key, end):
            found.permType = request.perm.permType
        else:
            permissions.append(Permission(key=key, range_end=end, permType=request.perm.permType))
            permissions.sort(key=_key_of)
        self._change(batch, roles={request.name: role})

    def _revoke_permission(
        self, batch: WriteBatch, request: rpc_pb2.AuthRoleRevokePermissionRequest
    ) -> None:
        role, named = self._role(request.role), (request.key, request.range_end)
        kept = [p for p in role.keyPermission if (p.key, p.range_end) != named]
        if len(kept) == len(role.keyPermission):
            raise PermissionNotGranted
        self._change(batch, roles={request.role: Role(name=role.name, keyPermission=kept)})

    # --- helpers -------------------------------------------------------------------------------

    def _user(self, name: str) -> User:
        try:
            return self.state.users[name]
        except KeyError:
            raise UserNotFound from None

    def _role(self, name: str) -> Role:
        try:
            return self.state.roles[name]
        except KeyError:
            raise RoleNotFound from None

    def _change(
        self,
        batch: WriteBatch,
        *,
        users: Mapping[str, User | None] | None = None,
        roles: Mapping[str, Role | None] | None = None,
    ) -> None:
        """Go to the next revision, with these users and roles put, or removed where None is."""
        self.state = self.state.changed(users or {}, roles or {})
        batch.auth_put(int(self.state.enabled), self.state.revision)
        for name, user in (users or {}).items():
            batch.auth_user_put(name, None if user is None else user.SerializeToString())
        for name, role in (roles or {}).items():
            batch.auth_role_put(name, None if role is None else role.SerializeToString())


def _decoded(hashed_password: str) -> bytes:
    """The hash travels as base64, in which a client too may send it."""
    try:
        return b64decode(hashed_password, validate=True)
    except ValueError:
        raise NoPasswordUser from None


def _key_of(permission: Permission) -> bytes:
    return permission.key


def _without_role(user: User, role: str) -> User:
    return _with_roles(user, [name for name in user.roles if name != role])


def _with_roles(user: User, roles: list[str]) -> User:
    return User(name=user.name, password=user.password, roles=roles, options=user.options)


_A = AuthApplier
_CHANGES: Final[Mapping[str, tuple[Callable[[AuthApplier, WriteBatch, Any], None], Any]]] = {
    "auth_enable": (_A._enable, rpc_pb2.AuthEnableResponse),
    "auth_disable": (_A._disable, rpc_pb2.AuthDisableResponse),
    "user_add": (_A._user_add, rpc_pb2.AuthUserAddResponse),
    "user_delete": (_A._user_delete, rpc_pb2.AuthUserDeleteResponse),
    "user_change_password": (
        _A._user_change_password,
        rpc_pb2.AuthUserChangePasswordResponse,
    ),
    "user_grant_role": (_A._grant_role, rpc_pb2.AuthUserGrantRoleResponse),
    "user_revoke_role": (_A._revoke_role, rpc_pb2.AuthUserRevokeRoleResponse),
    "role_add": (_A._role_add, rpc_pb2.AuthRoleAddResponse),
    "role_delete": (_A._role_delete, rpc_pb2.AuthRoleDeleteResponse),
    "role_grant_permission": (_A._grant_permission, rpc_pb2.AuthRoleGrantPermissionResponse),
    "role_revoke_permission": (_A._revoke_permission, rpc_pb2.AuthRoleRevokePermissionResponse),
}
AUTH_KINDS: Final = frozenset({"login", *_CHANGES})
