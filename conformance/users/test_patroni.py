"""Patroni keeps two PostgreSQL on three nodes of kvshim: a lost primary is replaced, a lost node of
the store is not even noticed.

Patroni talks to the JSON gateway: leases, transactions and streamed watches over HTTP.
"""

import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from conformance.users.patroni import LOOP_SECONDS, TTL_SECONDS, Database, missing, wait_for
from tests.cluster.cluster import Cluster
from tests.support.datastore import Kind

FORM_SECONDS_MAX = 90.0
FAILOVER_SECONDS_MAX = TTL_SECONDS + 30.0
REJOIN_SECONDS_MAX = 90.0
STAYS_SECONDS = TTL_SECONDS + 3 * LOOP_SECONDS

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing())


@dataclass(slots=True)
class Site:
    """The store and the two databases."""

    store: Cluster
    databases: list[Database]

    def primary(self) -> Database | None:
        roles = [(database, database.role()) for database in self.databases]
        leaders = [database for database, role in roles if role in ("master", "primary")]
        assert len(leaders) < 2, f"two primaries: {roles}"
        return leaders[0] if leaders else None

    def wait_primary(self, seconds: float, other_than: Database | None = None) -> Database:
        def look() -> Database | None:
            found = self.primary()
            return found if found is not other_than else None

        return wait_for(look, seconds, self.report)

    def wait_replica(self, database: Database, seconds: float, rows: int) -> None:
        """Once it follows the primary, with all that was written."""

        def look() -> bool | None:
            try:
                count = database.sql("select count(*) from deeds")
            except AssertionError:
                return None
            return (database.role() == "replica" and count == str(rows)) or None

        wait_for(look, seconds, self.report)

    def report(self) -> str:
        return "\n".join(database.report() for database in self.databases)


@pytest.fixture
def site(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Site]:
    # PostgreSQL runs as a user who may not look into root's temporary directories.
    home = Path(tempfile.mkdtemp(prefix="patroni-"))
    home.chmod(0o755)
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, home, ignore_errors=True)
        store = stack.enter_context(Cluster(3, tmp_path, kind=request.param))
        store.start()
        targets = [member.target for member in store.members]
        databases = [Database(name, home / name, targets) for name in ("a", "b")]
        for database in databases:
            stack.callback(database.stop)
            database.start()
        yield Site(store, databases)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("site", [Kind.KVSHIM, Kind.ETCD], indirect=True, ids=lambda k: k.value)
def test_a_database_outlives_its_primary_and_its_store_a_node(site: Site):
    first = site.wait_primary(FORM_SECONDS_MAX)
    [second] = [database for database in site.databases if database is not first]
    first.sql("create table deeds (what text)")
    first.sql("insert into deeds values ('one'), ('two')")
    site.wait_replica(second, FORM_SECONDS_MAX, rows=2)

    # The store loses its leader: for the databases nothing happens.
    leader = site.store.wait_leader()
    leader.kill()
    calm_until = time.monotonic() + STAYS_SECONDS
    while time.monotonic() < calm_until:
        first.sql("insert into deeds values ('meanwhile')")
        assert site.primary() is first
        time.sleep(1)
    site.store.restart(leader)

    # The primary is lost with its machine: the replica takes over with every row.
    rows = int(first.sql("select count(*) from deeds"))
    site.wait_replica(second, REJOIN_SECONDS_MAX, rows)
    lost = time.monotonic()
    first.kill()
    assert site.wait_primary(FAILOVER_SECONDS_MAX, other_than=first) is second
    print(f"the replica leads {time.monotonic() - lost:.1f} s after the primary was killed")
    assert int(second.sql("select count(*) from deeds")) == rows
    second.sql("insert into deeds values ('after')")

    # The old primary comes back as a replica.
    first.start()
    site.wait_replica(first, REJOIN_SECONDS_MAX, rows + 1)
    assert site.primary() is second
