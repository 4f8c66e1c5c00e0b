# Chains: from each entry to the next one that touches the same block. Where a journal keeps no
# after-images, a step forward takes what was written from the first later before-image (I2): with
# chains it finds that without a look at all the headers that follow.
#
# Takes: ring, extent_map, engine

cdef struct Touch:
    uint64_t slot
    uint32_t next                # the next touch of the block, index + 1, 0: there is none yet

cdef struct ChainEnd:
    uint64_t block
    uint32_t volume
    uint32_t last                # its newest touch, index + 1; 0: the bucket is free


@cython.no_gc_clear
cdef class Chains:
    """The chains of an engine's retained entries; brought up to date when they are used."""

    cdef readonly Engine engine
    cdef Touch* touches          # in the order of their entries
    cdef uint64_t count
    cdef uint64_t capacity
    cdef uint32_t* firsts        # of each slot from first_slot on, its first touch
    cdef uint64_t firsts_capacity
    cdef ChainEnd* ends          # a hash table
    cdef uint64_t mask
    cdef uint64_t used
    cdef uint64_t first_slot
    cdef uint64_t next_slot
    cdef uint64_t generation

    def __cinit__(self, Engine engine not None):
        self.engine = engine
        self.generation = <uint64_t>-1

    def __dealloc__(self):
        free(self.touches)
        free(self.firsts)
        free(self.ends)

    @property
    def entries(self):
        """int: entries that the chains know."""
        return self.next_slot - self.first_slot

    cdef void _clear(self) noexcept nogil:
        cdef Core* core = self.engine.core
        self.count = self.used = 0
        self.first_slot = self.next_slot = core.ring.slot_tail
        self.generation = core.generation
        if self.ends is not NULL:
            memset(self.ends, 0, (self.mask + 1) * sizeof(ChainEnd))

    cdef int _room(self, uint64_t touches) noexcept nogil:
        """Make room for one more entry with so many touches."""
        cdef uint64_t slots = self.next_slot - self.first_slot + 2, k, size
        cdef ChainEnd* ends
        cdef void* grown
        if self.count + touches > self.capacity:
            size = max(2 * self.capacity, self.count + touches, <uint64_t>1024)
            if size > FRAGMENT_LIMIT:
                return E_NO_MEMORY
            grown = realloc(self.touches, size * sizeof(Touch))
            if grown is NULL:
                return E_NO_MEMORY
            self.touches = <Touch*>grown
            self.capacity = size
        if slots > self.firsts_capacity:
            grown = realloc(self.firsts, 2 * slots * sizeof(uint32_t))
            if grown is NULL:
                return E_NO_MEMORY
            self.firsts = <uint32_t*>grown
            self.firsts_capacity = 2 * slots
        size = self.mask + 1 if self.ends is not NULL else 0
        if (self.used + touches) * 4 > size * 3:
            size = max(size, <uint64_t>1024)
            while (self.used + touches) * 4 > size * 3:
                size *= 2
            ends = <ChainEnd*>calloc(size, sizeof(ChainEnd))
            if ends is NULL:
                return E_NO_MEMORY
            for k in range(self.mask + 1 if self.ends is not NULL else 0):
                if self.ends[k].last:
                    chain_end(ends, size - 1, self.ends[k].volume, self.ends[k].block)[0] = \
                        self.ends[k]
            free(self.ends)
            self.ends = ends
            self.mask = size - 1
        return OK

    cdef int _add(self, const EntryHeader* header, uint64_t slot) noexcept nogil:
        cdef uint64_t block = header.offset >> BLOCK_SHIFT
        cdef uint64_t last = (header.offset + header.length - 1) >> BLOCK_SHIFT
        cdef ChainEnd* end
        cdef int status = self._room(last - block + 1 if changes_bytes(header) else 0)
        if status != OK:
            return status
        self.firsts[slot - self.first_slot] = <uint32_t>self.count
        while changes_bytes(header) and block <= last:
            self.touches[self.count].slot = slot
            self.touches[self.count].next = 0
            self.count += 1
            end = chain_end(self.ends, self.mask, header.volume, block)
            if end.last:
                self.touches[end.last - 1].next = <uint32_t>self.count
            else:
                self.used += 1
                end.volume = header.volume
                end.block = block
            end.last = <uint32_t>self.count
            block += 1
        return OK

    cdef int _follow(self) noexcept nogil:
        """Enter what has been written since; begin anew after a rewind, or where most has left."""
        cdef Core* core = self.engine.core
        cdef uint64_t slot
        cdef int status
        if (self.generation != core.generation or self.next_slot < core.ring.slot_tail
                or self.next_slot - self.first_slot > 2 * core.ring.slots):
            self._clear()
        for slot in range(self.next_slot, core.ring.slot_head):
            status = header_check(&core.ring, &core.fault, header_at(&core.ring, slot), slot)
            if status == OK:
                status = self._add(header_at(&core.ring, slot), slot)
            if status != OK:
                return status
            self.next_slot = slot + 1
        return OK

    cdef int _scan(self, ExtentMapData* map, uint64_t first, uint64_t last) noexcept nogil:
        """Insert the first before-images from slot `last` on of what slots [first, last) touch."""
        cdef Core* core = self.engine.core
        cdef uint64_t slot, k, stop, block
        cdef uint32_t here
        cdef const EntryHeader* header
        cdef int status = self._follow()
        for slot in range(first, last):
            if status != OK:
                return status
            header = header_at(&core.ring, slot)
            if not changes_bytes(header) or map.only is not NULL and not map.only[header.volume]:
                continue
            block = header.offset >> BLOCK_SHIFT
            k = self.firsts[slot - self.first_slot]
            stop = k + ((header.offset + header.length - 1) >> BLOCK_SHIFT) - block + 1
            while k < stop and status == OK:
                here = self.touches[k].next
                if not here or self.touches[here - 1].slot >= last:
                    while here and status == OK:
                        status = chain_insert(core, map, self.touches[here - 1].slot, block)
                        if bucket_of(map, header.volume, block).head & BLOCK_FULL:
                            break
                        here = self.touches[here - 1].next
                k += 1
                block += 1
        return status


cdef int chain_insert(Core* core, ExtentMapData* map, uint64_t slot,
                      uint64_t block) noexcept nogil:
    """Insert what an entry overwrote of one block: in another one it need not be the first."""
    cdef uint64_t start = block << BLOCK_SHIFT, stop = start + BLOCK_BYTES
    cdef Fragment piece
    if not fragment_of(core.volumes, core.disk, map, header_at(&core.ring, slot), slot, False,
                       &piece):
        return OK
    if piece.offset < start:
        piece.source += start - piece.offset
        piece.length -= <uint32_t>(start - piece.offset)
        piece.offset = start
        piece.flags &= ~<uint32_t>FRAGMENT_WHOLE
    if piece.offset + piece.length > stop:
        piece.length = <uint32_t>(stop - piece.offset)
        piece.flags &= ~<uint32_t>FRAGMENT_WHOLE
    return map_insert(map, &piece)


cdef ChainEnd* chain_end(ChainEnd* ends, uint64_t mask, uint32_t volume,
                         uint64_t block) noexcept nogil:
    """The block's bucket, or the free one that it would take."""
    cdef uint64_t hashed = (block + (<uint64_t>volume << 48)) * <uint64_t>0x9E3779B97F4A7C15
    cdef uint64_t k = (hashed ^ (hashed >> 32)) & mask
    while ends[k].last and (ends[k].block != block or ends[k].volume != volume):
        k = (k + 1) & mask
    return &ends[k]
