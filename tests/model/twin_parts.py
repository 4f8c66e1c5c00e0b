"""Parts of a twin: what it keeps, and its savepoints."""

from __future__ import annotations

from dataclasses import dataclass

import jrnl
from jrnl import Kind, PinnedPoint, PointExpired, UnknownPoint


@dataclass
class OpenPin:
    pin: jrnl.Pin | None  # None where it is a mark's
    seq: int
    needs: int  # no entry after this state leaves


@dataclass
class OpenSavepoint:
    savepoint: object
    name: str | None
    seq: int


class Pins:
    """The part of `Twin` that keeps states.

    Attributes
    ----------
    pins : list of OpenPin
    pinned : dict of str to OpenPin
        Of marks.
    """

    def _begin_pins(self) -> None:
        self.pins: list[OpenPin] = []
        self.pinned: dict[str, OpenPin] = {}

    def pin(self, at: object) -> OpenPin | None:
        seq = self.find(at)
        needs = self._pin_needs(seq) if seq is not None and self.is_in_window(seq) else None
        if needs is None:
            self._changes_nothing((PointExpired, UnknownPoint), lambda: self.store.pin(at))
            return None
        seq = self.model.present(seq)
        opened = OpenPin(self.store.pin(at), seq, needs)
        self.pins.append(opened)
        self.check_pins()
        return opened

    def release(self, opened: OpenPin, drop: bool = False) -> None:
        """Let a pin go: release it, or just forget it."""
        self.pins.remove(opened)
        if not drop:
            opened.pin.release()
        opened.pin = None
        self.check_pins()

    def pin_mark(self, name: str) -> bool:
        """A mark that keeps its state."""
        if self.is_taken(name):
            self._changes_nothing(jrnl.NameTaken, lambda: self.store.mark(name, pinned=True))
            return False
        if self._pin_needs(self.model.seq) is None:
            self._changes_nothing(PointExpired, lambda: self.store.mark(name, pinned=True))
            return False
        adds = [(Kind.MARK, 0, 0, len(name.encode()))]
        seq = self.model.seq
        # Its own entry pushes out nothing that leads to it; a fold keeps a snapshot that does.
        self.pinned[name] = OpenPin(None, seq, seq if self.folds else self._pin_needs(seq))
        try:
            done = self._add(
                lambda: self.store.mark(name, pinned=True).seq,
                lambda: self.model.mark(name, self.time_ns),
                adds,
            )
        finally:
            del self.pinned[name]
        if done:
            seq = self.model.seq
            self.pinned[name] = OpenPin(None, seq, self._pin_needs(seq))
            self.check_pins()
        return done

    def unpin(self, name: str) -> None:
        if name not in self.pinned:
            self._changes_nothing(UnknownPoint, lambda: self.store.unpin(name))
            return
        self.store.unpin(name)
        del self.pinned[name]
        self.check_pins()

    def open_pins(self) -> list[OpenPin]:
        return [*self.pins, *self.pinned.values()]

    @property
    def floor(self) -> int | None:
        """No entry after this state may leave; None where all may."""
        floors = [self.model.present(opened.needs) for opened in self.open_pins()]
        folds = self.pinned_at()
        return min(floors if folds is None else [*floors, folds], default=None)

    def _pin_needs(self, seq: int) -> int | None:
        """The state whose later entries a pin keeps; None where nothing leads to the state."""
        if self.rewinds:
            return self.model.present(seq)
        return max(self._snapshots_upto(seq), default=None)

    def is_needed(self, name: str) -> bool:
        """Whether a pinned state can be rebuilt from this snapshot alone, and with no other."""
        if self.rewinds:
            return False
        others = [seq for other, seq in self.model.snapshots.items() if other != name]
        return any(opened.needs not in others for opened in self.open_pins())

    def copy_bit(self, pieces: int = 1) -> None:
        """Make a few pieces of the copies that snapshots are to become."""
        for _ in range(pieces):
            self.store._session.copier.step()

    def delete(self, name: str) -> None:
        if self.is_needed(name):
            self._changes_nothing(PinnedPoint, self.snapshots[name].delete)
            return
        self.snapshots.pop(name).delete()
        del self.model.snapshots[name]

    def check_pins(self) -> None:
        """Every pinned state is in the window, and the store says which they are."""
        wanted = [(self.model.present(pin.seq), None) for pin in self.pins]
        wanted += [(opened.seq, name) for name, opened in self.pinned.items()]
        found = [(pin.seq, pin.name) for pin in self.store.pins]
        assert sorted(found, key=str) == sorted(wanted, key=str)
        for seq, _ in wanted:
            assert self.is_in_window(seq), f"the pinned state {seq} has left"
        for name in self.pinned:
            assert name in self.store.marks

    def _check_pinned_full(self, rooms: list[int], slack: int) -> None:
        """What was refused needs the room of an entry that may not leave."""
        assert self.floor is not None
        model = self.model
        kept = model.entries_in(max(self.floor, self.base), model.seq)
        used = sum(model.room(entry.kind, entry.length, entry.seq in model.idle) for entry in kept)
        full = len(kept) + len(rooms) > model.slots
        assert full or used + sum(rooms) + slack > model.area, "refused although there was room"


class Savepoints:
    """The part of `Twin` that goes back where a block fails.

    Attributes
    ----------
    savepoints : list of OpenSavepoint
    """

    def _begin_savepoints(self) -> None:
        self.savepoints: list[OpenSavepoint] = []

    def enter_savepoint(self, name: str | None = None) -> None:
        if not self.rewinds:
            self._changes_nothing(jrnl.InvalidArgument, lambda: self.store.savepoint(name))
            return
        savepoint = self.store.savepoint(name)
        if name is not None and self.is_taken(name):
            self._changes_nothing(jrnl.NameTaken, savepoint.__enter__)
            return
        start = savepoint.__enter__()
        assert start == (name, self.model.seq, self.time_ns)
        if name is not None:
            self.model.marks[name] = start.seq
        self.savepoints.append(OpenSavepoint(savepoint, name, start.seq))

    def leave_savepoint(self, fails: bool) -> None:
        """Leave the innermost one, as by an exception or not."""
        opened = self.savepoints.pop()
        if opened.name is not None and self.model.marks.get(opened.name) == opened.seq:
            del self.model.marks[opened.name]
        error = KeyError()

        def leave() -> object:
            if fails:
                return opened.savepoint.__exit__(KeyError, error, None)
            return opened.savepoint.__exit__(None, None, None)

        seq = self.model.present(opened.seq)
        if not fails:
            self._changes_nothing(None, leave)
        elif not self.model.is_kept(opened.seq, self.base):
            self._changes_nothing(PointExpired, leave)
        elif self.is_pinned(seq):
            self._changes_nothing(PinnedPoint, leave)
        else:
            assert not leave()  # the exception goes on
            self.model.rewind(seq, self.base, self.time_ns)
            self.check_journal()
