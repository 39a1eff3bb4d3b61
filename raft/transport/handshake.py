"""The first frame each way: versions, and who is who. Event loop.

Whoever dials says who it is and whom it means; whoever answers says who it is, or why not. Both
sides then know the reason of a refusal.
"""

from __future__ import annotations

from google.protobuf.message import DecodeError

from raft.pb import peer_pb2 as pb
from raft.transport.connection import FrameConnection
from raft.transport.frames import Kind, ProtocolError, frame
from raft.transport.options import (
    FIRST_FORMAT,
    NEWEST_VERSION,
    OLDEST_VERSION,
    STRANGER,
    Hello,
    Identity,
    Purpose,
    TransportOptions,
)
from raft.types import MemberId


class HandshakeRefused(OSError):
    """One side does not want this connection; one sentence."""

    def __str__(self) -> str:
        return str(self.args[0])


async def introduce(
    connection: FrameConnection,
    me: Identity,
    target: MemberId,
    purpose: Purpose,
    options: TransportOptions,
) -> Hello:
    """As the one who dialled: returns who answered.

    `target` may be `STRANGER` for whoever it is. Raises `HandshakeRefused`, `ConnectionEnded`.
    """
    hello = pb.Hello(
        oldest_version=OLDEST_VERSION,
        newest_version=NEWEST_VERSION,
        cluster_id=me.cluster_id,
        member_id=me.member_id,
        target_id=target,
        purpose=purpose.name,
        format_version=options.formats.newest,
    )
    connection.write(frame(Kind.HELLO, hello.SerializeToString()))
    kind, body = await connection.receive()
    try:
        answer = pb.HelloAnswer.FromString(body)
    except DecodeError:
        kind = 0
    if kind != Kind.HELLO_ANSWER:
        raise HandshakeRefused("what answers there is no member of a cluster")
    if answer.refusal:
        raise HandshakeRefused(f"it refuses: {answer.refusal}")
    announced = answer.format_version or FIRST_FORMAT
    other = Hello(answer.cluster_id, MemberId(answer.member_id), purpose, announced)
    if not OLDEST_VERSION <= answer.version <= NEWEST_VERSION:
        raise HandshakeRefused(f"it speaks version {answer.version} of the protocol")
    if me.cluster_id and other.cluster_id != me.cluster_id:
        raise HandshakeRefused(_other_cluster(other.cluster_id, me))
    if target not in (STRANGER, other.member_id):
        raise HandshakeRefused(f"member {other.member_id:x} answers, not {target:x}")
    reason = options.formats.refusal(other.format_version)
    if reason is None and connection.encrypted and me.member_id != STRANGER:
        # A joiner has checked the server's certificate against the CA that its token names.
        reason = options.authorize(connection.certificate, other)
    if reason is not None:
        raise HandshakeRefused(reason)
    return other


async def admit(connection: FrameConnection, me: Identity, options: TransportOptions) -> Hello:
    """As the one who was dialled: returns who it is. Raises as `introduce` does."""
    kind, body = await connection.receive()
    if kind != Kind.HELLO:
        raise ProtocolError("what dialled is no member of a cluster")
    try:
        hello = pb.Hello.FromString(body)
        purpose = Purpose(hello.purpose)
    except (DecodeError, ValueError):
        raise ProtocolError("what dialled is no member of a cluster") from None
    announced = hello.format_version or FIRST_FORMAT
    other = Hello(hello.cluster_id, MemberId(hello.member_id), purpose, announced)
    version = min(NEWEST_VERSION, hello.newest_version)
    reason = _refusal(hello, other, version, me) or options.formats.refusal(announced)
    if reason is None and other.member_id != STRANGER:
        reason = options.authorize(connection.certificate, other)
    answer = pb.HelloAnswer(refusal=reason or "", format_version=options.formats.newest)
    if reason is None:
        answer.version, answer.cluster_id, answer.member_id = version, me.cluster_id, me.member_id
    connection.write(frame(Kind.HELLO_ANSWER, answer.SerializeToString()))
    if reason is not None:
        raise HandshakeRefused(reason)
    return other


def _refusal(hello: pb.Hello, other: Hello, version: int, me: Identity) -> str | None:
    if version < max(OLDEST_VERSION, hello.oldest_version):
        return (
            f"no common version of the protocol: {OLDEST_VERSION} to {NEWEST_VERSION} here, "
            f"{hello.oldest_version} to {hello.newest_version} there"
        )
    if hello.target_id not in (STRANGER, me.member_id):
        return f"this is member {me.member_id:x}, not {hello.target_id:x}"
    if other.member_id == STRANGER:
        if other.purpose is not Purpose.CALLS:
            return "only members may do this"
        return None
    if other.cluster_id != me.cluster_id:
        return _other_cluster(other.cluster_id, me)
    if other.member_id == me.member_id:
        return f"this is member {me.member_id:x} itself: two nodes use one identity"
    return None


def _other_cluster(cluster_id: int, me: Identity) -> str:
    return f"it is of cluster {cluster_id:x}, this member of cluster {me.cluster_id:x}"
