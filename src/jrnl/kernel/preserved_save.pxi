# File stores: what leaves the log, and preserved states need, goes to their files.
#
# Takes: sabotage, hash, device, ring, commit, snapshot_files, preserved, image

cdef struct KeyList:
    uint64_t* keys
    uint64_t count
    uint64_t capacity


cdef int keys_add(const Preserved* state, KeyList* keys, uint32_t volume, uint64_t offset,
                  uint64_t length) noexcept nogil:
    """Add the blocks of a range that are not in the file yet."""
    cdef uint64_t block, capacity
    cdef uint64_t* grown
    if state.only is not NULL and not state.only[volume]:
        return OK
    for block in range(offset >> BLOCK_SHIFT, ((offset + length - 1) >> BLOCK_SHIFT) + 1):
        if preserved_find(state, volume, block) is not NULL:
            continue
        if keys.count == keys.capacity:
            capacity = keys.capacity * 2 if keys.capacity else 256
            grown = <uint64_t*>realloc(keys.keys, capacity * sizeof(uint64_t))
            if grown is NULL:
                return E_NO_MEMORY
            keys.keys = grown
            keys.capacity = capacity
        keys.keys[keys.count] = preserved_key(volume, block)
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


cdef int preserved_gather(Preserved* state, ImageData* source, const uint64_t* keys, uint64_t count,
                          uint64_t position, uint8_t* buffer) noexcept nogil:
    """Make one batch; what is damaged gets a checksum that it never matches."""
    cdef PreservedBatch* batch = <PreservedBatch*>buffer
    cdef uint8_t* content = buffer + BLOCK_BYTES
    cdef uint64_t k, volume, offset, length
    cdef int status
    memset(buffer, 0, (count + 1) * BLOCK_BYTES)
    batch.magic = PRESERVED_MAGIC
    batch.position = position
    batch.count = count
    for k in range(count):
        volume = (keys[k] - 1) >> 48
        offset = (keys[k] - 1 & <uint64_t>0xFFFFFFFFFFFF) << BLOCK_SHIFT
        length = state.core.volumes[volume].size - offset
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
    batch.sum = seeded_hash64(batch, BLOCK_BYTES - sizeof(uint64_t), state.seed ^ position)
    return OK


cdef int preserved_grow(Preserved* state, uint64_t size) noexcept nogil:
    """Make the file so long at least."""
    cdef int status
    if size <= state.size:
        return OK
    status = device_extend(&state.file, size, &state.core.fault.error)
    if status == OK:
        state.size = size
    return status


cdef int preserved_put(Preserved* state, ImageData* source, KeyList* keys) noexcept nogil:
    """Write blocks of a state to the file, durably. Where it fails, nothing has changed in it."""
    cdef uint64_t position = state.length, k = 0, part
    cdef uint8_t* buffer
    cdef PreservedBatch* batch
    cdef int status
    keys_sort(keys)
    if keys.count == 0:
        return OK
    buffer = <uint8_t*>malloc((PRESERVED_BLOCKS + 1) * BLOCK_BYTES)
    status = preserved_room(state, keys.count) if buffer is not NULL else E_NO_MEMORY
    if status == OK:
        status = preserved_grow(state, position + (keys.count + keys.count // PRESERVED_BLOCKS + 1)
                                * BLOCK_BYTES)
    while status == OK and k < keys.count:
        part = min(keys.count - k, <uint64_t>PRESERVED_BLOCKS)
        status = preserved_gather(state, source, keys.keys + k, part, position, buffer)
        if status == OK:
            status = device_write(&state.file, buffer, (part + 1) * BLOCK_BYTES, position,
                                  &state.core.fault.error)
        position += (part + 1) * BLOCK_BYTES
        k += part
    if status == OK and in_force(RULE_PRESERVED_SYNC):
        status = device_sync(&state.file, &state.core.fault.error)
    free(buffer)
    return preserved_load(state, position) if status == OK else status


cdef int preserved_save(Preserved* state, uint64_t last) noexcept nogil:
    """Save what the entries before slot `last` overwrote: they are about to leave."""
    cdef Core* core = state.core
    cdef const EntryHeader* header = NULL
    cdef KeyList keys
    cdef uint64_t slot
    cdef int status = OK
    memset(&keys, 0, sizeof(KeyList))
    for slot in range(core.ring.slot_tail, last):
        if sound_header(core, slot, &header) != OK:
            state.failed = E_CORRUPT    # it could be of any block
            state.bad_seq = core.fault.entry
            break
        if header.seq > state.after and changes_bytes(header) and not changes_nothing(header):
            status = keys_add(state, &keys, header.volume, header.offset, header.length)
        if status != OK:
            break
    if status == OK and state.failed == OK:
        status = preserved_put(state, &state.image, &keys)
    free(keys.keys)
    if state.map.count > 2 * (core.ring.slot_head - last) + 65536:
        state.generation = NO_SLOT    # most of the map is of entries that have left
    return status


cdef int preserved_evict(Disk* disk, Fault* fault, uint64_t last, uint64_t base_seq) noexcept nogil:
    """Before the entries before slot `last` leave: save for each state what it lacks then."""
    cdef Preserved* state
    cdef int status = OK
    if disk.preserved is NULL or not in_force(RULE_PRESERVED_FIRST):
        return OK
    preserved_reap(disk)
    state = disk.preserved
    while state is not NULL and status == OK:
        if state.failed == OK and state.after < base_seq:
            status = preserved_save(state, last)
        state = state.next
    return poison(fault, status) if status == E_IO else status


cdef int preserved_rewound(Disk* disk, Fault* fault, uint64_t to,
                           const ExtentMapData* map) noexcept nogil:
    """Before the entries after state `to` are dropped, whose ranges `map` has.

    They are saved for the preserved states that are dropped with them, all else of which is as in
    `to`.
    """
    cdef Preserved* state
    cdef KeyList keys
    cdef uint64_t k
    cdef int status = OK
    preserved_reap(disk)
    state = disk.preserved
    while state is not NULL and status == OK:
        if state.failed == OK and state.after > to and in_force(RULE_PRESERVED_REWIND):
            memset(&keys, 0, sizeof(KeyList))
            for k in range(map.count):
                if status == OK:
                    status = keys_add(state, &keys, map.fragments[k].volume,
                                      map.fragments[k].offset, map.fragments[k].length)
            if status == OK:
                status = preserved_put(state, &state.image, &keys)
            free(keys.keys)
        if status == OK and state.after > to:
            state.after = to
        state = state.next
    return poison(fault, status) if status == E_IO else status
