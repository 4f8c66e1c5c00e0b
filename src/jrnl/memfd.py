"""Shared files: a state's volume as a file in memory, which other programs open by its path."""

from __future__ import annotations

import fcntl
import mmap
import os
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Protocol

import numpy as np

from jrnl.compare import united
from jrnl.errors import naming
from jrnl.pieces import pieces_within, runs_within

if TYPE_CHECKING:
    from collections.abc import Iterable

    from jrnl.compare import Pair

_F_ADD_SEALS = 1033  # linux/fcntl.h
_F_SEAL_SHRINK, _F_SEAL_GROW, _F_SEAL_FUTURE_WRITE = 0x2, 0x4, 0x10


class Shown(Protocol):
    """What a file shows a volume of: a state."""

    def _size(self, index: int) -> int: ...
    def _held(self, index: int) -> Pair: ...
    def _read(self, index: int, offset: int, length: int) -> bytes: ...
    def _readinto(self, index: int, offset: int, buffer: memoryview) -> None: ...


class MemoryFile:
    """A sparse file in memory with a volume's content. It goes when it is closed or dropped.

    Parameters
    ----------
    follows : bool
        Other programs can only read it, and `follow` brings it to another state.
    """

    def __init__(self, name: str, state: Shown, index: int, *, follows: bool) -> None:
        self._index = index
        self._size = state._size(index)
        self._memory: mmap.mmap | None = None
        self._descriptor = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            with naming(lambda: self.path):
                os.ftruncate(self._descriptor, self._size)
            if follows:
                # Our mapping is made before the seal, and is the only way to write to it.
                self._memory = mmap.mmap(self._descriptor, self._size)
                # Cut shorter by another program, it would be a trap for whoever writes to it.
                seals = _F_SEAL_SHRINK | _F_SEAL_GROW | _F_SEAL_FUTURE_WRITE
                fcntl.fcntl(self._descriptor, _F_ADD_SEALS, seals)
            self.write_all(state, fresh=True)
        except BaseException:
            self.close()
            raise

    @property
    def path(self) -> str:
        """Where other programs of this user can open it."""
        return f"/proc/{os.getpid()}/fd/{self._descriptor}"

    def __del__(self) -> None:
        self.close()

    def write_all(self, state: Shown, *, fresh: bool) -> None:
        """Write what may be anything but zeroes; in a file that is not fresh, zeroes as well."""
        held = state._held(self._index)
        if not fresh:
            for start, length in pieces_within(united(held, self._filled())):
                self._put(start, state._read(self._index, start, length))
            return
        for _, runs in runs_within(partial(state._readinto, self._index), held):
            for start, content in runs:
                self._put(start, content)

    def _filled(self) -> Pair:
        """Return the ranges in which the file has bytes."""
        ranges, stop = [], 0
        with suppress(OSError):  # ENXIO: nothing but a hole is left
            while stop < self._size:
                start = os.lseek(self._descriptor, stop, os.SEEK_DATA)
                stop = min(os.lseek(self._descriptor, start, os.SEEK_HOLE), self._size)
                ranges.append((start, stop - start))
        offsets, lengths = np.array(ranges, np.int64).reshape(-1, 2).T
        return offsets, lengths

    def follow(self, state: Shown, ranges: Iterable[tuple[int, int]]) -> None:
        """Write the ranges, (offset, length), in which the file and the state differ."""
        for offset, length in ranges:
            self._put(offset, state._read(self._index, offset, length))

    def _put(self, offset: int, content: bytes | memoryview) -> None:
        if self._memory is not None:
            self._memory[offset : offset + len(content)] = content
            return
        left = memoryview(content)
        with naming(lambda: self.path):
            while left:
                done = os.pwrite(self._descriptor, left, offset)
                left, offset = left[done:], offset + done

    def close(self) -> None:
        """Give it up; a program that has it open keeps what it sees."""
        memory, self._memory = getattr(self, "_memory", None), None
        if memory is not None:
            memory.close()
        descriptor, self._descriptor = getattr(self, "_descriptor", -1), -1
        if descriptor >= 0:
            os.close(descriptor)
