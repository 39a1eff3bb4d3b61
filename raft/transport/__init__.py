"""Messages, snapshots and calls between the members of a cluster, over TCP or mutual TLS."""

from raft.transport.calls import Handler
from raft.transport.options import (
    Authorize,
    CallPeer,
    CallRefused,
    Formats,
    Hello,
    Identity,
    PeerCertificate,
    Purpose,
    Receiver,
    TransportHooks,
    TransportOptions,
)
from raft.transport.transport import PeerStatus, PeerTransport

__all__ = [
    "Authorize",
    "CallPeer",
    "CallRefused",
    "Formats",
    "Handler",
    "Hello",
    "Identity",
    "PeerCertificate",
    "PeerStatus",
    "PeerTransport",
    "Purpose",
    "Receiver",
    "TransportHooks",
    "TransportOptions",
]
