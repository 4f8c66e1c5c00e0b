# Live states: an earlier state, or production as it was, followed while production moves on.
#
# A view's has a map of its own over all entries since its state, and expires with the first of
# them. Those that preserve (recoveries from production, snapshots that are being copied) are a
# chain, see preserve.pxi: each has a map over the entries up to the next newer one's state.
#
# Takes: ring, extent_map

cdef enum:
    CHAIN_WALKED = 8             # maps that a read looks through one by one; for more, an index


cdef void live_free(Live* live) noexcept nogil:
    map_destroy(&live.map)
    map_destroy(&live.index)
    free(live.only)
    free(live)


cdef void live_cut(Live* live, uint64_t slot) noexcept nogil:
    """Take out what came from the entries from `slot` on, all of which are in the journal."""
    cdef ExtentMapData* map = &live.map
    while map.count and map.fragments[map.count - 1].slot >= slot:
        if map.count > live.copied:
            live.room -= fragment_room(&map.fragments[map.count - 1])
        map_unlink_last(map)
    live.copied = min(live.copied, map.count)
    live.moved = min(live.moved, map.count)
    live.copied_slot = min(live.copied_slot, slot)
    live.next_slot = min(live.next_slot, slot)


cdef int live_follow_rewind(Live* live) noexcept nogil:
    """Take out what came from entries that a rewind has dropped since."""
    cdef Core* core = live.core
    cdef Fragment* fragment
    cdef uint64_t slot = 0
    cdef int status = find_slot_after(core, live.seq, False, &slot)
    if status != OK:
        return status
    live.generation = core.generation
    while live.map.count:
        fragment = &live.map.fragments[live.map.count - 1]
        if fragment.slot < core.ring.slot_head:
            if header_at(&core.ring, fragment.slot).seq == fragment.seq:
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
    cdef uint64_t k = live.map.count
    cdef int status
    if live.next_slot >= slot:
        return OK
    status = map_scan(live.core, &live.map, live.next_slot, slot, False)
    if status == OK:
        live.next_slot = slot
    while k < live.map.count:
        live.room += fragment_room(&live.map.fragments[k])
        k += 1
    return status


cdef inline Live* live_next(const Live* live) noexcept nogil:
    """The next of the maps that it is read through, NULL behind the last."""
    return live.newer if live.preserves else NULL


cdef Fragment* live_find(Live* live, uint32_t volume, uint64_t offset, uint64_t end,
                         uint64_t* stop, ExtentMapData** map) noexcept nogil:
    """The fragment that `offset` comes from, and its map; as map_find. It is ready."""
    cdef Fragment* found
    stop[0] = end
    if live.indexed:
        found = map_find(&live.index, volume, offset, end, stop)
        if found is NULL:
            return NULL
        map[0] = &(<Live*>found.slot).map
        return &map[0].fragments[found.seq]
    while live is not NULL:
        if live.map.count:
            found = map_find(&live.map, volume, offset, stop[0], stop)
            if found is not NULL:
                map[0] = &live.map
                return found
        live = live_next(live)
    return NULL
