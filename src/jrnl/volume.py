"""Production volumes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from jrnl._core import Edit, VolumeIO
from jrnl.closeable import NotCopied
from jrnl.errors import InvalidArgument
from jrnl.points import Mark
from jrnl.volume_file import VolumeFile

if TYPE_CHECKING:
    from jrnl._core import Engine
    from jrnl.catalog import Catalog


class Volume(VolumeIO, NotCopied):
    """The bytes that a host reads and writes; ``store["name"]``.

    ``write``, ``write_many``, ``read``, ``readinto``, ``discard`` and ``write_zeroes`` come
    straight from the compiled core.

    Attributes
    ----------
    size : int
        Bytes.
    """

    def __init__(self, engine: Engine, index: int, name: str, catalog: Catalog) -> None:
        super().__init__()  # the core took engine and index already
        self._name = name
        self._catalog = catalog

    def __repr__(self) -> str:
        return f"<jrnl.Volume {self.name!r}, {self.size} bytes>"

    @property
    def name(self) -> str:
        """What it is called in its store."""
        return self._name

    def edit(self, offset: int, length: int) -> Edit:
        """Lend a range for writing in place, as one journal entry.

        Use it in a ``with`` statement: it gives a writable uint8 array of `length` over production.
        An exception in the block puts the old bytes back. Other threads wait for the block to end.
        The array must not be written after it. Inside the block this thread may read and write, but
        not write into the lent range through the store, nor ask for other states.

        Raises
        ------
        OutOfBounds, EntryTooLarge, JournalFull, StoreClosed
        EditOpen
            The range overlaps one that this thread has open already.
        """
        return Edit(self, offset, length)

    def as_array(self) -> NDArray[np.uint8]:
        """Return production itself: uint8[size], read-only, no copy.

        It shows later writes, and stays valid memory after the store is closed.

        Raises
        ------
        StoreClosed
        InvalidArgument
            The store is on disk.
        """
        with self._engine as engine:
            engine.check_not_closed()
            if engine.on_disk:
                raise InvalidArgument(
                    "a store on disk has no production in memory; read(), or as_file()"
                )
            # Over a read-only view, or the array's owner could make it writable again.
            return np.frombuffer(memoryview(engine.devices[self._index]).toreadonly(), np.uint8)

    def as_file(self) -> VolumeFile:
        """Return production as a raw file object: seek, readinto, write, flush."""
        return VolumeFile(self.size, self.readinto, self.write, self._flush, self._max_write)

    @property
    def _seq(self) -> int:
        return self._engine.seq

    @property
    def _max_write(self) -> int:
        return self._engine.write_max

    def _flush(self) -> int:
        with self._engine as engine:
            engine.check_open()
            seq = engine.flush()
        engine.commit(seq)
        return seq

    def _mark(self, name: str) -> Mark:
        with self._engine as engine:
            engine.check_open()
            return self._catalog.make_mark(name)
