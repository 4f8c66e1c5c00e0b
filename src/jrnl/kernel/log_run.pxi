# A run of the log without the bytes: will it all fit, and what is the oldest state then?
#
# Takes: ring, log, reclaim

cdef inline uint64_t rewind_reserve(const Core* core) noexcept nogil:
    """Bytes of the log that only a REWIND's group may take: a full one can be rewound, too."""
    return LOG_BLOCK_BYTES if core.rules.refuse or core.folds.on or keeps_some(core) else 0


cdef struct LogRun:
    uint64_t start
    uint64_t cursor
    uint64_t count
    uint64_t slots


cdef void run_begin(const Core* core, LogRun* run) noexcept nogil:
    run.start = core.disk.groups.start
    run.cursor = core.disk.groups.cursor
    run.count = open_count(core)
    run.slots = core.ring.slot_head - core.ring.slot_tail


cdef bint run_take(const Core* core, LogRun* run, uint64_t room) noexcept nogil:
    """Add an entry whose images take `room` bytes; False where it does not fit."""
    cdef uint64_t cursor = run.cursor if run.count else run.start + GROUP_HEAD_BYTES
    cdef uint64_t end = group_end(cursor + room, run.count + 1)
    if run.count and end - run.start > core.disk.groups.max:
        run.start = group_end(run.cursor, run.count)
        run.count = 0
        cursor = run.start + GROUP_HEAD_BYTES
        end = group_end(cursor + room, 1)
    run.cursor = cursor + room
    run.count += 1
    run.slots += 1
    return (end <= core.ring.tail + core.ring.area - rewind_reserve(core)
            and run.slots <= core.ring.slots)


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
    plan.open_ns = core.clock.now_ns
    if plan.run.count:
        plan.open_ns = header_at(core, core.disk.groups.first_slot).time_ns
    plan.group_first = core.disk.groups.first
    plan.group_next = core.disk.groups.next
    plan.tail = core.ring.tail
    plan.slot_tail = core.ring.slot_tail
    plan.slot_head = core.ring.slot_head


cdef GroupRecord plan_group(const LogPlan* plan, uint64_t number) noexcept nogil:
    if number < plan.core.disk.groups.next:
        return group_at(plan.core.disk, number)[0]
    return plan.groups[number - plan.core.disk.groups.next]


cdef void plan_close(LogPlan* plan) noexcept nogil:
    """Seal the open group."""
    cdef GroupRecord* group = &plan.groups[plan.group_next - plan.core.disk.groups.next]
    group.position = plan.run.start
    group.slot = plan.slot_head - plan.run.count
    plan.group_next += 1
    plan.open_ns = plan.core.clock.now_ns
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
    elif plan.run.start - plan.ram_tail > plan.core.disk.ram.size // 2:
        plan_freeze(plan)


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


cdef inline uint64_t disk_room(const Core* core, uint64_t offset, uint64_t length) noexcept nogil:
    """Bytes of the images of one WRITE."""
    cdef uint64_t span = sector_span(offset, length)
    return 2 * span if core.rules.images == IMAGES_BOTH else span
