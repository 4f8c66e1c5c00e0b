# Writable images: copy-on-write over a base, in whole blocks of their own. What an undoable
# recovery moves about in, and what a writable view is written to. Its map has one fragment a block.
#
# Takes: ring, extent_map, image

cdef uint8_t* cow_block(ImageData* image, uint32_t volume, uint64_t block, bint fill,
                        int* status) noexcept nogil:
    """The image's own copy of a block, made from its base where there is none yet.

    Without `fill` a new one has any content: all of it is about to be written.
    """
    cdef ExtentMapData* map = &image.map
    cdef uint32_t here = map_first(map, volume, block)
    cdef Fragment whole
    cdef uint8_t* own
    if here:
        return <uint8_t*>map.fragments[here - 1].source
    memset(&whole, 0, sizeof(Fragment))
    whole.volume = volume
    whole.offset = block << BLOCK_SHIFT
    whole.length = <uint32_t>min(image.core.volumes[volume].size - whole.offset,
                                 <uint64_t>BLOCK_BYTES)
    own = arena_alloc(map, BLOCK_BYTES, ARENA_MIN_BYTES)
    if own is NULL:
        status[0] = E_NO_MEMORY
        return NULL
    status[0] = OK
    if fill:
        status[0] = image_fetch(image.base, volume, whole.offset, own, whole.length)
    whole.source = <uint64_t>own
    whole.flags = FRAGMENT_OWN
    whole.slot = NO_SLOT
    if status[0] == OK:
        status[0] = map_insert(map, &whole)
    return own if status[0] == OK else NULL


cdef int cow_ready(ImageData* image, uint32_t volume, uint64_t offset,
                   uint64_t length) noexcept nogil:
    """Have blocks for a range that is about to be written."""
    cdef uint64_t end = offset + length, start, stop, size = image.core.volumes[volume].size
    cdef uint64_t block = offset >> BLOCK_SHIFT
    cdef int status = OK
    while block << BLOCK_SHIFT < end:
        start = block << BLOCK_SHIFT
        stop = start + BLOCK_BYTES if start + BLOCK_BYTES < size else size
        if cow_block(image, volume, block, offset > start or end < stop, &status) is NULL:
            return status
        block += 1
    return OK


cdef int cow_undone(ImageData* image, uint64_t count, int status) noexcept nogil:
    """Take blocks out again that were made for nothing; they need not hold what they show."""
    while image.map.count > count:
        map_unlink_last(&image.map)
    return status


cdef void cow_put(ImageData* image, uint32_t volume, uint64_t offset, const uint8_t* data,
                  uint64_t length) noexcept nogil:
    """Write to blocks that are there; without `data`, zeroes."""
    cdef uint64_t end = offset + length, stop
    cdef uint8_t* own
    cdef int status = OK
    while offset < end:
        own = cow_block(image, volume, offset >> BLOCK_SHIFT, False, &status)
        stop = ((offset >> BLOCK_SHIFT) + 1) << BLOCK_SHIFT
        if stop > end:
            stop = end
        own += offset & (BLOCK_BYTES - 1)
        if data is NULL:
            memset(own, 0, stop - offset)
        else:
            memmove(own, data, stop - offset)
            data += stop - offset
        offset = stop


cdef int cow_write(ImageData* image, uint32_t volume, uint64_t offset, const uint8_t* data,
                   uint64_t length) noexcept nogil:
    """Write a range that lies inside the volume: all of it, or nothing."""
    cdef uint64_t count = image.map.count
    cdef int status = E_CLOSED
    if not image.core.closed and length:
        status = cow_ready(image, volume, offset, length)
    elif not image.core.closed:
        return OK
    if status != OK:
        return cow_undone(image, count, status)
    image.core.cow_changes += 1
    cow_put(image, volume, offset, data, length)
    return OK


cdef int cow_write_many(ImageData* image, uint32_t volume, const int64_t* offsets,
                        uint64_t blocks, const uint8_t* data,
                        uint64_t length) noexcept nogil:
    """Write blocks of `length` at offsets that lie inside the volume: all of them, or none."""
    cdef uint64_t k, count = image.map.count
    cdef int status = E_CLOSED if image.core.closed else OK
    for k in range(blocks if length else 0):
        if status == OK:
            status = cow_ready(image, volume, <uint64_t>offsets[k], length)
    if status != OK:
        return cow_undone(image, count, status)
    image.core.cow_changes += 1
    for k in range(blocks):
        cow_put(image, volume, <uint64_t>offsets[k], data + k * length, length)
    return OK


cdef int cow_merge(ExtentMapData* out, const ExtentMapData* layer) noexcept nogil:
    """Put a copy of a layer's blocks into a map, but for those that are there already."""
    cdef const Fragment* fragment
    cdef Fragment whole
    cdef uint8_t* own
    cdef uint64_t k
    for k in range(layer.count):
        fragment = &layer.fragments[k]
        if map_first(out, fragment.volume, fragment.offset >> BLOCK_SHIFT):
            continue
        own = arena_alloc(out, BLOCK_BYTES, ARENA_MIN_BYTES)
        if own is NULL:
            return E_NO_MEMORY
        memcpy(own, <const uint8_t*>fragment.source, fragment.length)
        whole = fragment[0]
        whole.source = <uint64_t>own
        whole.next = 0
        if map_insert(out, &whole) != OK:
            return E_NO_MEMORY
    return OK


cdef int cow_apply(ImageData* image, ExtentMapData* changes) noexcept nogil:
    """Lay a map over the image: all of it, or nothing."""
    cdef Core* core = image.core
    cdef Fragment* fragment
    cdef uint64_t k, count = image.map.count
    cdef int status = map_load(core, changes)
    for k in range(changes.count):
        fragment = &changes.fragments[k]
        if status == OK:
            status = cow_ready(image, fragment.volume, fragment.offset, fragment.length)
    if status != OK:
        return cow_undone(image, count, status)
    core.cow_changes += 1
    for k in range(changes.count):
        fragment = &changes.fragments[k]
        cow_put(image, fragment.volume, fragment.offset, NULL if fragment.flags & FRAGMENT_ZERO
                else <uint8_t*>fragment_bytes(core.volumes, &core.ring, fragment), fragment.length)
    return OK
