"""How a rule is removed: at the simulated disk, in the core, or in a Python part of the store.

Each function returns a context manager; within it the rule does not hold. Those in the core can
only be removed in the build for it (JRNL_SABOTAGE=1, `make sabotage`).
"""

from __future__ import annotations

import ctypes
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from unittest import mock

from jrnl import _core, options
from jrnl._core import FORMAT, Engine, Image
from jrnl.disk import create as creation
from jrnl.disk import log_files, recovery_files, scan, session, snapshot_files, superblock
from jrnl.disk import open as opening
from jrnl.disk.file_copy import FileCopy
from jrnl.disk.load import Loader
from jrnl.disk.record import Document, Record, SnapshotRow
from jrnl.points import Mark
from tests.crash.disk import IGNORED, Op, SimDisk, SimFile, SimPlace
from tests.crash.oracle import OTHER_IMAGES
from tests.model.places import ROOT

Removed = AbstractContextManager[object]
CREATING = ".s.new"  # the folder in which a store is made
HEAD_BYTES = log_files.HEAD_BYTES
BLOCK_BYTES = FORMAT["constants"]["LOG_BLOCK_BYTES"]


# At the disk: syncs that do nothing and say nothing.


def syncs(wanted: Callable[[Op], bool]) -> Removed:
    """Let some syncs do nothing, as if the store had none there."""
    step = SimDisk.step

    def ignoring(
        self: SimDisk, kind: str, path: str, offset: int = 0, data: bytes = b""
    ) -> int | str | None:
        what = step(self, kind, path, offset, data)
        is_sync = kind in ("sync", "syncdir") and wanted(Op(self.ops, kind, path))
        return IGNORED if is_sync else what

    return mock.patch.object(SimDisk, "step", ignoring)


def syncs_of(*prefixes: str, suffix: str = "") -> Removed:
    """The syncs of a store's files whose names start and end like this."""
    return syncs(
        lambda op: (
            op.path.startswith("s/") and op.name.startswith(prefixes) and op.name.endswith(suffix)
        )
    )


def volume_syncs() -> Removed:
    return syncs(
        lambda op: (
            op.path.startswith("s/")
            and op.name.endswith(".img")
            and not op.name.startswith(OTHER_IMAGES)
        )
    )


def folder_syncs(prefix: str) -> Removed:
    return syncs(lambda op: op.kind == "syncdir" and op.path.startswith(prefix))


def created_file_syncs() -> Removed:
    return syncs(lambda op: op.kind == "sync" and op.path.startswith(CREATING))


def parent_syncs() -> Removed:
    return syncs(lambda op: op.kind == "syncdir" and not op.path)


# At the disk: writes at other places, or of other lengths.


def volume_writes(path: str) -> bool:
    """Whether this is a volume's file of the store."""
    folder, _, name = path.rpartition("/")
    return folder == "s" and name.endswith(".img") and not name.startswith(OTHER_IMAGES)


def parts_of_sectors() -> Removed:
    """What a volume's file has already at either end of a write is left out of it."""
    pwrite = SimFile.pwrite

    def changed(self: SimFile, offset: int, data: bytes | memoryview) -> int:
        new = bytes(data)
        if not volume_writes(self.path):
            return pwrite(self, offset, new)
        old = self.disk.content(self.node).read(offset, len(new)).ljust(len(new), b"\0")
        differ = [k for k, pair in enumerate(zip(old, new, strict=True)) if pair[0] != pair[1]]
        if differ:
            pwrite(self, offset + differ[0], new[differ[0] : differ[-1] + 1])
        return len(new)

    return mock.patch.object(SimFile, "pwrite", changed)


def groups_joined() -> Removed:
    """The last block of the group before is written again, in front of each group."""
    pwrite = SimFile.pwrite

    def joined(self: SimFile, offset: int, data: bytes | memoryview) -> int:
        before = offset - BLOCK_BYTES
        if self.path == "s/log" and before >= HEAD_BYTES:
            pwrite(self, before, self.disk.content(self.node).read(before, BLOCK_BYTES))
        return pwrite(self, offset, data)

    return mock.patch.object(SimFile, "pwrite", joined)


# In the core.


RULES_FILE = ROOT / "src" / "jrnl" / "kernel" / "sabotage.pxi"
RULES = {
    name.lower(): int(number)
    for name, number in re.findall(r"^    RULE_(\w+) = (\d+)$", RULES_FILE.read_text(), re.M)
}


def rules_off() -> ctypes.c_uint64:
    """Return the core's variable with a bit for each rule that does not hold."""
    try:
        return ctypes.c_uint64.in_dll(ctypes.CDLL(_core.__file__), "jrnl_rules_off")
    except ValueError as error:
        raise RuntimeError("this build's rules can't be removed: use .venv-sabotage") from error


@contextmanager
def core(*rules: str) -> Iterator[None]:
    """Let these of the core's rules not hold, in any store."""
    off = rules_off()
    off.value = sum(1 << RULES[rule] for rule in rules)
    try:
        yield
    finally:
        off.value = 0


# In Python.

Log = session.Log


def replaced(owner: object, name: str, new: object) -> Removed:
    return mock.patch.object(owner, name, new)


def log_with(**methods: object) -> Removed:
    """Let the log be one with some methods replaced."""
    return replaced(session, "Log", type("Altered", (Log,), methods))


def nothing(*_: object, **__: object) -> None:
    return None


class Agrees(int):
    """A checksum that every other one agrees with."""

    def __eq__(self, other: object) -> bool:
        return True

    def __ne__(self, other: object) -> bool:
        return False

    __hash__ = int.__hash__


class AgreeingSum:
    """Reads such checksums; writes real ones."""

    size = 8

    def __init__(self, real: object) -> None:
        self.pack = real.pack

    def unpack_from(self, *_: object) -> tuple[Agrees]:
        return (Agrees(0),)


def super_sum() -> Removed:
    return replaced(superblock, "_SUM", AgreeingSum(superblock._SUM))


def super_version() -> Removed:
    """What a superblock says of its version and features is not looked at."""
    real = superblock._HEAD

    def unpack_from(data: bytes) -> tuple[object, ...]:
        magic, _, _, _, *rest = real.unpack_from(data)
        return (magic, 1, 0, 0, *rest)

    head = mock.Mock(size=real.size, pack=real.pack, unpack_from=unpack_from)
    return replaced(superblock, "_HEAD", head)


def put_both_then_sync(
    self: superblock.Superblock, document: Document, generation: int = 0
) -> None:
    """Superblock.write, with the syncs after both writes."""
    self.generation = generation or self.generation + 1
    for copy, device in enumerate(self.devices):
        device.pwrite(0, superblock.pack(copy, self.key, self.generation, document))
    for device in self.devices:
        device.sync()


def put_one_in_turn(self: superblock.Superblock, document: Document, generation: int = 0) -> None:
    self.generation = generation or self.generation + 1
    self.newest = 1 - self.newest
    self._put(self.newest, document)


def put_newest_first(self: superblock.Superblock, document: Document, generation: int = 0) -> None:
    self.generation = generation or self.generation + 1
    order = (self.newest, 1 - self.newest)
    for copy in order:
        self._put(copy, document)
    self.newest = order[1]


def heal_without_sync() -> Removed:
    """Neither opening nor healing syncs what a killed process has left of the superblocks."""

    def heal(self: superblock.Superblock, document: Document) -> None:
        self._put(1 - self.newest, document)

    return opening_without_syncs("super", replaced(superblock.Superblock, "heal", heal))


@contextmanager
def opening_without_syncs(prefix: str, *others: Removed) -> object:
    """Let `open_in` not sync files whose names start like this until it writes to one."""
    wrote: dict[int, bool] = {}
    open_in, step = opening.open_in, SimDisk.step

    def opens(place: object, *arguments: object, **keywords: object) -> object:
        wrote[id(place.disk)] = False
        try:
            return open_in(place, *arguments, **keywords)
        finally:
            wrote.pop(id(place.disk), None)

    def ignoring(self: SimDisk, kind: str, path: str, *rest: object) -> int | str | None:
        what = step(self, kind, path, *rest)
        mine = path.rpartition("/")[2].startswith(prefix) and id(self) in wrote
        if mine and kind == "pwrite":
            wrote[id(self)] = True
        return IGNORED if mine and kind == "sync" and not wrote[id(self)] else what

    with ExitStack() as stack:
        for removed in (
            replaced(opening, "open_in", opens),
            replaced(SimDisk, "step", ignoring),
            *others,
        ):
            stack.enter_context(removed)
        yield


def stays_clean() -> Removed:
    """The superblocks go on saying that the store was closed."""
    document = session.DiskSession.document
    return replaced(session.DiskSession, "document", lambda self: {**document(self), "clean": True})


def no_new_epoch() -> Removed:
    def finish_opening(self: Log, epoch: int, synced: int) -> None:
        Log.finish_opening(self, epoch - 1, synced)

    return log_with(finish_opening=finish_opening)


def epoch_of_group() -> Removed:
    """A group is taken under the epoch that it names itself."""

    def init(self: Log, _: object, file: object, *rest: object) -> None:
        self.file = file

    def named(self: Log, position: int) -> int:
        head = self.file.pread(HEAD_BYTES + position % self.area, 16)
        return int.from_bytes(head[8:], "little")

    def scan(self: Log, epoch: int, position: int, number: int, images: bool) -> object:
        return Log.scan(self, named(self, position), position, number, images)

    def take(self: Log, epoch: int) -> None:
        Log.take(self, named(self, self.position[1]))

    return log_with(__init__=init, scan=scan, take=take)


def epoch_in_order() -> Removed:
    """A group is taken under the epoch that it names itself, if that is not an older one."""

    def init(self: Log, _: object, file: object, *rest: object) -> None:
        self.file, self.newest = file, 0

    def named(self: Log, epoch: int, position: int) -> int:
        head = self.file.pread(HEAD_BYTES + position % self.area, 16)
        own = int.from_bytes(head[8:], "little")
        return own if own >= self.newest else epoch

    def scan(self: Log, epoch: int, position: int, number: int, images: bool) -> object:
        return Log.scan(self, named(self, epoch, position), position, number, images)

    def take(self: Log, epoch: int) -> None:
        self.newest = named(self, epoch, self.position[1])
        Log.take(self, self.newest)

    return log_with(__init__=init, scan=scan, take=take)


def late_acknowledgement() -> Removed:
    """A sync answers for all that was written before it ended."""
    lock = threading.Lock()

    class Early(Engine):
        answered = 0

        def commit(self, seq: int) -> None:
            with lock:
                if seq > self.answered:
                    Engine.commit(self, seq)
                    self.answered = self.seq

    return replaced(options, "Engine", Early)


def no_watermark() -> Removed:
    init = scan.Scan.__init__

    def without(self: scan.Scan, session: object, record: Record) -> None:
        init(self, session, replace(record, durable_number=0))

    return replaced(scan.Scan, "__init__", without)


def fold_without_intent() -> Removed:
    """The snapshot's files are named as they were, and nothing says that they change."""

    def begins(self: session.DiskSession, row: SnapshotRow, image: Image, seq: int) -> None:
        row.id, row.fold = image.tag, seq

    return replaced(session.DiskSession, "fold_begins", begins)


def restore_without_intent() -> Removed:
    def without(self: session.DiskSession, recovery: object, _volumes: list[int]) -> None:
        self.log.commit()
        self.save_recovery(recovery)
        self.log.record()

    return replaced(session.DiskSession, "restore_begins", without)


def restore_ends_early() -> Removed:
    def ends(self: session.DiskSession, *_: object) -> None:
        self.state.restore = None
        self.log.record()

    return replaced(session.DiskSession, "restore_ends", ends)


def patches_in_place() -> Removed:
    """A recovery that has moved writes its patches where the old ones are."""
    name = snapshot_files.patches_name
    return replaced(snapshot_files, "patches_name", lambda number, _version=0: name(number))


def restore_forgotten() -> Removed:
    def forget(self: session.DiskSession, *_: object) -> None:
        self.state.restore = None
        self.log.record()

    return replaced(session.DiskSession, "finish_restore", forget)


def snapshot_uncommitted() -> Removed:
    """A snapshot does not make durable what was written before it."""

    def named(self: session.DiskSession, snapshot: object) -> None:
        with self.engine:
            self.name_snapshot(snapshot)()
            self.catalog.snapshots[snapshot.name] = snapshot

    return replaced(session.DiskSession, "_make_durable", named)


def pinned_first() -> Removed:
    """The superblocks name a pin before its mark's entry is durable."""

    def pin(self: session.DiskSession, mark: Mark) -> None:
        self.state.pins.append([mark.name, mark.seq, mark.time_ns])
        self.log.record()
        self.log.commit()

    return replaced(session.DiskSession, "pin_mark", pin)


def copy_whole_first() -> Removed:
    """The superblocks call a copy whole before it is durable."""
    ends = FileCopy._end

    def end(self: FileCopy) -> None:
        with self.image.engine:
            write = self._settle(self.number)
            if write is not None:
                write()
        ends(self)

    return replaced(FileCopy, "_end", end)


def copy_goes_on() -> Removed:
    """A copy that a crash has ended goes on with the files that it left."""
    begins = FileCopy._begin

    def begin(self: FileCopy) -> None:
        there = self._place.names()
        if snapshot_files.image_name(self.number, 0) not in there:
            begins(self)
            return
        with replaced(snapshot_files, "remove", nothing):
            self._place = Reuses(self._place)
            begins(self)
        self._todo = []

    return replaced(FileCopy, "_begin", begin)


class Reuses:
    """A folder in which making a file that is there is opening it."""

    def __init__(self, place: object) -> None:
        self._place = place

    def __getattr__(self, name: str) -> object:
        return getattr(self._place, name)

    def clone(self, source: str, target: str) -> bool:
        return target in self._place.names()

    def create(self, name: str, size: int) -> object:
        there = name in self._place.names()
        return self._place.open(name, True) if there else self._place.create(name, size)


def deleted_first() -> Removed:
    """A snapshot's files go before the superblocks forget it."""

    def deleted(self: session.DiskSession, image: object) -> None:
        self.state.snapshots = [row for row in self.state.snapshots if row.id != image.tag]
        self._sweep({int(image.tag)})
        self.log.record()

    return replaced(session.DiskSession, "snapshot_deleted", deleted)


def patches_sum() -> Removed:
    return replaced(
        recovery_files,
        "xxhash",
        mock.Mock(wraps=recovery_files.xxhash, xxh3_64_intdigest=lambda *_: Agrees(0)),
    )


def same_copy_seed() -> Removed:
    return replaced(snapshot_files, "seed_of", lambda key, number: 1)


def named_by_its_image() -> Removed:
    """Who names a snapshot looks at its image; and who ends the copy, at the name."""
    name_snapshot = session.DiskSession.name_snapshot

    def named(self: session.DiskSession, snapshot: object) -> Callable[[], None]:
        self._whole.clear()
        return name_snapshot(self, snapshot)

    return replaced(session.DiskSession, "name_snapshot", named)


def present_extent() -> Removed:
    """A copy is of what production's file has no holes for when the copy begins."""

    def look(self: FileCopy) -> None:
        engine = self.image.engine
        self._todo = [
            (volume, number)
            for volume in self._covered
            for number in snapshot_files.numbers(engine.data_blocks(volume))
        ]

    return replaced(FileCopy, "_look", look)


def rewound_first() -> Removed:
    """Opening enters a REWIND before it knows the snapshots."""
    go_on, load = opening._go_on, Loader.load_snapshots

    def first(session: object, loader: Loader, record: Record) -> None:
        def nothing_yet(self: Loader, undo: int | None) -> None:
            pass

        with replaced(Loader, "load_snapshots", nothing_yet):
            go_on(session, loader, record)
        load(loader, None)

    return replaced(opening, "_go_on", first)


def leftovers_by_name() -> Removed:
    """A creation removes whatever has the name of another one's folder."""
    return replaced(SimPlace, "clear", SimPlace.remove)


def created_in_place() -> Removed:
    """A store is made under its own name."""

    def new_folder(place: SimPlace, prefix: str) -> tuple[str, SimPlace]:
        name = prefix.removeprefix(".").removesuffix(".new-")
        folder = place.make(name)
        folder.lock(True)
        return name, folder

    @contextmanager
    def both() -> object:
        with (
            replaced(creation, "_new_folder", new_folder),
            replaced(SimPlace, "rename", nothing),
        ):
            yield

    return both()


def copied_as_it_is_now() -> Removed:
    """A copy gets what production holds when its turn comes."""

    def store(self: FileCopy, _gently: bool) -> None:
        volume, number = self._todo[self._at]
        source = Image.production(self.image.engine)
        self.image.store(source, volume, number, self._fresh[volume])
        self._at += 1

    return replaced(FileCopy, "_store", store)


def marks_not_looked_at() -> Removed:
    return replaced(snapshot_files, "is_ended", lambda *_: False)
