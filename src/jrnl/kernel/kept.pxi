# Kept states of file stores: production as it was when a recovery was made from it, for as long as
# that may be recovered again. The log has it, like any state of the window; what leaves the log is
# written to a sparse file before, block by block, durably. So it costs what is overwritten, never
# the volume. A block that is not in the file is as it was at state `after`, which the log leads to,
# or which is older than all that the log still has.
#
# The file is batches, one behind the other: a header, a table of places and checksums, whole blocks
# of the log, then the blocks. How many bytes of it count is what the superblocks say; they are
# written before the log's tail moves, and what they say of it is durable by then. Nothing in it is
# ever written over.
#
# Takes: rules, hash, device, ring, extent_map

cdef enum:
    KEPT_BLOCKS = 254            # in one batch: its header and table take one block
    KEPT_MIN = 256               # places of the table in memory

cdef uint64_t KEPT_MAGIC = <uint64_t>0x7470656B6C6E726A    # "jrnlkept"

cdef struct KeptRow:
    uint64_t key                 # volume and block + 1
    uint64_t sum                 # XXH3-64 of the block; of one that was damaged, its complement

# A batch begins with this, in one block.
cdef struct KeptBatch:
    uint64_t magic
    uint64_t position            # bytes in the file, where it stands
    uint64_t count               # blocks that follow
    KeptRow[KEPT_BLOCKS] rows    # of each
    uint64_t sum                 # XXH3-64 of the 4,088 bytes before, seeded

cdef inline uint64_t kept_key(uint32_t volume, uint64_t block) noexcept nogil:
    return (<uint64_t>volume << 48 | block) + 1


cdef inline KeptBlock* kept_bucket(KeptBlock* blocks, uint64_t mask, uint64_t key) noexcept nogil:
    """The block's place, or the free one that it would take."""
    cdef uint64_t hashed = key * <uint64_t>0x9E3779B97F4A7C15
    cdef uint64_t k = (hashed ^ (hashed >> 32)) & mask
    while blocks[k].key and blocks[k].key != key:
        k = (k + 1) & mask
    return &blocks[k]


cdef int kept_room(Kept* kept, uint64_t more) noexcept nogil:
    """Make sure that so many more blocks find a place."""
    cdef uint64_t places = kept.mask + 1, k
    cdef KeptBlock* blocks
    if (kept.count + more) * 4 <= kept.mask * 3:
        return OK
    while (kept.count + more) * 4 > (places - 1) * 3:
        places *= 2
    blocks = <KeptBlock*>calloc(places, sizeof(KeptBlock))
    if blocks is NULL:
        return E_NO_MEMORY
    for k in range(kept.mask + 1 if kept.blocks is not NULL else 0):
        if kept.blocks[k].key:
            kept_bucket(blocks, places - 1, kept.blocks[k].key)[0] = kept.blocks[k]
    free(kept.blocks)
    kept.blocks = blocks
    kept.mask = places - 1
    return OK


cdef inline KeptBlock* kept_find(const Kept* kept, uint32_t volume, uint64_t block) noexcept nogil:
    """Where a block stands in the file, or NULL."""
    cdef KeptBlock* place
    if kept.count == 0:
        return NULL
    place = kept_bucket(kept.blocks, kept.mask, kept_key(volume, block))
    return place if place.key else NULL


cdef int kept_create(Kept** out, Core* core, uint64_t seed, uint64_t seq, uint64_t after,
                     uint64_t length, uint8_t* only) noexcept nogil:
    """Keep a state; the file is set by the caller. Takes `only` over. The lock is held."""
    cdef Kept* kept = <Kept*>calloc(1, sizeof(Kept))
    if kept is NULL:
        free(only)
        return E_NO_MEMORY
    kept.core = core
    kept.seed = seed
    kept.seq = seq
    kept.after = after
    kept.length = length
    kept.only = only
    kept.blocks = <KeptBlock*>calloc(KEPT_MIN, sizeof(KeptBlock))
    kept.mask = KEPT_MIN - 1
    kept.generation = NO_SLOT    # the map has yet to be made
    kept.production.kind = IMAGE_PRODUCTION
    kept.production.core = core
    kept.image.kind = IMAGE_KEPT
    kept.image.core = core
    kept.image.kept = kept
    kept.image.base = &kept.production
    if kept.blocks is NULL or map_create(&kept.map, core) != OK:
        free(kept.blocks)
        free(only)
        free(kept)
        return E_NO_MEMORY
    kept.next = core.disk.kept
    core.disk.kept = kept
    out[0] = kept
    return OK


cdef void kept_close(Kept* kept) noexcept nogil:
    """Save nothing for it any more; it cannot be read then. The lock is held."""
    cdef Kept** link = &kept.core.disk.kept
    while link[0] is not NULL and link[0] != kept:
        link = &link[0].next
    if link[0] is not NULL:
        link[0] = kept.next
    kept.dead = True
    map_destroy(&kept.map)
    free(kept.blocks)
    free(kept.only)
    kept.blocks = NULL
    kept.only = NULL
    kept.count = 0


cdef void kept_reap(Core* core) noexcept nogil:
    """Free those that were dropped, not closed; nobody refers to them."""
    cdef Kept* kept = core.disk.kept
    cdef Kept* next
    while kept is not NULL:
        next = kept.next
        if kept.dropped:
            kept_close(kept)
            free(kept)
        kept = next


cdef void free_kept(Core* core) noexcept nogil:
    """The engine goes, and with it all of them; nobody refers to one."""
    cdef Kept* kept
    while core.disk.kept is not NULL:
        kept = core.disk.kept
        kept_close(kept)
        free(kept)


# Reading.

cdef int kept_ready(Kept* kept) noexcept nogil:
    """Bring the map of what the log has up to date."""
    cdef Core* core = kept.core
    cdef int status
    if core.closed or kept.dead:
        return E_CLOSED
    if kept.failed != OK:
        core.fault.entry = kept.bad_seq
        return kept.failed
    if kept.generation != core.generation:
        map_clear(&kept.map)
        status = find_slot_after(core, kept.after, False, &kept.next_slot)
        if status != OK:
            return status
        kept.generation = core.generation
    if kept.next_slot < core.ring.slot_tail:
        kept.next_slot = core.ring.slot_tail    # what left before is older than the state
    status = map_scan(core, &kept.map, kept.next_slot, core.ring.slot_head, False)
    if status == OK:
        kept.next_slot = core.ring.slot_head
    else:
        kept.generation = NO_SLOT    # a part of it is there: begin anew
    return status


cdef int kept_read(Kept* kept, const KeptBlock* place, uint8_t* content) noexcept nogil:
    """Read a block from the file."""
    cdef int status = device_read(&kept.file, content, BLOCK_BYTES, place.position,
                                  &kept.core.fault.error)
    if status != OK or not holds(RULE_KEPT_SUM):
        return status
    if hash64(content, BLOCK_BYTES) != place.sum:
        kept.core.fault.entry = 0
        kept.core.fault.offset = (place.key - 1 & <uint64_t>0xFFFFFFFFFFFF) << BLOCK_SHIFT
        return E_CORRUPT
    return status


cdef int kept_take(Kept* kept, uint64_t end) noexcept nogil:
    """Read the tables of the batches up to `end`, and count these."""
    cdef KeptBatch batch
    cdef KeptBlock* place
    cdef uint64_t k, volume, block
    cdef int status
    while kept.length < end:
        status = device_read(&kept.file, <uint8_t*>&batch, sizeof(KeptBatch), kept.length,
                             &kept.core.fault.error)
        if status != OK:
            return status
        if (batch.magic != KEPT_MAGIC or batch.position != kept.length
                or batch.count - 1 >= <uint64_t>KEPT_BLOCKS
                or batch.sum != seeded_hash64(&batch, BLOCK_BYTES - sizeof(uint64_t),
                                              kept.seed ^ kept.length)
                or end - kept.length < (batch.count + 1) * BLOCK_BYTES):
            kept.core.fault.entry = 0
            kept.core.fault.offset = 0
            return E_CORRUPT
        if kept_room(kept, batch.count) != OK:
            return E_NO_MEMORY
        for k in range(batch.count):
            volume = (batch.rows[k].key - 1) >> 48
            block = batch.rows[k].key - 1 & <uint64_t>0xFFFFFFFFFFFF
            if (volume >= kept.core.volume_count
                    or block << BLOCK_SHIFT >= kept.core.volumes[volume].size):
                return E_CORRUPT
            place = kept_bucket(kept.blocks, kept.mask, batch.rows[k].key)
            kept.count += place.key == 0
            place.key = batch.rows[k].key
            place.position = kept.length + (k + 1) * BLOCK_BYTES
            place.sum = batch.rows[k].sum
        kept.length += (batch.count + 1) * BLOCK_BYTES
    return OK
