"""The toy store's bytes: superblock, group header, entry headers, images; and their checksums.

Every checksum is seeded with what the reader expects at that place, never with stored fields.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass, field

import xxhash

from tests.protocol.disk import SECTOR

MAGIC = b"JGRP"
HEADER = struct.Struct(
    "<4sIQQQQQII"
)  # magic, format, epoch, number, first, durable, synced, n, size
ENTRY = struct.Struct("<IIIQ")  # volume, offset, length, checksum of its images
MAX_ENTRIES = 8
SUPER = 2 * SECTOR  # one copy


def checksum(seed: tuple[int, ...], data: bytes) -> int:
    return xxhash.xxh3_64_intdigest(struct.pack(f"<{len(seed)}Q", *seed) + data)


@dataclass(frozen=True)
class Entry:
    """A write: `before` and `after` are the whole sectors that offset..offset+length touches."""

    seq: int
    volume: int
    offset: int
    length: int
    before: bytes
    after: bytes

    def sectors(self) -> range:
        return range(self.offset // SECTOR, (self.offset + self.length - 1) // SECTOR + 1)

    def images(self, which: str):
        """Yield ((volume, sector), content) of "before" or "after"."""
        data = getattr(self, which)
        for i, sector in enumerate(self.sectors()):
            yield (self.volume, sector), data[i * SECTOR : (i + 1) * SECTOR]


@dataclass(frozen=True)
class Group:
    """What one flush appends: `number` counts groups, `position` counts sectors, both for ever."""

    epoch: int
    number: int
    position: int
    first: int  # seq of its first entry
    durable: int  # what was durable before this group was written
    synced: int  # up to where the volumes' files were synced then
    entries: list[Entry] = field(default_factory=list)
    size: int = 1  # sectors, the header's included

    @property
    def last(self) -> int:
        return self.first + len(self.entries) - 1

    @property
    def end(self) -> int:
        return self.position + self.size


class Layout:
    """Packs and reads groups of one store: key, images and the ring's size are known by then."""

    def __init__(self, key: int, images: str, ring: int, off: frozenset[str]) -> None:
        self.key, self.both, self.ring, self.off = key, images == "both", ring, off

    def group_seed(self, epoch: int, number: int, position: int) -> tuple[int, ...]:
        key = 0 if "seed_key" in self.off else self.key
        number = 0 if "seed_number" in self.off else number
        return (key, epoch, number, position % self.ring)

    def image_seed(self, epoch: int, seq: int) -> tuple[int, ...]:
        if "seed_image" in self.off:
            return ()
        return (0 if "seed_key" in self.off else self.key, epoch, seq)

    def size(self, entries: list[Entry]) -> int:
        return 1 + sum(len(e.sectors()) * (2 if self.both else 1) for e in entries)

    def pack(self, group: Group) -> bytes:
        heads, images = [], []
        for e in group.entries:
            image = (e.before if self.both else b"") + e.after
            digest = checksum(self.image_seed(group.epoch, e.seq), image)
            heads.append(ENTRY.pack(e.volume, e.offset, e.length, digest))
            images.append(image)
        head = HEADER.pack(
            MAGIC, 1, group.epoch, group.number, group.first, group.durable, group.synced,
            len(heads), group.size,
        )  # fmt: skip
        head = (head + b"".join(heads)).ljust(SECTOR - 8, b"\0")
        seed = self.group_seed(group.epoch, group.number, group.position)
        return head + struct.pack("<Q", checksum(seed, head)) + b"".join(images)

    def header(self, log: bytes, epoch: int, number: int, position: int) -> Group | None:
        """Return the group that should stand at `position`, its images not yet read."""
        sector = self._sectors(log, position, 1)
        head, (digest,) = sector[:-8], struct.unpack("<Q", sector[-8:])
        magic, _, epoch_there, number_there, first, durable, synced, n, size = HEADER.unpack(
            head[: HEADER.size]
        )
        if "header_sum" in self.off:
            valid = magic == MAGIC and (epoch_there, number_there) == (epoch, number)
        else:
            valid = digest == checksum(self.group_seed(epoch, number, position), head)
        if not valid or magic != MAGIC:
            return None
        entries = []
        for i in range(min(n, MAX_ENTRIES)):
            at = HEADER.size + i * ENTRY.size
            volume, offset, length, digest = ENTRY.unpack(head[at : at + ENTRY.size])
            entries.append(Entry(first + i, volume, offset, length, digest, b""))
        return Group(epoch, number, position, first, durable, synced, entries, size)

    def group(self, log: bytes, epoch: int, number: int, position: int) -> Group | None:
        """Return the whole group, or None if any of its checksums fails."""
        head = self.header(log, epoch, number, position)
        if head is None:
            return None
        entries, at = [], position + 1
        for e in head.entries:
            count = len(e.sectors())
            image = self._sectors(log, at, count * (2 if self.both else 1))
            good = e.before == checksum(self.image_seed(epoch, e.seq), image)
            if not good and "image_sum" not in self.off:
                return None
            before, after = image[: -count * SECTOR], image[-count * SECTOR :]
            entries.append(Entry(e.seq, e.volume, e.offset, e.length, before, after))
            at += len(image) // SECTOR
        return Group(epoch, number, position, head.first, head.durable, head.synced, entries,
                     head.size)  # fmt: skip

    def stored(self, log: bytes, position: int) -> tuple[int, int]:
        """Return the epoch and number that the sector at `position` claims; nothing is checked."""
        fields = HEADER.unpack(self._sectors(log, position, 1)[: HEADER.size])
        return (fields[2], fields[3]) if fields[0] == MAGIC else (0, 0)

    def _sectors(self, log: bytes, position: int, count: int) -> bytes:
        at = [(position + i) % self.ring * SECTOR for i in range(count)]
        return b"".join(log[a : a + SECTOR] for a in at)


def pack_super(document: dict) -> bytes:
    text = json.dumps(document, separators=(",", ":")).encode()
    assert len(text) <= SUPER - 16, "the superblock is too small for its document"
    return struct.pack("<QQ", len(text), checksum((), text)) + text.ljust(SUPER - 16, b"\0")


def unpack_super(data: bytes) -> dict | None:
    if len(data) < SUPER:
        return None
    length, digest = struct.unpack("<QQ", data[:16])
    text = data[16 : 16 + length] if length <= SUPER - 16 else b""
    return json.loads(text) if text and digest == checksum((), text) else None
