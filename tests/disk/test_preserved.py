"""What a recovery on disk preserves: what is overwritten, in a file, never the volume."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest

import jrnl
from jrnl import CorruptionError

MIB = 1 << 20
BLOCK = 4096
SIZES = (4 * MIB, 24 * MIB)


def filled(path: Path, size: int = 4 * MIB, **options) -> jrnl.Store:
    store = jrnl.create(path, size=size, **{"journal": "2MiB", **options})
    piece = random.Random(size).randbytes(65536)
    for start in range(0, size, len(piece)):
        store.volume.write(start, piece)
    store.flush()
    return store


def bytes_beside(path: Path) -> int:
    """What the files take that hold copies, patches and preserved states."""
    kinds = ("snapshot-", "recovery-", "production-")
    return sum(file.stat().st_blocks * 512 for file in path.iterdir()
               if file.name.startswith(kinds))  # fmt: skip


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("how", ["restore", "close"])
def test_it_costs_what_differs_not_the_volume(size, how, tmp_path):
    path = tmp_path / "s.jrnl"
    with filled(path, size) as store:
        wanted = store.digest()
        mark = store.mark()
        store.volume.write(12345, b"x" * 64)
        recovery = store.recover(mark)
        if how == "restore":
            assert recovery.restore().bytes == 64
            assert store.digest() == wanted
        assert bytes_beside(path) <= 8 * BLOCK
    assert bytes_beside(path) <= 8 * BLOCK
    with jrnl.open(path) as store:
        assert not store.problems
        (recovery,) = store.recoveries.values()
        recovery.again().restore()
        assert store.digest() == wanted
        assert bytes_beside(path) <= 16 * BLOCK


@pytest.mark.parametrize("size", SIZES)
def test_a_restore_waits_for_no_copy_of_a_snapshot(size, tmp_path, monkeypatch):
    monkeypatch.setattr("jrnl.snapshot_copier.automatic", False)
    path = tmp_path / "s.jrnl"
    with filled(path, size) as store:
        snapshot = store.snapshot("s")
        wanted = store.digest()
        store.volume.write(7, b"other")
        recovery = store.recover("s")
        recovery.restore()
        assert store.digest() == wanted
        assert not snapshot.complete
        assert bytes_beside(path) <= 8 * BLOCK
        snapshot.wait()
        snapshot.delete()
        store.volume.write(7, b"again")
    with jrnl.open(path) as store:
        (recovery,) = store.recoveries.values()
        recovery.again().restore()
        assert store.digest() == wanted


def lap(store: jrnl.Store, places: list[int], dice: random.Random) -> None:
    """Write once through the journal."""
    for _ in range(1200):
        store.volume.write(dice.choice(places), dice.randbytes(dice.randrange(1, 4000)))


@pytest.mark.parametrize("seed", range(3))
def test_again_is_exact_after_the_window_has_moved_on(seed, tmp_path):
    """And what it takes is what was overwritten since, each block once."""
    dice = random.Random(seed)
    path = tmp_path / "s.jrnl"
    places = [dice.randrange(4 * MIB // BLOCK) * BLOCK + dice.randrange(5000) for _ in range(30)]
    places = [min(place, 4 * MIB - 9000) for place in places]

    store = filled(path)
    lap(store, places, dice)
    mark = store.seq
    wanted = store.digest()
    for _ in range(5):
        store.volume.write(dice.choice(places), dice.randbytes(100))
    preserved = store.digest()
    recovery = store.recover(mark)
    before = store.seq
    if seed == 1:
        lap(store, places, dice)  # some of it has left before anything is durable
    recovery.restore()
    assert store.digest() == wanted
    number = recovery.id
    for life in range(4):
        lap(store, places, dice)
        assert store.window.oldest > before
        assert store.recoveries[number].again().read(0, MIB) == recovery.read(0, MIB)
        with store.recoveries[number].again() as again:
            again.restore()
        assert store.digest() == wanted
        if life == 2:
            store.snapshot("s").wait()
        content = recovery.read(0, 4 * MIB)
        store.close()
        with jrnl.open(path, mode="r") as shown:
            assert shown.recoveries[number].read(0, 4 * MIB) == content
        store = jrnl.open(path)
        assert not store.problems
        recovery = store.recoveries[number]
    assert bytes_beside(path) <= 2 * 4 * MIB  # the snapshot, and less
    kept = [file for file in path.iterdir() if file.name.endswith(".kept")]
    assert 0 < sum(file.stat().st_blocks * 512 for file in kept) <= 90 * 3 * BLOCK
    base = recovery._preserved
    content = base.read(0, 4 * MIB)
    with jrnl.create(size=4 * MIB) as other:
        other.volume.write(0, content)
        assert other.digest() == preserved
    recovery.close()
    assert not [file for file in path.iterdir() if file.name.endswith(".kept")]
    store.close()
    with jrnl.open(path) as store:
        assert not store.problems
        assert not store.recoveries


@pytest.mark.parametrize("again", [False, True])
def test_a_rewind_to_before_what_is_preserved_leaves_it_exact(again, tmp_path):
    path = tmp_path / "s.jrnl"
    with filled(path) as store:
        early = store.seq
        start = store.digest()
        store.volume.write(0, b"one" * 2000)
        mark = store.seq
        wanted = store.digest()
        store.volume.write(3000, b"two" * 2000)
        store.recover(mark).restore()
    with jrnl.open(path) as store:
        (recovery,) = store.recoveries.values()
        store.volume.write(100_000, b"three" * 2000)
        store.rewind(early)
        assert store.digest() == start
        store.volume.write(2000, b"four" * 2000)
        if again:
            for k in range(1500):
                store.volume.write(k % 7 * BLOCK, bytes([k % 256]) * 3000)
        with recovery.again() as other:
            other.restore()
        assert store.digest() == wanted
        store.rewind(store.journal.entries["seq"][-3])
    with jrnl.open(path) as store:
        assert not store.problems
        (recovery,) = store.recoveries.values()
        recovery.again().restore()
        assert store.digest() == wanted


def test_of_two_recoveries_the_other_keeps_what_both_preserve(tmp_path):
    path = tmp_path / "s.jrnl"
    with filled(path) as store:
        wanted = store.digest()
        store.volume.write(0, b"x" * 100)
        one = store.recover(store.seq - 1)
        two = one.again()
        one.restore()
        two.restore()
    with jrnl.open(path) as store:
        one, two = store.recoveries.values()
        three = two.again()
        one.close()
        two.close()  # the third is nowhere on disk, and needs it still
        for k in range(1500):
            store.volume.write(k % 50 * BLOCK, bytes([k % 256]) * 3000)
        assert three.again().restore().bytes
        assert store.digest() == wanted
        three.close()


@pytest.mark.parametrize("place", ["head", "row", "content", "cut", "gone"])
def test_damage_to_the_file_is_an_error_of_its_recovery_alone(place, tmp_path):
    path = tmp_path / "s.jrnl"
    with filled(path) as store:
        now = store.digest()
        store.volume.write(0, b"x" * 100)
        recovery = store.recover(store.seq - 1)
        recovery.restore()
        for k in range(1500):
            store.volume.write(k % 50 * BLOCK, bytes([k % 256]) * 3000)
    (file,) = (file for file in path.iterdir() if file.name.endswith(".kept"))
    content = bytearray(file.read_bytes())
    at = {"head": 3, "row": 30, "content": BLOCK + 700}.get(place)
    if at is not None:
        content[at] ^= 4
        file.write_bytes(content)
    elif place == "cut":
        file.write_bytes(content[: 2 * BLOCK])
    else:
        file.unlink()
    with jrnl.open(path) as store:
        if place == "content":
            (found,) = store.recoveries.values()
            with pytest.raises(CorruptionError):
                found.read(0, 4 * MIB)
            found.close()
        else:
            assert not store.recoveries
            assert any("preserve" in problem for problem in store.problems)
            store.delete_recovery(1)
        assert store.digest() != now
        assert store.verify().ok or store.problems
    with jrnl.open(path) as store:
        assert not store.problems


def test_a_kill_leaves_what_was_preserved(tmp_path):
    """In the middle of laps; what the superblocks say counts."""
    path = tmp_path / "s.jrnl"
    store = filled(path)
    wanted = store.digest()
    store.volume.write(5 * BLOCK, b"x" * 100)
    store.recover(store.seq - 1).restore()
    for k in range(3000):
        store.volume.write(k * 3 % 80 * BLOCK, bytes([k % 256]) * 3000)
        if k % 500 == 499:
            other = tmp_path / f"{k}.jrnl"
            shutil.copytree(path, other)
            with jrnl.open(other) as found:
                assert not found.problems
                (recovery,) = found.recoveries.values()
                recovery.again().restore()
                assert found.digest() == wanted
    store.close()
