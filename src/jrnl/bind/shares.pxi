# Forks of stores in memory: making one, and how long what it reads lives.
#
# Takes: memory, shared, errors, ring, engine

@cython.no_gc_clear    # it has to take itself out of its engine's chain
cdef class Share:
    """A state of a store in memory that forks read, as long as one of them is there.

    It keeps the store's volumes in memory, be that closed or dropped meanwhile.
    """

    cdef SharedState* state
    cdef Engine engine
    cdef tuple devices
    cdef object __weakref__

    def __cinit__(self, Engine engine not None):
        self.engine = engine
        for device in engine.devices:
            engine.core.shares.lent |= not (<MemoryDevice?>device).mapped
        self.devices = () if engine.core.shares.lent else engine.devices    # see keep_all
        self.state = state_new(engine.core)
        if self.state is NULL:
            raise MemoryError("no address space for what a fork shares with its store")

    def __dealloc__(self):
        cdef Core* core
        if self.state is NULL:
            return
        core = self.engine.core
        with nogil:
            shares_lock(core.shares)
            self.state.dead = True
            shares_unlock(core.shares)
            shares_tidy(core)


cdef Share _share_now(Engine engine):
    """The present state, which a fork made before may share already. The lock is held."""
    cdef Share share = None if engine.newest_share is None else engine.newest_share()
    if share is not None and not share.state.changed and share.state.newer is NULL:
        return share
    if engine.core.shares is NULL:
        engine.core.shares = shares_new()
        if engine.core.shares is NULL:
            raise MemoryError("no memory for a fork")
    share = Share(engine)
    engine.newest_share = weakref(share)
    return share


cdef uint32_t* _places(object volumes) except NULL:
    cdef uint32_t* places = <uint32_t*>malloc(len(volumes) * sizeof(uint32_t) + 1)
    if places is NULL:
        raise MemoryError("no memory for a fork")
    for k, volume in enumerate(volumes):
        places[k] = volume
    return places


cdef uint32_t _depth_most = 32


def fork_layers(Engine engine not None):
    """(few, below): how a fork of this fork is kept from being read through too many.

    (False, 0): as is. `few`: it takes a copy of the few blocks that this one has of its own.
    `below`: how many states below are to be merged with this one's blocks first, see shared.pxi.
    The lock is held.
    """
    cdef Shares* shares = engine.core.shares
    cdef SharedState* state
    cdef uint64_t blocks
    below = count = 0
    if shares is NULL or shares.source is NULL:
        return False, 0
    if shares.owned <= SHARE_FEW_BLOCKS:
        return True, 0
    if shares.depth < _depth_most:
        return False, 0
    state, blocks = shares.source, shares.owned
    while state.core.shares.source is not NULL:
        count += 1
        if SHARE_STEP * blocks >= state.blocks:
            below = count
        elif below:
            break
        blocks += state.blocks
        state = state.core.shares.source
    return False, below


def set_fork_depth(uint32_t most):
    """For tests: have so many forks of forks be read through before some are merged.

    Returns how many it were.
    """
    global _depth_most
    before, _depth_most = _depth_most, most
    return before


def merged_states(Engine engine not None):
    """Engine or None: what `keep_merged` noted, while forks read it and nothing has changed."""
    stamp, merged = engine.merged or (None, None)
    return merged() if stamp == engine.stamp else None


def keep_merged(Engine engine not None, Engine merged not None):
    """Note what the next forks of the present state can read, too."""
    engine.merged = engine.stamp, weakref(merged)


cdef int _begin_fork(Engine engine, Engine fork, volumes, Share source, places) except -1:
    """Make a new engine a fork that reads `places` of a source; it is of `volumes` of an engine."""
    cdef Core* core = engine.core
    cdef Core* new = fork.core
    cdef uint32_t k
    raise_status(fork_begin(new, _places(places)), new)
    for k, volume in enumerate(volumes):
        touched_copy(&new.volumes[k], &core.volumes[<uint32_t>volume])
    fork.source = source
    new.shares.source = source.state
    new.shares.depth = source.engine.core.shares.depth + 1
    new.shared = True
    return 0


def fork_shares(Engine engine not None, Engine fork not None, volumes):
    """Make a new engine a fork: its volumes are `volumes` of `engine`, by index, as they are now.

    Nothing is copied until one of the two writes. Both are in memory, and the caller has the first
    one's lock. Raises MemoryError.
    """
    _begin_fork(engine, fork, volumes, _share_now(engine), volumes)


def fork_copies(Engine engine not None, Engine fork not None, volumes, uint32_t below):
    """The same of an engine that is a fork, with a copy of what that does not read from its source.

    Parameters
    ----------
    below : int
        And of what these many states below it have.
    """
    cdef Share share = _share_now(engine)
    cdef uint32_t* places
    taken = []
    places_now = [*volumes]
    for _ in range(below + 1):
        taken.append((share, places_now))
        places_now = [share.engine.core.shares.places[<uint32_t>volume] for volume in places_now]
        share = share.engine.source
    _begin_fork(engine, fork, volumes, share, places_now)
    for share, places_now in taken:
        places = _places(places_now)
        with nogil:
            fork_take(fork.core, share.state, places)
        free(places)


def fork_put(Engine fork not None, uint32_t volume, uint64_t offset, const uint8_t[::1] data):
    """Put bytes into a fork's state 0, around the journal."""
    cdef Core* core = fork.core
    cdef uint64_t length = data.shape[0]
    raise_status(range_check(core, volume, offset, length), core)
    if length:
        touch(&core.volumes[volume], offset, length)
        before_change(core, volume, offset, length)
        memcpy(core.volumes[volume].data + offset, &data[0], length)


def own_all(Engine engine not None, uint32_t volume):
    """Have all that a volume holds in its own memory: somebody is to be given that."""
    cdef Core* core = engine.core
    cdef VolumeMemory* memory = &core.volumes[volume]
    cdef uint64_t chunk, last
    with engine:
        if memory.own is NULL:
            return
        for chunk in range(memory.chunks):
            if memory.touched[chunk]:
                last = min((chunk + 1) << (CHUNK_SHIFT - BLOCK_SHIFT), blocks_of(memory)) - 1
                with nogil:
                    own_take(core, volume, chunk << (CHUNK_SHIFT - BLOCK_SHIFT), last)


def leave_memory(Engine engine not None):
    """Read nothing of a caller's own buffer any more for forks: it may be his again."""
    with nogil:
        keep_all(engine.core)


def is_fork(Engine engine not None):
    """bool: whether it reads what it has not written from another one."""
    return engine.source is not None


def fork_facts(Engine engine not None):
    """(depth, blocks, states): of forks of forks, of its own, and how many others share."""
    cdef Shares* shares = engine.core.shares
    cdef SharedState* state
    states = 0
    if shares is NULL:
        return 0, 0, 0
    shares_lock(shares)
    state = shares.newest
    while state is not NULL:
        states += 1
        state = state.older
    shares_unlock(shares)
    return shares.depth, shares.owned, states
