"""Shared files: a state's volume as a file in memory, which other programs open by its path."""

from __future__ import annotations

import fcntl
import mmap
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

import numpy as np

from jrnl.compare import PIECE_BYTES, pieces_of
from jrnl.errors import naming

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

    from jrnl.compare import Pair

_F_ADD_SEALS = 1033  # linux/fcntl.h
_F_SEAL_SHRINK, _F_SEAL_GROW, _F_SEAL_FUTURE_WRITE = 0x2, 0x4, 0x10


class Shown(Protocol):
    """What a file shows a volume of: a state."""

    def _size(self, index: int) -> int: ...
    def _held(self, index: int) -> Pair: ...
    def _read(self, index: int, offset: int, length: int) -> bytes: ...


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
        pieces = pieces_of(*state._held(self._index), PIECE_BYTES)
        if not fresh:
            pieces = np.unique(np.concatenate([pieces, *self._filled()]))
        zeroes = bytes(PIECE_BYTES)
        for start in (pieces * PIECE_BYTES).tolist():
            piece = state._read(self._index, start, min(PIECE_BYTES, self._size - start))
            if not fresh or piece != zeroes[: len(piece)]:
                self._put(start, piece)

    def _filled(self) -> Iterator[NDArray[np.int64]]:
        """Yield the pieces in which the file has bytes."""
        stop = 0
        with suppress(OSError):  # ENXIO: nothing but a hole is left
            while stop < self._size:
                start = os.lseek(self._descriptor, stop, os.SEEK_DATA)
                stop = os.lseek(self._descriptor, start, os.SEEK_HOLE)
                yield np.arange(start // PIECE_BYTES, -(-stop // PIECE_BYTES))

    def follow(self, state: Shown, ranges: Iterable[tuple[int, int]]) -> None:
        """Write the ranges, (offset, length), in which the file and the state differ."""
        for offset, length in ranges:
            self._put(offset, state._read(self._index, offset, length))

    def _put(self, offset: int, content: bytes) -> None:
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
