"""The writer that ships, in the simulation: segments, snapshots in chunks and packs, lists.

What it asks of a store is made up: a volume of four blocks, of which each entry writes one. Its
threads are actors of the same process, which share its turns with all others.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np

from jrnl._core import FORMAT
from jrnl.archive import chunks, lists, packs, writer
from jrnl.archive.ledger import Ledger
from jrnl.archive.manifest import (
    Manifest,
    Origin,
    SegmentFacts,
    SnapshotFacts,
    manifest_key,
    sum_of,
)
from jrnl.archive.objects import ObjectMissing
from jrnl.archive.reader import Reader
from jrnl.archive.segment import NOTHING, SEGMENT_ROW, Segment
from jrnl.archive.state import ArchiveState
from jrnl.archive.table import Table
from jrnl.archive.writer import Policy, Writer
from jrnl.errors import ArchiveError, CorruptionError, Fenced, FormatError, PointExpired
from tests.archive.sim import oracle
from tests.archive.sim.actors import ORIGIN, TRIES
from tests.archive.sim.oracle import Oracle, Wrong, must
from tests.archive.sim.wire import SECOND
from tests.archive.sim.world import Actor, Crashed, World

BLOCK, BLOCKS = 4096, 4
SIZE = BLOCK * BLOCKS
LENGTH = 100  # of what an entry writes
WINDOW = 6  # entries that a store remembers
_WRITE = FORMAT["kinds"]["WRITE"]
_EXTENT = np.dtype([("offset", "<u8"), ("length", "<u8")])

STORE = replace(ORIGIN, volumes=[["v", SIZE]])
History = tuple[str, ...]  # by whom each entry was made, from the first on


def written(seq: int, who: str) -> bytes:
    return f"{who} wrote {seq}.".encode().ljust(LENGTH, b".")


def content(history: History, seq: int) -> bytes:
    """Return the volume at a state."""
    found = bytearray(SIZE)
    for entry in range(1, seq + 1):
        at = entry % BLOCKS * BLOCK
        found[at : at + LENGTH] = written(entry, history[entry - 1])
    return bytes(found)


# What a writer asks of a store.


class State:
    """A state, as `build` reads it."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._indices = {"v": 0}

    def _size(self, index: int) -> int:
        return SIZE

    def _data_extents(self, index: int) -> Any:
        return np.array([(0, SIZE)], _EXTENT)

    def _readinto(self, index: int, offset: int, buffer: memoryview) -> None:
        buffer[:] = self._body[offset : offset + len(buffer)]


class Source:
    """A store that is archived, with a short memory."""

    images = "both"

    def __init__(self, world: World, who: str) -> None:
        self.world, self.who = world, who
        self.history: History = ()
        self.store = self

    @property
    def durable_seq(self) -> int:
        return len(self.history)

    @property
    def window(self) -> Any:
        return SimpleNamespace(oldest=max(0, len(self.history) - WINDOW))

    def grow(self, count: int) -> None:
        self.history += (self.who,) * count

    def check_follows(self, base: Manifest | None, url: str) -> Origin:
        """Whoever goes on has followed so far; what it had beyond that is given up."""
        if base is not None:
            told = self.world.oracle.histories[base.sum]  # type: ignore[attr-defined]
            if self.history[: base.seq] != told[: max(base.seq, 0)]:
                self.history = told[: max(base.seq, 0)]
        return STORE

    def marks(self) -> Iterator[tuple[str, list[object]]]:
        return iter(())

    def hold(self, seq: int, keep: Callable[[Any], object], **_: Any) -> None:
        if seq < self.window.oldest:
            raise PointExpired
        state = State(content(self.history, seq))
        now = self.world.clock()
        keep(SimpleNamespace(seq=seq, time_ns=now, close=lambda: None, state=state))

    def take(self, after: int, upto: int) -> Segment | None:
        if after < self.window.oldest:
            raise PointExpired
        if after >= upto:
            return None
        last = min(upto, after + 2)
        rows = np.zeros(last - after, SEGMENT_ROW)
        rows["seq"] = np.arange(after + 1, last + 1)
        rows["time_ns"], rows["kind"] = self.world.clock(), _WRITE
        rows["offset"], rows["length"] = rows["seq"] % BLOCKS * BLOCK, LENGTH
        rows["position"] = np.arange(rows.size) * LENGTH
        data = b"".join(written(k, self.history[k - 1]) for k in range(after + 1, last + 1))
        return Segment(after, rows, memoryview(data))


# Its threads.


class Job:
    """What another thread of the same process does, by turns; see `concurrent.futures.Future`."""

    def __init__(self, owner: Actor) -> None:
        self.owner = owner
        self.value: Any = None
        self.error: Exception | None = None
        self.over = False

    def run(self, call: Callable[[], Any]) -> None:
        try:
            self.value = call()
        except Exception as error:
            self.error = error
        self.over = True

    def done(self) -> bool:
        return self.over

    def result(self) -> Any:
        if not self.over:
            self.owner.waits_for = self.done
            try:
                self.owner.turn("wait")
            finally:
                self.owner.waits_for = None
        if self.error is not None:
            raise self.error
        return self.value


class Copier:
    """A thread of a writer's process, in which snapshots are made."""

    def __init__(self, owner: Actor) -> None:
        self.owner = owner
        self.actors: list[Actor] = []

    def submit(self, call: Callable[..., Any], *args: Any) -> Job:
        job, world = Job(self.owner), self.owner.world

        def live(actor: Actor) -> None:
            _doors[actor.player] = actor
            try:
                job.run(lambda: call(*args))
            except Crashed:  # both threads go; the other one has not yet, or has gone first
                self.owner.is_dead = self.owner.is_dead or not actor.is_dead
                raise
            finally:
                del _doors[actor.player]

        world.add(f"{self.owner.name}'s copier", live)
        self.actors.append(world.actors[-1])
        return job

    def die(self) -> None:
        for actor in self.actors:
            actor.is_dead = True

    def shutdown(self, **_: Any) -> None:
        pass


class AtOnce:
    """A pool that does everything in the caller's thread."""

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def submit(self, call: Callable[..., Any], *args: Any) -> Future[Any]:
        done: Future[Any] = Future()
        try:
            done.set_result(call(*args))
        except Exception as error:
            done.set_exception(error)
        return done

    def shutdown(self, **_: Any) -> None:
        pass


_doors: dict[Any, Actor] = {}


def of_process(owner: Actor) -> Any:
    """Return the store as a process has it: a call is a turn of the thread that makes it."""
    return owner.world.objects(owner, lambda: _doors.get(threading.current_thread(), owner))


@contextmanager
def made_small() -> Iterator[None]:
    """Have a few segments make a list, no thread of its own put anything, and packs be small."""
    with ExitStack() as stack:
        for module, name, value in (
            (writer, "NAMED_MOST", 1), (writer, "LISTED", 1),
            (writer, "ThreadPoolExecutor", AtOnce),
            (chunks, "ThreadPoolExecutor", AtOnce), (packs, "ThreadPoolExecutor", AtOnce),
            (chunks, "BATCH_BYTES", 1 << 16), (packs, "PACK_BYTES", 1 << 16),
            (writer, "take", lambda source, after, upto, most: source.take(after, upto)),
        ):  # fmt: skip
            stack.enter_context(patch.object(module, name, value))
        yield


# What must hold.


class StateOracle(Oracle):
    """Every state that is archived can be had, until it is too old."""

    def __init__(self) -> None:
        super().__init__()
        self.sources: dict[str, Source] = {}  # by writer
        self.histories: dict[str, History] = {}  # by the sum of a manifest
        self._inside: dict[str, list[Any]] = {}

    def inside(self, key: str, read: Callable[[bytes, str], list[Any]]) -> list[Any]:
        """Return what a list or a table names."""
        if key not in self._inside:
            self._inside[key] = read(self.bodies[key], key)
        return self._inside[key]

    def names(self, manifest: Manifest) -> list[str]:
        found = [*manifest.keys()]
        for facts in manifest.lists:
            must(facts.key in self.bodies, f"{facts.key} was never there")
            found += [each.key for each in self.inside(facts.key, rows_in)]
        for snapshot in manifest.snapshots:
            must(snapshot.key in self.bodies, f"{snapshot.key} was never there")
            found += [pack.key for pack in self.inside(snapshot.key, packs_in)]
        return found

    def expanded(self, manifest: Manifest) -> list[SegmentFacts]:
        older = [each for facts in manifest.lists for each in self.inside(facts.key, rows_in)]
        return [*older, *manifest.segments]

    def _loses_nothing(self, old: Manifest | None, new: Manifest, what: str) -> None:
        told: History = self.histories[old.sum] if old else ()
        if new.kind == "publish":
            told = self.sources[new.writer].history[: new.seq]
        self.histories[new.sum] = told
        if old is None:
            return
        must(new.seq >= old.seq, f"{what} goes back")
        must(told[: max(old.seq, 0)] == self.histories[old.sum], f"{what} has another history")
        if new.kind != "publish":
            same = (old.segments, old.lists, old.snapshots) == (
                new.segments, new.lists, new.snapshots
            )  # fmt: skip
            must(same, f"{what} names something else")
        if new.lists != old.lists:
            really_parse(new)
        oldest = new.snapshots[0].seq if new.snapshots else 0
        must(new.seq < 0 or bool(new.snapshots), f"{what} has no snapshot")
        before = reachable(old.snapshots, self.expanded(old), old.seq)
        after = reachable(new.snapshots, self.expanded(new), new.seq)
        lost = {seq for seq in before if seq >= oldest} - after
        must(not lost, f"{what} loses the states {sorted(lost)}")
        must(new.seq < 0 or new.seq in after, f"{what} does not lead to its own state")


def really_parse(manifest: Manifest) -> None:
    """Have the shipping code read it, which checks that it is in order."""
    try:
        oracle.PARSE(oracle.TO_BYTES(manifest), manifest_key(manifest.n))
    except FormatError as error:
        raise Wrong(f"manifest {manifest.n} cannot be read: {error}") from error


def rows_in(body: bytes, key: str) -> list[SegmentFacts]:
    one = SimpleNamespace(get=lambda key, most: body)
    return lists.listed(one, SimpleNamespace(key=key, sum=sum_of(body)))  # type: ignore[arg-type]


def packs_in(body: bytes, key: str) -> list[Any]:
    return [*Table.parse(body, key, [SIZE]).packs]


def reachable(snapshots: list[SnapshotFacts], segments: list[SegmentFacts], seq: int) -> set[int]:
    """Return the states that can be had: a snapshot's, and those that segments lead on to."""
    found = set()
    for snapshot in snapshots:
        at = snapshot.seq
        found.add(at)
        for each in segments:
            if each.base <= at < each.last:
                found.update(range(at + 1, each.last + 1))
                at = each.last
    return {each for each in found if each <= seq}


# Actors.


def archiver(steps: int, keep_s: int | None = None) -> Callable[[Actor], None]:
    """A writer that ships, with a store that grows between its steps."""

    def live(actor: Actor) -> None:
        world, told = actor.world, actor.world.oracle
        assert isinstance(told, StateOracle)
        who = world.new_id()
        source = told.sources[who] = Source(world, who)
        ledger = Ledger(of_process(actor), clock=world.clock, writer=who)
        policy = Policy(snapshot_bytes=300, keep_ns=None if keep_s is None else keep_s * SECOND)
        one = Writer(source, ledger, policy)  # type: ignore[arg-type]
        copier = one._copier = Copier(actor)  # type: ignore[assignment]
        try:
            work(actor, one, source, steps)
        except Fenced:
            told.fences(who)
            world.counts["fenced"] += 1
            stays_fenced(one)
        except Crashed:
            copier.die()
            raise
        one.close()

    return live


def work(actor: Actor, one: Writer, source: Source, steps: int) -> None:
    """Begin, then grow and step; what is archived is so."""
    world, rules = actor.world, actor.world.oracle
    for _ in range(TRIES):
        try:
            one.begin()
            break
        except ArchiveError:
            continue
    else:
        return
    for _ in range(steps):
        source.grow((1, 2, WINDOW + 2)[world.chooser.pick((0.6, 0.3, 0.1))])
        for _ in range(3):
            try:
                more = one.step()
            except ArchiveError:
                continue
            current = one.ledger.current
            assert current is not None
            rules.acknowledges(source.who, current, [])
            told = rules.histories[current.sum]  # type: ignore[attr-defined]
            must(told == source.history[: max(current.seq, 0)], "another history is archived")
            world.counts["acknowledged"] += 1
            if not more:
                break


def stays_fenced(one: Writer) -> None:
    has_begun = one.ledger.current is not None
    for call in (one.step, one.begin) if has_begun else (one.begin,):
        try:
            call()
        except (Fenced, ArchiveError):
            continue
        must(call != one.begin, f"{one.ledger.writer} was fenced, and goes on")


def state_reader(times: int) -> Callable[[Actor], None]:
    def live(actor: Actor) -> None:
        world = actor.world
        ledger = Ledger(world.objects(actor), clock=world.clock, writer="0")
        for _ in range(times):
            since = world.clock()
            try:
                manifest = ledger.look()
                if manifest is not None:
                    world.oracle.opened(manifest, since)
                    read_states(actor, manifest, since)
            except ArchiveError:
                continue

    return live


def read_states(actor: Actor, manifest: Manifest, since: int) -> None:
    """Read the oldest and the newest state of a manifest, by all that leads to them."""
    world, objects = actor.world, actor.world.objects(actor)
    told = world.oracle.histories[manifest.sum]  # type: ignore[attr-defined]
    try:
        whole = lists.expanded(objects, manifest)
        for seq in {each.seq for each in manifest.snapshots[:1]} | {max(manifest.seq, 0)}:
            way = whole.way_to(seq)
            if way is None:
                must(seq == 0, f"nothing leads to state {seq} in manifest {manifest.n}")
                continue
            got = state_of(objects, *way, seq)
            if seq == manifest.seq:
                must(shipped(objects, manifest) == got, f"state {seq} is read in another way")
            must(got == content(told, seq), f"state {seq} never was, in manifest {manifest.n}")
            world.counts["states read"] += 1
    except ObjectMissing as error:
        world.oracle.missed(str(error), manifest, since)
    except CorruptionError as error:
        must("is missing" in str(error), str(error))
        world.oracle.missed(str(error), manifest, since)


def shipped(objects: Any, manifest: Manifest) -> bytes:
    """Return the volume at the newest state, as a user reads it."""
    found = bytearray(SIZE)
    with ArchiveState(Reader(objects, manifest, AtOnce()), manifest.seq, 1 << 20) as state:
        state._readinto(0, 0, memoryview(found))
    return bytes(found)


def state_of(
    objects: Any, snapshot: SnapshotFacts, segments: list[SegmentFacts], seq: int
) -> bytes:
    """Return the volume at a state, from its snapshot and the segments after that."""
    table = Table.parse(objects.get(snapshot.key), snapshot.key, [SIZE])
    found = bytearray(SIZE)
    for row in table.rows:
        (chunk,) = table.read(objects, [int(row["chunk"])])
        at, length, skip = int(row["offset"]), int(row["length"]), int(row["skip"])
        found[at : at + length] = chunk[skip : skip + length]
    for facts in segments:
        segment = Segment.parse(objects.get(facts.key), facts.key)
        for row in segment.rows:
            if snapshot.seq < row["seq"] <= seq and row["position"] != NOTHING:
                at = int(row["offset"])
                found[at : at + int(row["length"])] = segment.written(row)
    return bytes(found)
