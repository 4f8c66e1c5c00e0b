# Preserved states as the Python layer sees them.
#
# Takes: device, errors, preserved, preserved_save, engine, maps

@cython.no_gc_clear
cdef class PreservedState:
    """A preserved state of a file store: what leaves the log since goes to a file of its own.

    Parameters
    ----------
    engine : Engine
    device : FileDevice or CallbackDevice
        The file.
    seed : int
        Of its checksums.
    seq : int
        The state.
    after : int
        Blocks that are not in the file are as they were at this state, or are so in the log.
    length : int
        Bytes of the file that count.
    volumes : collection of int, optional
        The indices of the volumes that are preserved; all by default.
    """

    cdef Preserved* data
    cdef readonly Engine engine
    cdef readonly object device

    def __cinit__(self, Engine engine not None, device, uint64_t seed, uint64_t seq,
                  uint64_t after, uint64_t length=0, volumes=None):
        cdef uint8_t* only = _only(engine.core, volumes)
        cdef int status
        self.engine = engine
        self.device = device
        with engine:
            status = preserved_create(&self.data, engine.core, seed, seq, after, 0, only)
            raise_status(status, engine.core)
            self.data.file = as_device(device, engine.core)
            self.data.size = device.size
            if length:
                status = preserved_load(self.data, length)
            if status == E_IO and engine.core.fault.error == ENDED_EARLY:
                status = E_CORRUPT
            if status != OK:
                preserved_close(self.data)
            raise_status(status, engine.core)

    def __dealloc__(self):
        if self.data is NULL:
            return
        if self.data.dead:
            free(self.data)
        else:
            self.data.dropped = True    # freed by who next walks the list, with the lock

    def save(self, _State source not None, volumes, blocks):
        """Write blocks of `source`, which shows this state, to the file, durably.

        Raises CorruptionError, OSError, MemoryError.
        """
        cdef const int64_t[::1] wanted_volumes = volumes
        cdef const int64_t[::1] wanted_blocks = blocks
        cdef KeyList keys
        cdef uint64_t k, count = wanted_blocks.shape[0]
        cdef int status = OK
        memset(&keys, 0, sizeof(KeyList))
        with self.engine:
            for k in range(count):
                if status == OK:
                    status = keys_add(self.data, &keys, <uint32_t>wanted_volumes[k],
                                      <uint64_t>wanted_blocks[k] << BLOCK_SHIFT, 1)
            with nogil:
                if status == OK:
                    status = preserved_put(self.data, &source.data, &keys)
            free(keys.keys)
            raise_status(status, self.engine.core)

    @property
    def after(self):
        """int: blocks that are not in the file are as they were at this state."""
        return self.data.after

    @property
    def length(self):
        """int: bytes of the file that count; they are durable."""
        return self.data.length

    @property
    def lost(self):
        """bool: whether what it needs was damaged when it left the log."""
        return self.data.failed != OK

    def close(self):
        """Save nothing any more; it cannot be read then. Closing twice is fine."""
        with self.engine:
            if not self.data.dead:
                preserved_close(self.data)
        self.device.close()
