# Python looks for signals between its own steps. A long call that changes nothing looks itself,
# between two parts, so that it ends soon where a handler raises. What is about to change something
# does not: it is finished, and the handler runs then.
#
# Takes: errors

cdef extern from *:
    """
    #include <time.h>

    static int64_t jrnl_now(void)
    {
        struct timespec now;
        clock_gettime(CLOCK_MONOTONIC, &now);
        return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
    }
    """
    int64_t jrnl_now() noexcept nogil

cdef enum:
    POLL_BYTES = 16777216       # between two looks whether there was a signal
    POLL_ENTRIES = 4096
    FOLLOWED_AT_ONCE = 256      # entries that a read looks at with the GIL
    POLL_TRIES_NS = 250000000   # see Poll


cdef struct Poll:
    uint64_t seq
    uint64_t base_seq
    uint64_t generation
    uint64_t changes
    uint64_t cow_changes
    int64_t moved_ns             # when a handler first changed what is looked at; 0: none has
    bint exclusive               # handlers had long enough: now they may change nothing


cdef inline void poll_stamp(Poll* poll, const Core* core) noexcept nogil:
    poll.seq = core.ring.seq
    poll.base_seq = core.ring.base_seq
    poll.generation = core.generation
    poll.changes = core.calls.changes
    poll.cow_changes = core.cow_changes


cdef inline void poll_begin(Poll* poll, const Core* core) noexcept nogil:
    poll_stamp(poll, core)
    poll.moved_ns = 0
    poll.exclusive = False


cdef inline void poll_end(Poll* poll, Core* core) noexcept nogil:
    if poll.exclusive:
        poll.exclusive = False
        core.calls.exclusive -= 1


cdef bint poll_signals(Poll* poll, Core* core) except -1:
    """Between two parts, with the lock: run handlers. True where the look has to begin again.

    Raises what a handler raises, and StoreClosed.
    """
    cdef bint moved
    PyErr_CheckSignals()
    if core.closed:
        raise_status(E_CLOSED, core)
    moved = not (poll.seq == core.ring.seq and poll.base_seq == core.ring.base_seq
                 and poll.generation == core.generation and poll.changes == core.calls.changes
                 and poll.cow_changes == core.cow_changes)
    if moved:
        poll_stamp(poll, core)
        if poll.moved_ns == 0:
            poll.moved_ns = jrnl_now()
        elif jrnl_now() - poll.moved_ns > POLL_TRIES_NS and not poll.exclusive:
            poll.exclusive = True
            core.calls.exclusive += 1
    return moved


cdef int poll_unmoved(Poll* poll, Core* core) except -1:
    """The same for who begins again further out. Raises Moved."""
    if poll_signals(poll, core):
        raise Moved("the store has changed meanwhile")
    return 0
