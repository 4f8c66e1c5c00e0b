"""Forks: a store of its own, whose first state is one of another store's."""

from __future__ import annotations

import os
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from jrnl._core import (
    Engine,
    MemoryDevice,
    fork_copies,
    fork_layers,
    fork_put,
    fork_shares,
    keep_merged,
    merged_states,
)
from jrnl.catalog import chosen
from jrnl.compare import ranges_to_write
from jrnl.errors import InvalidArgument, PointExpired
from jrnl.fold import Folding
from jrnl.lineage import Lineage
from jrnl.options import IMAGES, JOURNAL_MIN_BYTES, Settings, parse
from jrnl.pieces import runs_within
from jrnl.points import Point
from jrnl.recovery import Progress, Recovery, recover
from jrnl.session import Session
from jrnl.steady import until_steady

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from jrnl._core import CallbackDevice, FileDevice
    from jrnl.compare import Ranges
    from jrnl.sources import Path
    from jrnl.steady import Stamp

    Device = FileDevice | CallbackDevice
    Put = Callable[[int, int, memoryview], object]

DIGEST_BYTES = 4 << 30  # of larger volumes no digest is recorded unless it is asked for


class Wish(NamedTuple):
    """What `Store.fork` was asked for.

    Attributes
    ----------
    at : point or None
        None: the present state.
    volumes : iterable of str or None
    options : dict
        As `create` takes them; None: as the store has it.
    progress : callable or None
    digest : bool or None
    """

    at: Point | None
    volumes: Iterable[str] | None
    options: dict[str, Any]
    progress: Progress = None
    digest: bool | None = None


def in_memory(session: Session, settings: Settings, wish: Wish) -> tuple[Session, Settings]:
    """Make a fork in memory; return its session and settings. Raises as `Store.fork`."""
    wished = _settings_of(settings, wish.options, on_disk=False)
    engine = session.engine
    if engine.on_disk:
        with _recovery_at(session, wish) as recovery:
            made = _copied(recovery, wished, wish.progress)
            lineage = Lineage(engine.identity, recovery.seq)
    else:
        with engine:
            engine.check_open()
            made, lineage = until_steady(engine, partial(_shared, session, wished, wish))
    new, wished = made
    forked = Session(new, list(wished.sizes), lineage=lineage)
    if wished.overflow == "fold":
        Folding(forked).begin()
    return forked, wished


def options_of(parent: Settings, options: dict[str, Any], *, on_disk: bool) -> dict[str, Any]:
    """Return what a fork is made with but for its volumes, as `create` takes it."""
    given = {name: value for name, value in options.items() if value is not None}
    usual: dict[str, Any] = {"journal": parent.journal, "overflow": parent.overflow}
    if parent.clock is not None:
        usual["clock"] = parent.clock
    if on_disk == (parent.sync is not None):  # of the same kind
        usual["images"] = next(name for name, mode in IMAGES.items() if mode == parent.images)
        usual["checksum"], usual["sync"] = parent.checksum, parent.sync
    return usual | given


def _settings_of(parent: Settings, options: dict[str, Any], *, on_disk: bool) -> Settings:
    """Return the settings. Raises InvalidArgument, InvalidType."""
    parsed = parse(on_disk=on_disk, **options_of(parent, options, on_disk=on_disk))
    return replace(parsed, maker=parent.maker)


def _with_volumes(
    settings: Settings, engine: Engine, names: Iterable[str], indices: Iterable[int]
) -> Settings:
    sizes = engine.sizes
    return replace(settings, sizes={name: sizes[k] for name, k in zip(names, indices, strict=True)})


# In memory, of a store in memory: it shares what neither of the two writes.


def _shared(
    session: Session, settings: Settings, wish: Wish, stamp: Stamp
) -> tuple[tuple[Engine, Settings], Lineage]:
    engine = session.engine
    seq = _present(session, wish.at)
    if seq is not None:
        only = None if wish.at is None else session.resolver.only(wish.volumes, wish.at)
        indices = _covered(session, wish, only)
        made = _share(engine, settings, indices, {}, None, stamp)
        return made, Lineage(engine.identity, seq)
    with _recovery_at(session, wish) as recovery:
        indices = dict(recovery._indices)
        stamp = engine.stamp
        ranges = ranges_to_write(recovery._image, [*indices.values()], everything=False)
        made = _share(engine, settings, indices, ranges, recovery, stamp)
        return made, Lineage(engine.identity, recovery.seq)


def _share(
    engine: Engine,
    settings: Settings,
    indices: dict[str, int],
    ranges: Ranges,
    recovery: Recovery | None,
    stamp: Stamp,
) -> tuple[Engine, Settings]:
    """Return an engine that shares production, but for what a recovery has in these ranges."""
    settings = _with_volumes(settings, engine, indices, indices.values())
    new = settings.engine([MemoryDevice(size, False) for size in settings.sizes.values()])
    engine.check_stamp(stamp)
    _begin(engine, new, [*indices.values()])
    for k, index in enumerate(indices.values() if recovery is not None else ()):
        assert recovery is not None
        for offset, length in zip(*(column.tolist() for column in ranges[index]), strict=True):
            fork_put(new, k, offset, recovery._image.read(offset, length, index))
    return new, settings


def _begin(engine: Engine, new: Engine, indices: list[int]) -> None:
    """Make a new engine a fork of one in memory, whose lock is held."""
    few, below = fork_layers(engine)
    if few:
        fork_copies(engine, new, indices, 0)
        return
    if not below:
        fork_shares(engine, new, indices)
        return
    merged = merged_states(engine)
    if merged is None:
        devices = [MemoryDevice(size, False) for size in engine.sizes]
        merged = Engine(devices, JOURNAL_MIN_BYTES)
        fork_copies(engine, merged, range(len(devices)), below)
        keep_merged(engine, merged)
    fork_shares(merged, new, indices)


def _present(session: Session, at: Point | None) -> int | None:
    """Return the newest seq where a point is the present state, else None. The lock is held."""
    engine = session.engine
    if at is None:
        return engine.seq
    try:
        seq = session.resolver.resolve(at)
    except PointExpired:  # perhaps a snapshot has it
        return None
    return engine.seq if seq == engine.resolve(engine.seq) else None


def _covered(session: Session, wish: Wish, only: Iterable[int] | None) -> dict[str, int]:
    known = session.catalog.indices
    if only is None and wish.volumes is not None:
        only = chosen(known, wish.volumes, session.engine)
    return {name: k for name, k in known.items() if only is None or k in {*only}}


# By copying.


def _recovery_at(session: Session, wish: Wish) -> Recovery:
    """Return a recovery of the state that is asked for; on its way out it is closed."""
    with session.engine as engine:
        engine.check_open()
        at = engine.seq if wish.at is None else wish.at
        return recover(session, at, volumes=wish.volumes)


def _copied(recovery: Recovery, settings: Settings, progress: Progress) -> tuple[Engine, Settings]:
    """Return an engine in memory over a copy of a state."""
    indices = recovery._indices
    settings = _with_volumes(settings, recovery._image.engine, indices, indices.values())
    held = {k: recovery._held(index) for k, index in enumerate(indices.values())}
    devices = [
        MemoryDevice(
            size, int(held[k][1].sum()) > size // 2
        )  # else huge pages would be mostly empty
        for k, size in enumerate(settings.sizes.values())
    ]
    new = settings.engine(devices)

    def put(k: int, offset: int, content: memoryview) -> None:
        memoryview(devices[k])[offset : offset + len(content)] = content
        new.mark_written(k, offset, len(content))

    _copy(recovery, held, put, progress)
    return new, settings


def _copy(recovery: Recovery, ranges: Ranges, put: Put, progress: Progress) -> None:
    """Have ``put(k, offset, content)`` called with what is not zero in these ranges."""
    done, total = 0, sum(int(lengths.sum()) for _, lengths in ranges.values())
    for k, index in enumerate(recovery._indices.values()):
        for length, runs in runs_within(partial(recovery._readinto, index), ranges[k]):
            for offset, content in runs:
                put(k, offset, content)
            done += length
            if progress is not None:
                progress(done, total)


# In files.


class Content:
    """What a fork in files begins with, for whoever makes the files.

    Attributes
    ----------
    lineage : Lineage
    sizes : dict of str to int
    """

    def __init__(self, session: Session, recovery: Recovery, wish: Wish) -> None:
        self._session, self._recovery, self._wish = session, recovery, wish
        engine = session.engine
        sizes = engine.sizes
        self.sizes = {name: sizes[k] for name, k in recovery._indices.items()}
        self.lineage = Lineage(engine.identity, recovery.seq)

    def fill(self, devices: list[Device]) -> None:
        """Put the state into the volumes' new files, which hold zeroes."""
        engine = self._session.engine
        with engine:
            engine.check_open()
            ranges = until_steady(engine, partial(self._clone, devices))
        put = _puts(devices)
        if ranges is not None:  # zeroes, too: the files hold what was shared
            self._lay(ranges, devices)
        else:
            indices = enumerate(self._recovery._indices.values())
            held = {k: self._recovery._held(index) for k, index in indices}
            _copy(self._recovery, held, put, self._wish.progress)
        wanted = self._wish.digest
        if wanted or (wanted is None and sum(self.sizes.values()) <= DIGEST_BYTES):
            self.lineage.digest = self._recovery.digest()

    def _clone(self, devices: list[Device], stamp: Stamp) -> Ranges | None:
        """Share the blocks of the store's own files; return where these hold another state.

        None where the file system cannot share, or there are none.
        """
        indices = [*self._recovery._indices.values()]
        if not self._session.clone_files(dict(zip(indices, devices, strict=True))):
            return None
        stamp = self._session.engine.stamp
        ranges = ranges_to_write(self._recovery._image, indices, everything=False)
        self._session.engine.check_stamp(stamp)
        return {k: ranges[index] for k, index in enumerate(indices)}

    def _lay(self, ranges: Ranges, devices: list[Device]) -> None:
        done, total = 0, sum(int(lengths.sum()) for _, lengths in ranges.values())
        for k, index in enumerate(self._recovery._indices.values()):
            for offset, length in zip(*(column.tolist() for column in ranges[k]), strict=True):
                devices[k].pwrite(offset, self._recovery._image.read(offset, length, index))
                done += length
                if self._wish.progress is not None:
                    self._wish.progress(done, total)


def _puts(devices: list[Device]) -> Put:
    def put(k: int, offset: int, content: memoryview) -> None:
        devices[k].pwrite(offset, content)

    return put


def in_files(session: Session, settings: Settings, path: Path, wish: Wish) -> Any:
    """Make a fork on disk, whole or not at all; return the store. Raises as `Store.fork`."""
    maker = settings.maker
    if maker is None:
        raise InvalidArgument("only a store of jrnl.create, jrnl.open or jrnl.wrap is forked")
    wished = _settings_of(settings, wish.options, on_disk=True)
    check_outside(path, settings.path)
    with _recovery_at(session, wish) as recovery:
        content = Content(session, recovery, wish)
        return maker(path, replace(wished, sizes=content.sizes), content)


def check_outside(path: Path, store: str | None) -> None:
    """Raise InvalidArgument where a path leads into the store's own folder."""
    if store is None or not isinstance(path, str | os.PathLike):
        return
    real, own = os.path.realpath(os.fspath(path)), os.path.realpath(store)
    if os.fsdecode(real).startswith(own + os.sep):
        raise InvalidArgument(f"{os.fspath(path)!r} lies in the store itself; choose another place")
