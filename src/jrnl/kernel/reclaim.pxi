# What may leave the journal, and what has to: pins, retention by time, two thresholds.
#
# A journal that knows none of these is not `guarded`: its oldest entries leave one by one, as room
# is needed. With them, a forecast, which plays the ring on without the bytes, says what leaves, and
# only when that is known to be enough does the first entry go. The same forecast answers whether a
# batch fits, and what a restore pushes out.
#
# Takes: memory, ring, preserve, changed_blocks, fold_hook

cdef uint64_t NO_PIN = <uint64_t>0xFFFFFFFFFFFFFFFF

cdef enum:
    STEPS = 16               # on disk, retention by time goes in sixteenths of its duration
    LEFT_TOLD_NS = 1000000000


cdef inline uint64_t age_of(const Clock* clock, int64_t time_ns) noexcept nogil:
    """Nanoseconds; time never runs backwards, but the two may be far apart."""
    return <uint64_t>clock.now_ns - <uint64_t>time_ns


cdef inline bint retains_some(const Core* core) noexcept nogil:
    """Whether some entries may not leave."""
    return core.settings.guarded and (core.reclaim.pin_needs != NO_PIN or core.reclaim.least_ns != 0
                                      or core.folds.pin_seq != NO_PIN)


cdef inline bint may_not_evict(const Core* core) noexcept nogil:
    return core.settings.refuse or core.edits.open is not NULL or retains_some(core)


cdef inline bint is_evictable(Core* core, uint64_t seq, int64_t time_ns) noexcept nogil:
    """Whether the entries up to `seq`, made at `time_ns`, may leave."""
    if seq > core.reclaim.pin_needs or seq > core.folds.pin_seq:
        core.reclaim.full_by = FULL_PINNED
        return False
    if core.reclaim.least_ns and age_of(&core.clock, time_ns) < <uint64_t>core.reclaim.least_ns:
        core.reclaim.full_by = FULL_YOUNG
        return False
    return True


cdef inline bint is_overdue(const Reclaim* reclaim, const Clock* clock,
                            int64_t time_ns) noexcept nogil:
    """Whether an entry is older than anything may be."""
    return (reclaim.most_ns != 0
            and age_of(clock, time_ns) > <uint64_t>reclaim.most_ns)


cdef inline bint is_beyond(uint64_t slots, uint64_t used, uint64_t slots_max,
                           uint64_t bytes_max) noexcept nogil:
    return slots > slots_max or used > bytes_max


cdef void watch_room(Ring* ring, Reclaim* reclaim, uint64_t used) noexcept nogil:
    """Note when the free room has become low; `used` bytes of images are taken."""
    cdef bint low = is_beyond(ring.slot_head - ring.slot_tail, used,
                              reclaim.low_slots, reclaim.low_bytes)
    if low and not reclaim.is_low:
        reclaim.due = reclaim.low_due = True
    reclaim.is_low = low


cdef inline bint take_due(Core* core) noexcept nogil:
    """Whether it is time to tell: for the last one out, before the lock is let go."""
    if not core.reclaim.due or core.calls.entered or core.edits.open is not NULL:
        return False
    if core.calls.locked > 1:
        return False
    core.reclaim.due = core.reclaim.throttled
    return True


cdef void note_left(Reclaim* reclaim, const Clock* clock) noexcept nogil:
    """Entries have left by a rule, or in groups: that is told at once, then once a second."""
    if reclaim.left_told and clock.now_ns - reclaim.left_told_ns < LEFT_TOLD_NS:
        return
    reclaim.left_told_ns = clock.now_ns
    reclaim.due = reclaim.left_due = reclaim.left_told = True


# In memory: a forecast of the ring.

cdef struct RingForecast:
    Ring ring
    uint64_t* positions          # of entries that it adds itself; NULL where none may leave
    const int64_t* lengths


cdef void ring_forecast_begin(const Ring* ring, RingForecast* ahead) noexcept nogil:
    ahead.ring = ring[0]
    ahead.positions = NULL
    ahead.lengths = NULL


cdef int ring_forecast_evict(Core* core, RingForecast* ahead) noexcept nogil:
    """Let the oldest entry go; where it may not, E_FULL, and nothing has gone."""
    cdef Ring before = ahead.ring
    cdef uint64_t own
    cdef int status
    if ahead.ring.slot_tail < core.ring.slot_head:
        status = ring_evict(core, &ahead.ring)
        if status == OK and ahead.ring.slot_tail > core.edits.floor:
            core.reclaim.full_by = FULL_OTHERWISE
            status = E_FULL
    else:
        own = ahead.ring.slot_tail - core.ring.slot_head
        ahead.ring.base_seq = core.ring.seq + 1 + own
        ahead.ring.base_time_ns = core.clock.now_ns
        status = E_TOO_LARGE
        if ahead.positions is not NULL:
            ring_drop_oldest(&ahead.ring, ahead.positions[own],
                             write_room(&core.settings, <uint64_t>ahead.lengths[own]))
            status = OK
    if ((status == OK or status == E_TOO_LARGE)
            and not is_evictable(core, ahead.ring.base_seq, ahead.ring.base_time_ns)):
        status = E_FULL
    if status != OK:
        ahead.ring = before
    return status


cdef void ring_forecast_expire(Core* core, RingForecast* ahead) noexcept nogil:
    """Let go what is too old."""
    cdef RingForecast before
    while core.reclaim.most_ns and ahead.ring.slot_tail < core.ring.slot_head:
        before = ahead[0]
        if ring_forecast_evict(core, ahead) != OK or not is_overdue(&core.reclaim, &core.clock,
                                                                    ahead.ring.base_time_ns):
            ahead[0] = before
            return


cdef void ring_forecast_fold(Core* core, RingForecast* ahead, const Ring* before) noexcept nogil:
    """After an entry has left, let others follow, up to a sixteenth of the ring since `before`."""
    cdef RingForecast shorter
    cdef uint64_t slot
    while (ahead.ring.slot_tail < ahead.ring.slot_head
           and ahead.ring.slot_tail - before.slot_tail < ahead.ring.slots // 16):
        shorter = ahead[0]
        slot = ahead.ring.slot_tail
        if slot < core.ring.slot_head and header_check(
                &core.ring, &core.fault, header_at(&core.ring, slot), slot) != OK:
            return
        if (ring_forecast_evict(core, ahead) != OK
                or before.used - ahead.ring.used > ahead.ring.area // 16):
            ahead[0] = shorter
            return


cdef int ring_forecast_place(Core* core, RingForecast* ahead, uint64_t room,
                             uint64_t* position) noexcept nogil:
    """Make room for one more entry by the rules; nothing of it is claimed yet."""
    cdef Ring* ring = &ahead.ring
    cdef Ring before
    cdef Reclaim* reclaim = &core.reclaim
    cdef int status
    ring_forecast_expire(core, ahead)
    if (not is_beyond(ring.slot_head - ring.slot_tail + 1, ring.used + room, reclaim.start_slots,
                      reclaim.start_bytes) and ring_place(ring, room, position)):
        return OK
    if reclaim.start_slots != NO_SLOT:
        while (ring.slot_tail < ring.slot_head
               and is_beyond(ring.slot_head - ring.slot_tail + 1, ring.used + room,
                             reclaim.stop_slots, reclaim.stop_bytes)):
            if ring_forecast_evict(core, ahead) != OK:
                break        # what may not leave is in the way only where there is no room at all
    while not ring_place(ring, room, position):
        if ring.slot_tail == ring.slot_head:
            return E_TOO_LARGE
        if core.settings.refuse:
            reclaim.full_by = FULL_OTHERWISE
            return E_FULL
        before = ahead.ring
        status = ring_forecast_evict(core, ahead)
        if status != OK:
            return status
        if core.folds.on:
            ring_forecast_fold(core, ahead, &before)
    return OK


cdef int ring_forecast_add(Core* core, RingForecast* ahead, uint64_t room) noexcept nogil:
    """Add an entry to the forecast."""
    cdef uint64_t position = 0
    cdef int status = ring_forecast_place(core, ahead, room, &position)
    if status != OK:
        return status
    if ahead.positions is not NULL:
        ahead.positions[ahead.ring.slot_head - core.ring.slot_head] = position
    ring_claim(&ahead.ring, position, room)
    return OK


cdef int ring_forecast_commit(Core* core, const RingForecast* ahead) noexcept nogil:
    """Let go what the forecast, which has added nothing, has let go; all of it, or nothing."""
    cdef int status = OK
    if ahead.ring.slot_tail == core.ring.slot_tail:
        return OK
    if core.lives.newest is not NULL:
        status = preserve_until(core, ahead.ring.slot_tail)
    if status != OK:
        return status
    changed_evict(core, ahead.ring.slot_tail, ahead.ring.base_seq)
    core.evictions += ahead.ring.slot_tail - core.ring.slot_tail
    core.ring = ahead.ring
    if core.reclaim.most_ns or core.reclaim.start_slots != NO_SLOT:
        note_left(&core.reclaim, &core.clock)
    return OK


cdef int guarded_reserve(Core* core, uint64_t room, uint64_t* position) noexcept nogil:
    """What memory_reserve does, where not everything may leave or more than that has to."""
    cdef RingForecast ahead
    cdef uint64_t seq, generation
    cdef int status
    while True:
        ring_forecast_begin(&core.ring, &ahead)
        status = ring_forecast_place(core, &ahead, room, position)
        if status == OK and ahead.ring.slot_tail != core.ring.slot_tail:
            seq, generation = core.ring.seq, core.generation
            status = fold_ask(core, ahead.ring.base_seq)
            if status == OK and (seq != core.ring.seq or generation != core.generation):
                continue    # whatever ran in there has used this journal
        return ring_forecast_commit(core, &ahead) if status == OK else status


# Pins.

cdef void pins_count(Core* core) noexcept nogil:
    """Bring up to date what follows from the list of pins, and from the other rules."""
    cdef Reclaim* reclaim = &core.reclaim
    cdef PinData* pin = reclaim.pins
    reclaim.pin_needs = NO_PIN
    reclaim.pin_high = 0
    while pin is not NULL:
        if pin.needs < reclaim.pin_needs:
            reclaim.pin_needs = pin.needs
        if pin.seq > reclaim.pin_high and not pin.aside:
            reclaim.pin_high = pin.seq
        pin = pin.next
    core.settings.guarded = (
        reclaim.pins is not NULL or reclaim.least_ns != 0 or reclaim.most_ns != 0
        or reclaim.start_slots != NO_SLOT or core.folds.pin_seq != NO_PIN)


cdef void pin_close(PinData* pin) noexcept nogil:
    cdef Core* core = pin.core
    if pin.previous is not NULL:
        pin.previous.next = pin.next
    else:
        core.reclaim.pins = pin.next
    if pin.next is not NULL:
        pin.next.previous = pin.previous
    free(pin)
    pins_count(core)


cdef void pins_follow(Core* core, uint64_t state) noexcept nogil:
    """A rewind has put a new entry in the place of the one that stood for `state`, perhaps."""
    cdef PinData* pin = core.reclaim.pins
    cdef Live* live
    cdef uint64_t now = state
    cdef int k
    if core_resolve(core, state, &now) != OK or now == state:
        return
    for k in range(2):
        live = core.lives.newest if k else core.lives.view
        while live is not NULL:
            if live.seq == state:
                live.seq = now    # so that it expires no sooner than its state does
            live = live.older
    while pin is not NULL:
        if pin.needs == state:
            pin.needs = now
        if pin.seq == state:
            pin.seq = now
        pin = pin.next
    pins_count(core)


cdef void fold_forget(Core* core) noexcept nogil:
    """Ask again before anything leaves: snapshots were deleted, or states dropped."""
    core.folds.seq = 0
    core.folds.pin_seq = NO_PIN
    pins_count(core)


cdef int fold_ahead(Core* core, uint32_t volume, uint64_t offset, uint64_t length,
                    uint64_t count) noexcept nogil:
    """Before the first of several entries: ask for all of those that will have to leave.

    `count` writes of `length`, or where that is 0, one range in pieces, discarded or zeroed. What
    it takes to fold may fail; then none of them is made.
    """
    cdef RingForecast ahead
    cdef uint64_t end = offset + length, room = write_room(&core.settings, length), k = 0, piece
    ring_forecast_begin(&core.ring, &ahead)
    while k < count or count == 0 and offset < end:
        if count == 0:
            piece = end - offset if end - offset < core.limits.piece_max else core.limits.piece_max
            room = 0
            if (core.settings.images & IMAGES_BEFORE
                    and not all_zero(&core.volumes[volume], offset, piece)):
                room = align_up(piece)
            offset += piece
        if ring_forecast_add(core, &ahead, room) != OK:
            break    # from here on the batch's own entries leave, or what is in the way is told
        k += 1
    return fold_ask(core, ahead.ring.base_seq) if ahead.ring.base_seq > core.ring.base_seq else OK


# What goes with entries that a rewind drops.

cdef int rewind_check(Core* core, uint64_t to, uint64_t* state) noexcept nogil:
    cdef Live* live
    cdef int status, k
    ask_clock(&core.clock)
    if core.closed:
        return E_CLOSED
    if not core.settings.images & IMAGES_BEFORE:
        return E_NO_BEFORE
    if core.edits.open is not NULL:
        return E_EDIT
    status = core_resolve(core, to, state)
    if status != OK or state[0] == core.ring.seq:
        return status
    for k in range(2):
        live = core.lives.newest if k else core.lives.view
        while live is not NULL:
            if live.seq > state[0] and not live.dead and not live.closed and not live.aside:
                core.fault.pinned = live.seq
                return E_PINNED
            live = live.older
    if core.reclaim.pins is not NULL and core.reclaim.pin_high > state[0]:
        core.fault.pinned = core.reclaim.pin_high
        return E_PINNED
    return OK


cdef uint64_t rewind_slot(Core* core, uint64_t state, uint64_t first) noexcept nogil:
    """The slot from which on entries go; a REWIND entry at the end goes too, as an alias."""
    cdef const EntryHeader* header
    alias_drop_after(&core.aliases, state)
    if first > core.ring.slot_tail:
        header = header_at(&core.ring, first - 1)
        if header.kind == KIND_REWIND and header_check(&core.ring, &core.fault, header,
                                                       first - 1) == OK:
            alias_push(&core.aliases, header.seq)
            return first - 1
    return first
