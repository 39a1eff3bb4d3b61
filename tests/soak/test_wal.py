"""Lists that always overlap and writes that never pause: files and memory of a node stay flat.

SQLite cannot start a WAL over while any reader uses it, and a passive checkpoint waits for nobody,
so under this load the WAL of a careless program grows for ever. `--soak-seconds` says how long.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from operator import attrgetter

from kvshim.logs import Event
from tests.soak.load import COMPACT_EVERY_SECONDS, VALUE_BYTES, Load, load_objects
from tests.soak.node import MIB, WAL_BYTES_MAX, Observer, SoakNode, eventually
from tests.support.grpc_client import EtcdClient

OBJECTS = 3_000

WAL_SLACK_BYTES = 16 * MIB
"""Beyond `--wal-bytes-max`: what is committed while a passive checkpoint runs, on a slow disk, and
until writes pause. A WAL that is never started over passes this within the short form."""

RAFT_WAL_BYTES_MAX = 24 * MIB
"""raft.db's WAL is copied at 8 MiB, beside the appends, and its file cut back to 16 MiB."""

RAFT_BYTES_MAX = 40 * MIB
"""5,000 entries of at most 4 KiB, and what waits to be cut with the next slice."""

FILE_GROWTH_MAX = 1.15
FILE_SLACK_BYTES = 1 * MIB
"""Free pages that are kept to be used again, beside the objects and the history."""

RSS_BYTES_MAX = 384 * MIB
"""Four lists of 8 MB are in the air at any time, each joined once and sent."""

RSS_GROWTH_BYTES_MAX = 24 * MIB
"""Between the first third and the end of a long run: half a KiB kept of each request is more. A
slope says less, since lists in the air and what malloc keeps of them move it by as much."""

LONG_SECONDS = 240.0
WRITE_P99_SECONDS_MAX = 2.0


def report(load: Load, seen: Observer, seconds: float, node: SoakNode) -> str:
    """Figures of a run, a line each."""
    record = load.record
    lines = [f"soak of {seconds:.0f} s, --wal-bytes-max {WAL_BYTES_MAX / MIB:.0f} MiB"]
    for kind in sorted(record.seconds):
        p50, p99, most = (1000 * record.percentile(kind, p) for p in (50, 99, 100))
        count = record.counts[kind]
        lines.append(f"  {kind}: {count} calls, ms p50 {p50:.1f} p99 {p99:.1f} max {most:.1f}")
    lines.append(f"  watched: {record.counts['watched']} events")
    for name in ("kv", "kv_wal", "raft", "raft_wal", "rss"):
        what = attrgetter(name)
        early, late = seen.median(what, 0.25, 0.35), seen.median(what, 0.9, 1)
        lines.append(
            f"  {name}: MiB max {seen.largest(what) / MIB:.1f}, early {early / MIB:.1f},"
            f" late {late / MIB:.1f}, slope {seen.slope(what) / MIB:+.2f}/min"
        )
    lines.append(f"  slow fsyncs: {len(node.lines(Event.SLOW_FSYNC))}")
    return "\n".join(lines)


def history_bytes(load: Load, seconds: float) -> float:
    """What there is to forget at most: a compaction goes up to where the one before it began."""
    puts_per_second = load.record.counts["put"] / seconds
    return 2 * COMPACT_EVERY_SECONDS * puts_per_second * sum(VALUE_BYTES) / 2


def test_overlapping_lists_and_writes_leave_files_and_memory_flat(
    node: SoakNode, soak_seconds: float, rng: random.Random, tell: Callable[[str], None]
) -> None:
    client = EtcdClient(node.target)
    load_objects(client, OBJECTS, rng)
    loaded = node.metric("etcd_mvcc_db_total_size_in_bytes")
    with Load(node.target, OBJECTS, rng) as load, Observer(node) as seen:
        load.held.see(client.revision())
        load.start(*[load.write] * 4, *[load.list_all] * 3, load.stream_all, load.list_pages)
        load.start(load.keep_lease, load.watch, load.compact)
        deadline = time.monotonic() + soak_seconds
        while time.monotonic() < deadline and not load.record.failures:
            time.sleep(0.2)
        load.stop()
    tell(report(load, seen, soak_seconds, node))

    assert not load.record.failures, "\n".join(load.record.failures)
    assert load.record.counts["put"] > 10 * soak_seconds
    assert load.record.counts["list"] > soak_seconds / 2
    assert load.record.counts["compact"] > soak_seconds / 10
    assert load.record.percentile("put", 99) < WRITE_P99_SECONDS_MAX
    assert not node.lines(Event.LEASES_EXPIRED)
    assert not node.lines(Event.WAL_PINNED)

    assert seen.largest(lambda sample: sample.kv_wal) < WAL_BYTES_MAX + WAL_SLACK_BYTES
    assert seen.largest(lambda sample: sample.raft_wal) < RAFT_WAL_BYTES_MAX
    assert seen.largest(lambda sample: sample.raft) < RAFT_BYTES_MAX
    file_bytes_max = FILE_GROWTH_MAX * loaded + history_bytes(load, soak_seconds) + FILE_SLACK_BYTES
    assert seen.median(lambda sample: sample.kv, 0.9, 1) < file_bytes_max
    assert seen.largest(lambda sample: sample.rss) < RSS_BYTES_MAX
    if soak_seconds >= LONG_SECONDS:
        rss = attrgetter("rss")
        assert seen.median(rss, 0.9, 1) < seen.median(rss, 0.25, 0.35) + RSS_GROWTH_BYTES_MAX

    client.compact(client.revision(), physical=True)
    assert eventually(lambda: node.file_bytes("kv-1.db") < file_bytes_max, 20)
    client.close()
