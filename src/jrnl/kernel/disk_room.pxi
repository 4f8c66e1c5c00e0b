# File stores: what fits, what leaves for it, and a forecast of both.
#
# Takes: sabotage, ring, log, reclaim, commit, write_back, log_evict, log_forecast, log_retention

cdef int forecast_evict(LogForecast* ahead, uint64_t end) noexcept nogil:
    """What disk_evict does."""
    cdef uint64_t area = ahead.core.ring.area, slots = ahead.core.ring.slots
    cdef uint64_t tail = ahead.tail + area // 16, slot = ahead.slot_tail
    cdef uint64_t number = ahead.group_first
    cdef GroupRecord group
    if ahead.core.settings.refuse:
        return E_FULL
    if ahead.core.settings.guarded:
        return forecast_guarded_evict(ahead, end)
    if end + rewind_reserve(ahead.core) > area + tail:
        tail = end + rewind_reserve(ahead.core) - area
    if ahead.slot_head - ahead.slot_tail >= slots:
        slot += slots // 16 + 1
    while number < ahead.group_next:
        group = forecast_group(ahead, number)
        if group.position >= tail and group.slot >= slot:
            break
        number += 1
    if number == ahead.group_next and ahead.open.count:
        forecast_commit(ahead)
        return OK
    if number == ahead.group_first:
        return E_TOO_LARGE
    forecast_evict_to(ahead, number)
    return OK


cdef int forecast_reserve(LogForecast* ahead, uint64_t room) noexcept nogil:
    """What disk_reserve and disk_append do."""
    cdef uint64_t cursor, end
    cdef int status
    if ahead.core.settings.guarded:
        forecast_reclaim(ahead, room)
    while True:
        cursor = open_group_cursor(&ahead.open)
        end = group_end(cursor + room, ahead.open.count + 1)
        if ahead.open.count and end - ahead.open.start > ahead.core.disk.groups.max:
            forecast_commit(ahead)
            forecast_tidy(ahead)
        elif end > ahead.ram_tail + ahead.core.disk.ram.size:
            forecast_write_back(ahead)
        elif (end + ahead.slack > ahead.tail + ahead.core.ring.area - rewind_reserve(ahead.core)
                or ahead.slot_head - ahead.slot_tail >= ahead.core.ring.slots):
            status = forecast_evict(ahead, end + ahead.slack)
            if status != OK:
                return status
        else:
            ahead.open.cursor = cursor + room
            ahead.open.count += 1
            ahead.slot_head += 1
            return OK


cdef int forecast_begin(Core* core, LogForecast* ahead, uint64_t count) noexcept nogil:
    cdef const Disk* disk = core.disk
    forecast_here(core, ahead)
    ahead.guess = True
    ahead.ram_tail = disk.ram.tail
    ahead.recorded_number = disk.commit.recorded_number
    ahead.draining = is_draining(disk)
    ahead.draining_end = disk.back.draining_end
    ahead.draining_number = disk.back.draining_number
    if find_slot_after(core, disk.back.synced_seq, False, &ahead.synced_slot) != OK:
        ahead.synced_slot = core.ring.slot_tail
    if find_slot_after(core, disk.back.draining_seq, False, &ahead.draining_slot) != OK:
        ahead.draining_slot = core.ring.slot_tail
    ahead.groups = <GroupRecord*>malloc((count + 2) * sizeof(GroupRecord))
    return OK if ahead.groups is not NULL else E_NO_MEMORY


cdef int guarded_room_check(Core* core, const int64_t* offsets, const int64_t* lengths,
                            uint64_t length, uint64_t count) noexcept nogil:
    """Whether so many writes fit; without `offsets`, wherever they begin."""
    cdef LogForecast ahead
    cdef uint64_t k, offset
    cdef int status
    if not core.settings.refuse and not retains_some(core):
        return OK
    status = forecast_begin(core, &ahead, count)
    for k in range(count):
        if status != OK:
            break
        offset = <uint64_t>offsets[k] if offsets is not NULL else SECTOR_BYTES - 1
        status = forecast_reserve(&ahead, disk_room(core, offset, <uint64_t>lengths[k]
                                                    if lengths is not NULL else length))
    free(ahead.groups)
    return status


cdef int guarded_zero_check(Core* core, uint64_t offset, uint64_t length) noexcept nogil:
    """Whether a discard fits, whatever it discards."""
    cdef LogForecast ahead
    cdef uint64_t piece
    cdef int status
    if not core.settings.refuse and not retains_some(core):
        return OK
    status = forecast_begin(core, &ahead, length // core.limits.piece_max + 1)
    while length and status == OK:
        piece = length if length < core.limits.piece_max else core.limits.piece_max
        status = forecast_reserve(&ahead, 2 * sector_span(offset, piece))
        offset += piece
        length -= piece
    free(ahead.groups)
    return status


cdef int rewind_room(Core* core, uint64_t first) noexcept nogil:
    """Whether a REWIND entry has room once the entries from the slot `first` on are cut."""
    cdef LogForecast ahead
    cdef uint64_t number = 0, end
    forecast_here(core, &ahead)
    while ahead.group_next > ahead.group_first and forecast_group(
            &ahead, ahead.group_next - 1).slot >= first:
        ahead.group_next -= 1
        ahead.open.start = group_at(core.disk, ahead.group_next).position
    end = group_end(ahead.open.start + GROUP_HEAD_BYTES, 1)
    if end <= core.disk.tail_named + core.ring.area:
        return OK
    if core.settings.refuse:
        return E_FULL
    ahead.slot_head = first
    ahead.open.count = 0
    return forecast_target(&ahead, end, &number)


cdef int disk_room_check(Core* core, const int64_t* lengths, uint64_t length,
                         uint64_t count) noexcept nogil:
    """Whether so many writes fit, wherever they begin."""
    cdef OpenGroup open
    cdef uint64_t k
    if not may_not_evict(core):
        return OK
    if core.settings.guarded:
        return guarded_room_check(core, NULL, lengths, length, count)
    if not core.settings.refuse:
        return OK
    open_group_begin(core.disk, &core.ring, &open)
    for k in range(count):
        if not open_group_add(core, &open, disk_room(core, SECTOR_BYTES - 1, <uint64_t>lengths[k]
                                                     if lengths is not NULL else length)):
            return E_FULL
    return OK


cdef int disk_zero_room_check(Core* core, uint64_t offset, uint64_t length) noexcept nogil:
    """Whether a discard fits, whatever it discards."""
    cdef OpenGroup open
    cdef uint64_t piece
    if not may_not_evict(core):
        return OK
    if core.settings.guarded:
        return guarded_zero_check(core, offset, length)
    if not core.settings.refuse:
        return OK
    open_group_begin(core.disk, &core.ring, &open)
    while length:
        piece = length if length < core.limits.piece_max else core.limits.piece_max
        if not open_group_add(core, &open, 2 * sector_span(offset, piece)):
            return E_FULL
        offset += piece
        length -= piece
    return OK


cdef int disk_restore_outcome(Core* core, const int64_t* offsets, const int64_t* lengths,
                              uint64_t count, uint64_t* oldest) noexcept nogil:
    """The oldest state after writes at offsets[k] of lengths[k], in groups of their own."""
    cdef LogForecast ahead
    cdef uint64_t k
    cdef int status = E_CLOSED if core.closed else OK
    forecast_here(core, &ahead)
    ahead.groups = <GroupRecord*>malloc((count + 2) * sizeof(GroupRecord))
    if ahead.groups is NULL:
        return E_NO_MEMORY
    ahead.synced_slot = core.ring.slot_head    # a restore begins with a write-back
    ahead.draining = False
    if ahead.open.count:
        forecast_close(&ahead)
    ahead.ram_tail = ahead.open.start
    ahead.recorded_number = ahead.group_next
    for k in range(count):
        if status == OK:
            status = forecast_reserve(&ahead, disk_room(core, <uint64_t>offsets[k],
                                                        <uint64_t>lengths[k]))
            if core.disk.commit.always:
                forecast_commit(&ahead)
                forecast_tidy(&ahead)
    oldest[0] = core.ring.base_seq
    if ahead.slot_tail > core.ring.slot_head:
        oldest[0] = core.ring.seq + (ahead.slot_tail - core.ring.slot_head)
    elif ahead.slot_tail > core.ring.slot_tail:
        oldest[0] = seq_before_slot(&core.ring, ahead.slot_tail)
    free(ahead.groups)
    return status


cdef uint64_t evict_target(const Core* core, uint64_t end) noexcept nogil:
    """The number of the group that is the oldest after making room up to position `end`."""
    cdef const Disk* disk = core.disk
    cdef uint64_t number = disk.groups.first
    cdef uint64_t tail = core.ring.tail + core.ring.area // 16
    cdef uint64_t slot = core.ring.slot_tail, reserve = rewind_reserve(core)
    if end + reserve > core.ring.area + tail:
        tail = end + reserve - core.ring.area
    if core.ring.slot_head - core.ring.slot_tail >= core.ring.slots:
        slot += core.ring.slots // 16 + 1
    while number < disk.groups.next:
        if group_at(disk, number).position >= tail and group_at(disk, number).slot >= slot:
            break
        number += 1
    return number


cdef int disk_evict(Core* core, uint64_t end) noexcept nogil:
    """Let the oldest groups go: a sixteenth of the ring, or what it takes to get to `end`.

    Before their blocks are used again, every superblock durably names the new tail (R6).
    """
    cdef uint64_t number
    cdef int status = log_wait(core.disk, &core.fault)
    if status != OK:
        return status
    if core.settings.refuse:
        core.reclaim.full_by = FULL_OTHERWISE
        return E_FULL
    if core.settings.guarded:
        return guarded_evict(core, end)
    number = evict_target(core, end)
    if number == core.disk.groups.next and open_count(&core.ring, core.disk):
        return log_commit(core)    # all closed groups would have to go: the open one is closed
    if number == core.disk.groups.first and core.disk.tail_named == core.ring.tail:
        return E_TOO_LARGE
    return disk_evict_to(core, number)


cdef int log_place(Core* core, uint64_t room, uint64_t reserve, uint64_t* position) noexcept nogil:
    """A place for one more entry that leaves `reserve` bytes of the log free."""
    cdef Disk* disk = core.disk
    cdef uint64_t count, cursor, end
    cdef int status
    while True:
        count = open_count(&core.ring, core.disk)
        cursor = disk.groups.cursor if count else disk.groups.start + GROUP_HEAD_BYTES
        end = group_end(cursor + room, count + 1)
        if count and end - disk.groups.start > disk.groups.max:
            status = log_commit(core)
            if status == OK:
                status = disk_tidy(core)
        elif end > disk.ram.tail + disk.ram.size and in_force(RULE_RAM_BOUND):
            status = ram_make_room(core)
        elif (end > disk.tail_named + core.ring.area - reserve and in_force(RULE_LOG_BOUND)
                or core.ring.slot_head - core.ring.slot_tail >= core.ring.slots):
            status = disk_evict(core, end)
        else:
            position[0] = cursor
            ram_prepare(disk, cursor, end)
            return OK
        if status != OK:
            return status


cdef int disk_reserve(Core* core, uint64_t room, uint64_t* position) noexcept nogil:
    """Make room for one more entry; nothing of it is claimed yet."""
    cdef int status = OK
    if room > core.disk.ram.size // 2 - 2 * LOG_BLOCK_BYTES:
        return E_TOO_LARGE
    if core.settings.guarded:
        status = disk_reclaim(core, room)
    return log_place(core, room, rewind_reserve(core), position) if status == OK else status


cdef void disk_append(Core* core, EntryHeader* entry, uint64_t room) noexcept nogil:
    """Publish `entry`: the caller has reserved `room` at entry.position and filled the images."""
    entry_publish(core, entry)
    core.ring.slot_head += 1
    core.disk.groups.cursor = entry.position + room
    core.since_rewind += room
    if core.settings.watched:
        watch_room(&core.ring, &core.reclaim, core.disk.groups.cursor - core.ring.tail)
