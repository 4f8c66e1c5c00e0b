"""Writers, collectors and readers: shipping code, and the least that drives it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from jrnl.archive.collector import collect
from jrnl.archive.ledger import Condemned, Ledger
from jrnl.archive.manifest import Manifest, Origin, SegmentFacts, segment_key, sum_of
from jrnl.archive.named import Named
from jrnl.archive.objects import ObjectMissing
from jrnl.errors import ArchiveError, Fenced
from tests.archive.sim.oracle import KEEP, must
from tests.archive.sim.wire import GRACE_NS, SECOND
from tests.archive.sim.world import Actor

ORIGIN = Origin("ab", [["v", 4096]], 65536, "both", "evict", "flush", 0)
TRIES = 12

_T = TypeVar("_T")


def persist(call: Callable[[], _T]) -> _T | None:
    """Call until the store answers; None where it does not."""
    for _ in range(TRIES):
        try:
            return call()
        except ArchiveError:
            continue
    return None


@dataclass
class Writer:
    """Drives a Ledger as the archive's writer does: put objects, publish what names them, go on.

    Attributes
    ----------
    owed : list of SegmentFacts
        Put in this epoch, and not known to be archived.
    """

    actor: Actor
    publishes: int
    owed: list[SegmentFacts] = field(default_factory=list)

    def live(self) -> None:
        world = self.actor.world
        self.id = world.new_id()
        self.objects = world.objects(self.actor)
        self.ledger = Ledger(self.objects, clock=world.clock, writer=self.id)
        self.owed = []
        if not self._claim():
            return
        try:
            for _ in range(self.publishes):
                if not self._publish():
                    return
        except Fenced:
            world.oracle.fences(self.id)
            world.counts["fenced"] += 1
            self._stays_fenced()

    def _claim(self) -> bool:
        try:
            return persist(lambda: self.ledger.claim(lambda base: ORIGIN)) is not None
        except Fenced:
            self.actor.world.oracle.fences(self.id)
            return False

    def _publish(self) -> bool:
        """Archive one more segment; False where the store does not answer."""
        world = self.actor.world
        if persist(self._put_next) is None:
            return True  # the next one, with whatever is owed
        for _ in range(TRIES):
            try:
                done = persist(self._name_owed)
            except Condemned:
                world.counts["condemned"] += 1
                if persist(self._again) is None:
                    return False
                continue
            if done is None:
                return True
            world.oracle.acknowledges(self.id, done, self.owed)
            world.counts["acknowledged"] += len(self.owed)
            self.owed = []
            return True
        return False

    def _put_next(self) -> bool:
        current = self.ledger.current
        assert current is not None
        base = self.owed[-1].last if self.owed else max(current.seq, 0)
        return self._put(base)

    def _put(self, base: int) -> bool:
        key = segment_key(self.ledger.epoch, base + 1, base + 1)
        body = f"{self.id} wrote {base + 1} in {self.ledger.epoch}".encode()
        self.actor.world.oracle.puts(self.id, key)
        self.objects.create(key, body)
        facts = SegmentFacts(key, base, base + 1, base + 1, -1, len(body), 1, 0, sum_of(body))
        self.owed.append(facts)
        return True

    def _name_owed(self) -> Manifest:
        return self.ledger.publish(self._change, [each.key for each in self.owed])

    def _change(self, current: Manifest) -> Manifest | None:
        fresh = [each for each in self.owed if each.last > current.seq]
        if not fresh:
            return None
        segments = [*current.segments, *fresh]
        return current.with_news(segments=segments[-KEEP:], seq=fresh[-1].last)

    def _again(self) -> bool:
        """Begin another epoch, and put again what may have been deleted."""
        current = self.ledger.claim(lambda base: ORIGIN)
        last, self.owed = self.owed[-1].last, []
        for seq in range(max(current.seq, 0), last):
            while persist(lambda seq=seq: self._put(seq)) is None:  # type: ignore[misc]
                pass
        return True

    def _stays_fenced(self) -> None:
        """A writer that is fenced once acknowledges nothing from then on."""
        for call in (self._name_owed, lambda: self.ledger.claim(lambda base: ORIGIN)):
            try:
                call()
            except (Fenced, ArchiveError):
                continue
            must(False, f"{self.id} was fenced, and goes on")


def writer(publishes: int) -> Callable[[Actor], None]:
    return lambda actor: Writer(actor, publishes).live()


def collector(times: int) -> Callable[[Actor], None]:
    def live(actor: Actor) -> None:
        world, seen = actor.world, Named()
        for _ in range(times):
            try:
                found = collect(
                    world.objects(actor), GRACE_NS / SECOND, clock=world.clock, seen=seen
                )
            except ArchiveError:
                continue
            world.counts["collected"] += found.objects
            world.counts["manifests collected"] += found.manifests

    return live


def stray(times: int) -> Callable[[Actor], None]:
    """What a writer still puts that is fenced and does not know it: nobody ever names that."""

    def live(actor: Actor) -> None:
        objects, own = actor.world.objects(actor), actor.world.new_id()
        for k in range(times):
            key = f"seg/00000000-{int(own, 16):020d}-{k:020d}"
            persist(partial(objects.create, key, own.encode()))

    return live


def reader(times: int) -> Callable[[Actor], None]:
    def live(actor: Actor) -> None:
        world = actor.world
        ledger = Ledger(world.objects(actor), clock=world.clock, writer="0")
        for _ in range(times):
            since = world.clock()
            try:
                manifest = ledger.look()
                if manifest is not None:
                    world.oracle.opened(manifest, since)
                    read_all(actor, manifest, since)
            except ArchiveError:
                continue

    return live


def read_all(actor: Actor, manifest: Manifest, since: int) -> None:
    """Read all that a manifest names, which was the newest at `since`."""
    world, objects = actor.world, actor.world.objects(actor)
    for key in [*manifest.keys()]:
        try:
            body = objects.get(key)
        except ObjectMissing:
            world.oracle.missed(key, manifest, since)
        else:
            world.oracle.served(key, body)
            world.counts["read"] += 1
