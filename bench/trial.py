"""What a measurement is given for one server and one round: a place, servers, the load generator.

Blocking. Owns the directory it makes and every server it starts; a directory stays if something
fails, since the logs in it say why.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench import load, usage
from bench.load import Phase
from bench.scale import Scale
from conformance.certs import write_certs
from conformance.servers import Datastore, Kind

Figures = dict[str, float]


@dataclass(frozen=True, slots=True)
class Outcome:
    """Figures by name, and whatever else is worth keeping."""

    figures: Figures
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Trial:
    """One server, one round."""

    kind: Kind
    scale: Scale
    directory: Path
    flags: Sequence[str] = ()

    @contextmanager
    def server(self, *flags: str) -> Iterator[Datastore]:
        """An empty server that runs; stopped at the end."""
        with Datastore(self.kind, self.directory / "plain", (*self.flags, *flags)) as datastore:
            yield datastore

    @contextmanager
    def secure_server(self) -> Iterator[Datastore]:
        """The same with TLS, where clients must show a certificate."""
        certs = write_certs(self.directory / "certs")
        with Datastore(self.kind, self.directory / "secure", self.flags, certs) as datastore:
            yield datastore

    def load(
        self, server: Datastore, objects: int, *phases: str, **flags: int | float | str
    ) -> dict[str, Phase]:
        """Runs phases of the load generator; its flags may be given with underscores."""
        scale = self.scale
        usual: dict[str, int | float | str] = {
            "n": objects,
            "value-bytes": scale.value_bytes,
            "watchers": scale.watchers,
            "watch-rate": scale.watch_rate,
            "watch-duration": f"{scale.watch_seconds}s",
            "list-repeats": scale.list_repeats,
            "timeout": f"{scale.timeout_seconds}s",
        }
        named = {name.replace("_", "-"): value for name, value in flags.items()}
        return load.run(phases, {**usual, **named}, server.client_url, server.pid, server.tls)

    def usage(self, server: Datastore) -> usage.Usage:
        """What the server has used until now."""
        return usage.read(server.pid, server.data_dir)


@dataclass(frozen=True, slots=True)
class Measurement:
    """Something that is measured by itself, in a few rounds on each of its servers."""

    name: str
    title: str
    run: Callable[[Trial], Outcome]
    rounds: int = 3
    rounds_full: int = 3
    servers: Sequence[Kind] = (Kind.ETCD, Kind.KVSHIM)
    usual: bool = True
    """Runs unless others are named."""

    def takes(self, chosen: Sequence[Kind]) -> list[Kind]:
        """Those of the chosen servers that it can measure, in its own order."""
        return [kind for kind in self.servers if kind in chosen]
