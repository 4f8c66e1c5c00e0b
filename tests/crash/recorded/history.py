"""What happened in a life, put together afterwards from what its calls said.

Each call leaves a mark before it begins and one after it has returned. Entries are found by the
seqs that calls returned; content follows from the call's number (`content_of`). What no call has
claimed is a FLUSH, or belongs to a call that never returned; the store's own headers tell which.

A `World` is one history: every state by its seq, and what lies between.
"""

from __future__ import annotations

import json
import random
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

from jrnl import Kind
from tests.crash.recorded.recording import Call as Recorded
from tests.crash.recorded.recording import Record

State = tuple[bytes, ...]
NO_EFFECT = {
    "JournalFull", "PointExpired", "PinnedPoint", "UnknownPoint", "NameTaken", "EntryTooLarge",
    "StoreClosed", "BasePinned",
}  # fmt: skip
CHANGING = {"write", "write_many", "discard", "zero", "rewind", "restore"}
NEVER = 1 << 60


def content_of(number: int, length: int) -> bytes:
    """Return what the call of a number writes."""
    if number % 11 == 0:
        return bytes([number % 3]) * length
    return random.Random(number).randbytes(length)


class Entry(NamedTuple):
    seq: int
    kind: int
    volume: int
    offset: int
    length: int


@dataclass
class Effect:
    """What one entry does to a state: bytes of a volume, nothing, or what nobody knows."""

    entry: Entry
    data: bytes | None = None
    unknown: bool = False


@dataclass
class Done:
    """One call of the host, by record index: begun, ended."""

    number: int
    name: str
    args: dict[str, Any]
    begun: int
    ended: int = NEVER
    result: Any = None
    error: str | None = None
    oldest: int | None = None

    @property
    def happened(self) -> bool:
        return self.ended < NEVER and self.error is None

    @property
    def may_have_happened(self) -> bool:
        return self.error is None or self.error not in NO_EFFECT


class Line(NamedTuple):
    """What is left of a history's entries once its rewinds have dropped some."""

    entries: list[Entry]
    dropped: set[int]  # seqs
    successor: dict[int, int]  # a REWIND that a later one has replaced: the same state


def line_of(history: Iterable[Entry]) -> Line:
    line = Line([], set(), {})
    for entry in history:
        if entry.kind == Kind.REWIND:
            _drop(line, entry)
        line.entries.append(entry)
    return line


def _drop(line: Line, rewind: Entry) -> None:
    entries, to = line.entries, rewind.offset
    line.dropped.update(range(to + 1, rewind.seq))
    del entries[bisect_right(entries, (to, 1 << 60)) :]
    if entries and entries[-1].seq == to and entries[-1].kind == Kind.REWIND:
        line.successor[to] = rewind.seq
        del entries[-1]


@dataclass
class World:
    """One history, up to `seq`: every entry in turn, those dropped later included."""

    seq: int
    states: dict[int, State | None]
    history: list[Entry] = field(default_factory=list)
    snapshots: dict[str, int] = field(default_factory=dict)
    marks: dict[str, int] = field(default_factory=dict)
    pinned: set[str] = field(default_factory=set)
    recoveries: dict[int, tuple[int, State | None]] = field(default_factory=dict)
    low: int = 0

    @cached_property
    def line(self) -> Line:
        """Its entries, once nothing is added any more."""
        return line_of(self.history)

    def cut(self, seq: int) -> World:
        """Return a copy up to a state; later seqs are free again."""
        return World(
            seq, {k: state for k, state in self.states.items() if k <= seq},
            self.history[: bisect_right(self.history, (seq, 1 << 60))], dict(self.snapshots),
            {name: k for name, k in self.marks.items() if k <= seq}, set(self.pinned),
            dict(self.recoveries), self.low,
        )  # fmt: skip

    def add(self, effect: Effect) -> None:
        """Let one more entry happen."""
        entry, before = effect.entry, self.states.get(self.seq)
        if effect.unknown:
            state = None
        elif entry.kind == Kind.REWIND:
            state = self.states.get(entry.offset)
        elif effect.data is not None and before is not None:
            old, end = before[entry.volume], entry.offset + entry.length
            new = old[: entry.offset] + effect.data + old[end:]
            state = (*before[: entry.volume], new, *before[entry.volume + 1 :])
        else:
            state = before
        self.seq, self.states[entry.seq] = entry.seq, state
        self.history.append(entry)

    def trim(self, oldest: int) -> None:
        """Forget the content of states that nothing can lead to any more."""
        kept = {*self.snapshots.values(), self.seq}
        for seq in list(self.states):
            if seq < oldest and seq not in kept:
                self.states[seq] = None


@dataclass
class Silent:
    """Calls that have told of no entry, and what they may have made.

    Attributes
    ----------
    used : set of (int, int)
        Parts of calls, by number and place, whose entry is known: no other one is theirs.
    """

    calls: list[Done]
    used: set[tuple[int, int]] = field(default_factory=set)

    def effect(
        self, row: Entry, before: State | None, targets: Iterable[State | None]
    ) -> Effect | None:
        """Return what an entry has done if one of them made it; None where none can have.

        It is unknown where they may have written several things. `targets` are the states that
        restores among them bring back: what these write may have the header of what they undo.
        """
        parts = {
            (done.number, k): part[3]
            for done in self.calls
            if not done.happened
            for k, part in enumerate(parts_of(done))
            if (*part[:3], len(part[3])) == row[1:] and (done.number, k) not in self.used
        }
        effects = [Effect(row, data) for data in parts.values()]
        for target in targets:
            if not parts or _may_be_restored(row, before, target):
                effects.append(restored(Effect(row), target))
        if not effects:
            return None
        if any(effect.unknown or effect.data != effects[0].data for effect in effects):
            return Effect(row, unknown=True)
        self.used.update([*parts][:1])
        return effects[0]


def _may_be_restored(row: Entry, before: State | None, target: State | None) -> bool:
    """Whether an entry may be a restore's: these begin, in rising order, where a byte differs."""
    if row.kind != Kind.WRITE:
        return False  # zeroes, whoever calls
    if before is None or target is None:
        return True
    v, o = row.volume, row.offset
    done = before[:v] == target[:v] and before[v][:o] == target[v][:o]
    return done and before[v][o] != target[v][o]


class Life:
    """The calls of one life, from its recording."""

    def __init__(self, records: Iterable[Record], sizes: list[int]) -> None:
        self.sizes = sizes
        self.calls: list[Done] = []
        self.opened: dict[str, Any] | None = None  # what the store showed when it was opened
        self.opened_at = NEVER
        self.bugs: list[str] = []
        self.rows: dict[int, Entry] = {}  # headers that some call has seen
        self.rows_at: dict[int, int] = {}  # and at which record first
        self.seen: list[dict[str, Any]] = []  # what the life has read of earlier states
        self.used: set[tuple[int, int]] = set()  # parts of calls that told of no entry (Silent)
        by_number: dict[int, Done] = {}
        for index, record in enumerate(records):
            if record.call == Recorded.MARK:
                self._mark(index, json.loads(record.first), by_number)

    def _mark(self, index: int, fact: dict[str, Any], by_number: dict[int, Done]) -> None:
        if "b" in fact:
            done = Done(fact.pop("b"), fact.pop("op"), fact, index)
            by_number[done.number] = done
            self.calls.append(done)
        elif "e" in fact:
            done = by_number[fact["e"]]
            done.ended, done.result, done.error = index, fact.get("r"), fact.get("x")
            done.oldest = fact.get("old")
            for row in fact.get("rows", ()):
                if self.rows.get(row[0]) != (entry := Entry(*row)):
                    self.rows[row[0]], self.rows_at[row[0]] = entry, index
        elif "opened" in fact:
            self.opened, self.opened_at = fact["opened"], index
        elif "bug" in fact:
            self.bugs.append(fact["bug"])
        elif "saw" in fact:
            self.seen.append(fact)

    def effects(self) -> dict[int, Effect]:
        """Return the entries that calls have claimed, by seq."""
        found: dict[int, Effect] = {}
        for done in self.calls:
            if done.happened:
                for effect in self._effects_of(done):
                    found[effect.entry.seq] = effect
        return found

    def _effects_of(self, done: Done) -> Iterable[Effect]:
        args, result = done.args, done.result
        if done.name in ("write", "discard", "zero", "write_many"):
            parts = list(parts_of(done))
            first = result - len(parts) + 1
            for k, (kind, volume, offset, data) in enumerate(parts):
                yield Effect(Entry(first + k, kind, volume, offset, len(data)), data)
        elif done.name == "mark":
            yield Effect(Entry(result, Kind.MARK, 0, 0, len(args["name"].encode())))
        elif done.name == "rewind" and result["entries"]:
            yield Effect(Entry(result["seq"], Kind.REWIND, 0, result["to"], 0))
        elif done.name == "restore":
            yield from self._restored(done)

    def _restored(self, done: Done) -> Iterable[Effect]:
        rows = {row[0]: row for row in done.result["rows"]}
        for seq in range(done.result["first"], done.result["last"] + 1):
            if seq in rows:
                yield Effect(Entry(*rows[seq]))
            else:
                yield Effect(Entry(seq, -1, 0, 0, 0), unknown=True)

    def world(self, base: World) -> tuple[World, dict[int, Effect]]:
        """Return the whole history of a life that began with `base`, and its entries' effects."""
        world, effects = base.cut(base.seq), self.effects()
        targets = {
            seq: done
            for done in self.calls
            if done.name == "restore" and done.happened
            for seq in range(done.result["first"], done.result["last"] + 1)
        }
        for seq in range(base.seq + 1, max(effects, default=base.seq) + 1):
            effect = effects.get(seq)
            if effect is None:
                effect = self._unclaimed(self.rows.get(seq), seq, world)
            elif seq in targets:
                effect = restored(effect, self.target(targets[seq], world))
            effects[seq] = effect
            world.add(effect)
        for done in self.calls:
            if done.name == "mark" and done.happened:
                world.marks[done.args["name"]] = done.result
        return world, effects

    def _unclaimed(self, row: Entry | None, seq: int, world: World) -> Effect:
        """Return the effect of an entry whose call has not returned; or it is a FLUSH."""
        if row is None:  # it left the journal, or was dropped, before anybody had seen it
            return Effect(Entry(seq, Kind.FLUSH, 0, 0, 0), unknown=bool(self._silent(seq)))
        if row.kind in (Kind.FLUSH, Kind.MARK):
            return Effect(row)
        if row.kind == Kind.REWIND:
            return Effect(row, unknown=True)
        calls = self._silent(seq)
        targets = [self.target(done, world) for done in calls if done.name == "restore"]
        effect = Silent(calls, self.used).effect(row, world.states.get(world.seq), targets)
        return effect or Effect(row, unknown=True)

    def _silent(self, seq: int) -> list[Done]:
        """Return the calls that may have made an entry and never told of it, by when it was."""
        since = max((done.begun for k, done in self._claimed.items() if k < seq), default=0)
        until = min((done.ended for k, done in self._claimed.items() if k > seq), default=NEVER)
        until = min(until, self.rows_at.get(seq, NEVER))
        return [
            done
            for done in self.calls
            if done.begun < until and done.ended > since
            if done.name in CHANGING and done.may_have_happened and not done.happened
        ]

    @cached_property
    def _claimed(self) -> dict[int, Done]:
        """The calls that have claimed an entry, by its seq; once they are all known."""
        happened = [done for done in self.calls if done.happened]
        return {effect.entry.seq: done for done in happened for effect in self._effects_of(done)}

    def target(self, done: Done, world: World) -> State | None:
        """Return the state that a restore brings back."""
        number = done.args.get("rid")
        if number in world.recoveries:
            return world.recoveries[number][1]
        return world.states.get(done.args["to"])


def restored(effect: Effect, target: State | None) -> Effect:
    """Return the effect of an entry of a restore, whose content is that of its target."""
    entry = effect.entry
    if effect.unknown or entry.kind not in (Kind.WRITE, Kind.DISCARD, Kind.ZEROES):
        return effect if effect.unknown else Effect(entry)
    if target is None:
        return Effect(entry, unknown=True)
    data = target[entry.volume][entry.offset : entry.offset + entry.length]
    return Effect(entry, data)


def parts_of(done: Done) -> Iterable[tuple[int, int, int, bytes]]:
    """Yield (kind, volume, offset, data) of each entry of a writing call."""
    args = done.args
    if done.name == "write":
        yield Kind.WRITE, args["v"], args["o"], content_of(done.number, args["n"])
    elif done.name == "write_many":
        content, n = content_of(done.number, args["n"] * len(args["o"])), args["n"]
        for k, offset in enumerate(args["o"]):
            yield Kind.WRITE, args["v"], offset, content[k * n : (k + 1) * n]
    elif done.name in ("discard", "zero"):
        kind = Kind.DISCARD if done.name == "discard" else Kind.ZEROES
        yield kind, args["v"], args["o"], bytes(args["n"])
