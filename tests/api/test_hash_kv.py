"""Maintenance.HashKV: the same history has the same hash as on etcd.

`golden/hash_kv.json` holds histories and what etcd answered for each. Rewrite the answers with
`pytest tests/api/test_hash_kv.py --datastore=etcd --record-golden`.
"""

import base64
import json
from pathlib import Path

import pytest

from tests.api import ops
from tests.api.errors import COMPACTED, FUTURE_REVISION, refused
from tests.support.datastore import Kind

GOLDEN = Path(__file__).parent / "golden" / "hash_kv.json"
HISTORIES = json.loads(GOLDEN.read_text())


def data(text):
    """A key or value of the file: plain text, or base64 behind `b64:`."""
    if text.startswith("b64:"):
        return base64.b64decode(text[4:])
    return text.encode()


def put(key, value="", **options):
    return ops.put(data(key), data(value), **options)


def apply(etcd, step):
    """Run one step of a history; a `hash` step returns what was answered."""
    match step:
        case {"put": [key, value], **options}:
            etcd.put(data(key), data(value), **options)
        case {"delete": [key, end]}:
            etcd.delete(data(key), data(end))
        case {"txn": requests}:
            etcd.txn([operation(item) for item in requests])
        case {"grant": lease_id}:
            etcd.grant(100_000, lease_id)
        case {"revoke": lease_id}:
            etcd.revoke(lease_id)
        case {"repeat": times, "of": [key, value]}:
            for n in range(times):
                etcd.put(data(key.format(n % 7)), data(value.format(n)))
        case {"compact": revision}:
            etcd.compact(revision, physical=True)
        case {"hash": revision}:
            response = etcd.hash_kv(revision)
            return [
                response.hash,
                response.compact_revision,
                response.hash_revision,
                response.header.revision,
            ]
        case _:
            raise ValueError(step)
    return None


def operation(item):
    """One operation of a Txn: a put, a delete of one key, or a nested Txn."""
    match item:
        case {"put": [key, value]}:
            return put(key, value)
        case {"drop": key}:
            return ops.delete(data(key))
        case {"nested": requests}:
            return ops.txn(*(operation(inner) for inner in requests))
    raise ValueError(item)


@pytest.mark.parametrize("name", HISTORIES)
def test_a_history_has_the_hash_it_has_on_etcd(fresh, kind, pytestconfig, name):
    steps = HISTORIES[name]
    found = [apply(fresh, step) for step in steps]
    if pytestconfig.getoption("--record-golden"):
        assert kind == Kind.ETCD, "golden answers are etcd's"
        record(name, found)
    expected = [step.get("answer") for step in steps]
    assert found == expected


def record(name, found):
    """Write the answers: [hash, compact revision, hash revision, header revision]."""
    for step, answer in zip(HISTORIES[name], found, strict=True):
        if answer is not None:
            step["answer"] = answer
    lines = (
        f"  {json.dumps(key)}: [\n    "
        + ",\n    ".join(json.dumps(step) for step in steps)
        + "\n  ]"
        for key, steps in HISTORIES.items()
    )
    GOLDEN.write_text("{\n" + ",\n".join(lines) + "\n}\n")


def test_two_stores_with_one_history_agree(launch):
    one, other = launch(), launch()
    for etcd in (one, other):
        for n in range(20):
            etcd.put(b"%d" % (n % 5), b"%d" % n)
        etcd.delete(b"3")
        etcd.compact(10, physical=True)
    assert one.hash_kv().hash == other.hash_kv().hash
    other.put(b"k")
    assert one.hash_kv().hash != other.hash_kv().hash
    assert one.hash_kv(22).hash == other.hash_kv(22).hash


def test_a_hash_of_the_future_or_of_the_compacted_is_refused(fresh):
    for n in range(5):
        fresh.put(b"k", b"%d" % n)
    with refused(FUTURE_REVISION):
        fresh.hash_kv(7)
    fresh.compact(4, physical=True)
    with refused(COMPACTED):
        fresh.hash_kv(3)
    assert fresh.hash_kv(5).compact_revision == 4
