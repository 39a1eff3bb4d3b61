"""JSON to messages and back: what etcd's gateway takes, refuses and sends."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvshim.gateway.mapping import parse, to_json
from kvshim.gateway.values import NotJson, ValueReader
from kvshim.pb.etcd import rpc_pb2

RANGE = rpc_pb2.RangeRequest


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", RANGE()),
        ("{}", RANGE()),
        ('{"key":"Zm9"}', RANGE(key=b"fo")),
        ('{"key":"-_8="}', RANGE(key=b"\xfb\xff")),
        ('{"range_end":"YQ==","limit":"7"}', RANGE(range_end=b"a", limit=7)),
        ('{"rangeEnd":"YQ","limit":7.0}', RANGE(range_end=b"a", limit=7)),
        ('{"sort_order":"DESCEND","sortTarget":3}', RANGE(sort_order=2, sort_target=3)),
        ('{"bogus":{"key":1},"key":null} {"more"', RANGE()),
    ],
)
def test_what_is_taken(text, message):
    assert parse(RANGE, text.encode()) == message


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "null",
        "{",
        '{"key":"a"}',
        '{"key":"YQ="}',
        '{"key":"@@@@"}',
        '{"key":"+_8="}',
        '{"key":5}',
        '{"limit":1.5}',
        '{"limit":NaN}',
        '{"limit":"9223372036854775808"}',
        '{"serializable":"true"}',
        '{"key":"YQ==","key":"YQ=="}',
        '{"range_end":"YQ==","rangeEnd":"YQ=="}',
        "[" * 100_000,
        '{"success":' * 100_000,
    ],
)
def test_what_is_refused(text):
    with pytest.raises(NotJson):
        parse(RANGE, text.encode())


def test_bytes_deep_inside_are_checked_too():
    bad = b'{"success":[{"request_txn":{"failure":[{"request_put":{"key":"@@@@"}}]}}]}'
    with pytest.raises(NotJson, match="key"):
        parse(rpc_pb2.TxnRequest, bad)


def test_numbers_of_64_bits_go_out_as_text_and_defaults_are_left_out():
    message = rpc_pb2.LeaseTimeToLiveResponse(ID=2**62, grantedTTL=5, keys=[b"\xff\xfe"])
    assert to_json(message) == '{"ID":"4611686018427387904","grantedTTL":"5","keys":["//4="]}'


@given(st.binary(), st.binary(), st.integers(-(2**63), 2**63 - 1))
def test_what_goes_out_comes_in_again(key, value, lease):
    put = rpc_pb2.PutRequest(key=key, value=value, lease=lease, prev_kv=True)
    assert parse(rpc_pb2.PutRequest, to_json(put).encode()) == put


@given(st.lists(st.text()), st.data())
def test_objects_are_found_however_they_are_cut(names, data):
    objects = [json.dumps({name: [{"}": '\\"{'}]}).encode() for name in names]
    whole = b" \n".join(objects)
    reader, found, at = ValueReader(10_000), [], 0
    while at < len(whole):
        size = data.draw(st.integers(1, 9))
        found += reader.read(whole[at : at + size])
        at += size
    assert found == objects


def test_an_object_that_does_not_end_is_refused():
    reader = ValueReader(100)
    assert reader.read(b'{"a":"' + b"b" * 90) == []
    with pytest.raises(NotJson):
        reader.read(b"b" * 10)
