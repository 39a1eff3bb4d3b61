"""Clients that stop reading in the middle of a large list: nobody else may notice them.

No read transaction may wait for a client, so the WAL is started over as ever; other clients' lists
and writes go on, and compaction physically passes what the stalled ones are reading.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from kvshim.logs import Event
from kvshim.pb.etcd import rpc_pb2
from tests.soak.load import OBJECTS as PREFIX
from tests.soak.load import Load, load_objects
from tests.soak.node import MIB, WAL_BYTES_MAX, Observer, SoakNode, eventually
from tests.soak.stalled import WINDOW_BYTES, Stall, StalledCall
from tests.soak.test_wal import WAL_SLACK_BYTES, WRITE_P99_SECONDS_MAX
from tests.support.grpc_client import EtcdClient, prefix_end

OBJECTS = 8_500
STALL_SECONDS = 10.0
LIST_P99_SECONDS_MAX = 5.0
COMPACT_SECONDS_MAX = 40.0
"""Revisions that answers in flight still read are spared for 30 s."""


def test_stalled_clients_pin_nothing_and_hang_nobody(
    node: SoakNode, rng: random.Random, tell: Callable[[str], None]
) -> None:
    client = EtcdClient(node.target)
    load_objects(client, OBJECTS, rng)
    revision = client.revision()
    everything = rpc_pb2.RangeRequest(key=PREFIX, range_end=prefix_end(PREFIX)).SerializeToString()
    calls = {
        (method, stall): StalledCall(
            node.client_port, f"etcdserverpb.KV/{method}", everything, stall
        )
        for method in ("Range", "RangeStream")
        for stall in Stall
    }
    for (_, stall), call in calls.items():
        call.read_at_least(WINDOW_BYTES if stall is Stall.WINDOW else MIB)
        assert not call.ended

    with Load(node.target, OBJECTS, rng) as load, Observer(node) as seen:
        load.held.see(revision)
        load.start(*[load.write] * 4, load.list_all, load.list_pages, load.keep_lease)
        began = time.monotonic()
        assert eventually(lambda: load.held.compactable() > revision, 20)
        request = rpc_pb2.CompactionRequest(revision=load.held.compactable(), physical=True)
        client.call(
            "etcdserverpb.KV/Compact",
            request,
            rpc_pb2.CompactionResponse,
            timeout=COMPACT_SECONDS_MAX,
        )
        compact_seconds = time.monotonic() - began
        time.sleep(max(0.0, STALL_SECONDS - compact_seconds))
        load.stop()
        pinned = node.metric("kvshim_wal_pinned_seconds")
    record = load.record
    p99 = {kind: record.percentile(kind, 99) for kind in ("put", "list", "page")}
    tell(
        f"stalled clients: p99 {', '.join(f'{k} {1000 * s:.0f} ms' for k, s in p99.items())},"
        f" physical compaction {compact_seconds:.1f} s,"
        f" WAL max {seen.largest(lambda s: s.kv_wal) / MIB:.1f} MiB,"
        f" RSS max {seen.largest(lambda s: s.rss) / MIB:.0f} MiB"
    )
    assert not record.failures, "\n".join(record.failures)
    assert pinned == 0
    assert not node.lines(Event.WAL_PINNED)
    assert seen.largest(lambda sample: sample.kv_wal) < WAL_BYTES_MAX + WAL_SLACK_BYTES
    assert p99["put"] < WRITE_P99_SECONDS_MAX
    assert p99["list"] < LIST_P99_SECONDS_MAX

    for stall in Stall:
        call = calls["Range", stall]
        call.resume()
        if call.reset:
            continue  # What it was reading is gone; nothing is padded.
        answer = rpc_pb2.RangeResponse.FromString(call.message())
        assert (answer.header.revision, len(answer.kvs)) == (revision, OBJECTS)
        assert max(kv.mod_revision for kv in answer.kvs) <= revision
    for call in calls.values():
        call.close()
    client.close()
