"""Objects of the simulated store, as one actor has them: each call is a turn.

`Door` stands where `jrnl.archive.objects` stands, with its retries behind it: an error means that
they were given up. `retried.py` has one with the retries that ship.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import ClassVar

from jrnl.archive.objects import KeyTaken, Listed, ObjectMissing
from jrnl.errors import ArchiveFull, ArchiveRefused, ArchiveUnreachable
from tests.archive.sim.wire import Change, Flying
from tests.archive.sim.world import Actor, Crashed, World

Way = tuple[float, str]

_FINE = (1.0, "")
CREATE = ("lost", "unanswered", "late", "twice")
DELETE = ("lost", "unanswered", "late", "partly", "lagging")
_REASONS = {
    "lost": ArchiveUnreachable,
    "unanswered": ArchiveUnreachable,
    "late": ArchiveUnreachable,
    "partly": ArchiveUnreachable,
    "full": ArchiveFull,
    "refused": ArchiveRefused,
}


class Turns:
    """Calls of the simulated store, each of which is a turn of whoever makes it.

    Parameters
    ----------
    world : World
    who : callable
        Returns the actor.
    """

    reasons: ClassVar[Mapping[str, Callable[[str], Exception]]] = {}

    def __init__(self, world: World, who: Callable[[], Actor]) -> None:
        self.world, self.who = world, who

    @property
    def actor(self) -> Actor:
        return self.who()

    def _change(
        self,
        what: str,
        key: str,
        faults: Sequence[str],
        effect: Callable[..., str],
        later: Callable[[], None],
    ) -> str:
        """Do what changes the store, in one of the ways in which that can go; return the answer."""
        world = self.world
        self.actor.turn(f"{what} {key}")
        how = self._way([_FINE, *self._faults(faults), *self._crashes(faults[:3])])
        answer = ""
        if how.endswith(("lost", "full", "refused")):
            pass
        elif how.endswith("late"):
            later()
        elif how.endswith("partly"):
            effect(key.count(" ") + 1 >> 1)
        elif how == "lagging":
            later()
            answer = "gone"
        else:
            answer = effect()
            if how == "twice":
                later()
        world.happened(self.actor.name, what, key, how, answer)
        self._end(how, f"{what} {key}", ("", "twice", "lagging"))
        self.actor.hears(answer)
        return answer

    def _look(self, what: str, key: str, faults: Sequence[str] = ("lost",)) -> str:
        """Take a turn that changes nothing; return which recent changes a listing hides."""
        world = self.world
        self.actor.turn(f"{what} {key}")
        ways = [_FINE, *self._faults(faults), *self._crashes(("lost",))]
        if what == "list" and world.left["stale"]:
            count = len(hidings(world.wire.recent(key.partition(">")[0])))
            ways += [(world.limits.lag / count, str(k)) for k in range(count)]
        how = self._way(ways)
        world.happened(self.actor.name, what, key, how)
        if how.isdigit():
            world.spend("stale")
            return how
        if how == "short":
            world.spend("faults")
            return how
        self._end(how, f"{what} {key}", ("",))
        return ""

    def _way(self, ways: list[Way]) -> str:
        if len(ways) == 1:
            return ways[0][1]
        return ways[self.world.chooser.pick([weight for weight, _ in ways])][1]

    def _faults(self, names: Sequence[str]) -> list[Way]:
        world = self.world
        if not world.left["faults"]:
            return []
        return [(world.limits.fault / len(names), name) for name in names]

    def _crashes(self, names: Sequence[str]) -> list[Way]:
        world = self.world
        if not world.left["crashes"]:
            return []
        return [(world.limits.crash / len(names), f"crash, {name}") for name in names]

    def _end(self, how: str, what: str, fine: Sequence[str]) -> None:
        """Raise what the way of a call leads to."""
        if how.startswith("crash"):
            self.world.spend("crashes")
            self.actor.hears("crash")
            raise Crashed
        if how:
            self.world.spend("faults")
        if how not in fine:
            self.actor.hears(how)
            raise self.reasons[how](f"{what}: {how}")


class Door(Turns):
    """What `jrnl.archive.objects.Objects` asks for, with its retries behind it."""

    url = "sim://store"
    reasons: ClassVar = _REASONS

    def __repr__(self) -> str:
        return "the simulated store"

    def create(self, key: str, body: bytes | memoryview) -> None:
        content = bytes(body)
        wire = self.world.wire

        def effect() -> str:
            if wire.create(key, content):
                return "made"
            return "made" if wire.objects[key].body == content else "taken"

        def later() -> None:
            wire.flying.append(Flying("create", key, content))

        if self._change("create", key, CREATE, effect, later) == "taken":
            raise KeyTaken(f"{key} is there already")

    def get(self, key: str, most: int = 1 << 30) -> bytes:
        self._look("get", key)
        stored = self.world.wire.objects.get(key)
        self.actor.hears(stored)
        if stored is None:
            raise ObjectMissing(f"{key} is not there")
        return stored.body

    def get_range(self, key: str, start: int, length: int) -> bytes:
        return self.get(key)[start : start + length]

    def get_ranges(self, key: str, ranges: Sequence[tuple[int, int]]) -> list[memoryview]:
        body = memoryview(self.get(key))
        return [body[start : start + length] for start, length in ranges]

    def list(self, prefix: str, after: str = "") -> Iterator[Listed]:
        how = self._look("list", f"{prefix}>{after}" if after else prefix)
        wire = self.world.wire
        hidden = hidings(wire.recent(prefix))[int(how)] if how else []
        found = wire.listing(prefix, after, hidden)
        self.actor.hears(tuple(found))
        return iter(found)

    def delete(self, keys: Iterable[str]) -> None:
        wanted, wire = list(keys), self.world.wire
        if not wanted:
            return

        def effect(count: int = len(wanted)) -> str:
            for key in wanted[:count]:
                wire.delete(key)
            return "gone"

        def later() -> None:
            wire.flying.extend(Flying("delete", key, b"") for key in wanted)

        self._change("delete", " ".join(wanted), DELETE, effect, later)


def hidings(recent: list[Change]) -> list[list[Change]]:
    """Return which changes a listing may hide: the newest ones, or one object's."""
    cuts = [recent[: k + 1] for k in range(len(recent))]
    keys = {change.key for change in recent[1:]}
    alone = [[each for each in recent if each.key == key] for key in sorted(keys)]
    return cuts + alone
