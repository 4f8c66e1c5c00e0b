"""Epochs: the writes between two flushes, of which a power cut may leave any.

An epoch is cut into units, which are on the disk or not: its entries, or for torn writes their
sectors. Blocks of 4096 bytes are what is composed, summed and kept. The sum of a state is that of
its blocks' sums, so that the states of an epoch differ by what few blocks differ in: Bellare and
Micciancio's incremental hashing (AdHash, EUROCRYPT 1997) over XXH3-128, whole numbers, no modulus.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Final, NamedTuple

import xxhash

from jrnl.crash.source import BLOCK

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from jrnl.crash.source import Rows, Source

SECTOR: Final = 512
_PIECES_MAX: Final = 1024  # of one torn entry; a longer one is torn between larger pieces
_WIDE: Final = 1 << 20  # zeroes longer than that are not listed block by block
_MEMO_BYTES: Final = 64 << 20
_RUN_BLOCKS: Final = 256  # that are read as one

Key = tuple[int, int]  # a volume, the number of a block in it


class Unit(NamedTuple):
    """What is on the disk or not, as a whole: an entry or a part of one.

    Attributes
    ----------
    row : int
        Which of the epoch's entries it is of.
    """

    row: int
    seq: int
    volume: int
    offset: int
    length: int
    zeroes: bool
    fua: bool

    @property
    def end(self) -> int:
        """The byte after it."""
        return self.offset + self.length


class Epoch:
    """The entries between two flushes that change bytes, and what they make of the blocks.

    Parameters
    ----------
    source : Source
    rows : ndarray of ROW
        Its entries, those that change nothing left out.
    base : int
        The state that is durable when it begins.
    acked : int
        The seq of the flush that made it durable, 0 where there was none.
    torn : bool
        Whether its units are sectors.
    """

    def __init__(self, source: Source, rows: Rows, base: int, acked: int, *, torn: bool) -> None:
        self.source, self.rows, self.base, self.acked, self.torn = source, rows, base, acked, torn
        self.sizes = list(source.sizes.values())
        self.units: list[Unit] = []
        self.firsts: list[int] = []  # the first unit of each row, then their count
        for k, (seq, volume, offset, length, zeroes, _, _, fua) in enumerate(rows.tolist()):
            self.firsts.append(len(self.units))
            for start, stop in _cut(offset, length, torn and not fua):
                self.units.append(Unit(k, seq, volume, start, stop - start, zeroes, fua))
        self.firsts.append(len(self.units))
        self.free = sum(1 << k for k, unit in enumerate(self.units) if not unit.fua)
        self._contents: Sequence[bytes | memoryview | None] | None = None
        self._touching: dict[Key, tuple[int, ...]] | None = None
        self._wide: list[int] = []
        self._memo: dict[tuple[Key, int], bytes] = {}
        self._memo_bytes = 0

    @property
    def is_cut(self) -> bool:
        """Whether a store's window begins in it, so that nobody knows what came before."""
        return self.acked == 0 < self.base

    @property
    def whole(self) -> int:
        """The units, all there: a bit for each."""
        return (1 << len(self.units)) - 1

    # What a block is made of.

    def touching(self) -> dict[Key, tuple[int, ...]]:
        """Return which units touch each block, without wide ranges of zeroes."""
        if self._touching is None:
            found: dict[Key, list[int]] = defaultdict(list)
            for k, unit in enumerate(self.units):
                if unit.zeroes and unit.length > _WIDE:
                    self._wide.append(k)
                    continue
                for block in range(unit.offset // BLOCK, (unit.end - 1) // BLOCK + 1):
                    found[unit.volume, block].append(k)
            for k in self._wide:
                self._add_wide(found, k)
            self._touching = {key: tuple(units) for key, units in found.items()}
        return self._touching

    def _add_wide(self, found: dict[Key, list[int]], k: int) -> None:
        """Add a wide range where it changes anything: where there were bytes, or others write."""
        unit = self.units[k]
        held = self.source.held(self.base, unit.volume, unit.offset, unit.length).tolist()
        first, last = unit.offset // BLOCK, (unit.end - 1) // BLOCK
        others = [b for v, b in found if v == unit.volume and first <= b <= last]
        for block in {*held, *others}:
            units = found[unit.volume, block]
            units.append(k)
            units.sort()

    def kept_of(self, key: Key, kept: int) -> int:
        """Return which of the units that touch a block are kept, as a number for that block."""
        return _some(self.touching()[key], kept)

    def block(self, key: Key, some: int) -> bytes:
        """Return a block with these of the units that touch it; see `kept_of`."""
        found = self._memo.get((key, some))
        if found is None:
            found = self._compose(key, some)
            self._memo_bytes += len(found)
            if self._memo_bytes > _MEMO_BYTES:
                self._memo.clear()
                self._memo_bytes = len(found)
            self._memo[key, some] = found
        return found

    def _compose(self, key: Key, some: int) -> bytes:
        volume, number = key
        start = number * BLOCK
        size = min(BLOCK, self.sizes[volume] - start)
        units = [self.units[k] for place, k in enumerate(self.touching()[key]) if some >> place & 1]
        if units and units[-1].offset <= start and units[-1].end >= start + size:
            return bytes(self.written(units[-1], start, start + size))
        block = bytearray(size)
        self.source.readinto(self.base, volume, start, memoryview(block))
        for unit in units:
            low, high = max(unit.offset, start), min(unit.end, start + size)
            block[low - start : high - start] = self.written(unit, low, high)
        return bytes(block)

    def written(self, unit: Unit, start: int, stop: int) -> bytes | memoryview:
        """Return what a unit wrote to bytes [start, stop) of its volume."""
        if unit.zeroes:
            return bytes(stop - start)
        if self._contents is None:
            self._contents = self.source.contents(self.rows)
        content = self._contents[unit.row]
        assert content is not None
        offset = self.units[self.firsts[unit.row]].offset
        return content[start - offset : stop - offset]


def _cut(offset: int, length: int, torn: bool) -> Iterator[tuple[int, int]]:
    """Yield the parts of an entry that are there or not: it, or its sectors."""
    if not torn:
        yield offset, offset + length
        return
    size = SECTOR
    start, end = offset, offset + length
    while -(-end // SECTOR) - start // SECTOR > size // SECTOR * _PIECES_MAX:
        size *= 2
    while start < end:
        stop = min((start // size + 1) * size, end)
        yield start, stop
        start = stop


class Cell:
    """Blocks that the same units touch, so that they are summed together.

    Attributes
    ----------
    units : tuple of int
    """

    __slots__ = ("_epoch", "_first", "_mask", "keys", "sums", "units")

    def __init__(self, epoch: Epoch, units: tuple[int, ...], keys: list[Key]) -> None:
        self._epoch, self.units, self.keys = epoch, units, keys
        self.sums = {0: 0}  # by which units are kept: what that adds to the sum, as far as asked
        in_a_row = units[-1] - units[0] + 1 == len(units)
        self._first, self._mask = units[0], (1 << len(units)) - 1 if in_a_row else 0

    def some_of(self, kept: int) -> int:
        """Return which of its units are kept: bit j stands for the j-th."""
        if self._mask:
            return kept >> self._first & self._mask
        return _some(self.units, kept)

    def sum_of(self, some: int) -> int:
        """Return what its blocks add to the sum of a state where these of its units are kept."""
        found = self.sums.get(some)
        if found is None:
            if len(self.units) == 1:
                found = self._sum_of_one()
            else:
                block = self._epoch.block
                found = sum(
                    block_sum(key, block(key, some)) - block_sum(key, block(key, 0))
                    for key in self.keys
                )
            self.sums[some] = found
        return found

    def _sum_of_one(self) -> int:
        """Return the same of a cell of one unit: its blocks lie in a row, and are read as one."""
        epoch, unit = self._epoch, self._epoch.units[self.units[0]]
        total = 0
        for first, last in _runs([number for _, number in self.keys]):
            start = first * BLOCK
            stop = min((last + 1) * BLOCK, epoch.sizes[unit.volume])
            content = bytearray(stop - start)
            epoch.source.readinto(epoch.base, unit.volume, start, memoryview(content))
            total -= _sum_of_blocks(unit.volume, first, content)
            low, high = max(unit.offset, start), min(unit.end, stop)
            content[low - start : high - start] = epoch.written(unit, low, high)
            total += _sum_of_blocks(unit.volume, first, content)
        return total


class Sums:
    """The sums of an epoch's states, as far from that of its base."""

    def __init__(self, epoch: Epoch) -> None:
        keys: dict[tuple[int, ...], list[Key]] = defaultdict(list)
        for key, units in epoch.touching().items():
            keys[tuple(units)].append(key)
        self.cells = [Cell(epoch, units, keys[units]) for units in sorted(keys)]
        self._of_unit: dict[int, list[Cell]] = defaultdict(list)
        for cell in self.cells:
            for k in cell.units:
                self._of_unit[k].append(cell)

    def sum_of(self, kept: int) -> int:
        """Return the sum of a state, of which these units are there."""
        return sum(cell.sum_of(cell.some_of(kept)) for cell in self.cells) if kept else 0

    def moved(self, kept: int, total: int, change: int) -> int:
        """Return the sum of a state after units have come or gone; `total` is as of `kept`."""
        cells = {id(cell): cell for k in _bits(change) for cell in self._of_unit[k]}
        after = kept ^ change
        for cell in cells.values():
            total += cell.sum_of(cell.some_of(after)) - cell.sum_of(cell.some_of(kept))
        return total

    def groups(self, present: int) -> list[tuple[list[int], list[Cell]]]:
        """Return the units that share cells, directly or by way of others, and these cells.

        Of the units that are `present` alone. One that touches nothing that counts has no cell.
        """
        groups: list[tuple[set[int], list[Cell]]] = []
        for cell in self.cells:
            units = {k for k in cell.units if present >> k & 1}
            if not units:
                continue
            cells = [cell]
            apart = []
            for group in groups:
                if units.isdisjoint(group[0]):
                    apart.append(group)
                else:
                    units |= group[0]
                    cells = group[1] + cells
            groups = [*apart, (units, cells)]
        alone = {k for k in _bits(present) if not self._of_unit.get(k)}
        found = [(sorted(units), cells) for units, cells in groups]
        return sorted([*found, *(([k], []) for k in alone)])

    def different(self) -> int:
        """Return how many states there are at least, by the sums that were asked for."""
        found = 1
        seen: set[int] = set()
        for cell in self.cells:
            if seen.isdisjoint(cell.units):  # those of others may say the same
                found *= len({*cell.sums.values()})
            seen.update(cell.units)
        return found


def _some(units: tuple[int, ...], kept: int) -> int:
    some = 0
    for place, k in enumerate(units):
        some |= (kept >> k & 1) << place
    return some


def _bits(number: int) -> Iterator[int]:
    while number:
        low = number & -number
        yield low.bit_length() - 1
        number ^= low


def block_sum(key: Key, content: bytes) -> int:
    """Return the sum of a block in its place; 0 for zeroes: holes need not be looked at."""
    if content == (_ZEROES if len(content) == BLOCK else bytes(len(content))):
        return 0
    return xxhash.xxh3_128_intdigest(content, key[1] | key[0] << 48)


def _sum_of_blocks(volume: int, first: int, content: bytearray) -> int:
    """Return the sum of blocks in a row."""
    return sum(
        block_sum((volume, first + k), bytes(content[k * BLOCK : (k + 1) * BLOCK]))
        for k in range(-(-len(content) // BLOCK))
    )


def _runs(numbers: list[int]) -> Iterator[tuple[int, int]]:
    """Yield the first and last of numbers that follow on each other, as many as are read as one."""
    numbers.sort()
    first = last = numbers[0]
    for number in numbers[1:]:
        if number != last + 1 or number - first >= _RUN_BLOCKS:
            yield first, last
            first = number
        last = number
    yield first, last


_ZEROES: Final = bytes(BLOCK)
