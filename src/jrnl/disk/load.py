"""Loading: what a store on disk has of snapshots and recoveries, taken up again at opening."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, cast

from jrnl._core import ExtentMap, Image
from jrnl.disk import recovery_files, snapshot_files
from jrnl.errors import CorruptionError, JrnlError
from jrnl.plan import Base, Plan, Route
from jrnl.recovery import Recovery, Source
from jrnl.snapshot import Snapshot

if TYPE_CHECKING:
    from jrnl.disk.record import RecoveryRow, SnapshotRow
    from jrnl.disk.session import DiskSession
    from jrnl.snapshot_copier import Copy


def _names_upto(row: SnapshotRow) -> int:
    """Return the newest state that the log must have, so that a snapshot can be taken up."""
    if row.copying or row.fold is not None:
        return max(int(row.seq), row.fold or 0)
    return 0


class Loader:
    """Fills a session's catalogue with what an earlier life has left. The engine is locked."""

    def __init__(self, session: DiskSession) -> None:
        self._session = session
        self._catalog = session.catalog

    def load_snapshots(self, undo: int | None) -> None:
        """Fill the catalogue with marks and snapshots; what is damaged becomes a problem.

        That is before the first entry, for which others may have to leave (R19). What names a state
        that only a REWIND will make is left to `load`: it needs nothing older.

        Parameters
        ----------
        undo : int, optional
            An interrupted rewind is about to go back to this state.
        """
        session = self._session
        self._catalog.load_marks([*session.early_marks(), *session.log.marks()])
        newest = session.engine.seq if undo is None else undo
        self._enter([row for row in session.state.snapshots if _names_upto(row) <= newest])

    def load_rest(self) -> None:
        """Fill it with the rest: recoveries, pins, and snapshots of the newest state."""
        session, catalog = self._session, self._catalog
        known = catalog.snapshots
        self._enter([row for row in session.state.snapshots if row.name not in known])
        catalog.snapshots = {row.name: known[row.name] for row in session.state.snapshots}
        for row in session.state.recoveries:
            catalog.reserve_id(row.id)  # it stays its own, even where it cannot be taken up
            try:
                catalog.save_recovery(self._load_recovery(row))
            except (JrnlError, OSError) as error:
                session.found.append(f"recovery {row.id}: {error}")
        session.pins.load(session.pinned_states(), session)
        catalog.snapshots_changed()

    def _enter(self, rows: list[SnapshotRow]) -> None:
        session, catalog = self._session, self._catalog
        folding = [row for row in rows if row.fold is not None]
        for row in rows:
            image, copy = self._load_snapshot(row, row.volumes)
            catalog.snapshots[row.name] = Snapshot(
                session, row.name, image, row.time_ns, copy, row.volumes,
                row.pinned,
            )  # fmt: skip
            if copy is not None:
                session.copier.add(copy)
        if any(row.fold is None for row in folding):
            self._session.log.record()

    def _load_snapshot(
        self, row: SnapshotRow, covered: list[int] | None
    ) -> tuple[Image, Copy | None]:
        """Open a snapshot's copy; or, where it was being made, take that up again."""
        engine, key = self._session.engine, self._session.superblock.key
        if row.copying:
            whole = self._whole_copy(row, covered) if self._session.damaged else None
            if whole is not None:
                return whole, None
            try:
                image = self._live_again(row.seq, covered)
            except JrnlError as error:
                whole = self._whole_copy(row, covered)
                if whole is not None:
                    return whole, None
                self._session.found.append(f"snapshot {row.name!r} is lost: {error}")
                self._lose_copy(row)
                return snapshot_files.lost(engine, row.id, row.seq), None
            image.tag = row.id
            if self._session.log.read_only:
                return image, None
            self._session.redone.append(f"snapshot {row.name!r} is copied on")
            every = list(range(len(engine.sizes)))
            return image, self._session.file_copy(row.id, image, covered or every)
        writable = self._session.state.overflow == "fold" and not self._session.log.read_only
        image, problems = snapshot_files.load(
            self._session.place, engine, key, row.id, row.seq, covered, writable=writable
        )
        self._session.found += [f"snapshot {row.name!r}: {problem}" for problem in problems]
        return image if row.fold is None else self._finish_fold(row, image), None

    def _live_again(self, seq: int, covered: list[int] | None) -> Image:
        engine = self._session.engine
        if not engine.base_seq <= seq <= engine.seq:
            raise CorruptionError(
                f"its copy was being made from the log, which has the states {engine.base_seq} "
                f"to {engine.seq} now"
            )
        with suppress(CorruptionError):  # what is damaged says so when it is read
            engine.resolve(seq)  # a rewind may have dropped it
        return Image.live(engine, seq, True, covered)

    def _whole_copy(self, row: SnapshotRow, covered: list[int] | None) -> Image | None:
        """Return a copy whose files say that it has ended, though no superblock does."""
        log, key = self._session.log, self._session.superblock.key
        writable = self._session.state.overflow == "fold" and not log.read_only
        image, problems = snapshot_files.load(
            self._session.place,
            log.engine,
            key,
            row.id,
            row.seq,
            covered,
            writable=writable,
        )
        if problems:
            return None
        assert image.files is not None
        for device in image.files:
            if device is not None:
                if not log.read_only:
                    device.sync()  # a killed process may have left it in the cache
                device.drop_cache()  # and what never reached the disk is not to be believed
        if not snapshot_files.is_ended(image, key):
            return None
        bad = len(image.verify())
        if bad:
            self._session.found.append(
                f"snapshot {row.name!r}: a crash has ended its copy, and what that was made "
                f"from is gone; {bad} blocks of 4096 bytes were not copied, and raise"
            )
        if not log.read_only:
            self._session.place.sync()
            row.copying = False
            log.record()
        return image

    def _lose_copy(self, row: SnapshotRow) -> None:
        """Never take for a copy what there is of one: what it was made from is damaged.

        Its seq may be given out again, so that is durable before anything is written.
        """
        if not self._session.log.read_only:
            snapshot_files.remove(self._session.place, row.id, len(self._session.engine.sizes))
            self._session.place.sync()
            row.copying = False
            self._session.log.record()

    # Folds that were interrupted.

    def _finish_fold(self, row: SnapshotRow, image: Image) -> Image:
        """Do an interrupted fold again; for reading only, show what it makes."""
        log, engine = self._session.log, self._session.engine
        start, seq = row.seq, row.fold or 0
        try:
            if not engine.base_seq <= start < seq <= engine.seq:
                raise CorruptionError(f"the entries {start + 1} to {seq} are not there")
            extents = ExtentMap.forward(engine, start, seq)
            extents.settle(0, extents.count)
            if log.read_only:
                image = image.advanced(extents, seq)
                image.tag = row.id
            else:
                image.advance(extents, seq, True)
        except CorruptionError as error:
            self._session.found.append(
                f"snapshot {row.name!r} was being brought on from state {start} to {seq} when "
                f"the store was interrupted, and is neither: {error}; delete it"
            )
            return snapshot_files.lost(engine, row.id, start)
        if not log.read_only:
            row.seq = seq
            row.fold = None
            self._session.redone.append(f"snapshot {row.name!r} was brought on to state {seq}")
        return image

    # Recoveries.

    def _load_recovery(self, row: RecoveryRow) -> Recovery:
        """Take a recovery up again. Raises CorruptionError, OSError."""
        engine, key = self._session.engine, self._session.superblock.key
        base = self._loaded_copy(row.copy, row.base_seq, row.volumes)
        extents = recovery_files.load(
            self._session.place,
            snapshot_files.patches_name(row.id, row.version),
            engine,
            snapshot_files.seed_of(key, row.id),
        )
        only = None if row.volumes is None else frozenset(row.volumes)
        source = Source(only, row.undoable)
        if source.undoable:
            image = Image.writable(base)
            image.apply(extents, row.seq)
        else:
            image = Image.patched(base, extents, row.seq, True)
        plan = Plan(cast(Route, row.route), row.base, row.entries, row.bytes, int, int)
        start = Base(row.base, base.seq, base)
        volumes = self._catalog.covered(only)
        image.acquire()
        return Recovery(image, volumes, self._session, source, start, plan, number=row.id)

    def _loaded_copy(self, number: int, seq: int, volumes: list[int] | None) -> Image:
        """Return a copy's image, of these volumes: a snapshot's own, where it is one."""
        if self._session.preserved.knows(number):
            return self._session.preserved.image(number)
        for snapshot in self._catalog.snapshots.values():
            if snapshot._image.tag == number:
                return snapshot._image
        engine, key = self._session.engine, self._session.superblock.key
        image, problems = snapshot_files.load(
            self._session.place, engine, key, number, seq, volumes
        )
        self._session.found += problems
        return image
