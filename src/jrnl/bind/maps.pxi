# Maps as the Python layer sees them: where a state's bytes come from.
#
# Takes: errors, signal_poll, ring, extent_map, preserve, image, storage, fold, lifetime, engine,
# chains

# What reads as one state of all volumes, as far as maps and preserved states know it; see Image.
@cython.no_gc_clear
cdef class _State:
    cdef ImageData data
    cdef readonly Engine engine
    cdef readonly _State base


cdef uint8_t* _only(Core* core, volumes) except? NULL:
    """One byte a volume: whether its index is in `volumes`; NULL where that is None."""
    cdef uint8_t* only
    if volumes is None:
        return NULL
    only = <uint8_t*>calloc(core.volume_count, 1)
    if only is NULL:
        raise_status(E_NO_MEMORY, core)
    for index in volumes:
        only[<uint32_t>index] = 1
    return only


@cython.no_gc_clear
cdef class ExtentMap:
    """Where the bytes of a target state come from: the plan of a recovery, in full.

    Attributes
    ----------
    bytes : int
        Distinct bytes covered.
    entries : int
        Journal entries that cover at least one of them.
    """

    cdef ExtentMapData data
    cdef ExtentMapData written     # bridge: what was written between the snapshot and the target
    cdef ExtentMapData later       # bridge: first later before-images
    cdef bint bridged
    cdef readonly Engine engine

    def __cinit__(self, Engine engine not None):
        self.engine = engine
        raise_status(map_create(&self.data, engine.core), engine.core)

    def __dealloc__(self):
        if self.engine is None:    # __cinit__ was called with nothing to hold on to
            return
        core_drop(self.engine.core, NULL, &self.data)
        core_drop(self.engine.core, NULL, &self.written)
        core_drop(self.engine.core, NULL, &self.later)

    @staticmethod
    def backward(Engine engine not None, uint64_t target, uint64_t base, volumes=None):
        """From state `base` back to `target`, by the before-images in between (I1)."""
        cdef ExtentMap result = ExtentMap(engine)
        result.data.only = _only(engine.core, volumes)
        result._scan(&result.data, target, base, False)
        return result

    @staticmethod
    def forward(Engine engine not None, uint64_t base, uint64_t target, volumes=None):
        """From state `base` on to `target`, by the after-images in between (I3)."""
        cdef ExtentMap result = ExtentMap(engine)
        result.data.only = _only(engine.core, volumes)
        result._scan(&result.data, base, target, True)
        return result

    @staticmethod
    def bridge(Engine engine not None, uint64_t base, uint64_t target, volumes=None,
               Chains chains=None):
        """From state `base` on to `target`, by before-images and production (I2).

        With `chains` only the blocks that were written in between are looked at and cross-checked,
        not all that was written later.
        """
        cdef ExtentMap result = ExtentMap(engine)
        cdef Core* core = engine.core
        cdef int status
        raise_status(map_create(&result.written, core), core)
        raise_status(map_create(&result.later, core), core)
        result.written.only = _only(core, volumes)
        result.later.only = _only(core, volumes)
        result.bridged = True
        result._scan(&result.written, base, target, False)
        if chains is None:
            result._scan(&result.later, target, core.ring.seq, False)
        else:
            result._scan_along(chains, base, target)
        with nogil:
            status = map_bridge(core.disk, &result.data, &result.written, &result.later)
        raise_status(status, core)
        return result

    @staticmethod
    def fold(Engine engine not None, uint64_t base, uint64_t target):
        """From state `base` on to `target`, as `bridge`, but of `target` only: nothing is compared.

        What lies after `target` is looked at only as far as it tells what `base` lacks.
        """
        cdef ExtentMap result = ExtentMap(engine)
        cdef Core* core = engine.core
        cdef uint64_t first = 0
        cdef int status
        raise_status(map_create(&result.written, core), core)
        raise_status(map_create(&result.later, core), core)
        result._scan(&result.written, base, target, False)
        raise_status(find_slot_after(core, target, False, &first), core)
        with nogil:
            status = map_scan_within(core, &result.later, &result.written, first,
                                     core.ring.slot_head)
            if status == OK:
                status = map_bridge(core.disk, &result.data, &result.written, &result.later)
        raise_status(status, core)
        return result

    @staticmethod
    def loaded(Engine engine not None, volumes, offsets, lengths, const uint8_t[::1] data):
        """From bytes that lie one behind the other in `data`; the map has its own copy."""
        cdef ExtentMap result = ExtentMap(engine)
        cdef Core* core = engine.core
        cdef Fragment whole
        cdef uint8_t* own
        cdef uint64_t start = 0
        memset(&whole, 0, sizeof(Fragment))
        for volume, offset, length in zip(volumes, offsets, lengths):
            whole.volume = volume
            whole.offset = offset
            whole.length = length
            raise_status(range_check(core, whole.volume, whole.offset, whole.length), core)
            own = arena_alloc(&result.data, align_up(whole.length), ARENA_MIN_BYTES)
            if own is NULL:
                raise_status(E_NO_MEMORY, core)
            memcpy(own, &data[start], whole.length)
            start += whole.length
            whole.source = <uint64_t>own
            whole.flags = FRAGMENT_OWN
            whole.slot = NO_SLOT
            raise_status(map_insert(&result.data, &whole), core)
        return result

    cdef int _scan_along(self, Chains chains, uint64_t base, uint64_t target) except -1:
        cdef Core* core = self.engine.core
        cdef uint64_t first = 0, last = 0
        cdef int status
        raise_status(find_slot_after(core, base, False, &first), core)
        raise_status(find_slot_after(core, target, False, &last), core)
        with nogil:
            status = chains._scan(&self.later, first, last)
        raise_status(status, core)
        return 0

    cdef int _scan(self, ExtentMapData* map, uint64_t low, uint64_t high, bint after) except -1:
        cdef Core* core = self.engine.core
        cdef uint64_t first = 0, last = 0
        cdef int status
        cdef uint64_t part
        cdef Poll poll
        raise_status(find_slot_after(core, low, False, &first), core)
        raise_status(find_slot_after(core, high, False, &last), core)
        poll_begin(&poll, core)
        if first < last:
            spare_reuse_tables(map, last - first)
        while first < last:
            part = min(last - first, <uint64_t>POLL_ENTRIES)
            with nogil:
                status = map_scan(core, map, last - part if after else first,
                                  last if after else first + part, after)
            raise_status(status, core)
            if after:
                last -= part
            else:
                first += part
            if first < last:
                poll_unmoved(&poll, core)
        return 0

    def check(self, _State base not None):
        """Hold a bridge against the image that it starts from (I2). Raises CorruptionError."""
        cdef Core* core = self.engine.core
        cdef int status = E_CLOSED if core.closed else OK
        cdef uint64_t first = 0, last
        cdef Poll poll
        raise_status(status, core)
        if not self.bridged:
            return
        poll_begin(&poll, core)
        while first < self.later.count:
            last = min(first + POLL_ENTRIES, self.later.count)
            with nogil:
                status = bridge_check(core, &base.data, &self.written, &self.later, first, last)
            raise_status(status, core)
            first = last
            if first < self.later.count:
                poll_unmoved(&poll, core)
        map_flag_verified(&self.data)
        self.bridged = False

    def settle(self, uint64_t first, uint64_t count):
        """int: copy the bytes of `count` fragments out of the journal, verified; how many bytes."""
        cdef Core* core = self.engine.core
        cdef uint64_t last = min(first + count, self.data.count), k, total = 0, stop, room
        cdef int status = E_CLOSED if core.closed else OK
        cdef Poll poll
        poll_begin(&poll, core)
        raise_status(status, core)
        with nogil:
            room = settled_room(&self.data)
        while first < last:
            stop = min(first + POLL_ENTRIES, last)
            with nogil:
                status = map_settle(core, &self.data, first, stop, room)
                for k in range(first, stop):
                    total += self.data.fragments[k].length
            raise_status(status, core)
            first = stop
            if first < last:
                poll_unmoved(&poll, core)
        return total

    def ranges(self):
        """(volumes, offsets, lengths), int64: what is covered, in pieces."""
        return _ranges_of_map(&self.data)

    def sorted_ranges(self):
        """(volumes, offsets, lengths), int64: the same, sorted by volume and offset."""
        volumes, offsets, lengths = _ranges_of_map(&self.data)
        order = numpy.lexsort((offsets, volumes))
        return volumes[order], offsets[order], lengths[order]

    @property
    def from_production(self):
        """int: bytes that come from production as it is."""
        cdef uint64_t k, total = 0
        for k in range(self.data.count):
            if self.data.fragments[k].flags & FRAGMENT_PRODUCTION:
                total += self.data.fragments[k].length
        return total

    @property
    def count(self):
        """int: fragments."""
        return self.data.count

    @property
    def bytes(self):
        return self.data.bytes

    @property
    def entries(self):
        return self.data.entries


cdef _covered_flags(Engine engine, covered):
    """A byte for each volume, 1 where it is among the indices `covered`, or that is None."""
    count = engine.core.volume_count
    return bytes([covered is None or k in covered for k in range(count)])


def restore_outcome(Engine engine not None, const int64_t[::1] offsets,
                    const int64_t[::1] lengths):
    """int: the oldest state once these writes are in. Raises JournalFull, MemoryError.

    What they push out and an open state needs, there is memory for then.
    """
    cdef uint64_t k, bytes = 0
    cdef uint64_t oldest = engine.core.ring.base_seq
    cdef uint64_t count = lengths.shape[0]
    cdef int status = OK
    if count:
        with nogil:
            status = storage_forecast(engine.core, &offsets[0], &lengths[0], count, &oldest)
            for k in range(count):
                bytes += sector_span(SECTOR_BYTES - 1, <uint64_t>lengths[k])
            if status == OK:
                status = preserve_reserve(engine.core, count, count, bytes)
    raise_status(status, engine.core)
    return oldest


cdef _ranges_of_map(const ExtentMapData* map):
    cdef uint64_t k
    table = numpy.empty((3, map.count), numpy.int64)
    cdef int64_t[:, ::1] rows = table
    for k in range(map.count):
        rows[0, k] = map.fragments[k].volume
        rows[1, k] = <int64_t>map.fragments[k].offset
        rows[2, k] = map.fragments[k].length
    return table[0], table[1], table[2]


cdef void map_flag_verified(ExtentMapData* map) noexcept nogil:
    cdef uint64_t k
    for k in range(map.count):
        map.fragments[k].flags |= FRAGMENT_VERIFIED


cdef _blocks_of_map(const ExtentMapData* map, uint32_t volume):
    cdef uint64_t k
    blocks = numpy.empty(map.count, numpy.int64)
    cdef int64_t[::1] numbers = blocks
    cdef uint64_t used = 0
    for k in range(map.count):
        if map.fragments[k].volume == volume:
            numbers[used] = <int64_t>(map.fragments[k].offset >> BLOCK_SHIFT)
            used += 1
    return blocks[:used]


cdef _copy_of_int64(const int64_t* numbers, uint64_t count):
    if count == 0:
        return numpy.empty(0, numpy.int64)
    return numpy.frombuffer(PyMemoryView_FromMemory(<char*>numbers, count * sizeof(int64_t),
                                                    PyBUF_READ), numpy.int64).copy()
