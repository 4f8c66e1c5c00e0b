"""Damage to every place of a store: right bytes, or an exception of jrnl's own.

Bits flipped, files cut short or made longer, sectors replaced by zeroes, ones, their neighbour,
another store's, their own content as of half way, or any older version of themselves ("stale": a
write that was lost). What is damaged in a volume's image may come back wrong as far as no entry
covers it; everything else must be right, or refused; and no state comes back that a rewind dropped.

Each story ends with a store that was closed in order, or killed: rewinds, restores and folds lie
behind what is damaged, and before it.

    python -m tests.crash.damage --images both --step 50        every 50th case
    python -m tests.crash.damage --case bit:super.0:12:3        one of them
"""

from __future__ import annotations

import argparse
import random
import sys
from collections import Counter
from collections.abc import Container, Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import NamedTuple

import jrnl
from jrnl import CorruptionError, JrnlError
from tests.crash.disk import SECTOR, SimDisk
from tests.crash.expect import Failure
from tests.crash.oracle import OTHER_IMAGES
from tests.crash.workload import STORE, Host, Shape
from tests.model.whole import State

# fmt: off
SCRIPT = (
    "write_sectors", "write_inside", "flush", "write_many", "snapshot", "copy", "fill", "fill",
    "write_across", "mark", "write_end", "restore", "discard", "write_zeroes", "flush", "reopen",
    "write_sectors", "snapshot", "write_sectors", "flush", "write_inside", "write_many", "mark",
)
# fmt: on
STORIES = {
    "closed": SCRIPT,
    "rewound": (
        "write_sectors",
        "write_inside",
        "flush",
        "write_many",
        "flush",
        "reopen",
        "rewind",
        "write_inside",
        "flush",
        "write_sectors",
        "rewind",
        "write_end",
        "flush",
    ),
    "again": (
        "write_sectors",
        "write_many",
        "mark",
        "rewind",
        "rewind",
        "write_inside",
        "flush",
        "reopen",
        "write_sectors",
        "savepoint",
        "write_end",
        "rewind",
        "mark",
        "flush",
    ),
    "restored": (
        "write_sectors",
        "snapshot",
        "copy",
        "write_many",
        "rewind",
        "write_inside",
        "restore",
        "write_sectors",
        "flush",
        "rewind",
        "write_end",
        "flush",
    ),
    "wrapped": (
        "fill",
        "write_sectors",
        "rewind",
        "fill",
        "fill",
        "write_many",
        "flush",
        "reopen",
        "write_inside",
        "rewind",
        "write_sectors",
        "flush",
    ),
}  # fmt: skip
FOLDED = "folded"  # the story "wrapped", with overflow="fold" and a snapshot
EVERY_BIT = ("super", "index")  # files of which every bit is flipped, not one in a byte
KINDS = ("bit", "cut", "longer", "sector", "stale")
HOW = ("zero", "ones", "neighbour", "old", "other")


class Case(NamedTuple):
    """One damage.

    kind "bit": byte `at`, bit `detail`. "cut": the file ends at `at`. "longer": `at` bytes of
    garbage more. "sector": number `at`, replaced the way HOW[detail]. "stale": number `at`, as it
    was in its version `detail`, from 0.
    """

    kind: str
    file: str
    at: int
    detail: int = 0

    def __str__(self) -> str:
        return f"{self.kind}:{self.file}:{self.at}:{self.detail}"

    @classmethod
    def parse(cls, text: str) -> Case:
        kind, file, at, detail = text.split(":")
        return cls(kind, file, int(at), int(detail))


def used_of(data: bytes) -> int:
    """Return how long a file is without the zeroes at its end; ``rstrip`` takes one at a time."""
    end = len(data)
    while end and data.count(0, max(end - SECTOR, 0), end) == end - max(end - SECTOR, 0):
        end = max(end - SECTOR, 0)
    return len(data[:end].rstrip(b"\0"))


class Cases:
    """Damages by number: a list of each kind for each file, of which few are made a `Case`."""

    def __init__(self, kinds: Container[str]) -> None:
        self.kinds = kinds
        self.parts: list[tuple[str, str, list[tuple[int, int]]]] = []

    def add(self, kind: str, file: str, places: list[tuple[int, int]]) -> None:
        if kind in self.kinds:
            self.parts.append((kind, file, places))

    def every(self, step: int, first: int) -> Iterator[Case]:
        """Yield those whose number, counted from `first`, `step` divides."""
        for kind, file, places in self.parts:
            for at, detail in places[-first % step :: step]:
                yield Case(kind, file, at, detail)
            first += len(places)


@dataclass
class Outcome:
    """What came of one damage: whether opening was refused, how many states were right, refused."""

    closed: bool = False
    right: int = 0
    refused: list[str] = field(default_factory=list)


class Versions:
    """What each sector of a disk's small files has held, whenever something was synced."""

    def __init__(self, disk: SimDisk) -> None:
        self.disk = disk
        self.seen: dict[tuple[str, int], list[bytes]] = {}
        self.last: dict[str, bytes] = {}
        disk.before = lambda op: self.look() if op.kind == "sync" else None

    def look(self) -> None:
        for name in ("log", "index", "super.0", "super.1"):
            if not self.disk.exists(f"{STORE}/{name}"):
                continue
            data = self.disk.read(f"{STORE}/{name}")
            if data == self.last.get(name):
                continue
            self.last[name] = data
            for at in range(-(-used_of(data) // SECTOR)):
                sector = data[at * SECTOR : (at + 1) * SECTOR].ljust(SECTOR, b"\0")
                versions = self.seen.setdefault((name, at), [bytes(SECTOR)])
                if sector not in versions:
                    versions.append(sector)


class Target:
    """A store that was closed in order, or killed, with what it must show.

    Attributes
    ----------
    files : dict of str to bytes
    states : dict of int to State
        Every state that it kept.
    history : dict of int to State
        Those and what has left since: production may be found at any that no rewind has dropped.
    dropped : set of int
        States that rewinds have dropped.
    snapshots : dict of str to State
    low : int
        Older it may not be found: where it was killed, its last group cannot be told from a torn
        tail. So this is what was acknowledged before that.
    """

    def __init__(
        self, shape: Shape, seed: int = 1, names: tuple[str, ...] = (), killed: bool = False
    ) -> None:
        self.shape = shape
        self.host = host = Host(shape, random.Random(seed))
        host.create()
        versions = Versions(host.disk)
        older: dict[str, bytes] = {}
        self.low = 0
        for k, name in enumerate(names or SCRIPT):
            acknowledged = host.world.low
            if shape.images == "both" or name not in ("rewind", "savepoint"):
                host.do(name)
            if host.world.low != acknowledged:
                self.low = acknowledged
            if k == len(SCRIPT) // 2:
                older = self._content(host.disk)
        kept, model = host.kept(), host.model
        self.seq = model.seq
        self.states: dict[int, State] = {seq: model.states[seq] for seq in kept}
        self.history = {k: state for k, state in model.states.items() if k not in model.dropped}
        self.snapshots = {name: model.states[seq] for name, seq in model.snapshots.items()}
        self.dropped = model.dropped - {*model.successor, *model.snapshots.values()}
        if not killed:
            host.close()
            self.low = self.seq
        versions.look()
        self.versions = versions.seen
        self.disk = host.disk.moment().crashed((1,) * len(host.disk.changes))
        self.files = self._content(self.disk)
        self.older = older

    @staticmethod
    def _content(disk: SimDisk) -> dict[str, bytes]:
        names = disk.names(disk.find(STORE))
        return {name: disk.read(f"{STORE}/{name}") for name in names}

    def damaged(self, case: Case, other: Target | None = None) -> SimDisk | None:
        """Return the store's disk with a damage done, or None where it changes nothing."""
        data = self.files[case.file]
        if case.kind == "bit":
            new = bytearray(data)
            new[case.at] ^= 1 << case.detail
        elif case.kind == "cut":
            new = data[: case.at]
        elif case.kind == "longer":
            new = data + random.Random(case.at).randbytes(case.at)
        else:
            start = case.at * SECTOR
            length = len(data[start : start + SECTOR])
            sector = self._substitute(case, start, other).ljust(length, b"\0")[:length]
            new = data[:start] + sector + data[start + length :]
        if new == data:
            return None
        disk = self.disk.moment().crashed(())
        disk.replace(f"{STORE}/{case.file}", bytes(new))
        return disk

    def _substitute(self, case: Case, start: int, other: Target | None) -> bytes:
        if case.kind == "stale":
            return self.versions[case.file, case.at][case.detail]
        how = HOW[case.detail]
        if how == "zero":
            return bytes(SECTOR)
        if how == "ones":
            return b"\xff" * SECTOR
        if how == "neighbour":
            start += SECTOR if start + SECTOR < len(self.files[case.file]) else -SECTOR
            return self.files[case.file][max(start, 0) :][:SECTOR]
        source = self.older if how == "old" or other is None else other.files
        return source.get(case.file, b"")[start : start + SECTOR]

    def cases(self, kinds: Container[str]) -> Cases:
        """Return every damage: all bits of what is small and vital, one of each other byte.

        Of the zeroes at a file's end, one sector. Of log, index and superblocks, every older
        version of every sector.
        """
        rng = random.Random(5)
        cases = Cases(kinds)
        for file, data in self.files.items():
            used = used_of(data)
            bytes_ = min(used + SECTOR, len(data))
            if file.startswith(EVERY_BIT):
                cases.add("bit", file, [(at, bit) for at in range(bytes_) for bit in range(8)])
            else:
                cases.add("bit", file, list(enumerate(byte % 8 for byte in rng.randbytes(bytes_))))
            cases.add("cut", file, [(at, 0) for at in (*range(bytes_), len(data) - 1)])
            cases.add("longer", file, [(at, 0) for at in (1, 511, 512, 4096, 70000)])
            sectors = range(-(-bytes_ // SECTOR))
            cases.add("sector", file, [(at, how) for at in sectors for how in range(len(HOW))])
        for (file, at), versions in self.versions.items():
            cases.add("stale", file, [(at, k) for k in range(len(versions))])
        return cases

    def check(self, case: Case, other: Target | None = None, mode: str = "r+") -> Outcome | None:
        """Do a damage and open the store. Raises Failure on wrong bytes, or a strange exception."""
        disk = self.damaged(case, other)
        if disk is None:
            return None
        excused = case.file.endswith(".img") and not case.file.startswith(OTHER_IMAGES)
        outcome = Outcome()
        try:
            store = self.host.open_on(disk, mode)
        except JrnlError as error:
            outcome.closed = True
            outcome.refused.append(f"open: {error}")
            return outcome
        except Exception as error:
            raise Failure(f"open raised {type(error).__name__}: {error}") from error
        try:
            self._look(store, outcome, excused)
        finally:
            store.close()
        return outcome

    def _look(self, store: jrnl.Store, outcome: Outcome, excused: bool) -> None:
        sizes = dict(zip(self.shape.names, self.shape.sizes, strict=True))

        def read(image: object) -> State:
            return tuple(image.read(0, size, name) for name, size in sizes.items())

        def production() -> State:
            if not (self.low <= store.seq <= self.seq or excused or store.problems):
                raise Failure(f"it is at {store.seq}, and was at {self.seq}")
            if store.seq not in self.history and not excused:
                raise Failure(f"it is at {store.seq}, which is no state of its history")
            return tuple(store.volumes[name].read(0, size) for name, size in sizes.items())

        def snapshot(name: str) -> object:
            if name not in store.snapshots and store.problems:
                raise CorruptionError(f"{name} is not there, and the store says so")
            return store.snapshots[name]

        def at(seq: int) -> State:
            with store.recover(seq) as image:
                return read(image)

        def gone(seq: int) -> None:
            try:
                at(seq)
            except JrnlError:
                return
            if seq <= self.seq:
                raise Failure(f"state {seq} was dropped by a rewind, and is back")

        for seq in self.dropped:
            gone(seq)
        looks = {"production": (production, self.history.get(store.seq))}
        looks |= {f"state {k}": (lambda k=k: at(k), state) for k, state in self.states.items()}
        for name, state in self.snapshots.items():
            looks[f"snapshot {name}"] = (lambda name=name: read(snapshot(name)), state)
        for what, (act, wanted) in looks.items():
            try:
                found = act()
            except JrnlError as error:
                outcome.refused.append(f"{what}: {error}")
            except Failure:
                raise
            except Exception as error:
                raise Failure(f"{what} raised {type(error).__name__}: {error}") from error
            else:
                if found != wanted and not excused:
                    raise Failure(f"{what} came back wrong, without an exception")
                outcome.right += 1
        store.verify()


@cache
def target_of(images: str = "both", story: str = "closed", seed: int = 1) -> Target:
    """Return the store that a story ends with; "rewound-killed" is "rewound" with a kill."""
    name, _, end = story.partition("-")
    shape = Shape(images=images, overflow="fold" if name == FOLDED else "evict")
    names = ("snapshot", *STORIES["wrapped"]) if name == FOLDED else STORIES[name]
    return Target(shape, seed, names, end == "killed")


def run(
    images: str,
    step: int = 1,
    first: int = 0,
    kinds: Container[str] = KINDS,
    story: str = "closed",
) -> tuple[Counter[str], list[str]]:
    """Do every `step`-th damage; return what came of them, and the failures with commands."""
    target, other = target_of(images, story), target_of(images, story, seed=2)
    counts: Counter[str] = Counter()
    failures = []
    for k, case in enumerate(target.cases(kinds).every(step, first)):
        try:
            outcome = target.check(case, other, "r" if k % 4 == 3 else "r+")
        except Exception as error:
            failures.append(
                f"python -m tests.crash.damage --images {images} --story {story} --case {case}\n"
                f"    {type(error).__name__}: {error}"
            )
            continue
        if outcome is not None:
            counts["damages"] += 1
            counts["noticed"] += bool(outcome.refused)
            counts[f"store refused: {case.kind} of {case.file}"] += outcome.closed
            counts["states right"] += outcome.right
            counts["states refused"] += len(outcome.refused)
    return +counts, failures


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", default="both", choices=("both", "after"))
    parser.add_argument("--step", type=int, default=1)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--kinds", default=",".join(KINDS), help="only these")
    parser.add_argument("--story", default="closed", help="one of STORIES, or that and -killed")
    parser.add_argument("--case", help="replay this one")
    args = parser.parse_args()
    if args.case:
        target = target_of(args.images, args.story)
        print(target.check(Case.parse(args.case), target_of(args.images, args.story, seed=2)))
        return 0
    counts, failures = run(args.images, args.step, args.first, args.kinds.split(","), args.story)
    print("\n".join(failures[:20]))
    print(f"{dict(counts)}, {len(failures)} failures")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
