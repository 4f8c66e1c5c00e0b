# A volume's reads and writes: Python's arguments in, one core call, the seq out.
#
# Takes: lock, memory, errors, signal_poll, ring, reading, reclaim, storage, reentry, arguments,
# engine

cdef enum:
    NOGIL_MIN_BYTES = 65536      # copies at least this long let other Python threads run


@cython.no_gc_clear    # an edit that was never left needs the engine until it goes
cdef class VolumeIO:
    """The part of a volume that moves bytes; ``Volume`` adds the rest.

    Attributes
    ----------
    size : int
        Bytes.
    """

    def __cinit__(self, Engine engine not None, uint32_t index, *args):
        if index >= engine.core.volume_count:
            raise IndexError(index)
        self.engine = engine
        self.core = engine.core
        self.index = index
        self.size = engine.core.volumes[index].size

    @property
    def _engine(self):
        return self.engine

    @property
    def _index(self):
        """Place among the store's volumes."""
        return self.index

    def write(self, offset, data):
        """Write `data` at `offset`; the overwritten range goes to the journal first.

        Parameters
        ----------
        offset : int
            Bytes from the start of the volume.
        data : C-contiguous buffer
            Any shape and dtype; its bytes are written. Nothing is done for an empty one. NumPy
            lends no bytes of datetime64 and timedelta64: pass ``array.view("i8")``.

        Returns
        -------
        int
            The entry's seq.

        Raises
        ------
        OutOfBounds
            The range does not lie inside the volume.
        EntryTooLarge
            More than one entry takes: half the image area, a quarter with ``images="both"``.
        JournalFull
            No room is left, and what would have to leave may not: ``overflow="refuse"``, a pinned
            state, or ``keep_at_least``.
        InvalidType, InvalidArgument
            `data` is no buffer, or not C-contiguous.
        EditOpen
            The range overlaps one that this thread has lent out by ``edit``.
        StoreClosed
        """
        cdef uint64_t start = as_unsigned(offset, "offset", self.size)
        cdef uint64_t length, seq
        cdef const uint8_t* source
        cdef Py_buffer view
        cdef bint exported = not PyBytes_CheckExact(data)
        cdef bint due
        cdef int status
        if exported:
            take_buffer(data, &view, 0)
            source = <const uint8_t*>view.buf
            length = view.len
        else:
            source = <const uint8_t*>PyBytes_AS_STRING(data)
            length = PyBytes_GET_SIZE(data)
        if start < self.size:
            # It is on its way while the lock is taken.
            production_ahead(self.core.disk, self.core.volumes, self.index, start)
        if not may_enter(self.core):
            if exported:
                PyBuffer_Release(&view)
            raise_status(E_BUSY, self.core)
        status = call_check(self.core)
        if status != OK:
            pass
        elif length < NOGIL_MIN_BYTES:
            status = core_write(self.core, self.index, start, source, length)
        else:
            with nogil:
                status = core_write(self.core, self.index, start, source, length)
        seq = self.core.ring.seq
        due = take_due(self.core)
        core_unlock(self.core)
        if exported:
            PyBuffer_Release(&view)
        if due:
            self.engine._tell_due()
        if status == E_BOUNDS:
            raise_bounds(offset, length, self.size)
        raise_status(status, self.core)
        if due:
            self.engine._hold_up()
        return seq

    def write_many(self, offsets, data):
        """Write equal blocks at many offsets, in order: all of them, or none.

        Parameters
        ----------
        offsets : int64[n]
            Bytes; other integer dtypes and sequences of ints are converted. May repeat and overlap.
        data : uint8[n, length], or a C-contiguous buffer of n equal blocks

        Returns
        -------
        int
            The seq of the last entry; the first has that less n - 1.

        Raises
        ------
        OutOfBounds, EntryTooLarge, JournalFull, InvalidType, InvalidArgument, EditOpen, StoreClosed
            As `write`, before anything has changed.
        """
        cdef Py_buffer places, view
        cdef uint64_t count, length, seq, before
        cdef bint due
        cdef int status
        array = _as_offsets(offsets, self.size)
        take_buffer(array, &places, 0)
        try:
            count = places.len // sizeof(int64_t)
            take_buffer(data, &view, 0)
            try:
                length = block_length(&view, count)
                enter(self.core)
                before = self.core.ring.seq
                status = call_check(self.core)
                if status == OK:
                    with nogil:
                        status = core_write_many(self.core, self.index,
                                                 <const int64_t*>places.buf, count,
                                                 <const uint8_t*>view.buf, length)
                seq = self.core.ring.seq
                due = take_due(self.core)
                core_unlock(self.core)
            finally:
                PyBuffer_Release(&view)
        finally:
            PyBuffer_Release(&places)
        if due:
            self.engine._tell_due()
        if status == E_BOUNDS:
            bad = (array < 0) | (array > self.size) | (array > <int64_t>(self.size - length)
                                                       if length <= self.size else True)
            raise_bounds(int(array[bad][0]), length, self.size)
        if status == E_NO_MEMORY and seq != before:
            raise MemoryError(f"not enough memory to fold; entries {before + 1} to {seq} of a "
                              "batch longer than the journal are made: rewind to before them, "
                              "or write the rest")
        raise_status(status, self.core)
        if due:
            self.engine._hold_up()
        return seq

    def read(self, offset, length):
        """bytes: the `length` bytes at `offset`. Raises OutOfBounds, StoreClosed."""
        cdef uint64_t start = as_unsigned(offset, "offset", self.size)
        cdef uint64_t count = as_unsigned(length, "length", self.size)
        cdef int status
        if start > self.size or count > self.size - start:
            raise_bounds(offset, length, self.size)
        content = PyBytes_FromStringAndSize(NULL, count)
        status = self._read(start, <uint8_t*>PyBytes_AS_STRING(content), count)
        raise_status(status, self.core)
        return content

    def readinto(self, offset, buffer):
        """Fill `buffer` (writable, C-contiguous) from `offset` on.

        Raises OutOfBounds, InvalidType, InvalidArgument, StoreClosed.
        """
        cdef uint64_t start = as_unsigned(offset, "offset", self.size)
        cdef Py_buffer view
        cdef int status
        take_buffer(buffer, &view, PyBUF_WRITABLE)
        cdef uint64_t length = view.len
        try:
            status = self._read(start, <uint8_t*>view.buf, length)
        finally:
            PyBuffer_Release(&view)
        if status == E_BOUNDS:
            raise_bounds(offset, length, self.size)
        raise_status(status, self.core)

    cdef int _read(self, uint64_t offset, uint8_t* target, uint64_t length) except? -1000:
        cdef int status
        enter(self.core)
        status = call_check(self.core)
        if status != OK:
            pass
        elif length < NOGIL_MIN_BYTES:
            status = core_read(self.core, self.index, offset, target, length)
        elif length <= POLL_BYTES:
            with nogil:
                status = core_read(self.core, self.index, offset, target, length)
        else:
            status = range_check(self.core, self.index, offset, length)
            try:
                if status == OK:
                    status = self._read_on(offset, target, length)
            finally:
                core_unlock(self.core)
            return status
        core_unlock(self.core)
        return status

    cdef int _read_on(self, uint64_t offset, uint8_t* target, uint64_t length) except? -1000:
        """A part at a time; all of it is of one state."""
        cdef uint64_t done = 0, part
        cdef Poll poll
        cdef int status = OK
        poll_begin(&poll, self.core)
        try:
            while status == OK and done < length:
                part = min(length - done, <uint64_t>POLL_BYTES)
                with nogil:
                    status = core_read(self.core, self.index, offset + done, target + done, part)
                done += part
                if done < length and poll_signals(&poll, self.core):
                    done = 0
            return status
        finally:
            poll_end(&poll, self.core)

    def discard(self, offset, length):
        """Declare a range unused: it reads as zeroes from now on, and can be brought back.

        A long range becomes several entries of at most 1 MiB or an eighth of the image area.

        Returns
        -------
        int
            The seq of the last entry.

        Raises
        ------
        OutOfBounds, JournalFull, InvalidType, EditOpen, StoreClosed
        """
        return self._fill_zero(KIND_DISCARD, offset, length)

    def write_zeroes(self, offset, length):
        """Write zeroes over a range of any length; see `discard` for the rest."""
        return self._fill_zero(KIND_ZEROES, offset, length)

    cdef _fill_zero(self, int kind, offset, length):
        cdef uint64_t start = as_unsigned(offset, "offset", self.size)
        cdef uint64_t count = as_unsigned(length, "length", self.size)
        cdef uint64_t seq
        cdef bint due
        cdef int status
        enter(self.core)
        status = call_check(self.core)
        if status == OK:
            with nogil:
                status = core_fill_zero(self.core, kind, self.index, start, count)
        seq = self.core.ring.seq
        due = take_due(self.core)
        core_unlock(self.core)
        if due:
            self.engine._tell_due()
        if status == E_BOUNDS:
            raise_bounds(offset, length, self.size)
        raise_status(status, self.core)
        if due:
            self.engine._hold_up()
        return seq


@cython.no_gc_clear    # what was never left is closed when it goes, and needs its volume for that
cdef class Edit:
    """The context manager behind ``Volume.edit``.

    Compiled, so that no signal handler runs between opening an edit and the block, or between the
    block and closing it. Holds the lock in between, but where the range is empty.
    """

    cdef VolumeIO volume
    cdef object offset
    cdef object length
    cdef object array            # what was lent; None where it is not open
    cdef MemoryDevice lent       # file stores: the copy
    cdef uint64_t start
    cdef bint locked
    cdef bint due                # somebody is to be told of something
    cdef unsigned long thread

    def __cinit__(self, VolumeIO volume not None, offset, length):
        self.volume = volume
        self.offset = offset
        self.length = length

    def __enter__(self):
        cdef VolumeIO volume = self.volume
        cdef uint64_t start = as_unsigned(self.offset, "offset", volume.size)
        cdef uint64_t count = as_unsigned(self.length, "length", volume.size)
        cdef int status
        if self.array is not None:
            raise InvalidArgument("this edit is open already; call edit() again for another")
        enter(volume.core)
        status = call_check(volume.core)
        if status == OK:
            with nogil:
                if count:
                    status = edit_begin(volume.core, volume.index, start, count)
                else:
                    status = range_check(volume.core, volume.index, start, count)
        if status != OK or count == 0:
            core_unlock(volume.core)
        if status == E_BOUNDS:
            raise_bounds(self.offset, self.length, volume.size)
        raise_status(status, volume.core)
        self.start = start
        self.locked = count != 0
        self.thread = PyThread_get_thread_ident()
        try:
            if edit_lends_copy(volume.core.disk):
                self.lent = MemoryDevice(count)
                volume.readinto(start, self.lent)
                memory = memoryview(self.lent)
            else:
                memory = memoryview(volume.engine.devices[volume.index])[start:start + count]
            self.array = numpy.frombuffer(memory, numpy.uint8)
        except BaseException:
            self._close(True)
            raise
        return self.array

    def __exit__(self, kind, error, trace):
        cdef int status
        if self.array is None:
            return
        if self.thread != PyThread_get_thread_ident():
            raise InvalidArgument("an edit must be left on the thread that opened it")
        self.array.flags.writeable = False
        self.array = None
        status = self._close(kind is not None)
        if self.due:
            self.due = False
            self.volume.engine._tell_due()
            self.volume.engine._hold_up()
        raise_status(status, self.volume.core)

    def __dealloc__(self):
        if self.locked and self.thread == PyThread_get_thread_ident():
            self._close(True)

    cdef int _close(self, bint undo) noexcept:
        cdef Core* core = self.volume.core
        cdef int status = OK
        if self.locked:
            self.locked = False
            status = edit_end(core, self.volume.index, self.start, undo,
                              NULL if self.lent is None else self.lent.data)
            self.due = take_due(core)
            core_unlock(core)
        return status
