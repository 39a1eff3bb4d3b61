"""The node's part in its cluster's trust: CA, contexts, admission, renewal, the operator's socket.

A cluster that began with one node has a CA of its own, made at the first start. Between its members
all is mutual TLS as soon as this member has an https:// address for them; until then, and in
clusters formed by flags, the flags about peers say how. Event loop.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from kvshim.apply.members import removed_of
from kvshim.config import Config
from kvshim.config.role_numbers import RoleNumbers
from kvshim.config.url import Url, parse_url
from kvshim.errors import KvshimError
from kvshim.logs import Logger
from kvshim.mvcc.store import Store
from kvshim.pki.contexts import PeerTls
from kvshim.pki.files import Pki
from kvshim.server.admin_socket import SOCKET_NAME, AdminServer, Handler
from kvshim.server.admission import Admission, hosts_of
from kvshim.server.certificates import CertificateKeeper
from kvshim.server.members import MemberBook
from kvshim.server.peer_trust import LoggedCluster, authorizer, serve
from kvshim.server.proposer import Proposer
from kvshim.server.reader import Reader
from raft.interface import LogError
from raft.transport import Hello, PeerCertificate, PeerTransport, TransportOptions

PEER_PORT: Final = 2380
_ELSEWHERE: Final = ("192.0.2.1", 9)
"""An address for documentation: asked only which of our own addresses leads out."""


class Trust:
    """What of it runs on this node."""

    def __init__(
        self, config: Config, directory: Path, cluster_id: int, book: MemberBook, *, store: Store
    ) -> None:
        """Founds the CA if this is the only member. Raises `PkiError`."""
        self._config = config
        self._cluster_id = cluster_id
        self._book = book
        self._directory = directory
        self.pki = Pki.of(directory)
        own = book.own
        by_flags = config.peer_tls.available or config.peer_urls_given
        if not self.pki.exists() and own is not None and len(book.members) == 1 and not by_flags:
            self.pki.found(cluster_id, own.id, hosts_of(own), time.time())
        self._tls = PeerTls(self.pki) if self.pki.exists() else None

        def is_removed(member_id: int) -> bool:
            with store.read_short() as view:
                return member_id in removed_of(view)

        self._strict = authorizer(is_removed)

    @property
    def rules(self) -> bool:
        """Does the cluster's own CA decide who is a member, and not flags?"""
        return self._tls is not None

    def options(self) -> TransportOptions:
        """For the transport between members."""
        assert self._tls is not None
        return TransportOptions(
            self._directory,
            server_tls=self._tls.server,
            client_tls=self._tls.client,
            authorize=self._authorize,
        )

    def listen_urls(self) -> Sequence[Url]:
        """Where this member listens for others, if flags do not say."""
        own = self._book.own
        return [parse_url(url) for url in own.peer_urls] if own and self._speaks_tls() else []

    def start(
        self,
        transport: PeerTransport,
        proposer: Proposer,
        reader: Reader,
        logger: Logger,
        operator: Mapping[str, Handler],
        *,
        numbers: Callable[[], RoleNumbers | None],
    ) -> None:
        """Answer joiners, members and the operator from now on.

        `operator` are the calls on the admin socket that are not about trust; `numbers` are
        the voters and standbys that the cluster wants.
        """
        self._transport = transport
        cluster = LoggedCluster(self._cluster_id, self._book, proposer, reader, numbers=numbers)
        handlers = dict(operator)
        self.keeper: CertificateKeeper | None = None
        if self._tls is not None:
            admission = Admission(self.pki, cluster, logger, open_address=self._open_address)
            serve(admission, transport)
            handlers.update(admission.admin_handlers())
            self.keeper = CertificateKeeper(
                self.pki, self._tls, cluster, transport, log=logger, changed=self._book.changed
            )
        self.admin = AdminServer(self._directory / SOCKET_NAME, handlers, logger)

    async def _open_address(self, wanted: str) -> None:
        """This member is to have its first neighbour: listen where that can reach it."""
        url = _peer_url(wanted or _own_host())
        try:
            self._transport.bind([(url.host, url.port, True)])
        except LogError as error:
            raise KvshimError(
                f"cannot listen for other nodes: {error}; --address HOST:PORT says another place"
            ) from error
        await self._book.update(self._book.own_id, [str(url)])

    def _authorize(self, certificate: PeerCertificate | None, hello: Hello) -> str | None:
        return self._strict(certificate, hello) if self._speaks_tls() else None

    def _speaks_tls(self) -> bool:
        own = self._book.own
        if own is None:
            return True  # it joined: its own entry comes with the first snapshot
        return all(url.startswith("https:") for url in own.peer_urls)


def _peer_url(address: str) -> Url:
    """HOST or HOST:PORT as an address for members."""
    try:
        if not urlsplit(f"//{address}").port:
            address += f":{PEER_PORT}"
        return parse_url(f"https://{address}")
    except ValueError as error:
        raise KvshimError(f"{address!r} is not HOST or HOST:PORT: {error}") from None


def _own_host() -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(_ELSEWHERE)
            return str(probe.getsockname()[0])
        except OSError:
            return "127.0.0.1"
