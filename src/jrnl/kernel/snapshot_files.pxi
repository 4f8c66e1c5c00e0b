# Stored images: snapshots of file stores. A raw file for each volume, and one of checksums: blocks
# of SUM_BLOCK_SUMS XXH3-64 sums, one for each block of the copy, then one over these sums, seeded
# with the image's seed, the volume and the block's number. A block of checksums that was never
# written says that all of the copy that it covers is zeroes.
#
# Takes: sabotage, hash, memory, device

cdef enum:
    SUM_BLOCK_BYTES = 4096       # (SUM_BLOCK_SUMS + 1) * 8


cdef int stored_create(ImageData* image) noexcept nogil:
    cdef Core* core = image.core
    cdef uint32_t k
    image.copies = <Device*>calloc(core.volume_count, sizeof(Device))
    image.sum_files = <Device*>calloc(core.volume_count, sizeof(Device))
    image.sum_block = <uint64_t*>malloc(SUM_BLOCK_BYTES)
    image.sum_number = 0
    if image.copies is NULL or image.sum_files is NULL or image.sum_block is NULL:
        return E_NO_MEMORY
    for k in range(core.volume_count):
        image.copies[k].descriptor = -1
    return OK


cdef void stored_free(ImageData* image) noexcept nogil:
    free(image.copies)
    free(image.sum_files)
    free(image.sum_block)
    image.copies = NULL
    image.sum_files = NULL
    image.sum_block = NULL


cdef inline uint64_t block_bytes(const ImageData* image, uint32_t volume,
                                 uint64_t block) noexcept nogil:
    cdef uint64_t rest = image.core.volumes[volume].size - block * SNAPSHOT_BLOCK_BYTES
    return rest if rest < SNAPSHOT_BLOCK_BYTES else SNAPSHOT_BLOCK_BYTES


cdef int sums_load(ImageData* image, uint32_t volume, uint64_t number) noexcept nogil:
    """Have the checksums of blocks [number * SUM_BLOCK_SUMS, ...) at hand."""
    cdef int status
    if image.sum_number == number + 1 and image.sum_volume == volume:
        return OK
    image.sum_number = 0
    status = device_read(&image.sum_files[volume], <uint8_t*>image.sum_block, SUM_BLOCK_BYTES,
                         number * SUM_BLOCK_BYTES, &image.core.fault.error)
    if status != OK:
        return status
    if not is_zero(<uint8_t*>image.sum_block, SUM_BLOCK_BYTES) and in_force(RULE_SUMS_SUM):
        if image.sum_block[SUM_BLOCK_SUMS] != sums_own(image, image.sum_block, volume, number):
            image.core.fault.entry = 0
            image.core.fault.offset = number * SUM_BLOCK_SUMS * SNAPSHOT_BLOCK_BYTES
            return E_CORRUPT
    image.sum_number = number + 1
    image.sum_volume = volume
    return OK


cdef uint64_t sums_own(const ImageData* image, const uint64_t* sums, uint32_t volume,
                       uint64_t number) noexcept nogil:
    return seeded_hash64(sums, SUM_BLOCK_SUMS * sizeof(uint64_t),
                         image.seed ^ (<uint64_t>volume << 48) ^ number)


cdef int stored_check(ImageData* image, uint32_t volume, uint64_t block,
                      const uint8_t* content) noexcept nogil:
    """Hold one whole block against its checksum."""
    cdef uint64_t length = block_bytes(image, volume, block)
    cdef uint64_t number = block // SUM_BLOCK_SUMS
    cdef bint good
    cdef int status = sums_load(image, volume, number)
    if status != OK:
        return status
    if image.sum_block[SUM_BLOCK_SUMS] == 0:
        good = is_zero(content, length)
    else:
        good = hash64(content, length) == image.sum_block[block % SUM_BLOCK_SUMS]
    if not good and in_force(RULE_COPY_SUM):
        image.core.fault.entry = 0
        image.core.fault.offset = block * SNAPSHOT_BLOCK_BYTES
        return E_CORRUPT
    return OK


cdef int stored_fetch(ImageData* image, uint32_t volume, uint64_t offset, uint8_t* target,
                      uint64_t length) noexcept nogil:
    """Read a range. Whole blocks are read into place, broken ones by way of a buffer."""
    cdef uint8_t[SNAPSHOT_BLOCK_BYTES] content
    cdef uint64_t end = offset + length, block, start, stop, whole, k
    cdef int status = OK
    if image.copies[volume].descriptor < 0 and image.copies[volume].object is NULL:
        return E_ARGUMENT    # the snapshot leaves this volume out
    while offset < end and status == OK:
        block = offset // SNAPSHOT_BLOCK_BYTES
        start = block * SNAPSHOT_BLOCK_BYTES
        whole = (end - offset) // SNAPSHOT_BLOCK_BYTES
        if offset == start and whole:
            status = device_read(&image.copies[volume], target, whole * SNAPSHOT_BLOCK_BYTES,
                                 offset, &image.core.fault.error)
            for k in range(whole):
                if status == OK:
                    status = stored_check(image, volume, block + k,
                                          target + k * SNAPSHOT_BLOCK_BYTES)
            target += whole * SNAPSHOT_BLOCK_BYTES
            offset += whole * SNAPSHOT_BLOCK_BYTES
            continue
        status = device_read(&image.copies[volume], content, block_bytes(image, volume, block),
                             start, &image.core.fault.error)
        if status == OK:
            status = stored_check(image, volume, block, content)
        if status != OK:
            break
        stop = start + SNAPSHOT_BLOCK_BYTES
        if stop > end:
            stop = end
        memcpy(target, content + (offset - start), stop - offset)
        target += stop - offset
        offset = stop
    return status


cdef inline bint is_damage(int status) noexcept nogil:
    return status == E_CORRUPT or status == E_LOST or status == E_DISAGREE


cdef inline uint64_t copied_sum(const uint8_t* block, uint64_t length, bint bad) noexcept nogil:
    """A block that could not be read has a checksum that it never matches."""
    return ~hash64(block, length) if bad else hash64(block, length)
