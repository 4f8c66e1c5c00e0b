# File stores: what fits, what leaves for it, and the same run without the bytes.
#
# Takes: rules, ring, log, reclaim, commit, write_back, leave, log_run, log_keep

cdef int plan_evict(LogPlan* plan, uint64_t end) noexcept nogil:
    """What disk_evict does."""
    cdef uint64_t area = plan.core.ring.area, slots = plan.core.ring.slots
    cdef uint64_t tail = plan.tail + area // 16, slot = plan.slot_tail
    cdef uint64_t number = plan.group_first
    cdef GroupRecord group
    if plan.core.rules.refuse:
        return E_FULL
    if plan.core.rules.guarded:
        return plan_guarded_evict(plan, end)
    if end + rewind_reserve(plan.core) > area + tail:
        tail = end + rewind_reserve(plan.core) - area
    if plan.slot_head - plan.slot_tail >= slots:
        slot += slots // 16 + 1
    while number < plan.group_next:
        group = plan_group(plan, number)
        if group.position >= tail and group.slot >= slot:
            break
        number += 1
    if number == plan.group_next and plan.run.count:
        plan_commit(plan)
        return OK
    if number == plan.group_first:
        return E_TOO_LARGE
    plan_leave(plan, number)
    return OK


cdef int plan_take(LogPlan* plan, uint64_t room) noexcept nogil:
    """What disk_reserve and disk_append do."""
    cdef uint64_t cursor, end
    cdef int status
    if plan.core.rules.guarded:
        plan_reclaim(plan, room)
    while True:
        cursor = plan.run.cursor if plan.run.count else plan.run.start + GROUP_HEAD_BYTES
        end = group_end(cursor + room, plan.run.count + 1)
        if plan.run.count and end - plan.run.start > plan.core.disk.groups.max:
            plan_commit(plan)
            plan_tidy(plan)
        elif end > plan.ram_tail + plan.core.disk.ram.size:
            plan_write_back(plan)
        elif (end + plan.slack > plan.tail + plan.core.ring.area - rewind_reserve(plan.core)
                or plan.slot_head - plan.slot_tail >= plan.core.ring.slots):
            status = plan_evict(plan, end + plan.slack)
            if status != OK:
                return status
        else:
            plan.run.cursor = cursor + room
            plan.run.count += 1
            plan.slot_head += 1
            return OK


cdef int plan_begin(Core* core, LogPlan* plan, uint64_t count) noexcept nogil:
    cdef const Disk* disk = core.disk
    plan_here(core, plan)
    plan.guess = True
    plan.ram_tail = disk.ram.tail
    plan.recorded_number = disk.commit.recorded_number
    plan.frozen = is_frozen(disk)
    plan.frozen_end = disk.back.frozen_end
    plan.frozen_number = disk.back.frozen_number
    if find_slot_after(core, disk.back.synced_seq, False, &plan.synced_slot) != OK:
        plan.synced_slot = core.ring.slot_tail
    if find_slot_after(core, disk.back.frozen_seq, False, &plan.frozen_slot) != OK:
        plan.frozen_slot = core.ring.slot_tail
    plan.groups = <GroupRecord*>malloc((count + 2) * sizeof(GroupRecord))
    return OK if plan.groups is not NULL else E_NO_MEMORY


cdef int guarded_room_check(Core* core, const int64_t* offsets, const int64_t* lengths,
                            uint64_t length, uint64_t count) noexcept nogil:
    """Whether so many writes fit; without `offsets`, wherever they begin."""
    cdef LogPlan plan
    cdef uint64_t k, offset
    cdef int status
    if not core.rules.refuse and not keeps_some(core):
        return OK
    status = plan_begin(core, &plan, count)
    for k in range(count):
        if status != OK:
            break
        offset = <uint64_t>offsets[k] if offsets is not NULL else SECTOR_BYTES - 1
        status = plan_take(&plan, disk_room(core, offset, <uint64_t>lengths[k]
                                            if lengths is not NULL else length))
    free(plan.groups)
    return status


cdef int guarded_zero_check(Core* core, uint64_t offset, uint64_t length) noexcept nogil:
    """Whether a discard fits, whatever it discards."""
    cdef LogPlan plan
    cdef uint64_t piece
    cdef int status
    if not core.rules.refuse and not keeps_some(core):
        return OK
    status = plan_begin(core, &plan, length // core.limits.piece_max + 1)
    while length and status == OK:
        piece = length if length < core.limits.piece_max else core.limits.piece_max
        status = plan_take(&plan, 2 * sector_span(offset, piece))
        offset += piece
        length -= piece
    free(plan.groups)
    return status


cdef int rewind_room(Core* core, uint64_t first) noexcept nogil:
    """Whether a REWIND entry has room once the entries from the slot `first` on are cut."""
    cdef LogPlan plan
    cdef uint64_t number = 0, end
    plan_here(core, &plan)
    while plan.group_next > plan.group_first and plan_group(
            &plan, plan.group_next - 1).slot >= first:
        plan.group_next -= 1
        plan.run.start = group_at(core.disk, plan.group_next).position
    end = group_end(plan.run.start + GROUP_HEAD_BYTES, 1)
    if end <= core.disk.tail_named + core.ring.area:
        return OK
    if core.rules.refuse:
        return E_FULL
    plan.slot_head = first
    plan.run.count = 0
    return plan_target(&plan, end, &number)


cdef int disk_room_check(Core* core, const int64_t* lengths, uint64_t length,
                         uint64_t count) noexcept nogil:
    """Whether so many writes fit, wherever they begin."""
    cdef LogRun run
    cdef uint64_t k
    if not may_not_evict(core):
        return OK
    if core.rules.guarded:
        return guarded_room_check(core, NULL, lengths, length, count)
    if not core.rules.refuse:
        return OK
    run_begin(core, &run)
    for k in range(count):
        if not run_take(core, &run, disk_room(core, SECTOR_BYTES - 1, <uint64_t>lengths[k]
                                              if lengths is not NULL else length)):
            return E_FULL
    return OK


cdef int disk_zero_room_check(Core* core, uint64_t offset, uint64_t length) noexcept nogil:
    """Whether a discard fits, whatever it discards."""
    cdef LogRun run
    cdef uint64_t piece
    if not may_not_evict(core):
        return OK
    if core.rules.guarded:
        return guarded_zero_check(core, offset, length)
    if not core.rules.refuse:
        return OK
    run_begin(core, &run)
    while length:
        piece = length if length < core.limits.piece_max else core.limits.piece_max
        if not run_take(core, &run, 2 * sector_span(offset, piece)):
            return E_FULL
        offset += piece
        length -= piece
    return OK


cdef int disk_restore_outcome(Core* core, const int64_t* offsets, const int64_t* lengths,
                              uint64_t count, uint64_t* oldest) noexcept nogil:
    """The oldest state after writes at offsets[k] of lengths[k], in groups of their own."""
    cdef LogPlan plan
    cdef uint64_t k
    cdef int status = E_CLOSED if core.closed else OK
    plan_here(core, &plan)
    plan.groups = <GroupRecord*>malloc((count + 2) * sizeof(GroupRecord))
    if plan.groups is NULL:
        return E_NO_MEMORY
    plan.synced_slot = core.ring.slot_head    # a restore begins with a write-back
    plan.frozen = False
    if plan.run.count:
        plan_close(&plan)
    plan.ram_tail = plan.run.start
    plan.recorded_number = plan.group_next
    for k in range(count):
        if status == OK:
            status = plan_take(&plan, disk_room(core, <uint64_t>offsets[k],
                                                <uint64_t>lengths[k]))
            if core.disk.commit.always:
                plan_commit(&plan)
                plan_tidy(&plan)
    oldest[0] = core.base_seq
    if plan.slot_tail > core.ring.slot_head:
        oldest[0] = core.seq + (plan.slot_tail - core.ring.slot_head)
    elif plan.slot_tail > core.ring.slot_tail:
        oldest[0] = seq_before_slot(core, plan.slot_tail)
    free(plan.groups)
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
    cdef int status = log_wait(core)
    if status != OK:
        return status
    if core.rules.refuse:
        core.reclaim.full_by = FULL_OTHERWISE
        return E_FULL
    if core.rules.guarded:
        return guarded_evict(core, end)
    number = evict_target(core, end)
    if number == core.disk.groups.next and open_count(core):
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
        count = open_count(core)
        cursor = disk.groups.cursor if count else disk.groups.start + GROUP_HEAD_BYTES
        end = group_end(cursor + room, count + 1)
        if count and end - disk.groups.start > disk.groups.max:
            status = log_commit(core)
            if status == OK:
                status = disk_tidy(core)
        elif end > disk.ram.tail + disk.ram.size and holds(RULE_RAM_BOUND):
            status = ram_make_room(core)
        elif (end > disk.tail_named + core.ring.area - reserve and holds(RULE_LOG_BOUND)
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
    if core.rules.guarded:
        status = disk_reclaim(core, room)
    return log_place(core, room, rewind_reserve(core), position) if status == OK else status


cdef void disk_append(Core* core, EntryHeader* entry, uint64_t room) noexcept nogil:
    """Publish `entry`: the caller has reserved `room` at entry.position and filled the images."""
    entry_publish(core, entry)
    core.ring.slot_head += 1
    core.disk.groups.cursor = entry.position + room
    core.since_rewind += room
    if core.rules.watched:
        watch_room(core, core.disk.groups.cursor - core.ring.tail)
