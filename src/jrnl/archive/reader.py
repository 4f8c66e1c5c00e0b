"""Reading an archive: many objects side by side, each held against what the manifest says."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import islice, pairwise
from threading import Lock
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from jrnl.archive import sealed
from jrnl.archive.lists import listed
from jrnl.archive.manifest import sum_of
from jrnl.archive.objects import ObjectMissing
from jrnl.archive.segment import DATA_MOST, HEAD_MOST, Index, Segment, check_volumes
from jrnl.archive.table import CHUNK, PIECE_BYTES, ROW, TABLE_MOST, Table
from jrnl.errors import CorruptionError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

    from numpy.typing import NDArray

    from jrnl.archive.manifest import Manifest, SegmentFacts, SnapshotFacts
    from jrnl.archive.objects import Objects

    Call = Callable[[], "_T"]

_T = TypeVar("_T")

Chunks = list[tuple[int, bytes | memoryview]]  # by their indices in a table; see Table.read

READS_AT_ONCE = 16
_PARTS = 8  # rows of 64 KiB of a volume, at most
_ROW_MOST = ROW.itemsize + CHUNK.itemsize + 64  # a row with a chunk and a pack of its own
_CHUNKS_AT_ONCE = 128  # in one answer: at most 8 MiB of them
_MOST_OF_A_PACK = 0.75  # from which on it is read whole
_AHEAD = 8  # objects that are read before they are needed
_FRAMES = 1 << 16  # bytes that frames may take beside what is in them


class Damaged(CorruptionError):
    """An object that is missing, or not what it was.

    Attributes
    ----------
    key : str
    is_missing : bool
    """

    def __init__(self, key: str, message: str, *, is_missing: bool = False) -> None:
        super().__init__(message)
        self.key, self.is_missing = key, is_missing


class Reader:
    """What one manifest of an archive names, read by several threads.

    Parameters
    ----------
    objects : Objects
    manifest : Manifest
    pool : ThreadPoolExecutor
        Its threads; `close` ends them.
    """

    def __init__(self, objects: Objects, manifest: Manifest, pool: ThreadPoolExecutor) -> None:
        self.objects, self.manifest = objects, manifest
        self._whole = manifest
        self._lists: dict[str, list[SegmentFacts]] = {}
        self._pool = pool
        self._sizes = [size for _, size in manifest.store.volumes]
        rows = _PARTS * sum(-(-size // PIECE_BYTES) for size in self._sizes)
        self._table_most = min(TABLE_MOST, _FRAMES + rows * _ROW_MOST)
        self._heads: dict[str, Future[Index]] = {}
        self._lock = Lock()

    def close(self) -> None:
        """End the threads; what is under way comes to nothing."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def begin(self, call: Call[_T]) -> Future[_T]:
        """Have a thread make a call."""
        return self._pool.submit(call)

    def together(self, calls: Iterable[Call[_T]]) -> list[_T]:
        """Make calls side by side; return what they did. The first to fail raises."""
        return results([self._pool.submit(call) for call in calls])

    def ahead(self, calls: Iterable[Call[_T]]) -> Iterator[_T]:
        """Yield what calls do, in order; some are made before they are asked for.

        None is under way any more once this has ended, or failed.
        """
        left, coming = iter(calls), deque[Future[_T]]()
        try:
            while True:
                some = islice(left, _AHEAD - len(coming))
                coming.extend(self._pool.submit(call) for call in some)
                if not coming:
                    return
                yield coming.popleft().result()
        finally:
            for each in coming:
                each.cancel()
            wait(coming)

    # Which segments there are.

    def reach(self, seq: int, since: int | None = None) -> None:
        """Have `manifest` name all segments that lead to a state, or may have dropped it.

        Parameters
        ----------
        seq : int
        since : int, optional
            The state that they lead on from; by default that of the newest snapshot before.

        Raises
        ------
        Damaged, FormatError, ArchiveError
        """
        if since is None:
            since = max((s.seq for s in self._whole.snapshots if s.seq <= seq), default=0)
        self._expand(
            each
            for each in self._whole.lists
            if (each.last > since and each.base < seq) or 0 <= each.low < seq < each.last
        )

    def reach_time(self, time_ns: int) -> None:
        """Have `manifest` name the segments of a time. Raises as `reach`."""
        later = (each for each in self._whole.lists if each.time_ns > time_ns)
        self._expand(islice(later, 1))

    def _expand(self, lists: Iterable[SegmentFacts]) -> None:
        missing = [each for each in lists if each.key not in self._lists]
        if not missing:
            return
        found = self.together(partial(self.segments_of, each) for each in missing)
        with self._lock:
            self._lists.update(zip((each.key for each in missing), found, strict=True))
            older = [s for each in self._whole.lists for s in self._lists.get(each.key, ())]
            left = [each for each in self._whole.lists if each.key not in self._lists]
            self.manifest = replace(
                self._whole, segments=[*older, *self._whole.segments], lists=left
            )

    def segments_of(self, facts: SegmentFacts) -> list[SegmentFacts]:
        """Return the segments of a list. Raises Damaged, FormatError, ArchiveError."""

        def read() -> list[SegmentFacts]:
            found = listed(self.objects, facts)
            ends = [facts.base, *(each.last for each in found)]
            begins = [each.base for each in found]
            if any(begin < end for begin, end in zip(begins, ends, strict=False)) or (
                ends[-1] != facts.last
            ):
                raise CorruptionError("its segments are not those that the manifest says")
            return found

        return naming(facts.key, read)

    # Segments.

    def begin_heads(self, segments: Iterable[SegmentFacts]) -> list[Future[Index]]:
        """Have the rows of segments read; those that were are not read again."""
        with self._lock:
            for each in segments:
                if each.key not in self._heads:
                    self._heads[each.key] = self._pool.submit(self._head, each)
            return [self._heads[each.key] for each in segments]

    def heads(self, segments: Iterable[SegmentFacts]) -> list[Index]:
        """Return the rows of segments. Raises Damaged, FormatError, ArchiveError."""
        return results(self.begin_heads([*segments]))

    def _head(self, facts: SegmentFacts) -> Index:
        def read() -> Index:
            most = min(facts.head_bytes, HEAD_MOST + _FRAMES)
            index = Index.parse(self.objects.get_range(facts.key, 0, most), facts.key)
            self._check(facts, index)
            return index

        return naming(facts.key, read)

    def segment(self, facts: SegmentFacts) -> Segment:
        """Return a whole segment. Raises Damaged, FormatError, ArchiveError."""

        def read() -> Segment:
            body = self.objects.get(facts.key, most=HEAD_MOST + DATA_MOST + _FRAMES)
            if sum_of(body) != facts.sum:
                raise CorruptionError("it does not match the sum that the manifest says")
            index = Index.parse(body, facts.key)
            self._check(facts, index)
            return index.with_data(memoryview(body)[index.frame_bytes :], facts.key)

        return naming(facts.key, read)

    def data(self, facts: SegmentFacts) -> memoryview:
        """Return what the entries of a segment wrote. Raises Damaged, FormatError, ArchiveError."""

        def read() -> memoryview:
            [index] = self.heads([facts])
            length = min(facts.bytes - index.frame_bytes, DATA_MOST + _FRAMES)
            frame = self.objects.get_range(facts.key, index.frame_bytes, max(length, 0))
            return index.with_data(frame, facts.key).data

        return naming(facts.key, read)

    def _check(self, facts: SegmentFacts, index: Index) -> None:
        """Raise CorruptionError where a segment is not the one that the manifest names."""
        found = (index.base, int(index.rows[0]["seq"]), int(index.rows[-1]["seq"]))
        if found != (facts.base, facts.first, facts.last):
            raise CorruptionError(
                f"it has the entries {found[1]} to {found[2]} after state {found[0]}; the manifest "
                f"says {facts.first} to {facts.last} after {facts.base}"
            )
        check_volumes(index.rows, self._sizes, facts.key)

    # Snapshots.

    def table(self, facts: SnapshotFacts) -> Table:
        """Return the table of a snapshot. Raises Damaged, FormatError, ArchiveError."""
        return naming(
            facts.key, lambda: self.parsed(self.objects.get(facts.key, most=TABLE_MOST), facts)
        )

    def parsed(self, body: bytes, facts: SnapshotFacts) -> Table:
        """Return what a table says that was read already. Raises as `table`."""

        def parse() -> Table:
            if sum_of(body) != facts.sum:
                raise CorruptionError("it does not match the sum that the manifest says")
            # What unpacks to more than volumes of these sizes can take is not unpacked.
            sealed.parse_header(b"table", body, facts.key, self._table_most)
            return Table.parse(body, facts.key, self._sizes)

        return naming(facts.key, parse)

    def chunks(self, table: Table, wanted: NDArray[np.integer[Any]]) -> list[Call[Chunks]]:
        """Return calls that read chunks, each held against its hash; those of a pack together.

        They raise Damaged, ArchiveError.
        """
        chosen = np.unique(wanted.astype(np.int64))
        packs, positions = table.chunks["pack"][chosen], table.chunks["position"][chosen]
        order = np.lexsort((positions, packs))
        chosen, packs = chosen[order], packs[order]
        bounds = [0, *(np.flatnonzero(np.diff(packs)) + 1).tolist(), chosen.size]
        return [
            partial(self._chunks, table, int(packs[k]), chosen[k : min(end, k + _CHUNKS_AT_ONCE)])
            for first, end in pairwise(bounds)
            for k in range(first, end, _CHUNKS_AT_ONCE)
        ]

    def _chunks(self, table: Table, pack: int, some: NDArray[np.int64]) -> Chunks:
        numbers, facts = some.tolist(), table.packs[pack]
        most = int(table.chunks["stored"][some].sum()) >= _MOST_OF_A_PACK * facts.bytes

        def read() -> list[bytes | memoryview]:
            if most:
                with suppress(CorruptionError):  # by what is damaged in it; perhaps none of these
                    return table.read_pack(self.objects, pack, numbers)
            return table.read(self.objects, numbers)

        return [*zip(numbers, naming(facts.key, read), strict=True)]


def results(futures: Iterable[Future[_T]]) -> list[_T]:
    """Return what calls did that are under way; all of them have ended before one raises."""
    waiting = [*futures]
    for each in waiting:
        each.exception()
    return [each.result() for each in waiting]


def naming(key: str, read: Call[_T]) -> _T:
    """Return what ``read()`` does; what is wrong with the object is told with its key."""
    try:
        return read()
    except Damaged:
        raise
    except ObjectMissing as error:
        raise Damaged(key, f"{key} is missing from the archive", is_missing=True) from error
    except CorruptionError as error:
        text = str(error)
        raise Damaged(key, text if key in text else f"{key} is damaged: {text}") from error
