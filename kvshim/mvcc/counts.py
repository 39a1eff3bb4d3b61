"""How many keys remain behind a page of a list, remembered for the page that continues it.

Counting costs a walk over the range, and a list of 200,000 keys comes as hundreds of pages. What a
range holds at a revision never changes, so an entry is right for as long as the revision can be
read. Any thread.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Final

from kvshim.types import KeyRange, Revision

ENTRIES_MAX: Final = 4096

_Key = tuple[bytes, bytes | None, Revision]


class CountCache:
    """(next key, range end, revision) -> keys in that range; the least recently used goes first."""

    def __init__(self, entries_max: int = ENTRIES_MAX) -> None:
        self._entries_max = entries_max
        self._lock = threading.Lock()
        self._entries: OrderedDict[_Key, int] = OrderedDict()
        self.hits_total = 0
        self.misses_total = 0

    def get(self, keys: KeyRange, revision: Revision) -> int | None:
        """The count, if it is known."""
        key = (keys.start, keys.end, revision)
        with self._lock:
            count = self._entries.get(key)
            if count is None:
                self.misses_total += 1
            else:
                self.hits_total += 1
                self._entries.move_to_end(key)
            return count

    def clear(self) -> None:
        """Forget all counts."""
        with self._lock:
            self._entries.clear()

    def put(self, keys: KeyRange, revision: Revision, count: int) -> None:
        """Remember a count."""
        key = (keys.start, keys.end, revision)
        with self._lock:
            self._entries[key] = count
            self._entries.move_to_end(key)
            if len(self._entries) > self._entries_max:
                self._entries.popitem(last=False)
