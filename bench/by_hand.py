"""A journal as a user would write it in a few lines of Python: old block to a ring, new block in.

No entry says which block an image belongs to, nothing is checked. Loops are written out rather than
called, so that no more is in the figure than the copies and their indexing.
"""

import numpy as np

from . import workload


class ByHand:
    """A volume and a ring as plain arrays."""

    def __init__(self, volume_bytes, ring_bytes):
        self.volume = workload.touch(workload.buffer(volume_bytes))
        self.ring = workload.touch(workload.buffer(ring_bytes))
        self._at = 0  # bytes

    def numpy_slices(self, offsets, block):
        self._slices(self.volume, self.ring, offsets, block)

    def memoryview_slices(self, offsets, block):
        self._slices(memoryview(self.volume), memoryview(self.ring), offsets, memoryview(block))

    def _slices(self, volume, ring, offsets, block):
        at, end, length = self._at, len(ring), len(block)
        for offset in offsets:
            if at + length > end:
                at = 0
            ring[at : at + length] = volume[offset : offset + length]
            volume[offset : offset + length] = block
            at += length
        self._at = at

    def fancy_indexing(self, batches, rows):
        """Block numbers in batches. A block that is twice in a batch loses its middle image: a
        shortcut that a journal may not take."""
        length = rows.shape[1]
        volume, ring = self.volume.reshape(-1, length), self.ring.reshape(-1, length)
        at = self._at // rows.shape[1]
        for blocks in batches:
            if at + len(blocks) > len(ring):
                at = 0
            ring[at : at + len(blocks)] = volume[blocks]
            volume[blocks] = rows
            at += len(blocks)
        self._at = at * rows.shape[1]

    def take_void(self, batches, rows):
        """The same, tuned: a block as one opaque element, taken to its place with no copy between.
        (`mode="clip"`: with "raise" numpy.take buffers its output.)"""
        element = np.dtype((np.void, rows.shape[1]))
        volume, ring = self.volume.view(element), self.ring.view(element)
        new = rows.view(element)[:, 0]
        at = self._at // rows.shape[1]
        for blocks in batches:
            if at + len(blocks) > len(ring):
                at = 0
            np.take(volume, blocks, out=ring[at : at + len(blocks)], mode="clip")
            volume[blocks] = new
            at += len(blocks)
        self._at = at * rows.shape[1]


def undo_all(image, ring, offsets, length):
    """Recovery by hand: every image back, newest first; the oldest of a block has the last word."""
    at = len(ring)
    for offset in reversed(offsets):
        image[offset : offset + length] = ring[at - length : at]
        at -= length
