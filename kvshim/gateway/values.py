"""A stream of JSON objects, one behind the other, cut into objects as bytes arrive. No I/O.

Whether an object is well-formed is for the parser to say; here only strings and brackets count.
"""

from __future__ import annotations

import re

from kvshim.errors import Code, RequestError

_OUTSIDE = re.compile(rb'["{}\[\]]')
_INSIDE = re.compile(rb'["\\]')
SPACE = b" \t\r\n"


class NotJson(RequestError):
    code = Code.INVALID_ARGUMENT


class ValueReader:
    """Holds at most one unfinished object, of at most `size_max` bytes."""

    def __init__(self, size_max: int) -> None:
        self._size_max = size_max
        self._data = bytearray()
        self._position = 0
        """Up to where `_data` was looked at."""
        self._depth = 0
        self._is_string = False

    def read(self, data: bytes) -> list[bytes]:
        """The objects that `data` completes; NotJson if something else comes or one is too long."""
        self._data += data
        values = []
        while (end := self._end()) is not None:
            values.append(bytes(self._data[:end]))
            del self._data[:end]
            self._position = 0
        if len(self._data) > self._size_max:
            raise NotJson("the value is too long")
        return values

    def _end(self) -> int | None:
        """Where the first object ends, if it does."""
        data = self._data
        if not self._depth:
            del data[: len(data) - len(data.lstrip(SPACE))]
            if data and data[0] != ord("{"):
                raise NotJson(f"proto: syntax error: unexpected token {chr(data[0])}")
        while found := (_INSIDE if self._is_string else _OUTSIDE).search(data, self._position):
            byte, self._position = found[0], found.end()
            if byte == b'"':
                self._is_string = not self._is_string
            elif byte == b"\\":
                if self._position == len(data):
                    # What it escapes is not here yet: look at both when it is.
                    self._position -= 1
                    return None
                self._position += 1
            elif byte in b"{[":
                self._depth += 1
            else:
                self._depth -= 1
                if not self._depth:
                    return self._position
        self._position = len(data)
        return None
