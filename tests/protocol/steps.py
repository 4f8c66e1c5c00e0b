"""Snapshot, fold, restore and rewind: long operations whose steps a crash may separate."""

from __future__ import annotations

from tests.protocol.disk import SECTOR
from tests.protocol.layout import Entry
from tests.protocol.store import SECTORS, VOLUMES, Core, Damaged, Key

IMAGE = VOLUMES * SECTORS * SECTOR


def flat(state: dict[Key, bytes]) -> bytes:
    return b"".join(state[key] for key in sorted(state))


def unflat(data: bytes) -> dict[Key, bytes]:
    keys = [(v, s) for v in range(VOLUMES) for s in range(SECTORS)]
    return {key: data[i * SECTOR : (i + 1) * SECTOR] for i, key in enumerate(keys)}


def forward(state: dict[Key, bytes], entries: list[Entry]) -> dict[Key, bytes]:
    for e in entries:
        state.update(e.images("after"))
    return state


def backward(state: dict[Key, bytes], entries: list[Entry]) -> dict[Key, bytes]:
    for e in reversed(entries):
        state.update(e.images("before"))
    return state


class Steps(Core):
    # -- points

    def oldest(self) -> int:
        return self.doc["tail"][2] - 1

    def points(self) -> list[int]:
        """Every seq whose state the journal can rebuild now."""
        oldest, live = self.oldest(), [e.seq for e in self.live()]
        if not self.both:
            bases = [s for s, done in self.doc["snaps"].values() if done == "done" and s >= oldest]
            return [k for k in live if bases and k >= min(bases)] + bases + [self.seq]
        cuts = self.doc["rewinds"]
        stand = [r for _, r in cuts if r > oldest and not any(t < r < seq for t, seq in cuts)]
        return [oldest, *live, *stand]

    def recover(self, to: int) -> dict[Key, bytes]:
        """Rebuild state `to` by every route there is; the routes must agree."""
        live, found = self.live(), []
        if self.both or to == self.seq:
            found.append(backward(self.state(), [e for e in live if e.seq > to]))
        for name, (seq, done) in self.doc["snaps"].items():
            if done == "done" and self.oldest() <= seq <= to:
                found.append(forward(self.snap(name), [e for e in live if seq < e.seq <= to]))
        if any(f != found[0] for f in found):
            raise Damaged(f"two routes to {to} disagree")
        return found[0]

    def snap(self, name: str) -> dict[Key, bytes]:
        return unflat(self.disk.read(self.file(f"snap-{name}")))

    # -- snapshot

    def snapshot(self, name: str) -> int:
        """Fix a state and return; the copy is made by `copy_step`, later."""
        self.finish_copies()  # one copy at a time
        seq = self.flush()
        if not self.both:
            self.writeback()  # from here until the copy is whole, the files stay at this state
        self.doc["snaps"][name] = [seq, "copying"]
        self.copied = 0
        self.write_super()
        return seq

    def copy_step(self) -> None:
        """Copy one sector of what is there now, or, after the last, finish."""
        for name in self.copying():
            if not self.disk.exists(self.file(f"snap-{name}")):
                self.disk.create(self.file(f"snap-{name}"))  # the intent may outlive the file
            keys = sorted(self.state())
            if self.copied < len(keys):
                self.put_snap(name, keys[self.copied], self.copy_source(keys[self.copied]))
                self.copied += 1
            else:
                self.finish_copy(name)

    def copy_source(self, key: Key) -> bytes:
        if self.both:
            return self.sector(key)
        return self.disk.read(self.file(f"vol{key[0]}"), key[1] * SECTOR, SECTOR)

    def put_snap(self, name: str, key: Key, content: bytes) -> None:
        self.put(f"snap-{name}", (key[0] * SECTORS + key[1]) * SECTOR, content)

    def finish_copy(self, name: str) -> None:
        """Put right what changed while it was copied, make it durable, and only then call it so."""
        seq = self.doc["snaps"][name][0]
        if self.both and "patch" not in self.off:
            later = backward({}, [e for e in self.live() if e.seq > seq])
            for key, content in sorted(later.items()):
                self.put_snap(name, key, content)
        if "snapshot_sync" not in self.off:
            self.sync(f"snap-{name}")
        if "snapshot_folder" not in self.off:
            self.sync("")
        self.doc["snaps"][name] = [seq, "done"]
        self.write_super()

    def finish_copies(self) -> None:
        while self.copying():
            self.copy_step()

    # -- fold

    def fold(self, to: int) -> None:
        """Advance the oldest snapshot to `to` by writing over its sectors."""
        self.check()
        done = [(s, name) for name, (s, d) in self.doc["snaps"].items() if d == "done"]
        seq, name = min(done, default=(0, ""))
        if self.copying() or not name or not max(seq, self.oldest()) <= seq < to <= self.synced:
            return
        if "fold_intent" not in self.off:
            self.doc["fold"] = [name, to]
            self.write_super()
        self.finish_fold(name, to)

    def finish_fold(self, name: str, to: int) -> None:
        seq = self.doc["snaps"][name][0]
        changed = forward({}, [e for e in self.live() if seq < e.seq <= to])
        for key, content in sorted(changed.items()):
            self.put_snap(name, key, content)
        if "fold_sync" not in self.off:
            self.sync(f"snap-{name}")
        self.doc["snaps"][name] = [to, "done"]
        self.doc["fold"] = None
        self.write_super()

    # -- rewind

    def rewind(self, to: int) -> int:
        """Put the volumes back to `to`; one new seq stands for that state from now on."""
        if "rewind_copy" not in self.off:
            self.finish_copies()  # the entries that would put a copy right are about to go
        last = self.flush()
        if not self.both or any(s > to for s, _ in self.doc["snaps"].values()):
            raise Damaged("no before-images, or a snapshot in the way")
        if "rewind_intent" not in self.off:
            self.doc["undo"] = [to, last, 1]
            self.write_super()
        changed = self.changed_since(to)
        if "reuse_early" not in self.off:
            self.put_back(changed)
        self.cut(to, last, True)
        if "reuse_early" in self.off:  # off: the cut blocks are free before the volumes are back
            self.put_back(changed)
        return self.seq

    def changed_since(self, to: int) -> dict[Key, bytes]:
        """Return what the files hold at `to`, wherever they may hold anything else now."""
        live = self.live()
        changed = forward({}, [e for e in live if self.synced < e.seq <= to])
        return changed | backward({}, [e for e in live if e.seq > to])

    def put_back(self, changed: dict[Key, bytes]) -> None:
        """Absolute content: it may be written in any order, any number of times."""
        for (volume, sector), content in sorted(changed.items()):
            self.put(f"vol{volume}", sector * SECTOR, content)
        if "undo_sync" not in self.off:
            self.sync_volumes()

    def cut(self, to: int, last: int, rewind: bool) -> None:
        """Record that the volumes are at `to` and that everything later is cut."""
        if rewind:
            self.doc["rewinds"].append([to, last + 1])
        self.seq = self.durable = self.synced = last + 1 if rewind else to
        self.dirty, self.written = [], {}
        self.groups = [g for g in self.groups if g.first <= to]
        end = self.groups[-1] if self.groups else None
        number, position, _ = self.doc["tail"]
        self.head = (end.number + 1, end.end) if end else (number, position)
        self.new_epoch()
        self.doc["undo"] = self.doc["restore"] = None
        self.write_super()

    # -- restore

    def restore(self, to: int, may_cut: bool = True) -> int:
        """Write state `to` as entries; a crash leaves all of them or none."""
        start = self.flush()
        image = self.recover(to)
        differ = [key for key in sorted(image) if image[key] != self.sector(key)]
        room = self.both and may_cut and 2 * len(differ) + 2 <= RING_HALF
        self.disk.create(self.file("image"))
        self.put("image", 0, flat(image))
        if "image_sync" not in self.off:
            self.sync("image")
            self.sync("")
        if "restore_intent" not in self.off:
            self.doc["restore"] = [start, int(room)]
            self.write_super()
        self.finish_restore(image)
        return self.seq

    def finish_restore(self, image: dict[Key, bytes]) -> None:
        for (volume, sector), content in sorted(image.items()):
            if content != self.sector((volume, sector)):
                self.write(volume, sector * SECTOR, content)
        self.flush()
        self.doc["restore"] = None
        self.write_super()
        self.disk.remove(self.file("image"))


RING_HALF = 14
