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

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from kvshim.metrics.instruments import PAUSE_SECONDS, Callbacks
from kvshim.metrics.tally import TallyHistogram

SAMPLE_INTERVAL_SECONDS = 1.0
BUSY_INTERVAL_SECONDS = 0.01
BUSY_SHARE = 0.1
"""Of a core, used by all threads since the last sample: above it the loop is sampled more often."""
PAUSES_KEPT_MAX = 1024
TURNS_MISSED_MAX = 100


class RuntimeMetrics:
    """What the operating system and the interpreter say of this process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        lazy = Callbacks(registry)
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        GCCollector(registry=registry)
        lazy.gauge("os_fd_used", "File descriptors in use.").read_from(_descriptors_used)
        lazy.gauge("os_fd_limit", "File descriptors allowed.").read_from(_descriptors_limit)
        self.loop_lag_seconds = TallyHistogram(
            "kvshim_loop_lag_seconds",
            "How late the event loop ran a timer, sampled more often while the process works.",
            buckets=PAUSE_SECONDS,
            registry=registry,
        )
        self.gc_pause_seconds = TallyHistogram(
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
    """Now and then: how late the loop ran this timer, and the collections since the last time.

    Once a second while the process rests, together with what else wakes the loop then; a hundred
    times a second while it works, so that a short pause under load is seen and a share of 99.9 %
    means something.

    The collector may run at any allocation, even inside a lock of the metrics library, so its
    callback only appends to a deque; the timer does the counting.
    """

    def __init__(self, metrics: RuntimeMetrics, loop: asyncio.AbstractEventLoop) -> None:
        self._metrics = metrics
        self._loop = loop
        self._began = 0.0
        self._due = 0.0
        self._interval = 0.0
        self._cpu_seconds = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._collection_began = 0.0
        self._pauses: deque[float] = deque(maxlen=PAUSES_KEPT_MAX)

    def start(self) -> None:
        gc.callbacks.append(self._on_collection)
        self._cpu_seconds = time.process_time()
        self._arm(SAMPLE_INTERVAL_SECONDS)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            gc.callbacks.remove(self._on_collection)

    def _arm(self, interval: float) -> None:
        self._interval = interval
        self._began = self._loop.time()
        self._due = self._began + interval - self._began % interval
        self._timer = self._loop.call_at(self._due, self._sample)

    def _sample(self) -> None:
        now, cpu_seconds = self._loop.time(), time.process_time()
        self._observe(max(0.0, now - self._due), self._interval)
        while self._pauses:
            self._metrics.gc_pause_seconds.observe(self._pauses.popleft())
        busy = cpu_seconds - self._cpu_seconds > BUSY_SHARE * (now - self._began)
        self._cpu_seconds = cpu_seconds
        self._arm(BUSY_INTERVAL_SECONDS if busy else SAMPLE_INTERVAL_SECONDS)

    def _observe(self, lag: float, interval: float) -> None:
        """Also what the timers would have seen that were to run meanwhile, or the longest stalls
        would count the least."""
        for _ in range(TURNS_MISSED_MAX):
            self._metrics.loop_lag_seconds.observe(lag)
            lag -= interval
            if lag <= 0:
                return

    def _on_collection(self, phase: str, _info: Mapping[str, int]) -> None:
        if phase == "start":
            self._collection_began = time.perf_counter()
        else:
            self._pauses.append(time.perf_counter() - self._collection_began)
