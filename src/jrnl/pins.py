"""Pins: states that are to stay, whatever is written."""

from __future__ import annotations

from typing import TYPE_CHECKING
from weakref import WeakSet, ref

from jrnl._core import Hold
from jrnl.closing import ClosesItself
from jrnl.errors import PinnedPoint, PointExpired, UnknownPoint
from jrnl.plan import BEFORE
from jrnl.recovery import present_seq

if TYPE_CHECKING:
    from jrnl._core import Engine
    from jrnl.catalog import Catalog
    from jrnl.keeper import Keeper
    from jrnl.points import Mark


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

    def release(self) -> None:
        """Let the state go; a mark's pin as ``store.unpin`` does. Doing so twice is fine."""
        marks = None if self._marks is None else self._marks()
        with self._hold.engine as engine:
            if marks is None or self.name is None or engine.closed or not self.held:
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

    def __init__(self, engine: Engine, catalog: Catalog, keeper: Keeper | None) -> None:
        self._engine = engine
        self._catalog = catalog
        self._keeper = keeper
        self._open: WeakSet[Pin] = WeakSet()
        self._marks: dict[str, Pin] = {}

    def pin(self, seq: int) -> Pin:
        """Keep a state that has been resolved.

        Raises
        ------
        PointExpired
            With after-images alone, no snapshot leads to it.
        """
        pin = Pin(Hold(self._engine, seq, self._needs(seq)))
        self._open.add(pin)
        return pin

    def all(self) -> tuple[Pin, ...]:
        """Return the open ones, the oldest state first."""
        return tuple(sorted((pin for pin in self._open if pin.held), key=lambda pin: pin.seq))

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
            if snapshot.name != without
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
                    "the pin or unpin the mark first"
                )

    # Marks.

    def check_markable(self) -> None:
        """Raise PointExpired where a new mark's state could not be pinned."""
        self._needs(self._engine.seq)

    def pin_mark(self, mark: Mark) -> None:
        """Keep a mark's state until it is unpinned; on disk durably so."""
        assert mark.name is not None
        pin = Pin(Hold(self._engine, mark.seq, self._needs(mark.seq), mark.name), self)
        self._open.add(pin)
        self._marks[mark.name] = pin
        if self._keeper is not None:
            self._keeper.pin_mark(mark)

    def unpin(self, name: str) -> None:
        """Let a pinned mark go on as an ordinary one. Raises UnknownPoint."""
        if name not in self._marks:
            pinned = ", ".join(repr(other) for other in self._marks) or "none"
            raise UnknownPoint(f"no pinned mark is called {name!r}; there is {pinned}")
        if self._keeper is not None:
            self._keeper.unpin_mark(name)
        self._marks.pop(name)._let_go()

    def load(self, pinned: dict[str, Hold]) -> None:
        """Take over what an opening has found."""
        for name, hold in pinned.items():
            pin = self._marks[name] = Pin(hold, self)
            self._open.add(pin)
