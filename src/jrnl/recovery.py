"""Recoveries: the image of an earlier state, and the copy that it can be made from again."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from jrnl._core import Chains, ExtentMap, Image, StateIO, restore_outcome, to_the_end
from jrnl.catalog import volume_index
from jrnl.closing import ClosesItself
from jrnl.errors import (
    CorruptionError,
    InvalidArgument,
    InvalidType,
    PointExpired,
    StoreClosed,
    UnknownPoint,
    shown,
)
from jrnl.plan import BEFORE, Base, Plan, Way, choose
from jrnl.points import PRODUCTION, Point, SeqPoint, parse_point
from jrnl.shared import SharedFile
from jrnl.sizes import as_flag, check_callable

if TYPE_CHECKING:
    from jrnl._core import Engine
    from jrnl.catalog import Catalog
    from jrnl.snapshot import Snapshot

BLOCK_BYTES = 4096  # what the core counts changed bytes in
_STEPS = 64  # in which a recovery tells of its progress

Progress = Callable[[int, int], object] | None
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
        self._paths: dict[int, SharedFile] = {}
        self.seq = image.seq
        self.base = base.name
        self.undoable = source.undoable
        self.moves = 0  # by `seek`
        self._chains = Chains(image.engine)
        self.plan = replace(plan, _outcome=self._outcome_of(image))
        self.copy: int | None = base.image.tag if base.image is not None else None
        self.id = catalog.add_recovery(self) if number is None else catalog.add_loaded(self, number)

    def __enter__(self) -> Self:
        self.image.engine.check_not_closed()
        return self

    def __repr__(self) -> str:
        return f"<jrnl.Recovery {self.id} at {self.seq} from {self.base!r}>"

    def __del__(self) -> None:
        self._close_paths()

    def _find(self, volume: object) -> int:
        return volume_index(self.volumes, volume, self.image.engine)

    @property
    def only(self) -> frozenset[int] | None:
        """The indices of the volumes that it covers, or None: all."""
        return self._source.only

    @property
    def preserved(self) -> Image:
        """The preserved copy of what it started from. Raises StoreClosed."""
        if self._base.image is None:
            raise StoreClosed("the recovery is closed")
        return self._base.image

    def as_array(self, volume: str | None = None) -> NDArray[np.uint8]:
        """Return a copy of a whole volume: uint8[size], the caller's own."""
        device = self.image.materialise(self._find(volume))
        return np.frombuffer(memoryview(device), np.uint8)

    def path(self, volume: str | None = None) -> str:
        """Return a path at which other programs can open a whole volume.

        It is a file in memory, sparse, and gone when the recovery is closed. What is written to it
        changes nothing here. That of an undoable recovery follows each `seek`, by what differs, and
        can only be read.
        """
        index = self._find(volume)
        if index not in self._paths:
            with self.image.engine:
                file = SharedFile(f"jrnl-{self.id}", self.image, index, follows=self.undoable)
                if self._paths.setdefault(index, file) is not file:
                    file.close()  # another thread was faster
        return self._paths[index].path

    def seek(self, to: Point, progress: Progress = None) -> None:
        """Move an undoable recovery to another state, earlier or later; ``path()`` follows.

        It costs the distinct bytes that were written between the two states; the first way forward
        in a store without after-images, a look at all headers, too. Where the way between them is
        gone it starts again from the preserved copy. Where it fails, nothing has changed.

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
        image = self.image
        if not self.undoable:
            raise InvalidArgument("only a recovery made with undoable=True can be moved")
        with image.engine as engine:
            engine.check_open()
            here = Base("itself", present_seq(engine, self.seq), image)
            seq = self._source.resolve(to)
            if here.seq == seq:
                self.moves += self.seq != seq
                self.seq = seq
                return
            try:
                way = choose(engine, [here], seq, self._source.only, chains=self._chains)
                way.extents.check(image)
                _settle(way, progress)
                image.apply(way.extents, seq)
            except (PointExpired, CorruptionError):
                self._start_again(seq, progress)
                return
            self.seq = seq
            self.moves += 1
            for index, file in self._paths.items():
                file.follow(image, ranges_of(way.extents, index))

    def _start_again(self, seq: int, progress: Progress) -> None:
        """Go to a state that no way leads to from here: from the preserved copy, or production."""
        engine = self.image.engine
        preserved = self._base._replace(seq=present_seq(engine, self._base.seq))
        try:
            way = choose(engine, [preserved], seq, self._source.only)
        except PointExpired:
            way = choose(engine, [Base(PRODUCTION, engine.seq, None)], seq, self._source.only)
        base, image, plan = make(self._catalog, way, seq, self._source, progress)
        before = self._show(image)
        assert before is not None
        before.let_go()
        assert base.image is not None
        self.moves += 1
        self._base, self.base, self.seq, self.copy = base, base.name, seq, base.image.tag
        self.plan = replace(plan, _outcome=self._outcome_of(image))
        for file in self._paths.values():
            file.write_all(image, fresh=False)

    def restore(self, *, volumes: Iterable[str] | None = None, dry_run: bool = False) -> Restore:
        """Copy the image onto production: journaled writes of the ranges that differ.

        Atomic for other threads, and undone by restoring the state before it. On disk a crash
        leaves all of it or nothing.

        Parameters
        ----------
        volumes : iterable of str, optional
            Only these volumes are restored; all that the recovery covers by default.
        dry_run : bool
            Say what it would write, and write nothing.

        Raises
        ------
        JournalFull
            The journal may not let entries go, and what differs does not fit; nothing has changed.
        UnknownVolume, InvalidArgument, InvalidType, CorruptionError, EditOpen, StoreClosed
        """
        image, dry_run = self.image, as_flag(dry_run, "dry_run")
        indices = chosen(self.volumes, volumes, image.engine)
        with image.engine as engine:
            engine.check_open()
            ranges, oldest = differences(image, indices)
            total = sum(int(lengths.sum()) for _, lengths in ranges.values())
            if dry_run:
                entries = sum(offsets.size for offsets, _ in ranges.values())
                return Restore(engine.seq + 1, engine.seq + entries, total)
            if oldest > engine.base_seq:
                engine.fold_up_to(min(oldest, engine.seq))  # what may fail comes first
            keeper, first_seq = self._catalog.keeper, engine.seq + 1
            to_the_end(
                partial(self._write_back, ranges, indices),
                None if keeper is None else keeper.restore_failed,
            )
            return Restore(first_seq, engine.seq, total)

    def _write_back(self, ranges: Ranges, indices: list[int]) -> None:
        """Restore `ranges`; where that was broken off, and they are used up, what differs still.

        Half of it would be no state, and the next opening would take it back with all that follows.
        """
        image, keeper = self.image, self._catalog.keeper
        if keeper is not None:
            keeper.restore_begins(self, indices)
        self._catalog.keep_recovery(self)
        for index in indices:
            image.write_back(index, *(ranges.pop(index, None) or image.differences(index)))
        if keeper is not None:
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
        image = self.image
        with image.engine as engine:
            engine.check_open()
            if to is None or self._is_own(to):
                if self.undoable:  # its own blocks stay its own
                    image, seq = Image.scratch(self.preserved), image.seq
                    image.apply(self._as_extents(), seq)
                return self._another(self._base, image, self.plan)
            seq = self._source.resolve(to)
            base = self._base._replace(seq=present_seq(engine, self._base.seq))
            advice = "store.recover() may find another way"
            way = choose(engine, [base], seq, self._source.only, advice=advice)
            return recover(self._catalog, self._source, way, seq, progress)

    def _as_extents(self) -> ExtentMap:
        """Return where the image differs from the preserved copy, with bytes of its own."""
        image = self.image
        volumes, offsets, lengths = (column.tolist() for column in image.patches())
        pieces = zip(offsets, lengths, volumes, strict=True)
        content = b"".join(image.read(*piece) for piece in pieces)
        return ExtentMap.loaded(image.engine, volumes, offsets, lengths, content or b"\0")

    def _another(self, base: Base, image: Image, plan: Plan) -> Recovery:
        image.hold()
        return Recovery(image, self.volumes, self._catalog, self._source, base, plan)

    def close(self) -> None:
        """Give up the image and the preserved copy. Closing twice is fine."""
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
            self.plan = replace(self.plan, _outcome=self._closed_outcome)
        self._base = self._base._replace(image=None)
        self._close_paths()

    def _close_paths(self) -> None:
        paths, self._paths = getattr(self, "_paths", {}), {}
        for file in paths.values():
            file.close()

    def _is_own(self, to: Point) -> bool:
        parsed = parse_point(to)
        return isinstance(parsed, SeqPoint) and parsed.seq == self.seq

    def _outcome_of(self, image: Image) -> Callable[[], int]:
        # Without the recovery itself: what is dropped goes at once.
        return partial(_oldest_after_restore, self._catalog, image, [*self.volumes.values()])

    @staticmethod
    def _closed_outcome() -> int:
        raise StoreClosed("the recovery is closed")


def _oldest_after_restore(catalog: Catalog, image: Image, indices: list[int]) -> int:
    with image.engine as engine:
        engine.check_open()
        return _oldest_after(catalog, image, indices)


def recover(
    catalog: Catalog, source: Source, way: Way, seq: int, progress: Progress = None
) -> Recovery:
    """Make the image of state `seq` the way that was chosen. The caller holds the lock."""
    base, image, plan = make(catalog, way, seq, source, progress)
    return Recovery(image, covered(catalog, source.only), catalog, source, base, plan)


def covered(catalog: Catalog, only: Collection[int] | None) -> dict[str, int]:
    """Return the volumes of these indices, or all of them, by name."""
    return {name: index for name, index in catalog.volumes.items() if only is None or index in only}


def make(
    catalog: Catalog, way: Way, seq: int, source: Source, progress: Progress = None
) -> tuple[Base, Image, Plan]:
    """Return the base, the image over it, held, and what making it moved."""
    preserved = way.base.image or _preserve_production(catalog, way.extents.engine, source.only)
    base = way.base._replace(image=preserved)
    plan = Plan(way.route, base.name, way.entries, way.bytes, lambda: 0)
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
    before = engine.seq, engine.base_seq
    done, step = 0, max(64, -(-extents.count // _STEPS))
    for first in range(0, extents.count, step):
        done += extents.settle(first, step)
        progress(done, extents.bytes)
        if (engine.seq, engine.base_seq) != before:
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


def outcome_of(catalog: Catalog, way: Way, seq: int, only: Collection[int] | None) -> int:
    """Return the oldest state after state `seq`, made this way, was restored. Uses the way up."""
    base = way.base.image or Image.production(way.extents.engine)
    indices = list(catalog.volumes.values()) if only is None else sorted(only)
    return _oldest_after(catalog, Image.patched(base, way.extents, seq, False), indices)


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
        if snapshot.covers is None
    )
    return [(seq, snapshot) for seq, snapshot in pairs if seq is not None]


def present_seq(engine: Engine, seq: int | None) -> int | None:
    """Return the seq under which a state is kept now, or None if the journal has let go of it."""
    try:
        return None if seq is None else engine.resolve(seq)
    except (PointExpired, UnknownPoint, CorruptionError):
        return None


def differences(image: Image, indices: list[int]) -> tuple[Ranges, int]:
    """Return what a restore has to write, and the state before the oldest entry after it.

    What it has to write is (offsets, lengths) for each volume's index.

    Raises
    ------
    JournalFull
        It does not fit a journal that may not evict.
    """
    ranges = {index: image.differences(index) for index in indices}
    offsets, lengths = (np.concatenate([pair[k] for pair in ranges.values()]) for k in (0, 1))
    return ranges, restore_outcome(image.engine, offsets, lengths)


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
