# Rewind: production itself goes back, at the cost of the distinct bytes written since (I10).

cdef int rewind_check(Core* core, uint64_t to, uint64_t* state) noexcept nogil:
    cdef Live* live
    cdef int status
    ask_clock(core)
    live = core.live
    if core.closed:
        return E_CLOSED
    if not core.images_mode & IMAGES_BEFORE:
        return E_NO_BEFORE
    if core.edits is not NULL:
        return E_EDIT
    status = core_resolve(core, to, state)
    if status != OK or state[0] == core.seq:
        return status
    while live is not NULL:
        if live.seq > state[0] and not live.dead:
            core.bad_seq = live.seq
            return E_PINNED
        live = live.next
    if core.reclaim.pins is not NULL and core.reclaim.pin_high > state[0]:
        core.bad_seq = core.reclaim.pin_high
        return E_PINNED
    return OK


cdef void rewind_copy(Core* core, const ExtentMapData* map) noexcept nogil:
    """Put the map's bytes back into a volume in memory; neighbours of one image in one copy."""
    cdef uint64_t k = 0, length
    cdef const Fragment* fragment
    cdef const Fragment* other
    while k < map.count:
        fragment = &map.fragments[k]
        length = fragment.length
        k += 1
        while k < map.count:
            other = &map.fragments[k]
            if other.slot != fragment.slot or other.offset != fragment.offset + length:
                break
            length += other.length
            k += 1
        fragment_copy(core, fragment, 0, core.volumes[fragment.volume].data + fragment.offset,
                      length)
        touch(&core.volumes[fragment.volume], fragment.offset, length)


cdef uint64_t rewind_slot(Core* core, uint64_t state, uint64_t first) noexcept nogil:
    """The slot from which on entries go; a REWIND entry at the end goes too, as an alias."""
    cdef const EntryHeader* header
    alias_drop_after(core, state)
    if first > core.ring.slot_tail:
        header = header_at(core, first - 1)
        if header.kind == KIND_REWIND and header_check(core, header, first - 1) == OK:
            alias_push(core, header.seq)
            return first - 1
    return first


cdef int core_rewind(Core* core, uint64_t to, RewindResult* result) noexcept nogil:
    """Put every volume back to state `to` and drop the entries after it.

    All images are verified before the first byte of production changes. One REWIND entry stands
    for state `to`; where `to` is itself such an entry, the new one takes its place.
    """
    cdef uint64_t state = 0, first = 0, slot
    cdef const EntryHeader* header
    cdef int status = rewind_check(core, to, &state)
    if status != OK:
        return status
    result.seq = core.seq
    result.entries = 0
    result.bytes = 0
    if state == core.seq:
        return OK
    if core.disk is not NULL:
        return disk_rewind(core, state, result)
    status = find_slot_after(core, state, False, &first)
    if status == OK:
        status = map_scan(core, &core.scratch, first, core.ring.slot_head, False)
    if status == OK:
        status = map_verify(core, &core.scratch)
    if status == OK:
        rewind_copy(core, &core.scratch)
        result.entries = core.ring.slot_head - first
        result.bytes = core.scratch.bytes
    map_clear(&core.scratch)
    if status != OK:
        return status
    slot = rewind_slot(core, state, first)
    while core.ring.slot_head > slot:
        header = header_at(core, core.ring.slot_head - 1)
        ring_drop_newest(&core.ring, header.position, image_room(header))
    core.generation += 1
    fold_forget(core)
    core_note(core, KIND_REWIND, state, NULL, 0)   # cannot fail: a slot has just become free
    pins_follow(core, state)
    core.since_rewind = 0
    result.seq = core.seq
    return OK


# On disk: the volumes' files go back under a durable intent, and only when they are there, durably,
# are the entries cut and their blocks used again (R10).

cdef int disk_rewind(Core* core, uint64_t state, RewindResult* result) noexcept nogil:
    cdef uint64_t first = 0, slot
    cdef int status = disk_check(core)
    if status == OK:
        status = write_back_all(core)
    if status == OK:
        status = find_slot_after(core, state, False, &first)
    if status == OK:
        status = map_scan(core, &core.scratch, first, core.ring.slot_head, False)
    if status == OK:
        status = map_check(core, &core.scratch)    # all of it can be read, before anything changes
    if status == OK and core.guarded:
        status = rewind_room(core, first)
    if status == OK:
        core.disk.undo = True
        core.disk.undo_to = state
        if holds(core, RULE_UNDO_INTENT):
            status = disk_record(core)
    if status == OK:
        status = undo_volumes(core)
    if status == OK:
        result.entries = core.ring.slot_head - first
        result.bytes = core.scratch.bytes
    map_clear(&core.scratch)
    if status != OK:
        return status
    slot = rewind_slot(core, state, first)
    disk_cut(core, slot)
    core.disk.undo = False
    core.disk.epoch += 1
    core.disk.rewound_to = state
    core.disk.rewound_seq = core.seq + 1
    core_tick(core)
    core.disk.rewound_time_ns = core.time_ns
    core.disk.rewound_follows = last_live_seq(core)
    core.generation += 1
    fold_forget(core)
    core.disk.durable_seq = core.disk.synced_seq = core.seq + 1
    status = disk_record(core)
    if status == OK:
        status = note_rewind(core, state)
    if status == OK:
        pins_follow(core, state)
    core.since_rewind = 0
    result.seq = core.seq
    return status


cdef int note_rewind(Core* core, uint64_t state) noexcept nogil:
    """The REWIND entry, which has room even where a log that refuses is full.

    What leaves though there is room waits for the next entry: the rewind is done, and cannot fail.
    """
    cdef uint64_t reserve = core.disk.reserve, start_slots = core.reclaim.start_slots
    cdef int64_t most_ns = core.reclaim.most_ns
    cdef int status
    core.disk.reserve = 0
    core.reclaim.most_ns = 0
    core.reclaim.start_slots = NO_SLOT
    status = note_now(core, KIND_REWIND, state, NULL, 0)
    core.disk.reserve = reserve
    core.reclaim.start_slots = start_slots
    core.reclaim.most_ns = most_ns
    return status


cdef uint64_t last_live_seq(const Core* core) noexcept nogil:
    """The seq of the newest entry that there is; REWIND entries that were replaced are not."""
    if core.ring.slot_head == core.ring.slot_tail:
        return core.base_seq
    return seq_before_slot(core, core.ring.slot_head)


cdef int map_check(Core* core, ExtentMapData* map) noexcept nogil:
    """Read every fragment once."""
    cdef uint8_t[BLOCK_BYTES] content
    cdef uint64_t k
    cdef int status
    for k in range(map.count):
        status = fragment_copy(core, &map.fragments[k], 0, content, map.fragments[k].length)
        if status != OK:
            return status
    return OK


cdef int undo_volumes(Core* core) noexcept nogil:
    """Write the scratch map, whole sectors of before-images, into the volumes' files."""
    cdef uint8_t[BLOCK_BYTES] content
    cdef const Fragment* fragment
    cdef uint64_t k
    cdef int status
    for k in range(core.scratch.count):
        fragment = &core.scratch.fragments[k]
        status = fragment_copy(core, fragment, 0, content, fragment.length)
        if status == OK:
            core.disk.dirty[fragment.volume] = True
            fill_hole(core, fragment.volume, fragment.offset, fragment.length)
            status = device_write(&core.disk.volumes[fragment.volume], content, fragment.length,
                                  fragment.offset, &core.disk.error)
        if status != OK:
            return poison(core, status)
    return volumes_sync(core) if holds(core, RULE_UNDO_SYNC) else OK


cdef void disk_cut(Core* core, uint64_t slot) noexcept nogil:
    """Forget the entries from `slot` on, and the groups that hold nothing else."""
    cdef Disk* disk = core.disk
    core.ring.slot_head = slot
    while disk.group_next > disk.group_first:
        if group_at(disk, disk.group_next - 1).slot < slot:
            break
        disk.group_next -= 1
        disk.start = group_at(disk, disk.group_next).position
    disk.cursor = disk.start
    disk.first_slot = slot
    disk.ram_tail = disk.start
    disk.frozen_end = disk.start
    disk.frozen_number = disk.group_next
    disk.durable_number = disk.group_next
    disk.recorded_number = disk.group_next
    disk.bounce_length = 0
    if disk.index_slot > slot:
        disk.index_slot = slot
        disk.index_number = disk.group_next
        disk.index_position = disk.start
