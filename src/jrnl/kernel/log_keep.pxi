# On disk: which groups may leave, which have to, and whether a batch fits a log of which some stay.
#
# A plan of the log (log_run.pxi) decides, be it of the log as it is or of a run in which it has
# gone on; so what is said beforehand is what happens.
#
# Takes: ring, log, reclaim, commit, leave, log_run

cdef uint64_t plan_slot(const LogPlan* plan, uint64_t number) noexcept nogil:
    """The slot behind the groups before `number`."""
    if number < plan.group_next:
        return plan_group(plan, number).slot
    return plan.slot_head - plan.run.count


cdef uint64_t plan_position(const LogPlan* plan, uint64_t number) noexcept nogil:
    """The position behind the groups before `number`."""
    if number < plan.group_next:
        return plan_group(plan, number).position
    return plan.run.start


cdef void group_last(const LogPlan* plan, uint64_t number, uint64_t* seq,
                     int64_t* time_ns) noexcept nogil:
    """The newest entry of a closed group."""
    cdef uint64_t slot = plan_slot(plan, number + 1)
    if slot > plan.core.ring.slot_head:
        seq[0] = plan.core.seq + (slot - plan.core.ring.slot_head)    # one that the plan has added
        time_ns[0] = plan.core.clock.now_ns
    elif slot > plan.core.ring.slot_tail:
        seq[0] = seq_before_slot(plan.core, slot)
        time_ns[0] = time_before_slot(plan.core, slot)
    else:
        seq[0] = plan.core.base_seq    # groups without an entry, behind damage
        time_ns[0] = plan.core.base_time_ns


cdef uint64_t plan_kept(const LogPlan* plan) noexcept nogil:
    """The number of the oldest group that may not leave; the open one's where all may."""
    cdef uint64_t number = plan.group_first, seq = 0
    cdef int64_t time_ns = 0
    while number < plan.group_next:
        group_last(plan, number, &seq, &time_ns)
        if not may_leave(plan.core, seq, time_ns):
            break
        number += 1
    return number


cdef uint64_t group_kept(Core* core) noexcept nogil:
    """The same of the log as it is."""
    cdef LogPlan plan
    plan_here(core, &plan)
    return plan_kept(&plan)


cdef bint plan_fits(const LogPlan* plan, uint64_t number, uint64_t end) noexcept nogil:
    """Whether one more entry, up to `end`, fits once the groups before `number` have gone."""
    return (end <= plan_position(plan, number) + plan.core.ring.area - rewind_reserve(plan.core)
            and plan.slot_head - plan_slot(plan, number) < plan.core.ring.slots)


cdef uint64_t plan_stop(const LogPlan* plan, uint64_t end, uint64_t last) noexcept nogil:
    """The first group, up to `last`, from which on no more than the lower threshold is in use."""
    cdef const Reclaim* reclaim = &plan.core.reclaim
    cdef uint64_t number = plan.group_first
    while number < last and is_beyond(plan.slot_head - plan_slot(plan, number) + 1,
                                      end - plan_position(plan, number), reclaim.stop_slots,
                                      reclaim.stop_bytes):
        number += 1
    return number


cdef int plan_target(const LogPlan* plan, uint64_t end, uint64_t* number) noexcept nogil:
    """Which group is the oldest after making room up to `end`; E_FULL where that cannot be done."""
    cdef uint64_t kept = plan_kept(plan), least = plan.group_first, wanted
    cdef uint64_t tail = plan.tail + plan.core.ring.area // 16
    while least < kept and not plan_fits(plan, least, end):
        least += 1
    if not plan_fits(plan, least, end):
        if kept == plan.group_next and plan.run.count:
            number[0] = plan.group_first
            return OK        # all closed groups would not do: the open one is closed first
        return E_FULL if keeps_some(plan.core) else E_TOO_LARGE
    if plan.core.reclaim.start_slots != NO_SLOT:
        wanted = plan_stop(plan, end, kept)
    else:
        wanted = plan.group_first
        while wanted < kept and (plan_position(plan, wanted) < tail or (
                plan.slot_head - plan.slot_tail >= plan.core.ring.slots
                and plan_slot(plan, wanted) < plan.slot_tail + plan.core.ring.slots // 16 + 1)):
            wanted += 1
    number[0] = wanted if wanted > least else least
    return OK


cdef int guarded_evict(Core* core, uint64_t end) noexcept nogil:
    """Let groups go to make room up to `end`, where not all may leave. None is on its way.

    The open group is closed first, which moves `end`: what leaves after that is sure to be enough.
    """
    cdef LogPlan plan
    cdef uint64_t number = 0
    cdef int status
    plan_here(core, &plan)
    status = plan_target(&plan, end, &number)
    if status != OK:
        return status
    if plan.run.count:
        return log_commit(core)
    return disk_evict_to(core, number)


cdef int plan_guarded_evict(LogPlan* plan, uint64_t end) noexcept nogil:
    """What guarded_evict does."""
    cdef uint64_t number = 0
    cdef int status = plan_target(plan, end, &number)
    if status != OK:
        return status
    if plan.run.count:
        plan_commit(plan)
    elif number == plan.group_first:
        return E_TOO_LARGE
    else:
        plan_leave(plan, number)
    return OK


# What leaves though there is room: all beyond the upper threshold, and what is too old. Both go on
# as far as they may, and are no reason to refuse.

cdef uint64_t plan_expired(const LogPlan* plan) noexcept nogil:
    """The oldest group that is not too old. They leave a sixteenth of the duration at a time."""
    cdef int64_t most = plan.core.reclaim.most_ns
    cdef uint64_t number = plan.group_first, seq = 0
    cdef int64_t time_ns = 0
    while most and number < plan.group_next:
        group_last(plan, number, &seq, &time_ns)
        if not must_leave(plan.core, time_ns) or not may_leave(plan.core, seq, time_ns):
            break
        if number == plan.group_first and age_of(plan.core, time_ns) <= (
                <uint64_t>most + <uint64_t>most // STEPS):
            break
        number += 1
    return number


cdef uint64_t plan_surplus(const LogPlan* plan, uint64_t room) noexcept nogil:
    """The oldest group to stay where one more entry would take more than the upper threshold."""
    cdef const Reclaim* reclaim = &plan.core.reclaim
    cdef uint64_t cursor = plan.run.cursor if plan.run.count else plan.run.start + GROUP_HEAD_BYTES
    cdef uint64_t end = group_end(cursor + room, plan.run.count + 1), closed = end, number
    if not is_beyond(plan.slot_head - plan.slot_tail + 1, end - plan.tail, reclaim.start_slots,
                     reclaim.start_bytes):
        return plan.group_first
    number = plan_stop(plan, end, plan_kept(plan))
    if keeps_some(plan.core):
        # Nothing leaves for an entry that is refused after all; the open group may be closed first.
        if plan.run.count:
            closed = group_end(plan.run.cursor, plan.run.count) + GROUP_HEAD_BYTES
            closed = group_end(closed + room, 1)
        if not plan_fits(plan, number, closed):
            return plan.group_first
    return number


cdef bint plan_closes(const LogPlan* plan) noexcept nogil:
    """Whether the open group is closed, so that it can leave in time."""
    cdef int64_t most = plan.core.reclaim.most_ns
    return (most != 0 and plan.run.count != 0
            and age_of(plan.core, plan.open_ns) > <uint64_t>most // STEPS)


cdef int disk_expire(Core* core) noexcept nogil:
    """Let the groups go that are too old."""
    cdef LogPlan plan
    cdef uint64_t number
    cdef int status = OK
    plan_here(core, &plan)
    if plan_closes(&plan):
        status = log_commit(core)
        plan_here(core, &plan)
    number = plan_expired(&plan)
    if status == OK and number > plan.group_first:
        status = log_wait(core)
        if status == OK:
            status = disk_evict_to(core, number)
    return status


cdef int disk_reclaim(Core* core, uint64_t room) noexcept nogil:
    """Before one more entry: let go what leaves though there is room."""
    cdef LogPlan plan
    cdef uint64_t number
    cdef int status = OK
    if core.reclaim.most_ns:
        status = disk_expire(core)
    if status == OK and core.reclaim.start_slots != NO_SLOT:
        plan_here(core, &plan)
        number = plan_surplus(&plan, room)
        if number > plan.group_first:
            status = log_wait(core)
            if status == OK:
                status = disk_evict_to(core, number)
    return status


cdef void plan_reclaim(LogPlan* plan, uint64_t room) noexcept nogil:
    """What disk_reclaim does."""
    cdef uint64_t number
    if plan.core.reclaim.most_ns:
        if plan_closes(plan):
            plan_commit(plan)
        number = plan_expired(plan)
        if number > plan.group_first:
            plan_leave(plan, number)
    if plan.core.reclaim.start_slots != NO_SLOT:
        number = plan_surplus(plan, room)
        if number > plan.group_first:
            plan_leave(plan, number)


# Whether a batch fits. How its entries fall into groups is a guess: the rooms are the most that
# they can take, and each group that is closed may be wrong by a block.
