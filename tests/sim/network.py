"""The simulated network: loses, delays, repeats and reorders messages; links are cut one way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from raft.core.messages import Envelope, Message
from tests.raft_core import render
from tests.sim.world import World


@dataclass(slots=True)
class Weather:
    """How bad the network is; delays in microseconds."""

    loss: float = 0.0
    repeat: float = 0.0
    delay_us: tuple[float, float] = (200, 2_000)
    slow: float = 0.0
    slow_us: tuple[float, float] = (50_000, 400_000)


@dataclass(slots=True)
class Network:
    """Who is cut off from whom: (sender, receiver) in `cut`."""

    world: World
    weather: Weather
    deliver: Callable[[Message, object], None]
    cut: set[tuple[int, int]] = field(default_factory=set)

    def send(self, message: Message, data: object = None) -> bool:
        """Send; False when it is lost for sure, which only a snapshot's sender gets to know."""
        world, weather = self.world, self.weather
        if (message.sender, message.to) in self.cut or world.chance(weather.loss):
            if world.traced:
                world.say("lost", render.message(message))
            return False
        copies = 2 if world.chance(weather.repeat) else 1
        for _ in range(copies):
            low, high = weather.slow_us if world.chance(weather.slow) else weather.delay_us
            world.after(world.between(low, high), lambda: self._arrive(message, data))
        return True

    def carry(self, sender: int, to: int, arrive: Callable[[], None]) -> None:
        """Something beside Raft's messages, as a call or its answer: it arrives or is lost."""
        world, weather = self.world, self.weather
        if (sender, to) in self.cut or world.chance(weather.loss):
            return
        low, high = weather.slow_us if world.chance(weather.slow) else weather.delay_us
        world.after(world.between(low, high), arrive)

    def isolate(self, member: int, others: list[int]) -> None:
        """Nothing to or from `member`."""
        self.cut |= {(member, other) for other in others} | {(other, member) for other in others}

    def _arrive(self, message: Message, data: object) -> None:
        assert isinstance(message, Envelope)
        if (message.sender, message.to) not in self.cut:
            self.deliver(message, data)
