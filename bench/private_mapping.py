"""The binding of private_mapping.c: MAP_PRIVATE and MADV_DONTNEED."""

import ctypes

from .compiler import declare, load

_u64, _pointer, _int = ctypes.c_uint64, ctypes.c_void_p, ctypes.c_int


class PrivateMapping:
    """A sparse file in memory, mapped private; `dirty` blocks, then `go_back`."""

    def __init__(self, size_bytes):
        library = load("private_mapping")
        by_block = (_pointer, _u64, _pointer, _u64)
        self._prepare = declare(library, _int, "private_prepare", _int, _pointer, *by_block)
        self._dirty = declare(library, None, "private_dirty", _pointer, *by_block)
        self._return = declare(
            library, _u64, "private_return", _pointer, _u64, _pointer, _u64, ctypes.c_uint8
        )
        self._forget = declare(library, _int, "private_forget", _int, _u64)
        self._close = declare(library, None, "private_close", _int, _pointer, _u64)
        open_mapping = declare(library, _int, "private_open", _u64, _pointer, _pointer)
        fd, mapping = ctypes.c_int(), ctypes.c_void_p()
        if open_mapping(size_bytes, ctypes.byref(fd), ctypes.byref(mapping)):
            raise OSError("no private mapping of a memfd here")
        self._fd, self._mapping, self._size_bytes = fd.value, mapping.value, size_bytes

    def dirty(self, offsets, pristine, dirt):
        """Give the file `pristine` at all offsets, then write `dirt` through the mapping."""
        where = (offsets.ctypes.data, len(offsets))
        if self._forget(self._fd, self._size_bytes) or self._prepare(
            self._fd, self._mapping, *where, pristine.ctypes.data, pristine.size
        ):
            raise OSError("the memfd could not be written")
        self._dirty(self._mapping, *where, dirt.ctypes.data, dirt.size)

    def go_back(self, offsets, first_byte):
        """Drop the dirty pages, touch each block; returns how many blocks are not pristine."""
        where = (offsets.ctypes.data, len(offsets))
        return self._return(self._mapping, self._size_bytes, *where, first_byte)

    def close(self):
        self._close(self._fd, self._mapping, self._size_bytes)
