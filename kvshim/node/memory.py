"""The process's memory: how the collector runs and how the C library keeps what is freed.

Called once, when the node is ready and everything long-lived exists.
"""

from __future__ import annotations

import ctypes
import gc

GC_THRESHOLDS = (50_000, 20, 50)
"""Rarer collections than Python's default: requests leave few cycles, and a pause stalls all."""

KEPT_BYTES = 4 << 20
"""Blocks from this size on go back to the system when freed, and so does what is free at the end of
a thread's heap beyond it. Left to itself glibc raises the bounds with the lists that it sees, and
keeps tens of MiB. With bounds of 1 MiB and 128 KiB the pieces of a list, each a MiB in three
copies, are new pages every time: a fifth of the CPU of a list, for 10 MiB less at the peak."""

_M_TRIM_THRESHOLD = -1  # malloc.h
_M_MMAP_THRESHOLD = -3


def tune_memory() -> None:
    """Freeze what exists, collect less often, return large blocks to the system."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:  # not in every C library
        mallopt(_M_MMAP_THRESHOLD, KEPT_BYTES)
        mallopt(_M_TRIM_THRESHOLD, KEPT_BYTES)
