"""Many TLS clients at once, which trust whoever answers."""

from __future__ import annotations

import asyncio
import ssl


async def shake_hands(port: int) -> None:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    writer.close()


async def admitted(port: int, clients: int = 6, seconds: float = 3) -> int:
    """How many of so many that come at once shake hands in so long a time."""
    herd = [asyncio.create_task(shake_hands(port)) for _ in range(clients)]
    done, waiting = await asyncio.wait(herd, timeout=seconds)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    return len(done)
