"""Stores: volumes, their journal, and every state that they keep."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self
from weakref import ref

from jrnl import retention
from jrnl._core import Engine, ExtentMap, Image, to_the_end
from jrnl.catalog import Catalog, Marks
from jrnl.closeable import ClosesItself
from jrnl.errors import (
    CorruptionError,
    InvalidArgument,
    InvalidType,
    JrnlError,
    PointExpired,
    UnknownPoint,
)
from jrnl.history import State, TellsHistory
from jrnl.journal import Journal
from jrnl.options import Setup, TellsOptions
from jrnl.pins import KeepsStates, Pin, Pins
from jrnl.plan import BEFORE, Base, Plan, Way, choose
from jrnl.points import (
    PRODUCTION,
    Mark,
    NamePoint,
    Point,
    SeqPoint,
    TimePoint,
    Window,
    parse_point,
)
from jrnl.recovery import (
    AFTERWARDS,
    Progress,
    Recovery,
    Source,
    chosen,
    covered,
    make,
    oldest_state,
    present_seq,
    recovery_of,
)
from jrnl.savepoint import Rewinds, Savepoint
from jrnl.sizes import as_flag, check_callable
from jrnl.snapshot import Report, Snapshot, covers, telling_of_parts
from jrnl.snapshot_copier import Copier
from jrnl.steady import steadily, until_steady
from jrnl.taking import TakesSnapshots
from jrnl.verify import (
    compare_newest,
    digest,
    entries_problems,
    read_production,
    snapshot_problems,
)
from jrnl.view import View
from jrnl.volume import Volume

if TYPE_CHECKING:
    from jrnl.disk.session import DiskSession
    from jrnl.steady import Stamp


class Store(TakesSnapshots, KeepsStates, TellsHistory, TellsOptions, Rewinds, ClosesItself):
    """One or more volumes under one journal and one sequence; made by `create` and `wrap`.

    Any method may be called from any thread. As a context manager it closes itself; after that all
    but names, sizes and `problems` raises StoreClosed.
    """

    def __init__(
        self,
        engine: Engine,
        names: list[str],
        setup: Setup,
        keeper: DiskSession | None = None,
    ) -> None:
        self._engine, self._keeper, self._setup = engine, keeper, setup
        # Nothing here refers back to the store: dropped, it goes at once, and its memory with it.
        indices = {name: k for k, name in enumerate(names)}
        self._catalog = Catalog(indices, Copier(engine), partial(_is_in_window, engine))
        self._volumes = {
            name: Volume(engine, k, name, self._catalog) for name, k in indices.items()
        }
        self._catalog.keeper = keeper
        self._savepoints: set[Savepoint] = set()
        self._pins = Pins(engine, self._catalog, keeper)
        self._catalog.check_delete = _checker(ref(self._pins))
        if keeper is None:  # else once what the store holds has been loaded
            retention.apply(engine, setup.limits, self)
        self.journal = Journal(engine)

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
            return steadily(engine, lambda: Window(self._oldest(), engine.seq))

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
            elif self._keeper is None or not self._keeper.delete_recovery(number):
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
        known = self._catalog.volumes
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
            if self._keeper is not None and (pinned or meant):
                row = [self._catalog.check_free(name), engine.seq, engine.time_ns, *meant]
                self._keeper.check_room(row)
            if not pinned:
                return next(iter(self._volumes.values()))._mark(name, *meant)
            self._catalog.check_free(name)
            hold = self._pins.hold_for_mark(name)
            try:
                mark = next(iter(self._volumes.values()))._mark(name, *meant)
                self._pins.pin_mark(mark)
            finally:
                hold.release()
            return mark

    def _bookmark(self, *meant: str) -> Mark:
        mark = Mark._of(None, self._engine.seq, self._engine.tick(), *meant)
        mark._store = self._engine.identity
        return mark

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

            def look() -> Plan:
                only = self._only(volumes, to)
                way, seq = self._choose(to, base, only)
                asked = [partial(self._later, ask, seq, base, only) for ask in AFTERWARDS]
                return Plan(way.route, way.base.name, way.entries, way.bytes, *asked)

            return steadily(engine, look)

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
            return self._recover(to, base, undoable, volumes, progress)

    def _recover(
        self,
        to: Point,
        base: str | Snapshot | None = None,
        undoable: bool = False,
        volumes: Iterable[str] | None = None,
        progress: Progress = None,
    ) -> Recovery:
        def attempt(stamp: Stamp) -> Recovery:
            listed = self._catalog.listed
            only = self._only(volumes, to)
            way, seq = self._choose(to, base, only)
            source = Source(self._resolve, only, undoable)
            if self._keeper is not None:
                self._keeper.check_recovery(way.base.name, source.only)
            made = make(self._catalog, way, seq, source, progress)
            return recovery_of(self._catalog, source, made, stamp, listed)

        return until_steady(self._engine, attempt)

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
        self._check_own(at)
        only = self._only(volumes, at)
        image, release = self._image_of(at, only), None
        if pinned and self._snapshot_of(at, only) is None:  # that one needs no entry
            release = self._pins.pin(self._resolve(at)).release
        return View(image, covered(self._catalog, only), writable=writable, release=release)

    def _image_of(self, at: Point, only: frozenset[int] | None) -> Image:
        """Return the image of a state that copies nothing."""
        engine = self._engine
        snapshot = self._snapshot_of(at, only)
        if snapshot is not None:
            return Image.patched(snapshot._image, ExtentMap(engine), snapshot.seq, False)
        with telling_of_parts(self._catalog.snapshots, at, only):
            seq = self._resolve(at)
        if engine.images & BEFORE:
            return Image.live(engine, seq, False, only)
        try:
            way = choose(engine, self._snapshot_bases(only), seq, only)
        except PointExpired as error:
            advice = "take a snapshot before"
            if seq == engine.seq:  # which `recover` would copy
                advice += ", or recover it"
            raise PointExpired(
                f"with images='after' no view can follow state {seq} once it is overwritten, but "
                f"from a snapshot at or before it that the journal leads on from; {advice}"
            ) from error
        assert way.base.image is not None
        image = Image.patched(way.base.image, way.extents, seq, False)
        assert way.base.seq is not None
        image.expires_after(way.base.seq)
        return image

    def _only(self, volumes: Iterable[str] | None, point: Point) -> frozenset[int] | None:
        """Return the indices of the volumes that are asked for, None for all."""
        if volumes is None:
            named = self._named(point)
            if isinstance(named, Snapshot):
                return named._covers
            volumes = None if named is None else named.volumes
        if volumes is None:
            return None
        return frozenset(chosen(self._catalog.volumes, volumes, self._engine))

    def _named(self, point: Point) -> Mark | Snapshot | None:
        """Return the mark or snapshot that a point is, or is the name of."""
        self._check_own(point)
        if isinstance(point, str):
            return self._catalog.snapshots.get(point) or self._catalog.find_mark(point)
        return point if isinstance(point, Mark | Snapshot) else None

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
            return digest(engine, Image.production(engine))
        # With after-images alone, not every state that can be rebuilt can be viewed.
        named = self._named(at)
        names = named.volumes if isinstance(named, Snapshot) else self
        shown: View | Recovery
        if engine.images & BEFORE:
            shown = self._view(at, names)
        else:
            shown = self._recover(at, volumes=names)
        try:
            return digest(engine, shown._image, shown.volumes.values())
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
            problems = self.problems
            snapshots = [*self._catalog.snapshots.values()]

            def tell(done: int) -> None:
                if progress is not None:
                    progress(done, engine.entry_count + len(snapshots))

            problems += entries_problems(engine, tell)
            for k, snapshot in enumerate(snapshots):
                look = partial(self._problems_of, snapshot)
                problems += steadily(engine, look)
                tell(engine.entry_count + k + 1)
            problems += steadily(engine, partial(compare_newest, engine, self._volumes))
            read, unread = read_production(engine, self._volumes)
            problems += unread
            tell(engine.entry_count + len(snapshots))
            return Report(not problems, problems, engine.entry_count, len(snapshots), read)

    def _problems_of(self, snapshot: Snapshot) -> list[str]:
        if self._catalog.snapshots.get(snapshot.name) is not snapshot:
            return []  # deleted meanwhile
        return snapshot_problems(self._engine, snapshot, self._volumes)

    @property
    def problems(self) -> list[str]:
        """What is known to be wrong, one sentence each.

        That is what opening a store on disk has found, what has stopped the copying of a snapshot
        or spoiled a part of it, and a failed write or sync, after which nothing is written.
        """
        found = [] if self._keeper is None else self._keeper.all_problems()
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
            if self._keeper is None or not self._keeper.opened.forked:
                engine.check_open()
            if self._keeper is None:
                self._shut()
            else:
                with engine.changing():
                    self._shut()

    def _shut(self) -> None:
        recoveries = list(self._catalog.recoveries().values())
        give_up = partial(self._give_up, recoveries)
        try:
            self._catalog.copier.stop()
            if self._keeper is not None and self._keeper.writable:
                self._keeper.close(recoveries)
        finally:
            to_the_end(give_up)

    def _give_up(self, recoveries: list[Recovery]) -> None:
        """Be closed, whatever of it is durable."""
        self._catalog.keeper = None
        for recovery in recoveries:
            recovery._close()
        self._catalog.snapshots = {}  # whoever walks it goes on
        self._engine.close()
        if self._keeper is not None:
            self._keeper.let_go()

    def __del__(self) -> None:
        keeper = getattr(self, "_keeper", None)
        if keeper is not None and not self._engine.closed and keeper.writable:
            warnings.warn(
                f"{self!r} was dropped without being closed; it is flushed, as far as it can be",
                ResourceWarning,
                source=self,
                stacklevel=1,
            )
            self._catalog.copier.flush()

    def _finish_restore(self) -> None:
        """Take an interrupted restore back, or go on with it. Called by the opening."""
        keeper = self._keeper
        assert keeper is not None
        keeper.finish_restore(self._engine.rewind, self._restore_again)
        self._catalog.snapshots_changed()

    def _restore_again(self, number: int, indices: list[int] | None) -> None:
        recovery = self._catalog.recoveries().get(number)
        if recovery is not None:
            names = recovery.volumes
            wanted = [name for name in names if indices is None or names[name] in indices]
            recovery.restore(volumes=wanted)

    # Resolving points. Callers hold the lock.

    def _oldest(self) -> int:
        return oldest_state(self._catalog, self._engine, self._engine.base_seq, self._engine.seq)

    def _resolve(self, point: Point) -> int:
        """Return the seq that the point's state is kept under. Raises as `recover`."""
        if type(point) is int and 0 <= point <= self._engine.seq:  # the usual case, in short
            return self._engine.resolve(point)
        self._check_own(point)
        parsed = parse_point(point)
        if isinstance(parsed, TimePoint):
            return self._engine.seq_at(parsed.time_ns)
        if isinstance(parsed, NamePoint):
            return self._engine.resolve(self._catalog.find_name(parsed.name).seq)
        return self._engine.resolve(parsed.seq)

    def _check_own(self, point: object) -> None:
        """Raise UnknownPoint for what was deleted, or is of another store."""
        foreign = isinstance(point, Snapshot) and point._image.engine is not self._engine
        if isinstance(point, Pin):
            foreign = not point._is_of(self._engine)
        elif isinstance(point, Mark) and point.name is None:
            foreign = not self._knows_bookmark(point)
        elif isinstance(point, Mark) and point.name is not None:
            own = self._catalog.find_mark(point.name)
            if own is None:  # of a state that is there it would be known
                foreign = _is_in_window(self._engine, self._catalog, point.seq)
            else:
                foreign = own.time_ns != point.time_ns
        if foreign:
            what = type(point).__name__.lower()
            name = getattr(point, "name", None)
            raise UnknownPoint(
                f"the {what} {name!r} is of another store, or was dropped; use its seq"
            )

    def _knows_bookmark(self, mark: Mark) -> bool:
        """Whether it can be of this store; where its write was lost, its seq may be another's."""
        engine = self._engine
        if mark._store is not None and mark._store != engine.identity:
            return False
        # A REWIND's entry that a later one replaced goes by that one's time.
        if present_seq(engine, mark.seq) != mark.seq:
            return True  # resolving it says what has become of the state
        return engine.state_time(mark.seq) <= mark.time_ns

    def _snapshot_of(self, point: Point, only: frozenset[int] | None = None) -> Snapshot | None:
        """Return a snapshot that holds what is asked of the state that `point` names, if any."""
        found: Snapshot | None = None
        parsed = None
        if isinstance(point, Snapshot) and point.name in self._catalog.snapshots:
            found = self._catalog.snapshots[point.name]
        else:
            parsed = parse_point(point)
        if isinstance(parsed, NamePoint):
            found = self._catalog.snapshots.get(parsed.name)
        if found is not None and covers(found, only):
            return found
        seq = parsed.seq if isinstance(parsed, SeqPoint) else None if found is None else found.seq
        for snapshot in self._catalog.snapshots.values():
            if snapshot.seq == seq and covers(snapshot, only):
                return snapshot
        return None

    def _choose(
        self, to: Point, base: str | Snapshot | None, only: frozenset[int] | None
    ) -> tuple[Way, int]:
        """Return the way to `to`, and the seq of its state."""
        engine = self._engine
        self._check_own(to)
        bases = self._bases(base, only)
        target = self._snapshot_of(to, only)
        if target is not None and present_seq(engine, target.seq) is None:
            # The journal no longer knows this state, but the snapshot is a point of its own.
            if base is not None:
                asked = self._catalog.snapshots.get(bases[0].name)
                if asked is None or asked.seq != target.seq:
                    raise PointExpired(
                        f"state {target.seq} is only in the snapshot {target.name!r} now, "
                        f"and cannot be reached from {bases[0].name!r}"
                    )
                target = asked
            own = Base(target.name, target.seq, target._image, target._covers)
            return Way("backward", own, ExtentMap(engine)), target.seq
        parts = self._catalog.snapshots if base is None else {}
        advice = None if base is None else "leave base out, or use a later snapshot"
        with telling_of_parts(parts, to, only):
            seq = self._resolve(to)
            return choose(engine, bases, seq, only, advice=advice), seq

    def _state(self, point: Point, only: frozenset[int] | None) -> State:
        """Return what `diff` has to know of a point, and of which volumes."""
        self._check_own(point)
        snapshot = self._snapshot_of(point, only)
        if snapshot is not None and present_seq(self._engine, snapshot.seq) is None:
            return State(None, lambda: snapshot._image)

        def image() -> Image:
            way, seq = self._choose(point, None, only)
            base = way.base.image or Image.production(self._engine)
            return Image.patched(base, way.extents, seq, False)

        with telling_of_parts(self._catalog.snapshots, point, only):
            return State(self._resolve(point), image)

    def _later(self, ask: Callable[..., int], *asked: Any) -> int:
        with self._engine as engine:
            engine.check_open()

            def look() -> int:
                return ask(self._catalog, *self._choose(*asked), asked[-1])

            return steadily(engine, look)

    def _bases(self, base: str | Snapshot | None, only: frozenset[int] | None) -> list[Base]:
        """Return what an image may start from: all there is, or just the snapshot asked for."""
        engine = self._engine
        if base is not None:
            if not isinstance(base, str | Snapshot):
                raise InvalidType(
                    f"a base is a Snapshot or the name of one, not {type(base).__name__}"
                )
            self._check_own(base)
            if base == PRODUCTION and base not in self._catalog.snapshots:
                return [Base(PRODUCTION, engine.seq, None)]
            found = base if isinstance(base, Snapshot) else self._catalog.find_base(base)
            if not covers(found, only):
                raise InvalidArgument(
                    f"the snapshot {found.name!r} covers only the volumes "
                    f"{', '.join(map(repr, found.volumes))}; name no other ones, or use another "
                    "base, such as 'production'"
                )
            return [Base(found.name, present_seq(engine, found.seq), found._image, found._covers)]
        return [*self._snapshot_bases(only), Base(PRODUCTION, engine.seq, None)]

    def _snapshot_bases(self, only: frozenset[int] | None) -> list[Base]:
        return [
            Base(snapshot.name, present_seq(self._engine, snapshot.seq), snapshot._image,
                 snapshot._covers)
            for snapshot in self._catalog.snapshots.values()
            if covers(snapshot, only)
        ]  # fmt: skip


def _checker(pins: ref[Pins]) -> Callable[[str], None]:
    def check(name: str) -> None:
        found = pins()
        if found is not None:
            found.check_delete(name)

    return check


def _is_in_window(engine: Engine, catalog: Catalog, seq: int) -> bool:
    oldest = oldest_state(catalog, engine, engine.base_seq, engine.seq)
    try:
        return seq >= oldest and engine.resolve(seq) >= 0
    except (PointExpired, UnknownPoint):
        return False
    except CorruptionError:  # whoever asks for the state will be told
        return True
