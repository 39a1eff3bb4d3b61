"""Reads a bbolt file that nobody writes to: buckets, and their pairs in order.

A page is read when its turn comes, so one of each level is in memory at a time. Nothing in the file
is believed: a page that does not lie in it, is not what it should be or leads in a circle is a
`BadBboltFile`. The calling thread owns everything.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Self

from kvshim.bbolt.layout import (
    BRANCH_ELEMENT,
    BRANCH_PAGE,
    BUCKET,
    BUCKET_FLAG,
    ELEMENT_BYTES,
    LEAF_ELEMENT,
    LEAF_PAGE,
    META_BYTES,
    META_PAGES,
    PAGE,
    BadBboltFile,
    Meta,
    possible_page_sizes,
)

_DEPTH_MAX: Final = 32
"""Levels of a tree: 2 ** 32 pages fit under that many."""


_PAGE_BYTES_MAX: Final = 1 << 30
"""Of one that is read whole: more than a value of etcd's can be, whatever a damaged page says."""


class BboltFile:
    """An open file. `pages_read` grows while pairs are taken, for whoever shows progress."""

    def __init__(self, path: Path, fd: int) -> None:
        self._path = path
        self._fd = fd
        self._meta = self._find_meta()
        self.pages = self._meta.pages
        self.pages_read = 0

    @classmethod
    @contextmanager
    def open(cls, path: Path) -> Iterator[Self]:
        """Raises `BadBboltFile`, also when the file cannot be read."""
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise BadBboltFile(f"cannot read {path}: {error.strerror or error}") from error
        try:
            yield cls(path, fd)
        finally:
            os.close(fd)

    def bucket(self, name: bytes) -> Iterator[tuple[bytes, bytes]]:
        """A bucket's pairs in order; nothing if there is no such bucket. Raises `BadBboltFile`."""
        for found, flags, value in self._walk(self._meta.root, _DEPTH_MAX):
            if found == name and flags & BUCKET_FLAG:
                for key, _, pair_value in self._bucket_at(value):
                    yield key, pair_value

    def names(self) -> list[bytes]:
        """Of all buckets."""
        found = self._walk(self._meta.root, _DEPTH_MAX)
        return [name for name, flags, _ in found if flags & BUCKET_FLAG]

    def _bucket_at(self, value: bytes) -> Iterator[tuple[bytes, int, bytes]]:
        if len(value) < BUCKET.size:
            raise self._bad("a bucket is cut off")
        root, _ = BUCKET.unpack_from(value)
        if root:
            yield from self._walk(root, _DEPTH_MAX)
        else:
            yield from self._leaf(value[BUCKET.size :], "a page inside a bucket")

    def _walk(self, page_id: int, depth: int) -> Iterator[tuple[bytes, int, bytes]]:
        """(key, flags, value) of a tree in order."""
        place = f"page {page_id}"
        if depth == 0:
            raise self._bad(f"{place} lies too deep")
        page = self._page(page_id)
        kind = PAGE.unpack_from(page)[1]
        if kind == LEAF_PAGE:
            yield from self._leaf(page, place)
        elif kind == BRANCH_PAGE:
            for child in self._children(page, place):
                yield from self._walk(child, depth - 1)
        else:
            raise self._bad(f"{place} is no part of a tree")

    def _children(self, page: bytes, place: str) -> list[int]:
        elements = self._elements(page, place)
        return [child for _, _, child in BRANCH_ELEMENT.iter_unpack(elements)]

    def _leaf(self, page: bytes, place: str) -> Iterator[tuple[bytes, int, bytes]]:
        at, size = PAGE.size, len(page)
        for flags, pos, key_bytes, value_bytes in LEAF_ELEMENT.iter_unpack(
            self._elements(page, place)
        ):
            begin = at + pos
            end = begin + key_bytes + value_bytes
            if end > size:
                raise self._bad(f"{place} says more than it holds")
            yield page[begin : begin + key_bytes], flags, page[begin + key_bytes : end]
            at += ELEMENT_BYTES

    def _elements(self, page: bytes, place: str) -> bytes:
        if len(page) < PAGE.size:
            raise self._bad(f"{place} is cut off")
        count = PAGE.unpack_from(page)[2]
        elements = page[PAGE.size : PAGE.size + count * ELEMENT_BYTES]
        if len(elements) != count * ELEMENT_BYTES:
            raise self._bad(f"{place} says more than it holds")
        return elements

    def _page(self, page_id: int) -> bytes:
        """A page with those that belong to it."""
        size = self._meta.page_size
        if not META_PAGES <= page_id < self._meta.pages:
            raise self._bad(f"there is no page {page_id}")
        page = self._read(page_id * size, size)
        own_id, _, _, overflow = PAGE.unpack_from(page)
        if own_id != page_id:
            raise self._bad(f"page {page_id} says it is page {own_id}")
        if page_id + overflow >= self._meta.pages:
            raise self._bad(f"page {page_id} reaches beyond the end")
        if overflow * size >= _PAGE_BYTES_MAX:
            raise self._bad(f"page {page_id} is longer than any value")
        self.pages_read += 1 + overflow
        if overflow:
            page += self._read((page_id + 1) * size, overflow * size)
        return page

    def _read(self, begin: int, size: int) -> bytes:
        try:
            data = os.pread(self._fd, size, begin)
        except OSError as error:
            raise self._bad(f"it cannot be read at {begin}: {error.strerror or error}") from error
        if len(data) < size:
            raise self._bad("it is cut off")
        return data

    def _find_meta(self) -> Meta:
        """The newer of the two that were written whole."""
        found = []
        for begin in (0, *possible_page_sizes()):
            meta = Meta.parse(os.pread(self._fd, META_BYTES, begin))
            if meta is not None and begin in (0, meta.page_size):
                found.append(meta)
        if not found:
            raise BadBboltFile(f"{self._path} is no bbolt file, so no snapshot or store of etcd's")
        meta = max(found, key=lambda one: one.transaction)
        if meta.pages * meta.page_size > os.fstat(self._fd).st_size:
            raise self._bad("it is cut off")
        return meta

    def _bad(self, reason: str) -> BadBboltFile:
        return BadBboltFile(f"{self._path} is damaged: {reason}")
