# What leaves the journal and is still needed by an earlier state that is open: preserved once,
# however many need it.
#
# States that preserve are a chain, from the oldest to the newest. The map of state s covers the
# entries after s, up to the next newer state s'. By I1 a byte of state s comes from the first entry
# after s: from the first map, from that of s on, that covers it; else from production. So what
# leaves is copied into the map of the newest state before it, and no other one: a write costs the
# same however many states are open, and each copy is there once.
#
# When a state in the middle is closed, what was copied for it goes into the map of the next older
# one, as far as that lacks it: a piece at a time, behind the writer's back. Until then it is
# `closed` but stays in the chain. With the oldest goes what only it needed.
#
# Nothing that is needed gets lost for lack of memory: a copy is made before the entry leaves, or
# the entry stays and the write that asked for its room fails (R18).
#
# Takes: lock, ring, extent_map, live

cdef enum:
    MERGE_PIECES = 512           # fragments that move at a time, with the lock held


cdef inline uint64_t preserve_end(const Live* live) noexcept nogil:
    """The slot behind the last entry that its map covers, be it there yet or not."""
    return NO_SLOT if live.newer is NULL else live.newer.first_slot


# Opening and closing.

cdef void preserve_enter(Live* live) noexcept nogil:
    """Take a new state into the chain; all entries after it are in the journal."""
    cdef Core* core = live.core
    cdef Live* newer = NULL
    cdef Live* older = core.lives.newest
    while older is not NULL and older.first_slot > live.first_slot:
        newer = older
        older = older.older
    live.older = older
    live.newer = newer
    if older is not NULL:
        older.newer = live
        live_cut(older, live.first_slot)
    else:
        core.lives.oldest = live
    if newer is not NULL:
        newer.older = live
    else:
        core.lives.newest = live
    while newer is not NULL:
        live_cut(newer, newer.first_slot)    # it may be asked for more volumes now
        newer = newer.newer
    if core.lives.filling is NULL or core.lives.filling.first_slot >= live.first_slot:
        core.lives.filling = live
    preserve_volumes(&core.lives, core.volume_count)
    preserve_changed(&core.lives)


cdef void preserve_changed(Lives* lives) noexcept nogil:
    """Indexes are no longer right, and not all maps may be ready."""
    lives.changes += 1
    lives.slot = 0


cdef void preserve_volumes(Lives* lives, uint32_t volume_count) noexcept nogil:
    """A map has the volumes that its own state or an older one is asked for."""
    cdef Live* live = lives.oldest
    cdef uint8_t* only
    cdef uint32_t k
    while live is not NULL:
        only = live.map.only
        for k in range(volume_count):
            only[k] = (live.older is not NULL and live.older.map.only[k]
                       or not live.closed and (live.only is NULL or live.only[k]))
        live = live.newer


cdef void preserve_remove(Live* live) noexcept nogil:
    """Take a state out whose map nobody needs."""
    cdef Core* core = live.core
    if live.closed:
        core.lives.closed -= 1
    if core.lives.filling == live:
        core.lives.filling = live.older if live.older is not NULL else live.newer
    if live.older is not NULL:
        live.older.newer = live.newer
    else:
        core.lives.oldest = live.newer
    if live.newer is not NULL:
        live.newer.older = live.older
    else:
        core.lives.newest = live.older
    live_free(live)
    preserve_changed(&core.lives)


cdef void preserve_close(Live* live) noexcept nogil:
    """Nobody reads this state any more. What was copied for it is moved later, if it has to be."""
    cdef Core* core = live.core
    cdef Live* next
    live.closed = True
    core.lives.closed += 1
    map_destroy(&live.index)
    live.indexed = False
    while core.lives.oldest is not NULL and core.lives.oldest.closed:
        preserve_remove(core.lives.oldest)
    live = core.lives.oldest
    while live is not NULL and core.lives.closed:
        next = live.newer
        if live.closed and (live.copied == 0 or live.older.failed != OK):
            preserve_join(live)
        live = next
    preserve_volumes(&core.lives, core.volume_count)


cdef void preserve_join(Live* live) noexcept nogil:
    """A closed state goes: the map before it has all that was copied, and goes on where it was."""
    cdef Live* older = live.older
    if live.copied_slot > live.first_slot:
        older.next_slot = older.copied_slot = live.copied_slot
        older.copied = older.map.count
    if live.failed != OK:
        older.failed = live.failed
    preserve_remove(live)


cdef int preserve_move(Live* older, Live* live) noexcept nogil:
    """Move the next copied fragment of a closed state into the map before it, if it lacks it."""
    cdef Fragment whole = live.map.fragments[live.moved]
    cdef uint64_t before = older.map.bytes, room = align_up(whole.length)
    cdef bint copied = not whole.flags & (FRAGMENT_ZERO | FRAGMENT_BAD)
    cdef uint8_t* own
    cdef int status
    if copied:
        own = arena_alloc(&older.map, room, ARENA_MIN_BYTES)
        if own is NULL:
            return E_NO_MEMORY
        memcpy(own, <const uint8_t*>whole.source, whole.length)
        whole.source = <uint64_t>own
    status = map_insert(&older.map, &whole)
    if copied and older.map.bytes == before:
        older.map.arena.used -= room
    older.copied = older.map.count
    return status


cdef bint preserve_merge(Core* core) noexcept nogil:
    """Move some of what was copied for a closed state. False where nothing is left, or memory."""
    cdef Live* live = core.lives.oldest
    cdef uint64_t pieces = 0
    if core.lives.closed == 0 or core.lives.busy or core.closed:
        return False
    while live is not NULL and not live.closed:
        live = live.newer
    if live is NULL or live.older is NULL:
        return False
    while live.moved < live.copied and live.older.failed == OK:
        if pieces == MERGE_PIECES:
            return True
        if preserve_move(live.older, live) != OK:
            return False
        live.moved += 1
        pieces += 1
    preserve_join(live)
    return core.lives.closed > 0


cdef void preserve_tidy(Core* core) noexcept nogil:
    """Move all that there is to move. Called without the lock; others have their turns."""
    cdef bint more = core.lives.closed > 0
    while more:
        core_lock(core)
        more = preserve_merge(core)
        core_unlock(core)


# Before entries leave.

cdef int preserve_settle(Live* live, uint64_t slot) noexcept nogil:
    """Copy what the map needs of the entries before `slot` out of the journal."""
    cdef uint64_t last = live.copied
    cdef int status = live_advance(live, slot)
    if status != OK:
        return status
    while last < live.map.count and live.map.fragments[last].slot < slot:
        last += 1
    status = map_settle(live.core, &live.map, live.copied, last, ARENA_MIN_BYTES)
    if status != OK and not is_lasting(status):
        return status
    while live.copied < last:    # a damaged image spoils its own range only: the fragment says so
        live.room -= fragment_room(&live.map.fragments[live.copied])
        live.copied += 1
    live.copied_slot = slot
    return OK


cdef inline bint is_lasting(int status) noexcept nogil:
    """Whether it is damage, that no second try gets over."""
    return status == E_CORRUPT or status == E_LOST or status == E_IO


cdef void preserve_fail(Live* live, int status) noexcept nogil:
    """Nobody knows what an entry covered that leaves: no state is known that needs its map."""
    while live is not NULL:
        if live.failed == OK:
            live.failed = status
            live.bad_seq = live.core.fault.entry
        live = live.older


cdef void live_close(Live* live) noexcept nogil:
    """Forget it: nothing is copied for it any more, and it pins nothing."""
    cdef Core* core = live.core
    if core.lives.busy:
        live.dead = True    # the collector ran inside a callback below the walk
        core.lives.dead = True
        return
    if live.preserves:
        preserve_close(live)
        return
    if live.newer is not NULL:
        live.newer.older = live.older
    else:
        core.lives.view = live.older
    if live.older is not NULL:
        live.older.newer = live.newer
    live_free(live)


cdef void live_reap(Lives* lives) noexcept nogil:
    """Free what was closed while it may have been in use."""
    cdef Live* live
    cdef Live* older
    cdef int k
    lives.dead = False
    for k in range(2):
        live = lives.newest if k else lives.view
        while live is not NULL:
            older = live.older
            if live.dead and not live.closed:
                live_close(live)
                # The chain may have lost others, too.
                older = lives.newest if k else lives.view
            live = older


cdef inline void live_idle(Lives* lives) noexcept nogil:
    """The end of what began with core.lives.busy += 1."""
    lives.busy -= 1
    if lives.dead and lives.busy == 0:
        live_reap(lives)


cdef int preserve_until(Core* core, uint64_t slot) noexcept nogil:
    """Before the entries before `slot` leave: copy what is still needed. It fails only for now."""
    cdef Live* live
    cdef uint64_t end
    cdef int status = OK
    if core.lives.filling is NULL or core.closed:
        return OK
    core.lives.busy += 1
    while True:
        live = core.lives.filling
        end = preserve_end(live)
        if live.failed == OK and live.copied_slot < min(slot, end):
            status = preserve_settle(live, min(slot, end))
            if status == E_CORRUPT:
                preserve_fail(live, status)
                status = OK
        if status != OK or end > slot:
            break
        core.lives.filling = live.newer
    live_idle(&core.lives)
    return status


cdef int preserve_reserve_room(Core* core, uint64_t bytes, uint64_t blocks) noexcept nogil:
    """Before several entries that are made whole or not at all: have what keeping may take.

    That is the room of all that the journal holds; and where the entries may push out others of
    themselves, of `bytes` in `blocks` more.
    """
    cdef Live* live = core.lives.filling
    cdef int status = OK
    if core.closed:
        return OK
    while live is not NULL and status == OK:
        if live.failed == OK:
            status = live_advance(live, min(preserve_end(live), core.ring.slot_head))
            if status == OK:
                status = arena_reserve(&live.map, live.room + bytes)
            if status == OK and live.newer is NULL and blocks:
                status = map_reserve(&live.map, blocks)
        live = live.newer
    return status if status == E_NO_MEMORY else OK    # damage is dealt with when it leaves


cdef int preserve_reserve(Core* core, uint64_t count, uint64_t changes,
                          uint64_t bytes) noexcept nogil:
    """The same for `count` entries, of which so many change bytes, `bytes` in all."""
    if core.lives.newest is NULL:
        return OK
    if (count < core.ring.slots // 8 and bytes < core.limits.capacity // 8
            and count * SECTOR_BYTES < core.limits.capacity // 8):
        return preserve_reserve_room(core, 0, 0)    # none of them pushes out another of them
    return preserve_reserve_room(core, 2 * bytes + 64 * changes, bytes // BLOCK_BYTES + 2 * changes)


# Rewinds, reading.

cdef void preserve_rewound(Lives* lives, uint64_t slot) noexcept nogil:
    """A rewind has dropped the entries from `slot` on, all of them after every open state."""
    cdef Live* live = lives.newest
    while live is not NULL:
        live_cut(live, slot)
        if live.first_slot <= slot:
            break
        live.first_slot = slot
        live = live.older
    if lives.newest is not NULL:
        preserve_changed(lives)


cdef int preserve_ready(Live* live) noexcept nogil:
    """Bring the maps that it is read through up to production."""
    cdef Core* core = live.core
    cdef Live* other = core.lives.filling
    cdef uint64_t head = core.ring.slot_head
    cdef int status
    if live.failed != OK:
        core.fault.entry = live.bad_seq
        return live.failed
    if core.lives.slot != head:
        if other.first_slot < live.first_slot:
            other = live
        while other is not NULL:
            status = live_advance(other, min(preserve_end(other), head))
            if status != OK:
                return status
            other = other.newer
        if live.first_slot <= core.lives.filling.first_slot:
            core.lives.slot = head
    return preserve_index(live)


cdef int preserve_index(Live* live) noexcept nogil:
    """Where it is read through many maps, have an index: which fragment of which each byte is in.

    It may lack memory: then the maps are looked through one by one.
    """
    cdef Live* other = live
    cdef uint64_t maps = 0
    cdef Fragment piece
    while other is not NULL and maps <= CHAIN_WALKED:
        maps += other.map.count > 0
        other = other.newer
    if maps <= CHAIN_WALKED:
        live.indexed = False
        return OK
    if live.index.core is NULL and map_create(&live.index, live.core) != OK:
        return OK
    if live.changes != live.core.lives.changes or live.index_of is NULL:
        map_clear(&live.index)
        live.changes = live.core.lives.changes
        live.index_of = live
        live.index_next = 0
    live.indexed = False
    memset(&piece, 0, sizeof(Fragment))
    while True:
        while live.index_next < live.index_of.map.count:
            other = live.index_of
            piece.volume = other.map.fragments[live.index_next].volume
            piece.offset = other.map.fragments[live.index_next].offset
            piece.length = other.map.fragments[live.index_next].length
            piece.slot = <uint64_t>other
            piece.seq = live.index_next
            if map_insert(&live.index, &piece) != OK:
                return OK
            live.index_next += 1
        if live.index_of.newer is NULL:
            break
        live.index_of = live.index_of.newer
        live.index_next = 0
    live.indexed = True
    return OK


cdef int live_open(Live** out, Core* core, uint64_t seq, bint preserves,
                   uint8_t* only) noexcept nogil:
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
    live.core = core
    live.seq = seq
    live.first_slot = live.next_slot = live.copied_slot = slot
    live.generation = core.generation
    live.preserves = preserves
    if not preserves:
        live.map.only = only
        live.older = core.lives.view
        if core.lives.view is not NULL:
            core.lives.view.newer = live
        core.lives.view = live
    else:
        live.only = only
        live.map.only = <uint8_t*>malloc(core.volume_count)
        if live.map.only is NULL:
            live_free(live)
            return E_NO_MEMORY
        preserve_enter(live)
    out[0] = live
    return OK


cdef int live_ready(Live* live) noexcept nogil:
    """Ready to be read now: followed up to production, with every entry it needs still there."""
    cdef int status
    if live is NULL or live.core.closed:
        return E_CLOSED    # NULL: let go of, but somebody still has the image
    if live.preserves:
        return preserve_ready(live)
    if live.seq < live.core.ring.base_seq:
        return E_EXPIRED
    if live.generation != live.core.generation:
        status = live_follow_rewind(live)
        if status != OK:
            return status
    return live_advance(live, live.core.ring.slot_head)
