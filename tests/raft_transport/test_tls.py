"""Mutual TLS with a CA of our own: members pass, others' certificates and none do not."""

from __future__ import annotations

import datetime
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from raft.transport import (
    CallPeer,
    CallRefused,
    Hello,
    Identity,
    PeerCertificate,
    PeerTransport,
    TransportOptions,
)
from raft.transport.pace import Rate
from raft.types import Index, MemberId, Membership, SnapshotMeta, Term
from tests.raft_transport.members import Host, Inbox, append, heartbeat, host, hosts
from tests.support.herd import admitted

ONE, TWO = MemberId(1), MemberId(2)


@dataclass
class Ca:
    """Throw-away: signs certificates whose common name is a member's id."""

    directory: Path

    def __post_init__(self) -> None:
        self.directory.mkdir(parents=True)
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ca")])
        self._certificate = self._sign(self._name, self._key.public_key(), ca=True)
        self.file = self.directory / "ca.pem"
        self.file.write_bytes(self._certificate.public_bytes(serialization.Encoding.PEM))

    def contexts(self, member: int) -> dict[str, ssl.SSLContext]:
        """As `TransportOptions` wants them."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, str(member))])
        file = self.directory / f"{member}.pem"
        file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
            + self._sign(name, key.public_key(), ca=False).public_bytes(serialization.Encoding.PEM)
        )
        server, client = self.bare(ssl.PROTOCOL_TLS_SERVER), self.bare(ssl.PROTOCOL_TLS_CLIENT)
        server.verify_mode = ssl.CERT_OPTIONAL
        for context in (server, client):
            context.load_cert_chain(file)
        return {"server_tls": server, "client_tls": client}

    def bare(self, protocol: int = ssl.PROTOCOL_TLS_CLIENT) -> ssl.SSLContext:
        """Trusts this CA, has nothing to show."""
        context = ssl.SSLContext(protocol)
        if protocol == ssl.PROTOCOL_TLS_CLIENT:
            context.check_hostname = False
        context.load_verify_locations(self.file)
        return context

    def _sign(self, name: x509.Name, key: ec.EllipticCurvePublicKey, *, ca: bool):
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(minutes=5))
            .not_valid_after(now + datetime.timedelta(hours=1))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .sign(self._key, hashes.SHA256())
        )


def named_as_it_says(certificate: PeerCertificate | None, hello: Hello) -> str | None:
    if certificate is None:
        return "a member shows a certificate"
    subject = x509.load_der_x509_certificate(certificate.der).subject
    if subject.rfc4514_string() != f"CN={hello.member_id}":
        return f"the certificate is not that of member {hello.member_id}"
    return None


@pytest.fixture
def ca(tmp_path: Path) -> Ca:
    return Ca(tmp_path / "ca")


async def member(
    number: int, tmp_path: Path, contexts: dict[str, ssl.SSLContext], **changes: Any
) -> Host:
    changes = {"authorize": named_as_it_says, **contexts, **changes}
    return await host(number, tmp_path, tls=True, **changes)


async def who(payload: bytes, peer: CallPeer) -> bytes:
    return f"{peer.member_id} {peer.certificate is not None}".encode()


async def test_messages_snapshots_and_calls_over_mutual_tls(tmp_path: Path, ca: Ca):
    one = await member(1, tmp_path, ca.contexts(1))
    two = await member(2, tmp_path, ca.contexts(2))
    async with hosts(one, two):
        one.transport.set_peers({TWO: [two.url]})
        two.transport.set_peers({ONE: [one.url]})
        await one.transport.connected(TWO)
        await two.transport.connected(ONE)

        one.transport.send([append(1, count=100, size=10_000), heartbeat(1)])
        await two.inbox.until(lambda: len(two.inbox.messages) == 2)
        assert append(1, count=100, size=10_000) in two.inbox.messages

        source = tmp_path / "copy"
        source.write_bytes(bytes(range(256)) * 20_000)
        meta = SnapshotMeta(Index(9), Term(1), Membership.of([1, 2]))
        await one.transport.send_snapshot(TWO, Term(1), meta, source)
        assert two.inbox.snapshots[0][1].read_bytes() == source.read_bytes()

        one.transport.handle("who", who)
        assert await two.transport.call(ONE, "who", b"", 5) == b"2 True"


@pytest.mark.parametrize("imposter", ["dials", "answers"])
async def test_a_member_with_anothers_certificate_is_refused(tmp_path: Path, ca: Ca, imposter: str):
    one = await member(1, tmp_path, ca.contexts(3 if imposter == "dials" else 1))
    two = await member(2, tmp_path, ca.contexts(3 if imposter == "answers" else 2))
    async with hosts(one, two):
        one.transport.set_peers({TWO: [two.url]})
        await one.notes.until(lambda: one.notes.failures)
        wrong = 1 if imposter == "dials" else 2
        assert f"the certificate is not that of member {wrong}" in one.notes.failures[0]
        one.transport.send([heartbeat(1)])
        assert two.inbox.messages == []


async def test_a_certificate_of_another_ca_is_refused(tmp_path: Path, ca: Ca):
    one = await member(1, tmp_path, Ca(tmp_path / "other").contexts(1))
    async with hosts(one, await member(2, tmp_path, ca.contexts(2))) as (_, two):
        one.transport.set_peers({TWO: [two.url]})
        await one.notes.until(lambda: one.notes.failures)
        assert "its certificate was not accepted" in one.notes.failures[0]


async def test_plain_tcp_to_a_tls_port_and_no_certificate_are_refused(tmp_path: Path, ca: Ca):
    two = await member(2, tmp_path, ca.contexts(2))
    plain = await host(1, tmp_path)
    bare = await host(1, tmp_path / "bare", client_tls=ca.bare())
    async with hosts(plain, bare, two):
        plain.transport.set_peers({TWO: [two.url.replace("https", "http")]})
        bare.transport.set_peers({TWO: [two.url]})
        await plain.notes.until(lambda: plain.notes.failures)
        await bare.notes.until(lambda: bare.notes.failures)
        assert "a member shows a certificate" in bare.notes.failures[0]


async def test_a_herd_of_strangers_is_admitted_at_the_rate(tmp_path: Path, ca: Ca):
    slow = Rate(burst=2, per_second=0.001)
    two = await member(2, tmp_path, ca.contexts(2), handshakes=slow)
    async with hosts(two):
        assert await admitted(two.port) == slow.burst


async def test_a_joiner_calls_with_a_context_of_its_own(tmp_path: Path, ca: Ca):
    two = await member(2, tmp_path, ca.contexts(2))
    two.transport.handle("join", who, open_to_strangers=True)
    two.transport.handle("who", who)
    async with hosts(two):
        options = TransportOptions(tmp_path / "0")
        joiner = PeerTransport(Identity(0, 0), Inbox(), options=options)
        assert await joiner.call(two.url, "join", b"", 5, tls=ca.bare()) == b"None False"
        with pytest.raises(CallRefused, match="only members"):
            await joiner.call(two.url, "who", b"", 5, tls=ca.bare())
        with pytest.raises(ssl.SSLCertVerificationError):
            await joiner.call(two.url, "join", b"", 5, tls=Ca(tmp_path / "x").bare())
