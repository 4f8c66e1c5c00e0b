# The classes that Python sees, for one another: they stand in the files of _core.pyx.

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from jrnl.kernel.format cimport EntryHeader
from jrnl.kernel.structs cimport *

cdef class FileDevice:
    cdef Device device
    cdef object __weakref__

cdef class CallbackDevice:
    cdef Device device
    cdef readonly object target
    cdef object __weakref__

cdef class MemoryDevice:
    cdef uint8_t* data
    cdef uint64_t length
    cdef bint mapped
    cdef object owner
    cdef Py_buffer view
    cdef object __weakref__

cdef class Engine:
    cdef Core* core
    cdef readonly tuple devices
    cdef readonly object identity
    cdef object clock
    cdef object record
    cdef object finish_copy
    cdef object fold_hook
    cdef object on_low
    cdef object on_throttle
    cdef object events
    cdef tuple files
    cdef object newest_share
    cdef object merged
    cdef object source
    cdef object __weakref__
    cdef int _tell_due(self) except -1
    cdef int _hold_up(self) except -1
    cdef void _call_low(self) noexcept
    cdef const EntryHeader* _entry(self, uint64_t seq) except NULL

cdef class VolumeIO:
    cdef Core* core
    cdef Engine engine
    cdef uint32_t index
    cdef readonly uint64_t size
    cdef int _read(self, uint64_t offset, uint8_t* target, uint64_t length) except? -1000
    cdef int _read_on(self, uint64_t offset, uint8_t* target, uint64_t length) except? -1000
    cdef _fill_zero(self, int kind, offset, length)
