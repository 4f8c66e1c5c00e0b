# Where production may differ from an image: what a restore has to look at.
#
# Takes: ring, overlay, extent_map, preserve, changed_blocks, image

cdef inline int range_insert(ExtentMapData* out, uint32_t volume, uint64_t offset,
                             uint64_t length) noexcept nogil:
    cdef Fragment piece
    if out.only is not NULL and not out.only[volume]:
        return OK
    memset(&piece, 0, sizeof(Fragment))
    piece.volume = volume
    piece.offset = offset
    piece.length = <uint32_t>length
    piece.slot = NO_SLOT
    piece.flags = FRAGMENT_PRODUCTION
    return map_insert(out, &piece)


cdef int written_since(Core* core, uint64_t seq, ExtentMapData* out) noexcept nogil:
    """Add what the retained entries after state `seq` wrote."""
    cdef const EntryHeader* header = NULL
    cdef uint64_t slot, first = 0
    cdef int status = find_slot_after(core, seq, False, &first)
    for slot in range(first, core.ring.slot_head):
        if status == OK:
            status = sound_header(core, slot, &header)
        if status != OK:
            break
        if changes_bytes(header) and not changes_nothing(header):
            status = range_insert(out, header.volume, header.offset, header.length)
    return UNKNOWN_RANGES if status == E_CORRUPT else status


cdef int changed_since(Core* core, const CopyNote* note, ExtentMapData* out) noexcept nogil:
    """Add all blocks in which production may differ from a copy."""
    cdef const ChangedBlocks* changed = &core.changed
    cdef uint64_t k, place, offset, length
    cdef int status = OK
    if not note.known or note.seq < changed.complete_from:
        return UNKNOWN_RANGES
    for k in range(changed.mask + 1 if changed.blocks is not NULL else 0):
        if status == OK and changed.blocks[k].key and changed.blocks[k].seq > note.seq:
            place = changed.blocks[k].key - 1
            offset = (place & <uint64_t>0xFFFFFFFFFFFF) << BLOCK_SHIFT
            length = core.volumes[place >> 48].size - offset
            status = range_insert(out, <uint32_t>(place >> 48), offset,
                                  length if length < BLOCK_BYTES else BLOCK_BYTES)
    return written_since(core, note.seq, out) if status == OK else status


cdef int map_add_ranges(ExtentMapData* out, const ExtentMapData* map) noexcept nogil:
    """Add what another map covers."""
    cdef uint64_t k
    cdef int status = OK
    for k in range(map.count):
        if status == OK:
            status = range_insert(out, map.fragments[k].volume, map.fragments[k].offset,
                                  map.fragments[k].length)
    return status


cdef int lost_ranges(VolumeMemory* volumes, const Overlay* overlay,
                     ExtentMapData* out) noexcept nogil:
    """Add the sectors of production that damage has taken: a restore puts them right."""
    cdef uint64_t k, place, offset, length
    cdef int sector
    cdef int status = OK
    for k in range(overlay.mask + 1):
        for sector in range(BLOCK_SECTORS):
            if overlay.blocks[k].key == 0 or overlay.blocks[k].at[sector] != AT_LOST:
                continue
            place = overlay.blocks[k].key - 1
            offset = (place & <uint64_t>0xFFFFFFFFFFFF) * BLOCK_BYTES + sector * SECTOR_BYTES
            length = volumes[place >> 48].size - offset
            if status == OK and offset < volumes[place >> 48].size:
                status = range_insert(out, <uint32_t>(place >> 48), offset,
                                      length if length < SECTOR_BYTES else SECTOR_BYTES)
    return status


cdef int preserved_suspects(ImageData* image, ExtentMapData* out) noexcept nogil:
    cdef Preserved* preserved = image.preserved
    cdef uint64_t k, place, offset, length
    cdef int status = E_CLOSED if preserved.dead else preserved.failed
    for k in range(preserved.mask + 1 if preserved.count else 0):
        if status == OK and preserved.blocks[k].key:
            place = preserved.blocks[k].key - 1
            offset = (place & <uint64_t>0xFFFFFFFFFFFF) << BLOCK_SHIFT
            length = preserved.core.volumes[place >> 48].size - offset
            status = range_insert(out, <uint32_t>(place >> 48), offset,
                                  length if length < BLOCK_BYTES else BLOCK_BYTES)
    return written_since(preserved.core, preserved.after, out) if status == OK else status


cdef int lost_production(Core* core, ExtentMapData* out) noexcept nogil:
    """Add what damage has taken of production, which is nothing in memory."""
    cdef int status = OK
    if core.fault.lost:
        return UNKNOWN_RANGES
    if core.fault.lost_sectors:
        status = lost_ranges(core.volumes, &core.disk.back.active, out)
        if status == OK:
            status = lost_ranges(core.volumes, &core.disk.back.draining, out)
    return status


cdef int present_suspects(ImageData* image, ExtentMapData* out) noexcept nogil:
    return OK


cdef int patched_suspects(ImageData* image, ExtentMapData* out) noexcept nogil:
    return map_add_ranges(out, &image.map)


cdef int live_suspects(ImageData* image, ExtentMapData* out) noexcept nogil:
    cdef int status = live_ready(image.live)
    return written_since(image.core, image.live.seq, out) if status == OK else status


cdef int copy_suspects(ImageData* image, ExtentMapData* out) noexcept nogil:
    return UNKNOWN_RANGES    # unless a note says where was written since, which is asked first


cdef int image_suspects(ImageData* image, ExtentMapData* out) noexcept nogil:
    """Add all ranges in which production may differ from an image. The lock is held."""
    cdef Core* core = image.core
    cdef int status = E_CLOSED if core.closed else OK
    if status == OK:
        status = lost_production(core, out)
    while image is not NULL and status == OK:
        if image.note is not NULL:
            status = changed_since(core, image.note, out)
        else:
            status = image_ops[image.kind].suspects(image, out)
        image = image.base
    return status


cdef void image_differs_by(int kind, ImageSuspects suspects) noexcept:
    image_ops[kind].suspects = suspects


image_differs_by(IMAGE_PRODUCTION, present_suspects)
image_differs_by(IMAGE_FROZEN, copy_suspects)
image_differs_by(IMAGE_LIVE, live_suspects)
image_differs_by(IMAGE_PATCHED, patched_suspects)
image_differs_by(IMAGE_STORED, copy_suspects)
image_differs_by(IMAGE_PRESERVED, preserved_suspects)
