"""Pins: states that are to stay, whatever is written."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import partial
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary, ref

from jrnl._core import Engine, Hold, to_the_end
from jrnl.closeable import ClosesItself
from jrnl.errors import InvalidType, PinnedPoint, PointExpired, UnknownPoint
from jrnl.plan import BEFORE
from jrnl.points import Mark, Point
from jrnl.recovery import present_seq
from jrnl.retention import Duration, WindowTime, parse_retention, window_time
from jrnl.steady import steadily

if TYPE_CHECKING:
    from jrnl.catalog import Catalog
    from jrnl.disk.session import DiskSession


class Pin(ClosesItself):
    """Keeps one state, and all later ones, in the window; made by ``store.pin(at)``.

    It lasts until `release`, the end of its ``with`` block, or until nobody holds it any more; a
    pinned mark's until ``store.unpin``.

    Attributes
    ----------
    name : str or None
        The mark whose state it is.
    """

    def __init__(self, hold: Hold, marks: Pins | None = None) -> None:
        self._hold = hold
        self._marks = None if marks is None else ref(marks)  # where it is a mark's
        self._last_seq = hold.seq
        self.name: str | None = hold.name

    def __repr__(self) -> str:
        name = f" {self.name!r}" if self.name is not None else ""
        ended = "" if self._hold.seq is not None else ", released"
        return f"<jrnl.Pin{name} at {self.seq}{ended}>"

    @property
    def seq(self) -> int:
        """The state; where a rewind to it has replaced its entry, by the seq it has now."""
        now = self._hold.seq
        if now is not None:
            self._last_seq = now
        assert self._last_seq is not None
        return self._last_seq

    @property
    def needs(self) -> int | None:
        """The state after which no entry leaves: its own, or that of a snapshot that leads to it.

        None once it is released.
        """
        return self._hold.needs

    @property
    def held(self) -> bool:
        """Whether it still keeps the state."""
        return self._hold.seq is not None

    def _is_of(self, engine: Engine) -> bool:
        """Whether it is a pin of the store with this engine."""
        return self._hold.engine is engine

    def release(self) -> None:
        """Let the state go; a mark's pin as ``store.unpin`` does. Doing so twice is fine."""
        marks = None if self._marks is None else self._marks()
        engine = self._hold.engine
        if marks is None or self.name is None:
            self._let_go()
            return
        with engine.changing():
            if engine.closed or not self.held:
                self._let_go()
            else:
                marks.unpin(self.name)

    def _let_go(self) -> None:
        self._last_seq = self.seq
        self._hold.release()

    def close(self) -> None:
        """Do the same."""
        self.release()


class Pins:
    """The open pins of a store. Callers hold the engine's lock."""

    def __init__(self, engine: Engine, catalog: Catalog, keeper: DiskSession | None) -> None:
        self._engine = engine
        self._catalog = catalog
        self._keeper = keeper
        self._open: WeakValueDictionary[int, Pin] = WeakValueDictionary()
        self._marks: dict[str, Pin] = {}

    def pin(self, seq: int) -> Pin:
        """Keep a state that has been resolved.

        Raises
        ------
        PointExpired
            With after-images alone, no snapshot leads to it.
        """
        pin = Pin(Hold(self._engine, seq, self._needs(seq)))
        self._open[id(pin)] = pin
        return pin

    def all(self) -> tuple[Pin, ...]:
        """Return the open ones, the oldest state first."""
        # Pins come and go meanwhile: valuerefs() is a list of its own.
        alive = (reference() for reference in self._open.valuerefs())
        held = [pin for pin in alive if pin is not None and pin.held]
        return tuple(sorted(held, key=lambda pin: pin.seq))

    def _needs(self, seq: int) -> int:
        """Return the state after which every entry has to stay, so that `seq` can be rebuilt."""
        engine = self._engine
        if engine.images & BEFORE:
            return seq
        found = [state for state in self._snapshot_states() if state <= seq]
        if not found:
            raise PointExpired(
                f"with images='after' nothing keeps state {seq} once it is overwritten; take a "
                "snapshot first"
            )
        return max(found)

    def _snapshot_states(self, without: str | None = None) -> list[int]:
        """Return the states of the snapshots from which the journal leads on."""
        snapshots = self._catalog.snapshots.values()
        found = (
            present_seq(self._engine, snapshot.seq)
            for snapshot in snapshots
            if snapshot.name != without and snapshot._covers is None
        )
        return [state for state in found if state is not None]

    def check_delete(self, name: str) -> None:
        """Raise PinnedPoint where a pinned state is rebuilt from this snapshot, and no other."""
        if self._engine.images & BEFORE:
            return
        others = self._snapshot_states(name)
        for pin in self.all():
            if pin.needs is not None and pin.needs not in others:
                raise PinnedPoint(
                    f"state {pin.seq} is pinned, and the snapshot {name!r} leads to it; release "
                    "the pin, unpin the mark or close the pinned view first"
                )

    # Marks.

    def hold_for_mark(self, name: str) -> Hold:
        """Keep what a new mark's state is rebuilt from, while its entry is made.

        A fold keeps a snapshot that leads to it anyway. Raises PointExpired where the state could
        not be pinned.
        """
        seq = self._engine.seq
        needs = self._needs(seq)
        return Hold(self._engine, seq, seq if self._engine.folds else needs, name)

    def pin_mark(self, mark: Mark) -> None:
        """Keep a mark's state until it is unpinned; on disk durably so."""
        assert mark.name is not None
        pin = Pin(Hold(self._engine, mark.seq, self._needs(mark.seq), mark.name), self)
        self._open[id(pin)] = pin
        self._marks[mark.name] = pin
        if self._keeper is not None:
            self._keeper.pin_mark(mark)

    def unpin(self, name: str) -> None:
        """Let a pinned mark go on as an ordinary one. Raises UnknownPoint."""
        if name not in self._marks:
            pinned = ", ".join(repr(other) for other in self._marks) or "none"
            raise UnknownPoint(f"no pinned mark is called {name!r}; there is {pinned}")
        to_the_end(partial(self._forget, name))

    def _forget(self, name: str) -> None:
        if self._keeper is not None:
            self._keeper.unpin_mark(name)
        self._marks[name]._let_go()
        del self._marks[name]

    def load(self, pinned: dict[str, Hold]) -> None:
        """Take over what an opening has found."""
        for name, hold in pinned.items():
            pin = self._marks[name] = Pin(hold, self)
            self._open[id(pin)] = pin


class KeepsStates(ABC):
    """The part of a store that keeps states, and tells for how long."""

    _engine: Engine
    _keeper: DiskSession | None
    _pins: Pins

    @abstractmethod
    def _resolve(self, point: Point) -> int: ...

    @abstractmethod
    def _oldest(self) -> int: ...

    @property
    def window_time(self) -> WindowTime:
        """When the window's oldest state began, and when the newest entry was made; UTC.

        Raises
        ------
        CorruptionError, StoreClosed
        """
        with self._engine as engine:
            engine.check_not_closed()
            return steadily(engine, lambda: window_time(engine, self._oldest()))

    @property
    def pins(self) -> tuple[Pin, ...]:
        """What is pinned now, marks and views too, the oldest state first."""
        with self._engine as engine:
            engine.check_not_closed()
            return self._pins.all()

    def pin(self, at: Point) -> Pin:
        """Keep a state, and every later one, in the window.

        While the pin is there no entry after the state leaves the journal, and no rewind goes below
        it. A writer that needs the room gets JournalFull. It lasts until it is released, or until
        nobody holds it; it does not outlive the store's closing. A pinned `mark` does.

        Raises
        ------
        PointExpired
            The state is no longer in the window; or with after-images alone, no snapshot leads to
            it.
        UnknownPoint, CorruptionError, InvalidArgument, InvalidType, EditOpen, StoreClosed
        """
        with self._engine as engine:
            engine.check_open()
            return steadily(engine, lambda: self._pins.pin(self._resolve(at)))

    def unpin(self, name: str | Mark) -> None:
        """Let a pinned mark, given by its name or as a Mark, go on as an ordinary one.

        Raises
        ------
        UnknownPoint
            No pinned mark has that name.
        InvalidType, OSError, EditOpen, ReadOnlyStore, StorePoisoned, StoreClosed
        """
        with self._engine.changing() as engine:
            engine.check_open()
            wanted = getattr(name, "name", name)
            if not isinstance(wanted, str):
                raise InvalidType(f"unpin takes a mark or its name, not {wanted!r}")
            self._pins.unpin(wanted)

    def retain(self, at_least: Duration | None = None, at_most: Duration | None = None) -> None:
        """Set how long states are kept, in place of what was set before; None for no such rule.

        Parameters
        ----------
        at_least : timedelta, or seconds as int or float, optional
            No younger entry leaves the journal: who needs the room gets JournalFull.
        at_most : timedelta, or seconds as int or float, optional
            An older entry leaves even where there is room, at the next operation; pins hold it.
            So a state goes once what followed it is older than this. In memory that is exact. On
            disk whole groups leave, so that it may take an eighth of the duration longer; and a
            store that is open for reading shows what is there. Snapshots are copies, and stay.

        Raises
        ------
        InvalidArgument, InvalidType
            No duration, or `at_least` is longer than `at_most`.
        OSError, EditOpen, ReadOnlyStore, StorePoisoned, StoreClosed
        """
        least_ns, most_ns = parse_retention(at_least, at_most)
        with self._engine.changing() as engine:
            engine.check_open()
            if self._keeper is not None:
                self._keeper.set_retention(least_ns, most_ns)
            engine.set_retention(least_ns, most_ns)
