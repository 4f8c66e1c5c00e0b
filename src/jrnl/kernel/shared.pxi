# What stores in memory share: a fork reads what it has not written from the store that it was
# made of, as that was then.
#
# Such a state is that store's production, less the blocks that have changed since: before the
# first change each is kept once, however many forks there are. The states of a store are a chain,
# from the oldest to the newest: a block of one is the first that is kept in it or in a newer one,
# else production's. When the last fork of a state goes, what is kept for it goes to the next
# older one, as far as that lacks it.
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


cdef void shares_lock(Shares* shares) noexcept nogil:
    if shares.forks != jrnl_forks:    # a child process: who had it in the parent is not here
        jrnl_mutex_init(shares.mutex)
        shares.forks = jrnl_forks
    pthread_mutex_lock(shares.mutex)


cdef inline void shares_unlock(Shares* shares) noexcept nogil:
    pthread_mutex_unlock(shares.mutex)


cdef inline uint64_t blocks_of(const VolumeMemory* volume) noexcept nogil:
    return (volume.size + BLOCK_BYTES - 1) >> BLOCK_SHIFT


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
        found = state
        while found is not NULL and not found.kept[volume][block]:
            found = found.newer
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
    cdef SharedState* state = keeper
    cdef uint64_t start = block << BLOCK_SHIFT, stop = start + BLOCK_BYTES
    while state is not NULL:
        if state.kept[volume][block]:
            return    # it has changed since
        state = state.newer
    keeper.changed = True
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
        while keeper is not NULL and keeper.dead:
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


cdef SharedState* state_new(Core* core) noexcept nogil:
    """A state of production as it is now, the newest; NULL where there is no memory."""
    cdef SharedState* state = <SharedState*>calloc(1, sizeof(SharedState))
    cdef uint32_t k
    if state is NULL:
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


cdef void state_merge(SharedState* state, uint32_t volume) noexcept nogil:
    """Move what a dead state keeps of a volume to the next older one; the shares are locked.

    Some at a time: others have their turns. Nothing is kept in a dead state any more.
    """
    cdef SharedState* older = state.older
    cdef const VolumeMemory* memory = &state.core.volumes[volume]
    cdef uint8_t* kept = state.kept[volume]
    cdef uint64_t block = 0, count = blocks_of(memory), moved = 0, start, stop
    cdef const uint8_t* zeroes = NULL
    while block < count:
        if kept[block] and not older.kept[volume][block]:
            start = block << BLOCK_SHIFT
            stop = start + BLOCK_BYTES
            if stop > memory.size:
                stop = memory.size
            if kept[block] == KEPT_DATA:
                memcpy(older.data[volume] + start, state.data[volume] + start, stop - start)
                moved += 1
            older.kept[volume][block] = kept[block]
        block += 1
        if moved == MERGE_BLOCKS:
            moved = 0
            shares_unlock(state.core.shares)
            shares_lock(state.core.shares)


cdef void shares_tidy(Core* core) noexcept nogil:
    """Take out the states that no fork reads; any thread may call it, at any time."""
    cdef Shares* shares = core.shares
    cdef SharedState* state
    cdef uint32_t k
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
        for k in range(core.volume_count if state.older is not NULL and state.changed else 0):
            state_merge(state, k)
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
    cdef SharedState* found = state
    while found is not NULL and not found.kept[volume][block]:
        found = found.newer
    if found is not NULL:
        return found.kept[volume][block] != KEPT_BELOW
    return state.core.volumes[volume].own[block] != 0


cdef void fork_take(Core* core, SharedState* state, const uint32_t* volumes) noexcept nogil:
    """Copy what a fork had of its own in a shared state: of some of its volumes, what is not here.

    Nobody else has this core yet, and it has touched what that fork had. Others have their turns.
    """
    cdef VolumeMemory* mine
    cdef const uint8_t* found
    cdef uint64_t chunk, block, end
    cdef uint32_t k
    for k in range(core.volume_count):
        mine = &core.volumes[k]
        chunk = 0
        while chunk < mine.chunks:
            found = <const uint8_t*>memchr(mine.touched + chunk, 1, mine.chunks - chunk)
            if found is NULL:
                break
            chunk = found - mine.touched
            block = chunk << (CHUNK_SHIFT - BLOCK_SHIFT)
            chunk += 1
            end = min(chunk << (CHUNK_SHIFT - BLOCK_SHIFT), blocks_of(mine))
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
    free(shares.places)
    pthread_mutex_destroy(shares.mutex)
    free(shares.mutex)
    free(shares)
    core.shares = NULL
