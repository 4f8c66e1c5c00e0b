"""What pictures tell of a history: a store's, or that of a log that is read in place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from jrnl.errors import InvalidArgument, InvalidType, UnknownVolume
from jrnl.heat import Changes
from jrnl.logwrites import DISCARD, FLUSH, FUA, LogHistory
from jrnl.points import Point, Window
from jrnl.store import Store

if TYPE_CHECKING:
    from jrnl.volume import Volume

    Ints = NDArray[np.int64]

WRITE, DISCARDED, ZEROES, MARK, FLUSHED, REWIND = range(1, 7)
OTHER = 0  # an entry of a log that carries flags alone
_FILL_SAMPLES = 240


class Named(NamedTuple):
    """A mark or a snapshot.

    Attributes
    ----------
    name : str
    seq : int
        The state it names.
    time_ns : int or None
        When a snapshot was taken; None for a mark, which stands where its state began.
    """

    name: str
    seq: int
    time_ns: int | None


class Fill(NamedTuple):
    """How far the journal, or the log, is filled by the entries up to some seqs.

    Attributes
    ----------
    seqs, used : ndarray
        int64[n]; `used` in bytes.
    capacity : int or None
        Bytes of the journal; None for a log, which is as long as it is.
    """

    seqs: Ints
    used: Ints
    capacity: int | None


@dataclass(frozen=True)
class Told:
    """A history's entries after state `since`, up to state `until`, and the names in it.

    Attributes
    ----------
    name : str
        What it is called: where it lies.
    volumes : dict of str to int
        Bytes of each volume.
    window : Window
    since, until : int
    seq, kind, volume, offset, length : ndarray
        int64, one for each entry, in order. A REWIND's offset is the state that it stands for.
    time_ns : ndarray or None
        int64; None for a log, which has no times.
    flush : ndarray
        bool: what came before the entry is durable with it.
    marks, snapshots : list of Named
        By seq.
    fill : Fill
    """

    name: str
    volumes: dict[str, int]
    window: Window
    since: int
    until: int
    seq: Ints
    kind: Ints
    volume: Ints
    offset: Ints
    length: Ints
    time_ns: Ints | None
    flush: NDArray[np.bool_]
    marks: list[Named]
    snapshots: list[Named]
    fill: Fill

    def changes(self, at: Ints, *kinds: int, volume: int) -> Changes:
        """Return what entries of some kinds changed in a volume, by `at`, one for each entry."""
        wanted = np.isin(self.kind, kinds) & (self.volume == volume)
        columns = (at, self.kind, np.zeros_like(self.volume), self.offset, self.length)
        return Changes(*(column[wanted] for column in columns))

    def only(self, volume: str | Volume | None) -> dict[int, str]:
        """Return the volumes to show, by their index. Raises UnknownVolume."""
        names = dict(enumerate(self.volumes))
        if volume is None:
            return names
        name = getattr(volume, "name", volume)
        found = {index: known for index, known in names.items() if known == name}
        if not found:
            raise UnknownVolume(f"no volume is called {name!r}; there is {[*self.volumes]}")
        return found


def told_of(history: object, start: Point | None = None, stop: Point | None = None) -> Told:
    """Look at a history. Raises InvalidType where it is none."""
    if isinstance(history, Store):
        return _of_store(history, start, stop)
    if isinstance(history, LogHistory):
        return _of_log(history, start, stop)
    raise InvalidType(
        f"a history is a store or what logwrites.attach() gives, not {type(history).__name__}"
    )


def _of_store(store: Store, start: Point | None, stop: Point | None) -> Told:
    window = store.window
    entries = store.journal.between()
    since = int(entries["seq"][0]) - 1 if entries.size else window.oldest
    until = max(window.newest, int(entries["seq"][-1]) if entries.size else 0)
    since, until = _bounds(store, start, stop, since, until)
    seqs = entries["seq"].astype(np.int64)
    entries = entries[slice(*np.searchsorted(seqs, [since, until], "right"))]
    names = ("seq", "time_ns", "kind", "volume", "offset", "length")
    columns = {name: entries[name].astype(np.int64) for name in names}
    marks = [Named(str(name), mark.seq, None) for name, mark in store.marks.items()]
    snapshots = [Named(name, s.seq, s.time_ns) for name, s in store.snapshots.items()]
    return Told(
        name=store.options.path or "a store in memory",
        volumes=dict(store.options.volumes),
        window=window,
        since=since,
        until=until,
        flush=columns["kind"] == FLUSHED,
        marks=_between(marks, since, until),
        snapshots=_between(snapshots, -1, until),
        fill=_fill_of_store(store, columns["seq"]),
        **columns,
    )


def _of_log(log: LogHistory, start: Point | None, stop: Point | None) -> Told:
    since, until = _bounds(log, start, stop, 0, log.seq)
    entries: Any = log.entries[since:until]
    flags = entries["flags"]
    length = entries["length"].astype(np.int64)
    kind = np.where(flags & DISCARD != 0, DISCARDED, WRITE)
    seq = np.arange(since + 1, until + 1, dtype=np.int64)
    marks = [Named(name, at, None) for name, at in log.marks.items()]
    kept = _samples(seq.size)
    stored = np.where(kind == WRITE, length, 0)
    return Told(
        name=log.name,
        volumes={"data": log.size},
        window=log.window,
        since=since,
        until=until,
        seq=seq,
        kind=np.where(length > 0, kind, OTHER),
        volume=np.zeros(seq.size, np.int64),
        offset=entries["offset"].astype(np.int64),
        length=length,
        time_ns=None,
        flush=flags & (FLUSH | FUA) != 0,
        marks=_between(marks, since, until),
        snapshots=[],
        fill=Fill(seq[kept], (entries["data"].astype(np.int64) + stored)[kept], None),
    )


def _bounds(
    history: Store | LogHistory, start: Point | None, stop: Point | None, since: int, until: int
) -> tuple[int, int]:
    """Return the states that a picture begins and ends with, of those from `since` to `until`."""
    if start is None and stop is None:
        return since, until
    states = history.states(start, stop)
    if not states.size:
        raise InvalidArgument(
            f"there is no state from start={start!r} to stop={stop!r}; the window is "
            f"{history.window.oldest}..{history.window.newest}"
        )
    return (
        since if start is None else int(states[0]),
        until if stop is None else int(states[-1]),
    )


def _between(named: list[Named], since: int, until: int) -> list[Named]:
    return sorted((n for n in named if since <= n.seq <= until), key=lambda n: (n.seq, n.name))


def _samples(count: int) -> NDArray[np.intp]:
    """Return some entries of so many, the last one among them."""
    if not count:
        return np.empty(0, np.intp)
    return np.unique(np.linspace(0, count - 1, min(count, _FILL_SAMPLES)).astype(np.intp))


def _fill_of_store(store: Store, seqs: Ints) -> Fill:
    seqs = seqs[_samples(seqs.size)]
    used = store.journal.used_up_to(seqs.tolist())
    return Fill(seqs, used, store.journal.capacity)
