# In memory: copy the old range into the ring, write the header, copy the new data in.
#
# Takes: hash, kernels, memory, shared, ring, reading, extent_map, preserve, reclaim, room

cdef enum:
    ONE_PASS_MIN_BYTES = 1024    # below this the pass takes longer to begin than it saves
    BATCH_PASS_MIN_BYTES = 512   # ... in a batch, whose blocks are on their way before
    CALL_AHEAD_BYTES = 2048      # how far a single write fetches ahead of itself


cdef inline bint goes_past(uint64_t since_rewind) noexcept nogil:
    """Whether images go past the cache: what a rewind is likely to read back soon does not."""
    return since_rewind >= CACHED_BYTES


cdef inline void write_in_one_pass(Ring* ring, uint64_t since_rewind, EntryHeader* entry,
                                   uint8_t* target,
                                   const uint8_t* data, uint64_t ahead) noexcept nogil:
    """The images of entry.flags, their sums, and the data in place."""
    cdef KernelWrite write
    cdef uint8_t* image = ring.images + entry.position
    write.before = NULL
    write.after = NULL
    if entry.flags & FLAG_BEFORE:
        write.before = image
        image += align_up(entry.length)
    if entry.flags & FLAG_AFTER:
        write.after = image
    write.target = target
    write.data = data
    write.length = entry.length
    write.ahead = ahead
    write.before_sum = &entry.before_sum
    write.after_sum = &entry.after_sum
    kernels.write(&write, goes_past(since_rewind))
    if not ring.checksum:
        entry.before_sum = entry.after_sum = 0


cdef inline void write_in_steps(const Ring* ring, EntryHeader* entry, uint8_t* target,
                                const uint8_t* data) noexcept nogil:
    cdef uint64_t length = entry.length
    cdef uint8_t* image = ring.images + entry.position
    if entry.flags & FLAG_BEFORE:
        memcpy(image, target, length)
        if ring.checksum:
            entry.before_sum = hash64(target, length)   # in the cache now, unlike the image
        image += align_up(length)
    if entry.flags & FLAG_AFTER:
        # The caller's buffer may change under us: only the journal's copy is summed and applied.
        memcpy(image, data, length)
        data = image
        if ring.checksum:
            entry.after_sum = hash64(image, length)
    memmove(target, data, length)    # the caller's buffer may be a part of production itself


cdef inline int write_one(Core* core, uint32_t volume, uint64_t offset, const uint8_t* data,
                          uint64_t length, const uint8_t* next) noexcept nogil:
    """One WRITE entry. Range and length are checked, the clock is read, the lock is held.

    `next` is what the batch's next write will go to, or its last one went to; NULL: a single write.
    """
    cdef EntryHeader entry
    cdef uint8_t* target = core.volumes[volume].data + offset
    cdef uint64_t room = write_room(&core.settings, length)
    cdef int status = memory_reserve(core, room, &entry.position)
    if status != OK:
        return status
    if core.shared:
        before_change(core, volume, offset, length)
    entry.offset = offset
    entry.length = <uint32_t>length
    entry.volume = <uint16_t>volume
    entry.kind = KIND_WRITE
    entry.flags = <uint8_t>core.settings.images    # IMAGES_* and FLAG_* share their bits
    entry.before_sum = 0
    entry.after_sum = 0
    if next is not NULL:
        jrnl_prefetch_far(next, length if length < JRNL_AHEAD_BYTES else JRNL_AHEAD_BYTES)
    if (length >= (ONE_PASS_MIN_BYTES if next is NULL else BATCH_PASS_MIN_BYTES)
            and kernels is not NULL and is_apart(target, data, length)):
        write_in_one_pass(&core.ring, core.since_rewind, &entry, target, data,
                          CALL_AHEAD_BYTES if next is NULL else JRNL_AHEAD_BYTES)
    else:
        write_in_steps(&core.ring, &entry, target, data)
    touch(&core.volumes[volume], offset, length)
    memory_append(core, &entry, room)
    return OK


cdef int memory_write(Core* core, uint32_t volume, uint64_t offset, const uint8_t* data,
                      uint64_t length) noexcept nogil:
    """One WRITE entry; range and length are checked."""
    jrnl_prefetch(core.volumes[volume].data + offset, 1)    # ends the walk to its page soonest
    jrnl_prefetch_far(core.volumes[volume].data + offset,
                      length if length < JRNL_AHEAD_BYTES else JRNL_AHEAD_BYTES)
    jrnl_prefetch(&core.volumes[volume].touched[offset >> CHUNK_SHIFT], 1)
    if core.edits.open is not NULL and edit_overlaps(&core.edits, volume, offset, length):
        return E_EDIT
    core_tick(&core.clock)
    return write_one(core, volume, offset, data, length, NULL)


cdef int memory_write_many(Core* core, uint32_t volume, const int64_t* offsets, uint64_t count,
                           const uint8_t* data, uint64_t length) noexcept nogil:
    """`count` WRITE entries, all or none; ranges and length are checked."""
    cdef uint64_t k
    cdef int status
    core_tick(&core.clock)
    status = memory_room_check(core, length, count)
    if status == OK:
        status = preserve_reserve(core, count, count, count * length)
    if status == OK and core.folds.on:
        status = fold_ahead(core, volume, 0, length, count)
    if status != OK:
        return status
    fetch_group(&core.volumes[volume], offsets, 0, count, length)
    for k in range(count):
        if k % GROUP == 0:
            fetch_group(&core.volumes[volume], offsets, k + GROUP, count, length)
        status = write_one(core, volume, <uint64_t>offsets[k], data + k * length, length,
                           core.volumes[volume].data + offsets[k + 1 if k + 1 < count else k])
        if status != OK:
            return status
    jrnl_stream_fence()
    return OK


cdef void fetch_group(const VolumeMemory* volume, const int64_t* offsets, uint64_t first,
                      uint64_t count, uint64_t length) noexcept nogil:
    """Have the pages of the next few blocks looked up, and all of short ones fetched.

    A walk through the page tables takes as long as a block: they overlap only when begun together.
    """
    cdef uint64_t k, end = first + GROUP if first + GROUP < count else count
    for k in range(first, end):
        jrnl_prefetch(volume.data + offsets[k], length if length < BATCH_PASS_MIN_BYTES else 1)
        jrnl_prefetch(&volume.touched[<uint64_t>offsets[k] >> CHUNK_SHIFT], 1)


cdef int zero_one(Core* core, int kind, uint32_t volume, uint64_t offset,
                  uint64_t length) noexcept nogil:
    """One DISCARD or ZEROES entry of at most core.limits.piece_max bytes."""
    cdef EntryHeader entry
    cdef VolumeMemory* memory = &core.volumes[volume]
    cdef uint8_t* target = memory.data + offset
    cdef bint was_zero
    cdef uint64_t room, seq, sum
    cdef int status
    while True:
        was_zero = all_zero(memory, offset, length)
        room = 0
        if core.settings.images & IMAGES_BEFORE and not was_zero:
            room = align_up(length)
        seq = core.ring.seq
        status = memory_reserve(core, room, &entry.position)
        if status != OK:
            return status
        if seq == core.ring.seq:
            break    # else a call from inside the fold has written, perhaps here
    if core.shared and not was_zero:
        before_change(core, volume, offset, length)
    entry.offset = offset
    entry.length = <uint32_t>length
    entry.volume = <uint16_t>volume
    entry.kind = <uint8_t>kind
    entry.flags = 0
    entry.before_sum = 0
    entry.after_sum = 0
    if core.settings.images & IMAGES_BEFORE:
        entry.flags |= FLAG_BEFORE
        if was_zero:
            entry.flags |= FLAG_BEFORE_ZERO
        else:
            sum = copy_and_sum(core.ring.images + entry.position, target, length, target,
                               goes_past(core.since_rewind))
            entry.before_sum = sum if core.ring.checksum else 0
    if core.settings.images & IMAGES_AFTER:
        entry.flags |= FLAG_AFTER | FLAG_AFTER_ZERO
    if not was_zero:
        memset(target, 0, length)
    memory_append(core, &entry, room)
    return OK


cdef uint64_t zeroes_pass_by(Core* core, int kind, uint32_t volume, uint64_t offset,
                             uint64_t length, uint64_t* looked) noexcept nogil:
    """Count pieces as made that change nothing, and leave the ring before the call is done.

    Those that follow fill all slots. Return the bytes that were passed by: a discard of a large
    sparse volume costs its last pieces alone. Before `looked` there is no more of that.
    """
    cdef VolumeMemory* memory = &core.volumes[volume]
    cdef uint64_t first = offset >> CHUNK_SHIFT, end = offset + length, count
    cdef const uint8_t* found
    looked[0] = end
    if length // core.limits.piece_max <= 2 * core.ring.slots:
        return 0
    if (may_not_evict(core) or core.settings.guarded or core.folds.on
            or core.lives.newest is not NULL
            or core.settings.watched or not (core.settings.images & IMAGES_BEFORE
                                             or core.changed.low == NO_SLOT)):
        return 0    # somebody looks at each entry that leaves
    found = <const uint8_t*>memchr(memory.touched + first, 1,
                                   ((end - 1) >> CHUNK_SHIFT) + 1 - first)
    if found is not NULL:
        end = <uint64_t>(found - memory.touched) << CHUNK_SHIFT
        looked[0] = end + 1
    if end <= offset:
        return 0
    count = (end - offset) // core.limits.piece_max
    if count <= 2 * core.ring.slots:
        return 0
    count -= core.ring.slots
    while core.ring.slot_tail < core.ring.slot_head:
        if core_evict_oldest(core) != OK:
            return 0
    core.ring.slot_tail += count
    core.ring.slot_head += count
    core.ring.seq += count
    core.made[kind].entries += count
    core.made[kind].bytes += count * core.limits.piece_max
    core.evictions += count
    core.ring.base_seq = core.ring.seq
    core.ring.base_time_ns = core.clock.now_ns
    if core.ring.base_seq <= core.changed.low:
        core.changed.complete_from = core.ring.base_seq
    return count * core.limits.piece_max


cdef int memory_fill_zero(Core* core, int kind, uint32_t volume, uint64_t offset,
                          uint64_t length) noexcept nogil:
    """DISCARD or ZEROES over any length, in pieces, all or none; the range is checked."""
    cdef uint64_t pieces, piece, looked = 0
    cdef int status
    core_tick(&core.clock)
    status = memory_zero_check(core, volume, offset, length)
    if status == OK and core.lives.newest is not NULL:
        piece = touched_bytes(core.volumes, volume, offset, length)
        pieces = length // core.limits.piece_max
        status = preserve_reserve(core, pieces + 1, min(piece >> CHUNK_SHIFT, pieces) + 1, piece)
    if status == OK and core.folds.on:
        status = fold_ahead(core, volume, offset, length, 0)
    if status != OK:
        return status
    while length:
        if offset >= looked:
            piece = zeroes_pass_by(core, kind, volume, offset, length, &looked)
            offset += piece
            length -= piece
        piece = length if length < core.limits.piece_max else core.limits.piece_max
        status = zero_one(core, kind, volume, offset, piece)
        if status != OK:
            return status
        offset += piece
        length -= piece
    return OK


cdef int memory_note(Core* core, int kind, uint64_t offset, const uint8_t* text,
                     uint64_t length) noexcept nogil:
    """A MARK, FLUSH or REWIND entry. The clock is read."""
    cdef EntryHeader entry
    cdef uint64_t room = align_up(length)
    cdef int status
    if kind == KIND_REWIND and ring_place(&core.ring, room, &entry.position):
        pass    # in what the rewind has just left: no rule and no fold stands in its way
    else:
        status = memory_reserve(core, room, &entry.position)
        if status != OK:
            return status
    note_fill(&core.ring, &entry, kind, offset, text, length, core.ring.images + entry.position)
    memory_append(core, &entry, room)
    return OK
