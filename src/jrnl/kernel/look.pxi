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
    HEARD_BYTES = 16777216       # between two looks whether there was a signal
    HEARD_ENTRIES = 4096
    FOLLOWED_AT_ONCE = 256       # entries that a read looks at with the GIL
    HEARD_TRIES_NS = 250000000   # see Look


cdef struct Look:
    uint64_t seq
    uint64_t base_seq
    uint64_t generation
    uint64_t turns
    uint64_t scratched
    int64_t moved_ns             # when a handler first changed what is looked at; 0: none has
    bint sealed                  # handlers had long enough: now they may change nothing


cdef inline void look_stamp(Look* look, const Core* core) noexcept nogil:
    look.seq = core.seq
    look.base_seq = core.base_seq
    look.generation = core.generation
    look.turns = core.calls.turns
    look.scratched = core.scratched


cdef inline void look_begin(Look* look, const Core* core) noexcept nogil:
    look_stamp(look, core)
    look.moved_ns = 0
    look.sealed = False


cdef inline void look_end(Look* look, Core* core) noexcept nogil:
    if look.sealed:
        look.sealed = False
        core.calls.sealed -= 1


cdef bint look_up(Look* look, Core* core) except -1:
    """Between two parts, with the lock: run handlers. True where the look has to begin again.

    Raises what a handler raises, and StoreClosed.
    """
    cdef bint moved
    PyErr_CheckSignals()
    if core.closed:
        raise_status(E_CLOSED, core)
    moved = not (look.seq == core.seq and look.base_seq == core.base_seq
                 and look.generation == core.generation and look.turns == core.calls.turns
                 and look.scratched == core.scratched)
    if moved:
        look_stamp(look, core)
        if look.moved_ns == 0:
            look.moved_ns = jrnl_now()
        elif jrnl_now() - look.moved_ns > HEARD_TRIES_NS and not look.sealed:
            look.sealed = True
            core.calls.sealed += 1
    return moved


cdef int look_still(Look* look, Core* core) except -1:
    """The same for who begins again further out. Raises Moved."""
    if look_up(look, core):
        raise Moved("the store has changed meanwhile")
    return 0
