"""One run: actors with shipping code, the store between them, and whoever chooses what is next."""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from jrnl.archive import ledger
from tests.archive.sim import baton
from tests.archive.sim.choose import Chooser, Seen
from tests.archive.sim.oracle import Oracle, Wrong
from tests.archive.sim.wire import GRACE_NS, SECOND

STEPS_MOST = 3000
PACES, PACE_WEIGHTS = (1.0, 0.1, 0.01), (0.5, 0.25, 0.25)
SHORT_NS, LONG_NS = 20 * SECOND, GRACE_NS + 40 * SECOND


class Crashed(BaseException):
    """The actor's process is gone."""


class Over(BaseException):
    """The run is over, whatever the actor is at."""


@dataclass(frozen=True)
class Limits:
    """How often something may happen in a run; how likely it is beside a call that goes well."""

    faults: int = 0  # calls that fail, or take effect otherwise
    crashes: int = 0
    shorts: int = 0  # times that a part of the lag of listings goes by
    longs: int = 0  # times that more than the grace period goes by
    stale: int = 0  # listings that lag
    fault: float = 0.1
    crash: float = 0.05
    time: float = 0.1
    land: float = 0.3
    lag: float = 0.5
    stick: float = 1.0  # that the same actor goes on, against another one
    slow: bool = False  # some actors are slow at times


class Actor:
    """One process: it has a number of lives, one after the other."""

    def __init__(self, world: World, name: str, life: Callable[[Actor], None], lives: int) -> None:
        self.world, self.name, self.life, self.lives = world, name, life, lives
        self.asks = "begin"  # what it waits with
        self.heard = 0  # a hash of all that it was told
        self.pace = 1.0
        self.is_dead = False
        self.waits_for: Callable[[], bool] | None = None
        self.player = baton.player(self._run)

    def _run(self) -> baton.Player | None:
        world = self.world
        try:
            while self.lives and not world.over:
                self.lives -= 1
                try:
                    self.life(self)
                    break
                except Crashed:
                    self.is_dead = False
                    if self.lives:
                        self.turn("begin")
        except Over:
            pass
        except Seen:
            world.stop(seen=True)
        except BaseException as error:
            world.stop(error)
        world.actors.remove(self)
        return world.next_player()

    def turn(self, asks: str) -> None:
        """Wait until it is this actor's turn to do what it asks for."""
        self.asks = asks
        world = self.world
        following = world.next_player()
        if following is not None:
            baton.hand(self.player, following)
        if world.over:
            raise Over
        if self.is_dead:
            raise Crashed

    def is_ready(self) -> bool:
        return self.waits_for is None or self.is_dead or self.waits_for()

    def hears(self, told: object) -> None:
        """Note what was told: what the actor does depends on nothing else."""
        self.heard = hash((self.heard, told))


class World:
    """All that takes part in one run.

    Attributes
    ----------
    trace : int
        A hash of what happened, in its order.
    failure : str
        What was broken; empty: nothing.
    """

    def __init__(
        self,
        chooser: Chooser,
        limits: Limits,
        tell: bool = False,
        oracle: Callable[[], Oracle] = Oracle,
    ) -> None:
        self.chooser, self.limits, self.tell = chooser, limits, tell
        self.left = Counter(vars(limits))
        self.oracle = oracle()
        self.wire = self.oracle.wire
        self.actors: list[Actor] = []
        self.last: Actor | None = None
        self.trace = self.steps = self.ids = 0
        self.over = self.seen = False
        self.failure = ""
        self.counts: Counter[str] = Counter()
        self.door: Callable[[World, Callable[[], Actor]], Any] | None = None

    def objects(self, actor: Actor, who: Callable[[], Actor] | None = None) -> Any:
        """Return the store as an actor has it; `who` says which thread calls, if not it."""
        assert self.door is not None
        return self.door(self, who or (lambda: actor))

    def clock(self) -> int:
        return self.wire.now_ns

    def new_id(self) -> str:
        self.ids += 1
        return f"{self.ids:x}"

    def add(self, name: str, life: Callable[[Actor], None], lives: int = 1) -> None:
        self.actors.append(Actor(self, name, life, lives))

    def run(self) -> None:
        """Run all actors to their ends."""
        numbers = SimpleNamespace(token_hex=lambda _: self.new_id())
        with patch.object(ledger, "secrets", numbers):
            self._set_paces()
            first = self.next_player()
            if first is not None:
                baton.begin(first)

    def calm(self) -> None:
        """From here on nothing goes wrong any more, and what is on its way is lost."""
        self.limits = replace(self.limits, faults=0, crashes=0, shorts=0, longs=0, stale=0)
        self.left = Counter(vars(self.limits))
        self.wire.flying.clear()

    def stop(self, error: BaseException | None = None, seen: bool = False) -> None:
        self.over, self.seen = True, seen
        if error is not None and not self.failure:
            lines = traceback.format_exception(error) if self.tell else []
            self.failure = "".join([*lines, f"{type(error).__name__}: {error}"])

    def happened(self, *what: object) -> None:
        self.trace = hash((self.trace, what))
        if self.tell:
            print(f"{(self.wire.now_ns // SECOND) % 100000:6}  ", *what)

    def next_player(self) -> baton.Player | None:
        """Return who has the baton next; None where all are at their ends."""
        while self.actors and not self.over:
            try:
                actor = self._step()
            except Seen:
                self.stop(seen=True)
            except Wrong as error:
                self.stop(error)
            else:
                if actor is not None:
                    self.last = actor
                    return actor.player
        return self.actors[0].player if self.actors else None

    def _step(self) -> Actor | None:
        """Choose what is next; return an actor, where it is one's turn."""
        self.steps += 1
        if self.steps > STEPS_MOST:
            raise Wrong(f"after {STEPS_MOST} steps there is no end")
        chooser, limits, left = self.chooser, self.limits, self.left
        chooser.arrive(self._state)
        actors = [each for each in self.actors if each.is_ready()]
        weights = [actor.pace for actor in actors]
        if self.last in actors:
            weights[actors.index(self.last)] *= limits.stick
        events: list[Callable[[], None]] = []
        for k in range(len(self.wire.flying)):
            weights.append(limits.land)
            events.append(partial(self._land, k))
        for name, ns in (("shorts", SHORT_NS), ("longs", LONG_NS)):
            if left[name]:
                weights.append(limits.time)
                events.append(partial(self._wait, name, ns))
        number = chooser.pick(weights) - len(actors)
        if number < 0:
            return actors[number]
        events[number]()
        return None

    def _state(self) -> object:
        actors = tuple((each.name, each.asks, each.heard, each.lives) for each in self.actors)
        left = tuple(self.left[name] for name in ("faults", "crashes", "shorts", "longs", "stale"))
        return (self.wire.state(), actors, left, self.ids)

    def _land(self, number: int) -> None:
        kind, key, _ = self.wire.flying[number]
        self.happened("lands", kind, key)
        self.counts["late"] += 1
        self.wire.land(number)

    def _wait(self, name: str, ns: int) -> None:
        self.left[name] -= 1
        self.happened(name)
        self.counts[name] += 1
        self.wire.wait(ns)
        self._set_paces()

    def _set_paces(self) -> None:
        """Some go on slowly from now on, so that others get ahead of them by a whole collection."""
        if self.limits.slow:
            for actor in self.actors:
                actor.pace = PACES[self.chooser.pick(PACE_WEIGHTS)]

    def spend(self, name: str) -> None:
        """Something happened that may happen only so often."""
        self.left[name] -= 1
        self.counts[name] += 1
