# What has changed since a copy was made: which ranges a restore from it has to look at.
#
# The journal's headers say where was written since a state, as far back as they are retained. For
# copies of older states the blocks are noted that entries wrote when they leave, or are dropped by
# a rewind: one table for the store, of the last seq that wrote each block. It costs what was
# written, never the volume, and nothing where no copy is older than what leaves. Where memory or a
# damaged header leaves a gap in it, copies of states before the gap are compared whole.
#
# Takes: ring

cdef enum:
    LEFT_MIN = 1024              # places of the table
    UNKNOWN_RANGES = 1           # beside OK: nobody knows where was written


cdef void left_count(Left* left) noexcept nogil:
    """Bring up to date what follows from the list of copies; free what is gone."""
    cdef CopyNote* note
    cdef CopyNote** link = &left.copies
    left.any_dead = False
    left.low = NO_SLOT
    left.high = 0
    while link[0] is not NULL:
        note = link[0]
        if note.dead:
            link[0] = note.next
            free(note)
            continue
        if note.seq < left.low:
            left.low = note.seq
        if note.seq > left.high:
            left.high = note.seq
        link = &note.next


cdef CopyNote* left_register(Core* core, uint64_t seq) noexcept nogil:
    """From now on, note what changes after state `seq`; NULL where there is no memory."""
    cdef CopyNote* note = <CopyNote*>calloc(1, sizeof(CopyNote))
    if note is NULL:
        return NULL
    note.next = core.left.copies
    core.left.copies = note
    left_moved(core, note, seq)
    return note


cdef void left_moved(Core* core, CopyNote* note, uint64_t seq) noexcept nogil:
    """The copy holds state `seq` now."""
    cdef uint64_t state = 0
    note.seq = seq
    note.known = seq >= core.left.complete_from and core_resolve(core, seq, &state) == OK
    left_count(&core.left)


cdef void left_unregister(Core* core, CopyNote* note) noexcept nogil:
    """The copy is gone. Needs no lock: whoever has it next frees the note."""
    if note is not NULL:
        note.dead = True
        core.left.any_dead = True


cdef void left_free(Left* left) noexcept nogil:
    cdef CopyNote* note = left.copies
    cdef CopyNote* next
    while note is not NULL:
        next = note.next
        free(note)
        note = next
    free(left.blocks)
    left.copies = NULL
    left.blocks = NULL


cdef inline LeftBlock* left_bucket(LeftBlock* blocks, uint64_t mask, uint64_t key) noexcept nogil:
    """The block's place, or the free one that it would take."""
    cdef uint64_t hashed = key * <uint64_t>0x9E3779B97F4A7C15
    cdef uint64_t k = (hashed ^ (hashed >> 32)) & mask
    while blocks[k].key and blocks[k].key != key:
        k = (k + 1) & mask
    return &blocks[k]


cdef int left_grow(Left* left) noexcept nogil:
    """Make a larger table, without what is older than all copies."""
    cdef uint64_t places = LEFT_MIN, before = left.mask + 1 if left.blocks is not NULL else 0, k
    cdef LeftBlock* blocks
    left.count = 0
    for k in range(before):
        left.count += left.blocks[k].key != 0 and left.blocks[k].seq > left.low
    while left.count * 8 > places * 3:
        places *= 2
    blocks = <LeftBlock*>calloc(places, sizeof(LeftBlock))
    if blocks is NULL:
        return E_NO_MEMORY
    for k in range(before):
        if left.blocks[k].key and left.blocks[k].seq > left.low:
            left_bucket(blocks, places - 1, left.blocks[k].key)[0] = left.blocks[k]
    free(left.blocks)
    left.blocks = blocks
    left.mask = places - 1
    return OK


cdef int left_put(Left* left, uint32_t volume, uint64_t offset, uint64_t length,
                  uint64_t seq) noexcept nogil:
    """Note that entry `seq` wrote in these blocks."""
    cdef uint64_t block
    cdef LeftBlock* place
    for block in range(offset >> BLOCK_SHIFT, ((offset + length - 1) >> BLOCK_SHIFT) + 1):
        if left.blocks is NULL or (left.count + 1) * 4 > left.mask * 3:
            if left_grow(left) != OK:
                return E_NO_MEMORY
        place = left_bucket(left.blocks, left.mask, (<uint64_t>volume << 48 | block) + 1)
        if place.key == 0:
            place.key = (<uint64_t>volume << 48 | block) + 1
            left.count += 1
        if seq > place.seq:
            place.seq = seq
    return OK


cdef void left_gap(Left* left, uint64_t seq) noexcept nogil:
    """Nobody knows what changed up to state `seq`, nor will; what is noted is of no more use."""
    left.complete_from = seq
    left.count = 0
    free(left.blocks)
    left.blocks = NULL


cdef void left_leave(Core* core, uint64_t last, uint64_t base_seq) noexcept nogil:
    """The entries before slot `last` are about to leave; `base_seq` is the oldest state then."""
    cdef Left* left = &core.left
    cdef const EntryHeader* header = NULL
    cdef uint64_t slot
    if left.any_dead:
        left_count(left)
    if base_seq <= left.low:
        if left.blocks is not NULL and left.low == NO_SLOT:
            left_gap(left, base_seq)    # the last copy has gone
        left.complete_from = base_seq
        return
    for slot in range(core.ring.slot_tail, last):
        if sound_header(core, slot, &header) != OK:
            left_gap(left, base_seq)
            return
        if header.seq <= left.low or not changes_bytes(header) or changes_nothing(header):
            continue
        if left_put(left, header.volume, header.offset, header.length, header.seq) != OK:
            left_gap(left, base_seq)
            return


cdef void left_rewound(Core* core, uint64_t state, const ExtentMapData* map) noexcept nogil:
    """The entries after `state` are about to be dropped; `map` has what they wrote."""
    cdef const Fragment* fragment
    cdef uint64_t k
    if core.left.any_dead:
        left_count(&core.left)
    if state >= core.left.high:
        return    # no copy is of a state that is dropped
    for k in range(map.count):
        fragment = &map.fragments[k]
        if left_put(&core.left, fragment.volume, fragment.offset, fragment.length,
                    core.seq + 1) != OK:
            left_gap(&core.left, core.seq + 1)
            return


# What may differ, as a map whose fragments have no source.
