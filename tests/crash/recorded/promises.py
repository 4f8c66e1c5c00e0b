"""What a crash at one place of a recording may leave, by what had been acknowledged there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import xxhash

from jrnl import Kind
from tests.crash.expect import Failure
from tests.crash.recorded.history import (
    Done,
    Effect,
    Entry,
    Life,
    Silent,
    World,
    parts_of,
)


@dataclass
class Promise:
    """What holds if the power fails before the record `at`.

    Attributes
    ----------
    low : int
        Nothing older may be found.
    oldest : int or None
        History from here on is promised.
    must, may : by kind ("snapshots", "pins", "recoveries")
        What is there, what may be there.
    pending : list of Done
        Calls that have begun and not returned, or failed in the middle.
    """

    world: World
    effects: dict[int, Effect]
    low: int
    oldest: int | None
    pending: list[Done]
    must: dict[str, dict[Any, Any]] = field(default_factory=dict)
    may: dict[str, dict[Any, Any]] = field(default_factory=dict)
    absent: bool = False
    closed: bool = False  # in order: no group is in doubt
    used: set[tuple[int, int]] = field(default_factory=set)  # by entries in `effects` (Silent)

    def kept_by(self, facts: Facts) -> bool:
        """Whether what a state has shown under an earlier promise is enough for this one, too."""
        found = {"snapshots": facts.snapshots, "pins": facts.pins, "recoveries": facts.recoveries}
        return (
            not self.absent
            and facts.seq >= self.low
            and (self.oldest is None or facts.oldest <= self.oldest)
            and all(self.must[kind].keys() <= there.keys() for kind, there in found.items())
            and all(
                there.keys() <= self.must[kind].keys() | self.may[kind].keys()
                for kind, there in found.items()
            )
        )


class Promises:
    """Those of one life, at each of its records."""

    def __init__(self, life: Life, base: World, always: bool, before: Promise | None) -> None:
        self.life, self.base, self.always = life, base, always
        self.before = before  # what held when the life began; None where it made the store
        self.world, self.effects = life.world(base)

    def wrong(self) -> Iterator[str]:
        """Say what the life has read that was never there."""
        for seen in self.life.seen:
            state = self.world.states.get(seen["seq"])
            if state is not None and xxhash.xxh3_64_hexdigest(b"".join(state)) != seen["digest"]:
                yield f"in the life, the {seen['saw']} of state {seen['seq']} read wrong"
        yield from self._halves()

    def _halves(self) -> Iterator[str]:
        """Say which batches that failed were done in part, though the store went on."""
        effects, calls = self.life.effects(), self.life.calls
        rows = {row[1:] for seq, row in self.life.rows.items() if seq not in effects}
        for done in calls:
            if done.name != "write_many" or done.error is None:
                continue
            parts = {(*part[:3], len(part[3])) for part in parts_of(done)}
            went_on = any(
                other.name in ("write", "flush") and other.happened and other.begun > done.ended
                for other in calls
            )
            if went_on and 0 < len(parts & rows) < len(parts):
                yield f"half of a batch that raised {done.error} is there: {done.args}"

    def at(self, index: int) -> Promise:
        """Return what holds when so many records have happened."""
        if index <= self.life.opened_at and self.before is not None:
            return self.before
        calls, base = self.life.calls, self.base
        begun = [done for done in calls if done.begun < index]
        low = base.low
        must = {
            "snapshots": dict(base.snapshots),
            "pins": dict.fromkeys(base.pinned),
            "recoveries": dict(base.recoveries),
        }
        may: dict[str, dict[Any, Any]] = {kind: {} for kind in must}
        pending = []
        for done in begun:
            ended = done.ended < index
            if ended and done.error is None:
                low = max(low, self._durable(done))
            elif done.ended >= index or done.may_have_happened:
                pending.append(done)
            self._named(done, ended and done.error is None, must, may)
        later = [done.oldest for done in calls if done.begun >= index and done.oldest is not None]
        oldest = min(later, default=None)  # as asked after the crash: it only goes up
        absent = index <= self.life.opened_at
        return Promise(
            self.world,
            self.effects,
            low,
            oldest,
            pending,
            must,
            may,
            absent,
            _closed(begun, index),
            self.life.used,
        )

    def _durable(self, done: Done) -> int:
        result = done.result
        if done.name in ("flush", "snapshot", "close"):
            return int(result)
        if done.name == "restore":
            return int(result["last"])
        if done.name == "rewind":
            return int(result["seq"]) if result["entries"] else 0
        if done.name == "mark" and (done.args.get("pinned") or self.always):
            return int(result)
        if (
            self.always
            and isinstance(result, int)
            and done.name
            in (
                "write",
                "write_many",
                "discard",
                "zero",
            )
        ):
            return result
        return 0

    def _named(self, done: Done, happened: bool, must: Any, may: Any) -> None:
        """Follow what there is by name."""
        if not happened and done.error is not None and not done.may_have_happened:
            return
        args, name = done.args, done.name
        if name == "snapshot":
            _comes(must, may, "snapshots", args["name"], done.result, happened)
        elif name == "delete":
            _goes(must, may, "snapshots", args["name"], happened)
        elif name == "mark" and args.get("pinned"):
            _comes(must, may, "pins", args["name"], done.result, happened)
        elif name == "unpin":
            _goes(must, may, "pins", args["name"], happened)
        elif name == "restore":
            kept = (args["to"], self.life.target(done, self.world))
            _comes(must, may, "recoveries", args["rid"], kept, happened)
        elif name == "forget":
            _goes(must, may, "recoveries", args["rid"], happened)
        elif name == "close":
            for number, to in args["open"].items():
                kept = (to, self.world.states.get(to))
                if int(number) not in must["recoveries"]:
                    _comes(must, may, "recoveries", int(number), kept, happened)


def _comes(must: Any, may: Any, kind: str, key: Any, value: Any, happened: bool) -> None:
    if happened:
        must[kind][key] = value
        may[kind].pop(key, None)
    elif key not in must[kind]:
        may[kind][key] = value


def _goes(must: Any, may: Any, kind: str, key: Any, happened: bool) -> None:
    value = must[kind].pop(key, may[kind].get(key))
    if happened:
        may[kind].pop(key, None)
    else:
        may[kind][key] = value


def _closed(begun: list[Done], index: int) -> bool:
    """Whether the last call was a close that came to its end: one that failed promises nothing."""
    if not begun:
        return False
    last = begun[-1]
    return last.name == "close" and last.happened and last.ended < index


@dataclass
class Facts:
    """What an open store says of itself."""

    seq: int
    oldest: int
    rows: list[Entry]
    snapshots: dict[str, int]
    marks: dict[str, int]
    pins: dict[str, int]
    recoveries: dict[int, int]
    problems: list[str]

    @classmethod
    def of(cls, store: Any) -> Facts:
        rows = store.journal.entries.tolist()
        rows = [Entry(int(row[0]), *map(int, row[2:])) for row in rows]
        return cls(
            store.seq,
            store.window.oldest,
            rows,
            {name: snapshot.seq for name, snapshot in store.snapshots.items()},
            {name: mark.seq for name, mark in store.marks.items()},
            {pin.name: pin.seq for pin in store.pins if pin.name},
            {number: recovery.seq for number, recovery in store.recoveries.items()},
            list(store.problems),
        )

    @classmethod
    def parse(cls, fact: dict[str, Any]) -> Facts:
        rows = [Entry(*row) for row in fact["rows"]]
        recoveries = {int(number): seq for number, seq in fact["recoveries"].items()}
        return cls(**{**fact, "rows": rows, "recoveries": recoveries})


def found_in(promise: Promise, facts: Facts, lenient: bool = False) -> World | None:
    """Return the history that a store shows, up to its newest state. Raises Failure.

    `lenient`, for a damaged store: what was acknowledged may be missing if a problem is told, and
    None says that nothing can be known of how it goes on.
    """
    world, last = promise.world, facts.rows[-1].seq if facts.rows else 0
    if last > facts.seq:
        raise Failure(f"entry {last} is newer than the newest state {facts.seq}")
    split = _agreement(world, facts)
    try:
        if split is not None:
            world = _explained(promise, facts, split)
        elif facts.seq not in world.states:
            world = _explained(promise, facts, world.seq)
        if facts.seq < promise.low:
            raise Failure(f"acknowledged {promise.low}, found {facts.seq}")
    except Failure:
        if lenient and (facts.problems or not promise.closed):
            return None  # after a crash, damage to the last group looks like a torn tail
        raise
    return world.cut(facts.seq)


def _agreement(world: World, facts: Facts) -> int | None:
    """Return the state after which the store's entries are others than the history's."""
    at = world.cut(facts.seq) if facts.seq < world.seq else world
    known, before = {entry.seq: entry for entry in at.line.entries}, facts.oldest
    for row in facts.rows:
        if row.seq not in known or not _matches(known[row.seq], row):
            return before
        before = row.seq
    return None


def _matches(entry: Entry, row: Entry) -> bool:
    if entry.kind == -1:  # of a restore, seen by nobody
        return row.kind in (Kind.WRITE, Kind.DISCARD, Kind.ZEROES, Kind.FLUSH)
    return entry == row


def _explained(promise: Promise, facts: Facts, split: int) -> World:
    """Return a history that ends as the store's does, by calls that were under way. Raises Failure.

    Up to `split` it is the known one.
    """
    world = promise.world.cut(min(split, promise.world.seq))
    silent = Silent(promise.pending, {*promise.used})
    if facts.oldest > world.seq:
        _left(promise, world, facts.oldest)
    for row in (row for row in facts.rows if row.seq > split):
        if row.kind == Kind.REWIND:  # what it drops may have been known
            world.states |= {k: promise.world.states.get(k) for k in range(world.seq + 1, row.seq)}
        known = promise.effects.get(row.seq)
        if known is not None and _matches(known.entry, row):
            world.add(known)
        elif row.kind == Kind.REWIND:
            _rewound(promise, world, row)
        else:
            world.add(_effect_for(promise, row, world, silent))
        if row.kind == Kind.MARK:
            _marked(promise, facts, world, row)
    if world.seq != facts.seq:
        raise Failure(f"the store is at {facts.seq}, its last entry is {world.seq}")
    return world


def _left(promise: Promise, world: World, oldest: int) -> None:
    """Entries of calls under way have left the journal already: nobody can say what they were.

    Closing adds a FLUSH, of which no call tells.
    """
    most = 1 + sum(1 + len(list(parts_of(done))) for done in promise.pending if not done.happened)
    restored = any(done.name == "restore" for done in promise.pending)
    if oldest - world.seq > most and not restored:
        raise Failure(f"the journal begins at {oldest}, known are {world.seq} and {most} under way")
    world.states |= {seq: promise.world.states.get(seq) for seq in range(world.seq + 1, oldest + 1)}
    world.seq = oldest


def _marked(promise: Promise, facts: Facts, world: World, row: Entry) -> None:
    """One of the calls under way has made this entry: of several the one that the store shows."""
    names = {done.args["name"] for done in promise.pending if done.name == "mark"}
    fitting = {name for name in names - world.marks.keys() if len(name.encode()) == row.length}
    shown = {name for name in fitting if facts.marks.get(name) == row.seq}
    for name in sorted(shown or fitting)[:1]:
        world.marks[name] = row.seq


def _effect_for(promise: Promise, row: Entry, world: World, silent: Silent) -> Effect:
    if row.kind in (Kind.MARK, Kind.FLUSH):
        return Effect(row)
    recoveries = {**promise.may["recoveries"], **promise.must["recoveries"]}
    restores = [done.args["rid"] for done in silent.calls if done.name == "restore"]
    targets = [recoveries.get(rid, (0, None))[1] for rid in restores]
    effect = silent.effect(row, world.states.get(world.seq), targets)
    if effect is None:
        raise Failure(f"entry {tuple(row)} is in no history (known up to {promise.world.seq})")
    return effect


def _rewound(promise: Promise, world: World, row: Entry) -> None:
    """A rewind that was under way, or a restore's entries taken back."""
    kinds = {done.name for done in promise.pending}
    if not kinds & {"restore", "rewind"}:
        raise Failure(f"a rewind {tuple(row)} that nobody has called for")
    targets = [done.args["to"] for done in promise.pending if done.name == "rewind"]
    if row.offset not in targets and "restore" not in kinds:
        raise Failure(f"a rewind to {row.offset}; under way were those to {targets}")
    if row.offset not in world.states:
        raise Failure(f"a rewind to {row.offset}, which is in no history")
    world.add(Effect(row))
