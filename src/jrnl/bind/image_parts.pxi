# Images a part at a time: what may take long lets handlers run in between (see Poll).
#
# Takes: errors, signal_poll, extent_map, live, preserve, image, maps

cdef bint map_lay_out(ExtentMapData* map, uint32_t volume, uint8_t* target,
                      Poll* poll) except -1:
    """The same of all of a map; False where something has changed meanwhile."""
    cdef Core* core = map.core
    cdef uint64_t first = 0, last
    cdef int status
    while first < map.count:
        last = min(first + POLL_ENTRIES, map.count)
        with nogil:
            status = map_lay(core, map, volume, first, last, target)
        raise_status(status, core)
        first = last
        if first < map.count and poll_signals(poll, core):
            return False
    return True


cdef uint64_t image_behind(const ImageData* image) noexcept nogil:
    """How many entries a live image has not looked at yet, about: what its next reader has to."""
    cdef const Live* live
    while image.base is not NULL and image.kind != IMAGE_LIVE:
        image = image.base
    live = image.live
    if image.kind != IMAGE_LIVE or live is NULL or image.core.closed:
        return 0
    if live.preserves:
        if image.core.lives.slot == image.core.ring.slot_head:
            return 0
        live = image.core.lives.newest
    return image.core.ring.slot_head - live.next_slot


cdef int image_follow(ImageData* image, Poll* poll) except -1:
    """Bring a live image up to production, a part at a time. It says itself where that fails."""
    cdef Core* core = image.core
    cdef bint more = True
    while image.base is not NULL and image.kind != IMAGE_LIVE:
        image = image.base
    while more and image.kind == IMAGE_LIVE and image.live is not NULL:
        with nogil:
            more = live_follow(image.live)
        if more:
            poll_signals(poll, core)
    return 0


cdef bint live_follow(Live* live) noexcept nogil:
    """Look at some more entries; False where none are left, or it cannot."""
    cdef Core* core = live.core
    cdef Live* other = live
    cdef uint64_t end = core.ring.slot_head
    if core.closed or live.failed != OK or not live.preserves and live.seq < core.ring.base_seq:
        return False
    if live.preserves:
        if core.lives.slot == end:
            return False
        if core.lives.filling.first_slot > live.first_slot:
            other = core.lives.filling
        while other is not NULL and other.next_slot >= min(preserve_end(other), end):
            other = other.newer
        if other is NULL:
            return False
        end = min(preserve_end(other), end)
    elif live.generation != core.generation and live_follow_rewind(live) != OK:
        return False
    if other.next_slot >= end:
        return False
    spare_reuse_tables(&other.map, end - other.next_slot)
    return live_advance(other, min(other.next_slot + POLL_ENTRIES, end)) == OK


cdef int image_catch_up(ImageData* image) except -1:
    """The same for who begins again further out, where anything has moved."""
    cdef Poll poll
    poll_begin(&poll, image.core)
    try:
        image_follow(image, &poll)
    finally:
        poll_end(&poll, image.core)
    return 0


cdef int image_ready(ImageData* image) except? -1000:
    """A status: a live image can be read now."""
    cdef int status
    image_catch_up(image)
    with nogil:
        status = live_ready(image.live)
    return status


cdef int fetch_on(ImageData* image, uint32_t volume, uint64_t start, uint8_t* target,
                  uint64_t count) except? -1000:
    """Read a long range, or through many new entries; all of it is of one state."""
    cdef Core* core = image.core
    cdef uint64_t done = 0, part
    cdef Poll poll
    cdef int status = OK
    poll_begin(&poll, core)
    try:
        image_follow(image, &poll)
        while status == OK and done < count:
            part = min(count - done, <uint64_t>POLL_BYTES)
            with nogil:
                status = image_fetch(image, volume, start + done, target + done, part)
            done += part
            if done < count and poll_signals(&poll, core):
                done = 0
        return status
    finally:
        poll_end(&poll, core)


cdef bint lay_out(_State image, uint32_t volume, uint8_t* target, Poll* poll) except -1:
    """Lay a whole volume out in zeroed memory; False where it has changed meanwhile."""
    cdef Core* core = image.data.core
    cdef uint64_t size = core.volumes[volume].size, start = 0, stop
    cdef _State base = image.base     # a handler may finish the copy that this is to become
    cdef int kind = image.data.kind
    cdef Live* live = NULL
    cdef Live* own = NULL
    cdef int status = OK
    if kind != IMAGE_LIVE and kind != IMAGE_PATCHED:
        while start < size:
            stop = min(start + POLL_BYTES, size)
            with nogil:
                status = image_materialise(&image.data, volume, start, stop, target)
            raise_status(status, core)
            start = stop
            if start < size and poll_signals(poll, core):
                return False
        return True
    if not lay_out(base, volume, target, poll):
        return False
    if kind == IMAGE_PATCHED:
        return map_lay_out(&image.data.map, volume, target, poll)
    if image.data.kind != kind:
        return False
    with nogil:
        status = live_ready(image.data.live)
    raise_status(status, core)
    # The newest first, for the older ones win.
    own = live = image.data.live
    while live_next(live) is not NULL:
        live = live.newer
    core.lives.busy += 1
    try:
        while True:
            if not map_lay_out(&live.map, volume, target, poll) or image.data.kind != kind:
                return False
            if image.data.live != own:
                raise_status(E_CLOSED, core)
            if live == own:
                return True
            live = live.older
    finally:
        live_idle(&core.lives)
