"""BLOCK_STATUS: what a client can ask of the blocks of an export, by metadata contexts."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from jrnl.errors import JrnlError
from jrnl.nbd import protocol

if TYPE_CHECKING:
    from numpy.typing import NDArray

ALLOCATION = "base:allocation"
CHANGED = ("jrnl:changed:", "qemu:dirty-bitmap:")  # the second is what backup clients know


class Context:
    """One metadata context of an export: where its flag is set.

    Parameters
    ----------
    find : callable
        Gives the extents (`offset` and `length`, sorted and apart) where the inner flags hold.
    stamp : callable
        Gives another value once these may have changed.
    inner, outer : int
        The flags within these extents, and outside of them.
    """

    def __init__(
        self,
        find: Callable[[], NDArray[np.void]],
        stamp: Callable[[], object],
        inner: int,
        outer: int,
    ) -> None:
        self._find, self._stamp = find, stamp
        self._inner, self._outer = inner, outer
        self._lock = threading.Lock()
        self._known: tuple[object, NDArray[np.int64]] | None = None

    def status(self, offset: int, length: int, most: int) -> bytes:
        """Return pairs of length and flags for a range, `most` at most, packed for the wire."""
        edges = self._edges()
        at, stop = offset, offset + length
        parts: list[bytes] = []
        place = int(np.searchsorted(edges, at, "right"))
        while at < stop and len(parts) < most:
            end = min(stop, int(edges[place])) if place < edges.size else stop
            parts.append(protocol.EXTENT.pack(end - at, self._inner if place % 2 else self._outer))
            at, place = end, place + 1
        return b"".join(parts)

    def _edges(self) -> NDArray[np.int64]:
        """Return starts and ends in turn: what lies behind an odd number of them is inside."""
        with self._lock:
            stamp = self._stamp()
            if self._known is None or self._known[0] != stamp:
                found = self._find()
                starts = found["offset"].astype(np.int64)
                edges = np.column_stack([starts, starts + found["length"].astype(np.int64)])
                self._known = stamp, edges.ravel()
            return self._known[1]


def matching(queries: list[str], known: Callable[[], list[str]]) -> list[str]:
    """Return the contexts that a client's queries name, by themselves or by how they begin.

    Of a point that is named by itself nobody has looked up whether it is there.
    """
    if not queries:
        return known()
    names = []
    for query in queries:
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
