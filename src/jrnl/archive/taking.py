"""Segments taken from the log of an open store, beside those that write to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jrnl._core import durable_entries
from jrnl.archive.segment import DATA_MOST, ROWS_MOST, Segment
from jrnl.errors import EntryTooLarge, InvalidArgument, PointExpired, UnknownPoint, shown
from jrnl.sizes import as_int

if TYPE_CHECKING:
    from jrnl.store import Store

_TRIES = 8


def take(
    store: Store, after: int, upto: int | None = None, most_bytes: int = 4 << 20
) -> Segment | None:
    """Return the durable entries that follow a state, with what they wrote; None: there are none.

    Where a rewind has dropped state `after` meanwhile, they begin with its REWIND. Writers go on:
    the store's lock is taken for the copying of a quarter of a MiB at a time, or of one entry.

    Parameters
    ----------
    store : Store
        On disk.
    after : int
        The seq of the last entry that was taken; or of the state with which an archive begins.
    upto : int, optional
        Take no later entry. What is not durable is never taken.
    most_bytes : int
        As much as they may have written, where there is more than one.

    Raises
    ------
    InvalidArgument
        The store is in memory.
    PointExpired
        Entries after `after` have left the journal.
    UnknownPoint
        There is no state `after` yet.
    CorruptionError
        The first of them, which the message names, is damaged. Those before a damaged one are
        taken.
    EntryTooLarge
        An entry wrote more than a segment takes.
    OSError, StoreBusy, StoreClosed, InvalidType
    """
    after = as_int(after, "a state is given by its seq")
    most_bytes = min(as_int(most_bytes, "most_bytes is a number of bytes"), DATA_MOST)
    engine = store._engine
    engine.check_not_closed()
    if not engine.on_disk:
        raise InvalidArgument(
            "a store in memory has no durable entries to take: create it with a path, on disk"
        )
    newest = engine.seq
    if not 0 <= after <= newest:
        raise UnknownPoint(f"there is no state {shown(after)}; the newest is {newest}")
    last = newest if upto is None else min(as_int(upto, "an entry is given by its seq"), newest)
    for _ in range(_TRIES):  # a rewind may drop what is just being taken
        found = durable_entries(engine, after, last, ROWS_MOST, max(most_bytes, 0))
        if found is None:
            return None
        rows, data = found
        if data.size > DATA_MOST:
            raise EntryTooLarge(
                f"entry {int(rows[0]['seq'])} wrote {data.size} bytes, and a segment of an "
                f"archive takes {DATA_MOST}: write less at a time"
            )
        if rows.size:
            return Segment(after, rows, data.data)
    raise PointExpired(f"what follows state {after} is dropped as fast as it can be taken")
