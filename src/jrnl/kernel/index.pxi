# The index of headers beside the log, and the one bounds check for a header, wherever it is from.
#
# Takes: sabotage, device, ring, log

cdef enum:
    FLAGS_KNOWN = (FLAG_BEFORE | FLAG_AFTER | FLAG_BEFORE_ZERO | FLAG_AFTER_ZERO | FLAG_SUMMED
                   | FLAG_SECTORS | FLAG_GROUP)


cdef uint64_t SEQ_LIMIT = <uint64_t>1 << 62    # far below what a superblock takes for a number


# What the next entry header may say, wherever it is read from.
cdef struct Bounds:
    uint64_t after               # its seq is greater
    uint64_t last                # ... and not greater than this
    uint64_t cursor              # its images begin here or later
    uint64_t end                 # ... and end here or before


cdef bint range_fits(uint32_t volume_count, const VolumeMemory* volumes,
                     const EntryHeader* header) noexcept nogil:
    """Whether what an entry covers is there to be covered."""
    cdef uint64_t size
    if header.kind == KIND_MARK:
        return header.length > 0
    if header.kind == KIND_FLUSH:
        return header.length == 0
    if header.kind == KIND_REWIND:
        return (header.length == 0 and header.offset < header.seq
                and header.before_sum < header.seq)
    if header.volume >= volume_count or header.length == 0:
        return False
    size = volumes[header.volume].size
    return header.offset <= size and header.length <= size - header.offset


cdef bint flags_fit(const Settings* settings, const EntryHeader* header) noexcept nogil:
    """Whether an entry holds the images that its kind has in this store."""
    cdef int images = header.flags & (FLAG_BEFORE | FLAG_AFTER)
    cdef int zero = header.flags & (FLAG_BEFORE_ZERO | FLAG_AFTER_ZERO)
    if header.flags & ~FLAGS_KNOWN or not header.flags & FLAG_SUMMED:
        return False
    if header.kind < KIND_WRITE or header.kind > KIND_REWIND:
        return False
    if header.kind > KIND_ZEROES:
        return (header.flags & FLAG_SECTORS == 0 and zero == 0
                and images == (FLAG_AFTER if header.kind == KIND_MARK else 0))
    if not header.flags & FLAG_SECTORS or images != settings.images:
        return False
    return zero & ~(images << 2) == 0    # FLAG_*_ZERO stand two bits beside FLAG_BEFORE, _AFTER


cdef bint entry_fits(const Core* core, Bounds* bounds, const EntryHeader* header) noexcept nogil:
    """Whether an entry's fields make sense, for sums are right where somebody else can sum, too.

    Every header that is read from a file comes by here before it is believed; `bounds` go on.
    """
    cdef uint64_t room
    if not in_force(RULE_ENTRY_FITS):
        return True
    if header.seq <= bounds.after or header.seq > bounds.last or header.seq >= SEQ_LIMIT:
        return False
    if header.position < bounds.cursor or header.position > bounds.end:
        return False
    if header.position % IMAGE_ALIGN or not flags_fit(&core.settings, header):
        return False
    room = image_room(header)
    if room > bounds.end - header.position:
        return False
    if not range_fits(core.volume_count, core.volumes, header):
        return False
    bounds.after = header.seq
    bounds.cursor = header.position + room
    return True


cdef void group_bounds(const GroupHeader* head, Bounds* bounds) noexcept nogil:
    """What the first entry of a group may say."""
    bounds.after = head.first_seq - 1
    bounds.last = head.last_seq
    bounds.cursor = head.position + GROUP_HEAD_BYTES
    bounds.end = head.position + head.headers_at


cdef int index_read(Core* core, uint64_t head) noexcept nogil:
    """Read the headers of slots up to `head` from the index, as they stand there."""
    cdef uint64_t slot = core.ring.slot_head, place, count
    cdef int status
    while slot < head:
        place = slot % core.ring.slots
        count = core.ring.slots - place
        if count > head - slot:
            count = head - slot
        status = device_read(&core.disk.index.device, <uint8_t*>&core.ring.headers[place],
                             count * HEADER_BYTES, LOG_HEAD_BYTES + place * HEADER_BYTES,
                             &core.fault.error)
        if status != OK:
            return status
        slot += count
    return OK


cdef int index_take(Core* core, uint64_t slot, Bounds* bounds) noexcept nogil:
    """Enter the group that the header in `slot`, of the index, begins; then it has to fit."""
    cdef const EntryHeader* header = header_at(&core.ring, slot)
    cdef Disk* disk = core.disk
    cdef uint64_t start = header.position - GROUP_HEAD_BYTES
    cdef bint begins = slot == core.ring.slot_tail
    cdef int status
    if header.flags & FLAG_GROUP:
        if start > bounds.end - GROUP_HEAD_BYTES or start % LOG_BLOCK_BYTES:
            return E_CORRUPT
        if start < bounds.cursor or begins and start != core.ring.tail:
            return E_CORRUPT
        status = group_push(disk, start, slot)
        if status != OK:
            return status
        disk.groups.next += 1
        bounds.cursor = start + GROUP_HEAD_BYTES
    elif begins:
        return E_CORRUPT
    return OK if entry_fits(core, bounds, header) else E_CORRUPT


cdef int index_load(Core* core, uint64_t head, uint64_t position, uint64_t durable_seq,
                    uint64_t total) noexcept nogil:
    """Read the headers of slots up to `head` from the index, and the groups that they begin.

    The group behind them starts at `position`. `total` is what all of their sums add up to: a
    sector that is an older version of itself has right sums, but not these.
    """
    cdef Disk* disk = core.disk
    cdef uint64_t slot, sum = 0
    cdef const EntryHeader* header
    cdef Bounds bounds
    cdef int status
    if head < core.ring.slot_head or head - core.ring.slot_head > core.ring.slots:
        return E_CORRUPT
    if position < core.ring.tail or position - core.ring.tail > core.ring.area:
        return E_CORRUPT
    bounds.after = core.ring.base_seq
    bounds.last = durable_seq
    bounds.cursor = core.ring.tail
    bounds.end = position
    status = index_read(core, head)
    if status != OK:
        return status
    for slot in range(core.ring.slot_head, head):
        header = header_at(&core.ring, slot)
        if in_force(RULE_INDEX_SUM) and header.header_sum != header_hash(&core.ring, header, slot):
            return E_CORRUPT
        status = index_take(core, slot, &bounds)
        if status != OK:
            return status
        sum += header.header_sum
    if sum != total and in_force(RULE_INDEX_TOTAL):
        return E_CORRUPT
    if head > core.ring.slot_head:
        core.ring.seq = header_at(&core.ring, head - 1).seq
        core.clock.now_ns = max(core.clock.now_ns, header_at(&core.ring, head - 1).time_ns)
        core.unflushed = header_at(&core.ring, head - 1).kind != KIND_FLUSH
    core.ring.slot_head = head
    return OK


cdef uint64_t index_sums(const Ring* ring, uint64_t start, uint64_t stop) noexcept nogil:
    """What the sums of the headers in slots [start, stop) add up to."""
    cdef uint64_t slot, sum = 0
    for slot in range(start, stop):
        sum += header_at(ring, slot).header_sum
    return sum


cdef uint64_t index_step_back(Core* core) noexcept nogil:
    """Forget the index's last headers. Return where the next group starts.

    They share a sector with newer ones, whose write a crash may have torn; the log has them, too.
    """
    cdef Disk* disk = core.disk
    cdef uint64_t safe = core.ring.slot_head
    safe -= safe % core.ring.slots % (SECTOR_BYTES // HEADER_BYTES)
    while disk.groups.next > disk.groups.first and core.ring.slot_head >= safe:
        disk.groups.next -= 1
        core.ring.slot_head = group_at(disk, disk.groups.next).slot
    core.ring.seq = core.ring.base_seq
    core.clock.now_ns = core.ring.base_time_ns
    core.unflushed = False
    if core.ring.slot_head > core.ring.slot_tail:
        core.ring.seq = header_at(&core.ring, core.ring.slot_head - 1).seq
        core.clock.now_ns = header_at(&core.ring, core.ring.slot_head - 1).time_ns
        core.unflushed = header_at(&core.ring, core.ring.slot_head - 1).kind != KIND_FLUSH
    if disk.groups.next == disk.groups.first:
        return core.ring.tail
    return group_at(disk, disk.groups.next).position


cdef int index_save(Core* core) noexcept nogil:
    """Write the headers of all closed groups that the index has not got, durably."""
    cdef Disk* disk = core.disk
    cdef uint64_t slot = disk.index.slot, head = disk.groups.first_slot, first, place, count
    cdef int status
    if slot < core.ring.slot_tail:
        slot = core.ring.slot_tail
    first = slot
    while slot < head:
        place = slot % core.ring.slots
        count = core.ring.slots - place
        if count > head - slot:
            count = head - slot
        status = device_write(&disk.index.device, <const uint8_t*>&core.ring.headers[place],
                              count * HEADER_BYTES, LOG_HEAD_BYTES + place * HEADER_BYTES,
                              &core.fault.error)
        if status != OK:
            return status
        slot += count
    status = device_sync(&disk.index.device, &core.fault.error)
    if status == OK:
        disk.index.total += index_sums(&core.ring, first, head)
        disk.index.slot = head
        disk.index.number = disk.groups.next
        disk.index.position = disk.groups.start
    return status
