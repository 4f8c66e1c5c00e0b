# Calls from inside another one on the same thread (I11): from a signal's handler, a finalizer that
# the collector runs, a callback, a trace function. The lock is re-entrant, so it lets them in.
#
# What only reads looks again where anything has moved meanwhile (Engine.stamp), so whatever came in
# between came before it. What changes more than bytes bears reads and writes to a volume in between
# (`changing`); what is half done bears nothing (`exclusive`). Who may not come in gets StoreBusy.
#
# Takes: lock, device, errors

cdef inline int call_check(const Core* core) noexcept nogil:
    """Whether a call may come in now. The lock is held."""
    if core.calls.exclusive or jrnl_inside == <void*>core:
        return E_BUSY
    return OK


cdef int check_call(Core* core) except -1:
    """The same, without the lock. Raises StoreBusy."""
    cdef int status
    enter(core)
    status = call_check(core)
    core_unlock(core)
    return raise_status(status, core)


def forget(dict entries not None, key, value):
    """Take `key` out of a dict where it stands for `value`: in one step."""
    if entries.get(key) is value:
        del entries[key]
