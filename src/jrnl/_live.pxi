# Live states: an earlier state, or production as it was, followed while production moves on.

cdef int live_open(Live** out, Core* core, uint64_t seq, bint keep, uint8_t* only) noexcept nogil:
    """Takes `only` over, which may be NULL: for each volume, whether it is asked for."""
    cdef Live* live = NULL
    cdef uint64_t slot = 0
    cdef int status = find_slot_after(core, seq, False, &slot)
    if status == OK:
        live = <Live*>calloc(1, sizeof(Live))
        if live is NULL:
            status = E_NO_MEMORY
        elif map_create(&live.map, core) != OK:
            free(live)
            status = E_NO_MEMORY
    if status != OK:
        free(only)
        return status
    live.map.only = only
    live.core = core
    live.seq = seq
    live.next_slot = slot
    live.generation = core.generation
    live.keep = keep
    live.next = core.live
    if core.live is not NULL:
        core.live.previous = live
    core.live = live
    out[0] = live
    return OK


cdef void live_reap(Core* core) noexcept nogil:
    """Free what was closed while the list was being walked."""
    cdef Live* live = core.live
    cdef Live* next
    while live is not NULL:
        next = live.next
        if live.dead:
            live_close(live)
        live = next


cdef void live_close(Live* live) noexcept nogil:
    """Forget it: nothing is kept for it any more, and it pins nothing."""
    if live.core.live_busy:
        live.dead = True    # the collector ran inside a callback below the walk
        return
    if live.previous is not NULL:
        live.previous.next = live.next
    elif live.core.live == live:
        live.core.live = live.next
    if live.next is not NULL:
        live.next.previous = live.previous
    map_destroy(&live.map)
    free(live)


cdef int live_follow_rewind(Live* live) noexcept nogil:
    """Take out what came from entries that a rewind has dropped since."""
    cdef Core* core = live.core
    cdef Fragment* fragment
    cdef uint64_t slot = 0
    cdef int status = find_slot_after(core, live.seq, False, &slot)
    if status != OK:
        return status
    live.generation = core.generation
    while live.map.count > live.kept:
        fragment = &live.map.fragments[live.map.count - 1]
        if fragment.slot < core.ring.slot_head:
            if header_at(core, fragment.slot).seq == fragment.seq:
                break
        map_unlink_last(&live.map)
    live.next_slot = slot
    if live.map.count:
        # Entries up to the last one that still counts are in the map, or cover nothing new.
        fragment = &live.map.fragments[live.map.count - 1]
        if fragment.slot + 1 > live.next_slot:
            live.next_slot = fragment.slot + 1
    return OK


cdef int live_advance(Live* live, uint64_t slot) noexcept nogil:
    """Bring the map up to the entries before `slot`."""
    cdef int status
    if live.generation != live.core.generation:
        status = live_follow_rewind(live)
        if status != OK:
            return status
    if live.next_slot >= slot:
        return OK
    status = map_scan(live.core, &live.map, live.next_slot, slot, False)
    if status == OK:
        live.next_slot = slot
    return status


cdef void live_keep(Live* live, uint64_t slot) noexcept nogil:
    """Copy what it needs of the entries before `slot`: they are about to leave the ring."""
    cdef uint64_t last
    cdef int status = live.failed
    if status == OK:
        status = live_advance(live, slot)
    if status == OK:
        last = live.kept
        while last < live.map.count and live.map.fragments[last].slot < slot:
            last += 1
        # A damaged image spoils its own range only: that is remembered in the fragment.
        status = map_settle(live.core, &live.map, live.kept, last, ARENA_MIN_BYTES)
        if status == E_CORRUPT:
            status = OK
        live.kept = last
    live.failed = status


cdef void live_keep_all(Core* core, uint64_t slot) noexcept nogil:
    """Have every recovery copy what it needs of the entries before `slot`."""
    cdef Live* live = core.live
    core.live_busy = True
    while live is not NULL:
        if live.keep and not live.dead:
            live_keep(live, slot)
        live = live.next
    core.live_busy = False
    live_reap(core)


cdef int live_ready(Live* live) noexcept nogil:
    """Ready to be read now: followed up to production, with every entry it needs still there."""
    if live is NULL or live.core.closed:
        return E_CLOSED    # NULL: let go of, but somebody still has the image
    if live.failed != OK:
        return live.failed
    if not live.keep and live.seq < live.core.base_seq:
        return E_EXPIRED
    return live_advance(live, live.core.ring.slot_head)
