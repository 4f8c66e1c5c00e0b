# On disk, a restore: what differs is written onto production; an intent makes it whole.
#
# Takes: ring, image, disk_write

cdef int disk_image_restore(ImageData* image, uint32_t volume, const int64_t* offsets,
                            const int64_t* lengths, uint64_t count) noexcept nogil:
    """Journal and write the image's content over the given ranges of production."""
    cdef uint8_t* content
    cdef uint64_t k, longest = 0
    cdef int status = OK
    for k in range(count):
        if <uint64_t>lengths[k] > longest:
            longest = <uint64_t>lengths[k]
    content = <uint8_t*>malloc(longest + 1)
    if content is NULL:
        return E_NO_MEMORY
    for k in range(count):
        status = image_fetch(image, volume, <uint64_t>offsets[k], content, <uint64_t>lengths[k])
        if status == OK:
            status = write_ready(image.core, volume, <uint64_t>offsets[k], <uint64_t>lengths[k])
        if status == OK:
            status = disk_write(image.core, volume, <uint64_t>offsets[k], content,
                                <uint64_t>lengths[k], True)
        if status != OK:
            break
    free(content)
    return status
