# What entries wrote, gathered out of a file store's log for an archive: rows, and the bytes behind
# them. It takes the lock for a small part at a time, and copies alone are made under it: their sums
# are looked at afterwards.
#
# Takes: hash, lock, ring, log, reading

cdef enum:
    TAKEN_ENTRIES = 4096        # headers that are looked at under the lock, in one go
    TAKEN_BYTES = 262144        # ... bytes that are copied
    TAKEN_PAGE_BYTES = 4096

cdef packed struct SegmentRow:
    uint64_t seq
    int64_t time_ns
    uint8_t kind
    uint16_t volume
    uint64_t offset
    uint64_t length
    uint64_t position            # of its bytes in the data; a REWIND's: the entry it follows

cdef struct Taken:
    SegmentRow* rows
    uint8_t* data
    uint64_t* sums               # of the bytes that are still to be held against them, by row
    uint8_t* pending             # whether they are, by row
    uint64_t first_slot
    uint64_t count               # rows
    uint64_t bytes               # of data, of all rows
    uint64_t seq                 # of the newest row, or the state before the first one
    uint64_t bad_seq             # what was found damaged
    bint is_full                 # nothing more may be added

cdef uint64_t NO_BYTES = <uint64_t>0xFFFFFFFFFFFFFFFF


cdef inline bint row_has_bytes(int kind) noexcept nogil:
    return kind == KIND_WRITE or kind == KIND_MARK


cdef int taken_begin(Core* core, Taken* taken, uint64_t after) noexcept nogil:
    """Find the entry that follows state `after`. The lock is held, as below."""
    cdef int status
    if core.closed:
        return E_CLOSED
    if after > core.ring.seq:
        return E_UNKNOWN
    if after < core.ring.base_seq:
        return E_EXPIRED
    status = find_slot_after(core, after, False, &taken.first_slot)
    taken.count = taken.bytes = 0
    taken.seq = after
    taken.is_full = False
    return status


cdef int taken_stays(Core* core, const Taken* taken, uint64_t k, bint* stays) noexcept nogil:
    """Whether the entry of row k is where it was; it may have left, or been dropped."""
    cdef uint64_t slot = taken.first_slot + k
    cdef const EntryHeader* header = NULL
    cdef int status
    stays[0] = False
    if core.closed:
        return E_CLOSED
    if slot < core.ring.slot_tail or slot >= core.ring.slot_head:
        return OK
    status = sound_header(core, slot, &header)
    stays[0] = status == OK and header.seq == taken.rows[k].seq
    return status


cdef int taken_bad(Taken* taken, int status) noexcept nogil:
    """What is damaged is for the next look to tell, where there is something before it."""
    if status == E_CORRUPT and taken.count:
        taken.is_full = True
        return OK
    return status


cdef int taken_rows(Core* core, Taken* taken, uint64_t upto, uint64_t most_rows,
                    uint64_t most_bytes) noexcept nogil:
    """Add rows of durable entries, up to the seq `upto`."""
    cdef uint64_t slot = taken.first_slot + taken.count, last, length
    cdef const EntryHeader* header = NULL
    cdef SegmentRow* row
    cdef bint stays = True
    cdef int status = OK
    if taken.count:
        status = taken_stays(core, taken, taken.count - 1, &stays)
    elif slot < core.ring.slot_tail:
        stays = False
    if status != OK or not stays:
        taken.is_full = True
        return status
    upto = min(upto, core.disk.commit.durable_seq)
    last = min(core.ring.slot_head, slot + TAKEN_ENTRIES)
    taken.is_full = last == core.ring.slot_head
    while slot < last:
        if taken.seq >= upto:
            taken.is_full = True
            return OK
        status = sound_header(core, slot, &header)
        if status != OK:
            return taken_bad(taken, status)
        length = header.length if row_has_bytes(header.kind) else 0
        if (header.seq > upto or taken.count == most_rows
                or taken.count and taken.bytes + length > most_bytes):
            taken.is_full = True
            return OK
        if header.seq != taken.seq + 1 and header.kind != KIND_REWIND:
            core.fault.entry = taken.seq + 1    # only what a rewind has dropped may be missing
            return taken_bad(taken, E_CORRUPT)
        row = &taken.rows[taken.count]
        row.seq = taken.seq = header.seq
        row.time_ns = header.time_ns
        row.kind = header.kind
        row.volume = header.volume
        row.offset = header.offset
        row.length = header.length
        row.position = NO_BYTES
        if header.kind == KIND_REWIND:
            row.position = header.before_sum
        elif row_has_bytes(header.kind):
            row.position = taken.bytes
        taken.bytes += length
        taken.count += 1
        slot += 1
    return OK


cdef int taken_copy(Core* core, Taken* taken, uint64_t k) noexcept nogil:
    """Copy what the entry of row k wrote; it is there."""
    cdef const EntryHeader* header = header_at(&core.ring, taken.first_slot + k)
    cdef uint64_t at = header.position + before_room(header)
    cdef uint8_t* target = taken.data + taken.rows[k].position
    cdef const uint8_t* image
    cdef int status = OK
    if header.flags & FLAG_AFTER_ZERO:
        memset(target, 0, header.length)
    elif at >= core.disk.ram.tail and image_length(header) == header.length:
        memcpy(target, ram_at(core.disk, at), header.length)
        taken.sums[k] = header.after_sum
        taken.pending[k] = True
    else:
        image = image_at(core, header, FLAG_AFTER, &status)
        if image is not NULL:
            memcpy(target, image, header.length)
    return status


cdef int taken_bytes(Core* core, Taken* taken, uint64_t first, uint64_t* next) noexcept nogil:
    """Copy what the entries of rows from `first` on wrote. Where one has gone, it ends there."""
    cdef uint64_t k = first, copied = 0
    cdef bint stays = False
    cdef int status = OK
    while k < taken.count and copied < TAKEN_BYTES and k - first < TAKEN_ENTRIES:
        status = taken_stays(core, taken, k, &stays)
        if status == OK and not stays:
            taken.count = k
            break
        if status == OK and row_has_bytes(taken.rows[k].kind):
            status = taken_copy(core, taken, k)
            copied += taken.rows[k].length
        if status != OK:
            taken.count = k
            break
        k += 1
    next[0] = k
    return status


cdef void taken_touch(const Taken* taken, uint64_t done) noexcept nogil:
    """Have the memory that is filled next at hand before the lock is taken."""
    cdef uint64_t end = min(taken.bytes, done + 2 * TAKEN_BYTES)
    while done < end:
        taken.data[done] = 0
        done += TAKEN_PAGE_BYTES


cdef int taken_check(Taken* taken, uint64_t first, uint64_t last) noexcept nogil:
    """Hold what was copied against its sums; without the lock. Where one differs, it ends there."""
    cdef const SegmentRow* row
    cdef uint64_t k
    for k in range(first, last):
        row = &taken.rows[k]
        if taken.pending[k] and hash64(taken.data + row.position, row.length) != taken.sums[k]:
            taken.bad_seq = row.seq
            taken.count = k
            return E_CORRUPT
    return OK


cdef int taken_table(Core* core, Taken* taken, uint64_t after, uint64_t upto,
                     uint64_t most_rows, uint64_t most_bytes) noexcept nogil:
    """Fill the rows; called without the lock."""
    cdef int status
    core_lock(core)
    status = taken_begin(core, taken, after)
    while status == OK and not taken.is_full:
        status = taken_rows(core, taken, upto, most_rows, most_bytes)
        taken.bad_seq = core.fault.entry    # another thread's, unless this has just found one
        core_unlock(core)
        core_lock(core)
    core_unlock(core)
    return status


cdef int taken_data(Core* core, Taken* taken) noexcept nogil:
    """Fill the data, and say how much of it there is in the end; called without the lock."""
    cdef uint64_t k = 0, next = 0, done = 0
    cdef int status = OK, found
    while k < taken.count and status == OK:
        taken_touch(taken, done)
        core_lock(core)
        status = taken_bytes(core, taken, k, &next)
        if status == E_CORRUPT:
            taken.bad_seq = core.fault.entry
        core_unlock(core)
        found = taken_check(taken, k, next)
        status = found if found != OK else status
        while k < min(next, taken.count):
            if row_has_bytes(taken.rows[k].kind):
                done += taken.rows[k].length
            k += 1
    taken.bytes = done
    return taken_bad(taken, status)
