"""The process's memory: how the collector runs and how the C library keeps what is freed.

Called once, when the node is ready and everything long-lived exists.
"""

from __future__ import annotations

import ctypes
import gc

GC_THRESHOLDS = (50_000, 20, 50)
"""Rarer collections than Python's default: requests leave few cycles, and a pause stalls all."""

MMAP_THRESHOLD_BYTES = 1 << 20
"""Blocks from this size on go back to the system when freed. Left to itself glibc raises the bound
with the lists that it sees, and keeps tens of MiB: 166-182 MiB became 123-132 under lists."""

_M_MMAP_THRESHOLD = -3  # malloc.h


def tune_memory() -> None:
    """Freeze what exists, collect less often, return large blocks to the system."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:  # not in every C library
        mallopt(_M_MMAP_THRESHOLD, MMAP_THRESHOLD_BYTES)
