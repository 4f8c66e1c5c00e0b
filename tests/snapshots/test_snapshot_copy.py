"""Snapshots that begin as live images, and are copied behind the writer's back."""

from __future__ import annotations

import gc
import json
import os
import random
import shutil
import threading
import time
import weakref

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jrnl
from jrnl import Kind, snapshot_copier
from jrnl.disk.file_copy import FileCopy
from jrnl.disk.folder import Folder
from tests.model.disk_twin import DiskTwin
from tests.model.twin import Twin

SIZES = (300_000, 70_001)
CHUNK = 65536


def stepper(store):
    return store._session.copier


def make_twin(on_disk: bool, overflow: str = "evict", journal: int = 1 << 18):
    if on_disk:
        return DiskTwin(SIZES, journal, "both", overflow, "flush")
    return Twin(SIZES, journal, "before", True, overflow)


def end(twin) -> None:
    if isinstance(twin, DiskTwin):
        twin.discard()
    else:
        twin.store.close()


def do_anything(twin, rng: random.Random, names: list[str]) -> None:
    """One operation, that a copy under way has to stand."""
    volume = rng.randrange(len(SIZES))
    length = rng.choice((1, 513, 4096, 9000))
    offset = rng.randrange(SIZES[volume] - length)
    what = rng.random()
    if what < 0.55:
        twin.write(volume, offset, rng.randbytes(length))
    elif what < 0.65:
        twin.zero(Kind.DISCARD, volume, offset, length)
    elif what < 0.7:
        twin.edit(volume, offset, rng.randbytes(length), fails=rng.random() < 0.5)
    elif what < 0.75:
        twin.flush()
    elif what < 0.8:
        twin.rewind(max(twin.oldest, twin.newest - rng.randrange(12)))
    elif what < 0.85 and len(names) < 4:
        names.append(f"s{twin.newest}-{len(names)}-{rng.random()}")
        twin.snapshot(names[-1])
    elif what < 0.86 and names and len(twin.views) < 3:
        twin.view(rng.choice(names))
    elif what < 0.87 and twin.views:
        twin.close_view(rng.choice(twin.views))
    elif what < 0.88 and names:
        twin.delete(names.pop(rng.randrange(len(names))))
    elif what < 0.92 and names and len(twin.recoveries) < 3:
        twin.recover(rng.choice(names), rng.choice([None, rng.choice(names)]))
    elif what < 0.95 and twin.recoveries:
        twin.restore(rng.choice(twin.recoveries))
    elif twin.recoveries:
        twin.close_recovery(rng.choice(twin.recoveries))


@pytest.mark.parametrize("on_disk", [False, True])
@settings(max_examples=15)
@given(dice=st.integers(0, 1 << 32), overflow=st.sampled_from(["evict", "evict", "refuse"]))
def test_a_snapshot_is_its_state_at_every_step_of_its_copy(on_disk, dice, overflow):
    rng = random.Random(dice)
    twin = make_twin(on_disk, overflow, rng.choice((65536, 1 << 18)))
    try:
        names: list[str] = []
        for _ in range(10):
            do_anything(twin, rng, names)
        names.append("under way")
        assert twin.snapshot("under way")
        for _ in range(60):
            do_anything(twin, rng, names)
            if rng.random() < 0.4:
                twin.copy_bit()
            for name in twin.snapshots:
                twin.check_snapshot(name)
            for opened in twin.recoveries:
                twin.check_recovery(opened)
            for opened in twin.views:
                twin.check_view(opened)
        for snapshot in twin.snapshots.values():
            assert snapshot.wait()
            assert snapshot.complete
        twin.check()
    finally:
        end(twin)


@pytest.mark.parametrize("on_disk", [False, True])
def test_taking_a_snapshot_copies_nothing(on_disk, tmp_path):
    with jrnl.create(tmp_path / "s" if on_disk else None, size="64MiB", journal="1MiB") as store:
        for k in range(64):
            store.volume.write(k << 20, b"x" * 4096)
        snapshot = store.snapshot("s")
        assert not snapshot.complete
        assert stepper(store).pending()[0].image is snapshot._image
        assert snapshot.verify().ok
        if on_disk:
            assert not list((tmp_path / "s").glob("snapshot-*"))


def test_the_copy_is_independent_of_journal_and_production_in_the_end():
    store = jrnl.wrap(bytearray(200_000), journal="64KiB")
    store.volume.write(70_000, b"abc")
    snapshot = store.snapshot("s")
    assert snapshot.wait()
    assert stepper(store).pending() == []
    assert not stepper(store).step()
    for k in range(0, 200_000 - 512, 512):
        store.volume.write(k, b"z" * 512)
    assert snapshot.read(70_000, 3) == b"abc"
    assert snapshot.read(69_990, 10) == bytes(10)
    assert snapshot.verify() == (True, [], 0, 1, 0)


@pytest.mark.parametrize("on_disk", [False, True])
def test_a_wrap_of_the_ring_does_not_harm_a_copy_under_way(on_disk, tmp_path):
    path = tmp_path / "s" if on_disk else None
    with jrnl.create(path, size="1MiB", journal="64KiB") as store:
        content = random.Random(1).randbytes(1 << 20)
        for k in range(0, 1 << 20, 8192):
            store.volume.write(k, content[k : k + 8192])
        snapshot = store.snapshot("s")
        stepper(store).step()
        for k in range(0, 1 << 20, 4096):
            store.volume.write(k, b"\xff" * 4096)
        assert snapshot.seq < store.window.oldest
        assert snapshot.complete == on_disk  # entries leave a log only once nobody needs them
        assert snapshot.read(0, 1 << 20) == content
        assert store.recover("s").read(0, 1 << 20) == content
        assert snapshot.wait()
        assert snapshot.read(0, 1 << 20) == content


@pytest.mark.parametrize("on_disk", [False, True])
def test_a_rewind_before_it_finishes_the_copy(on_disk, tmp_path):
    with jrnl.create(tmp_path / "s" if on_disk else None, size="1MiB") as store:
        store.volume.write(0, b"one")
        before = store.seq
        store.volume.write(0, b"two")
        snapshot = store.snapshot("s")
        store.volume.write(0, b"three")
        store.rewind(snapshot.seq)
        assert not snapshot.complete
        store.rewind(before)
        assert snapshot.complete
        assert snapshot.read(0, 3) == b"two"
        assert store.recover("s").read(0, 3) == b"two"


def test_a_recovery_keeps_the_image_of_a_deleted_snapshot():
    with jrnl.create(size="1MiB", journal="64KiB") as store:
        store.volume.write(0, b"old")
        snapshot = store.snapshot("s")
        store.volume.write(0, b"new")
        recovery = store.recover("s", base="s")
        snapshot.delete()
        assert len(stepper(store).pending()) == 1
        for _ in range(60):
            store.volume.write(8192, b"x" * 4096)
        assert recovery.read(0, 3) == b"old"
        recovery.close()
        while stepper(store).step():
            pass
        assert stepper(store).pending() == []


@pytest.mark.parametrize("on_disk", [False, True])
def test_deleting_a_snapshot_gives_up_its_copy(on_disk, tmp_path):
    path = tmp_path / "s" if on_disk else None
    with jrnl.create(path, size="1MiB", journal="64KiB") as store:
        store.volume.write(0, b"old")
        snapshot = store.snapshot("s")
        stepper(store).step()
        snapshot.delete()
        assert stepper(store).pending() == []
        with pytest.raises(jrnl.UnknownPoint):
            snapshot.wait()
    if on_disk:
        assert not list(path.glob("snapshot-*"))


@pytest.mark.parametrize("on_disk", [False, True])
@pytest.mark.parametrize("first", ["rewind", "wrap", "copy", "close"])
def test_a_view_keeps_the_copy_of_a_deleted_snapshot_going(on_disk, first, tmp_path):
    path = tmp_path / "s" if on_disk else None
    with jrnl.create(path, size="1MiB", journal="64KiB") as store:
        store.volume.write(0, b"one")
        before = store.seq
        store.volume.write(0, b"two")
        snapshot = store.snapshot("s")
        view = store.view("s")
        store.volume.write(0, b"three")
        stepper(store).step()
        snapshot.delete()
        assert len(stepper(store).pending()) == 1
        if first == "close":
            view.close()
        else:
            if first == "rewind":
                store.rewind(before)
            for _ in range(60 if first == "wrap" else 0):
                store.volume.write(8192, b"x" * 4096)
            assert view.read(0, 3) == b"two"
        while stepper(store).step():
            pass
        assert stepper(store).pending() == []
        if on_disk:
            assert not list(path.glob("snapshot-*"))
        if first != "close":
            assert view.read(0, 3) == b"two"


# What is damaged.


def test_damage_in_the_journal_spoils_its_own_blocks_only():
    with jrnl.create(size="1MiB", journal="1MiB") as store:
        for k in range(16):
            store.volume.write(k * CHUNK, bytes([k + 1]) * 4096)
        snapshot = store.snapshot("s")
        seq = store.volume.write(3 * CHUNK, b"new" * 100)
        position = store._engine.image_bytes(seq, False)
        assert position == b"\x04" * 300
        store._engine._damage_image(0, 0)
        damage_image_of(store, seq)
        with pytest.raises(jrnl.CorruptionError, match=f"entry {seq}"):
            snapshot.read(3 * CHUNK, 10)
        with pytest.raises(jrnl.CorruptionError, match=f"entry {seq}"):
            snapshot.wait()
        assert snapshot.complete
        assert any("snapshot 's'" in problem for problem in store.problems)
        assert [f"near byte {3 * CHUNK}" in p or f"byte {3 * CHUNK} " in p
                for p in snapshot.verify().problems] == [True]  # fmt: skip
        with pytest.raises(jrnl.CorruptionError):
            snapshot.read(3 * CHUNK, 10)
        for k in range(16):
            if k != 3:
                assert snapshot.read(k * CHUNK, 4096) == bytes([k + 1]) * 4096
        assert not store.verify().ok
        snapshot.delete()
        assert store.problems == []


def damage_image_of(store, seq):
    """Flip a bit in the before-image of an entry: it is what has most of these bytes."""
    wanted = store._engine.image_bytes(seq, False)
    for position in range(0, store._engine.capacity, 64):
        try:
            store._engine._damage_image(position, 0xFF)
        except IndexError:
            break
        try:
            if store._engine.image_bytes(seq, False) != wanted:
                break
        except jrnl.CorruptionError:
            return
        store._engine._damage_image(position, 0xFF)
    raise AssertionError("the image was not found")


def test_an_error_stops_a_copy_on_disk_and_poisons(tmp_path, monkeypatch):
    store = jrnl.create(tmp_path / "s", size="1MiB")
    store.volume.write(0, b"old")
    snapshot = store.snapshot("s")

    def fails(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(FileCopy, "_begin", fails)
    with pytest.raises(OSError, match="No space"):
        snapshot.wait()
    assert "No space" in store.problems[0]
    assert snapshot.read(0, 3) == b"old"
    with pytest.raises(jrnl.StorePoisoned):
        store.volume.write(0, b"new")
    store.close()
    monkeypatch.undo()
    with jrnl.open(tmp_path / "s") as store:
        assert store.problems == []
        assert not store.snapshots["s"].complete
        assert store.snapshots["s"].wait()
        assert store.snapshots["s"].read(0, 3) == b"old"


def test_memory_that_is_missing_stops_a_copy_until_it_is_waited_for_again(monkeypatch):
    with jrnl.create(size="1MiB") as store:
        store.volume.write(0, b"old")
        snapshot = store.snapshot("s")

        def fails(*_, **__):
            raise MemoryError("none left")

        monkeypatch.setattr(snapshot_copier.MemoryCopy, "step", fails)
        with pytest.raises(MemoryError):
            snapshot.wait()
        assert "none left" in store.problems[0]
        assert not stepper(store).step()
        monkeypatch.undo()
        store.volume.write(0, b"new")
        assert snapshot.wait()
        assert store.problems == []
        assert snapshot.read(0, 3) == b"old"


# On disk.


def test_closing_completes_what_is_under_way(tmp_path):
    with jrnl.create(tmp_path / "s", size="1MiB") as store:
        store.volume.write(0, b"old")
        store.snapshot("s")
        store.volume.write(0, b"new")
    with jrnl.open(tmp_path / "s") as store:
        assert store.snapshots["s"].complete
        assert store.snapshots["s"].read(0, 3) == b"old"


@pytest.mark.parametrize("steps", range(6))
def test_a_killed_copy_is_taken_up_again(steps):
    twin = DiskTwin((9_000_000,), 1 << 20, "both", "evict", "flush")
    try:
        for k in range(9):
            twin.write(0, k * 999_999, bytes([k + 1]) * 5000)
        twin.snapshot("s")
        for _ in range(steps):
            twin.copy_bit()
            twin.write(0, steps * 4096, b"later" * 500)
        twin.flush()
        twin.kill(look=True)
        assert not twin.snapshots["s"].complete
        twin.check_snapshot("s")
        twin.copy_bit(2)
        twin.flush()
        twin.kill()
        twin.check_snapshot("s")
        assert twin.snapshots["s"].wait()
        twin.check()
    finally:
        twin.discard()


def test_for_reading_only_it_is_read_through_the_journal(tmp_path):
    twin = DiskTwin(SIZES, 1 << 18, "both", "evict", "flush")
    try:
        twin.write(0, 0, b"old" * 1000)
        twin.snapshot("s")
        twin.write(0, 0, b"new" * 1000)
        twin.flush()
        shutil.copytree(twin.path, tmp_path / "killed")
        with jrnl.open(tmp_path / "killed", "r") as store:
            snapshot = store.snapshots["s"]
            assert not snapshot.complete
            assert snapshot.read(0, 3, "v0") == b"old"
            assert snapshot.verify().ok
            with pytest.raises(jrnl.ReadOnlyStore, match="only while the store is open"):
                snapshot.wait()
    finally:
        twin.discard()


def test_a_clone_is_put_right_where_it_differs(tmp_path, monkeypatch):
    """A file system that can clone gives whatever the volume's file has just then."""

    def clone(self, source, target):
        size = self.open(source, False).size
        device = self.create(target, size)
        device.pwrite(0, self.open(source, False).pread(0, size))
        device.close()
        return True

    monkeypatch.setattr(Folder, "clone", clone)
    path = tmp_path / "s"
    with jrnl.create(path, size="3MiB", journal="256KiB", overlay="64KiB") as store:
        rng = random.Random(5)
        wanted = bytearray(3 << 20)
        for _ in range(150):
            offset, data = rng.randrange((3 << 20) - 5000), rng.randbytes(rng.randrange(1, 5000))
            store.volume.write(offset, data)
            wanted[offset : offset + len(data)] = data
        snapshot = store.snapshot("s")
        for _ in range(150):
            store.volume.write(rng.randrange((3 << 20) - 5000), rng.randbytes(3000))
            if rng.random() < 0.05:
                stepper(store).step()
        assert snapshot.wait()
        assert snapshot.read(0, 3 << 20) == wanted
        assert snapshot.verify().ok
    with jrnl.open(path) as store:
        assert store.snapshots["s"].read(0, 3 << 20) == wanted


# Of some volumes.


@pytest.mark.parametrize(
    ("images", "on_disk"),
    [("before", False), ("both", False), ("after", False), ("both", True), ("after", True)],
)
def test_a_snapshot_of_some_volumes(images, on_disk, tmp_path):
    path = tmp_path / "s" if on_disk else None
    store = jrnl.create(path, volumes={"a": 9000, "b": 9000, "c": 9000}, images=images)
    for name in "abc":
        store[name].write(0, name.encode())
    snapshot = store.snapshot("some", ["c", "a"])
    assert tuple(snapshot.volumes) == ("a", "c")
    for _ in range(2):
        assert store.snapshots["some"].read(0, 1, "a") == b"a"
        assert store.snapshots["some"].read(0, 1, "c") == b"c"
        with pytest.raises(jrnl.UnknownVolume, match="covers only 'a', 'c'"):
            store.snapshots["some"].read(0, 1, "b")
        with pytest.raises(jrnl.UnknownVolume):
            store.snapshots["some"].read(0, 1)
        with pytest.raises(jrnl.InvalidArgument, match="covers only the volumes 'a', 'c'"):
            store.recover("some", base="some", volumes=["a", "b"])
        with store.recover("some", base="some") as recovery:
            assert list(recovery.volumes) == ["a", "c"]
        with store.recover("some", base="some", volumes=["a"]) as recovery:
            assert (recovery.base, recovery.read(0, 1)) == ("some", b"a")
        with store.view("some", volumes=["c", "a"]) as view:
            assert view.read(0, 1, "c") == b"c"
        assert store.snapshots["some"].verify().ok
        assert store.verify().ok
        store.snapshots["some"].wait()
        for name in "abc":
            store[name].write(0, b"later")
    if images != "after":
        with store.recover("some", volumes=["a", "b", "c"]) as recovery:
            assert recovery.read(0, 1, "b") == b"b"
            assert recovery.base == "production"
    one = store.snapshot("one", ["b"])
    assert one.read(0, 5) == b"later"
    assert one.wait()
    store.close()
    if on_disk:
        for mode in ("r", "r+"):
            with jrnl.open(path, mode) as store:
                assert store.problems == []
                assert tuple(store.snapshots["some"].volumes) == ("a", "c")
                assert store.snapshots["some"].read(0, 1, "c") == b"c"
                assert store.verify().ok


def test_the_names_of_volumes_are_checked_before_anything_changes():
    with jrnl.create(volumes={"a": 10, "b": 10}) as store:
        for volumes, error in (
            (["d"], jrnl.UnknownVolume),
            ([None], jrnl.UnknownVolume),
            ([], jrnl.InvalidArgument),
            ("a", jrnl.InvalidType),
            (7, jrnl.InvalidType),
        ):
            with pytest.raises(error):
                store.snapshot("s", volumes)
        assert store.snapshots == {}
        snapshot = store.snapshot("s", ["a", "b"])
        assert tuple(snapshot.volumes) == ("a", "b")
        assert store.recover("s", base="s").base == "s"


@pytest.mark.parametrize(
    ("timeout", "error"),
    [("1", jrnl.InvalidType), (True, jrnl.InvalidType), (-1, jrnl.InvalidArgument),
     (float("nan"), jrnl.InvalidArgument)],
)  # fmt: skip
def test_a_timeout_is_seconds(timeout, error):
    with jrnl.create(size=10) as store, pytest.raises(error):
        store.snapshot("s").wait(timeout)


def test_waiting_ends_in_time():
    with jrnl.create(size="64MiB") as store:
        for k in range(64):
            store.volume.write(k << 20, bytes([k]) * (1 << 20))
        snapshot = store.snapshot("s")
        assert not snapshot.wait(0)
        assert not snapshot.complete
        assert snapshot.wait(60)


# The thread.


def in_time(condition) -> bool:
    for _ in range(3000):
        if condition():
            return True
        time.sleep(0.01)
    return False


def copier_threads() -> int:
    return sum(making._running for making in list(snapshot_copier._copiers))


@pytest.mark.parametrize("on_disk", [False, True])
def test_it_is_exact_under_concurrent_writers(automatic, on_disk, tmp_path):
    path = tmp_path / "s" if on_disk else None
    size = 8 << 20
    with jrnl.create(path, size=size, journal="1MiB") as store:
        for k in range(0, size, 65536):
            store.volume.write(k, random.Random(k).randbytes(65536))
        stop = threading.Event()

        def write(seed):
            rng = random.Random(seed)
            while not stop.is_set():
                store.volume.write(rng.randrange(size - 9000), rng.randbytes(rng.randrange(9000)))

        threads = [threading.Thread(target=write, args=(k,)) for k in range(3)]
        for thread in threads:
            thread.start()
        try:
            taken = []
            for k in range(4):
                with store._engine:  # the others wait
                    snapshot, first = store.snapshot(f"s{k}"), store.volume.read(0, size)
                taken.append((snapshot, first))
            for snapshot, first in taken:
                assert snapshot.read(0, size) == first
                assert snapshot.wait(60)
                assert snapshot.read(0, size) == first
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        for snapshot, first in taken:
            assert snapshot.complete
            assert snapshot.verify().ok
            assert snapshot.read(0, size) == first
        assert store.verify().ok
    assert in_time(lambda: not copier_threads())


@pytest.mark.parametrize("on_disk", [False, True])
def test_the_thread_is_there_while_there_is_something_to_copy(automatic, on_disk, tmp_path):
    with jrnl.create(tmp_path / "s" if on_disk else None, size="1MiB") as store:
        store.volume.write(0, b"x")
        assert not copier_threads()
        for name in "ab":
            snapshot = store.snapshot(name)
            assert in_time(lambda snapshot=snapshot: snapshot.complete)
            assert in_time(lambda: not copier_threads())


@pytest.mark.parametrize(
    ("how", "on_disk"),  # one on disk that is dropped and not closed is left to the next opening
    [("close", False), ("close", True), ("delete", False), ("delete", True), ("drop", False)],
)
def test_the_store_can_end_while_it_is_copied(automatic, how, on_disk, tmp_path):
    store = jrnl.create(tmp_path / "s" if on_disk else None, size="64MiB")
    for k in range(0, 64 << 20, 1 << 20):
        store.volume.write(k, b"x" * (1 << 20))
    snapshot = store.snapshot("s")
    if how == "delete":
        snapshot.delete()
        assert store.snapshots == {}
        store.snapshot("s")
    reference = weakref.ref(store._engine)
    if how != "drop":
        store.close()
    del store, snapshot
    assert in_time(lambda: not copier_threads())
    gc.collect()
    if not on_disk:
        assert in_time(lambda: reference() is None)


def test_deleting_does_not_meet_the_thread_that_makes_the_files(automatic, tmp_path):
    path = tmp_path / "s"
    with jrnl.create(path, size="8MiB") as store:
        for k in range(0, 8 << 20, 1 << 20):
            store.volume.write(k, b"x" * (1 << 20))
        for k in range(150):
            snapshot = store.snapshot("s")
            time.sleep(k % 10 / 10_000)
            snapshot.delete()
        assert in_time(lambda: not copier_threads())
        assert store.volume.write(0, b"not poisoned")
        assert not list(path.glob("snapshot-*"))


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_goes_on_by_itself(automatic):
    with jrnl.create(size="64MiB") as store:
        for k in range(0, 64 << 20, 1 << 20):
            store.volume.write(k, b"x" * (1 << 20))
        snapshot = store.snapshot("s")
        store.volume.write(0, b"new")
        child = os.fork()
        if child == 0:
            status = 1
            try:
                store.volume.write(1, b"child")
                good = snapshot.wait() and snapshot.verify().ok and snapshot.read(0, 1) == b"x"
                again = store.snapshot("t")
                status = 0 if good and again.wait() and again.read(0, 6) == b"nchild" else 2
            finally:
                os._exit(status)
        assert os.waitpid(child, 0)[1] == 0
        assert snapshot.wait()
        assert snapshot.read(0, 3) == b"xxx"


def test_an_error_in_the_thread_is_kept(automatic, tmp_path, monkeypatch):
    def fails(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(FileCopy, "_begin", fails)
    store = jrnl.create(tmp_path / "s", size="1MiB")
    store.volume.write(0, b"old")
    snapshot = store.snapshot("s")
    assert in_time(lambda: store.problems)
    assert in_time(lambda: not copier_threads())
    assert "No space" in store.problems[0]
    assert not snapshot.complete
    store.close()


def test_two_threads_may_list_a_folder(tmp_path):
    (tmp_path / "one").touch()
    with Folder(tmp_path) as folder, os.scandir(folder._descriptor) as other:
        next(other)  # who reads it has moved the descriptor's place in the list
        assert folder.names() == ["one"]


def test_what_is_made_of_a_snapshot_before_it_is_named_is_no_stray(tmp_path, monkeypatch):
    store = jrnl.create(tmp_path / "s", size="1MiB")
    store.volume.write(0, b"old" * 5000)
    name = store._session.name_snapshot

    def late(snapshot: jrnl.Snapshot) -> object:
        while not snapshot.complete:  # by the thread that copies, or one that needs the room
            assert stepper(store).step()
            store._session.remove_strays()  # by one that closes a recovery
        return name(snapshot)

    monkeypatch.setattr(store._session, "name_snapshot", late)
    store.snapshot("s")
    store.volume.write(0, b"new")
    store.close()
    with jrnl.open(tmp_path / "s") as store:
        assert not store.problems
        assert store.snapshots["s"].read(0, 15000) == b"old" * 5000


def test_what_is_written_apart_is_what_was_captured(tmp_path):
    """What the superblocks are to say is fixed under the lock; others go on changing the facts."""
    with jrnl.create(tmp_path / "s", size=9000, journal="64KiB") as store:
        store.volume.write(0, b"x")
        store.snapshot("s").wait()
        keeper, said = store._session, []
        with store._engine:
            write = keeper.record_apart()
            wanted = json.dumps(keeper.document())
            keeper.state.snapshots[0].seq += 1000
            keeper.state.epochs.append([1000, 1000])
        put = keeper.superblock.write
        keeper.superblock.write = lambda document, generation: said.append(document)
        write()
        keeper.superblock.write = put
        assert [json.dumps(document) for document in said] == [wanted]
        keeper.state.snapshots[0].seq -= 1000
        keeper.state.epochs.pop()


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_who_has_forked_waits_for_locks_as_before(automatic):
    """All stores' gates are held over a fork, and let go in whatever order."""
    stores = [jrnl.create(size="64KiB") for _ in range(3)]
    child = os.fork()
    if child == 0:
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    for store in stores:
        held = threading.Event()

        def hold(store: jrnl.Store = store, held: threading.Event = held) -> None:
            with store._engine:
                held.set()
                time.sleep(0.05)

        holder = threading.Thread(target=hold)
        holder.start()
        held.wait()
        store.volume.write(0, b"waits, and is not refused")
        holder.join()
        store.close()


def test_a_snapshot_that_is_broken_off_leaves_its_files_to_who_makes_them(
    automatic, tmp_path, monkeypatch
):
    """They went under the thread's hands, which took that for a failure of the disk."""

    class Struck(BaseException):
        pass

    begun, goes_on = threading.Event(), threading.Event()

    def clone(self: Folder, source: str, target: str) -> bool:
        self.create(target, 0).close()
        begun.set()
        assert goes_on.wait(60)
        self.remove(target)  # as where the file system cannot share
        return False

    monkeypatch.setattr(Folder, "clone", clone)
    with jrnl.create(tmp_path / "s", size="1MiB") as store:
        store.volume.write(0, b"x" * 100_000)
        making, keeper = store._session.copier, store._session

        def name_snapshot(snapshot: jrnl.Snapshot) -> object:
            making.start()
            assert begun.wait(60)
            raise Struck

        monkeypatch.setattr(keeper, "name_snapshot", name_snapshot)
        with pytest.raises(Struck):
            store.snapshot("s")
        goes_on.set()
        assert in_time(lambda: not copier_threads())
        store.volume.write(0, b"not poisoned")
        store.flush()
        assert store.problems == []
        assert not list((tmp_path / "s").glob("snapshot-*"))
