"""Which states of an epoch there are, and which of them are looked at where they are too many."""

from __future__ import annotations

import random
from itertools import compress
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from jrnl.crash.epoch import Cell, Epoch, Sums

MODES: Final = ("prefix", "subset", "torn")
COUNTED_BITS: Final = 14  # up to so many units that may be lost, all states are looked at
_EACH_MAX: Final = 4096  # units that are tried alone, or missing, at the end of an epoch
_CUTS_MAX: Final = 16  # places where one entry is torn
_DRAWN, _DRAWN_AT_END = 4, 64
_RECENT: Final = 64  # units that a moment within an epoch draws from


class Step(NamedTuple):
    """A moment at which the power may fail.

    Attributes
    ----------
    seq : int
    done : int
        How many of the epoch's entries were made by then.
    first : bool
        Whether it is the first moment: later ones leave out what was there before their own entry.
    last : bool
        Whether it is the epoch's last.
    opens : bool
        Whether it is that of a flush which writes, too: all but that write is durable.
    """

    seq: int
    done: int
    first: bool
    last: bool
    opens: bool


class Choice:
    """The states of one moment: which units are there. A bit stands for each unit."""

    def __init__(self, epoch: Epoch, step: Step) -> None:
        self.epoch, self.step = epoch, step
        self.present = (1 << epoch.firsts[step.done]) - 1
        before = 0 if step.first or not step.done else epoch.firsts[step.done - 1]
        self.free = epoch.free & self.present
        # A state without anything of the moment's own entry is one of the moment before.
        self.own = 0 if step.first else self.free >> before << before

    @property
    def bits(self) -> int:
        """How many units may be lost."""
        return self.free.bit_count()

    @property
    def is_counted(self) -> bool:
        """Whether all states are looked at."""
        return self.bits <= COUNTED_BITS

    @property
    def legal(self) -> int:
        """How many choices there are of what is lost."""
        if not self.own:
            return 1 << self.bits
        return (1 << self.bits) - (1 << (self.free & ~self.own).bit_count())

    def every(self, sums: Sums) -> tuple[list[int], list[int]]:
        """Return all: which units are there, nothing lost first, and the states' sums."""
        losts, totals = [0], [0]
        for units, cells in sums.groups(self.present):
            more_lost, more = self._lost_of(units, cells)
            losts = [lost | other for other in more_lost for lost in losts]
            totals = [total + other for other in more for total in totals]
        own, present = self.own, self.present
        if own:
            there = [own & ~lost != 0 for lost in losts]
            losts, totals = list(compress(losts, there)), list(compress(totals, there))
        return [present ^ lost for lost in losts], totals

    def _lost_of(self, units: list[int], cells: list[Cell]) -> tuple[list[int], list[int]]:
        """Return what may be lost of a group, and what its cells then add to the sum."""
        present, free = self.present, [k for k in units if self.free >> k & 1]
        losts = [0]
        if len(cells) == 1:
            [cell] = cells
            somes = [cell.some_of(present)]
            for k in free:
                losts += [lost | 1 << k for lost in losts]
                bit = 1 << cell.units.index(k)
                somes += [some ^ bit for some in somes]
            return losts, [*map(cell.sum_of, somes)]
        totals = [sum(cell.sum_of(cell.some_of(present)) for cell in cells)]
        for k in free:
            own = [cell for cell in cells if k in cell.units]
            totals += [
                total + _change(own, present ^ lost, 1 << k)
                for lost, total in zip(losts, totals, strict=True)
            ]
            losts += [lost | 1 << k for lost in losts]
        return losts, totals

    def sampled(self, seed: int) -> Iterator[int]:
        """Yield what is lost in a sample of the states, each once."""
        seen = set()
        for drawn in self._drawn(random.Random(f"{seed} {self.step.seq}")):
            lost = drawn & self.free
            if lost not in seen and (not self.own or self.own & ~lost):
                seen.add(lost)
                yield lost

    @property
    def sample_size(self) -> int:
        """How many states a sample has at most; none is drawn for that."""
        cuts = 4 * min(max(0, self.own.bit_count() - 1), _CUTS_MAX)
        size = 3 + cuts + _DRAWN
        if self.step.last:
            size += 2 * min(self.bits, _EACH_MAX) + 2 * self.bits.bit_length() + _DRAWN_AT_END
        return size

    def sum_without(self, sums: Sums, total: int, lost: int) -> int:
        """Return the sum of the state in which these units are lost; `total` is with all."""
        if 2 * lost.bit_count() <= self.bits:
            return sums.moved(self.present, total, lost)
        durable = self.present & ~self.free
        return sums.moved(durable, sums.sum_of(durable), self.free & ~lost)

    def _drawn(self, rng: random.Random) -> Iterator[int]:
        """Yield what is lost: nothing, all, each alone, ...; pairs at the end of an epoch."""
        yield 0
        yield self.free & ~self.own
        yield from self._torn_at_cuts()
        before = self.free & ~self.own
        if before:
            yield 1 << (before.bit_length() - 1)
        for _ in range(_DRAWN):
            yield self._random(rng) & self._recent()
        if not self.step.last:
            return
        units = [k for k in range(self.present.bit_length()) if self.free >> k & 1]
        for k in _evenly(units, _EACH_MAX):
            yield 1 << k  # each missing
            yield self.free & ~(1 << k)  # each alone
        yield from _pairs(units, self.free)
        for _ in range(_DRAWN_AT_END):
            yield self._random(rng)

    def _recent(self) -> int:
        """Return the last units: what each moment draws from, or it would cost the whole epoch."""
        high = self.present.bit_length()
        return self.present >> max(0, high - _RECENT) << max(0, high - _RECENT)

    def _random(self, rng: random.Random) -> int:
        one, other = (rng.getrandbits(max(1, self.present.bit_length())) for _ in range(2))
        return rng.choice((one & other, one, one | other))

    def _torn_at_cuts(self) -> Iterator[int]:
        """Yield the moment's own entry torn at each of its sectors, with all before, or none."""
        units = [k for k in range(self.own.bit_length()) if self.own >> k & 1]
        for k in _evenly(units[1:], _CUTS_MAX):
            low = self.own & ((1 << k) - 1)
            for torn in (low, self.own ^ low):
                yield torn
                yield torn | self.free & ~self.own


def _change(cells: list[Cell], kept: int, bit: int) -> int:
    """Return what losing one unit more changes in what these cells add to the sum."""
    less = kept ^ bit
    return sum(cell.sum_of(cell.some_of(less)) - cell.sum_of(cell.some_of(kept)) for cell in cells)


def _evenly(units: list[int], most: int) -> Iterable[int]:
    if len(units) <= most:
        return units
    return (units[k * len(units) // most] for k in range(most))


def _pairs(units: list[int], free: int) -> Iterator[int]:
    """Yield choices in which of each two units, one or the other one is lost.

    The units whose place has a given bit, and all others: as many choices as places have digits,
    twice. With none and all lost, each two are seen in all four combinations.
    """
    for digit in range(len(units).bit_length()):
        some = sum(1 << k for place, k in enumerate(units) if place >> digit & 1)
        yield some
        yield free & ~some
