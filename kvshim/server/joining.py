"""The joiner's side: look at the server's CA, prove the token, keep the certificate. Event loop.

Before anything is sent, a connection that only shakes hands reads the certificates that the server
shows; the one with the token's fingerprint becomes the only CA that the calls after it trust. What
is kept on disk comes in an order that lets a join be run again at any time: first the key, last
the certificate, and whoever has a certificate has joined.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Protocol, Self, TypeVar

from google.protobuf.message import DecodeError, Message

from kvshim.config.url import Url, parse_url
from kvshim.pb.kvshim.join_pb2 import (
    ChallengeAnswer,
    ChallengeRequest,
    JoinAnswer,
    JoinRequest,
    JoinStatement,
)
from kvshim.pki.certificates import (
    PkiError,
    PrivateKey,
    authorize,
    fingerprint,
    inspect,
    make_csr,
    verify_issued,
)
from kvshim.pki.contexts import joining_context, probe_context, shown_ca
from kvshim.pki.files import Pki, write_private
from kvshim.pki.tokens import JoinToken
from kvshim.version import FORMAT_VERSION
from raft.transport.calls import Caller
from raft.transport.dialling import Dialler
from raft.transport.options import CallRefused, Formats, Identity, TransportOptions
from raft.types import LogError

JOINED_NAME: Final = "joined.json"
CALL_TIMEOUT_SECONDS: Final = 20.0
PROBE_TIMEOUT_SECONDS: Final = 5.0
ELSEWHERE_MAX: Final = 8

_M = TypeVar("_M", bound=Message)


class JoinFailed(PkiError):
    """The node did not join: says why. What was kept lets the same command go on later."""


class PeerCalls(Protocol):
    """One call to a member; the peers' transport has it."""

    async def call(
        self,
        url: str,
        method: str,
        payload: bytes,
        timeout: float,  # noqa: ASYNC109
        /,
        *,
        tls: ssl.SSLContext | None = None,
    ) -> bytes:
        """The answer. Raises `OSError` (`TimeoutError` is one), `CallRefused`, `LogError`."""
        ...


def strangers_calls(data_dir: Path) -> PeerCalls:
    """The calls of a node that is no member yet."""
    options = TransportOptions(
        snapshot_dir=data_dir,
        formats=Formats(FORMAT_VERSION),
        connect_seconds=CALL_TIMEOUT_SECONDS / 4,
        handshake_seconds=10.0,
    )
    return Caller(Dialler(Identity(0, 0), options), lambda _: ())


@dataclass(frozen=True, slots=True)
class Newcomer:
    """What the node is going to be; the URLs are what others reach it by."""

    name: str
    peer_urls: tuple[str, ...]
    client_urls: tuple[str, ...] = ()
    failure_domain: str = ""


@dataclass(frozen=True, slots=True)
class Peer:
    """A member to reach."""

    id: int
    name: str
    peer_urls: tuple[str, ...]
    learner: bool


@dataclass(frozen=True, slots=True)
class Joined:
    """What a node that joined knows of itself and the others, until its store says more."""

    cluster_id: int
    member_id: int
    name: str
    peer_urls: tuple[str, ...]
    client_urls: tuple[str, ...]
    members: tuple[Peer, ...]

    @classmethod
    def load(cls, data_dir: Path) -> Self | None:
        """None for a node that did not come by `kvshim join`. Raises `PkiError`."""
        path = data_dir / JOINED_NAME
        try:
            kept = json.loads(path.read_bytes())
            members = tuple(
                Peer(m["id"], m["name"], tuple(m["peer_urls"]), m["learner"])
                for m in kept["members"]
            )
            return cls(
                cluster_id=kept["cluster_id"],
                member_id=kept["member_id"],
                name=kept["name"],
                peer_urls=tuple(kept["peer_urls"]),
                client_urls=tuple(kept["client_urls"]),
                members=members,
            )
        except FileNotFoundError:
            return None
        except OSError as error:
            raise PkiError(f"cannot read {path}: {error.strerror or error}") from None
        except (ValueError, KeyError, TypeError):
            raise PkiError(f"{path} is damaged") from None

    def save(self, data_dir: Path) -> None:
        """Raises `PkiError`."""
        path = data_dir / JOINED_NAME
        try:
            write_private(path, json.dumps(asdict(self), indent=1).encode() + b"\n")
        except OSError as error:
            raise PkiError(f"cannot write {path}: {error.strerror or error}") from None


async def join(
    data_dir: Path,
    address: str,
    token: JoinToken,
    newcomer: Newcomer,
    calls: PeerCalls,
    *,
    wall_clock: Callable[[], float] = time.time,
) -> Joined | None:
    """Become a member, or get a new certificate for one whose certificate has expired.

    None if there was nothing to do, because this node has joined that cluster before. `address` is
    `host:port`. Raises `PkiError`.
    """
    pki = Pki.of(data_dir)
    key = _key_to_join_with(pki, token, wall_clock())
    url = url_of(address)
    if key is None:
        await _refuse_if_left_behind(pki, url)
        return None
    tls = joining_context(await _find_ca(url, token))
    answer = await _Asking(calls, tls, token, newcomer, key).ask(str(url))
    joined = Joined(
        cluster_id=answer.cluster_id,
        member_id=answer.member_id,
        name=newcomer.name,
        peer_urls=newcomer.peer_urls,
        client_urls=newcomer.client_urls,
        members=tuple(Peer(m.id, m.name, tuple(m.peer_urls), m.learner) for m in answer.members),
    )
    _check(answer, token, key)
    if not pki.exists():
        joined.save(data_dir)
    pki.keep_certificate(key, answer.certificate, answer.ca_certificate)
    return joined


def _key_to_join_with(pki: Pki, token: JoinToken, now: float) -> PrivateKey | None:
    """None when there is a certificate that holds."""
    if not pki.exists():
        return pki.joining_key()
    if pki.ca_fingerprint() != token.ca_fingerprint:
        raise JoinFailed(
            f"the data directory {pki.folder.parent} belongs to another cluster: "
            "choose an empty one"
        )
    return pki.node_key() if pki.node().not_after <= now else None


@dataclass(frozen=True, slots=True)
class _Asking:
    """The conversation with members whose CA is known to be the token's."""

    calls: PeerCalls
    tls: ssl.SSLContext
    token: JoinToken
    newcomer: Newcomer
    key: PrivateKey

    async def ask(self, url: str) -> JoinAnswer:
        """The answer of the first member that can sign, starting from the one that was named."""
        to_ask, asked, failure = [url], 0, ""
        while to_ask:
            at = to_ask.pop(0)
            asked += 1
            try:
                hello = ChallengeRequest(token_id=self.token.id)
                challenge = await self._call(at, "challenge", hello, ChallengeAnswer)
                if not challenge.refusal:
                    return await self._prove(at, challenge)
            except _Unreachable as error:
                failure = failure or str(error)
                continue
            failure = challenge.refusal
            if not challenge.elsewhere:
                break
            if asked == 1:  # one hint is enough: members do not send us round in circles
                to_ask = list(challenge.elsewhere)[:ELSEWHERE_MAX]
        raise JoinFailed(failure)

    async def _prove(self, at: str, challenge: ChallengeAnswer) -> JoinAnswer:
        statement = JoinStatement(
            token_id=self.token.id,
            nonce=challenge.nonce,
            cluster_id=challenge.cluster_id,
            member_id=challenge.member_id,
            ca_fingerprint=self.token.ca_fingerprint,
            csr=make_csr(self.key),
            name=self.newcomer.name,
            peer_urls=self.newcomer.peer_urls,
            client_urls=self.newcomer.client_urls,
            failure_domain=self.newcomer.failure_domain,
        ).SerializeToString()
        request = JoinRequest(statement=statement, proof=self.token.prove(statement))
        answer = await self._call(at, "join", request, JoinAnswer)
        if answer.refusal:
            raise JoinFailed(answer.refusal)
        return answer

    async def _call(self, url: str, method: str, request: Message, answer: type[_M]) -> _M:
        try:
            payload = request.SerializeToString()
            data = await self.calls.call(url, method, payload, CALL_TIMEOUT_SECONDS, tls=self.tls)
            return answer.FromString(data)
        except ssl.SSLCertVerificationError:
            raise JoinFailed(
                f"the server at {url} has no valid certificate of the cluster that the token is "
                "for, so nothing was sent to it"
            ) from None
        except (OSError, TimeoutError, CallRefused, LogError) as error:
            raise _Unreachable(url, error) from None
        except DecodeError:
            raise JoinFailed(f"the server at {url} answered what no kvshim answers") from None


def _check(answer: JoinAnswer, token: JoinToken, key: PrivateKey) -> None:
    """Raise `PkiError` unless the answer is a certificate that we can use."""
    if fingerprint(answer.ca_certificate) != token.ca_fingerprint:
        raise JoinFailed("the server answered with another CA than the token is for")
    verify_issued(answer.certificate, answer.ca_certificate, make_csr(key))
    reason = authorize(answer.certificate, answer.cluster_id, answer.member_id)
    if reason is not None or not answer.member_id:
        raise JoinFailed("the server answered with a certificate that is not for this node")


async def _find_ca(url: Url, token: JoinToken) -> bytes:
    """The CA with the token's fingerprint (DER), from a handshake that sends nothing of ours."""
    try:
        async with asyncio.timeout(CALL_TIMEOUT_SECONDS):
            _, writer = await asyncio.open_connection(url.host, url.port, ssl=probe_context())
    except (OSError, TimeoutError) as error:
        raise _Unreachable(url.address, error) from None
    try:
        return shown_ca(writer.get_extra_info("ssl_object"), token.ca_fingerprint)
    finally:
        writer.transport.abort()


async def _refuse_if_left_behind(pki: Pki, url: Url) -> None:
    """Raise `JoinFailed` if the cluster there began anew, by `kvshim recover`, without this node.

    It has kept its CA, but its members' certificates name another cluster. Whoever is not reached
    says nothing about that.
    """
    try:
        async with asyncio.timeout(PROBE_TIMEOUT_SECONDS):
            tls = joining_context(pki.ca_certificate())
            _, writer = await asyncio.open_connection(url.host, url.port, ssl=tls)
    except (OSError, TimeoutError):
        return
    try:
        certificate = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    finally:
        writer.transport.abort()
    known = pki.node().cluster_id
    if inspect(certificate).cluster_id != known:
        raise JoinFailed(
            f"the data directory {pki.folder.parent} is of the cluster {known:x}, from which the"
            f" one at {url.address} was recovered: empty it and join anew"
        )


class _Unreachable(JoinFailed):
    """Nobody answered there."""

    def __init__(self, address: str, error: BaseException) -> None:
        reason = getattr(error, "strerror", None) or str(error) or "no answer in time"
        super().__init__(f"cannot reach {address}: {reason}")


def url_of(address: str) -> Url:
    """Where `host:port` is. Raises `JoinFailed`."""
    try:
        url = parse_url(address if "://" in address else f"https://{address}")
    except ValueError as error:
        raise JoinFailed(f"{address} is no address: {error}") from None
    if not url.tls or url.is_unix or not url.host:
        raise JoinFailed(f"{address} is no address: write host:port")
    return url
