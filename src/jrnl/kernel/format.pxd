# The byte layout of the journal, in one place. docs/format.md is its prose twin; a test ties them.
#
# A journal of `capacity` bytes is two areas, as in US 2009/0019308 A1: an eighth for fixed-size
# headers (one slot each, used round-robin), the rest for images. Everything is little-endian.

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

cdef enum:
    HEADER_BYTES = 64            # one entry header, one cache line
    HEADER_SUMMED_BYTES = 56     # what header_sum covers: all that stands before it
    IMAGE_ALIGN = 64             # images start on a cache line: streaming stores fill whole lines
    HEADER_SHARE = 8             # one part in eight of the journal holds headers
    JOURNAL_MIN_BYTES = 16384
    PIECE_MAX_BYTES = 1048576    # a long discard becomes pieces of at most this, ...
    PIECE_SHARE = 8              # ... and of at most this share of the image area
    SNAPSHOT_BLOCK_BYTES = 4096  # one checksum of a snapshot covers this much
    VOLUMES_MAX = 65535
    # File stores. Their log is a ring of groups; a position counts its bytes for ever.
    SECTOR_BYTES = 512           # images cover whole sectors: a torn one can be written again
    LOG_BLOCK_BYTES = 4096       # groups begin and end on a block of the log
    LOG_HEAD_BYTES = 4096        # what stands in the log's file before the ring, and in the index
    GROUP_HEAD_BYTES = 512       # a group's header and its first entry headers
    GROUP_HEADERS = 6            # ... which are so many; the others follow the images
    GROUP_SUMMED_BYTES = 120     # what a group's header_sum covers: all that stands before it
    SUM_BLOCK_SUMS = 511         # checksums in a block of a snapshot's sums; then the block's own

cdef enum EntryKind:
    KIND_WRITE = 1
    KIND_DISCARD = 2
    KIND_ZEROES = 3
    KIND_MARK = 4                # its image, stored as an after-image, is the mark's name in UTF-8
    KIND_FLUSH = 5
    # Its offset holds the seq of its state; in a log, its before_sum that of the entry it follows.
    KIND_REWIND = 6

cdef enum EntryFlag:
    FLAG_BEFORE = 1              # the entry holds a before-image
    FLAG_AFTER = 2               # the entry holds an after-image (behind the before-image)
    FLAG_BEFORE_ZERO = 4         # the before-image is all zeroes and takes no room
    FLAG_AFTER_ZERO = 8          # the after-image is all zeroes and takes no room
    FLAG_SUMMED = 16             # before_sum, after_sum and header_sum are set
    FLAG_SECTORS = 32            # images cover all sectors that the range touches
    FLAG_GROUP = 64              # the first entry of a group

cdef struct EntryHeader:
    uint64_t seq                 # from 1; never 0 in a used slot
    int64_t time_ns              # since 1970-01-01 UTC; never less than the entry before
    uint64_t offset              # bytes, first byte of the range in its volume
    uint64_t position            # bytes, where the first image starts in the image area
    uint32_t length              # bytes of the range, and of each image
    uint16_t volume              # index of the volume
    uint8_t kind
    uint8_t flags
    uint64_t before_sum          # XXH3-64 of the before-image
    uint64_t after_sum           # XXH3-64 of the after-image
    uint64_t header_sum          # XXH3-64 of bytes 0..55, seed: the journal's key + slot index

# A group of a file store's log: this header, the first entry headers, the images, the other entry
# headers, padding. One write, one sync.
cdef struct GroupHeader:
    uint64_t magic
    uint64_t epoch               # the life in which it was written
    uint64_t number              # groups are numbered from 1; a cut gives numbers out again
    uint64_t position            # bytes, where it starts
    uint64_t length              # bytes, of whole blocks
    uint64_t headers_at          # bytes from its start, where the other entry headers lie
    uint64_t first_slot          # of its first entry
    uint64_t first_seq
    uint64_t last_seq
    uint64_t durable_seq         # durable before it was written
    uint64_t synced_seq          # ... in the volumes' files, as superblocks have said
    uint64_t base_seq            # the window's oldest state when it was written
    uint64_t headers_sum         # XXH3-64 of its entry headers, one after the other
    uint64_t count               # entries
    uint64_t reserved
    uint64_t header_sum          # XXH3-64 of bytes 0..119, seeded with key, epoch, number, position

cdef inline uint64_t align_up(uint64_t length) noexcept nogil:
    return (length + IMAGE_ALIGN - 1) & ~(<uint64_t>IMAGE_ALIGN - 1)

cdef inline uint64_t sector_start(uint64_t offset) noexcept nogil:
    return offset & ~(<uint64_t>SECTOR_BYTES - 1)

cdef inline uint64_t sector_span(uint64_t offset, uint64_t length) noexcept nogil:
    """Bytes of the sectors that a range touches."""
    return (sector_start(offset + length + SECTOR_BYTES - 1) - sector_start(offset)
            if length else 0)

cdef inline uint64_t image_length(const EntryHeader* header) noexcept nogil:
    """Bytes of one stored image."""
    if header.flags & FLAG_SECTORS:
        return sector_span(header.offset, header.length)
    return header.length

cdef inline uint64_t before_room(const EntryHeader* header) noexcept nogil:
    """Bytes that the before-image takes in the image area."""
    if (header.flags & (FLAG_BEFORE | FLAG_BEFORE_ZERO)) == FLAG_BEFORE:
        return align_up(image_length(header))
    return 0

cdef inline uint64_t image_room(const EntryHeader* header) noexcept nogil:
    """Bytes that all images of the entry take in the image area."""
    cdef uint64_t room = before_room(header)
    if (header.flags & (FLAG_AFTER | FLAG_AFTER_ZERO)) == FLAG_AFTER:
        room += align_up(image_length(header))
    return room

cdef inline bint changes_bytes(const EntryHeader* header) noexcept nogil:
    return header.kind <= KIND_ZEROES

cdef inline uint64_t header_slots(uint64_t capacity) noexcept nogil:
    """How many header slots a journal of `capacity` bytes has."""
    return capacity // HEADER_SHARE // HEADER_BYTES

cdef inline uint64_t image_area(uint64_t capacity) noexcept nogil:
    """Bytes of the image area of a journal of `capacity` bytes."""
    cdef uint64_t rest = capacity - header_slots(capacity) * HEADER_BYTES
    return rest - rest % IMAGE_ALIGN

cdef inline uint64_t write_max(uint64_t capacity, bint both_images) noexcept nogil:
    """The longest range of one WRITE: its images take at most half the image area."""
    cdef uint64_t half = image_area(capacity) // 2
    if both_images:
        half //= 2
    cdef uint64_t limit = 0xFFFFFFC0
    half -= half % IMAGE_ALIGN
    return half if half < limit else limit
