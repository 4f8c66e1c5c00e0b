"""Snapshots: independent, checksummed copies of volumes at one seq."""

from __future__ import annotations

import time
import warnings
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, SupportsIndex
from weakref import ref

import numpy as np

from jrnl._core import Image, to_the_end
from jrnl.errors import (
    CorruptionError,
    InvalidArgument,
    InvalidType,
    PointExpired,
    ReadOnlyStore,
    UnknownPoint,
    UnknownVolume,
)
from jrnl.points import NamePoint, SeqPoint, parse_point
from jrnl.state import ImageState, StateVolume, StateVolumes

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from jrnl.points import Point
    from jrnl.session import Session
    from jrnl.snapshot_copier import Copy

_PIECE_BYTES = 1 << 16
_BLOCK_BYTES = 4096  # what the core counts written bytes in


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


class SnapshotVolumes(StateVolumes):
    """The volumes of a snapshot by name; what was a tuple of names works on as one."""

    def __getitem__(self, name: str | int | slice) -> StateVolume:
        if isinstance(name, str):
            return super().__getitem__(name)
        _warn_of_tuple()
        found: StateVolume = tuple(self)[name]  # type: ignore[assignment]
        return found

    def __eq__(self, other: object) -> bool:
        if isinstance(other, tuple):
            _warn_of_tuple()
            return tuple(self) == other
        return super().__eq__(other)

    __hash__ = None  # type: ignore[assignment]


def _warn_of_tuple() -> None:
    warnings.warn(
        "snapshot.volumes is a mapping now; its names are tuple(snapshot.volumes)",
        DeprecationWarning,
        stacklevel=3,
    )


class Snapshot(ImageState):
    """A copy of volumes at one state; made by ``store.snapshot(name)``.

    It is exact from the start. Until it is `complete` it is read through the journal, which keeps
    what it needs, and it is copied in the background.

    It never changes, but in a store with ``overflow="fold"``: there the oldest one that is not
    pinned goes on to a later state when the journal is full.
    """

    def __init__(
        self,
        session: Session,
        name: str,
        image: Image,
        time_ns: int,
        copy: Copy | None = None,
        covered: list[int] | None = None,
        pinned: bool = False,
    ) -> None:
        known = session.catalog.indices
        self._indices = {
            volume: k for volume, k in known.items() if covered is None or k in covered
        }
        self._is_whole = len(self._indices) == len(known)
        self._session = ref(session)  # weakly: its catalogue holds the snapshot
        self._content: Image | None = image
        self._copy = copy
        image.acquire()
        self._name = name
        self._seq = image.seq
        self._time_ns = time_ns
        self._pinned = pinned

    def __repr__(self) -> str:
        return f"<jrnl.Snapshot {self.name!r} at {self.seq}>"

    @property
    def name(self) -> str:
        """What it is called."""
        return self._name

    @property
    def seq(self) -> int:  # type: ignore[override]
        """The state it holds."""
        image = self._content
        return self._seq if image is None else image.seq  # a fold brings it on in one step

    @property
    def time_ns(self) -> int:
        """When it was taken, in nanoseconds since 1970-01-01 UTC."""
        return self._time_ns

    @property
    def volumes(self) -> SnapshotVolumes:
        """The volumes that it covers, by name; by default all of the store's."""
        return SnapshotVolumes(self)

    @property
    def pinned(self) -> bool:
        """Whether no fold ever touches it."""
        return self._pinned

    @property
    def _image(self) -> Image:
        """Its content. Raises UnknownPoint once it is deleted."""
        content = self._content  # once: a call that comes in may delete it
        if content is None:
            raise UnknownPoint(f"the snapshot {self.name!r} was deleted")
        return content

    def _follow(self, image: Image) -> None:
        """Be what a fold has made of its copy. The engine is locked."""
        before = self._image
        if image is not before:
            image.acquire()
            self._content = image
            before.release()

    def read(
        self, offset: SupportsIndex, length: SupportsIndex, volume: str | None = None
    ) -> bytes:
        """Return `length` bytes of a volume at `offset`.

        Raises
        ------
        OutOfBounds, UnknownPoint, StoreClosed
        UnknownVolume
            There is no such volume, or the snapshot does not cover it.
        CorruptionError
            A block does not match its checksum, or what it needs of the journal is damaged.
        """
        return self._image.read(offset, length, self._find(volume))

    def _find(self, volume: object) -> int:
        try:
            return super()._find(volume)
        except UnknownVolume as error:
            if self._is_whole or volume is None:
                raise
            name = getattr(volume, "name", volume)
            raise UnknownVolume(
                f"the snapshot {self.name!r} covers only {', '.join(map(repr, self.volumes))}, "
                f"not {name!r}"
            ) from error

    @property
    def _may_change(self) -> bool:
        return self._image.engine.folds and not self.pinned

    @property
    def _covers(self) -> frozenset[int] | None:
        """The indices of the volumes that it covers; None where that is all of them."""
        return None if self._is_whole else frozenset(self._indices.values())

    @property
    def complete(self) -> bool:
        """Whether it is a copy by now, and needs nothing of the journal or production."""
        return not self._image.is_live

    @property
    def problem(self) -> str | None:
        """What has stopped the copying, or spoiled a part of the copy."""
        error = None if self._copy is None else self._copy.error
        return None if error is None else f"snapshot {self.name!r}: {error}"

    def wait(self, timeout: float | None = None) -> bool:
        """Finish the copy, and return whether it is complete.

        Parameters
        ----------
        timeout : float, optional
            Seconds after which to return False; by default as long as it takes. The copying goes
            on in the background.

        Raises
        ------
        CorruptionError
            Blocks could not be copied, since what they need of the journal is damaged. Reading them
            raises, all else is good.
        OSError, MemoryError
            What has stopped the copying.
        ReadOnlyStore
            The store is open for reading, so that nothing is copied.
        UnknownPoint, StoreClosed, StorePoisoned, InvalidArgument, InvalidType
        """
        if timeout is not None:
            if isinstance(timeout, bool) or not isinstance(timeout, int | float):
                raise InvalidType(f"timeout is in seconds, not {type(timeout).__name__}")
            if not timeout >= 0:
                raise InvalidArgument(f"timeout is in seconds from 0 on, not {timeout}")
        image, copy, session = self._image, self._copy, self._session()
        image.engine.check_not_closed()
        if copy is None and image.is_live:
            raise ReadOnlyStore(
                f"the snapshot {self.name!r} is copied only while the store is open for writing"
            )
        if copy is not None and not copy.done:
            deadline = None if timeout is None else time.monotonic() + timeout
            if session is None:
                raise UnknownPoint(f"the store of the snapshot {self.name!r} is gone")
            if not session.copier.wait(copy, deadline):
                return False
        if copy is not None and copy.error is not None:
            raise copy.error
        return True

    def verify(self) -> Report:
        """Hold every block against its checksum.

        Of a snapshot that is not complete, all is read through the journal, against the checksums
        of its entries.
        """
        problems = problems_of(self)
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
        with self._image.engine.changing() as engine:
            engine.check_open()
            session, image = self._session(), self._image
            if session is not None and session.catalog.snapshots.get(self.name) is self:
                session.pins.check_delete(self.name)
                to_the_end(partial(self._forget, session, image))
                engine.happened("deleted", name=self.name, seq=image.seq)
            self._let_go()

    def _forget(self, session: Session, image: Image) -> None:
        session.catalog.drop_snapshot(self)  # first: from here on nothing begins with its files
        session.snapshot_deleted(image)

    def _let_go(self) -> None:
        """Give up the copy, or what it was to become. The engine is locked."""
        self._seq = self.seq
        self._close_files()
        session, image, self._content = self._session(), self._image, None
        image.release()
        if session is not None and not image.is_needed:
            session.copier.give_up(image)


def covers(snapshot: Snapshot, only: frozenset[int] | None) -> bool:
    """Whether a snapshot has all of the volumes that are asked for; None is all of the store's."""
    return snapshot._covers is None or (only is not None and only <= snapshot._covers)


@contextmanager
def telling_of_parts(
    snapshots: Mapping[str, Snapshot], point: Point, only: frozenset[int] | None
) -> Iterator[None]:
    """Where a state has expired, and a snapshot holds a part of what is asked for, say so."""
    try:
        yield
    except PointExpired as error:
        parsed = parse_point(point)
        seq = parsed.seq if isinstance(parsed, SeqPoint) else None
        if isinstance(parsed, NamePoint) and parsed.name in snapshots:
            seq = snapshots[parsed.name].seq
        for part in snapshots.values():
            if part.seq == seq and not covers(part, only):
                raise PointExpired(
                    f"state {seq} is only in the snapshot {part.name!r} now, which covers only "
                    f"{', '.join(map(repr, part.volumes))}; ask for no other volumes"
                ) from error
        raise


def problems_of(snapshot: Snapshot) -> list[str]:
    """Say what is wrong with a snapshot's copy, or with what it is read from until it is one."""
    name, image = snapshot.name, snapshot._image
    if image.is_live:
        return _problems_of_live(snapshot)
    return [
        f"snapshot {name!r}: the block at byte {offset} of volume {volume} does not match "
        "its checksum"
        for volume, offset in image.verify()
    ]


def _problems_of_live(snapshot: Snapshot) -> list[str]:
    problems = []
    engine = snapshot._image.engine
    for name in snapshot.volumes:
        index = snapshot._indices[name]
        size = engine.sizes[index]
        kept = np.unique(snapshot._image.data_blocks(index) * _BLOCK_BYTES // _PIECE_BYTES)
        for start in (kept * _PIECE_BYTES).tolist():
            try:
                snapshot._image.read(start, min(_PIECE_BYTES, size - start), index)
            except CorruptionError as error:
                problems.append(
                    f"snapshot {snapshot.name!r} near byte {start} of volume {name!r}: {error}"
                )
    return problems
