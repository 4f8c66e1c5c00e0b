"""SIGKILL at every system call of a store on disk: real files, real processes.

The device under the store counts its calls, and at the chosen one the process kills itself. What is
then in the files, the page cache included, is what a killed process leaves (F1, docs/testing.md).
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import jrnl
from jrnl import Kind
from jrnl._core import CallbackDevice
from jrnl.disk.create import create_in
from jrnl.disk.folder import Folder
from tests.model.amount import more_in_long
from tests.model.places import ROOT

SIZE = 9000
ACK = struct.Struct("<q")
CREATED = -1
CREATION = {"size": SIZE, "journal": "64KiB", "overlay": "64KiB", "clock": lambda: 10**18}
Act = Callable[[jrnl.Store], object]


def fill(offset: int, length: int, value: int) -> Act:
    return lambda store: store.volume.write(offset, bytes([value]) * length)


def restore(to: int) -> Act:
    return lambda store: store.recover(to).restore()


def flush(store: jrnl.Store) -> int:
    return store.flush()


WORKLOADS: dict[str, list[Act]] = {
    "write": [fill(100, 5000, 1), flush, fill(0, 512, 2), fill(700, 10, 3), flush],
    "close": [fill(0, 600, 1), lambda store: store.mark("m"), lambda store: store.close()],
    "snapshot": [
        fill(0, 600, 1),
        lambda store: store.snapshot("s"),
        fill(300, 600, 2),
        flush,
        lambda store: store.snapshots["s"].delete(),
    ],
    "rewind": [fill(0, 4096, 1), flush, fill(4000, 4096, 2), flush, fill(0, 9000, 3),
               lambda store: store.rewind(2), fill(10, 20, 4), flush],
    "restore": [fill(0, 4096, 1), flush, fill(4000, 4096, 2), fill(8000, 1000, 3), restore(1),
                flush, fill(5, 5, 5), flush],
    "wrap": [act for k in range(9) for act in (fill(k * 500, 4096, k + 1), flush)],
}  # fmt: skip


class Counting:
    """A device that kills its process at one of its calls."""

    def __init__(self, device, folder: CountingFolder) -> None:
        self.device = device
        self.folder = folder

    @property
    def size(self) -> int:
        return self.device.size

    def pread(self, offset: int, length: int) -> bytes:
        return self.device.pread(offset, length)

    def pwrite(self, offset: int, data: memoryview) -> int:
        self.folder.count()
        half = len(data) // 2
        if half and self.folder.calls % 2:  # a short write: the rest is another call
            data = data[:half]
        return self.device.pwrite(offset, data)

    def sync(self) -> None:
        self.folder.count()
        self.device.sync()

    def drop_cache(self) -> None:
        self.device.drop_cache()

    def truncate(self, size: int) -> None:
        self.folder.count()
        self.device.truncate(size)

    def close(self) -> None:
        self.device.close()


class CountingFolder(Folder):
    """A folder whose files count, and which counts what is done to its names."""

    calls = 0
    at = -1

    def count(self) -> None:
        CountingFolder.calls += 1
        if CountingFolder.calls == CountingFolder.at:
            os.kill(os.getpid(), signal.SIGKILL)

    def make(self, name):
        self.count()
        os.mkdir(name, dir_fd=self._descriptor)
        return self.folder(name)

    def folder(self, name):
        return CountingFolder(name, self._descriptor)

    def create(self, name, size):
        self.count()
        return CallbackDevice(Counting(super().create(name, size), self))

    def open(self, name, writable):
        return CallbackDevice(Counting(super().open(name, writable), self))

    def clone(self, source, target):
        return False

    def rename(self, old, new):
        self.count()
        super().rename(old, new)

    def remove(self, name):
        self.count()
        super().remove(name)

    def sync(self):
        self.count()
        super().sync()


def expected(acts: list[Act]) -> dict[int, bytes]:
    """Each seq's content, from a store in memory; REWIND entries of recoveries come on top."""
    creation = {k: v for k, v in CREATION.items() if k != "overlay"}
    store = jrnl.create(images="both", **{**creation, "journal": "1MiB"})
    states, seq = {0: bytes(SIZE)}, 0
    for act in acts:
        act(store)
        if store._engine.closed:
            break
        for k in range(seq + 1, store.seq + 1):
            try:
                with store.view(k) as view:
                    states[k] = view.read(0, SIZE)
            except jrnl.PointExpired:  # dropped by the rewind itself
                continue
        seq = store.seq
    return states


def run(root: Path, acts: list[Act], at: int, acks: int) -> None:
    """In the child: the workload, with a word on what is durable after each act."""
    CountingFolder.calls, CountingFolder.at = 0, at
    store = create_in(CountingFolder(root), "s", **CREATION)
    os.write(acks, ACK.pack(0))
    for act in acts:
        act(store)
        if store._engine.closed:
            break
        durable = store._session.log.durable_seq
        os.write(acks, ACK.pack(durable))
    if not store._engine.closed:
        store.close()
    os.write(acks, ACK.pack(1 << 40))


def killed_run(root: Path, acts: list[Act], at: int) -> tuple[int, bool]:
    """Run the workload in a child; what it was told is durable, and whether it was killed."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            run(root, acts, at, write_end)
            status = 0
        finally:
            os._exit(status)
    os.close(write_end)
    with open(read_end, "rb") as file:
        words = file.read()
    _, status = os.waitpid(child, 0)
    killed = os.WIFSIGNALED(status)
    assert killed or os.waitstatus_to_exitcode(status) == 0
    acked = ACK.unpack(words[-ACK.size :])[0] if words else CREATED
    return acked, killed


def check(root: Path, states: dict[int, bytes], acked: int) -> None:
    """Open what is left: a whole state, not older than what was durable, with all its points."""
    if not (root / "s").exists():
        assert acked == CREATED
        jrnl.create(root / "s", size=SIZE, journal="64KiB").close()
        assert os.listdir(root) == ["s"]
        return
    with jrnl.open(root / "s", "r") as store:
        seen = store.volume.read(0, SIZE)
    with jrnl.open(root / "s") as store:
        assert store.problems == []
        assert store.verify().ok
        states = dict(states)
        for row in store.journal.entries:
            if row["kind"] == Kind.REWIND:
                states[int(row["seq"])] = states[int(row["offset"])]
        newest = states[store.seq]
        assert store.volume.read(0, SIZE) == newest
        assert seen == newest  # opening for reading first has shown the same
        if acked < 1 << 40:
            assert store.seq >= acked
        for seq in {store.window.oldest, *store.journal.entries["seq"].tolist()}:
            with store.view(seq) as view:
                assert view.read(0, SIZE) == states[seq], seq
        for snapshot in store.snapshots.values():
            assert snapshot.read(0, SIZE) == states[snapshot.seq]
        store.volume.write(77, b"after")
    with jrnl.open(root / "s") as store:
        assert store.volume.read(77, 5) == b"after"
        with store.view(store.seq - 1) as view:
            assert view.read(0, SIZE) == newest


@more_in_long("step", 11, 1)
@pytest.mark.parametrize("name", WORKLOADS)
def test_a_kill_at_any_call_leaves_a_whole_state(name, step, seed, tmp_path):
    acts = WORKLOADS[name]
    states = expected(acts)
    at, killed = seed % step - step + 1, True
    while killed:
        at += step
        root = tmp_path / str(at)
        root.mkdir()
        acked, killed = killed_run(root, acts, at)
        check(root, states, acked)
        shutil.rmtree(root)
    assert at > 10


THREADS = 4
REGION = 8192
BUSY = """
import os, struct, sys, threading
import jrnl

store = jrnl.open(sys.argv[1], overlay="64KiB")
starts = [int(start) for start in sys.argv[2].split(",")]

def work(k):
    n = starts[k]
    while True:
        n += 1
        store.volume.write(k * 8192 + n % 7 * 1000, struct.pack("<QQ", k, n) * 60)
        store.volume.write(k * 8192 + 8000, struct.pack("<Q", n))
        if n % 3 == 0:
            store.flush()
            os.write(1, struct.pack("<QQ", k, n))

for k in range(4):
    threading.Thread(target=work, args=(k,), daemon=True).start()
threading.Event().wait()
"""


@more_in_long("kills", 4, 20)
def test_threads_that_are_killed_keep_what_was_flushed(tmp_path, seed, kills):
    """The log wraps many times; a process dies at any moment, and the next one goes on."""
    rng = random.Random(seed)
    path = tmp_path / "s"
    jrnl.create(path, size=THREADS * REGION, journal="256KiB").close()
    acked, lasts = [0] * THREADS, [0] * THREADS
    for _ in range(kills):
        child = subprocess.Popen([sys.executable, "-c", BUSY, str(path), ",".join(map(str, lasts))],
                                 stdout=subprocess.PIPE)  # fmt: skip
        assert child.stdout is not None
        words = child.stdout.read(THREADS * 16)  # it is at work, however long that has taken
        time.sleep(rng.random() * 0.4)
        child.kill()
        words += child.communicate()[0]
        for at in range(0, len(words) - 15, 16):
            k, n = struct.unpack_from("<QQ", words, at)
            acked[k] = max(acked[k], n)
        with jrnl.open(path) as store:
            assert store.problems == []
            assert store.verify().ok
            for k in range(THREADS):
                last = lasts[k] = struct.unpack("<Q", store.volume.read(k * REGION + 8000, 8))[0]
                assert last >= acked[k]
                for n in range(max(last - 6, 1), last + 1):
                    found = store.volume.read(k * REGION + n % 7 * 1000, 960)
                    if last - n < 6 and found != bytes(960):
                        seen = struct.unpack_from("<QQ", found)
                        assert found == struct.pack("<QQ", *seen) * 60
                        assert seen[0] == k
                        assert seen[1] in (n, n + 7)  # the next round may have begun
    assert min(acked) > 0


STRACED = """
import sys
from pathlib import Path
from tests.crash.test_kill import WORKLOADS, run
import jrnl
from jrnl.disk.create import create_in
from jrnl.disk.folder import Folder
from tests.crash import test_kill

test_kill.CountingFolder = type("Plain", (Folder,), {})
run(Path(sys.argv[1]), WORKLOADS[sys.argv[2]], -1, 1)
"""


@pytest.mark.skipif(
    shutil.which("strace") is None and not os.environ.get("CI"),
    reason="needs the Debian package strace",
)
@more_in_long("share", 6, 1)
@pytest.mark.parametrize("call", ["pwrite64", "fdatasync", "fsync", "mkdirat,renameat,renameat2"])
def test_a_kill_by_strace_leaves_a_whole_state(call, share, seed, tmp_path):
    """Not our own code does the killing: the kernel stops the process at the n-th call."""
    acts = WORKLOADS["rewind"]
    states = expected(acts)
    step = {"pwrite64": 7 * share, "fdatasync": 3 * share, "fsync": 3 * share}.get(call, 1)
    for at in range(1 + seed % step, 200, step):
        root = tmp_path / str(at)
        root.mkdir()
        done = subprocess.run(
            ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={call}", "-e",
             f"inject={call}:signal=SIGKILL:when={at}", sys.executable, "-c", STRACED, str(root),
             "rewind"],
            capture_output=True, cwd=ROOT, check=False,
        )  # fmt: skip
        words = done.stdout
        whole = words[: len(words) - len(words) % ACK.size]
        acked = ACK.unpack(whole[-ACK.size :])[0] if whole else CREATED
        check(root, states, acked)
        shutil.rmtree(root)
        if done.returncode == 0:
            break
    else:
        pytest.fail("the workload never came to its end")
