"""Archives of random histories, and what each state of them was: whole, in a dict."""

from __future__ import annotations

import random
import time
from itertools import count
from pathlib import Path
from typing import Any

import jrnl
from jrnl.archive.objects import from_url

SIZES = {"a": 200_001, "b": 70_000}

Content = tuple[bytes, ...]
_names = count()


def new_url(tmp_path: Path | None = None) -> str:
    """Return an address at which nothing is: in memory, or a folder."""
    name = f"histories-{next(_names)}"
    return f"memory://{name}" if tmp_path is None else str(tmp_path / name)


def content_of(state: jrnl.State) -> Content:
    return tuple(volume.read(0, volume.size) for volume in state.volumes.values())


class Archived:
    """A store with an archive, and what its states were.

    Attributes
    ----------
    states : dict of int to Content
        Each state that was made and no rewind has dropped.
    dropped : set of int
    gone : set of int
        States of a gap: they were never archived.
    """

    def __init__(
        self, folder: Path, url: str, seed: int, *, journal: str = "4MiB", **policy: Any
    ) -> None:
        self.url, self.dice = url, random.Random(seed)
        self.store = jrnl.create(folder / f"store-{seed}", volumes=SIZES, journal=journal)
        self.policy = {"interval": 0.02, "segment": "64KiB", "snapshot_every": "200KiB", **policy}
        self.states: dict[int, Content] = {0: content_of(self.store)}
        self.times: dict[int, int] = {}
        self.dropped: set[int] = set()
        self.gone: set[int] = set()
        self.archive = self.store.archive(url, **self.policy)
        self.archive.flush(60)  # so that it begins with state 0

    @property
    def objects(self) -> Any:
        return from_url(self.url)

    def close(self) -> None:
        self.archive.close()
        self.store.close()

    def __enter__(self) -> Archived:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def flush(self) -> int:
        """Archive all that there is."""
        seq = self.archive.flush(60)
        self.note()
        return seq

    def note(self) -> None:
        self.states[self.store.seq] = content_of(self.store)

    def write(self, most: int = 9000) -> None:
        name = self.dice.choice([*SIZES])
        length = self.dice.choice([1, 37, 512, 4096, self.dice.randrange(1, most)])
        offset = self.dice.randrange(SIZES[name] - length + 1)
        self.store[name].write(offset, self.dice.randbytes(length))
        self.note()

    def rewind(self) -> None:
        there = [seq for seq in self.states if seq >= self.store.window.oldest]
        to = self.dice.choice(there[-15:])
        while True:
            try:
                self.store.rewind(to)
                break
            except jrnl.PinnedPoint:  # a snapshot of a state is being archived
                time.sleep(0.01)
        for seq in [seq for seq in self.states if seq > to]:
            self.dropped.add(seq)
            del self.states[seq]
        self.note()

    def rounds(self, count: int, steps: int, *, rewinds: bool = True) -> None:
        """Make random entries, with a snapshot after each round."""
        for _ in range(count):
            self.go_on(steps, rewinds=rewinds)
            snapshots = len(self.keys("snap/"))
            until = time.monotonic() + 20
            while len(self.keys("snap/")) == snapshots and time.monotonic() < until:
                self.write()
                self.flush()

    def keys(self, prefix: str) -> list[str]:
        return [listed.key for listed in self.objects.list(prefix)]

    def go_on(self, steps: int, *, rewinds: bool = True) -> None:
        """Make random entries, and have them archived now and then."""
        for _ in range(steps):
            act = self.dice.choice(["write"] * 9 + ["zero", "mark", "flush", "rewind", "archive"])
            if act == "write":
                self.write()
            elif act == "zero":
                name = self.dice.choice([*SIZES])
                length = self.dice.randrange(1, 40_000)
                offset = self.dice.randrange(SIZES[name] - length + 1)
                self.store[name].discard(offset, length)
                self.note()
            elif act == "mark":
                self.store.mark(f"mark {self.store.seq}")
                self.note()
            elif act == "rewind":
                if rewinds:
                    self.rewind()
            elif act == "flush":
                self.store.flush()
                self.note()
            else:
                self.flush()
        self.flush()

    def gap(self) -> None:
        """Write more than the journal holds while nothing is archived."""
        self.flush()
        self.archive.close()
        before = {*self.states}
        first = self.store.seq
        while self.store.window.oldest <= first:
            self.write(60_000)
        self.store.flush()
        self.note()
        newest = self.store.seq
        self.archive = self.store.archive(self.url, **self.policy)
        self.flush()
        self.gone |= {seq for seq in self.states if seq not in before and seq < newest}
        for seq in self.gone & {*self.states}:
            del self.states[seq]
