"""Where the entries of a journal lie in a log that is made of them: told from headers alone."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from jrnl.logwrites.read import DISCARD, FLUSH, FUA, HEADER, MARK

_WRITE, _DISCARD, _ZEROES, _MARK, _FLUSH = range(1, 6)
ENTRY_MAX_BYTES: Final = 32 << 20  # replayers take an entry into memory, whole


class Slot(NamedTuple):
    """What becomes of one entry of the journal.

    Attributes
    ----------
    seq : int
    offset, length : int
        The bytes of the volume that it changed; length 0: none.
    start, stop : int
        The whole sectors around them, in bytes.
    flags : int
        Those of its entries in the log.
    entries : int
        How many entries of the log it becomes.
    position, end : int
        The byte of the log where they begin, and the one after them.
    """

    seq: int
    offset: int
    length: int
    start: int
    stop: int
    flags: int
    entries: int
    position: int
    end: int


_SLOT: Final = np.dtype([(name, "<i8") for name in Slot._fields])


def lay_out(
    rows: NDArray[Any],
    volume: int,
    size: int,
    sector: int,
    position: int,
    later: NDArray[np.int64],
    *,
    durable: bool,
) -> NDArray[Any]:
    """Return a slot for each entry of the journal, of which those of one volume go into a log.

    Parameters
    ----------
    rows : ndarray
        As ``store.journal.entries``.
    volume, size : int
        The volume's index, and its bytes.
    sector : int
        Bytes.
    position : int
        The byte of the log where the first one is to lie.
    later : ndarray
        int64, one an entry: how many marks that come later name the state after it, and stand
        behind it in the log.
    durable : bool
        Whether each write was durable once it was done.

    Returns
    -------
    ndarray
        Structured, of int64: the fields of `Slot`.
    """
    kinds = rows["kind"]
    changes = (kinds <= _ZEROES) & (rows["volume"] == volume) & (rows["length"] > 0)
    slots = np.zeros(rows.size, _SLOT)
    slots["seq"] = rows["seq"]
    slots["offset"] = np.where(changes, rows["offset"], 0)
    slots["length"] = np.where(changes, rows["length"], 0)
    stops = slots["offset"] + slots["length"]
    slots["start"] = slots["offset"] // sector * sector
    slots["stop"] = -(-stops // sector) * sector
    whole = (slots["start"] == slots["offset"]) & ((slots["stop"] == stops) | (stops == size))
    discards = changes & (kinds == _DISCARD) & whole  # a part of a sector cannot be discarded
    slots["flags"] = np.select(
        [discards, kinds == _MARK, kinds == _FLUSH], [DISCARD, MARK, FLUSH], 0
    ) + np.where(changes & durable, FUA, 0)
    alone = (kinds == _MARK) | (kinds == _FLUSH)
    sizes = slots["stop"] - slots["start"]
    slots["entries"] = np.where(changes, -(-sizes // ENTRY_MAX_BYTES), alone)
    own = slots["entries"] * sector + np.where(discards, 0, sizes)
    taken = own + later * sector
    slots["position"] = position + np.cumsum(taken) - taken
    slots["end"] = slots["position"] + own
    return slots


def header(start: int, stop: int, flags: int, sector: int, text: bytes = b"") -> bytes:
    """Return the header sector of an entry for bytes start..stop - 1."""
    head = HEADER.pack(start // sector, (stop - start) // sector, flags, len(text))
    return (head + text).ljust(sector, b"\0")
