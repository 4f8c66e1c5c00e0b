"""Stores on disk: making, opening, refusing, and what the calls promise beside the bytes."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import resource
import shutil
import struct
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

import jrnl
from jrnl._core import FileDevice
from jrnl.disk import open as opening
from jrnl.disk import superblock
from jrnl.disk.create import create_in
from jrnl.disk.folder import Folder
from tests.crash.disk import SimDisk
from tests.model.apart import run_apart


def folder_hash(path: Path) -> str:
    """Names, sizes, times and contents of all files."""
    facts = [
        (f.name, f.stat().st_size, f.stat().st_mtime_ns, f.read_bytes())
        for f in sorted(path.iterdir())
    ]
    return hashlib.sha256(repr(facts).encode()).hexdigest()


def copy_of(path: Path, name: str) -> Path:
    """What a process killed now would leave."""
    target = path.parent / name
    shutil.copytree(path, target)
    return target


@pytest.fixture
def path(tmp_path):
    return tmp_path / "disk.jrnl"


def filled(path: Path, **keywords) -> dict[int, bytes]:
    """Make a store with a few states, closed; return them."""
    states = {}
    with jrnl.create(path, size=20000, journal="256KiB", **keywords) as store:
        states[0] = bytes(20000)
        for k in range(12):
            store.volume.write(k * 1500, bytes([k + 1]) * 2000)
            states[store.seq] = store.volume.read(0, 20000)
            if k % 5 == 4:
                seq = store.flush()
                states[seq] = states[seq - 1]
    return states


# Making.


def test_a_store_is_a_folder_and_its_volumes_are_raw_files(path):
    states = filled(path)
    assert (path / "data.img").read_bytes() == states[max(states)]
    assert sorted(f.name for f in path.iterdir()) == [
        "data.img", "index", "log", "super.0", "super.1"
    ]  # fmt: skip
    assert os.listdir(path.parent) == [path.name]


def test_a_second_store_at_the_same_path_is_refused_and_the_first_one_untouched(path):
    states = filled(path)
    before = folder_hash(path)
    with pytest.raises(jrnl.StoreExists, match="already"):
        jrnl.create(path, size=1)
    with pytest.raises(FileExistsError):
        jrnl.create(path, size=1)
    assert folder_hash(path) == before
    with jrnl.open(path) as store:
        assert store.seq == max(states)


@pytest.mark.parametrize(
    ("keywords", "reason"),
    [
        ({"images": "before"}, "before-images alone"),
        ({"checksum": False}, "checksums"),
        ({"sync": "never"}, "'flush' or 'always'"),
        ({"overlay": "100KiB"}, "power of two"),
        ({"overlay": "32KiB"}, "from 64KiB"),
        ({"journal": "8KiB"}, "16KiB"),
        ({"volumes": {"a/b": 1}}, "'/'"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_made(path, keywords, reason):
    arguments = {"size": 4096, **keywords}
    if "volumes" in keywords:
        del arguments["size"]
    with pytest.raises(jrnl.InvalidArgument, match=reason):
        jrnl.create(path, **arguments)
    assert not list(path.parent.iterdir())


def test_options_of_stores_on_disk_are_refused_in_memory():
    for keywords in ({"sync": "flush"}, {"overlay": "64KiB"}):
        with pytest.raises(jrnl.InvalidArgument, match="in memory"):
            jrnl.create(size=1, **keywords)


def test_what_an_interrupted_creation_left_goes_with_the_next(path):
    (path.parent / f".{path.name}.new-0123").mkdir(parents=True)
    (path.parent / f".{path.name}.new-0123" / "log").write_bytes(b"x")
    filled(path)
    assert os.listdir(path.parent) == [path.name]


def test_a_creation_that_fails_leaves_nothing(path):
    with pytest.raises(FileNotFoundError):
        jrnl.create(path, source=path.parent / "missing")
    with pytest.raises(FileNotFoundError):
        jrnl.create(path.parent / "no" / "folder", size=1)
    assert os.listdir(path.parent) == []


def test_sources_become_state_0_with_their_holes(path, tmp_path):
    source = tmp_path / "golden.img"
    with open(source, "wb") as file:
        file.truncate(8 << 20)
        file.seek(5 << 20)
        file.write(b"golden" * 1000)
    with jrnl.create(path, source={"root": source}, journal="64KiB") as store:
        assert store["root"].size == 8 << 20
        assert store.window == (0, 0)
        assert store["root"].read(5 << 20, 6000) == b"golden" * 1000
        store["root"].write(0, b"new")
        with store.view(0) as view:
            assert view.read(0, 3) == bytes(3)
    image = path / "root.img"
    assert image.stat().st_blocks * 512 < 1 << 20
    assert image.read_bytes()[3:] == source.read_bytes()[3:]


def test_volumes_may_be_far_larger_than_memory(path):
    with jrnl.create(path, size="8TiB", journal="1MiB") as store:
        volume = store.volume
        volume.write(volume.size - 5000, b"end" * 1000)
        volume.discard(volume.size - 4000, 100)
        store.flush()
    with jrnl.open(path) as store:
        assert store.volume.read(store.volume.size - 5000, 6) == b"endend"
        with store.recover(1) as recovery:
            assert recovery.read(store.volume.size - 4000, 3) == (b"end" * 1000)[1000:1003]
            recovery.restore()
        snapshot = store.snapshot("s")
        assert snapshot.read(store.volume.size - 5000, 3) == b"end"
        assert store.verify().ok
    assert (path / "data.img").stat().st_blocks * 512 < 1 << 20


def test_names_that_a_file_system_may_not_like_get_files_of_their_own(path):
    names = ["räder", "con", "..", "a b", "snapshot-1-0", "x" * 255]
    with jrnl.create(path, volumes=dict.fromkeys(names, 1024), journal="64KiB") as store:
        for k, name in enumerate(names):
            store[name].write(0, bytes([k + 1]))
    files = sorted(f.name for f in path.iterdir() if f.suffix == ".img")
    assert files == ["con.img", *(f"volume-{k}.img" for k in (0, 2, 3, 4, 5))]
    with jrnl.open(path, "r") as store:
        assert [store[name].read(0, 1)[0] for name in names] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("images", ["both", "after"])
def test_verify_finds_what_was_done_to_a_volume_behind_its_back(path, images):
    filled(path, images=images)
    with jrnl.open(path) as store:
        report = store.verify()
        assert report.ok
        assert (report.entries, report.snapshots) == (len(store.journal.entries), 0)
        assert report.volume_bytes == 20000
    with open(path / "data.img", "r+b") as file:
        file.seek(3000)
        file.write(b"damage")
    with jrnl.open(path, "r") as store:
        report = store.verify()
        assert not report.ok
        assert any("not what the journal says" in problem for problem in report.problems)


def test_verify_reads_what_may_hold_data_alone(path):
    with jrnl.create(path, size="64GiB", journal="1MiB") as store:
        for k in range(100):
            store.volume.write(k << 29, b"x")
        assert store.verify().volume_bytes <= 100 << 16


def test_verify_reads_what_no_entry_covers_too(path, tmp_path):
    (tmp_path / "source").write_bytes(b"x" * 50000)
    with jrnl.create(path, source=tmp_path / "source", journal="64KiB") as store:
        os.truncate(path / "data.img", 40000)
        report = store.verify()
        assert any("ends too early" in problem for problem in report.problems)


# Opening.


def test_opening_and_closing_add_no_entries(path):
    states = filled(path)
    for mode in ("r+", "r", "r+"):
        with jrnl.open(path, mode) as store:
            assert store.seq == max(states)
            assert store.problems == []


@pytest.mark.parametrize("images", ["both", "after"])
@pytest.mark.parametrize("killed", [False, True])
def test_reading_writes_nothing(path, images, killed):
    states = filled(path, images=images)
    if killed:
        with jrnl.open(path) as store:
            store.volume.write(3, b"unsynced")
            store.volume.write(9000, b"synced")
            states[store.flush()] = store.volume.read(0, 20000)
            path = copy_of(path, "killed")
    before = folder_hash(path)
    with jrnl.open(path, "r") as store, jrnl.open(path, "r") as beside:
        newest = max(states)
        assert store.seq == beside.seq == newest
        assert store.volume.read(0, 20000) == beside.volume.read(0, 20000) == states[newest]
        if images == "both":
            for seq in range(store.window.oldest, newest):
                if seq in states:
                    assert store.recover(seq).read(0, 20000) == states[seq]
        assert store.verify().ok
        assert store.flush() == newest
        volume = store.volume
        for act in (
            lambda: volume.write(0, b"x"),
            lambda: volume.write_many([0], b"x"),
            lambda: volume.discard(0, 1),
            lambda: volume.edit(0, 1).__enter__(),
            lambda: store.mark("m"),
            lambda: store.snapshot("s"),
            lambda: store.recover(newest).restore(),
        ):
            with pytest.raises(jrnl.ReadOnlyStore, match=r"mode='r\+'"):
                act()
        if images == "both":
            with pytest.raises(jrnl.ReadOnlyStore):
                store.rewind(store.window.oldest)
    assert folder_hash(path) == before


def test_locks(path):
    filled(path)
    with jrnl.open(path) as store:
        for mode in ("r", "r+"):
            with pytest.raises(jrnl.StoreLocked, match="close it there"):
                jrnl.open(path, mode)
        code = f"import jrnl; jrnl.open({str(path)!r}, 'r')"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
        assert b"StoreLocked" in done.stderr
        store.volume.write(0, b"still mine")
    with jrnl.open(path, "r"), pytest.raises(jrnl.StoreLocked, match="reading only in both"):
        jrnl.open(path)
    jrnl.open(path).close()


def test_the_lock_goes_with_its_process(path):
    filled(path)
    code = f"import jrnl, os; s = jrnl.open({str(path)!r}); os.kill(os.getpid(), 9)"
    for _ in range(3):
        subprocess.run([sys.executable, "-c", code], check=False)
        with jrnl.open(path) as store:
            assert store.verify().ok


def test_a_forked_child_may_not_touch_the_store(path):
    filled(path)
    with jrnl.open(path) as store:
        store.volume.write(0, b"before")
        child = os.fork()
        if child == 0:
            failed = 0
            for act in (
                lambda: store.volume.write(0, b"child"),
                lambda: store.volume.read(0, 1),
                store.flush,
                lambda: store.window,
                lambda: store.snapshot("s"),
            ):
                try:
                    act()
                except jrnl.StoreLocked:
                    failed += 1
            store.close()
            os._exit(failed)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 5
        with pytest.raises(jrnl.StoreLocked):
            jrnl.open(path)
        store.volume.write(6, b"after")
    with jrnl.open(path) as store:
        assert store.volume.read(0, 11) == b"beforeafter"


def foreign_file(path: Path) -> None:
    path.write_bytes(b"a file")


def foreign_folder(path: Path) -> None:
    path.mkdir()
    (path / "super.0").write_bytes(bytes(5000))


def newer(path: Path) -> None:
    filled(path)
    for name in superblock.NAMES:
        data = bytearray((path / name).read_bytes())
        struct.pack_into("<I", data, 8, superblock.FORMAT + 1)
        resum(data)
        (path / name).write_bytes(data)


def unknown_feature(path: Path) -> None:
    filled(path)
    for name in superblock.NAMES:
        data = bytearray((path / name).read_bytes())
        struct.pack_into("<I", data, 12, 1)
        resum(data)
        (path / name).write_bytes(data)


def resum(data: bytearray) -> None:
    head = superblock._HEAD.size
    length = superblock._HEAD.unpack_from(data)[7]
    body = bytes(data[superblock._BODY : superblock._BODY + length])
    total = superblock.xxhash.xxh3_64_intdigest(
        body, superblock.xxhash.xxh3_64_intdigest(bytes(data[:head]))
    )
    struct.pack_into("<Q", data, head, total)


def swapped(path: Path) -> None:
    filled(path)
    os.rename(path / "super.0", path / "x")
    os.rename(path / "super.1", path / "super.0")
    os.rename(path / "x", path / "super.1")


def mixed(name: str):
    def act(path: Path) -> None:
        filled(path)
        filled(path.parent / "other")
        shutil.copy(path.parent / "other" / name, path / name)

    act.__name__ = f"mixed_{name}"
    return act


def longer_volume(path: Path) -> None:
    filled(path)
    os.truncate(path / "data.img", 20001)


@pytest.mark.parametrize(
    "act",
    [foreign_file, foreign_folder, newer, unknown_feature, swapped, mixed("log"), mixed("index"),
     mixed("super.1"), longer_volume],
    ids=lambda act: act.__name__,
)  # fmt: skip
def test_what_is_foreign_newer_or_mixed_up_is_refused(path, act):
    act(path)
    before = folder_hash(path) if path.is_dir() else None
    for mode in ("r", "r+"):
        with pytest.raises(jrnl.FormatError):
            jrnl.open(path, mode)
    assert before is None or folder_hash(path) == before


def test_a_feature_that_only_readers_may_ignore_opens_for_reading(path):
    filled(path)
    for name in superblock.NAMES:
        data = bytearray((path / name).read_bytes())
        struct.pack_into("<I", data, 16, 1)
        resum(data)
        (path / name).write_bytes(data)
    with pytest.raises(jrnl.ReadOnlyStore, match="mode='r'"):
        jrnl.open(path)
    with jrnl.open(path, "r") as store:
        assert store.verify().ok


def test_a_missing_index_is_made_again(path):
    states = filled(path)
    os.unlink(path / "index")
    for mode in ("r", "r+", "r+"):
        with jrnl.open(path, mode) as store:
            assert store.seq == max(states)
            assert store.view(store.window.oldest).read(0, 20000) == states[store.window.oldest]
    assert store.problems == []


@pytest.mark.parametrize("name", ["log", "data.img"])
def test_a_missing_file_is_named(path, name):
    filled(path)
    os.unlink(path / name)
    with pytest.raises(jrnl.CorruptionError, match=name):
        jrnl.open(path)


def test_one_superblock_is_enough_and_the_other_is_made_again(path):
    states = filled(path)
    for name in superblock.NAMES:
        os.unlink(path / name)
        with jrnl.open(path) as store:
            assert store.seq == max(states)
    for name in superblock.NAMES:
        os.unlink(path / name)
    with pytest.raises(jrnl.FormatError, match="no superblock"):
        jrnl.open(path)


def test_opening_what_is_not_there(path):
    with pytest.raises(FileNotFoundError):
        jrnl.open(path)
    for wrong in (3, None):
        with pytest.raises(jrnl.InvalidType):
            jrnl.open(wrong)
    with pytest.raises(jrnl.InvalidArgument):
        jrnl.open("")
    filled(path)
    with pytest.raises(jrnl.InvalidArgument, match="mode"):
        jrnl.open(path, "w")


def leaves(value, path=()):
    """Where the values of a document stand."""
    yield path
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(
        value, list
    ) else ():  # fmt: skip
        yield from leaves(value[key], (*path, key))


def with_value(document, path, value):
    """A copy of the document with one value replaced."""
    changed = json.loads(json.dumps(document))
    if not path:
        return value
    inner = changed
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return changed


def test_a_document_with_odd_values_is_refused_or_harmless(path):
    """Its checksums are right: somebody who can sum wrote it."""
    filled(path, reclaim=(0.9, 0.5), low=0.1, keep_at_least=1, keep_at_most=1e9)
    with jrnl.open(path) as store:
        store.snapshot("s")
        store.mark("m", pinned=True)
        store.volume.write(5, b"x")
        store.recover(3).restore()
        store.rewind(store.seq - 1)
        path = copy_of(path, "killed")
    copies = [superblock.unpack(k, device_of(path / name))
              for k, name in enumerate(superblock.NAMES)]  # fmt: skip
    document, key = copies[0].document, copies[0].key
    odd = (None, -1, 0, 3, "x", [], {}, 1 << 40, 1 << 62, 1 << 70, [[1]], True, 1.5)
    for leaf in leaves(document):
        for value in odd:
            changed = with_value(document, leaf, value)
            if changed == document or not isinstance(changed, dict):
                continue
            for copy, name in enumerate(superblock.NAMES):
                with open(path / name, "r+b") as file:
                    file.write(superblock.pack(copy, key, 99, changed))
            try:
                with jrnl.open(path, "r") as store:
                    store.volume.read(0, 100)
                    store.verify()
            except (jrnl.JrnlError, MemoryError):
                continue


def device_of(path: Path) -> FileDevice:
    return FileDevice(os.open(path, os.O_RDONLY))


# What the calls promise.


def test_a_volume_on_disk_has_no_array(path):
    with (
        jrnl.create(path, size=4096, journal="64KiB") as store,
        pytest.raises(jrnl.InvalidArgument, match="as_file"),
    ):
        store.volume.as_array()


def test_an_edit_is_one_entry_and_an_exception_leaves_nothing(path):
    with jrnl.create(path, size=4096, journal="64KiB") as store:
        with store.volume.edit(100, 50) as mem:
            assert not mem.any()
            mem[:] = 7
        assert store.seq == 1
        assert store.volume.read(99, 52) == b"\0" + b"\7" * 50 + b"\0"
        with pytest.raises(KeyError), store.volume.edit(100, 50) as mem:
            mem[:] = 9
            raise KeyError
        assert store.volume.read(100, 50) == b"\7" * 50
        assert store.seq == 1


def test_the_memory_beside_the_files_is_bounded(path):
    """Unflushed and not yet written back together never take more than the overlay."""
    bound = 64 << 10
    with jrnl.create(path, size=1 << 20, journal="1MiB", overlay=bound) as store:
        rng = np.random.default_rng(1)
        for k in range(3000):
            offset = int(rng.integers(0, (1 << 20) - 4096))
            store.volume.write(offset, bytes([k % 251]) * int(rng.integers(1, 4096)))
            assert store._session.log.in_memory <= bound
        assert store._session.log.counts[1] > 10
        assert store.verify().ok


def test_once_wrapped_seven_eighths_of_the_log_stay(path):
    """With entries that are small beside the log, at every write."""
    with jrnl.create(path, size=1 << 20, journal="4MiB") as store:
        store.volume.write_many(np.arange(256) * 4096, bytes(1 << 20))
        wrapped = False
        for k in range(1500):
            store.volume.write(k * 7 % 256 * 4096, bytes([k % 255 + 1]) * 4096)
            wrapped = wrapped or store.window.oldest > 0
            assert not wrapped or store.journal.used >= store.journal.capacity * 7 // 8
        assert wrapped


def test_sync_always_needs_no_flush(path):
    with jrnl.create(path, size=4096, journal="64KiB", sync="always") as store:
        store.volume.write(0, b"one")
        store.mark("m")
        store.volume.write_many([10, 20], b"xxyy")
        seq = store.seq
        killed = copy_of(path, "killed")
    with jrnl.open(killed) as store:
        assert store.seq == seq
        assert store.volume.read(10, 2) == b"xx"
        assert store.marks["m"].seq == 2


def test_what_was_not_flushed_is_gone_after_a_kill_and_its_seqs_are_given_out_again(path):
    with jrnl.create(path, size=4096, journal="64KiB") as store:
        store.volume.write(0, b"one")
        flushed = store.flush()
        store.volume.write(0, b"two")
        killed = copy_of(path, "killed")
    with jrnl.open(killed) as store:
        assert store.seq == flushed
        assert store.volume.read(0, 3) == b"one"
        assert store.volume.write(0, b"new") == flushed + 1


def test_threads_that_flush_share_syncs_and_lose_nothing(path):
    threads, rounds = 8, 40
    store = jrnl.create(path, size=threads * 4096, journal="4MiB")
    acked: dict[int, int] = {}

    def work(k: int) -> None:
        for n in range(1, rounds + 1):
            store.volume.write(k * 4096, struct.pack("<Q", n) * 64)
            seq = store.flush()
            assert store._session.log.durable_seq >= seq
            acked[k] = n

    workers = [threading.Thread(target=work, args=(k,)) for k in range(threads)]
    for worker in workers:
        worker.start()
    killed = copy_of(path, "killed")
    for worker in workers:
        worker.join()
    assert store._session.log.counts[0] < threads * rounds
    assert all(acked[k] == rounds for k in range(threads))
    assert store.verify().ok
    store.close()
    with jrnl.open(killed) as copy:  # a copy in the middle of it all: any state, but whole
        assert copy.verify().ok
    with jrnl.open(path) as store:
        for k in range(threads):
            assert store.volume.read(k * 4096, 512) == struct.pack("<Q", rounds) * 64


def test_a_full_journal_that_refuses_refuses_whole_batches(path):
    with jrnl.create(path, size=1 << 20, journal="64KiB", overflow="refuse") as store:
        written = 0
        with pytest.raises(jrnl.JournalFull):
            for k in range(100):
                store.volume.write(k * 4096, b"x" * 4096)
                written += 1
        assert written >= 4
        seq, content = store.seq, store.volume.read(0, 1 << 20)
        for act in (
            lambda: store.volume.write_many(np.arange(50) * 4096, b"y" * 50 * 4096),
            lambda: store.volume.discard(0, 1 << 20),
        ):
            with pytest.raises(jrnl.JournalFull):
                act()
            assert store.seq == seq
            assert store.volume.read(0, 1 << 20) == content
        assert store.window.oldest == 0


def test_a_failed_sync_poisons_and_reopening_redoes(tmp_path):
    disk = SimDisk()
    place = disk.place()
    store = create_in(place, "s", size=8192, journal="64KiB")
    store.volume.write(0, b"kept")
    store.flush()
    store.volume.write(4, b"lost?")

    def fails(op):
        if op.kind == "sync":
            raise OSError(5, "no")

    disk.before = fails
    with pytest.raises(OSError, match="no"):
        store.flush()
    disk.before = None
    for act in (lambda: store.volume.write(0, b"x"), store.flush, lambda: store.mark("m"),
                lambda: store.rewind(0), lambda: store.snapshot("s")):  # fmt: skip
        assert "a write or sync failed" in store.problems[-1]
        with pytest.raises(jrnl.StorePoisoned, match="open it again"):
            act()
    assert store.volume.read(0, 4) == b"kept"
    store.close()
    with opening.open_in(place, "s") as store:
        assert store.volume.read(0, 4) == b"kept"
        store.volume.write(0, b"x")


def test_the_folder_of_a_store_may_be_moved(path):
    states = filled(path)
    moved = path.parent / "moved"
    os.rename(path, moved)
    with jrnl.open(moved) as store:
        assert store.seq == max(states)
    link = path.parent / "link"
    link.symlink_to(moved)
    with jrnl.open(link) as store, pytest.raises(jrnl.StoreLocked):
        jrnl.open(moved)
    with Folder(path.parent) as folder:
        assert sorted(folder.names()) == ["link", "moved"]


def test_guest_data_that_looks_like_the_log_is_never_taken_for_it(path):
    """A guest writes copies of the log's own groups, block by block, and the store is killed."""
    with jrnl.create(path, size="256KiB", journal="512KiB") as store:
        for k in range(6):
            store.volume.write(k * 512, bytes([k + 1]) * 512)
            store.flush()
        log = (path / "log").read_bytes()
        groups = log[4096 : 4096 + 6 * 4096]
        for shift in range(0, 4096, 512):  # at some shift they lie on the log's blocks
            store.volume.write(shift, groups)
            store.volume.write(131072 + shift, groups)
        content = store.volume.read(0, 256 << 10)
        seq = store.flush()
        store.volume.write(9, b"not flushed")
        killed = copy_of(path, "killed")
        _, start, _ = store._session.log.position
    with open(killed / "log", "r+b") as file:  # behind the last group such data stand, too
        file.seek(4096 + start)
        file.write(groups)
    with jrnl.open(killed) as store:
        assert store.seq == seq
        assert store.volume.read(0, 256 << 10) == content
        assert store.verify().ok


WRAPPING = """
import jrnl, sys

with jrnl.create(sys.argv[1], size="1MiB", journal="64MiB", images="after") as store:
    block = b"x" * 4096
    for k in range(20_000):  # the ring has wrapped by then
        store.volume.write(k % 256 * 4096, block)
    before = bytes_held()
    for k in range(120_000):  # every slot for a header is used
        store.volume.write(k % 256 * 4096, block)
    print(bytes_held() - before)
    assert store.verify().ok
"""


def test_headers_that_have_left_hold_no_memory(path):
    """There are slots for 8 MiB of headers; an eighth of them at a time has entries."""
    assert int(run_apart(WRAPPING, path)) < 4 << 20


DROPPED = """
import jrnl, sys

store = jrnl.create(sys.argv[1], size="64KiB")
store.volume.write(0, b"first")
store.flush()
store.volume.write(0, b"later")
if sys.argv[2] == "dropped":
    del store
elif sys.argv[2] == "in a cycle":
    store.itself = store
"""


@pytest.mark.parametrize("how", ["dropped", "in a cycle", "at the end"])
def test_what_was_written_to_a_store_that_nobody_closed_is_flushed(path, how):
    command = [sys.executable, "-X", "dev", "-c", DROPPED, path, how]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert "ResourceWarning" in done.stderr
    assert "without being closed" in done.stderr
    with jrnl.open(path) as store:
        assert store.volume.read(0, 5) == b"later"
        assert not store.problems


def test_too_many_open_files_stop_a_snapshot_and_nothing_else(path):
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    held = []
    with jrnl.create(path, size=65536, journal="4MiB") as store:
        store.volume.write(0, b"one")
        store.snapshot("first").wait()
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (256, before[1]))
            with pytest.raises(OSError, match="ulimit -n") as caught:
                for k in range(256):
                    store.volume.write(0, b"%d" % k)
                    store.snapshot(f"{k} more")
            assert caught.value.errno == errno.EMFILE
            assert f"{k} more" not in store.snapshots
            with suppress(OSError):
                while True:
                    held.append(os.open(os.devnull, os.O_RDONLY))
            with pytest.raises(OSError, match="Too many open files"):
                store.recover(1).restore()
            store.volume.write(0, b"goes on")
            assert not store.problems
        finally:
            for descriptor in held:
                os.close(descriptor)
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
        store.flush()
        assert store.verify().ok
    with jrnl.open(path) as store:
        assert len(store.snapshots) == k + 1
        assert store.volume.read(0, 7) == b"goes on"
        assert store.verify().ok
