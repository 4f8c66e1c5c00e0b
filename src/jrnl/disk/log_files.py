"""What stands at the start of the log's file, and of the index; the names of volumes' files."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import xxhash

from jrnl._core import FORMAT
from jrnl.errors import CorruptionError, FormatError

if TYPE_CHECKING:
    from jrnl.disk.superblock import Device

HEAD_BYTES = FORMAT["constants"]["LOG_HEAD_BYTES"]
SLOT_BYTES = FORMAT["header_sizes"]["EntryHeader"]
_HEAD = struct.Struct("<8sQQQ")  # magic, key, bytes of the ring, of the index
_SUM = struct.Struct("<Q")
_NAME_MAX = 64  # of a volume's file
MAGICS = {"log": b"jrnl-log", "index": b"jrnlindx"}


def head_bytes(name: str, key: int, area: int, slots: int) -> bytes:
    """Return what stands at the start of the log's file, and of the index."""
    head = _HEAD.pack(MAGICS[name], key, area, slots)
    head += _SUM.pack(xxhash.xxh3_64_intdigest(head))
    return head + bytes(HEAD_BYTES - len(head))


def check_head(name: str, device: Device, key: int, area: int, slots: int) -> bool:
    """Whether a file starts as it should; what follows has checksums of its own.

    Raises
    ------
    FormatError
        It is another store's file, or another file of this one.
    CorruptionError
        The log was cut.
    """
    wanted = head_bytes(name, key, area, slots)[: _HEAD.size + _SUM.size]
    if device.size < HEAD_BYTES + (area if name == "log" else slots * SLOT_BYTES):
        if name == "log":
            raise CorruptionError("the file 'log' ends too early: it was cut")
        return False
    found = device.pread(0, len(wanted))
    if found == wanted:
        return True
    if _SUM.unpack_from(found, _HEAD.size)[0] == xxhash.xxh3_64_intdigest(found[: _HEAD.size]):
        raise FormatError(f"the file {name!r} belongs to another store, or has another's name")
    return False


def volume_file(index: int, name: str) -> str:
    """Return the name of a volume's file: its own, where any file system takes that."""
    plain = all(character.isascii() and (character.isalnum() or character in "_-")
                for character in name)  # fmt: skip
    taken = name.startswith(("snapshot-", "recovery-", "volume-"))
    own = plain and not taken and len(name) <= _NAME_MAX
    return f"{name}.img" if own else f"volume-{index}.img"
