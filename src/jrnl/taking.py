"""Taking snapshots: the part of a store that begins them, in memory and on disk."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from jrnl._core import Image
from jrnl.plan import BEFORE
from jrnl.recovery import chosen
from jrnl.sizes import as_flag
from jrnl.snapshot import Snapshot
from jrnl.snapshot_copier import Copy, MemoryCopy

if TYPE_CHECKING:
    from jrnl._core import Engine
    from jrnl.catalog import Catalog
    from jrnl.disk.session import DiskSession


class TakesSnapshots:
    """What a store adds to what it is made of."""

    _engine: Engine
    _catalog: Catalog
    _keeper: DiskSession | None

    def snapshot(
        self, name: str, volumes: Iterable[str] | None = None, pinned: bool = False
    ) -> Snapshot:
        """Take a copy of the volumes as they are now, with checksums.

        It costs nothing to take, whatever the volumes' size: it is read through the journal at
        first, and copied in the background (`Snapshot.complete`, `Snapshot.wait`); what the journal
        must let go of meanwhile is copied before. On disk, it is durable once this returns, and the
        copying goes on after a crash. With ``images="after"`` the journal can't keep a past: then
        all is copied at once, and writers wait.

        Parameters
        ----------
        name : str
        volumes : iterable of str, optional
            The only volumes that it covers; all by default. `recover`, `view` and `plan` to it
            cover these, too, unless they are told otherwise, and `digest` is over these alone. A
            `rewind` to it is one of all volumes, as ever.
        pinned : bool
            No fold may touch it; see ``overflow="fold"`` of `create`.

        Raises
        ------
        NameTaken, UnknownVolume, InvalidArgument, InvalidType, EditOpen, StoreClosed, MemoryError
        OSError, StorePoisoned, ReadOnlyStore, CatalogFull
            On disk.
        """
        copier, pinned = self._catalog.copier, as_flag(pinned, "pinned")
        with self._engine.changing() as engine:
            engine.check_open()
            self._catalog.check_free(name)
            covered = chosen(self._catalog.volumes, volumes, engine)
            if self._keeper is not None:
                self._keeper.check_snapshot(name, covered)
            snapshot = self._begin_snapshot(name, covered, pinned)
            if self._keeper is None:
                self._catalog.add_snapshot(snapshot)
        if self._keeper is not None:
            self._make_durable(snapshot)
        copier.start()
        return snapshot

    def _begin_snapshot(self, name: str, covered: list[int], pinned: bool) -> Snapshot:
        engine, keeper = self._engine, self._keeper
        copy: Copy | None = None
        if keeper is not None:
            image, copy = keeper.take_snapshot(covered)
        elif engine.images & BEFORE:
            image = Image.live(engine, engine.seq, True, covered)
            copy = MemoryCopy(image, covered)
        else:
            image = Image.frozen(engine, covered)
        snapshot = Snapshot(self._catalog, name, image, engine.tick(), copy, covered, pinned)
        if copy is not None:
            self._catalog.copier.add(copy)
        return snapshot

    def _make_durable(self, snapshot: Snapshot) -> None:
        """Have a snapshot's state, and then its name, outlive a crash. Others may write meanwhile.

        Whatever they do, the copy is of its state: it is finished before what it needs goes.
        """
        engine, keeper = self._engine, self._keeper
        assert keeper is not None
        try:
            engine.commit(snapshot.seq)
            with engine.changing():
                engine.check_open()
                self._catalog.check_free(snapshot.name)
                write = keeper.name_snapshot(snapshot)
                self._catalog.add_snapshot(snapshot)
            write()
        except BaseException:
            with engine:
                self._catalog.drop_snapshot(snapshot)
                keeper.give_up_snapshot(snapshot)
            raise
