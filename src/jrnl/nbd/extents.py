"""BLOCK_STATUS: what a client can ask of the blocks of an export, by metadata contexts."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from jrnl.compare import united
from jrnl.errors import JrnlError
from jrnl.nbd import protocol

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Edges = NDArray[np.int64]

ALLOCATION = "base:allocation"
CHANGED = ("jrnl:changed:", "qemu:dirty-bitmap:")  # the second is what backup clients know
_ADDED_MAX = 8192  # ranges that wait to be added


class Extents:
    """Extents of a volume that are found once, and from then on only added to.

    What is added need not hold anything but zeroes: nothing is ever called zero that is not.

    Parameters
    ----------
    find : callable
        Gives the extents (`offset` and `length`, sorted and apart).
    """

    def __init__(self, find: Callable[[], NDArray[np.void]]) -> None:
        self._find = find
        self._lock = threading.Lock()
        self._known: Edges | None = None
        self._added: deque[tuple[int, int]] = deque()

    def edges(self) -> Edges:
        """Return starts and ends in turn: what lies behind an odd number of them is inside."""
        with self._lock:
            known = self._follow(self._known)
            if self._added:
                added = [self._added.popleft() for _ in range(len(self._added))]
                known = _joined(known, np.array(added, np.int64))
            self._known = known
            return known

    def add(self, offset: int, length: int) -> None:
        """Add a range; before it is written to, so that nobody is told too little."""
        self._added.append((offset, length))
        if len(self._added) >= _ADDED_MAX:
            self.edges()

    def inside(self, offset: int, length: int) -> Iterator[tuple[int, int]]:
        """Yield what of a range lies in the extents, as starts and ends."""
        edges, stop = self.edges(), offset + length
        first = int(np.searchsorted(edges, offset, "right")) // 2 * 2
        for start, end in edges[first:].reshape(-1, 2):
            if start >= stop:
                return
            yield max(offset, int(start)), min(stop, int(end))

    def _follow(self, known: Edges | None) -> Edges:
        return _edges_of(self._find()) if known is None else known


class ProductionExtents(Extents):
    """Extents of production: what the journal's headers say was written since is added.

    Parameters
    ----------
    written : callable
        Gives what was written between two seqs. Raises JrnlError where that cannot be told.
    seq : callable
        Gives the newest.
    turn : callable
        Gives another number once production was put back, so that the seqs tell nothing.
    """

    def __init__(
        self,
        find: Callable[[], NDArray[np.void]],
        written: Callable[[int, int], NDArray[np.void]],
        seq: Callable[[], int],
        turn: Callable[[], int],
    ) -> None:
        super().__init__(find)
        self._written, self._seq, self._turn = written, seq, turn
        self._at = 0, 0  # turn and seq, of what is known

    def _follow(self, known: Edges | None) -> Edges:
        now = self._turn(), self._seq()
        if known is not None and now != self._at:
            known = self._brought_on(known, now)
        if known is None:
            known = super()._follow(None)
        self._at = now
        return known

    def _brought_on(self, known: Edges, now: tuple[int, int]) -> Edges | None:
        """Add what was written since; None where that cannot be told."""
        turn, before = self._at
        if now[0] != turn:
            return None
        try:
            news = self._written(before, now[1])
        except JrnlError:
            return None
        if self._turn() != turn:
            return None
        return _joined(known, np.column_stack(_columns(news))) if news.size else known


class Context:
    """One metadata context of an export: where its flag is set.

    Parameters
    ----------
    extents : Extents
        Where the inner flags hold.
    inner, outer : int
        The flags within these extents, and outside of them.
    """

    def __init__(self, extents: Extents, inner: int, outer: int) -> None:
        self._extents, self._inner, self._outer = extents, inner, outer

    def status(self, offset: int, length: int, most: int) -> bytes:
        """Return pairs of length and flags for a range, `most` at most, packed for the wire."""
        edges = self._extents.edges()
        at, stop = offset, offset + length
        parts: list[bytes] = []
        place = int(np.searchsorted(edges, at, "right"))
        while at < stop and len(parts) < most:
            end = min(stop, int(edges[place])) if place < edges.size else stop
            parts.append(protocol.EXTENT.pack(end - at, self._inner if place % 2 else self._outer))
            at, place = end, place + 1
        return b"".join(parts)


def _columns(found: NDArray[np.void]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    return found["offset"].astype(np.int64), found["length"].astype(np.int64)


def _edges_of(found: NDArray[np.void]) -> Edges:
    offsets, lengths = _columns(found)
    return np.column_stack([offsets, offsets + lengths]).ravel()


def _joined(edges: Edges, ranges: NDArray[np.int64]) -> Edges:
    """Return edges with some ranges (offsets and lengths, one a row) added."""
    starts, ends = edges[::2], edges[1::2]
    offsets, lengths = united((starts, ends - starts), (ranges[:, 0], ranges[:, 1]))
    return np.column_stack([offsets, offsets + lengths]).ravel()


def matching(queries: list[str], known: Callable[[], list[str]]) -> list[str]:
    """Return the contexts that a client's queries name, by themselves or by how they begin.

    Of a point that is named by itself nobody has looked up whether it is there.
    """
    if not queries:
        return known()
    names = []
    for query in dict.fromkeys(queries):
        if query == ALLOCATION or (query.startswith(CHANGED) and not query.endswith(":")):
            names.append(query)
        elif query.endswith(":"):
            names += [name for name in known() if name.startswith(query)]
    return list(dict.fromkeys(names))


def there(make: Callable[[str], Context | None], names: list[str]) -> dict[str, Context]:
    """Make the contexts that there are: a point that is not known has none."""
    made = {}
    for name in names:
        try:
            context = make(name)
        except JrnlError:
            continue
        if context is not None:
            made[name] = context
    return made
