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
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from jrnl.logwrites import DISCARD, FLUSH, FUA, LogWarning, read_log
from tests.crash import cut_life
from tests.crash.cut_life import Promise
from tests.model.places import ROOT

IMAGE_BYTES = 300 << 20  # the least that XFS takes
BLOCK = 4096  # what a file system takes for whole or not written
PATIENCE = 120  # seconds, for anything that may hang
TOOLS = {
    "qemu-nbd": "qemu-utils",
    "nbdfuse": "libnbd-bin",
    "losetup": "mount",
    "mount": "mount",
    "umount": "mount",
    "mkfs.ext4": "e2fsprogs",
    "mkfs.xfs": "xfsprogs",
    "mkfs.btrfs": "btrfs-progs",
}


@dataclass(frozen=True)
class System:
    """A file system: how it is made, and how it is mounted."""

    kind: str
    make: tuple[str, ...]
    options: str = "defaults"
    copy_options: str = "defaults"

    @property
    def tools(self) -> list[str]:
        return ["qemu-nbd", "nbdfuse", "losetup", "mount", "umount", f"mkfs.{self.kind}"]


EXT4 = ("-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0")
SYSTEMS = {
    "ext4": System("ext4", (*EXT4, "-b", "4096"), "data=ordered", "data=ordered"),
    "ext4-journal": System("ext4", (*EXT4, "-b", "1024"), "data=journal", "data=journal"),
    "xfs": System("xfs", ("-q", "-f"), copy_options="nouuid"),
    "btrfs": System("btrfs", ("-q", "-f")),
}


# What the machine has.


def lacking_packages(name: str) -> list[str]:
    """Return the Debian packages that are missing for a file system."""
    return sorted({TOOLS[tool] for tool in SYSTEMS[name].tools if _which(tool) is None})


def lacking_right(name: str) -> str | None:
    """Say why this process cannot mount such a file system, whatever is installed."""
    if os.getuid() != 0:
        return "needs root"
    for device in ("/dev/fuse", "/dev/loop-control"):
        if not os.access(device, os.R_OK | os.W_OK):
            return f"needs {device}"
    kind = SYSTEMS[name].kind
    if modprobe := _which("modprobe"):
        subprocess.run([modprobe, "-q", kind], env=_environment(), check=False)
    if kind not in Path("/proc/filesystems").read_text().split():
        return f"the kernel has no {kind}"
    return None


def _which(tool: str) -> str | None:
    return shutil.which(tool, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")


def _tool(name: str, *arguments: str | Path) -> list[str]:
    return [_which(name) or name, *map(str, arguments)]


def _environment() -> dict[str, str]:
    """Return that of a tool: what a sanitized build needs is not for them."""
    return {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}


def run(name: str, *arguments: str | Path) -> str:
    """Run a tool. Raises AssertionError with what it said."""
    done = subprocess.run(
        _tool(name, *arguments), capture_output=True, text=True, env=_environment(),
        timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{name} {arguments}: {done.stdout}{done.stderr}"
    return done.stdout.strip()


# Mounting. Whatever happens, nothing is left behind.


def _until(condition: Callable[[], bool], what: str, process: subprocess.Popen[bytes]) -> None:
    limit = time.monotonic() + PATIENCE
    while not condition():
        assert process.poll() is None, f"{what} ended with {process.returncode}"
        assert time.monotonic() < limit, f"{what} is not ready after {PATIENCE} s"
        time.sleep(0.01)


def _unmount(folder: Path) -> None:
    """Unmount; where a file there stays open, as soon as it is closed. Raises AssertionError."""
    for _ in range(20):
        with suppress(AssertionError):  # other programs look at what is new, and let go of it
            run("umount", folder)
            return
        time.sleep(0.1)
    run("umount", "--lazy", folder)
    raise AssertionError(f"something under {folder} is still open")


def _stop(process: subprocess.Popen[bytes]) -> None:
    with suppress(subprocess.TimeoutExpired):
        process.terminate()
        process.wait(5)
    process.kill()
    process.wait()


@contextmanager
def in_memory(folder: Path) -> Iterator[Path]:
    """Make a folder in memory: a disk would have to do every sync of thousands."""
    folder.mkdir(parents=True, exist_ok=True)
    run("mount", "-t", "tmpfs", "-o", "size=2g", "jrnl-power-cut", folder)
    try:
        yield folder
    finally:
        _unmount(folder)


@contextmanager
def mounted(file: Path, folder: Path, kind: str, options: str) -> Iterator[Path]:
    """Mount a file by a loop device, on a folder that is made for it."""
    folder.mkdir(exist_ok=True)
    with ExitStack() as stack:
        device = run("losetup", "--find", "--show", file)
        stack.callback(run, "losetup", "--detach", device)
        if kind == "btrfs":  # or the kernel minds that it has seen a newer state of it
            stack.callback(run, "btrfs", "device", "scan", "--forget", device)
        run("mount", "-t", kind, "-o", options, device, folder)
        stack.callback(_unmount, folder)
        yield folder


@contextmanager
def recorded(image: Path, log: Path, scratch: Path) -> Iterator[Path]:
    """Offer an image as a file: what is written to it is written to the log as well."""
    socket, folder = scratch / "nbd", scratch / "fuse"
    folder.mkdir()
    log.touch()
    options = (
        "driver=blklogwrites,file.driver=file,log.driver=file,"
        f"file.filename={image},log.filename={log},file.cache.no-flush=on,log.cache.no-flush=on"
    )
    with ExitStack() as stack:
        arguments = ["--socket", socket, "--persistent", "--discard=unmap", "--image-opts", options]
        server = subprocess.Popen(_tool("qemu-nbd", *arguments), env=_environment())
        stack.callback(_stop, server)
        _until(socket.exists, "qemu-nbd", server)
        file = folder / "disk"
        arguments = [file, f"nbd+unix:///?socket={socket}"]
        fuse = subprocess.Popen(_tool("nbdfuse", *arguments), env=_environment())
        stack.callback(_stop, fuse)
        _until(file.exists, "nbdfuse", fuse)
        stack.callback(_unmount, folder)
        yield file


# Recording.


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
