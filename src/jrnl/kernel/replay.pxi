# Entries of an archive made again, with the seqs and times that they had.
#
# Takes: ring, log, reading, taken, disk_write, write

cdef int replay_bytes(Core* core, const SegmentRow* row, const uint8_t* data) noexcept nogil:
    """One WRITE, DISCARD or ZEROES, whole as it was, however a call would split it now."""
    cdef int status = write_check(core, row.volume, row.offset, row.length)
    if status != OK:
        return status
    if row.kind == KIND_WRITE and on_disk(core.disk):
        return disk_write_one(core, row.volume, row.offset, data + row.position, row.length, NULL,
                              False)
    if row.kind == KIND_WRITE:
        return write_one(core, row.volume, row.offset, data + row.position, row.length, NULL)
    if on_disk(core.disk):
        return disk_zero_one(core, row.kind, row.volume, row.offset, row.length, NULL)
    return zero_one(core, row.kind, row.volume, row.offset, row.length)


cdef int replay_note(Core* core, const SegmentRow* row, const uint8_t* data) noexcept nogil:
    """One MARK or FLUSH."""
    cdef const uint8_t* text = data + row.position if row.length else NULL
    if on_disk(core.disk):
        return disk_note(core, row.kind, row.offset, text, row.length)
    return memory_note(core, row.kind, row.offset, text, row.length)


cdef int replay_rows(Core* core, const SegmentRow* rows, uint64_t count, const uint8_t* data,
                     uint64_t* done) noexcept nogil:
    """Make entries that follow each other, none of them a REWIND; `done` of them are made.

    The lock is held. They are held against their bounds before; that seqs follow is held here.
    """
    cdef const SegmentRow* row
    cdef int status = disk_check(core.disk, &core.fault) if on_disk(core.disk) else OK
    done[0] = 0
    if status == OK and core.edits.open is not NULL:
        return E_EDIT
    while status == OK and done[0] < count:
        row = &rows[done[0]]
        if row.seq != core.ring.seq + 1:
            return E_UNKNOWN
        core.clock.now_ns = max(core.clock.now_ns, row.time_ns)
        if row.kind <= KIND_ZEROES:
            status = replay_bytes(core, row, data)
        else:
            status = replay_note(core, row, data)
        done[0] += status == OK
    if not on_disk(core.disk):
        jrnl_stream_fence()
    return status


cdef int replay_gap(Core* core, uint64_t until) noexcept nogil:
    """Give seqs out up to `until`, to entries that the next rewind drops: FLUSH, which take least.

    Those that they stand for took more, and were dropped before anybody had archived them.
    """
    cdef int status = disk_check(core.disk, &core.fault) if on_disk(core.disk) else OK
    while status == OK and core.ring.seq < until:
        if on_disk(core.disk):
            status = disk_note(core, KIND_FLUSH, 0, NULL, 0)
        else:
            status = memory_note(core, KIND_FLUSH, 0, NULL, 0)
    return status
