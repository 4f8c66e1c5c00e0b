"""A full disk, and whatever else the system refuses: the error names the file."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import jrnl

SIZE = 4 << 20
SUPER_BYTES = 1 << 20  # of a superblock


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Have the system refuse what would lie beyond `size` bytes in a file: EFBIG, no ENOSPC."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def create(path: Path, **options: object) -> jrnl.Store:
    wanted = {"size": SIZE, "journal": "256KiB", "overlay": "64KiB", **options}
    return jrnl.create(path, **wanted)  # type: ignore[arg-type]


def write_at(offset: int) -> Callable[[jrnl.Store], object]:
    def write(store: jrnl.Store) -> None:
        for k in range(200):
            store.volume.write(offset + 4096 * (k % 16), bytes([k + 1]) * 4096)
        store.flush()

    return write


def snapshot(store: jrnl.Store) -> None:
    store.snapshot("taken").wait()


# What is done, how long a file may be by then, and which file cannot take it.
REFUSED = {
    "the log": (write_at(0), 64 << 10, "log"),
    "a volume": (write_at(SIZE - (1 << 17)), 3 << 20, "data.img"),
    "a snapshot": (snapshot, 3 << 20, "snapshot-*"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_file_cannot_take_raises_with_the_files_path(tmp_path, name):
    call, limit, file = REFUSED[name]
    path = tmp_path / "s"
    store = create(path)
    store.volume.write(SIZE - 4096, b"x" * 4096)
    with files_of_at_most(limit), pytest.raises(OSError) as caught:
        call(store)
    error = caught.value
    assert error.errno == errno.EFBIG
    assert os.path.dirname(error.filename) == str(path)
    assert Path(error.filename).match(file)
    assert repr(error.filename) in str(error)
    store.close()


@pytest.mark.parametrize("limit", [0, 4096, 100 << 10, 200 << 10, SUPER_BYTES // 2, SUPER_BYTES])
def test_a_creation_without_room_names_the_file_below_the_path_that_was_given(
    tmp_path, monkeypatch, limit
):
    monkeypatch.chdir(tmp_path)
    size = 64 << 10 if limit < SUPER_BYTES else SIZE
    with files_of_at_most(limit), pytest.raises(OSError) as caught:
        create(Path("here"), size=size)
    assert caught.value.errno == errno.EFBIG
    folder, file = os.path.split(caught.value.filename)
    assert folder == "here"
    assert file in {"data.img", "log", "index", "super.0", "super.1"}
    assert os.listdir(tmp_path) == []


def test_an_opening_names_the_file_that_it_cannot_have(tmp_path):
    create(tmp_path / "s").close()
    (tmp_path / "s" / "data.img").unlink()
    (tmp_path / "s" / "data.img").mkdir()
    with pytest.raises(OSError) as caught:
        jrnl.open(tmp_path / "s")
    assert caught.value.filename == str(tmp_path / "s" / "data.img")


def test_a_recovery_without_room_in_memory_names_its_path():
    with jrnl.create(size=SIZE) as store:
        store.volume.write(0, b"x")
        with (
            store.recover(0) as recovery,
            files_of_at_most(4096),
            pytest.raises(OSError) as caught,
        ):
            recovery.path()
    assert caught.value.errno == errno.EFBIG
    assert caught.value.filename.startswith("/proc/")
