"""Flow control of what we receive: windows, their return, and a bound on what we hold.

The connection's window is given back on arrival, so that no stream holds up another. A stream's is
given back for all but messages that its handler has yet to take. No I/O.
"""

from __future__ import annotations

from kvshim.transport.http2 import frames
from kvshim.transport.http2.limits import Limits
from kvshim.transport.http2.messages import PREFIX
from kvshim.transport.http2.sender import Sender
from kvshim.transport.http2.stream import CLIENT_ENDS, State, Stream, StreamTable
from kvshim.transport.http2.wire import ConnectionFault, ErrorCode, StreamFault


class ReceiveWindows:
    """The receiving windows of one connection and its streams."""

    def __init__(self, limits: Limits, streams: StreamTable, sender: Sender) -> None:
        self._streams = streams
        self._sender = sender
        self._size = limits.connection_window_bytes
        self._window = self._size
        self._stream_size = limits.stream_window_bytes
        self._held_max = limits.buffered_bytes_max

    def received(self, size: int) -> None:
        """Padding counts; ConnectionFault if the client has overrun its window."""
        self._window -= size
        if self._window < self._size // 2:
            if self._window < 0:
                raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "connection window overrun")
            self._sender.control(frames.window_update(0, self._size - self._window))
            self._window = self._size

    def received_on(self, stream: Stream, size: int) -> None:
        stream.receive_window -= size
        if stream.receive_window < 0:
            raise StreamFault(stream.id, ErrorCode.FLOW_CONTROL_ERROR, "stream window overrun")

    def withhold(self, stream: Stream, message_bytes: int) -> None:
        """A message waits for its handler."""
        stream.withheld += message_bytes + PREFIX.size

    def consumed(self, stream: Stream, message_bytes: int) -> None:
        """A handler took a message, of a stream that may be over."""
        if stream.withheld and stream.state is not State.CLOSED:
            stream.withheld -= message_bytes + PREFIX.size
            self.replenish(stream)

    def replenish(self, stream: Stream) -> None:
        """Give a stream's window back if it is worth a frame; ConnectionFault if we hold too much.

        To be called after all that changes what the stream holds.
        """
        held = stream.withheld + stream.reader.held
        if held or stream.held:
            self._streams.held += held - stream.held
            stream.held = held
            if self._streams.held > self._held_max:
                raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "too much unfinished")
        if stream.state not in CLIENT_ENDS:
            return
        missing = self._stream_size - stream.receive_window - stream.withheld
        if missing >= self._stream_size // 2:
            stream.receive_window += missing
            self._sender.control(frames.window_update(stream.id, missing))
