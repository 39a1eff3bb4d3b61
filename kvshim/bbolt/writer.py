"""Writes a bbolt file from the beginning to the end, of pairs that come in order.

Each bucket becomes a B+tree from its leaves up: a full page goes to the file and leaves the level
above no more than its first key, so what is in memory does not grow with what is written. Only the
two meta pages, which name the root, are written last. Buckets have no buckets in them.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import BinaryIO, Final

from kvshim.bbolt.layout import (
    BRANCH_PAGE,
    BUCKET,
    BUCKET_FLAG,
    ELEMENT_BYTES,
    LEAF_PAGE,
    META_PAGES,
    PAGE,
    Meta,
)

PAGE_SIZE: Final = 4096
"""bbolt itself takes that of the machine; every one is read everywhere."""

_BUFFER_BYTES: Final = 1 << 20

_CHILDREN_MIN: Final = 2
"""bbolt, when it deletes, takes for granted that a page has a sibling."""


class BboltWriter:
    """Writes to an empty file. `begin` and `add` for each bucket in order, then `finish`."""

    def __init__(self, file: BinaryIO) -> None:
        self._pages = _Pages(file)
        self._roots: list[tuple[bytes, bytes]] = []
        self._name: bytes | None = None
        self._tree = _Leaves(self._pages)

    def begin(self, name: bytes) -> None:
        """The next bucket; the one before is complete."""
        self._end_bucket()
        self._name = name
        self._tree = _Leaves(self._pages)

    def add(self, pairs: Iterable[tuple[bytes, bytes]]) -> None:
        """The bucket's next pairs, in order of keys. `ValueError` out of order; `OSError`."""
        self._tree.add(pairs)

    def finish(self) -> int:
        """Write the root and the meta pages; returns the file's length. Raises `OSError`."""
        self._end_bucket()
        names = _Leaves(self._pages, BUCKET_FLAG)
        names.add(self._roots)
        return self._pages.finish(names.finish())

    def _end_bucket(self) -> None:
        if self._name is not None:
            self._roots.append((self._name, BUCKET.pack(self._tree.finish(), 0)))


class _Leaves:
    """A tree's lowest level."""

    def __init__(self, pages: _Pages, flags: int = 0) -> None:
        self._pages = pages
        self._flags = flags
        self._pairs: list[tuple[bytes, bytes]] = []
        self._size = PAGE.size
        self._last = b""
        self._above = _Branches(pages)

    def add(self, pairs: Iterable[tuple[bytes, bytes]]) -> None:
        waiting, size, last = self._pairs, self._size, self._last
        for pair in pairs:
            key, value = pair
            if key <= last:
                raise ValueError(f"key {key!r} comes behind {last!r}")
            needed = ELEMENT_BYTES + len(key) + len(value)
            if size + needed > PAGE_SIZE and waiting:
                self._write(waiting, size)
                waiting, size = [], PAGE.size
            waiting.append(pair)
            size += needed
            last = key
        self._pairs, self._size, self._last = waiting, size, last

    def finish(self) -> int:
        """Write what is left; returns the root."""
        if self._pairs or self._above.is_empty:
            self._write(self._pairs, self._size)
        return self._above.finish()

    def _write(self, pairs: list[tuple[bytes, bytes]], size: int) -> None:
        elements: list[int] = []
        pieces = [b""]
        pos = ELEMENT_BYTES * len(pairs)
        for key, value in pairs:
            key_bytes, value_bytes = len(key), len(value)
            elements += (self._flags, pos, key_bytes, value_bytes)
            pieces += (key, value)
            pos += key_bytes + value_bytes - ELEMENT_BYTES
        pieces[0] = struct.pack(f"<{len(elements)}I", *elements)
        page_id = self._pages.write(LEAF_PAGE, len(pairs), pieces, size)
        self._above.add(pairs[0][0] if pairs else b"", page_id)


class _Branches:
    """The level above some pages. It keeps enough children waiting for its last page."""

    def __init__(self, pages: _Pages) -> None:
        self._pages = pages
        self._children: list[tuple[bytes, int]] = []
        self._size = PAGE.size
        self._above: _Branches | None = None

    @property
    def is_empty(self) -> bool:
        return not self._children

    def add(self, first_key: bytes, page_id: int) -> None:
        """A child: a page of the level below, by its first key."""
        self._children.append((first_key, page_id))
        self._size += _branch_bytes(first_key)
        kept = sum(_branch_bytes(key) for key, _ in self._children[-_CHILDREN_MIN:])
        if self._size - kept > PAGE_SIZE and len(self._children) > 2 * _CHILDREN_MIN:
            self._write(len(self._children) - _CHILDREN_MIN - 1)

    def finish(self) -> int:
        """Write what is left; returns the page at the top."""
        if self._above is None and len(self._children) == 1:
            return self._children[0][1]
        if self._size > PAGE_SIZE and len(self._children) >= 2 * _CHILDREN_MIN:
            self._write(len(self._children) - _CHILDREN_MIN)
        return self._write(len(self._children)).finish()

    def _write(self, count: int) -> _Branches:
        children, self._children = self._children[:count], self._children[count:]
        size = PAGE.size + sum(_branch_bytes(key) for key, _ in children)
        self._size -= size - PAGE.size
        elements: list[int] = []
        pos = ELEMENT_BYTES * count
        for key, page_id in children:
            elements += (pos, len(key), page_id)
            pos += len(key) - ELEMENT_BYTES
        pieces = [struct.pack("<" + "IIQ" * count, *elements), *(key for key, _ in children)]
        if self._above is None:
            self._above = _Branches(self._pages)
        self._above.add(children[0][0], self._pages.write(BRANCH_PAGE, count, pieces, size))
        return self._above


def _branch_bytes(key: bytes) -> int:
    return ELEMENT_BYTES + len(key)


class _Pages:
    """The file's pages, one after the other, behind the meta pages."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._next = META_PAGES
        self._waiting: list[bytes] = [bytes(META_PAGES * PAGE_SIZE)]
        self._waiting_bytes = 0

    def write(self, kind: int, count: int, pieces: list[bytes], size: int) -> int:
        """The next page, as many times the usual size as its content needs; returns its id."""
        page_id = self._next
        pages = -(-size // PAGE_SIZE)
        self._next += pages
        self._waiting.append(PAGE.pack(page_id, kind, count, pages - 1))
        self._waiting += pieces
        self._waiting.append(bytes(pages * PAGE_SIZE - size))
        self._waiting_bytes += pages * PAGE_SIZE
        if self._waiting_bytes >= _BUFFER_BYTES:
            self._flush()
        return page_id

    def finish(self, root: int) -> int:
        """Both meta pages name the root; the newer transaction is the one that counts."""
        self._flush()
        for page_id in range(META_PAGES):
            meta = Meta(PAGE_SIZE, root, self._next, META_PAGES - page_id)
            self._file.seek(page_id * PAGE_SIZE)
            self._file.write(meta.page(page_id))
        self._file.flush()
        return self._next * PAGE_SIZE

    def _flush(self) -> None:
        self._file.write(b"".join(self._waiting))
        self._waiting.clear()
        self._waiting_bytes = 0
