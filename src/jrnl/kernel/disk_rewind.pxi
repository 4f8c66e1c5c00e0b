# On disk, rewind: the volumes' files go back, and only when they are there, durably, are the
# entries cut and their blocks used again (R10). Of what the files have not got nothing has to go
# back. Until then an opening after a crash redoes what the files may lack; where something
# durable says that they have got entries that are to go, a durable intent has to say so first.
#
# Takes: sabotage, device, ring, log, overlay, extent_map, preserve, changed_blocks, reclaim,
# commit, preserved_save, index, write_back, disk_room

cdef int rewind_settle(Core* core, uint64_t state, uint64_t first) noexcept nogil:
    """Have the state that is to stay durable, whose newest entry is before slot `first`.

    Before an intent all is: an opening that does it again has to find the seqs that were given out.
    """
    cdef int status
    if core.fault.lost or core.fault.lost_sectors:
        return write_back_all(core)    # what is lost stays in the overlay
    status = log_wait(core.disk, &core.fault)
    if status == OK and (first > core.disk.groups.first_slot or state < core.disk.back.named_seq):
        status = log_commit(core)
    return status


cdef int overlay_until(Core* core, Overlay* overlay, uint64_t stop) noexcept nogil:
    """An overlay of what the volumes' files have not got of the entries before slot `stop`."""
    cdef uint64_t k = 0, first, span
    cdef const EntryHeader* header
    cdef int status = overlay_create(overlay)
    if status == OK:
        status = find_slot_after(core, core.disk.back.synced_seq, False, &k)
    while status == OK and k < stop:
        header = header_at(&core.ring, k)
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


cdef void overlay_replace(Disk* disk, Fault* fault, Overlay* overlay) noexcept nogil:
    """Readers see `overlay` from now on; where it is empty, the files have all there is."""
    if overlay.count == 0:
        disk.back.synced_seq = disk.rewind.follows
    disk.back.tried_seq = min(disk.back.tried_seq, disk.rewind.follows)
    if not fault.lost_sectors:    # all has been written back then, but what is lost
        overlay_swap(&disk.back.active, overlay)
    free(overlay.blocks)
    overlay_clear(&disk.back.draining)


cdef int disk_rewind(Core* core, uint64_t state, RewindResult* result) noexcept nogil:
    cdef uint64_t first = 0, slot
    cdef Overlay overlay
    cdef int status = disk_check(core.disk, &core.fault)
    memset(&overlay, 0, sizeof(Overlay))
    if status == OK:
        status = find_slot_after(core, state, False, &first)
    if status == OK:
        status = rewind_settle(core, state, first)
    if status == OK:
        status = map_scan(core, &core.rewind_map, first, core.ring.slot_head, False)
    if status == OK:
        status = map_check(core, &core.rewind_map)    # all can be read, before anything changes
    if status == OK and core.settings.guarded:
        status = rewind_room(core, first)
    if status == OK:
        status = overlay_until(core, &overlay, first)
    if status == OK:
        status = preserved_rewound(core.disk, &core.fault, state, &core.rewind_map)
    if status == OK:
        changed_rewound(&core.changed, core.ring.seq, state, &core.rewind_map)
        status = disk_undo(core, state)
    if status == OK:
        result.entries = core.ring.slot_head - first
        result.bytes = core.rewind_map.bytes
    map_clear(&core.rewind_map)
    if status != OK:
        free(overlay.blocks)
        return status
    slot = rewind_slot(core, state, first)
    core.ring.slot_head = slot
    core.disk.rewind.follows = last_live_seq(&core.ring, state)
    overlay_replace(core.disk, &core.fault, &overlay)
    disk_cut(core.disk, &core.ring, slot)
    preserve_rewound(&core.lives, slot)
    core.disk.rewind.undo = False
    core.disk.epoch += 1
    core.disk.rewind.to = state
    core.disk.rewind.seq = core.ring.seq + 1
    core_tick(&core.clock)
    core.disk.rewind.time_ns = core.clock.now_ns
    core.generation += 1
    fold_forget(core)
    core.disk.commit.durable_seq = core.ring.seq + 1
    status = disk_record(core)
    if status == OK:
        status = note_rewind(core, state)
    if status == OK:
        pins_follow(core, state)
    core.since_rewind = 0
    result.seq = core.ring.seq
    return status


cdef int disk_undo(Core* core, uint64_t state) noexcept nogil:
    """Put the volumes' files back where they may have got what the map undoes."""
    cdef Disk* disk = core.disk
    cdef int status = OK
    if state < disk.back.named_seq or disk.rewind.undo:
        disk.rewind.undo = True
        disk.rewind.undo_to = state
        if in_force(RULE_UNDO_INTENT):
            status = disk_record(core)
    if status == OK and (state < disk.back.tried_seq or not in_force(RULE_TRIED_SEQ)):
        status = undo_volumes(core)
    return status


cdef int note_rewind(Core* core, uint64_t state) noexcept nogil:
    """The REWIND entry, which has room even where a log that refuses is full.

    What leaves though there is room waits for the next entry: the rewind is done, and cannot fail.
    """
    cdef EntryHeader entry
    cdef int status = log_place(core, 0, 0, &entry.position)
    if status != OK:
        return status
    note_fill(&core.ring, &entry, KIND_REWIND, state, NULL, 0, NULL)
    entry.before_sum = last_live_seq(&core.ring, state)
    disk_append(core, &entry, 0)
    return OK


cdef int undo_volumes(Core* core) noexcept nogil:
    """Write the map, whole sectors of before-images, into the volumes' files.

    What entries after `tried_seq` overwrote is there still. It must not be written again: torn by a
    crash that takes these entries, too, nothing would make it whole.
    """
    cdef uint8_t[BLOCK_BYTES] content
    cdef const Fragment* fragment
    cdef uint64_t k
    cdef int status
    for k in range(core.rewind_map.count):
        fragment = &core.rewind_map.fragments[k]
        if fragment.seq > core.disk.back.tried_seq and in_force(RULE_TRIED_SEQ):
            continue
        status = fragment_copy(core, fragment, 0, content, fragment.length)
        if status == OK:
            core.disk.back.dirty[fragment.volume] = True
            fill_hole(core.disk, fragment.volume, fragment.offset, fragment.length)
            status = device_write(&core.disk.volumes[fragment.volume], content, fragment.length,
                                  fragment.offset, &core.fault.error)
        if status != OK:
            return poison(&core.fault, status)
    return volumes_sync(core) if in_force(RULE_UNDO_SYNC) else OK


cdef void disk_cut(Disk* disk, Ring* ring, uint64_t slot) noexcept nogil:
    """Forget the entries from `slot` on, and the groups that hold nothing else."""
    ring.slot_head = slot
    while disk.groups.next > disk.groups.first:
        if group_at(disk, disk.groups.next - 1).slot < slot:
            break
        disk.groups.next -= 1
        disk.groups.start = group_at(disk, disk.groups.next).position
    disk.groups.cursor = disk.groups.start
    disk.groups.first_slot = slot
    if disk.back.active.count:
        disk.ram.tail = min(disk.ram.tail, disk.groups.start)
    else:
        disk.ram.tail = disk.groups.start
    disk.back.draining_end = disk.ram.tail
    disk.back.draining_number = disk.groups.next
    disk.commit.durable_number = disk.groups.next
    disk.commit.recorded_number = disk.groups.next
    disk.bounce.length = 0
    if disk.index.slot > slot:
        disk.index.total -= index_sums(ring, slot, disk.index.slot)
        disk.index.slot = slot
        disk.index.number = disk.groups.next
        disk.index.position = disk.groups.start
