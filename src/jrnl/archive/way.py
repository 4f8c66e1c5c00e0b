"""The way to a state of an archive: a snapshot's table, and what segments wrote over it."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import replace
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from jrnl.archive.latest import Latest, latest
from jrnl.archive.reader import Damaged, results
from jrnl.errors import PointExpired

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jrnl.archive.manifest import Manifest, SegmentFacts, SnapshotFacts
    from jrnl.archive.reader import Reader
    from jrnl.archive.segment import Index
    from jrnl.archive.table import Table


class Way(NamedTuple):
    """A snapshot, the segments that lead on from it, and what these wrote last.

    Attributes
    ----------
    snapshot : SnapshotFacts
    table : Table
    segments : list of SegmentFacts
    heads : list of Index
    latest : Latest
    """

    snapshot: SnapshotFacts
    table: Table
    segments: list[SegmentFacts]
    heads: list[Index]
    latest: Latest

    def time_ns(self, seq: int) -> int:
        """Return when a state was made: the last one of this way, or the snapshot's."""
        for head in reversed(self.heads):
            k = int(np.searchsorted(head.rows["seq"], np.uint64(seq), "right"))
            if k:
                return int(head.rows["time_ns"][k - 1])
        return self.snapshot.time_ns


class Finder:
    """Looks for the way to one state, around what turns out to be damaged.

    The objects are asked for at once; who needs them waits for them.

    Parameters
    ----------
    reader : Reader
    seq : int
    tables : mapping of str to Future, optional
        Tables that are being read already, by key.
    damage : mapping of str to Damaged, optional
        What is known to be damaged, by the key of the segment or snapshot that needs it.
    """

    def __init__(
        self,
        reader: Reader,
        seq: int,
        tables: Mapping[str, Future[Table]] | None = None,
        damage: Mapping[str, Damaged] | None = None,
    ) -> None:
        self._reader, self.seq = reader, seq
        self._tables = dict(tables or {})
        self.damage: dict[str, Damaged] = dict(damage or {})
        self._lock = Lock()
        self._found: Way | None = None
        self._begin()

    @property
    def way(self) -> Way:
        """The way. Raises Damaged, FormatError, ArchiveError."""
        with self._lock:
            while self._found is None:
                try:
                    self._found = self._collect()
                except Damaged as damage:
                    self._avoid(damage.key, damage)
            return self._found

    @property
    def is_found(self) -> bool:
        """Whether `way` has not to wait."""
        return self._found is not None

    def table(self) -> tuple[str, Table]:
        """Return the table and its key, without waiting for the rows of segments."""
        snapshot, table = self._snapshot, self._table
        try:
            return snapshot.key, table.result()
        except Damaged:
            return self.way.snapshot.key, self.way.table

    def around(self, way: Way, damage: Damaged) -> Way:
        """Return another way than one on which something is damaged. Raises as `way`, the damage.

        What a snapshot names is damaged with it, for this state.
        """
        segments = {each.key for each in way.segments}
        with self._lock:
            if self._found is way:
                self._found = None
                key = damage.key if damage.key in segments else way.snapshot.key
                self._avoid(key, damage)
        return self.way

    def _begin(self) -> None:
        found = shortest(self._reader, self.seq, {*self.damage})
        if found is None:
            raise self._lost()
        self._snapshot, self._segments = found
        key = self._snapshot.key
        if key not in self._tables:
            snapshot = self._snapshot
            self._tables[key] = self._reader.begin(lambda: self._reader.table(snapshot))
        self._table = self._tables[key]
        self._heads = self._reader.begin_heads(self._segments)

    def _collect(self) -> Way:
        table, heads = self._table.result(), results(self._heads)
        if self.seq > self._snapshot.seq:
            _check_there(heads, self.seq)
        rows = [head.rows for head in heads]
        count = len(self._reader.manifest.store.volumes)
        return Way(self._snapshot, table, self._segments, heads, latest(rows, self.seq, count))

    def _avoid(self, key: str, damage: Damaged) -> None:
        self.damage[key] = damage
        self._begin()

    def _lost(self) -> Damaged | PointExpired:
        """Say what is damaged, and what is there all the same."""
        if not self.damage:
            return PointExpired(f"state {self.seq} is not in the archive")
        damage = next(iter(self.damage.values()))
        manifest = self._reader.manifest
        first, last = needing(manifest, [*self.damage], self.seq)
        later = [each.seq for each in manifest.snapshots if each.seq > last]
        there = f"; there are those from {later[0]} on" if later else ""
        return Damaged(
            damage.key,
            f"{damage}: the states {first} to {last} cannot be read without it{there}",
        )


def shortest(
    reader: Reader, seq: int, avoided: set[str] | None = None
) -> tuple[SnapshotFacts, list[SegmentFacts]] | None:
    """Return the newest snapshot from which a state can be reached, and the segments on the way.

    Parameters
    ----------
    reader : Reader
    seq : int
    avoided : set of str, optional
        Segments and snapshots that are not to be on it.
    """
    avoided = avoided or set()
    reader.reach(seq)
    found = without(reader.manifest, avoided).way_to(seq)
    if found is None:
        reader.reach(seq, since=0)
        found = without(reader.manifest, avoided).way_to(seq)
    return found


def without(manifest: Manifest, keys: set[str]) -> Manifest:
    """Return a manifest that does not name these objects."""
    if not keys:
        return manifest
    return replace(
        manifest,
        snapshots=[each for each in manifest.snapshots if each.key not in keys],
        segments=[each for each in manifest.segments if each.key not in keys],
    )


def needing(manifest: Manifest, keys: list[str], seq: int) -> tuple[int, int]:
    """Return the first and the last state that cannot be had, as `seq` cannot, without objects."""
    left = without(manifest, {*keys})
    beyond = min((each.seq for each in left.snapshots if each.seq > seq), default=manifest.seq + 1)
    named = [each for each in manifest.segments if each.key in keys and each.first <= seq]
    first = max((each.first for each in named), default=-1)
    lost = [each.seq for each in manifest.snapshots if each.key in keys and each.seq <= seq]
    return max(first, *lost, 0), beyond - 1


def _check_there(heads: list[Index], seq: int) -> None:
    """Raise PointExpired where no entry has a seq: it was dropped before it was taken."""
    for head in heads:
        rows = head.rows["seq"]
        k = int(np.searchsorted(rows, np.uint64(seq)))
        if k < rows.size and int(rows[k]) == seq:
            return
    raise PointExpired(f"state {seq} is not in the archive: a rewind dropped it before it was")
