"""Superblocks: one document in two copies, written one after the other; the newer one counts."""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING, NamedTuple

import xxhash

from jrnl._core import Turn
from jrnl.errors import CatalogFull, CorruptionError, FormatError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jrnl._core import CallbackDevice, FileDevice
    from jrnl.disk.record import Document

    Device = FileDevice | CallbackDevice

NAMES = ("super.0", "super.1")
SUPER_BYTES = 1 << 20
# What makes the document longer on purpose stops here; the rest is for the way out (R17): epochs of
# openings and rewinds, what a fold or a damage adds, the names that a deletion leaves.
ROOM_BYTES = SUPER_BYTES - (128 << 10)
REWIND_BYTES = SUPER_BYTES - (8 << 10)  # a rewind may take of that, but not all
# An earlier version filled superblocks to the last byte. Such a store opens, and can be cleared.
LONG_BYTES = 16 << 20
ROW_MOST = 2048  # bytes of one row, but for volumes
_ROW_SLACK = 24  # a comma, numbers that grow, a copy's number
FORMAT = 1
INCOMPATIBLE = 0  # feature bits that a reader must know, or refuse
READ_COMPATIBLE = 0  # ... that a writer must know, or open for reading only
_MAGIC = b"jrnlsupr"
_HEAD = struct.Struct("<8sIIIIQQQQ")  # and its checksum behind it
_SUM = struct.Struct("<Q")
_BODY = _HEAD.size + _SUM.size
_SECTOR = 512


class Found(NamedTuple):
    """One copy as it was read.

    Attributes
    ----------
    generation : int
        Rises with every document.
    key : int
    document : dict
    writable : bool
        Whether this version may write to the store.
    """

    generation: int
    key: int
    document: Document
    writable: bool


def packed(document: object) -> bytes:
    """Return a document, or a part of one, as a superblock has it."""
    return json.dumps(document, separators=(",", ":")).encode()


def pack(copy: int, key: int, generation: int, document: Document) -> bytes:
    """Return a copy's bytes, in whole sectors. Raises CatalogFull where it has no room."""
    body = packed(document)
    head = _HEAD.pack(
        _MAGIC, FORMAT, INCOMPATIBLE, READ_COMPATIBLE, copy, generation, key, len(body), 0
    )
    data = head + _SUM.pack(xxhash.xxh3_64_intdigest(body, xxhash.xxh3_64_intdigest(head))) + body
    if len(data) > LONG_BYTES:
        raise CatalogFull(
            f"the store's names and marks take {len(data)} bytes, more than a superblock has room "
            "for; delete snapshots, close recoveries or unpin marks"
        )
    return data + bytes(-len(data) % _SECTOR)


def unpack(copy: int, device: Device) -> Found:
    """Read and check one copy.

    Raises
    ------
    FormatError
        No superblock, that of a newer version, or the other copy under this one's name.
    CorruptionError
        It does not match its checksum, or ends early.
    """
    head = device.pread(0, _BODY)
    magic, version, incompatible, read, number, generation, key, length, _ = _HEAD.unpack_from(head)
    if magic != _MAGIC:
        raise FormatError(f"{NAMES[copy]} is no superblock of a store")
    if length > min(LONG_BYTES, device.size) - _BODY:
        raise CorruptionError(f"{NAMES[copy]} does not match its checksum")
    body = device.pread(_BODY, length)
    total = xxhash.xxh3_64_intdigest(body, xxhash.xxh3_64_intdigest(head[: _HEAD.size]))
    if _SUM.unpack_from(head, _HEAD.size)[0] != total:
        raise CorruptionError(f"{NAMES[copy]} does not match its checksum")
    if version > FORMAT or incompatible & ~INCOMPATIBLE:
        raise FormatError(
            f"the store was made by a newer version (format {version}, features "
            f"{incompatible:#x}); this one knows format {FORMAT}"
        )
    if number != copy:
        raise FormatError(f"{NAMES[copy]} holds what belongs into {NAMES[1 - copy]}")
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{NAMES[copy]} holds no document: {error}") from error
    if not isinstance(document, dict):
        raise FormatError(f"{NAMES[copy]} holds no document")
    return Found(generation, key, document, not read & ~READ_COMPATIBLE)


class Superblock:
    """Both copies of a store's superblock."""

    def __init__(self, devices: Sequence[Device | None], key: int, generation: int = 0) -> None:
        self.devices = list(devices)
        self.key = key
        self.generation = generation
        self.turn = Turn()
        self.newest = 0
        self.alike = False  # both copies hold the newest document

    @classmethod
    def read(cls, devices: Sequence[Device | None]) -> tuple[Superblock, Found]:
        """Return both copies, and the newer document.

        One copy may be torn, as any crash can leave it, or damaged: the other one serves.

        Raises
        ------
        FormatError, CorruptionError
            Neither can be used, or they are of different stores.
        """
        found: dict[int, Found] = {}
        problems: list[CorruptionError | FormatError] = []
        for copy, device in enumerate(devices):
            try:
                if device is None:
                    raise CorruptionError(f"{NAMES[copy]} is missing")
                found[copy] = unpack(copy, device)
            except (CorruptionError, FormatError) as error:
                problems.append(error)
        if not found:
            raise next((p for p in problems if isinstance(p, FormatError)), problems[0])
        if len({copy.key for copy in found.values()}) > 1:
            raise FormatError("the two superblocks are of different stores")
        for problem in problems:
            if "newer version" in str(problem):
                raise problem
        newest = max(found, key=lambda copy: found[copy].generation)
        self = cls(devices, found[newest].key, found[newest].generation)
        self.newest = newest
        self.turn.used = len(packed(found[newest].document))
        generations = {copy.generation for copy in found.values()}
        self.alike = len(found) == len(NAMES) and len(generations) == 1
        return self, found[newest]

    @property
    def used(self) -> int:
        """Bytes of the newest document."""
        return self.turn.used

    def check_room(self, rows: Sequence[object]) -> None:
        """Raise CatalogFull where these rows would leave no room for the way out (R17)."""
        more = sum(len(packed(row)) + _ROW_SLACK for row in rows)
        if self.used + more > ROOM_BYTES:
            raise CatalogFull(
                f"the store's names, pins, snapshots and recoveries take {self.used} bytes of a "
                f"superblock, and {more} more would leave no room to delete any: unpin marks, "
                "delete snapshots or close recoveries"
            )

    def check_rewind(self) -> None:
        """Raise CatalogFull where there is no room for what a rewind has to say."""
        if self.used > REWIND_BYTES:
            raise CatalogFull(
                f"the store's names and pins take {self.used} bytes of a superblock, and leave no "
                "room for what a rewind has to say: unpin marks or delete snapshots"
            )

    def heal(self, document: Document) -> None:
        """Before a document is relied on, both copies hold it: write the older one again.

        What was read may itself not be durable yet, so it is synced first.
        """
        newest = self.devices[self.newest]
        assert newest is not None
        newest.sync()
        if not self.alike:
            self._put(1 - self.newest, document)

    def next_generation(self) -> int:
        """Return the number of a document that is about to be written."""
        self.generation += 1
        return self.generation

    def write(self, document: Document, generation: int | None = None) -> None:
        """Make `document` the newest, durably in both copies, the older one first.

        Nothing is done where a newer one is there already. What breaks this off has changed
        nothing, or all: it can be called again.
        """
        if generation is None:
            generation = self.next_generation()
        order = (1 - self.newest, self.newest)
        contents = [pack(copy, self.key, generation, document) for copy in order]
        self.turn.put(generation, [self.devices[copy] for copy in order], contents)

    def _put(self, copy: int, document: Document) -> None:
        device = self.devices[copy]
        assert device is not None
        data = pack(copy, self.key, self.generation, document)
        self.turn.used = len(data)
        device.pwrite(0, data)
        device.sync()
