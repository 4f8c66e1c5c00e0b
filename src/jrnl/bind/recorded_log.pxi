# A recorded log of writes as Python sees it: what each of its states holds.
#
# Takes: device, errors, signal_poll, image, recorded, arguments, volume_io, maps

cdef class RecordedLog:
    """A log's states, read in place; state k is that after its first k entries.

    Nothing is copied, and nothing of it changes but by `close`; so it takes no lock.

    Parameters
    ----------
    log : FileDevice
    entries : ndarray
        One record an entry, as ``Log.entries``: their data lies inside the log, and their ranges
        inside the volume.
    bounds, firsts, numbers : ndarray
        The tree that kernel/recorded.pxi tells of: int64, uint32, uint32.
    source : FileDevice, buffer or None
        State 0; zeroes follow.
    names : tuple of str
        What errors call log and source.

    Attributes
    ----------
    size : int
        Bytes of the volume.
    """

    cdef FileDevice log
    cdef FileDevice source
    cdef const RecordedEntry[::1] entries
    cdef const int64_t[::1] bounds
    cdef const uint32_t[::1] firsts
    cdef const uint32_t[::1] numbers
    cdef const uint8_t[::1] content
    cdef RecordedData data
    cdef tuple names
    cdef readonly uint64_t size
    cdef readonly bint closed
    cdef uint64_t readers

    def __cinit__(self, FileDevice log not None, const RecordedEntry[::1] entries,
                  const int64_t[::1] bounds not None, const uint32_t[::1] firsts not None,
                  const uint32_t[::1] numbers not None, source, tuple names not None):
        self.log = log
        self.entries = entries
        self.bounds, self.firsts, self.numbers = bounds, firsts, numbers
        self.names = names
        self.size = <uint64_t>bounds[bounds.shape[0] - 1]
        self.data.log = &log.device
        self.data.entries = &entries[0] if entries.shape[0] else NULL
        self.data.bounds = &bounds[0]
        self.data.leaves = <uint64_t>bounds.shape[0] - 1
        self.data.firsts = &firsts[0]
        self.data.numbers = &numbers[0] if numbers.shape[0] else NULL
        while <uint64_t>1 << self.data.height < self.data.leaves:
            self.data.height += 1
        if isinstance(source, FileDevice):
            self.source = source
            self.data.source = &self.source.device
            self.data.source_size = self.source.size
        elif source is not None:
            self.content = source
            self.data.source_size = <uint64_t>self.content.shape[0]
            self.data.content = &self.content[0] if self.content.shape[0] else NULL

    cdef int _enter(self) except -1:
        if self.closed:
            raise StoreClosed("the history is closed; attach the log again")
        self.readers += 1
        return 0

    cdef int _leave(self) except -1:
        self.readers -= 1
        if self.closed and not self.readers:
            self._end()
        return 0

    cdef int _end(self) except -1:
        self.log.close()
        if self.source is not None:
            self.source.close()
        return 0

    def close(self):
        """Close the files, once nobody reads them any more. Closing twice is fine."""
        if not self.closed:
            self.closed = True
            if not self.readers:
                self._end()

    def check_open(self):
        """Raise StoreClosed where it is closed."""
        self._enter()
        self._leave()

    cdef uint32_t _state(self, at) except? 0xFFFFFFFF:
        if not 0 <= at <= self.entries.shape[0]:
            raise UnknownPoint(f"no such state {shown(at)}; the log's are "
                               f"0..{self.entries.shape[0]}")
        return at

    cdef uint64_t _range(self, offset, length, uint64_t* count) except? 0xFFFFFFFFFFFFFFFF:
        """Where a range begins, and its length in bytes. Raises OutOfBounds."""
        cdef uint64_t start = as_unsigned(offset, "offset", self.size)
        count[0] = as_unsigned(length, "length", self.size)
        if start > self.size or count[0] > self.size - start:
            raise_bounds(offset, length, self.size)
        return start

    def latest(self, at, offset, length):
        """(offsets, lengths, numbers), int64: who wrote each piece of a range last, at a state.

        The pieces rise, and are as long as they can be; entries count from 1, 0 is state 0. Raises
        UnknownPoint, OutOfBounds, InvalidType, StoreClosed.
        """
        cdef uint32_t state = self._state(at)
        cdef uint64_t count = 0, found = 0, most
        cdef uint64_t start = self._range(offset, length, &count)
        cdef RecordedWalk walk
        cdef RecordedPiece piece
        cdef int64_t[:, ::1] rows
        self.check_open()
        if not count:
            return tuple(numpy.empty((3, 0), numpy.int64))
        most = (recorded_leaf(&self.data, start + count - 1)
                - recorded_leaf(&self.data, start) + 1)
        table = numpy.empty((most, 3), numpy.int64)
        rows = table
        with nogil:
            recorded_begin(&walk, &self.data, state, start)
            while recorded_next(&walk, start + count, &piece):
                rows[found, 0] = <int64_t>piece.offset
                rows[found, 1] = <int64_t>piece.length
                rows[found, 2] = piece.number
                found += 1
        return tuple(table[:found].T.copy())

    def readinto(self, at, offset, buffer):
        """Fill a writable C-contiguous buffer with a state's bytes from `offset` on.

        Raises UnknownPoint, OutOfBounds, InvalidType, InvalidArgument, StoreClosed, OSError, and
        FormatError where a file has been cut since.
        """
        cdef uint32_t state = self._state(at)
        cdef Py_buffer view
        cdef uint64_t start, count = 0
        take_buffer(buffer, &view, PyBUF_WRITABLE)
        try:
            start = self._range(offset, view.len, &count)
            self._fill(state, start, <uint8_t*>view.buf, count)
        finally:
            PyBuffer_Release(&view)

    def read(self, at, offset, length):
        """bytes of a state. Raises as `readinto`."""
        cdef uint32_t state = self._state(at)
        cdef uint64_t count = 0
        cdef uint64_t start = self._range(offset, length, &count)
        content = PyBytes_FromStringAndSize(NULL, count)
        self._fill(state, start, <uint8_t*>PyBytes_AS_STRING(content), count)
        return content

    cdef int _fill(self, uint32_t state, uint64_t start, uint8_t* target,
                   uint64_t count) except -1:
        cdef RecordedFault fault
        cdef uint64_t part
        cdef int status = OK
        self._enter()
        try:
            while count and status == OK:
                part = min(count, <uint64_t>POLL_BYTES)
                if part < NOGIL_MIN_BYTES:
                    status = recorded_read(&self.data, state, start, target, part, &fault)
                else:
                    with nogil:
                        status = recorded_read(&self.data, state, start, target, part, &fault)
                start, target, count = start + part, target + part, count - part
                if count:
                    PyErr_CheckSignals()
        finally:
            self._leave()
        return self._raise(status, &fault)

    def content_of(self, number, offset, buffer):
        """Fill a buffer with what an entry wrote from byte `offset` of the volume on; 0: state 0.

        Raises as `readinto`; OutOfBounds where the entry did not write all of that.
        """
        cdef RecordedPiece piece
        cdef RecordedFault fault
        cdef const RecordedEntry* entry
        cdef Py_buffer view
        cdef int status = OK
        piece.number = self._state(number)
        take_buffer(buffer, &view, PyBUF_WRITABLE)
        try:
            piece.offset = self._range(offset, view.len, &piece.length)
            entry = &self.data.entries[piece.number - 1]
            if piece.number and (piece.offset < entry.offset
                                 or piece.offset + piece.length > entry.offset + entry.length):
                raise OutOfBounds(f"{view.len} bytes at offset {offset} are not all of entry "
                                  f"{number}, which has {entry.length} at {entry.offset}")
            self._enter()
            try:
                if piece.length:
                    with nogil:
                        status = recorded_fill(&self.data, &piece, <uint8_t*>view.buf, &fault)
            finally:
                self._leave()
        finally:
            PyBuffer_Release(&view)
        self._raise(status, &fault)

    def suspects(self, one, other, const int64_t[::1] offsets, const int64_t[::1] lengths):
        """(offsets, lengths), int64: where two states may differ, inside ranges that rise.

        Nothing is read: an entry may have written what was there. Raises UnknownPoint, StoreClosed.
        """
        cdef uint32_t first = self._state(one), second = self._state(other)
        cdef RangeList ranges
        cdef Py_ssize_t k
        cdef int status = OK
        self.check_open()
        memset(&ranges, 0, sizeof(RangeList))
        try:
            with nogil:
                for k in range(offsets.shape[0]):
                    if status == OK and lengths[k]:
                        status = recorded_suspects(
                            &self.data, first, second, <uint64_t>offsets[k],
                            <uint64_t>(offsets[k] + lengths[k]), &ranges)
            if status == E_NO_MEMORY:
                raise MemoryError("not enough memory; nothing has changed")
            return (_copy_of_int64(ranges.offsets, ranges.count),
                    _copy_of_int64(ranges.lengths, ranges.count))
        finally:
            free(ranges.offsets)
            free(ranges.lengths)

    def differences(self, one, other, const int64_t[::1] offsets, const int64_t[::1] lengths):
        """(offsets, lengths), int64: where two states differ, inside ranges that rise.

        As `compare_images` joins them. Raises as `readinto`.
        """
        cdef uint32_t first = self._state(one), second = self._state(other)
        cdef RangeList ranges
        cdef RecordedFault fault
        cdef uint64_t start, stop, part
        cdef Py_ssize_t k
        cdef int status = OK
        memset(&ranges, 0, sizeof(RangeList))
        self._enter()
        try:
            for k in range(offsets.shape[0]):
                start, stop = <uint64_t>offsets[k], <uint64_t>(offsets[k] + lengths[k])
                while start < stop and status == OK:
                    part = min(stop - start, <uint64_t>POLL_BYTES)
                    with nogil:
                        status = recorded_compare(&self.data, first, second, start, part, &ranges,
                                                  &fault)
                    start += part
                    PyErr_CheckSignals()
            if status == E_NO_MEMORY:
                raise MemoryError("not enough memory; nothing has changed")
            self._raise(status, &fault)
            return (_copy_of_int64(ranges.offsets, ranges.count),
                    _copy_of_int64(ranges.lengths, ranges.count))
        finally:
            free(ranges.offsets)
            free(ranges.lengths)
            self._leave()

    cdef int _raise(self, int status, const RecordedFault* fault) except -1:
        if status == OK:
            return 0
        name = self.names[fault.of_source]
        if fault.error == ENDED_EARLY:
            raise FormatError(f"{name}: the file now ends before what lies from byte "
                              f"{fault.position} on, which was there when the log was attached; "
                              "attach files that nobody cuts")
        raise OSError(fault.error, os.strerror(fault.error), name)


def take_entries(int descriptor, uint64_t position, uint64_t size, uint64_t sector_size,
                 uint64_t volume_size, RecordedEntry[::1] rows not None):
    """(count, position): fill rows with the plain entries of a log from a byte on.

    It ends before an entry that is damaged, cut, or outside a volume of `volume_size` bytes: the
    log has `size`, and what its super counts is not looked at. `position` is where it ended.
    """
    cdef Device device
    cdef uint64_t count = 0
    memset(&device, 0, sizeof(Device))
    device.descriptor = descriptor
    if rows.shape[0]:
        with nogil:
            count = recorded_entries(&device, &position, size, sector_size, volume_size, &rows[0],
                                     <uint64_t>rows.shape[0])
    return count, position
