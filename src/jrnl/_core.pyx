# cython: language_level=3
"""The engine: the journal's ring, the write path, the kernels of recovery. Table of contents:

    _hash        XXH3 without the GIL
    _memory      mappings and callers' buffers
    _device      files, and Python objects in their place
    _signals     what a signal must not break off
    _ring        where entries lie, how they enter and leave
    _write       the write path
    _reclaim     what may leave the journal, and what has to
    _edit        a range lent out for writing in place
    _log         file stores: groups of entries, on disk and in memory
    _overlay     file stores: what their volumes have not got yet
    _log_run     file stores: a run of the log without the bytes
    _log_keep    file stores: which groups may leave, and which have to
    _disk_write  file stores: the write path
    _extent_map  which bytes come from which entry
    _live        earlier states that follow production
    _stored      file stores: snapshots with their checksums
    _scan        file stores: what an opening finds
    _image       one read path: production, snapshots, patches, the bridge, differences
    _fold        snapshots go on over what leaves the journal
    _scratch     images that are written to: copy on write
    _rewind      production goes back in place
    _lifetime    making a core, locking it, taking it down
    _copy        copies that are made behind the writer's back
    _arguments   from Python's arguments to C's, from status codes to exceptions
    _volume_io   a volume's reads and writes
    _engine      the engine as the Python layer sees it
    _chains      from an entry to the next one that touches the same block
    _maps        maps as the Python layer sees them
    _states      images as the Python layer sees them
    _state_io    what views and recoveries are read by
    _history     who wrote where, what it cost, where two states differ
    _control     file stores: opening and closing their log
    _capi        the table of functions for C callers
    _describe    the numbers of the format, for Python to read

All bytes are moved by functions that touch no Python object and run under the core's lock, which is
re-entrant. Whoever holds the GIL waits for that lock only after letting go of the GIL.
"""

import os
from threading import get_ident, main_thread

cimport cython
import numpy
import xxhash
from xxhash import _xxhash

from jrnl.errors import (
    CorruptionError,
    EditOpen,
    EntryTooLarge,
    InvalidArgument,
    InvalidType,
    JournalFull,
    JrnlError,
    OutOfBounds,
    PinnedPoint,
    PointExpired,
    ReadOnlyStore,
    StoreClosed,
    StoreLocked,
    StorePoisoned,
    UnknownPoint,
    UnknownVolume,
    shown,
)

from cpython.buffer cimport (
    PyBUF_C_CONTIGUOUS,
    PyBUF_FORMAT,
    PyBUF_READ,
    PyBUF_WRITABLE,
    PyBuffer_FillInfo,
    PyBuffer_Release,
    PyObject_GetBuffer,
)
from cpython.bytes cimport (
    PyBytes_AS_STRING,
    PyBytes_CheckExact,
    PyBytes_FromStringAndSize,
    PyBytes_GET_SIZE,
)
from cpython.long cimport PyLong_AsLongLongAndOverflow, PyLong_CheckExact
from cpython.memoryview cimport PyMemoryView_FromMemory
from cpython.number cimport PyNumber_Index
from cpython.pycapsule cimport PyCapsule_New
from cpython.pythread cimport PyThread_get_thread_ident
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.errno cimport EINTR, EIO, EMFILE, ENFILE, ENXIO, errno
from libc.stdlib cimport calloc, free, malloc, qsort, realloc
from libc.string cimport memcmp, memcpy, memmove, memset
from posix.time cimport CLOCK_REALTIME, clock_gettime, timespec

from jrnl._format cimport *

include "_hash.pxi"
include "_memory.pxi"
include "_device.pxi"
include "_signals.pxi"
include "_ring.pxi"
include "_write.pxi"
include "_reclaim.pxi"
include "_edit.pxi"
include "_log.pxi"
include "_overlay.pxi"
include "_log_run.pxi"
include "_log_keep.pxi"
include "_disk_write.pxi"
include "_extent_map.pxi"
include "_live.pxi"
include "_stored.pxi"
include "_scan.pxi"
include "_image.pxi"
include "_fold.pxi"
include "_scratch.pxi"
include "_rewind.pxi"
include "_lifetime.pxi"
include "_copy.pxi"
include "_arguments.pxi"
include "_volume_io.pxi"
include "_engine.pxi"
include "_chains.pxi"
include "_maps.pxi"
include "_states.pxi"
include "_state_io.pxi"
include "_history.pxi"
include "_control.pxi"
include "_capi.pxi"
include "_describe.pxi"

hash_in_use = _resolve_hash(_xxhash.__file__)
stream_in_use = (<bytes>stream_name).decode()
