"""The durability protocol as a toy store: sectors for blocks, a ring of a few groups.

`off` names the rules that are switched off, so that the bench can show that it would notice.
Opening and the long operations are in `opening.py` and `steps.py`.
"""

from __future__ import annotations

from tests.protocol.disk import SECTOR, Disk
from tests.protocol.layout import SUPER, Entry, Group, Layout, pack_super

RING = 28  # sectors of log
LEAD = 3  # sectors that the durable tail pointer moves ahead of what is needed
VOLUMES = 2
SECTORS = 3  # of each volume
OVERLAY = 4  # sectors of data that one group may hold
Key = tuple[int, int]  # (volume, sector)


class StorePoisoned(Exception):
    """An I/O error happened: only reopening helps."""


class NotFound(Exception):
    """There is no store of that name."""


class Damaged(Exception):
    """What is asked for is not there any more."""


class Core:
    """The write path: overlay, groups, write-back, tail pointer, superblock."""

    def __init__(self, disk: Disk, path: str, off: frozenset[str], key: int, images: str) -> None:
        self.disk, self.path, self.off = disk, path, off
        self.layout = Layout(key, images, RING, off)
        self.both = images == "both"
        # The superblock's document. `tail` is (number, position, first seq) of the oldest group;
        # `epochs` are (epoch, number, position) from where on it rules; `rewinds` are (to, seq):
        # the entries between the two are cut, and `seq` stands for state `to`.
        self.doc: dict = {
            "key": key, "images": images, "gen": 0, "clean": 1, "tail": [1, 0, 1], "synced": 0,
            "durable": 0, "groups": 1, "epoch": 1, "epochs": [[1, 1, 0]], "rewinds": [],
            "snaps": {}, "undo": None, "restore": None, "fold": None,
        }  # fmt: skip
        self.newest_copy = 0
        self.groups: list[Group] = []
        self.head = (1, 0)  # number and position of the next group
        self.seq = self.durable = self.synced = 0
        self.damage: tuple[int, int] | None = None
        self.poisoned = False
        # The overlay, newest first: not in a group; in a written group; durable; being written.
        self.active: dict[Key, bytes] = {}
        self.flight: dict[Key, bytes] = {}
        self.dirty: list[tuple[int, dict[Key, bytes]]] = []  # (last seq, data) of each group
        self.written: dict[Key, bytes] = {}
        self.entries: list[Entry] = []  # those of `active`
        self.in_flight: Group | None = None
        self.written_to = 0

    def file(self, name: str) -> str:
        return f"{self.path}/{name}"

    # -- reading

    def sector(self, key: Key) -> bytes:
        durable = (data for _, data in reversed(self.dirty))
        for layer in (self.active, self.flight, *durable, self.written):
            if key in layer:
                return layer[key]
        return self.disk.read(self.file(f"vol{key[0]}"), key[1] * SECTOR, SECTOR)

    def state(self) -> dict[Key, bytes]:
        return {(v, s): self.sector((v, s)) for v in range(VOLUMES) for s in range(SECTORS)}

    def live(self) -> list[Entry]:
        """Every retained entry that no rewind has cut, oldest first."""
        flying = [self.in_flight] if self.in_flight else []
        entries = [e for g in self.groups + flying for e in g.entries] + self.entries
        return [e for e in entries if not any(t < e.seq < r for t, r in self.doc["rewinds"])]

    # -- writing

    def write(self, volume: int, offset: int, data: bytes) -> int:
        self.check()
        sectors = Entry(0, volume, offset, len(data), b"", b"").sectors()
        if len(self.active) + len(sectors) > OVERLAY:
            self.flush()
        before = b"".join(self.sector((volume, s)) for s in sectors)
        start = offset - sectors[0] * SECTOR
        after = before[:start] + data + before[start + len(data) :]
        self.seq += 1
        entry = Entry(self.seq, volume, offset, len(data), before, after)
        self.entries.append(entry)
        # Off: the write joins data that a flush has frozen already.
        layer = self.flight if "freeze" in self.off and self.in_flight else self.active
        for key, content in entry.images("after"):
            self.active[key] = content
            layer[key] = content
        return self.seq

    def flush(self) -> int:
        self.append()
        return self.commit()

    def append(self) -> None:
        """Freeze what has been written and append it to the log as one group, not yet durable."""
        self.check()
        if self.in_flight:
            self.commit()
        if not self.entries:
            return
        entries, (number, position) = self.entries, self.head
        last = self.groups[-1] if self.groups else None
        if "pack_groups" in self.off and last and len(last.entries) + len(entries) < 4:
            self.groups.pop()  # off: a small flush grows the last group, writing its header again
            entries, number, position = last.entries + entries, last.number, last.position
        size = self.layout.size(entries)
        self.make_room(position + size)
        group = Group(self.doc["epoch"], number, position, entries[0].seq,
                      self.durable, self.synced, entries, size)  # fmt: skip
        self.flight, self.active, self.entries = self.active, {}, []
        self.in_flight, self.head = group, (number + 1, position + size)
        self.write_log(position, self.layout.pack(group))

    def commit(self) -> int:
        """Sync the group that was appended: from now on its entries are acknowledged."""
        self.check()
        if self.in_flight:
            if "flush_sync" not in self.off:
                self.sync("log")
            self.groups.append(self.in_flight)
            self.durable = self.in_flight.last
            self.dirty.append((self.durable, self.flight))
            self.flight, self.in_flight = {}, None
            if "late_ack" in self.off:  # off: the sync also answers for what came after it began
                self.durable = self.seq
        return self.durable

    def write_log(self, position: int, data: bytes) -> None:
        at = position % RING
        first = min(len(data), (RING - at) * SECTOR)
        self.put("log", at * SECTOR, data[:first])
        if data[first:]:
            self.put("log", 0, data[first:])

    # -- write-back

    def recorded(self) -> int:
        """Return up to where something durable, other than the entries, says that they were."""
        if "record_first" in self.off:
            return self.durable
        return max([self.doc["durable"], *(g.durable for g in self.groups[-1:])])

    def writeback_start(self) -> None:
        """Write durable and recorded data, sorted, into the volumes' files."""
        self.check()
        if self.written:
            self.writeback_finish()
        if self.copying() and not self.both and "pause" not in self.off:
            return  # only before-images could put right what is copied after a change
        limit = self.recorded()
        for seq, data in self.dirty:
            if seq <= limit:
                self.written, self.written_to = self.written | data, seq
        self.dirty = [(seq, data) for seq, data in self.dirty if seq > limit]
        if "writeback_active" in self.off:
            self.written = self.written | self.flight | self.active
        if "synced_early" in self.off:
            self.synced = self.written_to
        for (volume, sector), content in sorted(self.written.items()):
            self.put(f"vol{volume}", sector * SECTOR, content)

    def writeback_finish(self) -> None:
        """Sync the volumes; only then are their entries no longer needed for redo."""
        self.check()
        if not self.written:
            return
        if "volume_sync" not in self.off:
            self.sync_volumes()
        self.synced, self.written = self.written_to, {}

    def writeback(self) -> None:
        """Bring everything durable into the volumes, now."""
        if self.durable > self.recorded():
            self.write_super()
        self.writeback_start()
        self.writeback_finish()

    def sync_volumes(self) -> None:
        for volume in range(VOLUMES):
            self.sync(f"vol{volume}")

    # -- the tail of the log

    def make_room(self, end: int) -> None:
        """See to it that the log may be written up to `end`: evict, and say so durably first."""
        if end - self.doc["tail"][1] <= RING:
            return
        keep = list(self.groups)
        while keep and end + LEAD - keep[0].position > RING:
            keep.pop(0)
        dropped = self.groups[: len(self.groups) - len(keep)]
        last = dropped[-1].last if dropped else self.synced
        if "pin" not in self.off:
            self.finish_copies()  # of Steps: they need the entries, so the writer waits
        if last > self.synced and "evict_synced" not in self.off:
            self.writeback()
        self.groups = keep
        if keep:
            self.doc["tail"] = [keep[0].number, keep[0].position, keep[0].first]
        else:
            self.doc["tail"] = [*self.head, self.durable + 1]
        if "tail_first" not in self.off:
            self.write_super()

    def copying(self) -> list[str]:
        return [name for name, (_, done) in self.doc["snaps"].items() if done == "copying"]

    # -- the superblock

    def prune(self) -> None:
        """Forget epochs and cuts that no retained group needs."""
        number, _, first = self.doc["tail"]
        epochs, rewinds = self.doc["epochs"], self.doc["rewinds"]
        while len(epochs) > 1 and epochs[1][1] <= number:
            epochs.pop(0)
        while len(rewinds) > 1 and rewinds[0][1] < first:
            rewinds.pop(0)

    def write_super(self, clean: int = 0) -> None:
        """Write the document into one copy, sync, then into the other, sync."""
        self.prune()
        self.doc["gen"] += 1
        groups = self.in_flight.number if self.in_flight else self.head[0]  # below it: durable
        self.doc |= {"synced": self.synced, "durable": self.durable, "groups": groups}
        self.doc["clean"] = clean
        packed = pack_super(self.doc)
        for copy in (1 - self.newest_copy, self.newest_copy):
            if "super_both" in self.off and copy == self.newest_copy:
                break
            self.put("super", copy * SUPER, packed)
            if "super_sync_between" not in self.off:
                self.sync("super")
        if "super_sync_between" in self.off:
            self.sync("super")
        if "super_both" in self.off:
            self.newest_copy = 1 - self.newest_copy

    def new_epoch(self) -> None:
        """Begin a life: from the head of the log on, only groups of this epoch count."""
        number, position = self.head
        self.doc["epoch"] += 1
        kept = [r for r in self.doc["epochs"] if r[1] < number]
        self.doc["epochs"] = [*kept, [self.doc["epoch"], number, position]]

    # -- input and output

    def check(self) -> None:
        if self.poisoned:
            raise StorePoisoned

    def put(self, name: str, offset: int, data: bytes) -> None:
        self.disk.write(self.file(name), offset, data)

    def sync(self, name: str) -> None:
        try:
            self.disk.sync(self.file(name) if name else self.path)
        except OSError as error:
            if "poison" in self.off:  # off: try once more, as if the first had not happened
                self.disk.sync(self.file(name) if name else self.path)
                return
            self.poisoned = True
            raise StorePoisoned from error
