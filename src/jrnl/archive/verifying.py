"""Checking an archive: every byte against its checksum, and what is named against what is there."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from jrnl.archive.collector import GRACE_SECONDS
from jrnl.archive.ledger import Ledger
from jrnl.archive.manifest import PREFIX, manifest_key, number_of
from jrnl.archive.objects import from_url
from jrnl.archive.reader import READS_AT_ONCE, Damaged, Reader, naming
from jrnl.archive.table import PACK_MOST, check_pack
from jrnl.archive.way import shortest
from jrnl.errors import ArchiveError, CorruptionError, FormatError, InvalidArgument, InvalidType
from jrnl.sizes import check_callable

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable

    from jrnl.archive.manifest import Manifest, SegmentFacts, SnapshotFacts
    from jrnl.archive.objects import Objects
    from jrnl.archive.table import Pack, Table
    from jrnl.retention import Duration

    Progress = Callable[[int, int], object]


class ArchiveReport(NamedTuple):
    """What the verification of an archive found.

    Attributes
    ----------
    ok : bool
        Whether nothing is wrong.
    problems : list of str
        One sentence for each thing that is; it names the object.
    manifests, lists, segments, snapshots, packs : int
        Objects of each kind that were held against their checksums.
    bytes : int
        Of all of them.
    seq : int
        The newest state that is archived; -1: none is.
    """

    ok: bool
    problems: list[str]
    manifests: int
    lists: int
    segments: int
    snapshots: int
    packs: int
    bytes: int
    seq: int


def verify(
    url: str | os.PathLike[str],
    progress: Progress | None = None,
    *,
    grace: Duration = GRACE_SECONDS,
    **options: Any,
) -> ArchiveReport:
    """Check a whole archive; see `jrnl.archive.verify`."""
    check_callable(progress, "progress")
    seconds = grace.total_seconds() if isinstance(grace, timedelta) else grace
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise InvalidType(f"grace is seconds or a timedelta, not {grace!r}")
    if not seconds >= 0:
        raise InvalidArgument(f"grace is not below 0, as {grace!r} is")
    return verify_in(from_url(url, **options), progress, seconds)


def verify_in(
    objects: Objects, progress: Progress | None = None, grace: float = GRACE_SECONDS
) -> ArchiveReport:
    """Check the archive that these objects are."""
    with ThreadPoolExecutor(READS_AT_ONCE, thread_name_prefix="jrnl-archive") as pool:
        return _Check(objects, pool, progress, int(grace * 1e9)).run()


class _Check:
    """One verification. What is wrong is noted, and the rest is looked at all the same."""

    def __init__(
        self, objects: Objects, pool: ThreadPoolExecutor, progress: Progress | None, grace_ns: int
    ) -> None:
        self.objects, self.pool = objects, pool
        self.problems: list[str] = []
        self.progress, self.done, self.total = progress, 0, 0
        self.ledger = Ledger(objects)
        listed = list(objects.list(""))
        self.listed = {each.key: each for each in listed}
        newest_ns = max((each.time_ns for each in listed), default=0)
        self.before_ns = newest_ns - grace_ns
        self.counts = dict.fromkeys(("manifests", "lists", "segments", "snapshots", "packs"), 0)
        self.named: set[str] = set()

    def run(self) -> ArchiveReport:
        """Return what was found. Raises ArchiveError where the store does not answer."""
        manifests = self._manifests()
        if not manifests:
            raise ArchiveError(f"{self.objects.url}: there is no archive, or no manifest is whole")
        newest = manifests[-1]
        named = self._named(manifests)
        self.total = sum(each.bytes for each in self.listed.values())
        self._tell(sum(each.bytes for each in self.listed.values() if each.key.startswith(PREFIX)))
        reader = Reader(self.objects, newest, self.pool)
        self._segments(reader, self._lists(reader, named))
        self._snapshots(reader, (each for manifest in named for each in manifest.snapshots))
        self._ways(reader, newest.seq)
        self._strays()
        self._tell(0, end=True)
        found = self.counts
        return ArchiveReport(
            not self.problems, self.problems, found["manifests"], found["lists"],
            found["segments"], found["snapshots"], found["packs"], self.done, newest.seq,
        )  # fmt: skip

    def _tell(self, done: int, *, end: bool = False) -> None:
        self.done += done
        if self.progress is not None:
            self.progress(self.total if end else min(self.done, self.total), self.total)

    def _each(self, what: str, calls: Iterable[Callable[[], int]]) -> None:
        """Make calls that check an object each, and note what they raise."""
        waiting = [self.pool.submit(call) for call in calls]
        for each in waiting:
            try:
                self._tell(each.result())
                self.counts[what] += 1
            except (CorruptionError, FormatError) as error:
                self.problems.append(str(error))
            except BaseException:
                for other in waiting:
                    other.cancel()
                raise

    # Manifests.

    def _manifests(self) -> list[Manifest]:
        """Return those that are whole, by number."""
        found = []
        for key in sorted(self.listed):
            n = number_of(key)
            if n:
                try:
                    found.append(naming(key, partial(self.ledger.read, n)))
                    self.counts["manifests"] += 1
                except Damaged as damage:
                    if self.listed[key].time_ns >= self.before_ns or not damage.is_missing:
                        self.problems.append(str(damage))  # else a collector deletes it just now
                except FormatError as error:
                    self.problems.append(str(error))
        for before, after in pairwise(found):
            self._follows(before, after)
        return found

    def _follows(self, before: Manifest, after: Manifest) -> None:
        key = manifest_key(after.n)
        if after.epoch < before.epoch:
            self.problems.append(f"{key} is of epoch {after.epoch}, after one of {before.epoch}")
        if after.n == before.n + 1:
            if after.follows != before.sum:
                self.problems.append(
                    f"{key} does not follow {manifest_key(before.n)}, but another one"
                )
        elif self.listed[key].time_ns >= self.before_ns:
            self.problems.append(
                f"before {key} {after.n - before.n - 1} are missing or damaged, from manifest "
                f"{before.n + 1} on"
            )

    def _named(self, manifests: list[Manifest]) -> list[Manifest]:
        """Return the manifests whose objects have to be there: those of the grace period."""
        kept = [manifests[-1]]
        for manifest, successor in pairwise(manifests):
            if self.listed[manifest_key(successor.n)].time_ns >= self.before_ns:
                kept.append(manifest)
        return kept

    # What they name.

    def _lists(self, reader: Reader, manifests: list[Manifest]) -> list[SegmentFacts]:
        """Check lists of segments; return what they and the manifests name."""
        found = [each for manifest in manifests for each in manifest.segments]

        def check(facts: SegmentFacts) -> int:
            found.extend(reader.segments_of(facts))
            return facts.bytes

        lists = {each.key: each for manifest in manifests for each in manifest.lists}
        self.named |= {*lists}
        self._each("lists", [partial(check, each) for each in lists.values()])
        return found

    def _segments(self, reader: Reader, named: Iterable[SegmentFacts]) -> None:
        def check(facts: SegmentFacts) -> int:
            reader.segment(facts)
            return facts.bytes

        segments = {each.key: each for each in named}
        self.named |= {*segments}
        self._each("segments", [partial(check, each) for each in segments.values()])

    def _snapshots(self, reader: Reader, named: Iterable[SnapshotFacts]) -> None:
        """Check tables, and the packs that they name."""
        packs: dict[str, dict[Pack, list[Table]]] = {}

        def check(facts: SnapshotFacts) -> int:
            table = reader.table(facts)
            for pack in table.packs:
                packs.setdefault(pack.key, {}).setdefault(pack, []).append(table)
            return facts.bytes

        def check_one(key: str) -> int:
            return naming(key, lambda: self._pack(packs[key]))

        snapshots = {each.key: each for each in named}
        self._each("snapshots", [partial(check, each) for each in snapshots.values()])
        self.named |= {*snapshots, *packs}
        self._each("packs", [partial(check_one, key) for key in packs])

    def _pack(self, named: dict[Pack, list[Table]]) -> int:
        """Hold a pack against its checksum, and each of its chunks against its hash."""
        length = 0
        for pack, tables in named.items():
            content = self.objects.get(pack.key, most=PACK_MOST)
            check_pack(pack, content)
            body, length = memoryview(content), len(content)
            seen = set()
            for table in tables:
                mine = table.packs.index(pack)
                for index in np.flatnonzero(table.chunks["pack"] == mine).tolist():
                    start, stored = table.chunks[["position", "stored"]][index].tolist()
                    chunk = start, table.chunks["hash"][index].tobytes()
                    if chunk not in seen:
                        table.unpack(index, body[start : start + stored])
                        seen.add(chunk)
        return length

    def _ways(self, reader: Reader, seq: int) -> None:
        with suppress(Damaged, FormatError):  # a list, of which is told already
            if seq >= 0 and shortest(reader, seq) is None:
                self.problems.append(
                    f"{manifest_key(reader.manifest.n)} says that state {seq} is archived, and "
                    "names no way to it"
                )

    # What nothing names.

    def _strays(self) -> None:
        for key, listed in self.listed.items():
            if key in self.named or number_of(key) or listed.time_ns >= self.before_ns:
                continue
            self.problems.append(
                f"{key} ({listed.bytes} bytes) is named by no manifest, and older than the grace "
                "period: archive.collect() deletes it"
            )
