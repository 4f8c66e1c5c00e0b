# The log of a file store: a ring of groups on disk whose newest part is in memory, too.
#
# A position counts the log's bytes for ever. Position p lies in the file at LOG_HEAD_BYTES + p
# modulo ring.area, and in memory at p modulo ram_size, as long as p is not before ram_tail. The
# memory is mapped twice in a row, so that nothing in it is ever split.
#
#     tail          ram_tail       start        cursor
#     |... on disk only |... both ...|. open group .|
#
# A flush seals the open group: one write, one sync (docs/durability.md). One group is on its way at
# a time, so a valid group proves that all before it were synced. Locks are taken in this order: the
# core's, then commit_mutex; a group that is on its way needs only the second one to be finished.

cdef extern from *:
    """
    #include <sys/mman.h>
    #include <unistd.h>

    static unsigned long jrnl_forks;

    static void jrnl_after_fork(void) { jrnl_forks++; }

    static void jrnl_watch_forks(void) { pthread_atfork(NULL, NULL, jrnl_after_fork); }

    /* `size` bytes, mapped twice in a row. */
    static void *jrnl_map_twice(size_t size)
    {
        char *base;
        int fd = memfd_create("jrnl", MFD_CLOEXEC);
        if (fd < 0)
            return NULL;
        base = mmap(NULL, 2 * size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (base == MAP_FAILED) {
            close(fd);
            return NULL;
        }
        if (ftruncate(fd, size) != 0
            || mmap(base, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) == MAP_FAILED
            || mmap(base + size, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0)
                   == MAP_FAILED) {
            munmap(base, 2 * size);
            base = NULL;
        }
        close(fd);
        return base;
    }

    /* Give the pages out at once: one by one, each costs more than filling it. */
    static void jrnl_populate(void *start, size_t size)
    {
    #ifndef MADV_POPULATE_WRITE
    #define MADV_POPULATE_WRITE 23
    #endif
        madvise(start, size, MADV_POPULATE_WRITE);
    }

    static pthread_cond_t *jrnl_cond_new(void)
    {
        pthread_cond_t *cond = malloc(sizeof *cond);
        if (cond)
            pthread_cond_init(cond, NULL);
        return cond;
    }

    static pthread_mutex_t *jrnl_plain_mutex_new(void)
    {
        pthread_mutex_t *mutex = malloc(sizeof *mutex);
        if (mutex)
            pthread_mutex_init(mutex, NULL);
        return mutex;
    }
    """
    unsigned long jrnl_forks
    void jrnl_watch_forks()
    void* jrnl_map_twice(size_t size) noexcept nogil
    void jrnl_populate(void* start, size_t size) noexcept nogil
    pthread_cond_t* jrnl_cond_new() noexcept nogil
    pthread_mutex_t* jrnl_plain_mutex_new() noexcept nogil

cdef extern from "<pthread.h>" nogil:
    int pthread_cond_wait(pthread_cond_t* cond, pthread_mutex_t* mutex)
    int pthread_cond_broadcast(pthread_cond_t* cond)
    int pthread_cond_destroy(pthread_cond_t* cond)

cdef enum:
    RAM_CHUNK_BYTES = 1048576    # pages are asked for in pieces of this, before they are touched

cdef uint64_t GROUP_MAGIC = <uint64_t>0x6A726E6C67727570    # "purglnrj"

jrnl_watch_forks()


cdef inline uint64_t block_up(uint64_t position) noexcept nogil:
    return (position + LOG_BLOCK_BYTES - 1) & ~(<uint64_t>LOG_BLOCK_BYTES - 1)


cdef inline bint holds(const Core* core, uint64_t rule) noexcept nogil:
    """Whether no test has switched the rule off."""
    return core.disk.off & rule == 0


cdef inline uint8_t* ram_at(const Disk* disk, uint64_t position) noexcept nogil:
    return disk.ram + (position & (disk.ram_size - 1))


cdef inline uint64_t open_count(const Core* core) noexcept nogil:
    """Entries in the open group."""
    return core.ring.slot_head - core.disk.first_slot


cdef inline uint64_t group_end(uint64_t cursor, uint64_t count) noexcept nogil:
    """Where a group of `count` entries ends whose images end at `cursor`."""
    cdef uint64_t behind = count - GROUP_HEADERS if count > GROUP_HEADERS else 0
    return block_up(align_up(cursor) + behind * HEADER_BYTES)


cdef inline GroupRecord* group_at(const Disk* disk, uint64_t number) noexcept nogil:
    return &disk.groups[number & disk.groups_mask]


cdef int group_push(Disk* disk, uint64_t position, uint64_t slot) noexcept nogil:
    """Enter the group group_next; the caller counts it."""
    cdef uint64_t size = disk.groups_mask + 1, number
    cdef GroupRecord* groups
    if disk.group_next - disk.group_first >= size:
        groups = <GroupRecord*>malloc(2 * size * sizeof(GroupRecord))
        if groups is NULL:
            return E_NO_MEMORY
        for number in range(disk.group_first, disk.group_next):
            groups[number & (2 * size - 1)] = group_at(disk, number)[0]
        free(disk.groups)
        disk.groups = groups
        disk.groups_mask = 2 * size - 1
    group_at(disk, disk.group_next).position = position
    group_at(disk, disk.group_next).slot = slot
    return OK


cdef uint64_t group_seed(const Disk* disk, uint64_t epoch, uint64_t number,
                         uint64_t position) noexcept nogil:
    cdef uint64_t[4] parts
    parts[0] = 0 if disk.off & RULE_SEED_KEY else disk.key
    parts[1] = 0 if disk.off & RULE_SEED_EPOCH else epoch
    parts[2] = 0 if disk.off & RULE_SEED_NUMBER else number
    parts[3] = 0 if disk.off & RULE_SEED_POSITION else position
    return hash64(parts, sizeof(parts))


# Bytes of the log, from memory or from disk.

cdef int log_read(Core* core, uint64_t position, uint8_t* target, uint64_t length) noexcept nogil:
    """Read a part of the log's file."""
    cdef uint64_t place, part
    cdef int status = OK
    while length and status == OK:
        place = position % core.ring.area
        part = core.ring.area - place
        if part > length:
            part = length
        status = device_read(&core.disk.log, target, part, LOG_HEAD_BYTES + place,
                             &core.disk.error)
        target += part
        position += part
        length -= part
    return status


cdef int log_fetch(Core* core, uint64_t position, uint8_t* target, uint64_t length) noexcept nogil:
    if position >= core.disk.ram_tail:
        memcpy(target, ram_at(core.disk, position), length)
        return OK
    return log_read(core, position, target, length)


cdef const uint8_t* disk_image(Core* core, const EntryHeader* header, int which,
                               int* status) noexcept nogil:
    """One stored image of an entry, held against its checksum; good until the next call."""
    cdef Disk* disk = core.disk
    cdef uint64_t position = header.position, length = image_length(header)
    cdef uint64_t sum = header.before_sum
    cdef uint8_t* image
    cdef uint8_t* bounce
    if which == FLAG_AFTER:
        position += before_room(header)
        sum = header.after_sum
    if position < disk.ram_tail:
        if disk.bounce_length == length and disk.bounce_position == position:
            return disk.bounce
        disk.bounce_length = 0
        if disk.bounce_size < length:
            bounce = <uint8_t*>realloc(disk.bounce, length)
            if bounce is NULL:
                status[0] = E_NO_MEMORY
                return NULL
            disk.bounce = bounce
            disk.bounce_size = length
        status[0] = log_read(core, position, disk.bounce, length)
        if status[0] != OK:
            return NULL
        image = disk.bounce
    else:
        image = ram_at(disk, position)
    if hash64(image, length) != sum and holds(core, RULE_IMAGE_SUM):
        core.bad_seq = header.seq
        status[0] = E_CORRUPT
        return NULL
    if image == disk.bounce:
        disk.bounce_position = position
        disk.bounce_length = length
    return image


# Sealing and committing the open group.

cdef int poison(Core* core, int status) noexcept nogil:
    """What was to become durable may not be: nothing is written any more until it is reopened."""
    if holds(core, RULE_POISON):
        core.disk.poisoned = core.disk.error if core.disk.error else EIO
    return status


cdef int log_seal(Core* core, uint64_t* start, uint64_t* end) noexcept nogil:
    """Close the open group in memory, and open the next one behind it."""
    cdef Disk* disk = core.disk
    cdef uint64_t count = open_count(core), k, rest
    cdef GroupHeader* head = <GroupHeader*>ram_at(disk, disk.start)
    cdef EntryHeader* headers = <EntryHeader*>(<uint8_t*>head + sizeof(GroupHeader))
    cdef EntryHeader* others = <EntryHeader*>ram_at(disk, align_up(disk.cursor))
    if group_push(disk, disk.start, disk.first_slot) != OK:
        return E_NO_MEMORY
    header_at(core, disk.first_slot).flags |= FLAG_GROUP
    header_at(core, disk.first_slot).header_sum = header_hash(
        core, header_at(core, disk.first_slot), disk.first_slot)
    memset(head, 0, GROUP_HEAD_BYTES)
    for k in range(count):
        if k < GROUP_HEADERS:
            headers[k] = header_at(core, disk.first_slot + k)[0]
        else:
            others[k - GROUP_HEADERS] = header_at(core, disk.first_slot + k)[0]
    rest = count - GROUP_HEADERS if count > GROUP_HEADERS else 0
    start[0] = disk.start
    end[0] = group_end(disk.cursor, count)
    memset(others + rest, 0, end[0] - align_up(disk.cursor) - rest * HEADER_BYTES)
    head.magic = GROUP_MAGIC
    head.epoch = disk.epoch
    head.number = disk.group_next
    head.position = disk.start
    head.length = end[0] - disk.start
    head.headers_at = align_up(disk.cursor) - disk.start
    head.first_slot = disk.first_slot
    head.first_seq = header_at(core, disk.first_slot).seq
    head.last_seq = core.seq
    head.durable_seq = disk.durable_seq
    head.synced_seq = disk.synced_seq
    head.base_seq = core.base_seq
    head.count = count
    head.headers_sum = group_headers_sum(headers, others, count)
    head.header_sum = seeded_hash64(head, GROUP_SUMMED_BYTES, group_seed(
        disk, disk.epoch, disk.group_next, disk.start))
    disk.group_next += 1
    disk.start = disk.cursor = end[0]
    disk.first_slot = core.ring.slot_head
    return OK


cdef uint64_t group_headers_sum(const EntryHeader* headers, const EntryHeader* others,
                                uint64_t count) noexcept nogil:
    cdef uint64_t first = count if count < GROUP_HEADERS else GROUP_HEADERS
    cdef uint64_t sum = hash64(headers, first * HEADER_BYTES)
    if count > first:
        sum = seeded_hash64(others, (count - first) * HEADER_BYTES, sum)
    return sum


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
        core.disk.error = error
    return status


cdef int log_wait(Core* core) noexcept nogil:
    """Wait for the group that is on its way. The core's lock is held, so no other one follows."""
    cdef Disk* disk = core.disk
    pthread_mutex_lock(disk.commit_mutex)
    while disk.writing:
        pthread_cond_wait(disk.commit_done, disk.commit_mutex)
    pthread_mutex_unlock(disk.commit_mutex)
    return E_POISONED if disk.poisoned else OK


cdef void log_landed(Core* core, uint64_t seq, uint64_t number, int status) noexcept nogil:
    """The group `number` is durable, up to `seq`; or it could not be made so."""
    cdef Disk* disk = core.disk
    if status == OK:
        disk.durable_seq = seq
        disk.recorded_number = number
        disk.durable_number = number + 1
        if disk.rewound_seq and seq >= disk.rewound_seq:
            disk.rewound_seq = 0
        disk.commits += 1
    else:
        poison(core, status)


cdef int log_commit(Core* core) noexcept nogil:
    """Make all entries durable. The lock is held throughout."""
    cdef uint64_t start = 0, end = 0
    cdef int status = log_wait(core)
    if status != OK or open_count(core) == 0:
        return status
    status = log_seal(core, &start, &end)
    if status != OK:
        return status
    status = log_put(core, start, end)
    log_landed(core, core.seq, core.disk.group_next - 1, status)
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
        pthread_mutex_lock(disk.commit_mutex)
        if disk.writing and disk.durable_seq < target:
            core_unlock(core)
            while disk.writing and disk.durable_seq < target:
                pthread_cond_wait(disk.commit_done, disk.commit_mutex)
            pthread_mutex_unlock(disk.commit_mutex)
            continue
        if disk.durable_seq >= target or disk.poisoned or core.closed or open_count(core) == 0:
            status = E_POISONED if disk.poisoned and disk.durable_seq < target else OK
            pthread_mutex_unlock(disk.commit_mutex)
            core_unlock(core)
            return status
        status = log_seal(core, &start, &end)
        disk.writing = status == OK
        seq = core.seq
        number = disk.group_next - 1
        pthread_mutex_unlock(disk.commit_mutex)
        core_unlock(core)
        if status != OK:
            return status
        status = log_put(core, start, end)
        pthread_mutex_lock(disk.commit_mutex)
        log_landed(core, seq, number, status)
        disk.writing = False
        pthread_cond_broadcast(disk.commit_done)
        pthread_mutex_unlock(disk.commit_mutex)
        if status != OK:
            return status


# Room: in the log, in memory, among the header slots.

cdef int disk_reserve(Core* core, uint64_t room, uint64_t* position) noexcept nogil:
    """Make room for one more entry; nothing of it is claimed yet."""
    cdef Disk* disk = core.disk
    cdef uint64_t count, cursor, end
    cdef int status
    if room > disk.ram_size // 2 - 2 * LOG_BLOCK_BYTES:
        return E_TOO_LARGE
    if core.guarded:
        status = disk_reclaim(core, room)
        if status != OK:
            return status
    while True:
        count = open_count(core)
        cursor = disk.cursor if count else disk.start + GROUP_HEAD_BYTES
        end = group_end(cursor + room, count + 1)
        if count and end - disk.start > disk.group_max:
            status = log_commit(core)
            if status == OK:
                status = disk_tidy(core)
        elif end > disk.ram_tail + disk.ram_size and holds(core, RULE_RAM_BOUND):
            status = ram_make_room(core)
        elif (end > disk.tail_named + core.ring.area - disk.reserve and holds(core, RULE_LOG_BOUND)
                or core.ring.slot_head - core.ring.slot_tail >= core.ring.slots):
            status = disk_evict(core, end)
        else:
            position[0] = cursor
            ram_prepare(disk, cursor, end)
            return OK
        if status != OK:
            return status


cdef inline void ram_prepare(Disk* disk, uint64_t start, uint64_t end) noexcept nogil:
    """Have the pages of positions [start, end) at hand."""
    cdef uint64_t place = start & (disk.ram_size - 1), chunk = place // RAM_CHUNK_BYTES
    cdef uint64_t last = (place + (end - start)) // RAM_CHUNK_BYTES
    cdef uint64_t chunks = disk.ram_size // RAM_CHUNK_BYTES
    if chunks == 0:
        return
    while chunk <= last:
        if not disk.ram_ready[chunk % chunks]:
            disk.ram_ready[chunk % chunks] = 1
            jrnl_populate(disk.ram + chunk % chunks * RAM_CHUNK_BYTES, RAM_CHUNK_BYTES)
        chunk += 1


cdef inline void disk_take(Core* core, uint64_t position, uint64_t room) noexcept nogil:
    core.ring.slot_head += 1
    core.disk.cursor = position + room


cdef uint64_t evict_target(const Core* core, uint64_t end) noexcept nogil:
    """The number of the group that is the oldest after making room up to position `end`."""
    cdef const Disk* disk = core.disk
    cdef uint64_t number = disk.group_first
    cdef uint64_t tail = core.ring.tail + core.ring.area // 16
    cdef uint64_t slot = core.ring.slot_tail
    if end + disk.reserve > core.ring.area + tail:
        tail = end + disk.reserve - core.ring.area
    if core.ring.slot_head - core.ring.slot_tail >= core.ring.slots:
        slot += core.ring.slots // 16 + 1
    while number < disk.group_next:
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
    if core.refuse:
        core.reclaim.full_by = FULL_OTHERWISE
        return E_FULL
    if core.guarded:
        return guarded_evict(core, end)
    number = evict_target(core, end)
    if number == core.disk.group_next and open_count(core):
        return log_commit(core)    # all closed groups would have to go: the open one is closed
    if number == core.disk.group_first and core.disk.tail_named == core.ring.tail:
        return E_TOO_LARGE
    return disk_evict_to(core, number)


cdef int disk_evict_to(Core* core, uint64_t number) noexcept nogil:
    """Let the groups before `number` go. None is on its way."""
    cdef Disk* disk = core.disk
    cdef uint64_t slot = disk.first_slot, position = disk.start, before = core.ring.slot_tail
    cdef int status = OK
    if number < disk.group_next:
        slot = group_at(disk, number).slot
        position = group_at(disk, number).position
    if status == OK and slot > core.ring.slot_tail:
        if seq_before_slot(core, slot) > disk.synced_seq and holds(core, RULE_EVICT_SYNCED):
            status = write_back_all(core)
    if status == OK and slot > core.ring.slot_tail:
        status = keep_copies(core, seq_before_slot(core, slot))
        if status == OK:
            status = fold_ask(core, seq_before_slot(core, slot))
    if status != OK:
        return status
    if core.live is not NULL:
        live_keep_all(core, slot)
    core.evictions += slot - core.ring.slot_tail
    if slot > core.ring.slot_tail:
        core.base_seq = seq_before_slot(core, slot)
        if header_check(core, header_at(core, slot - 1), slot - 1) == OK:
            core.base_time_ns = header_at(core, slot - 1).time_ns
    core.ring.slot_tail = slot
    core.ring.tail = position
    disk.group_first = number
    status = index_save(core)
    if status != OK:
        return poison(core, status)
    headers_free(core, before)
    if not holds(core, RULE_TAIL_FIRST):
        disk.tail_named = core.ring.tail
        return OK
    return disk_record(core)


cdef void headers_free(const Core* core, uint64_t before) noexcept nogil:
    """Give back the memory of headers that have left since the tail was at slot `before`.

    There are slots for entries without images; with images, most of them are long idle.
    """
    cdef uint64_t slots = core.ring.slots, length
    cdef uint64_t chunk = page_bytes(slots * HEADER_BYTES) // HEADER_BYTES
    cdef uint64_t k = before % slots // chunk * chunk, lap = before - before % slots
    while True:
        length = min(chunk, slots - k)
        if lap + k + length >= core.ring.slot_tail:
            return
        if core.ring.slot_head <= lap + k + slots:    # not in use again
            madvise(core.headers + k, length * HEADER_BYTES, MADV_DONTNEED)
        k += length
        if k == slots:
            k = 0
            lap += slots


cdef int keep_copies(Core* core, uint64_t seq) noexcept nogil:
    """Before the entries up to `seq` leave: finish the copies that need one of them (R10)."""
    cdef uint64_t floor
    cdef int status = OK
    while status == OK and core.disk.copy_floor < seq and holds(core, RULE_KEEP_COPIES):
        floor = core.disk.copy_floor
        status = _call_record(core.disk.finish_copy, &core.disk.error)
        if status == OK and core.disk.copy_floor == floor:
            core.reclaim.full_by = FULL_OTHERWISE
            return E_FULL
    return status


cdef uint64_t seq_before_slot(const Core* core, uint64_t slot) noexcept nogil:
    """The seq of the entry before `slot`, or where that is damaged, the state it must have made."""
    cdef const EntryHeader* header = header_at(core, slot - 1)
    if header.header_sum == header_hash(core, header, slot - 1):
        return header.seq
    if slot < core.ring.slot_head:
        header = header_at(core, slot)
        if header.header_sum == header_hash(core, header, slot):
            return header.seq - 1
    return core.seq


cdef int disk_record(Core* core) noexcept nogil:
    """Have the superblocks name what is so now, durably in every copy."""
    cdef int status
    if core.disk.poisoned:
        return E_POISONED
    status = _call_record(core.disk.record, &core.disk.error)
    if status != OK:
        return poison(core, status)
    core.disk.recorded_number = core.disk.durable_number
    core.disk.tail_named = core.ring.tail
    return OK


cdef int _call_record(void* record, int* error) noexcept nogil:
    with gil:
        try:
            _to_the_end(<object>record)
            return OK
        except BaseException as problem:
            return _keep_error(problem, error)
