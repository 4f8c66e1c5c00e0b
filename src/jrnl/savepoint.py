"""Going back in place: rewinds, and blocks that an exception rewinds."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, NamedTuple

from jrnl._core import Block
from jrnl.closeable import NotCopied
from jrnl.errors import InvalidArgument, PointExpired
from jrnl.plan import BEFORE
from jrnl.points import Mark, Point
from jrnl.recovery import present_seq

if TYPE_CHECKING:
    from jrnl._core import Engine
    from jrnl.catalog import Catalog
    from jrnl.disk.session import DiskSession
    from jrnl.snapshot import Snapshot


class Rewind(NamedTuple):
    """What a rewind did: its seq, how many entries it dropped, how many bytes it put back."""

    seq: int
    entries: int
    bytes: int


class Savepoint(Block, NotCopied):
    """The context manager behind `Store.savepoint`."""

    def __init__(self, store: Rewinds, name: str | None) -> None:
        self._store = store
        self._name = name
        self._mark: Mark | None = None
        self._start = 0  # the seq that its start is kept under now

    def _begin(self) -> Mark:
        return self._store._open_savepoint(self, self._name)

    def _end(self, *, failed: bool) -> None:
        self._store._close_savepoint(self, failed=failed)


class Rewinds(ABC):
    """The part of a store that goes back in place."""

    _engine: Engine
    _catalog: Catalog
    _keeper: DiskSession | None
    _savepoints: set[Savepoint]

    @abstractmethod
    def _resolve(self, point: Point) -> int: ...

    @abstractmethod
    def _only(self, volumes: None, point: Point) -> frozenset[int] | None: ...

    @abstractmethod
    def _snapshot_of(self, point: Point, only: frozenset[int] | None = None) -> Snapshot | None: ...

    def rewind(self, to: Point) -> Rewind:
        """Put production itself back to an earlier state, and drop the entries after it.

        Costs the distinct bytes written since. History after the point is given up; the seq goes
        on rising: one REWIND entry stands for state `to`.

        Raises
        ------
        PinnedPoint
            An open view or recovery needs an entry that would be dropped, or a later state is
            pinned.
        UnknownPoint, PointExpired, CorruptionError, EditOpen, StoreClosed
        JournalFull
            On disk, what is pinned leaves no room for the REWIND entry.
        InvalidArgument
            ``images="after"``.
        """
        with self._engine.changing() as engine:
            engine.check_open()
            self._check_before_images("rewind")
            try:
                return self._rewind(self._resolve(to))
            except PointExpired as error:
                snapshot = self._snapshot_of(to, self._only(None, to))
                if snapshot is None:
                    raise
                raise PointExpired(
                    f"state {snapshot.seq} is only in the snapshot {snapshot.name!r} now, and a "
                    "rewind needs the entries since; recover it and restore that"
                ) from error

    def savepoint(self, name: str | None = None) -> Savepoint:
        """Return a block that an exception rewinds to its start. Savepoints nest.

        ``with store.savepoint() as start`` gives a bookmark of the start; a `name` is a mark's
        while the block runs. What other threads write meanwhile is rewound too. Close views and
        recoveries that were made in the block before it ends: leaving it by an exception raises
        what `rewind` does, PinnedPoint while one is open, and then changes nothing.
        """
        self._engine.check_not_closed()
        self._check_before_images("savepoint")
        return Savepoint(self, name)

    def _check_before_images(self, what: str) -> None:
        if not self._engine.images & BEFORE:
            raise InvalidArgument(
                f"{what} needs before-images; create the store with images='before' or 'both'"
            )

    def _rewind(self, seq: int) -> Rewind:
        if self._keeper is not None:
            self._keeper.check_epochs()
        self._catalog.copier.finish_after(seq)
        result = Rewind(*self._engine.rewind(seq))
        self._catalog.snapshots_changed()  # some may be of states that were dropped
        if self._keeper is not None:
            self._keeper.bound_epochs()
        # A start that was replaced goes by its successor's seq: the journal remembers such seqs for
        # long, not for ever, and an outer savepoint may wait for any number of inner ones.
        for savepoint in self._savepoints:
            savepoint._start = present_seq(self._engine, savepoint._start) or savepoint._start
        return result

    def _open_savepoint(self, savepoint: Savepoint, name: str | None) -> Mark:
        """Open it, or go on with that where a handler has broken it off."""
        with self._engine.changing() as engine:
            mark = savepoint._mark
            if mark is None:
                engine.check_open()
                if name is not None:
                    self._catalog.check_free(name)
                engine.expect_rewind()
                mark = Mark(name, engine.seq, engine.tick())
                mark._store = engine.identity
                savepoint._start = mark.seq
                savepoint._mark = mark
            if name is not None:
                self._catalog.add_mark(mark, journaled=False)
            self._savepoints.add(savepoint)
            return mark

    def _close_savepoint(self, savepoint: Savepoint, *, failed: bool) -> None:
        with self._engine.changing() as engine:
            self._savepoints.discard(savepoint)
            if savepoint._mark is not None:
                self._catalog.remove_mark(savepoint._mark)
            if failed and not engine.closed:
                engine.check_open()
                self._rewind(engine.resolve(savepoint._start))
            savepoint._mark = None
