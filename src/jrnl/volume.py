"""Production volumes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xxhash
from numpy.typing import NDArray

from jrnl._core import Edit, Image, VolumeIO, is_fork, own_all
from jrnl.compare import written_between
from jrnl.errors import InvalidArgument
from jrnl.points import Mark
from jrnl.state import ImageState, StateVolume
from jrnl.volume_file import VolumeFile
from jrnl.window import present_seq

if TYPE_CHECKING:
    from jrnl._core import Engine
    from jrnl.catalog import Catalog
    from jrnl.memfd import MemoryFile

_HASHED_BYTES = 64 << 20


class Production(ImageState):
    """The present state, whatever that is when it is looked at."""

    def __init__(self, engine: Engine, indices: dict[str, int]) -> None:
        self._engine, self._indices = engine, indices
        self._followed: dict[int, int] = {}  # by volume: the state that its file shows

    def __repr__(self) -> str:
        return "<production>"

    @property
    def seq(self) -> int:  # type: ignore[override]
        """The newest entry's seq."""
        return self._engine.seq

    @property
    def _image(self) -> Image:
        self._engine.check_not_closed()
        return Image.production(self._engine)

    @property
    def _may_change(self) -> bool:
        return True

    def _path(self, index: int) -> str:
        with self._engine as engine:
            engine.check_open()
            seq, path = engine.seq, super()._path(index)
            self._followed[index] = seq
            return path

    def _refresh(self, file: MemoryFile, index: int) -> None:
        """Write what the journal says was written since; all, where it cannot tell."""
        engine = self._engine
        before = present_seq(engine, self._followed.get(index))
        ranges = written_between(engine, index, before, engine.seq)
        if ranges is None:
            file.write_all(self, fresh=False)
        else:
            file.follow(self, zip(*(column.tolist() for column in ranges), strict=True))

    def _digest_now(self) -> str:
        if self._engine.on_disk or is_fork(self._engine):
            return super()._digest_now()
        state = xxhash.xxh3_128()
        for device in self._engine.devices:
            content = memoryview(device)
            for start in range(0, len(content), _HASHED_BYTES):  # signals come in between
                state.update(content[start : start + _HASHED_BYTES])
        return state.hexdigest()


class Volume(VolumeIO, StateVolume):
    """The bytes that a host reads and writes; ``store["name"]``.

    ``write``, ``write_many``, ``read``, ``readinto``, ``discard`` and ``write_zeroes`` come
    straight from the compiled core.

    Attributes
    ----------
    size : int
        Bytes.
    """

    __eq__, __hash__ = object.__eq__, object.__hash__  # there is one of each
    __index__ = None  # type: ignore[assignment]

    def __init__(
        self, engine: Engine, index: int, name: str, catalog: Catalog, production: Production
    ) -> None:
        StateVolume.__init__(self, production, name, index)  # the core took engine and index
        self._catalog = catalog

    def __repr__(self) -> str:
        return f"<jrnl.Volume {self.name!r}, {self.size} bytes>"

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
            own_all(engine, self._index)
            # Over a read-only view, or the array's owner could make it writable again.
            return np.frombuffer(memoryview(engine.devices[self._index]).toreadonly(), np.uint8)

    def as_file(self) -> VolumeFile:
        """Return production as a raw file object: seek, readinto, write, flush."""
        return VolumeFile(self.size, self.readinto, self.write, self._flush, self._max_write)

    def path(self) -> str:
        """Return a path at which other programs can read production, whole.

        It is a copy in memory, sparse, that can only be read, gone with the store: of a store on
        disk, too, whose files lag behind. It shows what the volume holds whenever `path` is called,
        which costs what was written since the last time. For a program that writes, take that of a
        recovery, a read-only view or a snapshot.

        Raises
        ------
        OSError, EditOpen, StoreClosed, CorruptionError
        """
        return super().path()

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
