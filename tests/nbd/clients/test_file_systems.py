"""ext4, XFS and btrfs over NBD: a mark is set while files are written, and brings them back whole.

    files -> file system -> loop device -> nbdfuse -> the server, in a process of its own

Needs root, FUSE, loop devices and the Debian packages libnbd-bin, e2fsprogs, xfsprogs, btrfs-progs.
"""

from __future__ import annotations

import hashlib
import os
import random
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest

import jrnl
from tests.model.mounts import TOOLS, lacking_right, mounted
from tests.model.tools import need, run, until

SIZES = {"ext4": "64MiB", "xfs": "300MiB", "btrfs": "128MiB"}  # the least that each takes
MAKE = {
    "ext4": ("-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0"),
    "xfs": ("-q", "-f"),
    "btrfs": ("-q", "-f"),
}
AGAIN = {"ext4": "defaults", "xfs": "nouuid", "btrfs": "defaults"}  # where its twin was mounted
CHECK = {
    "ext4": ("e2fsck", "-f", "-n"),
    "xfs": ("xfs_repair", "-n"),
    "btrfs": ("btrfs", "check", "--readonly"),
}


class Writer(threading.Thread):
    """Writes files, one after the other, and lists those that it has synced.

    From `change` on it also overwrites and removes those of before.

    Attributes
    ----------
    synced : dict
        The digests of what was synced, by name.
    """

    def __init__(self, root: Path, seed: int) -> None:
        super().__init__()
        self.synced: dict[str, str] = {}
        self.changed = 0
        self.change, self.end = threading.Event(), threading.Event()
        self._root, self._rng = root, random.Random(seed)
        self._failed: BaseException | None = None

    def run(self) -> None:
        try:
            self._write()
        except BaseException as error:
            self._failed = error

    def finish(self) -> None:
        self.end.set()
        self.join()
        if self._failed is not None:
            raise self._failed

    def _write(self) -> None:
        number, before = 0, []
        while not self.end.is_set():
            folder = self._root / f"d{number % 5}"
            folder.mkdir(exist_ok=True)
            self._file(folder / f"f{number}")
            number += 1
            if self.change.is_set():
                before = before or [*self.synced]
                old = self._root / before[self.changed % len(before)]
                if old.exists() and self._rng.random() < 0.5:
                    old.unlink()
                else:
                    self._file(old)
                self.changed += 1

    def _file(self, path: Path) -> None:
        content = self._rng.randbytes(self._rng.choice([10, 4096, 30_000, 100_000]))
        path.write_bytes(content)
        sync(path)
        sync(path.parent)
        self.synced[str(path.relative_to(self._root))] = digest(content)


def sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def hold_against(root: Path, expected: dict[str, str]) -> None:
    """Compare file by file."""
    found = {name: digest((root / name).read_bytes()) for name in expected}
    assert found == expected


@pytest.mark.parametrize("kind", SIZES)
def test_a_mark_set_while_files_are_written_brings_them_back_whole(outside, kind, seed, tmp_path):
    need("nbdcopy", f"mkfs.{kind}", CHECK[kind][0], *TOOLS, right=lacking_right(kind))
    jrnl.create(outside.path, size=SIZES[kind], journal="256MiB").close()
    outside.start()
    with ExitStack() as stack:
        disk, marker = outside.fused("data", stack), outside.fused("@mark", stack)
        with mounted(disk, tmp_path / "now", kind, make=MAKE[kind]) as root:
            writer = Writer(root, seed)
            writer.start()
            try:
                until(lambda: len(writer.synced) >= 15, "the writer")
                expected = dict(writer.synced)
                run("dd", f"of={marker}", "conv=notrunc,fsync", stdin="good\n")
                writer.change.set()
                until(lambda: writer.changed >= 10 or not writer.is_alive(), "the writer")
            finally:
                writer.finish()
            assert not all((root / name).exists() for name in expected) or any(
                digest((root / name).read_bytes()) != told for name, told in expected.items()
            )
        # With a scratch branch, the file system's journal can be replayed in place.
        scratch = outside.fused("data@good+rw", stack)
        with mounted(scratch, tmp_path / "scratch", kind, AGAIN[kind]) as root:
            hold_against(root, expected)
            (root / "written").write_bytes(b"on the scratch branch alone")
            sync(root / "written")
        # In a file of its own it is the state as it was.
        image = tmp_path / "good.img"
        run("nbdcopy", outside.uri("data@good"), image)
    with mounted(image, tmp_path / "then", kind, AGAIN[kind]) as root:
        hold_against(root, expected)
        assert not (root / "written").exists()
    run(*CHECK[kind], image)
    outside.stop()
    with jrnl.open(outside.path, mode="r") as store:
        assert store.verify().ok and [*store.marks] == ["good"]
