# Entries for an archive, and from one, as the Python layer takes and makes them.
#
# Takes: lock, errors, taken, storage, reentry, engine

SEGMENT_FIELDS = [*ENTRY_FIELDS, ("position", "<u8")]


cdef int raise_taken(int status, Core* core, uint64_t bad_seq) except -1:
    if status == E_CORRUPT:
        raise CorruptionError(f"entry {bad_seq} is damaged: it does not match its checksum, so it "
                              "cannot be taken from the journal")
    return raise_status(status, core)


def durable_entries(Engine engine not None, uint64_t after, uint64_t upto, uint64_t most_rows,
                    uint64_t most_bytes):
    """(rows, data): the durable entries that follow state `after`, and what they wrote, or None.

    Called without the lock, which is taken for a small part at a time. Raises PointExpired,
    UnknownPoint, CorruptionError, StoreClosed, OSError.

    Parameters
    ----------
    after, upto : int
        Seqs; none after `upto`.
    most_rows : int
    most_bytes : int
        Of data, where there is more than one row.

    Returns
    -------
    rows : ndarray
        SEGMENT_FIELDS[n]; none where all has moved meanwhile.
    data : ndarray
        uint8[m].
    """
    cdef Core* core = engine.core
    cdef Taken found
    cdef SegmentRow[::1] row_view
    cdef uint8_t[::1] data_view
    cdef int status
    memset(&found, 0, sizeof(Taken))
    engine.check_not_closed()
    check_call(core)
    if has_gate(&core.calls):
        raise StoreBusy(INSIDE)
    upto = min(upto, core.ring.seq)
    most_rows = min(most_rows, upto - after if upto > after else 0)
    rows = numpy.empty(most_rows + 1, numpy.dtype(SEGMENT_FIELDS))
    row_view = rows
    found.rows = &row_view[0]
    with nogil:
        status = taken_table(core, &found, after, upto, most_rows, most_bytes)
    raise_taken(status, core, found.bad_seq)
    if found.count == 0:
        return None
    data = numpy.empty(found.bytes + 1, numpy.uint8)
    data_view = data
    found.data = &data_view[0]
    found.sums = <uint64_t*>malloc(found.count * sizeof(uint64_t) + 1)
    found.pending = <uint8_t*>calloc(found.count + 1, 1)
    try:
        if found.sums is NULL or found.pending is NULL:
            raise MemoryError(f"no memory for {found.count} entries")
        with nogil:
            status = taken_data(core, &found)
        raise_taken(status, core, found.bad_seq)
    finally:
        free(found.sums)
        free(found.pending)
    return rows[:found.count], data[:found.bytes]


def replay(Engine engine not None, const SegmentRow[::1] rows, const uint8_t[::1] data):
    """Make entries again, as many as `rows` has; none of them is a REWIND.

    The caller holds the lock, has checked the rows, and knows that they follow the newest entry.
    What it raises, as a write does, leaves those that were made: `Engine.seq` tells which.
    """
    cdef Core* core = engine.core
    cdef const uint8_t* content = &data[0] if data.shape[0] else NULL
    cdef int status = OK
    if rows.shape[0]:
        core.calls.exclusive += 1
        with nogil:
            status = core_replay(core, &rows[0], rows.shape[0], content)
        core.calls.exclusive -= 1
    raise_status(status, core)
    raise_status(entry_made(core), core)


def replay_until(Engine engine not None, uint64_t seq):
    """Give out seqs up to `seq`, which the next rewind drops. The caller holds the lock."""
    cdef int status
    with nogil:
        status = core_pass_by(engine.core, seq)
    raise_status(status, engine.core)


def begin_in_memory(Engine engine not None, uint64_t seq, int64_t time_ns, int64_t created_ns):
    """In memory: let the state that there is be `seq`, before the first entry."""
    cdef Core* core = engine.core
    core.ring.seq = core.ring.base_seq = seq
    core.clock.now_ns = core.ring.base_time_ns = time_ns
    core.clock.created_ns = created_ns


def go_on_with(Engine engine not None, clock, bint refuse):
    """Take another clock, or None for the system's; and perhaps refuse what has no room."""
    engine.core.clock.ask = <void*>clock if clock is not None else NULL
    engine.clock = clock
    engine.core.settings.refuse = refuse
