"""A store on disk beside its model: closed, killed and opened again, it must still be the same."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import jrnl
from jrnl import JournalFull, Kind
from tests.model.places import MEMORY
from tests.model.twin import Clock, OpenRecovery, Twin, same
from tests.model.whole import HEADER_BYTES, SECTOR, START_NS, Entry, Model, State

BLOCK = 4096
OVERLAY = 65536


def folder_in_memory() -> Path:
    """A new folder, where a sync costs nothing if there is such a place."""
    return Path(tempfile.mkdtemp(prefix="jrnl-", dir=MEMORY))


class DiskModel(Model):
    """A store on disk keeps whole sectors of 512 bytes, as far as its volumes reach."""

    def __init__(
        self, sizes: list[int], journal: int, images: str, time_ns: int, overlay: int
    ) -> None:
        super().__init__(sizes, journal, images, time_ns)
        self.area = journal // BLOCK * BLOCK
        half = (overlay // 2 - 2 * BLOCK - 4 * SECTOR) // (2 if images == "both" else 1)
        self.write_max = min(self.write_max, half)
        self.piece_max = min(self.piece_max, overlay // 16)

    def sectors(self, volume: int, offset: int, length: int) -> slice:
        end = -(-(offset + length) // SECTOR) * SECTOR
        return slice(offset // SECTOR * SECTOR, min(end, len(self.now[volume])))

    def imaged(self, entry: Entry) -> slice:
        return self.sectors(entry.volume, entry.offset, entry.length)

    def zero(self, kind: int, volume: int, offset: int, length: int, time_ns: int) -> int:
        for start in range(offset, offset + length, self.piece_max):
            piece = min(self.piece_max, offset + length - start)
            is_idle = not any(self.now[volume][self.sectors(volume, start, piece)])
            self.write(volume, start, bytes(piece), time_ns, kind)
            if is_idle:
                self.idle.add(self.seq)
        return self.seq

    def cut(self, seq: int) -> None:
        """What was not durable is gone: state `seq` is the newest."""
        self.entries = self.entries_in(0, seq)
        self.states = {k: state for k, state in self.states.items() if k <= seq}
        self.dropped = {k for k in self.dropped if k <= seq}
        self.idle = {k for k in self.idle if k <= seq}
        self.successor = {k: v for k, v in self.successor.items() if v <= seq}
        self.seq = seq


class DiskTwin(Twin):
    """As `Twin`, on disk.

    Attributes
    ----------
    folder : Path
        Where its stores lie: the one that is open, and no other.
    acked : int
        The newest state that the store has promised to keep.
    """

    on_disk = True

    def __init__(
        self,
        sizes: Iterable[int],
        journal: int = 16384,
        images: str = "both",
        overflow: str = "evict",
        sync: str = "flush",
        overlay: int = OVERLAY,
    ) -> None:
        sizes = list(sizes)
        self.folder = folder_in_memory()
        self.lives = 0
        self.always = sync == "always"
        self.overlay = overlay
        self.acked = 0
        self.opened_empty = 0  # the state that it was opened at, with nothing in the journal
        self.kept: dict[
            int, OpenRecovery
        ] = {}  # recoveries as they outlive the store's being killed
        self.named: dict[int, str] = {}
        clock = Clock()
        store = jrnl.create(
            self.path,
            volumes={f"v{k}": size for k, size in enumerate(sizes)},
            journal=journal,
            images=images,
            overflow=overflow,
            sync=sync,
            overlay=overlay,
            clock=clock,
        )
        model = DiskModel(sizes, journal, images, START_NS, overlay)
        self._begin(store, model, clock, overflow)

    @property
    def path(self) -> Path:
        return self.folder / f"life-{self.lives}"

    def discard(self) -> None:
        """Close the store and remove it."""
        self.forget_open()
        with suppress(jrnl.StorePoisoned):
            self.store.close()
        shutil.rmtree(self.folder)

    # Ends and beginnings.

    def forget_open(self) -> None:
        """What does not outlive an opening."""
        for view in [*self.views]:
            self.close_view(view)
        for opened in [*self.pins]:
            self.release(opened)
        self.savepoints.clear()

    def reopen(self, mode: str = "r+") -> None:
        """Close the store, and open it again."""
        self.forget_open()
        kept = self.recoveries
        self.store.close()
        self.acked = self.model.seq
        self.check_files()
        self._open(mode, kept)
        assert not self.store.problems, self.store.problems

    def look(self) -> None:
        """Close the store, open it for reading only, check it, and open it for writing again."""
        self.reopen("r")
        before = self.files()
        self.check()
        for write in (
            lambda: self.volumes[0].write(0, b"x"),
            lambda: self.volumes[0].discard(0, 1),
            lambda: self.store.mark("never"),
            lambda: self.store.snapshot("never"),
        ):
            self._changes_nothing(jrnl.ReadOnlyStore, write)
        self.reopen("r")
        assert self.files() == before
        self.reopen()

    def kill(self, look: bool = False) -> None:
        """Go on with what another process would find if this one were killed now."""
        self.forget_open()
        kept = [self.kept[number] for number in sorted(self.kept)]
        dead, dead_path = self.store, self.path
        self.lives += 1
        shutil.copytree(dead_path, self.path)
        dead.close()
        shutil.rmtree(dead_path)
        if look:
            self._open("r", kept)
            self._follow_kill()
            self.check()
            self.store.close()
        self._open("r+", kept)
        self._follow_kill()
        assert not self.store.problems, self.store.problems

    def _follow_kill(self) -> None:
        model, seq = self.model, self.store.seq
        assert self.acked <= seq <= model.seq, "a flushed write is lost"
        assert seq <= self.base or any(entry.seq == seq for entry in model.entries)
        model.cut(seq)
        self.acked = seq
        self._follow_marks()
        self._follow_time()
        self.check_journal()
        self.check_names()
        self.check_pins()

    def _open(self, mode: str, kept: list[OpenRecovery]) -> None:
        self.store = jrnl.open(self.path, mode, overlay=self.overlay, clock=self.clock)
        self.volumes = list(self.store.volumes.values())
        self.snapshots = dict(self.store.snapshots)
        there = self.store.recoveries
        self.recoveries = []
        for opened in kept:
            again = there[opened.recovery.id]
            assert again.seq == opened.seq
            fresh = replace(opened, recovery=again, pins=False)
            self.recoveries.append(fresh)
            self.check_recovery(fresh)
        self.kept = {opened.recovery.id: replace(opened) for opened in self.recoveries}
        for pinned in self.pinned.values():  # there may be a nearer snapshot by now
            pinned.needs = self._pin_needs(pinned.seq)
        self.opened_empty = 0 if len(self.store.journal.entries) else self.store.seq
        self._follow_marks()
        self._follow_time()
        if self.store.seq == self.model.seq:
            self.check_journal()
            self.check_names()
            self.check_pins()

    def _follow_marks(self) -> None:
        """A savepoint's name does not outlive the store; the marks are those in the journal."""
        model = self.model
        marks = [entry.seq for entry in model.entries if entry.kind == Kind.MARK]
        model.marks = {self.named[seq]: seq for seq in marks if self.named[seq]}
        for name in model.snapshots:
            model.marks.pop(name, None)

    def _follow_time(self) -> None:
        entries = self.model.entries
        self.clock.highest = entries[-1].time_ns if entries else self.model.created_ns

    # What differs from a store in memory.

    def mark(self, name: str) -> bool:
        done = super().mark(name)
        if done:
            self.named[self.model.seq] = name
        return done

    def pin_mark(self, name: str) -> bool:
        done = super().pin_mark(name)
        if done:
            self.named[self.model.seq] = name
            self.acked = self.model.seq
        return done

    def flush(self) -> bool:
        if self.opened_empty and self.model.seq == self.opened_empty:
            assert self.store.flush() == self.model.seq  # nobody knows what the last entry was
            return True
        if self.refuses or self.floor is not None:
            return self._flush_full()
        done = super().flush()
        if done:
            self.acked = self.model.seq
        return done

    def _flush_full(self) -> bool:
        """A log without room for a FLUSH entry makes durable what there is, without one."""
        needs = bool(self.model.entries) and self.model.entries[-1].kind != Kind.FLUSH
        seq = self.store.flush()
        if needs and seq == self.model.seq:
            self.check_full([(Kind.FLUSH, 0, 0, 0)])
        else:
            assert seq == self.model.flush(self.time_ns)
        self.acked = seq
        self.check_journal()
        return True

    def snapshot(self, name: str, pinned: bool = False) -> bool:
        done = super().snapshot(name, pinned)
        if done:
            self.acked = self.model.seq
        return done

    def rewind(self, to: object) -> bool:
        before = self.model.seq
        done = super().rewind(to)
        if self.model.seq != before:
            self.acked = self.model.seq
        return done

    def leave_savepoint(self, fails: bool) -> None:
        before = self.model.seq
        super().leave_savepoint(fails)
        if self.model.seq != before:
            self.acked = self.model.seq

    def restore(self, opened: OpenRecovery, volumes: list[int] | None = None) -> bool:
        done = super().restore(opened, volumes)
        if done:
            self.acked = self.model.seq
            self.kept[opened.recovery.id] = replace(opened)
        return done

    def close_recovery(self, opened: OpenRecovery) -> None:
        self.kept.pop(opened.recovery.id, None)
        super().close_recovery(opened)

    def edit(
        self,
        volume: int,
        offset: int,
        data: bytes,
        fails: bool = False,
        within: Callable[[], object] | None = None,
    ) -> bool:
        """The entry is made at the end of the block, and none where the block fails."""
        before = self.model.now[volume][offset : offset + len(data)]
        edit = self.volumes[volume].edit(offset, len(data))
        try:
            mem = edit.__enter__()
        except JournalFull:
            assert self.refuses or self.floor is not None
            self.check_full([(Kind.WRITE, volume, offset, len(data))])
            return False
        assert mem.tobytes() == before
        mem[:] = np.frombuffer(data, np.uint8)
        if within is not None:
            within()
        if fails:
            self._changes_nothing(None, lambda: edit.__exit__(KeyError, KeyError(), None))
            return True

        def on_store() -> int:
            edit.__exit__(None, None, None)
            return self.store.seq

        adds = [(Kind.WRITE, volume, offset, len(data))] if data else []
        return self._add(
            on_store, lambda: self.model.write(volume, offset, data, self.time_ns), adds
        )

    def _add(
        self,
        on_store: Callable[[], int],
        on_model: Callable[[], int],
        adds: list[tuple[int, int, int, int]],
        more: bool = False,
    ) -> bool:
        stays = self.refuses or self.floor is not None
        face, before = self._face() if stays else None, self.base
        try:
            seq = on_store()
        except JournalFull:
            assert stays
            assert self._face() == face
            self.check_full(adds)
            return False
        assert seq == on_model()
        assert seq == self.store.seq
        if self.always:
            self.acked = seq
        self.check_journal()
        if self.base > before:
            assert not self.refuses
            self.check_retained(adds)
        return True

    def need(self, adds: list[tuple[int, int, int, int]]) -> int:
        """The most that entries can take in the log."""
        room = sum(2 * (length + 2 * SECTOR) + HEADER_BYTES for _, _, _, length in adds)
        return room + 4 * BLOCK * (1 + room // 2048 if room > 2048 else 1)

    def check_full(self, adds: list[tuple[int, int, int, int]]) -> None:
        """A journal that says that it is full is so, for what was asked."""
        entries = len(self.store.journal.entries) + len(adds)
        full = entries > self.model.slots
        assert full or self.store.journal.used + self.need(adds) > self.model.area

    def check_retained(self, adds: list[tuple[int, int, int, int]]) -> None:
        """An entry has left. In a log of many groups, most of it is there still."""
        journal = self.store.journal
        if self.model.area >= 1 << 18:
            full = len(journal.entries) >= self.model.slots * 3 // 4
            most = self.model.area * 3 // 4 - self.need(adds)
            assert full or journal.used >= most, "too many entries left"

    def production(self) -> State:
        return tuple(volume.read(0, volume.size) for volume in self.volumes)

    def check_used(self) -> None:
        used = self.store.journal.used
        entries = self.store.journal.entries
        assert 0 <= used <= self.model.area <= self.store.journal.capacity
        assert used >= HEADER_BYTES * len(entries) - BLOCK
        for volume in self.volumes:
            with pytest.raises(jrnl.InvalidArgument):
                volume.as_array()

    def _face(self) -> tuple[object, ...]:
        """What is asked of a full log may close its open group: that takes some room."""
        seq, window, _, *rest = super()._face()
        return seq, window, *rest

    # Files.

    def files(self) -> dict[str, bytes]:
        return {file.name: file.read_bytes() for file in sorted(self.path.iterdir())}

    def check_files(self) -> None:
        """The files of a closed store's volumes are production, and no stray file is left."""
        for k, content in enumerate(self.model.now):
            assert same((self.path / f"v{k}.img").read_bytes(), content)
        names = {file.name for file in self.path.iterdir()}
        names -= {"super.0", "super.1", "log", "index"}
        copies = {name.split("-")[1] for name in names if name.startswith("snapshot-")}
        patches = {name for name in names if name.startswith("recovery-")}
        assert len(patches) == len(self.recoveries)
        assert len(copies) <= len(self.snapshots) + len(self.recoveries)
