"""Views: an earlier state, looked at without a copy, or written to and thrown away."""

from __future__ import annotations

from collections.abc import Callable
from typing import Self

from jrnl._core import Image, StateIO
from jrnl.catalog import volume_index
from jrnl.closeable import ClosesItself
from jrnl.errors import ReadOnlyStore
from jrnl.sizes import as_flag
from jrnl.volume_file import Readable, VolumeFile

_WRITE_MAX = 1 << 30


class View(StateIO, ClosesItself):
    """One state, read through the journal; ``store.view(at)``.

    It is exact while production goes on being written, and raises `PointExpired` once the journal
    has let go of an entry that it needs. A writable one keeps what is written to it in blocks of
    its own, which go with it; nothing else ever sees them.

    ``read`` and ``readinto`` come straight from the compiled core.

    Attributes
    ----------
    seq : int
        The state it shows, or began with.
    writable : bool
    volumes : dict of str to int
        The volumes it shows.
    """

    def __init__(
        self,
        image: Image,
        volumes: dict[str, int],
        *,
        writable: bool,
        release: Callable[[], object] | None = None,
    ) -> None:
        super().__init__()  # the core took image and volumes already
        shown = Image.scratch(image) if writable else image
        shown.hold()
        self._show(shown)
        self._release = release
        self.seq = image.seq
        self.writable = writable

    def __enter__(self) -> Self:
        self._image.engine.check_not_closed()
        return self

    def __repr__(self) -> str:
        return f"<jrnl.View at {self.seq}{', writable' if self.writable else ''}>"

    def _find(self, volume: object) -> int:
        return volume_index(self.volumes, volume, self._image.engine)

    def write(self, offset: int, data: Readable, volume: str | None = None) -> None:
        """Write `data` at `offset` to this view alone: all of it, or nothing.

        Raises
        ------
        ReadOnlyStore
            The view was not made with ``writable=True``.
        OutOfBounds, UnknownVolume, PointExpired, CorruptionError, StoreClosed, MemoryError
        """
        self._writable_image().write(offset, data, self._find(volume))

    def write_zeroes(self, offset: int, length: int, volume: str | None = None) -> None:
        """Zero a range of this view alone. Raises as `write`."""
        self._writable_image().write_zeroes(offset, length, self._find(volume))

    def discard(self, offset: int, length: int, volume: str | None = None) -> None:
        """Discard a range of this view alone: it reads as zeroes. Raises as `write`."""
        self.write_zeroes(offset, length, volume)

    @property
    def own_bytes(self) -> int:
        """Bytes, in whole blocks of 4 KiB, that were written to this view and take memory."""
        return self._image.own_bytes if self.writable else 0

    def view(self, writable: bool = False) -> View:
        """Look at what this view shows now, from another view.

        Neither sees what is written to the other one later on. It needs what this one needs, and
        stays when this one is closed; a pin is the first one's alone.

        Raises
        ------
        InvalidType, StoreClosed
        """
        writable = as_flag(writable, "writable")
        with self._image.engine:
            # What was written so far becomes the ground that both of them stand on.
            image = self._ground() if self.writable else self._image
            return View(image, self.volumes, writable=writable)

    def as_file(self, volume: str | None = None) -> VolumeFile:
        """Return one volume of this state as a raw file object; a writable view's takes writes."""
        index = self._find(volume)
        name = list(self.volumes)[list(self.volumes.values()).index(index)]
        size = self._image.engine.sizes[index]

        def read(offset: int, buffer: memoryview) -> None:
            self.readinto(offset, buffer, name)

        def write(offset: int, data: memoryview) -> None:
            self.write(offset, data, name)

        if not self.writable:
            return VolumeFile(size, read)
        return VolumeFile(size, read, write, write_max=_WRITE_MAX)

    def close(self) -> None:
        """Give it up; it no longer stands in the way of a rewind. Closing twice is fine."""
        self._close()

    def _close(self) -> None:
        image = self._show(None)
        if image is not None:
            image.let_go()
        release, self._release = self._release, None
        if release is not None:
            release()

    def _writable_image(self) -> Image:
        image = self._image
        if not self.writable:
            raise ReadOnlyStore("this view is for reading; store.view(at, writable=True) is not")
        return image
