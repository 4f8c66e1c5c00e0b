"""Recoveries: the image of an earlier state, and the copy that it can be made from again."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from jrnl._core import Chains, ExtentMap, Image, ImageReader, Moved, to_the_end
from jrnl.catalog import chosen
from jrnl.closeable import ClosesItself
from jrnl.compare import bytes_to_compare, differences
from jrnl.errors import (
    CorruptionError,
    InvalidArgument,
    PointExpired,
    StoreClosed,
)
from jrnl.plan import BEFORE, Base, Plan, Way, choose
from jrnl.points import PRODUCTION, Point, SeqPoint, parse_point
from jrnl.sizes import as_flag, check_callable
from jrnl.state import ImageState
from jrnl.steady import steadily, until_steady
from jrnl.window import oldest_after, present_seq

if TYPE_CHECKING:
    from jrnl._core import Engine
    from jrnl.compare import Ranges
    from jrnl.memfd import MemoryFile
    from jrnl.session import Session
    from jrnl.snapshot import Snapshot
    from jrnl.steady import Stamp

_STEPS = 64  # in which a recovery tells of its progress

Progress = Callable[[int, int], object] | None
_ANEW = "store.recover() may find another way"
Made = tuple[Base, Image, Plan]


class Source(NamedTuple):
    """What a recovery was asked for, beside its state.

    Attributes
    ----------
    only : frozenset of int, optional
        The indices of the volumes that it covers; None: all.
    undoable : bool
    once : bool
        Whether it goes with its restore.
    """

    only: frozenset[int] | None = None
    undoable: bool = False
    once: bool = False


class Restore(NamedTuple):
    """What a restore wrote: entries first_seq..last_seq, `bytes` of content.

    Where nothing differed there is no entry, and first_seq is last_seq + 1. Recovering to
    ``first_seq - 1`` and restoring that undoes it.
    """

    first_seq: int
    last_seq: int
    bytes: int


class Recovery(ImageReader, ImageState, ClosesItself):
    """A recovered state, beside production; made by ``store.recover(to)``.

    The image shares what is unchanged with its base, which is kept as it was: a snapshot, or
    production as of the recovery. It stays exact whatever happens to production, the journal or the
    snapshot's name. ``read`` and ``readinto`` come straight from the compiled core. It takes over
    one hold on its image.

    Attributes
    ----------
    id : int
    seq : int
        The state it shows.
    base : str
        What it was made from: a snapshot's name, or "production".
    plan : Plan
        What making it moved.
    undoable : bool
        Whether `seek` moves it.
    volumes : mapping of str to StateVolume
        The volumes it covers; ``recovery[name]``, too.
    """

    def __init__(
        self,
        image: Image,
        indices: dict[str, int],
        session: Session,
        source: Source,
        base: Base,
        plan: Plan,
        number: int | None = None,
    ) -> None:
        super().__init__()  # the core took image and volumes already
        self._session = session
        self._source = source
        self._base = base
        self.seq = image.seq
        self.base = base.name
        self.undoable = source.undoable
        self._moves = 0  # by `seek`
        self._chains = Chains(image.engine)
        self.plan = self._planned(plan, image)
        self.id = session.catalog.recovery_number(number)
        session.catalog.add_recovery(self)  # from here on others see it

    def __enter__(self) -> Self:
        self._image.engine.check_not_closed()
        return self

    def __repr__(self) -> str:
        return f"<jrnl.Recovery {self.id} at {self.seq} from {self.base!r}>"

    @property
    def _only(self) -> frozenset[int] | None:
        """The indices of the volumes that it covers, or None: all."""
        return self._source.only

    @property
    def _copy(self) -> int | None:
        """The number of the copy in files that it started from; None where there is none."""
        number: int | None = None if self._base.image is None else self._base.image.tag
        return number

    @property
    def _preserved(self) -> Image:
        """The preserved copy of what it started from. Raises StoreClosed."""
        image = self._base.image  # once: a call that comes in may close it
        if image is None:
            raise StoreClosed("the recovery is closed")
        return image

    def as_array(self, volume: str | None = None) -> NDArray[np.uint8]:
        """Return a copy of a whole volume: uint8[size], the caller's own."""
        device = self._image.materialise(self._find(volume))
        return np.frombuffer(memoryview(device), np.uint8)

    def path(self, volume: str | None = None) -> str:
        """Return a path at which other programs can open a whole volume.

        It is a file in memory, sparse, and gone when the recovery is closed. What is written to it
        changes nothing here. That of an undoable recovery follows each `seek`, by what differs, and
        can only be read.
        """
        return super().path(volume)

    @property
    def _may_change(self) -> bool:
        return self.undoable

    def _path(self, index: int) -> str:
        with self._image.engine:
            return super()._path(index)

    def _refresh(self, file: MemoryFile, index: int) -> None:
        """Do nothing: `seek` has brought it along."""

    def seek(self, to: Point, progress: Progress = None) -> None:
        """Move an undoable recovery to another state, earlier or later; ``path()`` follows.

        It costs the distinct bytes that were written between the two states; the first way forward
        in a store without after-images, a look at all headers, too. Where the way between them is
        gone it starts again from the preserved copy, or from production; with after-images alone
        these only lead forward. Where it fails, nothing has changed.

        Parameters
        ----------
        to : point
            Any state of the window. These are ``store.window.oldest``, and the seqs above it in
            ``store.journal.entries["seq"]``; a rewind leaves out the seqs between them.
        progress : callable, optional
            As for ``store.recover``.

        Raises
        ------
        InvalidArgument
            The recovery was not made with ``undoable=True``.
        PointExpired, UnknownPoint, CorruptionError, InvalidType, StoreClosed, MemoryError
        """
        check_callable(progress, "progress")
        image = self._image
        if not self.undoable:
            raise InvalidArgument("only a recovery made with undoable=True can be moved")
        with image.engine.changing() as engine:
            engine.check_open()
            until_steady(engine, partial(self._move, to, progress))

    def _move(self, to: Point, progress: Progress, stamp: Stamp) -> None:
        image, engine = self._image, self._image.engine
        here = Base("itself", present_seq(engine, self.seq), image)
        seq = self._session.resolver.resolve(to)
        engine.check_stamp(stamp)
        if here.seq == seq:
            self._moves += self.seq != seq
            self.seq = seq
            return
        try:
            way = choose(engine, [here], seq, self._source.only, chains=self._chains)
            way.extents.check(image)
            _settle(way, progress)
            image.apply(way.extents, seq, stamp)
        except (PointExpired, CorruptionError):
            engine.check_stamp(stamp)
            self._start_again(seq, progress, stamp)
            return
        self.seq = seq
        self._moves += 1
        for index, file in self._files.items():
            file.follow(self, ranges_of(way.extents, index))

    def _start_again(self, seq: int, progress: Progress, stamp: Stamp) -> None:
        """Go to a state that no way leads to from here: from the preserved copy, or production."""
        engine = self._image.engine
        preserved = self._base._replace(seq=present_seq(engine, self._base.seq))
        try:
            way = choose(engine, [preserved], seq, self._source.only)
        except PointExpired:
            bases = [Base(PRODUCTION, engine.seq, None)]
            way = choose(engine, bases, seq, self._source.only, advice=_ANEW)
        listed = self._session.catalog.listed
        base, image, plan = make(self._session, way, seq, self._source, progress)
        with engine.exclusive():  # until it says that it needs the new copy's files
            engine.check_stamp(stamp)
            self._session.check_listed(listed)
            before = self._show(image)
            assert before is not None
            before.release()
            assert base.image is not None
            self._moves += 1
            self._base, self.base, self.seq = base, base.name, seq
            self.plan = self._planned(plan, image)
        for file in self._files.values():
            file.write_all(self, fresh=False)

    def restore(
        self,
        *,
        volumes: Iterable[str] | None = None,
        dry_run: bool = False,
        everything: bool = False,
    ) -> Restore:
        """Copy the image onto production: journaled writes of the ranges that differ.

        It costs what was written since the state, and since the copy that it is made from, whatever
        the volumes' size. Atomic for other threads, and undone by restoring the state before it. On
        disk a crash leaves all of it or nothing.

        Parameters
        ----------
        volumes : iterable of str, optional
            Only these volumes are restored; all that the recovery covers by default.
        dry_run : bool
            Say what it would write, and write nothing.
        everything : bool
            Compare all that the volumes hold, not only where the journal says that they may differ:
            after production was changed behind the store's back.

        Raises
        ------
        JournalFull
            The journal may not let entries go, and what differs does not fit; nothing has changed.
        UnknownVolume, InvalidArgument, InvalidType, CorruptionError, EditOpen, StoreClosed
        """
        image, dry_run = self._image, as_flag(dry_run, "dry_run")
        everything = as_flag(everything, "everything")
        indices = chosen(self._indices, volumes, image.engine)
        with image.engine.changing() as engine:
            engine.check_open()
            restored = until_steady(engine, partial(self._restore, indices, dry_run, everything))
        return restored

    def _restore(
        self, indices: list[int], dry_run: bool, everything: bool, stamp: Stamp
    ) -> Restore:
        image, engine = self._image, self._image.engine
        ranges, oldest = differences(image, indices, everything)
        total = sum(int(lengths.sum()) for _, lengths in ranges.values())
        if dry_run:
            engine.check_stamp(stamp)
            entries = sum(offsets.size for offsets, _ in ranges.values())
            return Restore(engine.seq + 1, engine.seq + entries, total)
        stamp = fold_first(engine, oldest, stamp)
        first_seq, last_seq = self._session.restore(self, ranges, everything, stamp)
        if total:
            self._session.replaced()
        engine.happened("restored", state=self.seq, first=first_seq, last=last_seq, bytes=total)
        return Restore(first_seq, last_seq, total)

    def again(self, to: Point | None = None, progress: Progress = None) -> Recovery:
        """Recover again from the preserved copy, to the same point or another.

        Parameters
        ----------
        to : point, optional
            This recovery's own by default, which never expires.
        progress : callable, optional
            As for ``store.recover``.

        Raises
        ------
        PointExpired
            The entries between the preserved copy and `to` are no longer there.
        UnknownPoint, InvalidType, InvalidArgument, CorruptionError, StoreClosed
        """
        check_callable(progress, "progress")
        image = self._image
        with image.engine as engine:
            engine.check_open()
            return until_steady(engine, partial(self._recover_again, to, progress))

    def _recover_again(self, to: Point | None, progress: Progress, stamp: Stamp) -> Recovery:
        listed = self._session.catalog.listed
        made = self._make_again(to, progress)
        return recovery_of(self._session, self._source, made, stamp, listed)

    def _make_again(self, to: Point | None, progress: Progress) -> Made:
        image, engine = self._image, self._image.engine
        self._session.check_recovery(self.base, self._only)
        if to is None or self._is_own(to):
            if self.undoable:  # its own blocks stay its own
                image, seq = Image.writable(self._preserved), image.seq
                image.apply(self._as_extents(), seq)
            image.acquire()
            return self._base, image, self.plan
        seq = self._session.resolver.resolve(to)
        base = self._base._replace(seq=present_seq(engine, self._base.seq))
        way = choose(engine, [base], seq, self._source.only, advice=_ANEW)
        return make(self._session, way, seq, self._source, progress)

    def _as_extents(self) -> ExtentMap:
        """Return where the image differs from the preserved copy, with bytes of its own."""
        image = self._image
        volumes, offsets, lengths = (column.tolist() for column in image.patches())
        pieces = zip(offsets, lengths, volumes, strict=True)
        content = b"".join(image.read(*piece) for piece in pieces)
        return ExtentMap.loaded(image.engine, volumes, offsets, lengths, content or b"\0")

    def close(self) -> None:
        """Give up the image and the preserved copy. Closing twice is fine."""
        with nullcontext() if self._base.image is None else self._session.changing():
            to_the_end(self._close)

    def _close(self) -> None:
        self._session.catalog.remove_recovery(self)
        base = self._base.image
        if base is not None:
            with base.engine:
                self._session.recovery_closed(self)
        image = self._show(None)
        if image is not None:
            image.release()
            self.plan = replace(self.plan, _outcome=_closed, _compared=_closed)
        self._base = self._base._replace(image=None)
        self._close_files()

    def _is_own(self, to: Point) -> bool:
        parsed = parse_point(to)
        return isinstance(parsed, SeqPoint) and parsed.seq == self.seq

    def _planned(self, plan: Plan, image: Image) -> Plan:
        """Return what making it has moved, and what a restore would do."""
        # Without the recovery itself: what is dropped goes at once.
        indices = [*self._indices.values()]
        catalog = self._session.catalog
        outcome = partial(_locked, image, lambda: oldest_after(catalog.snapshots, image, indices))
        compared = partial(_locked, image, partial(bytes_to_compare, image, indices))
        return replace(plan, _outcome=outcome, _compared=compared)


def _locked(image: Image, ask: Callable[[], int]) -> int:
    with image.engine as engine:
        engine.check_open()
        return steadily(engine, ask)


def _closed() -> int:
    raise StoreClosed("the recovery is closed")


def recover(
    session: Session,
    to: Point,
    base: str | Snapshot | None = None,
    undoable: bool = False,
    volumes: Iterable[str] | None = None,
    progress: Progress = None,
) -> Recovery:
    """Rebuild an earlier state; see `Store.recover`. The caller holds the lock."""

    def attempt(stamp: Stamp) -> Recovery:
        listed = session.catalog.listed
        only = session.resolver.only(volumes, to)
        way, seq = session.resolver.choose(to, base, only)
        source = Source(only, undoable)
        session.check_recovery(way.base.name, only)
        made = make(session, way, seq, source, progress)
        return recovery_of(session, source, made, stamp, listed)

    return until_steady(session.engine, attempt)


def recovery_of(
    session: Session, source: Source, made: Made, stamp: Stamp, listed: int
) -> Recovery:
    """Return the recovery of what was made. The caller holds the lock.

    Raises Moved where anything has changed since the stamp was taken. On disk, too, where another
    recovery has come or gone since ``catalog.listed`` was this: it may have taken the preserved
    copy's files with it. From when this one is listed they stay.
    """
    base, image, plan = made
    volumes = session.catalog.covered(source.only)
    recovery = Recovery(image, volumes, session, source, base, plan)
    image.engine.check_stamp(stamp)
    session.check_listed(listed + 1)
    return recovery


def over_present(
    session: Session, shown: Image, indices: dict[str, int], ranges: Ranges
) -> Recovery:
    """Return a recovery of the present state, with these ranges of another image in it.

    It is what a promotion on disk restores. The caller holds the lock.
    """
    engine = session.engine
    only = None if len(indices) == len(engine.sizes) else frozenset(indices.values())
    source = Source(only, undoable=True, once=True)
    session.check_recovery(PRODUCTION, only)
    made = make(session, session.resolver.way_to_present(only), engine.seq, source)
    image = made[1]
    try:
        for index, columns in ranges.items():
            for offset, length in zip(*(column.tolist() for column in columns), strict=True):
                image.write(offset, shown.read(offset, length, index), index)
        return Recovery(image, indices, session, source, made[0], made[2])
    except BaseException:
        image.release()
        raise


def make(session: Session, way: Way, seq: int, source: Source, progress: Progress = None) -> Made:
    """Return the base, the image over it, held, and what making it moved."""
    preserved = way.base.image or _preserve_production(session, source.only)
    base = way.base._replace(image=preserved)
    plan = Plan(way.route, base.name, way.entries, way.bytes, _closed, _closed)
    preserved.acquire()
    try:
        way.extents.check(preserved)
        _settle(way, progress)
        if source.undoable:
            image = Image.writable(preserved)
            image.apply(way.extents, seq)
        else:
            image = Image.patched(preserved, way.extents, seq, True)  # takes the map over
        image.acquire()
        return base, image, plan
    finally:
        preserved.release()  # where that failed it pins nothing


def _settle(way: Way, progress: Progress) -> None:
    """Copy the bytes out of the journal, a part at a time, and say how far it has got.

    Raises what `progress` raises; then nothing of it is kept.
    """
    if progress is None:
        return
    engine, extents = way.extents.engine, way.extents
    done, step = 0, max(64, -(-extents.count // _STEPS))
    for first in range(0, extents.count, step):
        done += extents.settle(first, step)
        stamp = engine.stamp
        progress(done, extents.bytes)
        if engine.stamp != stamp:  # it would write again each time that this began again
            raise InvalidArgument("progress must not write to the store that is being recovered")


def ranges_of(extents: ExtentMap, index: int) -> list[tuple[int, int]]:
    """Return (offset, length) of what a map covers of a volume."""
    volumes, offsets, lengths = extents.ranges()
    mine = volumes == index
    return list(zip(offsets[mine].tolist(), lengths[mine].tolist(), strict=True))


def fold_first(engine: Engine, oldest: int, stamp: Stamp) -> Stamp:
    """Bring a snapshot on to what is the oldest state after a restore: that may fail.

    Return the stamp then. What was compared holds: no volume has changed.

    Raises
    ------
    Moved
        A call from inside this one has written.
    """
    seq = min(oldest, engine.seq)
    if oldest <= engine.base_seq or not engine.folds or seq <= engine.fold_seq:
        return stamp
    engine.fold_up_to(seq)
    folded = engine.stamp
    if folded[:3] != stamp[:3]:  # all but what has a name
        raise Moved("the store has changed during a fold")
    return folded


def _preserve_production(session: Session, only: Collection[int] | None) -> Image:
    """Production as it is now, kept: through the journal, or as a copy where that keeps no past."""
    engine = session.engine
    if engine.images & BEFORE:
        return Image.live(engine, engine.seq, True, only)
    return session.preserve()
