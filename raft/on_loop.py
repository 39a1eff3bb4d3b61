"""How what runs on another thread speaks to the event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable


class OnLoop:
    """The way onto the event loop that runs where this is made. Any thread."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._ident = threading.get_ident()

    def call(self, function: Callable[..., object], *args: object) -> None:
        """Call it there: at once on the loop itself, soon from elsewhere, never once it closed."""
        if threading.get_ident() == self._ident:
            function(*args)
        elif not self.loop.is_closed():
            self.loop.call_soon_threadsafe(function, *args)

    def tell(self, future: asyncio.Future[None], error: Exception | None = None) -> None:
        """Whoever waits for this goes on, or gets the error; nothing if it was told before."""
        self.call(_settle, future, error)


def _settle(future: asyncio.Future[None], error: Exception | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)
