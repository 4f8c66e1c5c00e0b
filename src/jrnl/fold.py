"""Folding: on a full journal the oldest snapshot goes on over the oldest entries, which may leave.

So there is always a snapshot from which the journal leads to the present. It is the oldest one that
the journal still leads on from and that is not pinned. Where there is none, the fold makes one.
"""

from __future__ import annotations

from functools import partial
from itertools import count
from typing import TYPE_CHECKING
from weakref import ref

from jrnl._core import ExtentMap
from jrnl.errors import CorruptionError, JournalFull
from jrnl.plan import AFTER, BEFORE
from jrnl.snapshot import Snapshot
from jrnl.steady import until_steady
from jrnl.window import connected

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jrnl._core import Engine, Image
    from jrnl.session import Session
    from jrnl.steady import Stamp

BASE = "base"


class Folding:
    """What an engine asks before entries leave it. Callers hold the engine's lock."""

    def __init__(self, session: Session) -> None:
        self._session = ref(session)  # weakly: the engine holds this
        self._done = 0  # entries up to here are about to leave, as far as they have not left

    def begin(self) -> None:
        """Be asked from now on.

        With after-images alone no later state leads back to the first one, so that has a snapshot.
        """
        session = self._session()
        assert session is not None
        engine, catalog = session.engine, session.catalog
        engine.set_fold(self)
        catalog.watch(self.refresh)
        if engine.images == AFTER and engine.seq == 0 and not catalog.snapshots:
            self._make_base(session, 0)
        self.refresh()

    def refresh(self) -> None:
        """Snapshots came or went, or states were dropped: decide anew what may leave."""
        session = self._session()
        if session is None or session.engine.closed:
            return
        engine = session.engine
        engine.fold_seq = self._done = 0
        there = connected(session.catalog.snapshots, engine)
        pinned = there and all(snapshot.pinned for _, snapshot in there)
        engine.set_fold_pin(max(seq for seq, _ in there) if pinned else None)

    def __call__(self, seq: int) -> None:
        """Have a snapshot at state `seq` or later, from which all entries are there.

        Raises
        ------
        JournalFull
            All snapshots that the journal leads on from are pinned.
        CorruptionError
            The snapshot, or an entry that it takes to bring it on, is damaged.
        OSError, StorePoisoned, MemoryError, EditOpen
        """
        session = self._session()
        if session is None:  # the store is being dropped: nobody can ask for it
            return
        until_steady(session.engine, partial(self._have, session, seq))

    def _have(self, session: Session, seq: int, stamp: Stamp) -> None:
        engine = session.engine
        there = connected(session.catalog.snapshots, engine)
        free = [pair for pair in there if pair[0] >= self._done and not pair[1].pinned]
        if free:
            start, snapshot = min(free, key=lambda pair: pair[0])
            if start < seq:
                self._bring_on(session, snapshot, start, seq, stamp)
                self._done = seq
            engine.fold_seq = max(start, seq)
        elif there:
            engine.fold_seq = max(start for start, _ in there)
            if engine.fold_seq < seq:
                raise JournalFull(
                    f"the journal is full, and state {engine.fold_seq} must stay: all snapshots "
                    "that it leads on from are pinned; delete one, or take one that is not pinned"
                )
        else:
            engine.fold_seq = self._make_base(session, seq)

    def _bring_on(
        self, session: Session, snapshot: Snapshot, start: int, seq: int, stamp: Stamp
    ) -> None:
        """Advance a snapshot by the way that is not damaged; nothing has changed where none is."""
        image, problem = image_of(session, snapshot), None
        for extents in _maps(image.engine, start, seq):
            try:
                snapshot._follow(session.fold(image, extents(), seq, stamp))
            except CorruptionError as error:
                problem = error
            else:
                session.engine.happened("folded", name=snapshot.name, first=start, last=seq)
                return
        raise CorruptionError(
            f"the snapshot {snapshot.name!r} cannot be brought on from state {start} to {seq}, so "
            f"that nothing may leave the full journal: {problem}; delete the snapshot, and the "
            "next write begins another"
        ) from problem

    def _make_base(self, session: Session, seq: int) -> int:
        """Take a snapshot of state `seq`, or where that cannot be had, of the present one."""
        catalog = session.catalog
        name = next(name for name in _names() if catalog.is_free(name))
        image = session.make_base(name, seq)
        made = Snapshot(session, name, image, session.engine.time_ns)
        catalog.snapshots = {**catalog.snapshots, name: made}
        session.engine.happened("based", name=name, seq=image.seq)
        return image.seq


def image_of(session: Session, snapshot: Snapshot) -> Image:
    """Return the whole copy that a fold writes into; one that is being made is finished first."""
    session.copier.finish_image(snapshot._image)
    return snapshot._image


def _maps(engine: Engine, start: int, seq: int) -> Iterator[partial[ExtentMap]]:
    """Yield the ways from one state to a later one, the cheapest first."""
    if engine.images & AFTER:
        yield partial(ExtentMap.forward, engine, start, seq)
    if engine.images & BEFORE:
        yield partial(ExtentMap.fold, engine, start, seq)


def _names() -> Iterator[str]:
    yield BASE
    for number in count(2):
        yield f"{BASE}-{number}"
