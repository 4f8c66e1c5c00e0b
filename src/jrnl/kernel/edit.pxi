# In memory, edits: a range of production lent out for writing in place, as one journal entry.
#
# The entry stands in the ring from the start, with its before-image; the after-image and the sums
# are set at the end. The lock is held in between, so no other thread sees the range half-written,
# and eviction stops short of the entry.
#
# Takes: hash, memory, shared, ring, reading, room

cdef int memory_edit_begin(Core* core, uint32_t volume, uint64_t offset,
                           uint64_t length) noexcept nogil:
    """Journal the range and open it. The range is checked; the caller holds the lock to the end."""
    cdef EntryHeader entry
    cdef OpenEdit* edit
    cdef uint8_t* target
    cdef uint64_t room = write_room(&core.settings, length)
    cdef int status
    target = core.volumes[volume].data + offset
    edit = <OpenEdit*>calloc(1, sizeof(OpenEdit))
    if edit is NULL:
        return E_NO_MEMORY
    if not core.settings.images & IMAGES_BEFORE:
        edit.old = <uint8_t*>malloc(length)
        if edit.old is NULL:
            free(edit)
            return E_NO_MEMORY
    core_tick(&core.clock)
    status = memory_reserve(core, room, &entry.position)
    if status != OK:
        free(edit.old)
        free(edit)
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
    if edit.old is not NULL:
        memcpy(edit.old, target, length)
    if core.settings.images & IMAGES_BEFORE:
        memcpy(core.ring.images + entry.position, target, length)
        if core.ring.checksum:
            entry.before_sum = hash64(target, length)
    edit.slot = core.ring.slot_head
    edit.volume = volume
    edit.offset = offset
    edit.length = length
    edit.next = core.edits.open
    if core.edits.open is NULL:
        core.edits.floor = edit.slot
    core.edits.open = edit
    touch(&core.volumes[volume], offset, length)
    memory_append(core, &entry, room)
    edit.entry = entry
    return OK


cdef int memory_edit_end(Core* core, uint32_t volume, uint64_t offset,
                         bint undo) noexcept nogil:
    """Close an edit; to `undo` it, put the old bytes back first. Its entry stays.

    Where the before-image is damaged the bytes stay as the edit left them.
    """
    cdef OpenEdit** link = edit_find(&core.edits, volume, offset)
    cdef OpenEdit* edit = link[0]
    cdef EntryHeader* header = &edit.entry
    cdef uint8_t* target = core.volumes[volume].data + offset
    cdef int status = OK
    if undo and edit.old is not NULL:
        memcpy(target, edit.old, edit.length)
    elif undo:
        status = images_check(core, header, FLAG_BEFORE)
        if status == OK:
            memcpy(target, before_image(&core.ring, header), edit.length)
    if core.settings.images & IMAGES_AFTER:
        memcpy(<uint8_t*>after_image(&core.ring, header), target, edit.length)
        if core.ring.checksum:
            header.after_sum = hash64(after_image(&core.ring, header), edit.length)
            header.header_sum = header_hash(&core.ring, header, edit.slot)
        header_at(&core.ring, edit.slot)[0] = header[0]
    link[0] = edit.next
    free(edit.old)
    free(edit)
    core.edits.floor = NO_SLOT
    edit = core.edits.open
    while edit is not NULL:
        core.edits.floor = edit.slot    # the last in the list is the oldest
        edit = edit.next
    return status
