"""What must be true of a store that was opened after anything.

A world is one history that may have happened. An operation that is all or nothing has two, before
it and after it, until it returns; any other has one, of which a crash may leave any state not older
than what was acknowledged.
"""

from __future__ import annotations

import random
from bisect import bisect_right
from copy import copy
from dataclasses import dataclass, field
from itertools import pairwise
from operator import itemgetter

import jrnl
from jrnl import JrnlError, Kind, PointExpired
from tests.model.whole import Entry, Model, State

# A report may tell of what a crash had torn, and opening has put right.
HEALED = ("super.", "the index is damaged; it was made again")


class Failure(AssertionError):
    """The store broke a promise."""


def copied(model: Model) -> Model:
    """Return a model of its own; the states, which never change, are shared."""
    other = copy(model)
    for name in ("states", "entries", "dropped", "successor", "idle", "snapshots", "marks"):
        setattr(other, name, getattr(model, name).copy())
    return other


def cut(model: Model, seq: int) -> Model:
    """Return the model as it was at a state: what came later is forgotten, its seqs are free."""
    other = copied(model)
    other.seq = seq
    other.states = {k: state for k, state in model.states.items() if k <= seq}
    other.entries = entries_upto(model, seq)
    other.dropped = {k for k in model.dropped if k <= seq}
    other.successor = {k: by for k, by in model.successor.items() if by <= seq}
    other.marks = {name: k for name, k in model.marks.items() if k <= seq}
    return other


def entries_upto(model: Model, seq: int) -> list[Entry]:
    return model.entries[: bisect_right(model.entries, seq, key=itemgetter(0))]


@dataclass
class World:
    """One history.

    Attributes
    ----------
    model : Model
    low : int
        Nothing older may be found: what was acknowledged.
    wanted : State or None
        The history ends with a restore of this, whose entries nobody has seen yet.
    recoveries : dict of int to (int, State)
        What may be taken up again, by id.
    moving : dict of int to (int, State)
        What some of them may be instead.
    untimed : int or None
        The seq of an entry whose time nobody knows: a rewind that opening may have finished.
    pinned : frozenset of str
        Marks whose states stay, come what may.
    half_pinned : frozenset of str
        Marks that are just being pinned or unpinned.
    """

    model: Model
    low: int = 0
    wanted: State | None = None
    recoveries: dict[int, tuple[int, State]] = field(default_factory=dict)
    moving: dict[int, tuple[int, State]] = field(default_factory=dict)
    untimed: int | None = None
    pinned: frozenset[str] = frozenset()
    half_pinned: frozenset[str] = frozenset()

    def upto(self, seq: int) -> int | None:
        """Return a hash of all that a store found at a state is held against.

        None where it may not be found there, or where what it shows has to be asked for more.
        """
        model = self.model
        settled = self.wanted is None and self.untimed is None and not (self.moving or model.folds)
        if not settled or not self.low <= seq <= model.seq or seq in model.dropped:
            return None
        there = cut(model, seq)
        return hash((
            tuple(there.entries), tuple(there.states.items()), frozenset(there.dropped),
            tuple(there.successor.items()), frozenset(there.snapshots.items()),
            frozenset(there.marks.items()), frozenset(self.recoveries.items()),
            self.pinned, self.half_pinned,
        ))  # fmt: skip

    def kept(self, recovery: jrnl.Recovery) -> tuple[int, State]:
        """Return what a recovery must show."""
        moved = self.moving.get(recovery.id)
        if moved is not None and moved[0] == recovery.seq:
            return moved
        return self.recoveries[recovery.id]


@dataclass
class Expectation:
    """What may be found.

    Attributes
    ----------
    worlds : list of World
        Empty where there was no store.
    absent : bool
        Whether there may be no store at all.
    oldest : int or None
        History from here on is promised; None where nobody could ask.
    """

    worlds: list[World]
    absent: bool = False
    oldest: int | None = None

    def match(self, store: jrnl.Store, rng: random.Random) -> World:
        """Return the history that a store shows, cut to what it has kept. Raises Failure."""
        return self.matched(store, rng)[1]

    def matched(self, store: jrnl.Store, rng: random.Random) -> tuple[World, World]:
        """Return which one it shows, and that, cut to what it has kept. Raises Failure."""
        oldest = store.window.oldest
        if self.oldest is not None and oldest > self.oldest:
            raise Failure(f"history starts at {oldest}, {self.oldest} was promised")
        reasons = []
        for world in self.worlds:
            try:
                found = follow(world, store) if world.wanted else world.model
                found = folded(found, store)
                found = timed(found, world.untimed, store)
                Check(store, found, world, rng).all()
            except (Failure, JrnlError) as failure:
                reasons.append(str(failure))
                continue
            found = cut(found, store.seq)
            ids = store.recoveries
            recoveries = {k: world.kept(ids[k]) for k in world.recoveries if k in ids}
            pinned = frozenset(pin.name for pin in store.pins)
            return world, World(found, store.seq, None, recoveries, pinned=pinned)
        raise Failure("; ".join(reasons))


def follow(world: World, store: jrnl.Store) -> Model:
    """Return the model with a restore's entries, as the store made them, or took them back.

    Raises Failure.
    """
    model, wanted = copied(world.model), world.wanted
    assert wanted is not None
    rows = [Entry(*row) for row in store.journal.entries.tolist()]
    new = [row for row in rows if row.seq > model.seq]
    if [(row.kind, row.offset) for row in new] == [(Kind.REWIND, model.seq)]:
        return taken_back(model, new[0])
    if len(new) != store.seq - model.seq:
        raise Failure(f"entries of a restore from {model.seq + 1} on are not all there")
    for row in new:
        if row.kind == Kind.WRITE:
            data = wanted[row.volume][row.offset : row.offset + row.length]
            model.write(row.volume, row.offset, data, row.time_ns)
        elif row.kind == Kind.FLUSH:
            model.flush(row.time_ns)
    if model.seq != store.seq or model.now != wanted:
        raise Failure(f"a restore after {world.model.seq} was done in part, up to {store.seq}")
    return model


def taken_back(model: Model, rewind: Entry) -> Model:
    """Return the model after a restore of which some entries were made, and then rewound."""
    start, state = model.seq, model.now
    model.dropped.update(range(start + 1, rewind.seq))
    model.seq = rewind.seq - 1
    model.states[model.seq] = state
    replaced = model.entries[-1] if model.entries else None
    model._note(Kind.REWIND, start, 0, rewind.time_ns)
    if replaced is not None and replaced.kind == Kind.REWIND:
        model.successor[start] = model.seq
        del model.entries[-2]
    return model


def folded(model: Model, store: jrnl.Store) -> Model:
    """Return the model with the snapshot that a fold has brought on, or made. Raises Failure.

    One call may fold twice: another snapshot goes on once the first has come to where that stands.
    What they hold is looked at like any other snapshot.
    """
    found = {name: snapshot.seq for name, snapshot in store.snapshots.items()}
    if not model.folds or found == model.snapshots:
        return model
    new = [name for name in found if name not in model.snapshots]
    went_on = [name for name, seq in model.snapshots.items() if found.get(name, seq) != seq]
    went_on.sort(key=lambda name: found[name])
    in_turn = all(found[one] >= model.snapshots[other] for one, other in pairwise(went_on))
    made = len(new) == 1 and not went_on and new[0].split("-")[0] == "base"
    if not (made or (in_turn and not new)):
        raise Failure(f"snapshots {found}, expected {model.snapshots} or folds of the oldest")
    other = copied(model)
    for name in (*new, *went_on):
        if found[name] < model.snapshots.get(name, 0) or model.states.get(found[name]) is None:
            raise Failure(f"a fold has made snapshot {name} state {found[name]}")
        other.snapshots[name] = found[name]
    return other


def timed(model: Model, seq: int | None, store: jrnl.Store) -> Model:
    """Return the model with the time that the store gives to one entry."""
    last = model.entries[-1] if model.entries else None
    rows = [row for row in store.journal.entries.tolist() if row[0] == seq]
    if last is None or last.seq != seq or not rows:
        return model
    other = copied(model)
    other.entries[-1] = last._replace(time_ns=rows[0][1])
    return other


def volumes_of(store: jrnl.Store) -> State:
    return tuple(volume.read(0, volume.size) for volume in store.volumes.values())


COPIED = 0.3  # how often


class Check:
    """A store against one history. Each method raises Failure."""

    def __init__(self, store: jrnl.Store, model: Model, world: World, rng: random.Random) -> None:
        self.store, self.model, self.world, self.rng = store, model, world, rng
        self.sizes = {name: volume.size for name, volume in store.volumes.items()}
        self.kept: list[int] = []

    def all(self) -> None:
        self.production()
        self.journal()
        self.snapshots()
        self.points()
        self.pins()
        self.recoveries()
        told = self.store.verify().problems
        problems = [problem for problem in told if not problem.startswith(HEALED)]
        if problems:
            raise Failure(f"verify: {problems}")

    def production(self) -> None:
        seq, model = self.store.seq, self.model
        if seq > model.seq or seq not in model.states or seq in model.dropped:
            raise Failure(f"seq {seq} is in no history (the newest is {model.seq})")
        if seq < self.world.low:
            raise Failure(f"acknowledged {self.world.low}, found {seq}")
        if volumes_of(self.store) != model.states[seq]:
            raise Failure(f"production is not state {seq}")

    def journal(self) -> None:
        """Its entries are the newest of the model's, and the window says so."""
        store = self.store
        entries = entries_upto(self.model, store.seq)
        rows = store.journal.entries.tolist()
        left = len(entries) - len(rows)
        if left < 0:
            raise Failure(f"{len(rows)} entries, of at most {len(entries)}; the last {rows[-3:]}")
        for row, entry in zip(rows, entries[left:], strict=True):
            if row != tuple(entry):
                raise Failure(f"entry {row}, expected {tuple(entry)}")
        if any(one[1] > other[1] for one, other in pairwise(rows)):
            raise Failure(f"times go back in {rows[-3:]}")
        base = entries[left - 1].seq if left else 0
        self.kept = [base, *(row[0] for row in rows)]
        oldest = base
        if self.model.images == "after":
            snapshots = [k for k in self.model.snapshots.values() if k in self.kept]
            oldest = min(snapshots, default=store.seq)
        if store.window != (oldest, store.seq):
            raise Failure(f"window {store.window}, expected {(oldest, store.seq)}")
        marks = {name: mark.seq for name, mark in store.marks.items()}
        kept = {k for k in self.kept if k >= oldest}
        expected = {name: k for name, k in self.model.marks.items() if k in kept}
        if marks != expected:
            raise Failure(f"marks {marks}, expected {expected}")

    def points(self) -> None:
        """Every state of the window comes back, and none that was dropped."""
        for seq in self.kept:
            if seq >= self.store.window.oldest:
                self._point(seq)
        gone = self.model.dropped - {*self.model.successor, *self.model.snapshots.values()}
        for seq in sorted(gone)[-2:]:
            if self.kept[0] < seq <= self.store.seq:
                try:
                    with self.store.recover(seq):
                        raise Failure(f"state {seq} was dropped and is back")
                except PointExpired:
                    pass

    def pins(self) -> None:
        """Every pinned mark is there, and its state in the window; no other is pinned."""
        found = {pin.name: pin.seq for pin in self.store.pins}
        wanted, allowed = self.world.pinned, self.world.pinned | self.world.half_pinned
        if not wanted <= found.keys() <= allowed:
            raise Failure(f"pinned {sorted(found)}, expected {sorted(wanted)} of {sorted(allowed)}")
        for name, seq in found.items():
            if seq != self.model.marks[name] or seq not in self.kept:
                raise Failure(f"the pinned mark {name} is at {seq}, not {self.model.marks[name]}")

    def _point(self, seq: int, base: str | None = None) -> None:
        state = self.model.states[seq]
        if state is None:
            return
        kept = [k for k in self.model.snapshots.values() if k in self.kept]
        if self.model.images == "after" and base is None and min(kept, default=seq + 1) > seq:
            return  # production itself, which no view can follow
        if base is None:
            with self.store.view(seq) as image:
                found = tuple(image.read(0, size, name) for name, size in self.sizes.items())
        else:
            with self.store.recover(seq, base) as image:
                found = tuple(image.read(0, size, name) for name, size in self.sizes.items())
        if found != state:
            raise Failure(f"state {seq} comes back wrong from {base or 'the cheapest base'}")

    def snapshots(self) -> None:
        found = {name: snapshot.seq for name, snapshot in self.store.snapshots.items()}
        if found != self.model.snapshots:
            raise Failure(f"snapshots {found}, expected {self.model.snapshots}")
        for name, snapshot in self.store.snapshots.items():
            content = tuple(snapshot.read(0, size, v) for v, size in self.sizes.items())
            if content != self.model.states[snapshot.seq]:
                raise Failure(f"snapshot {name} is not state {snapshot.seq}")
            self._routes(name, snapshot.seq)
            if not (snapshot.complete or self.store._session.log.read_only):
                self._copied(snapshot)

    def _copied(self, snapshot: jrnl.Snapshot) -> None:
        """Now and then, a copy that was under way is made, and is right."""
        if self.rng.random() < COPIED:
            snapshot.wait()
            content = tuple(snapshot.read(0, size, v) for v, size in self.sizes.items())
            if content != self.model.states[snapshot.seq] or not snapshot.complete:
                raise Failure(f"the copy of snapshot {snapshot.name} is not state {snapshot.seq}")

    def _routes(self, name: str, seq: int) -> None:
        """From a snapshot to some of the states: the nearest ones, the ends, one at random."""
        if seq not in self.kept:
            return
        k = self.kept.index(seq)
        some = {0, k - 1, k, k + 1, len(self.kept) - 1, self.rng.randrange(len(self.kept))}
        for k in sorted(some & set(range(len(self.kept)))):
            if self.model.images == "both" or self.kept[k] >= seq:
                self._point(self.kept[k], name)

    def recoveries(self) -> None:
        for number, recovery in list(self.store.recoveries.items()):
            if number not in self.world.recoveries:
                raise Failure(f"recovery {number} is in no history")
            seq, state = self.world.kept(recovery)
            with recovery.again() as again:
                found = tuple(again.read(0, size, name) for name, size in self.sizes.items())
            if recovery.seq != seq or found != state:
                raise Failure(f"recovery {number} of state {seq} is another one now")
