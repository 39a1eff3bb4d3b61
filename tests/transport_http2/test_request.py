"""What a call's headers mean, and which are malformed."""

import pytest

from kvshim.transport.http2.request import (
    HEADS_REMEMBERED_MAX,
    HeadTable,
    Refusal,
    parse_head,
    parse_timeout,
)
from kvshim.transport.http2.wire import StreamFault

GOOD = (
    (b":method", b"POST"),
    (b":scheme", b"http"),
    (b":path", b"/a.B/C"),
    (b":authority", b"localhost"),
    (b"content-type", b"application/grpc"),
    (b"te", b"trailers"),
)


def test_a_head_is_understood():
    extra = (
        (b"hasleader", b"true"),
        (b"hasleader", b"false"),
        (b"token-bin", b"AAEC"),
        (b"other-bin", b"AAE=,AA"),
        (b"grpc-encoding", b"gzip"),
        (b"content-length", b"12"),
    )
    head = parse_head(1, GOOD + extra)
    assert head.path == "/a.B/C"
    assert head.metadata["hasleader"] == "true"
    assert head.binary == {"token-bin": b"\0\1\2", "other-bin": b"\0\1"}
    assert "token-bin" not in head.metadata
    assert (head.encoding, head.content_length, head.refusal) == ("gzip", 12, None)


def test_calls_that_differ_in_their_timeout_share_a_head():
    table = HeadTable()
    first, timeout = table.understand(1, [*GOOD, (b"grpc-timeout", b"5S")])
    second, none = table.understand(3, list(GOOD))
    assert first is second
    assert (timeout, none) == (b"5S", None)


def test_the_table_of_heads_stays_small():
    table = HeadTable()
    for number in range(3 * HEADS_REMEMBERED_MAX):
        table.understand(1, [*GOOD, (b"x", b"%d" % number)])
    table.understand(1, [*GOOD, (b"x", b"v" * 10_000)])
    assert len(table._heads) <= HEADS_REMEMBERED_MAX


def without(name: bytes) -> tuple[tuple[bytes, bytes], ...]:
    return tuple(pair for pair in GOOD if pair[0] != name)


@pytest.mark.parametrize(
    "fields",
    [
        without(b":method"),
        without(b":scheme"),
        without(b":path"),
        (*without(b":path"), (b":path", b"")),
        (*GOOD, (b":path", b"/late")),
        (GOOD[0], *GOOD),
        ((b":status", b"200"), *GOOD),
        (*GOOD, (b"Upper", b"x")),
        (*GOOD, (b"", b"x")),
        (*GOOD, (b"sp ace", b"x")),
        (*GOOD, (b"connection", b"close")),
        (*GOOD, (b"transfer-encoding", b"chunked")),
        (*GOOD, (b"te", b"gzip")),
        (*GOOD, (b"x", b"a\r\nb")),
        (*GOOD, (b"x", b"a\0")),
        (*GOOD, (b"x-bin", b"\xff")),
        (*GOOD, (b"x-bin", b"A")),
        (*GOOD, (b"content-length", b"-1")),
        (*GOOD, (b"content-length", b"9" * 30)),
    ],
)
def test_malformed_requests(fields):
    with pytest.raises(StreamFault):
        parse_head(1, fields)


@pytest.mark.parametrize(
    ("name", "value", "refusal"),
    [
        (b":method", b"GET", Refusal.METHOD),
        (b"content-type", b"text/html", Refusal.CONTENT_TYPE),
        (b"content-type", b"application/grpcx", Refusal.CONTENT_TYPE),
        (b"content-type", b"application/grpc+proto", None),
        (b"content-type", b"application/grpc;charset=utf-8", None),
    ],
)
def test_requests_that_are_no_calls(name, value, refusal):
    fields = tuple((n, value if n == name else v) for n, v in GOOD)
    assert parse_head(1, fields).refusal is refusal


@pytest.mark.parametrize(
    ("value", "seconds"),
    [(b"1H", 3600), (b"2M", 120), (b"3S", 3), (b"4m", 0.004), (b"5u", 5e-6), (b"99999999n", 0.1)],
)
def test_timeouts(value, seconds):
    assert parse_timeout(value) == pytest.approx(seconds)


@pytest.mark.parametrize("value", [b"", b"S", b"5", b"5s", b"-5S", b"123456789S", b"5 S", b"\xb2S"])
def test_timeouts_that_are_none(value):
    with pytest.raises(ValueError, match="malformed"):
        parse_timeout(value)
