"""What the disk holds after each record of a recording, and what a crash may leave of it.

A file is its durable bytes, its bytes in the page cache, and the changes in between that no sync
has covered. A sync makes durable what was changed before it began; one that fails makes nothing
durable, and no later one does. A folder is the same with names. A `Tree` is what a crash has left.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import xxhash

from tests.crash.recorded.recording import Call, Missed, Record

SECTOR, PAGE = 512, 4096
GONE = 1 << 62  # no sync makes it durable any more
PUNCHES = 3  # FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE
EVERY = -1  # a mask of sectors: all of them


class Body:
    """The bytes of a file, and which of its pages are no holes."""

    def __init__(self, data: bytes | bytearray = b"", pages: Iterable[int] = ()) -> None:
        self.data, self.pages = bytearray(data), set(pages)

    def copy(self) -> Body:
        return Body(self.data, self.pages)

    def resize(self, size: int) -> None:
        if size < len(self.data):
            del self.data[size:]
            self.pages = {page for page in self.pages if page * PAGE < size}
        else:
            self.data.extend(bytes(size - len(self.data)))

    def write(self, offset: int, data: bytes) -> None:
        if offset + len(data) > len(self.data):
            self.resize(offset + len(data))
        self.data[offset : offset + len(data)] = data
        self.pages.update(range(offset // PAGE, -(-(offset + len(data)) // PAGE)))

    def punch(self, offset: int, length: int) -> None:
        end = min(offset + length, len(self.data))
        if end > offset:
            self.data[offset:end] = bytes(end - offset)
            self.pages -= set(range(-(-offset // PAGE), end // PAGE))


class Change(NamedTuple):
    """What was done to a file or a folder, and is not durable."""

    number: int
    node: int
    kind: str  # write, size, punch, content | link, unlink, rename
    offset: int = 0
    data: object = b""


class Choice(NamedTuple):
    """A change that a crash has left, or a part of it: bit k of the mask is sector k."""

    change: Change
    mask: int = EVERY
    garbage: int = 0  # a seed: what is not in the mask is neither old nor new


Tree = dict[str, "Body | None"]  # by path; None: a folder


def apply(body: Body, choice: Choice) -> None:
    """Do to a file what a crash has left of a change."""
    change, data = choice.change, choice.change.data
    if change.kind == "size":
        body.resize(change.offset)
    elif change.kind == "punch":
        body.punch(change.offset, int(data))
    elif change.kind == "content":
        body.data, body.pages = bytearray(data.data), set(data.pages)
    elif choice.mask == EVERY:
        body.write(change.offset, data)
    else:
        _apply_torn(body, choice)


def sectors_of(change: Change) -> int:
    return -(-(change.offset + len(change.data)) // SECTOR) - change.offset // SECTOR


def _apply_torn(body: Body, choice: Choice) -> None:
    change, data = choice.change, choice.change.data
    first, dice = change.offset // SECTOR, random.Random(choice.garbage)
    for k in range(sectors_of(change)):
        low = max(change.offset, (first + k) * SECTOR)
        high = min(change.offset + len(data), (first + k + 1) * SECTOR)
        if choice.mask >> k & 1:
            body.write(low, data[low - change.offset : high - change.offset])
        elif choice.garbage and dice.random() < 0.2:
            body.write(low, dice.choice([bytes(high - low), dice.randbytes(high - low)]))


class Disk:
    """A folder tree that follows a recording.

    `deaf`, to test the tests: syncs of files of this name do nothing.
    """

    deaf = ""

    def __init__(self) -> None:
        self.names: dict[int, dict[str, int]] = {0: {}}  # in the cache
        self.durable_names: dict[int, dict[str, int]] = {0: {}}
        self.cache: dict[int, Body] = {}
        self.durable: dict[int, Body] = {}
        self.pending: list[Change] = []
        self.old_sectors: dict[tuple[int, int], bytes] = {}  # what a sector held before
        self._number = self._next = 0
        self._nodes: dict[int, int] = {}  # of the file system: ours
        self._paths: dict[int, str] = {}
        self._syncs: dict[tuple[int, int], int] = {}

    @classmethod
    def of(cls, tree: Tree) -> Disk:
        """Return a disk on which all of a tree is durable."""
        disk = cls()
        for path in sorted(tree):
            folder, name = disk._parent(path)
            node = disk._new()
            body = tree[path]
            disk.names[folder][name] = node
            if body is None:
                disk.names[node] = {}
            else:
                disk.cache[node], disk.durable[node] = body.copy(), body.copy()
        disk.durable_names = {node: dict(names) for node, names in disk.names.items()}
        return disk

    def after_kill(self) -> Disk:
        """Return the disk as the next process finds it: what was not durable still is not.

        It asks the kernel to drop clean pages, and what a failed sync gave up counts as clean.
        """
        other = Disk()
        other.names = {node: dict(names) for node, names in self.names.items()}
        other.durable_names = {node: dict(names) for node, names in self.durable_names.items()}
        other.cache = {node: self._reread(node).copy() for node in self.cache}
        other.durable = {node: body.copy() for node, body in self.durable.items()}
        other.pending = [change for change in self.pending if not self._dropped(change)]
        other.old_sectors = dict(self.old_sectors)
        other._number, other._next = self._number, self._next
        return other

    # Following.

    def follow(self, record: Record) -> None:
        """Do what a record says."""
        call = record.call
        if call in (Call.MARK, Call.LOCKED):
            return
        if call in (Call.OPENED, Call.CREATED):
            self._opened(record)
        elif call == Call.MADE:
            node = self._link(record.first.decode())
            self.names[node], self.durable_names[node] = {}, {}
        elif call == Call.RENAMED:
            self._renamed(record.first.decode(), record.second.decode())
        elif call in (Call.UNLINKED, Call.REMOVED):
            folder, name = self._parent(record.first.decode())
            self._change_names(folder, "unlink", name)
        elif call == Call.LINKED:
            folder, name = self._parent(record.second.decode())
            self._change_names(folder, "link", (name, self.find(record.first.decode())))
        elif call == Call.SYNC_BEGINS:
            self._syncs[record.thread, record.node] = self._number
        elif call == Call.SYNC_ENDS:
            until = self._syncs.pop((record.thread, record.node))
            self._synced(self._nodes[record.node], until, record.result == 0)
        else:
            self._change_file(record)

    def _change_file(self, record: Record) -> None:
        node = self._nodes[record.node]
        if record.call == Call.WRITTEN:
            self._remember(node, record.offset, record.length)
            self._change(node, "write", record.offset, record.first)
        elif record.call == Call.RESIZED:
            self._change(node, "size", record.offset)
        elif record.call == Call.CLONED:
            self._change(node, "content", 0, self.cache[self._nodes[record.offset]].copy())
        elif record.result == PUNCHES:
            self._change(node, "punch", record.offset, record.length)
        else:
            raise Missed(f"fallocate with the mode {record.result}")

    def _opened(self, record: Record) -> None:
        path = record.first.decode()
        if record.call == Call.CREATED:
            node = self._link(path)
            self.cache[node], self.durable[node] = Body(), Body()
        else:
            node = self.find(path)
        self._nodes[record.node], self._paths[node] = node, path

    def _new(self) -> int:
        self._next += 1
        return self._next

    def _link(self, path: str) -> int:
        folder, name = self._parent(path)
        node = self._new()
        self._change_names(folder, "link", (name, node))
        return node

    def _renamed(self, old: str, new: str) -> None:
        folder, name = self._parent(old)
        other, target = self._parent(new)
        if folder != other:
            raise Missed("renamed from one folder to another")
        self._change_names(folder, "rename", (name, target))

    def _parent(self, path: str) -> tuple[int, str]:
        folder, _, name = path.rpartition("/")
        return self.find(folder), name

    def find(self, path: str) -> int:
        node = 0
        for name in filter(None, path.split("/")):
            if name not in self.names[node]:
                raise Missed(f"nothing has made {path!r}, and it is there")
            node = self.names[node][name]
        return node

    def _change(self, node: int, kind: str, offset: int, data: object = b"") -> None:
        self._number += 1
        change = Change(self._number, node, kind, offset, data)
        self.pending.append(change)
        apply(self.cache[node], Choice(change))

    def _change_names(self, folder: int, kind: str, data: object) -> None:
        self._number += 1
        change = Change(self._number, folder, kind, 0, data)
        self.pending.append(change)
        apply_names(self.names[folder], change)

    def _remember(self, node: int, offset: int, length: int) -> None:
        data = self.cache[node].data
        for sector in range(offset // SECTOR, -(-(offset + length) // SECTOR)):
            old = bytes(data[sector * SECTOR : (sector + 1) * SECTOR])
            if len(old) == SECTOR:
                self.old_sectors[node, sector] = old

    def _synced(self, node: int, until: int, succeeded: bool) -> None:
        if self.deaf and self._paths.get(node, "").endswith(self.deaf):
            return
        left: list[Change] = []
        for change in self.pending:
            if change.node != node or change.number > until:
                left.append(change)
            elif not succeeded:
                left.append(change._replace(number=GONE + change.number % GONE))
            else:
                if node in self.names:
                    apply_names(self.durable_names[node], change)
                else:
                    apply(self.durable[node], Choice(change))
                left = [piece for gone in left for piece in _not_over(gone, change)]
        self.pending = left

    # What there is, and what may be left.

    def kept(self) -> Tree:
        """Return what is in the page cache."""
        return _tree(self.names, lambda node: self.cache[node])

    def reread(self) -> Tree:
        """Return what a kill leaves to a process that drops clean pages first."""
        return _tree(self.names, self._reread)

    def _reread(self, node: int) -> Body:
        mine = [change for change in self.pending if change.node == node]
        if not any(self._dropped(change) for change in mine):
            return self.cache[node]
        body = self.durable[node].copy()
        for change in mine:
            if not self._dropped(change):
                apply(body, Choice(change))
        return body

    def _dropped(self, change: Change) -> bool:
        return change.number >= GONE and change.node not in self.names

    def left(self, choices: Iterable[Choice]) -> Tree:
        """Return what a power cut leaves, if these changes had reached the disk."""
        names, bodies = self.durable_names, {}
        for choice in choices:
            change = choice.change
            if change.node in self.names:
                if names is self.durable_names:
                    names = {node: dict(inner) for node, inner in names.items()}
                apply_names(names[change.node], change)
            else:
                if change.node not in bodies:
                    bodies[change.node] = self.durable[change.node].copy()
                apply(bodies[change.node], choice)
        return _tree(names, lambda node: bodies.get(node) or self.durable[node])


def _not_over(gone: Change, newer: Change) -> Iterator[Change]:
    """Give what may be left of a change that a failed sync gave up, once a newer one is durable."""
    if gone.node != newer.node or gone.number < GONE:
        yield gone
    elif gone.kind == "write" and newer.kind in ("write", "punch"):
        end = newer.offset + (int(newer.data) if newer.kind == "punch" else len(newer.data))
        before, after = newer.offset - gone.offset, end - gone.offset
        if after <= 0 or before >= len(gone.data):
            yield gone
            return
        if before > 0:
            yield gone._replace(data=gone.data[:before])
        if after < len(gone.data):
            yield gone._replace(offset=end, data=gone.data[after:])
    elif gone.kind in ("link", "unlink", "rename") and not _names(gone) & _names(newer):
        yield gone


def _names(change: Change) -> set[str]:
    """Return the names that a change of a folder is about."""
    data = change.data if isinstance(change.data, tuple) else (change.data,)
    return {name for name in data if isinstance(name, str)}


def apply_names(names: dict[str, int], change: Change) -> None:
    """Do to a folder what a change says, as far as it can be done there."""
    if change.kind == "link":
        name, node = change.data
        names[name] = node
    elif change.kind == "unlink":
        names.pop(change.data, None)
    elif change.data[0] in names:
        names[change.data[1]] = names.pop(change.data[0])


def _tree(names: dict[int, dict[str, int]], body: Callable[[int], Body]) -> Tree:
    tree: Tree = {}
    todo = [("", 0)]
    while todo:
        path, node = todo.pop()
        for name, inner in names[node].items():
            whole = f"{path}{name}"
            if inner in names:
                tree[whole] = None
                todo.append((f"{whole}/", inner))
            else:
                tree[whole] = body(inner)
    return tree


def digest(tree: Tree) -> bytes:
    """Hash all that a tree holds: two equal ones are the same state."""
    whole = xxhash.xxh3_128()
    for path in sorted(tree):
        body = tree[path]
        whole.update(f"{path}:{-1 if body is None else len(body.data)}\0".encode())
        if body is not None:
            whole.update(body.data)
    return whole.digest()


def write_tree(tree: Tree, root: Path, dig: bool = False) -> None:
    """Make the files; `dig`: what is zero becomes a hole, as a tool or a file system may do."""
    os.mkdir(root)
    for path in sorted(tree):
        body = tree[path]
        if body is None:
            os.mkdir(root / path)
            continue
        fd = os.open(root / path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            os.ftruncate(fd, len(body.data))
            for start, data in _runs(body, dig):
                os.pwrite(fd, data, start)
        finally:
            os.close(fd)


def _runs(body: Body, dig: bool) -> Iterator[tuple[int, memoryview]]:
    view, zeroes, start, last = memoryview(body.data), bytes(PAGE), -1, -2
    for page in sorted(body.pages):
        if dig and body.data.startswith(zeroes[: len(body.data) - page * PAGE], page * PAGE):
            continue
        if page != last + 1:
            if start >= 0:
                yield start * PAGE, view[start * PAGE : (last + 1) * PAGE]
            start = page
        last = page
    if start >= 0:
        yield start * PAGE, view[start * PAGE : (last + 1) * PAGE]


def read_tree(root: Path) -> Tree:
    """Read back a folder, to hold it against a recording."""
    tree: Tree = {}
    for folder, folders, files in os.walk(root):
        inner = os.path.relpath(folder, root)
        prefix = "" if inner == "." else f"{inner}/"
        tree |= dict.fromkeys((f"{prefix}{name}" for name in folders), None)
        tree |= {f"{prefix}{name}": Body(Path(folder, name).read_bytes()) for name in files}
    return tree
