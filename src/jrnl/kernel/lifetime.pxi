# Making a core, and taking it down.
#
# Takes: lock, memory, shared, ring, prefault, log, pieces, overlay, extent_map, preserve,
# changed_blocks, reclaim, preserved

cdef void free_dropped(Core* core) noexcept nogil:
    cdef Dropped* dropped = <Dropped*>jrnl_pop_all(<void**>&core.dropped)
    cdef Dropped* next
    while dropped is not NULL:
        next = dropped.next
        if dropped.live is not NULL:
            live_close(dropped.live)
        if dropped.pin is not NULL:
            pin_close(dropped.pin)
        map_destroy(&dropped.map)
        free(dropped)
        dropped = next


cdef void core_drop(Core* core, Live* live, ExtentMapData* map) noexcept:
    """Free what an object held, now or when the lock is next taken; for deallocation, with the GIL.

    The collector calls that on any thread, which may hold what the lock's holder waits for; and at
    the interpreter's end the holder may be a thread that never runs again.
    """
    cdef Dropped* dropped
    if live is NULL and map.core is NULL:
        return
    if not core_try(core):
        dropped = <Dropped*>malloc(sizeof(Dropped))
        if dropped is not NULL:
            dropped.live = live
            dropped.pin = NULL
            dropped.map = map[0]
            memset(map, 0, sizeof(ExtentMapData))
            jrnl_push(<void**>&core.dropped, dropped)
            return
        enter_anyway(core)
    if live is not NULL:
        live_close(live)
    map_destroy(map)
    core_unlock(core)


cdef int core_create(Core** out, uint32_t volume_count, const uint64_t* sizes, uint8_t** memory,
                     uint64_t journal, int images_mode, bint checksum, bint refuse) noexcept nogil:
    """A core over `memory` (one pointer a volume), or over memory of its own where that is NULL."""
    return core_make(out, volume_count, sizes, memory, journal, images_mode, checksum, refuse, 0)


cdef int core_make(Core** out, uint32_t volume_count, const uint64_t* sizes, uint8_t** memory,
                   uint64_t journal, int images_mode, bint checksum, bint refuse,
                   uint64_t overlay) noexcept nogil:
    """A core over `memory` (one pointer a volume), or over memory of its own where that is NULL.

    With an `overlay` in bytes, a power of two, it is a file store's: its devices are set later.
    """
    cdef Core* core = <Core*>calloc(1, sizeof(Core))
    cdef uint32_t k
    if core is NULL:
        return E_NO_MEMORY
    core.volume_count = volume_count
    core.settings.images = images_mode
    core.ring.checksum = checksum
    core.settings.refuse = refuse
    core.owns_volumes = memory is NULL
    core.limits.capacity = journal
    core.ring.slots = header_slots(journal)
    core.ring.area = image_area(journal)
    ring_reset_images(&core.ring)
    core.limits.write_max = write_max(journal, images_mode == IMAGES_BOTH)
    core.limits.piece_max = core.ring.area // PIECE_SHARE
    if core.limits.piece_max > PIECE_MAX_BYTES:
        core.limits.piece_max = PIECE_MAX_BYTES
    core.limits.piece_max -= core.limits.piece_max % 512
    core.edits.floor = NO_SLOT
    core.folds.pin_seq = NO_SLOT
    core.changed.low = NO_SLOT
    core.reclaim.pin_needs = NO_PIN
    core.reclaim.start_slots = NO_SLOT
    core.reclaim.start_bytes = NO_SLOT
    core.reclaim.low_slots = NO_SLOT
    core.reclaim.low_bytes = NO_SLOT
    core.mutex = jrnl_mutex_new()
    core.reap = free_dropped
    core.ring.headers = <EntryHeader*>map_memory(core.ring.slots * HEADER_BYTES, True)
    core.prefault_next = NO_SLOT
    if overlay == 0:
        core.ring.images = map_memory(core.ring.area, True)
        prefault_prepare(core)
    elif disk_create(core, overlay) != OK:
        core_destroy(core)
        return E_NO_MEMORY
    core.volumes = <VolumeMemory*>calloc(volume_count, sizeof(VolumeMemory))
    core.aliases.runs = <AliasRun*>calloc(ALIAS_RUNS_MAX, sizeof(AliasRun))
    if (core.mutex is NULL or core.ring.headers is NULL or core.volumes is NULL
            or core.ring.images is NULL and core.disk is NULL or core.aliases.runs is NULL):
        core_destroy(core)
        return E_NO_MEMORY
    for k in range(volume_count):
        core.volumes[k].size = sizes[k]
        core.volumes[k].chunks = (sizes[k] + (1 << CHUNK_SHIFT) - 1) >> CHUNK_SHIFT
        core.volumes[k].touched = map_memory(core.volumes[k].chunks, False)
        if overlay == 0:
            core.volumes[k].data = (map_memory(sizes[k], fits_in_huge_pages(sizes[k]))
                                    if memory is NULL else memory[k])
        if core.disk is not NULL:
            core.disk.chunks[k] = map_memory(core.volumes[k].chunks, False)
            if core.disk.chunks[k] is NULL:
                core_destroy(core)
                return E_NO_MEMORY
        if core.volumes[k].touched is NULL or core.volumes[k].data is NULL and overlay == 0:
            core_destroy(core)
            return E_NO_MEMORY
    if map_create(&core.rewind_map, core) != OK:
        core_destroy(core)
        return E_NO_MEMORY
    core_tick(&core.clock)
    core.clock.created_ns = core.clock.now_ns
    core.ring.base_time_ns = core.clock.now_ns
    out[0] = core
    return OK


cdef void core_release_journal(Core* core) noexcept nogil:
    """Give the journal's memory back; what is open can no longer be read."""
    keep_all(core)
    core.closed = True
    prefault_end(core)
    unmap_memory(<uint8_t*>core.ring.headers, core.ring.slots * HEADER_BYTES)
    unmap_memory(core.ring.images, core.ring.area)
    unmap_memory(core.spare.arena, core.spare.arena_size)
    free(core.spare.fragments)
    free(core.spare.buckets)
    core.spare.fragments = NULL
    core.spare.buckets = NULL
    core.ring.headers = NULL
    core.ring.images = NULL
    core.spare.arena = NULL
    core.spare.arena_size = 0


cdef int disk_create(Core* core, uint64_t overlay) noexcept nogil:
    """What a file store has beside; core.volume_count and the journal's size are set."""
    cdef Disk* disk = <Disk*>calloc(1, sizeof(Disk))
    cdef uint64_t half
    if disk is NULL:
        return E_NO_MEMORY
    core.disk = disk
    core.settings.lasts = True
    core.ring.area = core.limits.capacity - core.limits.capacity % LOG_BLOCK_BYTES
    half = overlay // 2 - 2 * LOG_BLOCK_BYTES - 4 * SECTOR_BYTES    # see disk_reserve
    if core.settings.images == IMAGES_BOTH:
        half //= 2
    if core.limits.write_max > half:
        core.limits.write_max = half
    if core.limits.piece_max > overlay // 16:
        core.limits.piece_max = overlay // 16
    disk.groups.max = core.ring.area // 8
    if disk.groups.max > 65536:
        disk.groups.max = 65536
    if disk.groups.max < 2 * LOG_BLOCK_BYTES:
        disk.groups.max = 2 * LOG_BLOCK_BYTES
    if disk.groups.max < core.ring.area // 32:
        disk.groups.max = core.ring.area // 32
    if disk.groups.max > overlay // 2 - 4 * LOG_BLOCK_BYTES:
        disk.groups.max = overlay // 2 - 4 * LOG_BLOCK_BYTES
    disk.log.descriptor = disk.index.device.descriptor = -1
    disk.ram.size = overlay
    disk.ram.data = <uint8_t*>jrnl_map_twice(overlay)
    disk.ram.ready = <uint8_t*>calloc(overlay // RAM_CHUNK_BYTES + 1, 1)
    disk.volumes = <Device*>calloc(core.volume_count, sizeof(Device))
    disk.back.dirty = <bint*>calloc(core.volume_count, sizeof(bint))
    disk.chunks = <uint8_t**>calloc(core.volume_count, sizeof(uint8_t*))
    disk.groups.records = <GroupRecord*>calloc(64, sizeof(GroupRecord))
    disk.groups.mask = 63
    disk.commit.mutex = jrnl_plain_mutex_new()
    disk.commit.done = jrnl_cond_new()
    disk.forks = jrnl_forks
    if (overlay_create(&disk.back.active) != OK or overlay_create(&disk.back.draining) != OK
            or disk.ram.data is NULL or disk.ram.ready is NULL or disk.volumes is NULL
            or disk.back.dirty is NULL or disk.chunks is NULL or disk.groups.records is NULL
            or disk.commit.mutex is NULL or disk.commit.done is NULL):
        return E_NO_MEMORY
    return OK


cdef void disk_destroy(Core* core) noexcept nogil:
    cdef Disk* disk = core.disk
    cdef uint32_t k
    if disk is NULL:
        return
    if disk.chunks is not NULL and core.volumes is not NULL:
        for k in range(core.volume_count):
            unmap_memory(disk.chunks[k], core.volumes[k].chunks)
    free(disk.chunks)
    preserved_free_all(core.disk)
    unmap_memory(disk.ram.data, 2 * disk.ram.size)
    free(disk.ram.ready)
    free(disk.volumes)
    free(disk.back.dirty)
    free(disk.groups.records)
    free(disk.back.active.blocks)
    free(disk.back.draining.blocks)
    free(disk.bounce.data)
    pieces_free(disk)
    if disk.commit.mutex is not NULL:
        pthread_mutex_destroy(disk.commit.mutex)
    if disk.commit.done is not NULL:
        pthread_cond_destroy(disk.commit.done)
    free(disk.commit.mutex)
    free(disk.commit.done)
    free(disk)


cdef void core_destroy(Core* core) noexcept nogil:
    cdef uint32_t k
    free_dropped(core)
    core_release_journal(core)
    map_destroy(&core.rewind_map)
    changed_free(&core.changed)
    shares_free(core)
    if core.volumes is not NULL:
        for k in range(core.volume_count):
            unmap_memory(core.volumes[k].touched, core.volumes[k].chunks)
            if core.owns_volumes:
                unmap_memory(core.volumes[k].data, core.volumes[k].size)
    disk_destroy(core)
    free(core.volumes)
    free(core.aliases.runs)
    if core.mutex is not NULL:
        pthread_mutex_destroy(core.mutex)
        free(core.mutex)
    free(core)
