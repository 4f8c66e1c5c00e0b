"""Snapshots: independent, checksummed copies of all volumes at one seq."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple
from weakref import ref

from jrnl.catalog import volume_index
from jrnl.errors import UnknownPoint

if TYPE_CHECKING:
    from jrnl._core import Image
    from jrnl.catalog import Catalog


class Report(NamedTuple):
    """What a verification found.

    Attributes
    ----------
    ok : bool
        Whether nothing is wrong.
    problems : list of str
        One sentence for each thing that is.
    entries : int
        Journal entries whose header and images were held against their checksums.
    snapshots : int
        Snapshots whose blocks were.
    volume_bytes : int
        Bytes of production that were read.
    """

    ok: bool
    problems: list[str]
    entries: int
    snapshots: int
    volume_bytes: int = 0


class Snapshot:
    """A copy of all volumes at one state; made by ``store.snapshot(name)``.

    It never changes, but in a store with ``overflow="fold"``: there the oldest one that is not
    pinned goes on to a later state when the journal is full.

    Attributes
    ----------
    name : str
    seq : int
        The state it holds.
    time_ns : int
        When it was taken, in nanoseconds since 1970-01-01 UTC.
    pinned : bool
        Whether no fold ever touches it.
    """

    def __init__(
        self, catalog: Catalog, name: str, image: Image, time_ns: int, pinned: bool = False
    ) -> None:
        self._volumes = catalog.volumes
        self._catalog = ref(catalog)  # weakly: the catalogue holds the snapshot
        self._image: Image | None = image
        self.name = name
        self.seq = image.seq
        self.time_ns = time_ns
        self.pinned = pinned

    def __repr__(self) -> str:
        return f"<jrnl.Snapshot {self.name!r} at {self.seq}>"

    @property
    def image(self) -> Image:
        """Its content. Raises UnknownPoint once it is deleted."""
        if self._image is None:
            raise UnknownPoint(f"the snapshot {self.name!r} was deleted")
        return self._image

    def follow(self, image: Image) -> None:
        """Be what a fold has made of its copy."""
        self._image = image
        self.seq = image.seq

    def read(self, offset: int, length: int, volume: str | None = None) -> bytes:
        """Return `length` bytes of a volume at `offset`.

        Raises
        ------
        OutOfBounds, UnknownVolume, UnknownPoint, StoreClosed
        CorruptionError
            A block does not match its checksum.
        """
        return self.image.read(offset, length, volume_index(self._volumes, volume))

    def verify(self) -> Report:
        """Hold every block against its checksum."""
        image = self.image
        problems = problems_of(self.name, image)
        return Report(not problems, problems, entries=0, snapshots=1)

    def delete(self) -> None:
        """Give up the name and the copy; an open recovery that started from it keeps the copy.

        Raises
        ------
        UnknownPoint
            It was deleted already.
        PinnedPoint
            With after-images alone, a pinned state is rebuilt from it.
        EditOpen, StoreClosed
        """
        with self.image.engine as engine:
            engine.check_open()
            catalog = self._catalog()
            if catalog is not None and catalog.snapshots.get(self.name) is self:
                catalog.check_delete(self.name)
                if catalog.keeper is not None:
                    catalog.keeper.snapshot_deleted(self.image)
                del catalog.snapshots[self.name]
                catalog.snapshots_changed()
            self._image = None


def problems_of(name: str, image: Image) -> list[str]:
    """Say what is wrong with a snapshot's copy."""
    return [
        f"snapshot {name!r}: the block at byte {offset} of volume {volume} does not match "
        "its checksum"
        for volume, offset in image.verify()
    ]
