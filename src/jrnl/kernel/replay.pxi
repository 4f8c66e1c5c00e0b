# Entries of an archive made again, with the seqs and times that they had.
#
# Each is whole as it was, however a call would split it now. They are held against their bounds
# before; that seqs follow is seen here.
#
# Takes: ring, log, taken, disk_write, write

cdef int replay_begin(Core* core, const SegmentRow* row) noexcept nogil:
    """Whether an entry may be made now; it is its time."""
    if row.seq != core.ring.seq + 1:
        return E_UNKNOWN
    if core.edits.open is not NULL:
        return E_EDIT
    core.clock.now_ns = max(core.clock.now_ns, row.time_ns)
    return write_check(core, row.volume, row.offset, row.length) if row.kind <= KIND_ZEROES else OK


cdef int memory_replay(Core* core, const SegmentRow* row, const uint8_t* data) noexcept nogil:
    """One entry, which is no REWIND."""
    cdef int status = replay_begin(core, row)
    if status != OK:
        return status
    if row.kind == KIND_WRITE:
        status = write_one(core, row.volume, row.offset, data + row.position, row.length, NULL)
        jrnl_stream_fence()
        return status
    if row.kind <= KIND_ZEROES:
        return zero_one(core, row.kind, row.volume, row.offset, row.length)
    return memory_note(core, row.kind, row.offset, data + row.position if row.length else NULL,
                       row.length)


cdef int disk_replay(Core* core, const SegmentRow* row, const uint8_t* data) noexcept nogil:
    cdef int status = disk_check(core.disk, &core.fault)
    if status == OK:
        status = replay_begin(core, row)
    if status != OK:
        return status
    if row.kind == KIND_WRITE:
        return disk_write_one(core, row.volume, row.offset, data + row.position, row.length, NULL,
                              False)
    if row.kind <= KIND_ZEROES:
        return disk_zero_one(core, row.kind, row.volume, row.offset, row.length, NULL)
    return disk_note(core, row.kind, row.offset, data + row.position if row.length else NULL,
                     row.length)
