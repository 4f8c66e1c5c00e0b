# The write path of file stores: images go into the open group, the overlay points at the newest.
#
# Takes: hash, memory, ring, log, overlay, commit, write_back, log_forecast, disk_room, batch

cdef int before_fetch(Core* core, EntryHeader* entry, uint64_t first, uint64_t span, bint whole,
                      uint8_t* image) noexcept nogil:
    """Take the before-image. Where production is lost it never matches its sum: nobody knows it."""
    cdef int status = sectors_fetch(core, entry.volume, first, image, span)
    if status == E_LOST and whole and not core.fault.lost:
        memset(image, 0, span)
        entry.before_sum = ~hash64(image, span)
        return OK
    if status == OK:
        entry.before_sum = hash64(image, span)
    return status


cdef int disk_write_one(Core* core, uint32_t volume, uint64_t offset, const uint8_t* data,
                        uint64_t length, Batch* batch, bint known_room) noexcept nogil:
    """One WRITE entry. Range and length are checked, the clock is read, the lock is held.

    With a `batch` it can be taken back; NULL where it stands alone. With `known_room` it takes the
    room that was told beforehand: a before-image of zeroes is kept, too.
    """
    cdef Disk* disk = core.disk
    cdef EntryHeader entry
    cdef uint64_t lead = offset % SECTOR_BYTES
    cdef uint64_t first = offset - lead, span = sector_span(offset, length)
    cdef uint64_t room = disk_room(core, offset, length), behind = span - lead - length
    cdef bint whole = span == length or (lead == 0 and offset + length
                                         == core.volumes[volume].size)
    cdef bint fresh = (core.settings.images & IMAGES_BEFORE and whole and not known_room
                       and unwritten(core, volume, first, span))
    cdef uint8_t* image
    cdef uint8_t* before
    cdef int status
    if fresh:
        room = span    # zeroes, which take none
    status = disk_reserve(core, room, &entry.position)
    if status == OK:
        status = overlay_room(&disk.back.active, blocks_touched(first, span))
    if status != OK:
        return status
    entry.offset = offset
    entry.length = <uint32_t>length
    entry.volume = <uint16_t>volume
    entry.kind = KIND_WRITE
    entry.flags = FLAG_SECTORS | FLAG_AFTER
    entry.before_sum = 0
    before = image = ram_at(disk, entry.position)
    if fresh:
        entry.flags |= FLAG_BEFORE | FLAG_BEFORE_ZERO
    elif core.settings.images & IMAGES_BEFORE:
        entry.flags |= FLAG_BEFORE
        status = before_fetch(core, &entry, first, span, whole, image)
        image += span
        if status == OK and not whole:
            memcpy(image, before, lead)
            memcpy(image + lead + length, before + lead + length, behind)
    elif not whole:
        status = sectors_fetch(core, volume, first, image, span)
    if status != OK:
        return status
    memcpy(image + lead, data, length)
    if whole and behind:
        memset(image + length, 0, behind)    # behind the volume's end
    entry.after_sum = hash64(image, span)
    batch_save(core.disk, batch, volume, first, span)
    overlay_put(&disk.back.active, volume, first, span, entry.position + (image - before))
    touch(&core.volumes[volume], offset, length)
    disk_append(core, &entry, room)
    return OK


cdef int disk_zero_one(Core* core, int kind, uint32_t volume, uint64_t offset,
                       uint64_t length, Batch* batch) noexcept nogil:
    """One DISCARD or ZEROES entry of at most core.limits.piece_max bytes."""
    cdef Disk* disk = core.disk
    cdef EntryHeader entry
    cdef uint64_t first = sector_start(offset), span = sector_span(offset, length)
    cdef uint64_t lead = offset - first, room = 0, after = AT_ZERO
    cdef bint aligned = lead == 0 and length == span
    cdef bint fresh = aligned and unwritten(core, volume, first, span)
    cdef uint8_t* image
    cdef uint8_t* before
    cdef int status = disk_reserve(core, 0 if fresh else span if aligned else 2 * span,
                                   &entry.position)
    if status == OK:
        status = overlay_room(&disk.back.active, blocks_touched(first, span))
    if status != OK:
        return status
    entry.offset = offset
    entry.length = <uint32_t>length
    entry.volume = <uint16_t>volume
    entry.kind = <uint8_t>kind
    entry.flags = FLAG_SECTORS | FLAG_AFTER
    entry.before_sum = 0
    entry.after_sum = 0
    if fresh:
        entry.flags |= FLAG_AFTER_ZERO
        if core.settings.images & IMAGES_BEFORE:
            entry.flags |= FLAG_BEFORE | FLAG_BEFORE_ZERO
        disk_append(core, &entry, 0)
        return OK
    before = image = ram_at(disk, entry.position)
    status = before_fetch(core, &entry, first, span, aligned, before)
    if status != OK:
        return status
    if core.settings.images & IMAGES_BEFORE:
        entry.flags |= FLAG_BEFORE
        if is_zero(before, span) and entry.before_sum == hash64(before, span):
            entry.flags |= FLAG_BEFORE_ZERO
            entry.before_sum = 0
        else:
            room = span
            image += span
            if not aligned:
                memcpy(image, before, span)
    else:
        entry.before_sum = 0
    if not aligned:
        memset(image + lead, 0, length)
    if aligned or is_zero(image, span):
        entry.flags |= FLAG_AFTER_ZERO
    else:
        entry.after_sum = hash64(image, span)
        after = entry.position + (image - before)
        room += span
    if not entry.flags & FLAG_BEFORE_ZERO or not entry.flags & FLAG_AFTER_ZERO:
        batch_save(core.disk, batch, volume, first, span)
        overlay_put(&disk.back.active, volume, first, span, after)
        touch(&core.volumes[volume], offset, length)
    disk_append(core, &entry, room)
    return OK


cdef int disk_written(Core* core) noexcept nogil:
    """After entries were added: with sync="always" they are durable before the caller goes on."""
    cdef int status
    if not core.disk.commit.always:
        return OK
    status = log_commit(core)
    return disk_tidy(core) if status == OK else status


cdef int disk_write(Core* core, uint32_t volume, uint64_t offset, const uint8_t* data,
                    uint64_t length, bint known_room) noexcept nogil:
    """One WRITE entry; range and length are checked."""
    cdef int status = disk_check(core.disk, &core.fault)
    if status == OK and core.edits.open is not NULL and edit_overlaps(&core.edits, volume, offset,
                                                                      length):
        return E_EDIT
    if status != OK:
        return status
    core_tick(&core.clock)
    status = disk_write_one(core, volume, offset, data, length, NULL, known_room)
    return disk_written(core) if status == OK else status


cdef int disk_note(Core* core, int kind, uint64_t offset, const uint8_t* text,
                   uint64_t length) noexcept nogil:
    """A MARK or FLUSH entry. The clock is read."""
    cdef EntryHeader entry
    cdef uint64_t room = align_up(length)
    cdef int status = disk_check(core.disk, &core.fault)
    if status == OK:
        status = disk_reserve(core, room, &entry.position)
    if status != OK:
        return status
    note_fill(&core.ring, &entry, kind, offset, text, length, ram_at(core.disk, entry.position))
    disk_append(core, &entry, room)
    return OK
