# The log played on without the bytes: will it all fit, and what is the oldest state then?
#
# Takes: ring, log, reclaim

cdef inline uint64_t rewind_reserve(const Core* core) noexcept nogil:
    """Bytes of the log that only a REWIND's group may take: a full one can be rewound, too."""
    return LOG_BLOCK_BYTES if core.settings.refuse or core.folds.on or retains_some(core) else 0


# Where the open group will have got to.
cdef struct OpenGroup:
    uint64_t start
    uint64_t cursor
    uint64_t count
    uint64_t slots               # in use, retained entries and the group's own


cdef void open_group_begin(const Disk* disk, const Ring* ring, OpenGroup* open) noexcept nogil:
    open.start = disk.groups.start
    open.cursor = disk.groups.cursor
    open.count = open_count(ring, disk)
    open.slots = ring.slot_head - ring.slot_tail


cdef inline uint64_t open_group_cursor(const OpenGroup* open) noexcept nogil:
    """Where its next image goes."""
    return open.cursor if open.count else open.start + GROUP_HEAD_BYTES


cdef bint open_group_add(const Core* core, OpenGroup* open, uint64_t room) noexcept nogil:
    """Add an entry whose images take `room` bytes; False where it does not fit."""
    cdef uint64_t cursor = open_group_cursor(open)
    cdef uint64_t end = group_end(cursor + room, open.count + 1)
    if open.count and end - open.start > core.disk.groups.max:
        open.start = group_end(open.cursor, open.count)
        open.count = 0
        cursor = open.start + GROUP_HEAD_BYTES
        end = group_end(cursor + room, 1)
    open.cursor = cursor + room
    open.count += 1
    open.slots += 1
    return (end <= core.ring.tail + core.ring.area - rewind_reserve(core)
            and open.slots <= core.ring.slots)


# What a restore pushes out. Its groups are simulated behind those that there are.

cdef struct LogForecast:
    Core* core
    OpenGroup open
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
    bint draining
    uint64_t draining_end
    uint64_t draining_number
    uint64_t draining_slot


cdef void forecast_here(Core* core, LogForecast* ahead) noexcept nogil:
    """A forecast that begins with the log as it is."""
    memset(ahead, 0, sizeof(LogForecast))
    ahead.core = core
    open_group_begin(core.disk, &core.ring, &ahead.open)
    ahead.open_ns = core.clock.now_ns
    if ahead.open.count:
        ahead.open_ns = header_at(&core.ring, core.disk.groups.first_slot).time_ns
    ahead.group_first = core.disk.groups.first
    ahead.group_next = core.disk.groups.next
    ahead.tail = core.ring.tail
    ahead.slot_tail = core.ring.slot_tail
    ahead.slot_head = core.ring.slot_head


cdef GroupRecord forecast_group(const LogForecast* ahead, uint64_t number) noexcept nogil:
    if number < ahead.core.disk.groups.next:
        return group_at(ahead.core.disk, number)[0]
    return ahead.groups[number - ahead.core.disk.groups.next]


cdef void forecast_close(LogForecast* ahead) noexcept nogil:
    """Seal the open group."""
    cdef GroupRecord* group = &ahead.groups[ahead.group_next - ahead.core.disk.groups.next]
    group.position = ahead.open.start
    group.slot = ahead.slot_head - ahead.open.count
    ahead.group_next += 1
    ahead.open_ns = ahead.core.clock.now_ns
    if ahead.guess:
        ahead.slack += LOG_BLOCK_BYTES
    ahead.open.start = ahead.open.cursor = group_end(ahead.open.cursor, ahead.open.count)
    ahead.open.count = 0


cdef void forecast_commit(LogForecast* ahead) noexcept nogil:
    """What log_commit does."""
    if ahead.open.count:
        forecast_close(ahead)
        ahead.recorded_number = ahead.group_next - 1


cdef void forecast_drain_begin(LogForecast* ahead) noexcept nogil:
    ahead.draining = True
    ahead.draining_end = ahead.open.start
    ahead.draining_number = ahead.group_next
    ahead.draining_slot = ahead.slot_head


cdef void forecast_write_back(LogForecast* ahead) noexcept nogil:
    """What write_back does."""
    forecast_commit(ahead)
    if not ahead.draining:
        forecast_drain_begin(ahead)
    if ahead.recorded_number < ahead.draining_number:
        ahead.recorded_number = ahead.group_next
    ahead.synced_slot = ahead.draining_slot
    ahead.ram_tail = ahead.draining_end
    ahead.draining = False


cdef void forecast_tidy(LogForecast* ahead) noexcept nogil:
    """What disk_tidy does."""
    if ahead.draining:
        if ahead.recorded_number >= ahead.draining_number:
            forecast_write_back(ahead)
    elif ahead.open.start - ahead.ram_tail > ahead.core.disk.ram.size // 2:
        forecast_drain_begin(ahead)


cdef void forecast_evict_to(LogForecast* ahead, uint64_t number) noexcept nogil:
    """What disk_evict_to does."""
    ahead.tail = ahead.open.start
    ahead.slot_tail = ahead.slot_head - ahead.open.count
    if number < ahead.group_next:
        ahead.tail = forecast_group(ahead, number).position
        ahead.slot_tail = forecast_group(ahead, number).slot
    ahead.group_first = number
    if ahead.slot_tail > ahead.synced_slot:
        if ahead.draining:
            forecast_write_back(ahead)
        forecast_write_back(ahead)
    ahead.recorded_number = ahead.group_next


cdef inline uint64_t disk_room(const Core* core, uint64_t offset, uint64_t length) noexcept nogil:
    """Bytes of the images of one WRITE."""
    cdef uint64_t span = sector_span(offset, length)
    return 2 * span if core.settings.images == IMAGES_BOTH else span
