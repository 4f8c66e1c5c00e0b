"""The session of a store in files: what its superblocks say, and the files of its copies."""

from __future__ import annotations

import marshal
import os
from contextlib import suppress
from copy import deepcopy
from functools import partial
from typing import TYPE_CHECKING, Any

from jrnl._core import ExtentMap, Image, Log, Moved, PinnedState, to_the_end
from jrnl.compare import ranges_to_write
from jrnl.disk import recovery_files, snapshot_files, telling
from jrnl.disk.file_copy import FileCopy
from jrnl.disk.log_files import volume_file
from jrnl.disk.preserved import PreservedStates
from jrnl.disk.record import PreservedRow, RecoveryRow, RestoreRow, SnapshotRow
from jrnl.disk.superblock import ROOM_BYTES, ROW_MOST, packed
from jrnl.errors import (
    CatalogFull,
    CorruptionError,
    JournalFull,
    JrnlError,
    PointExpired,
)
from jrnl.plan import BEFORE
from jrnl.recovery import over_present
from jrnl.session import Session

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from contextlib import AbstractContextManager

    from jrnl._core import Engine
    from jrnl.compare import Ranges
    from jrnl.disk.folder import Place
    from jrnl.disk.record import Document, Record
    from jrnl.disk.superblock import Device, Superblock
    from jrnl.metrics import Number
    from jrnl.points import Mark
    from jrnl.recovery import Recovery
    from jrnl.snapshot import Snapshot
    from jrnl.snapshot_copier import Copy
    from jrnl.steady import Stamp

EPOCHS_MAX = 4096
EPOCHS_HELD = 4 * EPOCHS_MAX  # what a superblock surely takes, where nothing may leave
_ALIASES_KEPT = 256
_LONGEST = 1 << 62


def _preserved_row(volumes: list[int]) -> PreservedRow:
    """Return the longest row of what a recovery preserves."""
    return PreservedRow(_LONGEST, _LONGEST, _LONGEST, _LONGEST, volumes, True)


def _nothing() -> None:
    """Write no superblock: the store is open for reading."""


class DiskSession(Session):
    """The session of a store in files: it writes the superblocks, and makes and removes copies.

    Parameters
    ----------
    place : Place
        The store's folder, locked.
    record : Record
        What the superblocks said.
    devices : list of Device
        The log's file, the index's, and the volumes', in order.
    """

    def __init__(
        self,
        place: Place,
        superblock: Superblock,
        record: Record,
        engine: Engine,
        devices: list[Device],
        *,
        writable: bool,
        told_as: str | None = None,
    ) -> None:
        say = self.record if writable else _nothing
        self.log = Log(engine, devices[0], devices[1], superblock.key, say,
                       record.sync == "always", not writable)  # fmt: skip
        told_as = told_as or f"disk-{superblock.key & 0xFFFFFFFF:08x}"
        super().__init__(engine, record.volume_names, self.log, told_as, record.parent)
        self.log.finish_copies(self.copier.finish_oldest)
        self.place = place
        self.superblock = superblock
        self._devices = devices
        self.state = deepcopy(record)
        self.state.next_id = self._beyond(record.next_id)
        self.state.clean = False
        self._ended = False
        self._begun: set[int | None] = set()  # copies of snapshots that are not named yet
        self._whole: set[int | None] = set()  # ... and of these, the ones that are whole already
        self._production_copies: set[int] = set()  # copies of production that no snapshot has
        self.preserved = PreservedStates(place, superblock.key, self.state.kept)
        self._saved_moves: dict[int, int] = {}  # how often a recovery had moved when it was saved
        # Until the catalogue has them:
        self._early_marks: list[list[Any]] | None = record.marks
        self._to_tell: list[RecoveryRow] = []  # kept, once the superblocks say so
        self.redone: list[str] = []  # what opening has finished, or taken back
        self.found: list[str] = []  # what opening has found wrong
        self.damaged = False  # ... in the log, so that something cannot be read
        self._held = self._pin_states()

    # The document.

    def document(self) -> Document:
        """Return what the superblocks say now."""
        log, state = self.log, self.state
        state.follow(log.state())
        state.newest = [self.engine.seq, self.engine.time_ns]
        state.aliases = log.aliases(_ALIASES_KEPT)
        state.lost = log.lost()
        state.marks = self._marks_at_base(state.tail[3])
        state.kept = self.preserved.rows({row.copy for row in state.recoveries})
        return state.document()

    def _marks_at_base(self, base_seq: int) -> list[list[Any]]:
        """Return the marks of the oldest state, whose entries have left the log."""
        if self._early_marks is not None:
            return [mark for mark in self._early_marks if mark[1] == base_seq]
        return [mark._row for mark in self.catalog.marks_at(base_seq)]

    def early_marks(self) -> list[list[Any]]:
        """Return the marks that no entry tells of, once: the catalogue knows them from then on."""
        early, self._early_marks = self._early_marks or [], None
        return [*early, *self.state.pins]

    def rewound(self) -> None:
        """Have the table of epochs stay in bounds: a rewind has added one."""
        self.bound_epochs()

    def bound_epochs(self) -> None:
        """Let the oldest groups go where the table of epochs has grown too long."""
        while len(self.state.epochs) > EPOCHS_MAX:
            before = len(self.state.epochs)
            try:
                self.log.evict_to(self.state.epochs[before - EPOCHS_MAX][1])
            except JournalFull:  # a pin keeps them
                break
            if len(self.state.epochs) == before:
                break

    def record(self) -> None:
        """Write the superblocks."""
        self._put(self._captured())
        telling.of_kept(self, self._to_tell)

    def record_apart(self) -> Callable[[], None]:
        """Return what writes the superblocks as they ought to be now, without the engine's lock."""
        log = self.log
        log.check()
        log.wait()
        number, document = self._captured()
        dumped = marshal.dumps(document)  # its lists and rows change before it is written

        def put() -> None:
            self._put((number, marshal.loads(dumped)))

        def failed(error: BaseException) -> None:
            log.poison(getattr(error, "errno", None) or 0)

        return partial(to_the_end, put, failed, CatalogFull)

    def _captured(self) -> tuple[int, Document]:
        """Return what the superblocks ought to say now, numbered. The engine is locked."""
        return self.superblock.next_generation(), self.document()

    def _put(self, captured: tuple[int, Document]) -> None:
        """Write what was captured, unless something newer, which says it too, is there already."""
        generation, document = captured
        self.superblock.write(document, generation)

    def check_room(self, *rows: object) -> None:
        """Raise CatalogFull where a superblock has no room left for some more rows (R17).

        Closing keeps the recoveries that are open, and what they preserve: that room is taken.
        """
        opened = self.catalog.recoveries()
        most = ROW_MOST + 2 * len(packed(self.state.volumes))
        if self.superblock.used + (len(rows) + len(opened)) * most > ROOM_BYTES:
            kept = {row.id for row in self.state.recoveries}
            waiting = [
                recovery_files.row(one, 0, _LONGEST)
                for one in opened.values()
                if one.id not in kept
            ]
            preserved = [_preserved_row(one.volumes or []) for one in waiting]
            more = [row.document() for row in (*waiting, *preserved)]
            self.superblock.check_room([*rows, *more])

    def check_mark(self, row: list[object]) -> None:
        """Raise CatalogFull where the superblocks have no room for a mark's row."""
        self.check_room(row)

    def check_listed(self, listed: int) -> None:
        """Raise Moved where another recovery has come or gone, and taken files with it."""
        if self.catalog.listed != listed:
            raise Moved("another recovery has come or gone meanwhile")

    def check_recovery(self, name: str, volumes: Iterable[int] | None) -> None:
        """Raise CatalogFull where one more recovery could not be kept when the store is closed."""
        if not self.log.read_only:
            only = sorted(volumes or ())
            row = RecoveryRow(
                _LONGEST, _LONGEST, name, _LONGEST, _LONGEST, "backward+forward", _LONGEST,
                _LONGEST, True, _LONGEST, only,
            )  # fmt: skip
            self.check_room(row.document(), _preserved_row(only).document())

    def check_rewind(self) -> None:
        """Raise what a rewind must not run into: it adds an epoch, and what it has dropped.

        Raises
        ------
        JournalFull
            Pins have kept groups of too many epochs.
        CatalogFull
        """
        self.superblock.check_rewind()
        if len(self.state.epochs) >= EPOCHS_HELD:
            self.bound_epochs()
        if len(self.state.epochs) >= EPOCHS_HELD:
            raise JournalFull(
                f"since the oldest state that is kept there were {len(self.state.epochs)} rewinds, "
                "and it may not leave: release its pin, unpin its mark, or call retain() with less"
            )

    # What is kept.

    def pin_mark(self, mark: Mark) -> None:
        """Make a mark and its pin durable; again, where a call was broken off."""
        self.log.commit()
        self.state.pins = [*(pin for pin in self.state.pins if pin[0] != mark.name), mark._row]
        self.log.record()

    def unpin_mark(self, name: str) -> None:
        """Forget a mark's pin, durably."""
        self.log.check()
        self.state.pins = [pin for pin in self.state.pins if pin[0] != name]
        self.log.record()

    def set_retention(self, least_ns: int, most_ns: int) -> None:
        """Remember how long states are kept, durably."""
        self.log.check()
        self.state.retain = [least_ns, most_ns]
        self.log.record()

    def _pin_states(self) -> dict[str, PinnedState]:
        """Keep what is pinned, before anything is read or written."""
        engine, held = self.engine, {}
        states = [row.seq for row in self.state.snapshots if row.volumes is None]
        for name, seq, *_ in self.state.pins:
            needs = seq if engine.images & BEFORE else max(
                (state for state in states if state <= seq), default=seq
            )  # fmt: skip
            held[name] = PinnedState(engine, seq, needs, name)
        return held

    def pinned_states(self) -> dict[str, PinnedState]:
        """Return what is pinned and there; what damage has taken becomes a problem."""
        held, self._held = self._held, {}
        for name, state in list(held.items()):
            mark = self.catalog.find_mark(name)
            if mark is None or mark.seq != state.seq:
                self.found.append(f"the pinned mark {name!r}: its state {state.seq} is lost")
                held.pop(name).release()
                self.state.pins = [pin for pin in self.state.pins if pin[0] != name]
        return held

    # Copies: snapshots and what recoveries preserve.

    def _beyond(self, number: int) -> int:
        """Return the first number from there on that no copy and no recovery has, or ever had.

        A superblock that somebody forged need not know it.
        """
        taken = [row.id for row in self.state.snapshots]
        taken += [row.id for row in self.state.recoveries]
        taken += [row.copy for row in self.state.recoveries]
        return max(number, 1 + max(taken, default=0))

    def _new_id(self) -> int:
        number = self.state.next_id
        self.state.next_id += 1
        return number

    def _copy_production(self, covered: list[int] | None = None, *, begun: bool = False) -> Image:
        """Copy production as it is now. Nothing may come in: no journal leads back to it.

        With `begun` it counts as used from its first file on, until it has a name.
        """
        log = self.log
        with log.engine.exclusive() as engine:
            log.write_back()
            files = self._volume_files()
            copy = self._copy(Image.production(engine), files, covered, begun=begun)
        return copy

    def _copy_image(self, image: Image) -> Image:
        self.log.commit()
        return self._copy(image, None, None)

    def _copy(
        self,
        source: Image,
        clones: list[str] | None,
        covered: list[int] | None,
        *,
        begun: bool = False,
    ) -> Image:
        number, key = self._new_id(), self.superblock.key
        if begun:
            self._begun.add(number)
        try:
            return snapshot_files.make(
                self.place, self.engine, key, number, source, clones, covered
            )
        except BaseException as error:
            self._begun.discard(number)
            self._copy_failed(number, error)
            raise

    def _copy_failed(self, number: int, error: BaseException) -> None:
        if isinstance(error, OSError):
            self.log.poison(error.errno or 0)
        if not self.log.poisoned:
            snapshot_files.remove(self.place, number, len(self.engine.sizes))

    def check_snapshot(self, name: str, covered: list[int]) -> None:
        """Raise CatalogFull where the superblocks have no room for one more snapshot."""
        row = SnapshotRow(_LONGEST, name, _LONGEST, _LONGEST, True, covered, True, _LONGEST)
        self.check_room(row.document())

    def begin_snapshot(self, covered: list[int]) -> tuple[Image, Copy | None]:
        """Begin a snapshot of production; return its image, and how that becomes a copy."""
        log, engine = self.log, self.engine
        log.check()
        waiting = self.copier.pending()
        snapshot_files.check_descriptors(len(covered) + sum(copy.files_to_make for copy in waiting))
        if not engine.images & BEFORE:
            return self._copy_production(covered, begun=True), None
        image = Image.live(engine, engine.seq, True, covered)
        number = self._new_id()
        self._begun.add(number)
        return image, self.file_copy(number, image, covered)

    def file_copy(self, number: int, image: Image, covered: list[int]) -> FileCopy:
        """Return how an image becomes a copy in files of this number."""
        return FileCopy(self.place, self.superblock.key, number, image, covered,
                        self._volume_files(), self._copy_settled, self._is_used)  # fmt: skip

    def _volume_files(self) -> list[str]:
        return [volume_file(k, name) for k, (name, _) in enumerate(self.state.volumes)]

    def enter_snapshot(self, snapshot: Snapshot) -> Callable[[], None]:
        """Return what makes a snapshot durable, and gives it its name then."""
        return partial(self._make_durable, snapshot)

    def _make_durable(self, snapshot: Snapshot) -> None:
        """Have a snapshot's state, and then its name, outlive a crash. Others may write meanwhile.

        Whatever they do, the copy is of its state: it is finished before what it needs goes.
        """
        engine = self.engine
        try:
            engine.commit(snapshot.seq)
            with engine.changing():
                engine.check_open()
                self.catalog.check_free(snapshot.name)
                write = self.name_snapshot(snapshot)
                self.catalog.add_snapshot(snapshot)
            write()
        except BaseException:
            with engine:
                self.catalog.drop_snapshot(snapshot)
                self.give_up_snapshot(snapshot)
            raise

    def name_snapshot(self, snapshot: Snapshot) -> Callable[[], None]:
        """Return what has the superblocks name a snapshot, whose state is durable."""
        self.log.check()
        image = snapshot._image
        copying = image.is_live and image.tag not in self._whole
        covered = None if snapshot._covers is None else sorted(snapshot._covers)
        row = SnapshotRow(
            int(image.tag), snapshot.name, snapshot.seq, snapshot.time_ns, copying, covered,
            snapshot.pinned,
        )  # fmt: skip
        self.state.snapshots.append(row)
        self._begun.discard(snapshot._image.tag)
        self._whole.discard(snapshot._image.tag)
        return self.record_apart()

    def give_up_snapshot(self, snapshot: Snapshot) -> None:
        """Forget a snapshot that could not be made durable."""
        image, before = snapshot._image, len(self.state.snapshots)
        self._begun.discard(image.tag)
        self._whole.discard(image.tag)
        self.state.snapshots = [row for row in self.state.snapshots if row.id != image.tag]
        snapshot._let_go()
        if self.writable and not self.engine.closed:
            if len(self.state.snapshots) < before:  # the superblocks may name it already
                self.log.record()
            self._sweep({int(image.tag)})

    def _copy_settled(self, number: int) -> Callable[[], None] | None:
        """Return what has the superblocks say that a snapshot's copy is whole; it is durable.

        None where nobody has named it yet: whoever does names it as whole. So it is said in either
        order, and said again where it was broken off.
        """
        for row in self.state.snapshots:
            if row.id == number:
                row.copying = False
                return self.record_apart()
        self._whole.add(number)
        return None

    # Fold: what it takes is checked, the intent is durable, the sectors are written and synced. The
    # record that lets the entries leave says that it is done; until then opening does it again.

    def fold(self, image: Image, extents: ExtentMap, seq: int, stamp: Stamp) -> Image:
        """Bring a snapshot's copy on to state `seq`; who holds the copy keeps the old one."""
        log, old = self.log, int(image.tag)
        log.commit_to(seq)  # an intent names only what is durable (R13)
        image.advance_check(extents)
        row = next(row for row in self.state.snapshots if row.id == old)
        held = image.is_shared or any(kept.copy == old for kept in self.state.recoveries)
        if held:
            image = self._copy_again(image)
        self.fold_begins(row, image, seq)
        try:
            image.advance(extents, seq)
        except BaseException as error:
            log.poison(getattr(error, "errno", None) or 0)
            raise
        row.seq = seq
        row.fold = None
        if held:
            self._sweep({old})
        return image

    def fold_begins(self, row: SnapshotRow, image: Image, seq: int) -> None:
        """Have it durable that a snapshot is being brought on to state `seq`."""
        row.id, row.fold = image.tag, seq
        self.log.record()

    def _copy_again(self, image: Image) -> Image:
        """Copy a copy."""
        number, volumes = self._new_id(), len(self.engine.sizes)
        clones = [snapshot_files.image_name(image.tag, k) for k in range(volumes)]
        engine, key = self.engine, self.superblock.key
        try:
            return snapshot_files.make(self.place, engine, key, number, image, clones)
        except BaseException as error:
            self._copy_failed(number, error)
            raise

    def make_base(self, name: str, seq: int) -> Image:
        """Take a snapshot of state `seq`, or where that cannot be had, of the present one.

        It is production, with the bytes that were overwritten since put back.
        """
        log = self.log
        engine = log.engine
        log.check()
        image = self._copy_production(begun=True)
        try:
            if engine.images & BEFORE and seq < engine.seq:
                extents = ExtentMap.backward(engine, seq, engine.seq)
                image.advance_check(extents)
                image.advance(extents, seq)
        except CorruptionError:  # found before the first byte was changed
            pass
        except BaseException as error:
            log.poison(getattr(error, "errno", None) or 0)
            raise
        self.state.snapshots.append(SnapshotRow(int(image.tag), name, image.seq, engine.time_ns))
        self._begun.discard(image.tag)
        log.record()
        return image

    def preserve(self) -> Image:
        """Copy production as it is now; the copy lasts as long as a recovery needs it."""
        log = self.log
        if log.read_only:  # production stays as it is
            return Image.production(log.engine)
        log.check()
        self._sweep(self._production_copies)  # those of recoveries that were dropped, not closed
        image = self._copy_production()
        self._production_copies.add(int(image.tag))
        return image

    def snapshot_deleted(self, image: Image) -> None:
        """Forget a snapshot; its files go once no recovery needs them."""
        self.log.check()
        self.state.snapshots = [row for row in self.state.snapshots if row.id != image.tag]
        self.log.record()
        self._sweep({int(image.tag)})

    def _sweep(self, numbers: set[int]) -> None:
        """Remove copies that nobody refers to any more."""
        for number in set(numbers) - self._used():  # what comes in between adds to neither
            self._production_copies.discard(number)
            if number in self.preserved:
                self.preserved.drop(number)
                continue
            # Where a copy is being made, it is given up with the last who holds it, files and all.
            if not self.copier.is_making(number):
                snapshot_files.remove(self.place, number, len(self.engine.sizes))

    def _is_used(self, number: int) -> bool:
        return number in self._used()

    def _used(self) -> set[int | None]:
        """Return the numbers of the copies that somebody refers to."""
        used = self._begun | {row.id for row in self.state.snapshots}
        used |= {row.copy for row in self.state.recoveries}
        used |= {recovery._copy for recovery in self.catalog.recoveries().values()}
        return used

    def remove_strays(self) -> None:
        """Remove files that an interrupted operation has left, and patches of where one was."""
        self._sweep(self.preserved.numbers)
        names = self.place.names()  # before it is asked what is used: a copy may come in
        used = self._used()
        kept = {snapshot_files.patches_name(row.id, row.version) for row in self.state.recoveries}
        for name in names:
            match = snapshot_files.NAME.fullmatch(name)
            if match is None or name in kept:
                continue
            if match[1] == "recovery" or int(match[2] or match[7]) not in used:
                with suppress(FileNotFoundError):  # whoever was making it may be faster
                    self.place.remove(name)

    # Recoveries.

    def _is_swept(self, recovery: Recovery) -> bool:
        """Whether what it preserves has a number, but the files went with another recovery."""
        stored = recovery._preserved.files is not None or recovery._copy in self.preserved
        name = snapshot_files.image_name(recovery._copy or 0, 0)
        return not stored and name not in self.place.names()

    def save_recovery(self, recovery: Recovery) -> None:
        """Make a recovery durable, but for the superblocks, which the caller writes.

        One that has moved since gets other patches; the old ones are strays from then on.
        """
        before = self._row_of(recovery.id)
        if before is not None and self._saved_moves.get(recovery.id, 0) == recovery._moves:
            return
        copy = self._save_preserved(recovery)
        version = 0 if before is None else before.version + 1
        name = snapshot_files.patches_name(recovery.id, version)
        if name in self.place.names():
            self.place.remove(name)
        seed = snapshot_files.seed_of(self.superblock.key, recovery.id)
        try:
            recovery_files.save(self.place, name, recovery._image, seed)
            self.place.sync()
        except OSError as error:
            self.log.poison(error.errno or 0)
            raise
        self.state.recoveries = [row for row in self.state.recoveries if row is not before]
        row = recovery_files.row(recovery, version, copy)
        self.state.recoveries.append(row)
        self._to_tell.append(row)
        self._saved_moves[recovery.id] = recovery._moves

    def _save_preserved(self, recovery: Recovery) -> int:
        """Have what a recovery started from outlive the store's being closed; return its number.

        A copy does. A live image is of a state in the log, which is kept from now on.
        """
        image = recovery._preserved
        if image.is_live:
            if image.preserved_as is None or image.preserved_as not in self.preserved:
                number = self._new_id()
                try:
                    self.preserved.preserve(self.log, number, image)
                except OSError as error:
                    self.log.poison(error.errno or 0)
                    raise
                image.preserved_as = number
            return image.preserved_as
        if recovery._copy is None or self._is_swept(recovery):
            image.tag = self._copy_image(image).tag  # for all that start from the same copy
        return int(image.tag)

    def _row_of(self, number: int) -> RecoveryRow | None:
        return next((row for row in self.state.recoveries if row.id == number), None)

    def recovery_closed(self, recovery: Recovery) -> None:
        """Forget a recovery that was kept; for reading only, it stays on disk."""
        if self._ended or self.engine.closed or self.log.read_only:
            return
        self.delete_recovery(recovery.id)
        if recovery._copy is not None and self.writable:
            self._sweep({recovery._copy})

    def delete_recovery(self, number: int) -> bool:
        """Forget a recovery that was kept; False where there is none of that number."""
        if self._row_of(number) is None:
            return False
        self.log.check()
        to_the_end(partial(self._forget_recovery, number))
        return True

    def _forget_recovery(self, number: int) -> None:
        self.state.recoveries = [row for row in self.state.recoveries if row.id != number]
        self.log.record()
        self.remove_strays()

    # Restore: image and intent are durable before the first entry.

    def restore(
        self, recovery: Recovery, ranges: Ranges, everything: bool, stamp: Stamp
    ) -> tuple[int, int]:
        """Write these ranges onto production, so that a crash leaves all of them or none."""
        with self.engine.exclusive() as engine:
            engine.check_stamp(stamp)
            first_seq, indices = engine.seq + 1, list(ranges)
            write = partial(self._write_back, recovery, ranges, indices, everything)
            to_the_end(write, self.restore_failed)
            return first_seq, engine.seq

    def promote(
        self, image: Image, indices: dict[str, int], ranges: Ranges, stamp: Stamp
    ) -> tuple[int, int]:
        """Write these ranges of a view's image onto production: as a restore, which lasts."""
        recovery = over_present(self, image, indices, ranges)
        try:
            return self.restore(recovery, ranges, False, stamp)
        finally:
            if self.state.restore is None:  # else the next opening needs it
                recovery._close()
                self.remove_strays()

    def _write_back(
        self, recovery: Recovery, ranges: Ranges, indices: list[int], everything: bool
    ) -> None:
        """Restore `ranges`; where that was broken off, what differs still.

        Half of it would be no state, and the next opening would take it back with all that follows.
        """
        image = recovery._image
        self.restore_begins(recovery, indices)
        self.catalog.save_recovery(recovery)
        for index in indices:
            todo = ranges.pop(index, None) or ranges_to_write(image, [index], everything)[index]
            image.write_back(index, *todo)
        self.restore_ends(recovery.id if recovery._source.once else None)

    def restore_begins(self, recovery: Recovery, volumes: list[int]) -> None:
        """Keep the recovery, and the intent to restore these of its volumes, by index."""
        log = self.log
        log.check()
        log.write_back()  # so that what its entries push out depends on nothing but them
        self.save_recovery(recovery)
        if self.state.restore is None:  # else this goes on with one that was interrupted
            self.state.restore = RestoreRow(recovery.id, self.engine.seq)
            if len(volumes) < len(self.engine.sizes):
                self.state.restore.volumes = volumes
        log.record()
        if recovery._moves:
            self.remove_strays()

    def restore_failed(self, error: BaseException) -> None:
        """Leave a restore that ended half way to the next opening, which undoes or finishes it."""
        if self.state.restore is not None:
            self.log.poison(getattr(error, "errno", None) or 0)

    def restore_ends(self, number: int | None = None) -> None:
        """All of its entries are there: make them durable, and drop the intent.

        A recovery with that `number` goes with it.
        """
        self.log.commit()
        self.state.restore = None
        self.state.recoveries = [row for row in self.state.recoveries if row.id != number]
        self.log.record()

    # Opening and closing.

    def load_preserved(self, rewound: Any) -> None:
        """Take up the preserved states, before anything leaves the log.

        `rewound` is what the superblocks know of a rewind whose entry may be in no group.
        """
        newest = max(self.engine.seq, rewound[1] if rewound else 0)
        self.found += self.preserved.load(self.log, newest)

    def restore_is_folded(self) -> bool:
        """Whether a snapshot was brought on over entries of the restore that was interrupted.

        Then they cannot be taken back: it would be left at a state that nobody has ever had.
        """
        start = self.state.restore.start if self.state.restore is not None else 1 << 63
        return any(max(row.seq, row.fold or 0) > start for row in self.state.snapshots)

    def finish_restore(self) -> None:
        """Take an interrupted restore's entries back, or, where they are too many, go on."""
        assert self.state.restore is not None
        engine = self.engine
        start = self.state.restore.start
        try:
            if self.restore_is_folded():
                raise PointExpired(f"a snapshot has been brought on beyond state {start}")
            if start not in (engine.seq, engine.newest_state):
                engine.rewind(start)
            self.redone.append(f"a restore was taken back to state {start}")
        except JrnlError:
            self._restore_again(self.state.restore.recovery, self.state.restore.volumes)
            self.redone.append(f"a restore onto state {start} was finished")
        self.state.restore = None
        self.log.commit()
        self.log.record()
        self.catalog.snapshots_changed()

    def _restore_again(self, number: int, indices: list[int] | None) -> None:
        recovery = self.catalog.recoveries().get(number)
        if recovery is not None:
            names = recovery._indices
            recovery.restore(
                volumes=[name for name in names if indices is None or names[name] in indices]
            )

    @property
    def writable(self) -> bool:
        """Whether there is anything left that can be written."""
        log = self.log
        return not log.read_only and not log.poisoned and not log.forked

    def problems(self) -> list[str]:
        """Say what opening has found, and what has stopped all writing since."""
        failed = self.log.poisoned
        if not failed:
            return list(self.found)
        return [
            *self.found,
            f"a write or sync failed ({os.strerror(failed)}): what was not durable by then is lost",
        ]

    def metrics(self) -> dict[str, Number]:
        """Return the numbers that depend on where the store lies."""
        return telling.numbers(self.log)

    def tell_closed(self) -> None:
        """Tell that the store is closed, and what of it is durable."""
        telling.of_closing(self)

    @property
    def unsaved(self) -> bool:
        """Whether there is anything that closing would make durable."""
        return not self.engine.closed and self.writable

    def changing(self) -> AbstractContextManager[object]:
        """Return a block that changes files, and none of them from inside it."""
        return self.engine.changing()

    def check_closing(self) -> None:
        """Raise EditOpen inside an edit, StoreClosed; a forked child just lets go."""
        if not self.log.forked:
            self.engine.check_open()

    def save(self, recoveries: list[Recovery]) -> None:
        """Make everything durable, bring the volumes' files up to date, and say so."""
        log = self.log
        if not self.writable:
            return
        log.commit()
        self.copier.finish_all()
        for recovery in recoveries:
            self.save_recovery(recovery)
        self._sweep(self._production_copies)
        log.write_back()
        log.save_index()
        self.state.clean = True
        log.record()
        self.remove_strays()

    def end(self) -> None:
        """Write nothing from here on: what is given up now stays in the files."""
        self._ended = True

    def let_go(self) -> None:
        """Close all files, and give up the lock."""
        self.preserved.close()
        for device in (*self._devices, *self.superblock.devices):
            if device is not None:
                device.close()
        self.place.close()
