# An NBD connection as the server sees it: what C leaves to Python, and in what room.
#
# Takes: engine, volume_io, nbd_wire

cdef class Transmission:
    """The transmission phase of one NBD connection.

    Parameters
    ----------
    source, target : int
        Descriptors of the connection, blocking; one socket, or two pipes.
    size : int
        Bytes of the export.
    answer : callable
        ``answer(kind, flags, offset, length, data)`` answers what C does not. It gives a pair: an
        NBD error, 0 for none, and a list of bytes, a READ's, or each chunk's of a BLOCK_STATUS.
        It must not raise.
    spare : object
        ``spare.take(bytes)`` waits for room for a long request, ``spare.give(bytes)`` returns it.
    volume : VolumeIO, optional
        Production, which is read and written without `answer`.
    read_only, structured : bool
    stop : int
        A descriptor: once it can be read, no more requests are. For pipes: they have no shutdown.
    patience_ms : int
        For a peer that neither sends nor takes anything while it has spare room; -1: no limit.
    """

    cdef Wire wire
    cdef object answer, spare
    cdef uint64_t taken          # bytes of room that a long request has
    cdef Engine engine

    def __cinit__(self, int source, int target, uint64_t size, answer, spare,
                  VolumeIO volume=None, bint read_only=False, bint structured=False, int stop=-1,
                  int patience_ms=-1):
        self.wire.source, self.wire.target, self.wire.size = source, target, size
        self.wire.stop, self.wire.patience_ms = stop, patience_ms
        self.wire.is_socket = os.fstat(target).st_mode & 0o170000 == 0o140000
        self.wire.is_read_only, self.wire.is_structured = read_only, structured
        self.answer, self.spare = answer, spare
        if volume is not None:
            self.engine = volume.engine
            self.wire.core, self.wire.volume = volume.core, volume.index
        if wire_begin(&self.wire) != OK:
            raise MemoryError("no memory for another NBD connection")

    def __dealloc__(self):
        wire_end(&self.wire)

    @property
    def counters(self):
        """dict: requests, errors; bytes_read and bytes_written of production."""
        return {"requests": self.wire.requests, "errors": self.wire.errors,
                "bytes_read": self.wire.bytes_read, "bytes_written": self.wire.bytes_written}

    def end(self):
        """Serve no further request of production: its bytes were put back. The lock is held."""
        self.wire.is_stale = True

    def finish(self):
        """Answer the requests that have arrived, and no others."""
        self.wire.is_over = True

    def serve(self):
        """Answer requests until the peer has gone, or has sent what is none."""
        cdef int what = WIRE_LOW
        try:
            while what != WIRE_GONE:
                with nogil:
                    what = wire_serve(&self.wire)
                if what == WIRE_ASKS:
                    self._ask()
                elif what == WIRE_LOW:
                    self.engine._tell_due()
                    self.engine._hold_up()
                elif what != WIRE_GONE and not self._make_room(what):
                    return
        finally:
            if self.taken:
                self._give_back()

    cdef _ask(self):
        cdef Wire* wire = &self.wire
        cdef Request request
        cdef uint64_t length
        data = None
        wire_next(wire, &request, &length)
        if request.kind == NBD_WRITE:
            data = request.data[:request.length]
        error, chunks = self.answer(request.kind, request.flags, request.offset, request.length,
                                    data)
        wire.received_start += length
        wire.requests += 1
        if error:
            put_error(wire, request.cookie, error)
        elif request.kind == NBD_BLOCK_STATUS:
            for k, content in enumerate(chunks, 1):
                self._put_status(request.cookie, content, k == len(chunks))
        elif request.kind == NBD_READ:
            content = chunks[0]
            memcpy(put_read(wire, &request), PyBytes_AS_STRING(content),
                   min(<uint64_t>PyBytes_GET_SIZE(content), <uint64_t>request.length))
        else:
            put_done(wire, &request, 0)

    cdef _put_status(self, uint64_t cookie, bytes content, bint last):
        cdef Wire* wire = &self.wire
        cdef uint64_t length = PyBytes_GET_SIZE(content)
        if wire_left(wire) < length + NBD_CHUNK_BYTES:
            with nogil:
                wire_settle(wire)    # what cannot be sent is noticed with the next request
        put_chunk(wire, cookie, NBD_CHUNK_STATUS, <uint32_t>length, last)
        memcpy(wire.replies + wire.replies_end, PyBytes_AS_STRING(content), length)
        wire.replies_end += length

    cdef bint _make_room(self, int what) except -1:
        """Give back what a long request took; get room for another. False where there is none."""
        cdef uint64_t received = NBD_ROOM_BYTES, replies = NBD_ROOM_BYTES
        if self.taken:
            wire_resize(&self.wire, received, replies)
            self._give_back()
        if what == WIRE_LARGE:
            return True
        if what == WIRE_LONG_REPLY:
            replies = self.wire.wanted
        else:
            received = self.wire.wanted
        if not self.spare.take(self.wire.wanted):
            return False
        self.taken = self.wire.wanted
        return wire_resize(&self.wire, received, replies) == OK

    cdef _give_back(self):
        taken, self.taken = self.taken, 0
        self.spare.give(taken)
