# History: which entries wrote where, what they cost, and where two states differ.
#
# Takes: errors, signal_poll, ring, image, storage, arguments, engine, maps, image_parts, images

cdef struct Tally:
    uint64_t[KIND_COUNT] counts  # entries of each kind
    uint64_t[KIND_COUNT] bytes   # of their ranges
    uint64_t journal_bytes
    int64_t since_ns             # the time of the state before them
    int64_t until_ns             # ... and of the last one

cdef struct SlotList:
    uint64_t* slots
    uint64_t count
    uint64_t capacity


cdef int slot_push(SlotList* found, uint64_t slot) noexcept nogil:
    cdef uint64_t capacity
    cdef uint64_t* grown
    if found.count == found.capacity:
        capacity = found.capacity * 2 if found.capacity else 256
        grown = <uint64_t*>realloc(found.slots, capacity * sizeof(uint64_t))
        if grown is NULL:
            return E_NO_MEMORY
        found.slots = grown
        found.capacity = capacity
    found.slots[found.count] = slot
    found.count += 1
    return OK


cdef int find_overlapping(Core* core, uint32_t volume, uint64_t start, uint64_t end,
                          SlotList* found) noexcept nogil:
    """All retained entries that wrote any of [start, end), oldest first."""
    cdef const EntryHeader* header = NULL
    cdef uint64_t slot
    cdef int status = OK
    for slot in range(core.ring.slot_tail, core.ring.slot_head):
        status = sound_header(core, slot, &header)
        if status == OK and (changes_bytes(header) and header.volume == volume
                             and header.offset < end
                             and start < header.offset + header.length):
            status = slot_push(found, slot)
        if status != OK:
            return status
    return OK


cdef int list_ranges(Core* core, uint64_t first, uint64_t last, bint writes_only,
                     const uint64_t* bases, uint64_t* starts, uint64_t* stops,
                     uint64_t* count) noexcept nogil:
    """What the entries of slots [first, last) wrote; volume k begins at address bases[k]."""
    cdef const EntryHeader* header = NULL
    cdef uint64_t slot, used = 0
    cdef int status
    for slot in range(first, last):
        status = sound_header(core, slot, &header)
        if status != OK:
            return status
        if writes_only and header.kind != KIND_WRITE:
            continue
        if changes_bytes(header) and not changes_nothing(header):
            starts[used] = bases[header.volume] + header.offset
            stops[used] = starts[used] + header.length
            used += 1
    count[0] = used
    return OK


cdef int tally_slots(Core* core, uint64_t first, uint64_t last, int64_t volume,
                     Tally* tally) noexcept nogil:
    """Count the entries of slots [first, last), by kind, and the journal that they took.

    Of one `volume` alone, those that change its bytes; -1: all.
    """
    cdef const EntryHeader* header = NULL
    cdef uint64_t slot
    cdef int status
    memset(tally, 0, sizeof(Tally))
    tally.since_ns = core.ring.base_time_ns
    if first > core.ring.slot_tail:
        status = sound_header(core, first - 1, &header)
        if status != OK:
            return status
        tally.since_ns = header.time_ns
    tally.until_ns = tally.since_ns
    for slot in range(first, last):
        status = sound_header(core, slot, &header)
        if status != OK:
            return status
        tally.until_ns = header.time_ns
        if volume >= 0 and not (changes_bytes(header) and header.volume == volume):
            continue
        tally.counts[header.kind] += 1
        tally.bytes[header.kind] += header.length
        tally.journal_bytes += HEADER_BYTES + image_room(header)
    if first == last or volume >= 0:
        return OK
    return journal_span(core, first, last, &tally.journal_bytes)


cdef int compare_block(ImageData* one, ImageData* other, uint32_t volume, uint64_t offset,
                       uint64_t length, RangeList* ranges) noexcept nogil:
    """Add to `ranges` where two images differ in a range of at most BLOCK_BYTES."""
    cdef uint8_t[BLOCK_BYTES] left
    cdef uint8_t[BLOCK_BYTES] right
    cdef int status = image_fetch(one, volume, offset, left, length)
    if status == OK:
        status = image_fetch(other, volume, offset, right, length)
    if status != OK:
        return status
    return compare_lines(left, right, offset, length, UNLIMITED, ranges)


cdef struct RangeCursor:
    uint64_t range               # the one that is looked at next, and from which of its bytes on
    uint64_t done


cdef int compare_ranges(ImageData* one, ImageData* other, uint32_t volume,
                        const int64_t* offsets, const int64_t* lengths, uint64_t count,
                        RangeCursor* cursor, RangeList* ranges) noexcept nogil:
    """Compare two images in the given ranges, which rise and do not overlap; some blocks more."""
    cdef uint64_t offset, end, length, blocks = 0
    cdef int status
    while cursor.range < count and blocks < POLL_ENTRIES:
        offset = <uint64_t>offsets[cursor.range] + cursor.done
        end = <uint64_t>offsets[cursor.range] + <uint64_t>lengths[cursor.range]
        if offset == end:
            cursor.range += 1
            cursor.done = 0
            continue
        length = min(BLOCK_BYTES - offset % BLOCK_BYTES, end - offset)
        status = compare_block(one, other, volume, offset, length, ranges)
        if status != OK:
            return status
        cursor.done += length
        blocks += 1
    return OK


cdef int find_slots(Engine engine, uint64_t low, uint64_t high, uint64_t* first,
                    uint64_t* last) except -1:
    """The slots of the entries that lead from state `low` to state `high`."""
    raise_status(find_slot_after(engine.core, low, False, first), engine.core)
    raise_status(find_slot_after(engine.core, high, False, last), engine.core)
    return 0


# For the Python layer. Callers hold the lock.

def entries_over(Engine engine not None, offset, length, uint32_t volume):
    """Headers of the retained entries that wrote in a range, as `Engine.entries`.

    Raises OutOfBounds, InvalidType, CorruptionError.
    """
    cdef Core* core = engine.core
    cdef uint64_t size = core.volumes[volume].size, k
    cdef uint64_t start = as_unsigned(offset, "offset", size)
    cdef uint64_t count = as_unsigned(length, "length", size)
    cdef SlotList found
    cdef int status = OK
    cdef EntryRow[::1] rows
    if start > size or count > size - start:
        raise_bounds(offset, length, size)
    engine.check_not_closed()
    memset(&found, 0, sizeof(SlotList))
    try:
        if count:
            with nogil:
                status = find_overlapping(core, volume, start, start + count, &found)
        raise_status(status, core)
        table = numpy.empty(found.count, numpy.dtype(ENTRY_FIELDS))
        rows = table
        engine.check_not_closed()    # the collector may have run in here
        if found.count:
            with nogil:
                for k in range(found.count):
                    row_fill(&rows[k], header_at(&core.ring, found.slots[k]))
        return table
    finally:
        free(found.slots)


def written_ranges(Engine engine not None, uint64_t low, uint64_t high,
                   const uint64_t[::1] bases, bint writes_only=False):
    """(starts, stops), uint64: what each entry between two states wrote, in journal order.

    Addresses count through all volumes: volume k begins at bases[k]. Zeroes over zeroes are left
    out where the header says so. Raises CorruptionError.
    """
    cdef Core* core = engine.core
    cdef uint64_t first = 0, last = 0, count = 0
    cdef int status = OK
    find_slots(engine, low, high, &first, &last)
    starts = numpy.empty(last - first, numpy.uint64)
    stops = numpy.empty(last - first, numpy.uint64)
    cdef uint64_t[::1] start_rows = starts
    cdef uint64_t[::1] stop_rows = stops
    if last > first:
        with nogil:
            status = list_ranges(core, first, last, writes_only, &bases[0], &start_rows[0],
                                 &stop_rows[0], &count)
    raise_status(status, core)
    return starts[:count], stops[:count]


def tally(Engine engine not None, uint64_t low, uint64_t high, volume=None):
    """What the entries between two states are, and what they took; of one volume, or of all.

    Raises CorruptionError.

    Returns
    -------
    counts, bytes : list of int
        By kind: how many entries, and the bytes of their ranges.
    journal_bytes, span_ns, evictions : int
        The last one since the engine was made.
    """
    cdef Tally result
    cdef uint64_t first = 0, last = 0
    cdef int64_t only = -1 if volume is None else volume
    cdef int status
    find_slots(engine, low, high, &first, &last)
    with nogil:
        status = tally_slots(engine.core, first, last, only, &result)
    raise_status(status, engine.core)
    return ([result.counts[kind] for kind in range(KIND_COUNT)],
            [result.bytes[kind] for kind in range(KIND_COUNT)],
            result.journal_bytes, result.until_ns - result.since_ns, engine.core.evictions)


def compare_images(Image one not None, Image other not None, uint32_t volume,
                   const int64_t[::1] offsets, const int64_t[::1] lengths):
    """(offsets, lengths), int64: where two images of a volume differ, inside the given ranges.

    A range that is returned begins and ends with a byte that differs; equal runs of less than 64
    bytes between two such bytes are in it. Raises CorruptionError, PointExpired.
    """
    cdef Core* core = one.data.core
    cdef uint64_t count = offsets.shape[0]
    cdef RangeList ranges
    cdef RangeCursor cursor
    cdef Poll poll
    cdef int status = OK
    memset(&ranges, 0, sizeof(RangeList))
    memset(&cursor, 0, sizeof(RangeCursor))
    poll_begin(&poll, core)
    try:
        image_follow(&one.data, &poll)
        image_follow(&other.data, &poll)
        while cursor.range < count and status == OK:
            with nogil:
                status = compare_ranges(&one.data, &other.data, volume, &offsets[0], &lengths[0],
                                        count, &cursor, &ranges)
            poll_unmoved(&poll, core)
        raise_status(status, core)
        return (_copy_of_int64(ranges.offsets, ranges.count),
                _copy_of_int64(ranges.lengths, ranges.count))
    finally:
        free(ranges.offsets)
        free(ranges.lengths)
