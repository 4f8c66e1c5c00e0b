"""Making a store in a folder, whole or not at all."""

from __future__ import annotations

import errno
import secrets
import time
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Self

from jrnl._core import FORMAT
from jrnl.disk.log_files import HEAD_BYTES, SLOT_BYTES, head_bytes, volume_file
from jrnl.disk.open import open_locked
from jrnl.disk.record import ParentRow, Record
from jrnl.disk.superblock import NAMES, ROOM_BYTES, SUPER_BYTES, Superblock, packed
from jrnl.errors import (
    InvalidArgument,
    StoreExists,
    StoreLocked,
)
from jrnl.options import Settings, parse, with_volumes
from jrnl.sources import fill
from jrnl.store import Store

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jrnl.disk.folder import Place
    from jrnl.disk.superblock import Device
    from jrnl.fork import Content
    from jrnl.lineage import Lineage
    from jrnl.sizes import Size
    from jrnl.sources import Path

_BLOCK = FORMAT["constants"]["LOG_BLOCK_BYTES"]
_PIECE_BYTES = 1 << 20


def create_in(
    place: Place,
    name: str,
    *,
    size: Size | None = None,
    volumes: Mapping[str, Size] | None = None,
    source: Path | Mapping[str, Path] | None = None,
    **options: Any,
) -> Store:
    """Make the store `name` in a folder, whole or not at all, and open it.

    Takes what `create` takes. Raises what it raises.
    """
    settings = with_volumes(parse(on_disk=True, **options), size, volumes, source)
    return make_in(place, name, settings)


def make_in(place: Place, name: str, settings: Settings, content: Content | None = None) -> Store:
    """Do the same with settings that have been checked; `content` is what a fork begins with."""
    start = Start.now(settings)
    with Draft(place, name, settings) as draft:
        for device, volume in zip(draft.volumes, settings.sizes, strict=True):
            if volume in settings.sources:
                fill(device, settings.sources[volume])
        if content is not None:
            content.fill(draft.volumes)
            start = replace(start, lineage=content.lineage)
        draft.write(start)
        draft.settle()
    # Still locked: nobody else opens it before whoever has made it does.
    return open_locked(draft.folder, settings, fresh=True)


@dataclass(frozen=True)
class Start:
    """The state with which a store begins.

    Attributes
    ----------
    seq, time_ns : int
        Its number, and when it began.
    created_ns : int
        At earlier times there was no store.
    marks : list of [name, seq, time_ns, *volumes]
        Its names.
    lineage : Lineage, optional
        What it is a fork of.
    """

    seq: int
    time_ns: int
    created_ns: int
    marks: list[list[Any]] = field(default_factory=list)
    lineage: Lineage | None = None

    @classmethod
    def now(cls, settings: Settings) -> Self:
        """Return state 0, which begins now."""
        time_ns = (settings.clock or time.time_ns)()
        return cls(0, time_ns, time_ns)


class Draft:
    """A store that is being made: in a folder of another name, until it is whole.

    As a context manager it is discarded where its block raises.

    Attributes
    ----------
    folder : Place
        Its own, locked.
    volumes : list of Device
        The volumes' files, in order, all zeroes at first; until `write`.

    Raises
    ------
    StoreExists
        There is something at its place already.
    InvalidArgument
        The volumes' names are too long.
    OSError
    """

    def __init__(self, place: Place, name: str, settings: Settings) -> None:
        _check_names(settings)
        self._place, self._name, self._settings = place, name, settings
        self._settled = self._has_journal = False
        self._key = secrets.randbits(63)
        prefix = f".{name}.new-"
        there = place.names()
        if name in there:
            raise StoreExists(
                errno.EEXIST, "there is something there already; open it, or use another path", name
            )
        for stray in there:
            if stray.startswith(prefix):  # an interrupted creation; or one that has it locked
                place.clear(stray)
        self._temporary, self.folder = _new_folder(place, prefix)
        self.volumes: list[Device] = []
        try:
            for index, (volume, size) in enumerate(settings.sizes.items()):
                self.volumes.append(self.folder.create(volume_file(index, volume), size))
        except BaseException:
            self.discard()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *exc: object) -> None:
        if kind is not None:
            self.discard()

    def make_journal(self) -> None:
        """Make the journal's files, durably: nothing in them depends on the volumes."""
        journal = self._settings.journal
        area, slots = journal - journal % _BLOCK, journal // 8 // SLOT_BYTES
        for name, length in (("log", area), ("index", slots * SLOT_BYTES)):
            device = self.folder.create(name, HEAD_BYTES + length)
            device.pwrite(0, head_bytes(name, self._key, area, slots))
            _zero(device, HEAD_BYTES, length)
            _finish(device)
        self._has_journal = True

    def write(self, start: Start) -> None:
        """Write all that a store has beside its volumes, and make everything durable."""
        for device in self.volumes:
            _finish(device)
        self.volumes = []
        if not self._has_journal:
            self.make_journal()
        devices = [self.folder.create(name, SUPER_BYTES) for name in NAMES]
        Superblock(devices, self._key).write(_record(self._settings, start).document())
        for device in devices:
            device.close()
        self.folder.sync()

    def settle(self) -> None:
        """Give it its name, durably. Raises StoreExists, OSError."""
        try:
            self._place.rename(self._temporary, self._name)
        except FileExistsError as error:
            raise StoreExists(
                errno.EEXIST, "there is something there by now", self._name
            ) from error
        self._settled = True
        self._place.sync()

    def discard(self) -> None:
        """Remove it, unless it has its name; let go of its folder."""
        for device in self.volumes:
            device.close()
        try:
            if not self._settled:
                self._place.remove(self._temporary)
        finally:
            self.folder.close()


def _check_names(settings: Settings) -> None:
    """Raise InvalidArgument where the volumes' names leave too little room for others."""
    if len(packed([*settings.sizes.items()])) > ROOM_BYTES // 2:
        raise InvalidArgument(
            f"the names of {len(settings.sizes)} volumes take more than half of the room that a "
            "superblock has for all names; take fewer volumes, or shorter names"
        )


def _new_folder(place: Place, prefix: str) -> tuple[str, Place]:
    """Make a folder that is locked, under a name of its own.

    Until it is locked, somebody else may take it for what an interrupted creation has left.
    """
    while True:
        temporary = prefix + secrets.token_hex(4)
        with suppress(StoreLocked, FileExistsError):
            folder = place.make(temporary)
            try:
                folder.lock(True)
                if temporary in place.names():
                    return temporary, folder
            except BaseException:
                folder.close()
                raise
            folder.close()


def _record(settings: Settings, start: Start) -> Record:
    """Return what the first superblocks say."""
    limits = settings.limits
    return Record(
        journal=settings.journal,
        images=settings.images,
        overflow=settings.overflow,
        sync=settings.sync or "flush",
        volumes=[[name, size] for name, size in settings.sizes.items()],
        created_ns=start.created_ns,
        reclaim=None if limits.reclaim is None else list(limits.reclaim),
        low=limits.low,
        parent=None if start.lineage is None else ParentRow.of(vars(start.lineage)),
        retain=[limits.least_ns, limits.most_ns],
        tail=[1, 0, 0, start.seq, start.time_ns],
        durable_seq=start.seq,
        synced_seq=start.seq,
        newest=[start.seq, start.time_ns],
        marks=start.marks,
    )


def _zero(device: Device, start: int, length: int) -> None:
    """Write zeroes: nothing grows later on."""
    zeroes = memoryview(bytes(_PIECE_BYTES))
    for offset in range(start, start + length, _PIECE_BYTES):
        device.pwrite(offset, zeroes[: start + length - offset])


def _finish(device: Device) -> None:
    device.sync()
    device.close()
