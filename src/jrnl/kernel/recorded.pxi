# Recorded logs: which entry wrote a byte last, at any state, and where its content lies.
#
# All places where an entry's range begins or ends cut the volume into leaves. Over them stands a
# binary tree, its root node 1, the children of node n 2n and 2n + 1. An entry is noted at the few
# nodes that are covered whole and whose parents are not. So the last entry up to a state that
# covers a leaf is the largest of the last ones at the nodes between root and leaf: nothing is
# walked back, however long ago it was, and however large.
#
# Takes: device, image

cdef enum:
    LOG_DISCARD = 4              # of the flags of a log's entry
    LOG_MARK = 8
    LOG_KNOWN = 31
    LOG_HEADER_BYTES = 32        # sector, sector count, flags, length of the mark text
    TREE_DEPTH_MAX = 64


cdef struct RecordedEntry:
    uint64_t offset
    uint64_t length
    uint64_t data                # byte of the log
    uint32_t flags
    uint32_t mark_length


cdef struct RecordedData:
    const Device* log
    const RecordedEntry* entries
    const int64_t* bounds        # leaf k is the bytes bounds[k] .. bounds[k + 1]
    uint64_t leaves
    uint32_t height              # leaf k is node (1 << height) + k
    const uint32_t* firsts       # at node n stand numbers[firsts[n]] .. numbers[firsts[n + 1] - 1]
    const uint32_t* numbers      # of entries, from 1, rising at each node
    const Device* source         # state 0; or
    const uint8_t* content       # ... in memory
    uint64_t source_size         # zeroes follow it


cdef struct RecordedPiece:
    uint64_t offset
    uint64_t length
    uint32_t number              # of the entry that wrote it last; 0: it is as in state 0


cdef struct RecordedWalk:
    const RecordedData* data
    uint32_t at                  # the state
    uint64_t position            # where the next piece begins
    uint64_t leaf                # which it lies in
    uint32_t[TREE_DEPTH_MAX] newest    # the last entry of those noted at or above each depth


cdef struct RecordedFault:
    int error                    # an errno, or ENDED_EARLY
    bint of_source
    uint64_t position            # in the file


cdef uint64_t recorded_leaf(const RecordedData* data, uint64_t offset) noexcept nogil:
    """Which leaf a byte of the volume lies in."""
    cdef uint64_t low = 0, high = data.leaves, middle
    while high - low > 1:
        middle = low + (high - low) // 2
        if <uint64_t>data.bounds[middle] <= offset:
            low = middle
        else:
            high = middle
    return low


cdef inline uint32_t recorded_last(const RecordedData* data, uint64_t node,
                                   uint32_t at) noexcept nogil:
    """The last entry up to a state of those noted at a node; 0: none."""
    cdef uint64_t low = data.firsts[node], high = data.firsts[node + 1], middle
    if low == high or data.numbers[low] > at:
        return 0
    if data.numbers[high - 1] <= at:
        return data.numbers[high - 1]
    while high - low > 1:
        middle = low + (high - low) // 2
        if data.numbers[middle] <= at:
            low = middle
        else:
            high = middle
    return data.numbers[low]


cdef void recorded_descend(RecordedWalk* walk, uint32_t depth) noexcept nogil:
    """Look at the nodes from a depth on down to the walk's leaf."""
    cdef uint32_t height = walk.data.height, level
    cdef uint64_t node = (<uint64_t>1 << height) + walk.leaf
    cdef uint32_t newest = walk.newest[depth - 1] if depth else 0, last
    for level in range(depth, height + 1):
        last = recorded_last(walk.data, node >> (height - level), walk.at)
        if last > newest:
            newest = last
        walk.newest[level] = newest


cdef void recorded_begin(RecordedWalk* walk, const RecordedData* data, uint32_t at,
                         uint64_t offset) noexcept nogil:
    """Begin to walk over a state from a byte on that lies in the volume."""
    walk.data = data
    walk.at = at
    walk.position = offset
    walk.leaf = recorded_leaf(data, offset)
    recorded_descend(walk, 0)


cdef bint recorded_next(RecordedWalk* walk, uint64_t end, RecordedPiece* piece) noexcept nogil:
    """Take the next piece, up to `end`, that one entry wrote last; False at the end."""
    cdef uint32_t height = walk.data.height, depth
    cdef uint64_t stop
    if walk.position >= end:
        return False
    piece.offset = walk.position
    piece.number = walk.newest[height]
    while walk.position < end and walk.newest[height] == piece.number:
        stop = <uint64_t>walk.data.bounds[walk.leaf + 1]
        if stop > end:
            walk.position = end
            break
        walk.position = stop
        if walk.leaf + 1 == walk.data.leaves:
            break
        walk.leaf += 1
        depth = height
        while depth and not (walk.leaf >> (height - depth)) & 1:
            depth -= 1
        recorded_descend(walk, depth)
    piece.length = walk.position - piece.offset
    return True


cdef int _recorded_source(const RecordedData* data, uint64_t offset, uint8_t* target,
                          uint64_t length, RecordedFault* fault) noexcept nogil:
    cdef uint64_t held = data.source_size - offset if offset < data.source_size else 0
    cdef int status = OK
    if held > length:
        held = length
    if held and data.source is not NULL:
        status = device_read(data.source, target, held, offset, &fault.error)
    elif held:
        memcpy(target, data.content + offset, held)
    memset(target + held, 0, length - held)
    if status != OK:
        fault.of_source = True
        fault.position = offset
    return status


cdef int recorded_fill(const RecordedData* data, const RecordedPiece* piece, uint8_t* target,
                       RecordedFault* fault) noexcept nogil:
    """Read what an entry wrote in a part of its range, or state 0."""
    cdef const RecordedEntry* entry
    cdef int status
    if not piece.number:
        return _recorded_source(data, piece.offset, target, piece.length, fault)
    entry = &data.entries[piece.number - 1]
    if entry.flags & LOG_DISCARD:
        memset(target, 0, piece.length)
        return OK
    fault.position = entry.data + (piece.offset - entry.offset)
    status = device_read(data.log, target, piece.length, fault.position, &fault.error)
    if status != OK:
        fault.of_source = False
    return status


cdef int recorded_read(const RecordedData* data, uint32_t at, uint64_t offset, uint8_t* target,
                       uint64_t length, RecordedFault* fault) noexcept nogil:
    """Read a range, at least one byte of the volume, at a state."""
    cdef RecordedWalk walk
    cdef RecordedPiece piece
    cdef int status
    recorded_begin(&walk, data, at, offset)
    while recorded_next(&walk, offset + length, &piece):
        status = recorded_fill(data, &piece, target + (piece.offset - offset), fault)
        if status != OK:
            return status
    return OK


cdef int recorded_compare(const RecordedData* data, uint32_t one, uint32_t other, uint64_t offset,
                          uint64_t length, RangeList* ranges, RecordedFault* fault) noexcept nogil:
    """Add where two states differ in a range."""
    cdef uint8_t[BLOCK_BYTES] first
    cdef uint8_t[BLOCK_BYTES] second
    cdef uint64_t stop = offset + length, count
    cdef int status = OK
    while offset < stop and status == OK:
        count = stop - offset
        if count > BLOCK_BYTES:
            count = BLOCK_BYTES
        status = recorded_read(data, one, offset, first, count, fault)
        if status == OK:
            status = recorded_read(data, other, offset, second, count, fault)
        if status == OK:
            status = compare_lines(first, second, offset, count, UNLIMITED, ranges)
        offset += count
    return status


cdef inline bint _recorded_zero(const RecordedData* data, const RecordedPiece* piece,
                                uint64_t position) noexcept nogil:
    """Whether a piece is known to be zeroes from a byte on."""
    if piece.number:
        return data.entries[piece.number - 1].flags & LOG_DISCARD
    return position >= data.source_size


cdef int recorded_suspects(const RecordedData* data, uint32_t one, uint32_t other, uint64_t start,
                           uint64_t stop, RangeList* ranges) noexcept nogil:
    """Add where two states may differ in a range that is not empty; none of it is read.

    They do not where the same entry wrote last, or where both are known to be zeroes.
    """
    cdef RecordedWalk[2] walks
    cdef RecordedPiece[2] pieces
    cdef uint64_t end
    cdef int status = OK, k
    recorded_begin(&walks[0], data, one, start)
    recorded_begin(&walks[1], data, other, start)
    for k in range(2):
        recorded_next(&walks[k], stop, &pieces[k])
    while start < stop and status == OK:
        end = min(pieces[0].offset + pieces[0].length, pieces[1].offset + pieces[1].length)
        if start < data.source_size and data.source_size < end:
            end = data.source_size
        if (pieces[0].number != pieces[1].number
                and not (_recorded_zero(data, &pieces[0], start)
                         and _recorded_zero(data, &pieces[1], start))):
            status = range_extend(ranges, start, end, UNLIMITED)
        start = end
        for k in range(2):
            if start == pieces[k].offset + pieces[k].length:
                recorded_next(&walks[k], stop, &pieces[k])
    return status


cdef bint _recorded_header(const uint64_t* header, uint64_t sector_size, uint64_t volume_size,
                           RecordedEntry* entry) noexcept nogil:
    """Take an entry from its header; False where it is not plainly one inside the volume."""
    cdef uint64_t most = (<uint64_t>1 << 62) // sector_size
    if header[0] > most or header[1] > most or header[2] & ~<uint64_t>LOG_KNOWN:
        return False
    if not (header[0] | header[1] | header[2] | header[3]):
        return False
    entry.offset = header[0] * sector_size
    entry.length = header[1] * sector_size
    entry.flags = <uint32_t>header[2]
    entry.mark_length = 0
    if entry.flags & LOG_MARK:
        if header[3] > sector_size - LOG_HEADER_BYTES:
            return False
        entry.mark_length = <uint32_t>header[3]
    return not entry.length or entry.offset + entry.length <= volume_size


cdef uint64_t recorded_entries(const Device* log, uint64_t* position, uint64_t size,
                               uint64_t sector_size, uint64_t volume_size, RecordedEntry* entries,
                               uint64_t count) noexcept nogil:
    """Take up to `count` entries from a byte of the log on; how many it were.

    It stops before the first one that is not plainly whole, or cannot be read.
    """
    cdef uint64_t[4] header
    cdef uint64_t k, stop
    cdef int error = 0
    for k in range(count):
        if device_read(log, <uint8_t*>header, LOG_HEADER_BYTES, position[0], &error) != OK:
            return k
        if not _recorded_header(header, sector_size, volume_size, &entries[k]):
            return k
        entries[k].data = stop = position[0] + sector_size
        if not entries[k].flags & LOG_DISCARD:
            stop += entries[k].length
        if stop > size:
            return k
        position[0] = stop
    return count
