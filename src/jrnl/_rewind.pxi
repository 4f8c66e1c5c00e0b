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
    return OK


cdef void rewind_copy(Core* core, const ExtentMapData* map) noexcept nogil:
    """Put the bytes of the map back into production; neighbours of one image in one copy."""
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


cdef int core_rewind(Core* core, uint64_t to, RewindResult* result) noexcept nogil:
    """Put every volume back to state `to` and drop the entries after it.

    All images are verified before the first byte of production changes. One REWIND entry stands
    for state `to`; where `to` is itself such an entry, the new one takes its place.
    """
    cdef uint64_t state = 0, first = 0, slot
    cdef EntryHeader* header
    cdef int status = rewind_check(core, to, &state)
    if status != OK:
        return status
    result.seq = core.seq
    result.entries = 0
    result.bytes = 0
    if state == core.seq:
        return OK
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
    alias_drop_after(core, state)
    if first > core.ring.slot_tail:
        header = header_at(core, first - 1)
        if header.kind == KIND_REWIND and header_check(core, header, first - 1) == OK:
            first -= 1
            alias_push(core, header.seq)
    while core.ring.slot_head > first:
        slot = core.ring.slot_head - 1
        header = header_at(core, slot)
        ring_drop_newest(&core.ring, header.position, image_room(header))
    core.generation += 1
    core_note(core, KIND_REWIND, state, NULL, 0)   # cannot fail: a slot has just become free
    core.since_rewind = 0
    result.seq = core.seq
    return OK
