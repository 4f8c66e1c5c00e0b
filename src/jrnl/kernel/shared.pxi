# What stores in memory share: a fork reads what it has not written from the store that it was
# made of, as that was then.
#
# Such a state is that store's production, less the blocks that have changed since: before the
# first change each is kept once, however many forks there are. The states of a store are a chain,
# from the oldest to the newest: a block of one is the first that is kept in it or in a newer one,
# else production's; of a block that was not kept since, that is known at once. When the last fork
# of a state goes, what is kept for it goes to the next older one, as far as that lacks it: of the
# two, the one that keeps less is copied, so that no order of going is a slow one.
#
# Forks of forks are read through one another. Where that would be many, the first of them that has
# not at least twice as many blocks of its own as those above it together is merged with these, into
# a store that nobody else has (`fork_layers`, bind/shares.pxi), which the next forks of that state
# find, too. So a block is copied a logarithmic number of times, as it is in the sorted runs of an
# LSM tree (O'Neil et al., The log-structured merge-tree, 1996).
#
# A fork has a map of the blocks that are its own. It never waits for its source's lock, which an
# edit may keep for long: `Shares.mutex` stands for the chain and for what is kept alone. Who has
# it waits for nobody but the mutex of his own source; and production of a block that is not kept
# is read under it, so that nobody who would keep it first can change it meanwhile.
#
# Takes: lock, memory

cdef extern from *:
    """
    static inline void jrnl_put_flag(uint8_t *flag, uint8_t value)
    {
        __atomic_store_n(flag, value, __ATOMIC_RELEASE);
    }

    static inline uint8_t jrnl_get_flag(const uint8_t *flag)
    {
        return __atomic_load_n(flag, __ATOMIC_ACQUIRE);
    }
    """
    void jrnl_put_flag(uint8_t* flag, uint8_t value) noexcept nogil
    uint8_t jrnl_get_flag(const uint8_t* flag) noexcept nogil

cdef enum:
    SHARE_FEW_BLOCKS = 64        # a fork of a fork that has no more of its own takes a copy of them
    SHARE_STEP = 2               # how many times as many the state below has
    SHARE_PIECE_BYTES = 65536    # read, or moved on, at a time
    MERGE_BLOCKS = 1024
    TOUCHED_PIECE = 4096


cdef void shares_lock(Shares* shares) noexcept nogil:
    if shares.forks != jrnl_forks:    # a child process: who had it in the parent is not here
        jrnl_mutex_init(shares.mutex)
        shares.forks = jrnl_forks
        shares.tidying = False
        shares.merging = NULL
    pthread_mutex_lock(shares.mutex)


cdef inline void shares_unlock(Shares* shares) noexcept nogil:
    pthread_mutex_unlock(shares.mutex)


cdef inline uint64_t blocks_of(const VolumeMemory* volume) noexcept nogil:
    return (volume.size + BLOCK_BYTES - 1) >> BLOCK_SHIFT


cdef inline SharedState* state_with(SharedState* state, uint32_t volume,
                                    uint64_t block) noexcept nogil:
    """Which of a shared state and newer ones keeps a block, or NULL; the shares are locked."""
    if state.core.shares.last[volume][block] < state.number:
        return NULL
    while state is not NULL and not state.kept[volume][block]:
        state = state.newer
    return state


# Reading.

cdef void shared_fetch(SharedState* state, uint32_t volume, uint64_t offset, uint8_t* target,
                       uint64_t length) noexcept nogil:
    """Read a range of a shared state."""
    cdef uint64_t end = offset + length, stop
    while offset < end:
        stop = (offset // SHARE_PIECE_BYTES + 1) * SHARE_PIECE_BYTES
        if stop > end:
            stop = end
        shares_lock(state.core.shares)
        shared_piece(state, volume, offset, stop, target)
        shares_unlock(state.core.shares)
        target += stop - offset
        offset = stop


cdef void shared_piece(SharedState* state, uint32_t volume, uint64_t offset, uint64_t end,
                       uint8_t* target) noexcept nogil:
    """Read some blocks of a shared state, with its core's shares locked."""
    cdef const VolumeMemory* memory = &state.core.volumes[volume]
    cdef Shares* shares = state.core.shares
    cdef SharedState* found
    cdef uint64_t block, stop
    while offset < end:
        block = offset >> BLOCK_SHIFT
        stop = (block + 1) << BLOCK_SHIFT
        if stop > end:
            stop = end
        found = state_with(state, volume, block)
        if found is not NULL and found.kept[volume][block] == KEPT_ZERO:
            memset(target, 0, stop - offset)
        elif found is not NULL and found.kept[volume][block] == KEPT_DATA:
            memcpy(target, found.data[volume] + offset, stop - offset)
        elif found is NULL and (memory.own is NULL or jrnl_get_flag(&memory.own[block])):
            memcpy(target, memory.data + offset, stop - offset)
        else:    # no more often than there are states below, see fork_layers
            shared_fetch(shares.source, shares.places[volume], offset, target, stop - offset)
        target += stop - offset
        offset = stop


cdef void source_fetch(Core* core, uint32_t volume, uint64_t offset, uint8_t* target,
                       uint64_t length) noexcept nogil:
    """Read a range that a fork has not got itself. Its lock is held."""
    cdef uint64_t end = offset + length, stop
    while offset < end:
        stop = ((offset >> CHUNK_SHIFT) + 1) << CHUNK_SHIFT
        if stop > end:
            stop = end
        if core.volumes[volume].touched[offset >> CHUNK_SHIFT]:
            shared_fetch(core.shares.source, core.shares.places[volume], offset, target,
                         stop - offset)
        else:
            memset(target, 0, stop - offset)
        target += stop - offset
        offset = stop


cdef void own_fetch(Core* core, uint32_t volume, uint64_t offset, uint8_t* target,
                    uint64_t length) noexcept nogil:
    """Read a range of a fork's production."""
    cdef const VolumeMemory* memory = &core.volumes[volume]
    cdef uint64_t end = offset + length, block, stop
    cdef bint own
    while offset < end:
        block = offset >> BLOCK_SHIFT
        own = memory.own[block] != 0
        while block << BLOCK_SHIFT < end and (memory.own[block] != 0) == own:
            block += 1
        stop = block << BLOCK_SHIFT
        if stop > end:
            stop = end
        if own:
            memmove(target, memory.data + offset, stop - offset)
        else:
            source_fetch(core, volume, offset, target, stop - offset)
        target += stop - offset
        offset = stop


cdef void own_lay(Core* core, uint32_t volume, uint64_t start, uint64_t stop,
                  uint8_t* target) noexcept nogil:
    """As copy_touched, of a fork's production."""
    cdef const VolumeMemory* memory = &core.volumes[volume]
    cdef uint64_t end
    while start < stop:
        end = ((start >> CHUNK_SHIFT) + 1) << CHUNK_SHIFT
        if end > stop:
            end = stop
        if memory.touched[start >> CHUNK_SHIFT]:
            own_fetch(core, volume, start, target + start, end - start)
        start = end


# Before production changes.

cdef void own_take(Core* core, uint32_t volume, uint64_t first, uint64_t last) noexcept nogil:
    """Have the blocks from `first` to `last` be the fork's own."""
    cdef VolumeMemory* memory = &core.volumes[volume]
    cdef uint64_t block, start, stop
    for block in range(first, last + 1):
        if memory.own[block]:
            continue
        start = block << BLOCK_SHIFT
        stop = start + BLOCK_BYTES
        if stop > memory.size:
            stop = memory.size
        if memory.touched[start >> CHUNK_SHIFT]:
            source_fetch(core, volume, start, memory.data + start, stop - start)
        jrnl_put_flag(&memory.own[block], 1)
        core.shares.owned += 1


cdef void state_keep(SharedState* keeper, uint32_t volume, uint64_t block) noexcept nogil:
    """Keep a block of production for the forks that need it; the shares are locked."""
    cdef const VolumeMemory* memory = &keeper.core.volumes[volume]
    cdef uint64_t start = block << BLOCK_SHIFT, stop = start + BLOCK_BYTES
    if state_with(keeper, volume, block) is not NULL:
        return    # it has changed since
    keeper.changed = True
    keeper.count += 1
    keeper.core.shares.last[volume][block] = keeper.number
    if not memory.touched[start >> CHUNK_SHIFT]:
        keeper.kept[volume][block] = KEPT_ZERO
        return
    if memory.own is not NULL and not memory.own[block]:
        keeper.kept[volume][block] = KEPT_BELOW
        return
    if stop > memory.size:
        stop = memory.size
    memcpy(keeper.data[volume] + start, memory.data + start, stop - start)
    keeper.kept[volume][block] = KEPT_DATA


cdef void before_change(Core* core, uint32_t volume, uint64_t offset,
                        uint64_t length) noexcept nogil:
    """Before a range of production changes: have it itself, and keep it for those who share it."""
    cdef uint64_t first = offset >> BLOCK_SHIFT, last = (offset + length - 1) >> BLOCK_SHIFT, block
    cdef SharedState* keeper
    if core.shares.newest is not NULL:
        shares_lock(core.shares)
        keeper = core.shares.newest
        while keeper is not NULL and keeper.dead and keeper is not core.shares.merging:
            keeper = keeper.older
        if keeper is not NULL:
            for block in range(first, last + 1):
                state_keep(keeper, volume, block)
        shares_unlock(core.shares)
    if core.volumes[volume].own is not NULL:
        own_take(core, volume, first, last)


cdef inline bint has_forks(const Core* core) noexcept nogil:
    return core.shares is not NULL and core.shares.newest is not NULL


cdef void keep_all(Core* core) noexcept nogil:
    """Keep all that forks may read: a caller's memory is about to be his again."""
    cdef VolumeMemory* memory
    cdef uint64_t chunk, start, length
    cdef uint32_t k
    for k in range(core.volume_count if core.shared and core.shares.lent else 0):
        memory = &core.volumes[k]
        for chunk in range(memory.chunks):
            start = chunk << CHUNK_SHIFT
            length = memory.size - start
            if length > 1 << CHUNK_SHIFT:
                length = 1 << CHUNK_SHIFT
            before_change(core, k, start, length)


# Making and unmaking.

cdef Shares* shares_new() noexcept nogil:
    cdef Shares* shares = <Shares*>calloc(1, sizeof(Shares))
    if shares is not NULL:
        shares.mutex = jrnl_plain_mutex_new()
        shares.forks = jrnl_forks
        if shares.mutex is NULL:
            free(shares)
            return NULL
    return shares


cdef void state_free(SharedState* state) noexcept nogil:
    cdef const VolumeMemory* memory
    cdef uint32_t k
    for k in range(state.core.volume_count):
        memory = &state.core.volumes[k]
        if state.kept is not NULL:
            unmap_memory(state.kept[k], blocks_of(memory))
        if state.data is not NULL:
            unmap_memory(state.data[k], memory.size)
    free(state.kept)
    free(state.data)
    free(state)


cdef bint last_begin(Core* core) noexcept nogil:
    """Have memory for when blocks were kept last; False where there is none."""
    cdef uint32_t k
    if core.shares.last is not NULL:
        return True
    core.shares.last = <uint32_t**>calloc(core.volume_count + 1, sizeof(uint32_t*))
    if core.shares.last is NULL:
        return False
    for k in range(core.volume_count):
        core.shares.last[k] = <uint32_t*>map_memory(
            blocks_of(&core.volumes[k]) * sizeof(uint32_t), False)
        if core.shares.last[k] is NULL:
            last_free(core)
            return False
    return True


cdef void last_free(Core* core) noexcept nogil:
    cdef uint32_t k
    for k in range(core.volume_count if core.shares.last is not NULL else 0):
        unmap_memory(<uint8_t*>core.shares.last[k],
                     blocks_of(&core.volumes[k]) * sizeof(uint32_t))
    free(core.shares.last)
    core.shares.last = NULL


cdef SharedState* state_new(Core* core) noexcept nogil:
    """A state of production as it is now, the newest; NULL where there is no memory."""
    cdef SharedState* state = <SharedState*>calloc(1, sizeof(SharedState))
    cdef uint32_t k
    if state is NULL or not last_begin(core):
        free(state)
        return NULL
    state.core = core
    state.blocks = core.shares.owned
    state.kept = <uint8_t**>calloc(core.volume_count, sizeof(uint8_t*))
    state.data = <uint8_t**>calloc(core.volume_count, sizeof(uint8_t*))
    for k in range(core.volume_count):
        if state.kept is NULL or state.data is NULL:
            break
        state.kept[k] = map_memory(blocks_of(&core.volumes[k]), False)
        state.data[k] = map_memory(core.volumes[k].size, False)
        if state.kept[k] is NULL or state.data[k] is NULL:
            break
    else:
        shares_lock(core.shares)
        core.shares.states += core.shares.states < <uint32_t>0xFFFFFFFF    # or they are equal
        state.number = core.shares.states
        state.older = core.shares.newest
        if state.older is not NULL:
            state.older.newer = state
        else:
            core.shares.oldest = state
        core.shares.newest = state
        core.shared = True
        shares_unlock(core.shares)
        return state
    state_free(state)
    return NULL


cdef uint64_t next_touched(const VolumeMemory* memory, uint64_t chunk) noexcept nogil:
    """The next chunk that was ever written to, from one on; the count of chunks where none was."""
    cdef const uint8_t* found = NULL
    if chunk < memory.chunks:
        found = <const uint8_t*>memchr(memory.touched + chunk, 1, memory.chunks - chunk)
    return memory.chunks if found is NULL else <uint64_t>(found - memory.touched)


cdef void state_move(SharedState* state, SharedState* target, uint32_t volume,
                     bint wins) noexcept nogil:
    """Have another state keep what one keeps of a volume, instead of what it has if this `wins`.

    The shares are locked. Some at a time: others have their turns.
    """
    cdef const VolumeMemory* memory = &state.core.volumes[volume]
    cdef const uint8_t* kept = state.kept[volume]
    cdef uint64_t chunk = next_touched(memory, 0), block, end, start, moved = 0
    while chunk < memory.chunks:
        block = chunk << (CHUNK_SHIFT - BLOCK_SHIFT)
        end = min((chunk + 1) << (CHUNK_SHIFT - BLOCK_SHIFT), blocks_of(memory))
        while block < end:
            if kept[block] and (wins or not target.kept[volume][block]):
                start = block << BLOCK_SHIFT
                if kept[block] == KEPT_DATA:
                    memcpy(target.data[volume] + start, state.data[volume] + start,
                           min(BLOCK_BYTES, memory.size - start))
                    moved += 1
                target.count += not target.kept[volume][block]
                target.kept[volume][block] = kept[block]
            block += 1
        chunk = next_touched(memory, chunk + 1)
        if moved >= MERGE_BLOCKS:
            moved = 0
            shares_unlock(state.core.shares)
            shares_lock(state.core.shares)


cdef void state_merge(SharedState* state) noexcept nogil:
    """Have the next older state keep what a dead one does; the shares are locked.

    Nothing is kept in a dead state any more, but for what the older one would keep meanwhile where
    that one's blocks are moved here: there, nobody looks for those that it has itself.
    """
    cdef SharedState* older = state.older
    cdef Shares* shares = state.core.shares
    cdef bint up = state.count > older.count
    cdef uint32_t k
    if up:
        shares.merging = state
    for k in range(state.core.volume_count):
        if up:
            state_move(older, state, k, True)
        else:
            state_move(state, older, k, False)
    if up:
        shares.merging = NULL
        state.kept, older.kept = older.kept, state.kept
        state.data, older.data = older.data, state.data
        state.count, older.count = older.count, state.count


cdef void shares_tidy(Core* core) noexcept nogil:
    """Take out the states that no fork reads; any thread may call it, at any time."""
    cdef Shares* shares = core.shares
    cdef SharedState* state
    shares_lock(shares)
    if shares.tidying:
        shares_unlock(shares)
        return    # who is at it looks once more
    shares.tidying = True
    while True:
        state = shares.newest
        while state is not NULL and not state.dead:
            state = state.older
        if state is NULL:
            break
        if state.older is not NULL and state.changed:
            state_merge(state)
        if state.older is not NULL:
            state.older.newer = state.newer
            state.older.changed |= state.changed
        else:
            shares.oldest = state.newer
        if state.newer is not NULL:
            state.newer.older = state.older
        else:
            shares.newest = state.older
        shares_unlock(shares)
        state_free(state)
        shares_lock(shares)
    shares.tidying = False
    core.shared = shares.newest is not NULL or shares.source is not NULL
    shares_unlock(shares)


cdef void touched_copy(VolumeMemory* memory, const VolumeMemory* of) noexcept nogil:
    """Have a fork's volume know where there is something, in memory for what there is."""
    cdef uint64_t chunk = next_touched(of, 0), first, length
    while chunk < of.chunks:
        first = chunk - chunk % TOUCHED_PIECE
        length = min(TOUCHED_PIECE, of.chunks - first)
        memcpy(memory.touched + first, of.touched + first, length)
        chunk = next_touched(of, first + length)


cdef int fork_begin(Core* core, uint32_t* places) noexcept nogil:
    """Make a new core, whose volumes are of the sizes of a source's `places`, ready to be a fork.

    Takes `places` over.
    """
    cdef uint32_t k
    core.shares = shares_new()
    if core.shares is NULL:
        free(places)
        return E_NO_MEMORY
    core.shares.places = places
    for k in range(core.volume_count):
        core.volumes[k].own = map_memory(blocks_of(&core.volumes[k]), False)
        if core.volumes[k].own is NULL:
            return E_NO_MEMORY
    begin_small(core.ring.headers, core.ring.slots * sizeof(EntryHeader))
    begin_small(core.ring.images, core.ring.area)
    return OK


cdef bint state_has_own(SharedState* state, uint32_t volume, uint64_t block) noexcept nogil:
    """Whether a block of a fork's shared state was its own; the shares are locked."""
    cdef SharedState* found = state_with(state, volume, block)
    if found is not NULL:
        return found.kept[volume][block] != KEPT_BELOW
    return state.core.volumes[volume].own[block] != 0


cdef void fork_take(Core* core, SharedState* state, const uint32_t* volumes) noexcept nogil:
    """Copy what a fork had of its own in a shared state: of some of its volumes, what is not here.

    Nobody else has this core yet, and it has touched what that fork had. Others have their turns.
    """
    cdef VolumeMemory* mine
    cdef uint64_t chunk, block, end
    cdef uint32_t k
    for k in range(core.volume_count):
        mine = &core.volumes[k]
        chunk = next_touched(mine, 0)
        while chunk < mine.chunks:
            block = chunk << (CHUNK_SHIFT - BLOCK_SHIFT)
            end = min((chunk + 1) << (CHUNK_SHIFT - BLOCK_SHIFT), blocks_of(mine))
            chunk = next_touched(mine, chunk + 1)
            shares_lock(state.core.shares)
            while block < end:
                if not mine.own[block] and state_has_own(state, volumes[k], block):
                    shared_piece(state, volumes[k], block << BLOCK_SHIFT,
                                 min((block + 1) << BLOCK_SHIFT, mine.size),
                                 mine.data + (block << BLOCK_SHIFT))
                    mine.own[block] = 1
                    core.shares.owned += 1
                block += 1
            shares_unlock(state.core.shares)


cdef void shares_free(Core* core) noexcept nogil:
    cdef Shares* shares = core.shares
    cdef SharedState* state
    cdef uint32_t k
    if shares is NULL:
        return
    while shares.newest is not NULL:
        state = shares.newest
        shares.newest = state.older
        state_free(state)
    for k in range(core.volume_count):
        unmap_memory(core.volumes[k].own, blocks_of(&core.volumes[k]))
    last_free(core)
    free(shares.places)
    pthread_mutex_destroy(shares.mutex)
    free(shares.mutex)
    free(shares)
    core.shares = NULL
