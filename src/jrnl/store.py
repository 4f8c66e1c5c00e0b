"""Stores: volumes, their journal, and every state that they keep."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self

from jrnl import fork, retention, verify
from jrnl._core import Image, leave_memory, to_the_end
from jrnl.catalog import Marks, chosen
from jrnl.closeable import ClosesItself
from jrnl.errors import InvalidArgument, InvalidType, JrnlError, PointExpired
from jrnl.fork import Wish
from jrnl.journal import Journal
from jrnl.lineage import Parent
from jrnl.metrics import metrics
from jrnl.options import Options, Settings
from jrnl.past import Past
from jrnl.pins import Pin
from jrnl.plan import Plan
from jrnl.points import Mark, Point, Window
from jrnl.recovery import Progress, Recovery, recover
from jrnl.retention import Duration, parse_retention
from jrnl.savepoint import Rewind, Rewinder, Savepoint
from jrnl.session import Session
from jrnl.sizes import Size, as_flag, check_callable
from jrnl.snapshot import Report, Snapshot
from jrnl.sources import Path
from jrnl.steady import steadily
from jrnl.volume import Production, Volume
from jrnl.volume_file import VolumeFile
from jrnl.window import WindowTime, is_in_window, window_time

if TYPE_CHECKING:
    from jrnl.archive.working import Archive


class Store(Past, ClosesItself):
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
        self._indices = self._catalog.indices
        self._production = Production(self._engine, self._indices)
        self._volumes = {
            name: Volume(self._engine, k, name, self._catalog, self._production)
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
    def seq(self) -> int:  # type: ignore[override]
        """The newest entry's seq, which names the present state."""
        self._engine.check_not_closed()
        return self._engine.seq

    @property
    def _image(self) -> Image:
        return self._production._image

    @property
    def _writable(self) -> bool:
        return True

    def _path(self, index: int) -> str:
        return self._production._path(index)

    def as_file(self, volume: str | None = None) -> VolumeFile:
        """Return one volume of production as a raw file object; see `Volume.as_file`."""
        return [*self._volumes.values()][self._find(volume)].as_file()

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
        at: Point | None = None,
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
        at : point, optional
            Name this state of the window instead. The entry is made now, and a rewind that drops
            it drops the mark.

        Raises
        ------
        NameTaken, UnknownVolume, InvalidArgument, InvalidType, JournalFull, EditOpen, StoreClosed
        CatalogFull
            On disk: the superblocks have no room for one more pin, or for the volumes' names.
        EntryTooLarge
            The volumes' names take more than an entry may hold.
        PointExpired, UnknownPoint
            `at` is not in the window; or a pin with after-images alone, and no snapshot that leads
            to the state.
        """
        pinned = as_flag(pinned, "pinned")
        known = self._catalog.indices
        indices = [] if volumes is None else chosen(known, volumes, self._engine)
        meant = [volume for volume, index in known.items() if index in indices]
        if pinned and name is None:
            raise InvalidArgument("a bookmark cannot be pinned; give it a name, or use pin()")
        if at is not None and (pinned or name is None):
            raise InvalidArgument("a mark of an earlier state has a name, and is not pinned")
        if name is None:
            with self._engine as engine:
                engine.check_open()
                look = partial(self._bookmark, *meant)
                return steadily(engine, look)
        with self._engine.changing() as engine:
            engine.check_open()
            self._catalog.check_free(name)
            state = None if at is None else self._state_to_mark(at)
            if pinned or meant:
                self._session.check_mark([name, engine.seq, engine.time_ns, *meant])
            pinned_state = self._session.pins.pin_mark_state(name) if pinned else None
            try:
                mark = self._catalog.make_mark(name, *meant, state=state)
                if pinned:
                    self._session.pins.pin_mark(mark, self._session)
            finally:
                if pinned_state is not None:
                    pinned_state.release()
        return mark

    def _state_to_mark(self, at: Point) -> int:
        """Return the seq of a state of the window. Raises PointExpired, UnknownPoint."""
        engine = self._engine
        seq = steadily(engine, partial(self._resolver.resolve, at))
        if not is_in_window(self._catalog.snapshots, engine, seq):
            raise PointExpired(
                f"state {seq} has left the window, and a mark would not keep it; recover it, or "
                "use the snapshot's name"
            )
        return seq

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
        engine.happened("snapshot", name=name, seq=snapshot.seq)
        session.copier.start()
        return snapshot

    # Forks.

    def fork(
        self,
        path: Path | None = None,
        at: Point | None = None,
        *,
        history: bool = False,
        volumes: Iterable[str] | None = None,
        journal: Size | None = None,
        images: str | None = None,
        overflow: str | None = None,
        checksum: bool | None = None,
        sync: str | None = None,
        overlay: Size | None = None,
        clock: Callable[[], int] | None = None,
        reclaim: tuple[float, float] | None = None,
        low: float | None = None,
        on_low: Callable[[Store], object] | None = None,
        keep_at_least: Duration | None = None,
        keep_at_most: Duration | None = None,
        digest: bool | None = None,
        progress: Progress = None,
    ) -> Store:
        """Make a store of its own whose state 0 is a state of this one: in memory, or on disk.

        Whatever becomes of this store, its fork stays as it is. A fork in memory of a store in
        memory copies nothing until one of the two writes, and then blocks of 4 KiB. On disk the
        volumes' files share their blocks where the file system can; else what is not zero is
        copied, and this store goes on meanwhile. ``fork.parent`` tells where it comes from.

        Parameters
        ----------
        path : str or path, optional
            A folder that is made for it, whole or not at all; in memory by default.
        at : point, optional
            Any state of the window, or a snapshot's; the present one by default.
        history : bool
            Take the window up to the state along: the fork keeps its seqs, times and marks, and can
            go back to all of these states, as far as its journal holds them. Each entry is made
            again, with this store's lock held. By default the journal is large enough.
        volumes : iterable of str, optional
            Only these; by default those of the mark or snapshot that `at` names, or all.
        journal, images, overflow, checksum, sync, clock
            As for `create`; by default as this store has them, `images`, `checksum` and `sync`
            where both are on disk, or both in memory.
        overlay, reclaim, low, on_low, keep_at_least, keep_at_most
            As for `create`.
        digest : bool, optional
            On disk: record the state's digest, which reads all of it. By default of volumes of up
            to 4 GiB together.
        progress : callable, optional
            Called as ``progress(done, total)``, in bytes that are copied; none of this store's
            locks is held. With its history: in entries, and this store's lock is.

        Returns
        -------
        Store

        Raises
        ------
        UnknownPoint, PointExpired, UnknownVolume, CorruptionError
            As `recover`.
        StoreExists
            There is something at `path` already.
        EntryTooLarge
            With its history: an entry is larger than the `journal` that was given takes.
        InvalidArgument, InvalidType, OSError, EditOpen, StoreClosed, MemoryError
        """
        check_callable(progress, "progress")
        options = {
            "journal": journal, "images": images, "overflow": overflow, "checksum": checksum,
            "sync": sync, "overlay": overlay, "clock": clock, "reclaim": reclaim, "low": low,
            "on_low": on_low, "keep_at_least": keep_at_least, "keep_at_most": keep_at_most,
        }  # fmt: skip
        wish = Wish(at, volumes, options, progress, digest)
        if as_flag(history, "history"):
            forking = import_module("jrnl.archive.forking")  # it stands above the store
            grown: Store = forking.fork_with_history(self, path, wish)
            return grown
        if path is not None:
            forked: Store = fork.in_files(self._session, self._settings, path, wish)
            return forked
        forked = Store(*fork.in_memory(self._session, self._settings, wish))
        forked._session.tell_made()
        return forked

    @property
    def parent(self) -> Parent | None:
        """What this store is a fork of; None where it is none. Raises StoreClosed."""
        self._engine.check_not_closed()
        lineage = self._session.lineage
        if lineage is None:
            return None
        return Parent(lineage.key, lineage.seq, lineage.digest, self._parent_digest)

    def _parent_digest(self) -> str | None:
        """Return the digest of the state that it was made of, as long as that is known."""
        lineage = self._session.lineage
        assert lineage is not None
        if lineage.digest is None:
            with suppress(PointExpired):
                lineage.digest = self.digest(lineage.state)
        return lineage.digest

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

    def rewind(self, to: Point, close_views: bool = False) -> Rewind:
        """Put production itself back to an earlier state, and drop the entries after it.

        Costs the distinct bytes written since. History after the point is given up; the seq goes
        on rising: one REWIND entry stands for state `to`.

        Parameters
        ----------
        to : point
        close_views : bool
            Close the views that are in the way, pinned ones too. Where the rewind is refused for
            another reason they stay open.

        Raises
        ------
        PinnedPoint
            An open view or recovery needs an entry that would be dropped, or a later state is
            pinned. Of views it says where they were opened.
        UnknownPoint, PointExpired, CorruptionError, EditOpen, StoreClosed
        JournalFull
            On disk, what is pinned leaves no room for the REWIND entry.
        InvalidArgument
            ``images="after"``.
        InvalidType
        """
        close_views = as_flag(close_views, "close_views")
        with self._engine.changing() as engine:
            engine.check_open()
            self._rewinder.check_before_images("rewind")
            try:
                rewound = self._rewinder.rewind(self._resolver.resolve(to), close_views)
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

    # Elsewhere.

    def archive(self, url: str | os.PathLike[str], **options: Any) -> Archive:
        """Archive the store on an object store, from which any machine can recover any state.

        A thread of its own sends what becomes durable, and never holds a writer up unless it is
        asked to. It is asynchronous: a machine that is lost takes with it what was not archived by
        then, and that is what `Archive.age` tells. Takes ``pip install 'jrnl-engine[archive]'``.

        Parameters
        ----------
        url : str or path
            ``s3://bucket/prefix``, a folder, or ``memory://name``. Whoever opens it for writing
            takes it over: an earlier writer is stopped with `Fenced`.
        lag_at_most : timedelta or seconds, optional
            While something durable has not been archived for longer, writers wait once they are
            done.
        lag_timeout : timedelta or seconds, optional
            After which such a writer gets ArchiveLagging; what it wrote is written.
        interval : float
            Seconds, within which what is durable is sent, however little it is.
        segment : int or str
            Bytes of one object, at most; from 64KiB to 64MiB.
        snapshot_every : int or str
            Bytes sent, after which a snapshot of what has changed follows.
        keep : timedelta or seconds, optional
            How long states are kept in the archive; all stay by default.
        grace : timedelta or seconds
            How long what is not needed any more stays for readers; a day by default.
        collect_every : timedelta or seconds, optional
            How often what is older is deleted; None: never.
        **options
            Of the object store, for ``s3://``: endpoint, region, access_key_id, ...; by default
            from the environment. They are kept in memory alone.

        Returns
        -------
        Archive

        Raises
        ------
        ArchiveUnfit
            The archive is of another store, or of another history of this one; or the object store
            breaks a promise that an archive stands on.
        ArchiveUnreachable, ArchiveRefused, ArchiveFull, ArchiveError, Fenced, MissingPackage
        InvalidArgument
            The store is in memory, or archived already.
        ReadOnlyStore, InvalidType, StoreClosed
        """
        working = import_module("jrnl.archive.working")  # it stands above the store
        archive: Archive = working.archive(self, url, **options)
        return archive

    @property
    def archiving(self) -> Archive | None:
        """The archive that is at work; None: there is none. Raises StoreClosed."""
        self._engine.check_not_closed()
        archive: Archive | None = self._session.archive
        return archive

    def archive_flush(self, timeout: float | None = None) -> int:
        """Flush, and wait until that is archived; as `Archive.flush`.

        Raises
        ------
        InvalidArgument
            The store is not archived.
        Fenced, ArchiveLagging, OSError, StorePoisoned, EditOpen, StoreClosed
        """
        self._engine.check_not_closed()
        if self._session.archive is None:
            raise InvalidArgument("the store is not archived: store.archive(url) begins that")
        return int(self._session.archive.flush(timeout))

    # Checking.

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

    def metrics(self) -> dict[str, int | float]:
        """Return what it counts, as plain numbers by name, at the cost of a few reads.

        `docs/operating.md` has them all, and their units. What ends with ``_total`` is counted from
        the opening, and only grows; a store in memory leaves out what only one on disk has.

        Raises
        ------
        StoreClosed
        """
        with self._engine as engine:
            engine.check_not_closed()
            return metrics(self._session, self._resolver.oldest(), len(self.problems))

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
        for end in [*self._session.on_closing]:
            end()
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
        self._production._close_files()
        self._catalog.snapshots = {}  # whoever walks it goes on
        self._engine.close()
        self._session.tell_closed()
        self._session.let_go()

    def __del__(self) -> None:
        session = getattr(self, "_session", None)
        if session is not None:
            leave_memory(session.engine)
        if session is not None and session.unsaved:
            warnings.warn(
                f"{self!r} was dropped without being closed; it is flushed, as far as it can be",
                ResourceWarning,
                source=self,
                stacklevel=1,
            )
            session.copier.flush()
