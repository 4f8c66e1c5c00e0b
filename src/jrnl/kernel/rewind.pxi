# In memory, rewind: production itself goes back, at the cost of the distinct bytes written since
# (I10).
#
# Takes: kernels, memory, shared, ring, extent_map, preserve, changed_blocks, reclaim, write

cdef inline void target_prefetch(const VolumeMemory* volumes,
                                 const Fragment* fragment) noexcept nogil:
    """Have the bytes that a fragment is about to overwrite on their way."""
    jrnl_prefetch_far(volumes[fragment.volume].data + fragment.offset,
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
            fragments_fetch_group(&core.ring, core.volumes, map, fetched, map.count, True)
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
        if core.shared:
            before_change(core, fragment.volume, fragment.offset, length)
        if k < map.count and not past:
            target_prefetch(core.volumes, &map.fragments[k])
        if past and not fragment.flags & FRAGMENT_ZERO:
            stream_copy(target, fragment_bytes(core.volumes, &core.ring, fragment), length)
        else:
            fragment_copy(core, fragment, 0, target, length)
        touch(&core.volumes[fragment.volume], fragment.offset, length)
    jrnl_stream_fence()


cdef int memory_rewind(Core* core, uint64_t state, RewindResult* result) noexcept nogil:
    """Put every volume back to `state` and drop the entries after it."""
    cdef uint64_t first = 0, slot
    cdef const EntryHeader* header
    cdef int status = find_slot_after(core, state, False, &first)
    if status == OK:
        status = map_scan(core, &core.rewind_map, first, core.ring.slot_head, False)
    if status == OK:
        status = map_verify(core, &core.rewind_map)
    if status == OK:
        changed_rewound(&core.changed, core.ring.seq, state, &core.rewind_map)
        rewind_copy(core, &core.rewind_map)
        result.entries = core.ring.slot_head - first
        result.bytes = core.rewind_map.bytes
    map_clear(&core.rewind_map)
    if status != OK:
        return status
    slot = rewind_slot(core, state, first)
    while core.ring.slot_head > slot:
        header = header_at(&core.ring, core.ring.slot_head - 1)
        ring_drop_newest(&core.ring, header.position, image_room(header))
    preserve_rewound(&core.lives, slot)
    core.generation += 1
    fold_forget(core)
    core_tick(&core.clock)
    memory_note(core, KIND_REWIND, state, NULL, 0)   # cannot fail: a slot has just become free
    pins_follow(core, state)
    core.since_rewind = 0
    result.seq = core.ring.seq
    return OK
