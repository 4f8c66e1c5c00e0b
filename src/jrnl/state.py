"""States: one interface for all that shows volumes, be it production, a view, a copy or a crash."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn, SupportsIndex, TypeVar

import numpy as np
import xxhash
from numpy.typing import NDArray

from jrnl._core import FlatBuffer, Moved, VolumeIO, _as_offsets
from jrnl.catalog import volume_index
from jrnl.closeable import NotCopied
from jrnl.compare import (
    EXTENT,
    PIECE_BYTES,
    compare_bytes,
    extents_of,
    held_ranges,
    image_differences,
    pieces_of,
    united,
)
from jrnl.errors import InvalidArgument, InvalidType, OutOfBounds, ReadOnlyStore, UnknownVolume
from jrnl.errors import shown as told
from jrnl.memfd import MemoryFile
from jrnl.sizes import as_flag, as_int
from jrnl.steady import steadily
from jrnl.volume_file import Readable, VolumeFile, Writable
from jrnl.window import present_seq

if TYPE_CHECKING:
    from collections.abc import Callable

    from jrnl._core import Engine, Image
    from jrnl.compare import Pair

_T = TypeVar("_T")

_WRITE_MAX = 1 << 30
_COUNT_LIMIT = 1 << 63


class StateVolume(NotCopied):
    """One volume of a state, with what a `Volume` has; ``state[name]``."""

    def __init__(self, state: State, name: str, index: int) -> None:
        self._state, self._place, self._name = state, index, name

    def __repr__(self) -> str:
        return f"<volume {self.name!r} of {self._state!r}, {self.size} bytes>"

    @property
    def name(self) -> str:
        """What it is called in its store."""
        return self._name

    @property
    def size(self) -> int:
        """Bytes."""
        return self._state._size(self._place)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, StateVolume):
            return NotImplemented
        return self._state is other._state and self._place == other._place

    def __hash__(self) -> int:
        return hash((id(self._state), self._place))

    def __index__(self) -> int:
        warnings.warn(
            "the volumes of a view or a recovery are no numbers any more: use "
            "list(store.volumes).index(name)",
            DeprecationWarning,
            stacklevel=2,
        )
        return self._place

    def read(self, offset: SupportsIndex, length: SupportsIndex) -> bytes:
        """Return `length` bytes at `offset`.

        Raises
        ------
        OutOfBounds, InvalidType, and what reading the state raises: StoreClosed, CorruptionError,
        PointExpired.
        """
        return self._state.read(offset, length, self.name)

    def readinto(self, offset: SupportsIndex, buffer: Writable) -> None:
        """Fill `buffer`, writable and C-contiguous, from `offset` on. Raises as `read`."""
        self._state.readinto(offset, buffer, self.name)

    def as_file(self) -> VolumeFile:
        """Return it as a raw file object, which takes writes where the state does."""
        return self._state.as_file(self.name)

    def path(self) -> str:
        """Return a path at which other programs can open it; see `State.path`."""
        return self._state.path(self.name)

    def data_extents(self) -> NDArray[np.void]:
        """Return the extents that may hold anything but zeroes; outside of them all is zero.

        Told from what was ever written, without reading it: an extent may be all zeroes, too.

        Returns
        -------
        ndarray
            Structured: volume (uint16, its index), offset and length (uint64, bytes), sorted;
            extents neither touch nor overlap.

        Raises
        ------
        OSError, and what reading the state raises.
        """
        return self._state._data_extents(self._place)

    def write(self, offset: SupportsIndex, data: Readable) -> int:
        """Write `data` at `offset`, all of it or nothing; return the state's seq.

        Raises
        ------
        ReadOnlyStore
            The state cannot be written.
        OutOfBounds, InvalidType, InvalidArgument, StoreClosed, PointExpired, CorruptionError,
        MemoryError
        """
        state = self._state
        state._check_writable()
        content = memoryview(FlatBuffer(data))
        start, _ = range_of(offset, len(content), self.size)
        return state._write(self._place, start, content)

    def write_many(self, offsets: NDArray[np.integer[Any]] | Sequence[int], data: Readable) -> int:
        """Write equal blocks at many offsets, in order: all of them, or none.

        Takes what `Volume.write_many` does; returns and raises as `write`.
        """
        state = self._state
        state._check_writable()
        places = _as_offsets(offsets, self.size)
        content = memoryview(FlatBuffer(data))
        length = _block_length(data, len(content), places.size)
        bad = (places < 0) | (places > self.size - length)
        if bad.any():
            _out_of_bounds(int(places[bad][0]), length, self.size)
        return state._write_many(self._place, places, content, length)

    def write_zeroes(self, offset: SupportsIndex, length: SupportsIndex) -> int:
        """Zero a range; returns and raises as `write`."""
        self._state._check_writable()
        start, count = range_of(offset, length, self.size)
        return self._state._write_zeroes(self._place, start, count)

    def discard(self, offset: SupportsIndex, length: SupportsIndex) -> int:
        """Declare a range unused: it reads as zeroes. Returns and raises as `write`."""
        return self.write_zeroes(offset, length)


class StateVolumes(Mapping[str, StateVolume]):
    """The volumes of a state by name, in the store's order; ``state.volumes``."""

    __slots__ = ("_state",)

    def __init__(self, state: State) -> None:
        self._state = state

    def __repr__(self) -> str:
        return f"{{{', '.join(f'{name!r}: {volume!r}' for name, volume in self.items())}}}"

    def __getitem__(self, name: str) -> StateVolume:
        return StateVolume(self._state, name, self._state._indices[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._state._indices)

    def __len__(self) -> int:
        return len(self._state._indices)


class State(NotCopied, ABC):
    """What shows one state of volumes: a store, a view, a recovery, a snapshot, a crash state.

    ``state[name]``, ``state.volume`` and ``state.volumes`` are its volumes: what is written for a
    `Volume` of production runs on any of them.

    A kind of state has `_indices` (the index of each volume that it shows, by name, in order), and
    gives what moves bytes: `_size` and `_readinto`; where it can be written `_writable`, `_write`
    and `_write_zeroes`; where it knows better, the others that follow here. They get an index, and
    ranges that lie inside the volume.
    """

    _indices: dict[str, int]
    seq: int

    @property
    def _files(self) -> dict[int, MemoryFile]:
        """The files that `path` has made, by volume."""
        files: dict[int, MemoryFile] = self.__dict__.setdefault("_path_files", {})
        return files

    # What a kind of state gives.

    @abstractmethod
    def _size(self, index: int) -> int:
        """Return a volume's size in bytes."""

    @abstractmethod
    def _readinto(self, index: int, offset: int, buffer: memoryview) -> None:
        """Fill `buffer` from byte `offset` on."""

    def _read(self, index: int, offset: int, length: int) -> bytes:
        """Return `length` bytes at `offset`."""
        content = bytearray(length)
        self._readinto(index, offset, memoryview(content))
        return bytes(content)

    def _held(self, index: int) -> Pair:
        """Return the ranges that may hold anything but zeroes: offsets and lengths that rise."""
        return np.zeros(1, np.int64), np.array([self._size(index)], np.int64)

    @property
    def _writable(self) -> bool:
        return False

    def _check_writable(self) -> None:
        if not self._writable:
            raise self._read_only()

    def _read_only(self) -> ReadOnlyStore:
        return ReadOnlyStore(f"{self!r} is for reading; store.view(at, writable=True) is not")

    def _write(self, index: int, offset: int, data: memoryview) -> int:
        """Write `data`, all of it or nothing; return the seq."""
        raise self._read_only()

    def _write_zeroes(self, index: int, offset: int, length: int) -> int:
        """Zero a range, all of it or nothing; return the seq."""
        raise self._read_only()

    def _write_many(
        self, index: int, offsets: NDArray[np.int64], data: memoryview, length: int
    ) -> int:
        """Write blocks of `length`, all of them or none; return the seq."""
        seq = self.seq
        for k, offset in enumerate(offsets.tolist()):
            seq = self._write(index, offset, data[k * length : (k + 1) * length])
        return seq

    @property
    def _may_change(self) -> bool:
        """Whether what it shows may change: then others may not write to `path`."""
        return self._writable

    def _path(self, index: int) -> str:
        """Return a path for other programs; by default of a copy in memory, as it is now."""
        files = self._files
        if index not in files:
            file = MemoryFile(f"jrnl-{self.seq}", self, index, follows=self._may_change)
            if files.setdefault(index, file) is not file:
                file.close()  # another thread was faster
        elif self._may_change:
            self._refresh(files[index], index)
        return files[index].path

    def _refresh(self, file: MemoryFile, index: int) -> None:
        """Bring a file that was made before to what it shows now."""
        file.write_all(self, fresh=False)

    def _close_files(self) -> None:
        """Give up what `_path` has made."""
        files: dict[int, MemoryFile] = self.__dict__.pop("_path_files", {})
        for file in files.values():
            file.close()

    def _differs_from(self, other: State, index: int, *, exact: bool) -> Pair | None:
        """Return where a volume differs from that of another state; None: there is no short way."""
        return None

    @property
    def _engines(self) -> tuple[Engine, ...]:
        """The engine that it is read through, if any."""
        return ()

    # What they have in common.

    def _data_extents(self, index: int) -> NDArray[np.void]:
        return still(self._engines, lambda: extents_of(index, *united(self._held(index))))

    def _find(self, volume: object) -> int:
        """Return the index of a volume given by name, as a StateVolume, or by None.

        Raises
        ------
        UnknownVolume
            It shows no such volume, or there are several and none is named.
        """
        if volume is None and len(self._indices) == 1:
            return next(iter(self._indices.values()))
        names = ", ".join(repr(name) for name in self._indices)
        if volume is None:
            raise UnknownVolume(f"there are several volumes; name one of {names}")
        name = volume.name if isinstance(volume, StateVolume) else volume
        found = self._indices.get(name) if isinstance(name, str) else None
        if found is None:
            raise UnknownVolume(f"no volume is called {name!r}; there is {names}")
        return found

    def __getitem__(self, name: str) -> StateVolume:
        index = self._find(name)
        return StateVolume(self, _name_of(self, index), index)

    def __iter__(self) -> Iterator[str]:
        return iter(self._indices)

    @property
    def volumes(self) -> Mapping[str, StateVolume]:
        """Its volumes by name, in the store's order."""
        return StateVolumes(self)

    @property
    def volume(self) -> StateVolume:
        """The only volume. Raises UnknownVolume where there are several."""
        index = self._find(None)
        return StateVolume(self, _name_of(self, index), index)

    def read(
        self, offset: SupportsIndex, length: SupportsIndex, volume: str | None = None
    ) -> bytes:
        """Return `length` bytes of a volume at `offset`.

        Raises
        ------
        OutOfBounds, UnknownVolume, InvalidType, and what reading the state raises.
        """
        index = self._find(volume)
        return self._read(index, *range_of(offset, length, self._size(index)))

    def readinto(self, offset: SupportsIndex, buffer: Writable, volume: str | None = None) -> None:
        """Fill `buffer`, writable and C-contiguous, from `offset` on. Raises as `read`."""
        index = self._find(volume)
        target = memoryview(FlatBuffer(buffer, True))
        start, _ = range_of(offset, len(target), self._size(index))
        self._readinto(index, start, target)

    def as_file(self, volume: str | None = None) -> VolumeFile:
        """Return one volume as a raw file object, which takes writes where the state does.

        Raises UnknownVolume, StoreClosed.
        """
        index = self._find(volume)
        read = partial(self._readinto, index)
        if not self._writable:
            return VolumeFile(self._size(index), read)
        write = partial(self._write, index)
        return VolumeFile(self._size(index), read, write, write_max=_WRITE_MAX)

    def path(self, volume: str | None = None) -> str:
        """Return a path at which other programs can open a whole volume.

        It is a file in memory, sparse, and gone when the state is closed or dropped. What is
        written to it changes nothing here. Where the state itself may change (production, a view
        that is written to) it can only be read, and shows what the state holds whenever `path` is
        called.

        Raises
        ------
        UnknownVolume, OSError, and what reading the state raises.
        """
        return self._path(self._find(volume))

    def diff(
        self, other: State, volume: str | StateVolume | None = None, *, exact: bool = True
    ) -> NDArray[np.void]:
        """Say where this state differs from another one, of this store or of any other.

        Of one store it costs what was written between the two; else what either of them may hold
        is compared.

        Parameters
        ----------
        other : State
            What covers the same volumes, by name and size.
        volume : str, optional
            Only this one; all by default.
        exact : bool
            Read and compare; an extent begins and ends with a byte that differs, and runs of less
            than 64 equal ones are part of it. False: say where they may differ; outside of it they
            do not.

        Returns
        -------
        ndarray
            Structured: volume (uint16, its index here), offset and length (uint64, bytes), sorted;
            extents neither touch nor overlap.

        Raises
        ------
        InvalidType
            `other` is no state.
        InvalidArgument
            The two do not cover the same volumes; name one that both do.
        UnknownVolume, and what reading the states raises.
        """
        exact = as_flag(exact, "exact")
        if not isinstance(other, State):
            raise InvalidType(
                f"diff compares with a state, such as a view, not with {type(other).__name__}"
            )
        names = list(self._indices) if volume is None else [_name_of(self, self._find(volume))]
        if volume is None and {*names} != {*other._indices}:
            raise InvalidArgument(
                f"{self!r} covers {', '.join(map(repr, names))}, and {other!r} covers "
                f"{', '.join(map(repr, other._indices))}; name a volume that both do"
            )
        return still((*self._engines, *other._engines), partial(self._diffs, other, names, exact))

    def _diffs(self, other: State, names: list[str], exact: bool) -> NDArray[np.void]:
        parts = [extents_of(self._indices[name], *self._diff(other, name, exact)) for name in names]
        return np.concatenate([np.empty(0, EXTENT), *parts])

    def _diff(self, other: State, name: str, exact: bool) -> Pair:
        here, there = self._indices[name], other._find(name)
        size = self._size(here)
        if size != other._size(there):
            raise InvalidArgument(
                f"volume {name!r} has {size} bytes here and {other._size(there)} there"
            )
        found = self._differs_from(other, here, exact=exact)
        if found is not None:
            return found
        offsets, lengths = united(self._held(here), other._held(there))
        if not exact:
            return offsets, lengths
        mine, theirs = partial(self._readinto, here), partial(other._readinto, there)
        return compare_bytes(mine, theirs, offsets, lengths)

    def digest(self) -> str:
        """Return one XXH3-128, as 32 hex digits, over its volumes one after the other.

        Equal digests mean equal states, whatever kinds of state they are. Raises what reading it
        raises.
        """
        return still(self._engines, self._digest_now)

    def _digest_now(self) -> str:
        state = xxhash.xxh3_128()
        buffer = memoryview(bytearray(PIECE_BYTES))
        zeroes = bytes(PIECE_BYTES)
        for index in self._indices.values():
            size = self._size(index)
            held = {*pieces_of(*self._held(index), PIECE_BYTES).tolist()}
            for k in range(-(-size // PIECE_BYTES)):
                length = min(PIECE_BYTES, size - k * PIECE_BYTES)
                if k in held:
                    self._readinto(index, k * PIECE_BYTES, buffer[:length])
                    state.update(buffer[:length])
                else:
                    state.update(zeroes if length == PIECE_BYTES else zeroes[:length])
        return state.hexdigest()


class ImageState(State):
    """What shows a state through an image of its store: all but a crash state."""

    @property
    @abstractmethod
    def _image(self) -> Image:
        """What it shows. Raises what closing it has made of it."""

    @property
    def _journal_seq(self) -> int | None:
        """The journal's state that it shows exactly; None where it was written to."""
        return self.seq

    @property
    def _engines(self) -> tuple[Engine, ...]:
        return (self._image.engine,)

    def _size(self, index: int) -> int:
        return self._image.engine.sizes[index]

    def _readinto(self, index: int, offset: int, buffer: memoryview) -> None:
        self._image.readinto(offset, buffer, index)

    def _read(self, index: int, offset: int, length: int) -> bytes:
        return self._image.read(offset, length, index)

    def _held(self, index: int) -> Pair:
        return held_ranges(self._image, index)

    def _find(self, volume: object) -> int:
        if isinstance(volume, StateVolume) and not isinstance(volume, VolumeIO):
            volume = volume.name
        return volume_index(self._indices, volume, self._image.engine)

    def _differs_from(self, other: State, index: int, *, exact: bool) -> Pair | None:
        if not isinstance(other, ImageState) or other._image.engine is not self._image.engine:
            return None
        engine = self._image.engine
        states = present_seq(engine, self._journal_seq), present_seq(engine, other._journal_seq)
        return image_differences(self._image, other._image, index, states, exact=exact)


def still(engines: tuple[Engine, ...], look: Callable[[], _T]) -> _T:
    """Return what ``look()`` finds while nothing moves in these stores, nor in views of them."""
    if not engines:
        return look()
    first = min(engines, key=id)  # always in the same order: two threads may look at the same two
    others = tuple(engine for engine in engines if engine is not first)

    def unscratched() -> _T:
        before = first.cow_changes
        found = still(others, look)
        if first.cow_changes != before:
            raise Moved("a view was written to meanwhile")
        return found

    with first as engine:
        engine.check_open()
        return steadily(engine, unscratched)


def _name_of(state: State, index: int) -> str:
    return next(name for name, found in state._indices.items() if found == index)


def _as_count(value: object, name: str, size: int) -> int:
    """Return `value` as a count of bytes. Raises InvalidType, OutOfBounds as the core does."""
    number = as_int(value, f"{name} must be an int (bytes)")
    if number < 0:
        raise OutOfBounds(f"{name} {told(number)} is below 0; the volume has {size} bytes")
    if number >= _COUNT_LIMIT:
        raise OutOfBounds(f"{name} {told(number)} is outside the volume, which has {size} bytes")
    return number


def range_of(offset: object, length: object, size: int) -> tuple[int, int]:
    """Return a range as ints. Raises InvalidType, OutOfBounds where it is not inside `size`."""
    start, count = _as_count(offset, "offset", size), _as_count(length, "length", size)
    if start > size or count > size - start:
        _out_of_bounds(start, count, size)
    return start, count


def _out_of_bounds(offset: int, length: int, size: int) -> NoReturn:
    raise OutOfBounds(
        f"{told(length)} bytes at offset {told(offset)} do not lie inside the volume, which has "
        f"{size} bytes"
    )


def _block_length(data: Readable, total: int, count: int) -> int:
    """Return the length of each of `count` equal blocks in a buffer. Raises InvalidArgument."""
    shape = memoryview(data).shape  # type: ignore[arg-type]
    if shape is not None and len(shape) > 1 and shape[0] != count:
        raise InvalidArgument(f"{count} offsets need {count} rows of data, not {shape[0]}")
    if count == 0:
        if total:
            raise InvalidArgument(f"{total} bytes of data for no offsets")
        return 0
    if total % count:
        raise InvalidArgument(f"{total} bytes of data are not {count} equal blocks")
    return total // count
