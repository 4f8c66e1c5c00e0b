"""Heat maps: which cells a history is cut into, and what was written in each."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from jrnl.heat import Grid, spread
from jrnl.plot.axis import Scale
from jrnl.plot.ruler import Ruler, touched, whole
from jrnl.plot.source import DISCARDED, WRITE, ZEROES, Told

Ints = NDArray[np.int64]

COLUMNS = 240  # from left to right
ROWS = 160  # from top to bottom, of all volumes together
VOLUMES_MAX = 6


class Cells(NamedTuple):
    """A heat map: where its rows lie in a volume, and how much was written in each cell.

    Attributes
    ----------
    ruler : Ruler
    written, cleared : ndarray
        int64[row, time], bytes: by writes; by discards and zeroes.
    """

    ruler: Ruler
    written: Ints
    cleared: Ints


def cells_of(told: Told, scale: Scale, volume: int, rows: int, *, everything: bool) -> Cells:
    """Bin one volume: all of it, or what was written of it."""
    size = [*told.volumes.values()][volume]
    written = told.changes(scale.at, WRITE, volume=volume)
    cleared = told.changes(scale.at, DISCARDED, ZEROES, volume=volume)
    ruler = whole(size, rows) if everything else touched(size, rows, written)
    grid = Grid(ruler.block, np.array([0, ruler.row_count]))
    tables = (spread(grid, parts_of(scale), ruler.placed(part)) for part in (written, cleared))
    return Cells(ruler, *(table.T for table in tables))


def parts_of(scale: Scale) -> Ints:
    """Return the edges of the cells of a heat map, from left to right."""
    return scale.edges(COLUMNS)


def extent_of(scale: Scale) -> tuple[float, float]:
    """Return where the axis begins and ends, as it shows it."""
    return scale.bounds(parts_of(scale))


def most_written(told: Told, names: dict[int, str]) -> dict[int, str]:
    """Return the volumes to show, in order: of many, those that most was written to."""
    written = np.zeros(len(told.volumes), np.int64)
    wrote = told.kind == WRITE
    np.add.at(written, told.volume[wrote], told.length[wrote])
    most = sorted(names, key=lambda index: -int(written[index]))[:VOLUMES_MAX]
    return {index: names[index] for index in sorted(most)}
