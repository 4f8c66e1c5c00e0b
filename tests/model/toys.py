"""Toy stores, each with one mistake that only a power cut shows, and each made right.

A toy keeps a number that only grows. After a power cut there has to be one that was put, and none
that is older than the last one that was promised: a put that has returned.
"""

from __future__ import annotations

import struct
import zlib
from abc import ABC, abstractmethod
from typing import Any, ClassVar

import jrnl

SECTOR = 512
TORN_SECTORS = 4


class WrongNumber(AssertionError):
    """What a toy reads after a power cut is not what it may read."""


class Toy(ABC):
    """A store on the volume of a `jrnl.Store`; `right` is whether it is made right."""

    mode = "subset"
    places: ClassVar[dict[int, str]] = {}  # what begins at an offset

    def __init__(self, *, right: bool) -> None:
        self.right = right
        self.store = jrnl.create(size="16KiB", journal="1MiB")
        self.disk = self.store.volume
        self.promised: list[tuple[int, int]] = []  # the seq by which a put had returned

    def life(self) -> jrnl.Store:
        for number in range(1, 10):
            self.put(number)
            self.promised.append((self.store.seq, number))
        return self.store

    @abstractmethod
    def put(self, number: int) -> None:
        """Store the next number."""

    @abstractmethod
    def read(self, disk: Any) -> int:
        """The number that is on a disk: a volume, or a state."""

    def tag(self, offset: int) -> str | None:
        return self.places.get(offset)

    def check(self, state: Any) -> None:
        self.hold(state, self.read(state))

    def hold(self, state: Any, number: int) -> None:
        """Raise unless `number` may be there at the moment of a crash state."""
        least = max((put for seq, put in self.promised if seq <= state.acked), default=0)
        most = sum(seq < state.seq for seq, _ in self.promised) + 1
        if not least <= number <= most:
            raise WrongNumber(f"{least} was promised, {number} is there")


def record(number: int, sectors: int = 1) -> bytes:
    """A number over some sectors, with a checksum."""
    body = struct.pack("<I", number) * (sectors * SECTOR // 4 - 1)
    return struct.pack("<I", zlib.crc32(body)) + body


def number_in(content: bytes) -> int:
    """The number of a record, 0 where it is not whole."""
    said, number = struct.unpack_from("<II", content)
    return number if said == zlib.crc32(content[4:]) else 0


class ForgetsAFlush(Toy):
    """A log, and a home that its last number goes to before the log is cleared: durably, it hopes.

    Right: a flush between the two.
    """

    home, log, slots = 0, 4096, 4
    places: ClassVar = {home: "home", log: "log"}

    def put(self, number: int) -> None:
        slot = (number - 1) % self.slots
        if slot == 0 and number > 1:
            self.disk.write(self.home, record(number - 1))
            if self.right:
                self.store.flush()
            self.disk.write_zeroes(self.log, self.slots * SECTOR)
            self.store.flush()
        self.disk.write(self.log + slot * SECTOR, record(number))
        self.store.flush()

    def read(self, disk: Any) -> int:
        places = [self.home, *(self.log + slot * SECTOR for slot in range(self.slots))]
        return max(number_in(disk.read(place, SECTOR)) for place in places)


class TrustsATornRecord(Toy):
    """Two slots in turn; the one with the higher number at its front is taken to be whole.

    Right: it is looked at whether the checksum fits.
    """

    mode = "torn"
    length = TORN_SECTORS * SECTOR

    def put(self, number: int) -> None:
        self.disk.write(number % 2 * self.length, record(number, TORN_SECTORS))
        self.store.flush()

    def read(self, disk: Any) -> int:
        slots = [disk.read(slot * self.length, self.length) for slot in range(2)]
        if self.right:
            return max(map(number_in, slots))
        newest = max(slots, key=lambda slot: struct.unpack_from("<I", slot, 4))
        front, back = struct.unpack_from("<I", newest, 4)[0], struct.unpack("<I", newest[-4:])[0]
        if front != back:
            raise WrongNumber(f"half of it is {front}, half of it is {back}")
        return int(front)


class ReliesOnOrder(Toy):
    """Three records to a put, one flush: the last one, it is thought, comes last to the disk.

    Right: a number counts once all three are there.
    """

    parts = 3

    def put(self, number: int) -> None:
        for part in range(self.parts):
            self.disk.write(self.place(number, part), record(number))
        self.store.flush()

    def place(self, number: int, part: int) -> int:
        return (number % 2 * self.parts + part) * SECTOR

    def tag(self, offset: int) -> str:
        return f"part {offset // SECTOR % self.parts}"

    def read(self, disk: Any) -> int:
        found = [self.read_slot(disk, slot) for slot in range(2)]
        if self.right:
            return max(parts[0] if len({*parts}) == 1 else 0 for parts in found)
        newest = max(found, key=lambda parts: parts[-1])
        if len({*newest}) > 1:
            raise WrongNumber(f"the parts are of {newest}")
        return newest[0]

    def read_slot(self, disk: Any, slot: int) -> list[int]:
        places = (self.place(slot, part) for part in range(self.parts))
        return [number_in(disk.read(place, SECTOR)) for place in places]


class RecoversOnce(Toy):
    """A number in two homes, and before these in a log that a recovery copies to them.

    Its recovery is whole if only it comes to its end. Right: it flushes the homes before the log is
    cleared, as a put does.
    """

    homes, log = (0, SECTOR), 4096
    places: ClassVar = {0: "first home", SECTOR: "second home", log: "log"}

    def put(self, number: int) -> None:
        self.disk.write(self.log, record(number))
        self.store.flush()
        self.bring_home(self.store, number, flushes=True)

    def bring_home(self, store: jrnl.Store, number: int, *, flushes: bool) -> None:
        for home in self.homes:
            store.volume.write(home, record(number))
        if flushes:
            store.flush()
        store.volume.write_zeroes(self.log, SECTOR)
        store.flush()

    def recover(self, store: jrnl.Store) -> None:
        number = number_in(store.volume.read(self.log, SECTOR))
        if number:
            self.bring_home(store, number, flushes=self.right)

    def read(self, disk: Any) -> int:
        first, second = (number_in(disk.read(home, SECTOR)) for home in self.homes)
        if first != second:
            raise WrongNumber(f"{first} in the first home, {second} in the second one")
        return first

    def check(self, state: Any) -> None:
        """A recovery that comes to its end."""
        with state.fork() as fork:
            self.recover(fork)
            self.hold(state, self.read(fork.volume))

    def check_of_recovery(self, outer: Any) -> Any:
        """What a state of a recovery of `outer` has to be: one that a second recovery mends."""

        def check(state: Any) -> None:
            with state.fork() as fork:
                self.recover(fork)
                self.hold(outer, self.read(fork.volume))

        return check


TOYS: list[type[Toy]] = [ForgetsAFlush, TrustsATornRecord, ReliesOnOrder, RecoversOnce]
