# File stores: groups leave the log, and whoever needs them gets what they need first.
#
# Takes: sabotage, memory, ring, log, preserve, changed_blocks, fold_hook, reclaim, commit,
# preserved_save, index, write_back

cdef void headers_free(const Ring* ring, uint64_t before) noexcept nogil:
    """Give back the memory of headers that have left since the tail was at slot `before`.

    There are slots for entries without images; with images, most of them are long idle.
    """
    cdef uint64_t slots = ring.slots, length
    cdef uint64_t chunk = page_bytes(slots * HEADER_BYTES) // HEADER_BYTES
    cdef uint64_t k = before % slots // chunk * chunk, lap = before - before % slots
    while True:
        length = min(chunk, slots - k)
        if lap + k + length >= ring.slot_tail:
            return
        if ring.slot_head <= lap + k + slots:    # not in use again
            madvise(ring.headers + k, length * HEADER_BYTES, MADV_DONTNEED)
        k += length
        if k == slots:
            k = 0
            lap += slots


cdef int finish_copies(Core* core, uint64_t seq) noexcept nogil:
    """Before the entries up to `seq` leave: finish the copies that need one of them (R10)."""
    cdef uint64_t floor
    cdef int status = OK
    while status == OK and core.disk.hooks.copy_floor < seq and in_force(RULE_FINISH_COPIES):
        floor = core.disk.hooks.copy_floor
        status = _call_record(core, core.disk.hooks.finish_copy)
        if status == OK and core.disk.hooks.copy_floor == floor:
            core.reclaim.full_by = FULL_OTHERWISE
            return E_FULL
    return status


cdef int disk_evict_to(Core* core, uint64_t number) noexcept nogil:
    """Let the groups before `number` go. None is on its way."""
    cdef Disk* disk = core.disk
    cdef uint64_t slot = disk.groups.first_slot, position = disk.groups.start
    cdef uint64_t before = core.ring.slot_tail
    cdef int status = OK
    if number < disk.groups.next:
        slot = group_at(disk, number).slot
        position = group_at(disk, number).position
    if status == OK and slot > core.ring.slot_tail:
        if seq_before_slot(&core.ring,
                           slot) > disk.back.synced_seq and in_force(RULE_EVICT_SYNCED):
            status = write_back_all(core)
    if status == OK and slot > core.ring.slot_tail:
        status = finish_copies(core, seq_before_slot(&core.ring, slot))
        if status == OK:
            status = fold_ask(core, seq_before_slot(&core.ring, slot))
        if status == OK and core.lives.newest is not NULL:
            status = preserve_until(core, slot)
        if status == OK:
            status = preserved_evict(core.disk, &core.fault, slot,
                                     seq_before_slot(&core.ring, slot))
    if status != OK:
        return status
    core.evictions += slot - core.ring.slot_tail
    if slot > core.ring.slot_tail:
        note_left(&core.reclaim, &core.clock)
        changed_evict(core, slot, seq_before_slot(&core.ring, slot))
        core.ring.base_seq = seq_before_slot(&core.ring, slot)
        if header_check(&core.ring, &core.fault, header_at(&core.ring, slot - 1), slot - 1) == OK:
            core.ring.base_time_ns = header_at(&core.ring, slot - 1).time_ns
    disk.index.total -= index_sums(&core.ring, before, min(slot, disk.index.slot))
    core.ring.slot_tail = slot
    core.ring.tail = position
    disk.groups.first = number
    status = index_save(core)
    if status != OK:
        return poison(&core.fault, status)
    headers_free(&core.ring, before)
    if not in_force(RULE_TAIL_FIRST):
        disk.tail_named = core.ring.tail
        return OK
    return disk_record(core)
