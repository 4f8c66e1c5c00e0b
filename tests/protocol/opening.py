"""Creating and opening a store: whole or absent; scan, cut, redo, record, and then accept."""

from __future__ import annotations

from tests.protocol.disk import SECTOR, Disk
from tests.protocol.layout import SUPER, pack_super, unpack_super
from tests.protocol.steps import IMAGE, Steps, forward, unflat
from tests.protocol.store import RING, SECTORS, VOLUMES, Core, NotFound


def create(disk: Disk, path: str, off: frozenset[str], key: int = 7, images: str = "both") -> None:
    """Make a store under another name, make all of it durable, then give it its name."""
    name = path if "create_rename" in off else "new"
    if disk.exists(name):
        wipe(disk, name)
    fresh = Core(disk, name, off, key, images)
    packed = pack_super(fresh.doc | {"gen": 1})
    files = {"log": bytes(RING * SECTOR), "super": packed + packed}
    files |= {f"vol{v}": bytes(SECTORS * SECTOR) for v in range(VOLUMES)}
    disk.create(name, folder=True)
    for file, content in files.items():
        disk.create(f"{name}/{file}")
        disk.write(f"{name}/{file}", 0, content)
        if "create_files" not in off:
            disk.sync(f"{name}/{file}")
    if "create_folder" not in off:
        disk.sync(name)
    if name != path:
        disk.rename(name, path)
    if "create_parent" not in off:
        disk.sync("")


def wipe(disk: Disk, name: str) -> None:
    """Take away what an interrupted creation left."""
    for file in sorted(disk.cache[disk.node(name)]):
        disk.remove(f"{name}/{file}")
    disk.remove(name)


class Store(Steps):
    """The toy store; `Store.open` is the only way to get one."""

    @classmethod
    def open(cls, disk: Disk, path: str, off: frozenset[str] = frozenset()) -> Store:
        if not disk.exists(path):
            raise NotFound
        direct = "direct" not in off
        data = disk.read(f"{path}/super", direct=direct)
        copies = [unpack_super(data[:SUPER]), unpack_super(data[SUPER:])]
        best = max((c for c in copies if c), key=lambda c: c["gen"])
        self = cls(disk, path, off, best["key"], best["images"])
        self.doc, self.newest_copy = best, copies.index(best)
        if "super_sync_open" not in off:
            self.sync("super")  # a killed process may have left the copy that was read unsynced
        if copies[0] != copies[1] and "heal" not in off:
            other = 1 - self.newest_copy  # before this document is relied on, both copies hold it
            self.put("super", other * SUPER, pack_super(best))
            self.sync("super")
        self.scan(disk.read(f"{path}/log", direct=direct))
        if not self.damage:
            self.make_whole()
        return self

    # -- finding the groups

    def epoch_at(self, number: int) -> int:
        return [epoch for epoch, start, _ in self.doc["epochs"] if start <= number][-1]

    def scan(self, log: bytes) -> None:
        """Read the groups from the tail to the first invalid one."""
        tail_number, tail_position, tail_seq = self.doc["tail"]
        number, position, last_epoch = tail_number, tail_position, 0
        while position - tail_position < RING:
            stored = self.layout.stored(log, position)[0]
            epoch = self.epoch_at(number)
            if "epoch_table" in self.off:  # off: what a group says of itself is believed
                epoch = stored
            if "epoch_order" in self.off:  # off: it is believed if epochs don't decrease
                epoch = stored if stored >= last_epoch else -1
            group = self.layout.group(log, epoch, number, position) if epoch > 0 else None
            if group is None or group.end - tail_position > RING:
                break
            self.groups.append(group)
            number, position, last_epoch = number + 1, group.end, epoch
        self.head = (number, position)
        cuts = [r for _, r in self.doc["rewinds"]]
        self.seq = max([tail_seq - 1, *cuts, *(g.last for g in self.groups)])
        self.durable = self.seq
        self.synced = max([self.doc["synced"], *(g.synced for g in self.groups)])
        self.damage = self.find_damage(log)

    def find_damage(self, log: bytes) -> tuple[int, int] | None:
        """Tell damage from a torn tail: something durable says that there was more.

        A later group does, for it is written after the sync of the one before; it is looked for at
        every position, but only to say that it is there. The superblock does: it counts groups.
        """
        number, position = self.head
        tail_position, first = self.doc["tail"][1:]
        lost = max([first, *(g.last + 1 for g in self.groups)])
        if "probe" not in self.off:
            for later in range(position + 1, tail_position + RING):
                claimed = self.layout.stored(log, later)[1]
                if number < claimed <= number + RING:
                    group = self.layout.header(log, self.epoch_at(claimed), claimed, later)
                    if group:
                        return lost, group.first - 1
        if self.doc["groups"] > number and "watermark" not in self.off:
            return lost, self.doc["durable"]
        return None

    # -- making it whole

    def make_whole(self) -> None:
        """Sync the log, take the tail into the overlay, record it and a new epoch durably."""
        if "open_log_sync" not in self.off:
            self.sync("log")
        self.copied = 0
        undo, restore = self.doc["undo"], self.doc["restore"]
        if restore and restore[1]:
            undo = self.doc["undo"] = [restore[0], self.seq, 0]
            self.doc["restore"] = None
            self.write_super()
        if undo:
            self.put_back(self.changed_since(undo[0]))
            self.cut(undo[0], undo[1], bool(undo[2]))
        else:
            self.redo()
            if "open_epoch" not in self.off:
                self.new_epoch()
            self.write_super()
        self.resume()

    def redo(self) -> None:
        """Put the tail where durable data waits for write-back; readers see it from now on."""
        entries = [e for e in self.live() if e.seq > self.synced]
        data = forward({}, entries)
        if "whole_sectors" in self.off:
            data = self.redo_bytes(entries)
        if data:
            self.dirty = [(self.seq, data)]

    def redo_bytes(self, entries) -> dict:
        """Off: only the bytes that a write brought are put back, into whatever is there."""
        data = {}
        for e in entries:
            for i, (key, content) in enumerate(e.images("after")):
                there = bytearray(data.get(key) or self.sector(key))
                first = e.sectors()[0] * SECTOR + i * SECTOR
                a, b = max(e.offset - first, 0), min(e.offset + e.length - first, SECTOR)
                there[a:b] = content[a:b]
                data[key] = bytes(there)
        return data

    def resume(self) -> None:
        """Finish what a crash interrupted, from its durable intent."""
        if self.doc["fold"]:
            self.finish_fold(*self.doc["fold"])
        self.finish_copies()
        if self.doc["restore"]:
            image = self.disk.read(self.file("image"), direct=True)
            assert len(image) == IMAGE
            self.finish_restore(unflat(image))
        elif self.disk.exists(self.file("image")):
            self.disk.remove(self.file("image"))

    def close(self) -> None:
        self.flush()
        self.finish_copies()
        self.writeback()
        self.write_super(clean=1)
