# File stores: what undoes the entries of one call, so that all of them are made or none.
#
# Takes: sabotage, ring, overlay

cdef struct Batch:
    uint64_t slot                # of its first entry
    uint64_t seq                 # ... and the newest one before that
    KindCount[8] made
    uint64_t since_rewind
    bint unflushed
    OverlayBlock* saved          # blocks of the overlay before an entry changed them; or NULL
    uint64_t saved_count
    uint64_t saved_max


cdef int batch_begin(Core* core, Batch* batch, uint64_t blocks) noexcept nogil:
    """Be able to take entries back that touch up to so many blocks; 0: they are too many for it."""
    memset(batch, 0, sizeof(Batch))
    batch.slot = core.ring.slot_head
    batch.seq = core.ring.seq
    memcpy(batch.made, core.made, sizeof(core.made))
    batch.since_rewind = core.since_rewind
    batch.unflushed = core.unflushed
    if blocks == 0:
        return OK
    batch.saved = <OverlayBlock*>malloc(blocks * sizeof(OverlayBlock))
    batch.saved_max = blocks
    return OK if batch.saved is not NULL else E_NO_MEMORY


cdef void batch_save(Disk* disk, Batch* batch, uint32_t volume, uint64_t first,
                     uint64_t span) noexcept nogil:
    """An entry is about to change these sectors in the overlay."""
    cdef uint64_t block, last = (first + span - 1) >> BLOCK_SHIFT
    cdef OverlayBlock* saved
    if batch is NULL or batch.saved is NULL:
        return
    for block in range(first >> BLOCK_SHIFT, last + 1):
        saved = &batch.saved[batch.saved_count]
        saved[0] = overlay_bucket(&disk.back.active, overlay_key(volume, block))[0]
        if saved.key == 0:
            memset(saved, 0, sizeof(OverlayBlock))
            saved.key = overlay_key(volume, block)
        batch.saved_count += 1


cdef int batch_end(Core* core, Batch* batch, int status) noexcept nogil:
    """All entries were made, or one could not be: then none of them was."""
    cdef uint64_t made = core.ring.slot_head - batch.slot, k
    cdef OverlayBlock* saved
    if status != OK and made and in_force(RULE_BATCH):
        if (batch.saved is not NULL and core.disk.groups.first_slot <= batch.slot
                and core.ring.seq - batch.seq == made):
            k = batch.saved_count
            while k:
                k -= 1
                saved = &batch.saved[k]
                overlay_bucket(&core.disk.back.active, saved.key)[0] = saved[0]
            core.disk.groups.cursor = header_at(&core.ring, batch.slot).position
            core.ring.slot_head = batch.slot
            core.ring.seq = batch.seq
            memcpy(core.made, batch.made, sizeof(core.made))
            core.since_rewind = batch.since_rewind
            core.unflushed = batch.unflushed
            core.generation += 1    # whoever has followed up to here goes back
        else:
            if not core.fault.poisoned:
                core.fault.poisoned = ENOMEM if status == E_NO_MEMORY else EIO
            if status == E_NO_MEMORY:
                status = E_POISONED    # something has changed
    free(batch.saved)
    return status
