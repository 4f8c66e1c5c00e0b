"""Stores and plain files on a disk's file system, and what stands beside them."""

import contextlib
import os
import pathlib
import sqlite3
import tempfile
import time

import jrnl

from . import workload
from .workload import BLOCK, DISK_JOURNAL, DISK_OVERLAY, MIB, VOLUME

IN_MEMORY = {"tmpfs", "ramfs", "devtmpfs", "rootfs"}

# What a row's last columns say.
NOTHING, ALL = "nothing is promised", "all"
CACHED = "all, in the page cache"
LAST_FLUSH = "all to the last flush"

seen = ""  # the file system that the files were on; conftest puts it into the JSON


def file_system(path):
    """The type of the file system that `path` is on, as /proc/mounts has it."""
    path = os.path.realpath(path)
    best, kind = "", ""
    with open("/proc/mounts") as mounts:
        for line in mounts:
            _, at, this, *_ = line.split()
            inside = path == at or path.startswith(at.rstrip("/") + "/")
            if inside and len(at) >= len(best):
                best, kind = at, this
    return kind


def on_a_disk():
    """TMPDIR or the like, else the current directory; OSError where both are in memory."""
    global seen  # noqa: PLW0603
    for folder in (tempfile.gettempdir(), os.getcwd()):
        kind = file_system(folder)
        if kind not in IN_MEMORY:
            seen = kind
            return folder
    raise OSError("TMPDIR and the current directory are both in memory; set TMPDIR")


@contextlib.contextmanager
def folder():
    """A temporary directory on a disk."""
    with tempfile.TemporaryDirectory(prefix="jrnl-bench-", dir=on_a_disk()) as name:
        yield pathlib.Path(name)


def fill(write, size_bytes, step=MIB):
    """Something that is neither zero nor a hole, in pieces of `step`."""
    pattern = workload.rows(1, step, seed=2)[0].tobytes()
    for at in range(0, size_bytes, step):
        write(at, pattern[: size_bytes - at])


class PlainFile:
    """A file of `size_bytes`, written in pieces of `step`; each method returns nanoseconds.

    The page cache holds it in folios as large as the pieces were, and ext4 looks at each block of
    a folio when a byte of it is written: on the machine of the README a random 4 KiB write takes
    11 to 30 µs where the file was written by the MiB, or read from end to end (what any copied
    image is), and 1.5 µs where it was written by 4 KiB pieces.
    """

    def __init__(self, path, size_bytes, step=MIB):
        self.descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
        self.size_bytes = size_bytes
        self._at = 0
        fill(self._put, size_bytes, step)
        os.fsync(self.descriptor)

    def _put(self, at, piece):
        os.pwrite(self.descriptor, piece, at)

    def write(self, offsets, block, sync=False):
        """Buffered pwrite at each offset; `sync`: one fdatasync at the end."""
        put, descriptor = os.pwrite, self.descriptor
        start = time.perf_counter_ns()
        for offset in offsets:
            put(descriptor, block, offset)
        if sync:
            os.fdatasync(descriptor)
        return time.perf_counter_ns() - start

    def append(self, count, block, every=1):
        """pwrite one behind the other (from the start again at the end), fdatasync `every` so
        many: a log that keeps the user's bytes and nothing else."""
        put, sync, descriptor, at = os.pwrite, os.fdatasync, self.descriptor, self._at
        start = time.perf_counter_ns()
        for number in range(1, count + 1):
            if at + len(block) > self.size_bytes:
                at = 0
            put(descriptor, block, at)
            at += len(block)
            if number % every == 0:
                sync(descriptor)
        self._at = at
        return time.perf_counter_ns() - start

    def sync(self):
        """Not timed: what is dirty must not be written out in somebody else's round."""
        os.fdatasync(self.descriptor)

    def close(self):
        os.close(self.descriptor)


@contextlib.contextmanager
def filled_store(path, **options):
    """A store on disk whose volume has content, all of it in the volume's file."""
    options = {"size": VOLUME, "journal": DISK_JOURNAL, "overlay": DISK_OVERLAY} | options
    with jrnl.create(path, **options) as store:
        fill(store.volume.write, store.volume.size, min(MIB, DISK_OVERLAY // 16))
        write_back(store)
        yield store


def write_back(store):
    """Empty the overlay. Users need not: the store does so by itself."""
    log = store._session.log
    log.commit()
    log.write_back()


class SqliteTable:
    """Both images of each write in an SQLite table: WAL, synchronous=FULL. The volume itself is
    memory, and what the journal would evict stays: both in favour of SQLite."""

    def __init__(self, path, volume_bytes):
        self.volume = memoryview(workload.touch(workload.buffer(volume_bytes)))
        self._table = sqlite3.connect(path, isolation_level=None)
        self._table.execute("PRAGMA page_size = 4096")
        self._table.execute("PRAGMA journal_mode = WAL")
        self._table.execute("PRAGMA synchronous = FULL")
        self._table.execute(
            "CREATE TABLE entries (seq INTEGER PRIMARY KEY, at INTEGER, before BLOB, after BLOB)"
        )

    def write(self, batches, block):
        """Each batch is a transaction, durable when it has ended."""
        run, volume, length = self._table.execute, self.volume, len(block)
        for offsets in batches:
            run("BEGIN")
            for offset in offsets:
                run(
                    "INSERT INTO entries (at, before, after) VALUES (?, ?, ?)",
                    (offset, volume[offset : offset + length], block),
                )
                volume[offset : offset + length] = block
            run("COMMIT")

    def close(self):
        self._table.close()


class LmdbImages:
    """Both images of each write in LMDB, synced at each commit; the volume itself is memory."""

    def __init__(self, lmdb, path, volume_bytes, map_bytes):
        self.volume = memoryview(workload.touch(workload.buffer(volume_bytes)))
        self._seq = 0
        self._lmdb = lmdb.open(str(path), map_size=map_bytes)

    def write(self, batches, block):
        volume, length = self.volume, len(block)
        for offsets in batches:
            with self._lmdb.begin(write=True) as transaction:
                for offset in offsets:
                    self._seq += 1
                    before = bytes(volume[offset : offset + length])
                    key = self._seq.to_bytes(8, "big")
                    images = offset.to_bytes(8, "big") + before + block
                    transaction.put(key, images, append=True)
                    volume[offset : offset + length] = block

    def close(self):
        self._lmdb.close()


def random_blocks(round_number, count):
    return workload.offsets(round_number, count, BLOCK, VOLUME).tolist()
