# The door between memory and disk, for what reads: bytes of production, an entry's images.
#
# Here and in storage.pxi it is decided which of the two a store is on, once an operation; nowhere
# else does the core ask.
#
# Takes: hash, kernels, memory, shared, ring, log, overlay

cdef enum:
    FRAGMENT_FETCHED = 128       # the bytes are read from a file, and verified whenever they are


cdef inline bint on_disk(const Disk* disk) noexcept nogil:
    return disk is not NULL


cdef int images_check(Core* core, const EntryHeader* header, int which) noexcept nogil:
    """Hold the stored images (`which`: FLAG_BEFORE, FLAG_AFTER or both) against their checksums."""
    cdef int status = OK
    if not core.ring.checksum:
        return OK
    if which & header.flags & FLAG_BEFORE and not header.flags & FLAG_BEFORE_ZERO:
        if on_disk(core.disk):
            disk_image(core, header, FLAG_BEFORE, &status)
        elif hash64(before_image(&core.ring, header), header.length) != header.before_sum:
            core.fault.entry = header.seq
            return E_CORRUPT
    if status == OK and which & header.flags & FLAG_AFTER and not header.flags & FLAG_AFTER_ZERO:
        if on_disk(core.disk):
            disk_image(core, header, FLAG_AFTER, &status)
        elif hash64(after_image(&core.ring, header), header.length) != header.after_sum:
            core.fault.entry = header.seq
            return E_CORRUPT
    return status


cdef const uint8_t* image_at(Core* core, const EntryHeader* header, int which,
                             int* status) noexcept nogil:
    """The header.length bytes of an image that is kept and not zero, good until the next call."""
    cdef const uint8_t* image
    if not on_disk(core.disk):
        return after_image(&core.ring, header) if which == FLAG_AFTER else before_image(&core.ring,
                                                                                        header)
    image = disk_image(core, header, which, status)
    if image is not NULL and header.flags & FLAG_SECTORS:
        image += header.offset % SECTOR_BYTES
    return image


cdef inline bint is_apart(const uint8_t* one, const uint8_t* other, uint64_t length) noexcept nogil:
    return one + length <= other or other + length <= one


cdef int production_read(Core* core, uint32_t volume, uint64_t offset, uint8_t* target,
                         uint64_t length) noexcept nogil:
    """Read a range that lies inside the volume."""
    cdef const uint8_t* source
    if on_disk(core.disk):
        return volume_fetch(core, volume, offset, target, length)
    if core.volumes[volume].own is not NULL:
        own_fetch(core, volume, offset, target, length)
        return OK
    source = core.volumes[volume].data + offset
    if is_apart(target, source, length):
        copy_block(target, source, length)
    else:
        memmove(target, source, length)
    return OK


cdef const uint8_t* production_at(Core* core, uint32_t volume, uint64_t offset, uint8_t* room,
                                  uint64_t length, int* status) noexcept nogil:
    """A range of production: where it lies, or read into `room`."""
    if core.volumes[volume].own is not NULL:
        own_fetch(core, volume, offset, room, length)
        return room
    if not on_disk(core.disk):
        return core.volumes[volume].data + offset
    status[0] = volume_fetch(core, volume, offset, room, length)
    return room


cdef int production_lay(Core* core, uint32_t volume, uint64_t start, uint64_t stop,
                        uint8_t* target) noexcept nogil:
    """Lay a range of production, which begins with a chunk, out in zeroed memory of its size."""
    if on_disk(core.disk):
        return volume_fetch(core, volume, start, target + start, stop - start)
    if core.volumes[volume].own is not NULL:
        own_lay(core, volume, start, stop, target)
    else:
        copy_touched(&core.volumes[volume], start, stop, target)
    return OK


cdef int core_read(Core* core, uint32_t volume, uint64_t offset, uint8_t* data,
                   uint64_t length) noexcept nogil:
    """Read a range of production; E_BOUNDS where it lies outside the volume."""
    cdef int status = range_check(core, volume, offset, length)
    if status == OK and length:
        return production_read(core, volume, offset, data, length)
    return status


cdef inline uint8_t fragments_from(const Disk* disk) noexcept nogil:
    """What is said of all fragments whose bytes are production's or an entry's, as these are."""
    return FRAGMENT_FETCHED if on_disk(disk) else 0


cdef inline void production_ahead(const Disk* disk, const VolumeMemory* volumes, uint32_t volume,
                                  uint64_t offset) noexcept nogil:
    """Have a place in production, inside the volume, on its way to the cache."""
    if not on_disk(disk):
        jrnl_prefetch(volumes[volume].data + offset, 1)


cdef inline bint fold_bears_calls(const Disk* disk) noexcept nogil:
    """Whether a call may come in where a fold is asked for: a log is between two of its steps."""
    return not on_disk(disk)
