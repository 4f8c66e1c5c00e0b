# File stores: their volumes get what they have not got yet, and what that needs of the log.
#
# Write-back: sorted, joined, then synced; only then are the bytes known to be in the files.
#
# Takes: sabotage, lock, device, log, overlay, commit

cdef bint in_hole(Disk* disk, VolumeMemory* volumes, uint32_t volume, uint64_t offset,
                  uint64_t length) noexcept nogil:
    """Whether the volume's file has a hole there. Only this process writes to it."""
    cdef uint8_t* chunks = disk.chunks[volume]
    cdef uint64_t size = volumes[volume].size, chunk = offset >> CHUNK_SHIFT, k, end
    cdef uint64_t last = (offset + length - 1) >> CHUNK_SHIFT
    while chunk <= last:
        if chunks[chunk] == CHUNK_UNKNOWN:
            end = device_next_data(&disk.volumes[volume], chunk << CHUNK_SHIFT, size)
            end = volumes[volume].chunks if end == size else end >> CHUNK_SHIFT
            if end > chunk + CHUNKS_MARKED:
                end = chunk + CHUNKS_MARKED
            chunks[chunk] = CHUNK_DATA
            for k in range(chunk, end):
                if chunks[k] == CHUNK_UNKNOWN or k == chunk:
                    chunks[k] = CHUNK_HOLE
        if chunks[chunk] == CHUNK_DATA:
            return False
        chunk += 1
    return True


cdef void fill_hole(Disk* disk, uint32_t volume, uint64_t offset, uint64_t length) noexcept nogil:
    """Bytes are about to be written to the volume's file."""
    cdef uint64_t chunk
    for chunk in range(offset >> CHUNK_SHIFT, ((offset + length - 1) >> CHUNK_SHIFT) + 1):
        disk.chunks[volume][chunk] = CHUNK_DATA


cdef bint unwritten(Core* core, uint32_t volume, uint64_t first, uint64_t span) noexcept nogil:
    """Whether production has nothing but zeroes there, for nobody ever wrote to it."""
    cdef uint64_t block = first >> BLOCK_SHIFT, last = (first + span - 1) >> BLOCK_SHIFT
    cdef Disk* disk = core.disk
    if core.fault.lost or disk.forks != jrnl_forks:
        return False
    while block <= last:
        if not core.volumes[volume].touched[block >> (CHUNK_SHIFT - BLOCK_SHIFT)]:
            block = ((block >> (CHUNK_SHIFT - BLOCK_SHIFT)) + 1) << (CHUNK_SHIFT - BLOCK_SHIFT)
            continue    # what is in an overlay was written since the opening
        if (disk.back.active.count
                and overlay_bucket(&disk.back.active, overlay_key(volume, block)).key):
            return False
        if (disk.back.draining.count
                and overlay_bucket(&disk.back.draining, overlay_key(volume, block)).key):
            return False
        block += 1
    if first + span > core.volumes[volume].size:
        span = core.volumes[volume].size - first
    return in_hole(core.disk, core.volumes, volume, first, span)


cdef struct Gather:
    Core* core
    uint32_t volume
    uint64_t offset              # of the first byte
    uint64_t length
    int count
    uint8_t* buffer
    uint64_t buffer_used
    iovec[PARTS_MAX] parts


cdef int gather_write(Gather* gather) noexcept nogil:
    """Write what has been gathered."""
    cdef uint64_t size = gather.core.volumes[gather.volume].size
    cdef int status
    if gather.count == 0:
        return OK
    if gather.offset + gather.length > size:
        gather.parts[gather.count - 1].iov_len -= gather.offset + gather.length - size
    gather.core.disk.back.dirty[gather.volume] = True
    fill_hole(gather.core.disk, gather.volume, gather.offset, gather.length
              if gather.offset + gather.length <= size else size - gather.offset)
    status = device_write_parts(&gather.core.disk.volumes[gather.volume], gather.parts,
                                gather.count, gather.offset, &gather.core.fault.error)
    gather.count = 0
    gather.length = 0
    gather.buffer_used = 0
    return status


cdef int gather_sector(Gather* gather, uint32_t volume, uint64_t offset,
                       uint64_t at) noexcept nogil:
    """Add a sector behind those that there are, or begin anew."""
    cdef Disk* disk = gather.core.disk
    cdef iovec* last
    cdef uint8_t* source
    cdef int status
    if (gather.count and (gather.volume != volume or gather.offset + gather.length != offset)
            or gather.count == PARTS_MAX or gather.buffer_used == BUFFER_BYTES
            or gather.length >= GATHER_BYTES):
        status = gather_write(gather)
        if status != OK:
            return status
    if gather.count == 0:
        gather.volume = volume
        gather.offset = offset
    if at == AT_ZERO:
        source = zero_bytes
    elif at >= disk.ram.tail:
        source = ram_at(disk, at)
    else:
        source = gather.buffer + gather.buffer_used
        gather.buffer_used += SECTOR_BYTES
        status = log_read(gather.core, at, source, SECTOR_BYTES)
        if status != OK:
            return status
    last = &gather.parts[gather.count - 1]
    gather.length += SECTOR_BYTES
    if gather.count and at == AT_ZERO and last.iov_base == zero_bytes:
        if last.iov_len < ZERO_BYTES:
            last.iov_len += SECTOR_BYTES
            return OK
    elif gather.count and <uint8_t*>last.iov_base + last.iov_len == source:
        last.iov_len += SECTOR_BYTES
        return OK
    gather.parts[gather.count].iov_base = source
    gather.parts[gather.count].iov_len = SECTOR_BYTES
    gather.count += 1
    return OK


cdef int _compare_blocks(const void* a, const void* b) noexcept nogil:
    cdef uint64_t left = (<OverlayBlock**>a)[0].key, right = (<OverlayBlock**>b)[0].key
    return (left > right) - (left < right)


cdef int drain_write(Core* core) noexcept nogil:
    """Write the draining overlay into the volumes' files, in order."""
    cdef Overlay* draining = &core.disk.back.draining
    cdef OverlayBlock** order
    cdef Gather* gather
    cdef uint64_t k, used = 0, place
    cdef int sector
    cdef int status = OK
    if draining.count == 0:
        return OK
    order = <OverlayBlock**>malloc(draining.count * sizeof(OverlayBlock*))
    gather = <Gather*>calloc(1, sizeof(Gather))
    if gather is not NULL:
        gather.buffer = <uint8_t*>malloc(BUFFER_BYTES)
    if order is NULL or gather is NULL or gather.buffer is NULL:
        status = E_NO_MEMORY
    else:
        gather.core = core
        for k in range(draining.mask + 1):
            if draining.blocks[k].key:
                order[used] = &draining.blocks[k]
                used += 1
        qsort(order, used, sizeof(OverlayBlock*), _compare_blocks)
        for k in range(used):
            place = order[k].key - 1
            for sector in range(BLOCK_SECTORS):
                if status == OK and order[k].at[sector] not in (AT_NONE, AT_LOST):
                    status = gather_sector(
                        gather, <uint32_t>(place >> 48),
                        ((place & <uint64_t>0xFFFFFFFFFFFF) * BLOCK_SECTORS + sector)
                        * SECTOR_BYTES, order[k].at[sector])
        if status == OK:
            status = gather_write(gather)
    if gather is not NULL:
        free(gather.buffer)
    free(gather)
    free(order)
    return status


cdef int volumes_sync(Core* core) noexcept nogil:
    cdef uint32_t k
    cdef int status
    for k in range(core.volume_count):
        if core.disk.back.dirty[k]:
            status = device_sync(&core.disk.volumes[k], &core.fault.error)
            if status != OK:
                return poison(&core.fault, status)
            core.disk.back.dirty[k] = False
    return OK


cdef bint is_draining(const Disk* disk) noexcept nogil:
    return disk.back.draining.count > 0 or disk.back.draining_end > disk.ram.tail


cdef void drain_begin(Disk* disk, uint64_t seq) noexcept nogil:
    """What is active now is written back next. The open group is empty."""
    overlay_swap(&disk.back.active, &disk.back.draining)
    disk.back.draining_end = disk.groups.start
    disk.back.draining_seq = seq
    disk.back.draining_number = disk.groups.next


cdef void carry_lost(Disk* disk, Fault* fault) noexcept nogil:
    """What is lost stays so until it is written over."""
    cdef OverlayBlock* block
    cdef uint64_t k
    cdef int sector
    if not fault.lost_sectors:
        return
    for k in range(disk.back.draining.mask + 1):
        for sector in range(BLOCK_SECTORS):
            if disk.back.draining.blocks[k].at[sector] == AT_LOST:
                if overlay_room(&disk.back.active, 1) == OK:
                    block = overlay_bucket(&disk.back.active, disk.back.draining.blocks[k].key)
                    if block.key == 0:
                        block.key = disk.back.draining.blocks[k].key
                        disk.back.active.count += 1
                    if block.at[sector] == AT_NONE:
                        block.at[sector] = AT_LOST


cdef int write_back(Core* core) noexcept nogil:
    """Write the draining entries back, or where there are none, begin to drain all that there are.

    A group is written back only when something else that is durable says that it is there: a later
    group or the superblocks. Else damage to it would look like a torn tail. The superblocks name it
    before long: opening redoes what they do not name, and needs all of that unharmed.
    """
    cdef Disk* disk = core.disk
    cdef int status = log_commit(core) if in_force(RULE_COMMIT_FIRST) else log_wait(core.disk,
                                                                                    &core.fault)
    if status != OK:
        return status
    if not is_draining(disk):
        drain_begin(core.disk, core.ring.seq)
    if disk.commit.recorded_number < disk.back.draining_number and in_force(RULE_RECORD_FIRST):
        status = disk_record(core)
        if status != OK:
            return status
    disk.back.tried_seq = disk.back.draining_seq
    status = drain_write(core)
    if status == E_IO:
        return poison(&core.fault, status)
    if status != OK:
        return status
    status = volumes_sync(core)
    if status != OK:
        return status
    carry_lost(core.disk, &core.fault)
    overlay_clear(&disk.back.draining)
    disk.back.synced_seq = disk.back.draining_seq
    disk.ram.tail = disk.back.draining_end
    disk.back.count += 1
    if disk.ram.tail > disk.back.named_end + core.ring.area // NAMED_SHARE:
        return disk_record(core)
    return OK


cdef int write_back_all(Core* core) noexcept nogil:
    """Bring the volumes' files to the newest state, durably."""
    cdef int status = OK
    if is_draining(core.disk):
        status = write_back(core)
    if status == OK:
        status = write_back(core)
    return status


cdef int disk_tidy(Core* core) noexcept nogil:
    """Write back lazily: from half of the memory on, and what a later group has recorded."""
    cdef Disk* disk = core.disk
    if core.fault.poisoned or open_count(&core.ring, core.disk):
        return OK
    if is_draining(disk):
        if disk.commit.recorded_number >= disk.back.draining_number:
            return write_back(core)
    elif disk.groups.start - disk.ram.tail > disk.ram.size // 2:
        drain_begin(core.disk, core.ring.seq)
    return OK


cdef int ram_make_room(Core* core) noexcept nogil:
    return write_back(core)
