"""Something else is where a file of a store ought to be; and what reading only may close."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

import jrnl

SIZE = 20_000


def make_link(path: Path) -> None:
    path.rename(path.parent.parent / "elsewhere")
    path.symlink_to(path.parent.parent / "elsewhere")


def make_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def make_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "store"
    with jrnl.create(path, size=SIZE, journal="256KiB") as store:
        store.volume.write(0, b"a" * 9000)
        store.snapshot("shot").wait()
        store.volume.write(5, b"b")
        store.recover(1, base="production").restore()
    return path


@pytest.mark.parametrize("mode", ["r", "r+"])
@pytest.mark.parametrize("file", ["snapshot-1-0.img", "snapshot-1-0.sums"])
@pytest.mark.parametrize("change", [make_link, make_folder, make_pipe])
def test_what_is_no_file_of_a_snapshot_is_a_problem_and_the_store_opens(path, change, file, mode):
    change(path / file)
    with jrnl.open(path, mode) as store:
        assert any(file in problem for problem in store.problems)
        with pytest.raises(jrnl.CorruptionError):
            store.snapshots["shot"].read(0, SIZE)
        assert store.volume.read(0, 9000) == b"a" * 9000
        assert not store.verify().ok
        if mode == "r+":
            store.snapshots["shot"].delete()
    if mode == "r+":
        with jrnl.open(path) as store:
            assert store.problems == []


@pytest.mark.parametrize("file", ["data.img", "log", "index", "super.0", "super.1"])
@pytest.mark.parametrize("change", [make_link, make_folder, make_pipe])
def test_what_is_no_file_of_the_store_is_an_error(path, change, file):
    change(path / file)
    for mode in ("r", "r+"):
        with pytest.raises(OSError, match=file):
            jrnl.open(path, mode)


@pytest.mark.parametrize("file", ["snapshot-1-0.img", "snapshot-1-0.sums"])
def test_a_snapshots_file_may_be_longer_than_it_ought_to(path, file):
    with open(path / file, "r+b") as longer:
        longer.seek(1 << 40)
        longer.write(b"x" * 4096)
    with jrnl.open(path) as store:
        assert store.verify().ok
        store.volume.write(0, b"c")
        with store.recover("shot") as recovery:
            recovery.restore()
        assert store.volume.read(0, 9000) == b"a" * 9000


def close(recovery: jrnl.Recovery) -> None:
    recovery.close()


def leave(recovery: jrnl.Recovery) -> None:
    with recovery:
        assert recovery.read(0, 9000) == b"a" * 9000


@pytest.mark.parametrize("end", [close, leave])
def test_for_reading_only_a_recovery_may_be_closed_and_stays_on_disk(
    path, end: Callable[[jrnl.Recovery], None]
):
    with jrnl.open(path, "r") as store:
        recovery = store.recoveries[1]
        end(recovery)
        with pytest.raises(jrnl.StoreClosed):
            recovery.read(0, 1)
    with jrnl.open(path, "r+") as store:
        assert store.recoveries[1].read(0, 9000) == b"a" * 9000
