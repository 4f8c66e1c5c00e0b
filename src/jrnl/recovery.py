"""Recoveries: the image of an earlier state, and the copy that it can be made from again."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from jrnl._core import Chains, ExtentMap, Image, Moved, StateIO, restore_outcome, to_the_end
from jrnl.catalog import volume_index
from jrnl.closeable import ClosesItself
from jrnl.errors import (
    CorruptionError,
    InvalidArgument,
    InvalidType,
    PointExpired,
    StoreClosed,
    UnknownPoint,
    shown,
)
from jrnl.memfd import MemoryFile
from jrnl.plan import BEFORE, Base, Plan, Way, choose
from jrnl.points import PRODUCTION, Point, SeqPoint, parse_point
from jrnl.sizes import as_flag, check_callable
from jrnl.steady import steadily, until_steady

if TYPE_CHECKING:
    from jrnl._core import Engine
    from jrnl.catalog import Catalog
    from jrnl.snapshot import Snapshot
    from jrnl.steady import Stamp

BLOCK_BYTES = 4096  # what the core counts changed bytes in
_STEPS = 64  # in which a recovery tells of its progress

Progress = Callable[[int, int], object] | None
_ANEW = "store.recover() may find another way"
Made = tuple[Base, Image, Plan]
Columns = tuple["NDArray[np.int64]", "NDArray[np.int64]", "NDArray[np.int64]"]
Ranges = dict[int, tuple["NDArray[np.int64]", "NDArray[np.int64]"]]  # by volume: offsets, lengths


class Source(NamedTuple):
    """What a recovery was asked for, beside its state.

    Attributes
    ----------
    resolve : callable
        ``resolve(point)`` gives the seq that a state is kept under now.
    only : frozenset of int, optional
        The indices of the volumes that it covers; None: all.
    undoable : bool
    """

    resolve: Callable[[Point], int]
    only: frozenset[int] | None = None
    undoable: bool = False


class Restore(NamedTuple):
    """What a restore wrote: entries first_seq..last_seq, `bytes` of content.

    Where nothing differed there is no entry, and first_seq is last_seq + 1. Recovering to
    ``first_seq - 1`` and restoring that undoes it.
    """

    first_seq: int
    last_seq: int
    bytes: int


class Recovery(StateIO, ClosesItself):
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
    volumes : dict of str to int
        The volumes it covers.
    """

    def __init__(
        self,
        image: Image,
        volumes: dict[str, int],
        catalog: Catalog,
        source: Source,
        base: Base,
        plan: Plan,
        number: int | None = None,
    ) -> None:
        super().__init__()  # the core took image and volumes already
        self._catalog = catalog
        self._source = source
        self._base = base
        self._paths: dict[int, MemoryFile] = {}
        self.seq = image.seq
        self.base = base.name
        self.undoable = source.undoable
        self._moves = 0  # by `seek`
        self._chains = Chains(image.engine)
        self.plan = self._planned(plan, image)
        self._copy: int | None = base.image.tag if base.image is not None else None
        self.id = catalog.recovery_number(number)
        catalog.add_recovery(self)  # from here on others see it

    def __enter__(self) -> Self:
        self._image.engine.check_not_closed()
        return self

    def __repr__(self) -> str:
        return f"<jrnl.Recovery {self.id} at {self.seq} from {self.base!r}>"

    def __del__(self) -> None:
        self._close_paths()

    def _find(self, volume: object) -> int:
        return volume_index(self.volumes, volume, self._image.engine)

    @property
    def _only(self) -> frozenset[int] | None:
        """The indices of the volumes that it covers, or None: all."""
        return self._source.only

    @property
    def _preserved(self) -> Image:
        """The preserved copy of what it started from. Raises StoreClosed."""
        if self._base.image is None:
            raise StoreClosed("the recovery is closed")
        return self._base.image

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
        index = self._find(volume)
        if index not in self._paths:
            with self._image.engine:
                file = MemoryFile(f"jrnl-{self.id}", self._image, index, follows=self.undoable)
                if self._paths.setdefault(index, file) is not file:
                    file.close()  # another thread was faster
        return self._paths[index].path

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
        seq = self._source.resolve(to)
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
        for index, file in self._paths.items():
            file.follow(image, ranges_of(way.extents, index))

    def _start_again(self, seq: int, progress: Progress, stamp: Stamp) -> None:
        """Go to a state that no way leads to from here: from the preserved copy, or production."""
        engine = self._image.engine
        preserved = self._base._replace(seq=present_seq(engine, self._base.seq))
        try:
            way = choose(engine, [preserved], seq, self._source.only)
        except PointExpired:
            bases = [Base(PRODUCTION, engine.seq, None)]
            way = choose(engine, bases, seq, self._source.only, advice=_ANEW)
        listed = self._catalog.listed
        base, image, plan = make(self._catalog, way, seq, self._source, progress)
        with engine.sealing():  # until it says that it needs the new copy's files
            engine.check_stamp(stamp)
            self._catalog.check_listed(listed)
            before = self._show(image)
            assert before is not None
            before.let_go()
            assert base.image is not None
            self._moves += 1
            self._base, self.base, self.seq, self._copy = base, base.name, seq, base.image.tag
            self.plan = self._planned(plan, image)
        for file in self._paths.values():
            file.write_all(image, fresh=False)

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
        indices = chosen(self.volumes, volumes, image.engine)
        with image.engine.changing() as engine:
            engine.check_open()
            return until_steady(engine, partial(self._restore, indices, dry_run, everything))

    def _restore(
        self, indices: list[int], dry_run: bool, everything: bool, stamp: Stamp
    ) -> Restore:
        image, engine, keeper = self._image, self._image.engine, self._catalog.keeper
        ranges, oldest = differences(image, indices, everything)
        total = sum(int(lengths.sum()) for _, lengths in ranges.values())
        if dry_run:
            engine.check_stamp(stamp)
            entries = sum(offsets.size for offsets, _ in ranges.values())
            return Restore(engine.seq + 1, engine.seq + entries, total)
        if oldest > engine.base_seq and engine.folds and min(oldest, engine.seq) > engine.fold_seq:
            stamp = _fold_first(engine, min(oldest, engine.seq), stamp)  # what may fail
        if keeper is None:
            self._catalog.keep_recovery(self)
            first_seq, last_seq = image.restore(*_joined(ranges), stamp)
            return Restore(first_seq, last_seq, total)
        with engine.sealing():
            engine.check_stamp(stamp)
            first_seq = engine.seq + 1
            to_the_end(
                partial(self._write_back, ranges, indices, everything), keeper.restore_failed
            )
            return Restore(first_seq, engine.seq, total)

    def _write_back(self, ranges: Ranges, indices: list[int], everything: bool) -> None:
        """On disk: restore `ranges`; where that was broken off, what differs still.

        Half of it would be no state, and the next opening would take it back with all that follows.
        """
        image, keeper = self._image, self._catalog.keeper
        assert keeper is not None
        keeper.restore_begins(self, indices)
        self._catalog.keep_recovery(self)
        for index in indices:
            todo = ranges.pop(index, None) or _ranges_to_write(image, [index], everything)[index]
            image.write_back(index, *todo)
        keeper.restore_ends()

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
        listed = self._catalog.listed
        made = self._make_again(to, progress)
        return recovery_of(self._catalog, self._source, made, stamp, listed)

    def _make_again(self, to: Point | None, progress: Progress) -> Made:
        image, engine = self._image, self._image.engine
        if self._catalog.keeper is not None:
            self._catalog.keeper.check_recovery(self.base, self._only)
        if to is None or self._is_own(to):
            if self.undoable:  # its own blocks stay its own
                image, seq = Image.scratch(self._preserved), image.seq
                image.apply(self._as_extents(), seq)
            image.hold()
            return self._base, image, self.plan
        seq = self._source.resolve(to)
        base = self._base._replace(seq=present_seq(engine, self._base.seq))
        way = choose(engine, [base], seq, self._source.only, advice=_ANEW)
        return make(self._catalog, way, seq, self._source, progress)

    def _as_extents(self) -> ExtentMap:
        """Return where the image differs from the preserved copy, with bytes of its own."""
        image = self._image
        volumes, offsets, lengths = (column.tolist() for column in image.patches())
        pieces = zip(offsets, lengths, volumes, strict=True)
        content = b"".join(image.read(*piece) for piece in pieces)
        return ExtentMap.loaded(image.engine, volumes, offsets, lengths, content or b"\0")

    def close(self) -> None:
        """Give up the image and the preserved copy. Closing twice is fine."""
        keeper, image = self._catalog.keeper, self._base.image
        if keeper is None or image is None:
            to_the_end(self._close)
            return
        with image.engine.changing():
            to_the_end(self._close)

    def _close(self) -> None:
        self._catalog.remove_recovery(self)
        base = self._base.image
        if base is not None:
            with base.engine:
                if self._catalog.keeper is not None:
                    self._catalog.keeper.recovery_closed(self)
        image = self._show(None)
        if image is not None:
            image.let_go()
            self.plan = replace(self.plan, _outcome=_closed, _compared=_closed)
        self._base = self._base._replace(image=None)
        self._close_paths()

    def _close_paths(self) -> None:
        paths, self._paths = getattr(self, "_paths", {}), {}
        for file in paths.values():
            file.close()

    def _is_own(self, to: Point) -> bool:
        parsed = parse_point(to)
        return isinstance(parsed, SeqPoint) and parsed.seq == self.seq

    def _planned(self, plan: Plan, image: Image) -> Plan:
        """Return what making it has moved, and what a restore would do."""
        # Without the recovery itself: what is dropped goes at once.
        indices = [*self.volumes.values()]
        outcome = partial(_locked, image, partial(_oldest_after, self._catalog, image, indices))
        compared = partial(_locked, image, partial(_bytes_to_compare, image, indices))
        return replace(plan, _outcome=outcome, _compared=compared)


def _locked(image: Image, ask: Callable[[], int]) -> int:
    with image.engine as engine:
        engine.check_open()
        return steadily(engine, ask)


def _closed() -> int:
    raise StoreClosed("the recovery is closed")


def recovery_of(
    catalog: Catalog, source: Source, made: Made, stamp: Stamp, listed: int
) -> Recovery:
    """Return the recovery of what was made. The caller holds the lock.

    Raises Moved where anything has changed since the stamp was taken. On disk, too, where another
    recovery has come or gone since ``catalog.listed``: it may have taken the preserved copy's files
    with it. From when this one is listed they stay.
    """
    base, image, plan = made
    recovery = Recovery(image, covered(catalog, source.only), catalog, source, base, plan)
    image.engine.check_stamp(stamp)
    catalog.check_listed(listed + 1)
    return recovery


def covered(catalog: Catalog, only: Collection[int] | None) -> dict[str, int]:
    """Return the volumes of these indices, or all of them, by name."""
    return {name: index for name, index in catalog.volumes.items() if only is None or index in only}


def make(catalog: Catalog, way: Way, seq: int, source: Source, progress: Progress = None) -> Made:
    """Return the base, the image over it, held, and what making it moved."""
    preserved = way.base.image or _preserve_production(catalog, way.extents.engine, source.only)
    base = way.base._replace(image=preserved)
    plan = Plan(way.route, base.name, way.entries, way.bytes, _closed, _closed)
    preserved.hold()
    try:
        way.extents.check(preserved)
        _settle(way, progress)
        if source.undoable:
            image = Image.scratch(preserved)
            image.apply(way.extents, seq)
        else:
            image = Image.patched(preserved, way.extents, seq, True)  # takes the map over
        image.hold()
        return base, image, plan
    finally:
        preserved.let_go()  # where that failed it pins nothing


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


def chosen(known: dict[str, int], wanted: Iterable[str] | None, engine: Engine) -> list[int]:
    """Return the indices of the volumes that are named; of all by default.

    Raises
    ------
    UnknownVolume, InvalidArgument, InvalidType
    """
    if wanted is None:
        return list(known.values())
    if isinstance(wanted, str):
        raise InvalidType(f"volumes are names in a list: [{wanted!r}]")
    try:
        indices = sorted({volume_index(known, name, engine) for name in wanted})
    except TypeError as error:
        raise InvalidType(f"volumes are names in a list, not {shown(wanted)}") from error
    if not indices:
        raise InvalidArgument(f"name at least one volume of {', '.join(map(repr, known))}")
    return indices


def _image_over(way: Way, seq: int) -> Image:
    """Return an image that holds until the next write. Uses the way up."""
    base = way.base.image or Image.production(way.extents.engine)
    return Image.patched(base, way.extents, seq, False)


def _outcome_of(catalog: Catalog, way: Way, seq: int, only: Collection[int] | None) -> int:
    """Return the oldest state after state `seq`, made this way, was restored. Uses the way up."""
    indices = list(catalog.volumes.values()) if only is None else sorted(only)
    return _oldest_after(catalog, _image_over(way, seq), indices)


def _compared_of(catalog: Catalog, way: Way, seq: int, only: Collection[int] | None) -> int:
    """Return how many bytes a restore would then compare. Uses the way up."""
    indices = list(catalog.volumes.values()) if only is None else sorted(only)
    return _bytes_to_compare(_image_over(way, seq), indices)


AFTERWARDS = (_outcome_of, _compared_of)  # what a plan tells of a restore, when it is asked


def oldest_state(catalog: Catalog, engine: Engine, base_seq: int, newest: int) -> int:
    """Return the window's oldest state where the entries base_seq + 1 .. newest are retained.

    With after-images alone that is the oldest snapshot whose later entries are all there.
    """
    if engine.images & BEFORE:
        return base_seq
    there = connected(catalog, engine)
    kept = [seq for seq, _ in there if seq >= base_seq]
    if engine.folds and base_seq > engine.base_seq:  # before those entries leave, ...
        if any(seq < base_seq and not snapshot.pinned for seq, snapshot in there):
            kept.append(base_seq)  # ... the oldest snapshot is brought on over them
        elif not there:
            kept.append(max(base_seq, engine.seq))  # ... or one is taken
    return min(kept, default=newest)


def connected(catalog: Catalog, engine: Engine) -> list[tuple[int, Snapshot]]:
    """Return the snapshots of all volumes that the journal leads on from, and their states."""
    pairs = (
        (present_seq(engine, snapshot.seq), snapshot)
        for snapshot in catalog.snapshots.values()
        if snapshot._covers is None
    )
    return [(seq, snapshot) for seq, snapshot in pairs if seq is not None]


def present_seq(engine: Engine, seq: int | None) -> int | None:
    """Return the seq under which a state is kept now, or None if the journal has let go of it."""
    try:
        return None if seq is None else engine.resolve(seq)
    except (PointExpired, UnknownPoint, CorruptionError):
        return None


def differences(image: Image, indices: list[int], everything: bool = False) -> tuple[Ranges, int]:
    """Return what a restore has to write, and the state before the oldest entry after it.

    What it has to write is (offsets, lengths) for each volume's index.

    Raises
    ------
    JournalFull
        It does not fit a journal that may not evict.
    """
    ranges = _ranges_to_write(image, indices, everything)
    offsets, lengths = (np.concatenate([pair[k] for pair in ranges.values()]) for k in (0, 1))
    return ranges, restore_outcome(image.engine, offsets, lengths)


def _ranges_to_write(image: Image, indices: list[int], everything: bool) -> Ranges:
    suspects = to_compare(image, indices, everything)
    return {index: image.differences(index, *suspects[index]) for index in indices}


def to_compare(image: Image, indices: list[int], everything: bool = False) -> Ranges:
    """Return where production may differ from an image, of these volumes.

    Where journal and notes do not tell, that is all that either of them holds.
    """
    suspects = None if everything else image.suspects(indices)
    if suspects is None:
        return {index: all_blocks(image, index) for index in indices}
    volumes, offsets, lengths = suspects.sorted_ranges()
    firsts = np.searchsorted(volumes, indices)
    lasts = np.searchsorted(volumes, indices, "right")
    return {
        index: (offsets[first:last], lengths[first:last])
        for index, first, last in zip(indices, firsts, lasts, strict=True)
    }


def all_blocks(image: Image, index: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the blocks of a volume that an image or production may have anything in."""
    size = image.engine.sizes[index]
    offsets = image.blocks(index) * BLOCK_BYTES
    offsets = offsets[offsets < size]
    return offsets, np.minimum(BLOCK_BYTES, size - offsets)


def _bytes_to_compare(image: Image, indices: list[int]) -> int:
    ranges = to_compare(image, indices).values()
    return sum(int(lengths.sum()) for _, lengths in ranges)


def _fold_first(engine: Engine, seq: int, stamp: Stamp) -> Stamp:
    """Bring a snapshot on; return the stamp then. What was compared holds: no volume has changed.

    Raises
    ------
    Moved
        A call from inside this one has written.
    """
    engine.fold_up_to(seq)
    folded = engine.stamp
    if folded[:3] != stamp[:3]:  # all but what has a name
        raise Moved("the store has changed during a fold")
    return folded


def _joined(ranges: Ranges) -> Columns:
    """Return the ranges of all volumes as three columns: volume, offset, length."""
    volumes = [np.full(offsets.size, index, np.int64) for index, (offsets, _) in ranges.items()]
    offsets, lengths = ([pair[k] for pair in ranges.values()] for k in (0, 1))
    return np.concatenate(volumes), np.concatenate(offsets), np.concatenate(lengths)


def _oldest_after(catalog: Catalog, image: Image, indices: list[int]) -> int:
    engine = image.engine
    ranges, base_seq = differences(image, indices)
    newest = engine.seq + sum(offsets.size for offsets, _ in ranges.values())
    return oldest_state(catalog, engine, base_seq, newest)


def _preserve_production(catalog: Catalog, engine: Engine, only: Collection[int] | None) -> Image:
    """Production as it is now, kept: through the journal, or as a copy where that keeps no past."""
    if engine.images & BEFORE:
        return Image.live(engine, engine.seq, True, only)
    return Image.frozen(engine) if catalog.keeper is None else catalog.keeper.preserve()
