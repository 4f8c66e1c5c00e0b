"""What of a volume is not zero, read piece by piece, and only where it may be."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from jrnl.compare import BLOCK_BYTES, PIECE_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jrnl.compare import Pair, ReadsInto

    Runs = list[tuple[int, memoryview]]


def pieces_within(ranges: Pair) -> Iterator[tuple[int, int]]:
    """Yield ranges cut into pieces: (offset, length)."""
    offsets, lengths = ranges
    for offset, length in zip(offsets.tolist(), lengths.tolist(), strict=True):
        stop = offset + length
        for start in range(offset, stop, PIECE_BYTES):
            yield start, min(PIECE_BYTES, stop - start)


def runs_within(read: ReadsInto, ranges: Pair) -> Iterator[tuple[int, Runs]]:
    """Read ranges piece by piece.

    Yields
    ------
    length : int
        Of the piece, in bytes.
    runs : list of (int, memoryview)
        Runs of its blocks that are not all zero: the offset of each, and its content, which is
        there until the next piece. Blocks are counted from where the piece begins.
    """
    buffer = np.zeros(PIECE_BYTES, np.uint8)
    content = memoryview(buffer)  # type: ignore[arg-type]  # an array is a buffer
    for start, length in pieces_within(ranges):
        stop = -(-length // BLOCK_BYTES) * BLOCK_BYTES
        buffer[length:stop] = 0
        read(start, content[:length])
        held = buffer[:stop].view(np.uint64).reshape(-1, BLOCK_BYTES // 8).any(axis=1)
        steps = np.flatnonzero(np.diff(held, prepend=False, append=False)) * BLOCK_BYTES
        yield (
            length,
            [
                (start + first, content[first : min(last, length)])
                for first, last in steps.reshape(-1, 2).tolist()
            ],
        )
