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

cdef enum EntryKind:
    KIND_WRITE = 1
    KIND_DISCARD = 2
    KIND_ZEROES = 3
    KIND_MARK = 4                # its image, stored as an after-image, is the mark's name in UTF-8
    KIND_FLUSH = 5
    KIND_REWIND = 6              # offset holds the seq of the state that it stands for

cdef enum EntryFlag:
    FLAG_BEFORE = 1              # the entry holds a before-image
    FLAG_AFTER = 2               # the entry holds an after-image (behind the before-image)
    FLAG_BEFORE_ZERO = 4         # the before-image is all zeroes and takes no room
    FLAG_AFTER_ZERO = 8          # the after-image is all zeroes and takes no room
    FLAG_SUMMED = 16             # before_sum, after_sum and header_sum are set

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

cdef inline uint64_t align_up(uint64_t length) noexcept nogil:
    return (length + IMAGE_ALIGN - 1) & ~(<uint64_t>IMAGE_ALIGN - 1)

cdef inline uint64_t before_room(const EntryHeader* header) noexcept nogil:
    """Bytes that the before-image takes in the image area."""
    if (header.flags & (FLAG_BEFORE | FLAG_BEFORE_ZERO)) == FLAG_BEFORE:
        return align_up(header.length)
    return 0

cdef inline uint64_t image_room(const EntryHeader* header) noexcept nogil:
    """Bytes that all images of the entry take in the image area."""
    cdef uint64_t room = before_room(header)
    if (header.flags & (FLAG_AFTER | FLAG_AFTER_ZERO)) == FLAG_AFTER:
        room += align_up(header.length)
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
