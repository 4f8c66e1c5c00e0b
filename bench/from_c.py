"""The binding of from_c.c, which reaches jrnl through its C header only."""

import ctypes
import sysconfig

import jrnl

from .compiler import build, declare

_u64, _pointer, _int = ctypes.c_uint64, ctypes.c_void_p, ctypes.c_int


class CEngine:
    """A checksummed engine with one volume, opened and written to by C code."""

    def __init__(self, volume_bytes, journal_bytes):
        headers = (f"-I{jrnl.get_include()}", f"-I{sysconfig.get_paths()['include']}")
        # PyDLL: the import wants the GIL, and what it raises is raised here.
        library = ctypes.PyDLL(build("from_c", *headers))
        declare(library, _int, "from_c_import")()
        work = (_pointer, _u64, _pointer, _u64, _u64)
        self._write = declare(library, _int, "from_c_write", _pointer, *work)
        self._write_many = declare(library, _int, "from_c_write_many", _pointer, *work)
        self._close = declare(library, None, "from_c_close", _pointer)
        self._engine = declare(library, _pointer, "from_c_open", _u64, _u64)(
            volume_bytes, journal_bytes
        )
        if not self._engine:
            raise MemoryError("jrnl's open() failed")

    def write(self, offsets, rows):
        """One call of the table's write for each offset; write i takes row i % len(rows)."""
        self._check(self._write(self._engine, *self._work(offsets, rows)))

    def write_many(self, offsets, rows):
        """The table's write_many in batches of len(rows)."""
        self._check(self._write_many(self._engine, *self._work(offsets, rows)))

    @staticmethod
    def _work(offsets, rows):
        return offsets.ctypes.data, len(offsets), rows.ctypes.data, *rows.shape

    @staticmethod
    def _check(status):
        if status:
            raise RuntimeError(f"jrnl returned status {status} to C")

    def close(self):
        self._close(self._engine)
