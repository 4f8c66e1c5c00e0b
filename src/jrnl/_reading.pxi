# Bytes of production, and an entry's images held against their checksums.
#
# Takes: _hash, _kernels, _ring, _log, _overlay

cdef int images_check(Core* core, const EntryHeader* header, int which) noexcept nogil:
    """Hold the stored images (`which`: FLAG_BEFORE, FLAG_AFTER or both) against their checksums."""
    cdef int status = OK
    if not core.checksum:
        return OK
    if which & header.flags & FLAG_BEFORE and not header.flags & FLAG_BEFORE_ZERO:
        if core.disk is not NULL:
            disk_image(core, header, FLAG_BEFORE, &status)
        elif hash64(before_image(core, header), header.length) != header.before_sum:
            core.bad_seq = header.seq
            return E_CORRUPT
    if status == OK and which & header.flags & FLAG_AFTER and not header.flags & FLAG_AFTER_ZERO:
        if core.disk is not NULL:
            disk_image(core, header, FLAG_AFTER, &status)
        elif hash64(after_image(core, header), header.length) != header.after_sum:
            core.bad_seq = header.seq
            return E_CORRUPT
    return status


cdef inline bint is_apart(const uint8_t* one, const uint8_t* other, uint64_t length) noexcept nogil:
    return one + length <= other or other + length <= one


cdef int core_read(Core* core, uint32_t volume, uint64_t offset, uint8_t* data,
                   uint64_t length) noexcept nogil:
    cdef int status = range_check(core, volume, offset, length)
    if status == OK and length and core.disk is not NULL:
        return volume_fetch(core, volume, offset, data, length)
    if status == OK and length:
        if is_apart(data, core.volumes[volume].data + offset, length):
            copy_block(data, core.volumes[volume].data + offset, length)
        else:
            memmove(data, core.volumes[volume].data + offset, length)
    return status
