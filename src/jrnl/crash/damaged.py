"""Damaged states: the power failed while a sector was written, and it is neither old nor new."""

from __future__ import annotations

import errno
import os
import random
from typing import TYPE_CHECKING, Final

import numpy as np

from jrnl.crash.epoch import Sums, block_sum
from jrnl.crash.source import BLOCK
from jrnl.crash.state import CrashState, Lost
from jrnl.errors import InvalidArgument

if TYPE_CHECKING:
    from jrnl.compare import Pair
    from jrnl.crash.epoch import Epoch
    from jrnl.crash.files import Run
    from jrnl.state import State

DAMAGES: Final = ("garbage", "unreadable")


class DamagedState(CrashState):
    """All that was written up to a moment, but for one sector of the last entry.

    Attributes
    ----------
    damage : {"garbage", "unreadable"}
        What that sector is. Where it is unreadable, reading it raises OSError, EIO; programs that
        open a `path` cannot be shown that.
    """

    __slots__ = ("_unit", "damage")

    def __init__(self, run: Run, epoch: Epoch, seq: int, done: int, unit: int, damage: str) -> None:
        super().__init__(run, epoch, seq, done, (1 << epoch.firsts[done]) - 1)
        self._unit, self.damage = unit, damage

    @property
    def id(self) -> str:
        """The seq, ``-g`` or ``-u``, and which of the sectors that may be lost, from 0."""
        place = (self._epoch.free & ((1 << self._unit) - 1)).bit_count()
        return self._run.named(f"{self._moment()}-{self.damage[0]}{place:x}")

    @property
    def lost(self) -> tuple[Lost, ...]:
        """The sector that is damaged."""
        return (self._told(self._epoch.units[self._unit]),)

    def explain(self) -> str:
        """Say in sentences what it is."""
        [lost] = self.lost
        return (
            f"state {self.id}: power failed during entry {self.seq}, the last flush that was "
            f"acknowledged is {self.acked or 'none'}\n"
            f"{lost.length} bytes at offset {lost.offset} of {lost.volume!r} are {self.damage}"
        )

    def _own_sum(self) -> int:
        unit = self._epoch.units[self._unit]
        total = Sums(self._epoch).sum_of(self._kept)
        for number in range(unit.offset // BLOCK, (unit.end - 1) // BLOCK + 1):
            key = unit.volume, number
            start, size = number * BLOCK, self._size(unit.volume)
            block = self._read(unit.volume, start, min(BLOCK, size - start))
            total += block_sum(key, block)
            total -= block_sum(key, self._run.block(self._epoch, key, self._kept))
        return total

    def _garbage(self) -> bytes:
        unit = self._epoch.units[self._unit]
        return random.Random(f"{unit.row} {unit.offset}").randbytes(unit.length)

    def _readinto(self, index: int, offset: int, buffer: memoryview) -> None:
        super()._readinto(index, offset, buffer)
        unit = self._epoch.units[self._unit]
        low, high = max(unit.offset, offset), min(unit.end, offset + len(buffer))
        if index != unit.volume or low >= high:
            return
        if self.damage == "unreadable":
            raise OSError(
                errno.EIO, f"{os.strerror(errno.EIO)}: byte {low} of this state cannot be read"
            )
        buffer[low - offset : high - offset] = self._garbage()[
            low - unit.offset : high - unit.offset
        ]

    def _read(self, index: int, offset: int, length: int) -> bytes:
        content = bytearray(length)
        self._readinto(index, offset, memoryview(content))
        return bytes(content)

    def _differs_from(self, other: State, index: int, *, exact: bool) -> Pair | None:
        return None

    def _held(self, index: int) -> Pair:
        offsets, lengths = super()._held(index)
        unit = self._epoch.units[self._unit]
        if index != unit.volume:
            return offsets, lengths
        own = np.arange(unit.offset // BLOCK, (unit.end - 1) // BLOCK + 1) * BLOCK
        offsets = np.union1d(offsets, own)  # garbage may lie where nothing else does
        return offsets, np.minimum(BLOCK, self._size(index) - offsets)

    def _path(self, index: int) -> str:
        if self.damage == "unreadable":
            raise InvalidArgument(
                f"{self.id} has a sector that cannot be read, and a file cannot show that; read() "
                "does, or take damage='garbage'"
            )
        path = super()._path(index)
        unit = self._epoch.units[self._unit]
        if index == unit.volume and self._disk is not None:
            self._disk.disk.spoil(unit, self._garbage())
        return path

    def _as_image(self) -> CrashState:
        """Return what a file can show of it: where nothing can be read, what was there before."""
        return self if self.damage == "garbage" else super()._without([self._unit])

    def _afresh(self) -> CrashState:
        return DamagedState(self._run, self._epoch, self.seq, self._done, self._unit, self.damage)

    def _without(self, lost: list[int]) -> CrashState:
        return self if lost else super()._without(lost)
