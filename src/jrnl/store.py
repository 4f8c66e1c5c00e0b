"""Stores: volumes, their journal, and every state that they keep."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from types import MappingProxyType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from jrnl import history, retention, verify
from jrnl._core import Image, to_the_end
from jrnl.catalog import Marks, chosen
from jrnl.closeable import ClosesItself
from jrnl.errors import InvalidArgument, InvalidType, JrnlError, PointExpired
from jrnl.history import Stats
from jrnl.journal import Journal
from jrnl.options import Options, Settings
from jrnl.pins import Pin
from jrnl.plan import BEFORE, Plan
from jrnl.points import Mark, Point, Window
from jrnl.recovery import Progress, Recovery, recover
from jrnl.retention import Duration, parse_retention
from jrnl.savepoint import Rewind, Rewinder, Savepoint
from jrnl.session import Session
from jrnl.sizes import as_flag, check_callable
from jrnl.snapshot import Report, Snapshot
from jrnl.steady import steadily
from jrnl.view import View
from jrnl.volume import Volume
from jrnl.window import WindowTime, window_time


class Store(ClosesItself):
    """One or more volumes under one journal and one sequence; made by `create` and `wrap`.

    Any method may be called from any thread. As a context manager it closes itself; after that all
    but names, sizes and `problems` raises StoreClosed.
    """

    def __init__(self, session: Session, settings: Settings) -> None:
        # Nothing here refers back to the store: dropped, it goes at once, and its memory with it.
        self._session, self._settings = session, settings
        self._engine, self._catalog = session.engine, session.catalog
        self._resolver = session.resolver
        self._rewinder = Rewinder(session)
        self._volumes = {
            name: Volume(self._engine, k, name, self._catalog)
            for name, k in self._catalog.indices.items()
        }
        self.journal = Journal(self._engine)
        retention.apply(self._engine, settings.limits, self)

    def __enter__(self) -> Self:
        self._engine.check_not_closed()
        return self

    def __repr__(self) -> str:
        if self._engine.closed:
            return "<jrnl.Store, closed>"
        sizes = ", ".join(f"{name}: {volume.size}" for name, volume in self._volumes.items())
        try:
            return f"<jrnl.Store {{{sizes}}}, {self.window}>"
        except JrnlError as error:  # damaged, or a forked child's
            return f"<jrnl.Store {{{sizes}}}, no window: {type(error).__name__}>"

    # What there is.

    def __getitem__(self, name: str) -> Volume:
        return self._volumes[list(self._volumes)[self._catalog.volume_index(name)]]

    def __iter__(self) -> Iterator[str]:
        return iter(self._volumes)

    @property
    def volumes(self) -> Mapping[str, Volume]:
        """All volumes by name, in the order of their creation."""
        return MappingProxyType(self._volumes)

    @property
    def volume(self) -> Volume:
        """The only volume. Raises UnknownVolume where there are several."""
        return list(self._volumes.values())[self._catalog.volume_index(None)]

    @property
    def seq(self) -> int:
        """The newest entry's seq, which names the present state."""
        self._engine.check_not_closed()
        return self._engine.seq

    @property
    def window(self) -> Window:
        """The states that can be rebuilt now: oldest..newest, less what a rewind dropped."""
        with self._engine as engine:
            engine.check_not_closed()
            return steadily(engine, lambda: Window(self._resolver.oldest(), engine.seq))

    @property
    def window_time(self) -> WindowTime:
        """When the window's oldest state began, and when the newest entry was made; UTC.

        Raises
        ------
        CorruptionError, StoreClosed
        """
        with self._engine as engine:
            engine.check_not_closed()
            return steadily(engine, lambda: window_time(engine, self._resolver.oldest()))

    @property
    def options(self) -> Options:
        """What it was made with, and how it is open. Raises StoreClosed."""
        self._engine.check_not_closed()
        return self._settings.options(self._engine)

    @property
    def marks(self) -> Mapping[str, Mark]:
        """Marks whose states are in the window, by name; the mapping follows the store."""
        self._engine.check_not_closed()
        return Marks(self._catalog)

    @property
    def snapshots(self) -> Mapping[str, Snapshot]:
        """Snapshots by name."""
        with self._engine as engine:
            engine.check_not_closed()
            return MappingProxyType(dict(self._catalog.snapshots))

    @property
    def recoveries(self) -> Mapping[int, Recovery]:
        """Recoveries that can be taken up again, by id.

        One that was restored stays until it is closed; another one as long as its caller holds it.
        """
        with self._engine as engine:
            engine.check_not_closed()
            return MappingProxyType(self._catalog.recoveries())

    def delete_recovery(self, number: int) -> None:
        """Give up a recovery by its id, with what it preserves; also one that cannot be taken up.

        Raises
        ------
        InvalidArgument
            There is none with that id.
        ReadOnlyStore, EditOpen, StoreClosed
        """
        with self._engine.changing() as engine:
            engine.check_open()
            found = self._catalog.recoveries().get(number)
            if found is not None:
                to_the_end(found._close)
            elif not self._session.delete_recovery(number):
                known = ", ".join(map(str, self._catalog.recoveries())) or "none"
                raise InvalidArgument(f"there is no recovery {number!r}; there is {known}")

    # Naming states.

    def flush(self) -> int:
        """Make what was written durable, as far as the store is; return the newest seq.

        Adds one FLUSH entry if any entry was added since the last one. On disk, all that was
        written before the call survives any crash once it has returned; threads that flush at the
        same time share a sync. On a store that is open for reading there is nothing to do.

        Raises
        ------
        OSError
            It could not be written or synced; from then on the store is poisoned.
        StorePoisoned, StoreClosed, EditOpen
        JournalFull
            In memory: the FLUSH entry has no room.
        """
        with self._engine as engine:
            engine.check_open()
            seq = engine.flush()
        engine.commit(seq)
        return seq

    def mark(
        self,
        name: str | None = None,
        pinned: bool = False,
        *,
        volumes: Iterable[str] | None = None,
    ) -> Mark:
        """Name the present state, by a MARK entry; without a name, return a bookmark, no entry.

        A mark lives as long as its state is in the window. A `pinned` one keeps it there, as `pin`
        does, until `unpin`; on disk it is durable when this returns, and outlives closing.

        Parameters
        ----------
        name : str, optional
        pinned : bool
        volumes : iterable of str, optional
            The only volumes that it is meant for: `recover`, `view` and `plan` to it cover these,
            unless they are told otherwise. A `rewind` to it is one of all volumes, as ever, and
            `digest` is over all of them.

        Raises
        ------
        NameTaken, UnknownVolume, InvalidArgument, InvalidType, JournalFull, EditOpen, StoreClosed
        CatalogFull
            On disk: the superblocks have no room for one more pin, or for the volumes' names.
        EntryTooLarge
            The volumes' names take more than an entry may hold.
        PointExpired
            A pin with after-images alone, and no snapshot that leads to the state.
        """
        pinned = as_flag(pinned, "pinned")
        known = self._catalog.indices
        indices = [] if volumes is None else chosen(known, volumes, self._engine)
        meant = [volume for volume, index in known.items() if index in indices]
        if pinned and name is None:
            raise InvalidArgument("a bookmark cannot be pinned; give it a name, or use pin()")
        if name is None:
            with self._engine as engine:
                engine.check_open()
                look = partial(self._bookmark, *meant)
                return steadily(engine, look)
        with self._engine.changing() as engine:
            engine.check_open()
            self._catalog.check_free(name)
            if pinned or meant:
                self._session.check_mark([name, engine.seq, engine.time_ns, *meant])
            hold = self._session.pins.hold_for_mark(name) if pinned else None
            try:
                mark = self._catalog.make_mark(name, *meant)
                if pinned:
                    self._session.pins.pin_mark(mark, self._session)
            finally:
                if hold is not None:
                    hold.release()
        return mark

    def _bookmark(self, *meant: str) -> Mark:
        engine = self._engine
        return Mark._of(None, engine.seq, engine.tick(), *meant, store=engine.identity)

    def snapshot(
        self, name: str, volumes: Iterable[str] | None = None, pinned: bool = False
    ) -> Snapshot:
        """Take a copy of the volumes as they are now, with checksums.

        It costs nothing to take, whatever the volumes' size: it is read through the journal at
        first, and copied in the background (`Snapshot.complete`, `Snapshot.wait`); what the journal
        must let go of meanwhile is copied before. On disk, it is durable once this returns, and the
        copying goes on after a crash. With ``images="after"`` the journal can't keep a past: then
        all is copied at once, and writers wait.

        Parameters
        ----------
        name : str
        volumes : iterable of str, optional
            The only volumes that it covers; all by default. `recover`, `view` and `plan` to it
            cover these, too, unless they are told otherwise, and `digest` is over these alone. A
            `rewind` to it is one of all volumes, as ever.
        pinned : bool
            No fold may touch it; see ``overflow="fold"`` of `create`.

        Raises
        ------
        NameTaken, UnknownVolume, InvalidArgument, InvalidType, EditOpen, StoreClosed, MemoryError
        OSError, StorePoisoned, ReadOnlyStore, CatalogFull
            On disk.
        """
        pinned, session = as_flag(pinned, "pinned"), self._session
        with self._engine.changing() as engine:
            engine.check_open()
            self._catalog.check_free(name)
            covered = chosen(self._catalog.indices, volumes, engine)
            session.check_snapshot(name, covered)
            image, copy = session.begin_snapshot(covered)
            snapshot = Snapshot(session, name, image, engine.tick(), copy, covered, pinned)
            if copy is not None:
                session.copier.add(copy)
            finish = session.enter_snapshot(snapshot)
        finish()
        session.copier.start()
        return snapshot

    # What stays.

    @property
    def pins(self) -> tuple[Pin, ...]:
        """What is pinned now, marks and views too, the oldest state first."""
        with self._engine as engine:
            engine.check_not_closed()
            return self._session.pins.all()

    def pin(self, at: Point) -> Pin:
        """Keep a state, and every later one, in the window.

        While the pin is there no entry after the state leaves the journal, and no rewind goes below
        it. A writer that needs the room gets JournalFull. It lasts until it is released, or until
        nobody holds it; it does not outlive the store's closing. A pinned `mark` does.

        Raises
        ------
        PointExpired
            The state is no longer in the window; or with after-images alone, no snapshot leads to
            it.
        UnknownPoint, CorruptionError, InvalidArgument, InvalidType, EditOpen, StoreClosed
        """
        with self._engine as engine:
            engine.check_open()
            return steadily(engine, lambda: self._session.pins.pin(self._resolver.resolve(at)))

    def unpin(self, name: str | Mark) -> None:
        """Let a pinned mark, given by its name or as a Mark, go on as an ordinary one.

        Raises
        ------
        UnknownPoint
            No pinned mark has that name.
        InvalidType, OSError, EditOpen, ReadOnlyStore, StorePoisoned, StoreClosed
        """
        with self._engine.changing() as engine:
            engine.check_open()
            wanted = getattr(name, "name", name)
            if not isinstance(wanted, str):
                raise InvalidType(f"unpin takes a mark or its name, not {wanted!r}")
            self._session.pins.unpin(wanted, self._session)

    def retain(self, at_least: Duration | None = None, at_most: Duration | None = None) -> None:
        """Set how long states are kept, in place of what was set before; None for no such rule.

        Parameters
        ----------
        at_least : timedelta, or seconds as int or float, optional
            No younger entry leaves the journal: who needs the room gets JournalFull.
        at_most : timedelta, or seconds as int or float, optional
            An older entry leaves even where there is room, at the next operation; pins hold it.
            So a state goes once what followed it is older than this. In memory that is exact. On
            disk whole groups leave, so that it may take an eighth of the duration longer; and a
            store that is open for reading shows what is there. Snapshots are copies, and stay.

        Raises
        ------
        InvalidArgument, InvalidType
            No duration, or `at_least` is longer than `at_most`.
        OSError, EditOpen, ReadOnlyStore, StorePoisoned, StoreClosed
        """
        least_ns, most_ns = parse_retention(at_least, at_most)
        with self._engine.changing() as engine:
            engine.check_open()
            self._session.set_retention(least_ns, most_ns)
            engine.set_retention(least_ns, most_ns)

    # Going back.

    def plan(
        self,
        to: Point,
        base: str | Snapshot | None = None,
        *,
        volumes: Iterable[str] | None = None,
    ) -> Plan:
        """Say what `recover` would do, before anything moves. Takes and raises what it does."""
        with self._engine as engine:
            engine.check_open()
            return steadily(engine, partial(self._resolver.plan, to, base, volumes))

    def recover(
        self,
        to: Point,
        base: str | Snapshot | None = None,
        undoable: bool = False,
        *,
        volumes: Iterable[str] | None = None,
        progress: Progress = None,
    ) -> Recovery:
        """Rebuild an earlier state beside production, the cheapest way.

        Parameters
        ----------
        to : int, str, Mark, Snapshot or aware datetime
            A time means the last state at or before it.
        base : str or Snapshot, optional
            The snapshot to start from, or "production"; the planner's choice by default.
        undoable : bool
            Let `Recovery.seek` move it to other states, forward and back.
        volumes : iterable of str, optional
            Cover only these volumes; by default those of the mark or
            snapshot that `to` names, or all.
        progress : callable, optional
            Called as ``progress(done, total)``, in bytes, while they are copied, with the store's
            lock held. What it raises ends the recovery, and nothing of it is kept.

        Raises
        ------
        UnknownPoint
            `to` names no state.
        UnknownVolume
            There is no such volume.
        PointExpired
            The state has left the window, or `base` leads there no more.
        CorruptionError
            An image that would be applied is damaged, or the bridge's cross-check fails.
        InvalidArgument, InvalidType, EditOpen, StoreClosed, MemoryError
        """
        check_callable(progress, "progress")
        undoable = as_flag(undoable, "undoable")
        with self._engine as engine:
            engine.check_open()
            return recover(self._session, to, base, undoable, volumes, progress)

    def view(
        self,
        at: Point,
        writable: bool = False,
        *,
        volumes: Iterable[str] | None = None,
        pinned: bool = False,
    ) -> View:
        """Look at an earlier state without copying it.

        Parameters
        ----------
        at : point
            As for `recover`.
        writable : bool
            Let it be written to: copy on write, thrown away when it is closed.
        volumes : iterable of str, optional
            Show only these volumes; by default those of the mark or
            snapshot that `at` names, or all.
        pinned : bool
            Keep its state in the window, as `pin` does, until it is closed.

        Raises
        ------
        PointExpired, UnknownPoint, UnknownVolume, CorruptionError, InvalidArgument, InvalidType,
        EditOpen, StoreClosed
        """
        writable, pinned = as_flag(writable, "writable"), as_flag(pinned, "pinned")
        with self._engine as engine:
            engine.check_open()
            return steadily(engine, partial(self._view, at, volumes, writable, pinned))

    def _view(
        self,
        at: Point,
        volumes: Iterable[str] | None = None,
        writable: bool = False,
        pinned: bool = False,
    ) -> View:
        resolver = self._resolver
        only = resolver.only(volumes, at)
        image, release = resolver.image_of(at, only), None
        if pinned and resolver.snapshot_of(at, only) is None:  # that one needs no entry
            release = self._session.pins.pin(resolver.resolve(at)).release
        return View(image, self._catalog.covered(only), writable=writable, release=release)

    def rewind(self, to: Point) -> Rewind:
        """Put production itself back to an earlier state, and drop the entries after it.

        Costs the distinct bytes written since. History after the point is given up; the seq goes
        on rising: one REWIND entry stands for state `to`.

        Raises
        ------
        PinnedPoint
            An open view or recovery needs an entry that would be dropped, or a later state is
            pinned.
        UnknownPoint, PointExpired, CorruptionError, EditOpen, StoreClosed
        JournalFull
            On disk, what is pinned leaves no room for the REWIND entry.
        InvalidArgument
            ``images="after"``.
        """
        with self._engine.changing() as engine:
            engine.check_open()
            self._rewinder.check_before_images("rewind")
            try:
                rewound = self._rewinder.rewind(self._resolver.resolve(to))
            except PointExpired as error:
                only = self._resolver.only(None, to)
                snapshot = self._resolver.snapshot_of(to, only)
                if snapshot is None:
                    raise
                raise PointExpired(
                    f"state {snapshot.seq} is only in the snapshot {snapshot.name!r} now, and a "
                    "rewind needs the entries since; recover it and restore that"
                ) from error
        return rewound

    def savepoint(self, name: str | None = None) -> Savepoint:
        """Return a block that an exception rewinds to its start. Savepoints nest.

        ``with store.savepoint() as start`` gives a bookmark of the start; a `name` is a mark's
        while the block runs. What other threads write meanwhile is rewound too. Close views and
        recoveries that were made in the block before it ends: leaving it by an exception raises
        what `rewind` does, PinnedPoint while one is open, and then changes nothing.
        """
        self._engine.check_not_closed()
        self._rewinder.check_before_images("savepoint")
        return Savepoint(self._rewinder, name)

    # What has happened.

    def diff(
        self, a: Point, b: Point, volume: str | Volume | None = None, *, exact: bool = False
    ) -> NDArray[np.void]:
        """Say where two states differ. Their order does not matter.

        By default that is told from the headers of the entries between them, and nothing is read:
        the extents that these entries wrote. Outside of them the states are equal; inside, bytes
        may be, since a write may write what was there already. Zeroes over zeroes do not count
        where the journal says so.

        With `exact` both states are read there and compared: an extent begins and ends with a byte
        that differs, and between two such bytes runs of less than 64 equal ones are part of it.

        A state that only a snapshot holds, and one that damaged headers lead to, is read and
        compared in any case, wherever it may differ: the answer is exact then.

        Parameters
        ----------
        a, b : point
            As for `recover`. Without `exact`, their entries are enough: they need not be in the
            window of a store with ``images="after"``.
        volume : str or Volume, optional
            Only this one; all of them by default, also where a point is a snapshot of some. Once
            that is all that holds its state, name one that it covers.

        Returns
        -------
        ndarray
            Structured: volume (uint16, its index in ``store.volumes``), offset and length (uint64,
            bytes), sorted by volume and offset; extents neither touch nor overlap.

        Raises
        ------
        PointExpired, UnknownPoint, UnknownVolume, CorruptionError, InvalidArgument, InvalidType,
        EditOpen, StoreClosed, MemoryError
        """
        exact = as_flag(exact, "exact")
        with self._engine as engine:
            engine.check_open()
            index = None if volume is None else self._catalog.volume_index(volume)
            only = None if index is None else frozenset({index})
            state = self._resolver.state
            return steadily(
                engine,
                lambda: history.diff(engine, (state(a, only), state(b, only)), index, exact),
            )

    def history(
        self, offset: int, length: int, volume: str | Volume | None = None
    ) -> NDArray[np.void]:
        """Say who wrote in a range of a volume: the retained entries that did, oldest first.

        They are rows of ``store.journal.entries``: writes, discards and zeroes whose range overlaps
        it. What was there before entry `seq` is ``store.journal.before(seq)``. What a rewind
        dropped is in no state and not in here. Nobody has written in an empty range.

        Parameters
        ----------
        offset, length : int
            Bytes.
        volume : str or Volume, optional
            Where there are several.

        Raises
        ------
        OutOfBounds, UnknownVolume, InvalidType, StoreClosed
        CorruptionError
            A header is damaged: it could be of an entry that wrote there.
        """
        with self._engine as engine:
            engine.check_not_closed()
            index = self._catalog.volume_index(volume)
            return steadily(engine, lambda: history.history(engine, offset, length, index))

    def stats(
        self,
        since: Point | None = None,
        until: Point | None = None,
        volume: str | Volume | None = None,
    ) -> Stats:
        """Count what was written after state `since`, up to and including state `until`.

        By default, all that the journal holds. A phase is what lies between two points: mark its
        start and its end. What a rewind dropped counts nowhere.

        Parameters
        ----------
        since, until : point, optional
        volume : str or Volume, optional
            Only what was written to this one; all of them by default.

        Returns
        -------
        Stats

        Raises
        ------
        InvalidArgument
            `since` is the later one.
        CorruptionError
            A header among them is damaged.
        PointExpired, UnknownPoint, UnknownVolume, InvalidType, StoreClosed
        """
        with self._engine as engine:
            engine.check_not_closed()
            index = None if volume is None else self._catalog.volume_index(volume)

            def count() -> Stats:
                first = engine.base_seq if since is None else self._resolver.resolve(since)
                last = engine.seq if until is None else self._resolver.resolve(until)
                return history.stats(engine, first, last, index)

            return steadily(engine, count)

    # Checking.

    def digest(self, at: Point | None = None) -> str:
        """Return one XXH3-128, as 32 hex digits, over all volumes one after the other.

        Equal digests mean equal states. `at` is any point; the present state by default. Of a
        snapshot of some volumes the digest is over these alone. Takes and raises what `recover`
        does.
        """
        with self._engine as engine:
            engine.check_open()
            return steadily(engine, partial(self._digest, at))

    def _digest(self, at: Point | None) -> str:
        engine = self._engine
        if at is None:
            return verify.digest(engine, Image.production(engine))
        # With after-images alone, not every state that can be rebuilt can be viewed.
        named = self._resolver.named(at)
        names = named.volumes if isinstance(named, Snapshot) else self
        shown: View | Recovery
        if engine.images & BEFORE:
            shown = self._view(at, names)
        else:
            shown = recover(self._session, at, volumes=names)
        try:
            return verify.digest(engine, shown._image, shown.volumes.values())
        finally:
            shown._close()

    def verify(self, progress: Callable[[int, int], object] | None = None) -> Report:
        """Read everything, and check it, two ways where there are two.

        Every entry and its images and every block of a snapshot are held against their checksums.
        All of production is read. Where the journal keeps after-images, production must be what the
        newest of them say; snapshots must lead forward to production, and production back to them.

        Parameters
        ----------
        progress : callable, optional
            Called as ``progress(done, total)``, in entries and snapshots; at the end both are
            equal.

        Returns
        -------
        Report

        Raises
        ------
        OSError
            A file cannot be read.
        InvalidType, EditOpen, StoreClosed
        """
        check_callable(progress, "progress")
        with self._engine as engine:
            engine.check_open()
            return verify.verify(self._catalog, self._volumes, self.problems, progress)

    @property
    def problems(self) -> list[str]:
        """What is known to be wrong, one sentence each.

        That is what opening a store on disk has found, what has stopped the copying of a snapshot
        or spoiled a part of it, and a failed write or sync, after which nothing is written.
        """
        found = self._session.problems()
        problems = (snapshot.problem for snapshot in self._catalog.snapshots.values())
        return found + [problem for problem in problems if problem is not None]

    def close(self) -> None:
        """Close the store.

        A memory store's content is gone then; arrays taken from it stay valid memory. A store on
        disk makes all durable first: its volumes' files are up to date, and snapshots complete.

        Raises
        ------
        EditOpen
            Inside this thread's own ``edit`` block.
        """
        with self._engine as engine:
            if engine.closed:
                return
            self._session.check_closing()
            with self._session.changing():
                recoveries = list(self._catalog.recoveries().values())
                try:
                    self._session.copier.stop()
                    self._session.save(recoveries)
                finally:
                    to_the_end(partial(self._give_up, recoveries))

    def _give_up(self, recoveries: list[Recovery]) -> None:
        """Be closed, whatever of it is durable."""
        self._session.end()
        for recovery in recoveries:
            recovery._close()
        self._catalog.snapshots = {}  # whoever walks it goes on
        self._engine.close()
        self._session.let_go()

    def __del__(self) -> None:
        session = getattr(self, "_session", None)
        if session is not None and session.unsaved:
            warnings.warn(
                f"{self!r} was dropped without being closed; it is flushed, as far as it can be",
                ResourceWarning,
                source=self,
                stacklevel=1,
            )
            session.copier.flush()
