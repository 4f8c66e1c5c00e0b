# A file store's log, as the Python layer opens it: what was there, and what is gone.
#
# Takes: memory, device, errors, ring, log, overlay, reclaim, index, disk_rewind, scan, engine

cdef class OpeningLog:
    """A file store's log, while an opening finds out what it holds.

    Parameters
    ----------
    engine : Engine
        Made with an `overlay`; its devices are the volumes' files.
    log, index : FileDevice or CallbackDevice
    key : int
        64 bits, the store's own: it seeds every checksum.
    record : callable
        Write the superblocks, from `state`, durably in every copy.
    always, read_only : bool
    """

    cdef readonly Engine engine
    cdef Core* core
    cdef Disk* disk

    def __cinit__(self, Engine engine not None, log, index, uint64_t key, record,
                  bint always=False, bint read_only=False):
        cdef uint32_t k
        self.engine = engine
        self.core = engine.core
        self.disk = engine.core.disk
        engine.files = (log, index)
        engine.record = record
        engine.identity = key
        self.disk.hooks.record = <void*>record
        self.disk.log = as_device(log, self.core)
        self.disk.index.device = as_device(index, self.core)
        for k in range(self.core.volume_count):
            self.disk.volumes[k] = as_device(engine.devices[k], self.core)
        self.disk.key = self.core.ring.key = key
        self.disk.commit.always = always
        self.disk.read_only = read_only
        self.disk.epoch = 1
        self.disk.hooks.copy_floor = NO_SLOT
        self.disk.ram.tail = NO_SLOT    # while it is being opened, all is read from the files

    def begin_at(self, uint64_t number, uint64_t position, uint64_t slot, uint64_t seq,
                 int64_t time_ns, int64_t created_ns):
        """The log's tail: what the superblock says of the oldest entry and the state before it."""
        cdef Disk* disk = self.disk
        disk.groups.first = disk.groups.next = number
        self.core.ring.tail = disk.groups.start = disk.groups.cursor = disk.tail_named = position
        self.core.ring.slot_tail = self.core.ring.slot_head = disk.groups.first_slot = slot
        disk.index.slot = slot
        disk.index.number = number
        disk.index.position = position
        disk.index.total = 0
        self.core.ring.seq = self.core.ring.base_seq = seq
        self.core.clock.now_ns = self.core.ring.base_time_ns = time_ns
        self.core.clock.created_ns = created_ns
        self.core.unflushed = False

    def load_index(self, uint64_t slot, uint64_t number, uint64_t position, uint64_t durable_seq,
                   uint64_t total, bint clean=True):
        """bool: read the headers up to `slot` from the index; the group `number` follows them.

        They are held against what the superblock says of their end and of all of them. Where they
        are not what they should be, nothing is taken: the groups say the same.
        """
        cdef Disk* disk = self.disk
        cdef uint64_t first = disk.groups.first, tail = self.core.ring.slot_tail
        cdef int status
        with nogil:
            status = index_load(self.core, slot, position, durable_seq, total)
        if status == OK and (disk.groups.next != number
                             or clean and self.core.ring.seq != durable_seq):
            status = E_CORRUPT
        if status == E_CORRUPT:
            self.begin_at(first, self.core.ring.tail, tail, self.core.ring.base_seq,
                          self.core.ring.base_time_ns, self.core.clock.created_ns)
            return False
        if status == E_IO and self.core.fault.error == ENDED_EARLY:
            self.begin_at(first, self.core.ring.tail, tail, self.core.ring.base_seq,
                          self.core.ring.base_time_ns, self.core.clock.created_ns)
            return False
        raise_status(status, self.core)
        if not clean:
            position = index_step_back(self.core)
            slot = self.core.ring.slot_head
            number = disk.groups.next
        disk.groups.start = disk.groups.cursor = position
        disk.groups.first_slot = slot
        disk.index.slot = slot
        disk.index.number = number
        disk.index.position = position
        disk.index.total = index_sums(&self.core.ring, self.core.ring.slot_tail, slot)
        return True

    def scan(self, uint64_t epoch, uint64_t position, uint64_t number, bint images):
        """None, or a dict: the group that stands there under that epoch.

        Its "state" is 1 where it is whole, 2 where an image, 3 where a header is damaged; it is
        not taken. Without `images` they are not looked at.
        """
        cdef Scanned group
        cdef int status
        memset(&group, 0, sizeof(Scanned))
        with nogil:
            status = scan_head(self.core, epoch, number, position, &group.head)
            if status == OK:
                status = scan_headers(self.core, &group)
            if status == SCAN_WHOLE and images:
                status = scan_images(self.core, &group)
            free(group.headers)
        if status == E_CORRUPT or status == E_IO and self.core.fault.error == ENDED_EARLY:
            return None
        if status < 0:
            raise_status(status, self.core)
        return {"state": status, "number": group.head.number, "position": group.head.position,
                "length": group.head.length, "first_slot": group.head.first_slot,
                "count": group.head.count, "first_seq": group.head.first_seq,
                "last_seq": group.head.last_seq, "durable_seq": group.head.durable_seq,
                "synced_seq": group.head.synced_seq}

    def take(self, uint64_t epoch):
        """Enter the group that follows what there is; damaged entries become holes."""
        cdef Scanned group
        cdef int status
        memset(&group, 0, sizeof(Scanned))
        with nogil:
            status = scan_head(self.core, epoch, self.disk.groups.next, self.disk.groups.start,
                               &group.head)
            if status == OK:
                status = scan_headers(self.core, &group)
            if status >= 0:
                status = adopt_group(self.core, &group)
            free(group.headers)
        raise_status(status, self.core)

    def skip(self, uint64_t number, uint64_t position, uint64_t slot, uint64_t seq,
             bint doubtful=False):
        """Groups are damaged: go on with the group `number`, at `position`, after state `seq`.

        Holes stand for their entries. Where one of them may hold a REWIND that nobody knows of, it
        is `doubtful` which of the entries before them are still there.
        """
        cdef uint64_t most = seq - self.core.ring.seq if seq > self.core.ring.seq else 0
        cdef int status = OK
        if number - self.disk.groups.next > self.core.ring.area // LOG_BLOCK_BYTES:
            raise CorruptionError(f"the log cannot hold a group {number}")
        if doubtful or slot < self.core.ring.slot_head:
            # No more entries than seqs were skipped: what stands where theirs may have stood goes.
            cut_to(&self.core.ring, self.core.disk, slot - most if slot > most else 0)
        if (slot < self.core.ring.slot_head
                or slot - self.core.ring.slot_tail > self.core.ring.slots):
            slot = self.core.ring.slot_head    # slots were lost count of: one hole is enough
        while status == OK and self.disk.groups.next < number:
            status = group_push(self.disk, self.disk.groups.start, self.core.ring.slot_head)
            self.disk.groups.next += 1
        if status == OK and seq > self.core.ring.seq:
            status = adopt_damaged(&self.core.ring, seq)
        raise_status(status, self.core)
        while self.core.ring.slot_head < slot:    # slots keep their numbers: they seed checksums
            raise_status(adopt_damaged(&self.core.ring, seq), self.core)
        self.disk.groups.start = self.disk.groups.cursor = position
        self.disk.groups.first_slot = self.core.ring.slot_head

    def candidates(self, uint64_t position, uint64_t length):
        """list of (position, number): where something that claims to be a group starts."""
        cdef MemoryDevice buffer = MemoryDevice(1048576)
        cdef uint64_t end = position + length, part, k
        cdef const GroupHeader* head
        cdef int status = OK
        found = []
        while position < end:
            part = min(end - position, buffer.length)
            with nogil:
                status = log_read(self.core, position, buffer.data, part)
            if status == E_IO and self.core.fault.error == ENDED_EARLY:
                break
            raise_status(status, self.core)
            for k in range(0, part, LOG_BLOCK_BYTES):
                head = <const GroupHeader*>(buffer.data + k)
                if head.magic == GROUP_MAGIC and head.position == position + k:
                    found.append((position + k, head.number))
            position += part
        return found

    def finish_opening(self, uint64_t epoch, uint64_t synced_seq, uint64_t last_seq=SEQ_LIMIT):
        """Show readers what the volumes' files may lack, and get ready to write.

        A rewind that only the superblocks know of has dropped the entries after `last_seq`.
        """
        cdef Disk* disk = self.disk
        cdef int status
        with nogil:
            status = overlay_fill(self.core, synced_seq, last_seq)
        raise_status(status, self.core)
        disk.epoch = epoch
        disk.back.synced_seq = disk.back.named_seq = synced_seq
        disk.commit.durable_seq = disk.back.tried_seq = self.core.ring.seq
        disk.commit.durable_number = disk.commit.recorded_number = disk.groups.next
        disk.ram.tail = disk.back.draining_end = disk.back.named_end = disk.groups.start
        disk.back.draining_number = disk.groups.next
        disk.bounce.length = 0

    def set_rewound(self, uint64_t to, uint64_t seq, int64_t time_ns, uint64_t follows):
        """The superblock knows of a rewind whose entry no group holds: what it dropped is gone.

        Its entry is yet to come: `put_rewound`. Until then the newest state is the one before it.
        """
        cdef Disk* disk = self.disk
        drop_after(&self.core.ring, follows)
        disk.groups.first_slot = self.core.ring.slot_head
        self.core.ring.seq = last_live_seq(&self.core.ring, follows)
        disk.rewind.to = to
        disk.rewind.seq = seq
        disk.rewind.time_ns = time_ns
        disk.rewind.follows = follows
        disk.commit.durable_seq = seq
        self.core.generation += 1
        if time_ns > self.core.clock.now_ns:
            self.core.clock.now_ns = time_ns

    def put_rewound(self):
        """Enter the REWIND; in a full log others leave for it. For reading, in memory alone."""
        cdef Disk* disk = self.disk
        cdef int status
        self.core.ring.seq = disk.rewind.seq - 1
        with nogil:
            if disk.read_only:
                status = self._stand_in(disk.rewind.to)
            else:
                status = note_rewind(self.core, disk.rewind.to)
        raise_status(status, self.core)

    cdef int _stand_in(self, uint64_t to) noexcept nogil:
        """Read-only: the entry stands in memory alone."""
        cdef EntryHeader entry
        memset(&entry, 0, sizeof(EntryHeader))
        entry.seq = self.core.ring.seq + 1
        entry.time_ns = self.core.clock.now_ns
        entry.offset = to
        entry.before_sum = last_live_seq(&self.core.ring, to)
        entry.kind = KIND_REWIND
        entry.position = self.disk.groups.start + GROUP_HEAD_BYTES
        return adopt_entry(self.core, &entry)

    def rewinds(self):
        """list of [number, slot, follows, seq]: what the REWIND entries that can be read tell."""
        cdef uint64_t number, slot
        cdef const EntryHeader* header
        found = []
        for number in range(self.disk.groups.first, self.disk.groups.next):
            slot = group_at(self.disk, number).slot
            header = header_at(&self.core.ring, slot)
            if (self.core.ring.slot_tail <= slot < self.core.ring.slot_head
                    and header.kind == KIND_REWIND
                    and header_check(&self.core.ring, &self.core.fault, header, slot) == OK):
                found.append([number, slot, header.before_sum, header.seq])
        return found

    def cut(self, uint64_t slot):
        """The entries from `slot` on were dropped by a rewind, readable or not."""
        cut_to(&self.core.ring, self.core.disk, slot)

    def set_undo(self, uint64_t to):
        """A rewind to state `to` was interrupted."""
        self.disk.rewind.undo = True
        self.disk.rewind.undo_to = to

    def show_undone(self, uint64_t to):
        """Read-only: a rewind to state `to` was interrupted; show it as if it had been finished."""
        cdef uint64_t first = 0
        cdef int status
        with nogil:
            status = overlay_undo(self.core, to)
            if status == OK:
                status = find_slot_after(self.core, to, False, &first)
        raise_status(status, self.core)
        self.core.ring.slot_head = rewind_slot(self.core, to, first)
        raise_status(self._stand_in(to), self.core)

    def marks(self):
        """list of (name, seq, time_ns, *volumes): the retained MARK entries that can be read."""
        cdef uint64_t slot
        cdef const EntryHeader* header
        cdef int status
        found = []
        for slot in range(self.core.ring.slot_tail, self.core.ring.slot_head):
            header = header_at(&self.core.ring, slot)
            if header.kind == KIND_MARK and header_check(&self.core.ring, &self.core.fault, header,
                                                         slot) == OK:
                status = OK
                image = disk_image(self.core, header, FLAG_AFTER, &status)
                if image is not NULL:
                    text = PyBytes_FromStringAndSize(<const char*>image, header.length)
                    name, *volumes = text.decode(errors="replace").split("\0")
                    found.append((name, header.seq, header.time_ns, *volumes))
                elif status != E_CORRUPT:
                    raise_status(status, self.core)
        return found

    def set_aliases(self, runs):
        """Seqs of REWIND entries that others replaced: (first, step, count), rising."""
        cdef AliasRun* run
        self.core.aliases.first = self.core.aliases.count = 0
        for first, step, count in runs[-ALIAS_RUNS_MAX:]:
            run = alias_run(&self.core.aliases, self.core.aliases.count)
            run.first, run.step, run.count = first, step, count
            self.core.aliases.count += 1

    def put_lost(self, uint32_t volume, uint64_t offset, uint64_t length):
        """These sectors of production are lost, as an earlier opening has found."""
        raise_status(overlay_room(&self.disk.back.active, blocks_touched(offset, length)),
                     self.core)
        overlay_put(&self.disk.back.active, volume, offset, length, AT_LOST)
        if length and offset < self.core.volumes[volume].size:
            touch(&self.core.volumes[volume], offset, min(
                length, self.core.volumes[volume].size - offset))
        self.core.fault.lost_sectors = True

    def undo(self, uint64_t to):
        """An interrupted rewind to state `to`: put the volumes back, cut, and enter the REWIND."""
        cdef RewindResult result
        cdef int status
        self.disk.rewind.undo = True
        with nogil:
            status = disk_rewind(self.core, to, &result)
        raise_status(status, self.core)
