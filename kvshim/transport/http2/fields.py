"""HPACK: header blocks to fields, and the few blocks that a gRPC server answers with.

Decoding uses the `hpack` library, except that the two kinds of field that calls repeat go straight
to its table: clients send a call's headers as ten or so one-byte indices and perhaps a new timeout,
which takes the library 25 us and this 6 us. Our own blocks use static entries and
literals alone, so they depend on no table of the client's and are made once.
"""

from __future__ import annotations

from collections.abc import Iterable

from hpack import Decoder, HPACKError, OversizedHeaderListError
from hpack.huffman_table import decode_huffman
from hpack.table import HeaderTable

from kvshim.transport.http2.wire import ConnectionFault, ErrorCode

Field = tuple[bytes, bytes]

STATIC: list[Field] = [(b"", b""), *HeaderTable.STATIC_TABLE]
STATIC_COUNT = len(STATIC)
INDEXED = 0x80
INDEX_IN_MORE_BYTES = 0xFF
NAMED = 0x40
HUFFMAN = 0x80
NAME_IN_MORE_BYTES = 0x7F
FIELD_OVERHEAD_BYTES = 32
QUICK_FIELDS_MAX = 16
"""Clients send fewer, which cannot be too long together: an entry of the table has 4 KiB at most.
Bytes are counted in blocks of more fields."""

SIZE_UPDATES_MAX = 2
"""Changes of the table's size in one block (RFC 7541, 4.2); the library takes any number."""


class FieldDecoder:
    """The decoding half of a connection's HPACK state."""

    def __init__(self, list_bytes_max: int) -> None:
        self._list_bytes_max = list_bytes_max
        self._decoder = Decoder(max_header_list_size=list_bytes_max)
        self._table = self._decoder.header_table
        self._dynamic = self._table.dynamic_entries

    def decode(self, block: bytes) -> list[Field]:
        """The fields of a whole block; ConnectionFault if it is none, since state is lost then."""
        fields: list[Field] = []
        position, end = 0, len(block)
        while position < end and len(fields) < QUICK_FIELDS_MAX:
            byte = block[position]
            if INDEXED < byte < INDEX_IN_MORE_BYTES:
                fields.append(self._field(byte - INDEXED))
                position += 1
                continue
            if byte == INDEX_IN_MORE_BYTES and position + 1 < end and block[position + 1] < 0x80:
                # Timeouts push what calls repeat down the table, beyond one byte's reach.
                fields.append(self._field(INDEX_IN_MORE_BYTES - INDEXED + block[position + 1]))
                position += 2
                continue
            stop = end_of_named(block, position)
            if not stop:
                break
            fields.append(self._decode_named(block, position, stop))
            position = stop
        if position == end:
            return fields
        if fields and is_size_update(block[position]):
            raise ConnectionFault(ErrorCode.COMPRESSION_ERROR, "table size changed inside a block")
        fields += self._decode_slowly(block[position:])
        if sum(len(name) + len(value) + FIELD_OVERHEAD_BYTES for name, value in fields) > (
            self._list_bytes_max
        ):
            raise self._too_long()
        return fields

    def _field(self, index: int) -> Field:
        if index < STATIC_COUNT:
            return STATIC[index]
        try:
            return self._dynamic[index - STATIC_COUNT]
        except IndexError:
            raise ConnectionFault(ErrorCode.COMPRESSION_ERROR, "no such header index") from None

    def _decode_named(self, block: bytes, position: int, stop: int) -> Field:
        name, _ = self._field(block[position] - NAMED)
        value = block[position + 2 : stop]
        if block[position + 1] & HUFFMAN:
            try:
                value = decode_huffman(value)
            except HPACKError as error:
                raise ConnectionFault(ErrorCode.COMPRESSION_ERROR, "bad Huffman code") from error
        self._table.add(name, value)
        return name, value

    def _decode_slowly(self, block: bytes) -> list[Field]:
        if block and is_size_update(block[0]):
            check_size_updates(block)
        try:
            return list(self._decoder.decode(block, raw=True))
        except OversizedHeaderListError:
            raise self._too_long() from None
        except (HPACKError, IndexError, ValueError) as error:
            raise ConnectionFault(ErrorCode.COMPRESSION_ERROR, "bad header block") from error

    def _too_long(self) -> ConnectionFault:
        text = f"headers over {self._list_bytes_max} bytes"
        return ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, text)


def end_of_named(block: bytes, position: int) -> int:
    """Where a field ends that has an indexed name and a short value for the table; else 0.

    Such is the timeout of a call, the only field that differs from the call before.
    """
    if not NAMED < block[position] < NAME_IN_MORE_BYTES or position + 1 == len(block):
        return 0
    length = block[position + 1] & 0x7F
    stop = position + 2 + length
    return stop if length < 0x7F and stop <= len(block) else 0


def is_size_update(byte: int) -> bool:
    return byte & 0xE0 == 0x20


def check_size_updates(block: bytes) -> None:
    """Raise ConnectionFault if a block begins with too many changes of the table's size."""
    position = updates = 0
    while position < len(block) and is_size_update(block[position]):
        updates += 1
        if updates > SIZE_UPDATES_MAX:
            raise ConnectionFault(ErrorCode.COMPRESSION_ERROR, "too many table size changes")
        more = block[position] & 0x1F == 0x1F
        position += 1
        while more and position < len(block):
            more = block[position] >= 0x80
            position += 1


def encode_length(length: int) -> bytes:
    """A string's length with a prefix of 7 bits, without Huffman coding."""
    if length < 0x7F:
        return bytes([length])
    encoded = bytearray([0x7F])
    length -= 0x7F
    while length >= 0x80:
        encoded.append(length & 0x7F | 0x80)
        length >>= 7
    encoded.append(length)
    return bytes(encoded)


def literal(name: bytes, value: bytes) -> bytes:
    """A field that neither side remembers."""
    return b"\x00" + encode_length(len(name)) + name + encode_length(len(value)) + value


TABLE_SIZE_ZERO = b"\x20"
"""Begins our next block once the client has lowered the size of our table, which we never use."""

STATUS_INDEX = {200: b"\x88", 404: b"\x8d", 400: b"\x8c"}


def status(code: int) -> bytes:
    known = STATUS_INDEX.get(code)
    return known if known is not None else b"\x08" + encode_length(3) + b"%d" % code


CONTENT_TYPE = b"\x0f\x10" + encode_length(16) + b"application/grpc"
RESPONSE = status(200) + CONTENT_TYPE
TRAILERS_OK = literal(b"grpc-status", b"0")


def trailers(code: int, text: str) -> bytes:
    """The block that ends a call; a text is percent-encoded UTF-8."""
    block = literal(b"grpc-status", b"%d" % code)
    return block + literal(b"grpc-message", encode_text(text)) if text else block


def response(http_status: int, headers: Iterable[tuple[str, str]]) -> bytes:
    """The block that begins a response which is none of gRPC."""
    pairs = [(name.lower().encode("ascii"), value.encode("latin-1")) for name, value in headers]
    return status(http_status) + b"".join(literal(name, value) for name, value in pairs)


def refusal(http_status: int, code: int, text: str) -> bytes:
    """The block that answers a request which is no gRPC call."""
    return status(http_status) + CONTENT_TYPE + trailers(code, text)


def encode_text(text: str) -> bytes:
    """`grpc-message`: what is not printable ASCII, and the percent sign, as %XX."""
    data = text.encode("utf-8", "replace")
    return b"".join(
        bytes([byte]) if 0x20 <= byte <= 0x7E and byte != 0x25 else b"%%%02X" % byte
        for byte in data
    )
