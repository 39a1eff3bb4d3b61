"""What waits in a stream's outbox, sent to its client. Event loop.

A room of its own so that it is compiled: with many watchers an event costs little else. Each stream
lets go of its events before the next one renders its own, or all clients would wait for the last.
"""

from __future__ import annotations

from kvshim.rpc import BidiCall
from kvshim.watch.encode import HeaderOf, event_responses, notice_response
from kvshim.watch.outbox import Delivery
from kvshim.watch.stream import WatchStream


async def send_all(
    call: BidiCall, stream: WatchStream, header_of: HeaderOf, max_response_bytes: int
) -> None:
    """Send what the stream's outbox holds and will hold; ends by being cancelled."""
    outbox = stream.outbox
    while True:
        item = outbox.next()
        if item is None:
            call.flush()
            await outbox.filled()
        else:
            if isinstance(item, Delivery):
                for response in event_responses(item, header_of, max_response_bytes):
                    await call.send(response)
            else:
                await call.send(notice_response(item, header_of))
            stream.sent(item)
