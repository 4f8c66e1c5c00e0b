"""Loading: what a store on disk has of snapshots and recoveries, taken up again at opening."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from jrnl._core import ExtentMap, Image
from jrnl.disk import recovery_files, snapshot_files
from jrnl.errors import CorruptionError, JrnlError
from jrnl.plan import Base, Plan
from jrnl.recovery import Recovery, Source, covered
from jrnl.snapshot import Snapshot

if TYPE_CHECKING:
    from jrnl._core import Log
    from jrnl.catalog import Catalog
    from jrnl.disk.file_copy import FileCopy
    from jrnl.disk.folder import Place
    from jrnl.disk.preserved import PreservedStates
    from jrnl.disk.superblock import Document, Superblock
    from jrnl.snapshot_copier import Copy


def _names_upto(fact: Document) -> int:
    """Return the newest state that the log must have, so that a snapshot can be taken up."""
    if "copying" in fact or "fold" in fact:
        return max(int(fact["seq"]), int(fact.get("fold", 0)))
    return 0


class Loads(ABC):
    """The part of the keeper that reads what an earlier life has left."""

    place: Place
    superblock: Superblock
    fixed: Document
    snapshots: list[Document]
    recoveries: list[Document]
    pins: list[list[Any]]
    early_marks: list[list[Any]]
    problems: list[str]
    damaged: bool
    kept: PreservedStates
    catalog: Catalog | None

    @property
    @abstractmethod
    def opened(self) -> Log:
        """The log. It is there once the store is open."""

    @abstractmethod
    def _file_copy(self, number: int, image: Image, covered: list[int]) -> FileCopy: ...

    def load_snapshots(self, catalog: Catalog, undo: int | None) -> None:
        """Fill the catalogue with marks and snapshots; what is damaged becomes a problem.

        That is before the first entry, for which others may have to leave (R19). What names a state
        that only a REWIND will make is left to `load`: it needs nothing older.

        Parameters
        ----------
        undo : int, optional
            An interrupted rewind is about to go back to this state.
        """
        self.catalog = catalog
        self.opened.finish_copies(catalog.copier.finish_oldest)
        catalog.copier.log = self.opened
        early = [*map(tuple, self.early_marks), *map(tuple, self.pins)]
        catalog.load_marks([*early, *self.opened.marks()])
        newest = self.opened.engine.seq if undo is None else undo
        self._enter(catalog, [fact for fact in self.snapshots if _names_upto(fact) <= newest])

    def load(self, catalog: Catalog, resolve: Any) -> None:
        """Fill the catalogue with the rest: recoveries, and snapshots of the newest state."""
        known = catalog.snapshots
        self._enter(catalog, [fact for fact in self.snapshots if fact["name"] not in known])
        catalog.snapshots = {fact["name"]: known[fact["name"]] for fact in self.snapshots}
        for fact in self.recoveries:
            catalog.reserve_id(fact["id"])  # it stays its own, even where it cannot be taken up
            try:
                catalog.keep_recovery(self.load_recovery(fact, catalog, resolve))
            except (JrnlError, OSError) as error:
                self.problems.append(f"recovery {fact['id']}: {error}")

    def _enter(self, catalog: Catalog, facts: list[Document]) -> None:
        folding = [fact for fact in facts if "fold" in fact]
        for fact in facts:
            image, copy = self._load_snapshot(fact, fact.get("volumes"))
            catalog.snapshots[fact["name"]] = Snapshot(
                catalog, fact["name"], image, fact["time_ns"], copy, fact.get("volumes"),
                fact.get("pinned", False),
            )  # fmt: skip
            if copy is not None:
                catalog.copier.add(copy)
        if any("fold" not in fact for fact in folding):
            self.opened.record()

    def _load_snapshot(
        self, fact: Document, covered: list[int] | None
    ) -> tuple[Image, Copy | None]:
        """Open a snapshot's copy; or, where it was being made, take that up again."""
        engine, key = self.opened.engine, self.superblock.key
        if fact.get("copying"):
            whole = self._whole_copy(fact, covered) if self.damaged else None
            if whole is not None:
                return whole, None
            try:
                image = self._live_again(fact["seq"], covered)
            except JrnlError as error:
                whole = self._whole_copy(fact, covered)
                if whole is not None:
                    return whole, None
                self.problems.append(f"snapshot {fact['name']!r} is lost: {error}")
                self._lose_copy(fact)
                return snapshot_files.lost(engine, fact["id"], fact["seq"]), None
            image.tag = fact["id"]
            if self.opened.read_only:
                return image, None
            every = list(range(len(engine.sizes)))
            return image, self._file_copy(fact["id"], image, covered or every)
        writable = self.fixed["overflow"] == "fold" and not self.opened.read_only
        image, problems = snapshot_files.load(
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
        with suppress(CorruptionError):  # what is damaged says so when it is read
            engine.resolve(seq)  # a rewind may have dropped it
        return Image.live(engine, seq, True, covered)

    def _whole_copy(self, fact: Document, covered: list[int] | None) -> Image | None:
        """Return a copy whose files say that it has ended, though no superblock does."""
        log, key = self.opened, self.superblock.key
        writable = self.fixed["overflow"] == "fold" and not log.read_only
        image, problems = snapshot_files.load(
            self.place, log.engine, key, fact["id"], fact["seq"], covered, writable=writable
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
            self.problems.append(
                f"snapshot {fact['name']!r}: a crash has ended its copy, and what that was made "
                f"from is gone; {bad} blocks of 4096 bytes were not copied, and raise"
            )
        if not log.read_only:
            self.place.sync()
            del fact["copying"]
            log.record()
        return image

    def _lose_copy(self, fact: Document) -> None:
        """Never take for a copy what there is of one: what it was made from is damaged.

        Its seq may be given out again, so that is durable before anything is written.
        """
        if not self.opened.read_only:
            snapshot_files.remove(self.place, fact["id"], len(self.fixed["volumes"]))
            self.place.sync()
            del fact["copying"]
            self.opened.record()

    # Folds that were interrupted.

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
            return snapshot_files.lost(engine, fact["id"], start)
        if not log.read_only:
            fact["seq"] = seq
            del fact["fold"]
        return image

    # Recoveries.

    def load_recovery(self, fact: Document, catalog: Catalog, resolve: Any) -> Recovery:
        """Take a recovery up again. Raises CorruptionError, OSError."""
        engine, key = self.opened.engine, self.superblock.key
        base = self._loaded_copy(fact["copy"], fact["base_seq"], fact.get("volumes"))
        extents = recovery_files.load(
            self.place,
            snapshot_files.patches_name(fact["id"], fact.get("version", 0)),
            engine,
            snapshot_files.seed_of(key, fact["id"]),
        )
        only = frozenset(fact["volumes"]) if "volumes" in fact else None
        source = Source(resolve, only, fact.get("undoable", False))
        if source.undoable:
            image = Image.scratch(base)
            image.apply(extents, fact["seq"])
        else:
            image = Image.patched(base, extents, fact["seq"], True)
        plan = Plan(fact["route"], fact["base"], fact["entries"], fact["bytes"], int, int)
        start = Base(fact["base"], base.seq, base)
        volumes = covered(catalog, only)
        image.hold()
        recovery = Recovery(image, volumes, catalog, source, start, plan, number=fact["id"])
        recovery._copy = fact["copy"]
        return recovery

    def _loaded_copy(self, number: int, seq: int, volumes: list[int] | None) -> Image:
        """Return a copy's image, of these volumes: a snapshot's own, where it is one."""
        if self.kept.knows(number):
            return self.kept.image(number)
        if self.catalog is not None:
            for snapshot in self.catalog.snapshots.values():
                if snapshot._image.tag == number:
                    return snapshot._image
        engine, key = self.opened.engine, self.superblock.key
        image, problems = snapshot_files.load(self.place, engine, key, number, seq, volumes)
        self.problems += problems
        return image
