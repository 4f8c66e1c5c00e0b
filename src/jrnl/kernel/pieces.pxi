# Pieces of large images in a log. An image has one checksum; once it has been held against that,
# each of its blocks gets a sum of its own, kept in memory, so that a piece that is read again costs
# its own blocks, and damage that arises meanwhile is seen as before.
#
# Takes: sabotage, hash, log

cdef enum:
    PIECE_BYTES = 4096
    PIECES_MIN_BYTES = 16384     # smaller images are read and summed whole
    PIECES_SETS = 64
    PIECES_WAYS = 4              # sums of at most so many images that share a set are kept


cdef uint64_t image_sums(Disk* disk, const uint8_t* image, uint64_t length,
                         uint64_t* sums) noexcept nogil:
    """Sum each block of an image; return how many there are."""
    cdef uint64_t k, start, count = (length + PIECE_BYTES - 1) // PIECE_BYTES
    for k in range(count):
        start = k * PIECE_BYTES
        sums[k] = hash64(image + start, min(<uint64_t>PIECE_BYTES, length - start))
    disk.summed_bytes += length
    return count


cdef PieceSums* pieces_find(Disk* disk, uint64_t position, uint64_t length,
                            uint64_t sum) noexcept nogil:
    """The sums of the image that is stored at `position` and has this checksum, or NULL.

    Where another one lies there by now, its header has another checksum.
    """
    cdef PieceSums* found
    cdef int way
    if disk.pieces is NULL:
        return NULL
    found = disk.pieces + position // SECTOR_BYTES % PIECES_SETS * PIECES_WAYS
    for way in range(PIECES_WAYS):
        if (found[way].sums is not NULL and found[way].position == position
                and found[way].length == length and found[way].sum == sum):
            return found + way
    return NULL


cdef void pieces_keep(Disk* disk, uint64_t position, uint64_t length, uint64_t sum,
                      const uint8_t* image) noexcept nogil:
    """Remember the sums of an image that has been verified; without memory for it, don't."""
    cdef PieceSums* place
    cdef uint64_t* sums
    if disk.pieces is NULL:
        disk.pieces = <PieceSums*>calloc(PIECES_SETS * PIECES_WAYS, sizeof(PieceSums))
    sums = <uint64_t*>malloc((length + PIECE_BYTES - 1) // PIECE_BYTES * sizeof(uint64_t))
    if disk.pieces is NULL or sums is NULL:
        free(sums)
        return
    image_sums(disk, image, length, sums)
    place = disk.pieces + position // SECTOR_BYTES % PIECES_SETS * PIECES_WAYS
    free(place[PIECES_WAYS - 1].sums)
    memmove(place + 1, place, (PIECES_WAYS - 1) * sizeof(PieceSums))    # the oldest one leaves
    place.position = position
    place.length = length
    place.sum = sum
    place.sums = sums


cdef void pieces_free(Disk* disk) noexcept nogil:
    cdef int k
    if disk.pieces is not NULL:
        for k in range(PIECES_SETS * PIECES_WAYS):
            free(disk.pieces[k].sums)
    free(disk.pieces)
    disk.pieces = NULL


cdef int piece_check(Disk* disk, const PieceSums* known, const uint8_t* block,
                     uint64_t number) noexcept nogil:
    cdef uint64_t start = number * PIECE_BYTES
    cdef uint64_t length = min(<uint64_t>PIECE_BYTES, known.length - start)
    disk.summed_bytes += length
    if hash64(block, length) != known.sums[number] and in_force(RULE_IMAGE_SUM):
        return E_CORRUPT
    return OK


cdef int pieces_read(Core* core, const PieceSums* known, uint64_t skip, uint8_t* target,
                     uint64_t length) noexcept nogil:
    """Read a part of an image block by block, each one held against its sum."""
    cdef uint8_t[PIECE_BYTES] buffer
    cdef const uint8_t* block
    cdef uint64_t number, start, part, begin
    cdef int status = OK
    while length and status == OK:
        number = skip // PIECE_BYTES
        start = number * PIECE_BYTES
        begin = skip - start
        part = min(PIECE_BYTES - begin, length)
        if known.position >= core.disk.ram.tail:
            block = ram_at(core.disk, known.position + start)
        else:
            block = buffer
            status = log_read(core, known.position + start, buffer,
                              min(<uint64_t>PIECE_BYTES, known.length - start))
        if status == OK:
            status = piece_check(core.disk, known, block, number)
        if status == OK:
            memcpy(target, block + begin, part)
        target += part
        skip += part
        length -= part
    return status


cdef int disk_piece(Core* core, const EntryHeader* header, int which, uint64_t skip,
                    uint8_t* target, uint64_t length) noexcept nogil:
    """Read a part of one stored image of an entry; all that it shows has matched a checksum."""
    cdef Disk* disk = core.disk
    cdef uint64_t position = header.position, whole = image_length(header)
    cdef uint64_t sum = header.before_sum
    cdef const PieceSums* known = NULL
    cdef const uint8_t* image
    cdef int status = OK
    if which == FLAG_AFTER:
        position += before_room(header)
        sum = header.after_sum
    if whole >= PIECES_MIN_BYTES and not (position < disk.ram.tail
                                          and disk.bounce.length == whole
                                          and disk.bounce.position == position):
        known = pieces_find(disk, position, whole, sum)
        if known is not NULL:
            status = pieces_read(core, known, skip, target, length)
            if status == E_CORRUPT:
                core.fault.entry = header.seq
            return status
    image = disk_image(core, header, which, &status)
    if image is NULL:
        return status
    memcpy(target, image + skip, length)
    if whole >= PIECES_MIN_BYTES and pieces_find(disk, position, whole, sum) is NULL:
        pieces_keep(core.disk, position, whole, sum, image)
    return OK
