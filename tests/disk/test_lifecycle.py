"""The life cycle of stores on disk: who creates one, when a copy is whole, what a state holds."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import pytest

import jrnl
from jrnl.disk.file_copy import FileCopy
from jrnl.disk.folder import Folder
from jrnl.disk.session import DiskSession

MIB = 1 << 20

CREATOR = """
import sys, jrnl
for line in sys.stdin:
    try:
        with jrnl.create(line.strip(), size="64KiB", journal="1MiB") as store:
            store["data"].write(0, b"hello")
            store.flush()
        print("made", flush=True)
    except jrnl.StoreExists:
        print("StoreExists", flush=True)
    except BaseException as error:
        print(repr(error), flush=True)
"""


# Creation.


def test_of_several_processes_that_create_one_path_one_does_and_the_others_are_told(tmp_path):
    crew = [
        subprocess.Popen([sys.executable, "-c", CREATOR], stdin=subprocess.PIPE,
                         stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]  # fmt: skip
    told: Counter[str] = Counter()
    for k in range(40):
        path = tmp_path / f"s{k}"
        for one in crew:
            one.stdin.write(f"{path}\n")
            one.stdin.flush()
        answers = sorted(one.stdout.readline().strip() for one in crew)
        assert answers == ["StoreExists", "StoreExists", "made"]
        told.update(answers)
        with jrnl.open(path) as store:
            assert store["data"].read(0, 5) == b"hello"
    for one in crew:
        one.communicate()
    assert told == {"made": 40, "StoreExists": 80}
    assert sorted(os.listdir(tmp_path)) == sorted(f"s{k}" for k in range(40))


def test_a_leftover_goes_only_where_nobody_has_it_locked(tmp_path):
    for name in (".s.new-00000001", ".s.new-00000002", ".s.new-file"):
        (tmp_path / name).mkdir() if "file" not in name else (tmp_path / name).touch()
        if "file" not in name:
            (tmp_path / name / "log").write_bytes(b"x")
    living = Folder(tmp_path / ".s.new-00000002")
    living.lock(True)
    jrnl.create(tmp_path / "s", size=4096, journal="16KiB").close()
    assert sorted(os.listdir(tmp_path)) == [".s.new-00000002", ".s.new-file", "s"]
    assert (tmp_path / ".s.new-00000002" / "log").read_bytes() == b"x"
    living.close()
    with pytest.raises(jrnl.StoreExists):
        jrnl.create(tmp_path / "s", size=4096, journal="16KiB")


def test_a_new_folder_that_somebody_removes_is_made_again(tmp_path, monkeypatch):
    made, lock = [], Folder.lock

    def removed(self, exclusive):
        lock(self, exclusive)
        if not made:  # before it was locked
            (name,) = (n for n in os.listdir(tmp_path) if ".new-" in n)
            os.rmdir(tmp_path / name)
            made.append(name)

    monkeypatch.setattr(Folder, "lock", removed)
    with jrnl.create(tmp_path / "s", size=4096, journal="16KiB") as store:
        store.volume.write(0, b"there")
    assert made
    assert os.listdir(tmp_path) == ["s"]


def test_nobody_opens_a_new_store_before_its_maker(tmp_path, monkeypatch):
    sync, met = Folder.sync, []

    def opened(self):
        sync(self)
        if (tmp_path / "s").exists() and not met:
            met.append(True)
            with pytest.raises(jrnl.StoreLocked):
                jrnl.open(tmp_path / "s")

    monkeypatch.setattr(Folder, "sync", opened)
    jrnl.create(tmp_path / "s", size=4096, journal="16KiB").close()
    assert met


def test_a_name_that_is_taken_is_never_given(tmp_path, monkeypatch):
    for there in ("file", "empty", "full"):
        (tmp_path / f"new {there}").mkdir()
        if there == "file":
            (tmp_path / there).touch()
        else:
            (tmp_path / there).mkdir()
        if there == "full":
            (tmp_path / there / "x").touch()
    with Folder(tmp_path) as folder:
        for there in ("file", "empty", "full"):
            with pytest.raises(FileExistsError) as caught:
                folder.rename(f"new {there}", there)
            assert caught.value.errno == errno.EEXIST
    monkeypatch.setattr(Folder, "names", lambda self: [])  # it was made just then
    with Folder(tmp_path) as folder:
        for there in ("file", "full"):
            with pytest.raises(FileExistsError):
                folder.rename(f"new {there}", there)


# Snapshots.


@pytest.mark.usefixtures("automatic")
def test_a_copy_that_ends_before_its_snapshot_is_named_is_whole(tmp_path, monkeypatch):
    named, ended = threading.Event(), threading.Event()
    make_durable, end = DiskSession._make_durable, FileCopy._end

    def late(self, snapshot):
        ended.wait(30)
        make_durable(self, snapshot)
        named.set()

    def between(self):
        if self._settled:
            ended.set()
            named.wait(30)
        end(self)

    monkeypatch.setattr(DiskSession, "_make_durable", late)
    monkeypatch.setattr(FileCopy, "_end", between)
    store = jrnl.create(tmp_path / "s", size=MIB, journal="256KiB", overlay=65536)
    taking = threading.Event()

    def take():
        store._session.copier.start()
        taking.set()

    for k in range(64):
        store.volume.write(k * 16384, bytes([k + 1]) * 8192)
    want = store.volume.read(0, MIB)
    enter = DiskSession.enter_snapshot

    def entering(self, snapshot):
        threading.Thread(target=take).start()
        return enter(self, snapshot)

    monkeypatch.setattr(DiskSession, "enter_snapshot", entering)
    snapshot = store.snapshot("b")
    assert snapshot.wait()
    assert ended.is_set()
    for k in range(200):
        store.volume.write(k % 64 * 16384, bytes([k]) * 8192)
    store.close()
    with jrnl.open(tmp_path / "s") as store:
        assert store.problems == []
        assert store.snapshots["b"].complete
        assert store.snapshots["b"].read(0, MIB) == want


def dig_holes(path: Path) -> None:
    """Leave no byte of zeroes in a file that need not be there, as cp --sparse=always does."""
    data = path.read_bytes()
    path.unlink()
    with open(path, "wb") as file:
        file.truncate(len(data))
        for k in range(0, len(data), 4096):
            if data[k : k + 4096] != bytes(4096):
                file.seek(k)
                file.write(data[k : k + 4096])


@pytest.mark.parametrize("overflow", ["evict", "fold"])
def test_a_past_state_is_not_what_production_has_no_holes_for(tmp_path, overflow):
    path = tmp_path / "s"
    with jrnl.create(path, size=8 * MIB, journal="32MiB", overflow=overflow) as store:
        for k in range(0, 8 * MIB, 65536):
            store.volume.write(k, os.urandom(5000))
        want = store.volume.read(0, 8 * MIB)
    store = jrnl.open(path)
    seq = store.snapshot("before").seq
    store.volume.discard(0, 8 * MIB)
    store.flush()
    store._session.log.write_back()
    shutil.copytree(path, tmp_path / "killed")
    store.close()
    dig_holes(tmp_path / "killed" / "data.img")
    with jrnl.open(tmp_path / "killed") as store:
        snapshot = store.snapshots["before"]
        assert snapshot.verify().ok
        assert snapshot.wait()
        assert snapshot.read(0, 8 * MIB) == want
        recovery = store.recover(seq, base="production")
        assert Path(recovery.path()).read_bytes() == want
        recovery.restore()
        store.volume.discard(0, 8 * MIB)
    with jrnl.open(tmp_path / "killed") as store:
        (recovery,) = store.recoveries.values()
        assert recovery.again().read(0, 8 * MIB) == want
        assert store.verify().ok
