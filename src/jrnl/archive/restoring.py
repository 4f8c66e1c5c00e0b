"""A store made again from an archive: on disk, whole or not at all, with its window."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor, wait
from functools import partial
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from jrnl._core import FORMAT
from jrnl.archive.latest import live
from jrnl.archive.objects import from_url
from jrnl.archive.points import resolve
from jrnl.archive.reader import READS_AT_ONCE, Damaged, Reader, results
from jrnl.archive.replaying import Replayer
from jrnl.archive.state import newest_manifest
from jrnl.archive.table import hash_of
from jrnl.archive.way import Finder, without
from jrnl.errors import PointExpired
from jrnl.points import Mark
from jrnl.sizes import as_flag, check_callable, parse_size

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator

    from jrnl.archive.manifest import Manifest, SegmentFacts, SnapshotFacts
    from jrnl.archive.reader import Call, Chunks
    from jrnl.archive.table import Table
    from jrnl.points import Point
    from jrnl.state import State
    from jrnl.store import Store

    Progress = Callable[[int, int], object]
    Fill = Callable[[int, int, memoryview], object]

_WRITE = FORMAT["kinds"]["WRITE"]
_HEADER_BYTES = 64
_GROWN_MOST = 4  # times the original's journal
_SYNCED_BYTES = 32 << 20


def restore(
    url: str | os.PathLike[str],
    path: str | os.PathLike[str] | None,
    at: Point | None = None,
    *,
    window: bool = True,
    progress: Progress | None = None,
    settings: dict[str, Any] | None = None,
    **options: Any,
) -> Store:
    """Make a store again; see `jrnl.archive.restore`."""
    check_callable(progress, "progress")
    window = as_flag(window, "window")
    objects = from_url(url, **options)
    with ThreadPoolExecutor(READS_AT_ONCE, thread_name_prefix="jrnl-archive") as pool:
        reader = Reader(objects, newest_manifest(objects), pool)
        seq = resolve(reader, at)
        return Restoring(reader, seq, window=window, progress=progress).make(path, settings or {})


class Restoring:
    """Makes one state of an archive a store again, and what leads to it.

    Parameters
    ----------
    reader : Reader
    seq : int
    window : bool
        Begin as far back as the journal holds; else at the newest snapshot before `seq`.
    progress : callable, optional
        ``progress(done, total)``, in bytes of objects.
    damage : dict of str to Damaged, optional
        What is known to be damaged, by the key of the segment or snapshot that needs it.
    """

    def __init__(
        self,
        reader: Reader,
        seq: int,
        *,
        window: bool = True,
        progress: Progress | None = None,
        damage: dict[str, Damaged] | None = None,
    ) -> None:
        self.reader, self.seq, self.window = reader, seq, window
        self._damage = damage or {}
        self._progress, self._done, self._total = progress, 0, 0

    def make(
        self,
        path: str | os.PathLike[str] | None,
        settings: dict[str, Any],
        near: State | None = None,
    ) -> Store:
        """Make the store; what is damaged is gone around where there is another way.

        Parameters
        ----------
        path : str or path, optional
            In memory by default.
        settings : dict
            As for `jrnl.create`; what is not in it is as the original has it.
        near : State, optional
            Has the same volumes, and much of what is needed: that is read there.
        """
        origin = self.reader.manifest.store
        options = {
            "journal": origin.journal, "images": origin.images, "overflow": origin.overflow,
            **({} if path is None else {"sync": origin.sync}), **settings,
        }  # fmt: skip
        journal = parse_size(options["journal"])
        while True:
            snapshot, segments, table = self._choose(parse_size(options["journal"]))
            try:
                return self._make(path, options, (snapshot, segments, table), near)
            except Damaged as found:
                of_segment = any(each.key == found.key for each in segments)
                self._damage[found.key if of_segment else snapshot.key] = found
            except PointExpired:  # a rewind to a state that this journal does not hold any more
                larger = 2 * parse_size(options["journal"])
                if "journal" in settings or larger > _GROWN_MOST * journal:
                    raise
                options["journal"] = larger

    def _choose(self, journal: int) -> tuple[SnapshotFacts, list[SegmentFacts], Table]:
        """Return the snapshot to begin with, the segments that follow, and its table."""
        finder = Finder(self.reader, self.seq, damage=self._damage)
        way = finder.way
        snapshot, segments, table = way.snapshot, way.segments, way.table
        if self.window:
            found = self._earliest({*finder.damage}, snapshot, journal)
            if found is not None:
                snapshot, segments = found
                table = self.reader.table(snapshot)
        return snapshot, segments, table

    def _earliest(
        self, damaged: set[str], newest: SnapshotFacts, journal: int
    ) -> tuple[SnapshotFacts, list[SegmentFacts]] | None:
        """Return the newest snapshot from which more leads to the state than the journal holds.

        Where there is none, the oldest from which the state can be reached at all.
        """
        found = None
        snapshots = self.reader.manifest.snapshots
        earlier = [each for each in snapshots if each.seq <= newest.seq and each.key not in damaged]
        for snapshot in reversed(earlier):
            self.reader.reach(self.seq, since=snapshot.seq)
            way = without(self.reader.manifest, damaged).way_from(snapshot, self.seq)
            if way is None:
                continue
            found = snapshot, way
            if self._taken_by(way) >= journal:
                break
        return found

    def _taken_by(self, segments: list[SegmentFacts]) -> int:
        """Return how many bytes of a journal the entries take that no rewind drops, at least."""
        heads = self.reader.heads(segments)
        if not heads:
            return 0
        rows = np.concatenate([head.rows for head in heads])
        rows = rows[rows["seq"] <= self.seq]
        rows = rows[live(rows)]
        written = rows[rows["kind"] == _WRITE]["length"]
        return int(written.sum()) + _HEADER_BYTES * rows.size

    def _make(
        self,
        path: str | os.PathLike[str] | None,
        options: dict[str, Any],
        chosen: tuple[SnapshotFacts, list[SegmentFacts], Table],
        near: State | None,
    ) -> Store:
        manifest, (snapshot, segments, table) = self.reader.manifest, chosen
        self._done = 0
        self._total = table.packed_bytes + sum(each.bytes for each in segments)
        replayer = Replayer(
            path,
            seq=snapshot.seq,
            time_ns=snapshot.time_ns,
            volumes=dict(manifest.store.volumes),
            created_ns=min(manifest.store.created_ns, snapshot.time_ns),
            marks=marks_of(manifest, snapshot.seq),
            **options,
        )
        with replayer:
            with Beside(self.reader, replayer) as beside:
                for done in fill(self.reader, table, replayer.fill, near):
                    beside.filled(done)
                    self._tell(done)
            read = self.reader.ahead(partial(self.reader.segment, each) for each in segments)
            for facts, segment in zip(segments, read, strict=True):
                replayer.apply(segment, self.seq, facts.key)
                self._tell(facts.bytes)
            self._done = self._total
            self._tell(0)
            return replayer.finish()

    def _tell(self, done: int) -> None:
        self._done += done
        if self._progress is not None:
            self._progress(min(self._done, self._total), self._total)


class Beside:
    """What a store takes beside its volumes' bytes, made while these come: the rest is short.

    A context manager: at its end all of it has been done.
    """

    def __init__(self, reader: Reader, replayer: Replayer) -> None:
        self._reader, self._replayer = reader, replayer
        self._going = [reader.begin(replayer.prepare)]
        self._bytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            results(self._going)
        else:
            wait(self._going)

    def filled(self, some: int) -> None:
        """Have what was filled in be written now and then, `some` bytes of it being new."""
        self._bytes += some
        if self._bytes >= _SYNCED_BYTES and self._going[-1].done():
            self._bytes = 0
            self._going.append(self._reader.begin(self._replayer.sync))


def fill(reader: Reader, table: Table, put: Fill, near: State | None = None) -> Iterator[int]:
    """Put all that a snapshot has where it belongs; yield how many bytes of chunks are done."""
    rows = table.rows[np.argsort(table.rows["chunk"], kind="stable")]
    if near is not None:
        missing = np.ones(rows.size, np.bool_)
        for k, row in enumerate(rows.tolist()):
            same = _from_near(near, table, row)
            if same is not None:
                put(row[0], row[1], same)
                missing[k] = False
        rows = rows[missing]
    numbers = rows["chunk"].astype(np.int64)

    def place(read: Call[Chunks]) -> int:
        found = read()
        wanted = np.array([number for number, _ in found], np.int64)
        ends = np.searchsorted(numbers, (wanted, wanted + 1)).tolist()
        for (_, content), first, end in zip(found, *ends, strict=True):
            part = memoryview(content)
            for volume, offset, length, _, skip in rows[first:end].tolist():
                put(volume, offset, part[skip : skip + length])
        return int(table.chunks["stored"][wanted].sum())

    # Threads write what they have read: unpacking and writing take longer than the way to here.
    yield from reader.ahead(partial(place, read) for read in reader.chunks(table, numbers))


def _from_near(near: State, table: Table, row: tuple[int, ...]) -> memoryview | None:
    """Return what a whole chunk holds, where another state has the same in the same place."""
    volume, offset, length, number, _ = row
    chunk = table.chunks[number]
    if length != int(chunk["length"]):
        return None
    content = near._read(volume, offset, length)
    return memoryview(content) if hash_of(content) == chunk["hash"].tobytes() else None


def marks_of(manifest: Manifest, seq: int) -> list[Mark]:
    """Return the marks of one state."""
    return [
        Mark._of(name, row[0], row[1], *row[3:])
        for name, row in manifest.marks.items()
        if row[0] == seq
    ]
