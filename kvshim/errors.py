"""Every error of kvshim that a client or an operator sees, with etcd's exact code and text.

Lower rooms raise these; only `api/` and the transports turn them into a gRPC status. Codes and
texts are those of etcd 3.7 (`api/v3rpc/rpctypes`), because clients match on them.
"""

from __future__ import annotations

from enum import IntEnum


class Code(IntEnum):
    """gRPC status codes, by number (gRPC over HTTP/2 specification)."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


class RequestError(Exception):
    """A request that ends with a gRPC status.

    Subclasses fix `code` and `text`; the text may be replaced for errors that name a value.
    """

    code: Code = Code.UNKNOWN
    text: str = ""

    def __init__(self, text: str | None = None) -> None:
        super().__init__(text if text is not None else self.text)

    @property
    def message(self) -> str:
        """The status message, as the client reads it."""
        return str(self.args[0])


class EmptyKey(RequestError):
    code, text = Code.INVALID_ARGUMENT, "etcdserver: key is not provided"


class KeyNotFound(RequestError):
    code, text = Code.INVALID_ARGUMENT, "etcdserver: key not found"


class ValueProvided(RequestError):
    code, text = Code.INVALID_ARGUMENT, "etcdserver: value is provided"


class LeaseProvided(RequestError):
    code, text = Code.INVALID_ARGUMENT, "etcdserver: lease is provided"


class TooManyOps(RequestError):
    code, text = Code.INVALID_ARGUMENT, "etcdserver: too many operations in txn request"


class DuplicateKey(RequestError):
    code, text = Code.INVALID_ARGUMENT, "etcdserver: duplicate key given in txn request"


class InvalidSortOption(RequestError):
    code, text = Code.INVALID_ARGUMENT, "etcdserver: invalid sort option"


class InvalidClientAPIVersion(RequestError):
    code, text = Code.INVALID_ARGUMENT, "etcdserver: invalid client api version"


class Compacted(RequestError):
    code, text = Code.OUT_OF_RANGE, "etcdserver: mvcc: required revision has been compacted"


class FutureRevision(RequestError):
    code, text = Code.OUT_OF_RANGE, "etcdserver: mvcc: required revision is a future revision"


class NoSpace(RequestError):
    code, text = Code.RESOURCE_EXHAUSTED, "etcdserver: mvcc: database space exceeded"


class LeaseNotFound(RequestError):
    code, text = Code.NOT_FOUND, "etcdserver: requested lease not found"


class LeaseExists(RequestError):
    code, text = Code.FAILED_PRECONDITION, "etcdserver: lease already exists"


class LeaseTTLTooLarge(RequestError):
    code, text = Code.OUT_OF_RANGE, "etcdserver: too large lease TTL"


class RequestTooLarge(RequestError):
    code, text = Code.INVALID_ARGUMENT, "etcdserver: request is too large"


class TooManyRequests(RequestError):
    code, text = Code.RESOURCE_EXHAUSTED, "etcdserver: too many requests"


class NoLeader(RequestError):
    code, text = Code.UNAVAILABLE, "etcdserver: no leader"


class NotLeader(RequestError):
    code, text = Code.FAILED_PRECONDITION, "etcdserver: not leader"


class LeaderChanged(RequestError):
    code, text = Code.UNAVAILABLE, "etcdserver: leader changed"


class Stopped(RequestError):
    code, text = Code.UNAVAILABLE, "etcdserver: server stopped"


class RequestTimedOut(RequestError):
    code, text = Code.UNAVAILABLE, "etcdserver: request timed out"


class RequestTimedOutByLeaderFailure(RequestError):
    code = Code.UNAVAILABLE
    text = "etcdserver: request timed out, possibly due to previous leader failure"


class RequestTimedOutByConnectionLost(RequestError):
    code = Code.UNAVAILABLE
    text = "etcdserver: request timed out, possibly due to connection lost"


class CorruptCluster(RequestError):
    code, text = Code.DATA_LOSS, "etcdserver: corrupt cluster"


class MemberNotFound(RequestError):
    code, text = Code.NOT_FOUND, "etcdserver: member not found"


class MemberExists(RequestError):
    code, text = Code.FAILED_PRECONDITION, "etcdserver: member ID already exist"


class PeerURLExists(RequestError):
    code, text = Code.FAILED_PRECONDITION, "etcdserver: Peer URLs already exists"


class BadMemberURLs(RequestError):
    code, text = Code.INVALID_ARGUMENT, "etcdserver: given member URLs are invalid"


class NotEnoughStarted(RequestError):
    code = Code.UNKNOWN  # As etcd answers, though rpctypes lists FAILED_PRECONDITION.
    text = "etcdserver: re-configuration failed due to not enough started members"


class MemberNotLearner(RequestError):
    code, text = Code.FAILED_PRECONDITION, "etcdserver: can only promote a learner member"


class LearnerNotReady(RequestError):
    code = Code.FAILED_PRECONDITION
    text = "etcdserver: can only promote a learner member which is in sync with leader"


class TooManyLearners(RequestError):
    code, text = Code.FAILED_PRECONDITION, "etcdserver: too many learner members in cluster"


class Unhealthy(RequestError):
    code, text = Code.UNAVAILABLE, "etcdserver: unhealthy cluster"


class NotSupportedForLearner(RequestError):
    code, text = Code.UNAVAILABLE, "etcdserver: rpc not supported for learner"


class NoDataHere(RequestError):
    """A spare, or a member that waits for its copy, was asked where only itself can answer."""

    code, text = Code.UNAVAILABLE, "etcdserver: this member holds no data, ask another one"


class BadTransferee(RequestError):
    code, text = Code.FAILED_PRECONDITION, "etcdserver: bad leader transferee"


class TransferTimedOut(RequestError):
    code, text = Code.UNKNOWN, "etcdserver: request timed out, leader transfer took too long"


class WrongDowngradeFormat(RequestError):
    code, text = Code.INVALID_ARGUMENT, "etcdserver: wrong downgrade target version format"


class InvalidDowngradeTarget(RequestError):
    code, text = Code.INVALID_ARGUMENT, "etcdserver: invalid downgrade target version"


class UnknownAction(RequestError):
    code, text = Code.UNKNOWN, "etcdserver: unknown method"


class MemberRefused(RequestError):
    """A change of membership that breaks a rule; the text says which."""

    code = Code.FAILED_PRECONDITION


class ClusterTooOld(RequestError):
    """What is asked for waits until all members know it; the text names the versions."""

    code = Code.FAILED_PRECONDITION


class TokenRefused(RequestError):
    """A join token that admits nobody; the text says why."""

    code = Code.FAILED_PRECONDITION


class ResponseTooLarge(RequestError):
    """An answer longer than a gRPC frame can hold; the text is that of a sender that gives up."""

    code = Code.RESOURCE_EXHAUSTED

    def __init__(self, length: int, length_max: int) -> None:
        super().__init__(f"trying to send message larger than max ({length} vs. {length_max})")


class SnapshotNeedsRoom(RequestError):
    """A snapshot would leave the store too little room on its disk."""

    code = Code.RESOURCE_EXHAUSTED

    def __init__(self, wanted_bytes: int, free_bytes: int) -> None:
        super().__init__(
            f"etcdserver: a snapshot needs {-(-wanted_bytes >> 20)} MiB of room in the data"
            f" directory, and {free_bytes >> 20} MiB are free"
        )


class SnapshotFailed(RequestError):
    """A snapshot ended before it was sent whole."""

    code = Code.UNAVAILABLE

    def __init__(self, reason: str) -> None:
        super().__init__(f"etcdserver: the snapshot failed, try again: {reason}")


class Unimplemented(RequestError):
    """A method or option that this version does not serve; the client may fall back."""

    code = Code.UNIMPLEMENTED


class RootUserMissing(RequestError):
    code, text = Code.FAILED_PRECONDITION, "etcdserver: root user does not exist"


class RootRoleMissing(RequestError):
    code, text = Code.FAILED_PRECONDITION, "etcdserver: root user does not have root role"


class UserExists(RequestError):
    code, text = Code.FAILED_PRECONDITION, "etcdserver: user name already exists"


class UserEmpty(RequestError):
    code, text = Code.INVALID_ARGUMENT, "etcdserver: user name is empty"


class UserNotFound(RequestError):
    code, text = Code.FAILED_PRECONDITION, "etcdserver: user name not found"


class RoleExists(RequestError):
    code, text = Code.FAILED_PRECONDITION, "etcdserver: role name already exists"


class RoleNotFound(RequestError):
    code, text = Code.FAILED_PRECONDITION, "etcdserver: role name not found"


class RoleEmpty(RequestError):
    code, text = Code.INVALID_ARGUMENT, "etcdserver: role name is empty"


class AuthFailed(RequestError):
    code = Code.INVALID_ARGUMENT
    text = "etcdserver: authentication failed, invalid user ID or password"


class NoPasswordUser(RequestError):
    code = Code.UNKNOWN  # etcd's rpctypes does not know it
    text = "auth: authentication failed, password was given for no password user"


class PasswordTooLong(RequestError):
    code, text = Code.UNKNOWN, "bcrypt: password length exceeds 72 bytes"


class PermissionNotGiven(RequestError):
    code, text = Code.INVALID_ARGUMENT, "etcdserver: permission not given"


class PermissionDenied(RequestError):
    code, text = Code.PERMISSION_DENIED, "etcdserver: permission denied"


class RoleNotGranted(RequestError):
    code, text = Code.FAILED_PRECONDITION, "etcdserver: role is not granted to the user"


class MessageTooLarge(RequestError):
    """In the words of grpc-go, as all errors of a call's bytes."""

    code = Code.RESOURCE_EXHAUSTED

    def __init__(self, size: int, size_max: int) -> None:
        super().__init__(f"grpc: received message larger than max ({size} vs. {size_max})")


class MalformedMessage(RequestError):
    code = Code.INTERNAL

    def __init__(self, reason: str) -> None:
        super().__init__(f"grpc: error unmarshalling request: {reason}")


class UnknownEncoding(RequestError):
    code = Code.UNIMPLEMENTED

    def __init__(self, encoding: str) -> None:
        super().__init__(f'grpc: Decompressor is not installed for grpc-encoding "{encoding}"')


class DeadlineExceeded(RequestError):
    code, text = Code.DEADLINE_EXCEEDED, "context deadline exceeded"


class InternalError(RequestError):
    """Our own bug, seen from outside; the log has the rest."""

    code, text = Code.INTERNAL, "etcdserver: internal error"


class PermissionNotGranted(RequestError):
    code, text = Code.FAILED_PRECONDITION, "etcdserver: permission is not granted to the role"


class AuthNotEnabled(RequestError):
    code, text = Code.FAILED_PRECONDITION, "etcdserver: authentication is not enabled"


class InvalidAuthToken(RequestError):
    code, text = Code.UNAUTHENTICATED, "etcdserver: invalid auth token"


class InvalidAuthManagement(RequestError):
    code, text = Code.INVALID_ARGUMENT, "etcdserver: invalid auth management"


class AuthOldRevision(RequestError):
    code, text = Code.INVALID_ARGUMENT, "etcdserver: revision of auth store is old"


class VerifyOnly(RequestError):
    code, text = Code.UNKNOWN, "auth: token signing attempted with verify-only key"


class KvshimError(Exception):
    """A condition of the node itself, told to the operator in one sentence."""


class StartupError(KvshimError):
    """The node cannot start: says what is wrong and what to do. Nothing was changed."""


class StorageError(KvshimError):
    """The store cannot go on (disk full, I/O error, corruption): the node stops, unanswered."""


class CorruptStore(StorageError):
    """SQLite found the store's file damaged: a member of several gets it anew from the leader."""
