"""Before-images in a key-value store: LMDB in RAM-backed files, nothing synced."""

import pathlib
import shutil
import struct
import tempfile

from . import workload

_key = struct.Struct(">Q").pack  # big-endian: LMDB's order is then the sequence's


def ram_directory(size_bytes):
    """A temporary directory on RAM-backed storage with room for `size_bytes`, else on disk."""
    shared = pathlib.Path("/dev/shm")
    has_room = shared.is_dir() and shutil.disk_usage(shared).free > size_bytes + workload.GIB
    return tempfile.TemporaryDirectory(prefix="jrnl-bench-", dir=shared if has_room else None)


class LmdbTable:
    """A volume as a plain array, its before-images in an LMDB table that holds a ring's worth."""

    def __init__(self, lmdb, volume_bytes, ring_bytes, length):
        self.volume = memoryview(workload.touch(workload.buffer(volume_bytes)))
        self._capacity = ring_bytes // length
        self._seq = 0
        self._folder = ram_directory(3 * ring_bytes)
        self._lmdb = lmdb.open(
            self._folder.name,
            map_size=16 * ring_bytes,
            sync=False,
            metasync=False,
            writemap=True,
            lock=False,
        )

    def write(self, batches, block):
        """One put for each write, in a transaction for each batch: the cheap way to use it."""
        volume, length = self.volume, len(block)
        for offsets in batches:
            with self._lmdb.begin(write=True) as transaction:
                put, delete = transaction.put, transaction.delete
                for offset in offsets:
                    seq = self._seq = self._seq + 1
                    put(_key(seq), volume[offset : offset + length], append=True)
                    volume[offset : offset + length] = block
                    if seq > self._capacity:
                        delete(_key(seq - self._capacity))

    def fill(self, offsets, block):
        """Write until the oldest images have begun to leave."""
        while self._seq < self._capacity * 9 // 8:
            self.write([offsets], block)

    def close(self):
        self._lmdb.close()
        self._folder.cleanup()
