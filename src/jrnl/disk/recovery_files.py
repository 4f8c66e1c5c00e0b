"""Patches: where a recovered image differs from its base, in a file."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import numpy as np
import xxhash

from jrnl._core import ExtentMap, Image
from jrnl.disk.record import RecoveryRow
from jrnl.errors import CorruptionError

if TYPE_CHECKING:
    from jrnl._core import Engine
    from jrnl.disk.folder import Place
    from jrnl.recovery import Recovery

_MAGIC = b"jrnlptch"
_HEAD = struct.Struct("<8sQQQQ")  # magic, ranges, bytes, sum of the table, sum of the content
_SUM = struct.Struct("<Q")


def row(recovery: Recovery, version: int, copy: int) -> RecoveryRow:
    """Return what the superblocks say of a recovery."""
    only = None if recovery._only is None else sorted(recovery._only)
    return RecoveryRow(
        recovery.id, recovery.seq, recovery.base, recovery._preserved.seq, copy,
        recovery.plan.route, recovery.plan.entries, recovery.plan.bytes, recovery.undoable,
        version, only,
    )  # fmt: skip


def save(place: Place, name: str, image: Image, seed: int) -> None:
    """Write the patches of a patched image to a new file, durably but for its name.

    A header, a table of int64[3, n] (volume, offset, length), then the bytes of all ranges.
    """
    table = np.stack(image.patches())
    total = int(table[2].sum())
    place_of_data = _HEAD.size + _SUM.size + table.nbytes
    device = place.create(name, place_of_data + total)
    try:
        content = xxhash.xxh3_64(seed=seed)
        position = place_of_data
        for volume, offset, length in table.T.tolist():
            piece = image.read(offset, length, volume)
            content.update(piece)
            device.pwrite(position, piece)
            position += length
        table_sum = xxhash.xxh3_64_intdigest(table.tobytes(), seed)
        head = _HEAD.pack(_MAGIC, table.shape[1], total, table_sum, content.intdigest())
        head += _SUM.pack(xxhash.xxh3_64_intdigest(head, seed))
        device.pwrite(0, head + table.tobytes())
        device.sync()
    finally:
        device.close()


def load(place: Place, name: str, engine: Engine, seed: int) -> ExtentMap:
    """Read patches back. Raises CorruptionError, OSError."""
    device = place.open(name, False)
    try:
        head = device.pread(0, _HEAD.size + _SUM.size)
        magic, count, total, table_sum, content_sum = _HEAD.unpack_from(head)
        right = _SUM.unpack_from(head, _HEAD.size)[0]
        if magic != _MAGIC or right != xxhash.xxh3_64_intdigest(head[: _HEAD.size], seed):
            raise CorruptionError(f"{name} does not match its checksum")
        if _HEAD.size + _SUM.size + count * 24 + total > device.size:
            raise CorruptionError(f"{name} ends too early: it was cut")
        raw = device.pread(len(head), count * 24)
        content = device.pread(len(head) + count * 24, total)
    finally:
        device.close()
    if xxhash.xxh3_64_intdigest(raw, seed) != table_sum:
        raise CorruptionError(f"{name} does not match its checksum")
    if xxhash.xxh3_64_intdigest(content, seed) != content_sum:
        raise CorruptionError(f"{name} does not match its checksum")
    volumes, offsets, lengths = np.frombuffer(raw, np.int64).reshape(3, count).tolist()
    return ExtentMap.loaded(engine, volumes, offsets, lengths, memoryview(content or b"\0"))
