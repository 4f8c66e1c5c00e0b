"""Disks: files in memory that show one crash state after the other, by what differs.

A run over a history has a few of them. One that no state needs any more goes on to the next state,
which costs the blocks that the two differ in; only the first one is written in full, and one after
a program that has written to its file.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import weakref
from collections import OrderedDict, deque
from threading import RLock
from typing import TYPE_CHECKING, Any, Final

from jrnl.api import wrap
from jrnl.crash.epoch import block_sum
from jrnl.crash.source import BLOCK
from jrnl.errors import naming
from jrnl.store import Store

if TYPE_CHECKING:
    from jrnl.crash.epoch import Epoch, Key, Unit
    from jrnl.crash.source import Source
    from jrnl.crash.state import CrashState, Tag

_GROUND_BLOCKS: Final = 1 << 13  # 32 MiB
_NAME_MAX: Final = 200  # memfd_create(2) takes 249 bytes; an id that lists what is lost is longer
_PIECE: Final = 1 << 20
_ZEROES: Final = bytes(_PIECE)
_ADD_SEALS: Final = 1033  # linux/fcntl.h
_MAP_NORESERVE: Final = 0x4000  # of a volume larger than memory few pages may be written to
_SEALS: Final = 0x2 | 0x4  # against shrinking and growing: cut shorter, it would be a trap for us

_origins: weakref.WeakKeyDictionary[Store, str] = weakref.WeakKeyDictionary()


class Run:
    """What the states of one walk share: names, blocks read before, and disks.

    States may be read and dropped in other threads than the one that walks. The lock is not for
    what a destructor does: that may run in a thread that has the history's.

    Parameters
    ----------
    tag : callable, optional
        Says what lies at an offset.
    """

    def __init__(self, history: Any, source: Source, tag: Tag | None) -> None:
        self._history, self._source, self._tag = history, source, tag
        self.names = list(source.sizes)
        self.sizes = list(source.sizes.values())
        self.indices = {name: k for k, name in enumerate(self.names)}
        self.origin = _origins.get(history) if isinstance(history, Store) else None
        self._epoch: Epoch | None = None
        self._base: int | None = None  # of the first epoch
        self._start_sum: int | None = None
        self._blocks: OrderedDict[Key, bytes] = OrderedDict()
        self._idle: list[Disk] = []
        self._returned: deque[Disk] = deque()  # by destructors
        self._lock = RLock()

    def named(self, own: str) -> str:
        """Return the id of a state, with that of what its history was forked from before it."""
        return f"{self.origin}:{own}" if self.origin else own

    def tagged(self, volume: int, offset: int) -> str | None:
        """Return what the caller's tagger says of a place."""
        if self._tag is None:
            return None
        if len(self.names) == 1:
            return self._tag(offset)
        return self._tag(offset, self.names[volume])

    def enter(self, epoch: Epoch) -> None:
        """Go on to the next epoch: what was read before is brought on."""
        with self._lock:
            self._take_back()
            before, self._epoch = self._epoch, epoch
            if before is None:
                self._base = epoch.base
                return
            touching = before.touching()
            for key in [key for key in self._blocks if key in touching]:
                self._blocks[key] = before.block(key, before.kept_of(key, before.whole))
            for disk in self._idle:
                disk.move(before, before.whole)
                disk.epoch, disk.kept = epoch, 0

    def ground(self, epoch: Epoch, key: Key) -> bytes:
        """Return a block that an epoch does not touch."""
        with self._lock:
            found = self._blocks.get(key) if epoch is self._epoch else None
        if found is None:
            volume, number = key
            buffer = bytearray(min(BLOCK, self.sizes[volume] - number * BLOCK))
            self._source.readinto(epoch.base, volume, number * BLOCK, memoryview(buffer))
            found = bytes(buffer)
            with self._lock:
                if epoch is self._epoch:  # still: others may have gone on meanwhile
                    self._blocks[key] = found
                    if len(self._blocks) > _GROUND_BLOCKS:
                        self._blocks.popitem(last=False)
        return found

    def start_sum(self) -> int:
        """Return the sum of the state that the first epoch begins with; it is read for that."""
        if self._start_sum is None:
            assert self._base is not None
            total = 0
            for volume, size in enumerate(self.sizes):
                for number in self._source.held(self._base, volume, 0, size).tolist():
                    buffer = bytearray(min(BLOCK, size - number * BLOCK))
                    self._source.readinto(self._base, volume, number * BLOCK, memoryview(buffer))
                    total += block_sum((volume, number), bytes(buffer))
            self._start_sum = total
        return self._start_sum

    def block(self, epoch: Epoch, key: Key, kept: int) -> bytes:
        """Return a block of the state in which these units of an epoch are there."""
        if key in epoch.touching():
            return epoch.block(key, epoch.kept_of(key, kept))
        return self.ground(epoch, key)

    def disk_for(self, state: CrashState) -> Disk:
        """Return a disk that shows a state, until it is released."""
        with self._lock:
            self._take_back()
            idle = self._idle.pop() if self._idle and state._epoch is self._epoch else None
        if idle is None:
            return Disk(self, state)
        idle.move(state._epoch, state._kept)
        return idle

    def give_back(self, disk: Disk) -> None:
        """Keep a disk for the next state; one of another epoch is closed."""
        if disk.epoch is self._epoch:
            self._returned.append(disk)
        else:
            disk.close()

    def _take_back(self) -> None:
        """Take those that were given back, but for what programs have spoiled."""
        while self._returned:
            disk = self._returned.popleft()
            disk.mend()
            if disk.epoch is self._epoch and not disk.is_spoiled():
                self._idle.append(disk)
            else:
                disk.close()

    def fork(self, state: CrashState, options: dict[str, Any]) -> Store:
        """Return a store in memory over a state; see `CrashState.fork`."""
        disk = self.disk_for(state)
        buffers = {name: disk.private(index) for name, index in self.indices.items()}
        disk.release()  # from here on it is the memory that needs it
        store = wrap(buffers, **options)
        _origins[store] = state.id
        return store


class Lease:
    """Holds a disk for a state, and gives it back when it is dropped."""

    __slots__ = ("disk",)

    def __init__(self, disk: Disk) -> None:
        self.disk = disk

    def __del__(self) -> None:
        self.disk.release()


class Disk:
    """The volumes of one crash state as files in memory, each made when it is asked for."""

    def __init__(self, run: Run, state: CrashState) -> None:
        self._run, self._sizes = run, run.sizes
        self._name = f"jrnl-{state.id}"[:_NAME_MAX]
        self.epoch, self.kept = state._epoch, state._kept
        self._files: dict[int, tuple[int, mmap.mmap]] = {}  # descriptor, our mapping
        self._others: list[None] = []  # one for each user but one
        self._spoiled: Unit | None = None

    def path(self, index: int) -> str:
        """Return where other programs of this user can read a volume."""
        return f"/proc/{os.getpid()}/fd/{self._file(index)[0]}"

    def _file(self, index: int) -> tuple[int, mmap.mmap]:
        if index not in self._files:
            descriptor = os.memfd_create(self._name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
            try:
                with naming(lambda: self._name):
                    os.ftruncate(descriptor, self._sizes[index])
                    memory = mmap.mmap(descriptor, self._sizes[index])
                    fcntl.fcntl(descriptor, _ADD_SEALS, _SEALS)
                self._fill(index, memory)
            except BaseException:
                os.close(descriptor)
                raise
            os.utime(descriptor, ns=(0, 0))  # what others write shows
            self._files[index] = descriptor, memory
        return self._files[index]

    def is_spoiled(self) -> bool:
        """Whether a program has written to it: our own mapping leaves a file's time alone."""
        return any(os.fstat(descriptor).st_mtime_ns for descriptor, _ in self._files.values())

    def _fill(self, index: int, memory: mmap.mmap) -> None:
        epoch, size = self.epoch, self._sizes[index]
        held = epoch.source.held(epoch.base, index, 0, size)
        view = memoryview(memory)
        for piece in sorted({*(held // (_PIECE // BLOCK)).tolist()}):
            start = piece * _PIECE
            part = view[start : min(start + _PIECE, size)]
            scratch = bytearray(len(part))
            epoch.source.readinto(epoch.base, index, start, memoryview(scratch))
            if scratch != _ZEROES[: len(part)]:  # holes stay holes
                part[:] = scratch
        for key in epoch.touching():
            if key[0] == index:
                self._put(view, key, epoch.block(key, epoch.kept_of(key, self.kept)))

    @staticmethod
    def _put(view: memoryview | mmap.mmap, key: Key, content: bytes) -> None:
        start = key[1] * BLOCK
        view[start : start + len(content)] = content

    def move(self, epoch: Epoch, kept: int) -> None:
        """Show another state of the same epoch."""
        if self.kept != kept:
            for key in epoch.touching():
                some = epoch.kept_of(key, kept)
                if some != epoch.kept_of(key, self.kept) and key[0] in self._files:
                    self._put(self._files[key[0]][1], key, epoch.block(key, some))
            self.kept = kept

    def spoil(self, unit: Unit, content: bytes) -> None:
        """Show something else where a unit lies, until the disk is released."""
        self._file(unit.volume)[1][unit.offset : unit.end] = content
        self._spoiled = unit

    def mend(self) -> None:
        """Undo what `spoil` did."""
        unit, self._spoiled = self._spoiled, None
        if unit is None or unit.volume not in self._files:
            return
        epoch, view = self.epoch, self._files[unit.volume][1]
        for number in range(unit.offset // BLOCK, (unit.end - 1) // BLOCK + 1):
            key = unit.volume, number
            self._put(view, key, self._run.block(epoch, key, self.kept))

    def private(self, index: int) -> mmap.mmap:
        """Return a volume as memory of its own: a page is copied when it is written to.

        While it is there, the disk stays as it is.
        """
        descriptor, _ = self._file(index)
        memory = mmap.mmap(
            descriptor,
            self._sizes[index],
            mmap.MAP_PRIVATE | _MAP_NORESERVE,
            mmap.PROT_READ | mmap.PROT_WRITE,
        )
        self._others.append(None)
        weakref.finalize(memory, self.release)
        return memory

    def release(self) -> None:
        """Say that one who needed it does so no more."""
        try:
            self._others.pop()  # at once, for two threads that do so
        except IndexError:
            self._run.give_back(self)

    def close(self) -> None:
        """Give it up; a program that has a file open keeps what it sees."""
        files, self._files = self._files, {}
        for descriptor, _ in files.values():
            os.close(descriptor)

    def __del__(self) -> None:
        self.close()
