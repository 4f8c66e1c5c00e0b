# Extent maps: which bytes of a volume come from which entry, first insert wins, byte by byte.
#
# Invariant I1 (docs/design.md): state t at a byte is the before-image of the first later entry that
# covers it. Entries are inserted oldest first, and a byte keeps its first source; after-images are
# inserted newest first. A volume is cut into blocks. A hash table (open addressing, linear probing)
# has one number for each block that is covered: the first of a list of fragments sorted by offset,
# with BLOCK_FULL once no byte is missing. A table of heads for all blocks is slower where few
# blocks of a large volume are covered: each look at it misses the cache.
#
# Takes: kernels, memory, ring, pieces, overlay, reading

cdef enum:
    GROUP = 8                    # blocks whose pages are looked up at once
    CACHED_BYTES = 16777216      # what may still lie in the cache
    FRAGMENT_ZERO = 1            # the bytes are zeroes, and stored nowhere
    FRAGMENT_OWN = 2             # source is an address in the map's own arena
    FRAGMENT_VERIFIED = 4        # its image has been held against its checksum
    FRAGMENT_BAD = 8             # ... and did not match
    FRAGMENT_AFTER = 16          # comes from an after-image
    FRAGMENT_PRODUCTION = 32     # comes from production as it is now
    FRAGMENT_WHOLE = 64          # is all of its image, and knows its checksum
    FRAGMENT_LIMIT = 0x7FFFFFFE
    ARENA_MIN_BYTES = 1048576
    BUCKETS_MIN = 256
    SCAN_AHEAD = 8               # entries whose buckets are fetched while one is inserted

cdef uint32_t BLOCK_FULL = <uint32_t>0x80000000


cdef int map_create(ExtentMapData* map, Core* core) noexcept nogil:
    memset(map, 0, sizeof(ExtentMapData))
    map.core = core
    map.buckets = <Bucket*>calloc(BUCKETS_MIN, sizeof(Bucket))
    if map.buckets is NULL:
        return E_NO_MEMORY
    map.mask = BUCKETS_MIN - 1
    return OK


cdef void map_destroy(ExtentMapData* map) noexcept nogil:
    if map.core is not NULL:
        arena_free(map)
        spare_put_tables(map)
        free(map.only)
    memset(map, 0, sizeof(ExtentMapData))


cdef inline uint64_t bucket_home(const ExtentMapData* map, uint32_t volume,
                                 uint64_t block) noexcept nogil:
    cdef uint64_t key = (block + (<uint64_t>volume << 48)) * <uint64_t>0x9E3779B97F4A7C15
    return (key ^ (key >> 32)) & map.mask


cdef inline Bucket* bucket_of(const ExtentMapData* map, uint32_t volume,
                              uint64_t block) noexcept nogil:
    """The block's bucket, or the free one that it would take."""
    cdef uint64_t k = bucket_home(map, volume, block)
    while map.buckets[k].used:
        if map.buckets[k].block == block and map.buckets[k].volume == volume:
            break
        k = (k + 1) & map.mask
    return &map.buckets[k]


cdef int buckets_grow(ExtentMapData* map) noexcept nogil:
    cdef Bucket* old = map.buckets
    cdef uint64_t count = map.mask + 1, k
    cdef Bucket* buckets = <Bucket*>calloc(count * 4, sizeof(Bucket))
    if buckets is NULL:
        return E_NO_MEMORY
    map.buckets = buckets
    map.mask = count * 4 - 1
    for k in range(count):
        if old[k].used:
            bucket_of(map, old[k].volume, old[k].block)[0] = old[k]
    free(old)
    return OK


cdef void arena_free(ExtentMapData* map) noexcept nogil:
    cdef Arena* arena
    while map.arena is not NULL:
        arena = map.arena
        map.arena = arena.next
        spare_put(map.core, arena.data, arena.size)
        free(arena)


# Fresh pages cost more than filling them, so what the last recovery gave back is kept for the next
# one; of the arena, the kernel may take the pages when memory runs short.

cdef void spare_put(Core* core, uint8_t* data, uint64_t size) noexcept nogil:
    if core.closed or size <= core.spare.arena_size or size > core.limits.capacity:
        unmap_memory(data, size)
        return
    unmap_memory(core.spare.arena, core.spare.arena_size)
    madvise(data, size, MADV_FREE)
    core.spare.arena = data
    core.spare.arena_size = size


cdef uint8_t* spare_reuse(Spare* spare, uint64_t wanted, uint64_t* size) noexcept nogil:
    """The spare arena if it is large enough, and not far too large, else new memory."""
    cdef uint8_t* data = spare.arena
    if data is NULL or spare.arena_size < wanted or spare.arena_size // 4 > wanted:
        size[0] = wanted
        return map_memory(wanted, True)
    size[0] = spare.arena_size
    spare.arena = NULL
    spare.arena_size = 0
    return data


cdef void spare_put_tables(ExtentMapData* map) noexcept nogil:
    """Keep the map's tables if they are the largest yet, else free them."""
    cdef Core* core = map.core
    if core.closed or map.capacity <= core.spare.capacity or map.mask < core.spare.mask:
        free(map.fragments)
        free(map.buckets)
        return
    free(core.spare.fragments)
    free(core.spare.buckets)
    core.spare.fragments = map.fragments
    core.spare.capacity = map.capacity
    core.spare.buckets = map.buckets
    core.spare.mask = map.mask


cdef void spare_reuse_tables(ExtentMapData* map, uint64_t entries) noexcept nogil:
    """Give an empty map the spare tables where so many entries may need them."""
    cdef Core* core = map.core
    if map.count or core.spare.fragments is NULL or entries * 8 < core.spare.capacity:
        return
    free(map.fragments)
    free(map.buckets)
    map.fragments = core.spare.fragments
    map.capacity = core.spare.capacity
    map.buckets = core.spare.buckets
    map.mask = core.spare.mask
    memset(map.buckets, 0, (map.mask + 1) * sizeof(Bucket))
    core.spare.fragments = NULL
    core.spare.capacity = 0
    core.spare.buckets = NULL
    core.spare.mask = 0


cdef uint8_t* arena_alloc(ExtentMapData* map, uint64_t length, uint64_t reserve) noexcept nogil:
    """`length` bytes of the map's own memory, aligned for streaming stores.

    A new arena is made `reserve` bytes large.
    """
    cdef Arena* arena = map.arena
    cdef uint8_t* data
    if arena is NULL or arena.size - arena.used < length:
        arena = <Arena*>malloc(sizeof(Arena))
        if arena is NULL:
            return NULL
        arena.used = 0
        arena.data = spare_reuse(&map.core.spare, reserve if reserve > length else length,
                                 &arena.size)
        if arena.data is NULL:
            free(arena)
            return NULL
        arena.next = map.arena
        map.arena = arena
    data = arena.data + arena.used
    arena.used += align_up(length)
    return data


cdef int arena_reserve(ExtentMapData* map, uint64_t length) noexcept nogil:
    """Have `length` bytes of memory at hand, whatever pieces they are taken in; none is touched."""
    cdef const uint8_t* data
    if length == 0 or (map.arena is not NULL and map.arena.size - map.arena.used >= length):
        return OK
    data = arena_alloc(map, length, 2 * length if length > ARENA_MIN_BYTES else ARENA_MIN_BYTES)
    if data is NULL:
        return E_NO_MEMORY
    map.arena.used = 0
    return OK


cdef int map_reserve(ExtentMapData* map, uint64_t blocks) noexcept nogil:
    """Have room for what entries that touch so many blocks, in all, may insert.

    In a block an entry leaves one gap more than before at most, and adds no more fragments than it
    closes gaps and two.
    """
    while map.capacity < 2 * map.count + map.buckets_used + 3 * blocks:
        if map_grow(map) != OK:
            return E_NO_MEMORY
    while (map.buckets_used + blocks) * 4 > map.mask * 3:
        if buckets_grow(map) != OK:
            return E_NO_MEMORY
    return OK


cdef void buckets_clear(ExtentMapData* map) noexcept nogil:
    """Empty the table; one that a large map has left costs a small one no more than its blocks.

    From a block's home on, all is cleared up to the first free bucket. What is cleared of a run of
    taken buckets is so at any time the end of it, and each block's home is before its bucket.
    """
    cdef uint64_t k, place, cleared = 0
    if map.buckets_used * 16 < map.mask:
        for k in range(map.count):
            place = bucket_home(map, map.fragments[k].volume,
                                map.fragments[k].offset >> BLOCK_SHIFT)
            while map.buckets[place].used:
                memset(&map.buckets[place], 0, sizeof(Bucket))
                cleared += 1
                place = (place + 1) & map.mask
    if cleared != map.buckets_used:    # too many, or some that no fragment was found memory for
        memset(map.buckets, 0, (map.mask + 1) * sizeof(Bucket))
    map.buckets_used = 0


cdef void map_clear(ExtentMapData* map) noexcept nogil:
    """Forget everything; the memory stays for the next use."""
    buckets_clear(map)
    map.count = 0
    map.bytes = 0
    map.entries = 0
    arena_free(map)


cdef int map_grow(ExtentMapData* map) noexcept nogil:
    cdef uint64_t capacity = map.capacity * 2 if map.capacity else 256
    cdef Fragment* fragments
    if map.count >= FRAGMENT_LIMIT:
        return E_NO_MEMORY
    if capacity > FRAGMENT_LIMIT:
        capacity = FRAGMENT_LIMIT
    fragments = <Fragment*>realloc(map.fragments, capacity * sizeof(Fragment))
    if fragments is NULL:
        return E_NO_MEMORY
    map.fragments = fragments
    map.capacity = capacity
    return OK


cdef inline Fragment* map_add(ExtentMapData* map, const Fragment* whole, uint64_t start,
                              uint64_t stop) noexcept nogil:
    """Append the piece [start, stop) of `whole` to the list of fragments, linked to nothing."""
    cdef Fragment* fragment
    if map.count == map.capacity and map_grow(map) != OK:
        return NULL
    fragment = &map.fragments[map.count]
    fragment[0] = whole[0]
    fragment.offset = start
    fragment.length = <uint32_t>(stop - start)
    fragment.source = whole.source + (start - whole.offset)
    fragment.next = 0
    if stop - start != whole.length:
        fragment.flags &= ~<uint32_t>FRAGMENT_WHOLE
    map.count += 1
    map.bytes += stop - start
    return fragment


cdef int map_fill_gaps(ExtentMapData* map, uint32_t* head, const Fragment* whole, uint64_t start,
                       uint64_t stop, uint64_t block_start, uint64_t block_stop) noexcept nogil:
    """Insert what is missing of [start, stop), inside one block that holds something already."""
    cdef uint32_t here = head[0], before = 0, added
    cdef uint64_t cursor = start, gap_end, covered = block_start
    cdef const Fragment* newest = &map.fragments[map.count - 1]
    if (newest.volume == whole.volume and newest.offset >= block_start
            and newest.offset + newest.length <= start):
        before = <uint32_t>map.count    # rising offsets: no need to look for the place
        here = newest.next
    while cursor < stop:
        while here and map.fragments[here - 1].offset + map.fragments[here - 1].length <= cursor:
            before = here
            here = map.fragments[here - 1].next
        gap_end = stop
        if here and map.fragments[here - 1].offset < stop:
            gap_end = map.fragments[here - 1].offset
        if gap_end > cursor:
            if map_add(map, whole, cursor, gap_end) is NULL:
                return E_NO_MEMORY
            added = <uint32_t>map.count
            map.fragments[added - 1].next = here
            if before:
                map.fragments[before - 1].next = added
            else:
                head[0] = added
            before = added
        if not here or gap_end == stop:
            break
        cursor = map.fragments[here - 1].offset + map.fragments[here - 1].length
    if not here and stop < block_stop:
        return OK    # nothing lies behind `stop`, so the block is not full
    here = head[0]
    while here and map.fragments[here - 1].offset == covered:
        covered += map.fragments[here - 1].length
        here = map.fragments[here - 1].next
    if covered == block_stop:
        head[0] |= BLOCK_FULL
    return OK


cdef int map_insert(ExtentMapData* map, const Fragment* whole) noexcept nogil:
    """Add the bytes of `whole`, which may span any number of blocks, that have no source yet."""
    cdef uint64_t start = whole.offset, end = whole.offset + whole.length, stop
    cdef uint64_t before = map.bytes
    cdef uint64_t block_start, block_stop, size = map.core.volumes[whole.volume].size
    cdef Bucket* bucket
    while start < end:
        bucket = bucket_of(map, whole.volume, start >> BLOCK_SHIFT)
        if bucket.head & BLOCK_FULL:
            start = ((start >> BLOCK_SHIFT) + 1) << BLOCK_SHIFT
            continue
        if not bucket.used:
            if map.buckets_used * 4 > map.mask * 3:
                if buckets_grow(map) != OK:
                    return E_NO_MEMORY
                continue
            bucket.used = 1
            bucket.block = start >> BLOCK_SHIFT
            bucket.volume = <uint16_t>whole.volume
            map.buckets_used += 1
        block_start = bucket.block << BLOCK_SHIFT
        block_stop = block_start + BLOCK_BYTES
        if block_stop > size:
            block_stop = size
        stop = end if end < block_stop else block_stop
        if bucket.head == 0:
            if map_add(map, whole, start, stop) is NULL:
                return E_NO_MEMORY
            bucket.head = <uint32_t>map.count
            if stop - start == block_stop - block_start:
                bucket.head |= BLOCK_FULL
        elif map_fill_gaps(map, &bucket.head, whole, start, stop, block_start, block_stop) != OK:
            return E_NO_MEMORY
        start = stop
    if map.bytes != before:
        map.entries += 1
    return OK


cdef inline uint32_t map_first(const ExtentMapData* map, uint32_t volume,
                               uint64_t block) noexcept nogil:
    """The first fragment of a block (index + 1), or 0."""
    return bucket_of(map, volume, block).head & ~BLOCK_FULL


cdef Fragment* map_find(const ExtentMapData* map, uint32_t volume, uint64_t offset, uint64_t end,
                        uint64_t* stop) noexcept nogil:
    """The fragment that covers `offset`, or NULL; the answer holds up to `stop`, at most `end`."""
    cdef uint64_t block = offset >> BLOCK_SHIFT, last = (end - 1) >> BLOCK_SHIFT
    cdef uint32_t here
    cdef Fragment* fragment
    while block <= last:
        here = map_first(map, volume, block)
        while here:
            fragment = &map.fragments[here - 1]
            if fragment.offset > offset:
                stop[0] = fragment.offset if fragment.offset < end else end
                return NULL
            if fragment.offset + fragment.length > offset:
                stop[0] = fragment.offset + fragment.length
                if stop[0] > end:
                    stop[0] = end
                return fragment
            here = fragment.next
        block += 1
    stop[0] = end
    return NULL


cdef void map_unlink_last(ExtentMapData* map) noexcept nogil:
    """Take the newest fragment out again."""
    cdef Fragment* fragment = &map.fragments[map.count - 1]
    cdef uint32_t* head = &bucket_of(map, fragment.volume, fragment.offset >> BLOCK_SHIFT).head
    cdef uint32_t here = head[0] & ~BLOCK_FULL, index = <uint32_t>map.count
    head[0] = here
    if here == index:
        head[0] = fragment.next
    else:
        while map.fragments[here - 1].next != index:
            here = map.fragments[here - 1].next
        map.fragments[here - 1].next = fragment.next
    map.count -= 1
    map.bytes -= fragment.length


cdef inline void bucket_prefetch(const ExtentMapData* map,
                                 const EntryHeader* header) noexcept nogil:
    jrnl_prefetch(<const uint8_t*>&map.buckets[bucket_home(map, header.volume,
                                                           header.offset >> BLOCK_SHIFT)], 1)


cdef inline bint fragment_of(VolumeMemory* volumes, Disk* disk, const ExtentMapData* map,
                             const EntryHeader* header,
                             uint64_t slot, bint after, Fragment* whole) noexcept nogil:
    """One image of an entry as a fragment; False where a map has no use for it."""
    if not changes_bytes(header) or (header.flags & FLAG_BEFORE_ZERO
                                     and header.kind != KIND_WRITE):
        return False    # zeroes over zeroes change nothing: a mkfs discards the whole disk
    if map.only is not NULL and not map.only[header.volume]:
        return False
    whole.slot = slot
    whole.seq = header.seq
    whole.volume = header.volume
    whole.offset = header.offset
    whole.length = header.length
    if header.flags & FLAG_SECTORS:
        whole.offset = sector_start(header.offset)
        whole.length = <uint32_t>image_length(header)
        if whole.offset + whole.length > volumes[whole.volume].size:
            whole.length = <uint32_t>(volumes[whole.volume].size - whole.offset)
    if after:
        whole.source = header.position + before_room(header)
        whole.sum = header.after_sum
        whole.flags = FRAGMENT_AFTER | FRAGMENT_WHOLE | fragments_from(disk)
        if header.flags & FLAG_AFTER_ZERO:
            whole.flags |= FRAGMENT_ZERO | FRAGMENT_VERIFIED
    else:
        whole.source = header.position
        whole.sum = header.before_sum
        whole.flags = FRAGMENT_WHOLE | fragments_from(disk)
        if header.flags & FLAG_BEFORE_ZERO:
            whole.flags |= FRAGMENT_ZERO | FRAGMENT_VERIFIED
    return True


cdef int map_scan(Core* core, ExtentMapData* map, uint64_t first, uint64_t last,
                  bint after) noexcept nogil:
    """Insert before-images of slots [first, last), oldest first; or after-images, newest first."""
    cdef uint64_t slot, k
    cdef const EntryHeader* header
    cdef Fragment whole
    cdef int status
    if core.closed:
        return E_CLOSED
    spare_reuse_tables(map, last - first)
    for k in range(last - first):
        slot = last - 1 - k if after else first + k
        header = header_at(&core.ring, slot)
        if k + SCAN_AHEAD < last - first:
            bucket_prefetch(map, header_at(&core.ring,
                                           slot - SCAN_AHEAD if after else slot + SCAN_AHEAD))
        status = header_check(&core.ring, &core.fault, header, slot)
        if status != OK:
            return status
        if not fragment_of(core.volumes, core.disk, map, header, slot, after, &whole):
            continue
        status = map_insert(map, &whole)
        if status != OK:
            return status
    return OK


cdef int fragment_verify(Core* core, ExtentMapData* map, Fragment* fragment) noexcept nogil:
    """Hold the fragment's whole image against its checksum, once for all fragments of one entry."""
    return fragment_verify_before(core, map, fragment, NULL)


cdef int fragment_verify_before(Core* core, ExtentMapData* map, Fragment* fragment,
                                const uint8_t* next) noexcept nogil:
    """The same while `next`, another image, is on its way to the cache; NULL: there is none."""
    cdef Fragment* first = map.fragments
    cdef Fragment* last = map.fragments + map.count - 1
    cdef Fragment* other = fragment
    cdef const uint8_t* image = core.ring.images + fragment.source
    cdef int status
    if fragment.flags & FRAGMENT_BAD:
        core.fault.entry = fragment.seq
        return E_CORRUPT
    if fragment.flags & (FRAGMENT_VERIFIED | FRAGMENT_OWN | FRAGMENT_PRODUCTION | FRAGMENT_FETCHED):
        return OK    # what is fetched is verified whenever it is read
    if fragment.flags & FRAGMENT_WHOLE:
        if core.ring.checksum and sum_before(image, fragment.length, next) != fragment.sum:
            core.fault.entry = fragment.seq
            return E_CORRUPT
        fragment.flags |= FRAGMENT_VERIFIED
        return OK
    status = header_check(&core.ring, &core.fault, header_at(&core.ring, fragment.slot),
                          fragment.slot)
    if status == OK:
        status = images_check(core, header_at(&core.ring, fragment.slot),
                              FLAG_AFTER if fragment.flags & FRAGMENT_AFTER else FLAG_BEFORE)
    if status != OK:
        return status
    while other <= last and other.slot == fragment.slot:
        other.flags |= FRAGMENT_VERIFIED
        other += 1
    other = fragment
    while other > first and (other - 1).slot == fragment.slot:
        other -= 1
        other.flags |= FRAGMENT_VERIFIED
    return OK


cdef inline const uint8_t* fragment_image(const Ring* ring,
                                          const Fragment* fragment) noexcept nogil:
    """Where the fragment's bytes lie in the ring, or NULL where they do not."""
    if fragment.flags & (FRAGMENT_ZERO | FRAGMENT_OWN | FRAGMENT_PRODUCTION | FRAGMENT_FETCHED):
        return NULL
    return ring.images + fragment.source


cdef inline void fragment_prefetch(const Ring* ring, const Fragment* fragment) noexcept nogil:
    """Have its bytes on their way while the fragment before is worked on."""
    cdef const uint8_t* image = fragment_image(ring, fragment)
    if image is not NULL:
        jrnl_prefetch_far(image, fragment.length)


cdef void fragments_fetch_group(const Ring* ring, const VolumeMemory* volumes,
                                const ExtentMapData* map, uint64_t first,
                                uint64_t last, bint targets) noexcept nogil:
    """Have the pages of the next few fragments looked up, and of where they go to; see GROUP."""
    cdef uint64_t k, end = first + GROUP if first + GROUP < last else last
    cdef const Fragment* fragment
    for k in range(first, end):
        fragment = &map.fragments[k]
        if fragment_image(ring, fragment) is not NULL:
            jrnl_prefetch_page(ring.images + fragment.source)
        if targets:
            jrnl_prefetch(volumes[fragment.volume].data + fragment.offset, 1)


cdef int map_verify(Core* core, ExtentMapData* map) noexcept nogil:
    """Verify every image that the map takes bytes from, each once."""
    cdef uint64_t k
    cdef int status
    for k in range(map.count):
        if k % GROUP == 0:
            fragments_fetch_group(&core.ring, core.volumes, map, k + GROUP, map.count, False)
        status = fragment_verify_before(
            core, map, &map.fragments[k],
            fragment_image(&core.ring, &map.fragments[k + 1]) if k + 1 < map.count else NULL)
        if status != OK:
            return status
    return OK


cdef inline const uint8_t* fragment_bytes(const VolumeMemory* volumes, const Ring* ring,
                                          const Fragment* fragment) noexcept nogil:
    """Where the fragment's bytes lie in memory; not for FRAGMENT_ZERO, nor in file stores."""
    if fragment.flags & FRAGMENT_OWN:
        return <const uint8_t*>fragment.source
    if fragment.flags & FRAGMENT_PRODUCTION:
        return volumes[fragment.volume].data + fragment.offset
    return ring.images + fragment.source


cdef inline int fragment_copy(Core* core, const Fragment* fragment, uint64_t skip,
                              uint8_t* target, uint64_t length) noexcept nogil:
    if fragment.flags & FRAGMENT_ZERO:
        memset(target, 0, length)
    elif fragment.flags & FRAGMENT_FETCHED and not fragment.flags & FRAGMENT_OWN:
        return fragment_read(core, fragment, skip, target, length)
    else:
        copy_block(target, fragment_bytes(core.volumes, &core.ring, fragment) + skip, length)
    return OK


cdef int fragment_read(Core* core, const Fragment* fragment, uint64_t skip, uint8_t* target,
                       uint64_t length) noexcept nogil:
    """File stores: read a fragment's bytes from its image, verified, or from production."""
    cdef const EntryHeader* header
    cdef uint64_t start
    cdef int which = FLAG_AFTER if fragment.flags & FRAGMENT_AFTER else FLAG_BEFORE
    cdef int status
    if fragment.flags & FRAGMENT_PRODUCTION:
        return volume_fetch(core, fragment.volume, fragment.offset + skip, target, length)
    header = header_at(&core.ring, fragment.slot)
    status = header_check(&core.ring, &core.fault, header, fragment.slot)
    if status != OK:
        return status
    start = header.position
    if which == FLAG_AFTER:
        start += before_room(header)
    return disk_piece(core, header, which, fragment.source - start + skip, target, length)


cdef uint64_t settled_room(const ExtentMapData* map) noexcept nogil:
    """Bytes that the map's own memory takes once all of it is settled."""
    cdef uint64_t k, room = 0
    for k in range(map.count):
        if not map.fragments[k].flags & (FRAGMENT_ZERO | FRAGMENT_OWN):
            room += align_up(map.fragments[k].length)
    return room


cdef inline bint settles_at_once(const Ring* ring,
                                 const Fragment* fragment) noexcept nogil:
    """Whether it is all of an image that has yet to be verified: copied and summed in one pass."""
    return (ring.checksum and fragment_image(ring, fragment) is not NULL
            and (fragment.flags & (FRAGMENT_WHOLE | FRAGMENT_VERIFIED | FRAGMENT_BAD))
            == FRAGMENT_WHOLE)


cdef int fragment_settle(Core* core, ExtentMapData* map, Fragment* fragment, uint8_t* own,
                         const Fragment* next) noexcept nogil:
    """Copy a fragment's bytes to `own`, verified on the way; `next` comes after it, or is NULL."""
    cdef const uint8_t* image = core.ring.images + fragment.source
    cdef const uint8_t* then = fragment_image(&core.ring, next) if next is not NULL else NULL
    cdef int status
    if settles_at_once(&core.ring, fragment):
        if copy_and_sum(own, image, fragment.length, then, True) == fragment.sum:
            fragment.flags |= FRAGMENT_VERIFIED
            return OK
        core.fault.entry = fragment.seq
        return E_CORRUPT
    if next is not NULL:
        fragment_prefetch(&core.ring, next)
    status = fragment_copy(core, fragment, 0, own, fragment.length)
    if status == OK:
        status = fragment_verify(core, map, fragment)    # it is in the cache now
    return status


cdef int map_settle(Core* core, ExtentMapData* map, uint64_t first, uint64_t last,
                    uint64_t reserve) noexcept nogil:
    """Copy the bytes of fragments [first, last) into the map's own memory, verified on the way."""
    cdef uint64_t k
    cdef Fragment* fragment
    cdef uint8_t* own
    cdef int status, worst = OK
    for k in range(first, last):
        fragment = &map.fragments[k]
        if (k - first) % GROUP == 0:
            fragments_fetch_group(&core.ring, core.volumes, map, k + GROUP, last, False)
        if fragment.flags & (FRAGMENT_ZERO | FRAGMENT_OWN):
            continue
        own = arena_alloc(map, align_up(fragment.length), reserve)
        if own is NULL:
            return E_NO_MEMORY
        status = fragment_settle(core, map, fragment, own, fragment + 1 if k + 1 < last else NULL)
        if status == E_NO_MEMORY:
            return status
        if status != OK:
            fragment.flags |= FRAGMENT_BAD
            worst = status
            continue
        fragment.source = <uint64_t>own
        fragment.flags |= FRAGMENT_OWN
    jrnl_stream_fence()
    return worst


cdef int map_check(Core* core, ExtentMapData* map) noexcept nogil:
    """Read every fragment once."""
    cdef uint8_t[BLOCK_BYTES] content
    cdef uint64_t k
    cdef int status
    for k in range(map.count):
        status = fragment_copy(core, &map.fragments[k], 0, content, map.fragments[k].length)
        if status != OK:
            return status
    return OK


cdef inline uint64_t fragment_room(const Fragment* fragment) noexcept nogil:
    """Bytes that it takes once it is settled."""
    return 0 if fragment.flags & FRAGMENT_ZERO else align_up(fragment.length)


cdef int map_load(Core* core, ExtentMapData* map) noexcept nogil:
    """Verify every image, and have in memory what would be fetched: it is read only once."""
    cdef int status = map_verify(core, map)
    if status == OK and fragments_from(core.disk) & FRAGMENT_FETCHED:
        return map_settle(core, map, 0, map.count, settled_room(map))
    return status
