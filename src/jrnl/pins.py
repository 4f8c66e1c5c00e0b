"""Pins: states that are to stay, whatever is written."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary, ref

from jrnl._core import Engine, PinnedState, to_the_end
from jrnl.closeable import ClosesItself
from jrnl.errors import PinnedPoint, PointExpired, UnknownPoint
from jrnl.plan import BEFORE
from jrnl.window import present_seq

if TYPE_CHECKING:
    from jrnl.catalog import Catalog
    from jrnl.points import Mark
    from jrnl.session import Session


class Pin(ClosesItself):
    """Keeps one state, and all later ones, in the window; made by ``store.pin(at)``.

    It lasts until `release`, the end of its ``with`` block, or until nobody holds it any more; a
    pinned mark's until ``store.unpin``.

    Attributes
    ----------
    name : str or None
        The mark whose state it is.
    """

    def __init__(self, pinned: PinnedState, session: Session | None = None) -> None:
        self._pinned = pinned
        self._session = None if session is None else ref(session)  # where it is a mark's
        self._last_seq = pinned.seq
        self.name: str | None = pinned.name

    def __repr__(self) -> str:
        name = f" {self.name!r}" if self.name is not None else ""
        ended = "" if self._pinned.seq is not None else ", released"
        return f"<jrnl.Pin{name} at {self.seq}{ended}>"

    @property
    def seq(self) -> int:
        """The state; where a rewind to it has replaced its entry, by the seq it has now."""
        now = self._pinned.seq
        if now is not None:
            self._last_seq = now
        assert self._last_seq is not None
        return self._last_seq

    @property
    def needs(self) -> int | None:
        """The state after which no entry leaves: its own, or that of a snapshot that leads to it.

        None once it is released.
        """
        return self._pinned.needs

    @property
    def held(self) -> bool:
        """Whether it still keeps the state."""
        return self._pinned.seq is not None

    def _is_of(self, engine: Engine) -> bool:
        """Whether it is a pin of the store with this engine."""
        return self._pinned.engine is engine

    def release(self) -> None:
        """Let the state go; a mark's pin as ``store.unpin`` does. Doing so twice is fine."""
        session = None if self._session is None else self._session()
        engine = self._pinned.engine
        if session is None or self.name is None:
            self._let_go()
            return
        with engine.changing():
            if engine.closed or not self.held:
                self._let_go()
            else:
                session.pins.unpin(self.name, session)

    def _let_go(self) -> None:
        self._last_seq = self.seq
        self._pinned.release()

    def close(self) -> None:
        """Do the same."""
        self.release()


class Pins:
    """The open pins of a store. Callers hold the engine's lock."""

    def __init__(self, engine: Engine, catalog: Catalog) -> None:
        self._engine = engine
        self._catalog = catalog
        self._open: WeakValueDictionary[int, Pin] = WeakValueDictionary()
        self._marks: dict[str, Pin] = {}

    def pin(self, seq: int) -> Pin:
        """Keep a state that has been resolved.

        Raises
        ------
        PointExpired
            With after-images alone, no snapshot leads to it.
        """
        pin = Pin(PinnedState(self._engine, seq, self._needs(seq)))
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

    def pin_mark_state(self, name: str) -> PinnedState:
        """Keep what a new mark's state is rebuilt from, while its entry is made.

        A fold keeps a snapshot that leads to it anyway. Raises PointExpired where the state could
        not be pinned.
        """
        seq = self._engine.seq
        needs = self._needs(seq)
        return PinnedState(self._engine, seq, seq if self._engine.folds else needs, name)

    def pin_mark(self, mark: Mark, session: Session) -> None:
        """Keep a mark's state until it is unpinned; on disk durably so."""
        assert mark.name is not None
        pin = Pin(PinnedState(self._engine, mark.seq, self._needs(mark.seq), mark.name), session)
        to_the_end(partial(self._note, mark, pin, session))

    def _note(self, mark: Mark, pin: Pin, session: Session) -> None:
        assert mark.name is not None
        session.pin_mark(mark)
        self._open[id(pin)] = pin
        self._marks[mark.name] = pin

    def unpin(self, name: str, session: Session) -> None:
        """Let a pinned mark go on as an ordinary one. Raises UnknownPoint."""
        if name not in self._marks:
            pinned = ", ".join(repr(other) for other in self._marks) or "none"
            raise UnknownPoint(f"no pinned mark is called {name!r}; there is {pinned}")
        to_the_end(partial(self._forget, name, session))

    def _forget(self, name: str, session: Session) -> None:
        session.unpin_mark(name)
        self._marks[name]._let_go()
        del self._marks[name]

    def load(self, pinned: dict[str, PinnedState], session: Session) -> None:
        """Take over what an opening has found."""
        for name, state in pinned.items():
            pin = self._marks[name] = Pin(state, session)
            self._open[id(pin)] = pin
