"""Metrics of the process: descriptors, memory, the collector's pauses, the event loop's lag.

`Sampler` belongs to the event loop it samples; the rest is read when somebody scrapes.
"""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import time
from collections import deque
from collections.abc import Mapping

from prometheus_client import CollectorRegistry, GCCollector, Histogram, PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from kvshim.metrics.instruments import PAUSE_SECONDS, Callbacks

SAMPLE_INTERVAL_SECONDS = 0.25
PAUSES_KEPT_MAX = 1024


class RuntimeMetrics:
    """What the operating system and the interpreter say of this process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        lazy = Callbacks(registry)
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        GCCollector(registry=registry)
        lazy.gauge("os_fd_used", "File descriptors in use.").read_from(_descriptors_used)
        lazy.gauge("os_fd_limit", "File descriptors allowed.").read_from(_descriptors_limit)
        self.loop_lag_seconds = Histogram(
            "kvshim_loop_lag_seconds",
            "How late the event loop ran a timer, sampled four times a second.",
            buckets=PAUSE_SECONDS,
            registry=registry,
        )
        self.gc_pause_seconds = Histogram(
            "kvshim_gc_pause_seconds",
            "Time the interpreter stood still for one garbage collection.",
            buckets=PAUSE_SECONDS,
            registry=registry,
        )


def _descriptors_used() -> float:
    return float(len(os.listdir("/proc/self/fd")))


def _descriptors_limit() -> float:
    return float(resource.getrlimit(resource.RLIMIT_NOFILE)[0])


class Sampler:
    """Four times a second: how late the loop ran this timer, and the collections since the last.

    The collector may run at any allocation, even inside a lock of the metrics library, so its
    callback only appends to a deque; the timer does the counting.
    """

    def __init__(self, metrics: RuntimeMetrics, loop: asyncio.AbstractEventLoop) -> None:
        self._metrics = metrics
        self._loop = loop
        self._due = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._collection_began = 0.0
        self._pauses: deque[float] = deque(maxlen=PAUSES_KEPT_MAX)

    def start(self) -> None:
        gc.callbacks.append(self._on_collection)
        self._arm()

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            gc.callbacks.remove(self._on_collection)

    def _arm(self) -> None:
        self._due = self._loop.time() + SAMPLE_INTERVAL_SECONDS
        self._timer = self._loop.call_at(self._due, self._sample)

    def _sample(self) -> None:
        self._metrics.loop_lag_seconds.observe(max(0.0, self._loop.time() - self._due))
        while self._pauses:
            self._metrics.gc_pause_seconds.observe(self._pauses.popleft())
        self._arm()

    def _on_collection(self, phase: str, _info: Mapping[str, int]) -> None:
        if phase == "start":
            self._collection_began = time.perf_counter()
        else:
            self._pauses.append(time.perf_counter() - self._collection_began)
