# The write path: copy the old range into the ring, write the header, copy the new data in.

cdef extern from "_stream.h" nogil:
    ctypedef void (*jrnl_stream_fn)(uint8_t* dst, const uint8_t* src, size_t length) noexcept
    void jrnl_prefetch(const uint8_t* at, size_t length)
    void jrnl_prefetch_read(const uint8_t* at, size_t length)
    void jrnl_stream_fence()
    jrnl_stream_fn jrnl_stream_choose(const char** name)
    jrnl_stream_fn jrnl_copy_choose()

cdef enum:
    CHUNK_SHIFT = 16             # a volume's touched map has one byte for each 64 KiB
    PREFETCH_BYTES = 1024        # of the next block: the rest is the hardware's to fetch
    STREAM_MIN_BYTES = 512       # below this the stores of a whole line do not pay
    STRING_MIN_BYTES = 1024      # below this a string instruction takes longer to start than to run
    CACHED_BYTES = 16777216      # images written since a rewind that may still lie in the cache

cdef const char* stream_name
cdef jrnl_stream_fn stream_copy = jrnl_stream_choose(&stream_name)
cdef jrnl_stream_fn string_copy = jrnl_copy_choose()


cdef inline void copy_block(uint8_t* target, const uint8_t* source, uint64_t length) noexcept nogil:
    if length >= STRING_MIN_BYTES:
        string_copy(target, source, length)
    else:
        memcpy(target, source, length)


cdef inline void touch(VolumeMemory* volume, uint64_t offset, uint64_t length) noexcept nogil:
    cdef uint64_t chunk = offset >> CHUNK_SHIFT
    cdef uint64_t last = (offset + length - 1) >> CHUNK_SHIFT
    while chunk <= last:
        volume.touched[chunk] = 1
        chunk += 1


cdef inline int range_check(const Core* core, uint32_t volume, uint64_t offset,
                            uint64_t length) noexcept nogil:
    if core.closed:
        return E_CLOSED
    if volume >= core.volume_count or offset > core.volumes[volume].size:
        return E_BOUNDS
    if length > core.volumes[volume].size - offset:
        return E_BOUNDS
    return OK


cdef inline int write_check(const Core* core, uint32_t volume, uint64_t offset,
                            uint64_t length) noexcept nogil:
    cdef int status = range_check(core, volume, offset, length)
    if status == OK and length > core.write_max:
        return E_TOO_LARGE
    return status


cdef inline uint64_t write_room(const Core* core, uint64_t length) noexcept nogil:
    """Bytes in the image area that one WRITE of `length` bytes takes."""
    cdef uint64_t room = align_up(length)
    return room + room if core.images_mode == IMAGES_BOTH else room


cdef inline void keep_image(Core* core, uint8_t* image, const uint8_t* source, uint64_t length,
                            bint stream) noexcept nogil:
    # What a rewind is likely to read back soon stays in the cache; the rest goes past it.
    if stream and length >= STREAM_MIN_BYTES and core.since_rewind >= CACHED_BYTES:
        stream_copy(image, source, length)
    else:
        memcpy(image, source, length)


cdef inline int write_one(Core* core, uint32_t volume, uint64_t offset, const uint8_t* data,
                          uint64_t length, bint stream) noexcept nogil:
    """One WRITE entry. Range and length are checked, the clock is read, the lock is held."""
    cdef EntryHeader entry
    cdef uint8_t* target = core.volumes[volume].data + offset
    cdef uint8_t* image
    cdef uint64_t room = write_room(core, length)
    cdef int status = core_reserve(core, room, &entry.position)
    if status != OK:
        return status
    entry.offset = offset
    entry.length = <uint32_t>length
    entry.volume = <uint16_t>volume
    entry.kind = KIND_WRITE
    entry.flags = 0
    entry.before_sum = 0
    entry.after_sum = 0
    image = core.images + entry.position
    if core.images_mode & IMAGES_BEFORE:
        entry.flags = FLAG_BEFORE
        keep_image(core, image, target, length, stream)
        if core.checksum:
            entry.before_sum = hash64(target, length)   # in the cache now, unlike the image
        image += align_up(length)
    if core.images_mode & IMAGES_AFTER:
        # The caller's buffer may change under us: only the journal's copy is summed and applied.
        entry.flags |= FLAG_AFTER
        memcpy(image, data, length)
        data = image
        if core.checksum:
            entry.after_sum = hash64(image, length)
    memmove(target, data, length)    # the caller's buffer may be a part of production itself
    touch(&core.volumes[volume], offset, length)
    core_append(core, &entry, room)
    return OK


cdef int core_write(Core* core, uint32_t volume, uint64_t offset, const uint8_t* data,
                    uint64_t length) noexcept nogil:
    """Write `length` bytes at `offset`; core.seq is the entry's seq afterwards."""
    cdef int status
    ask_clock(core)
    status = write_check(core, volume, offset, length)
    if status != OK or length == 0:
        return status
    if core.disk is not NULL:
        return disk_write(core, volume, offset, data, length)
    jrnl_prefetch(core.volumes[volume].data + offset,
                  length if length < PREFETCH_BYTES else PREFETCH_BYTES)
    if core.edits is not NULL and edit_overlaps(core, volume, offset, length):
        return E_EDIT
    core_tick(core)
    return write_one(core, volume, offset, data, length, False)


cdef int core_write_many(Core* core, uint32_t volume, const int64_t* offsets, uint64_t count,
                         const uint8_t* data, uint64_t length) noexcept nogil:
    """`count` writes of `length` bytes each, in order; all are checked before the first is made."""
    cdef uint64_t k, ahead
    cdef int status
    cdef uint8_t* base
    ask_clock(core)
    status = range_check(core, volume, 0, 0)
    if status != OK or count == 0:
        return status
    for k in range(count):
        status = write_check(core, volume, <uint64_t>offsets[k], length)
        if status != OK:
            return status
        if core.edits is not NULL and edit_overlaps(core, volume, <uint64_t>offsets[k], length):
            return E_EDIT
    if length == 0:
        return OK
    if core.disk is not NULL:
        return disk_write_many(core, volume, offsets, count, data, length)
    core_tick(core)
    status = room_check(core, NULL, length, count)
    if status == OK and core.fold:
        status = fold_ahead(core, volume, 0, length, count)
    if status != OK:
        return status
    base = core.volumes[volume].data
    ahead = length if length < PREFETCH_BYTES else PREFETCH_BYTES
    for k in range(count):
        if k + 1 < count:
            jrnl_prefetch(base + offsets[k + 1], ahead)
        status = write_one(core, volume, <uint64_t>offsets[k], data + k * length, length, True)
        if status != OK:
            return status
    jrnl_stream_fence()
    return OK


cdef bint all_zero(const VolumeMemory* volume, uint64_t offset, uint64_t length) noexcept nogil:
    """Whether a range reads as zeroes; chunks that were never written are not looked at."""
    cdef uint64_t end = offset + length, stop
    cdef const uint8_t* data
    while offset < end:
        stop = ((offset >> CHUNK_SHIFT) + 1) << CHUNK_SHIFT
        if stop > end:
            stop = end
        if volume.touched[offset >> CHUNK_SHIFT]:
            data = volume.data + offset
            if data[0] or memcmp(data, data + 1, stop - offset - 1):
                return False
        offset = stop
    return True


cdef int zero_one(Core* core, int kind, uint32_t volume, uint64_t offset,
                  uint64_t length) noexcept nogil:
    """One DISCARD or ZEROES entry of at most core.piece_max bytes."""
    cdef EntryHeader entry
    cdef VolumeMemory* memory = &core.volumes[volume]
    cdef uint8_t* target = memory.data + offset
    cdef bint was_zero = all_zero(memory, offset, length)
    cdef uint64_t room = 0
    cdef int status
    if core.images_mode & IMAGES_BEFORE and not was_zero:
        room = align_up(length)
    status = core_reserve(core, room, &entry.position)
    if status != OK:
        return status
    entry.offset = offset
    entry.length = <uint32_t>length
    entry.volume = <uint16_t>volume
    entry.kind = <uint8_t>kind
    entry.flags = 0
    entry.before_sum = 0
    entry.after_sum = 0
    if core.images_mode & IMAGES_BEFORE:
        entry.flags |= FLAG_BEFORE
        if was_zero:
            entry.flags |= FLAG_BEFORE_ZERO
        else:
            memcpy(core.images + entry.position, target, length)
            if core.checksum:
                entry.before_sum = hash64(target, length)
    if core.images_mode & IMAGES_AFTER:
        entry.flags |= FLAG_AFTER | FLAG_AFTER_ZERO
    if not was_zero:
        memset(target, 0, length)
    core_append(core, &entry, room)
    return OK


cdef int core_fill_zero(Core* core, int kind, uint32_t volume, uint64_t offset,
                        uint64_t length) noexcept nogil:
    """DISCARD or ZEROES over any length, in pieces; all of them fit or none is made."""
    cdef uint64_t piece
    cdef int status
    ask_clock(core)
    status = range_check(core, volume, offset, length)
    if status != OK or length == 0:
        return status
    if core.edits is not NULL and edit_overlaps(core, volume, offset, length):
        return E_EDIT
    status = OK if core.disk is NULL else disk_check(core)
    core_tick(core)
    if status == OK:
        status = zero_room_check(core, volume, offset, length)
    if status == OK and core.fold and core.disk is NULL:
        status = fold_ahead(core, volume, offset, length, 0)
    if status != OK:
        return status
    while length:
        piece = length if length < core.piece_max else core.piece_max
        if core.disk is not NULL:
            status = disk_zero_one(core, kind, volume, offset, piece)
        else:
            status = zero_one(core, kind, volume, offset, piece)
        if status != OK:
            return status
        offset += piece
        length -= piece
    return OK if core.disk is NULL else disk_written(core)


cdef int core_note(Core* core, int kind, uint64_t offset, const uint8_t* text,
                   uint64_t length) noexcept nogil:
    """An entry that changes no byte of a volume: MARK (with its name), FLUSH, REWIND.

    The caller has asked the clock.
    """
    core_tick(core)
    return note_now(core, kind, offset, text, length)


cdef int note_now(Core* core, int kind, uint64_t offset, const uint8_t* text,
                  uint64_t length) noexcept nogil:
    """The same at the time of the last tick."""
    cdef EntryHeader entry
    cdef uint64_t room = align_up(length)
    cdef uint8_t* image
    cdef int status = OK
    if core.disk is NULL and kind == KIND_REWIND and ring_place(&core.ring, room, &entry.position):
        pass    # in what the rewind has just left: no rule and no fold stands in its way
    else:
        status = core_reserve(core, room, &entry.position)
    if status != OK:
        return status
    image = (core.images + entry.position if core.disk is NULL
             else ram_at(core.disk, entry.position))
    entry.offset = offset
    entry.length = <uint32_t>length
    entry.volume = 0
    entry.kind = <uint8_t>kind
    entry.flags = 0
    entry.before_sum = 0
    entry.after_sum = 0
    if core.disk is not NULL and kind == KIND_REWIND:
        entry.before_sum = last_live_seq(core)
    if length:
        entry.flags = FLAG_AFTER
        memcpy(image, text, length)
        if core.checksum:
            entry.after_sum = hash64(text, length)
    core_append(core, &entry, room)
    return OK


cdef int core_read(Core* core, uint32_t volume, uint64_t offset, uint8_t* data,
                   uint64_t length) noexcept nogil:
    cdef int status = range_check(core, volume, offset, length)
    if status == OK and length and core.disk is not NULL:
        return volume_fetch(core, volume, offset, data, length)
    if status == OK and length:
        memmove(data, core.volumes[volume].data + offset, length)
    return status


# Will it fit? A journal of which not all may leave refuses a batch whole.

cdef inline bint may_not_evict(const Core* core) noexcept nogil:
    return core.refuse or core.edits is not NULL or keeps_some(core)


cdef int room_check(Core* core, const int64_t* lengths, uint64_t length,
                    uint64_t count) noexcept nogil:
    """Whether `count` writes (of lengths[k], or all of `length`) fit where none may be refused."""
    cdef RingRun run
    cdef uint64_t k
    cdef int status
    if not may_not_evict(core):
        return OK
    if core.disk is not NULL:
        return disk_room_check(core, lengths, length, count)
    ring_run_begin(core, &run)
    for k in range(count):
        status = ring_run_add(core, &run, write_room(core, <uint64_t>lengths[k] if lengths
                                                     is not NULL else length))
        if status != OK:
            return status
    return OK


cdef int zero_room_check(Core* core, uint32_t volume, uint64_t offset,
                         uint64_t length) noexcept nogil:
    cdef RingRun run
    cdef uint64_t piece, room
    cdef int status
    if not may_not_evict(core):
        return OK
    if core.disk is not NULL:
        return disk_zero_room_check(core, offset, length)
    ring_run_begin(core, &run)
    while length:
        piece = length if length < core.piece_max else core.piece_max
        room = 0
        if core.images_mode & IMAGES_BEFORE and not all_zero(&core.volumes[volume], offset, piece):
            room = align_up(piece)
        status = ring_run_add(core, &run, room)
        if status != OK:
            return status
        offset += piece
        length -= piece
    return OK
