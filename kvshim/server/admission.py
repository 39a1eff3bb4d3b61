"""The voter's side of joining: makes tokens, checks proofs, signs certificates. Event loop.

A joiner asks for a challenge, answers it with a signed statement, and gets a certificate. The
order inside `join` is what makes a crash at any point harmless: spend the token through the log,
add the member, sign. Each step, done again for the same key, changes nothing: the key decides the
new member's id, and a token that this key has spent is good for it until it expires.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, Protocol, TypeVar

from google.protobuf.message import DecodeError, Message

from kvshim.config import Url
from kvshim.config.url import parse_url
from kvshim.errors import KvshimError, RequestError
from kvshim.logs import Event, Logger
from kvshim.pb.kvshim.command_pb2 import Command
from kvshim.pb.kvshim.join_pb2 import (
    CaKeyAnswer,
    ChallengeAnswer,
    ChallengeRequest,
    JoinAnswer,
    JoinedMember,
    JoinRequest,
    JoinStatement,
    RenewAnswer,
    RenewRequest,
)
from kvshim.pb.kvshim.member_pb2 import Member
from kvshim.pb.kvshim.token_pb2 import (
    Token,
    TokenAddRequest,
    TokenAddResponse,
    TokenSpendRequest,
    TokenSpendResponse,
)
from kvshim.pki.certificates import CertificateAuthority, authorize, inspect, key_hash
from kvshim.pki.files import Pki
from kvshim.pki.tokens import JoinToken, proof_holds
from kvshim.server.tries import WrongTries
from raft.transport.options import CallPeer

TOKEN_TTL_SECONDS: Final = 15 * 60
NONCE_TTL_SECONDS: Final = 60
WRONG_TRIES_MAX: Final = 5
"""Wrong proofs for one token, and from one address, before it is refused unheard."""
ADDRESS_WINDOW_SECONDS: Final = 60.0
ADDRESSES_MAX: Final = 1024
REQUEST_BYTES_MAX: Final = 32 << 10
URLS_MAX: Final = 8
URL_CHARACTERS_MAX: Final = 512
NAME_CHARACTERS_MAX: Final = 128

_M = TypeVar("_M", bound=Message)
_UNKNOWN_TOKEN: Final = "the join token is not known or has expired: make a new one"


class Refused(KvshimError):
    """The peer is told this sentence and gets nothing."""


class Cluster(Protocol):
    """What admission needs to know of the members, and does to them."""

    @property
    def cluster_id(self) -> int: ...

    @property
    def member_id(self) -> int:
        """This member's."""
        ...

    def members(self) -> Sequence[Member]:
        """All, as applied here."""
        ...

    async def add(self, member: Member) -> None:
        """Add a member whose role the cluster chooses; returns when that is applied.

        Raises `RequestError` or `KvshimError`, among them for an id that was removed before.
        """
        ...

    async def remove(self, member_id: int) -> None:
        """Remove a member; returns when that is applied. Raises like `add`."""
        ...

    async def token(self, token_id: bytes) -> Token | None:
        """A token from a state no older than this call."""
        ...

    async def propose(self, command: Command, response: type[_M]) -> _M:
        """`Proposer.propose`."""
        ...


PeerHandler = Callable[[bytes, CallPeer], Awaitable[bytes]]


class Admission:
    """Answers the calls of `protos/kvshim/join.proto`, and the operator's `add-node`."""

    def __init__(
        self,
        pki: Pki,
        cluster: Cluster,
        log: Logger,
        *,
        wall_clock: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
        open_address: Callable[[str], Awaitable[None]] | None = None,
    ) -> None:
        """`open_address` gives this member an https:// peer address when it is to have its first
        neighbour: the operator's HOST[:PORT], or one of its own choice for an empty text. It may
        raise a `KvshimError`.
        """
        self._pki = pki
        self._cluster = cluster
        self._log = log
        self._wall_clock = wall_clock
        self._open_address = open_address
        self._nonce_key = secrets.token_bytes(32)
        self._by_address = WrongTries(WRONG_TRIES_MAX, ADDRESS_WINDOW_SECONDS, ADDRESSES_MAX, clock)
        self._by_token = WrongTries(WRONG_TRIES_MAX, TOKEN_TTL_SECONDS, ADDRESSES_MAX, clock)

    def open_handlers(self) -> Mapping[str, PeerHandler]:
        """Calls that a peer without a certificate may make, by method."""
        return {"challenge": self._challenge, "join": self._join}

    def member_handlers(self) -> Mapping[str, PeerHandler]:
        """Calls that need a member's certificate, by method."""
        return {"renew": self._renew, "ca-key": self._ca_key}

    def admin_handlers(self) -> Mapping[str, Callable[[Mapping[str, Any]], Awaitable[Any]]]:
        """Calls of the operator, by name."""
        return {"add-node": self._admin_add_node, "remove-node": self._admin_remove_node}

    async def make_token(self, renews: int = 0) -> tuple[JoinToken, int]:
        """A new token, and when it expires (ms since 1970); for a member's new certificate, or
        with 0 for a new member.
        """
        token = JoinToken.create(self._pki.ca_fingerprint())
        now_ms = self._now_ms()
        expires_ms = now_ms + TOKEN_TTL_SECONDS * 1000
        kept = Token(id=token.id, verifier=token.verifier, expires_ms=expires_ms, renews=renews)
        command = Command(token_add=TokenAddRequest(token=kept, now_ms=now_ms))
        await self._cluster.propose(command, TokenAddResponse)
        return token, expires_ms

    # --- the operator ----------------------------------------------------------------------------

    async def _admin_add_node(self, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        """`{"renew": id or name, "address": HOST[:PORT]}`, both optional, ->
        `{"line", "address", "expires_ms"}`.
        """
        self._authority()
        address, wanted = self._own_address(), str(arguments.get("address", ""))
        if not address and self._open_address is not None:
            await self._open_address(wanted)
            address = self._own_address()
        elif wanted not in ("", address, address.rpartition(":")[0]):
            raise Refused(f"other nodes reach this one at {address} already: leave --address out")
        if not address:
            raise Refused("nodes join by TLS, and this node has no https:// peer address")
        renew = str(arguments.get("renew", ""))
        renews = self._find(renew).id if renew else 0
        token, expires_ms = await self.make_token(renews)
        line = f"kvshim join {address}#{token.text}"
        return {"line": line, "address": address, "expires_ms": expires_ms}

    async def _admin_remove_node(self, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        """`{"member": id or name}` -> `{"id", "name"}`."""
        member = self._find(str(arguments.get("member", "")))
        await self._cluster.remove(member.id)
        return {"id": f"{member.id:x}", "name": member.name}

    def _find(self, wanted: str) -> Member:
        members = self._cluster.members()
        found = [m for m in members if wanted == f"{m.id:x}"]
        found = found or [m for m in members if wanted and wanted == m.name]
        if not found:
            raise Refused(f"there is no member {wanted!r}")
        if len(found) > 1:
            raise Refused(f"several members are named {wanted!r}: say which one by its id")
        return found[0]

    def _own_address(self) -> str:
        own = [m for m in self._cluster.members() if m.id == self._cluster.member_id]
        for url in (parse_url(text) for member in own for text in member.peer_urls):
            if url.tls and not url.is_unix:
                return url.address
        return ""

    # --- strangers -------------------------------------------------------------------------------

    async def _challenge(self, payload: bytes, caller: CallPeer) -> bytes:
        try:
            request = _parse(ChallengeRequest, payload)
            self._check_tries(caller, request.token_id)
            self._authority()
            await self._known_token(caller, request.token_id)
        except _NoCaKey as error:
            return _bytes(ChallengeAnswer(refusal=str(error), elsewhere=self._voters_urls()))
        except (KvshimError, RequestError) as error:
            return _bytes(ChallengeAnswer(refusal=str(error)))
        answer = ChallengeAnswer(
            nonce=self._nonce(request.token_id),
            cluster_id=self._cluster.cluster_id,
            member_id=self._cluster.member_id,
        )
        return _bytes(answer)

    async def _join(self, payload: bytes, caller: CallPeer) -> bytes:
        try:
            request = _parse(JoinRequest, payload)
            statement = _parse(JoinStatement, request.statement)
            self._check_tries(caller, statement.token_id)
            authority = self._authority()
            token = await self._check_proof(caller, request, statement)
            if token.renews == 0:
                self._check_addresses(statement)
            token = await self._spend(statement)
            member = await self._admit(token, statement)
            certificate = self._sign(authority, statement.csr, member)
        except (KvshimError, RequestError) as error:
            self._log.warn(Event.JOIN_REFUSED, address=caller.address, reason=str(error))
            return _bytes(JoinAnswer(refusal=str(error)))
        self._log.info(
            Event.JOIN_ADMITTED,
            address=caller.address,
            member_id=f"{member.id:x}",
            name=member.name,
        )
        return _bytes(
            JoinAnswer(
                certificate=certificate,
                ca_certificate=authority.certificate_der,
                cluster_id=self._cluster.cluster_id,
                member_id=member.id,
                members=map(_joined_member, self._cluster.members()),
            )
        )

    def _check_tries(self, caller: CallPeer, token_id: bytes) -> None:
        if self._by_address.exhausted(caller.address) or self._by_token.exhausted(token_id):
            raise Refused("too many wrong tries: wait a minute, or make a new join token")

    async def _known_token(self, caller: CallPeer, token_id: bytes) -> Token:
        token = await self._cluster.token(token_id)
        if token is None or token.expires_ms <= self._now_ms():
            self._by_address.count(caller.address)
            raise Refused(_UNKNOWN_TOKEN)
        return token

    async def _check_proof(
        self, caller: CallPeer, request: JoinRequest, statement: JoinStatement
    ) -> Token:
        token = await self._known_token(caller, statement.token_id)
        meant_for_us = (
            statement.cluster_id == self._cluster.cluster_id
            and statement.member_id == self._cluster.member_id
            and statement.ca_fingerprint == self._pki.ca_fingerprint()
        )
        if not proof_holds(token.verifier, request.proof, request.statement) or not meant_for_us:
            self._by_address.count(caller.address)
            self._by_token.count(statement.token_id)
            raise Refused("the proof of the join token is wrong")
        if not self._nonce_is_ours(statement.nonce, statement.token_id):
            raise Refused("the challenge is too old: try again")
        _check_statement(statement)
        return token

    def _check_addresses(self, statement: JoinStatement) -> None:
        """A new member needs addresses, and ones that no other member has."""
        if not statement.peer_urls:
            raise Refused("the joining node has no https:// peer address")
        own_id = _id_of_key(key_hash(statement.csr), self._cluster.cluster_id)
        for member in self._cluster.members():
            shared = set(member.peer_urls) & set(statement.peer_urls)
            if shared and member.id != own_id:
                raise Refused(
                    f"{min(shared)} is the address of member {member.id:x}: if that machine begins "
                    f"anew, run `kvshim remove-node {member.id:x}` first"
                )

    async def _spend(self, statement: JoinStatement) -> Token:
        spending = TokenSpendRequest(
            id=statement.token_id, spent_by=key_hash(statement.csr), now_ms=self._now_ms()
        )
        response = await self._cluster.propose(Command(token_spend=spending), TokenSpendResponse)
        return response.token

    async def _admit(self, token: Token, statement: JoinStatement) -> Member:
        """The member that the token stands for, added to the cluster if it is new."""
        member_id = token.renews or _id_of_key(token.spent_by, self._cluster.cluster_id)
        known = self._member(member_id)
        if known is not None:
            return known
        if token.renews:
            raise Refused("the member that the token renews is no longer in the cluster")
        newcomer = Member(
            id=member_id,
            name=statement.name,
            peer_urls=statement.peer_urls,
            client_urls=statement.client_urls,
            learner=True,
            managed=True,
            failure_domain=statement.failure_domain,
        )
        try:
            await self._cluster.add(newcomer)
        except (RequestError, KvshimError):
            # The same joiner, asking twice at once, may have been first.
            known = self._member(member_id)
            if known is None:
                raise
            return known
        return newcomer

    # --- members ---------------------------------------------------------------------------------

    async def _renew(self, payload: bytes, caller: CallPeer) -> bytes:
        try:
            member = self._calling_member(caller)
            csr = _parse(RenewRequest, payload).csr
            certificate = self._sign(self._authority(), csr, member)
        except (KvshimError, RequestError) as error:
            return _bytes(RenewAnswer(refusal=str(error)))
        return _bytes(RenewAnswer(certificate=certificate))

    async def _ca_key(self, _: bytes, caller: CallPeer) -> bytes:
        try:
            member = self._calling_member(caller)
            if member.learner:
                raise Refused("only voters hold the CA's key")
            key = self._authority().key_pem
        except (KvshimError, RequestError) as error:
            return _bytes(CaKeyAnswer(refusal=str(error)))
        return _bytes(CaKeyAnswer(key=key))

    def _calling_member(self, caller: CallPeer) -> Member:
        """Who it is by its certificate: a removed member keeps that, but no rights."""
        reason = authorize(caller.certificate, self._cluster.cluster_id, 0)
        if reason is not None or caller.certificate is None:
            raise Refused(reason or "the peer showed no certificate")
        member = self._member(inspect(caller.certificate).member_id)
        if member is None:
            raise Refused("the member is not in the cluster")
        return member

    # --- common ----------------------------------------------------------------------------------

    def _authority(self) -> CertificateAuthority:
        authority = self._pki.authority()
        if authority is None:
            raise _NoCaKey("this member does not hold the CA's key: ask a voter")
        return authority

    def _sign(self, authority: CertificateAuthority, csr: bytes, member: Member) -> bytes:
        return authority.issue(
            csr, self._cluster.cluster_id, member.id, hosts_of(member), self._wall_clock()
        )

    def _member(self, member_id: int) -> Member | None:
        return next((m for m in self._cluster.members() if m.id == member_id), None)

    def _voters_urls(self) -> list[str]:
        members = self._cluster.members()
        own = self._cluster.member_id
        voters = [m for m in members if not m.learner and m.id != own]
        return [url for member in voters for url in member.peer_urls][:URLS_MAX]

    def _now_ms(self) -> int:
        return int(self._wall_clock() * 1000)

    def _nonce(self, token_id: bytes) -> bytes:
        """Good for one minute, for this token: nothing to remember, so nothing that can grow."""
        made = self._now_ms().to_bytes(8, "big") + secrets.token_bytes(16)
        return made + hmac.digest(self._nonce_key, made + token_id, "sha256")

    def _nonce_is_ours(self, nonce: bytes, token_id: bytes) -> bool:
        made, mark = nonce[:24], nonce[24:]
        age_ms = self._now_ms() - int.from_bytes(made[:8], "big")
        wanted = hmac.digest(self._nonce_key, made + token_id, "sha256")
        return hmac.compare_digest(mark, wanted) and 0 <= age_ms <= NONCE_TTL_SECONDS * 1000


class _NoCaKey(Refused):
    """This member cannot sign; others can."""


def hosts_of(member: Member) -> list[str]:
    """The hosts of a member's URLs, for its certificate."""
    urls = [parse_url(text) for text in (*member.peer_urls, *member.client_urls)]
    return [url.host for url in urls if not url.is_unix and url.host not in ("0.0.0.0", "::")]


def _id_of_key(public_key_hash: bytes, cluster_id: int) -> int:
    """A new member's id: one key never becomes two members, whatever fails in between."""
    digest = hashlib.sha256(public_key_hash + cluster_id.to_bytes(8, "big")).digest()
    return int.from_bytes(digest[:8], "big") or 1


def _check_statement(statement: JoinStatement) -> None:
    key_hash(statement.csr)  # raises `PkiError`
    if max(len(statement.name), len(statement.failure_domain)) > NAME_CHARACTERS_MAX:
        raise Refused("the joining node's name is too long")
    for urls in (statement.peer_urls, statement.client_urls):
        if len(urls) > URLS_MAX or any(len(url) > URL_CHARACTERS_MAX for url in urls):
            raise Refused("the joining node's addresses are too many or too long")
    for url in map(_url, statement.peer_urls):
        if not url.tls or url.is_unix or not url.host:
            raise Refused(f"{url} is no address that other members can reach by TLS")
    for text in statement.client_urls:
        _url(text)


def _url(text: str) -> Url:
    try:
        return parse_url(text)
    except ValueError as error:
        raise Refused(str(error)) from None


def _joined_member(member: Member) -> JoinedMember:
    return JoinedMember(
        id=member.id,
        name=member.name,
        peer_urls=member.peer_urls,
        learner=member.learner,
        spare=member.spare,
    )


def _parse(kind: type[_M], payload: bytes) -> _M:
    if len(payload) > REQUEST_BYTES_MAX:
        raise Refused("the request is too long")
    try:
        return kind.FromString(payload)
    except DecodeError:
        raise Refused("the request cannot be read") from None


def _bytes(message: Message) -> bytes:
    return message.SerializeToString()
