# From status codes to exceptions: what was asked, what is possible, what to change.
#
# Takes: lock, device

class Moved(JrnlError):
    """The store has changed since a call looked at it, which then looks again."""


# By status, and by which of its cases it is. The names in braces are what `_facts` gives.
cdef dict STATUS_ERRORS = {
    (E_CLOSED, ""): (StoreClosed, "the store is closed; create another"),
    (E_CLOSED, "lasts"): (StoreClosed, "the store is closed; open it again"),
    (E_BUSY, ""): (StoreBusy, INSIDE),
    (E_TOO_LARGE, ""): (
        EntryTooLarge,
        "one write takes at most {write_max} bytes with a journal of {capacity}; split it, or make "
        "the journal larger"),
    (E_EDIT, ""): (
        EditOpen,
        "an edit is open on this thread and this call needs what it is changing; leave the edit's "
        "with block first"),
    (E_NO_BEFORE, ""): (
        InvalidArgument,
        "images='after' keeps no before-images, which this needs; create the store with "
        "images='before' or 'both'"),
    (E_POISONED, ""): (
        StorePoisoned,
        "an earlier write or sync failed ({poisoned}), so what is on disk is not known; nothing is "
        "written any more: close the store and open it again, which redoes what was durable"),
    (E_READ_ONLY, ""): (
        ReadOnlyStore, "the store is open for reading; open it with mode='r+'"),
    (E_FORKED, ""): (
        StoreLocked,
        "the store belongs to the process that opened it, not to its forked child; open it in the "
        "child once the parent has closed it"),
    (E_LOST, "log"): (
        CorruptionError,
        "a damaged part of the log held the newest bytes of production, which are lost; recover "
        "from a snapshot"),
    (E_LOST, ""): (
        CorruptionError,
        "the newest bytes of production at {offset} were in a damaged entry and are lost; "
        "write over them, or restore a snapshot"),
    (E_NO_MEMORY, ""): (MemoryError, "not enough memory; nothing has changed"),
    (E_UNKNOWN, ""): (UnknownPoint, "no such state yet; the newest is {seq}"),
    (E_EXPIRED, ""): (
        PointExpired,
        "the state is no longer kept; the window is {base_seq}..{seq}, less what a rewind dropped; "
        "a larger journal or a snapshot keeps states for longer"),
    (E_PINNED, "pin"): (
        PinnedPoint,
        "state {pinned} is pinned, and this rewind would drop it; release the pin, unpin the mark "
        "or close the pinned view first, or rewind no further than that"),
    (E_PINNED, ""): (
        PinnedPoint,
        "a view of state {pinned}, or a recovery made when production was in it, is open and "
        "needs an entry that this rewind would drop; close it first: store.recoveries has the open "
        "recoveries, and store.delete_recovery(id) closes one"),
    (E_DISAGREE, ""): (
        CorruptionError,
        "entry {entry} and the snapshot disagree on byte {offset}, which was not written in "
        "between: one of the two is damaged; recover without this snapshot, or from another"),
    (E_CORRUPT, "entry"): (
        CorruptionError,
        "entry {entry} does not match its checksum; states before it cannot be rebuilt through "
        "it, later ones can"),
    (E_CORRUPT, ""): (
        CorruptionError,
        "the snapshot does not match its checksum at byte {offset}; use another snapshot, or "
        "none"),
    (E_ARGUMENT, ""): (UnknownVolume, "the snapshot leaves this volume out; use another one"),
    (E_BOUNDS, ""): (OutOfBounds, "the range does not lie inside the volume"),
}


cdef str _case_of(int status, const Core* core):
    """Which of the cases of a status it is."""
    if status == E_CLOSED and core.settings.lasts:
        return "lasts"
    if status == E_LOST and core.fault.lost:
        return "log"
    if status == E_PINNED and core.reclaim.pins is not NULL:
        return "pin" if core.fault.pinned == core.reclaim.pin_high else ""
    if status == E_CORRUPT and core.fault.entry:
        return "entry"
    return ""


cdef dict _facts(const Core* core):
    """What messages tell of a core."""
    return {
        "seq": core.ring.seq, "base_seq": core.ring.base_seq, "entry": core.fault.entry,
        "offset": core.fault.offset, "pinned": core.fault.pinned,
        "write_max": core.limits.write_max, "capacity": core.limits.capacity,
        "poisoned": os.strerror(core.fault.poisoned),
    }


cdef int add_event(Core* core, str name, dict facts) except -1:
    """Have it told that something has happened, as soon as this thread is in no call."""
    if core.events is not NULL:
        (<object>core.events).add(name, facts)
        tell_here(core)
    return 0


cdef int tell_here(Core* core) except -1:
    """Have told what has happened; inside a call, once that lets go of the lock.

    Whoever listens may call this store, or wait for who does: so no lock is held, nor the gate.
    """
    cdef bint inside = False
    if core.events is NULL:
        return 0
    if core_try(core):    # else somebody else has it
        inside = core.calls.locked > 1
        core.reclaim.due |= inside
        core_unlock(core)
    if inside or has_gate(&core.calls):
        return 0
    events, thread = <object>core.events, PyThread_get_thread_ident()
    telling = events.telling
    if thread not in telling:    # what a handler makes happen is told after it
        telling.add(thread)
        try:
            events.tell()
        finally:
            telling.discard(thread)
    return 0


cdef inline bint is_newly_poisoned(const Core* core) noexcept nogil:
    return core is not NULL and core.fault.poisoned and not core.fault.poison_told


cdef int note_poison(Core* core, object error) except -1:
    """Have it told, once, that the store is poisoned."""
    if is_newly_poisoned(core):
        core.fault.poison_told = True
        cause = os.strerror(core.fault.poisoned) if error is None else f"{error}"
        add_event(core, "poisoned", {"cause": cause, "seq": core.ring.seq})
    return 0


cdef int raise_status(int status, Core* core) except -1:
    """Turn a core's status into its exception."""
    if status == OK:
        return 0
    if status == E_FOLD:
        raise_fold()
    if status == E_FULL:
        raise_full(core)
    if status == E_IO:
        raise_io_of(core)
    note_poison(core, None)
    known = STATUS_ERRORS.get((status, _case_of(status, core)))
    if known is None:
        raise SystemError(f"jrnl does not know its own status {status}; please report this")
    error, message = known
    raise error(message.format(**_facts(core)))


cdef int raise_io_of(Core* core) except -1:
    try:
        raise_io(core.fault.error, "a file of the store")
    except Exception as error:
        note_poison(core, error)
        raise


cdef int raise_full(Core* core) except -1:
    cdef str why = "its oldest entries may not leave"
    cdef str way = "write less at a time, or use overflow='evict'"
    if core.reclaim.full_by == FULL_PINNED:
        why = f"{_lowest_pin(core)}, so no later entry may leave"
        way = "unpin the mark" if "the mark" in why else "release the pin or close the pinned view"
        way += ", or take a snapshot in its place"
        if core.folds.pin_seq < core.reclaim.pin_needs:
            why = (f"all snapshots that it leads on from are pinned, the newest of them at state "
                   f"{core.folds.pin_seq}")
            way = "delete one, or take one that is not pinned"
    elif core.reclaim.full_by == FULL_YOUNG:
        why = (f"its oldest entries are younger than the {core.reclaim.least_ns / 1e9:g} seconds "
               "that they are kept for at least")
        way = "wait, or call retain() with less"
    elif core.reclaim.full_by == FULL_FOLDING:
        why = "the call that this one comes from inside of is making some"
        way = "or write again once that one has returned"
    elif core.edits.open is not NULL:
        way = "or end the open edit"
    elif core.settings.refuse:
        why = "overflow='refuse' lets none of its oldest entries leave"
        way = "or create the store with overflow='evict' or 'fold'"
        if core.settings.images & FLAG_BEFORE:
            way = f"rewind to an earlier state, which drops the entries after it, {way}"
    message = (
        f"the journal ({core.limits.capacity} bytes, {core.ring.slot_head - core.ring.slot_tail} "
        f"entries) has no room for this and {why}; make the journal larger, {way}")
    add_event(core, "full", {"why": message, "seq": core.ring.seq})
    raise JournalFull(message)


cdef str _lowest_pin(Core* core):
    """What holds the oldest state of all that are pinned."""
    cdef PinData* pin
    cdef PinData* lowest
    enter(core)
    try:
        pin = lowest = core.reclaim.pins
        while pin is not NULL:
            if pin.needs <= lowest.needs:
                lowest = pin
            pin = pin.next
        if lowest is NULL:
            return "a state was pinned"
        if lowest.name is not NULL:
            return f"state {lowest.seq} is pinned by the mark {<object>lowest.name!r}"
        return f"state {lowest.seq} is pinned"
    finally:
        core_unlock(core)


cdef dict _fold_errors = {}     # what hooks raised, the last one last, by the thread


cdef int raise_fold() except -1:
    """Raise what the hook raised on this thread."""
    thread = PyThread_get_thread_ident()
    errors = _fold_errors[thread]
    error = errors.pop()
    if not errors:
        del _fold_errors[thread]
    raise error


cdef int raise_bounds(object offset, object length, uint64_t size) except -1:
    raise OutOfBounds(f"{shown(length)} bytes at offset {shown(offset)} do not lie inside the "
                      f"volume, which has {size} bytes")
