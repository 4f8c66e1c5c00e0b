# The log of a file store: a ring of groups on disk whose newest part is in memory, too.
#
# A position counts the log's bytes for ever. Position p lies in the file at LOG_HEAD_BYTES + p
# modulo ring.area, and in memory at p modulo ram_size, as long as p is not before ram_tail. The
# memory is mapped twice in a row, so that nothing in it is ever split.
#
#     tail          ram_tail       start        cursor
#     |... on disk only |... both ...|. open group .|
#
# A flush seals the open group: one write, one sync (docs/durability.md). One group is on its way at
# a time, so a valid group proves that all before it were synced. Locks are taken in this order: the
# core's, then commit_mutex; a group that is on its way needs only the second one to be finished.
#
# Takes: sabotage, hash, lock, memory, device

cdef extern from *:
    """
    #include <sys/mman.h>
    #include <unistd.h>

    /* `size` bytes, mapped twice in a row. */
    static void *jrnl_map_twice(size_t size)
    {
        char *base;
        int fd = memfd_create("jrnl", MFD_CLOEXEC);
        if (fd < 0)
            return NULL;
        base = mmap(NULL, 2 * size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (base == MAP_FAILED) {
            close(fd);
            return NULL;
        }
        if (ftruncate(fd, size) != 0
            || mmap(base, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) == MAP_FAILED
            || mmap(base + size, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0)
                   == MAP_FAILED) {
            munmap(base, 2 * size);
            base = NULL;
        }
        close(fd);
        return base;
    }

    """
    void* jrnl_map_twice(size_t size) noexcept nogil

cdef enum:
    RAM_CHUNK_BYTES = 1048576    # pages are asked for in pieces of this, before they are touched

cdef uint64_t GROUP_MAGIC = <uint64_t>0x6A726E6C67727570    # "purglnrj"


cdef inline uint64_t block_up(uint64_t position) noexcept nogil:
    return (position + LOG_BLOCK_BYTES - 1) & ~(<uint64_t>LOG_BLOCK_BYTES - 1)


cdef inline uint8_t* ram_at(const Disk* disk, uint64_t position) noexcept nogil:
    return disk.ram.data + (position & (disk.ram.size - 1))


cdef inline uint64_t open_count(const Ring* ring, const Disk* disk) noexcept nogil:
    """Entries in the open group."""
    return ring.slot_head - disk.groups.first_slot


cdef inline uint64_t group_end(uint64_t cursor, uint64_t count) noexcept nogil:
    """Where a group of `count` entries ends whose images end at `cursor`."""
    cdef uint64_t behind = count - GROUP_HEADERS if count > GROUP_HEADERS else 0
    return block_up(align_up(cursor) + behind * HEADER_BYTES)


cdef inline GroupRecord* group_at(const Disk* disk, uint64_t number) noexcept nogil:
    return &disk.groups.records[number & disk.groups.mask]


cdef int group_push(Disk* disk, uint64_t position, uint64_t slot) noexcept nogil:
    """Enter the group group_next; the caller counts it."""
    cdef uint64_t size = disk.groups.mask + 1, number
    cdef GroupRecord* groups
    if disk.groups.next - disk.groups.first >= size:
        groups = <GroupRecord*>malloc(2 * size * sizeof(GroupRecord))
        if groups is NULL:
            return E_NO_MEMORY
        for number in range(disk.groups.first, disk.groups.next):
            groups[number & (2 * size - 1)] = group_at(disk, number)[0]
        free(disk.groups.records)
        disk.groups.records = groups
        disk.groups.mask = 2 * size - 1
    group_at(disk, disk.groups.next).position = position
    group_at(disk, disk.groups.next).slot = slot
    return OK


cdef uint64_t group_seed(const Disk* disk, uint64_t epoch, uint64_t number,
                         uint64_t position) noexcept nogil:
    cdef uint64_t[4] parts
    parts[0] = disk.key if in_force(RULE_SEED_KEY) else 0
    parts[1] = epoch if in_force(RULE_SEED_EPOCH) else 0
    parts[2] = number if in_force(RULE_SEED_NUMBER) else 0
    parts[3] = position if in_force(RULE_SEED_POSITION) else 0
    return hash64(parts, sizeof(parts))


# Bytes of the log, from memory or from disk.

cdef int log_read(Core* core, uint64_t position, uint8_t* target, uint64_t length) noexcept nogil:
    """Read a part of the log's file."""
    cdef uint64_t place, part
    cdef int status = OK
    while length and status == OK:
        place = position % core.ring.area
        part = core.ring.area - place
        if part > length:
            part = length
        status = device_read(&core.disk.log, target, part, LOG_HEAD_BYTES + place,
                             &core.fault.error)
        target += part
        position += part
        length -= part
    return status


cdef int log_fetch(Core* core, uint64_t position, uint8_t* target, uint64_t length) noexcept nogil:
    if position >= core.disk.ram.tail:
        memcpy(target, ram_at(core.disk, position), length)
        return OK
    return log_read(core, position, target, length)


cdef const uint8_t* disk_image(Core* core, const EntryHeader* header, int which,
                               int* status) noexcept nogil:
    """One stored image of an entry, held against its checksum; good until the next call."""
    cdef Disk* disk = core.disk
    cdef uint64_t position = header.position, length = image_length(header)
    cdef uint64_t sum = header.before_sum
    cdef uint8_t* image
    cdef uint8_t* bounce
    if which == FLAG_AFTER:
        position += before_room(header)
        sum = header.after_sum
    if position < disk.ram.tail:
        if disk.bounce.length == length and disk.bounce.position == position:
            return disk.bounce.data
        disk.bounce.length = 0
        if disk.bounce.size < length:
            bounce = <uint8_t*>realloc(disk.bounce.data, length)
            if bounce is NULL:
                status[0] = E_NO_MEMORY
                return NULL
            disk.bounce.data = bounce
            disk.bounce.size = length
        status[0] = log_read(core, position, disk.bounce.data, length)
        if status[0] != OK:
            return NULL
        image = disk.bounce.data
    else:
        image = ram_at(disk, position)
    disk.summed_bytes += length
    if hash64(image, length) != sum and in_force(RULE_IMAGE_SUM):
        core.fault.entry = header.seq
        status[0] = E_CORRUPT
        return NULL
    if image == disk.bounce.data:
        disk.bounce.position = position
        disk.bounce.length = length
    return image


cdef uint64_t group_headers_sum(const EntryHeader* headers, const EntryHeader* others,
                                uint64_t count) noexcept nogil:
    cdef uint64_t first = count if count < GROUP_HEADERS else GROUP_HEADERS
    cdef uint64_t sum = hash64(headers, first * HEADER_BYTES)
    if count > first:
        sum = seeded_hash64(others, (count - first) * HEADER_BYTES, sum)
    return sum


cdef inline void ram_prepare(Disk* disk, uint64_t start, uint64_t end) noexcept nogil:
    """Have the pages of positions [start, end) at hand."""
    cdef uint64_t place = start & (disk.ram.size - 1), chunk = place // RAM_CHUNK_BYTES
    cdef uint64_t last = (place + (end - start)) // RAM_CHUNK_BYTES
    cdef uint64_t chunks = disk.ram.size // RAM_CHUNK_BYTES
    if chunks == 0:
        return
    while chunk <= last:
        if not disk.ram.ready[chunk % chunks]:
            disk.ram.ready[chunk % chunks] = 1
            jrnl_populate(disk.ram.data + chunk % chunks * RAM_CHUNK_BYTES, RAM_CHUNK_BYTES)
        chunk += 1


cdef inline int disk_check(const Disk* disk, const Fault* fault) noexcept nogil:
    """Whether the store takes writes."""
    if disk.forks != jrnl_forks and in_force(RULE_FORK):
        return E_FORKED
    if fault.poisoned:
        return E_POISONED
    return E_READ_ONLY if disk.read_only else OK
