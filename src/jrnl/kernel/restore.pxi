# In memory, a restore: what differs is written onto production, all of it or nothing.
#
# Takes: ring, reclaim, image, write

cdef struct Restoring:
    const int64_t* volumes
    const int64_t* offsets
    const int64_t* lengths
    uint64_t count


cdef void restore_undo(Core* core, uint64_t first, uint64_t seq) noexcept nogil:
    """Take back the newest entries, from slot `first` on, as if they had never been made."""
    cdef const EntryHeader* header
    while core.ring.slot_head > first:
        header = header_at(&core.ring, core.ring.slot_head - 1)
        memcpy(core.volumes[header.volume].data + header.offset, before_image(&core.ring, header),
               header.length)
        core.made[header.kind].entries -= 1
        core.made[header.kind].bytes -= header.length
        ring_drop_newest(&core.ring, header.position, image_room(header))
    core.ring.seq = seq
    core.generation += 1


cdef int memory_restore_outcome(Core* core, const int64_t* lengths, uint64_t count,
                                uint64_t* oldest) noexcept nogil:
    """The oldest state after `count` writes of lengths[k], by a forecast of the ring."""
    cdef RingForecast ahead
    cdef uint64_t* positions = <uint64_t*>malloc((count + 1) * sizeof(uint64_t))
    cdef uint64_t k
    cdef int status = E_CLOSED if core.closed else OK
    if positions is NULL:
        return E_NO_MEMORY
    if status == OK:
        ring_forecast_begin(&core.ring, &ahead)
        ahead.positions = positions
        ahead.lengths = lengths
        for k in range(count):
            status = ring_forecast_add(core, &ahead,
                                       write_room(&core.settings, <uint64_t>lengths[k]))
            if status != OK:
                break
        oldest[0] = ahead.ring.base_seq
    free(positions)
    return status


cdef int image_restore(ImageData* image, const Restoring* what) noexcept nogil:
    """In memory: journal and write the image's content over ranges of production, or none of it.

    Reading it may fail half way. Where entries of its own leave the journal meanwhile, or it keeps
    no before-images, all is read before the first write; else what was written is taken back.
    """
    cdef Core* core = image.core
    cdef uint64_t k, longest = 0, total = 0, length, oldest = 0
    cdef uint64_t first = core.ring.slot_head, seq = core.ring.seq
    cdef uint8_t* content
    cdef uint8_t* here
    cdef bint ahead
    cdef int status = memory_restore_outcome(core, what.lengths, what.count, &oldest)
    if status != OK:
        return status
    ahead = oldest > seq or not core.settings.images & IMAGES_BEFORE
    for k in range(what.count):
        longest = max(longest, <uint64_t>what.lengths[k])
        total += <uint64_t>what.lengths[k]
    content = here = <uint8_t*>malloc((total if ahead else longest) + 1)
    if content is NULL:
        return E_NO_MEMORY
    for k in range(what.count if ahead else 0):
        if status == OK:
            status = image_fetch(image, <uint32_t>what.volumes[k], <uint64_t>what.offsets[k], here,
                                 <uint64_t>what.lengths[k])
        here += what.lengths[k]
    here = content
    core.calls.exclusive += 1    # a Python clock is asked by each write
    for k in range(what.count if status == OK else 0):
        length = <uint64_t>what.lengths[k]
        if not ahead:
            status = image_fetch(image, <uint32_t>what.volumes[k], <uint64_t>what.offsets[k], here,
                                 length)
        if status == OK:
            status = write_ready(core, <uint32_t>what.volumes[k], <uint64_t>what.offsets[k],
                                 length)
        if status == OK:
            status = memory_write(core, <uint32_t>what.volumes[k], <uint64_t>what.offsets[k], here,
                                  length)
        if status != OK:
            break
        here += length if ahead else 0
    core.calls.exclusive -= 1
    if status != OK and not ahead:
        restore_undo(core, first, seq)
    free(content)
    return status
