# On disk: several entries of one call. All of them are made, or none.
#
# What may fail is tried before the first one. Where an entry fails all the same, those before it
# are taken back, as long as they are in the open group, which nobody but memory knows. A group that
# was closed stays: then the store is poisoned, and what an opening finds is a state in the middle,
# as after a crash (docs/durability.md).
#
# Takes: ring, log, overlay, preserve, fold_hook, commit, write_back, log_evict, log_forecast,
# disk_room, batch, disk_write

# Before a batch that closes groups, and can't be taken back.

cdef bint writes_cross(const Core* core, const int64_t* offsets, uint64_t count,
                       uint64_t length) noexcept nogil:
    """Whether the open group is closed on the way."""
    cdef OpenGroup open
    cdef uint64_t k
    open_group_begin(core.disk, &core.ring, &open)
    for k in range(count):
        open_group_add(core, &open, disk_room(core, <uint64_t>offsets[k], length))
        if open.start != core.disk.groups.start:
            return True
    return False


cdef bint zeroes_cross(const Core* core, uint64_t offset, uint64_t length) noexcept nogil:
    cdef OpenGroup open
    cdef uint64_t piece
    open_group_begin(core.disk, &core.ring, &open)
    while length:
        piece = length if length < core.limits.piece_max else core.limits.piece_max
        open_group_add(core, &open, 2 * sector_span(offset, piece))
        if open.start != core.disk.groups.start:
            return True
        offset += piece
        length -= piece
    return False


cdef int ahead_of(Core* core, LogForecast* ahead, bint ends) noexcept nogil:
    """Have copies and folds done that entries to come, those of a forecast, will ask for.

    The forecast takes the least room that they may need: what leaves for it leaves anyway. Beyond
    that, and for entries of the batch itself, is asked on the way. Where it does not come to its
    end, all that there is may have to leave.
    """
    cdef uint64_t seq = core.ring.seq
    cdef int status
    if ends and ahead.slot_tail <= core.ring.slot_tail:
        return OK
    if ends and ahead.slot_tail <= core.ring.slot_head:
        seq = seq_before_slot(&core.ring, ahead.slot_tail)
    status = log_wait(core.disk, &core.fault)
    if status == OK:    # all that are under way: later ones may be asked for, too
        status = finish_copies(core, core.ring.seq)
    return fold_ask(core, seq) if status == OK else status


cdef inline bint asks_ahead(const Folds* folds, const Disk* disk) noexcept nogil:
    return folds.on or disk.hooks.copy_floor != NO_SLOT


cdef int writes_ahead(Core* core, const int64_t* offsets, uint64_t count,
                      uint64_t length) noexcept nogil:
    cdef LogForecast ahead
    cdef uint64_t k
    cdef bint ends = True
    cdef int status
    if not asks_ahead(&core.folds, core.disk):
        return OK
    status = forecast_begin(core, &ahead, count)
    ahead.guess = False
    if status == OK:
        for k in range(count):
            ends = forecast_reserve(&ahead, sector_span(<uint64_t>offsets[k], length)) == OK
            if not ends:
                break
        status = ahead_of(core, &ahead, ends)
    free(ahead.groups)
    return status


cdef int zeroes_ahead(Core* core, uint64_t length) noexcept nogil:
    cdef LogForecast ahead
    cdef uint64_t k
    cdef bint ends = True
    cdef int status
    if not asks_ahead(&core.folds, core.disk):
        return OK
    status = forecast_begin(core, &ahead, length // core.limits.piece_max + 1)
    ahead.guess = False
    if status == OK:
        for k in range(length // core.limits.piece_max + 1):
            ends = forecast_reserve(&ahead, 0) == OK
            if not ends:
                break
        status = ahead_of(core, &ahead, ends)
    free(ahead.groups)
    return status


cdef int span_probe(Core* core, uint32_t volume, uint64_t offset, uint64_t length,
                    uint8_t* buffer) noexcept nogil:
    """Read what an entry will overwrite. Lost sectors may be written over whole (before_fetch)."""
    cdef uint64_t first = sector_start(offset), span = sector_span(offset, length)
    cdef bint whole = first == offset and (length == span or offset + length
                                           == core.volumes[volume].size)
    cdef int status
    if whole and unwritten(core, volume, first, span):
        return OK
    status = sectors_fetch(core, volume, first, buffer, span)
    return OK if status == E_LOST and whole and not core.fault.lost else status


cdef int writes_probe(Core* core, uint32_t volume, const int64_t* offsets, uint64_t count,
                      uint64_t length) noexcept nogil:
    cdef uint8_t* buffer = <uint8_t*>malloc(length + 2 * SECTOR_BYTES)
    cdef uint64_t k
    cdef int status = OK if buffer is not NULL else E_NO_MEMORY
    for k in range(count):
        if status == OK:
            status = span_probe(core, volume, <uint64_t>offsets[k], length, buffer)
    free(buffer)
    return status


cdef int zeroes_probe(Core* core, uint32_t volume, uint64_t offset, uint64_t length) noexcept nogil:
    cdef uint8_t* buffer = <uint8_t*>malloc(core.limits.piece_max + 2 * SECTOR_BYTES)
    cdef uint64_t piece
    cdef int status = OK if buffer is not NULL else E_NO_MEMORY
    while length and status == OK:
        piece = length if length < core.limits.piece_max else core.limits.piece_max
        status = span_probe(core, volume, offset, piece, buffer)
        offset += piece
        length -= piece
    free(buffer)
    return status


# The calls.

cdef int disk_write_many(Core* core, uint32_t volume, const int64_t* offsets, uint64_t count,
                         const uint8_t* data, uint64_t length) noexcept nogil:
    """Several WRITE entries. All is checked but the room in a log that may not evict."""
    cdef OpenGroup open
    cdef Batch batch
    cdef uint64_t k, blocks = 0
    cdef int status = disk_check(core.disk, &core.fault)
    core_tick(&core.clock)
    if status == OK and core.settings.guarded:
        status = guarded_room_check(core, offsets, NULL, length, count)
    elif status == OK and core.settings.refuse:
        open_group_begin(core.disk, &core.ring, &open)
        for k in range(count):    # each write's place in it matters
            if not open_group_add(core, &open, disk_room(core, <uint64_t>offsets[k], length)):
                return E_FULL
    if status == OK:
        status = preserve_reserve(core, count, count, count * sector_span(SECTOR_BYTES - 1, length))
    if status == OK and writes_cross(core, offsets, count, length):
        status = writes_probe(core, volume, offsets, count, length)
        if status == OK:
            status = writes_ahead(core, offsets, count, length)
    elif status == OK:
        for k in range(count):
            blocks += blocks_touched(sector_start(<uint64_t>offsets[k]),
                                     sector_span(<uint64_t>offsets[k], length))
    if status == OK:
        status = batch_begin(core, &batch, blocks)
    if status != OK:
        return status
    for k in range(count):
        status = disk_write_one(core, volume, <uint64_t>offsets[k], data + k * length, length,
                                &batch, False)
        if status != OK:
            break
    status = batch_end(core, &batch, status)
    return disk_written(core) if status == OK else status


cdef int disk_fill_zero(Core* core, int kind, uint32_t volume, uint64_t offset,
                        uint64_t length) noexcept nogil:
    """DISCARD or ZEROES over any length; the range is checked."""
    cdef Batch batch
    cdef uint64_t piece = min(length, 4 * core.limits.capacity), blocks = 0, pieces
    cdef int status = disk_check(core.disk, &core.fault)
    core_tick(&core.clock)
    if status == OK:
        status = disk_zero_room_check(core, offset, length)
    if status == OK and core.lives.newest is not NULL:
        pieces = length // core.limits.piece_max
        status = preserve_reserve(core, pieces + 1, min(piece >> CHUNK_SHIFT, pieces) + 1, piece)
    if status != OK:
        return status
    if length <= core.limits.piece_max:
        status = disk_zero_one(core, kind, volume, offset, length, NULL)
        return disk_written(core) if status == OK else status
    if zeroes_cross(core, offset, length):
        status = zeroes_probe(core, volume, offset, length)
        if status == OK:
            status = zeroes_ahead(core, length)
    else:
        blocks = blocks_touched(sector_start(offset), sector_span(offset, length)) + (
            length // core.limits.piece_max + 1)    # two pieces may touch one block
    if status == OK:
        status = batch_begin(core, &batch, blocks)
    if status != OK:
        return status
    while length and status == OK:
        piece = length if length < core.limits.piece_max else core.limits.piece_max
        status = disk_zero_one(core, kind, volume, offset, piece, &batch)
        offset += piece
        length -= piece
    status = batch_end(core, &batch, status)
    return disk_written(core) if status == OK else status
