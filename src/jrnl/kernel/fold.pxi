# Folding: before entries leave a journal, the oldest snapshot is brought on over them. Python
# chooses the snapshot and makes the map (fold.py); this asks it, and writes into the snapshot.
#
# Takes: sabotage, hash, kernels, memory, device, ring, overlay, reading, extent_map,
# snapshot_files, image

# The map, and the snapshot that it is laid over.

cdef int map_scan_within(Core* core, ExtentMapData* map, const ExtentMapData* wanted,
                         uint64_t first, uint64_t last) noexcept nogil:
    """Insert before-images of slots [first, last) where `wanted` has bytes, oldest first."""
    cdef uint64_t slot, start, stop = 0, end
    cdef bint covered
    cdef const EntryHeader* header
    cdef Fragment piece
    cdef int status
    for slot in range(first, last):
        if map.bytes == wanted.bytes:
            break    # all of it has a source
        header = header_at(&core.ring, slot)
        if slot + SCAN_AHEAD < last:
            bucket_prefetch(wanted, header_at(&core.ring, slot + SCAN_AHEAD))
        status = header_check(&core.ring, &core.fault, header, slot)
        if status != OK:
            return status
        if not changes_bytes(header) or (header.flags & FLAG_BEFORE_ZERO
                                         and header.kind != KIND_WRITE):
            continue
        start = header.offset
        end = header.offset + header.length
        if header.flags & FLAG_SECTORS:
            start = sector_start(header.offset)
            end = start + image_length(header)
            if end > core.volumes[header.volume].size:
                end = core.volumes[header.volume].size
        piece.slot = slot
        piece.seq = header.seq
        piece.volume = header.volume
        piece.sum = header.before_sum
        piece.source = header.position
        while start < end:
            covered = map_find(wanted, header.volume, start, end, &stop) is not NULL
            piece.offset = start
            piece.length = <uint32_t>(stop - start)
            piece.flags = fragments_from(core.disk)
            if piece.length == header.length:
                piece.flags |= FRAGMENT_WHOLE
            if header.flags & FLAG_BEFORE_ZERO:
                piece.flags |= FRAGMENT_ZERO | FRAGMENT_VERIFIED
            if covered:
                status = map_insert(map, &piece)
                if status != OK:
                    return status
            piece.source += stop - start
            start = stop
    return OK


cdef int _compare_buckets(const void* a, const void* b) noexcept nogil:
    cdef const Bucket* left = <const Bucket*>a
    cdef const Bucket* right = <const Bucket*>b
    if left.volume != right.volume:
        return (left.volume > right.volume) - (left.volume < right.volume)
    return (left.block > right.block) - (left.block < right.block)


cdef Bucket* map_blocks(const ExtentMapData* map, uint64_t* count) noexcept nogil:
    """The blocks that a map covers in part, by volume and number; to be freed."""
    cdef Bucket* blocks = <Bucket*>malloc((map.buckets_used + 1) * sizeof(Bucket))
    cdef uint64_t k, used = 0
    if blocks is NULL:
        return NULL
    for k in range(map.mask + 1):
        if map.buckets[k].used and map.buckets[k].head & ~BLOCK_FULL:
            blocks[used] = map.buckets[k]
            used += 1
    qsort(blocks, used, sizeof(Bucket), _compare_buckets)
    count[0] = used
    return blocks


cdef int block_fill(Core* core, const ExtentMapData* map, const Bucket* block,
                    uint8_t* content) noexcept nogil:
    """Lay the map's bytes of one block over `content`."""
    cdef uint64_t start = block.block << BLOCK_SHIFT
    cdef uint32_t here = block.head & ~BLOCK_FULL
    cdef const Fragment* fragment
    cdef int status
    while here:
        fragment = &map.fragments[here - 1]
        status = fragment_copy(core, fragment, 0, content + (fragment.offset - start),
                               fragment.length)
        if status != OK:
            return status
        here = fragment.next
    return OK


cdef int frozen_advance(ImageData* image, ExtentMapData* map) noexcept nogil:
    """Lay a map over a frozen image. All is verified before the first byte changes."""
    cdef Core* core = image.core
    cdef uint64_t count = 0, k, start, length
    cdef Bucket* block
    cdef Bucket* blocks
    cdef const Fragment* fragment
    cdef int status = map_verify(core, map)
    if status != OK:
        return status
    blocks = map_blocks(map, &count)
    if blocks is NULL:
        return E_NO_MEMORY
    for k in range(count):
        block = &blocks[k]
        start = block.block << BLOCK_SHIFT
        if (status == OK and not block.head & BLOCK_FULL
                and image.touched[block.volume][start >> CHUNK_SHIFT]):
            status = frozen_check(image, block.volume, block.block)
    for k in range(count if status == OK else 0):
        block = &blocks[k]
        start = block.block << BLOCK_SHIFT
        if not image.touched[block.volume][start >> CHUNK_SHIFT]:
            frozen_touch(image, block.volume, start >> CHUNK_SHIFT)
        if k + 1 < count:
            fragment_prefetch(&core.ring, &map.fragments[(blocks[k + 1].head & ~BLOCK_FULL) - 1])
        fragment = &map.fragments[(block.head & ~BLOCK_FULL) - 1]
        length = block_bytes(image, block.volume, block.block)
        if (core.ring.checksum and fragment.length == length
                and fragment.flags & FRAGMENT_WHOLE
                and not fragment.flags & (FRAGMENT_ZERO | FRAGMENT_OWN | FRAGMENT_PRODUCTION)):
            # All of the block is one image, whose sum is known.
            stream_copy(image.data[block.volume] + start, core.ring.images + fragment.source,
                        length)
            image.sums[block.volume][block.block] = fragment.sum
            continue
        block_fill(core, map, block, image.data[block.volume] + start)
        image.sums[block.volume][block.block] = hash64(image.data[block.volume] + start, length)
    jrnl_stream_fence()
    free(blocks)
    return status


cdef void frozen_touch(ImageData* image, uint32_t volume, uint64_t chunk) noexcept nogil:
    """The image holds this chunk from now on: zeroes, so far."""
    cdef uint64_t block = (chunk << CHUNK_SHIFT) // SNAPSHOT_BLOCK_BYTES
    cdef uint64_t stop = ((chunk + 1) << CHUNK_SHIFT) // SNAPSHOT_BLOCK_BYTES
    cdef uint64_t start
    while block < stop and block * SNAPSHOT_BLOCK_BYTES < image.core.volumes[volume].size:
        start = block * SNAPSHOT_BLOCK_BYTES
        image.sums[volume][block] = hash64(image.data[volume] + start,
                                           block_bytes(image, volume, block))
        block += 1
    image.touched[volume][chunk] = 1


cdef int frozen_from(ImageData* image, ImageData* source) noexcept nogil:
    """Make a frozen image of the content of another one."""
    cdef Core* core = image.core
    cdef uint64_t chunk, start, length, block, blocks
    cdef uint32_t k
    cdef int status = OK
    image.data = <uint8_t**>calloc(core.volume_count, sizeof(uint8_t*))
    image.sums = <uint64_t**>calloc(core.volume_count, sizeof(uint64_t*))
    image.touched = <uint8_t**>calloc(core.volume_count, sizeof(uint8_t*))
    if image.data is NULL or image.sums is NULL or image.touched is NULL:
        return E_NO_MEMORY
    for k in range(core.volume_count):
        blocks = (core.volumes[k].size + SNAPSHOT_BLOCK_BYTES - 1) // SNAPSHOT_BLOCK_BYTES
        image.data[k] = map_memory(core.volumes[k].size,
                                   fits_in_huge_pages(core.volumes[k].size))
        image.sums[k] = <uint64_t*>map_memory(blocks * sizeof(uint64_t), False)
        image.touched[k] = map_memory(core.volumes[k].chunks, False)
        if image.data[k] is NULL or image.sums[k] is NULL or image.touched[k] is NULL:
            return E_NO_MEMORY
        for chunk in range(core.volumes[k].chunks):
            if not core.volumes[k].touched[chunk]:
                continue
            start = chunk << CHUNK_SHIFT
            length = core.volumes[k].size - start
            if length > 1 << CHUNK_SHIFT:
                length = 1 << CHUNK_SHIFT
            status = image_fetch(source, k, start, image.data[k] + start, length)
            if status != OK:
                return status
            frozen_touch(image, k, chunk)
    return OK


# Snapshots in files. What is to be folded is checked first (stored_advance_check); then the intent
# is durable; then whole sectors are written over the copy, and nothing of their neighbours.

cdef enum:
    JOIN_BYTES = 262144          # of neighbouring blocks that are written in one call


cdef int stored_advance_check(ImageData* image, ExtentMapData* map) noexcept nogil:
    """Read all that stored_advance needs, against its checksums. Nothing is changed."""
    cdef uint8_t[SNAPSHOT_BLOCK_BYTES] content
    cdef uint64_t count = 0, k
    cdef Bucket* block
    cdef Bucket* blocks
    cdef int status = map_check(image.core, map)
    if status != OK:
        return status
    blocks = map_blocks(map, &count)
    if blocks is NULL:
        return E_NO_MEMORY
    for k in range(count):
        block = &blocks[k]
        if status == OK:
            status = sums_load(image, block.volume, block.block // SUM_BLOCK_SUMS)
        if status == OK and not block.head & BLOCK_FULL:
            status = stored_fetch(image, block.volume, block.block << BLOCK_SHIFT, content,
                                  block_bytes(image, block.volume, block.block))
    free(blocks)
    return status


cdef int sums_again(ImageData* image, uint32_t volume, uint64_t number,
                    uint64_t* sums) noexcept nogil:
    """Sum what a copy's file holds: its checksums may be torn."""
    cdef uint8_t[SNAPSHOT_BLOCK_BYTES] content
    cdef uint64_t size = image.core.volumes[volume].size, k, block, length
    cdef int status = OK
    for k in range(<uint64_t>SUM_BLOCK_SUMS):
        block = number * SUM_BLOCK_SUMS + k
        sums[k] = 0
        if block * SNAPSHOT_BLOCK_BYTES < size:
            length = block_bytes(image, volume, block)
            status = device_read(&image.copies[volume], content, length,
                                 block * SNAPSHOT_BLOCK_BYTES, &image.core.fault.error)
            if status != OK:
                return status
            sums[k] = hash64(content, length)
    return OK


cdef int sums_begin(ImageData* image, uint32_t volume, uint64_t number, bint again,
                    uint64_t* sums) noexcept nogil:
    """The checksums of a part of the copy, to be changed.

    `again`: a crash may have torn them, or put back what was there before; neither says so.
    """
    cdef uint64_t size = image.core.volumes[volume].size, k, block
    cdef int status
    if again:
        return sums_again(image, volume, number, sums)
    status = sums_load(image, volume, number)
    if status != OK:
        return status
    memcpy(sums, image.sum_block, SUM_BLOCK_BYTES)
    if sums[SUM_BLOCK_SUMS] == 0:    # all of it is zeroes
        for k in range(<uint64_t>SUM_BLOCK_SUMS):
            block = number * SUM_BLOCK_SUMS + k
            if block * SNAPSHOT_BLOCK_BYTES < size:
                sums[k] = hash64(zero_bytes, block_bytes(image, volume, block))
    return OK


cdef int sectors_write(ImageData* image, const ExtentMapData* map, const Bucket* block,
                       const uint8_t* content) noexcept nogil:
    """Write the sectors of one block that the map covers."""
    cdef uint64_t start = block.block << BLOCK_SHIFT, first, end
    cdef uint32_t here = block.head & ~BLOCK_FULL
    cdef const Fragment* fragment
    cdef int status
    while here:
        first = map.fragments[here - 1].offset
        end = first
        while here and map.fragments[here - 1].offset == end:
            fragment = &map.fragments[here - 1]
            end = fragment.offset + fragment.length
            here = fragment.next
        status = device_write(&image.copies[block.volume], content + (first - start), end - first,
                              first, &image.core.fault.error)
        if status != OK:
            return status
    return OK


cdef int block_advance(ImageData* image, const ExtentMapData* map, const Bucket* block,
                       bint again, uint8_t* content) noexcept nogil:
    """What one block holds once the map is laid over it."""
    cdef uint64_t start = block.block << BLOCK_SHIFT
    cdef uint64_t length = block_bytes(image, block.volume, block.block)
    cdef int status = OK
    if not block.head & BLOCK_FULL:
        if again:
            status = device_read(&image.copies[block.volume], content, length, start,
                                 &image.core.fault.error)
        else:
            status = stored_fetch(image, block.volume, start, content, length)
    return block_fill(image.core, map, block, content) if status == OK else status


cdef int stored_advance_part(ImageData* image, const ExtentMapData* map, const Bucket* blocks,
                             uint64_t count, bint again, uint64_t* sums,
                             uint8_t* joined) noexcept nogil:
    """Write blocks that one block of checksums covers, and that."""
    cdef uint32_t volume = blocks[0].volume
    cdef uint64_t number = blocks[0].block // SUM_BLOCK_SUMS, k = 0, first, length, used
    cdef int status = sums_begin(image, volume, number, again, sums)
    while k < count and status == OK:
        first = k
        used = 0
        while k < count and status == OK and used < JOIN_BYTES:
            if k > first and (blocks[k].block != blocks[k - 1].block + 1
                              or not blocks[k].head & blocks[k - 1].head & BLOCK_FULL):
                break
            length = block_bytes(image, volume, blocks[k].block)
            status = block_advance(image, map, &blocks[k], again, joined + used)
            sums[blocks[k].block % SUM_BLOCK_SUMS] = hash64(joined + used, length)
            used += length
            k += 1
        if status == OK and blocks[first].head & BLOCK_FULL:
            status = device_write(&image.copies[volume], joined, used,
                                  blocks[first].block << BLOCK_SHIFT, &image.core.fault.error)
        elif status == OK:
            status = sectors_write(image, map, &blocks[first], joined)
    if status == OK:
        sums[SUM_BLOCK_SUMS] = sums_own(image, sums, volume, number)
        status = device_write(&image.sum_files[volume], <uint8_t*>sums, SUM_BLOCK_BYTES,
                              number * SUM_BLOCK_BYTES, &image.core.fault.error)
    return status


cdef int stored_advance(ImageData* image, ExtentMapData* map, bint again) noexcept nogil:
    """Lay a map over a copy in files, durably. `again`: after a crash, that may have torn it."""
    cdef Core* core = image.core
    cdef uint64_t count = 0, k = 0, first, number
    cdef Bucket* blocks = map_blocks(map, &count)
    cdef uint64_t* sums = <uint64_t*>malloc(SUM_BLOCK_BYTES)
    cdef uint8_t* joined = <uint8_t*>malloc(JOIN_BYTES + SNAPSHOT_BLOCK_BYTES)
    cdef int status = OK
    if blocks is NULL or sums is NULL or joined is NULL:
        status = E_NO_MEMORY
    while k < count and status == OK:
        first = k
        number = blocks[k].block // SUM_BLOCK_SUMS
        while (k < count and blocks[k].volume == blocks[first].volume
               and blocks[k].block // SUM_BLOCK_SUMS == number):
            k += 1
        status = stored_advance_part(image, map, blocks + first, k - first, again, sums, joined)
        if status == OK and (k == count or blocks[k].volume != blocks[first].volume):
            status = stored_sync(image, blocks[first].volume)
    image.sum_number = 0
    free(blocks)
    free(sums)
    free(joined)
    return status


cdef int stored_sync(ImageData* image, uint32_t volume) noexcept nogil:
    cdef int status
    if not in_force(RULE_FOLD_SYNC):
        return OK
    status = device_sync(&image.copies[volume], &image.core.fault.error)
    if status == OK:
        status = device_sync(&image.sum_files[volume], &image.core.fault.error)
    return status


cdef int show_block(ImageData* image, const ExtentMapData* map, const Bucket* folded,
                    uint32_t volume, uint64_t block, ExtentMapData* out) noexcept nogil:
    """Put one block into `out`: it is folded, or its checksum does not match."""
    cdef uint8_t[SNAPSHOT_BLOCK_BYTES] content
    cdef uint64_t length = block_bytes(image, volume, block)
    cdef Fragment whole
    cdef uint8_t* own
    cdef int status
    content[0] = 0
    if folded is not NULL:
        status = block_advance(image, map, folded, True, content)
    else:
        status = device_read(&image.copies[volume], content, length, block << BLOCK_SHIFT,
                             &image.core.fault.error)
        if status == OK and stored_check(image, volume, block, content) == OK:
            return OK
    if status != OK:
        return status
    memset(&whole, 0, sizeof(Fragment))
    whole.volume = volume
    whole.offset = block << BLOCK_SHIFT
    whole.length = <uint32_t>length
    whole.flags = FRAGMENT_ZERO | FRAGMENT_VERIFIED
    whole.slot = NO_SLOT
    if not is_zero(content, length):
        own = arena_alloc(out, SNAPSHOT_BLOCK_BYTES, ARENA_MIN_BYTES)
        if own is NULL:
            return E_NO_MEMORY
        memcpy(own, content, length)
        whole.source = <uint64_t>own
        whole.flags = FRAGMENT_OWN
    return map_insert(out, &whole)


cdef int stored_show(ImageData* image, const ExtentMapData* map, ExtentMapData* out) noexcept nogil:
    """For reading only: in the map `out`, what stored_advance would write, or sum again."""
    cdef uint64_t count = 0, k = 0, block, last
    cdef uint32_t volume
    cdef Bucket* blocks = map_blocks(map, &count)
    cdef const Bucket* folded
    cdef int status = E_NO_MEMORY if blocks is NULL else OK
    while k < count and status == OK:
        volume = blocks[k].volume
        block = blocks[k].block // SUM_BLOCK_SUMS * SUM_BLOCK_SUMS
        last = block + SUM_BLOCK_SUMS
        while (status == OK and block < last
               and block * SNAPSHOT_BLOCK_BYTES < image.core.volumes[volume].size):
            folded = NULL
            if k < count and blocks[k].volume == volume and blocks[k].block == block:
                folded = &blocks[k]
                k += 1
            status = show_block(image, map, folded, volume, block, out)
            block += 1
    free(blocks)
    return status
