"""Recoveries: the image of an earlier state, and the copy that it can be made from again."""

from __future__ import annotations

import os
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from jrnl._core import Image, restore_outcome
from jrnl.closing import ClosesItself
from jrnl.errors import CorruptionError, PointExpired, StoreClosed, UnknownPoint
from jrnl.plan import BEFORE, Base, Plan, Way, choose
from jrnl.points import Point, SeqPoint, parse_point

if TYPE_CHECKING:
    from collections.abc import Callable

    from _typeshed import WriteableBuffer
    from numpy.typing import NDArray

    from jrnl._core import Engine
    from jrnl.catalog import Catalog
    from jrnl.snapshot import Snapshot

    Resolve = Callable[[Point], int]

_PIECE_BYTES = 1 << 20
BLOCK_BYTES = 4096  # what the core counts changed bytes in


class Restore(NamedTuple):
    """What a restore wrote: entries first_seq..last_seq, `bytes` of content.

    Where nothing differed there is no entry, and first_seq is last_seq + 1. Recovering to
    ``first_seq - 1`` and restoring that undoes it.
    """

    first_seq: int
    last_seq: int
    bytes: int


class Recovery(ClosesItself):
    """A recovered state of all volumes, beside production; made by ``store.recover(to)``.

    The image shares what is unchanged with its base, which is kept as it was: a snapshot, or
    production as of the recovery. It stays exact whatever happens to production, the journal or the
    snapshot's name.

    Attributes
    ----------
    id : int
    seq : int
        The state it shows.
    base : str
        What it was made from: a snapshot's name, or "production".
    plan : Plan
        What making it moved.
    """

    def __init__(
        self,
        catalog: Catalog,
        resolve: Resolve,
        base: Base,
        image: Image,
        plan: Plan,
        number: int | None = None,
    ) -> None:
        self._catalog = catalog
        self._resolve = resolve
        self._base = base
        self._image: Image | None = image
        image.hold()
        self._paths: dict[int, int] = {}
        self.seq = image.seq
        self.base = base.name
        self.plan = replace(plan, _outcome=partial(_oldest_after_restore, catalog, image))
        self.copy: int | None = base.image.tag if base.image is not None else None
        self.id = catalog.add_recovery(self) if number is None else catalog.add_loaded(self, number)

    def __repr__(self) -> str:
        return f"<jrnl.Recovery {self.id} at {self.seq} from {self.base!r}>"

    def __del__(self) -> None:
        self._close_paths()

    @property
    def image(self) -> Image:
        """Its content. Raises StoreClosed once it is closed."""
        return self._open()

    @property
    def preserved(self) -> Image:
        """The preserved copy of what it started from. Raises StoreClosed."""
        if self._base.image is None:
            raise StoreClosed("the recovery is closed")
        return self._base.image

    def read(self, offset: int, length: int, volume: str | None = None) -> bytes:
        """Return `length` bytes of a volume at `offset`.

        Raises
        ------
        OutOfBounds, UnknownVolume, CorruptionError, StoreClosed
        """
        return self._open().read(offset, length, self._catalog.volume_index(volume))

    def readinto(self, offset: int, buffer: WriteableBuffer, volume: str | None = None) -> None:
        """Fill `buffer`, writable and C-contiguous, from `offset` on. Raises as `read`."""
        self._open().readinto(offset, buffer, self._catalog.volume_index(volume))

    def as_array(self, volume: str | None = None) -> NDArray[np.uint8]:
        """Return a copy of a whole volume: uint8[size], the caller's own."""
        device = self._open().materialise(self._catalog.volume_index(volume))
        return np.frombuffer(memoryview(device), np.uint8)

    def path(self, volume: str | None = None) -> str:
        """Return a path at which other programs can open a copy of a whole volume.

        It is a file in memory, sparse, and gone when the recovery is closed. What is written to it
        changes nothing here.
        """
        index = self._catalog.volume_index(volume)
        if index not in self._paths:
            image = self._open()
            descriptor = os.memfd_create(f"jrnl-{self.id}", os.MFD_CLOEXEC)
            try:
                _write_sparse(descriptor, image, index)
            except BaseException:
                os.close(descriptor)
                raise
            if self._paths.setdefault(index, descriptor) != descriptor:
                os.close(descriptor)  # another thread was faster
        return f"/proc/{os.getpid()}/fd/{self._paths[index]}"

    def restore(self) -> Restore:
        """Copy the image onto production: journaled writes of the ranges that differ.

        Atomic for other threads, and undone by restoring the state before it.

        Raises
        ------
        JournalFull
            ``overflow="refuse"`` and what differs does not fit; nothing has changed.
        CorruptionError, EditOpen, StoreClosed
        """
        image = self._open()
        with image.engine as engine:
            engine.check_open()
            ranges, oldest = differences(image)
            if oldest > engine.base_seq:
                engine.fold_up_to(min(oldest, engine.seq))  # what may fail comes first
            keeper = self._catalog.keeper
            if keeper is not None:
                keeper.restore_begins(self)
            self._catalog.keep_recovery(self)
            first_seq = engine.seq + 1
            for index, (offsets, lengths) in enumerate(ranges):
                image.write_back(index, offsets, lengths)
            total = sum(int(lengths.sum()) for _, lengths in ranges)
            result = Restore(first_seq, engine.seq, total)
            if keeper is not None:
                keeper.restore_ends()
            return result

    def again(self, to: Point | None = None) -> Recovery:
        """Recover again from the preserved copy, to the same point or another.

        Parameters
        ----------
        to : point, optional
            This recovery's own by default, which never expires.

        Raises
        ------
        PointExpired
            The entries between the preserved copy and `to` are no longer there.
        UnknownPoint, InvalidType, InvalidArgument, CorruptionError, StoreClosed
        """
        image = self._open()
        with image.engine as engine:
            engine.check_open()
            if to is None or self._is_own(to):
                return Recovery(self._catalog, self._resolve, self._base, image, self.plan)
            seq = self._resolve(to)
            base = self._base._replace(seq=present_seq(engine, self._base.seq))
            return recover(self._catalog, self._resolve, choose(engine, [base], seq), seq)

    def close(self) -> None:
        """Give up the image and the preserved copy. Closing twice is fine."""
        self._catalog.remove_recovery(self)
        image, self._image = self._image, None
        if image is not None and self._catalog.keeper is not None:
            with image.engine:
                self._catalog.keeper.recovery_closed(self)
        if image is not None:
            image.let_go()
            self.plan = replace(self.plan, _outcome=self._closed_outcome)
        self._base = self._base._replace(image=None)
        self._close_paths()

    def _close_paths(self) -> None:
        paths, self._paths = getattr(self, "_paths", {}), {}
        for descriptor in paths.values():
            os.close(descriptor)

    def _open(self) -> Image:
        if self._image is None:
            raise StoreClosed("the recovery is closed")
        return self._image

    def _is_own(self, to: Point) -> bool:
        parsed = parse_point(to)
        return isinstance(parsed, SeqPoint) and parsed.seq == self.seq

    @staticmethod
    def _closed_outcome() -> int:
        raise StoreClosed("the recovery is closed")


def _oldest_after_restore(catalog: Catalog, image: Image) -> int:
    with image.engine as engine:
        engine.check_open()
        return _oldest_after(catalog, image)


def recover(catalog: Catalog, resolve: Resolve, way: Way, seq: int) -> Recovery:
    """Make the image of state `seq` the way that was chosen. The caller holds the lock."""
    preserved = way.base.image or _preserve_production(catalog, way.extents.engine)
    base = way.base._replace(image=preserved)
    plan = Plan(way.route, base.name, way.entries, way.bytes, lambda: 0)
    preserved.hold()
    try:
        image = Image.patched(preserved, way.extents, seq, True)  # takes the map over
        return Recovery(catalog, resolve, base, image, plan)
    finally:
        preserved.let_go()  # where that failed it pins nothing


def outcome_of(catalog: Catalog, way: Way, seq: int) -> int:
    """Return the oldest state after state `seq`, made this way, was restored. Uses the way up."""
    base = way.base.image or Image.production(way.extents.engine)
    return _oldest_after(catalog, Image.patched(base, way.extents, seq, False))


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
        if set(getattr(snapshot, "volumes", None) or catalog.volumes) == set(catalog.volumes)
    )
    return [(seq, snapshot) for seq, snapshot in pairs if seq is not None]


def present_seq(engine: Engine, seq: int | None) -> int | None:
    """Return the seq under which a state is kept now, or None if the journal has let go of it."""
    try:
        return None if seq is None else engine.resolve(seq)
    except (PointExpired, UnknownPoint, CorruptionError):
        return None


def differences(image: Image) -> tuple[list[tuple[NDArray[np.int64], NDArray[np.int64]]], int]:
    """Return what a restore has to write, and the state before the oldest entry after it.

    What it has to write is (offsets, lengths) for each volume.

    Raises
    ------
    JournalFull
        It does not fit a journal that may not evict.
    """
    ranges = [image.differences(index) for index in range(len(image.engine.sizes))]
    offsets, lengths = (np.concatenate([pair[k] for pair in ranges]) for k in (0, 1))
    return ranges, restore_outcome(image.engine, offsets, lengths)


def _oldest_after(catalog: Catalog, image: Image) -> int:
    engine = image.engine
    ranges, base_seq = differences(image)
    newest = engine.seq + sum(offsets.size for offsets, _ in ranges)
    return oldest_state(catalog, engine, base_seq, newest)


def _preserve_production(catalog: Catalog, engine: Engine) -> Image:
    """Production as it is now, kept: through the journal, or as a copy where that keeps no past."""
    if engine.images & BEFORE:
        return Image.live(engine, engine.seq, True)
    return Image.frozen(engine) if catalog.keeper is None else catalog.keeper.preserve()


def _pieces(image: Image, index: int) -> list[int]:
    """Return where the pieces of a volume start that may hold anything but zeroes.

    What is in any state was once written to production, which knows where it was written.
    """
    with image.engine as engine:
        written = engine.write_kept(index) * BLOCK_BYTES
        return [int(start) for start in np.unique(written // _PIECE_BYTES) * _PIECE_BYTES]


def _write_sparse(descriptor: int, image: Image, index: int) -> None:
    """Write a file of a volume's content that takes no room where it is zeroes."""
    size = image.engine.sizes[index]
    os.ftruncate(descriptor, size)
    zeroes = bytes(_PIECE_BYTES)
    with image.engine:
        for start in _pieces(image, index):
            piece = image.read(start, min(_PIECE_BYTES, size - start), index)
            if piece != zeroes[: len(piece)]:
                os.pwrite(descriptor, piece, start)
