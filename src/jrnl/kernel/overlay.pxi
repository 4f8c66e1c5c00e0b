# The overlay of a file store: where the newest content of a sector lies that its volume's file has
# not got yet. Two of them: `active` takes what is written; `draining`, of durable entries only, is
# on its way into the files. Readers look at active, draining, file. All images together are bounded
# by disk.ram.size, after an opening also by what the log's tail held.
#
# Takes: sabotage, lock, memory, device, log

cdef enum:
    AT_NONE = 0
    AT_ZERO = 1
    AT_LOST = 2                  # its entry was damaged, and nobody else has the bytes
    AT_MIN = 3                   # from here on: a log position
    CHUNK_UNKNOWN = 0
    CHUNK_DATA = 1
    CHUNK_HOLE = 2
    CHUNKS_MARKED = 65536        # most chunks that one look marks as holes
    BLOCK_SECTORS = 8
    OVERLAY_MIN = 256            # buckets
    ZERO_BYTES = 65536
    GATHER_BYTES = 16384         # one write to a volume's file: larger ones make larger folios
    BUFFER_BYTES = 1048576       # images that a write-back reads from the log, for one call
    NAMED_SHARE = 4              # superblocks lag behind write-back by at most this part of the log

cdef uint8_t* zero_bytes = <uint8_t*>map_memory(ZERO_BYTES, False)


cdef inline uint64_t overlay_key(uint32_t volume, uint64_t block) noexcept nogil:
    return (<uint64_t>volume << 48 | block) + 1


cdef inline OverlayBlock* overlay_bucket(const Overlay* overlay, uint64_t key) noexcept nogil:
    """The block's bucket, or the free one that it would take."""
    cdef uint64_t hashed = key * <uint64_t>0x9E3779B97F4A7C15
    cdef uint64_t k = (hashed ^ (hashed >> 32)) & overlay.mask
    while overlay.blocks[k].key and overlay.blocks[k].key != key:
        k = (k + 1) & overlay.mask
    return &overlay.blocks[k]


cdef int overlay_create(Overlay* overlay) noexcept nogil:
    overlay.blocks = <OverlayBlock*>calloc(OVERLAY_MIN, sizeof(OverlayBlock))
    overlay.mask = OVERLAY_MIN - 1
    overlay.count = 0
    return OK if overlay.blocks is not NULL else E_NO_MEMORY


cdef int overlay_room(Overlay* overlay, uint64_t blocks) noexcept nogil:
    """Make sure that so many more blocks find a bucket."""
    cdef Overlay grown
    cdef uint64_t k
    if (overlay.count + blocks) * 4 <= overlay.mask * 3:
        return OK
    grown.mask = overlay.mask
    while (overlay.count + blocks) * 4 > grown.mask * 3:
        grown.mask = grown.mask * 2 + 1
    grown.blocks = <OverlayBlock*>calloc(grown.mask + 1, sizeof(OverlayBlock))
    if grown.blocks is NULL:
        return E_NO_MEMORY
    for k in range(overlay.mask + 1):
        if overlay.blocks[k].key:
            overlay_bucket(&grown, overlay.blocks[k].key)[0] = overlay.blocks[k]
    free(overlay.blocks)
    overlay.blocks = grown.blocks
    overlay.mask = grown.mask
    return OK


cdef void overlay_clear(Overlay* overlay) noexcept nogil:
    if overlay.count:
        memset(overlay.blocks, 0, (overlay.mask + 1) * sizeof(OverlayBlock))
        overlay.count = 0


cdef void overlay_swap(Overlay* one, Overlay* other) noexcept nogil:
    cdef Overlay before = one[0]
    one[0] = other[0]
    other[0] = before


cdef void overlay_put(Overlay* overlay, uint32_t volume, uint64_t offset, uint64_t length,
                      uint64_t at) noexcept nogil:
    """The newest content of whole sectors lies at `at`, a position, AT_ZERO or AT_LOST.

    overlay_room has made room.
    """
    cdef uint64_t sector = offset // SECTOR_BYTES
    cdef uint64_t end = (offset + length + SECTOR_BYTES - 1) // SECTOR_BYTES
    cdef OverlayBlock* block
    while sector < end:
        block = overlay_bucket(overlay, overlay_key(volume, sector // BLOCK_SECTORS))
        if block.key == 0:
            block.key = overlay_key(volume, sector // BLOCK_SECTORS)
            overlay.count += 1
        while True:
            block.at[sector % BLOCK_SECTORS] = at
            sector += 1
            if at >= AT_MIN:
                at += SECTOR_BYTES
            if sector == end or sector % BLOCK_SECTORS == 0:
                break


cdef inline uint64_t blocks_touched(uint64_t offset, uint64_t length) noexcept nogil:
    return ((offset + length - 1) >> BLOCK_SHIFT) - (offset >> BLOCK_SHIFT) + 1


# Reading production: a run is a range whose bytes lie in one place.

cdef inline bint continues(uint64_t at, uint64_t before) noexcept nogil:
    return at == before + SECTOR_BYTES if before >= AT_MIN else at == before


cdef int run_fetch(Core* core, uint32_t volume, uint64_t offset, uint64_t at, uint8_t* target,
                   uint64_t length) noexcept nogil:
    """Read a run; `at` is where the sector of `offset` lies."""
    if at == AT_NONE:
        return device_read(&core.disk.volumes[volume], target, length, offset, &core.fault.error)
    if at == AT_ZERO:
        memset(target, 0, length)
        return OK
    if at == AT_LOST:
        core.fault.offset = offset
        return E_LOST
    return log_fetch(core, at + offset % SECTOR_BYTES, target, length)


cdef int volume_fetch(Core* core, uint32_t volume, uint64_t offset, uint8_t* target,
                      uint64_t length) noexcept nogil:
    """Read production. The range lies inside the volume."""
    cdef Disk* disk = core.disk
    cdef uint64_t sector = offset // SECTOR_BYTES, end = offset + length, run_start = offset
    cdef uint64_t at, before = 0, first_at = 0, k = BLOCK_SECTORS, start
    cdef OverlayBlock* active = NULL
    cdef OverlayBlock* draining = NULL
    cdef bint running = False
    cdef int status
    if disk.forks != jrnl_forks and in_force(RULE_FORK):
        return E_FORKED
    if core.fault.lost:
        return E_LOST
    if disk.back.active.count == 0 and disk.back.draining.count == 0:
        return run_fetch(core, volume, offset, AT_NONE, target, length)
    while sector * SECTOR_BYTES < end:
        if active is NULL or sector % BLOCK_SECTORS == 0:
            active = overlay_bucket(&disk.back.active, overlay_key(volume, sector // BLOCK_SECTORS))
            draining = overlay_bucket(&disk.back.draining,
                                      overlay_key(volume, sector // BLOCK_SECTORS))
        k = sector % BLOCK_SECTORS
        at = active.at[k]
        if at == AT_NONE:
            at = draining.at[k]
        if not running:
            first_at = at
            running = True
        elif not continues(at, before):
            start = sector * SECTOR_BYTES
            status = run_fetch(core, volume, run_start, first_at, target, start - run_start)
            if status != OK:
                return status
            target += start - run_start
            run_start = start
            first_at = at
        before = at
        sector += 1
    return run_fetch(core, volume, run_start, first_at, target, end - run_start)


cdef int sectors_fetch(Core* core, uint32_t volume, uint64_t first, uint8_t* target,
                       uint64_t span) noexcept nogil:
    """Read whole sectors; behind the volume's end they are zeroes."""
    cdef uint64_t length = core.volumes[volume].size - first
    if length >= span:
        return volume_fetch(core, volume, first, target, span)
    memset(target + length, 0, span - length)
    return volume_fetch(core, volume, first, target, length)
