# One NBD connection in its transmission phase: requests in, replies out, many at a time.
#
# All requests that one read has brought are answered in one write: taken one by one they would
# cost four times as much. What is not bytes of production (BLOCK_STATUS, exports that are no
# production, more room) is left to Python, which calls again. Format: the NBD protocol,
# https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md, "Transmission phase".
#
# Takes: lock, errors, ring, reading, reclaim, storage

cdef extern from *:
    """
    #include <errno.h>
    #include <poll.h>
    #include <sys/ioctl.h>
    #include <sys/socket.h>
    #include <unistd.h>

    static inline uint16_t jrnl_get16(const uint8_t *p) { return (uint16_t)(p[0] << 8 | p[1]); }

    static inline uint32_t jrnl_get32(const uint8_t *p)
    {
        uint32_t value;
        memcpy(&value, p, sizeof value);
        return __builtin_bswap32(value);
    }

    static inline uint64_t jrnl_get64(const uint8_t *p)
    {
        uint64_t value;
        memcpy(&value, p, sizeof value);
        return __builtin_bswap64(value);
    }

    static inline void jrnl_put16(uint8_t *p, uint16_t value) { p[0] = value >> 8; p[1] = value; }

    static inline void jrnl_put32(uint8_t *p, uint32_t value)
    {
        value = __builtin_bswap32(value);
        memcpy(p, &value, sizeof value);
    }

    static inline void jrnl_put64(uint8_t *p, uint64_t value)
    {
        value = __builtin_bswap64(value);
        memcpy(p, &value, sizeof value);
    }

    /* Bytes read; 0: the peer has gone, in whichever way, `stop` (-1: none) can be read, or
       nothing has come for that long (-1: no limit). */
    static uint64_t jrnl_receive(int fd, int stop, int patience_ms, void *target, uint64_t length)
    {
        struct pollfd both[2] = {{fd, POLLIN, 0}, {stop, POLLIN, 0}};
        ssize_t got;
        do {
            if ((stop >= 0 || patience_ms >= 0) &&
                ((got = poll(both, stop >= 0 ? 2 : 1, patience_ms)) <= 0 || both[1].revents))
                got = both[1].revents ? 0 : got;
            else
                got = read(fd, target, length);
        } while (got < 0 && errno == EINTR);
        return got > 0 ? (uint64_t)got : 0;
    }

    /* Bytes that have arrived and are not read. */
    static uint64_t jrnl_arrived(int fd)
    {
        int count = 0;
        return ioctl(fd, FIONREAD, &count) == 0 && count > 0 ? (uint64_t)count : 0;
    }

    /* 0: the peer has gone, or (a socket's) has taken nothing for that long (-1: no limit). */
    static int jrnl_send(int fd, int is_socket, int patience_ms, const uint8_t *source,
                         uint64_t length)
    {
        struct pollfd there = {fd, POLLOUT, 0};
        int flags = MSG_NOSIGNAL | (patience_ms >= 0 ? MSG_DONTWAIT : 0);
        while (length) {
            ssize_t put = is_socket ? send(fd, source, length, flags) : write(fd, source, length);
            if (put < 0 && errno == EAGAIN && is_socket && patience_ms >= 0) {
                int ready = poll(&there, 1, patience_ms);
                if (ready > 0 || (ready < 0 && errno == EINTR))
                    continue;
                return 0;
            }
            if (put < 0 && errno == EINTR)
                continue;
            if (put <= 0)
                return 0;
            source += put;
            length -= (uint64_t)put;
        }
        return 1;
    }
    """
    uint16_t jrnl_get16(const uint8_t* p) noexcept nogil
    uint32_t jrnl_get32(const uint8_t* p) noexcept nogil
    uint64_t jrnl_get64(const uint8_t* p) noexcept nogil
    void jrnl_put16(uint8_t* p, uint16_t value) noexcept nogil
    void jrnl_put32(uint8_t* p, uint32_t value) noexcept nogil
    void jrnl_put64(uint8_t* p, uint64_t value) noexcept nogil
    uint64_t jrnl_receive(int fd, int stop, int patience_ms, void* target,
                          uint64_t length) noexcept nogil
    uint64_t jrnl_arrived(int fd) noexcept nogil
    bint jrnl_send(int fd, bint is_socket, int patience_ms, const uint8_t* source,
                   uint64_t length) noexcept nogil

cdef enum:
    NBD_REQUEST_MAGIC = 0x25609513
    NBD_SIMPLE_MAGIC = 0x67446698
    NBD_CHUNK_MAGIC = 0x668E33EF
    NBD_REQUEST_BYTES = 28
    NBD_SIMPLE_BYTES = 16
    NBD_CHUNK_BYTES = 20
    NBD_READ = 0
    NBD_WRITE = 1
    NBD_DISCONNECT = 2
    NBD_FLUSH = 3
    NBD_TRIM = 4
    NBD_CACHE = 5
    NBD_WRITE_ZEROES = 6
    NBD_BLOCK_STATUS = 7
    NBD_FUA = 1              # flags of a command
    NBD_NO_HOLE = 2
    NBD_DF = 4
    NBD_REQ_ONE = 8
    NBD_FAST_ZERO = 16
    NBD_DONE = 1             # a chunk's flag: the last one of its reply
    NBD_CHUNK_NONE = 0
    NBD_CHUNK_DATA = 1
    NBD_CHUNK_STATUS = 5
    NBD_CHUNK_ERROR = 0x8001
    NBD_EPERM = 1
    NBD_EIO = 5
    NBD_ENOMEM = 12
    NBD_EINVAL = 22
    NBD_ENOSPC = 28
    NBD_ESHUTDOWN = 108
    NBD_MAX_BYTES = 33554432     # of one READ or WRITE: 32 MiB, as is said when negotiating
    NBD_ROOM_BYTES = 2101248     # of requests, and of replies: 2 MiB and what stands around them
    NBD_TAKE_BYTES = 262144      # most that one read takes, so that it is in the cache when copied
    NBD_ZERO_BYTES = 67108864    # most that is zeroed at a time, with others let in between
    NBD_WAITING = 4096           # replies that may wait for one commit
    WIRE_GONE = 0            # what `wire_serve` returns: the peer has disconnected, or is to be
    WIRE_ASKS = 1            # the first request is Python's to answer
    WIRE_LONG_REQUEST = 2    # it takes `wanted` bytes of room
    WIRE_LONG_REPLY = 3      # its reply does
    WIRE_LARGE = 4           # one that took more room has been answered
    WIRE_LOW = 5             # somebody is to be told of something

cdef struct Request:
    uint16_t flags
    uint16_t kind
    uint64_t cookie, offset
    uint32_t length
    const uint8_t* data      # a WRITE's


cdef int wire_begin(Wire* wire) noexcept nogil:
    """Get the room of a connection. A failed one is ended all the same."""
    wire.received = <uint8_t*>malloc(NBD_ROOM_BYTES)
    wire.replies = <uint8_t*>malloc(NBD_ROOM_BYTES)
    wire.waiting = <uint64_t*>malloc(NBD_WAITING * sizeof(uint64_t))
    if wire.received is NULL or wire.replies is NULL or wire.waiting is NULL:
        return E_NO_MEMORY
    wire.received_room = wire.replies_room = NBD_ROOM_BYTES
    return OK


cdef void wire_end(Wire* wire) noexcept nogil:
    free(wire.received)
    free(wire.replies)
    free(wire.waiting)
    wire.received = wire.replies = NULL
    wire.waiting = NULL


cdef int wire_resize(Wire* wire, uint64_t received_room, uint64_t replies_room) noexcept nogil:
    """Have other rooms; what is there stays, and fits."""
    cdef uint8_t* received = <uint8_t*>malloc(received_room)
    cdef uint8_t* replies = <uint8_t*>malloc(replies_room)
    cdef uint64_t held = wire.received_end - wire.received_start
    if received is NULL or replies is NULL:
        free(received)
        free(replies)
        return E_NO_MEMORY
    memcpy(received, wire.received + wire.received_start, held)
    memcpy(replies, wire.replies, wire.replies_end)
    free(wire.received)
    free(wire.replies)
    wire.received, wire.replies = received, replies
    wire.received_start, wire.received_end = 0, held
    wire.received_room, wire.replies_room = received_room, replies_room
    return OK


cdef inline bint wire_is_large(const Wire* wire) noexcept nogil:
    return wire.received_room + wire.replies_room > 2 * NBD_ROOM_BYTES


cdef inline int wire_patience(const Wire* wire) noexcept nogil:
    """How long the peer may do nothing: with no limit, unless others wait for its room."""
    return wire.patience_ms if wire_is_large(wire) else -1


# Replies.

cdef uint32_t nbd_error(int status, int kind) noexcept nogil:
    """What NBD calls a status."""
    if status == OK:
        return 0
    if status == E_BOUNDS:
        return NBD_EINVAL if kind == NBD_READ else NBD_ENOSPC
    if status == E_FULL:
        return NBD_ENOSPC
    if status == E_NO_MEMORY:
        return NBD_ENOMEM
    if status == E_READ_ONLY:
        return NBD_EPERM
    if status == E_CLOSED:
        return NBD_ESHUTDOWN
    return NBD_EIO


cdef inline uint64_t wire_left(const Wire* wire) noexcept nogil:
    """Bytes of room for replies."""
    return wire.replies_room - wire.replies_end


cdef inline bint wire_is_full(const Wire* wire) noexcept nogil:
    """Whether replies have to go before another one that brings no bytes."""
    return wire_left(wire) < NBD_CHUNK_BYTES + 8 or wire.waiting_count == NBD_WAITING


cdef void put_simple(Wire* wire, uint64_t cookie, uint32_t error) noexcept nogil:
    cdef uint8_t* at = wire.replies + wire.replies_end
    jrnl_put32(at, NBD_SIMPLE_MAGIC)
    jrnl_put32(at + 4, error)
    jrnl_put64(at + 8, cookie)
    wire.replies_end += NBD_SIMPLE_BYTES


cdef void put_chunk(Wire* wire, uint64_t cookie, uint16_t kind, uint32_t length,
                    bint last) noexcept nogil:
    """The head of a chunk of a reply."""
    cdef uint8_t* at = wire.replies + wire.replies_end
    jrnl_put32(at, NBD_CHUNK_MAGIC)
    jrnl_put16(at + 4, NBD_DONE if last else 0)
    jrnl_put16(at + 6, kind)
    jrnl_put64(at + 8, cookie)
    jrnl_put32(at + 16, length)
    wire.replies_end += NBD_CHUNK_BYTES


cdef void put_error(Wire* wire, uint64_t cookie, uint32_t error) noexcept nogil:
    """The reply of a request that has failed."""
    cdef uint8_t* at
    wire.errors += 1
    if not wire.is_structured:
        put_simple(wire, cookie, error)
        return
    put_chunk(wire, cookie, NBD_CHUNK_ERROR, 6, True)
    at = wire.replies + wire.replies_end
    jrnl_put32(at, error)
    jrnl_put16(at + 4, 0)
    wire.replies_end += 6


cdef void put_done(Wire* wire, const Request* request, uint32_t error) noexcept nogil:
    """The reply of a request that brings no bytes."""
    if error:
        put_error(wire, request.cookie, error)
    else:
        put_simple(wire, request.cookie, 0)


cdef uint8_t* put_read(Wire* wire, const Request* request) noexcept nogil:
    """The head of a READ's reply; where its bytes go."""
    cdef uint8_t* at
    if not wire.is_structured:
        put_simple(wire, request.cookie, 0)
    elif request.length == 0:
        put_chunk(wire, request.cookie, NBD_CHUNK_NONE, 0, True)
    else:
        put_chunk(wire, request.cookie, NBD_CHUNK_DATA, request.length + 8, True)
        jrnl_put64(wire.replies + wire.replies_end, request.offset)
        wire.replies_end += 8
    at = wire.replies + wire.replies_end
    wire.replies_end += request.length
    return at


cdef bint wire_settle(Wire* wire) noexcept nogil:
    """Make durable what replies wait for, and send all; False where the peer has gone."""
    cdef uint64_t k
    cdef uint32_t error
    cdef bint sent
    if wire.waiting_count:
        error = nbd_error(core_commit(wire.core, wire.flush_seq), NBD_FLUSH)
        for k in range(wire.waiting_count if error else 0):
            jrnl_put32(wire.replies + wire.waiting[k] + 4, error)
            wire.errors += 1
        wire.waiting_count = 0
    sent = wire.replies_end == 0 or jrnl_send(wire.target, wire.is_socket,
                                              wire_patience(wire), wire.replies, wire.replies_end)
    wire.replies_end = 0
    return sent


# Requests.

cdef bint wire_receive(Wire* wire, uint64_t wanted) noexcept nogil:
    """Read more, for a request of `wanted` bytes that fits; False where the peer has gone."""
    cdef uint64_t most = NBD_TAKE_BYTES, got
    if wire.received_start == wire.received_end:
        wire.received_start = wire.received_end = 0
    elif wire.received_start + wanted > wire.received_room:
        wire.received_end -= wire.received_start
        memmove(wire.received, wire.received + wire.received_start, wire.received_end)
        wire.received_start = 0
    if wanted > NBD_TAKE_BYTES:
        most = wire.received_start + wanted - wire.received_end    # no more than this request
    most = min(most, wire.received_room - wire.received_end)
    if wire.is_over:
        if not wire.is_last:
            wire.is_last, wire.left = True, jrnl_arrived(wire.source)
        most = min(most, wire.left)
        if most == 0:
            return False
    got = jrnl_receive(wire.source, wire.stop, wire_patience(wire),
                       wire.received + wire.received_end, most)
    wire.received_end += got
    if wire.is_last:
        wire.left -= got
    return got != 0


cdef bint wire_next(Wire* wire, Request* request, uint64_t* wanted) noexcept nogil:
    """Whether a request is there, whole; what it takes where it is not. 0: that is no request."""
    cdef const uint8_t* at = wire.received + wire.received_start
    cdef uint64_t held = wire.received_end - wire.received_start
    wanted[0] = NBD_REQUEST_BYTES
    if held < NBD_REQUEST_BYTES:
        return False
    request.flags = jrnl_get16(at + 4)
    request.kind = jrnl_get16(at + 6)
    request.cookie = jrnl_get64(at + 8)
    request.offset = jrnl_get64(at + 16)
    request.length = jrnl_get32(at + 24)
    request.data = at + NBD_REQUEST_BYTES
    if request.kind == NBD_WRITE:
        wanted[0] += request.length
    if jrnl_get32(at) != NBD_REQUEST_MAGIC or wanted[0] > NBD_MAX_BYTES + NBD_REQUEST_BYTES:
        wanted[0] = 0    # where the next one begins cannot be told
        return False
    return held >= wanted[0]


cdef uint32_t request_check(const Wire* wire, const Request* request) noexcept nogil:
    """The error of a request that asks for what is not to be had; 0 where it is fine."""
    cdef uint16_t known = 0
    if request.kind == NBD_READ:
        known = NBD_DF if wire.is_structured else 0
    elif request.kind in (NBD_WRITE, NBD_TRIM):
        known = NBD_FUA
    elif request.kind == NBD_WRITE_ZEROES:
        known = NBD_FUA | NBD_NO_HOLE | NBD_FAST_ZERO
    elif request.kind == NBD_BLOCK_STATUS:
        known = NBD_REQ_ONE
    elif request.kind not in (NBD_FLUSH, NBD_CACHE):
        return NBD_EINVAL
    if request.flags & ~known & ~NBD_FUA:    # FUA may stand beside any command
        return NBD_EINVAL
    if request.kind in (NBD_WRITE, NBD_TRIM, NBD_WRITE_ZEROES) and wire.is_read_only:
        return NBD_EPERM
    if request.kind == NBD_FLUSH:
        return NBD_EINVAL if request.offset or request.length else 0
    if request.offset > wire.size or request.length > wire.size - request.offset:
        return nbd_error(E_BOUNDS, NBD_READ if request.kind in (
            NBD_READ, NBD_CACHE, NBD_BLOCK_STATUS) else NBD_WRITE)
    if request.kind == NBD_READ and request.length > NBD_MAX_BYTES:
        return NBD_EINVAL
    return 0


cdef int wire_change(Wire* wire, const Request* request, uint64_t done, uint64_t* part,
                     bint* low) noexcept nogil:
    """Do a part of a WRITE, TRIM or WRITE_ZEROES from `done` on. Takes the lock."""
    cdef Core* core = wire.core
    cdef int status
    part[0] = request.length - done
    core_lock(core)
    if wire.is_stale:
        status = E_CLOSED
    elif request.kind == NBD_WRITE:
        part[0] = min(part[0], core.limits.write_max)
        status = core_write(core, wire.volume, request.offset + done, request.data + done, part[0])
    else:
        part[0] = min(part[0], <uint64_t>NBD_ZERO_BYTES)
        status = core_fill_zero(core, KIND_DISCARD if request.kind == NBD_TRIM else KIND_ZEROES,
                                wire.volume, request.offset + done, part[0])
    low[0] = take_due(core) or low[0]
    core_unlock(core)
    return status


cdef int wire_note_flush(Wire* wire) noexcept nogil:
    """A FLUSH entry, if anything is new; `wire.flush_seq` is what has to be durable then."""
    cdef Core* core = wire.core
    cdef int status = OK
    core_lock(core)
    if core.closed or wire.is_stale:
        status = E_CLOSED
    elif core.unflushed:
        ask_clock(&core.clock)
        status = core_note_flush(core)
    wire.flush_seq = core.ring.seq
    core_unlock(core)
    return status


cdef void wire_answer_change(Wire* wire, const Request* request, bint* low) noexcept nogil:
    """WRITE, TRIM, WRITE_ZEROES and FLUSH."""
    cdef uint64_t done = 0, part
    cdef int status = OK
    while done < request.length and status == OK and request.kind != NBD_FLUSH:
        status = wire_change(wire, request, done, &part, low)
        done += part
    if request.kind == NBD_WRITE and status == OK:
        wire.bytes_written += request.length
    if status == OK and not wire.is_read_only and (
            request.kind == NBD_FLUSH or request.flags & NBD_FUA):
        status = wire_note_flush(wire)
        if status == OK:
            wire.waiting[wire.waiting_count] = wire.replies_end
            wire.waiting_count += 1
    put_done(wire, request, nbd_error(status, request.kind))


cdef void wire_answer_read(Wire* wire, const Request* request) noexcept nogil:
    cdef Core* core = wire.core
    cdef uint64_t before = wire.replies_end
    cdef uint8_t* target = put_read(wire, request)
    cdef int status
    core_lock(core)
    status = E_CLOSED if wire.is_stale else core_read(core, wire.volume, request.offset, target,
                                                      request.length)
    core_unlock(core)
    if status == OK:
        wire.bytes_read += request.length
    else:
        wire.replies_end = before
        put_error(wire, request.cookie, nbd_error(status, NBD_READ))


cdef void wire_ahead(Wire* wire) noexcept nogil:
    """Have the place that the next request writes to on its way while this one is done."""
    cdef const uint8_t* at = wire.received + wire.received_start
    cdef uint64_t offset
    if wire.received_end - wire.received_start >= NBD_REQUEST_BYTES:
        offset = jrnl_get64(at + 16)
        if offset < wire.size:
            production_ahead(wire.core.disk, wire.core.volumes, wire.volume, offset)


cdef int wire_serve(Wire* wire) noexcept nogil:
    """Answer requests until the peer has gone, or one is Python's."""
    cdef Request request
    cdef uint64_t wanted
    cdef uint32_t error
    cdef bint low = False
    while True:
        while wire_next(wire, &request, &wanted):
            error = request_check(wire, &request)
            if request.kind == NBD_DISCONNECT:
                wire_settle(wire)
                return WIRE_GONE
            if request.kind == NBD_READ and not error:
                wire.wanted = request.length + NBD_CHUNK_BYTES + 8
                if wire_left(wire) < wire.wanted and not wire_settle(wire):
                    return WIRE_GONE
                if wire_left(wire) < wire.wanted:
                    return WIRE_LONG_REPLY    # no other reply is left to be sent
            elif wire_is_full(wire) and not wire_settle(wire):
                return WIRE_GONE
            if not error and (wire.core is NULL or request.kind == NBD_BLOCK_STATUS):
                return WIRE_ASKS if wire_settle(wire) else WIRE_GONE
            wire.received_start += wanted
            wire.requests += 1
            if error or request.kind == NBD_CACHE:
                put_done(wire, &request, error)
            elif request.kind == NBD_READ:
                wire_ahead(wire)
                wire_answer_read(wire, &request)
            else:
                wire_ahead(wire)
                wire_answer_change(wire, &request, &low)
            if low or is_newly_poisoned(wire.core):
                return WIRE_LOW
        if not wire_settle(wire) or wire.is_stale or wanted == 0:
            return WIRE_GONE
        if wanted > wire.received_room:
            wire.wanted = wanted
            return WIRE_LONG_REQUEST
        if wanted <= NBD_TAKE_BYTES and wire_is_large(wire):
            return WIRE_LARGE
        if not wire_receive(wire, wanted):
            return WIRE_GONE
