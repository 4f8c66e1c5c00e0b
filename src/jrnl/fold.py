"""Folding: on a full journal the oldest snapshot goes on over the oldest entries, which may leave.

So there is always a snapshot from which the journal leads to the present. It is the oldest one that
the journal still leads on from and that is not pinned. Where there is none, the fold makes one.
"""

from __future__ import annotations

from functools import partial
from itertools import count
from typing import TYPE_CHECKING
from weakref import ref

from jrnl._core import ExtentMap, Image
from jrnl.errors import CorruptionError, JournalFull
from jrnl.plan import AFTER, BEFORE
from jrnl.recovery import connected
from jrnl.snapshot import Snapshot
from jrnl.steady import until_steady

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jrnl._core import Engine
    from jrnl.catalog import Catalog
    from jrnl.steady import Stamp

BASE = "base"


class Folding:
    """What an engine asks before entries leave it. Callers hold the engine's lock."""

    def __init__(self, catalog: Catalog, engine: Engine) -> None:
        self._catalog = ref(catalog)  # weakly: the engine holds this
        self._engine = ref(engine)
        self._done = 0  # entries up to here are about to leave, as far as they have not left

    def begin(self) -> None:
        """Be asked from now on.

        With after-images alone no later state leads back to the first one, so that has a snapshot.
        """
        catalog, engine = self._catalog(), self._engine()
        assert catalog is not None
        assert engine is not None
        engine.set_fold(self)
        catalog.folding = self
        if engine.images == AFTER and engine.seq == 0 and not catalog.snapshots:
            self._make_base(catalog, engine, 0)
        self.refresh()

    def refresh(self) -> None:
        """Snapshots came or went, or states were dropped: decide anew what may leave."""
        catalog, engine = self._catalog(), self._engine()
        if catalog is None or engine is None or engine.closed:
            return
        engine.fold_seq = self._done = 0
        there = connected(catalog, engine)
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
        catalog, engine = self._catalog(), self._engine()
        if catalog is None or engine is None:  # the store is being dropped: nobody can ask for it
            return
        until_steady(engine, partial(self._have, catalog, engine, seq))

    def _have(self, catalog: Catalog, engine: Engine, seq: int, stamp: Stamp) -> None:
        there = connected(catalog, engine)
        free = [pair for pair in there if pair[0] >= self._done and not pair[1].pinned]
        if free:
            start, snapshot = min(free, key=lambda pair: pair[0])
            if start < seq:
                self._bring_on(catalog, snapshot, start, seq, stamp)
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
            engine.fold_seq = self._make_base(catalog, engine, seq)

    def _bring_on(
        self, catalog: Catalog, snapshot: Snapshot, start: int, seq: int, stamp: Stamp
    ) -> None:
        """Advance a snapshot by the way that is not damaged; nothing has changed where none is."""
        image, problem = image_of(catalog, snapshot), None
        for extents in _maps(image.engine, start, seq):
            try:
                if catalog.keeper is not None:
                    snapshot._follow(catalog.keeper.fold(image, extents(), seq))
                else:
                    own = Image.frozen_of(image) if image.held else image
                    own.advance(extents(), seq, stamp=stamp)
                    snapshot._follow(own)
            except CorruptionError as error:
                problem = error
            else:
                return
        raise CorruptionError(
            f"the snapshot {snapshot.name!r} cannot be brought on from state {start} to {seq}, so "
            f"that nothing may leave the full journal: {problem}; delete the snapshot, and the "
            "next write begins another"
        ) from problem

    def _make_base(self, catalog: Catalog, engine: Engine, seq: int) -> int:
        """Take a snapshot of state `seq`, or where that cannot be had, of the present one."""
        name = next(name for name in _names() if catalog.is_free(name))
        if catalog.keeper is not None:
            image = catalog.keeper.make_base(name, seq)
        else:
            image = _frozen_at(engine, seq)
        made = Snapshot(catalog, name, image, engine.time_ns)
        catalog.snapshots = {**catalog.snapshots, name: made}
        return image.seq


def image_of(catalog: Catalog, snapshot: Snapshot) -> Image:
    """Return the whole copy that a fold writes into; one that is being made is finished first."""
    catalog.copier.finish_image(snapshot._image)
    return snapshot._image


def _maps(engine: Engine, start: int, seq: int) -> Iterator[partial[ExtentMap]]:
    """Yield the ways from one state to a later one, the cheapest first."""
    if engine.images & AFTER:
        yield partial(ExtentMap.forward, engine, start, seq)
    if engine.images & BEFORE:
        yield partial(ExtentMap.fold, engine, start, seq)


def _frozen_at(engine: Engine, seq: int) -> Image:
    if engine.images & BEFORE:
        try:
            return Image.frozen_of(Image.live(engine, seq, False))
        except CorruptionError:  # later entries are damaged; production is not
            pass
    engine.check_settled()  # an edit's bytes are no state
    return Image.frozen(engine)


def _names() -> Iterator[str]:
    yield BASE
    for number in count(2):
        yield f"{BASE}-{number}"
