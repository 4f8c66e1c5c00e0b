"""What was written to a writable view of a log: runs of bytes that lie over what the log has."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from operator import itemgetter
from threading import RLock
from typing import NamedTuple

import numpy as np

from jrnl.compare import Pair
from jrnl.errors import StoreBusy

_RUN_BYTES = 1 << 16  # the longest: what a write leaves of a run is copied


class Run(NamedTuple):
    """Bytes start..stop - 1 of the volume; no content: zeroes."""

    start: int
    stop: int
    content: bytes | None

    def part(self, start: int, stop: int) -> Run:
        """Return what it has in a range that lies inside it."""
        content = self.content
        if content is not None:
            content = content[start - self.start : stop - self.start]
        return Run(start, stop, content)


class Scratch:
    """Runs that rise and do not overlap. A range is replaced in one step.

    `lock` is held by who writes, and by who must see one state of it over several steps.
    """

    def __init__(self) -> None:
        self.lock = RLock()
        self._runs: list[Run] = []
        self._writing = False

    @property
    def content_bytes(self) -> int:
        """Bytes that take memory."""
        with self.lock:
            return sum(len(run.content) for run in self._runs if run.content is not None)

    def write(self, offset: int, data: memoryview) -> None:
        """Replace a range by a copy of `data`. Raises StoreBusy from inside another write."""
        stop = offset + len(data)
        ends = [*range(offset - offset % _RUN_BYTES + _RUN_BYTES, stop, _RUN_BYTES), stop]
        starts = [offset, *ends[:-1]]
        self._replace(
            offset,
            stop,
            [
                Run(start, end, bytes(data[start - offset : end - offset]))
                for start, end in zip(starts, ends, strict=True)
                if start < end
            ],
        )

    def zero(self, offset: int, length: int) -> None:
        """Replace a range by zeroes, of any length at no memory. Raises as `write`."""
        if length:
            self._replace(offset, offset + length, [Run(offset, offset + length, None)])

    def _replace(self, start: int, stop: int, runs: list[Run]) -> None:
        if start == stop:
            return
        with self.lock:
            if self._writing:
                raise StoreBusy(
                    "this call comes from inside another one that writes to the same view; make it "
                    "again once that one has returned"
                )
            self._writing = True
            try:
                first, last = self._places(start, stop)
                cut = self._runs[first:last]
                if cut and cut[0].start < start:
                    runs.insert(0, cut[0].part(cut[0].start, start))
                if cut and cut[-1].stop > stop:
                    runs.append(cut[-1].part(stop, cut[-1].stop))
                self._runs[first:last] = runs
            finally:
                self._writing = False

    def over(self, start: int, stop: int) -> list[Run]:
        """Return what of it lies in a range, cut to it. The caller holds the lock."""
        first, last = self._places(start, stop)
        return [
            run.part(max(start, run.start), min(stop, run.stop)) for run in self._runs[first:last]
        ]

    def ranges(self) -> Pair:
        """Return where it has anything: offsets and lengths, int64, that rise."""
        with self.lock:
            table = np.array([run[:2] for run in self._runs], np.int64).reshape(-1, 2)
        return table[:, 0].copy(), table[:, 1] - table[:, 0]

    def _places(self, start: int, stop: int) -> tuple[int, int]:
        """Return which runs meet a range: from the first number up to the second."""
        return (
            bisect_right(self._runs, start, key=itemgetter(1)),
            bisect_left(self._runs, stop, key=itemgetter(0)),
        )


def gaps(start: int, stop: int, runs: list[Run]) -> Iterator[tuple[int, int]]:
    """Yield what of a range these runs, which lie in it, leave."""
    for run in runs:
        if start < run.start:
            yield start, run.start
        start = run.stop
    if start < stop:
        yield start, stop
