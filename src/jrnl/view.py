"""Views: an earlier state, looked at without a copy, or written to and thrown away, or kept."""

from __future__ import annotations

import sys
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Self, SupportsIndex
from weakref import ref

import numpy as np
from numpy.typing import NDArray

from jrnl._core import Image, ImageReader, Moved, compare_images
from jrnl.closeable import ClosesItself
from jrnl.compare import (
    EXTENT,
    extents_of,
    lay_over,
    oldest_after_writing,
    ranges_of_blocks,
    united,
    written_between,
)
from jrnl.errors import PinnedPoint, ProductionChanged, ReadOnlyStore, StoreClosed
from jrnl.recovery import Restore, fold_first
from jrnl.sizes import as_flag
from jrnl.state import ImageState, State, StateVolume, still
from jrnl.steady import until_steady
from jrnl.volume_file import Readable
from jrnl.window import present_seq

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from jrnl.compare import Pair, Ranges
    from jrnl.memfd import MemoryFile
    from jrnl.pins import Pin
    from jrnl.session import Session
    from jrnl.steady import Stamp

_BLOCK_BYTES = 4096  # what a view keeps as a whole of what is written to it
_PROMOTED_MAX_BYTES = 1 << 16  # what a promotion over a changed production writes as one entry
_SHOWN = 8
_PRUNE_EVERY = 64


class View(ImageReader, ImageState, ClosesItself):
    """One state, read through the journal; ``store.view(at)``.

    It is exact while production goes on being written, and raises `PointExpired` once the journal
    has let go of an entry that it needs. A writable one keeps what is written to it in blocks of
    its own, which go with it, unless `promote` puts it onto production.

    ``read`` and ``readinto`` come straight from the compiled core.

    Attributes
    ----------
    id : int
        Its key in ``store.views``.
    seq : int
        The state it shows, or began with.
    writable : bool
    volumes : mapping of str to StateVolume
        The volumes it shows; ``view[name]``, too.
    """

    def __init__(
        self,
        image: Image,
        indices: dict[str, int],
        session: Session,
        *,
        writable: bool,
        pin: Pin | None = None,
    ) -> None:
        super().__init__()  # the core took image and indices already
        shown = Image.writable(image) if writable else image
        shown.acquire()
        self._show(shown)
        self._session = ref(session)
        self._pin = pin
        self.seq = self._stands_at = image.seq
        self.writable = writable
        self.id = 0
        self._caller: tuple[str, int, str] | None = None

    def __enter__(self) -> Self:
        self._image.engine.check_not_closed()
        return self

    def __repr__(self) -> str:
        return f"<jrnl.View at {self.seq}{', writable' if self.writable else ''}>"

    @property
    def opened(self) -> str:
        """Where it was opened: ``"file:line in function"``, of the code that called jrnl."""
        if self._caller is None:
            return "an unknown place"
        file, line, function = self._caller
        return f"{file}:{line} in {function}"

    # Writing to it.

    def write(self, offset: SupportsIndex, data: Readable, volume: str | None = None) -> int:
        """Write `data` at `offset` to this view alone: all of it, or nothing. Returns its seq.

        Raises
        ------
        ReadOnlyStore
            The view was not made with ``writable=True``.
        OutOfBounds, UnknownVolume, PointExpired, CorruptionError, StoreClosed, MemoryError
        """
        self._writable_image().write(offset, data, self._find(volume))
        return self.seq

    def write_zeroes(
        self, offset: SupportsIndex, length: SupportsIndex, volume: str | None = None
    ) -> int:
        """Zero a range of this view alone. Returns and raises as `write`."""
        self._writable_image().write_zeroes(offset, length, self._find(volume))
        return self.seq

    def discard(
        self, offset: SupportsIndex, length: SupportsIndex, volume: str | None = None
    ) -> int:
        """Discard a range of this view alone: it reads as zeroes. Returns and raises as `write`."""
        return self.write_zeroes(offset, length, volume)

    def _writable_image(self) -> Image:
        image = self._image
        if not self.writable:
            raise ReadOnlyStore("this view is for reading; store.view(at, writable=True) is not")
        return image

    def _check_writable(self) -> None:
        self._writable_image()

    @property
    def _writable(self) -> bool:
        return self.writable

    def _write(self, index: int, offset: int, data: memoryview) -> int:
        self._image.write(offset, data, index)
        return self.seq

    def _write_zeroes(self, index: int, offset: int, length: int) -> int:
        self._image.write_zeroes(offset, length, index)
        return self.seq

    def _write_many(
        self, index: int, offsets: NDArray[np.int64], data: memoryview, length: int
    ) -> int:
        self._write_blocks(index, offsets, data, length)
        return self.seq

    # What was written to it.

    @property
    def own_bytes(self) -> int:
        """Bytes, in whole blocks of 4 KiB, that were written to this view and take memory."""
        return self._image.own_bytes if self.writable else 0

    @property
    def _journal_seq(self) -> int | None:
        return None if self._image.is_writable else self.seq

    def _layers(self) -> Iterator[Image]:
        """Yield what holds what was written to it, and to the views that it is a view of."""
        image: Image | None = self._image
        while image is not None and image.is_writable:
            yield image
            image = image.base

    def _ground_image(self) -> Image:
        """Return the state before anything was written to it."""
        image = self._image
        for layer in self._layers():
            assert layer.base is not None
            image = layer.base
        return image

    def _own_ranges(self, index: int) -> Pair:
        """Return the blocks of a volume that were written to, each a range."""
        blocks = [np.empty(0, np.int64)]
        for layer in self._layers():
            volumes, offsets, _ = layer.patches()
            blocks.append(offsets[volumes == index] // _BLOCK_BYTES)
        return ranges_of_blocks(np.unique(np.concatenate(blocks)), self._size(index))

    def _refresh(self, file: MemoryFile, index: int) -> None:
        """Write what was written to the view: all else in a file that was made before is right."""
        ranges = united(self._own_ranges(index))
        file.follow(self, zip(*(column.tolist() for column in ranges), strict=True))

    def diff(
        self,
        other: State | None = None,
        volume: str | StateVolume | None = None,
        *,
        exact: bool = True,
    ) -> NDArray[np.void]:
        """Say what this view has changed; or where it differs from another state.

        Without `other`, the state that it began with is what it is compared with, in the blocks
        that were written to: in it, and in the views that it is a view of. See `State.diff`.

        Raises
        ------
        PointExpired
            The state that it began with is no longer kept.
        UnknownVolume, InvalidArgument, InvalidType, CorruptionError, EditOpen, StoreClosed
        """
        if other is not None:
            return super().diff(other, volume, exact=exact)
        exact = as_flag(exact, "exact")
        chosen = self._indices.values() if volume is None else [self._find(volume)]
        return still(self._engines, lambda: self._changes([*chosen], exact))

    def _changes(self, indices: list[int], exact: bool) -> NDArray[np.void]:
        image, ground = self._image, self._ground_image()
        parts = [np.empty(0, EXTENT)]
        for index in indices:
            ranges = self._own_ranges(index)
            found = compare_images(image, ground, index, *ranges) if exact else united(ranges)
            parts.append(extents_of(index, *found))
        return np.concatenate(parts)

    # Keeping it.

    def promote(self, force: bool = False) -> Restore:
        """Put what this view has changed onto production, as journaled writes.

        It costs the blocks that were written to, which are compared, and writes what differs; the
        view stays open, and may be written to and promoted again. Atomic for other threads, and
        undone as a restore is: by recovering to ``first_seq - 1`` and restoring that. On disk a
        crash leaves all of it or nothing.

        Parameters
        ----------
        force : bool
            Also where production has moved on since the view's state. Then just the bytes that the
            view has changed are written, and all that was written to production beside them stays.

        Raises
        ------
        ProductionChanged
            Production was written to since the view's state, or since it was last promoted, and
            `force` is not set. Entries that change no bytes (marks, flushes) do not count.
        ReadOnlyStore
            The view, or the store, is for reading.
        PointExpired
            With `force`: the view's state is no longer kept, so that nobody knows what has changed.
        JournalFull
            What differs does not fit a journal that may not let entries go; nothing has changed.
        CatalogFull, OSError, StorePoisoned
            On disk.
        CorruptionError, EditOpen, InvalidType, MemoryError, StoreClosed
        """
        force, session = as_flag(force, "force"), self._session()
        image = self._writable_image()
        if session is None:
            raise StoreClosed("the view's store is gone")
        with image.engine.changing() as engine:
            engine.check_open()
            restored = until_steady(engine, partial(self._promote, session, force))
        return restored

    def _promote(self, session: Session, force: bool, stamp: Stamp) -> Restore:
        image, engine = self._image, self._image.engine
        scratched, moved = engine.cow_changes, self._production_moved()
        if moved and not force:
            raise ProductionChanged(
                f"production has been written to since state {self._stands_at}, which this view "
                "stands on; promote(force=True) lays just the bytes that view.diff() tells over "
                "production as it is now, or open a view of the present state"
            )
        ranges = self._to_promote(moved)
        total = sum(int(lengths.sum()) for _, lengths in ranges.values())
        oldest = oldest_after_writing(engine, ranges)
        with engine.exclusive():  # from here on nothing may come that would have it refused
            engine.check_stamp(stamp)
            if engine.cow_changes != scratched:
                raise Moved("a view was written to meanwhile")
            stamp = fold_first(engine, oldest, stamp)
            first_seq, last_seq = engine.seq + 1, engine.seq
            if total:
                first_seq, last_seq = session.promote(image, self._indices, ranges, stamp)
                session.replaced()
        if not moved:
            self._stands_at = last_seq
        engine.happened("promoted", state=self.seq, first=first_seq, last=last_seq, bytes=total)
        return Restore(first_seq, last_seq, total)

    def _production_moved(self) -> bool:
        """Whether production may have other bytes than the state that the view stands on."""
        engine = self._image.engine
        here = present_seq(engine, self._stands_at)
        for index in self._indices.values():
            written = written_between(engine, index, here, engine.seq)
            if written is None or written[0].size:
                return True
        return False

    def _to_promote(self, moved: bool) -> Ranges:
        """Return what has to be written to production, by volume."""
        image, ground = self._image, self._ground_image()
        engine, ranges = image.engine, {}
        present = Image.production(engine)
        for index in self._indices.values():
            own = self._own_ranges(index)
            if moved:
                new, old, now = (partial(_read, one, index) for one in (image, ground, present))
                longest = min(engine.write_max, _PROMOTED_MAX_BYTES)
                ranges[index] = lay_over(new, old, now, united(own), longest)
            else:
                ranges[index] = image.differences(index, *own)
        return ranges

    def view(self, writable: bool = False) -> View:
        """Look at what this view shows now, from another view.

        Neither sees what is written to the other one later on. It needs what this one needs, and
        stays when this one is closed; a pin is the first one's alone.

        Raises
        ------
        InvalidType, StoreClosed
        """
        writable, session = as_flag(writable, "writable"), self._session()
        with self._image.engine:
            if session is None:
                raise StoreClosed("the view's store is gone")
            # What was written so far becomes the ground that both of them stand on.
            image = self._ground() if self.writable else self._image
            view = View(image, self._indices, session, writable=writable)
            view._stands_at = self._stands_at
            session.views.add(view)
            return view

    def close(self) -> None:
        """Give it up; it no longer stands in the way of a rewind. Closing twice is fine."""
        self._close()

    def _close(self) -> None:
        image, session = self._show(None), self._session()
        if image is not None:
            image.release()
        pin, self._pin = self._pin, None
        if pin is not None:
            pin.release()
        if session is not None:
            session.views.remove(self)
        self._close_files()

    # Rewinds.

    def _is_in_the_way(self, seq: int) -> bool:
        """Whether a rewind to a state would drop what it needs."""
        needs, pin = self._needs_after, self._pin
        return (needs is not None and needs > seq) or (
            pin is not None and pin.held and pin.seq > seq
        )

    def _step_aside(self, aside: bool) -> None:
        """Let a rewind pass, which closes it then; or stand in its way again."""
        self._set_aside(aside)
        if self._pin is not None:
            self._pin._pinned.set_aside(aside)


def _read(image: Image, index: int, offset: int, buffer: memoryview) -> None:
    image.readinto(offset, buffer, index)


class Views:
    """The open views of a store, for as long as somebody holds them."""

    def __init__(self) -> None:
        self._open: dict[int, ref[View]] = {}
        self._prune_at = _PRUNE_EVERY
        self._numbers = count(1)

    def add(self, view: View) -> None:
        """Give a view its number, and list it."""
        view._caller = _caller()
        view.id = next(self._numbers)
        self._open[view.id] = ref(view)
        if len(self._open) >= self._prune_at:
            self._prune_at = 2 * len(self.all()) + _PRUNE_EVERY

    def remove(self, view: View) -> None:
        """Take a view that was closed out again."""
        self._open.pop(view.id, None)

    def all(self) -> dict[int, View]:
        """Return the open ones by their number."""
        found = {}
        for number, reference in list(self._open.items()):  # they come and go meanwhile
            view = reference()
            if view is None:
                self._open.pop(number, None)
            else:
                found[number] = view
        return found

    def in_the_way(self, seq: int) -> list[View]:
        """Return those that a rewind to a state would take something from."""
        return [view for view in self.all().values() if view._is_in_the_way(seq)]


def told_of(views: list[View], seq: int) -> PinnedPoint:
    """Return what a rewind to a state raises, that would take something from these views."""
    places = [f"view {view.id} of state {view.seq}, opened at {view.opened}" for view in views]
    more = f" and {len(places) - _SHOWN} more" if places[_SHOWN:] else ""
    return PinnedPoint(
        f"a rewind to state {seq} would drop what is needed by {'; '.join(places[:_SHOWN])}{more}: "
        "close it first, or have rewind(to, close_views=True) do so"
    )


def _caller() -> tuple[str, int, str] | None:
    """Return file, line and function of the innermost code that is not of jrnl."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None:
        module = str(frame.f_globals.get("__name__"))
        if not module.startswith("jrnl") or module.partition(".")[0] != "jrnl":
            code = frame.f_code
            return code.co_filename, frame.f_lineno, code.co_qualname
        frame = frame.f_back
    return None
