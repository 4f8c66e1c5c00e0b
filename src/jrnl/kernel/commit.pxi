# A flush seals the open group: one write, one sync. What a failure poisons; what is recorded.
#
# Takes: sabotage, hash, lock, signals, device, ring, log

cdef int poison(Fault* fault, int status) noexcept nogil:
    """What was to become durable may not be: nothing is written any more until it is reopened."""
    if in_force(RULE_POISON):
        fault.poisoned = fault.error if fault.error else EIO
    return status


cdef int disk_record(Core* core) noexcept nogil:
    """Have the superblocks name what is so now, durably in every copy."""
    cdef int status
    if core.fault.poisoned:
        return E_POISONED
    status = _call_record(core, core.disk.hooks.record)
    if status != OK:
        return poison(&core.fault, status)
    core.disk.commit.recorded_number = core.disk.commit.durable_number
    core.disk.tail_named = core.ring.tail
    return OK


cdef int _call_record(Core* core, void* record) noexcept nogil:
    global jrnl_inside
    cdef void* before = jrnl_inside
    with gil:
        jrnl_inside = <void*>core
        try:
            _to_the_end(<object>record, CatalogFull)
            return OK
        except BaseException as problem:
            return _note_error(problem, &core.fault.error)
        finally:
            jrnl_inside = before


cdef int log_seal(Disk* disk, Ring* ring, uint64_t* start, uint64_t* end) noexcept nogil:
    """Close the open group in memory, and open the next one behind it."""
    cdef uint64_t count = open_count(ring, disk), k, rest
    cdef GroupHeader* head = <GroupHeader*>ram_at(disk, disk.groups.start)
    cdef EntryHeader* headers = <EntryHeader*>(<uint8_t*>head + sizeof(GroupHeader))
    cdef EntryHeader* others = <EntryHeader*>ram_at(disk, align_up(disk.groups.cursor))
    if group_push(disk, disk.groups.start, disk.groups.first_slot) != OK:
        return E_NO_MEMORY
    header_at(ring, disk.groups.first_slot).flags |= FLAG_GROUP
    header_at(ring, disk.groups.first_slot).header_sum = header_hash(
        ring, header_at(ring, disk.groups.first_slot), disk.groups.first_slot)
    memset(head, 0, GROUP_HEAD_BYTES)
    for k in range(count):
        if k < GROUP_HEADERS:
            headers[k] = header_at(ring, disk.groups.first_slot + k)[0]
        else:
            others[k - GROUP_HEADERS] = header_at(ring, disk.groups.first_slot + k)[0]
    rest = count - GROUP_HEADERS if count > GROUP_HEADERS else 0
    start[0] = disk.groups.start
    end[0] = group_end(disk.groups.cursor, count)
    memset(others + rest, 0, end[0] - align_up(disk.groups.cursor) - rest * HEADER_BYTES)
    head.magic = GROUP_MAGIC
    head.epoch = disk.epoch
    head.number = disk.groups.next
    head.position = disk.groups.start
    head.length = end[0] - disk.groups.start
    head.headers_at = align_up(disk.groups.cursor) - disk.groups.start
    head.first_slot = disk.groups.first_slot
    head.first_seq = header_at(ring, disk.groups.first_slot).seq
    head.last_seq = ring.seq
    head.durable_seq = disk.commit.durable_seq
    # A rewind to a later state needs no intent.
    head.synced_seq = disk.back.named_seq if in_force(RULE_NAMED_SEQ) else disk.back.synced_seq
    head.base_seq = ring.base_seq
    head.count = count
    head.headers_sum = group_headers_sum(headers, others, count)
    head.header_sum = seeded_hash64(head, GROUP_SUMMED_BYTES, group_seed(
        disk, disk.epoch, disk.groups.next, disk.groups.start))
    disk.groups.next += 1
    disk.groups.start = disk.groups.cursor = end[0]
    disk.groups.first_slot = ring.slot_head
    return OK


cdef int log_put(Core* core, uint64_t start, uint64_t end) noexcept nogil:
    """Write a sealed group and sync the log. Needs no lock but that nobody else does so."""
    cdef uint64_t place = start % core.ring.area
    cdef uint64_t part = core.ring.area - place
    cdef int error = 0
    cdef int status
    if part > end - start:
        part = end - start
    status = device_write(&core.disk.log, ram_at(core.disk, start), part, LOG_HEAD_BYTES + place,
                          &error)
    if status == OK and start + part < end:
        status = device_write(&core.disk.log, ram_at(core.disk, start + part),
                              end - start - part, LOG_HEAD_BYTES, &error)
    if status == OK:
        status = device_sync(&core.disk.log, &error)
    if status != OK:
        core.fault.error = error
    return status


cdef int log_wait(Disk* disk, Fault* fault) noexcept nogil:
    """Wait for the group that is on its way. The core's lock is held, so no other one follows."""
    pthread_mutex_lock(disk.commit.mutex)
    while disk.commit.writing:
        pthread_cond_wait(disk.commit.done, disk.commit.mutex)
    pthread_mutex_unlock(disk.commit.mutex)
    return E_POISONED if fault.poisoned else OK


cdef void log_landed(Disk* disk, Fault* fault, uint64_t seq, uint64_t number,
                     int status) noexcept nogil:
    """The group `number` is durable, up to `seq`; or it could not be made so."""
    if status == OK:
        disk.commit.durable_seq = seq
        disk.commit.recorded_number = number
        disk.commit.durable_number = number + 1
        if disk.rewind.seq and seq >= disk.rewind.seq:
            disk.rewind.seq = 0
        disk.commit.count += 1
    else:
        poison(fault, status)


cdef int log_commit(Core* core) noexcept nogil:
    """Make all entries durable. The lock is held throughout."""
    cdef uint64_t start = 0, end = 0
    cdef int status = log_wait(core.disk, &core.fault)
    if status != OK or open_count(&core.ring, core.disk) == 0:
        return status
    status = log_seal(core.disk, &core.ring, &start, &end)
    if status != OK:
        return status
    status = log_put(core, start, end)
    log_landed(core.disk, &core.fault, core.ring.seq, core.disk.groups.next - 1, status)
    return status


cdef int log_flush(Core* core, uint64_t target) noexcept nogil:
    """Make the entries up to `target` durable; others may write meanwhile.

    Called without the lock. One thread writes what all have waiting; a thread whose entries came
    too late for it waits for the next group, which the first to wake seals.
    """
    cdef Disk* disk = core.disk
    cdef uint64_t start = 0, end = 0, seq, number
    cdef int status = OK
    while True:
        core_lock(core)
        pthread_mutex_lock(disk.commit.mutex)
        if disk.commit.writing and disk.commit.durable_seq < target:
            core_unlock(core)
            while disk.commit.writing and disk.commit.durable_seq < target:
                pthread_cond_wait(disk.commit.done, disk.commit.mutex)
            pthread_mutex_unlock(disk.commit.mutex)
            continue
        if (disk.commit.durable_seq >= target or core.fault.poisoned or core.closed
                or open_count(&core.ring, core.disk) == 0):
            status = E_POISONED if core.fault.poisoned and disk.commit.durable_seq < target else OK
            pthread_mutex_unlock(disk.commit.mutex)
            core_unlock(core)
            return status
        status = log_seal(core.disk, &core.ring, &start, &end)
        disk.commit.writing = status == OK
        seq = core.ring.seq
        number = disk.groups.next - 1
        pthread_mutex_unlock(disk.commit.mutex)
        core_unlock(core)
        if status != OK:
            return status
        status = log_put(core, start, end)
        pthread_mutex_lock(disk.commit.mutex)
        log_landed(core.disk, &core.fault, seq, number, status)
        disk.commit.writing = False
        pthread_cond_broadcast(disk.commit.done)
        pthread_mutex_unlock(disk.commit.mutex)
        if status != OK:
            return status
