"""A state of an archive, read-only and at once: what is read of it is fetched then."""

from __future__ import annotations

from collections import defaultdict
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np

from jrnl.archive.latest import ZERO
from jrnl.archive.ledger import Ledger
from jrnl.archive.objects import from_url
from jrnl.archive.points import as_datetime, resolve
from jrnl.archive.reader import READS_AT_ONCE, Damaged, Reader
from jrnl.archive.shelf import Shelf
from jrnl.archive.table import TABLE_MOST
from jrnl.archive.way import Finder
from jrnl.closeable import ClosesItself
from jrnl.compare import united
from jrnl.errors import ArchiveError, CorruptionError, StoreClosed
from jrnl.sizes import parse_size
from jrnl.state import State

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator
    from datetime import datetime

    from jrnl.archive.manifest import Manifest
    from jrnl.archive.objects import Objects
    from jrnl.archive.shelf import Source
    from jrnl.archive.table import Table
    from jrnl.archive.way import Way
    from jrnl.compare import Pair
    from jrnl.points import Point
    from jrnl.sizes import Size

_AT_ONCE_BYTES = 4 << 20  # of a volume, read in one go
_GUESSED_BYTES = 1 << 20  # of a first read, fetched before it is known that nothing lies over it


class _Piece(NamedTuple):
    start: int  # in the buffer
    length: int
    skip: int  # in the part that is fetched


_Pieces = dict["Source", list[_Piece]]  # by the part that they lie in


class ArchiveState(State, ClosesItself):
    """One state of an archive; ``jrnl.archive.open(url, at)``.

    Nothing of a volume is read before it is asked for. What was is kept in a cache with a bound.
    It has what every state has: see `State`.

    Attributes
    ----------
    seq : int
        The state it shows.
    url : str
        Where the archive is, without credentials.
    """

    def __init__(
        self,
        reader: Reader,
        seq: int,
        cache_bytes: int,
        tables: dict[str, Future[Table]] | None = None,
    ) -> None:
        volumes = reader.manifest.store.volumes
        self._indices = {name: k for k, (name, _) in enumerate(volumes)}
        self._sizes: list[int] = [size for _, size in volumes]
        self._reader: Reader | None = reader
        self._shelf = Shelf(cache_bytes)
        self._finder = Finder(reader, seq, tables)
        self.seq = seq
        self.url: str = reader.objects.url
        self._newest = reader.manifest.seq

    def __repr__(self) -> str:
        return f"<jrnl.archive.ArchiveState at {self.seq} of {self.url!r}>"

    def __enter__(self) -> Self:
        self._open_reader()
        return self

    @property
    def newest(self) -> int:
        """The newest state that was archived when this one was opened."""
        return self._newest

    @property
    def time_ns(self) -> int:
        """When the state was made, in nanoseconds since 1970-01-01 UTC. Raises as `read`."""
        manifest = self._open_reader().manifest
        if self.seq == manifest.seq:
            return manifest.state_time_ns
        return self._finder.way.time_ns(self.seq)

    @property
    def time(self) -> datetime:
        """When the state was made. Raises as `read`."""
        return as_datetime(self.time_ns)

    @property
    def cached_bytes(self) -> int:
        """Bytes of memory that the cache holds now."""
        return self._shelf.bytes

    def close(self) -> None:
        """Give it up, and what `path` gave. Closing twice is fine."""
        reader, self._reader = self._reader, None
        self._shelf.clear()
        self._close_files()
        if reader is not None:
            reader.close()

    def _open_reader(self) -> Reader:
        if self._reader is None:
            raise StoreClosed("the ArchiveState is closed")
        return self._reader

    # What a kind of state gives.

    def _size(self, index: int) -> int:
        return self._sizes[index]

    def _held(self, index: int) -> Pair:
        self._open_reader()
        way = self._finder.way
        written = way.latest.volumes[index]
        kept = written.segments != ZERO
        starts = written.starts[kept]
        rows = way.table.find(index, 0, self._sizes[index])
        from_table = rows["offset"].astype(np.int64), rows["length"].astype(np.int64)
        return united(from_table, (starts, written.stops[kept] - starts))

    def _readinto(self, index: int, offset: int, buffer: memoryview) -> None:
        reader = self._open_reader()
        if not self._finder.is_found:
            self._guess(reader, index, offset, min(len(buffer), _GUESSED_BYTES))
        for start in range(0, len(buffer), _AT_ONCE_BYTES):
            part = buffer[start : start + _AT_ONCE_BYTES]
            way = self._finder.way
            while True:
                try:
                    self._fill(reader, way, index, offset + start, part)
                    break
                except Damaged as damage:
                    way = self._finder.around(way, damage)

    # How it is read.

    def _fill(self, reader: Reader, way: Way, index: int, offset: int, buffer: memoryview) -> None:
        pieces = _pieces(way, index, offset, len(buffer))
        buffer[:] = bytes(len(buffer))
        for source, part in self._parts(reader, way, pieces):
            for start, length, skip in pieces[source]:
                buffer[start : start + length] = part[skip : skip + length]

    def _parts(
        self, reader: Reader, way: Way, sources: Iterable[Source]
    ) -> Iterator[tuple[Source, bytes]]:
        """Yield parts of objects: those that are kept, then the others as they come."""
        missing = []
        for source in sources:
            part = self._shelf.get(source)
            if part is None:
                missing.append(source)
            else:
                yield source, part
        chunks = [number for key, number in missing if key == way.snapshot.key]
        segments = [number for key, number in missing if key != way.snapshot.key]
        for found in reader.ahead(reader.chunks(way.table, np.array(chunks, np.int64))):
            for number, content in found:
                yield self._kept((way.snapshot.key, number), content)
        for k in range(0, len(segments), READS_AT_ONCE):
            some = segments[k : k + READS_AT_ONCE]
            read = reader.together([partial(reader.data, way.segments[each]) for each in some])
            for each, data in zip(some, read, strict=True):
                written = way.latest.kept[each].of(data)
                yield self._kept((way.segments[each].key, each), written)

    def _kept(self, source: Source, part: bytes | memoryview) -> tuple[Source, bytes]:
        kept = bytes(part)  # alone, without what came with it
        self._shelf.put(source, kept)
        return source, kept

    def _guess(self, reader: Reader, index: int, offset: int, length: int) -> None:
        """Fetch what the snapshot has, while the rows of what may lie over it are on their way."""
        with suppress(Damaged):  # of which the read itself will tell
            key, table = self._finder.table()
            wanted = table.find(index, offset, length)["chunk"]
            for found in reader.together(reader.chunks(table, wanted)):
                for number, part in found:
                    self._kept((key, number), part)


def _pieces(way: Way, index: int, offset: int, length: int) -> _Pieces:
    """Return where the bytes of a range lie; what is in no piece is zero."""
    found: _Pieces = defaultdict(list)
    written, stop, at = way.latest.volumes[index], offset + length, offset

    def from_table(start: int, end: int) -> None:
        if start < end:
            rows = way.table.find(index, start, end - start)
            for _, begin, count, chunk, skip in rows.tolist():
                found[way.snapshot.key, chunk].append(_Piece(begin - offset, count, skip))

    for low, high, segment, place in zip(*(each[written.over(offset, stop)].tolist()
                                           for each in written), strict=True):  # fmt: skip
        start, end = max(low, offset), min(high, stop)
        from_table(at, start)
        if segment != ZERO:
            source = way.segments[segment].key, segment
            found[source].append(_Piece(start - offset, end - start, place + start - low))
        at = end
    from_table(at, stop)
    return found


def open_state(
    url: str | os.PathLike[str], at: Point | None = None, *, cache: Size = "256MiB", **options: Any
) -> ArchiveState:
    """Open one state of an archive; see `jrnl.archive.open`."""
    cache_bytes = parse_size(cache, "cache")
    return open_in(from_url(url, **options), at, cache_bytes)


def open_in(objects: Objects, at: Point | None, cache_bytes: int) -> ArchiveState:
    """Open one state of the archive that these objects are.

    The newest one takes two round trips, and the first read a third one: the manifests and tables
    are listed at once; the newest manifest and the newest table are read at once; and so are the
    rows of the segments that follow, and what the table has of what is read first.
    """
    pool = ThreadPoolExecutor(READS_AT_ONCE, thread_name_prefix="jrnl-archive")
    try:
        guess = pool.submit(_newest_table, objects) if at is None else None
        reader = Reader(objects, newest_manifest(objects), pool)
        seq = resolve(reader, at)
        tables = {} if guess is None else _guessed(reader, guess)
        state = ArchiveState(reader, seq, cache_bytes, tables)
        if at is None:
            state._finder.table()
        else:
            state._finder.way  # noqa: B018  # raises what is damaged
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    return state


def newest_manifest(objects: Objects) -> Manifest:
    """Return the newest manifest. Raises ArchiveError, CorruptionError, FormatError."""
    manifest = Ledger(objects).look()
    if manifest is None:
        raise ArchiveError(f"{objects.url}: there is no archive; store.archive(url) begins one")
    return manifest


def _newest_table(objects: Objects) -> tuple[str, bytes]:
    """Return the table that is listed last, which is likely to be the one that is needed."""
    key = max((listed.key for listed in objects.list("snap/")), default="")
    return key, objects.get(key, most=TABLE_MOST) if key else b""


def _guessed(reader: Reader, guess: Future[tuple[str, bytes]]) -> dict[str, Future[Table]]:
    facts = reader.manifest.snapshots[-1]

    def read() -> Table:
        with suppress(ArchiveError, CorruptionError):
            key, body = guess.result()
            if key == facts.key:
                return reader.parsed(body, facts)
        return reader.table(facts)

    return {facts.key: reader.begin(read)}
