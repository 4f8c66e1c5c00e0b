"""A store and its model, kept side by side: each operation is done to both, and must end alike."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import xxhash

import jrnl
from jrnl import JournalFull, Kind, PinnedPoint, PointExpired, UnknownPoint
from tests.model.fold_rules import FoldRules
from tests.model.history_check import check_past
from tests.model.twin_parts import Pins, Savepoints
from tests.model.whole import BYTE_KINDS, HEADER_BYTES, START_NS, Entry, Model, State

ZERO_KINDS = (Kind.DISCARD, Kind.ZEROES)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Clock:
    """Nanoseconds that a test sets; `highest` is the highest that was read: a journal's time."""

    def __init__(self) -> None:
        self.now = START_NS
        self.highest = 0

    def __call__(self) -> int:
        self.highest = max(self.highest, self.now)
        return self.now


@dataclass
class OpenView:
    view: jrnl.View
    seq: int
    needs: int | None  # the state whose later entries it reads; None where it shows a snapshot
    state: State
    volumes: list[int]
    scratch: bool  # it may hold bytes of its own


@dataclass
class OpenRecovery:
    recovery: jrnl.Recovery
    seq: int
    state: State
    base: int  # the state of the copy that it preserves
    pins: bool  # ... which is production's, kept through the journal
    volumes: list[int]


def same(one: State, other: State) -> bool:
    """Compare without showing: pytest would lay out the difference of two volumes."""
    return one == other


class Twin(FoldRules, Pins, Savepoints):
    """Both of them, with what is open.

    Attributes
    ----------
    store : jrnl.Store
        Volumes "v0", "v1", ... of the sizes given.
    model : Model
    base : int
        The state before the oldest entry that the journal holds.
    """

    on_disk = False

    def __init__(
        self,
        sizes: Iterable[int],
        journal: int = 16384,
        images: str = "before",
        checksum: bool = True,
        overflow: str = "evict",
    ) -> None:
        sizes = list(sizes)
        clock = Clock()
        store = jrnl.create(
            volumes={f"v{k}": size for k, size in enumerate(sizes)},
            journal=journal,
            images=images,
            checksum=checksum,
            overflow=overflow,
            clock=clock,
        )
        self._begin(store, Model(sizes, journal, images, START_NS), clock, overflow)

    def _begin(self, store: jrnl.Store, model: Model, clock: Clock, overflow: str) -> None:
        self.clock = clock
        self.store = store
        self.model = model
        self.names, self.volumes = list(store.volumes), list(store.volumes.values())
        self.sizes = [volume.size for volume in self.volumes]
        self.refuses = overflow == "refuse"
        self.folds = overflow == "fold"
        self.rewinds = model.images != "after"
        self.base = 0
        self.biggest = 0
        self.lost_before: set[int] = set()
        self.views: list[OpenView] = []
        self.recoveries: list[OpenRecovery] = []
        self._begin_folds()
        self._begin_pins()
        self._begin_savepoints()

    # Changing bytes. Each gives whether it was done: a journal that refuses may be full.

    def write(self, volume: int, offset: int, data: bytes) -> bool:
        return self._add(
            lambda: self.volumes[volume].write(offset, data),
            lambda: self.model.write(volume, offset, data, self.time_ns),
            [(Kind.WRITE, volume, offset, len(data))] if data else [],
        )

    def write_many(self, volume: int, offsets: list[int], data: bytes) -> bool:
        """`data` is len(offsets) equal blocks."""
        length = len(data) // len(offsets) if offsets else 0

        def on_model() -> int:
            for k, offset in enumerate(offsets):
                block = data[k * length : (k + 1) * length]
                self.model.write(volume, offset, block, self.time_ns)
            return self.model.seq

        return self._add(
            lambda: self.volumes[volume].write_many(np.array(offsets, np.int64), data),
            on_model,
            [(Kind.WRITE, volume, offset, length) for offset in offsets if length],
        )

    def zero(self, kind: Kind, volume: int, offset: int, length: int) -> bool:
        vol = self.volumes[volume]
        piece_max = self.model.piece_max
        end = offset + length
        return self._add(
            lambda: (vol.discard if kind == Kind.DISCARD else vol.write_zeroes)(offset, length),
            lambda: self.model.zero(kind, volume, offset, length, self.time_ns),
            [
                (kind, volume, start, min(piece_max, end - start))
                for start in range(offset, end, piece_max)
            ],
        )

    def edit(
        self,
        volume: int,
        offset: int,
        data: bytes,
        fails: bool = False,
        within: Callable[[], object] | None = None,
    ) -> bool:
        """Fill a range through ``edit``. `within` runs in the block, and leaves the range alone."""
        vol = self.volumes[volume]
        before = self.model.now[volume][offset : offset + len(data)]

        def on_store() -> int:
            with suppress(KeyError), vol.edit(offset, len(data)) as mem:
                assert mem.shape == (len(data),)
                assert mem.tobytes() == before
                wanted = before if fails else data
                mem[:] = np.frombuffer(wanted, np.uint8)
                self.model.write(volume, offset, wanted, self.time_ns)
                if within is not None:
                    self.check_journal()  # what has left by now did not leave in there
                    within()
                if fails:
                    mem[:] = np.frombuffer(data, np.uint8)
                    raise KeyError
            return self.store.seq

        adds = [(Kind.WRITE, volume, offset, len(data))] if data else []
        return self._add(on_store, lambda: self.model.seq, adds, more=within is not None)

    def refuses_in_edit(self, volume: int, offset: int, length: int) -> None:
        """In an edit: what touches its range is refused, and what needs a settled state."""
        vol, store = self.volumes[volume], self.store
        for act in (
            lambda: vol.write(offset, bytes(length)),
            lambda: vol.write_many([offset], bytes(length)),
            lambda: vol.discard(offset, length),
            lambda: vol.edit(offset, length).__enter__(),
            store.flush,
            lambda: store.mark("inside"),
            lambda: store.snapshot("inside"),
            lambda: store.recover(0),
            lambda: store.view(0),
            lambda: store.rewind(0),
            store.savepoint().__enter__ if self.rewinds else store.verify,
            store.close,
        ):
            self._changes_nothing(jrnl.EditOpen, act)

    # Naming.

    def flush(self) -> bool:
        needs = bool(self.model.entries) and self.model.entries[-1].kind != Kind.FLUSH
        return self._add(
            self.store.flush,
            lambda: self.model.flush(self.time_ns),
            [(Kind.FLUSH, 0, 0, 0)] if needs else [],
        )

    def mark(self, name: str) -> bool:
        if self.is_taken(name):
            self._changes_nothing(jrnl.NameTaken, lambda: self.store.mark(name))
            return False

        def on_store() -> int:
            mark = self.store.mark(name)
            assert mark == (name, self.store.seq, self.time_ns)
            return mark.seq

        adds = [(Kind.MARK, 0, 0, len(name.encode()))]
        return self._add(on_store, lambda: self.model.mark(name, self.time_ns), adds)

    def bookmark(self) -> jrnl.Mark:
        seq = self.store.seq
        mark = self.store.mark()
        assert mark == (None, seq, self.time_ns)
        assert self.store.seq == seq
        return mark

    def snapshot(self, name: str, pinned: bool = False) -> bool:
        if self.is_taken(name):
            self._changes_nothing(jrnl.NameTaken, lambda: self.store.snapshot(name, pinned=pinned))
            return False
        snapshot = self.snapshots[name] = self.store.snapshot(name, pinned=pinned)
        assert snapshot.pinned == pinned
        self.model.snapshots[name] = self.model.seq
        self.model.marks.pop(name, None)
        assert (snapshot.name, snapshot.seq) == (name, self.model.seq)
        return True

    # Going back.

    def recover(
        self,
        to: object,
        base: str | None = None,
        undoable: bool = False,
        volumes: list[int] | None = None,
    ) -> OpenRecovery | None:
        """Recover beside production; None where the state cannot be had any more."""
        seq = self.find(to)
        wanted = self.reachable(to, seq, base)
        names = None if volumes is None else [f"v{k}" for k in volumes]
        if wanted is None:
            with pytest.raises((PointExpired, UnknownPoint)):
                self.store.plan(to, base, volumes=names)
            with pytest.raises((PointExpired, UnknownPoint)):
                self.store.recover(to, base, undoable, volumes=names)
            return None
        plan = self.store.plan(to, base, volumes=names)
        self._check_plan(plan, wanted, base, volumes)
        recovery = self.store.recover(to, base, undoable, volumes=names)
        assert recovery.plan == plan
        assert recovery.base == plan.base
        assert recovery.seq == wanted
        return self._opened(recovery, wanted)

    def _opened(self, recovery: jrnl.Recovery, seq: int) -> OpenRecovery:
        from_production = recovery.base == "production"
        base = self.model.seq if from_production else self.model.snapshots[recovery.base]
        opened = OpenRecovery(
            recovery,
            seq,
            self.model.states[seq],
            base,
            from_production and self.rewinds,
            [self.names.index(name) for name in recovery],
        )
        self.recoveries.append(opened)
        self.check_recovery(opened)
        return opened

    def seek(self, opened: OpenRecovery, to: object) -> bool:
        """Move a recovery; False where it cannot be moved there."""
        recovery, seq = opened.recovery, self.find(to)
        if not recovery.undoable:
            self._changes_nothing(jrnl.InvalidArgument, lambda: recovery.seek(to))
            return False
        there = seq is not None and self.model.is_kept(seq, self.base)
        if there:
            there = self._leads(opened.seq, seq) or self._leads(opened.base, seq)
            rebased = not there
            there = there or self.rewinds or self.model.present(seq) == self.model.seq
        if not there:
            self._changes_nothing((PointExpired, UnknownPoint), lambda: recovery.seek(to))
            self.check_recovery(opened)
            return False
        seq = self.model.present(seq)
        recovery.seek(to)
        assert recovery.seq == seq
        opened.seq, opened.state = seq, self.model.states[seq]
        if rebased:
            opened.base, opened.pins = self.model.seq, self.rewinds
            assert recovery.base == "production"
        self.check_recovery(opened)
        return True

    def again(self, opened: OpenRecovery, to: object = None) -> OpenRecovery | None:
        """Recover again from the copy that a recovery preserved."""
        seq = opened.seq if to is None else self.find(to)
        own = to is None or (seq == opened.seq and not isinstance(to, str | datetime))
        if not own and not self._leads(opened.base, seq):
            with pytest.raises((PointExpired, UnknownPoint)):
                opened.recovery.again(to)
            return None
        recovery = opened.recovery.again(to)
        seq = opened.seq if own else self.model.present(seq)
        assert recovery.seq == seq
        assert recovery.base == opened.recovery.base
        assert recovery.id != opened.recovery.id
        fresh = OpenRecovery(
            recovery, seq, self.model.states[seq], opened.base, opened.pins, opened.volumes
        )
        if own:
            assert recovery.plan == opened.recovery.plan
        else:
            base = self.model.present(opened.base)
            self._check_moved(recovery.plan, base, seq, volumes=opened.volumes)
        self.recoveries.append(fresh)
        self.check_recovery(fresh)
        return fresh

    def close_recovery(self, opened: OpenRecovery) -> None:
        self.recoveries.remove(opened)
        opened.recovery.close()
        with pytest.raises(jrnl.StoreClosed):
            opened.recovery.read(0, 1, "v0")

    def restore(self, opened: OpenRecovery, volumes: list[int] | None = None) -> bool:
        """Restore onto production; False where a journal that refuses has no room."""
        before, recovery = self.model.now, opened.recovery
        names = None if volumes is None else [f"v{k}" for k in volumes]
        try:
            oldest = recovery.plan.oldest_after_restore if volumes is None else None
            planned = recovery.restore(volumes=names, dry_run=True)
        except JournalFull:
            assert self.refuses or self.floor is not None
            self._changes_nothing(JournalFull, lambda: recovery.restore(volumes=names))
            return False
        self._changes_nothing(None, lambda: recovery.restore(volumes=names, dry_run=True))
        compared = self.store._engine.compared_bytes + recovery.plan.compared
        result = recovery.restore(volumes=names)
        assert volumes is not None or self.store._engine.compared_bytes == compared
        assert result == planned
        assert result.first_seq == self.model.seq + 1
        assert self.store.seq == result.last_seq
        taken = opened.volumes if volumes is None else volumes
        wanted = tuple(opened.state[k] if k in taken else now for k, now in enumerate(before))
        self._follow_restore(result, before, wanted)
        self.check_journal()
        if oldest is not None:
            assert self.store.window.oldest == oldest, (self.store.window, oldest, result)
        return True

    def _follow_restore(self, result: jrnl.Restore, before: State, wanted: State) -> None:
        """Take a restore's entries over: only the ranges that differ, each of them once."""
        rows = [Entry(*row) for row in self.store.journal.entries.tolist()]
        kept = [row for row in rows if row.seq >= result.first_seq]
        missing = result.last_seq - result.first_seq + 1 - len(kept)
        state = [bytearray(content) for content in wanted]
        for row in kept:
            old = before[row.volume][row.offset : row.offset + row.length]
            new = wanted[row.volume][row.offset : row.offset + row.length]
            assert row.kind == Kind.WRITE
            assert old[0] != new[0]
            assert old[-1] != new[-1]
            state[row.volume][row.offset : row.offset + row.length] = old
        # Of those that left the ring at once, only the last one's state can be asked for.
        for k in range(missing):
            seq = result.first_seq + k
            self.model._add(Entry(seq, self.time_ns, Kind.WRITE, 0, 0, 0), before)
            self.model.states[seq] = None
        if missing:
            self.model.states[self.model.seq] = tuple(bytes(content) for content in state)
            self.biggest = self.model.area // 2
        else:
            assert same(tuple(bytes(content) for content in state), before)
            assert result.bytes == sum(row.length for row in kept)
        for row in kept:
            self.biggest = max(self.biggest, self.model.room(Kind.WRITE, row.length, False))
            data = wanted[row.volume][row.offset : row.offset + row.length]
            self.model.write(row.volume, row.offset, data, self.time_ns)
        assert same(self.model.now, wanted)

    def rewind(self, to: object) -> bool:
        """Rewind production; False where it cannot be done."""
        seq = self.find(to)
        if not self.rewinds:
            self._changes_nothing(jrnl.InvalidArgument, lambda: self.store.rewind(to))
            return False
        if seq is None or not self.model.is_kept(seq, self.base):
            self._changes_nothing((PointExpired, UnknownPoint), lambda: self.store.rewind(to))
            return False
        seq = self.model.present(seq)
        if self.is_pinned(seq):
            self._changes_nothing(PinnedPoint, lambda: self.store.rewind(to))
            return False
        dropped = self.model.entries_in(seq, self.model.seq)
        bytes_back = self.model.moved("backward", self.model.seq, seq)[1]
        result = self.store.rewind(to)
        assert result == (self.model.rewind(seq, self.base, self.time_ns), len(dropped), bytes_back)
        self.check_journal()
        return True

    def is_pinned(self, to: int) -> bool:
        """Whether something open needs an entry after `to`."""
        pins = [opened.base for opened in self.recoveries if opened.pins]
        pins += [opened.seq for opened in self.views if opened.needs is not None]
        pins += [self.model.present(opened.seq) for opened in self.open_pins()]
        return to != self.model.seq and any(pin > to for pin in pins)

    def view(
        self, at: object, writable: bool = False, volumes: list[int] | None = None
    ) -> OpenView | None:
        seq = self.find(at)
        names = None if volumes is None else [f"v{k}" for k in volumes]
        from_snapshot = self._names_snapshot(at, seq)
        if seq is None or not (self.is_in_window(seq) or from_snapshot):
            with pytest.raises((PointExpired, UnknownPoint)):
                self.store.view(at)
            return None
        if not from_snapshot:
            seq = self.model.present(seq)
        if not self.rewinds and not from_snapshot and not self._snapshots_upto(seq):
            with pytest.raises(PointExpired):  # production moves on, and nothing keeps what it was
                self.store.view(at)
            return None
        view = self.store.view(at, writable, volumes=names)
        assert view.seq == seq
        needs = seq if self.rewinds else max(self._snapshots_upto(seq), default=None)
        state, shown = self.model.states[seq], [self.names.index(name) for name in view]
        opened = OpenView(view, seq, None if from_snapshot else needs, state, shown, writable)
        self.views.append(opened)
        self.check_view(opened)
        return opened

    def view_of(self, opened: OpenView, writable: bool) -> OpenView:
        """A view of what a view shows now."""
        view = opened.view.view(writable)
        assert view.seq == opened.seq
        scratch = writable or opened.scratch
        fresh = OpenView(view, opened.seq, opened.needs, opened.state, opened.volumes, scratch)
        self.views.append(fresh)
        self.check_view(fresh)
        return fresh

    def write_view(self, opened: OpenView, volume: int, offset: int, data: bytes) -> None:
        """Write to a view; all zeroes are written as such."""
        view, name = opened.view, f"v{volume}"

        def write() -> None:
            if data and not any(data):
                view.write_zeroes(offset, len(data), name)
            else:
                view.write(offset, data, name)

        if not view.writable or volume not in opened.volumes:
            error = jrnl.UnknownVolume if view.writable else jrnl.ReadOnlyStore
            self._changes_nothing(error, write)
            return
        try:
            self._changes_nothing(None, write)
        except PointExpired:
            assert opened.needs is not None
            assert opened.needs < self.base
            return
        old = opened.state[volume]
        new = old[:offset] + data + old[offset + len(data) :]
        opened.state = (*opened.state[:volume], new, *opened.state[volume + 1 :])
        self.check_view(opened)

    def close_view(self, opened: OpenView) -> None:
        self.views.remove(opened)
        opened.view.close()

    # What the model says.

    @property
    def time_ns(self) -> int:
        return self.clock.highest

    @property
    def newest(self) -> int:
        return self.model.seq

    @property
    def oldest(self) -> int:
        """What ``window.oldest`` must be."""
        if self.rewinds:
            return self.base
        kept = [seq for seq in self.model.snapshots.values() if seq >= self.base]
        return min(kept, default=self.model.seq)

    def is_taken(self, name: str) -> bool:
        return name in self.model.snapshots or name in self.marks()

    def marks(self) -> dict[str, int]:
        return {name: seq for name, seq in self.model.marks.items() if self.is_in_window(seq)}

    def is_in_window(self, seq: int) -> bool:
        return seq >= self.oldest and self.model.is_kept(seq, self.base)

    def find(self, point: object) -> int | None:
        """The seq that a point stands for, or None if it stands for none (any more)."""
        if isinstance(point, str):
            return {**self.marks(), **self.model.snapshots}.get(point)
        if isinstance(point, datetime):
            time_ns = (point - EPOCH) // timedelta(microseconds=1) * 1000 + 999
            return self.model.seq_at(time_ns, self.base)
        return getattr(point, "seq", point)

    def reachable(self, to: object, seq: int | None, base: str | None) -> int | None:
        """The seq that a recovery must show, or None if there is no way."""
        if seq is None or seq > self.model.seq:
            return None
        if self._names_snapshot(to, seq) and not self.model.is_kept(seq, self.base):
            return seq if base is None or self.model.snapshots[base] == seq else None
        if not self.is_in_window(seq):
            return None
        if base is not None and not self._leads(self.model.snapshots[base], seq):
            return None
        return self.model.present(seq)

    def _leads(self, base: int, seq: int | None) -> bool:
        """Whether the journal has what lies between two states."""
        if seq is None or not self.model.is_kept(seq, self.base):
            return False
        there = self.model.present(seq)
        here = self.model.present(base)
        return self.model.is_kept(base, self.base) and (self.rewinds or here <= there)

    # Both do it.

    def _add(
        self,
        on_store: Callable[[], int],
        on_model: Callable[[], int],
        adds: list[tuple[int, int, int, int]],
        more: bool = False,
    ) -> bool:
        """Do what adds entries of (kind, volume, offset, length), and perhaps more."""
        rooms = self._rooms(adds)
        count, used = len(self.store.journal.entries), self._images_used()
        loose = count + len(rooms) <= self.model.slots
        if self.refuses and not (loose and used + sum(rooms) <= self.model.area):
            self._changes_nothing(JournalFull, on_store)
            return False
        self.biggest = max([self.biggest, *rooms])
        slack = 2 * self.biggest
        face = self._face() if self.floor is not None else None
        loose = loose and not more and used + sum(rooms) + slack <= self.model.area
        before = self.base
        try:
            seq = on_store()
        except JournalFull:
            assert face == self._face()
            self._check_pinned_full(rooms, slack)
            return False
        except jrnl.EditOpen:  # production is no state now, and nothing else leads to one
            assert self.folds
            assert not self.rewinds
            assert not self.connected()
            return False
        assert seq == on_model()
        assert seq == self.store.seq
        self.check_journal()
        if self.base > before:
            assert not loose, "an entry left although there was room"
            self._check_much_left(slack)
        return True

    def _rooms(self, adds: list[tuple[int, int, int, int]]) -> list[int]:
        return [
            self.model.room(
                kind,
                length,
                kind in ZERO_KINDS and not any(self.model.now[volume][offset : offset + length]),
            )
            for kind, volume, offset, length in adds
        ]

    def _images_used(self) -> int:
        journal = self.store.journal
        return journal.used - HEADER_BYTES * len(journal.entries)

    def _changes_nothing(self, error: object, act: Callable[[], object]) -> None:
        """Do what must raise `error` (or nothing, for None) and leave everything as it was."""
        before = self._face()
        if error is None:
            act()
        else:
            with pytest.raises(error):
                act()
        assert self._face() == before

    def _face(self) -> tuple[object, ...]:
        store = self.store
        entries = store.journal.entries.tobytes()
        names = sorted((s.name, s.seq) for s in store.snapshots.values()), len(store.recoveries)
        return store.seq, store.window, store.journal.used, entries, names, self.production()

    # Checking.

    def check_journal(self) -> None:
        """The journal holds the newest of the model's entries, and production is as it must be."""
        model, store = self.model, self.store
        rows = store.journal.entries.tolist()
        count = len(rows)
        left = len(model.entries) - count
        assert rows == [tuple(entry) for entry in model.entries[left:]]
        base = model.entries[left - 1].seq if left else 0
        assert base >= self.base, "what had left the window is back"
        there, self.base = self.connected(), base
        self._follow_folds(there)
        assert store.seq == model.seq
        assert store.window == (self.oldest, model.seq)
        assert self.floor is None or self.base <= self.floor, "a pinned entry has left"
        self.check_production()

    def production(self) -> State:
        return tuple(volume.as_array().tobytes() for volume in self.volumes)

    def check_production(self) -> None:
        assert same(self.production(), self.model.now)

    def check_used(self) -> None:
        """What the journal says it holds is what its entries take."""
        kept = self.model.entries_in(self.base, self.model.seq)
        rooms = 0
        for entry in kept:
            rooms += self.model.room(entry.kind, entry.length, entry.seq in self.model.idle)
        assert self.store.journal.used == rooms + HEADER_BYTES * len(kept)
        assert self.store.journal.used <= self.store.journal.capacity

    def check_images(self) -> None:
        """Each entry holds what it overwrote and what it wrote, as far as it keeps that."""
        journal = self.store.journal
        for entry in self.model.entries_in(self.base, self.model.seq):
            if entry.kind in BYTE_KINDS:
                if self.model.images != "after":
                    assert journal.before(entry.seq) == self.model.before(entry)
                if self.model.images != "before":
                    assert journal.after(entry.seq) == self.model.after(entry)

    def kept_states(self) -> list[int]:
        """Every seq whose state the store must rebuild, aliases included."""
        window = range(self.oldest, self.model.seq + 1)
        return [seq for seq in window if self.is_in_window(seq)]

    def lost_states(self) -> list[int]:
        """Every seq that must raise PointExpired."""
        snapshots = self.model.snapshots.values()
        seqs = range(self.model.seq + 1)
        return [seq for seq in seqs if not self.is_in_window(seq) and seq not in snapshots]

    def read_all(self, image: jrnl.View | jrnl.Recovery | jrnl.Snapshot) -> State:
        return tuple(image.read(0, size, f"v{k}") for k, size in enumerate(self.sizes))

    def check_recovered(self, seq: int, base: str | None = None) -> None:
        with self.store.recover(seq, base) as recovery:
            arrays = tuple(recovery.as_array(f"v{k}").tobytes() for k in range(len(self.sizes)))
            assert same(arrays, self.model.states[seq]), f"state {seq} from {recovery.plan}"

    def check_viewed(self, seq: int) -> None:
        try:
            view = self.store.view(seq)
        except PointExpired:
            assert not self.rewinds
            assert not self._snapshots_upto(seq)
            return
        with view:
            assert same(self.read_all(view), self.model.states[seq]), f"view of state {seq}"

    def check_lost(self, seq: int) -> None:
        for ask in (self.store.plan, self.store.recover, self.store.view, self.store.digest):
            with pytest.raises(PointExpired):
                ask(seq)

    def check_view(self, opened: OpenView) -> None:
        """An expired one may still show what was written to it; then that is right."""
        expired = opened.needs is not None and opened.needs < self.base
        for k in range(len(self.sizes)):
            if k not in opened.volumes:
                with pytest.raises(jrnl.UnknownVolume):
                    opened.view.read(0, 1, f"v{k}")
                continue
            try:
                content = opened.view.read(0, self.sizes[k], f"v{k}")
            except PointExpired:
                assert expired
                continue
            assert not expired or opened.scratch
            assert content == opened.state[k], f"open view of state {opened.seq}"

    def check_recovery(self, opened: OpenRecovery) -> None:
        recovery = opened.recovery
        for k, size in enumerate(self.sizes):
            name = f"v{k}"
            if k not in opened.volumes:
                with pytest.raises(jrnl.UnknownVolume):
                    recovery.read(0, 1, name)
                continue
            content = recovery.read(0, size, name)
            assert content == opened.state[k], f"open recovery of state {opened.seq}"
            if recovery.undoable:
                assert Path(recovery.path(name)).read_bytes() == opened.state[k]

    def check_snapshot(self, name: str) -> None:
        snapshot = self.snapshots[name]
        assert list(snapshot.volumes) == self.names
        assert snapshot.seq == self.model.snapshots[name]
        assert same(self.read_all(snapshot), self.model.states[snapshot.seq])
        assert snapshot.verify().ok

    def check_names(self) -> None:
        assert {name: mark.seq for name, mark in self.store.marks.items()} == self.marks()
        assert self.store.snapshots == self.snapshots
        ids = {opened.recovery.id: opened.recovery for opened in self.recoveries}
        assert self.store.recoveries == ids

    def check_digest(self, seq: int) -> None:
        wanted = xxhash.xxh3_128(b"".join(self.model.states[seq])).hexdigest()
        assert self.store.digest(seq) == wanted

    def check_open(self) -> None:
        for view in self.views:
            self.check_view(view)
        for recovery in self.recoveries:
            self.check_recovery(recovery)
        for name in self.snapshots:
            self.check_snapshot(name)

    def check(self) -> None:
        """Everything: each state of the window, each way to it, each one lost, all that is open."""
        self.check_journal()
        self.check_used()
        self.check_images()
        self.check_names()
        self.check_open()
        self.check_pins()
        for seq in self.kept_states():
            self.check_recovered(seq)
            self.check_viewed(seq)
            self.check_digest(seq)
            for name, snapshot in self.model.snapshots.items():
                if self._leads(snapshot, seq):
                    self.check_recovered(seq, name)
                    if seq % 8 == 0:
                        present = self.model.present(seq)
                        self._check_plan(self.store.plan(seq, name), present, name)
        for name, seq in self.model.snapshots.items():
            self.check_recovered(seq, name)
            self.check_recovered(seq)
        for seq in check_past(self):
            self.check_lost(seq)
        assert self.store.verify().ok

    def _check_plan(
        self, plan: jrnl.Plan, seq: int, base: str | None, volumes: list[int] | None = None
    ) -> None:
        """A plan moves what the model counts on its route, and no other way is cheaper."""
        model = self.model
        assert base is None or plan.base == base
        here = model.seq if plan.base == "production" else model.snapshots[plan.base]
        # Where after-images are all there is, only a copy keeps what production moves on from.
        copied = sum(self.sizes) if plan.base == "production" and not self.rewinds else 0
        self._check_moved(plan, model.present(here), seq, copied, volumes)
        if base is None and volumes is None and model.is_kept(seq, self.base):
            price = plan.bytes + model.lacking(model.present(here), seq)
            for name in model.snapshots:
                if self._leads(model.snapshots[name], seq):
                    lacking = model.lacking(model.present(model.snapshots[name]), seq)
                    assert price <= self.store.plan(seq, name).bytes + lacking

    def _check_moved(
        self,
        plan: jrnl.Plan,
        base: int,
        seq: int,
        copied: int = 0,
        volumes: list[int] | None = None,
    ) -> None:
        entries = distinct = 0
        if base != seq:
            entries, distinct = self.model.moved(plan.route, base, seq, volumes)
        counted = entries, distinct + copied
        assert (plan.entries, plan.bytes) == counted, f"{plan} from {base} to {seq}: {counted}"
