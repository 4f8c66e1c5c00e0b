# Images as the Python layer sees them: states.
#
# Takes: lock, memory, device, errors, signal_poll, ring, extent_map, live, preserve,
# changed_blocks, snapshot_files, image, suspects, write_back, restore, disk_restore, fold,
# copy_on_write, copy, lifetime, arguments, engine, volume_io, maps, image_parts, preserved_state

@cython.no_gc_clear
cdef class Image(_State):
    """One state of all volumes, readable; what it does not hold itself comes from its base.

    Every method takes the engine's lock and raises StoreClosed once the store is closed.
    """

    cdef readonly uint64_t seq
    cdef public object tag         # stored: the number that its files have
    # Stored: a device for each volume, then one for its checksums; None where it leaves that out.
    cdef readonly list files
    cdef PreservedState preserved_by    # preserved: what holds it
    cdef public object preserved_as    # live: the number of what preserves it durably, or None
    cdef list copied_to            # the same, while it is being copied
    cdef uint64_t users
    cdef readonly bint is_writable

    def __cinit__(self, Engine engine not None):
        self.engine = engine
        self.data.core = engine.core

    def acquire(self):
        """Count one more who needs this image and its bases."""
        cdef Image image = self
        with self.engine:
            while image is not None:
                image.users += 1
                image = image.base

    def release(self):
        """Count one less; what nobody needs pins nothing, even where a traceback still has it."""
        cdef Image image = self
        cdef Live* live
        with self.engine:
            while image is not None:
                image.users -= 1
                if image.users == 0 and image.data.live is not NULL:
                    image._forget_note()
                    live = image.data.live
                    image.data.live = NULL
                    live_close(live)
                image = image.base
        with nogil:
            preserve_tidy(self.data.core)

    def __dealloc__(self):
        self._drop()

    cdef int _take_note(self) except -1:
        """Have what changes after this state noted: a restore looks at nothing else."""
        with self.engine:
            self.data.note = changed_register(self.data.core, self.seq)
        if self.data.note is NULL:
            raise_status(E_NO_MEMORY, self.data.core)
        return 0

    cdef void _forget_note(self) noexcept:
        cdef CopyNote* note = self.data.note
        self.data.note = NULL
        changed_unregister(&self.data.core.changed, note)

    @staticmethod
    def stored(Engine engine not None, uint64_t seq, uint64_t seed, list copies, list sums):
        """A copy of all volumes at state `seq`, in files, with checksums in others."""
        cdef Image image = Image(engine)
        image.data.kind = IMAGE_STORED
        image.seq = seq
        image.files = [*copies, *sums]
        raise_status(stored_create(&image.data), engine.core)
        image.data.seed = seed
        image._name_files(copies, sums)
        image._take_note()
        return image

    def store(self, Image source not None, uint32_t volume, uint64_t number, bint copy):
        """Store the blocks that a block of checksums covers from `source`; a stored image's.

        Without `copy` they are there already, and their checksums are stored.
        """
        cdef int status
        cdef MemoryDevice buffer = MemoryDevice((SUM_BLOCK_SUMS + 1) * SNAPSHOT_BLOCK_BYTES)
        with self.engine:
            self._check()
            with nogil:
                status = stored_write(&self.data, &source.data, volume, number, buffer.data, copy)
            raise_status(status, self.data.core)

    def advance_check(self, ExtentMap extents not None):
        """Hold what `advance` will read and write over against its checksums."""
        cdef int status = OK
        with self.engine:
            self._check()
            if self.data.kind == IMAGE_STORED:
                with nogil:
                    status = stored_advance_check(&self.data, &extents.data)
            raise_status(status, self.data.core)

    def advance(self, ExtentMap extents not None, uint64_t seq, bint again=False, stamp=None):
        """Become state `seq` by laying `extents` over this copy, in memory or durably in files.

        In memory nothing has changed where it raises. In files an error leaves a mixture, of which
        `again` makes the state: it reads what is written over without its checksums. With a
        `stamp`, raises Moved where anything has changed since, or a recovery needs it as it is.
        """
        cdef int status
        with self.engine:
            self._check()
            if stamp is not None:
                self.engine.check_stamp(stamp)
                if self.users > 1:
                    raise Moved("somebody has taken hold of the image meanwhile")
            with nogil:
                if self.data.kind == IMAGE_STORED:
                    status = stored_advance(&self.data, &extents.data, again)
                else:
                    status = frozen_advance(&self.data, &extents.data)
            raise_status(status, self.data.core)
            self.seq = seq
            if self.data.note is not NULL:
                changed_moved(self.data.core, self.data.note, seq)

    def advanced(self, ExtentMap extents not None, uint64_t seq):
        """Image: what `advance` with `again` would make of this copy, whose files stay as is."""
        cdef ExtentMap blocks = ExtentMap(self.engine)
        cdef int status
        with self.engine:
            self._check()
            with nogil:
                status = stored_show(&self.data, &extents.data, &blocks.data)
            raise_status(status, self.data.core)
            return Image.patched(self, blocks, seq, True)

    @property
    def is_shared(self):
        """bool: whether a recovery or a view needs this image as it is, beside its snapshot."""
        return self.users > 1

    cdef void _drop(self) noexcept:
        cdef Live* live = self.data.live
        if self.data.core is NULL:
            return
        self.data.live = NULL
        self._forget_note()
        core_drop(self.data.core, live, &self.data.map)
        frozen_free(&self.data)
        stored_free(&self.data)

    @staticmethod
    def production(Engine engine not None):
        """Production as it is whenever it is read."""
        cdef Image image = Image(engine)
        image.data.kind = IMAGE_PRODUCTION
        image.seq = engine.core.ring.seq
        return image

    @staticmethod
    def live(Engine engine not None, uint64_t seq, bint preserves, volumes=None):
        """State `seq` through the journal, without a copy.

        If it `preserves`, ranges are copied before the journal lets them go, and it never expires.
        With `volumes`, a collection of indices, only they are followed.
        """
        cdef Image image = Image(engine)
        cdef int status
        image.base = Image.production(engine)
        image.data.kind = IMAGE_LIVE
        image.data.base = &image.base.data
        image.seq = seq
        status = live_open(&image.data.live, engine.core, seq, preserves,
                           _only(engine.core, volumes))
        raise_status(status, engine.core)
        image_catch_up(&image.data)
        with nogil:
            status = live_ready(image.data.live)
            preserve_tidy(engine.core)
        raise_status(status, engine.core)
        if preserves:
            image._take_note()
        return image

    @staticmethod
    def frozen(Engine engine not None, covered=None):
        """An independent, checksummed copy of the volumes as they are now.

        `covered` has the indices of those that it is of; all by default.
        """
        cdef Image image = Image(engine)
        cdef const uint8_t[::1] flags = _covered_flags(engine, covered)
        image.data.kind = IMAGE_FROZEN
        image.seq = engine.core.ring.seq
        frozen_create(&image.data, &flags[0])
        image._take_note()
        return image

    @staticmethod
    def of_preserved(PreservedState state not None):
        """A state that is preserved in files."""
        cdef Image image = Image(state.engine)
        image.data.kind = IMAGE_PRESERVED
        image.data.preserved = state.data
        image.preserved_by = state
        image.seq = state.data.seq
        return image

    # Copies that are made behind the writer's back: of a live image that preserves.

    def begin_copy(self, covered=None):
        """Begin to make this live image a frozen one. `covered` is as for `frozen`."""
        cdef const uint8_t[::1] flags = _covered_flags(self.engine, covered)
        cdef int status
        with self.engine:
            status = frozen_begin(&self.data, &flags[0])
            if status != OK:
                frozen_free(&self.data)
            raise_status(status, self.data.core)
            self.data.copying = True

    def copy_on(self, uint64_t pieces, bint gently):
        """bool: whether nothing is left to do, after copying up to `pieces` pieces more.

        Each holds the lock for a moment; `gently`, with rests in between. Where the lock is not to
        be had, fewer are copied. By one thread at a time. Raises StoreClosed, MemoryError, OSError.
        """
        cdef int status
        with nogil:
            status = frozen_continue(&self.data, pieces, gently)
        return self._copied(status, 0)

    def begin_stored(self, uint64_t seed, list copies, list sums):
        """Begin to make this live image a stored one, in these files: None where it has none.

        bool: False where the lock was not to be had.
        """
        if not self.engine.enter_soon():
            return False
        try:
            raise_status(stored_create(&self.data), self.data.core)
            self.data.seed = seed
            self._name_files(copies, sums)
            self.data.copying = True
            self.copied_to = [*copies, *sums]
        finally:
            self.engine.leave()
        return True

    def store_on(self, uint32_t volume, uint64_t number, bint gently, bint fresh):
        """bool or None: copy what a block of checksums covers into the files.

        True once it is there, False where the lock was not to be had, None where nobody needs the
        copy any more. Where the file is not `fresh`, what is right in it already stays.
        """
        cdef int error = 0
        cdef int status
        with nogil:
            status = stored_continue(&self.data, volume, number, gently, fresh, &error)
        if status == COPY_MORE:
            return True
        return None if self._copied(status, error) else False

    def end_stored(self):
        """All is in the files, durably: from now on it is read from there. Takes the lock."""
        with self.engine:
            self._check()
            if self.data.copying and self.data.live is not NULL:
                copy_finish(&self.data, IMAGE_STORED)
                self.files, self.copied_to = self.copied_to, None
                self.base = None
        with nogil:
            preserve_tidy(self.data.core)

    cdef _copied(self, int status, int error):
        if status == E_IO and error:
            raise_io(error, "a snapshot's file")
        if status < 0:
            raise_status(status, self.data.core)
        if status == COPY_DONE and self.data.kind == IMAGE_FROZEN:
            self.base = None
        return status == COPY_DONE

    cdef void _name_files(self, list copies, list sums):
        cdef uint32_t k
        for k in range(self.data.core.volume_count):
            if copies[k] is not None:
                self.data.copies[k] = as_device(copies[k], self.data.core)
                self.data.sum_files[k] = as_device(sums[k], self.data.core)

    @property
    def is_live(self):
        """bool: whether it is read through the journal: a snapshot's, while it is no copy yet."""
        return self.data.kind == IMAGE_LIVE

    @property
    def followed(self):
        """list of int or None: the volumes that a live image follows; None: all."""
        cdef Live* live = self.data.live
        cdef const uint8_t* only
        if live is NULL:
            return None
        only = live.only if live.preserves else live.map.only    # a keeper's map has others', too
        if only is NULL:
            return None
        return [k for k in range(self.data.core.volume_count) if only[k]]

    @property
    def is_needed(self):
        """bool: whether it can be read: a live image that all have let go of cannot."""
        return self.data.kind != IMAGE_LIVE or self.data.live is not NULL

    @property
    def copy_damage(self):
        """tuple of int: blocks that could not be copied, and an entry that one of them needed."""
        return self.data.copy_bad, self.data.copy_bad_seq

    @staticmethod
    def frozen_of(Image source not None):
        """The same of another state: a copy of what `source` shows."""
        cdef Image image = Image(source.engine)
        cdef int status
        image.data.kind = IMAGE_FROZEN
        image.seq = source.seq
        with nogil:
            status = frozen_from(&image.data, &source.data)
        raise_status(status, image.data.core)
        image._take_note()
        return image

    @staticmethod
    def patched(Image base not None, ExtentMap extents not None, uint64_t seq, bint settle):
        """State `seq`: `base` with `extents` over it. The image takes the map over.

        With `settle` the map's bytes are copied out of the journal, verified, so that the image
        depends on nothing but its base; else it holds only until the next write.
        """
        cdef Image image = Image(base.engine)
        extents.check(base)
        if settle:
            extents.settle(0, extents.data.count)
        image.data.kind = IMAGE_PATCHED
        image.base = base
        image.data.base = &base.data
        image.data.map = extents.data
        memset(&extents.data, 0, sizeof(ExtentMapData))
        image.seq = seq
        return image

    @staticmethod
    def writable(Image base not None):
        """What `base` shows, to be written to: copy on write."""
        cdef Image image = Image(base.engine)
        raise_status(map_create(&image.data.map, base.engine.core), base.engine.core)
        image.data.kind = IMAGE_PATCHED
        image.base = base
        image.data.base = &base.data
        image.seq = base.seq
        image.is_writable = True
        return image

    cdef Image _layer(self):
        """What a writable image has become, as ground for others: a few layers over its base.

        A layer is merged with the one below unless that is more than twice as large. So there are
        no more layers than a volume's blocks have binary digits, and a block is copied as often.
        """
        cdef Image ground = self, merged
        cdef int status = OK
        while ((<Image>ground.base).is_writable
               and ground.base.data.map.count <= 2 * ground.data.map.count):
            merged = Image.writable(ground.base.base)
            with nogil:
                status = cow_merge(&merged.data.map, &ground.data.map)
                if status == OK:
                    status = cow_merge(&merged.data.map, &ground.base.data.map)
            raise_status(status, self.data.core)
            merged.seq = ground.seq
            ground = merged
        return ground

    def apply(self, ExtentMap changes not None, uint64_t seq, stamp=None):
        """A writable image becomes state `seq`, which differs from its own by `changes`.

        What a bridge starts from must have been checked. All of it is applied, or nothing. Raises
        Moved where anything has changed since the `stamp` was taken.
        """
        cdef int status
        with self.engine:
            self._check()
            if stamp is not None:
                self.engine.check_stamp(stamp)
            with nogil:
                status = cow_apply(&self.data, &changes.data)
            raise_status(status, self.data.core)
            self.seq = seq

    def write(self, offset, data, uint32_t volume=0):
        """Write to a writable image. Raises OutOfBounds, MemoryError, what `read` raises."""
        cdef uint64_t size = self.data.core.volumes[volume].size
        cdef uint64_t start = as_unsigned(offset, "offset", size)
        cdef Py_buffer view
        cdef int status
        take_buffer(data, &view, 0)
        try:
            if start > size or <uint64_t>view.len > size - start:
                raise_bounds(offset, view.len, size)
            with self.engine:
                with nogil:
                    status = cow_write(&self.data, volume, start, <const uint8_t*>view.buf,
                                       view.len)
                raise_status(status, self.data.core)
        finally:
            PyBuffer_Release(&view)

    def write_zeroes(self, offset, length, uint32_t volume=0):
        """Zero a range of a writable image. Raises as `write`."""
        cdef uint64_t size = self.data.core.volumes[volume].size
        cdef uint64_t start = as_unsigned(offset, "offset", size)
        cdef uint64_t count = as_unsigned(length, "length", size)
        cdef int status
        if start > size or count > size - start:
            raise_bounds(offset, length, size)
        with self.engine:
            with nogil:
                status = cow_write(&self.data, volume, start, NULL, count)
            raise_status(status, self.data.core)

    def expires_after(self, uint64_t seq):
        """A patched image reads the journal: it lasts while the entries after `seq` are there."""
        self.data.passes = True
        self.data.needs = seq

    @property
    def own_bytes(self):
        """int: bytes that the image does not share with its base."""
        return self.data.map.bytes

    @property
    def is_production(self):
        """bool: whether it shows production as it is now."""
        return self.data.kind == IMAGE_PRODUCTION

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
        cdef Core* core = self.data.core
        cdef int status = OK
        enter(core)
        try:
            if core.settings.guarded and core.calls.entered == 0:
                self.engine._settle()
            if core.closed:
                status = E_CLOSED
            elif count > POLL_BYTES or image_behind(&self.data) > FOLLOWED_AT_ONCE:
                status = fetch_on(&self.data, volume, start, target, count)
            elif count < NOGIL_MIN_BYTES:
                status = image_fetch(&self.data, volume, start, target, count)
            else:
                with nogil:
                    status = image_fetch(&self.data, volume, start, target, count)
            if status == E_EXPIRED:
                raise PointExpired(f"state {self.seq} can no longer be seen: the journal has let "
                                   f"go of entry {core.ring.base_seq}; pin it, recover it, or use "
                                   "a larger journal")
            raise_status(status, core)
        finally:
            core_unlock(core)
        return 0

    def materialise(self, uint32_t volume=0):
        """MemoryDevice: a copy of one whole volume at this state."""
        cdef MemoryDevice device
        cdef Core* core = self.data.core
        cdef Poll poll
        with self.engine:
            self._check()
            device = MemoryDevice(core.volumes[volume].size)
            poll_begin(&poll, core)
            try:
                image_follow(&self.data, &poll)
                while not lay_out(self, volume, device.data, &poll):
                    device = MemoryDevice(device.length)    # what it began with has changed
            finally:
                poll_end(&poll, core)
        return device

    def blocks(self, uint32_t volume=0):
        """ndarray of int64: blocks of 4096 bytes where production may differ from this state.

        Whatever the journal says of it: all that a copy holds, and all that was ever written.
        """
        cdef list parts = []
        cdef Image image = self
        while image is not None:
            parts += (<BlocksOf>image_blocks[image.data.kind])(image, volume, False)
            image = image.base
        return numpy.unique(numpy.concatenate(parts)) if parts else numpy.empty(0, numpy.int64)

    cdef _preserved_blocks(self, uint32_t volume):
        suspects = self.suspects([volume])
        if suspects is None:
            return self.engine.data_blocks(volume)
        return _blocks_of_map(&(<ExtentMap>suspects).data, volume)

    def noted_blocks(self):
        """(volumes, blocks), int64: blocks written since by entries that have left the journal.

        None where nobody knows.
        """
        cdef ChangedBlocks* changed = &self.data.core.changed
        cdef const CopyNote* note = self.data.note
        cdef uint64_t k, places = changed.mask + 1 if changed.blocks is not NULL else 0
        if note is NULL or not note.known or note.seq < changed.complete_from:
            return None
        keys = [changed.blocks[k].key - 1 for k in range(places)
                if changed.blocks[k].key and changed.blocks[k].seq > note.seq]
        keys = numpy.array(keys, numpy.int64)
        return keys >> 48, keys & 0xFFFFFFFFFFFF

    def data_blocks(self, uint32_t volume=0):
        """ndarray of int64: blocks of 4096 bytes that may hold anything but zeroes in this state.

        What production holds now tells nothing of a past state where its bytes have become zeroes
        since, which file systems may turn into holes: the journal's entries cover those.
        """
        cdef Image image = self
        cdef Core* core = self.data.core
        cdef uint64_t last = (core.volumes[volume].size + BLOCK_BYTES - 1) // BLOCK_BYTES
        cdef list parts = []
        with self.engine:
            self._check()
            while image is not None:
                parts += (<BlocksOf>image_blocks[image.data.kind])(image, volume, True)
                image = image.base
        blocks = numpy.unique(numpy.concatenate(parts)) if parts else numpy.empty(0, numpy.int64)
        return blocks[blocks < last]

    cdef _stored_held(self, uint32_t volume):
        """The same of a copy in files: what has bytes, and what has checksums that want some."""
        cdef uint64_t size = self.data.core.volumes[volume].size
        if self.files[volume] is None:
            return numpy.empty(0, numpy.int64)
        numbers = self._stored_numbers(self.files, volume, size)
        return (numbers[:, None] * SUM_BLOCK_SUMS + numpy.arange(SUM_BLOCK_SUMS)).ravel()

    def suspects(self, volumes=None):
        """ExtentMap or None: where production may differ from this state; None: anywhere.

        That is what journal and notes say was written since the copies that it is made of, and what
        it differs from them itself. With `volumes`, a collection of indices, only of these.
        """
        cdef ExtentMap found = ExtentMap(self.engine)
        cdef int status
        found.data.only = _only(self.data.core, volumes)
        with self.engine:
            image_catch_up(&self.data)
            with nogil:
                status = image_suspects(&self.data, &found.data)
            if status == UNKNOWN_RANGES:
                return None
            raise_status(status, self.data.core)
        return found

    def differences(self, uint32_t volume, offsets, lengths):
        """(offsets, lengths), int64: the ranges where production differs from this state.

        Only inside those given is looked, which rise, each inside a block of 4096 bytes.
        """
        cdef RangeList ranges
        cdef int status = OK
        cdef const int64_t[::1] starts = offsets
        cdef const int64_t[::1] sizes = lengths
        cdef uint64_t count = starts.shape[0]
        cdef uint64_t first = 0, last
        cdef Poll poll
        memset(&ranges, 0, sizeof(RangeList))
        poll_begin(&poll, self.data.core)
        try:
            while first < count and status == OK:
                last = min(first + POLL_ENTRIES, count)    # of at most BLOCK_BYTES each
                with nogil:
                    status = image_differences(&self.data, volume, &starts[first], &sizes[first],
                                               last - first, &ranges)
                first = last
                if first < count:
                    poll_unmoved(&poll, self.data.core)
            raise_status(status, self.data.core)
            return (_copy_of_int64(ranges.offsets, ranges.count),
                    _copy_of_int64(ranges.lengths, ranges.count))
        finally:
            free(ranges.offsets)
            free(ranges.lengths)

    def restore(self, const int64_t[::1] volumes, const int64_t[::1] offsets,
                const int64_t[::1] lengths, stamp):
        """(first_seq, last_seq): in memory, journal and write this state over ranges of production.

        All of it, or nothing. Raises Moved where anything has changed since the `stamp` was taken.
        """
        cdef Restoring what
        cdef int status = OK
        cdef uint64_t first
        with self.engine:
            self._check()
            ask_clock(&self.data.core.clock)
            self.engine.check_stamp(stamp)
            first = self.data.core.ring.seq + 1
            what.count = offsets.shape[0]
            if what.count:
                what.volumes, what.offsets, what.lengths = &volumes[0], &offsets[0], &lengths[0]
                with nogil:
                    status = image_restore(&self.data, &what)
            raise_status(status, self.data.core)
            return first, self.data.core.ring.seq

    def write_back(self, uint32_t volume, const int64_t[::1] offsets, const int64_t[::1] lengths):
        """On disk, the same. The caller holds the lock, and an intent stands for all of it."""
        cdef uint64_t count = offsets.shape[0]
        cdef int status
        if count == 0:
            return
        with nogil:
            status = disk_image_restore(&self.data, volume, &offsets[0], &lengths[0], count)
        raise_status(status, self.data.core)

    def _damage(self, uint32_t volume, uint64_t offset, int mask):
        """Flip bits in a byte of a frozen image; for tests."""
        if self.data.kind != IMAGE_FROZEN or offset >= self.data.core.volumes[volume].size:
            raise IndexError(volume, offset)
        self.data.data[volume][offset] ^= mask

    def verify(self):
        """list of (volume, offset): blocks of a copy that do not match their checksum.

        Of a live image there are none: it has no blocks of its own.
        """
        cdef Core* core = self.data.core
        cdef uint64_t block, stop, blocks
        cdef uint32_t volume
        cdef int status
        cdef Poll poll
        bad = []
        if self.data.kind == IMAGE_STORED:
            return self._verify_stored(self.files)
        if self.data.kind == IMAGE_PATCHED and self.base.data.kind == IMAGE_STORED:
            return self._verify_stored((<Image>self.base).files)
        with self.engine:
            self._check()
            for volume in range(core.volume_count if self.data.kind == IMAGE_FROZEN else 0):
                if self.data.data[volume] is NULL:
                    continue
                blocks = (core.volumes[volume].size + SNAPSHOT_BLOCK_BYTES - 1) \
                    // SNAPSHOT_BLOCK_BYTES
                block = 0
                while block < blocks:
                    with nogil:
                        status = frozen_check_on(&self.data, volume, &block, blocks)
                    if status != OK:
                        bad.append((volume, (block - 1) * SNAPSHOT_BLOCK_BYTES))
                    poll_begin(&poll, core)    # each block is checked by itself
                    poll_signals(&poll, core)
        return bad

    def patches(self):
        """(volumes, offsets, lengths), int64: where a patched image differs from its base."""
        return _ranges_of_map(&self.data.map)

    cdef _stored_numbers(self, list files, uint32_t volume, uint64_t size):
        """ndarray of int64: the blocks of checksums of what may be, or ought to be, no zeroes."""
        cdef uint64_t covered = SUM_BLOCK_SUMS * SNAPSHOT_BLOCK_BYTES
        cdef uint64_t sums_size = (size + covered - 1) // covered * SUM_BLOCK_BYTES
        copy, sums = files[volume], files[self.data.core.volume_count + volume]
        numbers = [numpy.arange(start // covered, (stop + covered - 1) // covered)
                   for start, stop in _extents_within(copy, size)]
        numbers += [numpy.arange(start // SUM_BLOCK_BYTES,
                                 (stop + SUM_BLOCK_BYTES - 1) // SUM_BLOCK_BYTES)
                    for start, stop in _extents_within(sums, sums_size)]
        if not numbers:
            return numpy.empty(0, numpy.int64)
        return numpy.unique(numpy.concatenate(numbers)).astype(numpy.int64)

    def _stored_blocks(self, list files, uint32_t volume, uint64_t size):
        """Yield where the blocks start that may be anything but zeroes, or ought to be."""
        cdef uint64_t covered = SUM_BLOCK_SUMS * SNAPSHOT_BLOCK_BYTES
        for number in self._stored_numbers(files, volume, size):
            begin = int(number) * covered
            yield from range(begin, min(begin + covered, size), SNAPSHOT_BLOCK_BYTES)

    def _verify_stored(self, list files):
        cdef Core* core = self.data.core
        cdef uint64_t start, size
        cdef uint32_t volume
        cdef int status
        cdef uint8_t[SNAPSHOT_BLOCK_BYTES] content
        bad = []
        for volume in range(core.volume_count):
            if files[volume] is None:
                continue
            size = core.volumes[volume].size
            if files[volume].size < size:
                bad.append((volume, files[volume].size // SNAPSHOT_BLOCK_BYTES
                            * SNAPSHOT_BLOCK_BYTES))
            for start in self._stored_blocks(files, volume, size):
                with self.engine:
                    self._check()
                    with nogil:
                        status = image_fetch(&self.data, volume, start, content,
                                             min(size - start, <uint64_t>SNAPSHOT_BLOCK_BYTES))
                    if status == E_CORRUPT or (status == E_IO
                                               and core.fault.error == ENDED_EARLY):
                        bad.append((volume, start))
                    else:
                        raise_status(status, core)
        return bad


# By kind: where an image may differ from its base (`held`: where it may hold anything but zeroes),
# a list of arrays of blocks.

ctypedef list (*BlocksOf)(Image image, uint32_t volume, bint held)

cdef list _present_blocks(Image image, uint32_t volume, bint held):
    return [image.engine.data_blocks(volume)] if held else []


cdef list _stored_blocks(Image image, uint32_t volume, bint held):
    if held:
        return [image._stored_held(volume)]
    data = image.engine.data_blocks(volume)
    if image.files[volume] is None:
        return [data]
    size = image.data.core.volumes[volume].size
    return [_blocks_of_extents(_extents_within(image.files[volume], size)), data]


cdef list _frozen_blocks(Image image, uint32_t volume, bint held):
    parts = [] if held else [image.engine.data_blocks(volume)]
    if image.data.touched[volume] is not NULL:
        parts.append(_blocks_of_chunks(image.data.touched[volume],
                                       image.data.core.volumes[volume].chunks))
    return parts


cdef list _preserved_image_blocks(Image image, uint32_t volume, bint held):
    blocks = image._preserved_blocks(volume)
    return [image.engine.data_blocks(volume), blocks] if held else [blocks]


cdef list _live_blocks(Image image, uint32_t volume, bint held):
    cdef Live* live
    parts = []
    raise_status(image_ready(&image.data), image.data.core)
    live = image.data.live
    while live is not NULL:
        parts.append(_blocks_of_map(&live.map, volume))
        live = NULL if held else live_next(live)
    return parts


cdef list _patched_blocks(Image image, uint32_t volume, bint held):
    return [_blocks_of_map(&image.data.map, volume)]


cdef BlocksOf[IMAGE_KINDS] image_blocks
image_blocks[:] = [NULL, _present_blocks, _frozen_blocks, _live_blocks, _patched_blocks,
                   _stored_blocks, _preserved_image_blocks]
