# The engine as the Python layer sees it.

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
    """

    def __cinit__(self, devices, uint64_t journal, int images=1, bint checksum=True,
                  bint refuse=False, clock=None):
        cdef uint32_t count = len(devices), k
        cdef uint64_t* sizes = <uint64_t*>calloc(count + 1, sizeof(uint64_t))
        cdef uint8_t** memory = <uint8_t**>calloc(count + 1, sizeof(uint8_t*))
        cdef int status = E_NO_MEMORY
        self.devices = tuple(devices)
        if sizes is not NULL and memory is not NULL:
            for k in range(count):
                sizes[k] = (<MemoryDevice?>self.devices[k]).length
                memory[k] = (<MemoryDevice?>self.devices[k]).data
            status = core_create(&self.core, count, sizes, memory, journal, images, checksum,
                                 refuse)
        free(sizes)
        free(memory)
        if status != OK:
            raise MemoryError(f"no memory for a journal of {journal} bytes over {count} volumes")
        if clock is not None:
            self.clock = clock
            self.core.clock = <void*>clock
            now = clock()
            if not isinstance(now, int):
                raise InvalidType(f"clock must give nanoseconds as an int, not "
                                  f"{type(now).__name__}; time.time_ns does")
            if now.bit_length() > 63:
                raise InvalidArgument("clock must give nanoseconds since 1970 within 64 bits")
            self.core.time_ns = self.core.created_ns = self.core.base_time_ns = now

    def __dealloc__(self):
        if self.core is not NULL:
            core_destroy(self.core)

    def __enter__(self):
        enter(self.core)
        return self

    def __exit__(self, *exc):
        core_unlock(self.core)

    def close(self):
        """Give the journal back; the devices go when nothing exported from them is left."""
        enter(self.core)
        if self.core.edits is not NULL:
            core_unlock(self.core)
            raise_status(E_EDIT, self.core)
        if not self.core.closed:
            core_release_journal(self.core)
            self.devices = ()
        core_unlock(self.core)

    def mark_written(self, uint32_t volume, uint64_t offset, uint64_t length):
        """Content stands in this range of a device already, put there around the journal."""
        raise_status(range_check(self.core, volume, offset, length), self.core)
        if length:
            touch(&self.core.volumes[volume], offset, length)

    def check_not_closed(self):
        """Raise StoreClosed."""
        if self.core.closed:
            raise_status(E_CLOSED, self.core)

    def check_open(self):
        """Raise StoreClosed, or EditOpen where this thread has an edit open."""
        self.check_not_closed()
        if self.core.edits is not NULL:
            raise_status(E_EDIT, self.core)

    @property
    def closed(self):
        return self.core.closed

    @property
    def seq(self):
        """int: the newest entry's seq."""
        return self.core.seq

    @property
    def base_seq(self):
        """int: the state before the oldest retained entry."""
        return self.core.base_seq

    @property
    def images(self):
        return self.core.images_mode

    @property
    def write_max(self):
        """int: bytes, the longest WRITE."""
        return self.core.write_max

    @property
    def capacity(self):
        """int: bytes of the journal."""
        return self.core.capacity

    @property
    def used(self):
        """int: bytes of the journal that retained entries take, headers and images."""
        return ((self.core.ring.slot_head - self.core.ring.slot_tail) * HEADER_BYTES
                + self.core.ring.used)

    @property
    def time_ns(self):
        """int: the newest entry's time."""
        return self.core.time_ns

    @property
    def sizes(self):
        return [self.core.volumes[k].size for k in range(self.core.volume_count)]

    def tick(self):
        """int: read the clock, in nanoseconds; never less than the newest entry's time."""
        ask_clock(self.core)
        core_tick(self.core)
        return self.core.time_ns

    def resolve(self, uint64_t seq):
        """int: the seq under which state `seq` is kept.

        Raises UnknownPoint, PointExpired, StoreClosed.
        """
        cdef uint64_t state = 0
        cdef int status = core_resolve(self.core, seq, &state)
        if status == E_UNKNOWN:
            raise UnknownPoint(f"state {seq} does not exist yet; the newest is {self.core.seq}")
        if status == E_EXPIRED and seq < self.core.base_seq:
            raise PointExpired(f"state {seq} has left the window, which is {self.core.base_seq}.."
                               f"{self.core.seq}; a larger journal or a snapshot keeps states "
                               "for longer")
        if status == E_EXPIRED:
            raise PointExpired(f"state {seq} was dropped by a rewind; the window is "
                               f"{self.core.base_seq}..{self.core.seq}")
        raise_status(status, self.core)
        return state

    def seq_at(self, int64_t time_ns):
        """int: the last retained state at or before a time in ns. Raises as `resolve`."""
        cdef uint64_t slot = 0
        if time_ns < self.core.created_ns:
            raise UnknownPoint(f"the store did not exist at {_as_text(time_ns)}; its first state "
                               f"is of {_as_text(self.core.created_ns)}")
        if time_ns < self.core.base_time_ns:
            raise PointExpired(f"the state of {_as_text(time_ns)} has left the window, which is "
                               f"{self.core.base_seq}..{self.core.seq} and begins at "
                               f"{_as_text(self.core.base_time_ns)}; a larger journal or a "
                               "snapshot keeps states for longer")
        raise_status(find_slot_after(self.core, <uint64_t>time_ns, True, &slot), self.core)
        if slot == self.core.ring.slot_tail:
            return self.core.base_seq
        return header_at(self.core, slot - 1).seq

    def note(self, int kind, const uint8_t[::1] text=None):
        """int: the seq of a new MARK (with its name) or FLUSH entry."""
        cdef int status
        ask_clock(self.core)
        if self.core.closed:
            raise_status(E_CLOSED, self.core)
        if text is None or text.shape[0] == 0:
            status = core_note(self.core, kind, 0, NULL, 0)
        else:
            status = core_note(self.core, kind, 0, &text[0], text.shape[0])
        raise_status(status, self.core)
        return self.core.seq

    def flush(self):
        """int: the newest seq, after a FLUSH entry if any entry was added since the last one."""
        if self.core.unflushed:
            return self.note(KIND_FLUSH)
        return self.core.seq

    def expect_rewind(self):
        """What is written from here on is likely to be rewound: keep its images in the cache."""
        self.core.since_rewind = 0

    def rewind(self, uint64_t to):
        """tuple of int: (seq of the REWIND entry, entries dropped, bytes put back)."""
        cdef RewindResult result
        cdef int status
        with nogil:
            status = core_rewind(self.core, to, &result)
        if status == E_EXPIRED or status == E_UNKNOWN:
            self.resolve(to)
        raise_status(status, self.core)
        return result.seq, result.entries, result.bytes

    def entries(self):
        """Headers of all retained entries, oldest first: structured ndarray, a copy."""
        cdef uint64_t count = self.core.ring.slot_head - self.core.ring.slot_tail, k
        cdef const EntryHeader* header
        table = numpy.empty(count, numpy.dtype(ENTRY_FIELDS))
        cdef EntryRow[::1] rows = table
        self.check_not_closed()
        for k in range(count):
            header = header_at(self.core, self.core.ring.slot_tail + k)
            raise_status(header_check(self.core, header, self.core.ring.slot_tail + k), self.core)
            rows[k].seq = header.seq
            rows[k].time_ns = header.time_ns
            rows[k].kind = header.kind
            rows[k].volume = header.volume
            rows[k].offset = header.offset
            rows[k].length = header.length
        return table

    cdef const EntryHeader* _entry(self, uint64_t seq) except NULL:
        """The header of the retained entry `seq`. Raises UnknownPoint, PointExpired."""
        cdef uint64_t slot = 0
        if seq == 0 or seq > self.core.seq:
            raise UnknownPoint(f"there is no entry {seq}; the newest is {self.core.seq}")
        raise_status(find_slot_after(self.core, seq - 1, False, &slot), self.core)
        raise_status(header_check(self.core, header_at(self.core, slot), slot), self.core)
        if header_at(self.core, slot).seq != seq:
            raise PointExpired(f"entry {seq} is no longer in the journal")
        return header_at(self.core, slot)

    def image_bytes(self, uint64_t seq, bint after):
        """bytes: one image of the entry `seq`, or None where it keeps no such image."""
        cdef const EntryHeader* header = self._entry(seq)
        cdef int which = FLAG_AFTER if after else FLAG_BEFORE
        raise_status(images_check(self.core, header, which), self.core)
        if not header.flags & which:
            return None
        if header.flags & (FLAG_AFTER_ZERO if after else FLAG_BEFORE_ZERO):
            return bytes(header.length)
        return PyBytes_FromStringAndSize(
            <char*>(after_image(self.core, header) if after else before_image(self.core, header)),
            header.length)

    def _header_bytes(self, uint64_t seq):
        """bytes: the header of the retained entry `seq`, as it lies in its slot."""
        self.check_open()
        return PyBytes_FromStringAndSize(<const char*>self._entry(seq), HEADER_BYTES)

    def _damage_header(self, uint64_t index, uint64_t byte, int mask):
        """Flip bits in the header of the retained entry at `index` from the oldest; for tests."""
        if index >= self.entry_count or byte >= HEADER_BYTES:
            raise IndexError(index, byte)
        (<uint8_t*>header_at(self.core, self.core.ring.slot_tail + index))[byte] ^= mask

    def _damage_image(self, uint64_t position, int mask):
        """Flip bits in a byte of the image area; for tests."""
        if self.core.closed or position >= self.core.ring.area:
            raise IndexError(position)
        self.core.images[position] ^= mask

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
        header = header_at(self.core, slot)
        with nogil:
            status = header_check(self.core, header, slot)
            if status == OK:
                status = images_check(self.core, header, FLAG_BEFORE | FLAG_AFTER)
        if status == OK:
            return header.seq, None
        return self.core.bad_seq, f"entry {self.core.bad_seq} does not match its checksum"

    @property
    def entry_count(self):
        """int: retained entries."""
        return self.core.ring.slot_head - self.core.ring.slot_tail

    def write_kept(self, uint32_t volume):
        """ndarray of int64: blocks of 4096 bytes that may hold anything but zeroes."""
        cdef VolumeMemory* memory = &self.core.volumes[volume]
        return _blocks_of_chunks(memory.touched, memory.chunks)


cdef str _as_text(int64_t time_ns):
    return f"{numpy.datetime64(time_ns, 'ns').astype('M8[us]')} UTC"


cdef packed struct EntryRow:
    uint64_t seq
    int64_t time_ns
    uint8_t kind
    uint16_t volume
    uint64_t offset
    uint64_t length

ENTRY_FIELDS = [("seq", "<u8"), ("time_ns", "<i8"), ("kind", "u1"), ("volume", "<u2"),
                ("offset", "<u8"), ("length", "<u8")]


cdef _blocks_of_chunks(const uint8_t* touched, uint64_t chunks):
    flags = numpy.frombuffer(PyMemoryView_FromMemory(<char*>touched, chunks, PyBUF_READ),
                             numpy.uint8)
    per_chunk = (1 << CHUNK_SHIFT) // BLOCK_BYTES
    first = numpy.flatnonzero(flags).astype(numpy.int64) * per_chunk
    return (first[:, None] + numpy.arange(per_chunk)).ravel()


@cython.no_gc_clear
cdef class ExtentMap:
    """Where the bytes of a target state come from: the plan of a recovery, in full.

    Attributes
    ----------
    bytes : int
        Distinct bytes covered.
    entries : int
        Journal entries that cover at least one of them.
    """

    cdef ExtentMapData data
    cdef ExtentMapData written     # bridge: what was written between the snapshot and the target
    cdef ExtentMapData later       # bridge: first later before-images
    cdef bint bridged
    cdef readonly Engine engine

    def __cinit__(self, Engine engine not None):
        self.engine = engine
        raise_status(map_create(&self.data, engine.core), engine.core)

    def __dealloc__(self):
        if self.engine is None:    # __cinit__ was called with nothing to hold on to
            return
        core_drop(self.engine.core, NULL, &self.data)
        core_drop(self.engine.core, NULL, &self.written)
        core_drop(self.engine.core, NULL, &self.later)

    @staticmethod
    def backward(Engine engine not None, uint64_t target, uint64_t base):
        """From state `base` back to `target`, by the before-images in between (I1)."""
        cdef ExtentMap result = ExtentMap(engine)
        result._scan(&result.data, target, base, False)
        return result

    @staticmethod
    def forward(Engine engine not None, uint64_t base, uint64_t target):
        """From state `base` on to `target`, by the after-images in between (I3)."""
        cdef ExtentMap result = ExtentMap(engine)
        result._scan(&result.data, base, target, True)
        return result

    @staticmethod
    def bridge(Engine engine not None, uint64_t base, uint64_t target):
        """From state `base` on to `target`, by before-images and production (I2)."""
        cdef ExtentMap result = ExtentMap(engine)
        cdef Core* core = engine.core
        cdef int status
        raise_status(map_create(&result.written, core), core)
        raise_status(map_create(&result.later, core), core)
        result.bridged = True
        result._scan(&result.written, base, target, False)
        result._scan(&result.later, target, core.seq, False)
        with nogil:
            status = map_bridge(core, &result.data, &result.written, &result.later)
        raise_status(status, core)
        return result

    cdef int _scan(self, ExtentMapData* map, uint64_t low, uint64_t high, bint after) except -1:
        cdef Core* core = self.engine.core
        cdef uint64_t first = 0, last = 0
        cdef int status
        raise_status(find_slot_after(core, low, False, &first), core)
        raise_status(find_slot_after(core, high, False, &last), core)
        with nogil:
            status = map_scan(core, map, first, last, after)
        raise_status(status, core)
        return 0

    @property
    def bytes(self):
        return self.data.bytes

    @property
    def entries(self):
        return self.data.entries


@cython.no_gc_clear
cdef class Image:
    """One state of all volumes, readable; what it does not hold itself comes from its base.

    Every method takes the engine's lock and raises StoreClosed once the store is closed.
    """

    cdef ImageData data
    cdef readonly Engine engine
    cdef readonly Image base
    cdef readonly uint64_t seq
    cdef uint64_t holders

    def __cinit__(self, Engine engine not None):
        self.engine = engine
        self.data.core = engine.core

    def hold(self):
        """Count one more who needs this image and its bases."""
        cdef Image image = self
        with self.engine:
            while image is not None:
                image.holders += 1
                image = image.base

    def let_go(self):
        """Count one less; what nobody needs pins nothing, even where a traceback still has it."""
        cdef Image image = self
        cdef Live* live
        with self.engine:
            while image is not None:
                image.holders -= 1
                if image.holders == 0 and image.data.live is not NULL:
                    live = image.data.live
                    image.data.live = NULL
                    live_close(live)
                image = image.base

    def __dealloc__(self):
        self._drop()

    cdef void _drop(self) noexcept:
        cdef Live* live = self.data.live
        if self.data.core is NULL:
            return
        self.data.live = NULL
        core_drop(self.data.core, live, &self.data.map)
        if self.data.kind == IMAGE_FROZEN:
            frozen_free(&self.data)

    @staticmethod
    def production(Engine engine not None):
        """Production as it is whenever it is read."""
        cdef Image image = Image(engine)
        image.data.kind = IMAGE_PRODUCTION
        image.seq = engine.core.seq
        return image

    @staticmethod
    def live(Engine engine not None, uint64_t seq, bint keep):
        """State `seq` through the journal, without a copy.

        With `keep`, ranges are copied before the journal lets them go, and it never expires.
        """
        cdef Image image = Image(engine)
        cdef int status
        image.base = Image.production(engine)
        image.data.kind = IMAGE_LIVE
        image.data.base = &image.base.data
        image.seq = seq
        status = live_open(&image.data.live, engine.core, seq, keep)
        raise_status(status, engine.core)
        with nogil:
            status = live_ready(image.data.live)
        raise_status(status, engine.core)
        return image

    @staticmethod
    def frozen(Engine engine not None):
        """An independent, checksummed copy of all volumes as they are now."""
        cdef Image image = Image(engine)
        cdef int status
        image.data.kind = IMAGE_FROZEN
        image.seq = engine.core.seq
        with nogil:
            status = frozen_take(&image.data)
        raise_status(status, engine.core)
        return image

    @staticmethod
    def patched(Image base not None, ExtentMap extents not None, uint64_t seq, bint settle):
        """State `seq`: `base` with `extents` over it. The image takes the map over.

        With `settle` the map's bytes are copied out of the journal, verified, so that the image
        depends on nothing but its base; else it holds only until the next write.
        """
        cdef Engine engine = base.engine
        cdef Core* core = engine.core
        cdef Image image = Image(engine)
        cdef int status = E_CLOSED if core.closed else OK
        with nogil:
            if status == OK and extents.bridged:
                status = bridge_check(core, &base.data, &extents.written, &extents.later)
                if status == OK:
                    map_flag_verified(&extents.data)
            if status == OK and settle:
                status = map_settle(core, &extents.data, 0, extents.data.count,
                                    settled_room(&extents.data))
        raise_status(status, core)
        image.data.kind = IMAGE_PATCHED
        image.base = base
        image.data.base = &base.data
        image.data.map = extents.data
        memset(&extents.data, 0, sizeof(ExtentMapData))
        image.seq = seq
        return image

    cdef int _check(self) except -1:
        if self.data.core.closed:
            raise_status(E_CLOSED, self.data.core)
        return 0

    def read(self, offset, length, uint32_t volume=0):
        """bytes of one volume at this state. Raises OutOfBounds, CorruptionError, PointExpired."""
        cdef uint64_t size = self.data.core.volumes[volume].size
        cdef uint64_t start = as_unsigned(offset, "offset", size)
        cdef uint64_t count = as_unsigned(length, "length", size)
        if start > size or count > size - start:
            raise_bounds(offset, length, size)
        content = PyBytes_FromStringAndSize(NULL, count)
        self._fetch(volume, start, <uint8_t*>PyBytes_AS_STRING(content), count)
        return content

    def readinto(self, offset, buffer, uint32_t volume=0):
        """Fill a writable C-contiguous buffer from `offset` on. Raises as `read`."""
        cdef uint64_t size = self.data.core.volumes[volume].size
        cdef uint64_t start = as_unsigned(offset, "offset", size)
        cdef Py_buffer view
        take_buffer(buffer, &view, PyBUF_WRITABLE)
        try:
            if start > size or <uint64_t>view.len > size - start:
                raise_bounds(offset, view.len, size)
            self._fetch(volume, start, <uint8_t*>view.buf, view.len)
        finally:
            PyBuffer_Release(&view)

    cdef int _fetch(self, uint32_t volume, uint64_t start, uint8_t* target,
                    uint64_t count) except -1:
        cdef int status
        with self.engine:
            self._check()
            if count < NOGIL_MIN_BYTES:
                status = image_fetch(&self.data, volume, start, target, count)
            else:
                with nogil:
                    status = image_fetch(&self.data, volume, start, target, count)
            raise_status(status, self.data.core)
        return 0

    def materialise(self, uint32_t volume=0):
        """MemoryDevice: a copy of one whole volume at this state."""
        cdef MemoryDevice device
        cdef int status
        with self.engine:
            self._check()
            device = MemoryDevice(self.data.core.volumes[volume].size)
            with nogil:
                status = image_materialise(&self.data, volume, device.data)
            raise_status(status, self.data.core)
        return device

    def blocks(self, uint32_t volume=0):
        """ndarray of int64: blocks of 4096 bytes where production may differ from this state."""
        cdef list parts = []
        cdef Image image = self
        while image is not None:
            if image.data.kind == IMAGE_FROZEN:
                parts.append(_blocks_of_chunks(image.data.touched[volume],
                                               image.data.core.volumes[volume].chunks))
                parts.append(self.engine.write_kept(volume))
            elif image.data.kind == IMAGE_LIVE:
                raise_status(live_ready(image.data.live), self.data.core)
                parts.append(_blocks_of_map(&image.data.live.map, volume))
            elif image.data.kind == IMAGE_PATCHED:
                parts.append(_blocks_of_map(&image.data.map, volume))
            image = image.base
        return numpy.unique(numpy.concatenate(parts)) if parts else numpy.empty(0, numpy.int64)

    def differences(self, uint32_t volume=0):
        """(offsets, lengths), int64: the ranges where production differs from this state."""
        cdef RangeList ranges
        cdef int status
        cdef const int64_t[::1] blocks = self.blocks(volume)
        cdef uint64_t count = blocks.shape[0]
        cdef const int64_t* first = &blocks[0] if count else NULL
        memset(&ranges, 0, sizeof(RangeList))
        with nogil:
            status = image_differences(&self.data, volume, first, count, &ranges)
        try:
            raise_status(status, self.data.core)
            return (_copy_of_int64(ranges.offsets, ranges.count),
                    _copy_of_int64(ranges.lengths, ranges.count))
        finally:
            free(ranges.offsets)
            free(ranges.lengths)

    def write_back(self, uint32_t volume, const int64_t[::1] offsets, const int64_t[::1] lengths):
        """Journal and write this state over ranges of production. The caller holds the lock."""
        cdef uint64_t count = offsets.shape[0]
        cdef int status
        if count == 0:
            return
        with nogil:
            status = image_write_back(&self.data, volume, &offsets[0], &lengths[0], count)
        raise_status(status, self.data.core)

    def _damage(self, uint32_t volume, uint64_t offset, int mask):
        """Flip bits in a byte of a frozen image; for tests."""
        if self.data.kind != IMAGE_FROZEN or offset >= self.data.core.volumes[volume].size:
            raise IndexError(volume, offset)
        self.data.data[volume][offset] ^= mask

    def verify(self):
        """list of (volume, offset): blocks of a frozen image that do not match their checksum."""
        cdef Core* core = self.data.core
        cdef uint64_t block, blocks
        cdef uint32_t volume
        bad = []
        with self.engine:
            self._check()
            for volume in range(core.volume_count):
                blocks = (core.volumes[volume].size + SNAPSHOT_BLOCK_BYTES - 1) \
                    // SNAPSHOT_BLOCK_BYTES
                for block in range(blocks):
                    if not self.data.touched[volume][block * SNAPSHOT_BLOCK_BYTES >> CHUNK_SHIFT]:
                        continue
                    if frozen_check(&self.data, volume, block) != OK:
                        bad.append((volume, block * SNAPSHOT_BLOCK_BYTES))
        return bad


def restore_outcome(Engine engine not None, const int64_t[::1] lengths):
    """int: the oldest state once writes of these lengths are in. Raises JournalFull."""
    cdef uint64_t oldest = engine.core.base_seq
    cdef uint64_t count = lengths.shape[0]
    cdef int status = OK
    if count:
        with nogil:
            status = restore_simulate(engine.core, &lengths[0], count, &oldest)
    raise_status(status, engine.core)
    return oldest


cdef void map_flag_verified(ExtentMapData* map) noexcept nogil:
    cdef uint64_t k
    for k in range(map.count):
        map.fragments[k].flags |= FRAGMENT_VERIFIED


cdef _blocks_of_map(const ExtentMapData* map, uint32_t volume):
    cdef uint64_t k
    blocks = numpy.empty(map.count, numpy.int64)
    cdef int64_t[::1] numbers = blocks
    cdef uint64_t used = 0
    for k in range(map.count):
        if map.fragments[k].volume == volume:
            numbers[used] = <int64_t>(map.fragments[k].offset >> BLOCK_SHIFT)
            used += 1
    return blocks[:used]


cdef _copy_of_int64(const int64_t* numbers, uint64_t count):
    if count == 0:
        return numpy.empty(0, numpy.int64)
    return numpy.frombuffer(PyMemoryView_FromMemory(<char*>numbers, count * sizeof(int64_t),
                                                    PyBUF_READ), numpy.int64).copy()
