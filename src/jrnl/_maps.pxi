# Maps as the Python layer sees them: where a state's bytes come from.

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
            result._scan(&result.later, target, core.seq, False)
        else:
            result._scan_along(chains, base, target)
        with nogil:
            status = map_bridge(core, &result.data, &result.written, &result.later)
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
                status = map_bridge(core, &result.data, &result.written, &result.later)
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
            own = arena_take(&result.data, align_up(whole.length), ARENA_MIN_BYTES)
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
        raise_status(find_slot_after(core, low, False, &first), core)
        raise_status(find_slot_after(core, high, False, &last), core)
        with nogil:
            status = map_scan(core, map, first, last, after)
        raise_status(status, core)
        return 0

    def check(self, Image base not None):
        """Hold a bridge against the image that it starts from (I2). Raises CorruptionError."""
        cdef int status = E_CLOSED if self.engine.core.closed else OK
        with nogil:
            if status == OK and self.bridged:
                status = bridge_check(self.engine.core, &base.data, &self.written, &self.later)
                if status == OK:
                    map_flag_verified(&self.data)
                    self.bridged = False
        raise_status(status, self.engine.core)

    def settle(self, uint64_t first, uint64_t count):
        """int: copy the bytes of `count` fragments out of the journal, verified; how many bytes."""
        cdef uint64_t last = min(first + count, self.data.count), k, total = 0
        cdef int status = E_CLOSED if self.engine.core.closed else OK
        with nogil:
            if status == OK and first < last:
                status = map_settle(self.engine.core, &self.data, first, last,
                                    settled_room(&self.data))
            for k in range(first, last):
                total += self.data.fragments[k].length
        raise_status(status, self.engine.core)
        return total

    def ranges(self):
        """(volumes, offsets, lengths), int64: what is covered, in pieces."""
        return _ranges_of_map(&self.data)

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
