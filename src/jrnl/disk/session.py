"""The keeper of a store on disk: what its superblocks say, and the files of its copies."""

from __future__ import annotations

import marshal
import os
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from jrnl._core import ExtentMap, Hold, Image, Log, to_the_end
from jrnl.disk import recovery_files, snapshot_files
from jrnl.disk.file_copy import FileCopy
from jrnl.disk.load import Loads
from jrnl.disk.log_files import volume_file
from jrnl.disk.preserved import PreservedStates
from jrnl.disk.superblock import ROOM_BYTES, ROW_MOST, packed
from jrnl.errors import (
    CatalogFull,
    CorruptionError,
    JournalFull,
    JrnlError,
    PointExpired,
    UnknownPoint,
)
from jrnl.plan import BEFORE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from jrnl.catalog import Catalog
    from jrnl.disk.folder import Place
    from jrnl.disk.superblock import Device, Document, Superblock
    from jrnl.points import Mark
    from jrnl.recovery import Recovery
    from jrnl.snapshot import Snapshot
    from jrnl.snapshot_copier import Copy

EPOCHS_MAX = 4096
EPOCHS_HELD = 4 * EPOCHS_MAX  # what a superblock surely takes, where nothing may leave
_ALIASES_KEPT = 256
_NUMBERS = ("id", "seq", "base_seq", "copy", "entries", "bytes", "version")
_LONGEST = {**dict.fromkeys(_NUMBERS, 1 << 62), "route": "backward+forward", "undoable": True}
_KEPT = {**dict.fromkeys(("id", "seq", "after", "length"), 1 << 62), "lost": True}


def _fact(recovery: Recovery, version: int, copy: int) -> Document:
    """Return what the superblocks say of a recovery."""
    fact: Document = {
        "id": recovery.id,
        "seq": recovery.seq,
        "base": recovery.base,
        "base_seq": recovery._preserved.seq,
        "copy": copy,
        "route": recovery.plan.route,
        "entries": recovery.plan.entries,
        "bytes": recovery.plan.bytes,
    }
    if recovery.undoable:
        fact["undoable"] = True
    if version:
        fact["version"] = version
    if recovery._only is not None:
        fact["volumes"] = sorted(recovery._only)
    return fact


class DiskSession(Loads):
    """Writes the superblocks, and knows the store's files; callers hold the engine's lock."""

    def __init__(
        self, place: Place, superblock: Superblock, fixed: Document, document: Document
    ) -> None:
        self.place = place
        self.superblock = superblock
        self.fixed = fixed  # what never changes: volumes, journal, options
        self.epochs: list[list[int]] = [list(pair) for pair in document.get("epochs", [[1, 1]])]
        # What rewinds have dropped, by the group of their REWIND: [number, slot, follows, seq].
        self.drops: list[list[int]] = [list(drop) for drop in document.get("drops", [])]
        self.snapshots: list[Document] = list(document.get("snapshots", []))
        self.recoveries: list[Document] = list(document.get("recoveries", []))
        self.restore: Document | None = document.get("restore")
        self.next_id = self._beyond(int(document.get("next_id", 1)))
        self.pins: list[list[Any]] = [list(pin) for pin in document.get("pins", [])]
        self.retain: list[int] = list(document.get("retain", (0, 0)))
        self._held: dict[str, Hold] = {}  # while it is being opened
        self.clean = False
        self._begun: set[int | None] = set()  # copies of snapshots that are not named yet
        self._whole: set[int | None] = set()  # ... and of these, the ones that are whole already
        self._preserved: set[int] = set()  # copies of production that no snapshot has
        self.kept = PreservedStates(place, superblock.key, list(document.get("kept", [])))
        self._kept_moves: dict[int, int] = {}  # how often a recovery had moved when it was kept
        self.early_marks: list[list[Any]] = [list(mark) for mark in document["marks"]]
        self.problems: list[str] = []
        self.damaged = False  # opening has found something in the log that cannot be read
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
        kept = self.kept.facts({fact["copy"] for fact in self.recoveries})
        self._follow_rewind(state["rewound"], state["head"], state["tail"][0])
        return {
            **self.fixed,
            **state,
            "clean": self.clean,
            "newest": [self.opened.engine.seq, self.opened.engine.time_ns],
            "epochs": self.epochs,
            "drops": self.drops,
            "aliases": self.opened.aliases(_ALIASES_KEPT),
            "lost": self.opened.lost(),
            "marks": self._marks_at_base(state["tail"][3]),
            "snapshots": self.snapshots,
            "recoveries": self.recoveries,
            "restore": self.restore,
            "next_id": self.next_id,
            **({"kept": kept} if kept else {}),
            **({"pins": self.pins} if self.pins else {}),
            **({"retain": self.retain} if any(self.retain) else {}),
        }

    def _marks_at_base(self, base_seq: int) -> list[list[Any]]:
        """Return the marks of the oldest state, whose entries have left the log."""
        if self.catalog is None:
            return [mark for mark in self.early_marks if mark[1] == base_seq]
        return [mark._row for mark in self.catalog.marks_at(base_seq)]

    def _follow_epoch(self, epoch: int, head: int, tail: int) -> None:
        """Let a new epoch begin at the group `head`; what tells of groups before `tail` goes."""
        if epoch > self.epochs[-1][0]:
            self.epochs = [pair for pair in self.epochs if pair[1] < head]
            self.epochs.append([epoch, head])
        while len(self.epochs) > 1 and self.epochs[1][1] <= tail:
            del self.epochs[0]

    def _follow_rewind(self, rewound: list[int] | None, head: list[int], tail: int) -> None:
        """Keep what a rewind has dropped until its entry leaves, or is dropped by a later one.

        The REWIND entry says it, too; but that, and what it dropped, may be damaged (R15).
        """
        drops = self.drops
        if rewound is not None and all(drop[3] != rewound[1] for drop in drops):
            _, seq, _, follows = rewound
            drops = [drop for drop in drops if drop[0] < head[0]]
            drops.append([head[0], head[2], follows, seq])
        elif rewound is None:
            drops = [drop for drop in drops if drop[0] < head[0]]
        self.drops = [drop for drop in drops if drop[0] >= tail]

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
        opened = {} if self.catalog is None else self.catalog.recoveries()
        most = ROW_MOST + 2 * len(packed(self.fixed["volumes"]))
        if self.superblock.used + (len(rows) + len(opened)) * most > ROOM_BYTES:
            kept = {fact["id"] for fact in self.recoveries}
            waiting = [_fact(one, 0, 1 << 62) for one in opened.values() if one.id not in kept]
            preserved = [{**_KEPT, "volumes": one.get("volumes", [])} for one in waiting]
            self.superblock.check_room([*rows, *waiting, *preserved])

    def check_recovery(self, name: str, volumes: Iterable[int] | None) -> None:
        """Raise CatalogFull where one more recovery could not be kept when the store is closed."""
        if not self.opened.read_only:
            only = sorted(volumes or ())
            self.check_room({**_LONGEST, "base": name, "volumes": only}, {**_KEPT, "volumes": only})

    def check_epochs(self) -> None:
        """Raise what a rewind must not run into: it adds an epoch, and what it has dropped.

        Raises
        ------
        JournalFull
            Pins have kept groups of too many epochs.
        CatalogFull
        """
        self.superblock.check_rewind()
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
        self.pins.append(mark._row)
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
        states = [fact["seq"] for fact in self.snapshots if "volumes" not in fact]
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

    def _copy_production(self, covered: list[int] | None = None, *, begun: bool = False) -> Image:
        """Copy production as it is now. Nothing may come in: no journal leads back to it.

        With `begun` it counts as used from its first file on, until it has a name.
        """
        log = self.opened
        with log.engine.sealing() as engine:
            log.write_back()
            return self._copy(Image.production(engine), self._volume_files(), covered, begun=begun)

    def _copy_image(self, image: Image) -> Image:
        self.opened.commit()
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
                self.place, self.opened.engine, key, number, source, clones, covered
            )
        except BaseException as error:
            self._begun.discard(number)
            self._copy_failed(number, error)
            raise

    def _copy_failed(self, number: int, error: BaseException) -> None:
        if isinstance(error, OSError):
            self.opened.poison(error.errno or 0)
        if not self.opened.poisoned:
            snapshot_files.remove(self.place, number, len(self.fixed["volumes"]))

    def check_snapshot(self, name: str, covered: list[int]) -> None:
        """Raise CatalogFull where the superblocks have no room for one more snapshot."""
        self.check_room({"id": 1 << 62, "name": name, "seq": 1 << 62, "time_ns": 1 << 62,
                         "copying": True, "volumes": covered, "pinned": True,
                         "fold": 1 << 62})  # fmt: skip

    def take_snapshot(self, covered: list[int]) -> tuple[Image, Copy | None]:
        """Begin a snapshot of production; return its image, and how that becomes a copy."""
        log, engine = self.opened, self.opened.engine
        log.check()
        waiting = [] if self.catalog is None else self.catalog.copier.pending()
        snapshot_files.check_descriptors(len(covered) + sum(copy.files_to_make for copy in waiting))
        if not engine.images & BEFORE:
            return self._copy_production(covered, begun=True), None
        image = Image.live(engine, engine.seq, True, covered)
        number = self._new_id()
        self._begun.add(number)
        return image, self._file_copy(number, image, covered)

    def _file_copy(self, number: int, image: Image, covered: list[int]) -> FileCopy:
        return FileCopy(self.place, self.superblock.key, number, image, covered,
                        self._volume_files(), self._copy_settled, self._is_used)  # fmt: skip

    def _volume_files(self) -> list[str]:
        return [volume_file(k, name) for k, (name, _) in enumerate(self.fixed["volumes"])]

    def name_snapshot(self, snapshot: Snapshot) -> Callable[[], None]:
        """Return what has the superblocks name a snapshot, whose state is durable."""
        self.opened.check()
        fact = {"id": snapshot._image.tag, "name": snapshot.name, "seq": snapshot.seq,
                "time_ns": snapshot.time_ns}  # fmt: skip
        if snapshot._image.is_live and snapshot._image.tag not in self._whole:
            fact["copying"] = True
        if snapshot._covers is not None:
            fact["volumes"] = sorted(snapshot._covers)
        if snapshot.pinned:
            fact["pinned"] = True
        self.snapshots.append(fact)
        self._begun.discard(snapshot._image.tag)
        self._whole.discard(snapshot._image.tag)
        return self.record_apart()

    def give_up_snapshot(self, snapshot: Snapshot) -> None:
        """Forget a snapshot that could not be made durable."""
        image, before = snapshot._image, len(self.snapshots)
        self._begun.discard(image.tag)
        self._whole.discard(image.tag)
        self.snapshots = [fact for fact in self.snapshots if fact["id"] != image.tag]
        snapshot._let_go()
        if self.writable and not self.opened.engine.closed:
            if len(self.snapshots) < before:  # the superblocks may name it already
                self.opened.record()
            self._sweep({int(image.tag)})

    def _copy_settled(self, number: int) -> Callable[[], None] | None:
        """Return what has the superblocks say that a snapshot's copy is whole; it is durable.

        None where nobody has named it yet: whoever does names it as whole. So it is said in either
        order, and said again where it was broken off.
        """
        for fact in self.snapshots:
            if fact["id"] == number:
                fact.pop("copying", None)
                return self.record_apart()
        self._whole.add(number)
        return None

    # Fold: what it takes is checked, the intent is durable, the sectors are written and synced. The
    # record that lets the entries leave says that it is done; until then opening does it again.

    def fold(self, image: Image, extents: ExtentMap, seq: int) -> Image:
        """Bring a snapshot's copy on to state `seq`; who holds the copy keeps the old one."""
        log, old = self.opened, int(image.tag)
        log.commit_to(seq)  # an intent names only what is durable (R13)
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
        clones = [snapshot_files.image_name(image.tag, k) for k in range(volumes)]
        engine, key = self.opened.engine, self.superblock.key
        try:
            return snapshot_files.make(self.place, engine, key, number, image, clones)
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
        self.snapshots.append(
            {"id": image.tag, "name": name, "seq": image.seq, "time_ns": engine.time_ns}
        )
        self._begun.discard(image.tag)
        log.record()
        return image

    def preserve(self) -> Image:
        """Copy production as it is now; the copy lasts as long as a recovery needs it."""
        log = self.opened
        if log.read_only:  # production stays as it is
            return Image.production(log.engine)
        log.check()
        self._sweep(self._preserved)  # those of recoveries that were dropped, not closed
        image = self._copy_production()
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
        for number in set(numbers) - self._used():  # what comes in between adds to neither
            self._preserved.discard(number)
            if number in self.kept:
                self.kept.drop(number)
                continue
            # Where a copy is being made, it is given up with the last who holds it, files and all.
            if self.catalog is None or not self.catalog.copier.is_making(number):
                snapshot_files.remove(self.place, number, len(self.fixed["volumes"]))

    def _is_used(self, number: int) -> bool:
        return number in self._used()

    def _used(self) -> set[int | None]:
        """Return the numbers of the copies that somebody refers to."""
        used = self._begun | {fact["id"] for fact in self.snapshots}
        used |= {fact["copy"] for fact in self.recoveries}
        if self.catalog is not None:
            used |= {recovery._copy for recovery in self.catalog.recoveries().values()}
        return used

    def remove_strays(self) -> None:
        """Remove files that an interrupted operation has left, and patches of where one was."""
        self._sweep(self.kept.numbers)
        names = self.place.names()  # before it is asked what is used: a copy may come in
        used = self._used()
        kept = {
            snapshot_files.patches_name(fact["id"], fact.get("version", 0))
            for fact in self.recoveries
        }
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
        stored = recovery._preserved.files is not None or recovery._copy in self.kept
        name = snapshot_files.image_name(recovery._copy or 0, 0)
        return not stored and name not in self.place.names()

    def keep_recovery(self, recovery: Recovery) -> None:
        """Make a recovery durable, but for the superblocks, which the caller writes.

        One that has moved since gets other patches; the old ones are strays from then on.
        """
        before = self._fact_of(recovery.id)
        if before is not None and self._kept_moves.get(recovery.id, 0) == recovery._moves:
            return
        copy = self._keep_preserved(recovery)
        version = 0 if before is None else before.get("version", 0) + 1
        name = snapshot_files.patches_name(recovery.id, version)
        if name in self.place.names():
            self.place.remove(name)
        seed = snapshot_files.seed_of(self.superblock.key, recovery.id)
        try:
            recovery_files.save(self.place, name, recovery._image, seed)
            self.place.sync()
        except OSError as error:
            self.opened.poison(error.errno or 0)
            raise
        self.recoveries = [fact for fact in self.recoveries if fact is not before]
        self.recoveries.append(_fact(recovery, version, copy))
        self._kept_moves[recovery.id] = recovery._moves

    def _keep_preserved(self, recovery: Recovery) -> int:
        """Have what a recovery started from outlive the store's being closed; return its number.

        A copy does. A live image is of a state in the log, which is kept from now on.
        """
        image = recovery._preserved
        if image.is_live:
            if image.kept is None or image.kept not in self.kept:
                number = self._new_id()
                try:
                    self.kept.keep(self.opened, number, image)
                except OSError as error:
                    self.opened.poison(error.errno or 0)
                    raise
                image.kept = number
            return image.kept
        if recovery._copy is None or self._is_swept(recovery):
            recovery._copy = self._copy_image(image).tag
            image.tag = recovery._copy  # for those that start from the same copy
        return int(recovery._copy)

    def _fact_of(self, number: int) -> Document | None:
        return next((fact for fact in self.recoveries if fact["id"] == number), None)

    def recovery_closed(self, recovery: Recovery) -> None:
        """Forget a recovery that was kept; for reading only, it stays on disk."""
        if self.opened.engine.closed or self.opened.read_only:
            return
        self.delete_recovery(recovery.id)
        if recovery._copy is not None and self.writable:
            self._sweep({recovery._copy})

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
        if recovery._moves:
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

    def load_kept(self, rewound: Any) -> None:
        """Take up the kept states, before anything leaves the log.

        `rewound` is what the superblocks know of a rewind whose entry may be in no group.
        """
        newest = max(self.opened.engine.seq, rewound[1] if rewound else 0)
        self.problems += self.kept.load(self.opened, newest)

    def restore_is_folded(self) -> bool:
        """Whether a snapshot was brought on over entries of the restore that was interrupted.

        Then they cannot be taken back: it would be left at a state that nobody has ever had.
        """
        start = self.restore["start"] if self.restore is not None else 1 << 63
        return any(max(fact["seq"], fact.get("fold", 0)) > start for fact in self.snapshots)

    def finish_restore(self, rewind: Any, write: Any) -> None:
        """Take an interrupted restore's entries back, or, where they are too many, go on."""
        assert self.restore is not None
        engine = self.opened.engine
        start = self.restore["start"]
        try:
            if self.restore_is_folded():
                raise PointExpired(f"a snapshot has been brought on beyond state {start}")
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
        self.kept.let_go()
        for device in (*self.files, *self.superblock.devices):
            if device is not None:
                device.close()
        self.place.close()
