"""A simulated disk: what is durable, what is only written, and what a power cut may leave.

A file is durable bytes and unsynced sector writes in order; a folder is durable names and unsynced
changes of names. `sync` makes one of them durable. `crash_choices` counts through the states that
may remain: each unsynced change is there, is not there, or (a sector) is torn.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import xxhash

SECTOR = 512
ROOT = 0
TORN = ("zero", "garbage", "mix", "stale")
Choice = tuple[str, ...]  # one word for each unsynced change: "new", "old", or one of TORN


@dataclass(frozen=True)
class Change:
    """One unsynced change of one node: a sector, a size, or names of a folder."""

    node: int
    kind: str  # "sector" | "size" | "link" | "unlink" | "rename"
    key: object
    new: object = None

    def apply(self, content, what: str = "new", stale: bytes = b"") -> None:
        if self.kind == "sector":
            start = self.key * SECTOR
            if start < len(content):
                old = bytes(content[start : start + SECTOR])
                content[start : start + SECTOR] = torn(what, old, self.new, stale)
        elif self.kind == "size":
            content.extend(bytes(max(0, self.new - len(content))))
        elif self.kind == "link":
            content[self.key] = self.new
        elif self.kind == "unlink":
            content.pop(self.key, None)
        else:
            content.pop(self.key[0], None)
            content[self.key[1]] = self.new


def torn(what: str, old: bytes, new: bytes, stale: bytes) -> bytes:
    if what == "new":
        return new
    if what == "mix":
        return new[: SECTOR // 2] + old[SECTOR // 2 :]
    if what == "stale" and stale:
        return stale
    return bytes(b ^ 0xA5 for b in new[::-1]) if what == "garbage" else bytes(SECTOR)


def crash_choices(changes: list[Change], exhaustive: int, samples: int, seed: int):
    """Every subset up to `exhaustive` changes, else chosen ones; then the torn sectors."""
    n = len(changes)
    yield from dict.fromkeys(_subsets(n, exhaustive, samples, seed))
    sectors = [c.kind == "sector" for c in changes]
    for what in TORN if any(sectors) else ():
        yield tuple(what if s else "new" for s in sectors)
    for i, sector in enumerate(sectors):
        if sector:
            for what in TORN:
                yield ("new",) * i + (what,) + ("old",) * (n - i - 1)
                if i < n - 1:
                    yield ("new",) * i + (what,) + ("new",) * (n - i - 1)


def _subsets(n: int, exhaustive: int, samples: int, seed: int) -> Iterator[Choice]:
    if n <= exhaustive:
        yield from itertools.product(("old", "new"), repeat=n)
        return
    for i in range(n + 1):
        yield ("new",) * i + ("old",) * (n - i)
    for lost in itertools.chain(
        itertools.combinations(range(n), 1), itertools.combinations(range(n), 2)
    ):
        yield tuple("old" if i in lost else "new" for i in range(n))
    for kept in range(n):
        yield tuple("new" if i == kept else "old" for i in range(n))
    rng = random.Random(seed * 1_000_003 + n)
    for _ in range(samples):
        yield tuple(rng.choice(("old", "new")) for _ in range(n))


class Disk:
    """Nodes by number: a file is a bytearray, a folder a dict of names. Paths are `a/b`.

    `durable` is what a power cut keeps, `device` is that and every unsynced change, `cache` is what
    a plain read sees: it differs from `device` only after a failed sync.
    """

    def __init__(self) -> None:
        self.durable: dict[int, bytearray | dict] = {ROOT: {}}
        self.device: dict[int, bytearray | dict] = {ROOT: {}}
        self.cache: dict[int, bytearray | dict] = {ROOT: {}}
        self.stale: dict[tuple[int, int], bytes] = {}  # what a log's sector held one lap earlier
        self.laps: set[int] = set()  # the files called "log"
        self.changes: list[Change] = []
        self.before: Callable[..., None] | None = None  # called before each operation
        self.fail: tuple[int, str] | None = None  # (which sync from now on, how)
        self.syncs = 0

    # -- reading

    def node(self, path: str) -> int:
        number = ROOT
        for name in path.split("/"):
            folder = self.cache[number]
            if name not in folder:
                raise FileNotFoundError(path)
            number = folder[name]
        return number

    def exists(self, path: str) -> bool:
        try:
            return self.node(path) >= 0
        except FileNotFoundError:
            return False

    def read(self, path: str, offset: int = 0, length: int | None = None, direct: bool = False):
        content = (self.device if direct else self.cache)[self.node(path)]
        return bytes(content[offset:] if length is None else content[offset : offset + length])

    # -- changing

    def write(self, path: str, offset: int, data: bytes) -> None:
        """Write whole sectors; writing past the end makes the file longer."""
        assert offset % SECTOR == 0 and len(data) % SECTOR == 0
        self._boundary("write", path, offset, data)
        node = self.node(path)
        if offset + len(data) > len(self.cache[node]):
            self._change(Change(node, "size", None, offset + len(data)))
        for at in range(0, len(data), SECTOR):
            sector = (offset + at) // SECTOR
            self._change(Change(node, "sector", sector, data[at : at + SECTOR]))

    def create(self, path: str, folder: bool = False) -> None:
        self._boundary("create", path)
        number = len(self.durable)
        for world in (self.durable, self.device, self.cache):
            world[number] = {} if folder else bytearray()
        parent, name = self._parent(path)
        if name == "log":
            self.laps.add(number)
        self._change(Change(parent, "link", name, number))

    def remove(self, path: str) -> None:
        self._boundary("remove", path)
        parent, name = self._parent(path)
        self._change(Change(parent, "unlink", name))

    def rename(self, old: str, new: str) -> None:
        """Give another name in the same folder."""
        self._boundary("rename", old)
        number = self.node(old)
        parent, name = self._parent(old)
        self._change(Change(parent, "rename", (name, self._parent(new)[1]), number))

    def sync(self, path: str = "") -> None:
        """Make one file, or the names of one folder, durable; `""` is the root folder."""
        self._boundary("sync", path)
        node = self.node(path) if path else ROOT
        mine = [c for c in self.changes if c.node == node]
        self.changes = [c for c in self.changes if c.node != node]
        failed, self.syncs = self.fail and self.fail[0] == self.syncs, self.syncs + 1
        if failed and self.fail[1] in ("keep", "revert"):
            self._lose(node, mine)
        else:
            for change in mine:
                self._settle(change)
        if failed:
            raise OSError(5, "sync failed", path)

    def _lose(self, node: int, mine: list[Change]) -> None:
        """Drop every second change for good; the cache keeps showing it, or goes back."""
        for change in mine[1::2]:
            self._settle(change)
        self.device[node] = self.durable[node].copy()
        if self.fail[1] == "revert":
            self.cache[node] = self.durable[node].copy()

    def _settle(self, change: Change) -> None:
        content = self.durable[change.node]
        if change.kind == "sector" and change.node in self.laps:
            start = change.key * SECTOR
            self.stale[change.node, change.key] = bytes(content[start : start + SECTOR])
        change.apply(content)

    def _change(self, change: Change) -> None:
        self.changes.append(change)
        change.apply(self.device[change.node])
        change.apply(self.cache[change.node])

    def _parent(self, path: str) -> tuple[int, str]:
        folder, _, name = path.rpartition("/")
        return (self.node(folder) if folder else ROOT), name

    def _boundary(self, *operation) -> None:
        if self.before:
            self.before(*operation)

    # -- crashing

    def crashed(self, choice: Choice) -> Disk:
        """Return the disk that a power cut leaves; `choice` has one word for each change."""
        after = Disk()
        after.durable = {n: c.copy() for n, c in self.durable.items()}
        after.stale, after.laps = dict(self.stale), set(self.laps)
        for change, what in zip(self.changes, choice, strict=True):
            if what != "old":
                stale = self.stale.get((change.node, change.key), b"") if what == "stale" else b""
                change.apply(after.durable[change.node], what, stale)
        after.device = {n: c.copy() for n, c in after.durable.items()}
        after.cache = {n: c.copy() for n, c in after.durable.items()}
        return after

    def fingerprint(self) -> bytes:
        """Hash everything durable that a name leads to: two equal ones are the same state."""
        hashed = xxhash.xxh3_128()
        todo = [("", ROOT)]
        while todo:
            path, number = todo.pop()
            content = self.durable[number]
            if isinstance(content, dict):
                hashed.update(f"{path}/{len(content)}\0".encode())
                todo += [(f"{path}/{name}", content[name]) for name in sorted(content)]
            else:
                hashed.update(f"{path}:{len(content)}\0".encode())
                hashed.update(bytes(content))
        return hashed.digest()
