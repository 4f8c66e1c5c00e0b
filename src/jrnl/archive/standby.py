"""A standby: a store on disk that is kept up to date from an archive, until it takes over."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from jrnl.archive.ledger import Ledger
from jrnl.archive.objects import from_url
from jrnl.archive.place import StandbyPlace
from jrnl.archive.points import resolve
from jrnl.archive.reader import READS_AT_ONCE, Damaged, Reader
from jrnl.archive.replaying import Clock, Replay
from jrnl.archive.restoring import Restoring
from jrnl.archive.same import check_same
from jrnl.archive.source import Source
from jrnl.archive.state import newest_manifest
from jrnl.closeable import ClosesItself
from jrnl.errors import ArchiveError, InvalidArgument, JrnlError, PointExpired, StoreClosed

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

    from jrnl.archive.manifest import Manifest, Origin, SegmentFacts
    from jrnl.archive.objects import Objects
    from jrnl.points import Point
    from jrnl.store import Store
    from jrnl.view import View

    Progress = Callable[[int, int], object]

POLL_SECONDS = 1.0
_LONGEST_PAUSE = 30.0  # after failures


class Standby(ClosesItself):
    """A store that follows an archive; ``jrnl.archive.follow(url, path)``.

    A thread looks for what is new and makes the same entries here. Nobody else may write to the
    store meanwhile. What goes wrong is tried again, and shown by `problem`.

    Attributes
    ----------
    url : str
        Where the archive is, without credentials.
    path : str
    """

    def __init__(
        self,
        objects: Objects,
        path: str | os.PathLike[str],
        *,
        poll: float = POLL_SECONDS,
        settings: dict[str, Any] | None = None,
        archive_on: Callable[[Store], object] | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.url: str = objects.url
        self._objects, self._settings = objects, settings or {}
        self._place = StandbyPlace(path)
        self.path = self._place.path
        self._poll, self._archive_on = poll, archive_on
        self._pool = ThreadPoolExecutor(READS_AT_ONCE, thread_name_prefix="jrnl-archive")
        self._lock = threading.RLock()  # one thread at a time changes the store
        self._swapping = threading.RLock()  # held while another store takes the place of this one
        self._news = threading.Condition()
        self._stopping = threading.Event()
        self._problem: Exception | None = None
        self._manifest: Manifest | None = None
        self._store: Store | None = None
        self._clock = Clock(0)
        try:
            self._begin(progress)
        except BaseException:
            self._let_go()
            raise
        self._thread: threading.Thread | None = None
        self._start()

    def __repr__(self) -> str:
        if self._store is None:
            return f"<jrnl.archive.Standby of {self.url}, closed>"
        return f"<jrnl.archive.Standby of {self.url} at {self.seq}>"

    # What there is.

    @property
    def seq(self) -> int:
        """The newest state that is here."""
        return self._opened().seq

    @property
    def archived_seq(self) -> int:
        """The newest state that the archive had when it was last looked at."""
        self._opened()
        assert self._manifest is not None
        return self._manifest.seq

    @property
    def lag(self) -> float:
        """Seconds by which the newest state here is older than the newest one in the archive."""
        store, manifest = self._opened(), self._manifest
        assert manifest is not None
        if store.seq >= manifest.seq:
            return 0.0
        return max(0.0, (manifest.state_time_ns - store._engine.time_ns) / 1e9)

    @property
    def problem(self) -> Exception | None:
        """What went wrong last, until it is right again."""
        return self._problem

    def view(self, at: Point | None = None) -> View:
        """Return a view of a state here, by default the newest; see `Store.view`."""
        while True:
            store = self._opened()
            try:
                with store._engine:  # no rewind comes between
                    return store.view(store.seq if at is None else at)
            except StoreClosed:
                if self._store is store:
                    raise  # else another store has taken its place

    def _opened(self) -> Store:
        with self._swapping:
            store = self._store
        if store is None:
            raise StoreClosed("the standby is closed: jrnl.archive.follow goes on with it")
        return store

    # What is asked of it.

    def update(self) -> int:
        """Look for what is new now, and make it here; return the newest seq.

        Raises
        ------
        ArchiveError, CorruptionError, FormatError, OSError, StoreClosed, StorePoisoned
        """
        with self._lock:
            self._opened()
            self._catch_up(newest_manifest(self._objects))
            return self.seq

    def wait(self, seq: int, timeout: float | None = None) -> bool:
        """Wait until a state is here; return whether it is. Raises StoreClosed."""
        until = None if timeout is None else time.monotonic() + timeout
        with self._news:
            while self.seq < seq:
                left = None if until is None else until - time.monotonic()
                if left is not None and left <= 0:
                    return False
                self._news.wait(self._poll if left is None else min(left, self._poll))
        return True

    def promote(self, *, archive: bool = True) -> Store:
        """Take over: return the store, open for writing, with all that was ever archived.

        The archive is claimed first, so that another writer archives nothing more: its next attempt
        raises `Fenced`. What it has not archived by then is not here.

        Parameters
        ----------
        archive : bool
            Go on with the same archive: ``store.archive(url)``.

        Raises
        ------
        ArchiveError, CorruptionError, FormatError, OSError, StoreClosed
            If the archive was claimed already, call it again: no other writer goes on in between.
        """
        self._stop()
        try:
            with self._lock:
                source = Source(self._opened())
                ledger = Ledger(self._objects)
                self._catch_up(ledger.claim(partial(self._checked, source), kind="promote"))
                self._close_store()
                store = self._place.promoted()
        except BaseException:
            self._go_on()
            raise
        self._let_go()
        if archive and self._archive_on is not None:
            self._archive_on(store)
        return store

    def close(self) -> None:
        """Follow no more. The store stays as it is, and `follow` goes on with it."""
        self._stop()
        self._let_go()

    def _go_on(self) -> None:
        """Follow again after a promotion that has failed; or, where that cannot be, no more."""
        try:
            with self._lock:
                self._reopen()
                self._opened()
        except (JrnlError, OSError):
            self._let_go()
        else:
            self._place.mark()
            self._start()

    def _checked(self, source: Source, newest: Manifest | None) -> Origin:
        if newest is None:
            raise ArchiveError(f"{self.url}: the archive has gone")
        return source.origin

    # The thread.

    def _start(self) -> None:
        self._stopping.clear()
        self._thread = threading.Thread(target=self._run, name="jrnl-standby", daemon=True)
        self._thread.start()

    def _stop(self) -> None:
        self._stopping.set()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join()
        self._thread = None

    def _run(self) -> None:
        pause = 0.0
        while not self._stopping.wait(max(pause, self._poll)):
            try:
                self.update()
                self._problem, pause = None, 0.0
            except StoreClosed:
                return
            except (JrnlError, OSError) as error:
                self._problem, pause = error, min(_LONGEST_PAUSE, max(2 * pause, self._poll))
            with self._news:
                self._news.notify_all()

    # Coming up to date.

    def _begin(self, progress: Progress | None) -> None:
        """Open the store that is there, or make one."""
        manifest = newest_manifest(self._objects)
        if self._place.is_there():
            self._open()
            if check_same(self._opened(), self._reader(manifest), self.path):
                self._place.mark()
            self._catch_up(manifest)
        else:
            resolve(self._reader(manifest), None)
            self._manifest = manifest
            self._make(self._reader(manifest), progress=progress)

    def _reader(self, manifest: Manifest) -> Reader:
        return Reader(self._objects, manifest, self._pool)

    def _open(self) -> None:
        self._store = self._place.open(self._clock)
        self._clock.now = max(self._clock.now, self._store._engine.time_ns)
        self._replay = Replay(self._store._session, self._clock)

    def _catch_up(self, manifest: Manifest) -> None:
        """Make all entries here that a manifest leads to."""
        self._manifest = manifest
        reader, store = self._reader(manifest), self._opened()
        here = store._engine.seq
        if manifest.seq <= here:
            return
        reader.reach(manifest.seq, since=here)
        chain = reader.manifest.chain(here, manifest.seq)
        if chain is None:  # what lies between was never archived
            self._make(reader)
        else:
            try:
                self._apply(reader, chain)
            except (Damaged, PointExpired) as error:
                self._make(reader, error)
        with self._news:
            self._news.notify_all()

    def _apply(self, reader: Reader, chain: list[SegmentFacts]) -> None:
        try:
            read = reader.ahead(partial(reader.segment, each) for each in chain)
            for facts, segment in zip(chain, read, strict=True):
                self._replay.apply(segment, key=facts.key)
                if self._stopping.is_set() and self._thread is not None:
                    return
        finally:
            store = self._opened()
            session: Any = store._session
            with store._engine:
                session.log.commit()

    def _make(
        self, reader: Reader, why: Exception | None = None, progress: Progress | None = None
    ) -> None:
        """Begin again with a store of the newest state; what is here stays until that is done."""
        if self._store is not None and not self._place.is_marked():
            raise InvalidArgument(
                f"{self.path!r} cannot follow from where it is, and was no standby before: what it "
                "holds may be nowhere else. Move it away, and a new one is made"
            ) from why
        damage = {why.key: why} if isinstance(why, Damaged) else {}
        making = Restoring(reader, reader.manifest.seq, progress=progress, damage=damage)
        with ExitStack() as swapping:
            try:
                with self._place.making() as path:
                    making.make(path, self._settings, near=self._store).close()
                    swapping.enter_context(self._swapping)
                    swapping.callback(self._reopen)
                    self._close_store()
            except PointExpired as error:
                raise (error if why is None else why) from error

    def _reopen(self) -> None:
        if self._store is None:
            with suppress(FileNotFoundError):  # none could be made
                self._open()

    def _close_store(self) -> None:
        store, self._store = self._store, None
        if store is not None:
            store.close()

    def _let_go(self) -> None:
        with self._lock:
            self._close_store()
            self._place.close()
        self._pool.shutdown(wait=False, cancel_futures=True)


def follow(
    url: str | os.PathLike[str],
    path: str | os.PathLike[str],
    *,
    poll: float = POLL_SECONDS,
    settings: dict[str, Any] | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> Standby:
    """Keep a store up to date from an archive; see `jrnl.archive.follow`."""
    if type(poll) not in (int, float) or not poll > 0:
        raise InvalidArgument(f"poll is in seconds, above 0, not {poll!r}")
    return Standby(
        from_url(url, **options), path, poll=float(poll), settings=settings, progress=progress,
        archive_on=lambda store: store.archive(url, **options),
    )  # fmt: skip
