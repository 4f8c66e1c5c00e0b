# Images: a base, and a map of where the image differs from it. One read path serves them all.
#
# Takes: hash, kernels, memory, shared, errors, signal_poll, ring, reading, extent_map, live,
# preserve, snapshot_files, preserved

cdef ImageOps[IMAGE_KINDS] image_ops


cdef inline int image_fetch(ImageData* image, uint32_t volume, uint64_t offset, uint8_t* target,
                            uint64_t length) noexcept nogil:
    """Read a range that lies inside the volume. The lock is held."""
    if image.core.closed:
        return E_CLOSED
    if length == 0:
        return OK
    return image_ops[image.kind].fetch(image, volume, offset, target, length)


cdef inline int image_materialise(ImageData* image, uint32_t volume, uint64_t start,
                                  uint64_t stop, uint8_t* target) noexcept nogil:
    """Lay a range out in `target`, zeroed memory of the volume's size.

    It begins with a chunk. The lock is held.
    """
    if image.core.closed:
        return E_CLOSED
    return image_ops[image.kind].lay(image, volume, start, stop, target)


cdef int fetched_lay(ImageData* image, uint32_t volume, uint64_t start, uint64_t stop,
                     uint8_t* target) noexcept nogil:
    return image_ops[image.kind].fetch(image, volume, start, target + start, stop - start)


cdef int present_fetch(ImageData* image, uint32_t volume, uint64_t offset, uint8_t* target,
                       uint64_t length) noexcept nogil:
    return production_read(image.core, volume, offset, target, length)


cdef int present_lay(ImageData* image, uint32_t volume, uint64_t start, uint64_t stop,
                     uint8_t* target) noexcept nogil:
    return production_lay(image.core, volume, start, stop, target)


cdef int live_fetch(ImageData* image, uint32_t volume, uint64_t offset, uint8_t* target,
                    uint64_t length) noexcept nogil:
    cdef int status = live_ready(image.live)
    if status != OK:
        return status
    image.core.lives.busy += 1
    status = map_fetch(image, NULL, volume, offset, target, length)
    live_idle(&image.core.lives)
    return status


cdef int patched_fetch(ImageData* image, uint32_t volume, uint64_t offset, uint8_t* target,
                       uint64_t length) noexcept nogil:
    if image.passes and image.core.ring.base_seq > image.needs:
        return E_EXPIRED
    return map_fetch(image, &image.map, volume, offset, target, length)


cdef int preserved_image_fetch(ImageData* image, uint32_t volume, uint64_t offset, uint8_t* target,
                               uint64_t length) noexcept nogil:
    return preserved_fetch(image.preserved, volume, offset, target, length)


cdef int preserved_fetch(Preserved* preserved, uint32_t volume, uint64_t offset, uint8_t* target,
                         uint64_t length) noexcept nogil:
    """Read a range: blocks that are in the file, and what lies between them through the log."""
    cdef uint8_t[BLOCK_BYTES] content
    cdef uint64_t end = offset + length, stop
    cdef const PreservedBlock* place
    cdef int status = preserved_ready(preserved)
    while offset < end and status == OK:
        stop = ((offset >> BLOCK_SHIFT) + 1) << BLOCK_SHIFT
        place = preserved_find(preserved, volume, offset >> BLOCK_SHIFT)
        while (place is NULL and stop < end
               and preserved_find(preserved, volume, stop >> BLOCK_SHIFT) is NULL):
            stop += BLOCK_BYTES
        if stop > end:
            stop = end
        if place is NULL:
            status = map_fetch(&preserved.image, &preserved.map, volume, offset, target,
                               stop - offset)
        else:
            status = preserved_read(preserved, place, content)
            memcpy(target, content + offset % BLOCK_BYTES, stop - offset)
        target += stop - offset
        offset = stop
    return status


cdef int map_fetch(ImageData* image, ExtentMapData* map, uint32_t volume, uint64_t offset,
                   uint8_t* target, uint64_t length) noexcept nogil:
    """Read through a map: what it covers from there, the gaps from the image's base.

    Without one, through those of the live state that the image shows.
    """
    cdef Live* live = image.live if map is NULL else NULL
    cdef uint64_t end = offset + length, stop = 0
    cdef Fragment* fragment
    cdef int status
    while offset < end:
        if live is not NULL:
            fragment = live_find(live, volume, offset, end, &stop, &map)
        else:
            fragment = map_find(map, volume, offset, end, &stop)
        if fragment is NULL:
            status = image_fetch(image.base, volume, offset, target, stop - offset)
        else:
            status = fragment_verify(image.core, map, fragment)
            if status == OK:
                status = fragment_copy(image.core, fragment, offset - fragment.offset, target,
                                       stop - offset)
        if status != OK:
            return status
        target += stop - offset
        offset = stop
    return OK


cdef int map_lay(Core* core, ExtentMapData* map, uint32_t volume, uint64_t first, uint64_t last,
                 uint8_t* target) noexcept nogil:
    """Lay what some fragments of a map have of one volume over its content."""
    cdef Fragment* fragment
    cdef uint64_t k
    cdef int status
    for k in range(first, last):
        fragment = &map.fragments[k]
        if fragment.volume == volume:
            status = fragment_verify(core, map, fragment)
            if status == OK:
                status = fragment_copy(core, fragment, 0, target + fragment.offset,
                                       fragment.length)
            if status != OK:
                return status
    return OK


# Frozen images: what a snapshot is made of.

cdef int frozen_begin(ImageData* image, const uint8_t* covered) noexcept nogil:
    """Get memory for a copy of the volumes that `covered` has a 1 for; none of it is touched."""
    cdef Core* core = image.core
    cdef VolumeMemory* volume
    cdef uint64_t blocks
    cdef uint32_t k
    if core.closed:
        return E_CLOSED
    image.data = <uint8_t**>calloc(core.volume_count, sizeof(uint8_t*))
    image.sums = <uint64_t**>calloc(core.volume_count, sizeof(uint64_t*))
    image.touched = <uint8_t**>calloc(core.volume_count, sizeof(uint8_t*))
    if image.data is NULL or image.sums is NULL or image.touched is NULL:
        return E_NO_MEMORY
    for k in range(core.volume_count):
        if not covered[k]:
            continue
        volume = &core.volumes[k]
        blocks = (volume.size + SNAPSHOT_BLOCK_BYTES - 1) // SNAPSHOT_BLOCK_BYTES
        image.data[k] = map_memory(volume.size, fits_in_huge_pages(volume.size))
        image.sums[k] = <uint64_t*>map_memory(blocks * sizeof(uint64_t), False)
        image.touched[k] = map_memory(volume.chunks, False)
        if image.data[k] is NULL or image.sums[k] is NULL or image.touched[k] is NULL:
            return E_NO_MEMORY
    return OK


cdef int frozen_create(ImageData* image, const uint8_t* covered) except -1:
    """Copy the volumes of image.core as they are now, with a checksum for each block.

    There may be no past to read from, so that nothing may come in meanwhile.
    """
    cdef Core* core = image.core
    cdef uint64_t first, last
    cdef Poll poll
    cdef uint32_t k
    raise_status(frozen_begin(image, covered), core)
    core.calls.exclusive += 1
    poll_begin(&poll, core)
    try:
        for k in range(core.volume_count):
            first = 0
            while covered[k] and first < core.volumes[k].chunks:
                last = min(first + (POLL_BYTES >> CHUNK_SHIFT), core.volumes[k].chunks)
                with nogil:
                    frozen_copy(core, k, first, last, image)
                first = last
                poll_signals(&poll, core)
    finally:
        core.calls.exclusive -= 1
    return 0


cdef void frozen_copy(Core* core, uint32_t k, uint64_t first, uint64_t last,
                      ImageData* image) noexcept nogil:
    cdef const VolumeMemory* volume = &core.volumes[k]
    cdef uint8_t* data = image.data[k]
    cdef uint64_t chunk, start, end, length
    for chunk in range(first, last):
        if not volume.touched[chunk]:
            continue
        image.touched[k][chunk] = 1
        start = chunk << CHUNK_SHIFT
        end = start + (1 << CHUNK_SHIFT)
        if end > volume.size:
            end = volume.size
        while start < end:
            length = end - start
            if length > SNAPSHOT_BLOCK_BYTES:
                length = SNAPSHOT_BLOCK_BYTES
            if volume.own is not NULL:
                own_fetch(core, k, start, data + start, length)
            else:
                stream_copy(data + start, volume.data + start, length)
            image.sums[k][start // SNAPSHOT_BLOCK_BYTES] = hash64(data + start, length)
            start += length
    jrnl_stream_fence()


cdef void frozen_free(ImageData* image) noexcept nogil:
    cdef Core* core = image.core
    cdef uint64_t blocks
    cdef uint32_t k
    for k in range(core.volume_count):
        blocks = (core.volumes[k].size + SNAPSHOT_BLOCK_BYTES - 1) // SNAPSHOT_BLOCK_BYTES
        if image.data is not NULL:
            unmap_memory(image.data[k], core.volumes[k].size)
        if image.sums is not NULL:
            unmap_memory(<uint8_t*>image.sums[k], blocks * sizeof(uint64_t))
        if image.touched is not NULL:
            unmap_memory(image.touched[k], core.volumes[k].chunks)
    free(image.data)
    free(image.sums)
    free(image.touched)
    image.data = NULL
    image.sums = NULL
    image.touched = NULL


cdef int frozen_check(const ImageData* image, uint32_t volume, uint64_t block) noexcept nogil:
    """Hold one block that the copy has against its checksum."""
    cdef uint64_t start = block * SNAPSHOT_BLOCK_BYTES
    cdef uint64_t length = image.core.volumes[volume].size - start
    if length > SNAPSHOT_BLOCK_BYTES:
        length = SNAPSHOT_BLOCK_BYTES
    if hash64(image.data[volume] + start, length) != image.sums[volume][block]:
        image.core.fault.entry = 0
        image.core.fault.offset = start
        return E_CORRUPT
    return OK


cdef int frozen_check_on(const ImageData* image, uint32_t volume, uint64_t* block,
                         uint64_t blocks) noexcept nogil:
    """The same of some blocks from `block` on, which is then the next one; up to a bad one."""
    cdef uint64_t checked = 0, chunk, next
    cdef const uint8_t* found
    while block[0] < blocks and checked < POLL_ENTRIES:
        chunk = block[0] * SNAPSHOT_BLOCK_BYTES >> CHUNK_SHIFT
        if not image.touched[volume][chunk]:
            next = min(chunk + COPY_LOOK * 16, image.core.volumes[volume].chunks)
            found = <const uint8_t*>memchr(image.touched[volume] + chunk, 1, next - chunk)
            if found is not NULL:
                next = found - image.touched[volume]
            block[0] = min((next << CHUNK_SHIFT) // SNAPSHOT_BLOCK_BYTES, blocks)
            if found is NULL:
                return OK
            continue
        block[0] += 1
        checked += 1
        if frozen_check(image, volume, block[0] - 1) != OK:
            return E_CORRUPT
    return OK


cdef int frozen_fetch(ImageData* image, uint32_t volume, uint64_t offset, uint8_t* target,
                      uint64_t length) noexcept nogil:
    cdef uint64_t end = offset + length, stop
    cdef int status
    if image.data[volume] is NULL:
        return E_ARGUMENT    # the snapshot leaves this volume out
    while offset < end:
        stop = (offset // SNAPSHOT_BLOCK_BYTES + 1) * SNAPSHOT_BLOCK_BYTES
        if stop > end:
            stop = end
        if image.touched[volume][offset >> CHUNK_SHIFT]:
            status = frozen_check(image, volume, offset // SNAPSHOT_BLOCK_BYTES)
            if status != OK:
                return status
            memcpy(target, image.data[volume] + offset, stop - offset)
        else:
            memset(target, 0, stop - offset)
        target += stop - offset
        offset = stop
    return OK


cdef int frozen_materialise(ImageData* image, uint32_t volume, uint64_t begin, uint64_t stop,
                            uint8_t* target) noexcept nogil:
    cdef uint64_t size = image.core.volumes[volume].size, chunk, start, length
    cdef int status
    if image.data[volume] is NULL:
        return E_ARGUMENT
    for chunk in range(begin >> CHUNK_SHIFT, ((stop - 1) >> CHUNK_SHIFT) + 1):
        if image.touched[volume][chunk]:
            start = chunk << CHUNK_SHIFT
            length = size - start
            if length > 1 << CHUNK_SHIFT:
                length = 1 << CHUNK_SHIFT
            status = frozen_fetch(image, volume, start, target + start, length)
            if status != OK:
                return status
    return OK


# The bridge (I2): from a snapshot forward, by before-images alone.

cdef int map_bridge(Disk* disk, ExtentMapData* out, const ExtentMapData* written,
                    const ExtentMapData* later) noexcept nogil:
    """Map the bytes of `written` to the first later before-image, else to production."""
    cdef uint64_t k, offset, end, stop = 0
    cdef const Fragment* fragment
    cdef const Fragment* found
    cdef Fragment piece
    cdef uint64_t entries = 0
    for k in range(written.count):
        fragment = &written.fragments[k]
        offset = fragment.offset
        end = offset + fragment.length
        while offset < end:
            found = map_find(later, fragment.volume, offset, end, &stop)
            if found is NULL:
                piece = fragment[0]
                piece.flags = FRAGMENT_PRODUCTION | fragments_from(disk)
                piece.slot = NO_SLOT
                piece.source = 0
            else:
                piece = found[0]
                piece.source += offset - found.offset
                if stop - offset != found.length:
                    piece.flags &= ~<uint32_t>FRAGMENT_WHOLE
            piece.offset = offset
            piece.length = <uint32_t>(stop - offset)
            if map_insert(out, &piece) != OK:
                return E_NO_MEMORY
            offset = stop
    out.entries = count_slots(out)
    return OK


cdef int _compare_slots(const void* a, const void* b) noexcept nogil:
    cdef uint64_t left = (<const uint64_t*>a)[0], right = (<const uint64_t*>b)[0]
    return (left > right) - (left < right)


cdef uint64_t count_slots(const ExtentMapData* map) noexcept nogil:
    """How many different entries the map takes bytes from."""
    cdef uint64_t* slots = <uint64_t*>malloc((map.count + 1) * sizeof(uint64_t))
    cdef uint64_t k, used = 0, count = 0
    if slots is NULL:
        return 0
    for k in range(map.count):
        if not map.fragments[k].flags & FRAGMENT_PRODUCTION:
            slots[used] = map.fragments[k].slot
            used += 1
    qsort(slots, used, sizeof(uint64_t), _compare_slots)
    for k in range(used):
        if k == 0 or slots[k] != slots[k - 1]:
            count += 1
    free(slots)
    return count


cdef int bridge_check(Core* core, ImageData* base, const ExtentMapData* written,
                      ExtentMapData* later, uint64_t first, uint64_t last) noexcept nogil:
    """Where a byte was not written between the snapshot and the target, both must agree on it.

    A byte outside `written` still has the snapshot's content when the first later entry overwrites
    it, so that entry's before-image must equal the snapshot: an integrity check that costs a read.
    Of `later`, only fragments first to last are looked at.
    """
    cdef uint8_t[BLOCK_BYTES] expected
    cdef uint8_t[BLOCK_BYTES] found
    cdef uint64_t k, offset, end, stop = 0, same = 0
    cdef Fragment* fragment
    cdef int status
    for k in range(first, last):
        fragment = &later.fragments[k]
        status = fragment_verify(core, later, fragment)
        if status != OK:
            return status
        offset = fragment.offset
        end = offset + fragment.length
        while offset < end:
            if map_find(written, fragment.volume, offset, end, &stop) is NULL:
                status = image_fetch(base, fragment.volume, offset, expected, stop - offset)
                if status == OK:
                    status = fragment_copy(core, fragment, offset - fragment.offset, found,
                                           stop - offset)
                if status != OK:
                    return status
                if memcmp(expected, found, stop - offset):
                    while expected[same] == found[same]:
                        same += 1
                    core.fault.entry = fragment.seq
                    core.fault.offset = offset + same
                    return E_DISAGREE
            offset = stop
    return OK


# What a restore has to write: the ranges where an image and production differ.

cdef enum:
    COPY_LOOK = 65536            # chunks to look at for one that was touched
    COMPARE_BYTES = 64           # differences closer than this become one range
    RESTORE_MAX_BYTES = 1048576  # one entry of a restore: who reads a part of it sums all of it

cdef uint64_t UNLIMITED = <uint64_t>-1         # however long that gets

cdef struct RangeList:
    int64_t* offsets
    int64_t* lengths
    uint64_t count
    uint64_t capacity


cdef int range_add(RangeList* ranges, uint64_t start, uint64_t stop) noexcept nogil:
    cdef uint64_t capacity
    cdef int64_t* grown
    if ranges.count == ranges.capacity:
        capacity = ranges.capacity * 2 if ranges.capacity else 64
        grown = <int64_t*>realloc(ranges.offsets, capacity * sizeof(int64_t))
        if grown is NULL:
            return E_NO_MEMORY
        ranges.offsets = grown
        grown = <int64_t*>realloc(ranges.lengths, capacity * sizeof(int64_t))
        if grown is NULL:
            return E_NO_MEMORY
        ranges.lengths = grown
        ranges.capacity = capacity
    ranges.offsets[ranges.count] = <int64_t>start
    ranges.lengths[ranges.count] = <int64_t>(stop - start)
    ranges.count += 1
    return OK


cdef int range_extend(RangeList* ranges, uint64_t start, uint64_t stop,
                      uint64_t longest) noexcept nogil:
    """Add [start, stop), joined to the last range if that is near and has room."""
    cdef uint64_t last
    if ranges.count:
        last = ranges.count - 1
        if (<uint64_t>(ranges.offsets[last] + ranges.lengths[last]) + COMPARE_BYTES > start
                and stop - <uint64_t>ranges.offsets[last] <= longest):
            ranges.lengths[last] = <int64_t>(stop - <uint64_t>ranges.offsets[last])
            return OK
    return range_add(ranges, start, stop)


cdef int image_compare(ImageData* image, uint32_t volume, uint64_t offset, uint64_t length,
                       RangeList* ranges) noexcept nogil:
    """Add to `ranges` where image and production differ in one block of at most BLOCK_BYTES."""
    cdef uint8_t[BLOCK_BYTES] wanted
    cdef uint8_t[BLOCK_BYTES] fetched
    cdef const uint8_t* present = NULL
    cdef uint64_t longest = image.core.limits.write_max
    cdef int status = image_fetch(image, volume, offset, wanted, length)
    if longest > RESTORE_MAX_BYTES:
        longest = RESTORE_MAX_BYTES
    image.core.compared += length
    if status == OK:
        present = production_at(image.core, volume, offset, fetched, length, &status)
        if status == E_LOST:    # whatever it was, the image's bytes go there
            return range_extend(ranges, offset, offset + length, longest)
    if status != OK:
        return status
    return compare_lines(wanted, present, offset, length, longest, ranges)


cdef int compare_lines(const uint8_t* wanted, const uint8_t* present, uint64_t offset,
                       uint64_t length, uint64_t longest, RangeList* ranges) noexcept nogil:
    """Add to `ranges` where two pieces of content, which stand at `offset`, differ."""
    cdef uint64_t k = 0, start, stop, line
    cdef int status
    if memcmp(wanted, present, length) == 0:
        return OK
    while k < length:
        line = length - k
        if line > COMPARE_BYTES:
            line = COMPARE_BYTES
        if memcmp(wanted + k, present + k, line):
            start = k
            stop = k + line
            while wanted[start] == present[start]:
                start += 1
            while wanted[stop - 1] == present[stop - 1]:
                stop -= 1
            status = range_extend(ranges, offset + start, offset + stop, longest)
            if status != OK:
                return status
        k += line
    return OK


cdef int image_differences(ImageData* image, uint32_t volume, const int64_t* offsets,
                           const int64_t* lengths, uint64_t count,
                           RangeList* ranges) noexcept nogil:
    """Compare the given ranges of one volume, which rise, each inside a block of BLOCK_BYTES."""
    cdef uint64_t k
    cdef int status
    for k in range(count):
        status = image_compare(image, volume, <uint64_t>offsets[k], <uint64_t>lengths[k], ranges)
        if status != OK:
            return status
    return OK


cdef void image_reads_by(int kind, ImageFetch fetch, ImageLay lay) noexcept:
    image_ops[kind].fetch = fetch
    image_ops[kind].lay = lay


image_reads_by(IMAGE_PRODUCTION, present_fetch, present_lay)
image_reads_by(IMAGE_FROZEN, frozen_fetch, frozen_materialise)
image_reads_by(IMAGE_LIVE, live_fetch, fetched_lay)
image_reads_by(IMAGE_PATCHED, patched_fetch, fetched_lay)
image_reads_by(IMAGE_STORED, stored_fetch, fetched_lay)
image_reads_by(IMAGE_PRESERVED, preserved_image_fetch, fetched_lay)
