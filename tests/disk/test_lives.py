"""What must outlive a store on disk that is closed or killed: one test for each way to lose it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import jrnl
from jrnl import JournalFull
from tests.model.disk_twin import DiskTwin
from tests.model.twin import Clock


def killed(store: jrnl.Store, path: Path, **options) -> tuple[jrnl.Store, Path]:
    """The store as another process finds it once this one is killed, and where."""
    other = path.with_name(path.name + "x")
    shutil.copytree(path, other)
    store.close()
    return jrnl.open(other, **options), other


def small(path: Path, **options) -> jrnl.Store:
    return jrnl.create(path, size="64KiB", overlay="64KiB", **{"journal": "64KiB", **options})


def test_a_rewind_into_a_group_is_there_however_often_it_is_killed(folder):
    """The first group keeps some of its entries; the second one's take the slots of the others."""
    path = folder / "s"
    store = small(path)
    for k in range(8):
        store.volume.write(0, bytes([k + 1]) * 600)
    store.flush()
    store.rewind(4)
    for k in range(6):
        store.volume.write(100, bytes([k + 101]) * 300)
    store.flush()
    states = {k: store.digest(k) for k in (1, 2, 3, 4, 10, 12, 14, 16, 17)}
    store, path = killed(store, path)
    store.rewind(12)
    states = {k: digest for k, digest in states.items() if k <= 12}
    for _ in range(3):
        assert {k: store.digest(k) for k in states} == states
        store.volume.write(0, b"more")
        store, path = killed(store, path)
        assert not store.problems
    for _ in range(2):
        store.close()
        store = jrnl.open(path)
        assert not store.problems
        assert {k: store.digest(k) for k in states} == states
        assert store.verify().ok
    store.close()


@pytest.mark.parametrize("back", [1, 2, 5])
@pytest.mark.parametrize("sync", ["flush", "always"])
def test_a_full_log_that_refuses_can_be_rewound_and_opened(folder, back, sync):
    path = folder / "s"
    store = small(path, overflow="refuse", sync=sync)
    contents = [store.digest()]
    with pytest.raises(JournalFull):
        while True:
            store.volume.write(store.seq % 7 * 512, bytes([store.seq + 1]) * 512)
            contents.append(store.digest())
    for _ in range(3):
        seqs = store.journal.entries["seq"]
        to = int(seqs[max(0, len(seqs) - 1 - back)])
        wanted = store.digest(to)
        store.rewind(to)
        assert store.digest() == wanted == store.digest(to)
        store, path = killed(store, path)
        assert store.digest() == wanted == store.digest(to)
        with pytest.raises(JournalFull):
            while True:
                store.volume.write(0, bytes([store.seq % 256]) * 512)
    store.rewind(1)
    assert store.digest() == contents[1]
    store.close()


def test_the_seq_of_a_replaced_rewind_is_known_after_a_kill(folder):
    path = folder / "s"
    store = small(path)
    write = store.volume.write
    write(0, b"1")
    write(0, b"2")
    store.rewind(1)  # entry 3
    write(0, b"4")
    write(0, b"5")
    store.rewind(4)  # entry 6
    write(0, b"7")
    store.rewind(6)  # entry 8 takes its place
    store.flush()
    wanted = store.digest(6)
    store, path = killed(store, path)
    assert store.digest(6) == wanted == store.digest(8)
    store.close()


@pytest.mark.parametrize("kills", [False, True])
def test_the_mark_of_the_oldest_state_keeps_its_name(folder, kills):
    path = folder / "s"
    store = small(path, journal="16KiB", sync="always")
    for k in range(200):
        store.mark(f"mark {k}")
        if k % 3:
            store.volume.write(0, bytes([k]) * 512 * (k % 3))
        if k > 50 and min(mark.seq for mark in store.marks.values()) == store.window.oldest:
            break
    oldest = min(store.marks.values(), key=lambda mark: mark.seq)
    assert oldest.seq == store.window.oldest
    marks = dict(store.marks)
    if kills:
        store, path = killed(store, path)
    else:
        store.close()
        store = jrnl.open(path)
    assert store.marks == marks
    assert oldest.name in marks
    store.close()


def test_a_savepoint_leaves_no_name(folder):
    """Not even one that starts at the window's oldest state."""
    path = folder / "s"
    store = small(path)
    savepoint = store.savepoint("name")
    savepoint.__enter__()
    store.volume.write(0, b"x")
    store.snapshot("snapshot")  # the superblocks are written
    store, path = killed(store, path)
    assert store.marks == {}
    store.close()


def test_a_rewind_has_the_time_that_it_had(folder):
    path, clock = folder / "s", Clock()
    store = small(path, clock=clock)
    store.volume.write(0, b"1")
    store.snapshot("s")
    store.volume.write(0, b"2")
    clock.now += 1000
    store.rewind(1)
    clock.now += 1000
    store.volume.write(0, b"3")
    store.snapshots["s"].delete()  # the superblocks are written; the REWIND is in no group yet
    entry = store.journal.entries[1]
    store, path = killed(store, path, clock=clock)
    assert store.journal.entries[1] == entry
    store.close()


@pytest.mark.parametrize("how", ["close", "drop", "digest", "again"])
def test_what_a_recovery_preserved_is_removed_with_it(folder, how):
    path = folder / "s"
    with small(path, images="after") as store:
        names = sorted(file.name for file in path.iterdir())
        for k in range(5):
            store.volume.write(0, bytes([k]) * 4096)
            if how == "digest":
                store.digest()
                continue
            recovery = store.recover(store.seq)
            if how == "again":
                with recovery, recovery.again() as other:
                    assert other.read(0, 1) == bytes([k])
            if how == "close":
                recovery.close()
            del recovery
        copies = [file for file in path.iterdir() if file.name.startswith("snapshot-")]
        assert len(copies) <= (2 if how == "drop" else 0)
    assert sorted(file.name for file in path.iterdir()) == names


def test_a_store_that_is_read_only_is_recovered_from_after_images(folder):
    path = folder / "s"
    with small(path, images="after") as store:
        store.volume.write(0, b"here")
        wanted = store.digest()
    with jrnl.open(path, "r") as store:
        assert store.digest() == wanted
        with store.recover(1) as recovery:
            assert recovery.read(0, 4) == b"here"


@pytest.mark.parametrize("images", ["both", "after"])
def test_a_snapshot_is_restored_whole_after_a_kill(folder, images):
    """What the log's tail has written since must be looked at, too."""
    path = folder / "s"
    store = small(path, images=images)
    store.volume.write(0, b"first")
    store.snapshot("snapshot")
    wanted = store.digest()
    store.volume.write(40000, b"second")
    store.flush()
    store, path = killed(store, path)
    store.recover("snapshot").restore()
    assert store.digest() == wanted
    store.close()


@pytest.mark.parametrize("lives", [1, 3])
@pytest.mark.parametrize("images", ["both", "after"])
@pytest.mark.parametrize("length", [100, 5000])
def test_seven_eighths_of_a_log_stay(images, length, lives):
    """Once it has wrapped: of its bytes, or of its headers, whichever is full first."""
    twin = DiskTwin([65536], 2 << 20, images)
    journal = twin.store.journal
    least = 1.0
    for _ in range(lives):
        data = bytes(range(256)) * 20
        for k in range(6000 if length == 100 else 1500):
            twin.store.volume.write(k * 997 % 60000, data[:length])
            if k % 10 == 9:
                twin.store.flush()
            if k % 100 == 0 and journal.entries[0]["seq"] > 1:
                slots = len(journal.entries) / twin.model.slots
                least = min(least, max(slots, journal.used / journal.capacity))
        twin.store.close()
        twin.store = jrnl.open(twin.path, overlay=twin.overlay)
        journal = twin.store.journal
    assert 7 / 8 <= least < 1
    twin.store.close()
    shutil.rmtree(twin.folder)


def test_a_copy_that_went_with_one_recovery_is_made_again_for_another(tmp_path):
    """Both preserve the same production; the first one took its copy with it."""
    path = tmp_path / "s"
    with jrnl.create(path, size=8192, journal="64KiB") as store:
        store.volume.write(0, b"one")
        store.volume.write(0, b"two")
        first = store.recover(1)
        second = first.again()
        first.restore()
        first.close()
        third = second.again()
        second.close()
        assert third.read(0, 3) == b"one"
    with jrnl.open(path) as store:
        assert store.problems == []
        assert [found.read(0, 3) for found in store.recoveries.values()] == [b"one"]
        (found,) = store.recoveries.values()
        assert found.read(4000, 4192) == bytes(4192)
        assert found.again().read(0, 3) == b"one"


def test_a_recovery_that_cannot_be_taken_up_can_be_given_up(tmp_path):
    path = tmp_path / "s.jrnl"
    with jrnl.create(path, size=8192, journal="1MiB") as store:
        for k in range(4):
            store.volume.write(k * 100, bytes([k + 1]) * 150)
        broken, whole = store.recover(1), store.recover(2)
        broken.restore()
        whole.restore()
    patches = path / f"recovery-{broken.id}.patches"
    content = bytearray(patches.read_bytes())
    content[-1] ^= 1
    patches.write_bytes(content)
    with jrnl.open(path) as store:
        assert list(store.recoveries) == [whole.id]
        assert f"recovery {broken.id}" in store.problems[0]
        with pytest.raises(jrnl.InvalidArgument, match=f"there is {whole.id}"):
            store.delete_recovery(77)
        store.delete_recovery(broken.id)
        assert not patches.exists()
        with pytest.raises(jrnl.InvalidArgument):
            store.delete_recovery(broken.id)
    with jrnl.open(path) as store:
        assert not store.problems
        store.delete_recovery(whole.id)
        assert not store.recoveries
    assert not [file for file in path.iterdir() if file.name.startswith(("recovery", "snapshot"))]
    with jrnl.open(path) as store:
        assert store.problems == []
    with jrnl.create(size=4096) as store:
        recovery = store.recover(0)
        store.delete_recovery(recovery.id)
        assert not store.recoveries
