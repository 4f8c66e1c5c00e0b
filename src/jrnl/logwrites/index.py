"""The index of a log: which entry wrote a byte last, at any state, without walking back.

All places where an entry's range begins or ends cut the volume into leaves, over which stands a
binary tree. An entry is noted at the nodes that are covered whole and whose parents are not: at
most two a level, whatever it covers. ``kernel/recorded.pxi`` looks it up.

It takes 16 to 20 bytes for each leaf, of which there are two an entry at most, and 4 for each time
that an entry is noted: mostly once. The volume's size counts for nothing.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

_NUMBER_BITS = 32
_MOST = (1 << _NUMBER_BITS) - 1


class Index(NamedTuple):
    """The tree.

    Attributes
    ----------
    bounds : numpy.ndarray
        int64[leaves + 1]: leaf k is the bytes ``bounds[k]`` to ``bounds[k + 1]`` of the volume; it
        is node ``2**height + k``, where ``2**height`` is the least power that is not below leaves.
    firsts : numpy.ndarray
        uint32[nodes + 1]: at node n stand ``numbers[firsts[n] : firsts[n + 1]]``.
    numbers : numpy.ndarray
        uint32: of entries, from 1, rising at each node.
    """

    bounds: NDArray[np.int64]
    firsts: NDArray[np.uint32]
    numbers: NDArray[np.uint32]


def build(entries: NDArray[Any], size: int) -> Index:
    """Build it for entries whose ranges lie inside a volume of `size` bytes.

    Raises
    ------
    MemoryError
        Beyond 2**32 entries, or places in the tree where they are noted.
    """
    numbers = np.flatnonzero(entries["length"])
    starts = entries["offset"][numbers].astype(np.int64)
    stops = starts + entries["length"][numbers].astype(np.int64)
    bounds = np.concatenate([starts, stops, np.array([0, size], np.int64)])
    bounds.sort()  # np.unique hashes, which takes fifty times as long
    bounds = bounds[np.flatnonzero(np.diff(bounds, prepend=-1))]
    leaves = bounds.size - 1
    width = 1 << (leaves - 1).bit_length()
    low = np.searchsorted(bounds, starts) + width
    high = np.searchsorted(bounds, stops) + width
    keys = np.concatenate(_keys(numbers + 1, low, high))
    if len(entries) > _MOST or keys.size > _MOST:
        raise MemoryError(
            f"{len(entries)} entries, noted {keys.size} times, are too many for an index"
        )
    keys.sort()
    firsts = np.zeros(width + leaves + 1, np.uint32)
    counts = np.bincount(keys >> _NUMBER_BITS, minlength=width + leaves)
    np.cumsum(counts, out=firsts[1:], dtype=np.uint32)
    return Index(bounds, firsts, keys.astype(np.uint32))


def _keys(
    numbers: NDArray[np.int64], low: NDArray[np.int64], high: NDArray[np.int64]
) -> list[NDArray[np.int64]]:
    """Return a key, node and number, for each node that an entry is noted at, level by level.

    The entries cover the nodes low..high - 1 of the lowest level. On each one the first node stays
    where it is a second child, and the last one where it is a first child: their parents are not
    covered whole. The rest goes on as its parents.
    """
    keys = [np.empty(0, np.int64)]
    while numbers.size:
        odd = (low & 1).astype(bool)
        keys.append(low[odd] << _NUMBER_BITS | numbers[odd])
        low = low + odd >> 1
        odd = (high & 1).astype(bool)
        keys.append((high[odd] - 1) << _NUMBER_BITS | numbers[odd])
        high = high >> 1
        left = low < high
        numbers, low, high = numbers[left], low[left], high[left]
    return keys
