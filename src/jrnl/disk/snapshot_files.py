"""Copies: all volumes at one state, as raw files with checksums; what a snapshot on disk is."""

from __future__ import annotations

import os
import re
import struct
from contextlib import suppress
from errno import EACCES, EINVAL, EISDIR, ELOOP, ENOENT, ENXIO, EPERM
from typing import TYPE_CHECKING

import numpy as np
import xxhash

from jrnl._core import FORMAT, CallbackDevice, Image

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from jrnl._core import Engine, FileDevice
    from jrnl.disk.folder import Place

    Device = FileDevice | CallbackDevice

_SPARE_DESCRIPTORS = 8
_BLOCK = FORMAT["constants"]["SNAPSHOT_BLOCK_BYTES"]
_NOT_THERE = {ENOENT, ELOOP, EISDIR, EINVAL, ENXIO, EACCES, EPERM}  # or something else is
_COVERED = FORMAT["constants"]["SUM_BLOCK_SUMS"] * _BLOCK
NAME = re.compile(
    r"(snapshot|recovery)-(\d{1,18})(-\d{1,5}\.(img|sums)|(-\d{1,18})?\.patches)"
    r"|(production)-(\d{1,18})\.kept"
)
_SUM = struct.Struct("<Q")
_END = struct.Struct("<8sQQ")  # magic, blocks of checksums that are not empty, the sum of theirs
_END_MAGIC = b"jrnl-end"


def image_name(number: int, volume: int) -> str:
    """Return the name of a copy's file."""
    return f"snapshot-{number}-{volume}.img"


def sums_name(number: int, volume: int) -> str:
    """Return the name of its checksums' file."""
    return f"snapshot-{number}-{volume}.sums"


def patches_name(number: int, version: int = 0) -> str:
    """Return the name of the file of a recovery's patches; each move makes another version."""
    return f"recovery-{number}-{version}.patches" if version else f"recovery-{number}.patches"


def preserved_name(number: int) -> str:
    """Return the name of the file of a preserved state."""
    return f"production-{number}.kept"


def seed_of(key: int, number: int) -> int:
    """Return what seeds the checksums of a copy."""
    return int(xxhash.xxh3_64_intdigest(number.to_bytes(8, "little"), key))


def sums_bytes(size: int) -> int:
    """Return how long the file of checksums for a volume of `size` bytes is."""
    return -(-size // _COVERED) * _BLOCK


def numbers(blocks: NDArray[np.int64]) -> list[int]:
    """Return the numbers of the blocks of checksums that cover these of 4096 bytes."""
    return [int(number) for number in np.unique(blocks * _BLOCK // _COVERED)]


def end_mark(engine: Engine, sums: Sequence[Device | None], seed: int) -> tuple[int, bytes]:
    """Return what stands behind a volume's checksums once all of a copy has been written.

    And which volume's: the first one that has any; -1 where none has, and nothing tells. The mark
    sums all checksums, so it proves them, and they prove every block, whatever a crash has left.
    """
    own, count, holder = xxhash.xxh3_64(seed=seed), 0, -1
    for volume, device in enumerate(sums):
        length = sums_bytes(engine.sizes[volume])
        for start, stop in [] if device is None else device.data_extents():
            for number in range(start // _BLOCK, -(-min(stop, length) // _BLOCK)):
                assert device is not None
                last = device.pread((number + 1) * _BLOCK - _SUM.size, _SUM.size)
                if last != bytes(_SUM.size):
                    own.update(struct.pack("<QQ8s", volume, number, last))
                    count += 1
                    holder = volume if holder < 0 else holder
    return holder, _END.pack(_END_MAGIC, count, own.intdigest())


def is_ended(image: Image, key: int) -> bool:
    """Whether the checksums of a copy are all there, as its end left them."""
    engine = image.engine
    assert image.files is not None
    sums = image.files[len(engine.sizes) :]
    holder, mark = end_mark(engine, sums, seed_of(key, image.tag))
    device = sums[holder] if holder >= 0 else None
    length = sums_bytes(engine.sizes[holder])
    return (
        device is not None
        and device.size >= length + len(mark)
        and device.pread(length, len(mark)) == mark
    )


def make(
    place: Place,
    engine: Engine,
    key: int,
    number: int,
    source: Image,
    clones: list[str] | None,
    covered: list[int] | None = None,
) -> Image:
    """Write a copy of `source`, durably.

    Parameters
    ----------
    clones : list of str, optional
        Files with the very content of `source`, one a volume: shared where the file system can.
    covered : list of int, optional
        The volumes to copy; all by default.
    """
    sizes = engine.sizes
    copies: list[Device | None] = [None] * len(sizes)
    sums: list[Device | None] = [None] * len(sizes)
    shared = [False] * len(sizes)
    covered = list(range(len(sizes))) if covered is None else covered
    try:
        for volume in covered:
            size, name = sizes[volume], image_name(number, volume)
            shared[volume] = clones is not None and place.clone(clones[volume], name)
            copies[volume] = place.open(name, True) if shared[volume] else place.create(name, size)
            sums[volume] = place.create(sums_name(number, volume), sums_bytes(size))
        image = Image.stored(engine, source.seq, seed_of(key, number), copies, sums)
        image.tag = number
        for volume in covered:
            for block in numbers(source.data_blocks(volume)):
                image.store(source, volume, block, not shared[volume])
        for device in (*copies, *sums):
            if device is not None:
                device.sync()
        place.sync()
    except BaseException:
        for device in (*copies, *sums):
            if device is not None:
                device.close()
        raise
    return image


def check_descriptors(volumes: int) -> None:
    """Raise OSError (EMFILE) unless the process may open the files of one more copy, and a few."""
    held: list[int] = []
    try:
        for _ in range(2 * volumes + _SPARE_DESCRIPTORS):
            held.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
    except OSError as error:
        raise OSError(
            error.errno,
            f"{os.strerror(error.errno or 0)}: a snapshot on disk keeps two for each volume; "
            "delete some, or have the process allowed more (ulimit -n)",
            error.filename,
        ) from error
    finally:
        for descriptor in held:
            os.close(descriptor)


class _Missing:
    """What stands for a file that is not there: whoever reads it finds that it ends too early."""

    size = 0

    def pread(self, offset: int, length: int) -> bytes:
        return b""

    def close(self) -> None:
        pass


def missing() -> CallbackDevice:
    """Return a device for a file that is not there."""
    return CallbackDevice(_Missing())


def lost(engine: Engine, number: int, seq: int) -> Image:
    """Return a copy that has nothing: whoever reads it finds that out."""
    copies: list[Device | None] = [missing() for _ in engine.sizes]
    sums: list[Device | None] = [missing() for _ in engine.sizes]
    image = Image.stored(engine, seq, 0, copies, sums)
    image.tag = number
    return image


def load(
    place: Place,
    engine: Engine,
    key: int,
    number: int,
    seq: int,
    covered: list[int] | None = None,
    *,
    writable: bool = False,
) -> tuple[Image, list[str]]:
    """Open a copy; return it, and what is wrong with its files: who reads that finds out."""
    copies: list[Device | None] = []
    sums: list[Device | None] = []
    problems: list[str] = []
    for volume, size in enumerate(engine.sizes):
        if covered is not None and volume not in covered:
            copies.append(None)
            sums.append(None)
            continue
        for devices, name, wanted in (
            (copies, image_name(number, volume), size),
            (sums, sums_name(number, volume), sums_bytes(size)),
        ):
            try:
                device: Device = place.open(name, writable)
            except OSError as error:
                if error.errno not in _NOT_THERE:
                    raise
                what = (
                    "is missing" if error.errno == ENOENT else f"cannot be opened: {error.strerror}"
                )
                problems.append(f"{name} {what}")
                device = missing()
            else:
                if device.size < wanted:
                    problems.append(f"{name} ends too early: it was cut")
            devices.append(device)
    image = Image.stored(engine, seq, seed_of(key, number), copies, sums)
    image.tag = number
    return image, problems


def remove(place: Place, number: int, volumes: int) -> None:
    """Remove a copy's files, as far as they are there."""
    there = set(place.names())
    for volume in range(volumes):
        for name in (image_name(number, volume), sums_name(number, volume)):
            if name in there:
                with suppress(FileNotFoundError):  # a call that came in was faster
                    place.remove(name)
