# All data of the engine, by subject.

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from jrnl.kernel.format cimport EntryHeader

cdef extern from "<pthread.h>" nogil:
    ctypedef struct pthread_mutex_t:
        pass
    ctypedef struct pthread_cond_t:
        pass

# What a core function returns: OK or one of these. errors.py has the exception for each.
cdef enum Status:
    OK = 0
    E_BOUNDS = -1        # range not inside the volume
    E_TOO_LARGE = -2     # longer than one entry may be
    E_FULL = -3          # no room, and the oldest entry may not leave
    E_CLOSED = -4
    E_EXPIRED = -5       # the state has left the window, or was dropped by a rewind
    E_UNKNOWN = -6       # the state has not existed yet
    E_PINNED = -7        # an open view or recovery needs an entry that would be dropped
    E_CORRUPT = -8       # a checksum does not match; Core.bad_seq says where
    E_NO_MEMORY = -9
    E_EDIT = -10         # an edit is open on this thread
    E_NO_BEFORE = -11    # the journal keeps no before-images
    E_ARGUMENT = -12
    E_DISAGREE = -13     # two routes to one byte disagree
    E_IO = -14           # Disk.error has the errno; -1: a file ended early
    E_POISONED = -15     # an earlier failure left the files behind the memory
    E_READ_ONLY = -16
    E_FORKED = -17       # a child of the process that opened the store
    E_LOST = -18         # the newest bytes of a range were in an entry that is damaged
    E_FOLD = -19         # folding raised an exception, which is kept for this thread
    E_BUSY = -20         # a call from inside another one on the same thread

cdef enum Units:
    BLOCK_SHIFT = 12
    BLOCK_BYTES = 4096
    CHUNK_SHIFT = 16         # a volume's touched map has one byte for each 64 KiB

cdef enum Images:
    IMAGES_BEFORE = 1
    IMAGES_AFTER = 2
    IMAGES_BOTH = 3

cdef struct Core
cdef struct Live
cdef struct Preserved

# The ring: its memory and its positions. Small and plain, so that a forecast can go on with a copy.
cdef struct Ring:
    EntryHeader* headers
    uint8_t* images          # NULL on disk
    uint64_t key             # seeds the header checksums
    bint checksum            # headers and images have one
    uint64_t seq             # newest
    uint64_t base_seq        # the state before the oldest retained entry
    int64_t base_time_ns
    uint64_t slots           # header slots
    uint64_t area            # bytes of the image area
    uint64_t slot_tail       # oldest retained entry; slot indexes only grow, modulo slots
    uint64_t slot_head       # where the next entry goes
    uint64_t tail            # bytes, where the oldest retained image starts
    uint64_t head            # bytes, where the next image goes
    uint64_t wrap_end        # bytes, where images ended when the head went back to 0, or NO_WRAP
    uint64_t used            # bytes of the image area held by retained entries

cdef struct VolumeMemory:
    uint8_t* data
    uint64_t size            # bytes
    uint8_t* touched         # one byte a chunk: 0 where no byte was ever written
    uint64_t chunks
    uint8_t* own             # a fork's: one byte a block, 0 where its source has it; NULL: all is

# Production of a store in memory as it was when forks were made of it; see shared.pxi.
cdef struct SharedState:
    SharedState* older
    SharedState* newer
    Core* core
    uint8_t** kept           # for each volume and block: Kept
    uint8_t** data           # what is kept, at its place in the volume
    uint64_t blocks          # of a fork: how many were its own then
    uint64_t count           # how many are kept
    uint32_t number          # above those of older states
    bint changed             # something is kept, in it or in a newer one
    bint dead                # no fork reads it

cdef enum Kept:
    KEPT_NOT = 0             # production, or a newer state, has it
    KEPT_DATA = 1
    KEPT_ZERO = 2
    KEPT_BELOW = 3           # it was the source's

# What a store in memory shares with its forks, and a fork with what it was made of.
cdef struct Shares:
    pthread_mutex_t* mutex   # nothing else is waited for with it
    unsigned long forks      # the process, as it was when the mutex was made
    SharedState* oldest
    SharedState* newest
    uint32_t states          # how many were ever made
    uint32_t** last          # for each volume and block: the number of the last state that kept it
    bint tidying             # a thread takes dead states out,
    SharedState* merging     # and what the next older one keeps into this dead one, if not NULL
    bint lent                # volumes lie in a caller's memory
    SharedState* source      # what it is a fork of, or NULL,
    uint32_t* places         # which of that's volumes each of its own was,
    uint64_t owned           # how many blocks are its own,
    uint32_t depth           # and how many forks of forks that is

# A file behind the device interface: a descriptor, or a Python object that the engine keeps alive.
cdef struct Device:
    int descriptor           # -1: the object serves
    void* object
    Core* core               # whose it is; NULL while it is nobody's

# Where the newest content of a block's sectors lies: AT_NONE, AT_ZERO, AT_LOST or a log position.
cdef struct OverlayBlock:
    uint64_t key             # volume and block, or 0 where the bucket is free
    uint64_t[8] at

cdef struct Overlay:
    OverlayBlock* blocks
    uint64_t mask            # buckets less one
    uint64_t count

cdef struct GroupRecord:
    uint64_t position
    uint64_t slot            # of its first entry

# Sums of the blocks of one image in the log, which has itself matched its checksum.
cdef struct PieceSums:
    uint64_t position
    uint64_t length
    uint64_t sum             # the image's own
    uint64_t* sums           # NULL: there is none

# A file store's log: which groups there are, and the one that is open; see log.pxi.
cdef struct Groups:
    GroupRecord* records     # a ring of all that are retained
    uint64_t mask            # places less one
    uint64_t first           # number of the oldest
    uint64_t next            # number of the open one
    uint64_t start           # position of the open group
    uint64_t cursor          # where its next image goes
    uint64_t first_slot      # of its first entry; the slot head where it is empty
    uint64_t max             # bytes of one group

# The newest part of the log, in memory: a ring that is mapped twice in a row.
cdef struct LogMemory:
    uint8_t* data
    uint64_t size            # bytes, a power of two
    uint64_t tail            # log positions from here on are in it
    uint8_t* ready           # for each RAM_CHUNK_BYTES: whether the kernel has given the pages out

# The image that was read last.
cdef struct Bounce:
    uint8_t* data
    uint64_t size            # bytes that there are
    uint64_t position
    uint64_t length          # 0: none

# What is durable, and the group that is on its way there; see commit.pxi.
cdef struct Commit:
    pthread_mutex_t* mutex
    pthread_cond_t* done
    bint always              # each write is durable when it returns
    bint writing             # a group is on its way to the disk
    uint64_t durable_seq
    uint64_t durable_number  # groups before this one are durable,
    uint64_t recorded_number  # and before this one something else that is durable says so
    uint64_t count           # of commits

# What the volumes' files have not got, and what they may have; see overlay.pxi, write_back.pxi.
cdef struct WriteBack:
    Overlay active
    Overlay draining         # what is written back next
    uint64_t draining_seq
    uint64_t draining_end    # position behind its images
    uint64_t draining_number  # its groups come before this one
    bint* dirty              # volumes that were written to since they were last synced
    uint64_t synced_seq      # in the volumes' files, durably
    uint64_t named_seq       # what something durable may say of synced_seq: at most this
    uint64_t named_end       # the log's position up to which that goes
    uint64_t tried_seq       # of no later entry do the volumes' files hold anything
    uint64_t count           # of write-backs

# The index of headers beside the log; see index.pxi.
cdef struct Index:
    Device device
    uint64_t slot            # headers before this slot are in it
    uint64_t number
    uint64_t position
    uint64_t total           # of the header_sums that it has, from the tail on

# A rewind that is under way, or that no durable group holds yet; see disk_rewind.pxi.
cdef struct LogRewind:
    bint undo                # one to undo_to is under way
    uint64_t undo_to
    uint64_t to              # the last one, while no durable group holds its entry:
    uint64_t seq             # 0: there is none
    int64_t time_ns
    uint64_t follows         # the entry that its entry follows

# Python callables that the log needs, and what one of them has said.
cdef struct Hooks:
    void* record             # write the superblocks
    void* finish_copy        # finish the oldest copy that is under way
    uint64_t copy_floor      # that copy's state, or NO_SLOT: later entries may not leave the log

# What a file store has beside a core.
cdef struct Disk:
    Device log
    Device* volumes
    uint8_t** chunks         # for each volume and chunk of 64 KiB: CHUNK_UNKNOWN, _DATA or _HOLE
    uint64_t key
    uint64_t epoch
    uint64_t tail_named      # the superblocks name this position as the log's tail
    uint64_t summed_bytes    # of images in the log that were held against a checksum
    uint64_t forks           # the process: how often it had forked when the store was opened
    bint read_only
    Groups groups
    LogMemory ram
    Bounce bounce
    PieceSums* pieces        # of large images that have been verified
    Commit commit
    WriteBack back
    Index index
    LogRewind rewind
    Hooks hooks
    Preserved* preserved     # all preserved states

# One piece of a volume in an extent map: where the bytes of [offset, offset + length) come from.
cdef struct Fragment:
    uint64_t offset          # bytes in the volume
    uint64_t source          # position in the image area, or an address where FRAGMENT_OWN is set
    uint64_t slot            # the entry it came from
    uint64_t seq
    uint64_t sum             # of the image, where FRAGMENT_WHOLE says that this is all of it
    uint32_t length          # bytes, never past the end of its block
    uint32_t next            # next fragment of the same block by offset, index + 1, 0 at the end
    uint32_t volume
    uint32_t flags

cdef struct Arena:
    Arena* next
    uint64_t size
    uint64_t used
    uint8_t* data

cdef struct Bucket:
    uint64_t block
    uint32_t head            # first fragment of the block, index + 1, with BLOCK_FULL; 0 for none
    uint16_t volume
    uint16_t used            # 0: the bucket was never taken

# First insert wins, byte by byte. A hash table finds a block's fragments; see extent_map.pxi.
cdef struct ExtentMapData:
    Core* core
    Bucket* buckets
    uint64_t mask            # buckets less one, a power of two less one
    uint64_t buckets_used
    Fragment* fragments
    uint64_t count
    uint64_t capacity
    uint64_t bytes           # distinct bytes covered
    uint64_t entries         # entries that cover at least one of them
    uint8_t* only            # one byte a volume: whether its entries count; NULL: all do
    Arena* arena

# A range lent out for editing; its entry stands in the ring already.
cdef struct OpenEdit:
    OpenEdit* next
    uint64_t slot
    uint64_t offset
    uint64_t length
    uint32_t volume
    uint8_t* old             # the bytes before, where the journal keeps no before-image
    EntryHeader entry        # as it stands in the ring: what is there may be damaged meanwhile

# A state that follows production: a map over the entries since `seq`, brought up to date when read.
cdef struct Live:
    Core* core
    Live* older              # views: in any order
    Live* newer
    ExtentMapData map
    uint64_t seq             # the state it shows
    uint64_t first_slot      # of the first entry after it
    uint64_t next_slot       # entries before this slot are in the map
    uint64_t generation
    bint preserves           # it is in the chain of those that never expire, see preserve.pxi:
    uint8_t* only            # one byte a volume: whether it is asked for; NULL: all are
    uint64_t copied          # fragments before this index have been copied out of the ring,
    uint64_t copied_slot     # all that come from entries before this slot
    uint64_t room            # bytes that it takes to copy the others
    uint64_t moved           # closed: fragments before this index are in the map before it
    ExtentMapData index      # where there are many newer ones: which map has what
    bint indexed
    Live* index_of           # what the index has: all maps before this one's,
    uint64_t index_next      # and this one's fragments before this index,
    uint64_t changes         # as long as the chain has not changed since
    bint dead                # closed while it may have been in use
    bint closed              # nobody reads it, but older ones are read through its map
    bint aside               # a view's: a rewind need not mind it, which closes it
    int failed               # a Status, where an entry that it needs was damaged when it left
    uint64_t bad_seq

# Seqs at equal steps: first, first + step, ...
cdef struct AliasRun:
    uint64_t first
    uint64_t step            # 0 while there is only one
    uint64_t count

# A state that is to stay: no entry after `needs` leaves while it is there.
cdef struct PinData:
    PinData* next
    PinData* previous
    Core* core
    void* name               # a mark's, a Python str that its owner keeps; NULL where it has none
    uint64_t seq             # the state; a rewind that replaces its entry is followed
    uint64_t needs           # the same, but with after-images alone a snapshot's that leads to it
    bint aside               # a view's: a rewind may drop the state, which closes it

# What may leave the journal, and when, beside `refuse`; see reclaim.pxi.
cdef struct Reclaim:
    PinData* pins            # the newest first
    uint64_t pin_needs       # the lowest `needs` of all, NO_PIN where there is none
    uint64_t pin_high        # the newest state that is pinned
    int64_t least_ns         # younger entries stay; 0: no such rule
    int64_t most_ns          # older entries leave; 0: no such rule
    uint64_t start_slots     # beyond this the oldest leave ...; NO_SLOT: no such rule
    uint64_t start_bytes
    uint64_t stop_slots      # ... until this much is used
    uint64_t stop_bytes
    uint64_t low_slots       # with more than this in use the free room is low
    uint64_t low_bytes
    bint is_low
    bint due                 # somebody is to be told of something once the lock is let go:
    bint low_due             # it has become so,
    bint left_due            # or entries have left,
    bint left_told           # as was told before,
    int64_t left_told_ns     # at this time,
    uint64_t left            # ... when so many had
    bint throttled           # writers are to be held up once they are done
    int full_by              # FullBy, of the last E_FULL

# A copy of a state, for which it is noted where was written since; see changed_blocks.pxi.
cdef struct CopyNote:
    CopyNote* next
    uint64_t seq             # the state that it holds
    bint known               # whether that leads to now without a gap
    bint dead                # the copy is gone

# A block that an entry wrote which has left the journal.
cdef struct ChangedBlock:
    uint64_t key             # volume and block, or 0 where the place is free
    uint64_t seq             # the last such entry

cdef struct ChangedBlocks:
    CopyNote* copies
    uint64_t low             # the lowest state of a copy; NO_SLOT where there is none
    uint64_t high            # the highest
    bint any_dead
    ChangedBlock* blocks
    uint64_t mask            # places less one
    uint64_t count
    uint64_t complete_from   # what changed after this state is noted, or in the journal

# What the collector dropped while another thread had the lock: freed by the next who takes it.
cdef struct Dropped:
    Dropped* next
    Live* live
    PinData* pin
    ExtentMapData map

# Who may call what when: see lock.pxi, reentry.pxi.
cdef struct Calls:
    unsigned long gate_owner  # the thread that makes a piece of a copy, or 0
    uint64_t locked          # how often the thread that has the lock has locked it
    uint64_t entered         # how often it has entered the engine
    uint64_t exclusive       # calls under way that no other one may come in between of
    uint64_t changing        # ... but one that only reads, or writes to a volume
    uint64_t changes         # changes beside entries: names, pins, folds

# What the store was made with.
cdef struct Settings:
    int images               # Images
    bint refuse              # a full journal refuses writes instead of evicting
    bint lasts               # once closed, the store can be opened again
    bint guarded             # `reclaim` says more than that about what leaves
    bint watched             # ... and when somebody is to be told

cdef struct Limits:
    uint64_t capacity        # bytes of the journal, headers and images
    uint64_t write_max       # bytes, longest WRITE
    uint64_t piece_max       # bytes, longest piece of a DISCARD or ZEROES

cdef struct Clock:
    void* ask                # a Python callable that gives nanoseconds, or NULL
    int64_t now_ns           # of the newest entry
    int64_t created_ns

# A snapshot is brought on over what leaves; see fold_hook.pxi.
cdef struct Folds:
    bint on
    bint folding             # the hook is running
    uint64_t seq             # entries up to this state may leave without asking the hook
    uint64_t pin_seq         # no entry after this state may leave; NO_SLOT: any may
    void* hook               # a Python callable: have a snapshot at this state, or a later one

cdef struct Edits:
    OpenEdit* open           # the newest first
    uint64_t floor           # slot of the oldest open edit, or NO_SLOT

# States that follow production: those that expire, and the chain of those that preserve.
cdef struct Lives:
    Live* view               # open ones that expire
    Live* oldest             # the chain of those that preserve
    Live* newest
    Live* filling            # the oldest of them whose map still has entries of the journal to come
    uint64_t slot            # all their maps are brought up to the entries before this slot
    uint64_t changes
    uint64_t closed          # states in it that nobody reads
    int busy                 # somebody uses their maps: closing one is put off
    bint dead                # ... and has been

# A map's memory that was given back, kept for the next recovery.
cdef struct Spare:
    uint8_t* arena
    uint64_t arena_size
    Fragment* fragments
    uint64_t capacity
    Bucket* buckets
    uint64_t mask

# Seqs of REWIND entries that a later one replaced, rising.
cdef struct Aliases:
    AliasRun* runs
    uint64_t first
    uint64_t count           # runs

# What is wrong: the last failure of a call, and what stays wrong.
cdef struct Fault:
    uint64_t entry           # E_CORRUPT, E_DISAGREE: the damaged entry's seq; 0: a snapshot
    uint64_t offset          # ... the byte in its volume
    uint64_t pinned          # E_PINNED: the state that is in the way
    int error                # E_IO: errno of the failure
    int poisoned             # errno of the failure since which nothing is written; 0: none
    bint poison_told         # ... and somebody has been told
    bint lost                # production is unknown: a group that it needs is damaged
    bint lost_sectors        # the overlay may have AT_LOST in it

# Entries of one kind that were made since the core was, and the bytes of their ranges.
cdef struct KindCount:
    uint64_t entries
    uint64_t bytes

cdef struct Core:
    void (*reap)(Core* core) noexcept nogil  # frees what was dropped; see core_drop
    pthread_mutex_t* mutex
    Calls calls
    Dropped* dropped
    Ring ring
    KindCount[8] made        # by kind; see KIND_COUNT
    void* prefault           # a thread that faults the images' memory in, the first time round
    uint64_t prefault_next   # where the images' head has it go on; NO_SLOT: nowhere
    VolumeMemory* volumes
    uint32_t volume_count
    bint owns_volumes        # made from C: the volumes' memory is freed with the core
    bint closed
    bint shared              # `shares` has to be asked before production changes
    Shares* shares           # NULL: it has nothing to do with forks
    bint unflushed           # an entry was added since the last FLUSH
    Settings settings
    Limits limits
    Clock clock
    Folds folds
    Reclaim reclaim
    uint64_t generation      # rewinds so far
    uint64_t evictions
    uint64_t since_rewind    # image bytes written since the last rewind or savepoint
    uint64_t cow_changes     # changes of images that are written to
    uint64_t compared        # bytes of images that were compared with production, so far
    Edits edits
    Lives lives
    ChangedBlocks changed
    Spare spare
    Aliases aliases
    ExtentMapData rewind_map  # rewind's map, kept so that a rewind allocates nothing
    Fault fault
    void* events             # a Python object that tells of what happens; NULL: nobody does
    Disk* disk               # NULL in memory stores

# What a volume looked like or looks like: a base, and where it differs from the base.
cdef enum ImageKind:
    IMAGE_PRODUCTION = 1     # production now
    IMAGE_FROZEN = 2         # a copy with checksums
    IMAGE_LIVE = 3           # production as it was, from production and the journal
    IMAGE_PATCHED = 4        # a map over another image
    IMAGE_STORED = 5         # a copy in files, with checksums in other files
    IMAGE_PRESERVED = 6      # production as it was, from production, the log and a file
    IMAGE_KINDS = 7

cdef struct ImageData:
    int kind
    Core* core
    ImageData* base
    Live* live
    Preserved* preserved
    CopyNote* note           # what has changed since is noted there; NULL: it is not
    ExtentMapData map
    bint passes              # patched: it reads the journal, and expires
    uint64_t needs           # ... once the entries after this state are not all there
    uint8_t** data           # frozen: a copy of each volume,
    uint64_t** sums          # XXH3-64 of each of its blocks,
    uint8_t** touched        # and which chunks it holds; the others are zeroes
    Device* copies           # stored: a file for each volume,
    Device* sum_files        # one for its checksums,
    bint copying             # live, and on its way to become a frozen or stored one
    uint32_t copy_volume     # where the copy goes on: the volume,
    uint64_t copy_chunk      # and there, the chunk
    uint64_t copy_bad        # blocks that could not be read
    uint64_t copy_bad_seq    # the entry that the first of them needed; 0: none is to blame
    uint64_t seed            # which are seeded with this
    uint64_t* sum_block      # the block of checksums that was read last,
    uint64_t sum_number      # and which one it is, + 1
    uint32_t sum_volume

# What an image of a kind can do, by ImageKind: one table, see image.pxi. The lock is held.

# Read a range that lies inside the volume.
ctypedef int (*ImageFetch)(ImageData* image, uint32_t volume, uint64_t offset, uint8_t* target,
                           uint64_t length) noexcept nogil
# Lay a range, which begins with a chunk, out in zeroed memory of the volume's size.
ctypedef int (*ImageLay)(ImageData* image, uint32_t volume, uint64_t start, uint64_t stop,
                         uint8_t* target) noexcept nogil
# Add the ranges in which it may differ from its base, or from production where it has none.
ctypedef int (*ImageSuspects)(ImageData* image, ExtentMapData* out) noexcept nogil

cdef struct ImageOps:
    ImageFetch fetch
    ImageLay lay
    ImageSuspects suspects

# A block of a preserved state that is in its file.
cdef struct PreservedBlock:
    uint64_t key             # volume and block, or 0 where the place is free
    uint64_t position        # bytes, in the file
    uint64_t sum

# A state of a file store that is there though it may have left the log; see preserved.pxi.
cdef struct Preserved:
    Core* core
    Preserved* next
    ImageData image          # what it shows,
    ImageData production     # ... and what that stands on
    Device file
    uint64_t size            # bytes of the file,
    uint64_t length          # ... and of these, what counts
    uint64_t seed
    uint64_t seq             # the state
    uint64_t after           # a block that is not in the file is as it was at this state
    uint8_t* only            # as a map's
    PreservedBlock* blocks   # those that are in the file
    uint64_t mask            # places less one
    uint64_t count
    ExtentMapData map        # before-images of the log's entries after `after`,
    uint64_t next_slot       # ... up to this slot
    uint64_t generation
    int failed               # a Status, where a damaged header has left the log
    uint64_t bad_seq         # ... that of this entry
    bint dead                # closed
    bint dropped             # its owner is gone

cdef enum FullBy:
    FULL_OTHERWISE = 0       # it refuses, or an edit is open
    FULL_PINNED = 1
    FULL_YOUNG = 2
    FULL_FOLDING = 3         # room is being made by the call that this one came in between of

cdef struct RewindResult:
    uint64_t seq
    uint64_t entries
    uint64_t bytes

# One NBD connection in its transmission phase (nbd_wire.pxi).
cdef struct Wire:
    Core* core               # NULL: the export is a Python object, which is asked for everything
    uint32_t volume
    uint64_t size            # bytes of the export
    int source, target       # descriptors
    int stop                 # another, of a pipe: once it can be read no more requests are; -1
    bint is_socket
    bint is_read_only
    bint is_structured       # replies may be structured
    bint is_stale            # production was put back: set and looked at under the core's lock
    bint is_over             # only requests that are here already are to be answered
    bint is_last             # that was seen, and `left` is how many bytes of them are to be read
    uint64_t left
    int patience_ms          # for the peer, while it has more room than each one has
    uint8_t* received        # requests: [received_start, received_end) of received_room
    uint64_t received_room, received_start, received_end
    uint8_t* replies         # not sent yet
    uint64_t replies_room, replies_end
    uint64_t* waiting        # places of replies that wait until entries up to flush_seq are durable
    uint64_t waiting_count
    uint64_t flush_seq
    uint64_t wanted          # bytes that the next request takes, where it is longer than the room
    uint64_t requests, errors, bytes_read, bytes_written    # served so far
