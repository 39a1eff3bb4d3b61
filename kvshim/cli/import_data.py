"""`kvshim import`: the data of etcd, kine or k8s-dqlite in a new data directory."""

from __future__ import annotations

import getpass
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import click

from kvshim.backend.kine import KineDatabase, is_sqlite
from kvshim.cli.admin_options import UsageError, run_command
from kvshim.cli.progress import shown
from kvshim.exchange.etcd_dir import opened
from kvshim.exchange.load import Loaded, load_etcd_file, load_present, summary
from kvshim.mvcc.store import REVISIONS_SKIPPED, Store
from kvshim.node.draft import make_data
from kvshim.types import KeyValue, LeaseID, Revision

PASSWORD_VARIABLE = "ETCDCTL_PASSWORD"
"""etcdctl's own."""

_file = click.Path(path_type=Path, dir_okay=False)


def run(arguments: Sequence[str]) -> int:
    return run_command(_import, arguments)


@click.command("import")
@click.argument("source", required=False, type=click.Path(path_type=Path))
@click.option("--data-dir", required=True, type=click.Path(path_type=Path), help="A new one.")
@click.option(
    "--from-endpoint",
    metavar="URL",
    help="A server that runs, instead of a file: http://, https:// or unix:// and a path.",
)
@click.option("--cacert", type=_file, help="CA of the endpoint's certificate.")
@click.option("--cert", type=_file, help="Client certificate.")
@click.option("--key", type=_file, help="Its key.")
@click.option(
    "--user",
    help=f"User at the endpoint; {PASSWORD_VARIABLE} has the password, or you are asked for it.",
)
@click.option(
    "--skip-hash-check",
    is_flag=True,
    help="Take a file without a checksum, such as the db of a data directory.",
)
@click.option(
    "--bump-revision",
    type=click.IntRange(min=0),
    default=REVISIONS_SKIPPED,
    show_default=True,
    help="By how much the revision rises, with all before compacted; 0 leaves both as they were.",
)
def _import(
    *,
    source: Path | None,
    data_dir: Path,
    from_endpoint: str | None,
    cacert: Path | None,
    cert: Path | None,
    key: Path | None,
    user: str | None,
    skip_hash_check: bool,
    bump_revision: int,
) -> None:
    """Make a new data directory of what another store holds.

    SOURCE is a snapshot (etcdctl snapshot save), the data directory of an etcd that was stopped, or
    kine's SQLite file (state.db of K3s). What it is is found out. A running server is named by
    --from-endpoint instead; of etcd everything comes, of kine and k8s-dqlite the present keys.
    """
    if (source is None) is (from_endpoint is None):
        raise UsageError("say either a file or a directory, or --from-endpoint")

    def fill(store: Store, room: Path) -> tuple[Loaded, str]:
        if from_endpoint is not None:
            from kvshim.cli.import_endpoint import Credentials, from_server

            password = _password() if user is not None else ""
            login = Credentials(cacert, cert, key, user, password)
            lost = from_server(from_endpoint, login, store, room)
        else:
            assert source is not None
            lost = _from_file(source, store, skip_hash_check=skip_hash_check)
        found = summary(store)
        if bump_revision:
            with store.write() as batch:
                batch.skip(bump_revision)
        return found, lost

    found, lost = make_data(data_dir, fill)
    for line in _report(found, lost, bump_revision, data_dir):
        print(line)


def _from_file(source: Path, store: Store, *, skip_hash_check: bool) -> str:
    if is_sqlite(source):
        with KineDatabase.open(source) as kine, shown("Importing keys") as advance:
            total = kine.keys
            load_present(
                _versions(kine), Revision(kine.revision), store, lambda done: advance(done, total)
            )
        return PRESENT_ONLY
    checked = opened(source, skip_hash_check=skip_hash_check)
    with checked as file, shown("Importing") as advance:
        load_etcd_file(file, store, lambda _: advance(file.pages_read, file.pages))
    return ""


PRESENT_ONLY = (
    "kine has no users, and counts no versions: the past is not there, a key that was ever changed"
    " counts as at its second version, and a lease begins anew with its whole time."
)


def _versions(kine: KineDatabase) -> Iterator[KeyValue]:
    for row in kine.rows():
        created = row.create_revision
        number = 1 if created == row.mod_revision else 2
        yield KeyValue(
            row.key,
            row.value,
            Revision(created),
            Revision(row.mod_revision),
            number,
            LeaseID(row.lease),
        )


def _password() -> str:
    given = os.environ.get(PASSWORD_VARIABLE)
    if given is not None:
        return given
    if not sys.stdin.isatty():
        raise UsageError(f"nobody is there to ask for the password: set {PASSWORD_VARIABLE}")
    return getpass.getpass("Password: ")


def _report(found: Loaded, lost: str, bumped: int, data_dir: Path) -> Iterator[str]:
    yield f"Imported, at revision {found.revision}:"
    yield f"  keys: {found.keys}, in {found.versions} versions"
    yield f"  leases: {found.leases}"
    state = "on" if found.auth_enabled else "off"
    yield f"  users: {found.users}, roles: {found.roles}; authentication is {state}"
    if lost:
        yield lost
    if bumped:
        yield (
            f"The store begins at revision {found.revision + bumped}, with everything before it"
            " compacted: watchers list anew and never see time go back. --bump-revision=0 leaves"
            " the revision as it was."
        )
    elif found.compact_revision > 0:
        yield f"It can be read back to revision {found.compact_revision}."
    yield f"Start it: kvshim --data-dir {data_dir}, and the flags that it is to have."
