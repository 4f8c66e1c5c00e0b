"""An open store, held against what was promised. Every function raises Failure."""

from __future__ import annotations

import random
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import jrnl
from jrnl import JrnlError, PointExpired
from tests.crash.expect import HEALED, Failure
from tests.crash.recorded.disk import digest, read_tree
from tests.crash.recorded.history import State, World
from tests.crash.recorded.life import NAME, Shape
from tests.crash.recorded.promises import Facts, Promise, found_in

REFUSED = (JrnlError, OSError)


class Check:
    """One state of the disk, opened for reading and then for writing."""

    def __init__(self, root: Path, shape: Shape, rng: random.Random, lenient: bool = False) -> None:
        self.root, self.shape, self.rng, self.lenient = root, shape, rng, lenient
        self.promise: Promise | None = None

    def run(self, promise: Promise) -> Facts | None:
        """Return what the store shows; None where there is no store, or a refusal."""
        self.promise = promise
        path = self.root / NAME
        if not path.exists():
            if promise.absent:
                return None
            raise Failure("the store is gone")
        shown = self._read_only(path) if self.rng.random() < 0.25 else None
        try:
            store = jrnl.open(path, overlay=65536)
        except REFUSED:
            if self.lenient:
                return None
            raise
        with self._closed(store):
            try:
                facts = Facts.of(store)
            except REFUSED:
                if self.lenient:  # an entry's header is lost, and so is the list of them
                    return None
                raise
            if shown is not None and shown != facts.seq and not self.lenient:
                raise Failure(f"opened for reading it is at {shown}, for writing {facts.seq}")
            world = self._held(store, facts, promise)
            if world is not None and self.rng.random() < 0.15:
                self._goes_on(store, world)
        return facts

    @contextmanager
    def _closed(self, store: Any) -> Iterator[None]:
        """Close a store whatever happens; that this works is a promise, too."""
        try:
            yield
        except BaseException:
            with suppress(Exception):  # the first failure tells more
                store.close()
            raise
        try:
            store.close()
        except REFUSED:
            if not self.lenient:
                raise

    def _read_only(self, path: Path) -> int | None:
        before = digest(read_tree(self.root))
        try:
            store = jrnl.open(path, "r", overlay=65536)
        except jrnl.ReadOnlyStore:
            return None
        except REFUSED:
            if self.lenient:
                return None
            raise
        with store:
            assert self.promise is not None
            world = None
            with suppress(*REFUSED) if self.lenient else nullcontext():
                world = found_in(self.promise, Facts.of(store), self.lenient)
            if world is not None:
                self.production(store, world)
                self.snapshots(store, world)
            seq = int(store.seq)
        if digest(read_tree(self.root)) != before:
            raise Failure("opening for reading has written")
        return seq

    def _held(self, store: Any, facts: Facts, promise: Promise) -> World | None:
        world = found_in(promise, facts, self.lenient)
        if world is None:
            return None
        self.names(facts, promise, world)
        self.production(store, world)
        self.journal(facts, promise, world)
        self.snapshots(store, world)
        self.points(store, facts, world)
        self.recoveries(store, world)
        told = store.verify().problems
        problems = [problem for problem in told if not problem.startswith(HEALED)]
        if problems and not self.lenient:
            raise Failure(f"verify: {problems}")
        return world

    # Names.

    def names(self, facts: Facts, promise: Promise, world: World) -> None:
        """Take over what there is by name, if all that must be there is."""
        found = {"snapshots": facts.snapshots, "pins": facts.pins, "recoveries": facts.recoveries}
        for kind, there in found.items():
            must, may = promise.must[kind], promise.may[kind]
            missing = must.keys() - there.keys()
            if missing and not self.lenient:
                raise Failure(f"{kind} {sorted(missing)} are gone: there are {sorted(there)}")
            extra = there.keys() - must.keys() - may.keys()
            if kind == "snapshots" and self.shape.overflow == "fold":
                extra = {name for name in extra if not name.startswith("base")}
            if extra:
                raise Failure(f"{kind} {sorted(extra)} are in no history")
        for name, seq in facts.snapshots.items():
            known = {**promise.may["snapshots"], **promise.must["snapshots"]}.get(name)
            moved = known is not None and known != seq
            if moved and not (self.shape.overflow == "fold" and seq > known):
                raise Failure(f"snapshot {name} is at {seq}, not {known}")
        world.snapshots, world.pinned = dict(facts.snapshots), set(facts.pins)
        known = {**promise.may["recoveries"], **promise.must["recoveries"]}
        world.recoveries = {number: known[number] for number in facts.recoveries}

    # Content.

    def _read(self, what: str, read: Any) -> State | None:
        """Return what a state reads as; None where damage may refuse it."""
        try:
            return tuple(
                read(0, size, name)
                for name, size in zip(self.shape.names, self.shape.sizes, strict=True)
            )
        except REFUSED as error:
            if self.lenient:
                return None
            raise Failure(f"{what}: {type(error).__name__}: {error}") from error

    def same(self, what: str, found: State | None, wanted: State | None) -> None:
        if found is None or wanted is None or found == wanted:
            return
        for k, (one, other) in enumerate(zip(found, wanted, strict=True)):
            if one != other:
                at = next(i for i in range(len(one)) if one[i] != other[i])
                count = sum(a != b for a, b in zip(one, other, strict=True))
                raise Failure(f"{what} is wrong: {count} bytes of volume {k}, from {at}")

    def production(self, store: Any, world: World) -> None:
        def read(offset: int, size: int, name: str) -> bytes:
            return bytes(store.volumes[name].read(offset, size))

        found = self._read("production", read)
        if world.seq in world.line.dropped:
            raise Failure(f"the store is at {world.seq}, which a rewind dropped")
        self.same(f"production at {world.seq}", found, world.states.get(world.seq))

    def journal(self, facts: Facts, promise: Promise, world: World) -> None:
        """The entries are the newest of the history, without a gap, and the window says so."""
        if self.lenient:
            return
        entries, rows = world.line.entries, facts.rows
        expected = entries[len(entries) - len(rows) :] if rows else []
        if [row.seq for row in rows] != [entry.seq for entry in expected]:
            raise Failure(f"entries {[r.seq for r in rows]}, expected {[e.seq for e in expected]}")
        if self.shape.images == "after":
            return
        if promise.oldest is not None and facts.oldest > promise.oldest:
            raise Failure(f"history starts at {facts.oldest}, {promise.oldest} was promised")
        kept = {facts.oldest, *(row.seq for row in rows)}
        marks = {name: seq for name, seq in world.marks.items() if seq in kept}
        if not marks.items() <= facts.marks.items():
            raise Failure(f"marks {facts.marks}, expected {marks}")

    def points(self, store: Any, facts: Facts, world: World) -> None:
        """Every state of the window comes back, and none that was dropped."""
        line, oldest = world.line, facts.oldest
        first = bisect_right(line.entries, (oldest, 1 << 60))
        kept = [oldest, *(entry.seq for entry in line.entries[first:])]
        for seq in kept:
            self._point(store, seq, world)
        gone = line.dropped - line.successor.keys() - set(world.snapshots.values())
        gone = sorted(seq for seq in gone if oldest < seq <= facts.seq)
        for seq in {*gone[-2:], *gone[:1]}:
            try:
                with store.recover(seq):
                    raise Failure(f"state {seq} was dropped and is back")
            except PointExpired:
                pass
            except REFUSED:
                if not self.lenient:
                    raise

    def _point(self, store: Any, seq: int, world: World) -> None:
        wanted = world.states.get(seq)
        if wanted is None or (self.shape.images == "after" and seq == store.seq):
            return
        try:
            image = (store.recover if self.rng.random() < 0.1 else store.view)(seq)
        except REFUSED as error:
            if self.lenient:
                return
            raise Failure(f"state {seq}: {type(error).__name__}: {error}") from error
        with image:
            self.same(f"state {seq}", self._read(f"state {seq}", image.read), wanted)

    def snapshots(self, store: Any, world: World) -> None:
        for name, snapshot in store.snapshots.items():
            wanted = world.states.get(snapshot.seq)
            what = f"snapshot {name} of {snapshot.seq}"
            if not snapshot.complete:
                what += " (being copied)"
            self.same(what, self._read(what, snapshot.read), wanted)
            if self.rng.random() < 0.5 and not store._session.log.read_only:
                self._copied(snapshot, what, wanted)

    def _copied(self, snapshot: Any, what: str, wanted: State | None) -> None:
        try:
            whole = snapshot.wait(30)
        except REFUSED as error:
            if self.lenient:
                return
            raise Failure(f"{what}: wait: {type(error).__name__}: {error}") from error
        if not whole and not self.lenient:
            raise Failure(f"{what} does not become whole")
        self.same(f"{what}, copied,", self._read(what, snapshot.read), wanted)

    def recoveries(self, store: Any, world: World) -> None:
        for number, recovery in list(store.recoveries.items()):
            seq, wanted = world.recoveries[number]
            if recovery.seq != seq:
                raise Failure(f"recovery {number} is of state {recovery.seq}, not {seq}")
            try:
                again = recovery.again()
            except REFUSED as error:
                if self.lenient:
                    continue
                raise Failure(f"recovery {number}: {type(error).__name__}: {error}") from error
            with again:
                self.same(f"recovery {number} of {seq}", self._read("again", again.read), wanted)

    def _goes_on(self, store: Any, world: World) -> None:
        """Write, flush, close, and look once more."""
        try:
            store.volumes["v0"].write(1000, b"it goes on")
            seq = store.flush()
            store.close()
            store = jrnl.open(self.root / NAME, "r", overlay=65536)
        except REFUSED as error:
            if self.lenient or (world.pinned and isinstance(error, jrnl.JournalFull)):
                return
            raise
        with store:
            before = world.states.get(world.seq)
            wanted = before and (before[0][:1000] + b"it goes on" + before[0][1010:], *before[1:])
            found = self._read(
                "after going on", lambda o, n, name: bytes(store.volumes[name].read(o, n))
            )
            if store.seq != seq and not self.lenient:
                raise Failure(f"closed at {seq}, it opens at {store.seq}")
            if store.seq == seq:
                self.same(f"after going on, production at {seq}", found, wanted)
            for name, snapshot in store.snapshots.items():
                if self.shape.overflow != "fold":
                    what = f"after going on, snapshot {name}"
                    self.same(what, self._read(what, snapshot.read), world.states[snapshot.seq])
