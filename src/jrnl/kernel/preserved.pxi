# Preserved states of file stores: production as it was when a recovery was made from it, for as
# long as that may be recovered again. The log has it, like any state of the window; what leaves the
# log is written to a sparse file before, block by block, durably. So it costs what is overwritten,
# never the volume. A block that is not in the file is as it was at state `after`, which the log
# leads to, or which is older than all that the log still has.
#
# The file is batches, one behind the other: a header, a table of places and checksums, whole blocks
# of the log, then the blocks. How many bytes of it count is what the superblocks say; they are
# written before the log's tail moves, and what they say of it is durable by then. Nothing in it is
# ever written over.
#
# Takes: sabotage, hash, device, ring, extent_map

cdef enum:
    PRESERVED_BLOCKS = 254       # in one batch: its header and table take one block
    PRESERVED_MIN = 256          # places of the table in memory

cdef uint64_t PRESERVED_MAGIC = <uint64_t>0x7470656B6C6E726A    # "jrnlkept": its first name

cdef struct PreservedRow:
    uint64_t key                 # volume and block + 1
    uint64_t sum                 # XXH3-64 of the block; of one that was damaged, its complement

# A batch begins with this, in one block.
cdef struct PreservedBatch:
    uint64_t magic
    uint64_t position            # bytes in the file, where it stands
    uint64_t count               # blocks that follow
    PreservedRow[PRESERVED_BLOCKS] rows  # of each
    uint64_t sum                 # XXH3-64 of the 4,088 bytes before, seeded

cdef inline uint64_t preserved_key(uint32_t volume, uint64_t block) noexcept nogil:
    return (<uint64_t>volume << 48 | block) + 1


cdef inline PreservedBlock* preserved_bucket(PreservedBlock* blocks, uint64_t mask,
                                             uint64_t key) noexcept nogil:
    """The block's place, or the free one that it would take."""
    cdef uint64_t hashed = key * <uint64_t>0x9E3779B97F4A7C15
    cdef uint64_t k = (hashed ^ (hashed >> 32)) & mask
    while blocks[k].key and blocks[k].key != key:
        k = (k + 1) & mask
    return &blocks[k]


cdef int preserved_room(Preserved* state, uint64_t more) noexcept nogil:
    """Make sure that so many more blocks find a place."""
    cdef uint64_t places = state.mask + 1, k
    cdef PreservedBlock* blocks
    if (state.count + more) * 4 <= state.mask * 3:
        return OK
    while (state.count + more) * 4 > (places - 1) * 3:
        places *= 2
    blocks = <PreservedBlock*>calloc(places, sizeof(PreservedBlock))
    if blocks is NULL:
        return E_NO_MEMORY
    for k in range(state.mask + 1 if state.blocks is not NULL else 0):
        if state.blocks[k].key:
            preserved_bucket(blocks, places - 1, state.blocks[k].key)[0] = state.blocks[k]
    free(state.blocks)
    state.blocks = blocks
    state.mask = places - 1
    return OK


cdef inline PreservedBlock* preserved_find(const Preserved* state, uint32_t volume,
                                           uint64_t block) noexcept nogil:
    """Where a block stands in the file, or NULL."""
    cdef PreservedBlock* place
    if state.count == 0:
        return NULL
    place = preserved_bucket(state.blocks, state.mask, preserved_key(volume, block))
    return place if place.key else NULL


cdef int preserved_create(Preserved** out, Core* core, uint64_t seed, uint64_t seq, uint64_t after,
                          uint64_t length, uint8_t* only) noexcept nogil:
    """Keep a state; the file is set by the caller. Takes `only` over. The lock is held."""
    cdef Preserved* state = <Preserved*>calloc(1, sizeof(Preserved))
    if state is NULL:
        free(only)
        return E_NO_MEMORY
    state.core = core
    state.seed = seed
    state.seq = seq
    state.after = after
    state.length = length
    state.only = only
    state.blocks = <PreservedBlock*>calloc(PRESERVED_MIN, sizeof(PreservedBlock))
    state.mask = PRESERVED_MIN - 1
    state.generation = NO_SLOT    # the map has yet to be made
    state.production.kind = IMAGE_PRODUCTION
    state.production.core = core
    state.image.kind = IMAGE_PRESERVED
    state.image.core = core
    state.image.preserved = state
    state.image.base = &state.production
    if state.blocks is NULL or map_create(&state.map, core) != OK:
        free(state.blocks)
        free(only)
        free(state)
        return E_NO_MEMORY
    state.next = core.disk.preserved
    core.disk.preserved = state
    out[0] = state
    return OK


cdef void preserved_close(Preserved* state) noexcept nogil:
    """Save nothing for it any more; it cannot be read then. The lock is held."""
    cdef Preserved** link = &state.core.disk.preserved
    while link[0] is not NULL and link[0] != state:
        link = &link[0].next
    if link[0] is not NULL:
        link[0] = state.next
    state.dead = True
    map_destroy(&state.map)
    free(state.blocks)
    free(state.only)
    state.blocks = NULL
    state.only = NULL
    state.count = 0


cdef void preserved_reap(Disk* disk) noexcept nogil:
    """Free those that were dropped, not closed; nobody refers to them."""
    cdef Preserved* state = disk.preserved
    cdef Preserved* next
    while state is not NULL:
        next = state.next
        if state.dropped:
            preserved_close(state)
            free(state)
        state = next


cdef void preserved_free_all(Disk* disk) noexcept nogil:
    """The engine goes, and with it all of them; nobody refers to one."""
    cdef Preserved* state
    while disk.preserved is not NULL:
        state = disk.preserved
        preserved_close(state)
        free(state)


# Reading.

cdef int preserved_ready(Preserved* state) noexcept nogil:
    """Bring the map of what the log has up to date."""
    cdef Core* core = state.core
    cdef int status
    if core.closed or state.dead:
        return E_CLOSED
    if state.failed != OK:
        core.fault.entry = state.bad_seq
        return state.failed
    if state.generation != core.generation:
        map_clear(&state.map)
        status = find_slot_after(core, state.after, False, &state.next_slot)
        if status != OK:
            return status
        state.generation = core.generation
    if state.next_slot < core.ring.slot_tail:
        state.next_slot = core.ring.slot_tail    # what left before is older than the state
    status = map_scan(core, &state.map, state.next_slot, core.ring.slot_head, False)
    if status == OK:
        state.next_slot = core.ring.slot_head
    else:
        state.generation = NO_SLOT    # a part of it is there: begin anew
    return status


cdef int preserved_read(Preserved* state, const PreservedBlock* place,
                        uint8_t* content) noexcept nogil:
    """Read a block from the file."""
    cdef int status = device_read(&state.file, content, BLOCK_BYTES, place.position,
                                  &state.core.fault.error)
    if status != OK or not in_force(RULE_PRESERVED_SUM):
        return status
    if hash64(content, BLOCK_BYTES) != place.sum:
        state.core.fault.entry = 0
        state.core.fault.offset = (place.key - 1 & <uint64_t>0xFFFFFFFFFFFF) << BLOCK_SHIFT
        return E_CORRUPT
    return status


cdef int preserved_load(Preserved* state, uint64_t end) noexcept nogil:
    """Read the tables of the batches up to `end`, and count these."""
    cdef PreservedBatch batch
    cdef PreservedBlock* place
    cdef uint64_t k, volume, block
    cdef int status
    while state.length < end:
        status = device_read(&state.file, <uint8_t*>&batch, sizeof(PreservedBatch), state.length,
                             &state.core.fault.error)
        if status != OK:
            return status
        if (batch.magic != PRESERVED_MAGIC or batch.position != state.length
                or batch.count - 1 >= <uint64_t>PRESERVED_BLOCKS
                or batch.sum != seeded_hash64(&batch, BLOCK_BYTES - sizeof(uint64_t),
                                              state.seed ^ state.length)
                or end - state.length < (batch.count + 1) * BLOCK_BYTES):
            state.core.fault.entry = 0
            state.core.fault.offset = 0
            return E_CORRUPT
        if preserved_room(state, batch.count) != OK:
            return E_NO_MEMORY
        for k in range(batch.count):
            volume = (batch.rows[k].key - 1) >> 48
            block = batch.rows[k].key - 1 & <uint64_t>0xFFFFFFFFFFFF
            if (volume >= state.core.volume_count
                    or block << BLOCK_SHIFT >= state.core.volumes[volume].size):
                return E_CORRUPT
            place = preserved_bucket(state.blocks, state.mask, batch.rows[k].key)
            state.count += place.key == 0
            place.key = batch.rows[k].key
            place.position = state.length + (k + 1) * BLOCK_BYTES
            place.sum = batch.rows[k].sum
        state.length += (batch.count + 1) * BLOCK_BYTES
    return OK
