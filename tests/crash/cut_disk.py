"""Power cuts below a file system: record all that it writes, and mount what any moment has left.

    file system -> loop device -> nbdfuse -> qemu-nbd, blklogwrites -> an image, and a log of writes

A cut is a number of entries of the log. What a FLUSH entry follows is on the disk; of what was
written since the last one, any part may be missing. To see one again:

    python -m tests.crash.cut_disk FOLDER COUNT [DROP]

with the FOLDER of a recording, the COUNT of entries and, where writes were lost, the seed that says
which. Needs root.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from jrnl.logwrites import DISCARD, FLUSH, FUA, LogWarning, read_log
from tests.crash import cut_life
from tests.crash.cut_life import Promise
from tests.model.mounts import TOOLS, fused, in_memory, mounted
from tests.model.places import ROOT
from tests.model.tools import PATIENCE, command, environment, run, stop, until

IMAGE_BYTES = 300 << 20  # the least that XFS takes
BLOCK = 4096  # what a file system takes for whole or not written


@dataclass(frozen=True)
class System:
    """A file system: how it is made, and how it is mounted."""

    kind: str
    make: tuple[str, ...]
    options: str = "defaults"
    copy_options: str = "defaults"

    @property
    def tools(self) -> list[str]:
        return ["qemu-nbd", *TOOLS, f"mkfs.{self.kind}"]


EXT4 = ("-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0")
SYSTEMS = {
    "ext4": System("ext4", (*EXT4, "-b", "4096"), "data=ordered", "data=ordered"),
    "ext4-journal": System("ext4", (*EXT4, "-b", "1024"), "data=journal", "data=journal"),
    "xfs": System("xfs", ("-q", "-f"), copy_options="nouuid"),
    "btrfs": System("btrfs", ("-q", "-f")),
}


# Recording.


@contextmanager
def recorded(image: Path, log: Path, scratch: Path) -> Iterator[Path]:
    """Offer an image as a file: what is written to it is written to the log as well."""
    socket = scratch / "nbd"
    log.touch()
    options = (
        "driver=blklogwrites,file.driver=file,log.driver=file,"
        f"file.filename={image},log.filename={log},file.cache.no-flush=on,log.cache.no-flush=on"
    )
    with ExitStack() as stack:
        arguments = ["--socket", socket, "--persistent", "--discard=unmap", "--image-opts", options]
        server = subprocess.Popen(command("qemu-nbd", *arguments), env=environment())
        stack.callback(stop, server)
        until(socket.exists, "qemu-nbd", server)
        yield stack.enter_context(fused(f"nbd+unix:///?socket={socket}", scratch / "fuse"))


@dataclass(frozen=True)
class Recording:
    """A life on a file system, as its disk saw it, in a folder."""

    folder: Path
    system: str
    seed: int
    promises: list[Promise]

    @property
    def base(self) -> Path:
        return self.folder / "base.img"

    @property
    def disk(self) -> Path:
        """What the disk held in the end."""
        return self.folder / "disk.img"

    @property
    def log(self) -> Path:
        return self.folder / "writes.log"

    @classmethod
    def load(cls, folder: Path) -> Recording:
        facts = json.loads((folder / "recording.json").read_text())
        promises = [Promise(*promise) for promise in facts["promises"]]
        return cls(folder, facts["system"], facts["seed"], promises)

    def save(self) -> None:
        facts = {"system": self.system, "seed": self.seed, "promises": self.promises}
        (self.folder / "recording.json").write_text(json.dumps(facts))

    def keep(self, folder: Path) -> None:
        """Copy it to where it stays."""
        folder.mkdir()
        for file in (self.base, self.log, self.folder / "recording.json"):
            run("cp", "--sparse=always", file, folder)

    def promised(self, position: int) -> Promise:
        """Return the last promise that was made before the log was longer than `position`."""
        return max(promise for promise in self.promises if promise.position <= position)


def record(folder: Path, name: str, seed: int, *options: str) -> Recording:
    """Make a file system, live a life on it, and record what its disk is told from then on."""
    system = SYSTEMS[name]
    recording = Recording(folder, name, seed, [])
    with open(folder / "made.img", "wb") as file:
        file.truncate(IMAGE_BYTES)
    run(f"mkfs.{system.kind}", *system.make, folder / "made.img")
    run("cp", "--sparse=always", folder / "made.img", recording.base)
    (folder / "made.img").unlink()
    run("cp", "--sparse=always", recording.base, recording.disk)
    with (
        recorded(recording.disk, recording.log, folder) as disk,
        mounted(disk, folder / "mnt", system.kind, system.options) as root,
    ):
        (root / cut_life.FOLDER).mkdir()
        os.sync()
        recording.promises.extend(_live(root, recording.log, seed, options))
    recording.save()
    return recording


def _live(root: Path, log: Path, seed: int, options: tuple[str, ...]) -> list[Promise]:
    command = [sys.executable, "-m", "tests.crash.cut_life", root, log, str(seed), *options]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, text=True, cwd=ROOT, timeout=PATIENCE, check=True
    )
    return [Promise(*json.loads(line)) for line in done.stdout.splitlines()]


# Replaying.


class Cut(NamedTuple):
    """The entries that were written, and the seed that says which of the last ones were lost."""

    count: int
    drop: int | None = None


class Disk:
    """The disk of a recording at one moment after another."""

    def __init__(self, recording: Recording, scratch: Path) -> None:
        self.recording = recording
        with warnings.catch_warnings():  # what comes after the last flush is not counted
            warnings.simplefilter("ignore", LogWarning)
            self._log = read_log(recording.log, IMAGE_BYTES)
        entries = self._log.entries
        self._ends = entries["data"] + entries["length"] * (entries["flags"] & DISCARD == 0)
        self._flushes = [k for k, flags in enumerate(entries["flags"]) if flags & FLUSH]
        self._front, self._image = scratch / "front.img", scratch / "cut.img"
        self._begin_front()

    def _begin_front(self) -> None:
        run("cp", "--sparse=always", self.recording.base, self._front)
        self._done = 0

    def close(self) -> None:
        self._log.close()
        self._front.unlink(missing_ok=True)
        self._image.unlink(missing_ok=True)

    def __enter__(self) -> Disk:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def cuts(self, rng: random.Random, count: int) -> list[Cut]:
        """Draw cuts from where the store's life begins: the end, and a third of the rest each at
        flushes, between them, and with writes lost.
        """
        start = self.recording.promises[0].position
        first = next(k for k, end in enumerate(self._ends) if end > start)
        marks = [first, *(k for k in self._flushes if k >= first), len(self._ends)]
        gaps = [(a, b) for a, b in pairwise(marks) if b - a > 1]
        third = count // 3
        flushes = rng.sample(marks[1:-1], min(third, len(marks) - 2))
        places = [rng.randint(a + 2, b) for a, b in rng.choices(gaps, k=2 * third)]
        cuts = [Cut(len(self._ends)), *(Cut(k + 1) for k in flushes)]
        cuts += [Cut(place) for place in places[:third]]
        cuts += [Cut(place, rng.getrandbits(32)) for place in places[third:]]
        return sorted(cuts, key=lambda cut: (cut.count, cut.drop or 0))

    def promised(self, cut: Cut) -> Promise:
        """Return the last promise made before the cut."""
        return self.recording.promised(int(self._ends[cut.count - 1]))

    def replay(self, cut: Cut) -> Path:
        """Write what the disk holds after a cut into a file of its own, and return that."""
        flush = max((k for k in self._flushes if k < cut.count), default=0)
        if flush < self._done:
            self._begin_front()
        with open(self._front, "r+b") as file:
            for k in range(self._done, flush):
                self._apply(file.fileno(), k, None)
        self._done = flush
        run("cp", "--sparse=auto", self._front, self._image)
        rng = None if cut.drop is None else random.Random(cut.drop)
        with open(self._image, "r+b") as file:
            for k in range(flush, cut.count):
                self._apply(file.fileno(), k, rng)
        return self._image

    def _apply(self, file: int, k: int, rng: random.Random | None) -> None:
        """Write one entry; with `rng`, all, nothing or some blocks of it."""
        entry = self._log.entries[k]
        offset, length, flags = (int(entry[name]) for name in ("offset", "length", "flags"))
        share = 1.0 if rng is None or flags & FUA else rng.choice([0, 0.5, 1])
        if rng is not None and share == 0.5:
            cuts = range(offset - offset % BLOCK + BLOCK, offset + length, BLOCK)
            edges = [offset, *cuts, offset + length]
            pieces = [pair for pair in pairwise(edges) if rng.random() < share]
        else:
            pieces = [(offset, offset + length)] if share else []
        for start, end in pieces:
            if flags & DISCARD:
                _zero(file, start, end)
                continue
            data = memoryview(bytearray(end - start))
            self._log.readinto(int(entry["data"]) + start - offset, data)
            os.pwrite(file, data, start)


def _zero(file: int, start: int, end: int) -> None:
    """Write zeroes, but leave holes alone."""
    with suppress(OSError):  # no data from here on
        while (start := os.lseek(file, start, os.SEEK_DATA)) < end:
            hole = min(end, os.lseek(file, start, os.SEEK_HOLE))
            os.pwrite(file, bytes(hole - start), start)
            start = hole


def check(disk: Disk, cut: Cut, life: cut_life.Life, scratch: Path) -> None:
    """Cut the power, mount what is left, and hold the store against its life."""
    system = SYSTEMS[disk.recording.system]
    image = disk.replay(cut)
    with mounted(image, scratch / "cut", system.kind, system.copy_options) as root:
        cut_life.check(root / cut_life.FOLDER, life, disk.promised(cut))


def main(folder: str, count: str, drop: str | None = None) -> None:
    cut = Cut(int(count), None if drop is None else int(drop))
    recording = Recording.load(Path(folder))
    with (
        tempfile.TemporaryDirectory() as name,
        in_memory(Path(name, "memory")) as scratch,
        Disk(recording, scratch) as disk,
    ):
        promise = disk.promised(cut)
        life = cut_life.live(recording.seed)
        print(f"cut in or after step {promise.step + 1} of {len(life.steps)}: {promise}")
        for number in range(max(0, promise.step), min(promise.step + 2, len(life.steps))):
            print(f"step {number}, to seq {life.seqs[number]}:", *life.steps[number])
        check(disk, cut, life, scratch)
    print("the store is whole")


if __name__ == "__main__":
    main(*sys.argv[1:])
