"""Make dm-log-writes logs, replay them the plain way, and stand in for a volume."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from jrnl import NameTaken

FLUSH, FUA, DISCARD, MARK, METADATA = 1, 2, 4, 8, 16
MAGIC = 0x6A736677736872

# Where the fields stand in a super and in an entry's header: (byte, struct format).
SUPER_FIELDS = {"magic": (0, "<Q"), "version": (8, "<Q"), "count": (16, "<Q"), "size": (24, "<I")}
ENTRY_FIELDS = {"sector": (0, "<Q"), "sectors": (8, "<Q"), "flags": (16, "<Q"), "text": (24, "<Q")}


@dataclass(frozen=True)
class Entry:
    """One entry of a log, as a recorder sees it."""

    sector: int = 0
    sectors: int = 0
    flags: int = 0
    data: bytes = b""
    text: bytes = b""

    def pack(self, sector_size: int) -> bytes:
        head = struct.pack("<QQQQ", self.sector, self.sectors, self.flags, len(self.text))
        return (head + self.text).ljust(sector_size, b"\0") + self.data


def write(sector: int, data: bytes, sector_size: int = 512, flags: int = 0) -> Entry:
    assert len(data) % sector_size == 0
    return Entry(sector, len(data) // sector_size, flags, data)


def discard(sector: int, sectors: int, flags: int = 0) -> Entry:
    return Entry(sector, sectors, flags | DISCARD)


def mark(text: str | bytes) -> Entry:
    return Entry(flags=MARK, text=text.encode() if isinstance(text, str) else text)


def flush(flags: int = FLUSH) -> Entry:
    return Entry(flags=flags)


def pack_log(entries: Iterable[Entry], sector_size: int = 512, count: int | None = None) -> bytes:
    """Give the bytes of a log; `count` is what its super says where that is not the truth."""
    entries = list(entries)
    counted = len(entries) if count is None else count
    head = struct.pack("<QQQI", MAGIC, 1, counted, sector_size).ljust(sector_size, b"\0")
    return head + b"".join(entry.pack(sector_size) for entry in entries)


def unpack_log(log: bytes) -> tuple[int, list[Entry]]:
    """Give a whole log's sector size and entries, held against what the kernel writes."""
    magic, version, count, size = struct.unpack_from("<QQQI", log)
    assert (magic, version) == (MAGIC, 1)
    assert size in (512, 1024, 2048, 4096)
    assert log[28:size].strip(b"\0") == b""
    entries, position = [], size
    for _ in range(count):
        sector, sectors, flags, length = struct.unpack_from("<QQQQ", log, position)
        assert flags < 32
        text = log[position + 32 : position + 32 + length]
        assert log[position + 32 + length : position + size].strip(b"\0") == b""
        if flags & MARK:
            assert (flags, sector, sectors) == (MARK, 0, 0)
            assert length < size - 32
        else:
            assert length == 0
            assert flags & ~FLUSH == 0 or sectors > 0
        stored = 0 if flags & DISCARD else sectors * size
        position += size
        data = log[position : position + stored]
        assert len(data) == stored
        entries.append(Entry(sector, sectors, flags, data, text))
        position += stored
    assert position == len(log)
    return size, entries


def entry_positions(entries: Iterable[Entry], sector_size: int = 512) -> list[int]:
    """Give the byte of the log where each entry starts, and last where the log ends."""
    positions = [sector_size]
    for entry in entries:
        positions.append(positions[-1] + len(entry.pack(sector_size)))
    return positions


def set_field(log: bytes, position: int, field: tuple[int, str], value: int) -> bytes:
    changed = bytearray(log)
    struct.pack_into(field[1], changed, position + field[0], value)
    return bytes(changed)


def plain_states(entries: Iterable[Entry], size: int, sector_size: int = 512) -> list[bytes]:
    """Give the volume after each number of entries, from none to all."""
    volume = bytearray(size)
    states = [bytes(volume)]
    for entry in entries:
        start, length = entry.sector * sector_size, entry.sectors * sector_size
        if length:
            data = bytes(length) if entry.flags & DISCARD else entry.data
            volume[start : start + length] = data
        states.append(bytes(volume))
    return states


class FakeVolume:
    """The part of a volume that a replay uses: it keeps every call, and no content."""

    def __init__(self, size: int, max_write: int = 1 << 20, seq: int = 0) -> None:
        self.size = size
        self._max_write = max_write
        self._seq = self.first_seq = seq
        self.calls: list[tuple[int, str, int, bytes | int | str]] = []
        self.names: set[str] = set()
        self._flushed = True

    def _add(self, kind: str, offset: int, value: bytes | int | str) -> int:
        self._seq += 1
        self._flushed = kind == "flush"
        self.calls.append((self._seq, kind, offset, value))
        return self._seq

    def write(self, offset: int, data: memoryview) -> int:
        assert 0 < len(data) <= self._max_write
        assert 0 <= offset <= self.size - len(data)
        return self._add("write", offset, self.keep(data))

    def keep(self, data: memoryview) -> bytes | int:
        return bytes(data)

    def discard(self, offset: int, length: int) -> int:
        assert length > 0
        assert 0 <= offset <= self.size - length
        return self._add("discard", offset, length)

    def _flush(self) -> int:
        return self._seq if self._flushed else self._add("flush", 0, 0)

    def _mark(self, name: str) -> None:
        assert is_valid_name(name), name
        if name in self.names:
            raise NameTaken(name)
        self.names.add(name)
        self._add("mark", 0, name)

    def kinds(self) -> list[str]:
        return [kind for _, kind, _, _ in self.calls]

    def states(self, seqs: Iterable[int]) -> Iterator[bytearray]:
        """Give the content after each of some seqs, in rising order; always the same buffer."""
        content = bytearray(self.size)
        calls = iter(self.calls)
        done = self.first_seq
        for seq in seqs:
            while done < seq:
                done, kind, offset, value = next(calls)
                if isinstance(value, bytes):
                    content[offset : offset + len(value)] = value
                elif kind == "discard":
                    assert isinstance(value, int)
                    content[offset : offset + value] = bytes(value)
            yield content


class ForgetfulVolume(FakeVolume):
    """A fake volume that keeps how much was written, not what: for writes without end."""

    def keep(self, data: memoryview) -> int:
        return len(data)


def is_valid_name(name: str) -> bool:
    """Say whether a mark may have this name, in the words of the design."""
    bad = any(char in "/@" or ord(char) < 32 or 127 <= ord(char) < 160 for char in name)
    return 0 < len(name.encode()) <= 255 and not bad and not is_number(name) and not is_time(name)


def is_number(name: str) -> bool:
    for read in (float, lambda text: int(text, 0)):
        with suppress(ValueError):
            read(name)
            return any(char.isdigit() for char in name)
    return False


def is_time(name: str) -> bool:
    try:
        datetime.fromisoformat(name)
    except ValueError:
        return False
    return True


def pattern(length: int, seed: int = 1) -> bytes:
    """Bytes that differ by the seed, none of them zero."""
    mixed = np.arange(length, dtype=np.uint64) * 2654435761 * (seed + 1) >> 13
    return (mixed % 251 + 1).astype(np.uint8).tobytes()


def draw_entries(draw: DrawFn, sector_size: int, sectors: int, most: int) -> list[Entry]:
    """Up to `most` entries of all kinds that fit a volume of some sectors."""
    entries = []
    for seed in range(draw(st.integers(0, most))):
        kind = draw(st.sampled_from(["write", "write", "discard", "mark", "flush"]))
        flags = draw(st.sampled_from([0, FLUSH, FUA, FLUSH | FUA, METADATA]))
        start = draw(st.integers(0, sectors - 1))
        count = draw(st.integers(1, sectors - start))
        if kind == "write":
            entries.append(write(start, pattern(count * sector_size, seed), sector_size, flags))
        elif kind == "discard":
            entries.append(discard(start, draw(st.sampled_from([0, count])), flags))
        elif kind == "mark":
            entries.append(mark(draw(st.text(max_size=20))))
        else:
            entries.append(flush(flags | FLUSH))
    return entries
