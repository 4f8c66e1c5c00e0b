# cython: language_level=3
"""The engine: the journal's ring, the write path, the kernels of recovery. Table of contents:

    sabotage         file stores: rules that tests take away
    hash             XXH3 without the GIL
    kernels          which vectors move the bytes
    lock             who has the engine's lock
    memory           mappings, volumes in memory, callers' buffers
    shared           what stores in memory share with their forks
    signals          what a signal must not break off
    device           files, and Python objects in their place
    errors           from status codes to exceptions
    signal_poll      long calls hear signals
    ring             where entries lie, how they enter and leave
    prefault         a new journal's memory, faulted in ahead of the writer
    log              file stores: groups of entries, on disk and in memory
    pieces           file stores: parts of large images
    overlay          file stores: what their volumes have not got yet
    reading          the door for what reads: production's bytes, entries' images
    taken            file stores: entries and what they wrote, for an archive
    extent_map       which bytes come from which entry
    live             earlier states that follow production
    preserve         what they need of what leaves the journal
    changed_blocks   what has changed since a copy was made
    fold_hook        the Python layer is asked to bring a snapshot on
    reclaim          what may leave the journal, and what has to
    commit           file stores: the open group is sealed, written and synced
    snapshot_files   file stores: snapshots with their checksums
    preserved        file stores: states that recoveries preserve
    image            one read path: production, snapshots, patches, the bridge, differences
    recorded         recorded logs: which entry wrote a byte last, at any state
    preserved_save   file stores: what preserved states need of what leaves
    suspects         where production may differ from an image
    index            file stores: the headers beside the log, and what is checked of each
    write_back       file stores: their volumes get what they have not got
    log_evict        file stores: groups leave the log
    log_forecast     file stores: the log played on without the bytes
    log_retention    file stores: which groups may leave, and which have to
    disk_room        file stores: what fits, and what leaves for it
    room             room for an entry in memory
    batch            file stores: what takes the entries of one call back
    disk_write       file stores: the write path
    disk_batch       file stores: several entries of one call, all or nothing
    disk_edit        file stores: a range lent out as a copy
    write            the write path in memory
    edit             a range lent out for writing in place
    rewind           production goes back in place
    disk_rewind      file stores: their volumes go back, and the log is cut
    restore          what differs is written onto production
    disk_restore     file stores: the same, under an intent
    replay           entries of an archive made again
    storage          the door for what enters: in memory, or on disk
    scan             file stores: what an opening finds
    fold             snapshots go on over what leaves the journal
    copy_on_write    images that are written to
    copy             copies that are made behind the writer's back
    lifetime         making a core, and taking it down
    nbd_wire         an NBD connection: requests in, replies out
    reentry          calls from inside another one on the same thread
    arguments        from Python's arguments to C's
    engine           the engine as the Python layer sees it
    shares           forks as the Python layer makes them
    pinned_state     pins as the Python layer sees them
    volume_io        a volume's reads and writes
    file_calls       what a file over a volume does at each call
    chains           from an entry to the next one that touches the same block
    maps             maps as the Python layer sees them
    image_parts      images a part at a time, so that signals are heard
    preserved_state  preserved states as the Python layer sees them
    images           images as the Python layer sees them
    image_reader     what views and recoveries are read by
    history          who wrote where, what it cost, where two states differ
    recorded_log     a recorded log as Python sees it
    archive          entries for an archive, and from one
    log_opening      file stores: their log as an opening finds it
    log_control      file stores: their log committed, recorded and closed
    nbd_connection   an NBD connection as the server sees it
    capi             the table of functions for C callers
    format_numbers   the numbers of the format, for Python to read

All bytes are moved by functions that touch no Python object and run under the core's lock, which is
re-entrant. Whoever holds the GIL waits for that lock only after letting go of the GIL.
"""

import os
import warnings
from threading import RLock, main_thread
from weakref import ref as weakref

cimport cython
import numpy
import xxhash
from xxhash import _xxhash

from jrnl.errors import (
    CatalogFull,
    CorruptionError,
    EditOpen,
    EntryTooLarge,
    FormatError,
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
    PyBUF_WRITE,
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

from jrnl.kernel.format cimport *
from jrnl.kernel.structs cimport *

include "kernel/sabotage.pxi"
include "kernel/hash.pxi"
include "kernel/kernels.pxi"
include "kernel/lock.pxi"
include "kernel/memory.pxi"
include "kernel/shared.pxi"
include "kernel/signals.pxi"
include "kernel/device.pxi"
include "kernel/errors.pxi"
include "kernel/signal_poll.pxi"
include "kernel/ring.pxi"
include "kernel/prefault.pxi"
include "kernel/log.pxi"
include "kernel/pieces.pxi"
include "kernel/overlay.pxi"
include "kernel/reading.pxi"
include "kernel/taken.pxi"
include "kernel/extent_map.pxi"
include "kernel/live.pxi"
include "kernel/preserve.pxi"
include "kernel/changed_blocks.pxi"
include "kernel/fold_hook.pxi"
include "kernel/reclaim.pxi"
include "kernel/commit.pxi"
include "kernel/snapshot_files.pxi"
include "kernel/preserved.pxi"
include "kernel/image.pxi"
include "kernel/recorded.pxi"
include "kernel/preserved_save.pxi"
include "kernel/suspects.pxi"
include "kernel/index.pxi"
include "kernel/write_back.pxi"
include "kernel/log_evict.pxi"
include "kernel/log_forecast.pxi"
include "kernel/log_retention.pxi"
include "kernel/disk_room.pxi"
include "kernel/room.pxi"
include "kernel/batch.pxi"
include "kernel/disk_write.pxi"
include "kernel/disk_batch.pxi"
include "kernel/disk_edit.pxi"
include "kernel/write.pxi"
include "kernel/edit.pxi"
include "kernel/rewind.pxi"
include "kernel/disk_rewind.pxi"
include "kernel/restore.pxi"
include "kernel/disk_restore.pxi"
include "kernel/replay.pxi"
include "kernel/storage.pxi"
include "kernel/scan.pxi"
include "kernel/fold.pxi"
include "kernel/copy_on_write.pxi"
include "kernel/copy.pxi"
include "kernel/lifetime.pxi"
include "kernel/nbd_wire.pxi"
include "bind/reentry.pxi"
include "bind/arguments.pxi"
include "bind/engine.pxi"
include "bind/shares.pxi"
include "bind/pinned_state.pxi"
include "bind/volume_io.pxi"
include "bind/file_calls.pxi"
include "bind/chains.pxi"
include "bind/maps.pxi"
include "bind/image_parts.pxi"
include "bind/preserved_state.pxi"
include "bind/images.pxi"
include "bind/image_reader.pxi"
include "bind/history.pxi"
include "bind/recorded_log.pxi"
include "bind/archive.pxi"
include "bind/log_opening.pxi"
include "bind/log_control.pxi"
include "bind/nbd_connection.pxi"
include "bind/capi.pxi"
include "bind/format_numbers.pxi"

hash_in_use = _resolve_hash(_xxhash.__file__)
kernel_in_use = _choose_kernels(os.environ.get("JRNL_KERNEL") or None)
