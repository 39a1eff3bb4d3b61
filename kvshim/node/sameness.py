"""The node's part in keeping members' stores equal: comparing, scrubbing, replacing; wired.

Event loop; what is damaged may be found on any thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from functools import partial

from kvshim.apply.machine import ApplyMachine
from kvshim.config import Config
from kvshim.errors import CorruptStore
from kvshim.mvcc.scrub import Fault, Scrub
from kvshim.mvcc.store import Store
from kvshim.node.delivery import Delivery
from kvshim.node.peers import Peers
from kvshim.node.proposals import OwnProposals
from kvshim.server.admin_socket import Handler
from kvshim.server.divergence import (
    COMPARE_METHOD,
    CONTENT_METHOD,
    HASHES_METHOD,
    Divergence,
)
from kvshim.server.leadership import Leadership
from kvshim.server.repair import REPAIR_METHOD, Repair
from kvshim.server.resync import STORE_METHOD, Resync
from kvshim.server.scrubber import Scrubber
from raft.node import Node

IDLE_POLL_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Sameness:
    """What of it runs."""

    resync: Resync
    divergence: Divergence
    scrubber: Scrubber
    operator: Mapping[str, Handler]
    """Calls on the admin socket."""


def keep_same(
    config: Config,
    store: Store,
    machine: ApplyMachine,
    delivery: Delivery,
    peers: Peers,
    *,
    log: Node,
    leadership: Leadership,
    own: OwnProposals,
) -> Sameness:
    """Wire it; nothing runs yet."""
    book, alarms, logger = delivery.members, delivery.alarms, delivery.reports.logger

    def alone() -> bool:
        return len(book.members) < 2

    resync = Resync(
        log,
        machine,
        leadership,
        own_id=book.own_id,
        ask_leader=peers.ask_leader,
        alone=alone,
        in_doubt=lambda: alarms.own_corrupt,
        logger=logger,
    )
    divergence = Divergence(
        store,
        machine.rolling,
        leadership,
        book,
        call=peers.ask,
        reached=peers.reached,
        on_thread=delivery.reader.on_thread,
        change_alarm=own.change_corrupt,
        standing=lambda: alarms.corrupt,
        resign=log.resign,
        busy=lambda: resync.busy,
        every_seconds=config.corrupt_check_time_s,
        logger=logger,
    )
    repair = Repair(resync, divergence, book, leadership, peers.ask)

    def damaged(error: CorruptStore) -> bool:
        """Any thread."""
        if alone():
            return False
        delivery.loop.call_soon_threadsafe(resync.mend, str(error))
        return True

    async def accuse_self() -> None:
        if not alarms.own_corrupt:
            await own.raise_corrupt()

    resync.on_failed = accuse_self
    machine.on_corrupt = damaged
    store.on_corrupt = damaged
    peers.answer(STORE_METHOD, resync.handle)
    peers.answer(HASHES_METHOD, divergence.handle_hashes)
    peers.answer(CONTENT_METHOD, divergence.handle_content)
    peers.answer(COMPARE_METHOD, divergence.handle_compare)
    peers.answer(REPAIR_METHOD, repair.handle)

    async def on_damage(faults: list[Fault]) -> None:
        delivery.reports.damaged(faults)
        if resync.mend(f"the scrub found damage at {faults[0].place}"):
            while resync.busy:  # noqa: ASYNC110 - minutes, once in a disk's life
                await asyncio.sleep(IDLE_POLL_SECONDS)
        else:
            await accuse_self()

    def step(scrub: Scrub) -> Awaitable[list[Fault]]:
        return delivery.reader.on_thread(scrub.step)

    scrubber = Scrubber(
        partial(Scrub, store), step, on_damage, interval_seconds=config.scrub_interval_s
    )
    return Sameness(resync, divergence, scrubber, {"repair": repair.admin})
