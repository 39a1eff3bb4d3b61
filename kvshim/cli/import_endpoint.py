"""The part of `kvshim import` that asks a running server; loaded only then, since grpc is large."""

from __future__ import annotations

from pathlib import Path

from kvshim.cli.progress import shown
from kvshim.exchange.etcd_dir import opened
from kvshim.exchange.load import load_etcd_file, load_present
from kvshim.mvcc.store import Store
from kvshim.transport.grpcio_environment import prepare

prepare(())

from kvshim.transport.grpcio_client import (  # noqa: E402 - grpc reads its environment at import
    Credentials,
    NoSnapshotThere,
    Source,
)

__all__ = ["Credentials", "from_server"]

PRESENT_ONLY = (
    "The server gives no snapshot, as kine and k8s-dqlite: the present keys under / were taken."
    " The past and users are not there, a key that was ever changed may count as at its second"
    " version, and a lease begins anew with its whole time."
)


def from_server(url: str, credentials: Credentials, store: Store, room: Path) -> str:
    """Fill the store; returns what could not be kept. `room` is where a snapshot may lie."""
    with Source.connected(url, credentials) as source:
        try:
            with shown("Fetching a snapshot") as advance:
                for came, total in source.save_snapshot(room):
                    advance(came, total)
        except NoSnapshotThere:
            revision, count, versions = source.present_keys()
            with shown("Importing keys") as advance:
                load_present(versions, revision, store, lambda done: advance(done, count))
            return PRESENT_ONLY
    with opened(room) as file, shown("Importing") as advance:
        load_etcd_file(file, store, lambda _: advance(file.pages_read, file.pages))
    return ""
