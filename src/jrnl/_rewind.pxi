# Rewind: production itself goes back, at the cost of the distinct bytes written since (I10).
#
# Takes: _kernels, _memory, _device, _ring, _log, _overlay, _extent_map, _keep, _left, _reclaim,
# _commit, _kept_save, _index, _write_back, _disk_room, _write

cdef int rewind_check(Core* core, uint64_t to, uint64_t* state) noexcept nogil:
    cdef Live* live
    cdef int status, k
    ask_clock(core)
    if core.closed:
        return E_CLOSED
    if not core.images_mode & IMAGES_BEFORE:
        return E_NO_BEFORE
    if core.edits is not NULL:
        return E_EDIT
    status = core_resolve(core, to, state)
    if status != OK or state[0] == core.seq:
        return status
    for k in range(2):
        live = core.newest if k else core.view
        while live is not NULL:
            if live.seq > state[0] and not live.dead and not live.closed:
                core.bad_seq = live.seq
                return E_PINNED
            live = live.older
    if core.reclaim.pins is not NULL and core.reclaim.pin_high > state[0]:
        core.bad_seq = core.reclaim.pin_high
        return E_PINNED
    return OK


cdef inline void target_prefetch(const Core* core, const Fragment* fragment) noexcept nogil:
    """Have the bytes that a fragment is about to overwrite on their way."""
    jrnl_prefetch_far(core.volumes[fragment.volume].data + fragment.offset,
                      min(fragment.length, <uint32_t>JRNL_AHEAD_BYTES))


cdef void rewind_copy(Core* core, const ExtentMapData* map) noexcept nogil:
    """Put the map's bytes back into a volume in memory; neighbours of one image in one copy.

    More than the cache holds goes past it: who has so much to put back reads little of it soon.
    """
    cdef uint64_t k = 0, fetched = 0, length
    cdef bint past = map.bytes > CACHED_BYTES
    cdef const Fragment* fragment
    cdef const Fragment* other
    cdef uint8_t* target
    while k < map.count:
        while fetched < map.count and fetched < k + GROUP:
            fragments_fetch_group(core, map, fetched, map.count, True)
            fetched += GROUP
        fragment = &map.fragments[k]
        length = fragment.length
        k += 1
        while k < map.count:
            other = &map.fragments[k]
            if other.slot != fragment.slot or other.offset != fragment.offset + length:
                break
            length += other.length
            k += 1
        target = core.volumes[fragment.volume].data + fragment.offset
        if k < map.count and not past:
            target_prefetch(core, &map.fragments[k])
        if past and not fragment.flags & FRAGMENT_ZERO:
            stream_copy(target, fragment_bytes(core, fragment), length)
        else:
            fragment_copy(core, fragment, 0, target, length)
        touch(&core.volumes[fragment.volume], fragment.offset, length)
    jrnl_stream_fence()


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
        left_rewound(core, state, &core.scratch)
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
    keep_rewound(core, slot)
    core.generation += 1
    fold_forget(core)
    core_note(core, KIND_REWIND, state, NULL, 0)   # cannot fail: a slot has just become free
    pins_follow(core, state)
    core.since_rewind = 0
    result.seq = core.seq
    return OK


# On disk: the volumes' files go back, and only when they are there, durably, are the entries cut
# and their blocks used again (R10). Of what the files have not got nothing has to go back. Until
# then an opening after a crash redoes what the files may lack; where something durable says that
# they have got entries that are to go, a durable intent has to say so first.

cdef int rewind_settle(Core* core, uint64_t state, uint64_t first) noexcept nogil:
    """Have the state that is to stay durable, whose newest entry is before slot `first`.

    Before an intent all is: an opening that does it again has to find the seqs that were given out.
    """
    cdef int status
    if core.disk.lost or core.disk.lost_sectors:
        return write_back_all(core)    # what is lost stays in the overlay
    status = log_wait(core)
    if status == OK and (first > core.disk.first_slot or state < core.disk.named_seq):
        status = log_commit(core)
    return status


cdef int overlay_until(Core* core, Overlay* overlay, uint64_t stop) noexcept nogil:
    """An overlay of what the volumes' files have not got of the entries before slot `stop`."""
    cdef uint64_t k = 0, first, span
    cdef const EntryHeader* header
    cdef int status = overlay_create(overlay)
    if status == OK:
        status = find_slot_after(core, core.disk.synced_seq, False, &k)
    while status == OK and k < stop:
        header = header_at(core, k)
        k += 1
        if not changes_bytes(header):
            continue
        first = sector_start(header.offset)
        span = image_length(header)
        status = overlay_room(overlay, blocks_touched(first, span))
        if status == OK:
            overlay_put(overlay, header.volume, first, span,
                        AT_ZERO if header.flags & FLAG_AFTER_ZERO
                        else header.position + before_room(header))
    return status


cdef void overlay_replace(Disk* disk, Overlay* overlay) noexcept nogil:
    """Readers see `overlay` from now on; where it is empty, the files have all there is."""
    if overlay.count == 0:
        disk.synced_seq = disk.rewound_follows
    disk.tried_seq = min(disk.tried_seq, disk.rewound_follows)
    if not disk.lost_sectors:    # all has been written back then, but what is lost
        overlay_swap(&disk.active, overlay)
    free(overlay.blocks)
    overlay_clear(&disk.frozen)


cdef int disk_rewind(Core* core, uint64_t state, RewindResult* result) noexcept nogil:
    cdef uint64_t first = 0, slot
    cdef Overlay overlay
    cdef int status = disk_check(core)
    memset(&overlay, 0, sizeof(Overlay))
    if status == OK:
        status = find_slot_after(core, state, False, &first)
    if status == OK:
        status = rewind_settle(core, state, first)
    if status == OK:
        status = map_scan(core, &core.scratch, first, core.ring.slot_head, False)
    if status == OK:
        status = map_check(core, &core.scratch)    # all of it can be read, before anything changes
    if status == OK and core.guarded:
        status = rewind_room(core, first)
    if status == OK:
        status = overlay_until(core, &overlay, first)
    if status == OK:
        status = kept_rewound(core, state, &core.scratch)
    if status == OK:
        left_rewound(core, state, &core.scratch)
        status = disk_undo(core, state)
    if status == OK:
        result.entries = core.ring.slot_head - first
        result.bytes = core.scratch.bytes
    map_clear(&core.scratch)
    if status != OK:
        free(overlay.blocks)
        return status
    slot = rewind_slot(core, state, first)
    core.ring.slot_head = slot
    core.disk.rewound_follows = last_live_seq(core, state)
    overlay_replace(core.disk, &overlay)
    disk_cut(core, slot)
    keep_rewound(core, slot)
    core.disk.undo = False
    core.disk.epoch += 1
    core.disk.rewound_to = state
    core.disk.rewound_seq = core.seq + 1
    core_tick(core)
    core.disk.rewound_time_ns = core.time_ns
    core.generation += 1
    fold_forget(core)
    core.disk.durable_seq = core.seq + 1
    status = disk_record(core)
    if status == OK:
        status = note_rewind(core, state)
    if status == OK:
        pins_follow(core, state)
    core.since_rewind = 0
    result.seq = core.seq
    return status


cdef int disk_undo(Core* core, uint64_t state) noexcept nogil:
    """Put the volumes' files back where they may have got what the scratch map undoes."""
    cdef Disk* disk = core.disk
    cdef int status = OK
    if state < disk.named_seq or disk.undo:
        disk.undo = True
        disk.undo_to = state
        if holds(core, RULE_UNDO_INTENT):
            status = disk_record(core)
    if status == OK and (state < disk.tried_seq or not holds(core, RULE_TRIED_SEQ)):
        status = undo_volumes(core)
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


cdef int undo_volumes(Core* core) noexcept nogil:
    """Write the scratch map, whole sectors of before-images, into the volumes' files.

    What entries after `tried_seq` overwrote is there still. It must not be written again: torn by a
    crash that takes these entries, too, nothing would make it whole.
    """
    cdef uint8_t[BLOCK_BYTES] content
    cdef const Fragment* fragment
    cdef uint64_t k
    cdef int status
    for k in range(core.scratch.count):
        fragment = &core.scratch.fragments[k]
        if fragment.seq > core.disk.tried_seq and holds(core, RULE_TRIED_SEQ):
            continue
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
    disk.ram_tail = min(disk.ram_tail, disk.start) if disk.active.count else disk.start
    disk.frozen_end = disk.ram_tail
    disk.frozen_number = disk.group_next
    disk.durable_number = disk.group_next
    disk.recorded_number = disk.group_next
    disk.bounce_length = 0
    if disk.index_slot > slot:
        disk.index_total -= index_sums(core, slot, disk.index_slot)
        disk.index_slot = slot
        disk.index_number = disk.group_next
        disk.index_position = disk.start
