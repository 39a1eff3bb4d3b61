"""Until when a node's certificates hold, for its operator. Reads files; event loop, rarely."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from kvshim.config import Config
from kvshim.pki.certificates import PkiError
from kvshim.pki.files import Pki
from kvshim.pki.validity import validity_of

WARN_DAYS: Final = 30
"""A member's own certificate is renewed four months before its end: by then that has failed."""

_DAY_SECONDS: Final = 86_400


@dataclass(frozen=True, slots=True)
class Expiry:
    """One certificate: `kind` is member, CA, peers or clients, `not_after` in Unix seconds.

    `error` says why it cannot be read, and `not_after` is then 0.
    """

    kind: str
    file: str
    not_after: float
    error: str = ""

    def days_left(self, now: float) -> int:
        """Whole days; negative when it has expired."""
        return int((self.not_after - now) // _DAY_SECONDS)


def expiries(config: Config, data_dir: Path) -> list[Expiry]:
    """Of the cluster's own certificates, and of those that flags name."""
    return [_read(kind, file) for kind, file in _files(config, data_dir)]


def warnings(found: Sequence[Expiry], now: float | None = None) -> list[str]:
    """A sentence for each that needs somebody to look at it."""
    now = time.time() if now is None else now
    texts = []
    for expiry in found:
        named = f"the certificate for {expiry.kind} in {expiry.file}"
        days = expiry.days_left(now)
        if expiry.error:
            texts.append(f"{named} cannot be read: {expiry.error}")
        elif expiry.not_after <= now:
            texts.append(f"{named} has expired")
        elif days < WARN_DAYS:
            texts.append(f"{named} expires in {days} days")
    return texts


def _files(config: Config, data_dir: Path) -> Iterator[tuple[str, Path]]:
    pki = Pki.of(data_dir)
    if pki.exists():
        yield "member", pki.node_file
        yield "CA", pki.ca_file
    elif config.peer_tls.cert_file is not None:
        yield "peers", config.peer_tls.cert_file
    if config.client_tls.cert_file is not None:
        yield "clients", config.client_tls.cert_file


def _read(kind: str, file: Path) -> Expiry:
    """The first certificate of a file is that of whoever shows it."""
    try:
        return Expiry(kind, str(file), validity_of(file).not_after)
    except OSError as error:
        return Expiry(kind, str(file), 0.0, error.strerror or str(error))
    except PkiError as error:
        return Expiry(kind, str(file), 0.0, str(error))
