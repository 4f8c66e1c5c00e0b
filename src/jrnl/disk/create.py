"""Making a store in a folder, whole or not at all."""

from __future__ import annotations

import errno
import secrets
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from jrnl._core import FORMAT
from jrnl.disk.log_files import HEAD_BYTES, SLOT_BYTES, head_bytes, volume_file
from jrnl.disk.open import open_locked
from jrnl.disk.record import Record
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


def make_in(place: Place, name: str, settings: Settings) -> Store:
    """Do the same with settings that have been checked."""
    if len(packed([*settings.sizes.items()])) > ROOM_BYTES // 2:
        raise InvalidArgument(
            f"the names of {len(settings.sizes)} volumes take more than half of the room that a "
            "superblock has for all names; take fewer volumes, or shorter names"
        )
    prefix = f".{name}.new-"
    there = place.names()
    if name in there:
        raise StoreExists(
            errno.EEXIST, "there is something there already; open it, or use another path", name
        )
    for stray in there:
        if stray.startswith(prefix):  # an interrupted creation; or one that has its folder locked
            place.clear(stray)
    temporary, folder = _new_folder(place, prefix)
    try:
        _write_files(folder, settings)
        folder.sync()
        place.rename(temporary, name)
    except BaseException as error:
        try:
            place.remove(temporary)
        finally:
            folder.close()
        if isinstance(error, FileExistsError):
            raise StoreExists(errno.EEXIST, "there is something there by now", name) from error
        raise
    try:
        place.sync()
    except BaseException:
        folder.close()
        raise
    # Still locked: nobody else opens it before whoever has made it does.
    return open_locked(folder, settings, fresh=True)


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


def _write_files(folder: Place, settings: Settings) -> None:
    """Write all files of a new store, durably."""
    key = secrets.randbits(63)
    area = settings.journal - settings.journal % _BLOCK
    slots = settings.journal // 8 // SLOT_BYTES
    created, limits = (settings.clock or time.time_ns)(), settings.limits
    record = Record(
        journal=settings.journal,
        images=settings.images,
        overflow=settings.overflow,
        sync=settings.sync or "flush",
        volumes=[[name, size] for name, size in settings.sizes.items()],
        created_ns=created,
        reclaim=None if limits.reclaim is None else list(limits.reclaim),
        low=limits.low,
        retain=[limits.least_ns, limits.most_ns],
        tail=[1, 0, 0, 0, created],
        newest=[0, created],
    )
    for index, (volume, size) in enumerate(settings.sizes.items()):
        device = folder.create(volume_file(index, volume), size)
        if volume in settings.sources:
            fill(device, settings.sources[volume])
        _finish(device)
    for name, length in (("log", area), ("index", slots * SLOT_BYTES)):
        device = folder.create(name, HEAD_BYTES + length)
        device.pwrite(0, head_bytes(name, key, area, slots))
        _zero(device, HEAD_BYTES, length)
        _finish(device)
    devices = [folder.create(name, SUPER_BYTES) for name in NAMES]
    Superblock(devices, key).write(record.document())
    for device in devices:
        device.close()


def _zero(device: Device, start: int, length: int) -> None:
    """Write zeroes: nothing grows later on."""
    zeroes = memoryview(bytes(_PIECE_BYTES))
    for offset in range(start, start + length, _PIECE_BYTES):
        device.pwrite(offset, zeroes[: start + length - offset])


def _finish(device: Device) -> None:
    device.sync()
    device.close()
