# The ring: where entries lie, how they enter and leave.
#
# Headers are one array of slots used round-robin; a slot index only grows, and its place is the
# index modulo the number of slots. Images lie in the image area, oldest to newest, never split:
#
#     not wrapped (wrap_end = NO_WRAP)        wrapped
#     0    tail        head      area         0     head   tail     wrap_end  area
#     |.....[ images ).............|          [ newer )....[ older ).............|
#
# `used` is 0 when no image is retained; then head and tail go back to 0.
#
# Takes: hash

cdef enum:
    KIND_COUNT = KIND_REWIND + 1
    HEADERS_AHEAD = 4            # what a write fetches of those that will enter and leave

cdef uint64_t NO_WRAP = <uint64_t>0xFFFFFFFFFFFFFFFF
cdef uint64_t NO_SLOT = <uint64_t>0xFFFFFFFFFFFFFFFF


cdef inline void ring_reset_images(Ring* ring) noexcept nogil:
    ring.head = 0
    ring.tail = 0
    ring.wrap_end = NO_WRAP


cdef inline bint ring_place(const Ring* ring, uint64_t room, uint64_t* position) noexcept nogil:
    """A place for images of `room` bytes and one header; False if something must leave first."""
    if ring.slot_head - ring.slot_tail >= ring.slots:
        return False
    position[0] = ring.head
    if room == 0:
        return True
    if ring.wrap_end != NO_WRAP:
        return ring.tail - ring.head >= room
    if ring.area - ring.head >= room:
        return True
    position[0] = 0
    return ring.tail >= room


cdef inline void ring_claim(Ring* ring, uint64_t position, uint64_t room) noexcept nogil:
    """Claim what ring_place found."""
    ring.slot_head += 1
    if room:
        if position != ring.head:
            ring.wrap_end = ring.head
        ring.head = position + room
        ring.used += room


cdef inline void ring_drop_oldest(Ring* ring, uint64_t position, uint64_t room) noexcept nogil:
    """The oldest entry, whose images take `room` bytes at `position`, leaves."""
    ring.slot_tail += 1
    if room:
        ring.used -= room
        ring.tail = position + room
        if ring.tail == ring.wrap_end:
            ring.tail = 0
            ring.wrap_end = NO_WRAP
    if ring.used == 0:
        ring_reset_images(ring)


cdef void ring_begin_at(Ring* ring, uint64_t tail) noexcept nogil:
    """The oldest retained image begins at `tail`, or where the images end there, at 0."""
    if ring.wrap_end != NO_WRAP and tail <= ring.head:
        ring.wrap_end = NO_WRAP    # all that was left before the wrap has gone
    if tail == ring.wrap_end:
        tail = 0
        ring.wrap_end = NO_WRAP
    ring.tail = tail
    ring.used = ring.head - tail
    if ring.wrap_end != NO_WRAP:
        ring.used += ring.wrap_end
    if ring.used == 0:
        ring_reset_images(ring)


cdef inline void ring_drop_newest(Ring* ring, uint64_t position, uint64_t room) noexcept nogil:
    """The newest entry leaves: the exact opposite of ring_claim."""
    ring.slot_head -= 1
    if room:
        ring.used -= room
        ring.head = position
        if position == 0 and ring.wrap_end != NO_WRAP:
            ring.head = ring.wrap_end
            ring.wrap_end = NO_WRAP
    if ring.used == 0:
        ring_reset_images(ring)


cdef inline EntryHeader* header_at(const Ring* ring, uint64_t slot) noexcept nogil:
    return &ring.headers[slot % ring.slots]


cdef inline uint64_t header_hash(const Ring* ring, const EntryHeader* header,
                                 uint64_t slot) noexcept nogil:
    return seeded_hash64(header, HEADER_SUMMED_BYTES, ring.key + slot)


cdef inline int header_check(Ring* ring, Fault* fault, const EntryHeader* header,
                             uint64_t slot) noexcept nogil:
    if ring.checksum and header.header_sum != header_hash(ring, header, slot):
        fault.entry = damaged_seq(ring, slot)
        return E_CORRUPT
    return OK


cdef uint64_t damaged_seq(const Ring* ring, uint64_t slot) noexcept nogil:
    """The seq of an entry whose own word for it cannot be taken: what follows its neighbours."""
    cdef uint64_t k = slot
    while k > ring.slot_tail and header_at(ring, k - 1).seq == 0:
        k -= 1    # a hole in a file store's log, too
    return ((ring.base_seq if k == ring.slot_tail else header_at(ring, k - 1).seq)
            + 1 + (slot - k))


cdef inline const uint8_t* before_image(const Ring* ring, const EntryHeader* header) noexcept nogil:
    return ring.images + header.position


cdef inline const uint8_t* after_image(const Ring* ring, const EntryHeader* header) noexcept nogil:
    return ring.images + header.position + before_room(header)


cdef int ring_evict(Core* core, Ring* ring) noexcept nogil:
    """Let the oldest entry leave `ring`, the core's or a copy.

    Where its header is damaged nobody knows which state that is, nor where the next image begins:
    what follows leaves with it, up to the first entry that says both.
    """
    cdef const EntryHeader* header = header_at(&core.ring, ring.slot_tail)
    cdef uint64_t room
    if header_check(&core.ring, &core.fault, header, ring.slot_tail) == OK:
        ring.base_seq = header.seq
        ring.base_time_ns = header.time_ns
        ring_drop_oldest(ring, header.position, image_room(header))
        return OK
    while ring.slot_tail < core.ring.slot_head:
        header = header_at(&core.ring, ring.slot_tail)
        room = 0
        if header_check(&core.ring, &core.fault, header, ring.slot_tail) == OK:
            room = image_room(header)
        ring.slot_tail += 1
        if room:
            ring.base_seq = header.seq
            ring.base_time_ns = header.time_ns
            ring_begin_at(ring, header.position + room)
            return OK
    if ring.slot_head > core.ring.slot_head:
        return E_CORRUPT    # a simulation, whose own entries follow: it cannot tell where
    ring.base_seq = core.ring.seq
    ring.base_time_ns = core.clock.now_ns
    ring.used = 0
    ring_reset_images(ring)
    return OK


# A Python clock may run anything, this store's own methods too. So an operation asks it before it
# looks at anything else (ask_clock); the system's clock is read while a block is on its way to the
# cache (core_tick). Time never runs backwards in the journal.

cdef inline void ask_clock(Clock* clock) noexcept nogil:
    cdef int64_t now_ns
    if clock.ask is not NULL:
        now_ns = _call_clock(clock.ask)
        if now_ns > clock.now_ns:
            clock.now_ns = now_ns


cdef inline void core_tick(Clock* clock) noexcept nogil:
    cdef timespec now
    cdef int64_t now_ns
    if clock.ask is NULL:
        clock_gettime(CLOCK_REALTIME, &now)
        now_ns = <int64_t>now.tv_sec * 1000000000 + now.tv_nsec
        if now_ns > clock.now_ns:
            clock.now_ns = now_ns


cdef int64_t _call_clock(void* clock) noexcept nogil:
    # An error is reported as unraisable and gives 0: time then stands still.
    with gil:
        return (<object>clock)()


cdef inline bint comes_after(const EntryHeader* header, uint64_t bound,
                             bint by_time) noexcept nogil:
    return header.time_ns > <int64_t>bound if by_time else header.seq > bound


cdef uint64_t guess_slot_after(const Ring* ring, uint64_t bound,
                               bint by_time) noexcept nogil:
    """The oldest retained slot whose seq, or time, is greater; if all headers are as they were."""
    cdef uint64_t low = ring.slot_tail, high = ring.slot_head, middle
    if not by_time and ring.seq - bound <= high - low:
        middle = high - (ring.seq - bound)   # the place if no rewind left a gap behind it
        if header_at(ring, middle).seq == bound + 1:
            return middle
    while low < high:
        middle = low + (high - low) // 2
        if comes_after(header_at(ring, middle), bound, by_time):
            high = middle
        else:
            low = middle + 1
    return low


cdef bint is_slot_after(Ring* ring, Fault* fault, uint64_t slot, uint64_t bound,
                        bint by_time) noexcept nogil:
    """Whether the headers on both sides prove that `slot` is the first after `bound`."""
    if slot > ring.slot_tail:
        if (comes_after(header_at(ring, slot - 1), bound, by_time)
                or header_check(ring, fault, header_at(ring, slot - 1), slot - 1) != OK):
            return False
    if slot < ring.slot_head:
        return (comes_after(header_at(ring, slot), bound, by_time)
                and header_check(ring, fault, header_at(ring, slot), slot) == OK)
    return True


cdef int find_slot_after(Core* core, uint64_t bound, bint by_time, uint64_t* slot) noexcept nogil:
    """Find the oldest retained slot whose seq, or time, is greater; slot_head if there is none.

    E_CORRUPT where that depends on a damaged header: a wrong guess would mean wrong bytes.
    """
    cdef uint64_t k, low = core.ring.slot_tail
    if core.closed:
        return E_CLOSED
    if not by_time and bound >= core.ring.seq:
        slot[0] = core.ring.slot_head
        return OK
    if not by_time and bound <= core.ring.base_seq:
        slot[0] = core.ring.slot_tail
        return OK
    slot[0] = guess_slot_after(&core.ring, bound, by_time)
    if is_slot_after(&core.ring, &core.fault, slot[0], bound, by_time):
        return OK
    slot[0] = core.ring.slot_head
    for k in range(core.ring.slot_tail, core.ring.slot_head):
        if header_check(&core.ring, &core.fault, header_at(&core.ring, k), k) == OK:
            if comes_after(header_at(&core.ring, k), bound, by_time):
                slot[0] = k
                break
            low = k + 1
    if low == slot[0]:
        return OK
    # What lies between is damaged, but a seq is greater than all before it.
    if not by_time:
        if slot[0] < core.ring.slot_head and header_at(&core.ring, slot[0]).seq == bound + 1:
            return OK
        if low > core.ring.slot_tail and header_at(&core.ring, low - 1).seq == bound:
            slot[0] = low
            return OK
    return header_check(&core.ring, &core.fault, header_at(&core.ring, low), low)


cdef int core_resolve(Core* core, uint64_t seq, uint64_t* state) noexcept nogil:
    """The seq under which the state `seq` is kept now, or E_UNKNOWN, E_EXPIRED or E_CLOSED.

    A REWIND entry that a later rewind to it replaced lives on as an alias of its successor.
    """
    cdef uint64_t slot = 0
    cdef int status
    if core.closed:
        return E_CLOSED
    if seq > core.ring.seq:
        return E_UNKNOWN
    if seq < core.ring.base_seq:
        return E_EXPIRED
    state[0] = seq
    if seq == core.ring.base_seq or seq == core.ring.seq:
        return OK
    status = find_slot_after(core, seq - 1, False, &slot)
    if status != OK:
        return status
    status = header_check(&core.ring, &core.fault, header_at(&core.ring, slot), slot)
    if status != OK:
        # Its own header is damaged; the next one may still prove that it was there.
        slot += 1
        if (slot < core.ring.slot_head and header_at(&core.ring, slot).seq == seq + 1
                and header_check(&core.ring, &core.fault, header_at(&core.ring, slot), slot) == OK):
            return OK
        return status
    state[0] = header_at(&core.ring, slot).seq
    if state[0] == seq or alias_known(&core.aliases, seq):
        return OK
    return E_EXPIRED


# Aliases are kept as runs of equal steps, since rounds of write and rewind are mostly alike: as
# many rounds as one likes take one run.

cdef enum:
    ALIAS_RUNS_MAX = 4096


cdef inline AliasRun* alias_run(const Aliases* aliases, uint64_t k) noexcept nogil:
    return &aliases.runs[(aliases.first + k) % ALIAS_RUNS_MAX]


cdef inline uint64_t alias_last(const AliasRun* run) noexcept nogil:
    return run.first + run.step * (run.count - 1)


cdef bint alias_known(const Aliases* aliases, uint64_t seq) noexcept nogil:
    cdef uint64_t low = 0, high = aliases.count, middle
    cdef const AliasRun* run
    while low < high:
        middle = (low + high) // 2
        if alias_last(alias_run(aliases, middle)) < seq:
            low = middle + 1
        else:
            high = middle
    if low == aliases.count:
        return False
    run = alias_run(aliases, low)
    if seq <= run.first or run.step == 0:
        return seq == run.first
    return (seq - run.first) % run.step == 0


cdef void alias_push(Aliases* aliases, uint64_t seq) noexcept nogil:
    """Remember `seq`, greater than all before it; the table has a fixed size, its oldest leave."""
    cdef AliasRun* run
    if aliases.count:
        run = alias_run(aliases, aliases.count - 1)
        if run.count == 1:
            run.step = seq - run.first
        if seq == alias_last(run) + run.step:
            run.count += 1
            return
    if aliases.count == ALIAS_RUNS_MAX:
        aliases.first = (aliases.first + 1) % ALIAS_RUNS_MAX
        aliases.count -= 1
    run = alias_run(aliases, aliases.count)
    run.first = seq
    run.step = 0
    run.count = 1
    aliases.count += 1


cdef void alias_drop_after(Aliases* aliases, uint64_t seq) noexcept nogil:
    cdef AliasRun* run
    while aliases.count:
        run = alias_run(aliases, aliases.count - 1)
        if run.first <= seq:
            if alias_last(run) > seq:
                run.count = (seq - run.first) // run.step + 1
            return
        aliases.count -= 1


cdef inline int range_check(const Core* core, uint32_t volume, uint64_t offset,
                            uint64_t length) noexcept nogil:
    if core.closed:
        return E_CLOSED
    if volume >= core.volume_count or offset > core.volumes[volume].size:
        return E_BOUNDS
    if length > core.volumes[volume].size - offset:
        return E_BOUNDS
    return OK


cdef inline uint64_t write_room(const Settings* settings, uint64_t length) noexcept nogil:
    """Bytes in the image area that one WRITE of `length` bytes takes."""
    cdef uint64_t room = align_up(length)
    return room + room if settings.images == IMAGES_BOTH else room


cdef inline int sound_header(Core* core, uint64_t slot, const EntryHeader** out) noexcept nogil:
    """The header in a slot, if it can be believed."""
    cdef const EntryHeader* header = header_at(&core.ring, slot)
    cdef int status = header_check(&core.ring, &core.fault, header, slot)
    out[0] = header
    if status == OK and (header.volume >= core.volume_count or header.kind >= KIND_COUNT):
        core.fault.entry = header.seq    # without checksums, this much can be seen
        return E_CORRUPT
    return status


cdef inline bint changes_nothing(const EntryHeader* header) noexcept nogil:
    """Zeroes over zeroes, where the header says so."""
    return header.flags & FLAG_BEFORE_ZERO and header.kind != KIND_WRITE


cdef uint64_t seq_before_slot(const Ring* ring, uint64_t slot) noexcept nogil:
    """The seq of the entry before `slot`, or where that is damaged, the state it must have made."""
    cdef const EntryHeader* header = header_at(ring, slot - 1)
    if header.header_sum == header_hash(ring, header, slot - 1):
        return header.seq
    if slot < ring.slot_head:
        header = header_at(ring, slot)
        if header.header_sum == header_hash(ring, header, slot):
            return header.seq - 1
    return ring.seq


cdef int64_t time_before_slot(const Ring* ring, const Clock* clock, uint64_t slot) noexcept nogil:
    """The time of the entry before `slot`, or where that is damaged, no earlier one than it had."""
    cdef uint64_t k = slot - 1
    while k < ring.slot_head:
        if header_at(ring, k).header_sum == header_hash(ring, header_at(ring, k), k):
            return header_at(ring, k).time_ns
        k += 1
    return clock.now_ns


cdef uint64_t last_live_seq(const Ring* ring, uint64_t state) noexcept nogil:
    """The seq of the newest entry that there is; REWIND entries that were replaced are not.

    Where that is damaged, the state to which a rewind went: no entry that it has dropped is older.
    """
    cdef uint64_t slot = ring.slot_head
    if slot == ring.slot_tail:
        return ring.base_seq
    if header_at(ring, slot - 1).header_sum != header_hash(ring, header_at(ring, slot - 1),
                                                           slot - 1):
        return state
    return header_at(ring, slot - 1).seq


cdef bint edit_overlaps(const Edits* edits, uint32_t volume, uint64_t offset,
                        uint64_t length) noexcept nogil:
    cdef const OpenEdit* edit = edits.open
    while edit is not NULL:
        if edit.volume == volume and offset < edit.offset + edit.length:
            if edit.offset < offset + length:
                return True
        edit = edit.next
    return False


cdef inline void entry_publish(Core* core, EntryHeader* entry) noexcept nogil:
    """Put `entry`, whose images are filled, behind the newest one; its place is taken next."""
    cdef uint64_t slot = core.ring.slot_head
    entry.seq = core.ring.seq + 1
    entry.time_ns = core.clock.now_ns
    if core.ring.checksum:
        entry.flags |= FLAG_SUMMED
        entry.header_sum = header_hash(&core.ring, entry, slot)
    else:
        entry.header_sum = 0
    header_at(&core.ring, slot)[0] = entry[0]
    jrnl_prefetch(<const uint8_t*>(header_at(&core.ring, slot) + HEADERS_AHEAD), 1)
    core.unflushed = entry.kind != KIND_FLUSH
    core.made[entry.kind].entries += 1
    core.made[entry.kind].bytes += entry.length
    core.ring.seq += 1


cdef void note_fill(const Ring* ring, EntryHeader* entry, int kind, uint64_t offset,
                    const uint8_t* text,
                    uint64_t length, uint8_t* image) noexcept nogil:
    """An entry that changes no byte of a volume; `image` is where its text goes."""
    entry.offset = offset
    entry.length = <uint32_t>length
    entry.volume = 0
    entry.kind = <uint8_t>kind
    entry.flags = 0
    entry.before_sum = 0
    entry.after_sum = 0
    if length:
        entry.flags = FLAG_AFTER
        memcpy(image, text, length)
        if ring.checksum:
            entry.after_sum = hash64(text, length)


cdef inline int write_check(const Core* core, uint32_t volume, uint64_t offset,
                            uint64_t length) noexcept nogil:
    cdef int status = range_check(core, volume, offset, length)
    if status == OK and length > core.limits.write_max:
        return E_TOO_LARGE
    return status


cdef inline int write_ready(Core* core, uint32_t volume, uint64_t offset,
                            uint64_t length) noexcept nogil:
    """Ask the clock, and then whether a write may go there: a clock may close the store."""
    ask_clock(&core.clock)
    return write_check(core, volume, offset, length)


cdef OpenEdit** edit_find(Edits* edits, uint32_t volume, uint64_t offset) noexcept nogil:
    """Where the edit that begins there hangs: open edits do not overlap."""
    cdef OpenEdit** link = &edits.open
    while link[0].volume != volume or link[0].offset != offset:
        link = &link[0].next
    return link
