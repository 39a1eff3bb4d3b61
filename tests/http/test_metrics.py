"""The metrics page against its documentation, and the instruments of our own."""

import asyncio
import gc
import re
import time
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from kvshim.config import MetricsLevel
from kvshim.errors import Code
from kvshim.metrics.calls import CLIENT_VERSIONS_MAX, CODE_LABELS, CallKind, MethodMetrics
from kvshim.metrics.instruments import Callback, CallbackKind
from kvshim.metrics.registry import Metrics
from kvshim.metrics.runtime import BUSY_INTERVAL_SECONDS, SAMPLE_INTERVAL_SECONDS, Sampler

DOCUMENT = Path(__file__).parents[2] / "docs" / "metrics.md"
ROW = re.compile(r"^\| `(?P<name>\w+)` \| (?P<type>\w+) \| (?P<labels>[\w, ]*)\|", re.MULTILINE)
SUFFIXES = {"histogram": ("_bucket", "_count", "_sum"), "counter": ("",), "gauge": ("",)}


def documented() -> dict[str, tuple[str, frozenset[str]]]:
    rows = ROW.finditer(DOCUMENT.read_text())
    return {
        row["name"]: (row["type"], frozenset(filter(None, row["labels"].strip().split(", "))))
        for row in rows
    }


def callbacks(metrics: Metrics) -> list[Callback]:
    groups = [group for group in vars(metrics).values() if hasattr(group, "__dict__")]
    return [item for group in groups for item in vars(group).values() if isinstance(item, Callback)]


def full_metrics() -> Metrics:
    """Every metric with one value, whatever its labels."""
    metrics = Metrics(MetricsLevel.EXTENSIVE)
    for callback in callbacks(metrics):
        callback.read_from(lambda: 1)
    metrics.server.identify("3.7.3", 0xCAFE)
    metrics.server.set_cluster_version("3.7.0")
    metrics.health.check_passed("readyz", "linearizable_read")
    method(metrics).call_started("3.7")
    return metrics


def method(metrics: Metrics) -> MethodMetrics:
    return metrics.calls.method(CallKind.UNARY, "/etcdserverpb.KV/Range")


def test_the_document_lists_every_metric_with_type_and_labels():
    shown: dict[str, tuple[str, frozenset[str]]] = {}
    for family in full_metrics().registry.collect():
        name = family.name + ("_total" if family.type == "counter" else "")
        labels = {label for sample in family.samples for label in sample.labels}
        shown[name] = (family.type, frozenset(labels - {"le"}))
    assert shown == documented()


def test_names_in_the_document_are_those_on_the_page():
    page = full_metrics().render().decode()
    for name, (kind, _) in documented().items():
        assert f"# TYPE {name} {kind}\n" in page
        for suffix in SUFFIXES[kind]:
            assert re.search(rf"^{name}{suffix}[{{ ]", page, re.MULTILINE), name
    assert "_created" not in page


def test_a_callback_is_not_shown_before_it_is_wired():
    metrics = Metrics()
    assert "etcd_server_has_leader" in metrics.unwired()
    assert b"etcd_server_has_leader" not in metrics.render()
    metrics.server.has_leader.read_from(lambda: 1.0)
    assert "etcd_server_has_leader" not in metrics.unwired()
    assert b"\netcd_server_has_leader 1.0\n" in metrics.render()


def test_a_callback_is_read_at_each_scrape():
    metrics, revision = Metrics(), 1
    metrics.mvcc.current_revision.read_from(lambda: revision)
    assert metrics.registry.get_sample_value("etcd_debugging_mvcc_current_revision") == 1
    revision = 7
    assert metrics.registry.get_sample_value("etcd_debugging_mvcc_current_revision") == 7


def test_two_callbacks_of_a_name_are_refused():
    registry = CollectorRegistry()
    Callback(registry, CallbackKind.GAUGE, "twice", "")
    with pytest.raises(ValueError, match="Duplicated"):
        Callback(registry, CallbackKind.GAUGE, "twice", "")


def test_the_cluster_version_replaces_the_one_before():
    metrics = Metrics()
    metrics.server.set_cluster_version("3.6.0")
    metrics.server.set_cluster_version("3.7.0")
    page = metrics.render()
    assert b'etcd_cluster_version{cluster_version="3.7.0"} 1.0' in page
    assert b"3.6.0" not in page


def test_codes_are_spelled_as_in_go():
    assert CODE_LABELS[Code.OK] == "OK"
    assert CODE_LABELS[Code.CANCELLED] == "Canceled"
    assert CODE_LABELS[Code.INVALID_ARGUMENT] == "InvalidArgument"
    assert CODE_LABELS[Code.DATA_LOSS] == "DataLoss"
    assert len(set(CODE_LABELS.values())) == len(Code)


def test_clients_cannot_grow_the_page_without_end():
    metrics = Metrics()
    counters = method(metrics)
    for number in range(10 * CLIENT_VERSIONS_MAX):
        counters.call_started(f"3.{number}")
    counters.call_started("x" * 1000)
    counters.call_started(None)
    page = metrics.render().decode()
    lines = re.findall(r"^etcd_server_client_requests_total{.*", page, re.MULTILINE)
    assert len(lines) <= CLIENT_VERSIONS_MAX + 1
    other = metrics.registry.get_sample_value(
        "etcd_server_client_requests_total", {"type": "unary", "client_api_version": "other"}
    )
    assert other == 10 * CLIENT_VERSIONS_MAX - CLIENT_VERSIONS_MAX + 2


def test_handling_times_are_for_the_extensive_level():
    basic, extensive = Metrics(), Metrics(MetricsLevel.EXTENSIVE)
    for metrics in (basic, extensive):
        method(metrics).call_ended(Code.OK, 0.2)
    assert b"grpc_server_handling_seconds" not in basic.render()
    assert b'grpc_server_handling_seconds_bucket{grpc_method="Range",' in extensive.render()


async def test_the_sampler_sees_a_blocked_loop_and_a_collection():
    metrics = Metrics()
    sampler = Sampler(metrics.runtime, asyncio.get_running_loop())
    sampler.start()
    try:
        await asyncio.sleep(0)
        time.sleep(SAMPLE_INTERVAL_SECONDS + 0.1)  # noqa: ASYNC251 - to be late is the point
        gc.collect()
        await asyncio.sleep(0.05)
    finally:
        sampler.stop()
    get = metrics.registry.get_sample_value
    seen = get("kvshim_loop_lag_seconds_count") or 0
    assert seen >= 1
    assert (get("kvshim_loop_lag_seconds_sum") or 0) >= 0.1
    assert (get("kvshim_gc_pause_seconds_count") or 0) >= 1
    await asyncio.sleep(SAMPLE_INTERVAL_SECONDS * 1.5)
    assert get("kvshim_loop_lag_seconds_count") == seen, "stopped"


async def test_the_sampler_looks_often_while_the_process_works_and_counts_a_long_stall_for_longer(
    monkeypatch: pytest.MonkeyPatch,
):
    metrics = Metrics()
    sampler = Sampler(metrics.runtime, asyncio.get_running_loop())
    get = metrics.registry.get_sample_value
    monkeypatch.setattr("kvshim.metrics.runtime.time.process_time", lambda: 0.0)
    sampler.start()
    try:
        await asyncio.sleep(SAMPLE_INTERVAL_SECONDS * 2.2)
        at_rest = get("kvshim_loop_lag_seconds_count") or 0
        monkeypatch.setattr("kvshim.metrics.runtime.time.process_time", time.monotonic)
        await asyncio.sleep(SAMPLE_INTERVAL_SECONDS * 3)
        working = (get("kvshim_loop_lag_seconds_count") or 0) - at_rest
        time.sleep(10 * BUSY_INTERVAL_SECONDS)  # noqa: ASYNC251 - to be late is the point
        await asyncio.sleep(BUSY_INTERVAL_SECONDS / 10)
    finally:
        sampler.stop()
    assert 1 <= at_rest <= 3
    assert working > 5
    assert (get("kvshim_loop_lag_seconds_count") or 0) >= at_rest + working + 8


def test_process_metrics_are_those_of_this_process():
    get = Metrics().registry.get_sample_value
    assert (get("process_resident_memory_bytes") or 0) > 1_000_000
    assert 0 < (get("os_fd_used") or 0) <= (get("os_fd_limit") or 0)
