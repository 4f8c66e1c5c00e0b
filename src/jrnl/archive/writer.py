"""Writers: an archive brought up to what a store has durable, a step at a time.

A step takes what is new as segments and puts them; puts a snapshot where one is due, beside that;
and publishes a manifest that names both. Only then is it archived.
"""

from __future__ import annotations

import threading
from bisect import bisect_right
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from jrnl._core import FORMAT
from jrnl.archive.chunks import Cancelled, PackWriter, Table, build
from jrnl.archive.failures import KeyTaken
from jrnl.archive.ledger import Condemned
from jrnl.archive.lists import LISTED, NAMED_MOST, list_of
from jrnl.archive.manifest import (
    SegmentFacts,
    SnapshotFacts,
    segment_key,
    snapshot_key,
    sum_of,
)
from jrnl.archive.segment import SEGMENT_ROW
from jrnl.archive.taking import take
from jrnl.errors import ArchiveError, PointExpired, StoreClosed
from jrnl.points import parse_mark_text

if TYPE_CHECKING:
    from jrnl.archive.ledger import Ledger
    from jrnl.archive.manifest import Manifest
    from jrnl.archive.segment import Rows, Segment
    from jrnl.archive.source import Held, Source

SEGMENT_BYTES = 4 << 20
SNAPSHOT_BYTES = 256 << 20
_STEP_SEGMENTS = 16  # before a manifest is published
_PUTS = 4  # at a time
_TABLE_MOST = 1 << 30
_EPOCHS = 8  # that one step may begin
_OVERDUE = 1 << 62
_GIVES_WAY = 3  # snapshots; then rewinds wait for the next one
_MARK, _REWIND = FORMAT["kinds"]["MARK"], FORMAT["kinds"]["REWIND"]
_PLACE = ["volume", "offset", "length"]
_RANGE = np.dtype([(name, SEGMENT_ROW[name]) for name in _PLACE])
_ZEROES = FORMAT["kinds"]["ZEROES"]

Marks = dict[str, list[object]]


@dataclass(frozen=True)
class Policy:
    """When what is sent.

    Parameters
    ----------
    segment_bytes : int
        Of one segment, at most.
    snapshot_bytes : int
        Of segments, after which another snapshot follows: what a recovery reads at most beside it.
    keep_ns : int or None
        States that are older may go, once a younger snapshot is there; None: all stay.
    """

    segment_bytes: int = SEGMENT_BYTES
    snapshot_bytes: int = SNAPSHOT_BYTES
    keep_ns: int | None = None


class Snapshot(NamedTuple):
    """A snapshot that is put, and not named yet."""

    facts: SnapshotFacts
    table: Table
    packs: frozenset[str]
    marks: Marks  # all, of the states from `oldest` on
    oldest: int


class _Unsent(NamedTuple):
    facts: SegmentFacts
    body: bytes
    marks: list[tuple[str, list[object]] | tuple[int, int]]  # made, or dropped: from, to


class Writer:
    """Archives one store. All but `stop` is called by one thread.

    Parameters
    ----------
    source : Source
    ledger : Ledger
    policy : Policy

    Attributes
    ----------
    seq : int
        The newest state that is archived; -1: none is.
    """

    def __init__(self, source: Source, ledger: Ledger, policy: Policy) -> None:
        self.source, self.ledger, self.policy = source, ledger, policy
        self.objects = ledger.objects
        self._pool = ThreadPoolExecutor(_PUTS, thread_name_prefix="jrnl-archive")
        self._copier = ThreadPoolExecutor(1, thread_name_prefix="jrnl-archive-snapshot")
        self._stopping = threading.Event()
        self._making: Future[Snapshot] | None = None
        self._cancelled = threading.Event()
        self._held: Held | None = None  # by the snapshot that is being made
        self._given_way = 0  # snapshots in a row that a rewind has ended
        self._forget()

    def _forget(self) -> None:
        """Go on from what the newest manifest says, and nothing else."""
        self._taken: int | None = None  # entries up to here are taken; None: a snapshot comes first
        self._unsent: list[_Unsent] = []  # taken, and not put
        self._pending: list[_Unsent] = []  # put, and not named
        self._ready: Snapshot | None = None  # put, and not named
        self._list: SegmentFacts | None = None  # put, and named next
        self._table: Table | None = None  # of the newest snapshot, once it is known
        self._packs, self._tables = 1, 0  # the next numbers of this epoch
        self._cut = -1  # no segment goes on past this state
        self._since = 0  # bytes of segments since the newest snapshot
        self._dirty: list[Rows] | None = None  # ... and rows; None: anything may have changed
        self._dirty_since = 0  # the state of the snapshot that was begun last

    @property
    def is_ready(self) -> bool:
        """Whether a snapshot is put that a step is to name."""
        return self._making is not None and self._making.done()

    @property
    def seq(self) -> int:
        """The newest state that is archived; -1: none is."""
        current = self.ledger.current
        return -1 if current is None else current.seq

    def begin(self) -> None:
        """Claim the archive. Raises ArchiveUnfit, ArchiveError, Fenced."""
        url = self.objects.url
        newest = self.ledger.claim(lambda base: self.source.check_follows(base, url))
        self._give_up_snapshot()
        self._forget()
        if newest.seq >= 0 and newest.way_to(newest.seq) is not None:
            self._taken = newest.seq
            since = newest.snapshots[-1].seq
            self._since = sum(each.bytes for each in newest.segments if each.last > since)
        else:
            self._begin_snapshot()  # of this moment: what follows it is archived, state by state

    def step(self) -> bool:
        """Archive what is durable, or a part of it; return whether there is more.

        Raises
        ------
        Fenced
            Another writer has taken the archive over.
        ArchiveError, CorruptionError, StoreClosed
        """
        for _ in range(_EPOCHS):
            try:
                return self._step()
            except Condemned:  # we have slept for too long
                self.begin()
        raise ArchiveError(f"{self.objects.url}: collectors delete what is being written")

    def stop(self) -> None:
        """Have the step that is under way end soon, and give up what is unfinished."""
        self._stopping.set()
        self._cancelled.set()

    def give_way(self, seq: int) -> None:
        """Give up a state that a rewind is about to drop; the next step takes another one."""
        held = self._held
        if held is not None:
            held.give_way(seq)

    def let_go(self) -> None:
        """Give up the state that a snapshot is being made of, whatever waits for it."""
        held = self._held
        if held is not None:  # until it is closed a rewind finds it here
            with suppress(Exception):  # the store may be closed by now
                held.close()
        self._held = None

    def close(self) -> None:
        """Wait for what is under way, and give it up."""
        self.stop()
        self._give_up_snapshot()
        self._copier.shutdown()
        self._pool.shutdown()

    # A step.

    def _step(self) -> bool:
        self._receive_snapshot()
        more = self._take()
        self._send()
        if self._pending or self._ready is not None:
            self._publish()
        self._begin_snapshot()
        return more and not self._stopping.is_set()

    def _take(self) -> bool:
        """Take what is durable into segments; return whether there is more."""
        upto = self.source.durable_seq
        while (self._taken is not None and self._taken < upto
               and len(self._unsent) < _STEP_SEGMENTS):  # fmt: skip
            try:
                segment = self._segment(self._taken, upto)
            except PointExpired:  # the log has moved on: the next snapshot bridges that
                self._taken = self._dirty = None
                return False
            if segment is None:
                return False
            self._unsent.append(self._packed(segment))
            self._taken = segment.last
        return self._taken is not None and self._taken < upto

    def _segment(self, after: int, upto: int) -> Segment | None:
        """Take a segment. It ends with a rewind to a state before it: a snapshot may follow there.

        It ends with a state of which a snapshot is being made, too: a manifest says how far back a
        segment's rewinds go, and not which of its states they drop. Raises PointExpired.
        """
        if after < self._cut < upto:
            upto = self._cut
        segment = take(self.source.store, after, upto, self.policy.segment_bytes)
        if segment is not None:
            rows = segment.rows
            back = rows[(rows["kind"] == _REWIND) & (rows["position"] < segment.base)]
            if back.size and back[0]["seq"] < segment.last:
                return take(self.source.store, after, int(back[0]["seq"]), 1 << 30)
        return segment

    def _packed(self, segment: Segment) -> _Unsent:
        head, data = segment.to_parts()
        body = head + data
        rewinds = segment.rows[segment.rows["kind"] == _REWIND]["position"]
        low = int(rewinds.min()) if rewinds.size else -1
        facts = SegmentFacts(
            segment_key(self.ledger.epoch, segment.first, segment.last), segment.base,
            segment.first, segment.last, low, len(body), len(head), segment.time_ns, sum_of(body),
        )  # fmt: skip
        self._note_dirty(segment, low)
        return _Unsent(facts, body, _marks_in(segment))

    def _note_dirty(self, segment: Segment, low: int) -> None:
        if 0 <= low < self._dirty_since:
            self._dirty = None
        if self._dirty is not None:
            rows = segment.rows
            self._dirty.append(rows[rows["kind"] <= _ZEROES][_PLACE].astype(_RANGE))

    def _send(self) -> None:
        """Put what is taken, several at a time. What fails stays to be put again."""
        puts = [self._pool.submit(self._put, each.facts.key, each.body) for each in self._unsent]
        failed: BaseException | None = None
        for put in puts:
            try:
                put.result()
            except BaseException as error:
                failed = failed or error
            if failed is None:
                sent = self._unsent.pop(0)
                self._pending.append(sent._replace(body=b""))
                self._since += sent.facts.bytes
        if failed is not None:
            raise failed

    def _put(self, key: str, body: bytes) -> None:
        """Create an object. Raises Condemned where the key is another's."""
        try:
            self.objects.create(key, body)
        except KeyTaken:
            if self.objects.get(key, most=len(body) + 1) != body:
                raise Condemned from None

    def _publish(self) -> None:
        """Name what is put in a manifest, as far as that leads to a state."""
        current = self.ledger.current
        assert current is not None
        if self._news(current) is None:
            return
        named = [each.facts.key for each in self._pending]
        self._list = None
        since = current.snapshots[-1].seq if current.snapshots else -1
        if len(current.segments) > LISTED and current.segments[LISTED - 1].last <= since:
            self._list, body = list_of(self.ledger.epoch, current.segments[:LISTED])
            if self._news(current) is None:  # a rewind went back so far that they are needed
                self._list = None
            else:
                self._put(self._list.key, body)
                named.append(self._list.key)
        if self._ready is not None:
            named += [self._ready.facts.key, *self._ready.packs]
        newest = self.ledger.publish(self._news, named)
        self._pending = [each for each in self._pending if each.facts.last > newest.seq]
        self._ready = self._list = None

    def _news(self, base: Manifest) -> Manifest | None:
        """Return the next manifest; None where there is nothing new, or no way to its state.

        A snapshot that is put is named in any case, so that another one can follow: with what it
        leads to, where a rewind has gone back to before it meanwhile.
        """
        pending = [each for each in self._pending if each.facts.last > base.seq]
        new = self._news_of(base, pending)
        while new is None and self._ready is not None and pending:
            pending.pop()
            new = self._news_of(base, pending)
        return new

    def _news_of(self, base: Manifest, pending: list[_Unsent]) -> Manifest | None:
        ready = self._ready
        snapshots, marks, seq = base.snapshots, dict(base.marks), base.seq
        time_ns = base.state_time_ns
        if ready is not None and ready.facts not in snapshots:
            snapshots = [*(each for each in snapshots if each.seq < ready.facts.seq), ready.facts]
            marks = {name: row for name, row in marks.items()
                     if not ready.oldest <= int(str(row[0])) <= ready.facts.seq}  # fmt: skip
            marks |= ready.marks
            if ready.facts.seq > seq:
                seq, time_ns = ready.facts.seq, ready.facts.time_ns
        if pending:
            for each in pending:
                _follow_marks(marks, each.marks)
            if pending[-1].facts.last > seq:
                seq, time_ns = pending[-1].facts.last, pending[-1].facts.time_ns
        lists, segments = base.lists, base.segments
        if snapshots == base.snapshots and not pending:
            return None
        if self._list is not None and self._list not in lists:  # ours may be there already
            lists, segments = [*lists, self._list], segments[LISTED:]
        segments = [*segments, *(each.facts for each in pending)]
        new = base.with_news(seq=seq, state_time_ns=time_ns, snapshots=snapshots, marks=marks,
                             segments=segments, lists=lists)  # fmt: skip
        return None if new.way_to(seq) is None else self._without_old(new)

    def _without_old(self, new: Manifest) -> Manifest:
        """Leave out what is older than states are kept."""
        if self.policy.keep_ns is None:
            return new
        limit = self.ledger.clock() - self.policy.keep_ns
        old = [each for each in new.snapshots if each.time_ns <= limit]
        if not old:
            return new
        first = old[-1].seq  # it leads to states that stay
        kept = replace(
            new,
            snapshots=[each for each in new.snapshots if each.seq >= first],
            segments=[each for each in new.segments if each.last > first],
            lists=[each for each in new.lists if each.last > first],
            marks={name: row for name, row in new.marks.items() if int(str(row[0])) >= first},
        )
        return new if kept.way_to(kept.seq) is None else kept

    # Snapshots.

    def _begin_snapshot(self) -> None:
        """Begin another snapshot where it is time, and none is under way."""
        if self._making is not None or self._ready is not None or self._stopping.is_set():
            return
        current = self.ledger.current
        assert current is not None
        gap = self._taken is None
        if not gap and not self._is_due(current):
            return
        held = self._hold(current)
        if held is None:  # the next step finds out
            return
        if current.snapshots and held.seq <= current.snapshots[-1].seq and not gap:
            self.let_go()
            return
        if self._taken is None:
            self._taken = held.seq
        dirty, self._dirty, self._dirty_since = self._dirty, [], held.seq
        if held.seq > self._taken:  # with after-images alone
            dirty, self._cut = None, held.seq
        elif held.seq != self._taken:
            self._dirty = None if dirty is None else [*dirty]
        oldest = self.source.store.window.oldest
        marks = {name: row for name, row in self.source.marks() if int(str(row[0])) <= held.seq}
        self._since = 0
        self._cancelled = threading.Event()
        key = snapshot_key(self.ledger.epoch, held.seq, self._tables)
        self._tables += 1
        self._making = self._copier.submit(
            self._make_snapshot, held, key, dirty, marks, oldest, current, self._cancelled
        )

    def _hold(self, current: Manifest) -> Held | None:
        """Return the state of the next snapshot: the newest that is taken, in most cases.

        Where a rewind went back to a state to which nothing in the archive leads, it is that of the
        rewind, without which the states after it could not be had; as far as a segment ends there.
        """
        seqs = [self.source.durable_seq if self._taken is None else self._taken]
        if self._taken is not None and self._pending and self._news(current) is None:
            newest = current.snapshots[-1].seq if current.snapshots else -1
            happened = [(what, each.facts.last) for each in self._pending for what in each.marks]
            seqs[:0] = [last for (to, seq), last in happened
                        if isinstance(to, int) and newest < last == seq
                        and current.way_to(to) is None]  # fmt: skip
        firmly = self._given_way >= _GIVES_WAY
        for seq in seqs:
            with suppress(PointExpired):
                self.source.hold(seq, self._keep, firmly=firmly)
                return self._held
        return None

    def _keep(self, held: Held) -> None:
        self._held = held

    def _is_due(self, current: Manifest) -> bool:
        if not current.snapshots or (self._pending and self._news(current) is None):
            return True
        after = bisect_right(current.segments, current.snapshots[-1].seq, key=lambda s: s.last)
        if len(current.segments) - after > NAMED_MOST:
            return True
        return self._since > max(self.policy.snapshot_bytes, current.snapshots[-1].bytes // 4)

    def _make_snapshot(
        self,
        held: Held,
        key: str,
        dirty: list[Rows] | None,
        marks: Marks,
        oldest: int,
        current: Manifest,
        cancelled: threading.Event,
    ) -> Snapshot:
        """Put a snapshot of a state; on a thread of its own."""
        try:
            previous = self._previous(current)
            known = set() if previous is None else {pack.key for pack in previous.packs}
            packs = PackWriter(self.objects, self.ledger.epoch, self._packs)
            try:
                table = build(previous, _ranges(dirty), held.state, packs, cancelled.is_set)
            finally:
                self._packs = packs.next_number  # none is used again, come what may
            body = table.to_bytes()
            self._put(key, body)
            facts = SnapshotFacts(held.seq, held.time_ns, key, len(body), sum_of(body))
            new = frozenset(pack.key for pack in table.packs) - known
            return Snapshot(facts, table, new, marks, oldest)
        finally:
            self.let_go()

    def _previous(self, current: Manifest) -> Table | None:
        """Return the table of the newest snapshot that is named."""
        if self._table is None and current.snapshots:
            facts = current.snapshots[-1]
            self._table = Table.parse(self.objects.get(facts.key, most=_TABLE_MOST), facts.key)
        return self._table

    def _receive_snapshot(self) -> None:
        """Take over a snapshot that is put by now. Raises what stopped it."""
        making = self._making
        if making is None or not making.done():
            return
        self._making = None
        try:
            self._ready = making.result()
        except BaseException as error:
            self._dirty, self._since = None, _OVERDUE
            if not isinstance(error, (Cancelled, StoreClosed)):
                raise
            self._given_way += 1  # to a rewind
            return
        self._table, self._given_way = self._ready.table, 0

    def _give_up_snapshot(self) -> None:
        self._cancelled.set()
        making, self._making = self._making, None
        if making is not None:
            with suppress(BaseException):
                making.result()


def _ranges(dirty: list[Rows] | None) -> Rows | None:
    """Return what the rows have written to; None where that is not known."""
    if dirty is None:
        return None
    return np.concatenate([np.empty(0, _RANGE), *dirty])


def _marks_in(segment: Segment) -> list[tuple[str, list[object]] | tuple[int, int]]:
    """Return what its entries do to marks, in order: one is made, or some are dropped."""
    found: list[tuple[str, list[object]] | tuple[int, int]] = []
    rows = segment.rows
    for row in rows[(rows["kind"] == _MARK) | (rows["kind"] == _REWIND)]:
        seq = int(row["seq"])
        if row["kind"] == _REWIND:
            found.append((int(row["position"]), seq))
            continue
        name, *parts = bytes(segment.written(row)).decode("utf-8", "replace").split("\0")
        volumes, state = parse_mark_text(parts)
        found.append((name, [seq if state is None else state, int(row["time_ns"]), seq, *volumes]))
    return found


def _follow_marks(marks: Marks, happened: list[tuple[str, list[object]] | tuple[int, int]]) -> None:
    for what, value in happened:
        if isinstance(what, str):
            assert isinstance(value, list)
            marks[what] = value
        else:
            dropped = range(what + 1, int(str(value)))
            for name in [name for name, row in marks.items() if row[2] in dropped]:
                del marks[name]
