"""The simulated disk itself: what it keeps, what it may lose, how its syncs fail."""

from __future__ import annotations

import random

import pytest

from tests.crash import disk as sim
from tests.crash.disk import NEW, OLD, SECTOR, Choices, CloningPlace, SimDisk, SimFile


def a_file(size: int = 4 * SECTOR) -> tuple[SimDisk, SimFile]:
    """A file whose size and name are durable."""
    disk = SimDisk()
    place = disk.place()
    disk.change(sim.Change(sim.ROOT, "link", "f", disk.new_node(folder=False)))
    file = place.file("f")
    file.truncate(size)
    file.sync()
    place.sync()
    return disk, file


def block(value: int, length: int = SECTOR) -> bytes:
    return bytes([value]) * length


def after(disk: SimDisk, *choice: int) -> bytes:
    return disk.moment().crashed(choice).read("f")


def test_an_unsynced_write_may_be_lost_and_a_synced_one_not():
    disk, file = a_file()
    assert file.pwrite(100, memoryview(b"abc")) == 3
    assert file.pread(99, 5) == b"\0abc\0"
    assert after(disk, OLD) == bytes(4 * SECTOR)
    assert after(disk, NEW)[100:103] == b"abc"
    file.sync()
    assert disk.changes == []
    assert after(disk)[100:103] == b"abc"


def test_sectors_are_lost_one_by_one_and_the_last_one_kept_counts():
    disk, file = a_file()
    file.pwrite(0, block(1, 2 * SECTOR))
    file.pwrite(0, block(2))
    assert len(disk.changes) == 3
    assert after(disk, NEW, OLD, OLD)[:1024] == block(1) + bytes(SECTOR)
    assert after(disk, OLD, NEW, NEW)[:1024] == block(2) + block(1)
    assert after(disk, NEW, NEW, OLD)[:1024] == block(1, 1024)


def test_a_torn_sector_is_each_of_its_kinds():
    disk, file = a_file()
    for value in (1, 2):
        file.pwrite(0, block(value))
        file.sync()
    file.pwrite(0, block(3))
    assert after(disk, sim.ZERO)[:SECTOR] == bytes(SECTOR)
    assert after(disk, sim.GARBAGE)[:SECTOR] == block(3 ^ 0xA5)
    assert after(disk, sim.HEAD)[:SECTOR] == block(3, 256) + block(2, 256)
    assert after(disk, sim.TAIL)[:SECTOR] == block(2, 256) + block(3, 256)
    assert after(disk, sim.STALE)[:SECTOR] == block(1)


def test_a_file_that_ends_inside_a_sector():
    disk, file = a_file(700)
    file.pwrite(690, block(7, 10))
    assert file.size == 700
    assert after(disk, NEW) == bytes(690) + block(7, 10)
    assert len(after(disk, sim.GARBAGE)) == 700
    file.pwrite(695, block(8, 20))
    assert file.size == 715
    assert len(after(disk, NEW, OLD, OLD)) == 700
    assert after(disk, NEW, NEW, NEW) == bytes(690) + block(7, 5) + block(8, 20)
    file.truncate(10)
    assert len(after(disk, *(NEW,) * 4)) == 10


def test_names_are_durable_by_their_folder_and_bytes_by_their_file():
    disk = SimDisk()
    root = disk.place()
    folder = root.make("new")
    disk.change(sim.Change(folder.node, "link", "f", disk.new_node(folder=False)))
    file = folder.file("f")
    file.pwrite(0, b"x")
    file.sync()
    folder.sync()
    assert not disk.moment().crashed((OLD,)).exists("new")
    root.rename("new", "s")
    assert disk.moment().crashed((OLD, NEW)).read("s/f") == b"x"
    assert not disk.moment().crashed((NEW, OLD)).exists("s")
    root.sync()
    root.remove("s")
    assert root.names() == []
    left = disk.moment().crashed((NEW, OLD))
    assert left.exists("s")
    assert not left.exists("s/f")


@pytest.mark.parametrize("how", sim.SYNC_FAILURES)
def test_a_failed_sync(how: str):
    disk, file = a_file()
    disk.before = lambda op: how if op.kind == "sync" else None
    file.pwrite(0, block(1, 2 * SECTOR))
    with pytest.raises(OSError, match="Input/output"):
        file.sync()
    disk.before = None
    assert disk.changes == []
    saved = after(disk)[: 2 * SECTOR]
    assert (saved == block(1, 2 * SECTOR)) == (how == "late")
    seen = file.pread(0, 2 * SECTOR)
    assert seen == (saved if how == "revert" else block(1, 2 * SECTOR))
    next_life = disk.survivor().place().file("f")
    assert next_life.pread(0, 2 * SECTOR) == seen
    file.drop_cache()
    assert file.pread(0, 2 * SECTOR) == saved
    file.pwrite(0, block(2, 2 * SECTOR))
    file.sync()
    assert after(disk)[: 2 * SECTOR] == block(2, 2 * SECTOR)
    assert next_life.pread(0, 2 * SECTOR) == seen


def test_a_hook_sees_operations_fails_them_and_makes_writes_short():
    disk, file = a_file()
    seen = []

    def hook(op: sim.Op) -> int | None:
        seen.append((op.kind, op.name, op.offset, len(op.data)))
        if op.offset == SECTOR:
            raise OSError(28, "full")
        return 3 if op.kind == "pwrite" else None

    disk.before = hook
    assert file.pwrite(0, b"abcdef") == 3
    with pytest.raises(OSError, match="full"):
        file.pwrite(SECTOR, b"abc")
    file.sync()
    assert seen == [("pwrite", "f", 0, 6), ("pwrite", "f", SECTOR, 3), ("sync", "f", 0, 0)]
    assert after(disk)[:6] == b"abc\0\0\0"
    disk.before = lambda op: 0
    assert file.pwrite(0, b"abc") == 0


def test_all_subsets_are_counted_and_numbers_find_them_again():
    disk, file = a_file(16 * SECTOR)
    file.pwrite(0, b"".join(block(k + 1) for k in range(12)))
    choices = disk.moment().choices()
    assert len(choices) == 2**12 + 5 + 12 * 5 * 2
    assert len(set(choices)) > 2**12
    fingerprints = {disk.moment().crashed(choice).fingerprint() for choice in choices}
    assert len(fingerprints) > 2**12
    picked = list(choices.picked(10, random.Random(1)))
    assert picked[0] == (0, (OLD,) * 12)
    assert (2**12 - 1, (NEW,) * 12) in picked
    assert all(choices[number] == choice for number, choice in picked)
    assert len(list(choices.picked(10**6, random.Random(1)))) == len(choices)


def test_beyond_the_subsets_there_are_prefixes_drops_keeps_pairs_and_random_ones():
    disk, file = a_file(32 * SECTOR)
    file.pwrite(0, block(1, 20 * SECTOR))
    choices = Choices(disk.changes, samples=9)
    subsets = 21 + 20 + 20 + 190 + 9
    assert len(choices) == subsets + 5 + 20 * 5 * 2
    seen = [choices[i] for i in range(subsets)]
    assert seen[20] == (NEW,) * 20
    assert {sum(choice) for choice in seen[21:41]} == {19}
    assert {sum(choice) for choice in seen[41:61]} == {1}
    assert {sum(choice) for choice in seen[61:251]} == {18}
    assert all(len(choice) == 20 for choice in choices)


def test_a_fingerprint_is_of_what_is_durable():
    disk, file = a_file()
    empty = disk.fingerprint()
    file.pwrite(0, b"x")
    assert disk.fingerprint() == empty
    assert disk.moment().crashed((OLD,)).fingerprint() == empty
    saved = disk.moment().crashed((NEW,)).fingerprint()
    file.sync()
    assert disk.fingerprint() == saved != empty
    file.pwrite(0, b"\0")
    file.sync()
    assert disk.fingerprint() == empty


def test_moments_and_crash_states_do_not_follow_the_disk():
    disk, file = a_file()
    file.pwrite(0, b"x")
    moment = disk.moment()
    left = moment.crashed((NEW,))
    file.pwrite(0, b"y")
    file.sync()
    assert moment.crashed((OLD,)).read("f")[:1] == b"\0"
    assert left.read("f")[:1] == b"x"
    left.place().file("f").pwrite(0, b"z")
    assert disk.read("f")[:1] == b"y"
    assert not moment.touches("g")
    assert moment.touches("f")


def test_a_clone_is_whole_or_not_there():
    disk, file = a_file()
    file.pwrite(0, b"x")
    place = CloningPlace(disk, sim.ROOT)
    assert not disk.place().clone("f", "g")
    assert place.clone("f", "g")
    assert disk.read("g") == disk.read("f")
    assert disk.moment().crashed((NEW, NEW, OLD)).read("g") == b""
    assert disk.moment().crashed((NEW, NEW, NEW)).read("g")[:1] == b"x"
