"""`kvshim export`: the store of a stopped node as a snapshot that etcd restores."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import click

from kvshim.backend.datadir import RAFT_NAME, DataDir
from kvshim.backend.files import sync
from kvshim.cli.admin_options import data_dir_option, run_command
from kvshim.cli.progress import shown
from kvshim.errors import KvshimError
from kvshim.exchange.export import Export
from kvshim.mvcc.store import Store
from kvshim.node.survivor import check_fit, opened_log, opened_store


class ExportError(KvshimError):
    """No snapshot was written: says why."""


def run(arguments: Sequence[str]) -> int:
    return run_command(_export, arguments)


@click.command("export")
@click.argument("file", type=click.Path(path_type=Path))
@data_dir_option
def _export(file: Path, data_dir: Path) -> None:
    """Write the store of a node that does not run as a snapshot for etcdutl snapshot restore.

    While a node runs, etcdctl snapshot save does the same.
    """
    if file.exists():
        raise ExportError(f"{file} is there already")
    if not (data_dir / RAFT_NAME).exists():
        raise ExportError(f"{data_dir} holds no data of a node")
    directory = DataDir.open(data_dir)
    try:
        with (
            opened_log(directory) as log,
            opened_store(directory.generation_path(log.generation)) as store,
        ):
            check_fit(log, store)
            _refuse_behind(store, log.hard_state.commit)
            length, revision = _write(store, file)
    except OSError as error:
        raise ExportError(f"cannot write {file}: {error.strerror or error}") from error
    finally:
        directory.close()
    print(f"Wrote {file}: {length} bytes, revision {revision}.")


def _refuse_behind(store: Store, committed: int) -> None:
    if store.applied_index < committed:
        raise ExportError(
            f"the node was not stopped cleanly: its store holds entries up to"
            f" {store.applied_index}, and {committed} are committed; start it once more and stop it"
        )


def _write(store: Store, path: Path) -> tuple[int, int]:
    part = path.with_name(path.name + ".part")
    try:
        with part.open("w+b") as file, shown("Writing") as advance:
            part.chmod(0o600)
            export = Export(store, file)
            total = store.backend.sizes().db_bytes
            while export.step():
                advance(file.tell(), total)
            export.close()
            file.seek(0)
            digest = hashlib.file_digest(file, "sha256")
            file.seek(0, 2)
            file.write(digest.digest())
        sync(part)
        part.rename(path)
        sync(path.parent)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    return export.bytes_total, export.revision
