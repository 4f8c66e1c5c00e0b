# A file store's log, as the Python layer makes it durable, records it and closes it.
#
# Takes: sabotage, lock, errors, ring, log, overlay, commit, suspects, index, write_back,
# log_evict, log_retention, log_opening

cdef list _lost_in(const Overlay* overlay):
    cdef uint64_t k, place
    cdef int sector
    found = []
    for k in range(overlay.mask + 1):
        for sector in range(BLOCK_SECTORS):
            if overlay.blocks[k].key and overlay.blocks[k].at[sector] == AT_LOST:
                place = overlay.blocks[k].key - 1
                found.append([place >> 48, (place & <uint64_t>0xFFFFFFFFFFFF) * BLOCK_BYTES
                              + sector * SECTOR_BYTES, SECTOR_BYTES])
    return found


cdef class Log(OpeningLog):
    """What a file store's engine keeps on disk beside its volumes."""

    def evict_to(self, uint64_t number):
        """Let the groups before `number` go, as far as they may."""
        cdef int status
        with nogil:
            status = disk_check(self.core.disk, &self.core.fault)
            if status == OK:
                status = log_commit(self.core)
            if status == OK:
                number = min(number, retained_group(self.core))
            if status == OK and number > self.disk.groups.first:
                status = disk_evict_to(self.core, min(number, self.disk.groups.next))
        raise_status(status, self.core)

    def aliases(self, uint64_t most):
        """list of [first, step, count]: the newest runs of such seqs."""
        cdef uint64_t k, skip = 0
        if self.core.aliases.count > most:
            skip = self.core.aliases.count - most
        return [[alias_run(&self.core.aliases, k).first, alias_run(&self.core.aliases, k).step,
                 alias_run(&self.core.aliases, k).count] for k in range(skip,
                                                                        self.core.aliases.count)]

    def lost(self):
        """list of [volume, offset, length]: sectors of production that are lost."""
        if not self.core.fault.lost_sectors:
            return []
        return sorted(_lost_in(&self.disk.back.active) + _lost_in(&self.disk.back.draining))

    def state(self):
        """dict of int: what the superblock says of the log. The caller holds the lock."""
        cdef Disk* disk = self.disk
        cdef Core* core = self.core
        disk.back.named_seq = disk.back.synced_seq    # whoever asks may write it down
        disk.back.named_end = disk.ram.tail
        return {
            "epoch": disk.epoch,
            "tail": [disk.groups.first, core.ring.tail, core.ring.slot_tail, core.ring.base_seq,
                     core.ring.base_time_ns],
            "lost_production": self.core.fault.lost,
            "durable_number": disk.commit.durable_number,
            "durable_seq": disk.commit.durable_seq,
            "synced_seq": disk.back.synced_seq,
            "head": [disk.groups.next, disk.groups.start, disk.groups.first_slot],
            "index": [disk.index.slot, disk.index.number, disk.index.position],
            "index_sum": disk.index.total,
            "undo": disk.rewind.undo_to if disk.rewind.undo else None,
            "rewound": ([disk.rewind.to, disk.rewind.seq, disk.rewind.time_ns,
                         disk.rewind.follows] if disk.rewind.seq else None),
        }

    def wait(self):
        """Wait until no group is on its way. The caller holds the lock."""
        with nogil:
            log_wait(self.core.disk, &self.core.fault)

    def check(self):
        """Raise what a write would raise: StorePoisoned, ReadOnlyStore, StoreLocked."""
        raise_status(disk_check(self.core.disk, &self.core.fault), self.core)

    def commit(self):
        """Make all entries durable, with the lock held."""
        cdef int status
        with nogil:
            status = disk_check(self.core.disk, &self.core.fault)
            if status == OK:
                status = log_commit(self.core)
        raise_status(status, self.core)

    def commit_to(self, uint64_t seq):
        """Have groups hold the entries up to `seq`, durably, with the lock held.

        A REWIND that the superblocks speak for is in none before that.
        """
        cdef int status
        with nogil:
            status = disk_check(self.core.disk, &self.core.fault)
            if status == OK:
                status = log_wait(self.core.disk, &self.core.fault)
            if status == OK and open_count(&self.core.ring,
                                           self.core.disk) and in_force(RULE_INTENT_DURABLE):
                if header_at(&self.core.ring, self.disk.groups.first_slot).seq <= seq:
                    status = log_commit(self.core)
        raise_status(status, self.core)

    def record(self):
        """Write the superblocks; a failure poisons the store."""
        cdef int status
        with nogil:
            status = disk_check(self.core.disk, &self.core.fault)
            if status == OK:
                status = log_wait(self.core.disk, &self.core.fault)
            if status == OK:
                status = disk_record(self.core)
        raise_status(status, self.core)

    def write_back(self):
        """Bring the volumes' files to the newest state, durably."""
        cdef int status
        with nogil:
            status = disk_check(self.core.disk, &self.core.fault)
            if status == OK:
                status = write_back_all(self.core)
        raise_status(status, self.core)

    def poison(self, int error):
        """A write or sync of another of the store's files has failed.

        Too many open files are no such failure: nothing was written then, nor will it be.
        """
        if not self.core.fault.poisoned and error != EMFILE and error != ENFILE:
            self.core.fault.poisoned = error if error else EIO
            note_poison(self.core, None)

    def save_index(self):
        """Write the headers of all closed groups to the index, durably."""
        cdef int status
        with nogil:
            status = index_save(self.core)
            if status != OK:
                poison(&self.core.fault, status)
        raise_status(status, self.core)

    def finish_copies(self, finish):
        """Before entries after `copy_floor` leave the log, `finish()` is called to move it on."""
        self.engine.finish_copy = finish
        self.disk.hooks.finish_copy = <void*>finish

    @property
    def poisoned(self):
        """int: the errno of what poisoned the store, or 0."""
        return self.core.fault.poisoned

    @property
    def read_only(self):
        return self.disk.read_only

    @property
    def forked(self):
        """bool: whether this is a child of the process that opened the store."""
        return self.disk.forks != jrnl_forks

    @property
    def durable_seq(self):
        return self.disk.commit.durable_seq

    @property
    def synced_seq(self):
        return self.disk.back.synced_seq

    @property
    def position(self):
        """tuple of int: number, position and first slot of the open group."""
        return self.disk.groups.next, self.disk.groups.start, self.disk.groups.first_slot

    @property
    def group_max(self):
        return self.disk.groups.max

    @property
    def entry_max(self):
        """int: bytes, the longest images of one entry."""
        return 2 * self.core.limits.write_max + 4 * SECTOR_BYTES

    @property
    def area(self):
        return self.core.ring.area

    @property
    def tail(self):
        return self.core.ring.tail

    @property
    def lost_production(self):
        """bool: whether nobody knows what production holds now."""
        return self.core.fault.lost

    @lost_production.setter
    def lost_production(self, bint lost):
        self.core.fault.lost = lost

    @property
    def in_memory(self):
        """int: bytes of images that the volumes' files have not got yet."""
        return group_end(self.disk.groups.cursor,
                         open_count(&self.core.ring, self.core.disk)) - self.disk.ram.tail

    @property
    def lags(self):
        """bool: whether there is any block that the volumes' files have not got yet."""
        return self.disk.back.active.count + self.disk.back.draining.count > 0

    @property
    def memory(self):
        """int: bytes of memory for these."""
        return self.disk.ram.size

    @property
    def counts(self):
        """tuple of int: groups committed, write-backs."""
        return self.disk.commit.count, self.disk.back.count

    @property
    def summed_bytes(self):
        """int: bytes of images that were held against a checksum since the opening."""
        return self.disk.summed_bytes


def change_copies(copier not None, add=None, remove=None):
    """Add a copy to those under way, by its state, or take one out; in one step.

    Neither a handler nor another thread comes in between: the log keeps what the oldest one needs.
    """
    cdef list after = []
    cdef Py_ssize_t k
    cdef uint64_t floor
    for other in <list>copier._copies:
        if other is not remove:
            after.append(other)
    if add is not None:
        k = len(after)
        while k and <uint64_t>after[k - 1].image.seq > <uint64_t>add.image.seq:
            k -= 1
        after.insert(k, add)
    floor = after[0].image.seq if after else NO_SLOT
    copier._copies = after
    if copier.log is not None:
        (<Log>copier.log).disk.hooks.copy_floor = floor
