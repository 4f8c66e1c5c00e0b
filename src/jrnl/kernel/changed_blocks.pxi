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
    CHANGED_MIN = 1024           # places of the table
    UNKNOWN_RANGES = 1           # beside OK: nobody knows where was written


cdef void changed_count(ChangedBlocks* changed) noexcept nogil:
    """Bring up to date what follows from the list of copies; free what is gone."""
    cdef CopyNote* note
    cdef CopyNote** link = &changed.copies
    changed.any_dead = False
    changed.low = NO_SLOT
    changed.high = 0
    while link[0] is not NULL:
        note = link[0]
        if note.dead:
            link[0] = note.next
            free(note)
            continue
        if note.seq < changed.low:
            changed.low = note.seq
        if note.seq > changed.high:
            changed.high = note.seq
        link = &note.next


cdef CopyNote* changed_register(Core* core, uint64_t seq) noexcept nogil:
    """From now on, note what changes after state `seq`; NULL where there is no memory."""
    cdef CopyNote* note = <CopyNote*>calloc(1, sizeof(CopyNote))
    if note is NULL:
        return NULL
    note.next = core.changed.copies
    core.changed.copies = note
    changed_moved(core, note, seq)
    return note


cdef void changed_moved(Core* core, CopyNote* note, uint64_t seq) noexcept nogil:
    """The copy holds state `seq` now."""
    cdef uint64_t state = 0
    note.seq = seq
    note.known = seq >= core.changed.complete_from and core_resolve(core, seq, &state) == OK
    changed_count(&core.changed)


cdef void changed_unregister(ChangedBlocks* changed, CopyNote* note) noexcept nogil:
    """The copy is gone. Needs no lock: whoever has it next frees the note."""
    if note is not NULL:
        note.dead = True
        changed.any_dead = True


cdef void changed_free(ChangedBlocks* changed) noexcept nogil:
    cdef CopyNote* note = changed.copies
    cdef CopyNote* next
    while note is not NULL:
        next = note.next
        free(note)
        note = next
    free(changed.blocks)
    changed.copies = NULL
    changed.blocks = NULL


cdef inline ChangedBlock* changed_bucket(ChangedBlock* blocks, uint64_t mask,
                                         uint64_t key) noexcept nogil:
    """The block's place, or the free one that it would take."""
    cdef uint64_t hashed = key * <uint64_t>0x9E3779B97F4A7C15
    cdef uint64_t k = (hashed ^ (hashed >> 32)) & mask
    while blocks[k].key and blocks[k].key != key:
        k = (k + 1) & mask
    return &blocks[k]


cdef int changed_grow(ChangedBlocks* changed) noexcept nogil:
    """Make a larger table, without what is older than all copies."""
    cdef uint64_t before = changed.mask + 1 if changed.blocks is not NULL else 0
    cdef uint64_t places = CHANGED_MIN, k
    cdef ChangedBlock* blocks
    changed.count = 0
    for k in range(before):
        changed.count += changed.blocks[k].key != 0 and changed.blocks[k].seq > changed.low
    while changed.count * 8 > places * 3:
        places *= 2
    blocks = <ChangedBlock*>calloc(places, sizeof(ChangedBlock))
    if blocks is NULL:
        return E_NO_MEMORY
    for k in range(before):
        if changed.blocks[k].key and changed.blocks[k].seq > changed.low:
            changed_bucket(blocks, places - 1, changed.blocks[k].key)[0] = changed.blocks[k]
    free(changed.blocks)
    changed.blocks = blocks
    changed.mask = places - 1
    return OK


cdef int changed_put(ChangedBlocks* changed, uint32_t volume, uint64_t offset, uint64_t length,
                     uint64_t seq) noexcept nogil:
    """Note that entry `seq` wrote in these blocks."""
    cdef uint64_t block
    cdef ChangedBlock* place
    for block in range(offset >> BLOCK_SHIFT, ((offset + length - 1) >> BLOCK_SHIFT) + 1):
        if changed.blocks is NULL or (changed.count + 1) * 4 > changed.mask * 3:
            if changed_grow(changed) != OK:
                return E_NO_MEMORY
        place = changed_bucket(changed.blocks, changed.mask, (<uint64_t>volume << 48 | block) + 1)
        if place.key == 0:
            place.key = (<uint64_t>volume << 48 | block) + 1
            changed.count += 1
        if seq > place.seq:
            place.seq = seq
    return OK


cdef void changed_gap(ChangedBlocks* changed, uint64_t seq) noexcept nogil:
    """Nobody knows what changed up to state `seq`, nor will; what is noted is of no more use."""
    changed.complete_from = seq
    changed.count = 0
    free(changed.blocks)
    changed.blocks = NULL


cdef void changed_evict(Core* core, uint64_t last, uint64_t base_seq) noexcept nogil:
    """The entries before slot `last` are about to leave; `base_seq` is the oldest state then."""
    cdef ChangedBlocks* changed = &core.changed
    cdef const EntryHeader* header = NULL
    cdef uint64_t slot
    if changed.any_dead:
        changed_count(changed)
    if base_seq <= changed.low:
        if changed.blocks is not NULL and changed.low == NO_SLOT:
            changed_gap(changed, base_seq)    # the last copy has gone
        changed.complete_from = base_seq
        return
    for slot in range(core.ring.slot_tail, last):
        if sound_header(core, slot, &header) != OK:
            changed_gap(changed, base_seq)
            return
        if header.seq <= changed.low or not changes_bytes(header) or changes_nothing(header):
            continue
        if changed_put(changed, header.volume, header.offset, header.length, header.seq) != OK:
            changed_gap(changed, base_seq)
            return


cdef void changed_rewound(ChangedBlocks* changed, uint64_t seq, uint64_t state,
                          const ExtentMapData* map) noexcept nogil:
    """The entries after `state` are about to be dropped; `map` has what they wrote."""
    cdef const Fragment* fragment
    cdef uint64_t k
    if changed.any_dead:
        changed_count(changed)
    if state >= changed.high:
        return    # no copy is of a state that is dropped
    for k in range(map.count):
        fragment = &map.fragments[k]
        if changed_put(changed, fragment.volume, fragment.offset, fragment.length,
                       seq + 1) != OK:
            changed_gap(changed, seq + 1)
            return


# What may differ, as a map whose fragments have no source.
