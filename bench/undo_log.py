"""The binding of undo_log.c: libpmemobj's undo log with its pool in RAM."""

import ctypes
import os
import pathlib
import shutil

from . import workload
from .compiler import declare, load
from .key_value import ram_directory

_u64, _pointer = ctypes.c_uint64, ctypes.c_void_p


class NoRoom(Exception):
    """/dev/shm is missing or too small for the pool (a container's is often 64 MiB)."""


class UndoLog:
    """A pool whose root object is the volume."""

    def __init__(self, volume_bytes):
        # RAM-backed files are no persistent memory to libpmem, which would msync each commit.
        # Told otherwise it flushes cache lines, as on the hardware that it was made for. It reads
        # this when it is loaded.
        os.environ["PMEM_IS_PMEM_FORCE"] = "1"
        library = load("undo_log", "-lpmemobj")
        pool_bytes = volume_bytes + volume_bytes // 8 + 64 * workload.MIB
        if not self._has_room(pool_bytes):
            raise NoRoom(f"/dev/shm has no room for {pool_bytes >> 20} MiB")
        work = (_pointer, _u64, _u64, _pointer, _u64)  # offsets, their count, batch, block, length
        self._write = declare(library, _u64, "undo_log_write", _pointer, _pointer, *work)
        self._close = declare(library, None, "undo_log_close", _pointer)
        self._folder = ram_directory(pool_bytes)
        open_pool = declare(library, _pointer, "undo_log_open", ctypes.c_char_p, _u64)
        self._pool = open_pool(os.fsencode(pathlib.Path(self._folder.name) / "pool"), pool_bytes)
        if not self._pool:
            raise OSError("pmemobj_create failed")
        root = declare(library, _pointer, "undo_log_volume", _pointer, _u64)
        self._volume = root(self._pool, volume_bytes)
        if not self._volume:
            raise OSError("pmemobj_root failed")

    @staticmethod
    def _has_room(pool_bytes):
        shared = pathlib.Path("/dev/shm")
        return shared.is_dir() and shutil.disk_usage(shared).free > pool_bytes + workload.GIB

    def write(self, offsets, block, batch):
        """Write `block` to all offsets, `batch` writes to a transaction."""
        lap = self._write(
            self._pool,
            self._volume,
            offsets.ctypes.data,
            len(offsets),
            batch,
            block.ctypes.data,
            block.size,
        )
        if not lap:
            raise OSError("a libpmemobj transaction was aborted")
        return lap

    def close(self):
        self._close(self._pool)
        self._folder.cleanup()
