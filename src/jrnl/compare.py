"""Where states differ, or may: of an image what a restore has to look at and to write."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from jrnl._core import compare_images, restore_outcome, written_ranges
from jrnl.errors import CorruptionError

if TYPE_CHECKING:
    from jrnl._core import Engine, Image

    Extents = NDArray[np.void]

BLOCK_BYTES = 4096  # what the core counts changed bytes in
PIECE_BYTES = 1 << 20  # what is read and compared at a time
EQUAL_RUN_BYTES = 64  # a shorter run of equal bytes is part of the extent around it
EXTENT = np.dtype([("volume", "<u2"), ("offset", "<u8"), ("length", "<u8")])

Pair = tuple["NDArray[np.int64]", "NDArray[np.int64]"]  # offsets, lengths
Columns = tuple["NDArray[np.int64]", "NDArray[np.int64]", "NDArray[np.int64]"]
Ranges = dict[int, Pair]  # by volume
ReadsInto = Callable[[int, memoryview], object]


def differences(image: Image, indices: list[int], everything: bool = False) -> tuple[Ranges, int]:
    """Return what a restore has to write, and the state before the oldest entry after it.

    What it has to write is (offsets, lengths) for each volume's index.

    Raises
    ------
    JournalFull
        It does not fit a journal that may not evict.
    """
    ranges = ranges_to_write(image, indices, everything)
    return ranges, oldest_after_writing(image.engine, ranges)


def oldest_after_writing(engine: Engine, ranges: Ranges) -> int:
    """Return the state before the oldest entry once these ranges are written.

    Raises
    ------
    JournalFull
        They do not fit a journal that may not evict.
    """
    offsets, lengths = (np.concatenate([pair[k] for pair in ranges.values()]) for k in (0, 1))
    return restore_outcome(engine, offsets, lengths)


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


def all_blocks(image: Image, index: int) -> Pair:
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


def blocks_between(one: Image, other: Image, index: int) -> Pair:
    """Return the blocks of a volume in which two images may differ: one of them or production."""
    blocks = [
        np.concatenate([offsets, offsets + lengths - 1]) // BLOCK_BYTES
        for offsets, lengths in (to_compare(image, [index])[index] for image in (one, other))
    ]
    return ranges_of_blocks(np.union1d(*blocks), one.engine.sizes[index])


def written_between(engine: Engine, index: int, one: int | None, other: int | None) -> Pair | None:
    """Return where a volume was written between two states; None where the journal cannot tell."""
    if one is None or other is None:
        return None
    low, high = sorted((one, other))
    bases = addresses(engine)
    try:
        starts, stops = (ends.astype(np.int64) for ends in written_ranges(engine, low, high, bases))
    except CorruptionError:  # a damaged header: the states may still be had another way
        return None
    base, end = int(bases[index]), int(bases[index + 1])
    mine = (starts >= base) & (starts < end)
    return _merged(starts[mine] - base, stops[mine] - base, 0)


def addresses(engine: Engine) -> NDArray[np.uint64]:
    """Return where each volume begins if all lie in a row, and last where they end.

    One address between two volumes is nobody's, so that no range reaches from one into the next.
    """
    bases = np.zeros(len(engine.sizes) + 1, np.uint64)
    np.cumsum(np.array(engine.sizes, np.uint64) + np.uint64(1), out=bases[1:])
    return bases


def held_ranges(image: Image, index: int) -> Pair:
    """Return where an image of a volume may hold anything but zeroes."""
    return united(ranges_of_blocks(image.data_blocks(index), image.engine.sizes[index]))


def ranges_of_blocks(blocks: NDArray[np.int64], size: int) -> Pair:
    """Return blocks of a volume as ranges inside it."""
    offsets = blocks * BLOCK_BYTES
    offsets = offsets[offsets < size]
    return offsets, np.minimum(BLOCK_BYTES, size - offsets)


def image_differences(
    one: Image, other: Image, index: int, states: tuple[int | None, int | None], *, exact: bool
) -> Pair:
    """Return where two images of a volume differ, or may.

    Where both are states of the journal, `states`, what was written between the two says where.
    """
    offsets, lengths = written_between(one.engine, index, *states) or blocks_between(
        one, other, index
    )
    if exact:
        return compare_images(one, other, index, offsets, lengths)
    return united((offsets, lengths))


def extents_of(index: int, offsets: NDArray[np.int64], lengths: NDArray[np.int64]) -> Extents:
    """Return ranges of one volume as extents."""
    extents = np.empty(offsets.size, EXTENT)
    extents["volume"], extents["offset"], extents["length"] = index, offsets, lengths
    return extents


def united(*ranges: Pair) -> Pair:
    """Return what any of these ranges cover, as ranges that rise and are apart."""
    starts = np.concatenate([offsets for offsets, _ in ranges])
    stops = np.concatenate([offsets + lengths for offsets, lengths in ranges])
    starts, stops = starts[stops > starts], stops[stops > starts]
    return _merged(starts, stops, 0)


def _merged(starts: NDArray[np.int64], stops: NDArray[np.int64], gap: int) -> Pair:
    """Return ranges as such that are more than `gap` apart."""
    if not starts.size:
        return starts, stops
    starts, stops = np.sort(starts), np.sort(stops)
    # The k-th to begin begins a new range where the k that began before it have all ended.
    begins = np.flatnonzero(starts[1:] > stops[:-1] + gap) + 1
    offsets = np.concatenate([starts[:1], starts[begins]])
    return offsets, np.concatenate([stops[begins - 1], stops[-1:]]) - offsets


def pieces_of(
    offsets: NDArray[np.int64], lengths: NDArray[np.int64], piece_bytes: int
) -> NDArray[np.int64]:
    """Return the numbers of the pieces that the ranges touch; they rise."""
    offsets, lengths = offsets[lengths > 0], lengths[lengths > 0]
    first = offsets // piece_bytes
    count = (offsets + lengths - 1) // piece_bytes - first + 1
    within = np.arange(int(count.sum())) - np.repeat(np.cumsum(count) - count, count)
    return np.unique(np.repeat(first, count) + within)


def compare_bytes(
    one: ReadsInto, other: ReadsInto, offsets: NDArray[np.int64], lengths: NDArray[np.int64]
) -> Pair:
    """Return where what two callables read differs, inside ranges that rise and are apart."""
    buffers = [memoryview(bytearray(PIECE_BYTES)) for _ in range(2)]
    mine, theirs = (np.frombuffer(buffer, np.uint8) for buffer in buffers)
    starts, stops = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for offset, length in zip(offsets.tolist(), lengths.tolist(), strict=True):
        for start in range(offset, offset + length, PIECE_BYTES):
            count = min(PIECE_BYTES, offset + length - start)
            one(start, buffers[0][:count])
            other(start, buffers[1][:count])
            differ = np.flatnonzero(mine[:count] != theirs[:count]) + start
            ends = np.flatnonzero(np.diff(differ) > EQUAL_RUN_BYTES)
            starts.append(np.concatenate([differ[:1], differ[ends + 1]]))
            stops.append(np.concatenate([differ[ends], differ[-1:]]) + 1)
    return _merged(np.concatenate(starts), np.concatenate(stops), EQUAL_RUN_BYTES - 1)


def lay_over(new: ReadsInto, old: ReadsInto, now: ReadsInto, ranges: Pair, longest: int) -> Pair:
    """Return what has to be written of `new`, so that what differs from `old` comes into `now`.

    A byte in which `now` is not `old` any more stays, unless `new` differs from `old` in it, too.
    Bytes that are the same in `new` and `now` are written where that joins ranges that are near.
    """
    buffers = [memoryview(bytearray(PIECE_BYTES)) for _ in range(3)]
    starts, stops = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    step = min(PIECE_BYTES, longest)
    for offset, length in zip(*(column.tolist() for column in ranges), strict=True):
        for start in range(offset, offset + length, step):
            count = min(step, offset + length - start)
            for read, buffer in zip((new, old, now), buffers, strict=True):
                read(start, buffer[:count])
            mine, before, present = (np.frombuffer(buffer[:count], np.uint8) for buffer in buffers)
            differs = mine != present
            wanted = np.flatnonzero(differs & (mine != before))
            foreign = np.cumsum(differs & (mine == before))[wanted]  # up to each of them
            apart = (np.diff(wanted) > EQUAL_RUN_BYTES) | (np.diff(foreign) > 0)
            ends = np.flatnonzero(apart)
            starts.append(start + np.concatenate([wanted[:1], wanted[ends + 1]]))
            stops.append(start + np.concatenate([wanted[ends], wanted[-1:]]) + 1)
    offsets = np.concatenate(starts)
    return offsets, np.concatenate(stops) - offsets
