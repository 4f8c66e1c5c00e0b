"""The keeper of a store on disk: what its superblocks say, and the files of its copies."""

from __future__ import annotations

import marshal
import os
import struct
import threading
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import xxhash

from jrnl import copies, patches
from jrnl._core import FORMAT, ExtentMap, Hold, Image, Log, to_the_end
from jrnl.copier import Copy, FileCopy
from jrnl.errors import (
    CorruptionError,
    FormatError,
    JournalFull,
    JrnlError,
    PointExpired,
    UnknownPoint,
)
from jrnl.plan import BEFORE, Base, Plan
from jrnl.recovery import Recovery, Source, covered
from jrnl.snapshot import Snapshot

if TYPE_CHECKING:
    from collections.abc import Callable

    from jrnl.catalog import Catalog
    from jrnl.folder import Place
    from jrnl.points import Mark
    from jrnl.superblock import Device, Document, Superblock

HEAD_BYTES = FORMAT["constants"]["LOG_HEAD_BYTES"]
SLOT_BYTES = FORMAT["header_sizes"]["EntryHeader"]
EPOCHS_MAX = 4096
EPOCHS_HELD = 4 * EPOCHS_MAX  # what a superblock surely takes, where nothing may leave
_ALIASES_KEPT = 256
_NAME_MAX = 64  # of a volume's file
_HEAD = struct.Struct("<8sQQQ")  # magic, key, bytes of the ring, of the index
_SUM = struct.Struct("<Q")
MAGICS = {"log": b"jrnl-log", "index": b"jrnlindx"}


def head_bytes(name: str, key: int, area: int, slots: int) -> bytes:
    """Return what stands at the start of the log's file, and of the index."""
    head = _HEAD.pack(MAGICS[name], key, area, slots)
    head += _SUM.pack(xxhash.xxh3_64_intdigest(head))
    return head + bytes(HEAD_BYTES - len(head))


def check_head(name: str, device: Device, key: int, area: int, slots: int) -> bool:
    """Whether a file starts as it should; what follows has checksums of its own.

    Raises
    ------
    FormatError
        It is another store's file, or another file of this one.
    CorruptionError
        The log was cut.
    """
    wanted = head_bytes(name, key, area, slots)[: _HEAD.size + _SUM.size]
    if device.size < HEAD_BYTES + (area if name == "log" else slots * SLOT_BYTES):
        if name == "log":
            raise CorruptionError("the file 'log' ends too early: it was cut")
        return False
    found = device.pread(0, len(wanted))
    if found == wanted:
        return True
    if _SUM.unpack_from(found, _HEAD.size)[0] == xxhash.xxh3_64_intdigest(found[: _HEAD.size]):
        raise FormatError(f"the file {name!r} belongs to another store, or has another's name")
    return False


def volume_file(index: int, name: str) -> str:
    """Return the name of a volume's file: its own, where any file system takes that."""
    plain = all(character.isascii() and (character.isalnum() or character in "_-")
                for character in name)  # fmt: skip
    taken = name.startswith(("snapshot-", "recovery-", "volume-"))
    own = plain and not taken and len(name) <= _NAME_MAX
    return f"{name}.img" if own else f"volume-{index}.img"


def _fact(recovery: Recovery, version: int) -> Document:
    """Return what the superblocks say of a recovery."""
    fact: Document = {
        "id": recovery.id,
        "seq": recovery.seq,
        "base": recovery.base,
        "base_seq": recovery.preserved.seq,
        "copy": recovery.copy,
        "route": recovery.plan.route,
        "entries": recovery.plan.entries,
        "bytes": recovery.plan.bytes,
    }
    if recovery.undoable:
        fact["undoable"] = True
    if version:
        fact["version"] = version
    if recovery.only is not None:
        fact["volumes"] = sorted(recovery.only)
    return fact


class Keeper:
    """Writes the superblocks, and knows the store's files; callers hold the engine's lock."""

    def __init__(
        self, place: Place, superblock: Superblock, fixed: Document, document: Document
    ) -> None:
        self.place = place
        self.superblock = superblock
        self.fixed = fixed  # what never changes: volumes, journal, options
        self.epochs: list[list[int]] = [list(pair) for pair in document.get("epochs", [[1, 1]])]
        self.snapshots: list[Document] = list(document.get("snapshots", []))
        self.recoveries: list[Document] = list(document.get("recoveries", []))
        self.restore: Document | None = document.get("restore")
        self.next_id = self._beyond(int(document.get("next_id", 1)))
        self.pins: list[list[Any]] = [list(pin) for pin in document.get("pins", [])]
        self.retain: list[int] = list(document.get("retain", (0, 0)))
        self._held: dict[str, Hold] = {}  # while it is being opened
        self.clean = False
        self._gate = threading.Lock()  # of whoever writes the superblocks
        self._captures = self._put_number = 0
        self._begun: set[int | None] = set()  # copies of snapshots that are not named yet
        self._preserved: set[int] = set()  # copies of production that no snapshot has
        self._kept_moves: dict[int, int] = {}  # how often a recovery had moved when it was kept
        self.early_marks: list[list[Any]] = [list(mark) for mark in document["marks"]]
        self.problems: list[str] = []
        self.files: list[Device] = []
        self.log: Log | None = None
        self.catalog: Catalog | None = None

    # The document.

    @property
    def opened(self) -> Log:
        """The log. It is there once the store is open."""
        assert self.log is not None
        return self.log

    def document(self) -> Document:
        """Return what the superblocks say now."""
        state = self.opened.state()
        self._follow_epoch(state.pop("epoch"), state["head"][0], state["tail"][0])
        return {
            **self.fixed,
            **state,
            "clean": self.clean,
            "newest": [self.opened.engine.seq, self.opened.engine.time_ns],
            "epochs": self.epochs,
            "aliases": self.opened.aliases(_ALIASES_KEPT),
            "lost": self.opened.lost(),
            "marks": self._marks_at_base(state["tail"][3]),
            "snapshots": self.snapshots,
            "recoveries": self.recoveries,
            "restore": self.restore,
            "next_id": self.next_id,
            **({"pins": self.pins} if self.pins else {}),
            **({"retain": self.retain} if any(self.retain) else {}),
        }

    def _marks_at_base(self, base_seq: int) -> list[list[Any]]:
        """Return the marks of the oldest state, whose entries have left the log."""
        if self.catalog is None:
            return [mark for mark in self.early_marks if mark[1] == base_seq]
        return [mark.row for mark in self.catalog.marks_at(base_seq)]

    def _follow_epoch(self, epoch: int, head: int, tail: int) -> None:
        """Let a new epoch begin at the group `head`; what tells of groups before `tail` goes."""
        if epoch > self.epochs[-1][0]:
            self.epochs = [pair for pair in self.epochs if pair[1] < head]
            self.epochs.append([epoch, head])
        while len(self.epochs) > 1 and self.epochs[1][1] <= tail:
            del self.epochs[0]

    def bound_epochs(self) -> None:
        """Let the oldest groups go where the table of epochs has grown too long."""
        while len(self.epochs) > EPOCHS_MAX:
            before = len(self.epochs)
            try:
                self.opened.evict_to(self.epochs[before - EPOCHS_MAX][1])
            except JournalFull:  # a pin keeps them
                break
            if len(self.epochs) == before:
                break

    def epoch_at(self, number: int) -> int:
        """Return the epoch under which a group was written, by its number."""
        return max((epoch for epoch, first in self.epochs if first <= number), default=0)

    def record(self) -> None:
        """Write the superblocks."""
        self._put(self._captured())

    def record_apart(self) -> Callable[[], None]:
        """Return what writes the superblocks as they ought to be now, without the engine's lock."""
        log = self.opened
        log.check()
        log.wait()
        number, document = self._captured()
        frozen = marshal.dumps(document)  # its lists and facts change before it is written

        def put() -> None:
            self._put((number, marshal.loads(frozen)))

        def failed(error: BaseException) -> None:
            log.poison(getattr(error, "errno", None) or 0)

        return partial(to_the_end, put, failed)

    def _captured(self) -> tuple[int, Document]:
        """Return what the superblocks ought to say now, numbered. The engine is locked."""
        self._captures += 1
        return self._captures, self.document()

    def _put(self, captured: tuple[int, Document]) -> None:
        """Write what was captured, unless something newer, which says it too, is there already."""
        number, document = captured
        with self._gate:
            if number > self._put_number:
                self.superblock.write(document)
                self._put_number = number

    def check_epochs(self) -> None:
        """Raise JournalFull where pins have kept groups of too many epochs; a rewind adds one."""
        if len(self.epochs) >= EPOCHS_HELD:
            self.bound_epochs()
        if len(self.epochs) >= EPOCHS_HELD:
            raise JournalFull(
                f"since the oldest state that is kept there were {len(self.epochs)} rewinds, and "
                "it may not leave: release its pin or unpin its mark, or call retain() with less"
            )

    # What is kept.

    def pin_mark(self, mark: Mark) -> None:
        """Make a mark and its pin durable."""
        self.opened.commit()
        self.pins.append(mark.row)
        self.opened.record()

    def unpin_mark(self, name: str) -> None:
        """Forget a mark's pin, durably."""
        self.opened.check()
        self.pins = [pin for pin in self.pins if pin[0] != name]
        self.opened.record()

    def set_retention(self, least_ns: int, most_ns: int) -> None:
        """Remember how long states are kept, durably."""
        self.opened.check()
        self.retain = [least_ns, most_ns]
        self.opened.record()

    def hold_pins(self) -> None:
        """Keep what is pinned, before anything is read or written."""
        engine = self.opened.engine
        states = [fact["seq"] for fact in self.snapshots]
        for name, seq, *_ in self.pins:
            needs = seq if engine.images & BEFORE else max(
                (state for state in states if state <= seq), default=seq
            )  # fmt: skip
            self._held[name] = Hold(engine, seq, needs, name)

    def held_pins(self) -> dict[str, Hold]:
        """Return what is pinned and there; what damage has taken becomes a problem."""
        assert self.catalog is not None
        held, self._held = self._held, {}
        for name, hold in list(held.items()):
            mark = self.catalog.find_mark(name)
            if mark is None or mark.seq != hold.seq:
                self.problems.append(f"the pinned mark {name!r}: its state {hold.seq} is lost")
                held.pop(name).release()
                self.pins = [pin for pin in self.pins if pin[0] != name]
        return held

    # Copies: snapshots and what recoveries preserve.

    def _beyond(self, number: int) -> int:
        """Return the first number from there on that no copy and no recovery has, or ever had.

        A superblock that somebody forged need not know it.
        """
        taken: list[int] = [fact["id"] for fact in (*self.snapshots, *self.recoveries)]
        taken += [fact["copy"] for fact in self.recoveries]
        return max(number, 1 + max(taken, default=0))

    def _new_id(self) -> int:
        number = self.next_id
        self.next_id += 1
        return number

    def _copy(self, source: Image, *, production: bool, covered: list[int] | None = None) -> Image:
        log, engine = self.opened, self.opened.engine
        clones = None
        if production:
            log.write_back()
            clones = self._volume_files()
        else:
            log.commit()
        number = self._new_id()
        try:
            return copies.make(
                self.place, engine, self.superblock.key, number, source, clones, covered
            )
        except BaseException as error:
            self._copy_failed(number, error)
            raise

    def _copy_failed(self, number: int, error: BaseException) -> None:
        if isinstance(error, OSError):
            self.opened.poison(error.errno or 0)
        if not self.opened.poisoned:
            copies.remove(self.place, number, len(self.fixed["volumes"]))

    def take_snapshot(self, covered: list[int]) -> tuple[Image, Copy | None]:
        """Begin a snapshot of production; return its image, and how that becomes a copy."""
        log, engine = self.opened, self.opened.engine
        log.check()
        waiting = [] if self.catalog is None else self.catalog.copier.pending()
        copies.check_descriptors(len(covered) + sum(copy.files_to_make for copy in waiting))
        if not engine.images & BEFORE:
            image = self._copy(Image.production(engine), production=True, covered=covered)
            self._begun.add(image.tag)
            return image, None
        image = Image.live(engine, engine.seq, True, covered)
        copy = self._file_copy(self._new_id(), image, covered)
        self._begun.add(image.tag)
        return image, copy

    def _file_copy(self, number: int, image: Image, covered: list[int]) -> FileCopy:
        return FileCopy(self.place, self.superblock.key, number, image, covered,
                        self._volume_files(), self._copy_settled, self._is_used)  # fmt: skip

    def _volume_files(self) -> list[str]:
        return [volume_file(k, name) for k, (name, _) in enumerate(self.fixed["volumes"])]

    def name_snapshot(self, snapshot: Snapshot) -> Callable[[], None]:
        """Return what has the superblocks name a snapshot, whose state is durable."""
        self.opened.check()
        fact = {"id": snapshot.image.tag, "name": snapshot.name, "seq": snapshot.seq,
                "time_ns": snapshot.time_ns}  # fmt: skip
        if snapshot.image.is_live:
            fact["copying"] = True
        if snapshot.covers is not None:
            fact["volumes"] = sorted(snapshot.covers)
        if snapshot.pinned:
            fact["pinned"] = True
        self.snapshots.append(fact)
        self._begun.discard(snapshot.image.tag)
        return self.record_apart()

    def give_up_snapshot(self, snapshot: Snapshot) -> None:
        """Forget a snapshot that could not be made durable."""
        image, before = snapshot.image, len(self.snapshots)
        self._begun.discard(image.tag)
        self.snapshots = [fact for fact in self.snapshots if fact["id"] != image.tag]
        snapshot.let_go()
        if self.writable and not self.opened.engine.closed:
            if len(self.snapshots) < before:  # the superblocks may name it already
                self.opened.record()
            self._sweep({int(image.tag)})

    def _copy_settled(self, number: int) -> Callable[[], None] | None:
        """Return what has the superblocks say that a snapshot's copy is whole; it is durable."""
        for fact in self.snapshots:
            if fact["id"] == number and fact.pop("copying", False):
                return self.record_apart()
        return None

    # Fold: what it takes is checked, the intent is durable, the sectors are written and synced. The
    # record that lets the entries leave says that it is done; until then opening does it again.

    def fold(self, image: Image, extents: ExtentMap, seq: int) -> Image:
        """Bring a snapshot's copy on to state `seq`; who holds the copy keeps the old one."""
        log, old = self.opened, int(image.tag)
        log.check()
        image.advance_check(extents)
        fact = next(fact for fact in self.snapshots if fact["id"] == old)
        held = image.held or any(kept["copy"] == old for kept in self.recoveries)
        if held:
            image = self._copy_again(image)
        self.fold_begins(fact, image, seq)
        try:
            image.advance(extents, seq)
        except BaseException as error:
            log.poison(getattr(error, "errno", None) or 0)
            raise
        fact["seq"] = seq
        del fact["fold"]
        if held:
            self._sweep({old})
        return image

    def fold_begins(self, fact: Document, image: Image, seq: int) -> None:
        """Have it durable that a snapshot is being brought on to state `seq`."""
        fact["id"], fact["fold"] = image.tag, seq
        self.opened.record()

    def _copy_again(self, image: Image) -> Image:
        """Copy a copy."""
        number, volumes = self._new_id(), len(self.fixed["volumes"])
        clones = [copies.image_name(image.tag, k) for k in range(volumes)]
        engine, key = self.opened.engine, self.superblock.key
        try:
            return copies.make(self.place, engine, key, number, image, clones)
        except BaseException as error:
            self._copy_failed(number, error)
            raise

    def make_base(self, name: str, seq: int) -> Image:
        """Take a snapshot of state `seq`, or where that cannot be had, of the present one.

        It is production, with the bytes that were overwritten since put back.
        """
        log = self.opened
        engine = log.engine
        log.check()
        image = self._copy(Image.production(engine), production=True)
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
        self.snapshots.append(
            {"id": image.tag, "name": name, "seq": image.seq, "time_ns": engine.time_ns}
        )
        log.record()
        return image

    def _finish_fold(self, fact: Document, image: Image) -> Image:
        """Do an interrupted fold again; for reading only, show what it makes."""
        log, engine = self.opened, self.opened.engine
        start, seq = fact["seq"], fact["fold"]
        try:
            if not engine.base_seq <= start < seq <= engine.seq:
                raise CorruptionError(f"the entries {start + 1} to {seq} are not there")
            extents = ExtentMap.forward(engine, start, seq)
            extents.settle(0, extents.count)
            if log.read_only:
                image = image.advanced(extents, seq)
                image.tag = fact["id"]
            else:
                image.advance(extents, seq, True)
        except CorruptionError as error:
            self.problems.append(
                f"snapshot {fact['name']!r} was being brought on from state {start} to {seq} when "
                f"the store was interrupted, and is neither: {error}; delete it"
            )
            return copies.lost(engine, fact["id"], start)
        if not log.read_only:
            fact["seq"] = seq
            del fact["fold"]
        return image

    def preserve(self) -> Image:
        """Copy production as it is now; the copy lasts as long as a recovery needs it."""
        log = self.opened
        if log.read_only:  # production stays as it is
            return Image.production(log.engine)
        log.check()
        self._sweep(self._preserved)  # those of recoveries that were dropped, not closed
        image = self._copy(Image.production(log.engine), production=True)
        self._preserved.add(int(image.tag))
        return image

    def snapshot_deleted(self, image: Image) -> None:
        """Forget a snapshot; its files go once no recovery needs them."""
        self.opened.check()
        self.snapshots = [fact for fact in self.snapshots if fact["id"] != image.tag]
        self.opened.record()
        self._sweep({int(image.tag)})

    def _sweep(self, numbers: set[int]) -> None:
        """Remove copies that nobody refers to any more."""
        for number in numbers - self._used():
            self._preserved.discard(number)
            # Where a copy is being made, it is given up with the last who holds it, files and all.
            if self.catalog is None or not self.catalog.copier.is_making(number):
                copies.remove(self.place, number, len(self.fixed["volumes"]))

    def _is_used(self, number: int) -> bool:
        return number in self._used()

    def _used(self) -> set[int | None]:
        """Return the numbers of the copies that somebody refers to."""
        used = self._begun | {fact["id"] for fact in self.snapshots}
        used |= {fact["copy"] for fact in self.recoveries}
        if self.catalog is not None:
            used |= {recovery.copy for recovery in self.catalog.recoveries().values()}
        return used

    def remove_strays(self) -> None:
        """Remove files that an interrupted operation has left, and patches of where one was."""
        used = self._used()
        kept = {copies.patches_name(fact["id"], fact.get("version", 0)) for fact in self.recoveries}
        for name in self.place.names():
            match = copies.NAME.fullmatch(name)
            if match is None or name in kept:
                continue
            if match[1] == "recovery" or int(match[2]) not in used:
                with suppress(FileNotFoundError):  # whoever was making it may be faster
                    self.place.remove(name)

    # Recoveries.

    def _is_swept(self, recovery: Recovery) -> bool:
        """Whether what it preserves has a number, but the files went with another recovery."""
        stored = recovery.preserved.files is not None
        return not stored and copies.image_name(recovery.copy or 0, 0) not in self.place.names()

    def keep_recovery(self, recovery: Recovery) -> None:
        """Make a recovery durable, but for the superblocks, which the caller writes.

        One that has moved since gets other patches; the old ones are strays from then on.
        """
        before = self._fact_of(recovery.id)
        if before is not None and self._kept_moves.get(recovery.id, 0) == recovery.moves:
            return
        if self.catalog is not None:
            self.catalog.copier.finish_image(recovery.preserved)
        if recovery.copy is None or self._is_swept(recovery):
            recovery.copy = self._copy(recovery.preserved, production=False).tag
            recovery.preserved.tag = recovery.copy  # for those that start from the same copy
        version = 0 if before is None else before.get("version", 0) + 1
        name = copies.patches_name(recovery.id, version)
        if name in self.place.names():
            self.place.remove(name)
        seed = copies.seed_of(self.superblock.key, recovery.id)
        try:
            patches.save(self.place, name, recovery.image, seed)
            self.place.sync()
        except OSError as error:
            self.opened.poison(error.errno or 0)
            raise
        self.recoveries = [fact for fact in self.recoveries if fact is not before]
        self.recoveries.append(_fact(recovery, version))
        self._kept_moves[recovery.id] = recovery.moves

    def _fact_of(self, number: int) -> Document | None:
        return next((fact for fact in self.recoveries if fact["id"] == number), None)

    def recovery_closed(self, recovery: Recovery) -> None:
        """Forget a recovery that was kept; for reading only, it stays on disk."""
        if self.opened.engine.closed or self.opened.read_only:
            return
        self.delete_recovery(recovery.id)
        if recovery.copy is not None and self.writable:
            self._sweep({recovery.copy})

    def delete_recovery(self, number: int) -> bool:
        """Forget a recovery that was kept; False where there is none of that number."""
        if self._fact_of(number) is None:
            return False
        self.opened.check()
        to_the_end(partial(self._forget_recovery, number))
        return True

    def _forget_recovery(self, number: int) -> None:
        self.recoveries = [fact for fact in self.recoveries if fact["id"] != number]
        self.opened.record()
        self.remove_strays()

    def load_recovery(self, fact: Document, catalog: Catalog, resolve: Any) -> Recovery:
        """Take a recovery up again. Raises CorruptionError, OSError."""
        engine, key = self.opened.engine, self.superblock.key
        base = self._loaded_copy(fact["copy"], fact["base_seq"], fact.get("volumes"))
        extents = patches.load(
            self.place,
            copies.patches_name(fact["id"], fact.get("version", 0)),
            engine,
            copies.seed_of(key, fact["id"]),
        )
        only = frozenset(fact["volumes"]) if "volumes" in fact else None
        source = Source(resolve, only, fact.get("undoable", False))
        if source.undoable:
            image = Image.scratch(base)
            image.apply(extents, fact["seq"])
        else:
            image = Image.patched(base, extents, fact["seq"], True)
        plan = Plan(fact["route"], fact["base"], fact["entries"], fact["bytes"], lambda: 0)
        start = Base(fact["base"], base.seq, base)
        volumes = covered(catalog, only)
        image.hold()
        recovery = Recovery(image, volumes, catalog, source, start, plan, number=fact["id"])
        recovery.copy = fact["copy"]
        return recovery

    def _loaded_copy(self, number: int, seq: int, volumes: list[int] | None) -> Image:
        """Return a copy's image, of these volumes: a snapshot's own, where it is one."""
        if self.catalog is not None:
            for snapshot in self.catalog.snapshots.values():
                if snapshot.image.tag == number:
                    return snapshot.image
        engine, key = self.opened.engine, self.superblock.key
        image, problems = copies.load(self.place, engine, key, number, seq, volumes)
        self.problems += problems
        return image

    # Restore: image and intent are durable before the first entry.

    def restore_begins(self, recovery: Recovery, volumes: list[int]) -> None:
        """Keep the recovery, and the intent to restore these of its volumes, by index."""
        log = self.opened
        log.check()
        log.write_back()  # so that what its entries push out depends on nothing but them
        self.keep_recovery(recovery)
        if self.restore is None:  # else this goes on with one that was interrupted
            self.restore = {"recovery": recovery.id, "start": log.engine.seq}
            if len(volumes) < len(self.fixed["volumes"]):
                self.restore["volumes"] = volumes
        log.record()
        if recovery.moves:
            self.remove_strays()

    def restore_failed(self, error: BaseException) -> None:
        """Leave a restore that ended half way to the next opening, which undoes or finishes it."""
        if self.restore is not None:
            self.opened.poison(getattr(error, "errno", None) or 0)

    def restore_ends(self) -> None:
        """All of its entries are there: make them durable, and drop the intent."""
        self.opened.commit()
        self.restore = None
        self.opened.record()

    # Opening and closing.

    def read_marks(self) -> None:
        """Know the marks before entries leave: a REWIND that is entered again may push them out."""
        self.early_marks += [list(mark) for mark in self.opened.marks()]

    def load(self, catalog: Catalog, resolve: Any) -> None:
        """Fill the catalogue: snapshots, marks, recoveries; what is damaged becomes a problem."""
        self.catalog = catalog
        self.opened.finish_copies(catalog.copier.finish_oldest)
        catalog.copier.log = self.opened
        folding = [fact for fact in self.snapshots if "fold" in fact]
        for fact in self.snapshots:
            image, copy = self._load_snapshot(fact, fact.get("volumes"))
            catalog.snapshots[fact["name"]] = Snapshot(
                catalog, fact["name"], image, fact["time_ns"], copy, fact.get("volumes"),
                fact.get("pinned", False),
            )  # fmt: skip
            if copy is not None:
                catalog.copier.add(copy)
        early = [*map(tuple, self.early_marks), *map(tuple, self.pins)]
        catalog.load_marks([*early, *self.opened.marks()])
        for fact in self.recoveries:
            catalog.reserve_id(fact["id"])  # it stays its own, even where it cannot be taken up
            try:
                catalog.keep_recovery(self.load_recovery(fact, catalog, resolve))
            except (JrnlError, OSError) as error:
                self.problems.append(f"recovery {fact['id']}: {error}")
        if any("fold" not in fact for fact in folding):
            self.opened.record()  # now that the catalogue has the marks that it speaks of

    def _load_snapshot(
        self, fact: Document, covered: list[int] | None
    ) -> tuple[Image, Copy | None]:
        """Open a snapshot's copy; or, where it was being made, take that up again."""
        engine, key = self.opened.engine, self.superblock.key
        if fact.get("copying"):
            try:
                image = self._live_again(fact["seq"], covered)
            except JrnlError as error:
                self.problems.append(f"snapshot {fact['name']!r} is lost: {error}")
                self._lose_copy(fact)
                return copies.lost(engine, fact["id"], fact["seq"]), None
            image.tag = fact["id"]
            if self.opened.read_only:
                return image, None
            every = list(range(len(engine.sizes)))
            return image, self._file_copy(fact["id"], image, covered or every)
        writable = self.fixed["overflow"] == "fold" and not self.opened.read_only
        image, problems = copies.load(
            self.place, engine, key, fact["id"], fact["seq"], covered, writable=writable
        )
        self.problems += [f"snapshot {fact['name']!r}: {problem}" for problem in problems]
        return self._finish_fold(fact, image) if "fold" in fact else image, None

    def _live_again(self, seq: int, covered: list[int] | None) -> Image:
        engine = self.opened.engine
        if not engine.base_seq <= seq <= engine.seq:
            raise CorruptionError(
                f"its copy was being made from the log, which has the states {engine.base_seq} "
                f"to {engine.seq} now"
            )
        return Image.live(engine, seq, True, covered)

    def _lose_copy(self, fact: Document) -> None:
        """Never take for a copy what there is of one: what it was made from is damaged.

        Its seq may be given out again, so that is durable before anything is written.
        """
        if not self.opened.read_only:
            copies.remove(self.place, fact["id"], len(self.fixed["volumes"]))
            self.place.sync()
            del fact["copying"]
            self.opened.record()

    def finish_restore(self, rewind: Any, write: Any) -> None:
        """Take an interrupted restore's entries back, or, where they are too many, go on."""
        assert self.restore is not None
        engine = self.opened.engine
        start = self.restore["start"]
        try:
            if start not in (engine.seq, engine.newest_state):
                rewind(start)
        except (PointExpired, UnknownPoint, JrnlError):
            write(self.restore["recovery"], self.restore.get("volumes"))
        self.restore = None
        self.opened.commit()
        self.opened.record()

    @property
    def writable(self) -> bool:
        """Whether there is anything left that can be written."""
        log = self.opened
        return not log.read_only and not log.poisoned and not log.forked

    def all_problems(self) -> list[str]:
        """Say what opening has found, and what has stopped all writing since."""
        failed = 0 if self.log is None else self.log.poisoned
        if not failed:
            return list(self.problems)
        return [
            *self.problems,
            f"a write or sync failed ({os.strerror(failed)}): what was not durable by then is lost",
        ]

    def close(self, recoveries: list[Recovery]) -> None:
        """Make everything durable, bring the volumes' files up to date, and say so."""
        log = self.opened
        log.commit()
        if self.catalog is not None:
            self.catalog.copier.finish_all()
        for recovery in recoveries:
            self.keep_recovery(recovery)
        self._sweep(self._preserved)
        log.write_back()
        log.save_index()
        self.clean = True
        log.record()
        self.remove_strays()

    def let_go(self) -> None:
        """Close all files, and give up the lock."""
        for device in (*self.files, *self.superblock.devices):
            if device is not None:
                device.close()
        self.place.close()
