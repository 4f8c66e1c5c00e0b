"""A host of a small store: what it does is done to the store and to the model, step by step.

A step is one call that changes something. The model goes first, so that it knows every state that
the store may reach within the step; `on_step` is called at its end, while `expectation` still says
what a crash within it may leave.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass

import jrnl
from jrnl import JournalFull, Kind
from tests.crash.disk import SECTOR, SimDisk
from tests.crash.expect import (
    Check,
    Expectation,
    Failure,
    World,
    copied,
    cut,
    folded,
    follow,
)
from tests.model.whole import START_NS, Model, State

STORE = "s"


@dataclass(frozen=True)
class Shape:
    """What the store is like: small, and one volume that ends inside a sector."""

    images: str = "both"
    sizes: tuple[int, ...] = (16384, 5500)
    journal: int = 65536
    overlay: int = 65536
    sync: str = "flush"
    overflow: str = "evict"

    @property
    def names(self) -> list[str]:
        return [f"v{k}" for k in range(len(self.sizes))]


class Host:
    """Whoever uses the store.

    Attributes
    ----------
    on_step : callable
        Called at the end of each step.
    expectation : Expectation
        What a crash may leave now.
    done : list of str
        The operations so far.
    """

    def __init__(self, shape: Shape, rng: random.Random) -> None:
        self.shape, self.rng = shape, rng
        self.disk = SimDisk()
        self.store = None
        self.world = self._nothing()
        self.expectation = Expectation([], absent=True)
        self.generation = 0  # counts what makes another history out of the same seqs
        self.on_step: Callable[[], None] = lambda: None
        self.done: list[str] = []
        self.now = START_NS
        self.named = 0

    # Opening and closing.

    @property
    def model(self) -> Model:
        return self.world.model

    def _nothing(self) -> World:
        shape = self.shape
        model = Model(list(shape.sizes), shape.journal, shape.images, START_NS)
        model.folds = shape.overflow == "fold"
        return World(model)

    def clock(self) -> int:
        return self.now

    def create(self) -> None:
        from jrnl.disk.create import create_in

        shape = self.shape
        fresh = World(copied(self.model))
        self.expectation = Expectation([fresh], absent=True)
        self.store = create_in(
            self.disk.place(),
            STORE,
            volumes=dict(zip(shape.names, shape.sizes, strict=True)),
            journal=shape.journal,
            images=shape.images,
            overflow=shape.overflow,
            sync=shape.sync,
            clock=self.clock,
            overlay=shape.overlay,
        )
        self.on_step()
        self._settled(fresh)

    def open_on(self, disk: SimDisk, mode: str = "r+") -> object:
        """Open the store of a disk, with this host's clock and overlay."""
        from jrnl.disk import open as opening

        return opening.open_in(
            disk.place(), STORE, mode=mode, clock=self.clock, overlay=self.shape.overlay
        )

    def take_up(self, disk: SimDisk, expectation: Expectation) -> None:
        """Go on from what a crash left."""
        self.abandon()
        self.disk, self.expectation = disk, expectation
        self.generation += 1
        if expectation.absent and not disk.exists(STORE):
            self.world = self._nothing()
            self.create()
            return
        self.store = self.open_on(disk)
        self.on_step()
        self._settled(expectation.match(self.store, self.rng))

    def abandon(self) -> None:
        """Let the store go, as by a kill; its disk is nobody's any more."""
        store, self.store = self.store, None
        self.disk.before = None
        with suppress(Exception):
            store.close()

    def open(self, mode: str = "r+") -> None:
        self.expectation = Expectation([self.world], oldest=self.expectation.oldest)
        self.store = None
        self.store = self.open_on(self.disk, mode)
        self.on_step()
        Check(self.store, self.model, self.world, self.rng).all()

    def close(self) -> None:
        self._simple(lambda: self.store.close() or self.model.seq)
        self.world.low = self.model.seq

    # Steps.

    def _simple(self, act: Callable[[], int], own: bool = False) -> None:
        """Do what the model has done already; a crash may leave any of the states.

        It may be refused beside what is pinned, and `own`, beside what itself is to pin.
        """
        self.expectation = Expectation([self.world], oldest=self._promised())
        try:
            seq = act()
        except JournalFull:
            self._refused(own)
            return
        finally:
            self.expectation.oldest = self._promised()
        if seq != self.model.seq:
            raise Failure(f"the store is at {seq}, the model at {self.model.seq}")
        self.on_step()
        if self.shape.sync == "always":
            self.world.low = self.model.seq
        self._settled(self.world)

    def _atomic(
        self, after: World, act: Callable[[], object], *, acknowledges: bool = True
    ) -> object:
        """Do what a crash leaves done or not done; it may acknowledge all entries, too."""
        self.generation += 1
        self.expectation = Expectation([self.world, after], oldest=self._promised())
        failed = True
        try:
            result = act()
            failed = False
        finally:
            # With after-images alone a snapshot's deletion, done or not, moves the window.
            either = failed and self.shape.images == "after"
            self.expectation.oldest = None if either else self._promised()
        self.on_step()
        if after.wanted is not None:
            after.model, after.wanted = follow(after, self.store), None
        after.untimed = None
        if acknowledges:
            after.low = after.model.seq
        if self.store.seq != after.model.seq:
            raise Failure(f"the store is at {self.store.seq}, the model at {after.model.seq}")
        self.generation += 1
        self._settled(after)
        return result

    def _refused(self, own: bool = False) -> None:
        """What is pinned was in the way: nothing has changed. Go on without it."""
        if not (self.world.pinned or own):
            raise Failure("refused, though nothing is pinned")
        self.world.model = cut(self.model, self.store.seq)
        self._settled(self.world)
        self.unpin()

    def _settled(self, world: World) -> None:
        with suppress(jrnl.StoreClosed):
            world.model = folded(world.model, self.store)
        self.world = world
        self.expectation = Expectation([world], oldest=self._promised())

    def _promised(self) -> int | None:
        """The oldest state that is kept, as far as the store can be asked."""
        with suppress(Exception):
            return self.store.window.oldest
        return self.expectation.oldest

    def _branch(self, **changes: object) -> World:
        world = World(copied(self.model), self.world.low, None, dict(self.world.recoveries),
                      pinned=self.world.pinned)  # fmt: skip
        for name, value in changes.items():
            setattr(world, name, value)
        return world

    def _tick(self) -> int:
        self.now += 1000
        return self.now

    # The calls of a host.

    def write(self, volume: int, offset: int, length: int) -> None:
        length = min(length, self.shape.sizes[volume] - offset)
        fill = self.rng.random()
        data = bytes([self.rng.randrange(3)]) * length if fill < 0.1 else self.rng.randbytes(length)
        self.model.write(volume, offset, data, self._tick())
        self._simple(lambda: self._volume(volume).write(offset, data))

    def write_many(self, volume: int, offsets: list[int], length: int) -> None:
        data, time_ns = self.rng.randbytes(length * len(offsets)), self._tick()
        for k, offset in enumerate(offsets):
            self.model.write(volume, offset, data[k * length : (k + 1) * length], time_ns)
        self._simple(lambda: self._volume(volume).write_many(offsets, data))

    def zero(self, kind: Kind, volume: int, offset: int, length: int) -> None:
        self.model.zero(kind, volume, offset, length, self._tick())
        target = self._volume(volume)
        call = target.discard if kind == Kind.DISCARD else target.write_zeroes
        self._simple(lambda: call(offset, length))

    def flush(self) -> None:
        self.model.flush(self._tick())
        self._simple(lambda: self._flushed(self.store.flush()))
        self.world.low = self.model.seq
        self._settled(self.world)

    def _flushed(self, seq: int) -> int:
        """Beside what is pinned there may be no room for a FLUSH; all is durable without one."""
        if self.world.pinned and seq == self.model.seq - 1:
            self.world.model = cut(self.model, seq)
        return seq

    def pin(self) -> None:
        """A mark that keeps its state; durable when the call returns."""
        name = self._name("p")
        self.model.mark(name, self._tick())
        self.world.half_pinned = frozenset({name})
        # With after-images alone its state is rebuilt from the last snapshot: all since then stays.
        own = self.shape.images == "after"
        self._simple(lambda: self.store.mark(name, pinned=True).seq, own)
        self.world.half_pinned = frozenset()
        if name in self.model.marks:
            self.world.pinned |= {name}
            self.world.low = self.model.seq
        self._settled(self.world)

    def unpin(self) -> None:
        """Let every pinned mark go."""
        for name in sorted(self.world.pinned):
            self.world.half_pinned, low = frozenset({name}), self.world.low
            self.world.pinned -= {name}
            self._simple(lambda name=name: self.store.unpin(name) or self.model.seq)
            self.world.half_pinned, self.world.low = frozenset(), low
            self._settled(self.world)

    def mark(self) -> None:
        name = self._name("m")
        self.model.mark(name, self._tick())
        self._simple(lambda: self.store.mark(name).seq)

    def snapshot(self) -> None:
        name = self._name("n")
        after = self._branch(low=self.model.seq)
        after.model.snapshots[name] = self.model.seq
        self._tick()
        self._atomic(after, lambda: self.store.snapshot(name))

    def copy(self, whole: bool) -> None:
        """Make a piece of a snapshot's copy, or all of it."""
        copier = self.store._session.copier

        def act() -> int:
            while copier.step() and whole:
                pass
            return self.store.seq

        self._simple(act)

    def delete_snapshot(self, name: str) -> None:
        after = self._branch()
        del after.model.snapshots[name]
        self._atomic(after, self.store.snapshots[name].delete, acknowledges=False)

    def restore(self, to: int, again: bool = False) -> None:
        state = self.model.states[to]
        recovery = self.store.recover(to)
        if again:
            recovery, first = recovery.again(), recovery
            first.close()
        self._look_at(recovery, state)
        self._tick()
        self._restore(recovery, state)

    def _restore(self, recovery: jrnl.Recovery, state: State, only: int | None = None) -> None:
        """Restore all volumes, or one."""
        kept = {recovery.id: (recovery.seq, state)}
        wanted = state
        if only is not None:
            now = self.model.now
            wanted = (*now[:only], state[only], *now[only + 1 :])
        names = None if only is None else [self.shape.names[only]]
        if recovery.id in self.world.recoveries:
            self.world.moving |= kept  # as it was, or as it is now
        else:
            self.world.recoveries |= kept
        after = self._branch(wanted=wanted)
        after.recoveries |= kept
        after.moving = {}
        try:
            self._atomic(after, lambda: recovery.restore(volumes=names))
        except JournalFull:
            self._refused()

    def seek(self, to: int) -> None:
        """Restore an undoable recovery, move it, and restore it again, one of its volumes."""
        recovery = self.store.recover(to, undoable=True)
        self._look_at(recovery, self.model.states[to])
        self._restore(recovery, self.model.states[to])
        then = self.rng.choice(self.kept()[-20:])
        recovery.seek(then)
        self._look_at(recovery, self.model.states[then])
        self._tick()
        self._restore(recovery, self.model.states[then], self.rng.randrange(len(self.shape.sizes)))

    def close_recoveries(self, all_but: int = 0) -> None:
        for recovery in list(self.store.recoveries.values())[all_but:]:
            after = self._branch()
            after.recoveries.pop(recovery.id, None)
            self._atomic(after, recovery.close, acknowledges=False)

    def rewind(self, to: int, close: bool = True) -> None:
        if close:
            self.close_recoveries()
        if to == self.model.seq:
            return
        after = self._branch()
        after.model.rewind(to, self.kept()[0], self._tick())
        after.low = after.untimed = after.model.seq
        self._atomic(after, lambda: self.store.rewind(to))

    def savepoint(self, fails: bool) -> None:
        """Write in a savepoint, and leave it as by an exception or not."""
        self.close_recoveries()
        savepoint = self.store.savepoint()
        savepoint.__enter__()
        start = self.model.seq
        self.write(0, 1024, 700)
        if not fails:
            savepoint.__exit__(None, None, None)
            return
        after = self._branch()
        after.model.rewind(start, self.kept()[0], self._tick())
        after.low = after.untimed = after.model.seq
        self._atomic(after, lambda: savepoint.__exit__(KeyError, KeyError(), None))

    def kept(self) -> list[int]:
        """Return the states that the window offers, oldest first."""
        rows = [row[0] for row in self.store.journal.entries.tolist()]
        before = [entry.seq for entry in self.model.entries if not rows or entry.seq < rows[0]]
        kept = [before[-1] if before else 0, *rows]
        return [seq for seq in kept if seq >= self.store.window.oldest]

    def _volume(self, volume: int) -> object:
        return self.store.volumes[f"v{volume}"]

    def _look_at(self, image: object, state: tuple[bytes, ...]) -> None:
        names = self.shape.names
        for name, size, content in zip(names, self.shape.sizes, state, strict=True):
            if image.read(0, size, name) != content:
                raise Failure(f"{image!r} is wrong")

    def _name(self, letter: str) -> str:
        self.named += 1
        return f"{letter}-{self.named}"

    # Operations: one or a few steps, at places that the host's dice give.

    def do(self, name: str) -> None:
        """Do an operation by its name in OPERATIONS."""
        self.done.append(name)
        OPERATIONS[name](self)


def _somewhere(host: Host, step: int) -> tuple[int, int]:
    volume = host.rng.randrange(len(host.shape.sizes))
    return volume, host.rng.randrange(host.shape.sizes[volume] // step) * step


def write_sectors(host: Host) -> None:
    host.write(*_somewhere(host, SECTOR), host.rng.choice((1, 2, 3)) * SECTOR)


def write_inside(host: Host) -> None:
    """Fewer bytes than a sector, inside one."""
    volume, offset = _somewhere(host, SECTOR)
    host.write(volume, min(offset + 100, host.shape.sizes[volume] - 1), host.rng.choice((1, 300)))


def write_across(host: Host) -> None:
    """Across sectors, and across a block's border."""
    volume = host.rng.randrange(len(host.shape.sizes))
    host.write(volume, 4096 - host.rng.choice((1, 77, 700)), host.rng.choice((101, 1300)))


def write_end(host: Host) -> None:
    """Up to the end of the volume that ends inside a sector."""
    host.write(1, host.shape.sizes[1] - host.rng.choice((1, 400, 900)), 900)


def write_many(host: Host) -> None:
    volume = host.rng.randrange(len(host.shape.sizes))
    length = host.rng.choice((100, SECTOR))
    places = (host.shape.sizes[volume] - length) // SECTOR
    offsets = [host.rng.randrange(places) * SECTOR for _ in range(host.rng.choice((2, 3, 5)))]
    host.write_many(volume, offsets, length)


def discard(host: Host) -> None:
    host.zero(Kind.DISCARD, 0, host.rng.choice((0, 4096, 8192)), 4096)


def write_zeroes(host: Host) -> None:
    host.zero(Kind.ZEROES, host.rng.randrange(2), host.rng.choice((10, 1024)), 1500)


def flush(host: Host) -> None:
    host.flush()


def mark(host: Host) -> None:
    host.mark()


def pin(host: Host) -> None:
    """Pin a mark, or unpin the one that is."""
    if host.world.pinned:
        host.unpin()
    elif (
        host.shape.images == "both"
        or host.store.window.oldest in host.model.snapshots.values()  # which leads to the state
    ):
        host.pin()


def snapshot(host: Host) -> None:
    if len(host.model.snapshots) < 3:
        host.snapshot()
    else:
        delete_snapshot(host)


def copy(host: Host) -> None:
    host.copy(whole=True)


def copy_bit(host: Host) -> None:
    host.copy(whole=False)


def delete_snapshot(host: Host) -> None:
    if host.shape.images == "after":
        host.unpin()
    if host.model.snapshots:
        host.delete_snapshot(host.rng.choice(sorted(host.model.snapshots)))


def restore(host: Host) -> None:
    host.restore(host.rng.choice(host.kept()[-20:]))
    if host.rng.random() < 0.6:
        host.close_recoveries()


def restore_kept(host: Host) -> None:
    """Restore, and keep the recovery: what it preserves has to outlive all that follows."""
    host.close_recoveries(all_but=1)
    host.restore(host.rng.choice(host.kept()[-20:]))


def rewind_under(host: Host) -> None:
    """Rewind to before what recoveries preserve: taken up by an opening, they are in no way."""
    reopen(host)
    if host.shape.images == "both":
        pinned = max((host.model.marks[name] for name in host.world.pinned), default=0)
        host.rewind(host.rng.choice([seq for seq in host.kept()[-20:] if seq >= pinned]), False)


def again(host: Host) -> None:
    host.restore(host.rng.choice(host.kept()[-20:]), again=True)
    host.close_recoveries()


def seek(host: Host) -> None:
    if host.shape.images == "both":
        host.seek(host.rng.choice(host.kept()[-20:]))
        host.close_recoveries()


def rewind(host: Host) -> None:
    if host.shape.images == "both":
        pinned = max((host.model.marks[name] for name in host.world.pinned), default=0)
        host.rewind(host.rng.choice([seq for seq in host.kept()[-20:] if seq >= pinned]))


def savepoint(host: Host) -> None:
    if host.shape.images == "both":
        host.savepoint(host.rng.random() < 0.7)


def reopen(host: Host) -> None:
    host.close()
    host.open()


def read_only(host: Host) -> None:
    """Close, open for reading only, which writes nothing, and open for writing again."""
    host.close()
    moment = host.disk.moment()
    host.open("r")
    host.store.close()
    if host.disk.changes != moment.changes or host.disk.durable != moment.durable:
        raise Failure("opening for reading only wrote something")
    host.open()


def fill(host: Host) -> None:
    """Write about one lap of the ring."""
    count = host.shape.journal // (5 * SECTOR)
    for k in range(count):
        host.write(*_somewhere(host, SECTOR), 2 * SECTOR)
        if k % 9 == 8:
            host.flush()


OPERATIONS: dict[str, Callable[[Host], None]] = {
    operation.__name__: operation
    for operation in (
        write_sectors,
        write_inside,
        write_across,
        write_end,
        write_many,
        discard,
        write_zeroes,
        flush,
        mark,
        pin,
        snapshot,
        copy,
        copy_bit,
        delete_snapshot,
        restore,
        restore_kept,
        rewind_under,
        again,
        seek,
        rewind,
        savepoint,
        reopen,
        read_only,
        fill,
    )
}
WRITES = ("write_sectors", "write_inside", "write_across", "write_end", "write_many")
COMMON = (*WRITES, *WRITES, "flush", "flush", "discard", "write_zeroes", "mark",
          "copy_bit")  # fmt: skip
BACK = ("restore", "restore_kept", "again", "seek", "rewind", "rewind_under", "savepoint",
        "reopen")  # fmt: skip
RARE = ("pin", "snapshot", "copy", "delete_snapshot", *BACK)
# The kinds of life: all alike, much wrapping, back and forth.
MIXES = (
    (*COMMON, *RARE, "read_only"),
    (*COMMON, *COMMON, "fill", "snapshot", "reopen", "restore", "restore_kept", "rewind"),
    (*WRITES, "flush", "rewind", "rewind", "restore", "savepoint", "snapshot", "reopen",
     "copy_bit", "copy"),
)  # fmt: skip


def sequences(images: str = "both", length: int = 3) -> Iterator[tuple[str, ...]]:
    """Yield every sequence of up to `length` operations."""
    idle = () if images == "both" else ("seek", "rewind", "savepoint")
    names = [name for name in OPERATIONS if name not in idle]
    for count in range(1, length + 1):
        yield from itertools.product(names, repeat=count)
