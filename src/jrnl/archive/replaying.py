"""Segments replayed: every entry made again, with the seq, the time and the kind that it had."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from jrnl._core import (
    FORMAT,
    MemoryDevice,
    begin_in_memory,
    go_on_with,
    replay,
    replay_until,
    to_the_end,
)
from jrnl.api import make_in_files, open_store, split_path, telling
from jrnl.archive.segment import check_volumes
from jrnl.disk.create import Draft, Start
from jrnl.disk.folder import Folder
from jrnl.disk.open import open_in, open_locked
from jrnl.errors import (
    CorruptionError,
    InvalidArgument,
    JrnlError,
    OutOfBounds,
    PointExpired,
    StoreClosed,
)
from jrnl.fold import Folding
from jrnl.options import Settings, parse, with_volumes
from jrnl.points import check_name
from jrnl.retention import Limits
from jrnl.savepoint import Rewinder
from jrnl.session import Session
from jrnl.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from types import TracebackType

    from jrnl.archive.segment import Rows, Segment
    from jrnl.lineage import Lineage
    from jrnl.points import Mark
    from jrnl.sizes import Size
    from jrnl.sources import Path

_MARK, _REWIND = FORMAT["kinds"]["MARK"], FORMAT["kinds"]["REWIND"]
_ROWS_AT_ONCE = 4096
_BYTES_AT_ONCE = 16 << 20


class Clock:
    """Gives the time of the entry that is made again; `now`, in nanoseconds since 1970-01-01."""

    def __init__(self, now: int) -> None:
        self.now = now

    def __call__(self) -> int:
        """Return it."""
        return self.now


class Replay:
    """Makes entries again in a store, which nobody else writes to.

    Parameters
    ----------
    session : Session
        Of a store that was made or opened with this `clock`.
    clock : Clock
    """

    def __init__(self, session: Session, clock: Clock) -> None:
        self._session, self._clock = session, clock
        self._rewinder = Rewinder(session)

    @property
    def seq(self) -> int:
        """The newest entry's seq."""
        return self._session.engine.seq

    def apply(self, segment: Segment, upto: int | None = None, key: str = "the segment") -> int:
        """Make the entries of a segment again, those that are not there yet; return the newest seq.

        What it raises leaves those that were made: it can be called again.

        Parameters
        ----------
        segment : Segment
            Goes on from the newest entry or an earlier one.
        upto : int, optional
            Make no later entry.
        key : str
            What messages call the segment.

        Raises
        ------
        InvalidArgument
            There are entries missing before it; or it has rewinds, and the store was made with
            ``images="after"``.
        CorruptionError
            An entry lies outside the volumes, or is no mark.
        PointExpired
            A rewind goes back to a state that is not in the window: replay from an earlier state,
            or with a larger journal.
        EntryTooLarge
            The journal, or its part in memory, is too small for an entry.
        JournalFull, OSError, StorePoisoned, StoreClosed
        """
        engine, rows = self._session.engine, segment.rows
        if upto is not None and upto <= engine.seq:
            return engine.seq
        if segment.base > engine.seq:
            raise InvalidArgument(
                f"{key} goes on from state {segment.base}, and the newest state here is "
                f"{engine.seq}: apply what lies between first"
            )
        check_volumes(rows, engine.sizes, key)
        rows = rows[rows["seq"] > engine.seq]
        if upto is not None:
            rows = rows[rows["seq"] <= upto]
        for part in _parts(rows):
            with engine.changing():
                engine.check_open()
                self._make(part, segment, key)
        return engine.seq

    def _make(self, rows: Rows, segment: Segment, key: str) -> None:
        """Make a part of a segment: one REWIND, or entries without any."""
        if rows["kind"][0] == _REWIND:
            self._clock.now = max(self._clock.now, int(rows["time_ns"][0]))
            self._rewind(rows[0], key)
            return
        names = [_mark(row, segment, key) for row in rows[rows["kind"] == _MARK]]
        try:
            to_the_end(partial(self._make_once, rows, names, segment.data))
        except OutOfBounds as error:  # not reached: they were held against the volumes
            raise CorruptionError(f"{key} is damaged: {error}") from error

    def _make_once(self, rows: Rows, names: list[list[Any]], data: memoryview) -> None:
        """Make those of these entries that are not there yet, and know their marks."""
        engine = self._session.engine
        try:
            left = rows[rows["seq"] > engine.seq]
            if left.size:
                replay(engine, np.ascontiguousarray(left), data)
        finally:
            self._clock.now = max(self._clock.now, engine.time_ns)
            made = [name for name in names if name[1] <= engine.seq]
            if made:
                self._session.catalog.load_marks(made)

    def _rewind(self, row: np.void, key: str) -> None:
        """Make a REWIND again, and before it, those that it stands for and nobody has archived."""
        engine = self._session.engine
        seq, to, follows = int(row["seq"]), int(row["offset"]), int(row["position"])
        try:
            if to > engine.seq:  # a rewind to a state that another one had made
                self._rewind_to(follows, to)
            elif to != follows and self._kind_of(to) != _REWIND:  # that one was interrupted here
                raise PointExpired(f"there is no entry {to}")
            self._rewind_to(to, seq)
        except PointExpired as error:
            raise PointExpired(
                f"{key}: entry {seq} is a rewind to state {follows}, and the window here is "
                f"{engine.base_seq}..{engine.seq}: replay from an earlier state, or with a larger "
                "journal"
            ) from error

    def _kind_of(self, seq: int) -> int | None:
        found = self._session.engine.entries(seq, seq)["kind"].tolist()
        return found[0] if found else None

    def _rewind_to(self, state: int, seq: int) -> None:
        """Rewind to a state, by a REWIND with this seq."""
        engine = self._session.engine
        engine.resolve(state)
        replay_until(engine, seq - 1)
        to_the_end(partial(self._rewind_once, state, seq))

    def _rewind_once(self, state: int, seq: int) -> None:
        engine = self._session.engine
        if engine.seq < seq:
            self._rewinder.rewind(engine.resolve(state), anyway=True)


def _parts(rows: Rows) -> Iterator[Rows]:
    """Yield rows in parts: each REWIND alone, and as much as is made in one go."""
    wrote = np.cumsum(rows["length"], dtype=np.uint64)
    start = 0
    while start < rows.size:
        stop = start + 1
        if rows["kind"][start] != _REWIND:
            most = int(wrote[start]) + _BYTES_AT_ONCE
            stop = max(stop, int(np.searchsorted(wrote, most, "right")))
            stop = min(stop, start + _ROWS_AT_ONCE)
            rewinds = np.flatnonzero(rows["kind"][start:stop] == _REWIND)
            stop = start + int(rewinds[0]) if rewinds.size else stop
        yield rows[start:stop]
        start = stop


def _mark(row: np.void, segment: Segment, key: str) -> list[Any]:
    """Return a mark's name, its entry's seq and time, and what follows the name in its text."""
    try:
        name, *parts = bytes(segment.written(row)).decode().split("\0")
        check_name(name)
    except (JrnlError, UnicodeDecodeError) as error:
        raise CorruptionError(
            f"{key} is damaged: entry {int(row['seq'])} is no mark: {error}"
        ) from error
    return [name, int(row["seq"]), int(row["time_ns"]), *parts]


class Replayer:
    """Makes a store, in memory or on disk, that begins with an archived state and goes on from it.

    First `fill` has the volumes' bytes in that state, then `apply` the segments that follow, and
    `finish` gives the store. Until then there is nothing at `path`: it is made under a name of its
    own, which the next one who makes a store there removes where this one is killed. As a context
    manager it is given up unless it was finished.

    Parameters
    ----------
    path : str or path, optional
        In memory by default.
    seq, time_ns : int
        The state with which the store begins, and when that began: earlier states have left its
        window.
    volumes : mapping of str to size
    created_ns : int, optional
        When the original was created; `time_ns` by default.
    marks : iterable of Mark
        Of that state.
    lineage : Lineage, optional
        What it is a fork of.
    options
        As for `create`, all but `size` and `source`: those of the original, or others.

    Raises
    ------
    InvalidArgument, InvalidType, StoreExists, OSError
        As `create`.
    """

    def __init__(
        self,
        path: Path | None = None,
        *,
        seq: int,
        time_ns: int,
        volumes: Mapping[str, Size],
        created_ns: int | None = None,
        marks: Iterable[Mark] = (),
        lineage: Lineage | None = None,
        **options: Any,
    ) -> None:
        settings = replace(parse(on_disk=path is not None, **options), maker=make_in_files)
        self._settings = with_volumes(settings, None, volumes)
        # Rules that may refuse an entry, or let one go early, hold from the end on.
        kept = replace(self._settings, overflow="evict", limits=Limits())
        clock = Clock(time_ns)
        created_ns = time_ns if created_ns is None else created_ns
        rows = [mark._row for mark in marks]
        start = Start(seq, time_ns, created_ns, rows, lineage)
        self._target: _InMemory | _OnDisk
        if path is None:
            self._target = _InMemory(replace(kept, clock=clock), start)
        else:
            self._target = _OnDisk(path, replace(kept, clock=clock), start)
        self._clock = clock
        self._replay: Replay | None = None
        self._ended = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def seq(self) -> int:
        """The newest entry's seq; at first that of the state with which the store begins."""
        return self._begun().seq

    def fill(self, volume: int, offset: int, data: bytes | memoryview) -> None:
        """Put bytes of the state that the store begins with into a volume, given by its index.

        Raises
        ------
        InvalidArgument
            An entry is there already.
        OutOfBounds
            The range does not lie inside the volume.
        OSError, StoreClosed
        """
        if self._ended:
            raise StoreClosed("the replay has ended; begin another one")
        if self._replay is not None:
            raise InvalidArgument("the state that a store begins with is filled in before apply")
        sizes = [*self._settings.sizes.values()]
        if not (0 <= volume < len(sizes) and 0 <= offset <= sizes[volume] - len(data)):
            raise OutOfBounds(
                f"{len(data)} bytes at {offset} do not lie inside volume {volume}; the sizes are "
                f"{sizes}"
            )
        self._target.fill(volume, offset, data)

    def prepare(self) -> None:
        """Make what needs no content, the journal's files; another thread may call `fill`.

        Called once, if at all, before `apply`. Raises OSError.
        """
        self._target.prepare()

    def sync(self) -> None:
        """Have what was filled in be written down; another thread may call `fill`.

        So the end does not wait for all of it. Raises OSError.
        """
        self._target.sync()

    def apply(self, segment: Segment, upto: int | None = None, key: str = "the segment") -> int:
        """Make the entries of a segment again. Takes, returns and raises as `Replay.apply`."""
        return self._begun().apply(segment, upto, key)

    def _begun(self) -> Replay:
        if self._ended:
            raise StoreClosed("the replay has ended; begin another one")
        if self._replay is None:
            self._replay = Replay(self._target.begin(), self._clock)
        return self._replay

    def finish(self) -> Store:
        """Return the store, open, with the rules and the clock that it was to have.

        On disk it is durable, and at its place, once this returns.

        Raises
        ------
        StoreExists
            There is something at the path by now.
        OSError, StorePoisoned, StoreClosed
        """
        self._begun()
        try:
            store = self._target.finish(self._settings)
        finally:
            self.close()
        return store

    def close(self) -> None:
        """Give up a store that was not finished: nothing of it stays."""
        if not self._ended:
            self._ended = True
            self._target.close()


class Resumed:
    """Goes on with a store that a `Replayer` has finished, as what it was made from goes on.

    Nobody else may write to it: its entries would take the seqs of the original's. As a context
    manager it closes the store.

    Parameters
    ----------
    path : str or path
    overlay : int or str, optional
        As for `open`.

    Attributes
    ----------
    store : Store
        Open, to be read from: new entries have the original's times.

    Raises
    ------
    FileNotFoundError, OSError, StoreLocked, FormatError, CorruptionError
        As `open`.
    """

    def __init__(self, path: Path, *, overlay: Size | None = None) -> None:
        clock = Clock(-(1 << 62))  # the newest entry's time counts until there is another one
        self.store = open_store(path, overlay=overlay, clock=clock)
        self._replay = Replay(self.store._session, clock)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @property
    def seq(self) -> int:
        """The newest entry's seq."""
        return self._replay.seq

    def apply(self, segment: Segment, upto: int | None = None, key: str = "the segment") -> int:
        """Make the entries of a segment again. Takes, returns and raises as `Replay.apply`."""
        return self._replay.apply(segment, upto, key)

    def commit(self) -> None:
        """Have everything that was made be durable, without an entry of its own.

        Raises
        ------
        OSError, StorePoisoned, StoreClosed
        """
        engine = self.store._engine
        engine.check_not_closed()
        engine.commit(engine.seq)

    def close(self) -> None:
        """Close the store, durably."""
        self.store.close()


class _InMemory:
    """A store in memory, while it is made."""

    def __init__(self, settings: Settings, start: Start) -> None:
        self._settings, self._start = settings, start
        self._engine = settings.engine([MemoryDevice(size) for size in settings.sizes.values()])
        begin_in_memory(self._engine, start.seq, start.time_ns, start.created_ns)
        self._session: Session | None = None

    def fill(self, volume: int, offset: int, data: bytes | memoryview) -> None:
        """Put bytes into a volume; the range lies inside."""
        memoryview(self._engine.devices[volume])[offset : offset + len(data)] = data
        self._engine.mark_written(volume, offset, len(data))

    def prepare(self) -> None:
        """Make the journal: it is there."""

    def sync(self) -> None:
        """Write down: nothing is."""

    def begin(self) -> Session:
        """Return its session, now that its first state is there."""
        names = list(self._settings.sizes)
        self._session = Session(self._engine, names, lineage=self._start.lineage)
        self._session.catalog.load_marks(self._start.marks)
        return self._session

    def finish(self, settings: Settings) -> Store:
        """Return the store, with its own rules and clock."""
        engine, session = self._engine, self._session
        assert session is not None
        go_on_with(engine, settings.clock, settings.overflow == "refuse")
        if settings.overflow == "fold":
            Folding(session).begin()
        store = Store(session, settings)
        session.tell_made()
        self._session = None
        return store

    def close(self) -> None:
        """Give it up, unless it was finished."""
        if self._session is not None:
            self._engine.close()


class _OnDisk:
    """A store in files, while it is made."""

    def __init__(self, path: Path, settings: Settings, start: Start) -> None:
        self._parent, self._name = split_path(path)
        self._path, self._start = path, start
        self._settings = replace(
            settings, path=os.path.join(self._parent, self._name), sync="flush"
        )
        self._store: Store | None = None
        with telling(self._path, self._parent, self._name):
            self._place = Folder(self._parent)
            try:
                self._draft = Draft(self._place, self._name, self._settings)
            except BaseException:
                self._place.close()
                raise

    def fill(self, volume: int, offset: int, data: bytes | memoryview) -> None:
        """Put bytes into a volume; the range lies inside."""
        with telling(self._path, self._parent, self._name):
            self._draft.volumes[volume].pwrite(offset, data)

    def prepare(self) -> None:
        """Make the journal's files."""
        with telling(self._path, self._parent, self._name):
            self._draft.make_journal()

    def sync(self) -> None:
        """Write down what the volumes' files hold."""
        with telling(self._path, self._parent, self._name):
            for device in self._draft.volumes:
                device.sync()

    def begin(self) -> Session:
        """Return its session, now that its first state is there."""
        with telling(self._path, self._parent, self._name):
            self._draft.write(self._start)
            self._store = open_locked(self._draft.folder, self._settings, fresh=True)
        return self._store._session

    def finish(self, settings: Settings) -> Store:
        """Have it durable, with its own rules; then give it its name, and open it by that."""
        store, limits = self._store, settings.limits
        assert store is not None
        with telling(self._path, self._parent, self._name):
            session: Any = store._session
            with store._engine:
                session.log.commit()
                state = session.state
                state.overflow, state.sync = settings.overflow, settings.sync
                state.reclaim = None if limits.reclaim is None else list(limits.reclaim)
                state.low, state.retain = limits.low, [limits.least_ns, limits.most_ns]
                session.log.record()
            self._draft.settle()
            store.close()
            self._store = None
            return open_in(
                self._place, self._name, overlay=settings.overlay, clock=settings.clock,
                on_low=limits.on_low, path=self._settings.path, maker=settings.maker,
            )  # fmt: skip

    def close(self) -> None:
        """Remove what there is of it, unless it was finished."""
        with suppress(JrnlError, OSError):  # its files go
            if self._store is not None:
                self._store.close()
        try:
            self._draft.discard()
        finally:
            self._place.close()
