# On disk: which groups may leave, which have to, and whether a batch fits a log of which some stay.
#
# A forecast (log_forecast.pxi) decides, be it of the log as it is or of the log as it will be; so
# what is said beforehand is what happens.
#
# Takes: ring, log, reclaim, commit, log_evict, log_forecast

cdef uint64_t forecast_slot(const LogForecast* ahead, uint64_t number) noexcept nogil:
    """The slot behind the groups before `number`."""
    if number < ahead.group_next:
        return forecast_group(ahead, number).slot
    return ahead.slot_head - ahead.open.count


cdef uint64_t forecast_position(const LogForecast* ahead, uint64_t number) noexcept nogil:
    """The position behind the groups before `number`."""
    if number < ahead.group_next:
        return forecast_group(ahead, number).position
    return ahead.open.start


cdef void group_last(const LogForecast* ahead, uint64_t number, uint64_t* seq,
                     int64_t* time_ns) noexcept nogil:
    """The newest entry of a closed group."""
    cdef uint64_t slot = forecast_slot(ahead, number + 1)
    if slot > ahead.core.ring.slot_head:
        seq[0] = ahead.core.ring.seq + (slot - ahead.core.ring.slot_head)    # one that is to come
        time_ns[0] = ahead.core.clock.now_ns
    elif slot > ahead.core.ring.slot_tail:
        seq[0] = seq_before_slot(&ahead.core.ring, slot)
        time_ns[0] = time_before_slot(&ahead.core.ring, &ahead.core.clock, slot)
    else:
        seq[0] = ahead.core.ring.base_seq    # groups without an entry, behind damage
        time_ns[0] = ahead.core.ring.base_time_ns


cdef uint64_t forecast_retained(const LogForecast* ahead) noexcept nogil:
    """The number of the oldest group that may not leave; the open one's where all may."""
    cdef uint64_t number = ahead.group_first, seq = 0
    cdef int64_t time_ns = 0
    while number < ahead.group_next:
        group_last(ahead, number, &seq, &time_ns)
        if not is_evictable(ahead.core, seq, time_ns):
            break
        number += 1
    return number


cdef uint64_t retained_group(Core* core) noexcept nogil:
    """The same of the log as it is."""
    cdef LogForecast ahead
    forecast_here(core, &ahead)
    return forecast_retained(&ahead)


cdef bint forecast_fits(const LogForecast* ahead, uint64_t number, uint64_t end) noexcept nogil:
    """Whether one more entry, up to `end`, fits once the groups before `number` have gone."""
    cdef uint64_t area = ahead.core.ring.area - rewind_reserve(ahead.core)
    return (end <= forecast_position(ahead, number) + area
            and ahead.slot_head - forecast_slot(ahead, number) < ahead.core.ring.slots)


cdef uint64_t forecast_stop(const LogForecast* ahead, uint64_t end, uint64_t last) noexcept nogil:
    """The first group, up to `last`, from which on no more than the lower threshold is in use."""
    cdef const Reclaim* reclaim = &ahead.core.reclaim
    cdef uint64_t number = ahead.group_first
    while number < last and is_beyond(ahead.slot_head - forecast_slot(ahead, number) + 1,
                                      end - forecast_position(ahead, number), reclaim.stop_slots,
                                      reclaim.stop_bytes):
        number += 1
    return number


cdef int forecast_target(const LogForecast* ahead, uint64_t end, uint64_t* number) noexcept nogil:
    """Which group is the oldest after making room up to `end`; E_FULL where that cannot be done."""
    cdef uint64_t retained = forecast_retained(ahead), least = ahead.group_first, wanted
    cdef uint64_t tail = ahead.tail + ahead.core.ring.area // 16
    cdef uint64_t slot = ahead.slot_tail + ahead.core.ring.slots // 16 + 1
    while least < retained and not forecast_fits(ahead, least, end):
        least += 1
    if not forecast_fits(ahead, least, end):
        if retained == ahead.group_next and ahead.open.count:
            number[0] = ahead.group_first
            return OK        # all closed groups would not do: the open one is closed first
        return E_FULL if retains_some(ahead.core) else E_TOO_LARGE
    if ahead.core.reclaim.start_slots != NO_SLOT:
        wanted = forecast_stop(ahead, end, retained)
    else:
        wanted = ahead.group_first
        while wanted < retained and (forecast_position(ahead, wanted) < tail or (
                ahead.slot_head - ahead.slot_tail >= ahead.core.ring.slots
                and forecast_slot(ahead, wanted) < slot)):
            wanted += 1
    number[0] = wanted if wanted > least else least
    return OK


cdef int guarded_evict(Core* core, uint64_t end) noexcept nogil:
    """Let groups go to make room up to `end`, where not all may leave. None is on its way.

    The open group is closed first, which moves `end`: what leaves after that is sure to be enough.
    """
    cdef LogForecast ahead
    cdef uint64_t number = 0
    cdef int status
    forecast_here(core, &ahead)
    status = forecast_target(&ahead, end, &number)
    if status != OK:
        return status
    if ahead.open.count:
        return log_commit(core)
    return disk_evict_to(core, number)


cdef int forecast_guarded_evict(LogForecast* ahead, uint64_t end) noexcept nogil:
    """What guarded_evict does."""
    cdef uint64_t number = 0
    cdef int status = forecast_target(ahead, end, &number)
    if status != OK:
        return status
    if ahead.open.count:
        forecast_commit(ahead)
    elif number == ahead.group_first:
        return E_TOO_LARGE
    else:
        forecast_evict_to(ahead, number)
    return OK


# What leaves though there is room: all beyond the upper threshold, and what is too old. Both go on
# as far as they may, and are no reason to refuse.

cdef uint64_t forecast_expired(const LogForecast* ahead) noexcept nogil:
    """The oldest group that is not too old. They leave a sixteenth of the duration at a time."""
    cdef int64_t most = ahead.core.reclaim.most_ns
    cdef uint64_t number = ahead.group_first, seq = 0
    cdef int64_t time_ns = 0
    while most and number < ahead.group_next:
        group_last(ahead, number, &seq, &time_ns)
        if not is_overdue(&ahead.core.reclaim, &ahead.core.clock,
                          time_ns) or not is_evictable(ahead.core, seq, time_ns):
            break
        if number == ahead.group_first and age_of(&ahead.core.clock, time_ns) <= (
                <uint64_t>most + <uint64_t>most // STEPS):
            break
        number += 1
    return number


cdef uint64_t forecast_surplus(const LogForecast* ahead, uint64_t room) noexcept nogil:
    """The oldest group to stay where one more entry would take more than the upper threshold."""
    cdef const Reclaim* reclaim = &ahead.core.reclaim
    cdef uint64_t cursor = open_group_cursor(&ahead.open)
    cdef uint64_t end = group_end(cursor + room, ahead.open.count + 1), closed = end, number
    if not is_beyond(ahead.slot_head - ahead.slot_tail + 1, end - ahead.tail, reclaim.start_slots,
                     reclaim.start_bytes):
        return ahead.group_first
    number = forecast_stop(ahead, end, forecast_retained(ahead))
    if retains_some(ahead.core):
        # Nothing leaves for an entry that is refused after all; the open group may be closed first.
        if ahead.open.count:
            closed = group_end(ahead.open.cursor, ahead.open.count) + GROUP_HEAD_BYTES
            closed = group_end(closed + room, 1)
        if not forecast_fits(ahead, number, closed):
            return ahead.group_first
    return number


cdef bint forecast_closes(const LogForecast* ahead) noexcept nogil:
    """Whether the open group is closed, so that it can leave in time."""
    cdef int64_t most = ahead.core.reclaim.most_ns
    return (most != 0 and ahead.open.count != 0
            and age_of(&ahead.core.clock, ahead.open_ns) > <uint64_t>most // STEPS)


cdef int disk_expire(Core* core) noexcept nogil:
    """Let the groups go that are too old."""
    cdef LogForecast ahead
    cdef uint64_t number
    cdef int status = OK
    forecast_here(core, &ahead)
    if forecast_closes(&ahead):
        status = log_commit(core)
        forecast_here(core, &ahead)
    number = forecast_expired(&ahead)
    if status == OK and number > ahead.group_first:
        status = log_wait(core.disk, &core.fault)
        if status == OK:
            status = disk_evict_to(core, number)
    return status


cdef int disk_reclaim(Core* core, uint64_t room) noexcept nogil:
    """Before one more entry: let go what leaves though there is room."""
    cdef LogForecast ahead
    cdef uint64_t number
    cdef int status = OK
    if core.reclaim.most_ns:
        status = disk_expire(core)
    if status == OK and core.reclaim.start_slots != NO_SLOT:
        forecast_here(core, &ahead)
        number = forecast_surplus(&ahead, room)
        if number > ahead.group_first:
            status = log_wait(core.disk, &core.fault)
            if status == OK:
                status = disk_evict_to(core, number)
    return status


cdef void forecast_reclaim(LogForecast* ahead, uint64_t room) noexcept nogil:
    """What disk_reclaim does."""
    cdef uint64_t number
    if ahead.core.reclaim.most_ns:
        if forecast_closes(ahead):
            forecast_commit(ahead)
        number = forecast_expired(ahead)
        if number > ahead.group_first:
            forecast_evict_to(ahead, number)
    if ahead.core.reclaim.start_slots != NO_SLOT:
        number = forecast_surplus(ahead, room)
        if number > ahead.group_first:
            forecast_evict_to(ahead, number)


# Whether a batch fits. How its entries fall into groups is a guess: the rooms are the most that
# they can take, and each group that is closed may be wrong by a block.
