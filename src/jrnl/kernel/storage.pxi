# The door between memory and disk, for what enters: decided once an operation, at its entry.
#
# memory_... is in room, write, edit, rewind and restore; disk_... beside them, in files of its own.
# What reads comes by reading.pxi.
#
# Takes: lock, ring, log, reading, taken, reclaim, commit, write_back, log_retention, disk_room,
# room, disk_write, disk_batch, disk_edit, write, edit, rewind, disk_rewind, restore, replay

cdef int core_write(Core* core, uint32_t volume, uint64_t offset, const uint8_t* data,
                    uint64_t length) noexcept nogil:
    """Write `length` bytes at `offset`; core.ring.seq is the entry's seq afterwards."""
    cdef int status = write_ready(core, volume, offset, length)
    if status != OK or length == 0:
        return status
    if on_disk(core.disk):
        return disk_write(core, volume, offset, data, length, False)
    return memory_write(core, volume, offset, data, length)


cdef int core_write_many(Core* core, uint32_t volume, const int64_t* offsets, uint64_t count,
                         const uint8_t* data, uint64_t length) noexcept nogil:
    """`count` writes of `length` bytes each, in order; all are checked before the first is made.

    What a fold runs must not write in between, nor into the room that was found.
    """
    cdef int status
    ask_clock(&core.clock)
    core.calls.exclusive += 1
    status = write_all(core, volume, offsets, count, data, length)
    core.calls.exclusive -= 1
    return status


cdef int write_all(Core* core, uint32_t volume, const int64_t* offsets, uint64_t count,
                   const uint8_t* data, uint64_t length) noexcept nogil:
    cdef uint64_t k
    cdef int status = range_check(core, volume, 0, 0)
    if status != OK or count == 0:
        return status
    for k in range(count):
        status = write_check(core, volume, <uint64_t>offsets[k], length)
        if status != OK:
            return status
        if (core.edits.open is not NULL
                and edit_overlaps(&core.edits, volume, <uint64_t>offsets[k], length)):
            return E_EDIT
    if length == 0:
        return OK
    if on_disk(core.disk):
        return disk_write_many(core, volume, offsets, count, data, length)
    return memory_write_many(core, volume, offsets, count, data, length)


cdef int core_fill_zero(Core* core, int kind, uint32_t volume, uint64_t offset,
                        uint64_t length) noexcept nogil:
    """DISCARD or ZEROES over any length, in pieces; all of them fit or none is made."""
    cdef int status
    ask_clock(&core.clock)
    core.calls.exclusive += length > core.limits.piece_max    # as core_write_many
    status = zero_all(core, kind, volume, offset, length)
    core.calls.exclusive -= length > core.limits.piece_max
    return status


cdef int zero_all(Core* core, int kind, uint32_t volume, uint64_t offset,
                  uint64_t length) noexcept nogil:
    cdef int status = range_check(core, volume, offset, length)
    if status != OK or length == 0:
        return status
    if core.edits.open is not NULL and edit_overlaps(&core.edits, volume, offset, length):
        return E_EDIT
    if on_disk(core.disk):
        return disk_fill_zero(core, kind, volume, offset, length)
    return memory_fill_zero(core, kind, volume, offset, length)


cdef int core_note(Core* core, int kind, uint64_t offset, const uint8_t* text,
                   uint64_t length) noexcept nogil:
    """An entry that changes no byte of a volume: MARK, with its name, or FLUSH.

    The caller has asked the clock.
    """
    core_tick(&core.clock)
    if on_disk(core.disk):
        return disk_note(core, kind, offset, text, length)
    return memory_note(core, kind, offset, text, length)


cdef int core_note_flush(Core* core) noexcept nogil:
    """A FLUSH entry; in a log that is full, what there is becomes durable without one."""
    cdef int status
    if on_disk(core.disk) and core.disk.read_only:
        return OK
    status = core_note(core, KIND_FLUSH, 0, NULL, 0)
    return OK if status == E_FULL and on_disk(core.disk) else status


cdef int entry_made(Core* core) noexcept nogil:
    """After an entry that was not a write's."""
    return disk_written(core) if on_disk(core.disk) else OK


cdef int core_commit(Core* core, uint64_t seq) noexcept nogil:
    """Make the entries up to `seq` durable; the caller need not hold the lock."""
    cdef int status
    if not on_disk(core.disk) or core.disk.read_only:
        return OK
    status = disk_check(core.disk, &core.fault)
    if status == OK:
        status = log_flush(core, seq)
    if status == OK:
        core_lock(core)
        if not core.closed:
            status = disk_tidy(core)
        core_unlock(core)
    return status


cdef void core_expire(Core* core) noexcept nogil:
    """Let go what is too old, before anybody is shown it."""
    if core.closed or core.folds.folding:
        return
    if not on_disk(core.disk):
        memory_expire(core)
    elif disk_check(core.disk, &core.fault) == OK:
        disk_expire(core)    # a failure poisons the store, which says so when it is written to


cdef int edit_begin(Core* core, uint32_t volume, uint64_t offset, uint64_t length) noexcept nogil:
    """Lend a range out for writing in place. The caller holds the lock until edit_end."""
    cdef int status = write_ready(core, volume, offset, length)
    if status != OK:
        return status
    if edit_overlaps(&core.edits, volume, offset, length):
        return E_EDIT
    if on_disk(core.disk):
        return disk_edit_begin(core, volume, offset, length)
    return memory_edit_begin(core, volume, offset, length)


cdef inline bint edit_lends_copy(const Disk* disk) noexcept nogil:
    """Whether an edit lends a copy, which comes back with edit_end, or production itself."""
    return on_disk(disk)


cdef int edit_end(Core* core, uint32_t volume, uint64_t offset, bint undo,
                  const uint8_t* copy) noexcept nogil:
    """Close an edit; to `undo` it, as if nothing had been written."""
    if on_disk(core.disk):
        return disk_edit_end(core, volume, offset, NULL if undo else copy)
    return memory_edit_end(core, volume, offset, undo)


cdef int core_rewind(Core* core, uint64_t to, bint anyway, RewindResult* result) noexcept nogil:
    """Put every volume back to state `to` and drop the entries after it.

    All images are verified before the first byte of production changes. One REWIND entry stands
    for state `to`; where `to` is itself such an entry, the new one takes its place.
    """
    cdef uint64_t state = 0
    cdef int status = rewind_check(core, to, &state)
    if status != OK:
        return status
    result.seq = core.ring.seq
    result.entries = 0
    result.bytes = 0
    if state == core.ring.seq and not anyway:
        return OK
    if on_disk(core.disk):
        return disk_rewind(core, state, result)
    return memory_rewind(core, state, result)


cdef int core_replay(Core* core, const SegmentRow* rows, uint64_t count,
                     const uint8_t* data) noexcept nogil:
    """Make entries of an archive again, none of them a REWIND; what fails leaves those before."""
    cdef bint disk = on_disk(core.disk)
    cdef uint64_t k
    cdef int status = E_CLOSED if core.closed else OK
    for k in range(count):
        if status == OK:
            status = disk_replay(core, &rows[k], data) if disk else memory_replay(core, &rows[k],
                                                                                  data)
    return status


cdef int core_pass_by(Core* core, uint64_t seq) noexcept nogil:
    """Give out seqs up to `seq`, which the next rewind drops: to FLUSH entries, which take least.

    Those that they stand for took more, and were dropped before anybody had archived them.
    """
    cdef int status = OK
    while status == OK and core.ring.seq < seq:
        status = (disk_note(core, KIND_FLUSH, 0, NULL, 0) if on_disk(core.disk)
                  else memory_note(core, KIND_FLUSH, 0, NULL, 0))
    return status


cdef int storage_forecast(Core* core, const int64_t* offsets, const int64_t* lengths,
                          uint64_t count, uint64_t* oldest) noexcept nogil:
    """The oldest state once `count` writes at offsets[k] of lengths[k] are in."""
    if on_disk(core.disk):
        return disk_restore_outcome(core, offsets, lengths, count, oldest)
    return memory_restore_outcome(core, lengths, count, oldest)


cdef inline uint64_t journal_used(const Disk* disk, const Ring* ring) noexcept nogil:
    """Bytes of the journal that retained entries take, headers and images."""
    if on_disk(disk):
        return disk.groups.cursor - ring.tail
    return (ring.slot_head - ring.slot_tail) * HEADER_BYTES + ring.used


cdef inline bint is_forked(const Disk* disk) noexcept nogil:
    """Whether this is a forked child, whose parent has the store's files."""
    return on_disk(disk) and disk.forks != jrnl_forks


cdef int journal_span(Core* core, uint64_t first, uint64_t last, uint64_t* bytes) noexcept nogil:
    """Put into `bytes` what the entries of slots [first, last) take of a log.

    Its groups have frames and padding: what it took is the distance. In memory there are none, and
    `bytes`, which has the entries' sum, stays.
    """
    cdef uint64_t begin, end
    cdef const EntryHeader* header
    cdef int status
    if not on_disk(core.disk):
        return OK
    begin = header_at(&core.ring, first).position
    end = core.disk.groups.cursor
    if last < core.ring.slot_head:
        status = sound_header(core, last, &header)
        if status != OK:
            return status
        end = header.position
    else:
        header = header_at(&core.ring, last - 1)
        if header.position > end:
            end = header.position    # read-only: a REWIND's entry that stands in memory alone
    bytes[0] = end - begin
    return OK
