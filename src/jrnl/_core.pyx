# cython: language_level=3
"""The engine: the journal's ring, the write path, the kernels of recovery. Table of contents:

    _rules       file stores: rules that tests take away
    _hash        XXH3 without the GIL
    _kernels     which vectors move the bytes
    _lock        who has the engine's lock
    _memory      mappings, volumes in memory, callers' buffers
    _signals     what a signal must not break off
    _device      files, and Python objects in their place
    _errors      from status codes to exceptions
    _look        long calls hear signals
    _ring        where entries lie, how they enter and leave
    _first_lap   a new journal's memory, faulted in ahead of the writer
    _log         file stores: groups of entries, on disk and in memory
    _pieces      file stores: parts of large images
    _overlay     file stores: what their volumes have not got yet
    _reading     the door for what reads: production's bytes, entries' images
    _extent_map  which bytes come from which entry
    _live        earlier states that follow production
    _keep        what they need of what leaves the journal
    _left        what has changed since a copy was made
    _asking      the Python layer is asked to bring a snapshot on
    _reclaim     what may leave the journal, and what has to
    _commit      file stores: the open group is sealed, written and synced
    _stored      file stores: snapshots with their checksums
    _kept        file stores: states that are kept for recoveries
    _image       one read path: production, snapshots, patches, the bridge, differences
    _kept_save   file stores: what kept states need of what leaves
    _suspects    where production may differ from an image
    _index       file stores: the headers beside the log, and what is checked of each
    _write_back  file stores: their volumes get what they have not got
    _leave       file stores: groups leave the log
    _log_run     file stores: a run of the log without the bytes
    _log_keep    file stores: which groups may leave, and which have to
    _disk_room   file stores: what fits, and what leaves for it
    _room        room for an entry in memory
    _batch       file stores: what takes the entries of one call back
    _disk_write  file stores: the write path
    _disk_batch  file stores: several entries of one call, all or nothing
    _disk_edit   file stores: a range lent out as a copy
    _write       the write path in memory
    _edit        a range lent out for writing in place
    _rewind      production goes back in place
    _disk_rewind  file stores: their volumes go back, and the log is cut
    _restore     what differs is written onto production
    _disk_restore  file stores: the same, under an intent
    _storage     the door for what enters: in memory, or on disk
    _scan        file stores: what an opening finds
    _fold        snapshots go on over what leaves the journal
    _scratch     images that are written to: copy on write
    _copy        copies that are made behind the writer's back
    _lifetime    making a core, and taking it down
    _reentry     calls from inside another one on the same thread
    _arguments   from Python's arguments to C's
    _engine      the engine as the Python layer sees it
    _hold        pins as the Python layer sees them
    _volume_io   a volume's reads and writes
    _chains      from an entry to the next one that touches the same block
    _maps        maps as the Python layer sees them
    _long        images a part at a time, so that signals are heard
    _kept_state  kept states as the Python layer sees them
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
import warnings
from threading import RLock, main_thread

cimport cython
import numpy
import xxhash
from xxhash import _xxhash

from jrnl.errors import (
    CatalogFull,
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
    StoreBusy,
    StoreClosed,
    StoreLocked,
    StorePoisoned,
    UnknownPoint,
    UnknownVolume,
    shown,
)

cdef extern from "Python.h":
    int PyGC_Disable()
    int PyGC_Enable()

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
from cpython.exc cimport PyErr_CheckSignals
from cpython.long cimport PyLong_AsLongLongAndOverflow, PyLong_CheckExact
from cpython.memoryview cimport PyMemoryView_FromMemory
from cpython.number cimport PyNumber_Index
from cpython.pycapsule cimport PyCapsule_New
from cpython.pythread cimport PyThread_get_thread_ident
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.errno cimport EINTR, EIO, EMFILE, ENFILE, ENOMEM, ENXIO, errno
from libc.stdlib cimport calloc, free, malloc, qsort, realloc
from libc.string cimport memcmp, memcpy, memmove, memset
from posix.time cimport CLOCK_REALTIME, clock_gettime, timespec

from jrnl._format cimport *
from jrnl._structs cimport *

include "_rules.pxi"
include "_hash.pxi"
include "_kernels.pxi"
include "_lock.pxi"
include "_memory.pxi"
include "_signals.pxi"
include "_device.pxi"
include "_errors.pxi"
include "_look.pxi"
include "_ring.pxi"
include "_first_lap.pxi"
include "_log.pxi"
include "_pieces.pxi"
include "_overlay.pxi"
include "_reading.pxi"
include "_extent_map.pxi"
include "_live.pxi"
include "_keep.pxi"
include "_left.pxi"
include "_asking.pxi"
include "_reclaim.pxi"
include "_commit.pxi"
include "_stored.pxi"
include "_kept.pxi"
include "_image.pxi"
include "_kept_save.pxi"
include "_suspects.pxi"
include "_index.pxi"
include "_write_back.pxi"
include "_leave.pxi"
include "_log_run.pxi"
include "_log_keep.pxi"
include "_disk_room.pxi"
include "_room.pxi"
include "_batch.pxi"
include "_disk_write.pxi"
include "_disk_batch.pxi"
include "_disk_edit.pxi"
include "_write.pxi"
include "_edit.pxi"
include "_rewind.pxi"
include "_disk_rewind.pxi"
include "_restore.pxi"
include "_disk_restore.pxi"
include "_storage.pxi"
include "_scan.pxi"
include "_fold.pxi"
include "_scratch.pxi"
include "_copy.pxi"
include "_lifetime.pxi"
include "_reentry.pxi"
include "_arguments.pxi"
include "_engine.pxi"
include "_hold.pxi"
include "_volume_io.pxi"
include "_chains.pxi"
include "_maps.pxi"
include "_long.pxi"
include "_kept_state.pxi"
include "_states.pxi"
include "_state_io.pxi"
include "_history.pxi"
include "_control.pxi"
include "_capi.pxi"
include "_describe.pxi"

hash_in_use = _resolve_hash(_xxhash.__file__)
kernel_in_use = _choose_kernels(os.environ.get("JRNL_KERNEL") or None)
