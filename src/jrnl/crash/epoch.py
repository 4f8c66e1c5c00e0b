"""Epochs: the writes between two flushes, of which a power cut may leave any.

An epoch is cut into units, which are on the disk or not: its entries, or for torn writes their
sectors. Blocks of 4096 bytes are what is composed, summed and kept. The sum of a state is that of
its blocks' sums, so that the states of an epoch differ by what few blocks differ in: Bellare and
Micciancio's incremental hashing (AdHash, EUROCRYPT 1997) over XXH3-128, whole numbers, no modulus.
"""

from __future__ import annotations

import math
from collections import defaultdict
from typing import TYPE_CHECKING, Final, NamedTuple

import xxhash

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from jrnl.crash.source import Rows, Source

BLOCK: Final = 4096
SECTOR: Final = 512
_PIECES_MAX: Final = 1024  # of one torn entry; a longer one is torn between larger pieces
_WIDE: Final = 1 << 20  # zeroes longer than that are not listed block by block
_MEMO_BYTES: Final = 64 << 20

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
        self.units: list[Unit] = []
        self.firsts: list[int] = []  # the first unit of each row, then their count
        for k, (seq, volume, offset, length, zeroes, _, _, fua) in enumerate(rows.tolist()):
            self.firsts.append(len(self.units))
            for start, stop in _cut(offset, length, torn and not fua):
                self.units.append(Unit(k, seq, volume, start, stop - start, zeroes, fua))
        self.firsts.append(len(self.units))
        self.free = sum(1 << k for k, unit in enumerate(self.units) if not unit.fua)
        self._contents: Sequence[bytes | memoryview | None] | None = None
        self._touching: dict[Key, list[int]] | None = None
        self._wide: list[int] = []
        self._memo: dict[tuple[Key, int], bytes] = {}
        self._memo_bytes = 0

    @property
    def whole(self) -> int:
        """The units, all there: a bit for each."""
        return (1 << len(self.units)) - 1

    # What a block is made of.

    def touching(self) -> dict[Key, list[int]]:
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
            self._touching = dict(found)
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
        some = 0
        for place, k in enumerate(self.touching()[key]):
            some |= (kept >> k & 1) << place
        return some

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
        size = min(BLOCK, self.volume_size(volume) - start)
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

    def volume_size(self, volume: int) -> int:
        """Return the size of a volume in bytes."""
        return list(self.source.sizes.values())[volume]


def _cut(offset: int, length: int, torn: bool) -> Iterator[tuple[int, int]]:
    """Yield the parts of an entry that are there or not: it, or its sectors."""
    if not torn:
        yield offset, offset + length
        return
    size = SECTOR
    while length > size * _PIECES_MAX:
        size *= 2
    start, end = offset, offset + length
    while start < end:
        stop = min((start // size + 1) * size, end)
        yield start, stop
        start = stop


class Group(NamedTuple):
    """Units that share blocks, directly or by way of others: what they make is summed together.

    Attributes
    ----------
    units : list of int
    sums : dict of int to int
        By which of them are kept (bit j: the j-th): what that adds to the sum of the state without
        any. As far as it was asked for.
    """

    units: list[int]
    keys: list[Key]
    sums: dict[int, int]


class Sums:
    """The sums of an epoch's states, as far from that of its base."""

    def __init__(self, epoch: Epoch) -> None:
        self._epoch = epoch
        self.groups = [Group(units, keys, {0: 0}) for units, keys in _grouped(epoch)]
        self.group_of = {k: group for group in self.groups for k in group.units}

    def group_sum(self, group: Group, some: int) -> int:
        """Return what a group adds where these of its units are kept."""
        found = group.sums.get(some)
        if found is None:
            kept = sum(1 << k for j, k in enumerate(group.units) if some >> j & 1)
            found = 0
            for key in group.keys:
                here = self._epoch.kept_of(key, kept)
                if here:
                    found += self._block_sum(key, here) - self._block_sum(key, 0)
            group.sums[some] = found
        return found

    def moved(self, kept: int, total: int, change: int) -> int:
        """Return the sum of a state after these units have come or gone; `total` is as of `kept`."""
        groups = {id(group): group for k in _bits(change) for group in [self.group_of[k]]}
        for group in groups.values():
            before = after = 0
            for j, k in enumerate(group.units):
                before |= (kept >> k & 1) << j
                after |= ((kept ^ change) >> k & 1) << j
            total += self.group_sum(group, after) - self.group_sum(group, before)
        return total

    def different(self) -> int:
        """Return how many states there are at least, by the sums that were asked for."""
        return math.prod(len({*group.sums.values()}) for group in self.groups)

    def _block_sum(self, key: Key, some: int) -> int:
        return block_sum(key, self._epoch.block(key, some))

    def sum_of(self, kept: int) -> int:
        """Return the sum of a state, of which these units are there."""
        total = 0
        for group in self.groups:
            some = 0
            for j, k in enumerate(group.units):
                some |= (kept >> k & 1) << j
            if some:
                total += self.group_sum(group, some)
        return total


def _bits(number: int) -> Iterator[int]:
    while number:
        low = number & -number
        yield low.bit_length() - 1
        number ^= low


def block_sum(key: Key, content: bytes) -> int:
    """Return the sum of a block in its place; 0 for zeroes, so that holes need not be looked at."""
    if not any(content) if len(content) < 64 else content == _ZEROES[: len(content)]:
        return 0
    return xxhash.xxh3_128_intdigest(content, key[1] | key[0] << 48)


_ZEROES: Final = bytes(BLOCK)


def _grouped(epoch: Epoch) -> Iterator[tuple[list[int], list[Key]]]:
    """Yield the units that share blocks, and these blocks."""
    above = list(range(len(epoch.units)))

    def top(k: int) -> int:
        while above[k] != k:
            above[k] = above[above[k]]
            k = above[k]
        return k

    touching = epoch.touching()
    for units in touching.values():
        first = top(units[0])
        for k in units[1:]:
            above[top(k)] = first
    members: dict[int, list[int]] = defaultdict(list)
    for k in range(len(above)):
        members[top(k)].append(k)
    keys: dict[int, list[Key]] = defaultdict(list)
    for key, units in touching.items():
        keys[top(units[0])].append(key)
    for k, units in members.items():
        yield units, keys[k]
