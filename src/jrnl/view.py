"""Views: an earlier state, looked at without a copy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jrnl.closing import ClosesItself
from jrnl.errors import PointExpired, StoreClosed
from jrnl.files import VolumeFile

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

    from jrnl._core import Image
    from jrnl.catalog import Catalog


class View(ClosesItself):
    """One state of all volumes, read through the journal; ``store.view(at)``.

    It is exact while production goes on being written, and raises `PointExpired` once the journal
    has let go of an entry that it needs.

    Attributes
    ----------
    seq : int
        The state it shows.
    """

    def __init__(self, catalog: Catalog, image: Image, seq: int, needs: int | None) -> None:
        self._catalog = catalog
        self._image: Image | None = image
        image.hold()
        self._needs = needs
        self.seq = seq

    def __repr__(self) -> str:
        return f"<jrnl.View at {self.seq}>"

    def read(self, offset: int, length: int, volume: str | None = None) -> bytes:
        """Return `length` bytes of a volume at `offset`.

        Raises
        ------
        PointExpired, OutOfBounds, UnknownVolume, CorruptionError, StoreClosed
        """
        image = self._open()
        with image.engine:
            self._check(image)
            return image.read(offset, length, self._catalog.volume_index(volume))

    def readinto(self, offset: int, buffer: WriteableBuffer, volume: str | None = None) -> None:
        """Fill `buffer`, writable and C-contiguous, from `offset` on. Raises as `read`."""
        image = self._open()
        with image.engine:
            self._check(image)
            image.readinto(offset, buffer, self._catalog.volume_index(volume))

    def as_file(self, volume: str | None = None) -> VolumeFile:
        """Return one volume of this state as a raw, read-only file object."""
        index = self._catalog.volume_index(volume)
        name = list(self._catalog.volumes)[index]
        return VolumeFile(
            self._open().engine.sizes[index],
            lambda offset, buffer: self.readinto(offset, buffer, name),
        )

    def close(self) -> None:
        """Give it up; it no longer stands in the way of a rewind."""
        image, self._image = self._image, None
        if image is not None:
            image.let_go()

    @property
    def image(self) -> Image:
        """Its content. Raises StoreClosed once it is closed."""
        return self._open()

    def _open(self) -> Image:
        if self._image is None:
            raise StoreClosed("the view is closed")
        return self._image

    def _check(self, image: Image) -> None:
        if self._needs is not None and image.engine.base_seq > self._needs:
            raise PointExpired(
                f"state {self.seq} can no longer be seen: the journal has let go of entry "
                f"{image.engine.base_seq}; a larger journal or a recovery keeps it for longer"
            )
