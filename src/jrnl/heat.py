"""Heat: how many bytes of each block were written in each span of time, from headers alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Literal, NamedTuple, SupportsIndex

import numpy as np
from numpy.typing import NDArray

from jrnl.errors import InvalidArgument, shown
from jrnl.sizes import Size, as_int, parse_size

if TYPE_CHECKING:
    from jrnl._core import Engine

    Ints = NDArray[np.int64]

Bins = int | Sequence[SupportsIndex] | NDArray[np.integer]
Axis = Literal["time", "seq"]
Names = Iterable[str] | str | None  # of kinds

KINDS = {"write": 1, "discard": 2, "zeroes": 3}  # those that change bytes, and their numbers
CELLS_MAX = 1 << 26  # 512 MiB
_INT64_END = 1 << 63


class Changes(NamedTuple):
    """Entries that changed bytes, in the order of the journal; all int64[n].

    Attributes
    ----------
    at : ndarray
        When each came: nanoseconds since 1970, or its seq; they never fall.
    kind : ndarray
        The number of its kind; see `KINDS`.
    volume, offset, length : ndarray
        What it changed: the volume's index, bytes.
    """

    at: Ints
    kind: Ints
    volume: Ints
    offset: Ints
    length: Ints


class Grid(NamedTuple):
    """The blocks that volumes are cut into: all of one volume, then all of the next one.

    Attributes
    ----------
    block : int
        Bytes. The last one of a volume may reach past its end.
    first : ndarray
        int64[volumes + 1]: the column of each volume's first block; last, how many there are.
    """

    block: int
    first: Ints

    @classmethod
    def of(cls, sizes: Sequence[int], block: int) -> Grid:
        """Cut volumes of these sizes."""
        counts = [-(-size // block) for size in sizes]
        return cls(block, np.concatenate([[0], np.cumsum(counts, dtype=np.int64)]))


def heat(
    sizes: Sequence[int],
    changes: Changes,
    block: Size,
    bins: Bins,
    volume: int | None = None,
    kinds: Names = None,
) -> Ints:
    """Bin what was changed in volumes of these sizes; see `Store.heat`."""
    block_bytes = parse_size(block, "block")
    chosen = [*sizes] if volume is None else [sizes[volume]]
    rows = _row_count(bins)
    columns = sum(-(-size // block_bytes) for size in chosen)
    if rows * columns > CELLS_MAX:
        raise InvalidArgument(_too_many(chosen, rows, columns))
    edges = edges_of(bins, changes.at)
    counted = np.isin(changes.kind, as_kinds(kinds))
    if volume is not None:
        counted &= changes.volume == volume
        changes = changes._replace(volume=np.zeros_like(changes.volume))
    changes = Changes(*(column[counted] for column in changes))
    return spread(Grid.of(chosen, block_bytes), edges, changes)


def edges_of(bins: Bins, at: Ints) -> Ints:
    """Return where bins begin, and last where they end: int64[bins + 1].

    A number of bins is that of equal ones from the first to the last of `at`; else the edges.
    """
    if isinstance(bins, Sequence | np.ndarray):
        return _checked_edges(bins)
    count = _row_count(bins)
    low, high = (int(at[0]), int(at[-1])) if at.size else (0, 0)
    # (high - low + 1) * k // count, which might not fit, in two parts that do.
    whole, rest = divmod(high - low + 1, count)
    k = np.arange(count + 1, dtype=np.int64)
    return low + whole * k + rest * k // count


def spread(grid: Grid, edges: Ints, changes: Changes) -> Ints:
    """Return the bytes that were changed, by span between two edges and block of the grid.

    An entry counts in each block as many bytes as it changed there. It costs one pass over the
    entries and one over the result, whatever the entries cover.
    """
    cells = np.zeros((edges.size - 1, int(grid.first[-1])), np.int64)
    inside = (changes.at >= edges[0]) & (changes.at < edges[-1]) & (changes.length > 0)
    at, _, volume, offset, length = (column[inside] for column in changes)
    if not at.size:
        return cells
    block = grid.block
    if block * at.size >= _INT64_END and length.sum(dtype=float) >= _INT64_END / 2:
        raise InvalidArgument(
            f"{at.size} entries in blocks of {block} bytes may come to more than 2**63 - 1 bytes "
            "in one; take smaller blocks"
        )
    row = np.searchsorted(edges, at, "right") - 1
    last_byte = offset + length - 1
    first, last = (grid.first[volume] + byte // block for byte in (offset, last_byte))
    head = np.minimum(length, block - offset % block)
    # A block inside an entry is changed whole: where that begins and ends, added up along a row.
    long = last > first + 1
    np.add.at(cells, (row[long], first[long] + 1), block)
    np.add.at(cells, (row[long], last[long]), -block)
    np.cumsum(cells, axis=1, out=cells)
    np.add.at(cells, (row, first), head)
    two = last > first
    np.add.at(cells, (row[two], last[two]), last_byte[two] % block + 1)
    return cells


def changes_of(engine: Engine, since: int, until: int, axis: Axis) -> Changes:
    """Return what a store's entries between two states changed. The caller holds the lock."""
    rows = engine.entries(since + 1, until)
    rows = rows[np.isin(rows["kind"], [*KINDS.values()])]
    names = ("time_ns" if axis == "time" else "seq", "kind", "volume", "offset", "length")
    return Changes(*(rows[name].astype(np.int64) for name in names))


def as_axis(by: object, default: Axis) -> Axis:
    """Return what bins are of. Raises InvalidArgument."""
    if by is None:
        return default
    if by == "time":
        return "time"
    if by == "seq":
        return "seq"
    raise InvalidArgument(f"bins are by 'time' or by 'seq', not by {shown(by)}")


def as_kinds(kinds: Names) -> list[int]:
    """Return the numbers of kinds by name, by default of all. Raises InvalidArgument."""
    names = list(KINDS if kinds is None else [kinds] if isinstance(kinds, str) else kinds)
    unknown = [name for name in names if name not in KINDS]
    if unknown:
        raise InvalidArgument(f"kinds are {', '.join(KINDS)}, not {shown(unknown[0])}")
    return [KINDS[name] for name in names]


def _row_count(bins: Bins) -> int:
    if isinstance(bins, Sequence | np.ndarray):
        return len(_checked_edges(bins)) - 1
    count = as_int(bins, "bins must be an int or edges (a sequence of ints)")
    if count < 1:
        raise InvalidArgument(f"bins={shown(count)}: there must be 1 or more")
    return count


def _checked_edges(edges: Sequence[SupportsIndex] | NDArray[np.integer]) -> Ints:
    if isinstance(edges, np.ndarray) and edges.ndim != 1:
        raise InvalidArgument(f"edges are one row of ints, not an array of {edges.ndim} dimensions")
    numbers = [as_int(edge, "an edge must be an int: nanoseconds or a seq") for edge in edges]
    if len(numbers) <= 1 or any(b <= a for a, b in pairwise(numbers)):
        raise InvalidArgument("edges must rise, and be two or more: bin k is from edge k to k + 1")
    if not -_INT64_END <= numbers[0] <= numbers[-1] < _INT64_END:
        raise InvalidArgument("edges must lie between -2**63 and 2**63 - 1")
    return np.array(numbers, np.int64)


def _too_many(sizes: Sequence[int], rows: int, columns: int) -> str:
    """Say what does fit."""
    said = f"{rows} bins of {columns} blocks are {rows * columns} numbers, and {CELLS_MAX} fit; "
    fewer = CELLS_MAX // columns
    least = 1
    while rows * sum(-(-size // least) for size in sizes) > CELLS_MAX and least < _INT64_END // 2:
        least *= 2
    if rows * len(sizes) > CELLS_MAX:
        return said + f"take at most {CELLS_MAX // len(sizes)} bins, or one volume"
    larger = f"take block={least} (bytes) or more"
    return said + (f"{larger}, or at most {fewer} bins" if fewer else larger)
