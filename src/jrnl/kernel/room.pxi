# In memory: room for an entry, its entering, and what leaves for it.
#
# Takes: memory, ring, prefault, changed_blocks, fold_hook, reclaim

cdef int core_evict_oldest(Core* core) noexcept nogil:
    """Let the oldest entry go, which no open state keeps a copy of."""
    cdef Ring ring = core.ring
    cdef int status
    if ring.slot_tail == ring.slot_head:
        return E_TOO_LARGE
    jrnl_prefetch_page(<const uint8_t*>(header_at(&core.ring, ring.slot_tail) + HEADERS_AHEAD))
    if core.settings.refuse:
        core.reclaim.full_by = FULL_OTHERWISE
        return E_FULL
    status = ring_evict(core, &ring)
    if status != OK:
        return status
    changed_evict(core, ring.slot_tail, ring.base_seq)
    core.evictions += ring.slot_tail - core.ring.slot_tail
    core.ring = ring
    return OK


cdef int memory_reserve(Core* core, uint64_t room, uint64_t* position) noexcept nogil:
    """Make room for one entry whose images take `room` bytes; nothing is claimed yet."""
    cdef int status
    if (core.settings.guarded or core.edits.open is not NULL or core.folds.on
            or core.lives.newest is not NULL):
        return guarded_reserve(core, room, position)
    while not ring_place(&core.ring, room, position):
        status = core_evict_oldest(core)
        if status != OK:
            return status
    return OK


cdef void memory_append(Core* core, EntryHeader* entry, uint64_t room) noexcept nogil:
    """Publish `entry`: the caller has reserved `room` at entry.position and filled the images."""
    entry_publish(core, entry)
    ring_claim(&core.ring, entry.position, room)
    if core.ring.head >= core.prefault_next:
        prefault_follow(core)
    core.since_rewind += room
    if core.settings.watched:
        watch_room(&core.ring, &core.reclaim, core.ring.used)


cdef int memory_room_check(Core* core, uint64_t length, uint64_t count) noexcept nogil:
    """Whether `count` writes of `length` fit where none may be refused."""
    cdef RingForecast ahead
    cdef uint64_t k
    cdef int status
    if not may_not_evict(core):
        return OK
    ring_forecast_begin(&core.ring, &ahead)
    for k in range(count):
        status = ring_forecast_add(core, &ahead, write_room(&core.settings, length))
        if status != OK:
            return status
    return OK


cdef int memory_zero_check(Core* core, uint32_t volume, uint64_t offset,
                           uint64_t length) noexcept nogil:
    cdef RingForecast ahead
    cdef uint64_t piece, room
    cdef int status
    if not may_not_evict(core):
        return OK
    ring_forecast_begin(&core.ring, &ahead)
    while length:
        piece = length if length < core.limits.piece_max else core.limits.piece_max
        room = 0
        if (core.settings.images & IMAGES_BEFORE
                and not all_zero(&core.volumes[volume], offset, piece)):
            room = align_up(piece)
        status = ring_forecast_add(core, &ahead, room)
        if status != OK:
            return status
        offset += piece
        length -= piece
    return OK


cdef void memory_expire(Core* core) noexcept nogil:
    """Let go what is too old, before anybody is shown it."""
    cdef RingForecast ahead
    ring_forecast_begin(&core.ring, &ahead)
    ring_forecast_expire(core, &ahead)
    if ahead.ring.slot_tail == core.ring.slot_tail or fold_ask(core, ahead.ring.base_seq) == OK:
        ring_forecast_commit(core, &ahead)
