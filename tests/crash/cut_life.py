"""What a store does while a power cut is recorded, and what each state of it holds.

The life is drawn from a seed, on a store in memory, which also says what every seq holds. As a
program, `python -m tests.crash.cut_life FOLDER LOG SEED [--deaf]` lives it on disk, in FOLDER, and
says after each step how long the recorder's LOG is by then, and up to which seq the store has
promised durability: what it takes to keep the promise must be in the log up to there.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import jrnl
from jrnl import Kind
from jrnl._core import CallbackDevice
from jrnl.disk import open as opening
from jrnl.disk.create import create_in
from jrnl.disk.folder import Folder

VOLUMES = {"data": 60_000, "log": 9_000}
JOURNAL = "128KiB"
STEPS = 160
FOLDER = "r"  # what the store lies in, beside the noise
NOT_BEGUN = -2  # the number of the step: creation is the step -1
NOTHING = -1  # what is durable before the store is made


def clock() -> int:
    return 10**18


class Promise(NamedTuple):
    """What had been promised when the log was `position` bytes long."""

    step: int
    position: int
    durable: int


@dataclass
class Life:
    """The steps of a store's life; each seq's content; the snapshots after each step.

    Attributes
    ----------
    inside : set of int
        Seqs in the middle of a restore: states that nobody may find the store in.
    """

    steps: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    states: dict[int, bytes] = field(default_factory=dict)
    inside: set[int] = field(default_factory=set)
    snapshots: list[set[str]] = field(default_factory=list)
    seqs: list[int] = field(default_factory=list)


def act(store: jrnl.Store, name: str, what: dict[str, Any]) -> None:
    """Do one step; to close and open again is the caller's."""
    if name == "write":
        data = random.Random(what["content"]).randbytes(what["length"])
        store[what["volume"]].write(what["offset"], data)
    elif name == "discard":
        store[what["volume"]].discard(what["offset"], what["length"])
    elif name == "flush":
        store.flush()
    elif name == "mark":
        store.mark(what["name"])
    elif name == "snapshot":
        store.snapshot(what["name"])
    elif name == "delete":
        store.snapshots[what["name"]].delete()
    elif name == "rewind":
        store.rewind(what["to"])
    elif name == "restore":
        with store.recover(what["to"], base="production") as recovery:
            recovery.restore()


def draw(rng: random.Random, store: jrnl.Store, number: int) -> tuple[str, dict[str, Any]]:
    """Choose a step that can be done."""
    weights = {"write": 44, "discard": 3, "flush": 25, "mark": 3, "snapshot": 5, "delete": 4,
               "rewind": 6, "restore": 6, "reopen": 4}  # fmt: skip
    name = rng.choices(list(weights), list(weights.values()))[0]
    if name in ("write", "discard"):
        volume = rng.choice(["data", "data", "log"])
        length = rng.choice([rng.randint(1, 700), 512, 4096, rng.randint(1, 8000)])
        offset = rng.randrange(VOLUMES[volume] - length + 1)
        what = {"volume": volume, "offset": offset, "length": length}
        return name, what | ({"content": rng.getrandbits(32)} if name == "write" else {})
    if name in ("mark", "snapshot"):
        return name, {"name": f"{name}-{number}"}
    if name == "delete":
        there = sorted(store.snapshots)
        return (name, {"name": rng.choice(there)}) if there else ("flush", {})
    if name in ("rewind", "restore"):
        near = store.journal.entries["seq"].tolist()[-5:]
        return (name, {"to": rng.choice(near)}) if near else ("flush", {})
    return name, {}


def content(state: Any) -> bytes:
    """Return what all volumes of a view, a snapshot or a recovery hold."""
    return b"".join(state.read(0, size, name) for name, size in VOLUMES.items())


def production(store: jrnl.Store) -> bytes:
    return b"".join(store[name].read(0, size) for name, size in VOLUMES.items())


def live(seed: int, count: int = STEPS) -> Life:
    """Draw a life, and live it in memory."""
    rng = random.Random(seed)
    store = jrnl.create(volumes=VOLUMES, journal=JOURNAL, images="both", clock=clock)
    life = Life(states={0: production(store)})
    for number in range(count):
        before = store.seq
        name, what = draw(rng, store, number)
        act(store, name, what)
        life.steps.append((name, what))
        for seq in range(before + 1, store.seq + 1):
            with store.view(seq) as view:
                life.states[seq] = content(view)
        if name == "restore":
            life.inside.update(range(before + 1, store.seq))
        life.snapshots.append(set(store.snapshots))
        life.seqs.append(store.seq)
    store.close()
    return life


# After a cut.


def check(root: Path, life: Life, promise: Promise) -> None:
    """Open what a power cut has left: a whole state, not older than promised, and all its past."""
    path = root / "s"
    if not path.exists():
        assert promise.durable == NOTHING, "the store is gone"
        jrnl.create(path, volumes=VOLUMES, journal=JOURNAL).close()
        assert os.listdir(root) == ["s"]
        return
    with jrnl.open(path, "r") as store:
        _check_newest(store, life, promise)
    with jrnl.open(path) as store:
        states = _check_newest(store, life, promise)
        report = store.verify()
        assert report.ok, report.problems
        for seq in {store.window.oldest, *store.journal.entries["seq"].tolist()}:
            with store.view(seq) as view:
                assert content(view) == states[seq], f"state {seq} is another one"
        _check_snapshots(store, life, states, promise)
        newest = production(store)
        store["log"].write(77, b"after")
        after = store.seq
    with jrnl.open(path) as store:
        assert store["log"].read(77, 5) == b"after"
        with store.view(after - 1) as view:
            assert content(view) == newest


def _check_newest(store: jrnl.Store, life: Life, promise: Promise) -> dict[int, bytes]:
    """Check production; return what each seq holds, the seqs of this opening among them."""
    assert store.problems == [], store.problems
    states = dict(life.states)
    for row in store.journal.entries:
        if row["kind"] == Kind.REWIND:
            states[int(row["seq"])] = states[int(row["offset"])]
    assert store.seq >= promise.durable, f"state {promise.durable} was promised; {store.seq} is it"
    assert not _is_inside(store, life), f"half a restore: state {store.seq}"
    assert production(store) == states[store.seq], f"production is not state {store.seq}"
    return states


def _is_inside(store: jrnl.Store, life: Life) -> bool:
    """Whether the store is in the middle of a restore."""
    newest = store.journal.entries[-1:]
    return store.seq in life.inside and newest["kind"].tolist() != [Kind.REWIND]


def _check_snapshots(
    store: jrnl.Store, life: Life, states: dict[int, bytes], promise: Promise
) -> None:
    """The steps up to the promise are done, one more may be; so it is with their snapshots."""
    around = [
        life.snapshots[min(step, len(life.snapshots) - 1)] if step >= 0 else set()
        for step in (promise.step, promise.step + 1)
    ]
    names = set(store.snapshots)
    assert around[0] & around[1] <= names <= around[0] | around[1]
    for snapshot in store.snapshots.values():
        assert content(snapshot) == states[snapshot.seq], f"snapshot of state {snapshot.seq}"


# On disk.


class DeafFolder(Folder):
    """A folder whose files are never synced: a mistake that the test has to notice."""

    def create(self, name, size):
        return CallbackDevice(Deaf(super().create(name, size)))

    def open(self, name, writable):
        return CallbackDevice(Deaf(super().open(name, writable)))

    def make(self, name):
        os.mkdir(name, dir_fd=self._descriptor)
        return self.folder(name)

    def folder(self, name):
        return DeafFolder(name, self._descriptor)

    def clone(self, source, target):
        return False


class Deaf:
    def __init__(self, device: Any) -> None:
        self._device = device

    def __getattr__(self, name: str) -> Any:
        return getattr(self._device, name)

    def sync(self) -> None:
        pass


# Others write to the same file system, and what they sync takes with it what the store has not.
NOISE = """
import os, random, sys, time
rng = random.Random(int(sys.argv[2]))
while os.getppid() == int(sys.argv[3]):
    with open(os.path.join(sys.argv[1], f"noise-{rng.randrange(8)}"), "wb") as file:
        file.write(rng.randbytes(rng.randint(1, 9000)))
        file.flush()
        rng.choice([os.fsync, os.fsync, lambda _: os.sync()])(file.fileno())
    time.sleep(rng.random() * 0.004)
"""


def live_on_disk(root: Path, log: Path, seed: int, deaf: bool) -> None:
    """Live a life in a folder, and print the promises."""
    life = live(seed)
    place = (DeafFolder if deaf else Folder)(root)

    def promise(step: int, durable: int) -> None:
        print(json.dumps(Promise(step, log.stat().st_size, durable)), flush=True)

    promise(NOT_BEGUN, NOTHING)
    store = create_in(place, "s", volumes=VOLUMES, journal=JOURNAL, clock=clock)
    promise(-1, 0)
    for number, (name, what) in enumerate(life.steps):
        if name == "reopen":
            store.close()
            store = opening.open_in(place, "s", clock=clock)
        else:
            act(store, name, what)
        assert store.seq == life.seqs[number], (number, name, store.seq, life.seqs[number])
        promise(number, store._session.log.durable_seq)
    store.close()
    promise(len(life.steps), life.seqs[-1])
    place.close()


def main(folder: str, log: str, seed: str, *options: str) -> None:
    noise = subprocess.Popen([sys.executable, "-c", NOISE, folder, seed, str(os.getpid())])
    root = Path(folder, FOLDER)
    try:
        live_on_disk(root, Path(log), int(seed), "--deaf" in options)
    finally:
        noise.kill()
        noise.wait()


if __name__ == "__main__":
    main(*sys.argv[1:])
