"""A scrub of a sound store finds nothing; whatever is changed behind its back, it names."""

from __future__ import annotations

from pathlib import Path

import pytest

from kvshim.errors import StorageError
from kvshim.mvcc.scrub import Fault, Scrub
from tests.mvcc.conftest import Driver


def scrub(driver: Driver) -> list[Fault]:
    pass_ = Scrub(driver.store)
    faults: list[Fault] = []
    while not pass_.finished:
        faults.extend(pass_.step())
    assert pass_.faults_total == len(faults)
    return faults


@pytest.fixture
def filled(driver: Driver) -> Driver:
    for number in range(300):
        driver.put(b"key%03d" % number, b"value %03d" % number * 20, lease=number % 3)
    driver.delete(b"key000", b"key100")
    driver.put(b"key050", b"again")
    return driver


def test_a_sound_store_has_no_faults(filled: Driver) -> None:
    assert scrub(filled) == []
    filled.compact(200)
    filled.upkeep()
    assert scrub(filled) == []


@pytest.mark.parametrize(
    ("change", "place", "reason"),
    [
        ("UPDATE history SET value = x'00' WHERE id = 200 << 24", "revision 200.0", "checksum"),
        ("UPDATE history SET tail = x'00' WHERE id = 302 << 24", "revision 302.0", "checksum"),
        ("UPDATE history SET key = 'text' WHERE id = 302 << 24", "revision 302.0", "columns"),
        ("UPDATE history SET version = 2 WHERE id = 200 << 24", "revision 200.0", "columns"),
        ("UPDATE history SET lease = 9 WHERE id = 200 << 24", "revision 200.0", "columns"),
        ("UPDATE kv SET size = size + 1 WHERE key = CAST('key250' AS BLOB)", "key b'key250'", "it"),
        ("UPDATE kv SET id = id + 1 WHERE key = CAST('key250' AS BLOB)", "key b'key250'", "names"),
    ],
)
def test_a_changed_row_is_named(filled: Driver, change: str, place: str, reason: str) -> None:
    writer = filled.store.backend.writer
    writer.run(change)
    assert writer.changes() == 1
    faults = scrub(filled)
    assert {fault.place for fault in faults} >= {place}
    assert reason in " ".join(fault.reason for fault in faults)


def test_a_flipped_bit_in_the_file_is_found(filled: Driver) -> None:
    filled.close()
    data = bytearray(filled.path.read_bytes())
    at = data.index(b"value 200" * 2) + 30
    data[at] ^= 1
    filled.path.write_bytes(data)
    filled.reopen_after_damage()
    faults = scrub(filled)
    assert [fault.place for fault in faults] == ["revision 202.0"]


def test_an_overwritten_page_is_found_by_sqlite_or_by_the_scrub(filled: Driver) -> None:
    filled.close()
    data = bytearray(filled.path.read_bytes())
    page = data.index(b"value 200" * 2) // 4096
    data[page * 4096 : page * 4096 + 4096] = b"\xaa" * 4096
    Path(filled.path).write_bytes(data)
    filled.reopen_after_damage()
    with pytest.raises(StorageError, match="corrupt"):
        scrub(filled)
