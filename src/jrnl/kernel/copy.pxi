# Copies that are made behind the writer's back. A live image keeps its state through the journal
# while a copy of it is made, a piece at a time; each piece holds the lock only while it is read.
# Once it is whole, the same image is a frozen or a stored one.
#
# One thread at a time makes the pieces of a copy (snapshot_copier.py), and never waits for the lock
# for long: whoever has the lock may be waiting for that thread to be done with its piece.
#
# Takes: hash, lock, memory, device, signal_poll, preserve, snapshot_files, image

cdef extern from *:
    """
    #include <time.h>

    static void jrnl_rest(int64_t ns)
    {
        struct timespec rest = {ns / 1000000000, ns % 1000000000};
        nanosleep(&rest, NULL);
    }
    """
    void jrnl_rest(int64_t ns) noexcept nogil

cdef extern from "<string.h>" nogil:
    void* memchr(const void* bytes, int value, size_t length)

cdef enum:
    COPY_DONE = 0                # nothing is left to do
    COPY_MORE = 1
    COPY_LATER = 2               # somebody else has had the lock all the time
    COPY_CHUNKS = 2              # in one piece
    COPY_BLOCKS = 32             # SNAPSHOT_BLOCK_BYTES each: a piece has as many at most
    COPY_PART_BYTES = 131072     # of a file that are read at a time
    COPY_REST_NS = 50000

# A piece that was read, and has yet to be summed and entered.
cdef struct Piece:
    uint32_t volume
    uint64_t chunk
    uint64_t length              # bytes, 0: there is none
    uint32_t bad                 # a bit for each block that could not be read
    uint64_t[COPY_BLOCKS] sums


cdef int copy_fetch(ImageData* image, uint32_t volume, uint64_t start, uint8_t* target,
                    uint64_t length, uint8_t* bad) noexcept nogil:
    """Read a range for a copy. What is damaged is zeroes, and has a 1 in `bad` for its block."""
    cdef uint64_t k = 0, part
    cdef int status = image_fetch(image, volume, start, target, length)
    if not is_damage(status):
        return status
    while k < length:
        part = length - k
        if part > SNAPSHOT_BLOCK_BYTES:
            part = SNAPSHOT_BLOCK_BYTES
        status = image_fetch(image, volume, start + k, target + k, part)
        if is_damage(status):
            if image.copy_bad == 0:
                image.copy_bad_seq = image.core.fault.entry if status == E_CORRUPT else 0
            image.copy_bad += 1
            memset(target + k, 0, part)
            bad[k // SNAPSHOT_BLOCK_BYTES] = 1
        elif status != OK:
            return status
        k += part
    return OK


cdef int copy_ready(const ImageData* image) noexcept nogil:
    """COPY_MORE where there is something to copy, and somebody who needs it."""
    if image.core.closed:
        return E_CLOSED
    return COPY_MORE if image.copying and image.live is not NULL else COPY_DONE


cdef void copy_finish(ImageData* image, int kind) noexcept nogil:
    """The copy is whole: the journal keeps nothing for it any more."""
    cdef Live* live = image.live
    image.kind = kind
    image.copying = False
    image.base = NULL
    image.live = NULL
    live_close(live)


# In memory: a frozen image.

cdef bint piece_find(ImageData* image, Piece* piece) noexcept nogil:
    """Find the next chunks that were ever written; False where there are none.

    Chunks that have not been written by now were not at the copy's state either.
    """
    cdef const VolumeMemory* volume
    cdef uint64_t end, chunk
    cdef const uint8_t* found
    piece.length = 0
    while image.copy_volume < image.core.volume_count:
        volume = &image.core.volumes[image.copy_volume]
        if image.data[image.copy_volume] is NULL or image.copy_chunk >= volume.chunks:
            image.copy_volume += 1
            image.copy_chunk = 0
            continue
        end = volume.chunks
        if end - image.copy_chunk > COPY_LOOK:
            end = image.copy_chunk + COPY_LOOK
        found = <const uint8_t*>memchr(volume.touched + image.copy_chunk, 1,
                                       end - image.copy_chunk)
        if found is NULL:
            image.copy_chunk = end
            return True
        chunk = found - volume.touched
        end = chunk + 1
        while end < volume.chunks and end < chunk + COPY_CHUNKS and volume.touched[end]:
            end += 1
        image.copy_chunk = chunk
        piece.volume = image.copy_volume
        piece.chunk = chunk
        piece.length = volume.size - (chunk << CHUNK_SHIFT)
        if piece.length > (end - chunk) << CHUNK_SHIFT:
            piece.length = (end - chunk) << CHUNK_SHIFT
        return True
    return False


cdef void piece_sum(const ImageData* image, Piece* piece) noexcept nogil:
    """Sum what was read; needs no lock."""
    cdef const uint8_t* data = image.data[piece.volume] + (piece.chunk << CHUNK_SHIFT)
    cdef uint64_t k = 0, part
    while k < piece.length:
        part = piece.length - k
        if part > SNAPSHOT_BLOCK_BYTES:
            part = SNAPSHOT_BLOCK_BYTES
        piece.sums[k // SNAPSHOT_BLOCK_BYTES] = copied_sum(
            data + k, part, piece.bad >> (k // SNAPSHOT_BLOCK_BYTES) & 1)
        k += part


cdef int piece_next(ImageData* image, Piece* piece, bint more) noexcept nogil:
    """Enter a piece that was summed, and read the next one. The lock is held."""
    cdef uint8_t[COPY_BLOCKS] bad
    cdef uint64_t k, first, blocks, chunks
    cdef int status = copy_ready(image)
    if status != COPY_MORE:
        return status
    if piece.length:
        first = (piece.chunk << CHUNK_SHIFT) // SNAPSHOT_BLOCK_BYTES
        blocks = (piece.length + SNAPSHOT_BLOCK_BYTES - 1) // SNAPSHOT_BLOCK_BYTES
        for k in range(blocks):
            image.sums[piece.volume][first + k] = piece.sums[k]
        chunks = (piece.length + (1 << CHUNK_SHIFT) - 1) >> CHUNK_SHIFT
        for k in range(chunks):
            image.touched[piece.volume][piece.chunk + k] = 1
            image.copy_chunk = piece.chunk + k + 1
    if not piece_find(image, piece):
        copy_finish(image, IMAGE_FROZEN)
        return COPY_DONE
    if piece.length == 0 or not more:
        piece.length = 0
        return COPY_MORE
    memset(bad, 0, COPY_BLOCKS)
    status = copy_fetch(image, piece.volume, piece.chunk << CHUNK_SHIFT,
                        image.data[piece.volume] + (piece.chunk << CHUNK_SHIFT), piece.length, bad)
    piece.bad = 0
    for k in range(<uint64_t>COPY_BLOCKS):
        piece.bad |= <uint32_t>bad[k] << k
    return COPY_MORE if status == OK else status


cdef void piece_prepare(const ImageData* image) noexcept nogil:
    """Have the pages at hand that the next piece goes to: that may take long, and needs no lock."""
    cdef uint32_t volume = image.copy_volume
    cdef uint64_t start = image.copy_chunk << CHUNK_SHIFT
    if (volume >= image.core.volume_count or image.data[volume] is NULL
            or image.copy_chunk + COPY_CHUNKS >= image.core.volumes[volume].chunks):
        return
    if image.core.volumes[volume].touched[image.copy_chunk]:
        jrnl_populate(image.data[volume] + start, COPY_CHUNKS << CHUNK_SHIFT)


cdef int frozen_continue(ImageData* image, uint64_t pieces, bint gently) noexcept nogil:
    """Copy up to `pieces` pieces; `gently`, with a rest after each as long as it took."""
    cdef Piece piece
    cdef int64_t began, waited
    cdef int status
    memset(&piece, 0, sizeof(Piece))
    while True:
        began = jrnl_now()
        if piece.length:
            piece_sum(image, &piece)
        piece_prepare(image)
        waited = jrnl_now()
        if not lock_soon(image.core):
            return COPY_LATER
        waited = jrnl_now() - waited
        status = piece_next(image, &piece, pieces > 0)
        core_unlock(image.core)
        if status == COPY_DONE:
            preserve_tidy(image.core)
        if status != COPY_MORE or pieces == 0:
            return status
        pieces -= 1
        if gently:
            jrnl_rest(jrnl_now() - began - waited + COPY_REST_NS)


# In files: a stored image. Its files' names and the list of what there is to copy are Python's.

cdef int stored_gather(ImageData* image, uint32_t volume, uint64_t start, uint64_t length,
                       uint8_t* buffer, uint8_t* bad, bint gently) noexcept nogil:
    """Read a range, a part at a time."""
    cdef uint64_t k = 0, part
    cdef int64_t began
    cdef int status = COPY_MORE
    while k < length:
        part = length - k
        if part > COPY_PART_BYTES:
            part = COPY_PART_BYTES
        if not lock_soon(image.core):
            return COPY_LATER
        began = jrnl_now()
        status = copy_ready(image)
        if status == COPY_MORE:
            status = copy_fetch(image, volume, start + k, buffer + k, part,
                                bad + k // SNAPSHOT_BLOCK_BYTES)
            if status == OK:
                status = COPY_MORE
        core_unlock(image.core)
        if status != COPY_MORE:
            return status
        k += part
        if gently:
            jrnl_rest(jrnl_now() - began + COPY_REST_NS)
    return status


cdef int stored_put(ImageData* image, uint32_t volume, uint64_t number, uint64_t length,
                    uint8_t* buffer, const uint8_t* bad, bint fresh, int* error) noexcept nogil:
    """Write what was read: a run of blocks at a time, and then their checksums.

    In a `fresh` file all is zeroes; in one that was cloned, what is right already stays. `buffer`
    has room for the sums and for what a clone holds.
    """
    cdef uint64_t covered = SUM_BLOCK_SUMS * SNAPSHOT_BLOCK_BYTES, start = number * covered
    cdef uint64_t* sums = <uint64_t*>(buffer + covered)
    cdef uint8_t* there = buffer + covered + SUM_BLOCK_BYTES
    cdef uint64_t k = 0, run = 0, part
    cdef bint same, any_bad = memchr(bad, 1, SUM_BLOCK_SUMS) is not NULL
    cdef int status = OK
    memset(sums, 0, SUM_BLOCK_BYTES)
    if not fresh:
        status = device_read(&image.copies[volume], there, length, start, error)
    elif not any_bad and is_zero(buffer, length):
        return OK
    while status == OK and k < length:
        part = length - k
        if part > SNAPSHOT_BLOCK_BYTES:
            part = SNAPSHOT_BLOCK_BYTES
        sums[k // SNAPSHOT_BLOCK_BYTES] = copied_sum(buffer + k, part,
                                                     bad[k // SNAPSHOT_BLOCK_BYTES])
        same = is_zero(buffer + k, part) if fresh else memcmp(buffer + k, there + k, part) == 0
        if same and k > run:
            status = device_write(&image.copies[volume], buffer + run, k - run, start + run, error)
        k += part
        if same:
            run = k
    if status == OK and k > run:
        status = device_write(&image.copies[volume], buffer + run, k - run, start + run, error)
    sums[SUM_BLOCK_SUMS] = sums_own(image, sums, volume, number)
    if status == OK:
        status = device_write(&image.sum_files[volume], <uint8_t*>sums, SUM_BLOCK_BYTES,
                              number * SUM_BLOCK_BYTES, error)
    return status


cdef int stored_continue(ImageData* image, uint32_t volume, uint64_t number, bint gently,
                         bint fresh, int* error) noexcept nogil:
    """Copy what one block of checksums covers."""
    cdef uint64_t covered = SUM_BLOCK_SUMS * SNAPSHOT_BLOCK_BYTES
    cdef uint64_t length = image.core.volumes[volume].size - number * covered
    cdef uint8_t[SUM_BLOCK_SUMS] bad
    cdef uint8_t* buffer = <uint8_t*>malloc(2 * covered + SUM_BLOCK_BYTES)
    cdef int status
    if buffer is NULL:
        return E_NO_MEMORY
    if length > covered:
        length = covered
    memset(bad, 0, SUM_BLOCK_SUMS)
    status = stored_gather(image, volume, number * covered, length, buffer, bad, gently)
    if status == COPY_MORE:
        status = stored_put(image, volume, number, length, buffer, bad, fresh, error)
        if status == OK:
            status = COPY_MORE
    free(buffer)
    return status


cdef int stored_write(ImageData* image, ImageData* source, uint32_t volume, uint64_t number,
                      uint8_t* buffer, bint copy) noexcept nogil:
    """Store the blocks that one block of checksums covers: from `source`, or, where the copy is
    there already (cloned), only their checksums. `buffer` has room for them and for the sums."""
    cdef Core* core = image.core
    cdef uint64_t size = core.volumes[volume].size
    cdef uint64_t start = number * SUM_BLOCK_SUMS * SNAPSHOT_BLOCK_BYTES
    cdef uint64_t length = size - start, k, first, block
    cdef uint64_t* sums = <uint64_t*>(buffer + SUM_BLOCK_SUMS * SNAPSHOT_BLOCK_BYTES)
    cdef int status
    if length > SUM_BLOCK_SUMS * SNAPSHOT_BLOCK_BYTES:
        length = SUM_BLOCK_SUMS * SNAPSHOT_BLOCK_BYTES
    status = image_fetch(source, volume, start, buffer, length)
    if status != OK or is_zero(buffer, length):
        return status
    memset(sums, 0, SUM_BLOCK_BYTES)
    k = 0
    while k < length and status == OK:
        first = k
        while k < length:    # a run of blocks that are not zeroes
            block = length - k if length - k < SNAPSHOT_BLOCK_BYTES else SNAPSHOT_BLOCK_BYTES
            sums[k // SNAPSHOT_BLOCK_BYTES] = hash64(buffer + k, block)
            if is_zero(buffer + k, block):
                break
            k += block
        if k > first and copy:
            status = device_write(&image.copies[volume], buffer + first, k - first,
                                  start + first, &core.fault.error)
        if k < length:
            k += block
    sums[SUM_BLOCK_SUMS] = sums_own(image, sums, volume, number)
    if status == OK:
        status = device_write(&image.sum_files[volume], <uint8_t*>sums, SUM_BLOCK_BYTES,
                              number * SUM_BLOCK_BYTES, &core.fault.error)
    return status
