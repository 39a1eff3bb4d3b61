"""What a transport is told: who it is, its limits, and the seams to its user. Values only."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import Final, Protocol

from raft.core.messages import InstallSnapshot, Message
from raft.transport.pace import Rate
from raft.types import MemberId

OLDEST_VERSION: Final = 1
NEWEST_VERSION: Final = 1
"""Of the protocol between members; the newest that both know is spoken."""

FIRST_FORMAT: Final = 1
"""The format version of programs that announce none."""

STRANGER: Final = MemberId(0)
"""Who has no identity in this cluster; may only make calls that are open to strangers."""


class CallRefused(Exception):
    """The other side answered a call with a refusal: a short code for programs, and a sentence.

    Codes of the transport's own: "unknown-method", "not-a-member", "busy", "too-large", "timeout",
    "failed" (the handler broke), "refused" (the connection was refused).
    """

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


class Purpose(IntEnum):
    """What a connection is for; `Hello.Purpose`."""

    URGENT = 1
    BULK = 2
    SNAPSHOT = 3
    CALLS = 4
    CLIENT = 5


@dataclass(frozen=True, slots=True)
class Identity:
    """Whose transport this is; both 0 for one that has not joined yet."""

    cluster_id: int
    member_id: int


@dataclass(frozen=True, slots=True)
class Hello:
    """What the other side of a connection says of itself; ids are 0 for a stranger."""

    cluster_id: int
    member_id: MemberId
    purpose: Purpose
    format_version: int = FIRST_FORMAT


@dataclass(frozen=True, slots=True)
class Formats:
    """Versions of what entries and snapshots hold: the newest that this program can take, and what
    the cluster runs at now. Whoever cannot take that is refused, on both sides.
    """

    newest: int = FIRST_FORMAT
    in_use: Callable[[], int] = lambda: FIRST_FORMAT

    def refusal(self, announced: int) -> str | None:
        """Why a program that announced this version cannot be talked to; None if it can."""
        in_use = self.in_use()
        if announced >= in_use:
            return None
        return (
            f"the cluster runs at version {in_use} and a program that knows up to {announced} wants"
            " to take part: start the newer program on that node"
        )


@dataclass(frozen=True, slots=True)
class PeerCertificate:
    """A certificate that TLS has verified: X.509 in DER."""

    der: bytes


@dataclass(frozen=True, slots=True)
class CallPeer:
    """Who makes a call: `member_id` is None for a stranger; the certificate is DER if shown."""

    member_id: MemberId | None
    certificate: bytes | None
    address: str


Authorize = Callable[[PeerCertificate | None, Hello], str | None]
"""May this certificate (None: none was shown) speak for that member? A sentence if not.

Asked on both sides: of a member that dialled, and of the member that answered a dial over TLS.
"""


def authorize_all(certificate: PeerCertificate | None, hello: Hello) -> str | None:
    """For networks that are trusted: whoever says it is a member is one."""
    return None


@dataclass(frozen=True, slots=True)
class TransportOptions:
    """Sizes in bytes, times in seconds. One without `server_tls` cannot bind with TLS."""

    snapshot_dir: Path
    server_tls: ssl.SSLContext | None = None
    client_tls: ssl.SSLContext | None = None
    authorize: Authorize = authorize_all
    formats: Formats = field(default_factory=Formats)

    frame_bytes_max: int = 64 << 20
    call_bytes_max: int = 4 << 20
    stranger_call_bytes_max: int = 64 << 10
    urgent_messages_max: int = 8_192
    urgent_bytes_max: int = 8 << 20
    bulk_messages_max: int = 1_024
    bulk_bytes_max: int = 64 << 20
    """One message passes an empty queue whatever its size, up to `frame_bytes_max`."""

    connect_seconds: float = 1.0
    handshake_seconds: float = 3.0
    retry_seconds_min: float = 0.01
    retry_seconds_max: float = 1.0
    ping_seconds: float = 1.0
    dead_seconds: float = 1.5
    """A connection on which something was sent and nothing came back for so long is closed."""
    idle_seconds: float = 10.0
    """A connection on which nothing comes in for so long is closed by whoever accepted it."""
    calls_idle_seconds: float = 30.0

    handshakes: Rate = Rate(burst=4, per_second=200.0)
    """Of TLS, on all addresses; whoever comes sooner waits in the kernel."""
    connections_max: int = 512
    strangers_max: int = 32
    """Connections that are not, or not yet, a member's; the oldest makes room for a new one."""
    stranger_calls_per_second: float = 20.0
    calls_at_once_max: int = 64
    """Calls being answered on one connection; one at a time on a stranger's."""

    snapshot_bytes_max: int = 1 << 40
    snapshot_chunk_bytes: int = 256 << 10
    snapshot_window_bytes: int = 4 << 20
    snapshot_sync_bytes: int = 16 << 20
    snapshot_stall_seconds: float = 5.0
    snapshot_tries: int = 5
    """So often in a row a snapshot may make no progress before the sending fails."""
    snapshot_bytes_per_second: float | None = None


class Receiver(Protocol):
    """Where things go that come in; called on the event loop, must not wait unless they say so."""

    def received(self, messages: Sequence[Message]) -> None:
        """Messages of one member, in its order on each of its two connections."""

    def unreachable(self, member: MemberId) -> None:
        """Messages to this member were lost; said once until one can be sent again."""

    async def snapshot_received(self, message: InstallSnapshot, path: Path) -> None:
        """Take a whole snapshot, verified and durable, in the order of messages; may wait.

        The file now belongs to the receiver. Raises `LogError` when it cannot be used; the sender
        is told.
        """


class TransportHooks:
    """What an operator may want to know; override what matters. Event loop, must not wait."""

    def connected(self, member: MemberId, purpose: Purpose, address: str) -> None:
        """A connection to this member is up."""

    def disconnected(self, member: MemberId, purpose: Purpose, reason: str) -> None:
        """It is gone."""

    def unreachable(self, member: MemberId, address: str, reason: str) -> None:
        """This address of the member cannot be connected to; once until the reason changes."""

    def refused(self, address: str, reason: str) -> None:
        """A connection was refused, here or there; once for an address until the reason changes."""
