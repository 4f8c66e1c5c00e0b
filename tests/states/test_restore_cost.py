"""A restore looks at what was written since, whatever the volume's size; counted, never timed."""

from __future__ import annotations

import random

import numpy as np
import pytest

import jrnl

MIB = 1 << 20
BLOCK = 4096
SIZES = (4 * MIB, 24 * MIB)


def filled(store: jrnl.Store) -> bytes:
    """Write something everywhere; return the first MiB."""
    piece = random.Random(1).randbytes(65536)
    for start in range(0, store.volume.size, len(piece)):
        store.volume.write(start, piece)
    return store.volume.read(0, MIB)


def made(place: str, size: int, tmp_path, **options) -> jrnl.Store:
    path = None if place == "memory" else tmp_path / f"{size}.jrnl"
    return jrnl.create(path, size=size, **{"journal": "2MiB", **options})


def looked_at(store: jrnl.Store, act) -> int:
    """How many bytes are compared with production while `act` runs."""
    before = store._engine.compared_bytes
    act()
    return store._engine.compared_bytes - before


@pytest.mark.parametrize("place", ["memory", "disk"])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("base", ["complete", "live", "production"])
def test_one_small_write_is_one_small_comparison(place, size, base, tmp_path):
    with made(place, size, tmp_path) as store:
        before = filled(store)
        if base != "production":
            snapshot = store.snapshot("s")
            if base == "complete":
                snapshot.wait()
        mark = store.mark("here")
        store.volume.write(12345, b"other" * 13)
        recovery = store.recover(mark, base="production" if base == "production" else "s")
        planned = recovery.plan.compared
        assert looked_at(store, lambda: recovery.restore(dry_run=True)) == planned
        assert looked_at(store, recovery.restore) == planned <= 1024
        assert store.volume.read(0, MIB) == before
        assert store.recover(mark).restore().bytes == 0


@pytest.mark.parametrize("place", ["memory", "disk"])
@pytest.mark.parametrize("images", ["before", "both", "after"])
@pytest.mark.parametrize("size", SIZES)
def test_a_snapshot_older_than_the_window_costs_the_blocks_written_since(
    place, images, size, tmp_path
):
    if place == "disk" and images == "before":
        images = "both"
    dice = random.Random(size)
    with made(place, size, tmp_path, images=images) as store:
        filled(store)
        store.snapshot("s").wait()
        wanted = store.digest("s")
        places = [dice.randrange(size // BLOCK) * BLOCK + 1000 for _ in range(20)]
        for k in range(4000):
            store.volume.write(places[k % 20], dice.randbytes(2000))
        assert store.window.oldest > store.snapshots["s"].seq
        plan = store.plan("s")
        assert plan.base == "s"
        assert plan.compared <= 20 * BLOCK
        assert looked_at(store, store.recover("s").restore) == plan.compared
        assert store.digest() == wanted
        store.volume.write(0, b"x")  # a restore's own entries count like any
        assert store.recover("s").plan.compared <= 21 * BLOCK


@pytest.mark.parametrize("place", ["memory", "disk"])
def test_a_snapshot_of_a_state_that_a_rewind_has_dropped(place, tmp_path):
    with made(place, 4 * MIB, tmp_path) as store:
        filled(store)
        mark = store.mark("m")
        store.volume.write(BLOCK, b"dropped")
        store.snapshot("s").wait()
        wanted = store.digest("s")
        store.volume.write(3 * BLOCK, b"dropped, too")
        store.rewind(mark)
        store.volume.write(5 * BLOCK, b"new")
        recovery = store.recover("s")
        assert 14 <= recovery.plan.compared <= 3 * BLOCK
        recovery.restore()
        assert store.digest() == wanted


@pytest.mark.parametrize("images", ["before", "after", "both"])
def test_a_restore_that_has_to_fold_first_looks_once(images):
    with made("memory", 4 * MIB, None, journal="64KiB", overflow="fold", images=images) as store:
        wanted = []
        for k in range(12):
            store.volume.write(k * BLOCK, bytes([k + 1]) * 3000)
            wanted.append(store.digest())
        recovery = store.recover(store.seq - 9)
        for k in range(12):
            store.volume.write(k * BLOCK, bytes([k + 101]) * 3000)
        before = {name: snapshot.seq for name, snapshot in store.snapshots.items()}
        compared = recovery.plan.compared
        assert looked_at(store, recovery.restore) == compared
        assert {name: snapshot.seq for name, snapshot in store.snapshots.items()} != before
        assert store.digest() == wanted[2]


def test_a_sparse_volume_of_8_tib_costs_what_was_written(tmp_path):
    with jrnl.create(size="8TiB", journal="1MiB") as store:
        for k in range(50):
            store.volume.write(k << 37, b"first")
        store.snapshot("s").wait()
        for k in range(2000):
            store.volume.write(k % 50 << 37, bytes([k % 256]) * 1000)
        assert store.window.oldest > store.snapshots["s"].seq
        recovery = store.recover("s")
        assert looked_at(store, recovery.restore) <= 50 * BLOCK
        assert store.volume.read(49 << 37, 6) == b"first\0"


def test_what_cannot_be_known_is_looked_at_whole():
    """A header that leaves the journal damaged may have been of any entry."""
    with jrnl.create(size=MIB, journal="64KiB") as store:
        store.volume.write(0, bytes(range(256)) * 64)
        store.snapshot("s").wait()
        wanted = store.digest("s")
        for k in range(5):
            store.volume.write(k * 8192, b"x" * 5000)
        store._engine._damage_header(2, 30, 1)
        for k in range(100):
            store.volume.write(600_000, bytes([k]) * 5000)
        recovery = store.recover("s")
        assert recovery.plan.compared >= 65536
        recovery.restore()
        assert store.digest() == wanted


def test_everything_is_compared_where_that_is_asked_for():
    memory = bytearray(b"as it was".ljust(MIB, b"."))
    with jrnl.wrap(memory) as store:
        store.snapshot("s").wait()
        wanted = store.digest()
        memory[500_000] ^= 1  # behind the store's back
        store.volume.write(7, b"other")
        recovery = store.recover("s")
        assert recovery.restore(dry_run=True).bytes == 5
        assert recovery.restore(dry_run=True, everything=True).bytes == 6
        assert looked_at(store, lambda: recovery.restore(everything=True)) == MIB
        assert store.digest() == wanted
        with pytest.raises(jrnl.InvalidType):
            recovery.restore(everything=1)


@pytest.mark.parametrize("place", ["memory", "disk"])
def test_an_exact_diff_reads_what_was_written_between(place, tmp_path):
    """Also where only a snapshot holds one of the states."""
    with made(place, 4 * MIB, tmp_path) as store:
        filled(store)
        store.snapshot("s").wait()
        for k in range(3000):
            store.volume.write(BLOCK + k % 3, bytes([k % 255]) * 2000)
        assert store.window.oldest > store.snapshots["s"].seq
        extents = store.diff("s", store.seq)
        assert extents["offset"].tolist() == [BLOCK] or extents["offset"].min() >= BLOCK
        assert (extents["offset"] + extents["length"]).max() <= BLOCK + 2002


@pytest.mark.parametrize("size", SIZES)
def test_the_planner_counts_what_a_restore_compares(size):
    """Little lies between an old snapshot and the state, and all of it was never written since."""
    with jrnl.create(size=size, journal="8MiB") as store:
        filled(store)
        store.snapshot("early").wait()
        store.volume.write(0, b"x" * 60)
        mark = store.mark("m")
        store.volume.write(10 * BLOCK, b"y" * 100)
        plan = store.plan(mark)
        assert (plan.base, plan.bytes, plan.compared) == ("production", 100, 100)
        bridge = store.plan(mark, base="early")
        assert (bridge.bytes, bridge.compared) == (60, 160)


def test_entries_of_a_restore_are_no_longer_than_a_mib():
    with jrnl.create(size="8MiB", journal="64MiB") as store:
        store.volume.write(0, b"x" * (8 * MIB))
        assert store.recover(0).restore().bytes == 8 * MIB
        lengths = store.journal.entries["length"][1:]
        assert np.all(lengths == MIB)
        assert lengths.size == 8


@pytest.mark.parametrize("place", ["memory", "disk"])
@pytest.mark.parametrize("seed", range(4))
def test_restores_from_any_base_are_exact_through_wraps_and_rewinds(place, seed, tmp_path):
    dice = random.Random(seed)
    size = 100_000
    with made(place, size, tmp_path, journal="64KiB") as store:
        states, kept = {0: bytes(size)}, {}
        now = bytearray(size)

        def write() -> None:
            offset = dice.randrange(size)
            length = min(dice.choice((1, 64, 700, 5000)), size - offset)
            data = dice.randbytes(length)
            now[offset : offset + length] = data
            states[store.volume.write(offset, data)] = bytes(now)

        for step in range(300):
            choice = dice.random()
            if choice < 0.75:
                write()
            elif choice < 0.82 and len(kept) < 6:
                name = f"s{step}"
                snapshot = store.snapshot(name)
                if dice.random() < 0.7:
                    snapshot.wait()
                kept[name] = bytes(now)
            elif choice < 0.9 and kept:
                name = dice.choice(sorted(kept))
                with store.recover(name) as recovery:
                    planned = recovery.plan.compared
                    assert looked_at(store, recovery.restore) == planned
                now[:] = kept[name]
                assert store.volume.read(0, size) == now
                states[store.seq] = bytes(now)
            elif choice < 0.95:
                seqs = [seq for seq in states if seq >= store.window.oldest]
                to = dice.choice(seqs[-8:]) if seqs else store.seq
                if seqs:
                    result = store.rewind(to)
                    now[:] = states[to]
                    states = {seq: state for seq, state in states.items() if seq <= to}
                    states[result.seq] = bytes(now)
                    assert store.volume.read(0, size) == now
            elif kept and dice.random() < 0.5:
                name = dice.choice(sorted(kept))
                store.snapshots[name].delete()
                del kept[name]
        for name, state in kept.items():
            store.recover(name).restore()
            assert store.volume.read(0, size) == state
