# From Python's arguments to C's: every caller's mistake is caught here, before anything changes.

cdef int raise_status(int status, Core* core) except -1:
    """Turn a core's status into its exception."""
    if status == OK:
        return 0
    if status == E_CLOSED:
        raise StoreClosed("the store is closed; " + ("create another" if core.disk is NULL
                                                     else "open it again"))
    if status == E_FOLD:
        raise_fold()
    if status == E_FULL:
        raise_full(core)
    if status == E_TOO_LARGE:
        raise EntryTooLarge(f"one write takes at most {core.write_max} bytes with a journal of "
                            f"{core.capacity}; split it, or make the journal larger")
    if status == E_EDIT:
        raise EditOpen("an edit is open on this thread and this call needs what it is changing; "
                       "leave the edit's with block first")
    if status == E_NO_BEFORE:
        raise InvalidArgument("images='after' keeps no before-images, which this needs; create "
                              "the store with images='before' or 'both'")
    if status == E_IO:
        raise_io(core.disk.error, "a file of the store")
    if status == E_POISONED:
        raise StorePoisoned("an earlier write or sync failed (" + os.strerror(core.disk.poisoned)
                            + "), so what is on disk is not known; nothing is written any more: "
                            "close the store and open it again, which redoes what was durable")
    if status == E_READ_ONLY:
        raise ReadOnlyStore("the store is open for reading; open it with mode='r+'")
    if status == E_FORKED:
        raise StoreLocked("the store belongs to the process that opened it, not to its forked "
                          "child; open it in the child once the parent has closed it")
    if status == E_LOST and core.disk.lost:
        raise CorruptionError("a damaged part of the log held the newest bytes of production, "
                              "which are lost; recover from a snapshot")
    if status == E_LOST:
        raise CorruptionError(f"the newest bytes of production at {core.bad_offset} were in a "
                              "damaged entry and are lost; write over them, or restore a snapshot")
    if status == E_NO_MEMORY:
        raise MemoryError("not enough memory; nothing has changed")
    if status == E_UNKNOWN:
        raise UnknownPoint(f"no such state yet; the newest is {core.seq}")
    if status == E_EXPIRED:
        raise PointExpired(f"the state is no longer kept; the window is {core.base_seq}.."
                           f"{core.seq}, less what a rewind dropped; a larger journal or a "
                           "snapshot keeps states for longer")
    if status == E_PINNED and core.reclaim.pins is not NULL \
            and core.bad_seq == core.reclaim.pin_high:
        raise PinnedPoint(f"state {core.bad_seq} is pinned, and this rewind would drop it; release "
                          "the pin, unpin the mark or close the pinned view first, or rewind no "
                          "further than that")
    if status == E_PINNED:
        raise PinnedPoint(f"a view of state {core.bad_seq}, or a recovery made when production was "
                          "in it, is open and needs an entry that this rewind would drop; close "
                          "it first: store.recoveries has the open recoveries, and "
                          "store.delete_recovery(id) closes one")
    if status == E_DISAGREE:
        raise CorruptionError(f"entry {core.bad_seq} and the snapshot disagree on byte "
                              f"{core.bad_offset}, which was not written in between: one of the "
                              "two is damaged; recover without this snapshot, or from another")
    if status == E_CORRUPT and core.bad_seq:
        raise CorruptionError(f"entry {core.bad_seq} does not match its checksum; states before "
                              "it cannot be rebuilt through it, later ones can")
    if status == E_CORRUPT:
        raise CorruptionError(f"the snapshot does not match its checksum at byte "
                              f"{core.bad_offset}; use another snapshot, or none")
    raise OutOfBounds("the range does not lie inside the volume")


cdef int raise_full(Core* core) except -1:
    cdef str why = "its oldest entries may not leave"
    cdef str way = "write less at a time, or use overflow='evict'"
    if core.reclaim.full_by == FULL_PINNED:
        why = f"{_lowest_pin(core)}, so no later entry may leave"
        way = "unpin the mark" if "the mark" in why else "release the pin or close the pinned view"
        way += ", or take a snapshot in its place"
        if core.fold_pin_seq < core.reclaim.pin_needs:
            why = (f"all snapshots that it leads on from are pinned, the newest of them at state "
                   f"{core.fold_pin_seq}")
            way = "delete one, or take one that is not pinned"
    elif core.reclaim.full_by == FULL_YOUNG:
        why = (f"its oldest entries are younger than the {core.reclaim.least_ns / 1e9:g} seconds "
               "that they are kept for at least")
        way = "wait, or call retain() with less"
    elif core.edits is not NULL:
        way = "or end the open edit"
    elif core.refuse:
        why = "overflow='refuse' lets none of its oldest entries leave"
        way = "or create the store with overflow='evict' or 'fold'"
        if core.images_mode & FLAG_BEFORE:
            way = f"rewind to an earlier state, which drops the entries after it, {way}"
    raise JournalFull(
        f"the journal ({core.capacity} bytes, {core.ring.slot_head - core.ring.slot_tail} "
        f"entries) has no room for this and {why}; make the journal larger, {way}")


cdef int raise_bounds(object offset, object length, uint64_t size) except -1:
    raise OutOfBounds(f"{shown(length)} bytes at offset {shown(offset)} do not lie inside the "
                      f"volume, which has {size} bytes")


cdef uint64_t as_unsigned(object value, str name, uint64_t size) except? 0xFFFFFFFFFFFFFFFF:
    """`value` as a count of bytes; what does not fit 63 bits is out of any volume's bounds."""
    cdef int overflow = 0
    cdef long long number
    if not PyLong_CheckExact(value):
        try:
            if isinstance(value, bool):
                raise TypeError("a bool is no count of bytes")
            value = PyNumber_Index(value)
        except TypeError as error:
            raise InvalidType(f"{name} must be an int (bytes), not "
                              f"{type(value).__name__}") from error
    number = PyLong_AsLongLongAndOverflow(value, &overflow)
    if overflow < 0 or (number < 0 and not overflow):
        raise OutOfBounds(f"{name} {shown(value)} is below 0; the volume has {size} bytes")
    if overflow:
        raise OutOfBounds(f"{name} {shown(value)} is outside the volume, which has {size} bytes")
    return <uint64_t>number


cdef int take_buffer(object data, Py_buffer* view, int flags) except -1:
    """Export `data` as C-contiguous bytes; release `view` afterwards."""
    cdef str wanted = "data must be bytes or another C-contiguous buffer"
    if flags & PyBUF_WRITABLE:
        wanted = "what is read into must be a bytearray or another writable, C-contiguous buffer"
    try:
        PyObject_GetBuffer(data, view, flags | PyBUF_C_CONTIGUOUS | PyBUF_FORMAT)
    except TypeError as error:
        raise InvalidType(f"{wanted}, not {type(data).__name__}") from error
    except (BufferError, ValueError) as error:
        raise InvalidArgument(f"the buffer cannot be used: {error}; "
                              + _buffer_advice(data, flags)) from error
    if _holds_objects(view):
        PyBuffer_Release(view)
        raise InvalidType("the buffer holds Python objects, not bytes")
    return 0


cdef str _buffer_advice(data, int flags):
    """What to do about an array that cannot be used as a buffer."""
    if getattr(getattr(data, "dtype", None), "kind", None) in ("M", "m"):
        return "NumPy lends no times as bytes: pass array.view('i8'), the same bytes as integers"
    if flags & PyBUF_WRITABLE:
        return "pass a writable, C-contiguous one, such as a bytearray or numpy.empty(n, 'u1')"
    return "it must be C-contiguous (numpy.ascontiguousarray makes a copy that is)"


cdef class FlatBuffer:
    """A C-contiguous buffer of any shape and format as one run of bytes, which can be sliced."""

    cdef Py_buffer view
    cdef bint exported

    def __cinit__(self, data, bint writable=False):
        take_buffer(data, &self.view, PyBUF_WRITABLE if writable else 0)
        self.exported = True

    def __dealloc__(self):
        if self.exported:
            PyBuffer_Release(&self.view)

    def __getbuffer__(self, Py_buffer* buffer, int flags):
        PyBuffer_FillInfo(buffer, self, self.view.buf, self.view.len, self.view.readonly, flags)


def _as_offsets(offsets, uint64_t size):
    """A new int64 array from what a caller gave as offsets into a volume of `size` bytes.

    Always a copy: offsets are checked first and used later, and another thread may change the
    caller's in between.
    """
    try:
        array = numpy.asarray(offsets)
    except ValueError as error:
        raise InvalidArgument(f"offsets must have one dimension: {error}") from error
    if array.ndim == 0 and array.dtype.kind not in "iu":
        raise InvalidType("offsets must be an array or a list of ints (bytes), not "
                          f"{type(offsets).__name__}")
    if array.ndim != 1:
        raise InvalidArgument(f"offsets must have one dimension, not {array.ndim}")
    if array.size == 0:
        return numpy.empty(0, numpy.int64)
    if array.dtype.kind in "fO":
        # Python ints beyond 63 bits make an array of floats or of objects.
        numbers = list(offsets)
        if not all(type(number) is int for number in numbers):
            raise InvalidType(f"offsets must be integers (bytes), not {array.dtype}")
        _check_offsets_fit(min(numbers), max(numbers), size)
        return numpy.array(numbers, numpy.int64)
    if array.dtype.kind not in "iu":
        raise InvalidType(f"offsets must be integers (bytes), not {array.dtype}")
    if array.dtype.kind == "u" and array.dtype.itemsize == 8:
        _check_offsets_fit(0, int(array.max()), size)
    return numpy.array(array, numpy.int64, order="C")


def _check_offsets_fit(lowest, highest, size):
    """Raise OutOfBounds where the lowest or the highest offset does not fit int64."""
    for offset in (lowest, highest):
        if not -2**63 <= offset < 2**63:
            raise OutOfBounds(f"offset {shown(offset)} is outside the volume, which has {size} "
                              "bytes")


cdef uint64_t block_length(const Py_buffer* view, uint64_t count) except? 0xFFFFFFFFFFFFFFFF:
    """The length of each of `count` equal blocks in a buffer."""
    if view.ndim > 1 and <uint64_t>view.shape[0] != count:
        raise InvalidArgument(f"{count} offsets need {count} rows of data, not {view.shape[0]}")
    if count == 0:
        if view.len:
            raise InvalidArgument(f"{view.len} bytes of data for no offsets")
        return 0
    if view.len % count:
        raise InvalidArgument(f"{view.len} bytes of data are not {count} equal blocks")
    return view.len // count
