# On disk, edits: a copy of a range is lent out, and written when the edit ends.
#
# Takes: ring, log, disk_room, disk_write

cdef int disk_edit_begin(Core* core, uint32_t volume, uint64_t offset,
                         uint64_t length) noexcept nogil:
    """Lend a copy of the range, whose content is journaled and written when the edit ends."""
    cdef int64_t wanted = <int64_t>length
    cdef OpenEdit* edit
    cdef int status = disk_check(core.disk, &core.fault)
    core_tick(&core.clock)
    if status == OK:
        status = disk_room_check(core, &wanted, 0, 1)
    if status != OK:
        return status
    edit = <OpenEdit*>calloc(1, sizeof(OpenEdit))
    if edit is NULL:
        return E_NO_MEMORY
    edit.volume = volume
    edit.offset = offset
    edit.length = length
    edit.next = core.edits.open
    core.edits.open = edit
    return OK


cdef int disk_edit_end(Core* core, uint32_t volume, uint64_t offset,
                       const uint8_t* content) noexcept nogil:
    """Close an edit, and write `content`, unless that is NULL."""
    cdef OpenEdit** link = edit_find(&core.edits, volume, offset)
    cdef OpenEdit* edit = link[0]
    cdef uint64_t length = edit.length
    cdef int status
    link[0] = edit.next
    free(edit)
    if content is NULL:
        return OK
    status = write_ready(core, volume, offset, length)
    return disk_write(core, volume, offset, content, length, False) if status == OK else status
