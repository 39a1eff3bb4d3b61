"""Users for the stories of authentication: calls of Auth, and clients that carry a token."""

from collections import namedtuple
from typing import Any

import grpc

from kvshim.pb.etcd import auth_pb2
from kvshim.pb.etcd import rpc_pb2 as pb
from tests.api.errors import ApiError, Code
from tests.support.grpc_client import EtcdClient, Metadata

READ, WRITE, READWRITE = (auth_pb2.Permission.Type.Value(n) for n in ("READ", "WRITE", "READWRITE"))
ROOT_PASSWORD = "root's secret"

FAILED, INVALID = Code.FAILED_PRECONDITION, Code.INVALID_ARGUMENT
NO_ROOT_USER = ApiError(FAILED, "etcdserver: root user does not exist")
NO_ROOT_ROLE = ApiError(FAILED, "etcdserver: root user does not have root role")
USER_EXISTS = ApiError(FAILED, "etcdserver: user name already exists")
USER_EMPTY = ApiError(INVALID, "etcdserver: user name is empty")
USER_NOT_FOUND = ApiError(FAILED, "etcdserver: user name not found")
ROLE_EXISTS = ApiError(FAILED, "etcdserver: role name already exists")
ROLE_NOT_FOUND = ApiError(FAILED, "etcdserver: role name not found")
ROLE_EMPTY = ApiError(INVALID, "etcdserver: role name is empty")
AUTH_FAILED = ApiError(INVALID, "etcdserver: authentication failed, invalid user ID or password")
NO_PASSWORD_USER = ApiError(
    Code.UNKNOWN, "auth: authentication failed, password was given for no password user"
)
PASSWORD_TOO_LONG = ApiError(Code.UNKNOWN, "bcrypt: password length exceeds 72 bytes")
PERMISSION_NOT_GIVEN = ApiError(INVALID, "etcdserver: permission not given")
PERMISSION_DENIED = ApiError(Code.PERMISSION_DENIED, "etcdserver: permission denied")
ROLE_NOT_GRANTED = ApiError(FAILED, "etcdserver: role is not granted to the user")
PERMISSION_NOT_GRANTED = ApiError(FAILED, "etcdserver: permission is not granted to the role")
NOT_ENABLED = ApiError(FAILED, "etcdserver: authentication is not enabled")
INVALID_TOKEN = ApiError(Code.UNAUTHENTICATED, "etcdserver: invalid auth token")
INVALID_MANAGEMENT = ApiError(INVALID, "etcdserver: invalid auth management")
OLD_REVISION = ApiError(INVALID, "etcdserver: revision of auth store is old")

_METHODS = {"Enable": "AuthEnable", "Disable": "AuthDisable", "Status": "AuthStatus"}

_FIELDS = "method timeout metadata credentials wait_for_ready compression"


class _Details(namedtuple("_Fields", _FIELDS), grpc.ClientCallDetails):
    """A call with other metadata."""


class _Token(
    grpc.UnaryUnaryClientInterceptor,
    grpc.UnaryStreamClientInterceptor,
    grpc.StreamStreamClientInterceptor,
):
    """Adds metadata to every call."""

    def __init__(self, metadata: Metadata) -> None:
        self._metadata = list(metadata)

    def _intercept(self, go_on, details, request):
        metadata = [*(details.metadata or ()), *self._metadata]
        fields = (details.method, details.timeout, metadata, details.credentials, None, None)
        return go_on(_Details(*fields), request)

    intercept_unary_unary = _intercept
    intercept_unary_stream = _intercept
    intercept_stream_stream = _intercept


class UserClient(EtcdClient):
    """A client whose every call says who it is."""

    def __init__(
        self, target: str, *metadata: tuple[str, str], channel: grpc.Channel | None = None
    ) -> None:
        super().__init__(target)
        self._raw = self.channel
        if channel is not None:
            self._raw.close()
            self._raw = channel
        self.channel = grpc.intercept_channel(self._raw, _Token(metadata))

    def close(self) -> None:
        self._raw.close()


def auth(client: EtcdClient, call: str, /, **fields: Any) -> Any:
    """A call of Auth: `auth(client, "UserAdd", name="ann", password="a")`."""
    request_type = "AuthenticateRequest" if call == "Authenticate" else f"Auth{call}Request"
    response_type = request_type.replace("Request", "Response")
    method = f"etcdserverpb.Auth/{_METHODS.get(call, call)}"
    return client.call(method, getattr(pb, request_type)(**fields), getattr(pb, response_type))


def login(client: EtcdClient, name: str, password: str) -> str:
    """A new token."""
    token: str = auth(client, "Authenticate", name=name, password=password).token
    return token


def grant(client: EtcdClient, role: str, kind: int, key: bytes, range_end: bytes = b"") -> Any:
    permission = auth_pb2.Permission(permType=kind, key=key, range_end=range_end)
    return auth(client, "RoleGrantPermission", name=role, perm=permission)


def add_root(client: EtcdClient) -> None:
    auth(client, "UserAdd", name="root", password=ROOT_PASSWORD)
    auth(client, "UserGrantRole", user="root", role="root")


def add_user(client: EtcdClient, name: str, *permissions: tuple[int, bytes, bytes]) -> None:
    """A user `name` with password `name` and a role `name` with these permissions."""
    auth(client, "UserAdd", name=name, password=name)
    auth(client, "RoleAdd", name=name)
    for kind, key, range_end in permissions:
        grant(client, name, kind, key, range_end)
    auth(client, "UserGrantRole", user=name, role=name)
