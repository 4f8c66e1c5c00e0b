"""An archive at work: a thread beside a store, that archives what becomes durable."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from jrnl.archive import preflight
from jrnl.archive.collector import GRACE_SECONDS, Collected, collect
from jrnl.archive.failures import Patience
from jrnl.archive.ledger import Ledger
from jrnl.archive.named import Named
from jrnl.archive.objects import from_url
from jrnl.archive.source import Source
from jrnl.archive.writer import SEGMENT_BYTES, SNAPSHOT_BYTES, Policy, Writer
from jrnl.closeable import ClosesItself
from jrnl.errors import (
    ArchiveError,
    ArchiveLagging,
    ArchiveUnreachable,
    Fenced,
    InvalidArgument,
    InvalidType,
    JrnlError,
    StoreClosed,
)
from jrnl.sizes import parse_size

if TYPE_CHECKING:
    import os

    from jrnl.archive.objects import Objects
    from jrnl.retention import Duration
    from jrnl.sizes import Size
    from jrnl.store import Store

_POLL_SECONDS = 0.05
_ENDS_SECONDS = 5.0
_LONGEST_PAUSE = 30.0  # after failures
_SEGMENT_LEAST, _SEGMENT_MOST = 1 << 16, 64 << 20


class Trying:
    """What was wrong with a request that is being made again.

    Attributes
    ----------
    problem : ArchiveUnreachable or None
        Until a step has come to its end.
    """

    def __init__(self) -> None:
        self.problem: ArchiveUnreachable | None = None

    def note(self, said: str) -> None:
        """Hear of it, on any thread."""
        self.problem = ArchiveUnreachable(said)


class Archive(ClosesItself):
    """A store's archive; made by `Store.archive`.

    It follows the store from a thread of its own, until either is closed. What goes wrong with the
    object store is tried again for as long as it takes, and shown by `problem`; only `Fenced` ends
    it.

    Attributes
    ----------
    url : str
        Where it is, without credentials.
    """

    def __init__(
        self,
        store: Store,
        objects: Objects,
        writer: Writer,
        *,
        interval: float,
        lag: float | None,
        patience: float | None,
        collect_every: float | None,
        grace: float,
        trying: Trying,
    ) -> None:
        self.url = objects.url
        self._objects, self._writer = objects, writer
        self._session, self._engine = store._session, store._engine
        self._interval, self._lag, self._patience = interval, lag, patience
        self._collect_every, self._grace = collect_every, grace
        self._trying = trying
        self._collecting, self._seen = threading.Lock(), Named()
        self._news = threading.Condition()
        self._wanted = self._asked = self._ended = False
        self._closed = threading.Event()
        self._problem: Exception | None = None
        self._behind_since: float | None = None
        self._noticed = writer.seq  # what was durable when that was looked at last
        self._failures = 0
        self._throttled = False
        self._flush = store.flush
        self._session.archive = self
        self._session.on_closing.append(self.close)
        self._session.on_rewind.append(writer.give_way)
        if lag is not None:
            self._engine.set_throttle(self._hold_up)
        self._engine.happened("archived", url=self.url, epoch=self.epoch, seq=self.archived_seq)
        self._thread = threading.Thread(target=self._run, name="jrnl-archive", daemon=True)
        self._thread.start()

    def __repr__(self) -> str:
        state = ", closed" if self._closed.is_set() else ""
        return f"<jrnl.Archive at {self.url}, archived to {self.archived_seq}{state}>"

    # What there is.

    @property
    def archived_seq(self) -> int:
        """The newest state that the archive has; -1 before its first snapshot is there."""
        return self._writer.seq

    @property
    def age(self) -> float:
        """Seconds for which something durable has not been archived; 0.0: all is."""
        since = self._behind_since
        return 0.0 if since is None else time.monotonic() - since

    @property
    def epoch(self) -> int:
        """Which claim of the archive this is."""
        return self._writer.ledger.epoch

    @property
    def problem(self) -> Exception | None:
        """What went wrong last, until it is right again; `Fenced` stays.

        ArchiveUnreachable where a request is being made again.
        """
        return self._problem or self._trying.problem

    @property
    def failure(self) -> Exception | None:
        """What a step has ended with, until one ends well; not what is being tried again."""
        return self._problem

    @property
    def has_ended(self) -> bool:
        """Whether nothing is archived any more: it is closed, or another writer has taken over."""
        return self._ended or self._closed.is_set() or isinstance(self._problem, Fenced)

    def metrics(self) -> dict[str, int | float]:
        """Return its numbers: those of `Store.metrics` that begin with ``archive_``."""
        return {
            "archive_seq": self.archived_seq,
            "archive_age_seconds": self.age,
            "archive_failures_total": self._failures,
            "archive_failing": int(self.problem is not None),
        }

    # What is asked of it.

    def flush(self, timeout: float | None = None) -> int:
        """Flush the store, and wait until all of that is archived; return the archived seq.

        Parameters
        ----------
        timeout : float, optional
            Seconds; by default it waits for as long as it takes.

        Raises
        ------
        Fenced
            Another writer has taken the archive over.
        ArchiveLagging
            It was not archived in time; the message says what is wrong.
        StoreClosed
            It was closed before.
        OSError, StorePoisoned, EditOpen, JournalFull
            As `Store.flush`.
        """
        until = None if timeout is None else time.monotonic() + timeout
        seq = self._flush()
        with self._news:
            self._wanted = True
            self._news.notify_all()
            while self.archived_seq < seq:
                self._check_working()
                left = None if until is None else until - time.monotonic()
                if left is not None and left <= 0:
                    raise ArchiveLagging(self._lagging(seq, timeout))
                self._news.wait(left)
        return self.archived_seq

    def collect(self) -> Collected:
        """Delete what has not been named for the grace period, now. Raises ArchiveError."""
        with self._collecting:
            return collect(self._objects, self._grace, seen=self._seen)

    def close(self) -> None:
        """Archive nothing more. What is not archived by now stays in the store alone."""
        with self._news:
            first = not self._closed.is_set()
            self._closed.set()
            self._writer.stop()
            self._news.notify_all()
        if threading.current_thread() is not self._thread:
            self._thread.join(_ENDS_SECONDS)  # a request may be under way for longer
            self._writer.let_go()
        if first:
            self._session.on_closing.remove(self.close)
            self._session.on_rewind.remove(self._writer.give_way)
            if self._session.archive is self:
                self._session.archive = None
            if self._lag is not None:
                self._throttle(on=False)
                self._engine.set_throttle(None)

    def _check_working(self) -> None:
        if isinstance(self._problem, Fenced):
            raise self._problem
        if self._closed.is_set():
            raise StoreClosed("the archive is closed: store.archive(url) begins again")
        if self._ended:
            raise ArchiveError(f"the archive has stopped: {self._problem}") from self._problem

    def _lagging(self, seq: int, timeout: float | None) -> str:
        why = f": {self.problem}" if self.problem is not None else "; it is still at work"
        return (
            f"state {seq} was not archived within {timeout} s, the archive is at "
            f"{self.archived_seq}{why}. What is durable stays so, and is archived later"
        )

    # Writers that wait.

    def _hold_up(self) -> None:
        """Have a writer wait while the archive lags too far; what it wrote is written."""
        until = None if self._patience is None else time.monotonic() + self._patience
        with self._news:
            while self._throttled and not self._closed.is_set():
                self._check_working()
                left = None if until is None else until - time.monotonic()
                if left is not None and left <= 0:
                    raise ArchiveLagging(
                        f"what was written is written, but the archive is {self.age:.1f} s behind, "
                        f"and {self._lag} s are allowed: {self.problem or 'it is still at work'}"
                    )
                self._news.wait(left)

    def _throttle(self, *, on: bool) -> None:
        if self._throttled != on:
            with self._news:
                self._throttled = on
                self._news.notify_all()
            with self._engine as engine:
                engine.throttle(on)
            if on:
                self._engine.happened("lagging", seconds=self.age, seq=self.archived_seq)

    # The thread.

    def _run(self) -> None:
        """Look what is durable, all the time; have steps done beside that."""
        pause, began = 0.0, 0.0
        collected = time.monotonic()
        step: Future[None] | None = None
        collection: Future[None] | None = None
        try:
            with (
                ThreadPoolExecutor(1, "jrnl-archive-step") as worker,
                ThreadPoolExecutor(1, "jrnl-archive-collect") as collector,  # which takes minutes
            ):
                while not self._closed.is_set() and not isinstance(self._problem, Fenced):
                    now = time.monotonic()
                    self._look(now)
                    if step is not None and step.done():
                        step.result()
                        failed = self._problem is not None
                        pause = min(_LONGEST_PAUSE, max(self._interval, pause * 2)) if failed else 0
                        step = None
                    if step is None and self._is_time(now - began, pause):
                        self._wanted, began = False, now
                        step = worker.submit(self._step)
                    if collection is not None and collection.done():
                        collection.result()
                        collection, collected = None, now
                    is_late = self._collect_every and now - collected > self._collect_every
                    if collection is None and is_late:
                        collection = collector.submit(self._collect)
                    with self._news:
                        self._news.notify_all()
                        if not self._closed.is_set():
                            self._news.wait(_POLL_SECONDS)
        except Exception as error:
            self._problem = error
            raise
        finally:
            self._writer.close()
            with self._news:
                self._ended = True
                self._news.notify_all()

    def _look(self, now: float) -> None:
        """See what is durable, and how far the archive is behind that."""
        durable = self._writer.source.durable_seq
        if self.archived_seq >= durable:
            self._behind_since = None
        elif self._behind_since is None or self.archived_seq >= self._noticed:
            self._behind_since, self._noticed = now, durable
        if self._lag is not None:
            try:
                self._throttle(on=self.age > self._lag)
            except StoreClosed:
                self._closed.set()

    def _is_time(self, waited: float, pause: float) -> bool:
        if pause:
            return waited >= pause
        return waited >= self._interval or self._wanted or self._asked or self._writer.is_ready

    def _step(self) -> None:
        try:
            self._asked = self._writer.step()
            self._problem = self._trying.problem = None
        except StoreClosed:
            self._closed.set()
        except (JrnlError, OSError) as error:
            self._failed(error)

    def _collect(self) -> None:
        try:
            self.collect()
        except (JrnlError, OSError) as error:
            self._failed(error)

    def _failed(self, error: Exception) -> None:
        """Note what went wrong, and tell of it if all was right before."""
        before, self._problem, self._trying.problem = self._problem, error, None
        self._failures += 1
        if before is None or isinstance(error, Fenced):
            name = "fenced" if isinstance(error, Fenced) else "unarchived"
            self._engine.happened(name, seq=self.archived_seq, problem=str(error))


def archive(
    store: Store,
    url: str | os.PathLike[str],
    *,
    lag_at_most: Duration | None = None,
    lag_timeout: Duration | None = None,
    interval: float = 1.0,
    segment: Size = SEGMENT_BYTES,
    snapshot_every: Size = SNAPSHOT_BYTES,
    keep: Duration | None = None,
    grace: Duration = GRACE_SECONDS,
    collect_every: Duration | None = 3600.0,
    **options: Any,
) -> Archive:
    """Archive a store; see `Store.archive`."""
    policy = Policy(
        segment_bytes=_bounded(parse_size(segment), "segment"),
        snapshot_bytes=parse_size(snapshot_every),
        keep_ns=None if keep is None else int(_seconds(keep, "keep") * 1e9),
    )
    lag = None if lag_at_most is None else _seconds(lag_at_most, "lag_at_most")
    patience = None if lag_timeout is None else _seconds(lag_timeout, "lag_timeout")
    every = None if collect_every is None else _seconds(collect_every, "collect_every")
    grace_seconds = _seconds(grace, "grace")
    if not interval > 0:
        raise InvalidArgument(f"interval is in seconds, above 0, not {interval!r}")
    source = Source(store)
    if store._session.archive is not None:
        raise InvalidArgument(
            f"the store is archived already, to {store._session.archive.url}: close that first"
        )
    trying = Trying()
    objects = from_url(url, patience=Patience(told=trying.note), **options)
    preflight.check(objects)
    writer = Writer(source, Ledger(objects), policy)
    try:
        writer.begin()
    except BaseException:
        writer.close()
        raise
    return Archive(store, objects, writer, interval=float(interval), lag=lag, patience=patience,
                   collect_every=every, grace=grace_seconds, trying=trying)  # fmt: skip


def _seconds(value: Duration, name: str) -> float:
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise InvalidType(f"{name} is seconds or a timedelta, not {value!r}")
    if not seconds >= 0:
        raise InvalidArgument(f"{name} is not below 0, as {value!r} is")
    return float(seconds)


def _bounded(size: int, name: str) -> int:
    if not _SEGMENT_LEAST <= size <= _SEGMENT_MOST:
        raise InvalidArgument(f"{name} is from 64KiB to 64MiB, not {size}")
    return size
