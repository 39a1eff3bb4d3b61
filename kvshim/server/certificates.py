"""Keeps this member's certificate fresh, and the CA's key where a voter needs it. Event loop.

A certificate is renewed in the last third of its life, by the CA's key if this member holds it and
else by a voter, over mutual TLS. A member that became a voter fetches the CA's key, so that any
voter can admit nodes and renew when the first one is gone.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final, Protocol, TypeVar

from google.protobuf.message import DecodeError, Message

from kvshim.logs import Event, Logger
from kvshim.pb.kvshim.join_pb2 import CaKeyAnswer, CaKeyRequest, RenewAnswer, RenewRequest
from kvshim.pb.kvshim.member_pb2 import Member
from kvshim.pki.certificates import PkiError, make_csr, new_key
from kvshim.pki.contexts import PeerTls
from kvshim.pki.files import Pki
from kvshim.server.admission import hosts_of
from kvshim.server.joining import PeerCalls
from raft.transport.options import CallRefused
from raft.types import LogError

STEP_SECONDS: Final = 60.0
"""How often it is looked at, at least; also how soon a failure is tried again."""
CALL_TIMEOUT_SECONDS: Final = 10.0

_M = TypeVar("_M", bound=Message)


class Members(Protocol):
    """What the keeper needs to know of the cluster."""

    @property
    def cluster_id(self) -> int: ...

    @property
    def member_id(self) -> int: ...

    def members(self) -> Sequence[Member]: ...


class CertificateKeeper:
    """One task: `run`. `step` is what it does each minute, and when the members change."""

    def __init__(
        self,
        pki: Pki,
        tls: PeerTls,
        members: Members,
        calls: PeerCalls,
        *,
        log: Logger,
        changed: Callable[[], Awaitable[None]],
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        """`changed` waits until the members are others than now: this one may vote from then on."""
        self._pki = pki
        self._tls = tls
        self._members = members
        self._calls = calls
        self._log = log
        self._changed = changed
        self._wall_clock = wall_clock

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self.step()
            with suppress(TimeoutError):
                async with asyncio.timeout(STEP_SECONDS):
                    await self._changed()

    async def step(self) -> None:
        """Do what is due; what fails is logged and done by a later step."""
        not_after = ""
        try:
            validity = self._pki.validity()
            not_after = _date(validity.not_after)
            if validity.renewal_due(self._wall_clock()):
                await self._renew()
            await self._fetch_ca_key()
        except PkiError as error:
            self._log.warn(Event.CERTIFICATE_NOT_RENEWED, reason=str(error), not_after=not_after)

    async def _renew(self) -> None:
        key = new_key()
        csr = make_csr(key)
        authority = self._pki.authority()
        own = self._own()
        if authority is not None and own is not None:
            certificate = authority.issue(
                csr, self._members.cluster_id, own.id, hosts_of(own), self._wall_clock()
            )
        else:
            answer = await self._ask_voters("renew", RenewRequest(csr=csr), RenewAnswer)
            certificate = answer.certificate
        ca_certificate = self._pki.ca_certificate()
        await asyncio.to_thread(self._pki.keep_certificate, key, certificate, ca_certificate)
        self._tls.reload()
        self._log.info(Event.CERTIFICATE_RENEWED, not_after=_date(self._pki.validity().not_after))

    async def _fetch_ca_key(self) -> None:
        own = self._own()
        if own is None or own.learner or self._pki.ca_key_file.exists():
            return
        answer = await self._ask_voters("ca-key", CaKeyRequest(), CaKeyAnswer)
        await asyncio.to_thread(self._pki.keep_ca_key, answer.key)

    async def _ask_voters(self, method: str, request: Message, kind: type[_M]) -> _M:
        """The first answer that is no refusal. Raises `PkiError` with the last reason."""
        reason = "there is no other voter to ask"
        payload = request.SerializeToString()
        for member in self._members.members():
            if member.learner or member.id == self._members.member_id:
                continue
            for url in member.peer_urls:
                try:
                    data = await self._calls.call(
                        url, method, payload, CALL_TIMEOUT_SECONDS, tls=self._tls.client
                    )
                    answer = kind.FromString(data)
                except (OSError, TimeoutError, CallRefused, LogError, DecodeError) as error:
                    reason = f"{url}: {error or 'no answer in time'}"
                    continue
                refusal = getattr(answer, "refusal", "")
                if not refusal:
                    return answer
                reason = f"{url}: {refusal}"
        raise PkiError(reason)

    def _own(self) -> Member | None:
        own = self._members.member_id
        return next((m for m in self._members.members() if m.id == own), None)


def _date(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
