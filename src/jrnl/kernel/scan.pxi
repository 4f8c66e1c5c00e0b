# Opening a file store: what the index and the groups of its log say, checked before it is believed.
#
# Takes: sabotage, hash, memory, ring, log, overlay, reading, index

cdef enum:
    SCAN_WHOLE = 1
    SCAN_IMAGES = 2              # an image does not match its checksum
    SCAN_HEADERS = 3             # ... or an entry's header: it and all that it says are lost

cdef struct Scanned:
    GroupHeader head
    EntryHeader* headers         # its own copy


cdef int scan_head(Core* core, uint64_t epoch, uint64_t number, uint64_t position,
                   GroupHeader* head) noexcept nogil:
    """Read the group header at `position`; E_CORRUPT where it is not what stands there."""
    cdef uint8_t[GROUP_HEAD_BYTES] block
    cdef int status = log_read(core, position, block, GROUP_HEAD_BYTES)
    cdef uint64_t others
    if status != OK:
        return status
    memcpy(head, block, sizeof(GroupHeader))
    if head.magic != GROUP_MAGIC:
        return E_CORRUPT
    if in_force(RULE_GROUP_SUM) and head.header_sum != seeded_hash64(
            head, GROUP_SUMMED_BYTES, group_seed(core.disk, epoch, number, position)):
        return E_CORRUPT
    others = head.count - GROUP_HEADERS if head.count > GROUP_HEADERS else 0
    if (head.epoch != epoch and in_force(RULE_SEED_EPOCH)
            or head.number != number and in_force(RULE_SEED_NUMBER)
            or head.position != position and in_force(RULE_SEED_POSITION)):
        return E_CORRUPT
    if (head.first_seq == 0 or head.last_seq < head.first_seq or head.last_seq >= SEQ_LIMIT
            or head.durable_seq > head.last_seq or head.synced_seq > head.last_seq):
        return E_CORRUPT
    if (head.count == 0 or head.count > core.ring.slots or head.length > core.ring.area
            or head.length % LOG_BLOCK_BYTES or head.headers_at < GROUP_HEAD_BYTES
            or head.headers_at > head.length
            or others * HEADER_BYTES > head.length - head.headers_at):
        return E_CORRUPT
    return OK


cdef int scan_headers(Core* core, Scanned* group) noexcept nogil:
    """Read a group's entry headers. SCAN_HEADERS where one of them is not as it was written."""
    cdef uint64_t count = group.head.count, first
    first = count if count < GROUP_HEADERS else GROUP_HEADERS
    cdef int status
    group.headers = <EntryHeader*>malloc(count * HEADER_BYTES)
    if group.headers is NULL:
        return E_NO_MEMORY
    status = log_read(core, group.head.position + sizeof(GroupHeader), <uint8_t*>group.headers,
                      first * HEADER_BYTES)
    if status == OK and count > first:
        status = log_read(core, group.head.position + group.head.headers_at,
                          <uint8_t*>(group.headers + first), (count - first) * HEADER_BYTES)
    if status != OK:
        return status
    if (group_headers_sum(group.headers, group.headers + first, count) != group.head.headers_sum
            and in_force(RULE_HEADERS_SUM)):
        return SCAN_HEADERS
    return SCAN_WHOLE


cdef int scan_images(Core* core, Scanned* group) noexcept nogil:
    """Hold every image of the group against its checksum."""
    cdef Bounds bounds
    cdef uint64_t k
    cdef int status
    group_bounds(&group.head, &bounds)
    for k in range(group.head.count):
        if not entry_fits(core, &bounds, &group.headers[k]):
            return SCAN_HEADERS
        status = images_check(core, &group.headers[k], FLAG_BEFORE | FLAG_AFTER)
        if status == E_CORRUPT:
            return SCAN_IMAGES
        if status != OK:
            return status
    return SCAN_WHOLE


cdef int adopt_entry(Core* core, const EntryHeader* header) noexcept nogil:
    """The next entry of the log, as the core would have appended it."""
    cdef uint64_t slot
    if header.kind == KIND_REWIND:
        drop_after(&core.ring, header.before_sum)    # a group may hold that and older ones, too
    slot = core.ring.slot_head
    if slot - core.ring.slot_tail >= core.ring.slots:
        return E_CORRUPT
    header_at(&core.ring, slot)[0] = header[0]
    header_at(&core.ring, slot).header_sum = header_hash(&core.ring, header_at(&core.ring, slot),
                                                         slot)
    core.ring.slot_head += 1
    core.ring.seq = header.seq
    if header.time_ns > core.clock.now_ns:
        core.clock.now_ns = header.time_ns
    core.unflushed = header.kind != KIND_FLUSH
    return OK


cdef void drop_after(Ring* ring, uint64_t seq) noexcept nogil:
    """Entries after `seq` go, at the end; a damaged one stays, for nobody knows which it is.

    Where a rewind has dropped them, cut_to has been here first: it goes by slots.
    """
    cdef const EntryHeader* header
    while ring.slot_head > ring.slot_tail:
        header = header_at(ring, ring.slot_head - 1)
        if header.seq <= seq:
            break
        ring.slot_head -= 1


cdef void cut_to(Ring* ring, Disk* disk, uint64_t slot) noexcept nogil:
    """A rewind has dropped the entries from `slot` on, whatever their headers look like by now.

    It ended in the last group that there is, for it took away those that it emptied.
    """
    cdef uint64_t least = ring.slot_tail
    if disk.groups.next > disk.groups.first:
        least = max(least, group_at(disk, disk.groups.next - 1).slot)
    slot = max(slot, least)
    if slot < ring.slot_head and in_force(RULE_CUT_SLOT):
        ring.slot_head = slot
        disk.groups.first_slot = slot


cdef int adopt_damaged(Ring* ring, uint64_t seq) noexcept nogil:
    """An entry whose header nobody can read stands there, and matches no checksum."""
    cdef uint64_t slot = ring.slot_head
    if slot - ring.slot_tail >= ring.slots:
        return E_CORRUPT
    memset(header_at(ring, slot), 0, HEADER_BYTES)
    header_at(ring, slot).header_sum = ~header_hash(ring, header_at(ring, slot),
                                                    slot)
    ring.slot_head += 1
    if seq > ring.seq:
        ring.seq = seq
    return OK


cdef int adopt_group(Core* core, Scanned* group) noexcept nogil:
    """Enter the group group_next with all its entries."""
    cdef uint64_t k, slot, before = core.ring.seq
    cdef const EntryHeader* header
    cdef Bounds bounds
    cdef bint first = True, good
    cdef int status
    # Lower than what there is: a REWIND stands there.
    cut_to(&core.ring, core.disk, group.head.first_slot)
    group_bounds(&group.head, &bounds)
    slot = core.ring.slot_head
    status = group_push(core.disk, group.head.position, slot)
    for k in range(group.head.count):
        if status != OK:
            return status
        header = &group.headers[k]
        good = (header.header_sum == header_hash(&core.ring, header, group.head.first_slot + k)
                or not in_force(RULE_ENTRY_SUM))
        if (good and first and header.seq <= core.ring.base_seq
                and core.ring.slot_head == core.ring.slot_tail):
            continue    # the tail lies inside the group
        if good and entry_fits(core, &bounds, header) and header.seq > core.ring.seq:
            status = adopt_entry(core, header)
        else:
            status = adopt_damaged(&core.ring, core.ring.seq + 1)
        if first:
            slot = core.ring.slot_head - 1    # a REWIND takes the place of what it dropped
            first = False
    if status != OK:
        return status
    if core.ring.seq == before:
        return E_CORRUPT
    group_at(core.disk, core.disk.groups.next).slot = slot
    header_at(&core.ring, slot).flags |= FLAG_GROUP
    resum(&core.ring, slot)
    core.disk.groups.next += 1
    # On it goes, whatever the header calls its position.
    core.disk.groups.start += group.head.length
    core.disk.groups.cursor = core.disk.groups.start
    core.disk.groups.first_slot = core.ring.slot_head
    return OK


cdef void resum(Ring* ring, uint64_t slot) noexcept nogil:
    """The header in a slot has got a flag: unless it is a damaged one, sum it again."""
    cdef EntryHeader* header = header_at(ring, slot)
    if header.seq:
        header.header_sum = header_hash(ring, header, slot)


cdef int overlay_fill(Core* core, uint64_t after, uint64_t last) noexcept nogil:
    """Let readers see the entries after seq `after`, which the volumes' files may not have.

    Those after `last` are about to be dropped.
    """
    cdef uint64_t k, at, first, span
    cdef const EntryHeader* header
    cdef int status = OK
    for k in range(core.ring.slot_tail, core.ring.slot_head):
        header = header_at(&core.ring, k)
        if header.seq == 0:
            if after < seq_before_slot(&core.ring, k + 1) <= last:
                core.fault.lost = True
            continue
        if header.seq <= after or header.seq > last or not changes_bytes(header):
            continue
        first = sector_start(header.offset)
        span = image_length(header)
        at = header.position + before_room(header)
        if header.flags & FLAG_AFTER_ZERO:
            at = AT_ZERO
        else:
            status = images_check(core, header, FLAG_AFTER)
            if status == E_CORRUPT:
                at = AT_LOST
                core.fault.lost_sectors = True
            elif status != OK:
                return status
        status = overlay_room(&core.disk.back.active, blocks_touched(first, span))
        if status != OK:
            return status
        overlay_put(&core.disk.back.active, header.volume, first, span, at)
        touch(&core.volumes[header.volume], header.offset, header.length)
    return OK


cdef int overlay_undo(Core* core, uint64_t to) noexcept nogil:
    """Let readers see state `to` in the place of volumes that a rewind has half put back."""
    cdef uint64_t k = core.ring.slot_head, first, span
    cdef const EntryHeader* header
    cdef int status
    while k > core.ring.slot_tail:
        k -= 1
        header = header_at(&core.ring, k)
        if header.seq <= to:
            return OK if header.seq else E_CORRUPT
        if not changes_bytes(header):
            continue
        first = sector_start(header.offset)
        span = image_length(header)
        status = overlay_room(&core.disk.back.active, blocks_touched(first, span))
        if status == OK:
            status = images_check(core, header, FLAG_BEFORE)
        if status != OK:
            return status
        overlay_put(&core.disk.back.active, header.volume, first, span,
                    AT_ZERO if header.flags & FLAG_BEFORE_ZERO else header.position)
        touch(&core.volumes[header.volume], header.offset, header.length)
    return OK
