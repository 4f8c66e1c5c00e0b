# File stores: what leaves the log, and kept states need, goes to their files.
#
# Takes: rules, hash, device, ring, commit, stored, kept, image

cdef struct KeyList:
    uint64_t* keys
    uint64_t count
    uint64_t capacity


cdef int keys_add(const Kept* kept, KeyList* keys, uint32_t volume, uint64_t offset,
                  uint64_t length) noexcept nogil:
    """Add the blocks of a range that are not in the file yet."""
    cdef uint64_t block, capacity
    cdef uint64_t* grown
    if kept.only is not NULL and not kept.only[volume]:
        return OK
    for block in range(offset >> BLOCK_SHIFT, ((offset + length - 1) >> BLOCK_SHIFT) + 1):
        if kept_find(kept, volume, block) is not NULL:
            continue
        if keys.count == keys.capacity:
            capacity = keys.capacity * 2 if keys.capacity else 256
            grown = <uint64_t*>realloc(keys.keys, capacity * sizeof(uint64_t))
            if grown is NULL:
                return E_NO_MEMORY
            keys.keys = grown
            keys.capacity = capacity
        keys.keys[keys.count] = kept_key(volume, block)
        keys.count += 1
    return OK


cdef void keys_sort(KeyList* keys) noexcept nogil:
    """Sort them, each once."""
    cdef uint64_t k, used = 0
    if keys.count == 0:
        return
    qsort(keys.keys, keys.count, sizeof(uint64_t), _compare_slots)
    for k in range(keys.count):
        if used == 0 or keys.keys[k] != keys.keys[used - 1]:
            keys.keys[used] = keys.keys[k]
            used += 1
    keys.count = used


cdef int kept_gather(Kept* kept, ImageData* source, const uint64_t* keys, uint64_t count,
                     uint64_t position, uint8_t* buffer) noexcept nogil:
    """Make one batch; what is damaged gets a checksum that it never matches."""
    cdef KeptBatch* batch = <KeptBatch*>buffer
    cdef uint8_t* content = buffer + BLOCK_BYTES
    cdef uint64_t k, volume, offset, length
    cdef int status
    memset(buffer, 0, (count + 1) * BLOCK_BYTES)
    batch.magic = KEPT_MAGIC
    batch.position = position
    batch.count = count
    for k in range(count):
        volume = (keys[k] - 1) >> 48
        offset = (keys[k] - 1 & <uint64_t>0xFFFFFFFFFFFF) << BLOCK_SHIFT
        length = kept.core.volumes[volume].size - offset
        if length > BLOCK_BYTES:
            length = BLOCK_BYTES
        status = image_fetch(source, <uint32_t>volume, offset, content, length)
        if status != OK and not is_damage(status):
            return status
        if status != OK:
            memset(content, 0, BLOCK_BYTES)
        batch.rows[k].key = keys[k]
        batch.rows[k].sum = copied_sum(content, BLOCK_BYTES, status != OK)
        content += BLOCK_BYTES
    batch.sum = seeded_hash64(batch, BLOCK_BYTES - sizeof(uint64_t), kept.seed ^ position)
    return OK


cdef int kept_grow(Kept* kept, uint64_t size) noexcept nogil:
    """Make the file so long at least."""
    cdef int status
    if size <= kept.size:
        return OK
    status = device_extend(&kept.file, size, &kept.core.fault.error)
    if status == OK:
        kept.size = size
    return status


cdef int kept_put(Kept* kept, ImageData* source, KeyList* keys) noexcept nogil:
    """Write blocks of a state to the file, durably. Where it fails, nothing has changed in it."""
    cdef uint64_t position = kept.length, k = 0, part
    cdef uint8_t* buffer
    cdef KeptBatch* batch
    cdef int status
    keys_sort(keys)
    if keys.count == 0:
        return OK
    buffer = <uint8_t*>malloc((KEPT_BLOCKS + 1) * BLOCK_BYTES)
    status = kept_room(kept, keys.count) if buffer is not NULL else E_NO_MEMORY
    if status == OK:
        status = kept_grow(kept, position + (keys.count + keys.count // KEPT_BLOCKS + 1)
                           * BLOCK_BYTES)
    while status == OK and k < keys.count:
        part = min(keys.count - k, <uint64_t>KEPT_BLOCKS)
        status = kept_gather(kept, source, keys.keys + k, part, position, buffer)
        if status == OK:
            status = device_write(&kept.file, buffer, (part + 1) * BLOCK_BYTES, position,
                                  &kept.core.fault.error)
        position += (part + 1) * BLOCK_BYTES
        k += part
    if status == OK and holds(RULE_KEPT_SYNC):
        status = device_sync(&kept.file, &kept.core.fault.error)
    free(buffer)
    return kept_take(kept, position) if status == OK else status


cdef int kept_save(Kept* kept, uint64_t last) noexcept nogil:
    """Save what the entries before slot `last` overwrote: they are about to leave."""
    cdef Core* core = kept.core
    cdef const EntryHeader* header = NULL
    cdef KeyList keys
    cdef uint64_t slot
    cdef int status = OK
    memset(&keys, 0, sizeof(KeyList))
    for slot in range(core.ring.slot_tail, last):
        if sound_header(core, slot, &header) != OK:
            kept.failed = E_CORRUPT    # it could be of any block
            kept.bad_seq = core.fault.entry
            break
        if header.seq > kept.after and changes_bytes(header) and not changes_nothing(header):
            status = keys_add(kept, &keys, header.volume, header.offset, header.length)
        if status != OK:
            break
    if status == OK and kept.failed == OK:
        status = kept_put(kept, &kept.image, &keys)
    free(keys.keys)
    if kept.map.count > 2 * (core.ring.slot_head - last) + 65536:
        kept.generation = NO_SLOT    # most of the map is of entries that have left
    return status


cdef int kept_leave(Core* core, uint64_t last, uint64_t base_seq) noexcept nogil:
    """Before the entries before slot `last` leave: save for each kept state what it lacks then."""
    cdef Kept* kept
    cdef int status = OK
    if core.disk.kept is NULL or not holds(RULE_KEPT_FIRST):
        return OK
    kept_reap(core)
    kept = core.disk.kept
    while kept is not NULL and status == OK:
        if kept.failed == OK and kept.after < base_seq:
            status = kept_save(kept, last)
        kept = kept.next
    return poison(core, status) if status == E_IO else status


cdef int kept_rewound(Core* core, uint64_t state, const ExtentMapData* map) noexcept nogil:
    """Before the entries after `state` are dropped, whose ranges `map` has: save them for the kept
    states that are dropped with them. All else in those is as in `state`."""
    cdef Kept* kept
    cdef KeyList keys
    cdef uint64_t k
    cdef int status = OK
    kept_reap(core)
    kept = core.disk.kept
    while kept is not NULL and status == OK:
        if kept.failed == OK and kept.after > state and holds(RULE_KEPT_REWIND):
            memset(&keys, 0, sizeof(KeyList))
            for k in range(map.count):
                if status == OK:
                    status = keys_add(kept, &keys, map.fragments[k].volume,
                                      map.fragments[k].offset, map.fragments[k].length)
            if status == OK:
                status = kept_put(kept, &kept.image, &keys)
            free(keys.keys)
        if status == OK and kept.after > state:
            kept.after = state
        kept = kept.next
    return poison(core, status) if status == E_IO else status
