# The engine as the Python layer sees it.
#
# Takes: lock, memory, shared, device, errors, ring, reading, fold_hook, reclaim, storage, lifetime,
# reentry

cdef class Trying:
    """``with Trying(lock, seconds) as taken``: a lock, where it can be had in time.

    A signal's handler runs between two steps of Python, so that ``acquire`` and a ``try`` of their
    own may leave a lock taken for good. Entering a block of this class is one step.

    Parameters
    ----------
    lock : threading.Lock or RLock, or Engine
        An engine's is tried for a few milliseconds, whatever `seconds` says.
    seconds : float
        0: at once; negative: however long it takes.
    """

    cdef object lock
    cdef double seconds
    cdef bint taken

    def __cinit__(self, lock, double seconds=0):
        self.lock = lock
        self.seconds = seconds

    def __enter__(self):
        if isinstance(self.lock, Engine):
            self.taken = self.lock.enter_soon()
        elif self.seconds == 0:
            self.taken = self.lock.acquire(False)
        else:
            self.taken = self.lock.acquire(True, self.seconds)
        return self.taken

    def __exit__(self, *exc):
        if not self.taken:
            return
        self.taken = False
        if isinstance(self.lock, Engine):
            self.lock.leave()
        else:
            self.lock.release()


cdef class Gate:
    """Who has it makes a piece of a copy; re-entrant.

    Whoever has an engine's lock may wait for it, so who has it alone does not wait for that lock:
    what the collector runs meanwhile on this thread, a finalizer, gets StoreBusy where it would.
    """

    cdef Engine engine
    cdef object lock
    cdef uint64_t depth

    def __cinit__(self, Engine engine not None):
        self.engine = engine
        self.lock = RLock()

    def acquire(self, blocking=True, timeout=-1):
        """As a lock's."""
        taken = self.lock.acquire(blocking, timeout)
        if taken:
            self.depth += 1
            self.engine.core.calls.gate_owner = PyThread_get_thread_ident()
        return taken

    def release(self):
        """As a lock's."""
        self.depth -= 1
        if self.depth == 0:
            self.engine.core.calls.gate_owner = 0
        self.lock.release()

    def check_not_here(self):
        """Raise StoreBusy where this thread has it: what is waited for would never come."""
        if has_gate(&self.engine.core.calls):
            raise StoreBusy(INSIDE)

    def __enter__(self):
        return self.acquire()

    def __exit__(self, *exc):
        self.release()


cdef int rows_between(Core* core, start, stop, uint64_t* first, uint64_t* last) except -1:
    """The slots [first, last) of the entries of seqs `start` to `stop`; None: no bound."""
    first[0], last[0] = core.ring.slot_tail, core.ring.slot_head
    if start is not None and start > 0:
        raise_status(find_slot_after(core, <uint64_t>start - 1, False, first), core)
    if stop is not None:
        raise_status(find_slot_after(core, <uint64_t>stop, False, last), core)
    last[0] = max(first[0], last[0])
    return 0


cdef class Engine:
    """Volumes in memory, one journal, one sequence, one re-entrant lock.

    The thin layer above decides which states are wanted; the engine moves the bytes. It trusts its
    arguments where a method's name starts with an underscore or it takes seqs.

    Parameters
    ----------
    devices : sequence of MemoryDevice
        All zeroes, but for what `mark_written` names.
    journal : int
        Bytes of headers and images together.
    images : int
        1 before, 2 after, 3 both.
    checksum, refuse : bool
    clock : callable, optional
        Returns nanoseconds since 1970; the system's clock by default.
    sizes : sequence of int, optional
        Bytes of each volume; a file store's devices are files, and `Log` does the rest.
    overlay : int
        Bytes of memory for what a file store's volumes have not got yet, a power of two.
    """

    def __cinit__(self, devices, uint64_t journal, int images=1, bint checksum=True,
                  bint refuse=False, clock=None, sizes=None, uint64_t overlay=0):
        cdef uint32_t count = len(devices), k
        cdef uint64_t* lengths = <uint64_t*>calloc(count + 1, sizeof(uint64_t))
        cdef uint8_t** memory = <uint8_t**>calloc(count + 1, sizeof(uint8_t*))
        cdef int status = E_NO_MEMORY
        self.devices = tuple(devices)
        self.identity = int.from_bytes(os.urandom(8), "little")
        if lengths is not NULL and memory is not NULL:
            for k in range(count):
                if overlay:
                    lengths[k] = sizes[k]
                else:
                    lengths[k] = (<MemoryDevice?>self.devices[k]).length
                    memory[k] = (<MemoryDevice?>self.devices[k]).data
            status = core_make(&self.core, count, lengths, memory, journal, images, checksum,
                               refuse, overlay)
        free(lengths)
        free(memory)
        if status != OK:
            raise MemoryError(f"no memory for a journal of {journal} bytes over {count} volumes")
        if clock is not None:
            self.clock = clock
            self.core.clock.ask = <void*>clock
            now = clock()
            if not isinstance(now, int):
                raise InvalidType(f"clock must give nanoseconds as an int, not "
                                  f"{type(now).__name__}; time.time_ns does")
            if now.bit_length() > 63:
                raise InvalidArgument("clock must give nanoseconds since 1970 within 64 bits")
            self.core.clock.now_ns = self.core.clock.created_ns = self.core.ring.base_time_ns = now

    def __dealloc__(self):
        if self.core is not NULL:
            core_destroy(self.core)

    def __enter__(self):
        enter(self.core)
        self.core.calls.entered += 1
        if self.core.calls.entered == 1 and self.core.settings.guarded:
            self._settle()
        return self

    def __exit__(self, *exc):
        cdef bint due
        self.core.calls.entered -= 1
        due = take_due(self.core)
        core_unlock(self.core)
        if is_newly_poisoned(self.core):
            note_poison(self.core, None)
        if due:
            self._tell_due()

    def _settle(self):
        """Read the clock and let go what is too old, before an operation looks at anything."""
        if (self.core.edits.open is NULL
                and (self.core.reclaim.least_ns or self.core.reclaim.most_ns)):
            ask_clock(&self.core.clock)
            core_tick(&self.core.clock)
        if self.core.reclaim.most_ns and self.core.edits.open is NULL:
            with nogil:
                core_expire(self.core)

    cdef int _tell_due(self) except -1:
        cdef Core* core = self.core
        cdef bint low = core.reclaim.low_due, left = core.reclaim.left_due
        core.reclaim.low_due = core.reclaim.left_due = False
        if left and core.events is not NULL:
            count = core.evictions - core.reclaim.left
            core.reclaim.left = core.evictions
            self.events.add("left", {"entries": count, "oldest": core.ring.base_seq})
        if low and core.events is not NULL:
            self.events.add("low", {"used": self.used, "capacity": core.limits.capacity})
        note_poison(core, None)
        if low:
            self._call_low()
        tell_here(core)
        return 0

    cdef int _hold_up(self) except -1:
        """Have a writer wait that is done: somebody cannot keep up. What that raises is raised."""
        if self.core.reclaim.throttled and self.on_throttle is not None:
            self.on_throttle()
        return 0

    def set_throttle(self, callback):
        """Have writers call this while `throttle` is on, with no lock held."""
        self.on_throttle = callback

    def throttle(self, bint on):
        """Have writers held up, or not; the caller has the lock."""
        self.core.reclaim.throttled = on
        self.core.reclaim.due |= on

    cdef void _call_low(self) noexcept:
        # Whatever it raises is reported as unraisable: what was done is done.
        callback = self.on_low
        if callback is not None:
            callback()

    def set_events(self, events):
        """Have ``events.add(name, facts)`` called where something happens, wherever that is.

        ``events.tell()`` follows it, with no lock held: at the end of the call that it happened in.
        """
        self.events = events
        self.core.events = <void*>events

    def happened(self, name, /, **facts):
        """Tell of something that has happened, once this thread is in no call."""
        add_event(self.core, name, facts)

    def tell(self):
        """Tell of what has happened, where that could not be told of."""
        note_poison(self.core, None)
        tell_here(self.core)

    @property
    def made(self):
        """list of (int, int): by kind, entries made so far, and the bytes of their ranges."""
        return [(self.core.made[k].entries, self.core.made[k].bytes) for k in range(KIND_COUNT)]

    @property
    def evictions(self):
        """int: entries that have left since the opening."""
        return self.core.evictions

    def set_low(self, uint64_t slots, uint64_t byte_count, callback):
        """Call `callback` once more header slots or bytes of images than these are in use."""
        self.core.reclaim.low_slots = slots
        self.core.reclaim.low_bytes = byte_count
        self.core.settings.watched = True
        self.on_low = callback

    def set_thresholds(self, starts, stops):
        """Past `starts`, (slots, bytes) in use, the oldest leave until `stops` are."""
        self.core.reclaim.start_slots, self.core.reclaim.start_bytes = starts
        self.core.reclaim.stop_slots, self.core.reclaim.stop_bytes = stops
        pins_count(self.core)

    def set_retention(self, int64_t least_ns, int64_t most_ns):
        """Keep entries that are younger; let go what is older. 0 for no such rule."""
        self.core.reclaim.least_ns = least_ns
        self.core.reclaim.most_ns = most_ns
        pins_count(self.core)

    @property
    def retention(self):
        """tuple of int: what `set_retention` was given last."""
        return self.core.reclaim.least_ns, self.core.reclaim.most_ns

    @property
    def ring_size(self):
        """tuple of int: header slots, and bytes for images."""
        return self.core.ring.slots, self.core.ring.area

    def state_time(self, uint64_t seq):
        """int: when a retained state began, in ns. Raises as `resolve`."""
        cdef uint64_t state = self.resolve(seq)
        if state == self.core.ring.base_seq:
            return self.core.ring.base_time_ns
        return self._entry(state).time_ns

    def enter_soon(self):
        """bool: whether the lock was taken; not where somebody else keeps it for long."""
        cdef bint taken
        with nogil:
            taken = lock_soon(self.core)
        return taken

    def leave(self):
        """Let go of the lock."""
        core_unlock(self.core)

    def is_locked_here(self):
        """bool: whether this thread has the lock."""
        cdef bint here
        if not core_try(self.core):
            return False
        here = self.core.calls.locked > 1
        core_unlock(self.core)
        return here

    def renew_lock(self):
        """In a forked child: let go of the lock, which its parent's thread had taken.

        It was taken under that thread's number in the parent.
        """
        jrnl_mutex_init(self.core.mutex)
        self.core.calls.locked = 0

    def close(self):
        """Give the journal back; the devices go when nothing exported from them is left."""
        enter(self.core)
        if self.core.edits.open is not NULL:
            core_unlock(self.core)
            raise_status(E_EDIT, self.core)
        if not self.core.closed:
            core_release_journal(self.core)
            self.devices = ()
            self.source = self.source if has_forks(self.core) else None    # they read through it
        core_unlock(self.core)

    def set_fold(self, hook):
        """Have ``hook(seq)`` called before an entry leaves that `fold_seq` does not cover.

        When it returns, a snapshot is at state `seq` or a later one, all entries after it are
        there, and `fold_seq` says so. It is called with the lock held, and writes no entry.
        """
        self.fold_hook = hook
        self.core.folds.hook = <void*>hook
        self.core.folds.on = True
        pins_count(self.core)

    @property
    def folds(self):
        """bool: whether snapshots are brought on over what leaves."""
        return self.core.folds.on

    @property
    def fold_seq(self):
        """int: entries up to this state may leave without asking."""
        return self.core.folds.seq

    @fold_seq.setter
    def fold_seq(self, uint64_t seq):
        self.core.folds.seq = seq

    def set_fold_pin(self, seq):
        """Let no entry leave that comes after state `seq`; None: any may."""
        self.core.folds.pin_seq = NO_PIN if seq is None else seq
        pins_count(self.core)

    def fold_up_to(self, uint64_t seq):
        """Do what has to be done before the entries up to `seq` leave. Raises as the hook does."""
        cdef int status
        with nogil:
            status = fold_ask(self.core, seq)
        raise_status(status, self.core)

    def mark_written(self, uint32_t volume, uint64_t offset, uint64_t length):
        """Content stands in this range of a device already, put there around the journal."""
        raise_status(range_check(self.core, volume, offset, length), self.core)
        if length:
            touch(&self.core.volumes[volume], offset, length)

    @property
    def stamp(self):
        """tuple: another one after any change."""
        return (self.core.ring.seq, self.core.ring.base_seq, self.core.generation,
                self.core.calls.changes,
                self.core.closed)

    @property
    def cow_changes(self):
        """int: another number after any write to a view."""
        return self.core.cow_changes

    def check_stamp(self, stamp):
        """Raise Moved where anything has changed since the stamp was taken."""
        if stamp != self.stamp:
            raise Moved("the store has changed meanwhile")

    def turn(self):
        """Names or snapshots have changed."""
        self.core.calls.changes += 1

    def changing(self):
        """Changing: a block in which this call changes more than bytes."""
        return Changing(self)

    def exclusive(self):
        """Exclusive: a block in which no other call of this thread may come in."""
        return Exclusive(self)

    def check_alone(self):
        """Raise StoreBusy where a call that comes from inside another one may not come in."""
        raise_status(call_check(self.core), self.core)

    def check_not_closed(self):
        """Raise StoreClosed."""
        if self.core.closed:
            raise_status(E_CLOSED, self.core)
        if is_forked(self.core.disk):
            raise_status(E_FORKED, self.core)

    def check_open(self):
        """Raise StoreClosed, StoreBusy, or EditOpen where this thread has an edit open."""
        self.check_not_closed()
        self.check_alone()
        self.check_settled()

    def check_settled(self):
        """Raise EditOpen."""
        if self.core.edits.open is not NULL:
            raise_status(E_EDIT, self.core)

    @property
    def closed(self):
        return self.core.closed

    @property
    def seq(self):
        """int: the newest entry's seq."""
        return self.core.ring.seq

    @property
    def newest_state(self):
        """int: the newest seq, or where that is a REWIND's, the state that it stands for."""
        cdef const EntryHeader* header
        if self.core.ring.slot_head > self.core.ring.slot_tail:
            header = header_at(&self.core.ring, self.core.ring.slot_head - 1)
            if header.kind == KIND_REWIND and header.seq == self.core.ring.seq:
                return header.offset
        return self.core.ring.seq

    @property
    def base_seq(self):
        """int: the state before the oldest retained entry."""
        return self.core.ring.base_seq

    @property
    def base_time_ns(self):
        """int: when that began."""
        return self.core.ring.base_time_ns

    @property
    def images(self):
        return self.core.settings.images

    @property
    def on_disk(self):
        return on_disk(self.core.disk)

    @property
    def write_max(self):
        """int: bytes, the longest WRITE."""
        return self.core.limits.write_max

    @property
    def capacity(self):
        """int: bytes of the journal."""
        return self.core.limits.capacity

    @property
    def used(self):
        """int: bytes of the journal that retained entries take, headers and images."""
        return journal_used(self.core.disk, &self.core.ring)

    @property
    def time_ns(self):
        """int: the newest entry's time."""
        return self.core.clock.now_ns

    @property
    def sizes(self):
        return [self.core.volumes[k].size for k in range(self.core.volume_count)]

    def tick(self):
        """int: read the clock, in nanoseconds; never less than the newest entry's time."""
        ask_clock(&self.core.clock)
        core_tick(&self.core.clock)
        return self.core.clock.now_ns

    def resolve(self, number):
        """int: the seq under which state `number` is kept.

        Raises UnknownPoint, PointExpired, StoreClosed.
        """
        cdef uint64_t seq, state = 0
        cdef int status
        if number < 0:
            raise UnknownPoint(f"there is no state {shown(number)}; states are numbered from 0, "
                               f"and the newest is {self.core.ring.seq}")
        seq = min(number, 0xFFFFFFFFFFFFFFFF)
        status = core_resolve(self.core, seq, &state)
        if status == E_UNKNOWN:
            raise UnknownPoint(f"state {shown(number)} does not exist yet; the newest is "
                               f"{self.core.ring.seq}")
        if status == E_EXPIRED and seq < self.core.ring.base_seq:
            raise PointExpired(f"state {seq} has left the window, which is "
                               f"{self.core.ring.base_seq}..{self.core.ring.seq}; a larger journal "
                               "or a snapshot keeps states for longer")
        if status == E_EXPIRED:
            raise PointExpired(f"state {seq} was dropped by a rewind; the window is "
                               f"{self.core.ring.base_seq}..{self.core.ring.seq}")
        raise_status(status, self.core)
        return state

    def seq_at(self, time_ns):
        """int: the last retained state at or before a time in ns. Raises as `resolve`."""
        cdef uint64_t slot = 0
        if time_ns < self.core.clock.created_ns:
            raise UnknownPoint(f"the store did not exist at {_as_text(time_ns)}; its first state "
                               f"is of {_as_text(self.core.clock.created_ns)}")
        if time_ns < self.core.ring.base_time_ns:
            raise PointExpired(f"the state of {_as_text(time_ns)} has left the window, which is "
                               f"{self.core.ring.base_seq}..{self.core.ring.seq} and begins at "
                               f"{_as_text(self.core.ring.base_time_ns)}; a larger journal or a "
                               "snapshot keeps states for longer")
        time_ns = min(time_ns, 0x7FFFFFFFFFFFFFFF)    # an entry's has no more
        raise_status(find_slot_after(self.core, <uint64_t><int64_t>time_ns, True, &slot), self.core)
        if slot == self.core.ring.slot_tail:
            return self.core.ring.base_seq
        return header_at(&self.core.ring, slot - 1).seq

    def note(self, int kind, const uint8_t[::1] text=None, list made=None):
        """int: the seq of a new MARK (with its name) or FLUSH entry.

        `made` then has its seq and time, even where a handler breaks the caller off right after.
        """
        cdef int status
        ask_clock(&self.core.clock)
        if self.core.closed:
            raise_status(E_CLOSED, self.core)
        if text is None or text.shape[0] == 0:
            status = core_note(self.core, kind, 0, NULL, 0)
        else:
            status = core_note(self.core, kind, 0, &text[0], text.shape[0])
        raise_status(status, self.core)
        if made is not None:
            made.append((self.core.ring.seq, self.core.clock.now_ns))
        if kind != KIND_FLUSH:
            raise_status(entry_made(self.core), self.core)
        return self.core.ring.seq

    def flush(self):
        """int: the newest seq, after a FLUSH entry if any entry was added since the last one.

        In a file store, `commit` makes it durable.
        """
        if self.core.unflushed:
            ask_clock(&self.core.clock)
            raise_status(E_CLOSED if self.core.closed else core_note_flush(self.core), self.core)
        return self.core.ring.seq

    def commit(self, uint64_t seq):
        """Make the entries up to `seq` durable, without the lock where the caller has not got it.

        Raises OSError, StorePoisoned, StoreLocked. Nothing to do in a memory store.
        """
        cdef Core* core = self.core
        cdef int status
        with nogil:
            status = core_commit(core, seq)
        raise_status(status, core)

    def expect_rewind(self):
        """What is written from here on is likely to be rewound: keep its images in the cache."""
        self.core.since_rewind = 0

    def rewind(self, uint64_t to, bint anyway=False):
        """tuple of int: (seq of the REWIND entry, entries dropped, bytes put back)."""
        cdef RewindResult result
        cdef int status
        with nogil:
            status = core_rewind(self.core, to, anyway, &result)
        if status == E_EXPIRED or status == E_UNKNOWN:
            self.resolve(to)
        raise_status(status, self.core)
        return result.seq, result.entries, result.bytes

    def entries(self, start=None, stop=None):
        """Headers of the retained entries, oldest first: structured ndarray, a copy.

        Of all, or of those of the seqs from `start` to `stop`.
        """
        cdef Core* core = self.core
        cdef uint64_t count = 0, first = 0, last = 0, k
        cdef int status = OK
        cdef EntryRow[::1] rows
        table = numpy.empty(0, numpy.dtype(ENTRY_FIELDS))
        self.check_not_closed()
        rows_between(core, start, stop, &first, &last)
        while table.size != last - first:
            # The collector may run in here, and a finalizer write.
            table = numpy.empty(last - first, table.dtype)
            self.check_not_closed()
            rows_between(core, start, stop, &first, &last)
        count, rows = table.size, table
        if count:
            with nogil:
                for k in range(count):
                    status = header_check(&core.ring, &core.fault, header_at(&core.ring, first + k),
                                          first + k)
                    if status != OK:
                        break
                    row_fill(&rows[k], header_at(&core.ring, first + k))
        raise_status(status, core)
        return table

    cdef const EntryHeader* _entry(self, uint64_t seq) except NULL:
        """The header of the retained entry `seq`. Raises UnknownPoint, PointExpired."""
        cdef uint64_t slot = 0
        if seq == 0 or seq > self.core.ring.seq:
            raise UnknownPoint(f"there is no entry {seq}; the newest is {self.core.ring.seq}")
        raise_status(find_slot_after(self.core, seq - 1, False, &slot), self.core)
        raise_status(header_check(&self.core.ring, &self.core.fault,
                                  header_at(&self.core.ring, slot), slot), self.core)
        if header_at(&self.core.ring, slot).seq != seq:
            raise PointExpired(f"entry {seq} is no longer in the journal")
        return header_at(&self.core.ring, slot)

    def image_bytes(self, uint64_t seq, bint after):
        """bytes: one image of the entry `seq`, or None where it keeps no such image."""
        cdef const EntryHeader* header = self._entry(seq)
        cdef int which = FLAG_AFTER if after else FLAG_BEFORE
        cdef const uint8_t* image
        cdef int status = OK
        raise_status(images_check(self.core, header, which), self.core)
        if not header.flags & which:
            return None
        if header.flags & (FLAG_AFTER_ZERO if after else FLAG_BEFORE_ZERO):
            return bytes(header.length)
        image = image_at(self.core, header, which, &status)
        raise_status(status, self.core)
        return PyBytes_FromStringAndSize(<const char*>image, header.length)

    def _header_bytes(self, uint64_t seq):
        """bytes: the header of the retained entry `seq`, as it lies in its slot."""
        self.check_open()
        return PyBytes_FromStringAndSize(<const char*>self._entry(seq), HEADER_BYTES)

    def _damage_header(self, uint64_t index, uint64_t byte, int mask):
        """Flip bits in the header of the retained entry at `index` from the oldest; for tests."""
        if index >= self.entry_count or byte >= HEADER_BYTES:
            raise IndexError(index, byte)
        (<uint8_t*>header_at(&self.core.ring, self.core.ring.slot_tail + index))[byte] ^= mask

    def _damage_image(self, uint64_t position, int mask):
        """Flip bits in a byte of the image area; for tests."""
        if self.core.closed or self.core.ring.images is NULL or position >= self.core.ring.area:
            raise IndexError(position)
        self.core.ring.images[position] ^= mask

    def changes_bytes(self, uint64_t seq):
        """bool: whether the retained entry `seq` is a write, a discard or zeroes."""
        return changes_bytes(self._entry(seq))

    def verify_entry(self, uint64_t index):
        """(seq, None), or (seq, message): check the retained entry at `index` from the oldest."""
        cdef uint64_t slot = self.core.ring.slot_tail + index
        cdef const EntryHeader* header
        cdef int status
        self.check_not_closed()
        if slot >= self.core.ring.slot_head:
            raise IndexError(index)
        header = header_at(&self.core.ring, slot)
        with nogil:
            status = header_check(&self.core.ring, &self.core.fault, header, slot)
            if status == OK:
                status = images_check(self.core, header, FLAG_BEFORE | FLAG_AFTER)
        if status == OK:
            return header.seq, None
        if status != E_CORRUPT:
            raise_status(status, self.core)
        return self.core.fault.entry, f"entry {self.core.fault.entry} does not match its checksum"

    @property
    def compared_bytes(self):
        """int: bytes of images that were compared with production so that they can be restored."""
        return self.core.compared

    @property
    def entry_count(self):
        """int: retained entries."""
        return self.core.ring.slot_head - self.core.ring.slot_tail

    def data_blocks(self, uint32_t volume):
        """ndarray of int64: blocks of 4096 bytes that may hold anything but zeroes."""
        cdef VolumeMemory* memory = &self.core.volumes[volume]
        devices = self.devices    # gone once the engine is closed, by another thread too
        if not devices:
            raise_status(E_CLOSED, self.core)
        blocks = _blocks_of_chunks(memory.touched, memory.chunks)
        if isinstance(devices[volume], (FileDevice, CallbackDevice)):
            blocks = numpy.union1d(blocks,
                                   _blocks_of_extents(devices[volume].data_extents()))
        return blocks[blocks < (memory.size + BLOCK_BYTES - 1) // BLOCK_BYTES]


cdef str _as_text(time_ns):
    return f"{numpy.datetime64(time_ns // 1000, 'us')} UTC"


cdef packed struct EntryRow:
    uint64_t seq
    int64_t time_ns
    uint8_t kind
    uint16_t volume
    uint64_t offset
    uint64_t length

cdef inline void row_fill(EntryRow* row, const EntryHeader* header) noexcept nogil:
    row.seq = header.seq
    row.time_ns = header.time_ns
    row.kind = header.kind
    row.volume = header.volume
    row.offset = header.offset
    row.length = header.length


ENTRY_FIELDS = [("seq", "<u8"), ("time_ns", "<i8"), ("kind", "u1"), ("volume", "<u2"),
                ("offset", "<u8"), ("length", "<u8")]


cdef list _extents_within(device, uint64_t size):
    """What of a file is no hole, as far as it should reach: somebody may have made it longer."""
    return [(start, min(stop, size)) for start, stop in device.data_extents() if start < size]


cdef _blocks_of_extents(extents):
    parts = [numpy.arange(start // BLOCK_BYTES, (stop + BLOCK_BYTES - 1) // BLOCK_BYTES)
             for start, stop in extents]
    return numpy.concatenate(parts) if parts else numpy.empty(0, numpy.int64)


cdef _blocks_of_chunks(const uint8_t* touched, uint64_t chunks):
    flags = numpy.frombuffer(PyMemoryView_FromMemory(<char*>touched, chunks, PyBUF_READ),
                             numpy.uint8)
    per_chunk = (1 << CHUNK_SHIFT) // BLOCK_BYTES
    first = numpy.flatnonzero(flags).astype(numpy.int64) * per_chunk
    return (first[:, None] + numpy.arange(per_chunk)).ravel()


cdef class Changing:
    """``with engine.changing()``: the lock; of what comes in between, only reads and plain writes.

    Entering and leaving it are one step each, so no handler runs in the middle of that.
    """

    cdef Engine engine
    cdef bint entered

    def __cinit__(self, Engine engine not None):
        self.engine = engine

    def __enter__(self):
        cdef Core* core = self.engine.core
        self.engine.__enter__()
        try:
            raise_status(call_check(core), core)
            if core.calls.changing or core.folds.folding:
                raise_status(E_BUSY, core)
        except StoreBusy:
            self.engine.__exit__()
            raise
        core.calls.changing += 1
        self.entered = True
        return self.engine

    def __exit__(self, *exc):
        if self.entered:
            self.entered = False
            self.engine.core.calls.changing -= 1
            self.engine.__exit__()


cdef class Exclusive:
    """``with engine.exclusive()``: the lock, and nothing comes in; wherever it is."""

    cdef Engine engine
    cdef bint entered

    def __cinit__(self, Engine engine not None):
        self.engine = engine

    def __enter__(self):
        self.engine.__enter__()
        self.engine.core.calls.exclusive += 1
        self.entered = True
        return self.engine

    def __exit__(self, *exc):
        if self.entered:
            self.entered = False
            self.engine.core.calls.exclusive -= 1
            self.engine.__exit__()
