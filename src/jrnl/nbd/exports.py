"""Exports: what a client can open, by name. A volume, one of its earlier states, marks."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from jrnl.control.points import point_of
from jrnl.errors import InvalidArgument, ReadOnlyStore, UnknownVolume
from jrnl.nbd import protocol
from jrnl.nbd.extents import ALLOCATION, CHANGED, Context, Extents, ProductionExtents

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    from jrnl.points import Mark
    from jrnl.snapshot import Snapshot
    from jrnl.state import StateVolume
    from jrnl.store import Store
    from jrnl.view import View
    from jrnl.volume import Volume

MARKER = "@mark"
MARKER_BYTES = 4096
ZERO_BYTES = 1 << 20  # most of a scratch branch that is zeroed at a time
SCRATCH = "+rw"


class Export(ABC):
    """What a connection is about.

    Attributes
    ----------
    name : str
    size : int
        Bytes.
    read_only : bool
    production : Volume or None
        What is served without asking `answer`, but for BLOCK_STATUS.
    """

    name: str
    size: int
    read_only = False
    production: Volume | None = None
    description = ""

    def answer(self, kind: int, flags: int, offset: int, length: int, data: bytes | None) -> bytes:
        """Do what a request asks; return the bytes that a READ brings. Its range fits."""
        if kind == protocol.READ:
            return self._read(offset, length)
        if kind == protocol.WRITE:
            self._write(offset, data or b"")
        elif kind in (protocol.TRIM, protocol.WRITE_ZEROES):
            self._zero(offset, length)
        if kind == protocol.FLUSH or flags & protocol.REQ_FUA:
            self._flush()
        return b""

    @abstractmethod
    def _read(self, offset: int, length: int) -> bytes:
        """Return the bytes of a range."""

    @abstractmethod
    def _write(self, offset: int, data: bytes) -> None:
        """Write `data`."""

    @abstractmethod
    def _zero(self, offset: int, length: int) -> None:
        """Zero a range."""

    @abstractmethod
    def _flush(self) -> None:
        """Make durable what was written."""

    def contexts(self) -> list[str]:
        """Return the names of the metadata contexts that a client may ask for."""
        return []

    def context(self, name: str) -> Context | None:
        """Make one of them; None where there is none of that name. Raises JrnlError."""
        return None

    def is_there(self) -> bool:
        """Whether no rewind has closed its state."""
        return True

    def means(self, point: object) -> bool:
        """Whether it is of what its name means now."""
        return self.is_there()

    @abstractmethod
    def close(self) -> None:
        """Give it up: its last connection has gone."""


class VolumeExport(Export):
    """A volume of a state of the store.

    Parameters
    ----------
    volume : StateVolume
        Production's, or a view's.
    turn : callable
        Gives another number once production was put back.
    view : View, optional
        Closed with the export.
    point : object, optional
        What the view's name means: a mark, a snapshot, a seq.
    """

    def __init__(
        self,
        store: Store,
        name: str,
        volume: StateVolume,
        read_only: bool,
        turn: Callable[[], int],
        view: View | None = None,
        point: object = None,
    ) -> None:
        self._store, self._volume, self._view, self._turn = store, volume, view, turn
        self._point = point
        self.name, self.size, self.read_only = name, volume.size, read_only
        self._data = self._extents(volume.data_extents)
        if view is None:
            self.production = store[volume.name]
            self.description = f"volume {volume.name!r}, as it is now"
        else:
            kind = "a scratch branch of it" if not read_only else "for reading"
            self.description = f"volume {volume.name!r} at state {view.seq}, {kind}"

    def _read(self, offset: int, length: int) -> bytes:
        return self._volume.read(offset, length)

    def _write(self, offset: int, data: bytes) -> None:
        self._data.add(offset, len(data))
        self._volume.write(offset, data)

    def _zero(self, offset: int, length: int) -> None:
        """Zero what may be something else, in pieces: others get in between."""
        for start, stop in self._data.inside(offset, length):
            for at in range(start, stop, ZERO_BYTES):
                self._volume.write_zeroes(at, min(ZERO_BYTES, stop - at))

    def _flush(self) -> None:
        """Do nothing: a scratch branch ends with its last connection, and production never asks."""

    def contexts(self) -> list[str]:
        """Return `base:allocation`, and what has changed since each mark and snapshot."""
        points = [*self._store.marks, *self._store.snapshots]
        return [ALLOCATION, *(f"{kind}{point}" for point in points for kind in CHANGED)]

    def context(self, name: str) -> Context | None:
        """Make one of them, or of any other point's."""
        if name == ALLOCATION:
            return Context(self._data, 0, protocol.HOLE | protocol.ZERO)
        for kind in CHANGED:
            if name.startswith(kind):
                return self._changed(name.removeprefix(kind))
        return None

    def _changed(self, text: str) -> Context | None:
        """Make the context of what was written since a point: exact, from the journal's headers."""
        store, since = self._store, point_of(self._store, text)
        if self._view is not None and not self.read_only:
            return None  # what a scratch branch has changed is no matter of points

        def find() -> NDArray[np.void]:
            until = store.seq if self._view is None else self._view.seq
            return store.diff(since, until, self._volume.name)

        extents = self._extents(find)
        extents.edges()  # a point that is not there is noticed now
        return Context(extents, protocol.DIRTY, 0)

    def _extents(self, find: Callable[[], NDArray[np.void]]) -> Extents:
        """Return what keeps such extents, of an export that changes or does not."""
        if self._view is not None:
            return Extents(find)
        store, name = self._store, self._volume.name
        return ProductionExtents(
            find, lambda since, until: store.diff(since, until, name), lambda: store.seq, self._turn
        )

    def is_there(self) -> bool:
        """Whether no rewind has closed its state."""
        return self._view is None or self._view.id in self._store.views

    def means(self, point: object) -> bool:
        """Whether it is of what its name means now."""
        return point == self._point and self.is_there()

    def close(self) -> None:
        """Close the view."""
        if self._view is not None:
            self._view.close()


class MarkerExport(Export):
    """A small device whose writes set marks: the text up to the first newline or zero byte.

    It reads as the text that was written last, so that a page cache can change a part of a block.
    """

    name, size = MARKER, MARKER_BYTES
    description = "write a name to set a mark"

    def __init__(self, store: Store) -> None:
        self._store = store
        self._text = bytearray(MARKER_BYTES)
        self._lock = threading.Lock()

    def _read(self, offset: int, length: int) -> bytes:
        with self._lock:
            return bytes(self._text[offset : offset + length])

    def _write(self, offset: int, data: bytes) -> None:
        with self._lock:
            text = self._text[:]
            text[offset : offset + len(data)] = data
            name = text.split(b"\n", 1)[0].split(b"\0", 1)[0].strip()
            if name and (offset == 0 and data):
                try:
                    self._store.mark(name.decode())
                except UnicodeDecodeError as error:
                    raise InvalidArgument("a mark's name is UTF-8") from error
            self._text = text

    def _zero(self, offset: int, length: int) -> None:
        with self._lock:
            self._text[offset : offset + length] = bytes(length)

    def _flush(self) -> None:
        self._store.flush()

    def close(self) -> None:
        """Forget the text."""


class Asked(NamedTuple):
    """What an export's name asks for: the marks' device, a volume, or a state of one."""

    volume: str | None
    point: int | str | None = None
    meaning: object = None  # a mark, a snapshot or a seq
    writable: bool = False


class Exports:
    """The exports of a store, by name; those of earlier states are made when they are asked for.

    ``VOLUME`` is production, ``VOLUME@POINT`` an earlier state, ``VOLUME@POINT+rw`` a scratch
    branch of it, ``@mark`` sets marks. Connections that name the same share it, as long as that
    means the same mark, snapshot or state; what is not production goes with the last one. An empty
    name means the only volume.
    """

    def __init__(self, store: Store, read_only: bool) -> None:
        self._store, self._read_only = store, read_only
        self._current: dict[str, Export] = {}
        self._users: dict[Export, int] = {}
        self._lock = threading.Lock()
        self._turn = 0

    def production_replaced(self) -> None:
        """Take note that production was put back. The engine's lock is held."""
        self._turn += 1

    def names(self) -> list[tuple[str, str]]:
        """Return what there is to be listed: names, and what they are."""
        store = self._store
        points: dict[str, Mark | Snapshot] = {**store.marks, **store.snapshots}
        found = [(name, f"volume {name!r}, as it is now") for name in store.volumes]
        for name in store.volumes:
            found += [(f"{name}@{point}", f"at state {at.seq}") for point, at in points.items()]
        if not self._read_only:
            found.append((MARKER, MarkerExport.description))
        return found

    def open(self, name: str) -> Export:
        """Return an export, to be given back to `close`.

        Raises
        ------
        UnknownVolume
            There is no such export; it says which there are.
        UnknownPoint, PointExpired, InvalidArgument, ReadOnlyStore, and what a view raises.
        """
        name = name or self._only()
        with self._lock:
            asked, export = self._asked(name), self._current.get(name)
            if export is None or not export.means(asked.meaning):
                export = self._current[name] = self._make(name, asked)
            self._users[export] = self._users.get(export, 0) + 1
            return export

    def open_like(self, held: Export | None, name: str) -> Export:
        """Return one that is held open already where it has that name; else as `open`."""
        with self._lock:
            if held is not None and held.name == (name or self._only()) and held.is_there():
                self._users[held] += 1
                return held
        return self.open(name)

    def close(self, export: Export) -> None:
        """Let go of an export; the last one to do so closes it."""
        with self._lock:
            self._users[export] -= 1
            if self._users[export]:
                return
            del self._users[export]
            if self._current.get(export.name) is export:
                del self._current[export.name]
            export.close()

    def _only(self) -> str:
        volumes = [*self._store.volumes]
        if len(volumes) > 1:
            raise UnknownVolume(f"there are several volumes; name one of {', '.join(volumes)}")
        return volumes[0]

    def _asked(self, name: str) -> Asked:
        """Sort out what a name asks for."""
        store = self._store
        if name == MARKER:
            if self._read_only:
                raise ReadOnlyStore("the store is served for reading, so no mark can be set")
            return Asked(None)
        volume, at, text = name.partition("@")
        if volume not in store.volumes:
            known = ", ".join(store.volumes)
            raise UnknownVolume(f"no volume is called {volume!r}; there is {known}")
        if not at:
            return Asked(volume)
        named = {**store.marks, **store.snapshots}
        writable = text.endswith(SCRATCH) and text not in named
        text = text.removesuffix(SCRATCH) if writable else text
        point = point_of(store, text)
        if isinstance(point, datetime):
            with store.view(point, volumes=[volume]) as view:
                point = view.seq
        # What has a name is told by itself: a fold moves a snapshot on to another seq.
        return Asked(volume, point, named.get(text, point), writable)

    def _make(self, name: str, asked: Asked) -> Export:
        store, volume = self._store, asked.volume
        if volume is None:
            return MarkerExport(store)
        if asked.point is None:
            return VolumeExport(store, name, store[volume], self._read_only, lambda: self._turn)
        view = store.view(asked.point, writable=asked.writable, volumes=[volume])
        return VolumeExport(
            store, name, view[volume], not asked.writable, lambda: self._turn, view, asked.meaning
        )
