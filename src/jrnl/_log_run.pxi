# A run of the log without the bytes: will it all fit, and what is the oldest state then?

cdef struct LogRun:
    uint64_t start
    uint64_t cursor
    uint64_t count
    uint64_t slots


cdef void run_begin(const Core* core, LogRun* run) noexcept nogil:
    run.start = core.disk.start
    run.cursor = core.disk.cursor
    run.count = open_count(core)
    run.slots = core.ring.slot_head - core.ring.slot_tail


cdef bint run_take(const Core* core, LogRun* run, uint64_t room) noexcept nogil:
    """Add an entry whose images take `room` bytes; False where it does not fit."""
    cdef uint64_t cursor = run.cursor if run.count else run.start + GROUP_HEAD_BYTES
    cdef uint64_t end = group_end(cursor + room, run.count + 1)
    if run.count and end - run.start > core.disk.group_max:
        run.start = group_end(run.cursor, run.count)
        run.count = 0
        cursor = run.start + GROUP_HEAD_BYTES
        end = group_end(cursor + room, 1)
    run.cursor = cursor + room
    run.count += 1
    run.slots += 1
    return (end <= core.ring.tail + core.ring.area - core.disk.reserve
            and run.slots <= core.ring.slots)


cdef int disk_room_check(Core* core, const int64_t* lengths, uint64_t length,
                         uint64_t count) noexcept nogil:
    """Whether so many writes fit, wherever they begin."""
    cdef LogRun run
    cdef uint64_t k
    if core.guarded:
        return guarded_room_check(core, NULL, lengths, length, count)
    if not core.refuse:
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
    if core.guarded:
        return guarded_zero_check(core, offset, length)
    if not core.refuse:
        return OK
    run_begin(core, &run)
    while length:
        piece = length if length < core.piece_max else core.piece_max
        if not run_take(core, &run, 2 * sector_span(offset, piece)):
            return E_FULL
        offset += piece
        length -= piece
    return OK


# What a restore pushes out. Its groups are simulated behind those that there are.

cdef struct LogPlan:
    Core* core
    LogRun run
    int64_t open_ns              # time of the open group's first entry
    uint64_t slack               # bytes by which a guess at groups may be wrong
    bint guess
    GroupRecord* groups          # the simulated ones
    uint64_t group_first
    uint64_t group_next
    uint64_t tail
    uint64_t slot_tail
    uint64_t slot_head
    uint64_t synced_slot         # entries before it are in the volumes' files
    uint64_t ram_tail
    uint64_t recorded_number
    bint frozen
    uint64_t frozen_end
    uint64_t frozen_number
    uint64_t frozen_slot


cdef void plan_here(Core* core, LogPlan* plan) noexcept nogil:
    """A plan that begins with the log as it is."""
    memset(plan, 0, sizeof(LogPlan))
    plan.core = core
    run_begin(core, &plan.run)
    plan.open_ns = core.time_ns
    if plan.run.count:
        plan.open_ns = header_at(core, core.disk.first_slot).time_ns
    plan.group_first = core.disk.group_first
    plan.group_next = core.disk.group_next
    plan.tail = core.ring.tail
    plan.slot_tail = core.ring.slot_tail
    plan.slot_head = core.ring.slot_head


cdef GroupRecord plan_group(const LogPlan* plan, uint64_t number) noexcept nogil:
    if number < plan.core.disk.group_next:
        return group_at(plan.core.disk, number)[0]
    return plan.groups[number - plan.core.disk.group_next]


cdef void plan_close(LogPlan* plan) noexcept nogil:
    """Seal the open group."""
    cdef GroupRecord* group = &plan.groups[plan.group_next - plan.core.disk.group_next]
    group.position = plan.run.start
    group.slot = plan.slot_head - plan.run.count
    plan.group_next += 1
    plan.open_ns = plan.core.time_ns
    if plan.guess:
        plan.slack += LOG_BLOCK_BYTES
    plan.run.start = plan.run.cursor = group_end(plan.run.cursor, plan.run.count)
    plan.run.count = 0


cdef void plan_commit(LogPlan* plan) noexcept nogil:
    """What log_commit does."""
    if plan.run.count:
        plan_close(plan)
        plan.recorded_number = plan.group_next - 1


cdef void plan_freeze(LogPlan* plan) noexcept nogil:
    plan.frozen = True
    plan.frozen_end = plan.run.start
    plan.frozen_number = plan.group_next
    plan.frozen_slot = plan.slot_head


cdef void plan_write_back(LogPlan* plan) noexcept nogil:
    """What write_back does."""
    plan_commit(plan)
    if not plan.frozen:
        plan_freeze(plan)
    if plan.recorded_number < plan.frozen_number:
        plan.recorded_number = plan.group_next
    plan.synced_slot = plan.frozen_slot
    plan.ram_tail = plan.frozen_end
    plan.frozen = False


cdef void plan_tidy(LogPlan* plan) noexcept nogil:
    """What disk_tidy does."""
    if plan.frozen:
        if plan.recorded_number >= plan.frozen_number:
            plan_write_back(plan)
    elif plan.run.start - plan.ram_tail > plan.core.disk.ram_size // 2:
        plan_freeze(plan)


cdef int plan_evict(LogPlan* plan, uint64_t end) noexcept nogil:
    """What disk_evict does."""
    cdef uint64_t area = plan.core.ring.area, slots = plan.core.ring.slots
    cdef uint64_t tail = plan.tail + area // 16, slot = plan.slot_tail
    cdef uint64_t number = plan.group_first
    cdef GroupRecord group
    if plan.core.refuse:
        return E_FULL
    if plan.core.guarded:
        return plan_guarded_evict(plan, end)
    if end + plan.core.disk.reserve > area + tail:
        tail = end + plan.core.disk.reserve - area
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


cdef void plan_leave(LogPlan* plan, uint64_t number) noexcept nogil:
    """What disk_evict_to does."""
    plan.tail = plan.run.start
    plan.slot_tail = plan.slot_head - plan.run.count
    if number < plan.group_next:
        plan.tail = plan_group(plan, number).position
        plan.slot_tail = plan_group(plan, number).slot
    plan.group_first = number
    if plan.slot_tail > plan.synced_slot:
        if plan.frozen:
            plan_write_back(plan)
        plan_write_back(plan)
    plan.recorded_number = plan.group_next


cdef int plan_take(LogPlan* plan, uint64_t room) noexcept nogil:
    """What disk_reserve and disk_take do."""
    cdef uint64_t cursor, end
    cdef int status
    if plan.core.guarded:
        plan_reclaim(plan, room)
    while True:
        cursor = plan.run.cursor if plan.run.count else plan.run.start + GROUP_HEAD_BYTES
        end = group_end(cursor + room, plan.run.count + 1)
        if plan.run.count and end - plan.run.start > plan.core.disk.group_max:
            plan_commit(plan)
            plan_tidy(plan)
        elif end > plan.ram_tail + plan.core.disk.ram_size:
            plan_write_back(plan)
        elif (end + plan.slack > plan.tail + plan.core.ring.area - plan.core.disk.reserve
                or plan.slot_head - plan.slot_tail >= plan.core.ring.slots):
            status = plan_evict(plan, end + plan.slack)
            if status != OK:
                return status
        else:
            plan.run.cursor = cursor + room
            plan.run.count += 1
            plan.slot_head += 1
            return OK


cdef int disk_restore_simulate(Core* core, const int64_t* offsets, const int64_t* lengths,
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
            if core.disk.always:
                plan_commit(&plan)
                plan_tidy(&plan)
    oldest[0] = core.base_seq
    if plan.slot_tail > core.ring.slot_head:
        oldest[0] = core.seq + (plan.slot_tail - core.ring.slot_head)
    elif plan.slot_tail > core.ring.slot_tail:
        oldest[0] = seq_before_slot(core, plan.slot_tail)
    free(plan.groups)
    return status
