"""etcdserverpb.Auth: switching authentication, logging in, users, roles and permissions.

What changes something goes through the log and is allowed or refused in apply. etcd sends its reads
through the log too; here they are linearizable reads, which see the same. Event loop.
"""

from __future__ import annotations

from kvshim.api.changes import Changes
from kvshim.api.header import Headers
from kvshim.auth.state import NOBODY, ROOT, AuthState, Identity
from kvshim.errors import AuthOldRevision, RoleNotFound, UserNotFound
from kvshim.pb.etcd import rpc_pb2
from kvshim.pb.etcd.auth_pb2 import Permission
from kvshim.pb.kvshim.command_pb2 import Command, LoginRequest, LoginResponse
from kvshim.rpc import Call, Method, Reply, Unary
from kvshim.server.authenticator import Authenticator
from kvshim.server.reader import Reader

_EVERYTHING = (Permission(permType=Permission.READWRITE, key=b"", range_end=b"\x00"),)
"""What etcd tells of the role root."""

LOGIN_TRIES_MAX = 10
"""How often a password is checked again because users changed meanwhile."""


class AuthService:
    """Handlers of Auth."""

    def __init__(
        self, changes: Changes, reader: Reader, auth: Authenticator, headers: Headers
    ) -> None:
        self._changes = changes
        self._reader = reader
        self._auth = auth
        self._book = auth.book
        self._headers = headers

    def methods(self) -> list[Method]:
        """The service's table."""
        pb, auth = rpc_pb2, "/etcdserverpb.Auth/"
        return [
            Unary(auth + "AuthEnable", pb.AuthEnableRequest, self.enable),
            Unary(auth + "AuthDisable", pb.AuthDisableRequest, self.disable),
            Unary(auth + "AuthStatus", pb.AuthStatusRequest, self.status),
            Unary(auth + "Authenticate", pb.AuthenticateRequest, self.authenticate),
            Unary(auth + "UserAdd", pb.AuthUserAddRequest, self.user_add),
            Unary(auth + "UserGet", pb.AuthUserGetRequest, self.user_get),
            Unary(auth + "UserList", pb.AuthUserListRequest, self.user_list),
            Unary(auth + "UserDelete", pb.AuthUserDeleteRequest, self.user_delete),
            Unary(
                auth + "UserChangePassword",
                pb.AuthUserChangePasswordRequest,
                self.user_change_password,
            ),
            Unary(auth + "UserGrantRole", pb.AuthUserGrantRoleRequest, self.user_grant_role),
            Unary(auth + "UserRevokeRole", pb.AuthUserRevokeRoleRequest, self.user_revoke_role),
            Unary(auth + "RoleAdd", pb.AuthRoleAddRequest, self.role_add),
            Unary(auth + "RoleGet", pb.AuthRoleGetRequest, self.role_get),
            Unary(auth + "RoleList", pb.AuthRoleListRequest, self.role_list),
            Unary(auth + "RoleDelete", pb.AuthRoleDeleteRequest, self.role_delete),
            Unary(
                auth + "RoleGrantPermission",
                pb.AuthRoleGrantPermissionRequest,
                self.role_grant_permission,
            ),
            Unary(
                auth + "RoleRevokePermission",
                pb.AuthRoleRevokePermissionRequest,
                self.role_revoke_permission,
            ),
        ]

    # --- on, off, in ---------------------------------------------------------------------------

    async def enable(self, request: rpc_pb2.AuthEnableRequest, call: Call) -> Reply:
        """From now on everybody needs a user; root must exist."""
        command = Command(auth_enable=request)
        return await self._changes.make(command, rpc_pb2.AuthEnableResponse, call)

    async def disable(self, request: rpc_pb2.AuthDisableRequest, call: Call) -> Reply:
        """Everybody may do everything again; users and roles stay."""
        command = Command(auth_disable=request)
        return await self._changes.make(command, rpc_pb2.AuthDisableResponse, call)

    async def status(self, _request: rpc_pb2.AuthStatusRequest, call: Call) -> Reply:
        """On or off, and the revision: for everybody."""
        await self._caller(call)
        state = self._book.state
        return rpc_pb2.AuthStatusResponse(
            header=self._headers.make(), enabled=state.enabled, authRevision=state.revision
        )

    async def authenticate(self, request: rpc_pb2.AuthenticateRequest, _call: Call) -> Reply:
        """A token for a name and a password. The password stays here."""
        await self._reader.linearizable()
        name, password = request.name, request.password
        for _ in range(LOGIN_TRIES_MAX):
            checked_revision = await self._auth.check_password(name, password)
            login = LoginRequest(name=name, token_prefix=self._auth.token_prefix())
            made = await self._changes.make_own(Command(login=login), LoginResponse)
            if made.auth_revision == checked_revision:
                token = await self._auth.token(name, made)
                return rpc_pb2.AuthenticateResponse(header=made.header, token=token)
        raise AuthOldRevision

    # --- users ---------------------------------------------------------------------------------

    async def user_add(self, request: rpc_pb2.AuthUserAddRequest, call: Call) -> Reply:
        """A user with a password, or one who is known by certificate alone."""
        await self._check_admin(call)
        added = rpc_pb2.AuthUserAddRequest(name=request.name, options=request.options)
        if not request.options.no_password:
            added.hashedPassword = await self._auth.hashed(request.password)
        command = Command(user_add=added)
        return await self._changes.make(command, rpc_pb2.AuthUserAddResponse, call)

    async def user_get(self, request: rpc_pb2.AuthUserGetRequest, call: Call) -> Reply:
        """The roles of a user: for administrators and for that user."""
        who = await self._caller(call)
        state = self._book.state
        if request.name != who.user:
            state.check_admin(who)
        user = state.users.get(request.name)
        if user is None:
            raise UserNotFound
        return rpc_pb2.AuthUserGetResponse(header=self._headers.make(), roles=user.roles)

    async def user_list(self, _request: rpc_pb2.AuthUserListRequest, call: Call) -> Reply:
        """All names, in order."""
        state = await self._as_admin(call)
        return rpc_pb2.AuthUserListResponse(header=self._headers.make(), users=sorted(state.users))

    async def user_delete(self, request: rpc_pb2.AuthUserDeleteRequest, call: Call) -> Reply:
        """Ends the user's logins, too."""
        command = Command(user_delete=request)
        return await self._changes.make(command, rpc_pb2.AuthUserDeleteResponse, call)

    async def user_change_password(
        self, request: rpc_pb2.AuthUserChangePasswordRequest, call: Call
    ) -> Reply:
        """Ends the user's logins, too. As in etcd, a client may send the hash instead."""
        await self._check_admin(call)
        changed = rpc_pb2.AuthUserChangePasswordRequest(
            name=request.name, hashedPassword=request.hashedPassword
        )
        if request.password:
            changed.hashedPassword = await self._auth.hashed(request.password)
        command = Command(user_change_password=changed)
        return await self._changes.make(command, rpc_pb2.AuthUserChangePasswordResponse, call)

    async def user_grant_role(self, request: rpc_pb2.AuthUserGrantRoleRequest, call: Call) -> Reply:
        """One more role."""
        command = Command(user_grant_role=request)
        return await self._changes.make(command, rpc_pb2.AuthUserGrantRoleResponse, call)

    async def user_revoke_role(
        self, request: rpc_pb2.AuthUserRevokeRoleRequest, call: Call
    ) -> Reply:
        """One role less."""
        command = Command(user_revoke_role=request)
        return await self._changes.make(command, rpc_pb2.AuthUserRevokeRoleResponse, call)

    # --- roles ---------------------------------------------------------------------------------

    async def role_add(self, request: rpc_pb2.AuthRoleAddRequest, call: Call) -> Reply:
        """A role that may do nothing yet."""
        command = Command(role_add=request)
        return await self._changes.make(command, rpc_pb2.AuthRoleAddResponse, call)

    async def role_get(self, request: rpc_pb2.AuthRoleGetRequest, call: Call) -> Reply:
        """The permissions of a role: for administrators and for those who have it."""
        who = await self._caller(call)
        state = self._book.state
        if not state.has_role(who.user, request.role):
            state.check_admin(who)
        role = state.roles.get(request.role)
        if role is None:
            raise RoleNotFound
        permissions = _EVERYTHING if request.role == ROOT else role.keyPermission
        return rpc_pb2.AuthRoleGetResponse(header=self._headers.make(), perm=permissions)

    async def role_list(self, _request: rpc_pb2.AuthRoleListRequest, call: Call) -> Reply:
        """All names, in order."""
        state = await self._as_admin(call)
        return rpc_pb2.AuthRoleListResponse(header=self._headers.make(), roles=sorted(state.roles))

    async def role_delete(self, request: rpc_pb2.AuthRoleDeleteRequest, call: Call) -> Reply:
        """Takes the role from all users."""
        command = Command(role_delete=request)
        return await self._changes.make(command, rpc_pb2.AuthRoleDeleteResponse, call)

    async def role_grant_permission(
        self, request: rpc_pb2.AuthRoleGrantPermissionRequest, call: Call
    ) -> Reply:
        """More keys, or another kind of permission for some."""
        command = Command(role_grant_permission=request)
        return await self._changes.make(command, rpc_pb2.AuthRoleGrantPermissionResponse, call)

    async def role_revoke_permission(
        self, request: rpc_pb2.AuthRoleRevokePermissionRequest, call: Call
    ) -> Reply:
        """The range must be named as it was granted."""
        command = Command(role_revoke_permission=request)
        return await self._changes.make(command, rpc_pb2.AuthRoleRevokePermissionResponse, call)

    # --- who asks ------------------------------------------------------------------------------

    async def _caller(self, call: Call) -> Identity:
        """Who asks, at a linearizable point."""
        who = await self._auth.identify(call) if self._book.state.enabled else None
        await self._reader.linearizable()
        return who or NOBODY

    async def _as_admin(self, call: Call) -> AuthState:
        """The state at a linearizable point, for an administrator."""
        who = await self._caller(call)
        state = self._book.state
        state.check_admin(who)
        return state

    async def _check_admin(self, call: Call) -> None:
        """Before a password is hashed for somebody whom apply would refuse."""
        if self._book.state.enabled:
            await self._auth.require_admin(call)
