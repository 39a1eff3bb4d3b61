"""Connections of clients that one member hands to another, which serves them. Event loop.

A member without data has nothing to answer its clients with. It opens a connection to a member
that has, says whose it is, and from then on carries bytes: the other side serves the client as if
it had connected there. One connection a client, so that each keeps its own pace. Only over TLS by
which both are known as members, since the client is who the carrying member says it is.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final, Protocol

from raft.pb import peer_pb2 as pb
from raft.transport.connection import FrameConnection
from raft.transport.frames import Kind, frame, parsed
from raft.transport.handshake import HandshakeRefused

OFFER_BYTES_MAX: Final = 64 << 10


@dataclass(frozen=True, slots=True)
class CarriedClient:
    """Who the client is, as the member saw it that it connected to."""

    host: str
    port: int
    encrypted: bool = False
    certificate: bytes = b""
    """X.509 in DER, verified there; empty if it showed none."""


class ClientTaker(Protocol):
    """Who serves clients here."""

    def refusal(self) -> str | None:
        """Why none can be served now, as a sentence; None if they can."""

    def take(self, client: CarriedClient, transport: asyncio.Transport) -> None:
        """Serve a client: the transport, its limits and its end are the taker's from now on.

        Nothing may be written before the client's first bytes have come.
        """


async def hand_over(connection: FrameConnection, client: CarriedClient) -> asyncio.Transport:
    """As the one who dialled: the transport on which the client's bytes now go.

    Raises `HandshakeRefused`, `ConnectionEnded`, `ProtocolError`.
    """
    offer = pb.ClientOffer(
        host=client.host,
        port=client.port,
        encrypted=client.encrypted,
        certificate=client.certificate,
    )
    connection.write(frame(Kind.CLIENT_OFFER, offer.SerializeToString()))
    answer = parsed(pb.ClientAnswer, *await connection.receive(), Kind.CLIENT_ANSWER)
    if answer.refusal:
        raise HandshakeRefused(answer.refusal)
    return connection.release()


class ClientInlet:
    """The side that serves."""

    def __init__(self) -> None:
        self.taker: ClientTaker | None = None

    async def take(self, connection: FrameConnection, seconds: float) -> None:
        """Serve the client that this connection carries, or say why not."""
        connection.allow(OFFER_BYTES_MAX)
        async with asyncio.timeout(seconds):
            offer = parsed(pb.ClientOffer, *await connection.receive(), Kind.CLIENT_OFFER)
        taker = self.taker
        if connection.certificate is None:
            reason: str | None = "clients are taken over mutual TLS alone"
        else:
            reason = taker.refusal() if taker is not None else "no clients are taken here"
        answer = pb.ClientAnswer(refusal=reason or "")
        connection.write(frame(Kind.CLIENT_ANSWER, answer.SerializeToString()))
        if reason is None and taker is not None:
            client = CarriedClient(offer.host, offer.port, offer.encrypted, offer.certificate)
            taker.take(client, connection.release())
