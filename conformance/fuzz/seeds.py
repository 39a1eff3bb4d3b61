"""The corpus that fuzzing begins with: what real clients send, made anew and always the same."""

from __future__ import annotations

import gzip
import random
from collections.abc import Iterator
from pathlib import Path

from hpack import Encoder

from conformance.fuzz.targets import TARGETS
from kvshim.gateway.mapping import to_json
from kvshim.pb.etcd import rpc_pb2 as pb
from tests.transport_http2.peer import PREFACE, message, raw_frame, request_headers
from tests.transport_http2.sessions import session

SESSIONS = 12
SESSION_BYTES_MAX = 3000
WHOLE, BYTEWISE = b"\xff", b"\x00"
"""How the input is cut: see `targets`."""

TXN = pb.TxnRequest(
    compare=[pb.Compare(target=pb.Compare.MOD, key=b"k", mod_revision=7)],
    success=[pb.RequestOp(request_put=pb.PutRequest(key=b"k", value=b"v" * 40, lease=1 << 40))],
    failure=[pb.RequestOp(request_range=pb.RangeRequest(key=b"k", range_end=b"l", limit=1))],
)


def write(directory: Path) -> int:
    """Every seed as a file; how many."""
    directory.mkdir(parents=True, exist_ok=True)
    names = [target.__name__ for target in TARGETS]
    count = 0
    for target, data in seeds():
        index = bytes([names.index(target)])
        (directory / f"{target}-{count:03d}").write_bytes(index + data)
        count += 1
    return count


def seeds() -> Iterator[tuple[str, bytes]]:
    """Name of a target and an input for it."""
    for number in range(SESSIONS):
        wire = session(number)[:SESSION_BYTES_MAX]
        yield "connection", WHOLE + wire
        yield "cuts", bytes([random.Random(number).randrange(256)]) + wire
    for frame in _frames():
        yield "connection", WHOLE + PREFACE + raw_frame(4, 0, 0) + frame
    encoder = Encoder()
    calls = [request_headers(grpc_timeout=f"{n}m", x_token="t" * n) for n in range(1, 60, 7)]
    blocks = [encoder.encode(fields) for fields in calls]
    yield "fields", b"".join(bytes([len(block)]) + block for block in blocks if len(block) < 256)
    lengths = [encoder.encode([("x-l", "v" * n)], huffman=False) for n in (125, 126, 127, 128)]
    lengths += [encoder.encode([("x-l", "w" * n)], huffman=False) for n in (125, 126, 127, 128)]
    yield "fields", b"".join(bytes([len(block)]) + block for block in lengths)
    txn = TXN.SerializeToString()
    packed = message(gzip.compress(txn, mtime=0), flag=1)
    yield "messages", WHOLE + message(txn) + packed
    yield "messages", BYTEWISE + packed + message(b"")
    yield "messages", WHOLE + message(gzip.compress(bytes(100_000), mtime=0), flag=1)
    for first in (PREFACE, PREFACE[:7], b"PRI /version HTTP/1.1\r\n", b"GET / HTTP/1.1\r\n"):
        yield "first_bytes", BYTEWISE + first
    for request in _requests():
        yield "http_1", WHOLE + request
    yield "json", WHOLE + to_json(TXN).encode()
    yield "json", BYTEWISE + b'{"compare":[{"target":"MOD","key":"aw","mod_revision":7}]} {}'


def _frames() -> Iterator[bytes]:
    """One of each type, most of them wrong in some way."""
    for kind in range(11):
        for flags, stream_id in ((0, 0), (1, 1), (0x2D, 3)):
            for payload in (b"", bytes(4), bytes(8), b"\0\4\0\1\0\0"):
                yield raw_frame(kind, flags, stream_id, payload)


def _requests() -> Iterator[bytes]:
    get = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
    yield get * 3
    yield b"POST /v3/kv/range HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}" + get
    chunks = b'4\r\n{"a"\r\n1\r\n}\r\n0\r\n\r\n'
    yield b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + get
    yield b"POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n1"
    yield b"GET / HTTP/1.0\r\n\r\n"
