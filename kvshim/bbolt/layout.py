"""How a bbolt file is laid out: pages of one size, two of them descriptions of the rest.

All numbers are little-endian. A page begins with its id, what it is, how many elements it has and
how many pages follow that belong to it. The elements come next, sixteen bytes each, and then their
keys and values; an element says how far behind its own beginning its key lies.

    page      id u64, flags u16, count u16, overflow u32
    branch    pos u32, key bytes u32, child page u64
    leaf      flags u32, pos u32, key bytes u32, value bytes u32
    bucket    root page u64, sequence u64; the value of a leaf element with flag 1. With root page 0
              a whole leaf page follows in the value, which has no page of its own.
    meta      magic, version, page size, flags (u32 each), root bucket, free list's page, number of
              pages, transaction (u64 each), FNV-1a of all that
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final, Self

from kvshim.errors import KvshimError

PAGE: Final = struct.Struct("<QHHI")
BRANCH_ELEMENT: Final = struct.Struct("<IIQ")
LEAF_ELEMENT: Final = struct.Struct("<IIII")
BUCKET: Final = struct.Struct("<QQ")
_META: Final = struct.Struct("<IIIIQQQQQ")
_SUM: Final = struct.Struct("<Q")

META_BYTES: Final = PAGE.size + _META.size + _SUM.size
ELEMENT_BYTES: Final = 16

BRANCH_PAGE: Final = 0x01
LEAF_PAGE: Final = 0x02
META_PAGE: Final = 0x04
BUCKET_FLAG: Final = 0x01

META_PAGES: Final = 2
NO_FREE_LIST: Final = (1 << 64) - 1
"""The list is not kept: who opens the file to write looks for free pages. etcd does so."""

_MAGIC: Final = 0xED0CDAED
_VERSION: Final = 2
_PAGE_SIZES: Final = tuple(1 << bits for bits in range(9, 17))


class BadBboltFile(KvshimError):
    """The file is no bbolt file, or damaged: says where."""


@dataclass(frozen=True, slots=True)
class Meta:
    """What a meta page says. `pages` is the length of the file that counts, in pages."""

    page_size: int
    root: int
    pages: int
    transaction: int

    def page(self, page_id: int) -> bytes:
        """Its page, without what pads it."""
        body = _META.pack(
            _MAGIC,
            _VERSION,
            self.page_size,
            0,
            self.root,
            0,
            NO_FREE_LIST,
            self.pages,
            self.transaction,
        )
        return PAGE.pack(page_id, META_PAGE, 0, 0) + body + _SUM.pack(fnv_1a(body))

    @classmethod
    def parse(cls, data: bytes) -> Self | None:
        """What the beginning of a meta page says; None if it is none, or was not written whole."""
        if len(data) < META_BYTES:
            return None
        body = data[PAGE.size : PAGE.size + _META.size]
        magic, version, page_size, _, root, _, _, pages, transaction = _META.unpack(body)
        (checksum,) = _SUM.unpack_from(data, PAGE.size + _META.size)
        if (magic, version) != (_MAGIC, _VERSION) or checksum != fnv_1a(body):
            return None
        if page_size not in _PAGE_SIZES:
            return None
        return cls(page_size, root, pages, transaction)


def possible_page_sizes() -> tuple[int, ...]:
    """Where the second meta page may begin, if the first cannot be read."""
    return _PAGE_SIZES


def fnv_1a(data: bytes) -> int:
    """The 64-bit FNV-1a hash."""
    value = 0xCBF29CE484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return value
