"""Where an image differs from production, or may: what a restore has to look at, and to write."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from jrnl._core import restore_outcome

if TYPE_CHECKING:
    from jrnl._core import Image

BLOCK_BYTES = 4096  # what the core counts changed bytes in

Columns = tuple["NDArray[np.int64]", "NDArray[np.int64]", "NDArray[np.int64]"]
Ranges = dict[int, tuple["NDArray[np.int64]", "NDArray[np.int64]"]]  # by volume: offsets, lengths


def differences(image: Image, indices: list[int], everything: bool = False) -> tuple[Ranges, int]:
    """Return what a restore has to write, and the state before the oldest entry after it.

    What it has to write is (offsets, lengths) for each volume's index.

    Raises
    ------
    JournalFull
        It does not fit a journal that may not evict.
    """
    ranges = ranges_to_write(image, indices, everything)
    offsets, lengths = (np.concatenate([pair[k] for pair in ranges.values()]) for k in (0, 1))
    return ranges, restore_outcome(image.engine, offsets, lengths)


def ranges_to_write(image: Image, indices: list[int], everything: bool) -> Ranges:
    """Return where production differs from an image, of these volumes."""
    suspects = to_compare(image, indices, everything)
    return {index: image.differences(index, *suspects[index]) for index in indices}


def to_compare(image: Image, indices: list[int], everything: bool = False) -> Ranges:
    """Return where production may differ from an image, of these volumes.

    Where journal and notes do not tell, that is all that either of them holds.
    """
    suspects = None if everything else image.suspects(indices)
    if suspects is None:
        return {index: all_blocks(image, index) for index in indices}
    volumes, offsets, lengths = suspects.sorted_ranges()
    firsts = np.searchsorted(volumes, indices)
    lasts = np.searchsorted(volumes, indices, "right")
    return {
        index: (offsets[first:last], lengths[first:last])
        for index, first, last in zip(indices, firsts, lasts, strict=True)
    }


def all_blocks(image: Image, index: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the blocks of a volume that an image or production may have anything in."""
    size = image.engine.sizes[index]
    offsets = image.blocks(index) * BLOCK_BYTES
    offsets = offsets[offsets < size]
    return offsets, np.minimum(BLOCK_BYTES, size - offsets)


def bytes_to_compare(image: Image, indices: list[int]) -> int:
    """Return how many bytes a restore would compare; none of them is read."""
    ranges = to_compare(image, indices).values()
    return sum(int(lengths.sum()) for _, lengths in ranges)


def joined(ranges: Ranges) -> Columns:
    """Return the ranges of all volumes as three columns: volume, offset, length."""
    volumes = [np.full(offsets.size, index, np.int64) for index, (offsets, _) in ranges.items()]
    offsets, lengths = ([pair[k] for pair in ranges.values()] for k in (0, 1))
    return np.concatenate(volumes), np.concatenate(offsets), np.concatenate(lengths)
