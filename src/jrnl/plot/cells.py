"""Heat maps: which cells a history is cut into, and what was written in each."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from jrnl.heat import Grid, spread
from jrnl.plot.axis import Scale
from jrnl.plot.source import DISCARDED, WRITE, ZEROES, Told

Ints = NDArray[np.int64]

COLUMNS = 240  # from left to right
ROWS = 160  # from top to bottom, of all volumes together
VOLUMES_MAX = 6
_SECTOR = 512


class Cells(NamedTuple):
    """A heat map: what a cell is, and how much was written in each.

    Attributes
    ----------
    block : int
        Bytes from top to bottom of a cell.
    low, high : int
        Bytes of the volume that are shown.
    written, cleared : ndarray
        int64[block, time], bytes: by writes; by discards and zeroes.
    """

    block: int
    low: int
    high: int
    written: Ints
    cleared: Ints


def cells_of(told: Told, scale: Scale, volume: int, rows: int) -> Cells:
    """Bin one volume. Where nothing was written to most of it, it ends behind the last write."""
    size = [*told.volumes.values()][volume]
    written = told.changes(scale.at, WRITE, volume=volume)
    cleared = told.changes(scale.at, DISCARDED, ZEROES, volume=volume)
    most = written if written.at.size else cleared
    reached = int((most.offset + most.length).max(initial=0))
    block = _SECTOR
    while block * rows < size:
        block *= 2
    high = size
    while reached and block > _SECTOR and block * rows >= 4 * reached:
        block //= 2
        high = min(size, block * rows)
    edges = parts_of(scale)
    grid = Grid.of([high], block)
    parts = [
        spread(
            grid, edges, changes._replace(length=np.minimum(changes.length, high - changes.offset))
        )
        for changes in (written, cleared)
    ]
    return Cells(block, 0, high, parts[0].T, parts[1].T)


def parts_of(scale: Scale) -> Ints:
    """Return the edges of the cells of a heat map, from left to right."""
    return scale.edges(COLUMNS)


def extent_of(scale: Scale) -> tuple[float, float]:
    """Return where the axis begins and ends, as it shows it."""
    return scale.bounds(parts_of(scale))


def most_written(told: Told, names: dict[int, str]) -> dict[int, str]:
    """Return the volumes to show, in order: of many, those that most was written to."""
    written = {
        index: int(told.length[(told.kind == WRITE) & (told.volume == index)].sum())
        for index in names
    }
    most = sorted(names, key=lambda index: -written[index])[:VOLUMES_MAX]
    return {index: names[index] for index in sorted(most)}
