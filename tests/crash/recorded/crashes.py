"""Which of the states that a crash may leave are looked at, and how each is named.

A name says where in a recording the crash is, in which way it loses what was not durable, and a
number that all dice of that choice are thrown with: `812.random.3`. The same recording and name
give the same state again. Damage is named the same way: what, and a number.
"""

from __future__ import annotations

import random

from tests.crash.recorded.disk import EVERY, SECTOR, Change, Choice, Disk, Tree, sectors_of
from tests.crash.recorded.recording import Missed

WAYS = ("kill", "none", "prefix", "random", "torn", "file", "but", "garbage", "names")
DAMAGES = ("bit", "header", "header", "zero", "stale", "stale", "neighbour")
HEADER = 64


def left(disk: Disk, way: str, number: int) -> Tree:
    """Return what a crash leaves of a disk."""
    if way == "kill":
        return disk.reread()
    dice = random.Random(f"{way} {number}")
    return disk.left(_chosen(disk, way, dice))


def _chosen(disk: Disk, way: str, dice: random.Random) -> list[Choice]:
    changes = disk.pending
    if way == "none" or not changes:
        return []
    if way == "prefix":
        return [Choice(change) for change in changes[: dice.randrange(len(changes) + 1)]]
    if way in ("torn", "garbage"):
        return _torn(changes, dice, way == "garbage")
    if way == "but":
        lost = dice.randrange(len(changes))
        return [Choice(change) for k, change in enumerate(changes) if k != lost]
    nodes = sorted({change.node for change in changes})
    if way == "file":  # some files have all that was written to them, the others nothing
        chosen = {node for node in nodes if dice.random() < 0.5}
        return [Choice(change) for change in changes if change.node in chosen]
    if way == "names":  # all bytes, but of each folder's names only the first few, or the reverse
        bytes_too = dice.random() < 0.5
        until = dice.choice(changes).number
        return [
            Choice(change)
            for change in changes
            if (change.number < until if change.node in disk.names else bytes_too)
        ]
    return [choice for change in changes if (choice := _some(disk, change, dice)) is not None]


def _torn(changes: list[Change], dice: random.Random, garbage: bool) -> list[Choice]:
    """All up to some write, of which some sectors are there."""
    last = dice.randrange(len(changes))
    choices = [Choice(change) for change in changes[:last]]
    if changes[last].kind == "write":
        mask = dice.getrandbits(sectors_of(changes[last]))
        choices.append(Choice(changes[last], mask, dice.randrange(1, 1 << 30) if garbage else 0))
    return choices


def _some(disk: Disk, change: Change, dice: random.Random) -> Choice | None:
    """All of a change, nothing of it, or some of its sectors."""
    throw = dice.random()
    if throw < 0.4:
        return Choice(change)
    if throw < 0.8 or change.kind != "write":
        return None
    mask = dice.getrandbits(sectors_of(change))
    return Choice(change, EVERY if mask == (1 << sectors_of(change)) - 1 else mask)


def damaged(
    tree: Tree, disk: Disk, what: str, number: int, spare: str = ""
) -> tuple[Tree, str] | None:
    """Return a tree with one sector of one checksummed file changed, and where; None where not.

    A volume's file has no checksums. `spare`: files of this kind are left alone.
    """
    dice = random.Random(f"{what} {number}")
    paths = sorted(path for path, body in tree.items()
                   if body is not None and _has_sums(path) and _kind(path) != spare)  # fmt: skip
    if not paths:
        return None
    if what == "header":
        return _header(tree, dice)
    groups = sorted({_kind(path) for path in paths})
    group = dice.choice(groups)
    path = dice.choice([path for path in paths if _kind(path) == group])
    body = tree[path].copy()
    used = sorted(page for page in body.pages
                  if any(body.data[page * 4096 : page * 4096 + 4096]))  # fmt: skip
    if not used:
        return None
    sector = dice.choice(used) * 8 + dice.randrange(8)
    start = sector * SECTOR
    old = bytes(body.data[start : start + SECTOR])
    new = _other(disk, tree, path, sector, old, what, dice)
    if not new or new == old or len(new) != len(old):
        return None
    body.data[start : start + len(new)] = new
    return {**tree, path: body}, f"{what} in {path}, sector {sector}"


def _header(tree: Tree, dice: random.Random) -> tuple[Tree, str] | None:
    """Flip a bit near one of the log's seqs: they stand in the headers of its entries."""
    path = next(path for path in tree if _kind(path) == "log")
    body = tree[path].copy()
    words = memoryview(body.data)[: len(body.data) // 8 * 8].cast("Q")
    places = [k for page in sorted(body.pages) for k in range(page * 512, page * 512 + 512)
              if k < len(words) and 0 < words[k] < 5000]  # fmt: skip
    words.release()
    if not places:
        return None
    at = max(0, dice.choice(places) * 8 + dice.randrange(-HEADER // 2, HEADER))
    at = min(at, len(body.data) - 1)
    body.data[at] ^= 1 << dice.randrange(8)
    return {**tree, path: body}, f"a bit in {path} at {at}"


def _other(
    disk: Disk, tree: Tree, path: str, sector: int, old: bytes, what: str, dice: random.Random
) -> bytes | None:
    if what == "zero":
        return bytes(len(old))
    if what == "stale":
        try:
            return disk.old_sectors.get((disk.find(path), sector))
        except Missed:
            return None
    if what == "neighbour":
        return bytes(tree[path].data[(sector + 1) * SECTOR :][: len(old)])
    if not old:
        return None
    at = dice.randrange(len(old))
    return old[:at] + bytes([old[at] ^ 1 << dice.randrange(8)]) + old[at + 1 :]


def _kind(path: str) -> str:
    name = path.rpartition("/")[2]
    return name.split("-")[0].split(".")[0]


def _has_sums(path: str) -> bool:
    return _kind(path) in ("log", "index", "super", "snapshot", "recovery")
