"""What the writer writes is what the reader reads, and nothing that is damaged is believed."""

from __future__ import annotations

import struct
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvshim.bbolt.layout import BRANCH_PAGE, PAGE, BadBboltFile, Meta
from kvshim.bbolt.reader import BboltFile
from kvshim.bbolt.writer import PAGE_SIZE, BboltWriter

Buckets = dict[bytes, dict[bytes, bytes]]


def written(buckets: Buckets) -> bytes:
    file = BytesIO()
    writer = BboltWriter(file)
    for name, pairs in sorted(buckets.items()):
        writer.begin(name)
        items = sorted(pairs.items())
        # It makes no difference in how many pieces they come.
        writer.add(items[: len(items) // 2])
        writer.add(items[len(items) // 2 :])
    length = writer.finish()
    data = file.getvalue()
    assert len(data) == length
    return data


def read(path: Path) -> Buckets:
    with BboltFile.open(path) as file:
        names = file.names()
        assert names == sorted(names)
        return {name: dict(file.bucket(name)) for name in names}


def branches(data: bytes) -> list[int]:
    """The number of children of each branch page."""
    found = []
    page_id = 2
    while page_id * PAGE_SIZE < len(data):
        own_id, kind, count, overflow = PAGE.unpack_from(data, page_id * PAGE_SIZE)
        assert own_id == page_id
        if kind == BRANCH_PAGE:
            found.append(count)
        page_id += 1 + overflow
    return found


keys = st.binary(min_size=1, max_size=40) | st.integers(1, 3000).map(lambda size: b"k" * size)
values = st.binary(max_size=60) | st.integers(0, 20_000).map(lambda size: b"v" * size)
buckets_ = st.dictionaries(
    st.binary(min_size=1, max_size=20), st.dictionaries(keys, values, max_size=40), max_size=4
)


@given(buckets_)
def test_all_comes_back(tmp_path_factory: pytest.TempPathFactory, buckets: Buckets):
    path = tmp_path_factory.mktemp("bbolt") / "db"
    path.write_bytes(written(buckets))
    assert read(path) == buckets


@given(st.integers(0, 1500), st.sampled_from([1, 17, 900, 2100]))
def test_no_branch_has_a_single_child(count: int, key_bytes: int):
    pairs = {number.to_bytes(4) + b"k" * key_bytes: b"v" * 1000 for number in range(count)}
    assert all(children >= 2 for children in branches(written({b"key": pairs})))


def test_a_deep_tree(tmp_path: Path):
    pairs = {struct.pack(">QQ", number, number): b"v" * 30 for number in range(60_000)}
    data = written({b"key": pairs, b"lease": {}})
    assert len(branches(data)) > 3
    path = tmp_path / "db"
    path.write_bytes(data)
    assert read(path) == {b"key": pairs, b"lease": {}}
    with BboltFile.open(path) as file:
        assert [key for key, _ in file.bucket(b"key")] == sorted(pairs)
        assert file.pages_read <= file.pages == len(data) // PAGE_SIZE


@pytest.mark.parametrize("bad", [b"a", b"b", b""])
def test_keys_out_of_order_are_refused(bad: bytes):
    writer = BboltWriter(BytesIO())
    writer.begin(b"key")
    writer.add([(b"b", b"1")])
    with pytest.raises(ValueError, match="comes behind"):
        writer.add([(bad, b"2")])


def test_a_small_bucket_may_lie_in_its_name(tmp_path: Path):
    """bbolt puts a bucket of one page's quarter into its parent's page."""
    leaf = bytearray(written({b"key": {b"a": b"1", b"b": b"22"}})[2 * PAGE_SIZE :][:PAGE_SIZE])
    used = 16 + 2 * 16 + len(b"a1b22")
    inside = struct.pack("<QQ", 0, 0) + bytes(8) + leaf[8:used]
    data = bytearray(written({b"key": {}}))
    root = _page_of_root(data)
    element = struct.pack("<IIII", 1, 16, 3, len(inside))
    page = PAGE.pack(root, 2, 1, 0) + element + b"key" + inside
    data[root * PAGE_SIZE : root * PAGE_SIZE + len(page)] = page
    path = tmp_path / "db"
    path.write_bytes(data)
    assert read(path) == {b"key": {b"a": b"1", b"b": b"22"}}


def test_the_newer_description_counts_and_either_may_be_torn(tmp_path: Path):
    path = tmp_path / "db"
    data = bytearray(written({b"key": {b"a": b"1"}}))
    older = Meta(PAGE_SIZE, 10**6, 4, 1).page(1)
    data[PAGE_SIZE : PAGE_SIZE + len(older)] = older
    path.write_bytes(data)
    assert read(path) == {b"key": {b"a": b"1"}}

    data = bytearray(written({b"key": {b"a": b"1"}}))
    data[30] ^= 1
    path.write_bytes(data)
    assert read(path) == {b"key": {b"a": b"1"}}

    data[PAGE_SIZE + 30] ^= 1
    path.write_bytes(data)
    with pytest.raises(BadBboltFile, match="no bbolt file"):
        read(path)


@pytest.mark.parametrize("content", [b"", b"x", b"x" * 100_000])
def test_what_is_no_bbolt_file(tmp_path: Path, content: bytes):
    path = tmp_path / "db"
    path.write_bytes(content)
    with pytest.raises(BadBboltFile):
        read(path)


def test_a_file_that_was_cut_off(tmp_path: Path):
    path = tmp_path / "db"
    data = written({b"key": {b"%d" % number: b"v" * 500 for number in range(100)}})
    for length in (2 * PAGE_SIZE, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:length])
        with pytest.raises(BadBboltFile, match="cut off"):
            read(path)


@given(st.data())
def test_damage_is_a_sentence_or_harmless(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
):
    content = {b"key": {b"%d" % number: b"v" * 100 for number in range(200)}, b"lease": {}}
    spoilt = bytearray(written(content))
    for _ in range(data.draw(st.integers(1, 20))):
        place = data.draw(st.integers(0, len(spoilt) - 1))
        spoilt[place] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("bbolt") / "db"
    path.write_bytes(spoilt)
    try:
        read(path)
    except BadBboltFile:
        pass
    except AssertionError:
        pass  # the names are in another order: nothing that the reader promises


def test_a_circle_ends(tmp_path: Path):
    pairs = {b"%06d" % number: b"v" * 1000 for number in range(1000)}
    data = bytearray(written({b"key": pairs}))
    # Every child of every branch is the bucket's root.
    page_id = 2
    tops = []
    while page_id * PAGE_SIZE < len(data):
        _, kind, count, overflow = PAGE.unpack_from(data, page_id * PAGE_SIZE)
        if kind == BRANCH_PAGE:
            tops.append((page_id, count))
        page_id += 1 + overflow
    for page_id, count in tops:
        for number in range(count):
            at = page_id * PAGE_SIZE + 16 + number * 16 + 8
            data[at : at + 8] = struct.pack("<Q", tops[-1][0])
    path = tmp_path / "db"
    path.write_bytes(data)
    with pytest.raises(BadBboltFile, match="too deep"):
        read(path)


def _page_of_root(data: bytes) -> int:
    meta = Meta.parse(data[:PAGE_SIZE])
    assert meta is not None
    return meta.root
