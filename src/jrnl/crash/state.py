"""Crash states: what a disk may hold after a power cut, readable as any other state."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from jrnl.crash.epoch import Sums
from jrnl.crash.files import Lease
from jrnl.crash.source import BLOCK
from jrnl.state import State

if TYPE_CHECKING:
    from collections.abc import Callable

    from jrnl.compare import Pair
    from jrnl.crash.epoch import Epoch, Unit
    from jrnl.crash.files import Run
    from jrnl.store import Store

    Tag = Callable[..., str | None]


class Lost(NamedTuple):
    """What a power cut has dropped of an entry.

    Attributes
    ----------
    entry : int
        The entry's seq.
    offset, length : int
        Bytes of the volume: all that the entry wrote, or of a torn one what is missing.
    volume : str
    discard : bool
        Whether what is lost would have been zeroes: a discard, or zeroes written.
    epoch : int
        The seq of the last flush before the entry; 0 where there was none.
    tag : str or None
        What the caller's tagger says is there.
    """

    entry: int
    offset: int
    length: int
    volume: str
    discard: bool
    epoch: int
    tag: str | None = None

    def __str__(self) -> str:
        what = "zeroes" if self.discard else "write"
        tag = f" ({self.tag})" if self.tag else ""
        return (
            f"entry {self.entry}: {what} of {self.length} bytes at offset {self.offset} of "
            f"{self.volume!r}{tag}, after flush {self.epoch}"
        )


class CrashState(State):
    """What a disk may hold if power fails; given by `jrnl.crash.states` and `jrnl.crash.state`.

    It holds as long as its history is open. It has the interface of all states: ``state[name]``,
    ``state.volume``, ``read``, ``readinto``, ``as_file``, ``path``, ``diff``, ``digest``.

    A program may write to its `path`, replay a file system's journal, say: no other state sees
    that. It has to be done with it when the state is dropped, and must not write through a shared
    mapping, which nothing tells of.

    Attributes
    ----------
    seq : int
        The moment: entries up to this one were made, and none after it.
    acked : int
        The last flush that the application had seen by then, by its seq; 0: none. What was written
        before it is there.
    """

    __slots__ = ("_disk", "_done", "_epoch", "_kept", "_run", "_sum", "acked", "seq")

    def __init__(
        self,
        run: Run,
        epoch: Epoch,
        seq: int,
        done: int,
        kept: int,
        acked: int | None = None,
        sum: int | None = None,
    ) -> None:
        self._run, self._epoch, self.seq, self._done, self._kept = run, epoch, seq, done, kept
        self.acked = epoch.acked if acked is None else acked
        self._sum = sum  # as far from that of what the run begins with
        self._disk: Lease | None = None

    def __repr__(self) -> str:
        return f"<jrnl.crash.CrashState {self.id}>"

    # What it is.

    @property
    def id(self) -> str:
        """What `jrnl.crash.state` makes the same state of again; the same in every version.

        The seq; where anything is lost, ``-s`` and which of the entries that might be, oldest
        first, as a hexadecimal number: bit 0 is the oldest. With ``-t`` their sectors are counted.
        Where the window of a store begins after the last flush, ``@`` and its oldest state come
        before that: the entries are counted from there.
        Of a state of a fork, the id of the state that it was forked from stands before it, and a
        colon.
        """
        lost = self._lost_bits()
        if not lost:
            return self._run.named(f"{self.seq}")
        return self._run.named(f"{self._moment()}-{'t' if self._epoch.torn else 's'}{lost:x}")

    def _moment(self) -> str:
        epoch = self._epoch
        return f"{self.seq}@{epoch.base}" if epoch.is_cut else f"{self.seq}"

    def _lost_bits(self) -> int:
        lost, place = 0, 0
        count = self._epoch.firsts[self._done]
        for k in range(count):
            if self._epoch.free >> k & 1:
                lost |= (~self._kept >> k & 1) << place
                place += 1
        return lost

    @property
    def lost(self) -> tuple[Lost, ...]:
        """What of the entries up to `seq` is not there, oldest first."""
        found: list[Unit] = []
        for k in range(self._epoch.firsts[self._done]):
            unit = self._epoch.units[k]
            if self._kept >> k & 1:
                continue
            if found and found[-1].row == unit.row and found[-1].end == unit.offset:
                found[-1] = found[-1]._replace(length=found[-1].length + unit.length)
            else:
                found.append(unit)
        return tuple(map(self._told, found))

    def _told(self, unit: Unit) -> Lost:
        name = self._run.names[unit.volume]
        tag = self._run.tagged(unit.volume, unit.offset)
        return Lost(unit.seq, unit.offset, unit.length, name, unit.zeroes, self._epoch.acked, tag)

    def fingerprint(self) -> str:
        """Return 32 hex digits: crash states of equal ones are equal, whatever their history.

        It costs what the state differs in from those before it, where `digest`, which other kinds
        of state have too, reads and sums the whole volume. It is the sum of its blocks' XXH3-128,
        each seeded with the block's place: see `jrnl.crash.epoch`.
        """
        return f"{(self._run.start_sum() + self._own_sum()) % (1 << 128):032x}"

    def _own_sum(self) -> int:
        """Return how far its sum is from that of what its run begins with."""
        if self._sum is None:
            self._sum = Sums(self._epoch).sum_of(self._kept)
        return self._sum

    def explain(self) -> str:
        """Say in sentences what it is: the moment, what was promised by then, what is lost."""
        said = [
            f"state {self.id}: power failed after entry {self.seq}, the last flush that was "
            f"acknowledged is {self.acked or 'none'}"
        ]
        lost = self.lost
        said.append(f"lost of what no flush covers, {len(lost)}:" if lost else "nothing is lost")
        return "\n  ".join([*said, *map(str, lost)])

    # What it shows.

    @property
    def _indices(self) -> dict[str, int]:  # type: ignore[override]
        return self._run.indices

    def _size(self, index: int) -> int:
        return self._run.sizes[index]

    def _readinto(self, index: int, offset: int, buffer: memoryview) -> None:
        epoch = self._epoch
        touching = epoch.touching()
        size = len(buffer)
        first, last = offset // BLOCK, (offset + size - 1) // BLOCK
        if first == last:
            block = self._block((index, first))
            start = offset - first * BLOCK
            buffer[:] = block[start : start + size]
            return
        if size:
            epoch.source.readinto(epoch.base, index, offset, buffer)
        if last - first < len(touching):
            numbers = [number for number in range(first, last + 1) if (index, number) in touching]
        else:
            numbers = [n for volume, n in touching if volume == index and first <= n <= last]
        for number in numbers:
            block = epoch.block((index, number), epoch.kept_of((index, number), self._kept))
            low = max(offset, number * BLOCK)
            high = min(offset + size, number * BLOCK + len(block))
            start = low - number * BLOCK
            buffer[low - offset : high - offset] = block[start : start + high - low]

    def _block(self, key: tuple[int, int]) -> bytes:
        return self._run.block(self._epoch, key, self._kept)

    def _read(self, index: int, offset: int, length: int) -> bytes:
        first = offset // BLOCK
        if length and (offset + length - 1) // BLOCK == first:
            start = offset - first * BLOCK
            return self._block((index, first))[start : start + length]
        return super()._read(index, offset, length)

    def _held(self, index: int) -> Pair:
        epoch = self._epoch
        size = self._size(index)
        held = epoch.source.held(epoch.base, index, 0, size)
        touched = [number for volume, number in epoch.touching() if volume == index]
        offsets = np.union1d(held, np.array(touched, np.int64)).astype(np.int64) * BLOCK
        return offsets, np.minimum(BLOCK, size - offsets)

    def _differs_from(self, other: State, index: int, *, exact: bool) -> Pair | None:
        if exact or type(other) is not CrashState or other._epoch is not self._epoch:
            return None
        epoch = self._epoch
        numbers = sorted(
            key[1]
            for key in epoch.touching()
            if key[0] == index and epoch.kept_of(key, self._kept) != epoch.kept_of(key, other._kept)
        )
        offsets = np.array(numbers, np.int64) * BLOCK
        return offsets, np.minimum(BLOCK, self._size(index) - offsets)

    def _path(self, index: int) -> str:
        if self._disk is None:
            self._disk = Lease(self._run.disk_for(self))
        return self._disk.disk.path(index)

    def fork(self, **options: Any) -> Store:
        """Return a store in memory that begins with this state, at no copy.

        The program under test can recover on it; ``crash.states(fork)`` are then the crashes of its
        recovery, whose ids begin with this one's. It stays when this state is dropped, and needs
        the history no more.

        Parameters
        ----------
        **options
            As for `jrnl.wrap`: `journal`, `images`, ...
        """
        return self._run.fork(self, options)

    def close(self) -> None:
        """Give up its `path`. Dropping the state does that, too."""
        self._disk = None

    def _as_image(self) -> CrashState:
        """Return what a file can show of it."""
        return self

    def _afresh(self) -> CrashState:
        """Return the same state, with a path of its own: a check may write to the one it gets."""
        return CrashState(self._run, self._epoch, self.seq, self._done, self._kept, self.acked)

    def _without(self, lost: list[int]) -> CrashState:
        """Return the state of the same moment in which these units are lost, and no others."""
        kept = (1 << self._epoch.firsts[self._done]) - 1
        for k in lost:
            kept ^= 1 << k
        return CrashState(self._run, self._epoch, self.seq, self._done, kept, self.acked)
