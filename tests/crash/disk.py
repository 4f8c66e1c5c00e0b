"""A simulated disk under the shipping store, and every state that a power cut may leave of it.

A file is its durable bytes and unsynced sector writes in order; a folder is durable names and
unsynced changes of them. A sync makes one of them durable. `Moment` freezes the disk between two
operations, and `Choices` counts through what may remain then: each unsynced change is there, is
not there, or (a sector) is torn.

Durable content is never changed in place, so moments and crash states share all that they have in
common, and cost no more than the files in which they differ.
"""

from __future__ import annotations

import errno
import itertools
import os
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from typing import NamedTuple

import xxhash

from jrnl.errors import StoreLocked

SECTOR = 512
BLOCK = 4096
ZEROES = bytes(SECTOR)
ROOT = 0

OLD, NEW = 0, 1
# What becomes of a torn sector: zeroes, garbage, half of each, what was there one lap earlier.
TORN = ZERO, GARBAGE, HEAD, TAIL, STALE = 2, 3, 4, 5, 6
Choice = tuple[int, ...]  # one of these for each unsynced change

# How a sync may fail: the pages stay in the cache but count as clean, and are never written; they
# go back to what the disk holds; or all was saved, and the error comes all the same.
SYNC_FAILURES = ("keep", "revert", "late")
IGNORED = "ignored"  # a sync that does nothing and says nothing: a test of the tests


class Op(NamedTuple):
    """An operation of the disk that is about to happen."""

    number: int
    kind: str  # pread, pwrite, truncate, sync, create, make, clone, rename, remove, syncdir
    path: str
    offset: int = 0
    data: bytes = b""

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]


CHANGING = {"pwrite", "truncate", "sync", "create", "make", "clone", "rename", "remove", "syncdir"}
# Called before each operation. It may raise an OSError in its place; return how many bytes a
# pwrite writes; or, for a sync, return one of SYNC_FAILURES or IGNORED.
Hook = Callable[[Op], int | str | None]


class Content:
    """The bytes of a file. What is durable is never changed, only copied.

    Attributes
    ----------
    size : int
        Bytes.
    data : bytearray
        As far as there is anything but zeroes; there may be zeroes at its end, too.
    """

    __slots__ = ("_digest", "data", "size")

    def __init__(self, data: bytes | bytearray = b"", size: int | None = None) -> None:
        self.data = bytearray(data)
        self.size = len(data) if size is None else size
        self._digest = b""

    def copy(self) -> Content:
        return Content(self.data, self.size)

    @property
    def digest(self) -> bytes:
        """A hash of what is durable."""
        if not self._digest:
            self._digest = xxhash.xxh3_128_digest(self.data.rstrip(b"\0"))
        return self._digest

    def read(self, offset: int, length: int) -> bytes:
        length = max(0, min(length, self.size - offset))
        return bytes(self.data[offset : offset + length]).ljust(length, b"\0")

    def write(self, offset: int, data: bytes) -> None:
        """Write what lies inside the file."""
        data = data[: max(0, self.size - offset)]
        if offset > len(self.data):
            self.data.extend(bytes(offset - len(self.data)))
        self.data[offset : offset + len(data)] = data

    def resize(self, size: int) -> None:
        del self.data[size:]
        self.size = size


Names = dict[str, int]


class Change(NamedTuple):
    """One unsynced change of one node: a sector, a size, a whole content, or a folder's names."""

    node: int
    kind: str  # "sector" | "size" | "content" | "link" | "unlink" | "rename"
    key: object
    new: object = None

    def apply_names(self, names: Names) -> None:
        if self.kind == "link":
            names[self.key] = self.new
        elif self.kind == "unlink":
            names.pop(self.key, None)
        else:
            names.pop(self.key[0], None)
            names[self.key[1]] = self.new

    def apply(self, content: Content, what: int = NEW, stale: bytes = b"") -> None:
        """Do it to a file's bytes; a sector may come out torn."""
        if self.kind == "sector":
            new, start = self.new, self.key * SECTOR
            if what != NEW:
                new = torn(what, content.read(start, SECTOR), new, stale)
            content.write(start, new)
        elif self.kind == "size":
            content.resize(self.new)
        else:
            content.data, content.size = self.new.data.copy(), self.new.size


def torn(what: int, old: bytes, new: bytes, stale: bytes) -> bytes:
    half = SECTOR // 2
    old = old.ljust(SECTOR, b"\0")
    if what == HEAD:
        return new[:half] + old[half:]
    if what == TAIL:
        return old[:half] + new[half:]
    if what == STALE and stale:
        return stale
    if what == GARBAGE:
        return bytes(b ^ 0xA5 for b in new[::-1])
    return ZEROES


class Choices(Sequence[Choice]):
    """All that may become of unsynced changes, by number.

    Every subset of up to `exhaustive` changes; beyond that prefixes, single drops, single keeps,
    pairs of drops and random subsets. Then the torn ones: all sectors alike; or one of them, what
    came before it saved, and all of what came after it or nothing.
    """

    def __init__(
        self,
        changes: Sequence[Change],
        exhaustive: int = 12,
        samples: int = 64,
        seed: int = 0,
    ) -> None:
        self.n = n = len(changes)
        self.sectors = [i for i, change in enumerate(changes) if change.kind == "sector"]
        self.seed = seed
        if n <= exhaustive:
            self.parts = [(1 << n, self._subset)]
        else:
            self.parts = [
                (n + 1, self._prefix),
                (n, lambda i: self._but(NEW, i)),
                (n, lambda i: self._but(OLD, i)),
                (n * (n - 1) // 2, self._pair),
                (samples, self._random),
            ]
        kinds, torn_sectors = len(TORN), len(self.sectors)
        if torn_sectors:
            self.parts += [(kinds, self._all_torn), (torn_sectors * kinds * 2, self._one_torn)]

    def __len__(self) -> int:
        return sum(count for count, _ in self.parts)

    def __getitem__(self, index: int) -> Choice:
        for count, make in self.parts:
            if index < count:
                return make(index)
            index -= count
        raise IndexError(index)

    def picked(self, limit: int, rng: random.Random) -> Iterator[tuple[int, Choice]]:
        """Yield up to `limit` of them with their numbers, none and all of the changes included."""
        total = len(self)
        numbers: Sequence[int] = range(total)
        if total > limit:
            first = self.parts[0][0]
            numbers = sorted({0, first - 1, *rng.sample(numbers, max(0, limit - 2))})
        for number in numbers:
            yield number, self[number]

    def _subset(self, index: int) -> Choice:
        return tuple(index >> i & 1 for i in range(self.n))

    def _prefix(self, index: int) -> Choice:
        return (NEW,) * index + (OLD,) * (self.n - index)

    def _but(self, most: int, index: int) -> Choice:
        return (most,) * index + (1 - most,) + (most,) * (self.n - index - 1)

    def _pair(self, index: int) -> Choice:
        pair = next(itertools.islice(itertools.combinations(range(self.n), 2), index, None))
        return tuple(OLD if i in pair else NEW for i in range(self.n))

    def _random(self, index: int) -> Choice:
        bits = random.Random(self.seed * 1_000_003 + index).getrandbits(self.n)
        return tuple(bits >> i & 1 for i in range(self.n))

    def _all_torn(self, index: int) -> Choice:
        sectors = set(self.sectors)
        return tuple(TORN[index] if i in sectors else NEW for i in range(self.n))

    def _one_torn(self, index: int) -> Choice:
        index, later = divmod(index, 2)
        which, what = divmod(index, len(TORN))
        i = self.sectors[which]
        return (NEW,) * i + (TORN[what],) + (later,) * (self.n - i - 1)


class Moment:
    """The disk between two operations: what is durable, and what is not yet.

    Attributes
    ----------
    op : int
        The number of the operation that was about to happen.
    changes : list of Change
    """

    __slots__ = ("changes", "durable", "op", "stale")

    def __init__(self, disk: SimDisk, op: int) -> None:
        self.op = op
        self.durable = dict(disk.durable)
        self.changes = list(disk.changes)
        self.stale = disk.stale

    def choices(self, exhaustive: int = 12, samples: int = 64) -> Choices:
        return Choices(self.changes, exhaustive, samples, self.op)

    def crashed(self, choice: Choice) -> SimDisk:
        """Return the disk that a power cut leaves."""
        disk = SimDisk()
        disk.durable, disk.stale = dict(self.durable), self.stale
        touched: dict[int, Content | Names] = {}
        for change, what in zip(self.changes, choice, strict=True):
            if what == OLD:
                continue
            content = self.durable[change.node]
            if isinstance(content, dict):
                change.apply_names(touched.setdefault(change.node, dict(content)))
            else:
                if change.node not in touched:
                    touched[change.node] = content.copy()
                stale = self.stale.get((change.node, change.key), b"") if what == STALE else b""
                change.apply(touched[change.node], what, stale)
        disk.durable |= touched
        return disk

    def touches(self, prefix: str) -> bool:
        """Whether a file whose name starts like this has unsynced changes, or its name has."""
        nodes = {change.node for change in self.changes}
        if any(isinstance(self.durable[node], dict) for node in nodes):
            return True
        return any(
            name.startswith(prefix) and node in nodes
            for names in self.durable.values()
            if isinstance(names, dict)
            for name, node in names.items()
        )


class SimDisk:
    """Nodes by number: a file is a `Content`, a folder a dict of names. Paths are `a/b`.

    What a plain read sees is the cache. What the device holds, unsynced changes included, differs
    from that only after a failed sync.

    Attributes
    ----------
    before : callable or None
        The hook, called before each operation.
    ops : int
        How many operations there were.
    """

    def __init__(self) -> None:
        self.durable: dict[int, Content | Names] = {ROOT: {}}
        self.stale: dict[tuple[int, int], bytes] = {}  # what a sync put something else over
        self.changes: list[Change] = []
        self.before: Hook | None = None
        self.ops = 0
        self.locks: dict[int, list[tuple[SimPlace, bool]]] = {}
        self.paths: dict[int, str] = {}  # of folders, as far as somebody has opened them
        self._cache: dict[int, Content | Names] = {}  # where it is not what is durable
        self._device: dict[int, Content | Names] = {}  # where it is not the cache

    # Looking, without an operation.

    def read(self, path: str) -> bytes:
        """Return what a plain read of a whole file sees."""
        content = self.content(self.find(path))
        return content.read(0, content.size)

    def exists(self, path: str) -> bool:
        try:
            return self.find(path) >= 0
        except FileNotFoundError:
            return False

    def find(self, path: str) -> int:
        node = ROOT
        for name in filter(None, path.split("/")):
            node = self.names(node).get(name, -1)
            if node < 0:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return node

    def content(self, node: int) -> Content:
        """Return what a plain read sees of a file."""
        return self._cache.get(node) or self.durable[node]

    def names(self, node: int) -> Names:
        names = self._cache.get(node, self.durable[node])
        if not isinstance(names, dict):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        return names

    def fingerprint(self) -> bytes:
        """Hash everything durable that a name leads to: two equal ones are the same state."""
        hashed, todo = [], [("", ROOT)]
        while todo:
            path, node = todo.pop()
            content = self.durable[node]
            if isinstance(content, dict):
                hashed.append(f"{path}/{len(content)}\0".encode())
                todo += [(f"{path}/{name}", content[name]) for name in sorted(content)]
            else:
                hashed.append(f"{path}:{content.size}\0".encode())
                hashed.append(content.digest)
        return xxhash.xxh3_128_digest(b"".join(hashed))

    # Copies of it.

    def moment(self) -> Moment:
        return Moment(self, self.ops)

    def survivor(self) -> SimDisk:
        """Return the disk as the next process finds it when this one was killed."""
        other = SimDisk()
        other.durable, other.stale = dict(self.durable), self.stale
        other.changes = list(self.changes)
        other._cache = {node: content.copy() for node, content in self._cache.items()}
        other._device = {node: content.copy() for node, content in self._device.items()}
        return other

    def replace(self, path: str, data: bytes) -> None:
        """Put other bytes into a file behind its back: damage. Nothing may be unsynced."""
        assert not self.changes
        node = self.find(path)
        self._cache.pop(node, None)
        self._device.pop(node, None)
        self.durable[node] = Content(data)

    # What its files and folders do.

    def place(self) -> SimPlace:
        """Return the root folder, as a `jrnl.disk.folder.Place`."""
        return SimPlace(self, ROOT)

    def step(self, kind: str, path: str, offset: int = 0, data: bytes = b"") -> int | str | None:
        self.ops += 1
        if self.before is None:
            return None
        return self.before(Op(self.ops, kind, path, offset, data))

    def write(self, node: int, offset: int, data: bytes) -> None:
        content, end = self._own(node), offset + len(data)
        if end > content.size:
            self.change(Change(node, "size", None, end))
        for sector in range(offset // SECTOR, -(-end // SECTOR)):
            start = sector * SECTOR
            old = content.read(start, SECTOR).ljust(SECTOR, b"\0")
            low, high = max(offset, start), min(end, start + SECTOR)
            new = old[: low - start] + data[low - offset : high - offset] + old[high - start :]
            if new != old or new != ZEROES:  # zeroes over zeroes cannot matter
                self.change(Change(node, "sector", sector, new))

    def change(self, change: Change) -> None:
        self.changes.append(change)
        for content in (self._own(change.node), self._device.get(change.node)):
            if isinstance(content, dict):
                change.apply_names(content)
            elif content is not None:
                change.apply(content)

    def new_node(self, folder: bool) -> int:
        node = len(self.durable)
        self.durable[node] = {} if folder else Content()
        return node

    def settle(self, node: int, failure: str | None = None) -> None:
        """Make a node's changes durable, or fail to in one of the three ways."""
        if failure == IGNORED:
            return
        mine = [change for change in self.changes if change.node == node]
        self.changes = [change for change in self.changes if change.node != node]
        if failure in ("keep", "revert"):
            lost = set(range(len(mine)) if self.ops % 3 == 0 else range(self.ops % 2, len(mine), 2))
            mine = [change for i, change in enumerate(mine) if i not in lost]
        if mine:
            self._settle(node, mine)
        if failure == "keep":
            self._own(node)
            self._device[node] = self.durable[node].copy()
        elif failure == "revert":
            self._cache.pop(node, None)
            self._device.pop(node, None)
        if failure is not None:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    def drop_cache(self, node: int) -> None:
        """Forget what is clean in the cache and not what the device holds."""
        if node in self._device:
            self._cache[node] = self._device.pop(node)

    def _settle(self, node: int, changes: list[Change]) -> None:
        content = self.durable[node]
        if isinstance(content, dict):
            names = dict(content)
            for change in changes:
                change.apply_names(names)
            self.durable[node] = names
            return
        new, stale = content.copy(), {}
        for change in changes:
            if change.kind == "sector":
                old = content.read(change.key * SECTOR, SECTOR)
                stale[node, change.key] = old.ljust(SECTOR, b"\0")
            change.apply(new)
        self.stale = {**self.stale, **stale}
        self.durable[node] = new

    def _own(self, node: int) -> Content | Names:
        """Return the cache's content of a node, to be changed."""
        if node not in self._cache:
            self._cache[node] = self.durable[node].copy()
        return self._cache[node]


class SimFile:
    """An open file: what `jrnl._core.CallbackDevice` takes."""

    def __init__(self, disk: SimDisk, node: int, path: str, writable: bool = True) -> None:
        self.disk, self.node, self.path, self.writable = disk, node, path, writable
        self.closed = False

    @property
    def size(self) -> int:
        return self.disk.content(self.node).size

    def pread(self, offset: int, length: int) -> bytes:
        self._step("pread", offset)
        return self.disk.content(self.node).read(offset, length)

    def pwrite(self, offset: int, data: bytes | memoryview) -> int:
        copy = bytes(data)
        limit = self._step("pwrite", offset, copy)
        if isinstance(limit, int):
            copy = copy[:limit]
        if copy:
            self.disk.write(self.node, offset, copy)
        return len(copy)

    def data_extents(self) -> list[tuple[int, int]]:
        """Say that all blocks of zeroes are holes: a file system or a tool may have dug them."""
        content = self.disk.content(self.node)
        return [
            (start, min(start + BLOCK, content.size))
            for start in range(0, len(content.data), BLOCK)
            if content.data.count(0, start, start + BLOCK) < min(BLOCK, len(content.data) - start)
        ]

    def truncate(self, size: int) -> None:
        self._step("truncate", size)
        if size != self.size:
            self.disk.change(Change(self.node, "size", None, size))

    def sync(self) -> None:
        self.disk.settle(self.node, self._step("sync"))

    def drop_cache(self) -> None:
        self.disk.drop_cache(self.node)

    def close(self) -> None:
        self.closed = True

    def _step(self, kind: str, offset: int = 0, data: bytes = b"") -> int | str | None:
        if self.closed or (not self.writable and kind in ("pwrite", "truncate")):
            raise OSError(errno.EBADF, os.strerror(errno.EBADF), self.path)
        return self.disk.step(kind, self.path, offset, data)


class SimPlace:
    """A folder of the disk: a `jrnl.disk.folder.Place`."""

    def __init__(self, disk: SimDisk, node: int) -> None:
        self.disk, self.node = disk, node
        self.closed = False

    def names(self) -> list[str]:
        return sorted(self.disk.names(self.node))

    @property
    def path(self) -> str:
        return self.disk.paths.get(self.node, "")

    def make(self, name: str) -> SimPlace:
        self._link("make", name, folder=True)
        return self.folder(name)

    def clear(self, name: str) -> None:
        with suppress(NotADirectoryError, StoreLocked), closing(self.folder(name)) as folder:
            folder.lock(True)
            self.remove(name)

    def folder(self, name: str) -> SimPlace:
        node = self._find(name)
        self.disk.names(node)
        self.disk.paths[node] = self._path(name)
        return SimPlace(self.disk, node)

    def create(self, name: str, size: int) -> object:
        node = self._link("create", name, folder=False)
        if size:
            self.disk.change(Change(node, "size", None, size))
        return _device(self.file(name))

    def open(self, name: str, writable: bool) -> object:
        return _device(self.file(name, writable))

    def file(self, name: str, writable: bool = True) -> SimFile:
        node = self._find(name)
        if isinstance(self.disk.durable[node], dict):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), self._path(name))
        return SimFile(self.disk, node, self._path(name), writable)

    def clone(self, source: str, target: str) -> bool:
        """Make none; `CloningPlace` does."""
        self._find(source)
        return False

    def rename(self, old: str, new: str) -> None:
        node = self._find(old)
        self.disk.step("rename", self._path(old))
        if new in self.disk.names(self.node):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), self._path(new))
        self.disk.paths[node] = self._path(new)
        self.disk.change(Change(self.node, "rename", (old, new), node))

    def remove(self, name: str) -> None:
        node = self._find(name)
        if isinstance(self.disk.durable[node], dict):
            folder = self.folder(name)
            for inner in folder.names():
                folder.remove(inner)
        self.disk.step("remove", self._path(name))
        self.disk.change(Change(self.node, "unlink", name))

    def sync(self) -> None:
        self.disk.settle(self.node, self.disk.step("syncdir", self.path))

    def lock(self, exclusive: bool) -> None:
        holders = self.disk.locks.setdefault(self.node, [])
        others = [held for place, held in holders if place is not self]
        if any(others) or (exclusive and others):
            raise StoreLocked("the store is open already")
        holders.append((self, exclusive))

    def close(self) -> None:
        self.closed = True
        holders = self.disk.locks.get(self.node, [])
        self.disk.locks[self.node] = [held for held in holders if held[0] is not self]

    def _link(self, kind: str, name: str, folder: bool) -> int:
        if name in self.disk.names(self.node):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), self._path(name))
        self.disk.step(kind, self._path(name))
        node = self.disk.new_node(folder)
        self.disk.change(Change(self.node, "link", name, node))
        return node

    def _find(self, name: str) -> int:
        node = self.disk.names(self.node).get(name)
        if node is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), self._path(name))
        return node

    def _path(self, name: str) -> str:
        return f"{self.path}/{name}" if self.path else name


class CloningPlace(SimPlace):
    """A folder of a file system that shares blocks: a clone is there whole, or not at all."""

    def folder(self, name: str) -> CloningPlace:
        place = super().folder(name)
        return CloningPlace(place.disk, place.node)

    def clone(self, source: str, target: str) -> bool:
        content = self.disk.content(self._find(source)).copy()
        node = self._link("clone", target, folder=False)
        self.disk.change(Change(node, "content", None, content))
        return True


def _device(file: SimFile) -> object:
    from jrnl._core import CallbackDevice

    return CallbackDevice(file)
