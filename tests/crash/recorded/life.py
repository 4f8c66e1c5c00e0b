"""A life: a store on real files, two or three threads that write, one that does all the rest.

Every call leaves a mark in the recording before it begins and after it has returned. What threads
do is drawn from the seed; in which order it happens is not. A life ends by a close, by leaving the
process without one, or by a kill.
"""

from __future__ import annotations

import atexit
import os
import random
import signal
import threading
import time
import traceback
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import xxhash

import jrnl
import jrnl.snapshot_copier
from tests.crash.recorded.promises import Facts
from tests.crash.recorded.recording import Recorder

NAME = "s"
LATER = (jrnl.StorePoisoned, jrnl.StoreClosed, OSError)


@dataclass(frozen=True)
class Shape:
    """What the store is like: small."""

    images: str = "both"
    sizes: tuple[int, ...] = (65536, 5500)
    journal: int = 65536
    sync: str = "flush"
    overflow: str = "evict"

    @property
    def names(self) -> list[str]:
        return [f"v{k}" for k in range(len(self.sizes))]


@dataclass(frozen=True)
class Spec:
    """One life."""

    seed: int
    shape: Shape
    first: int  # the number of its first call
    creates: bool
    writers: int = 2
    steps: int = 40  # of each writer
    ends: str = "kill"  # "close" | "leave" | "kill"
    pause_us: int = 300
    fault: tuple[str, str, int, int] | None = None
    damaged: bool = False
    longest: int = 6000
    rest_s: float = 0.0  # up to which the thread that copies snapshots waits between its turns


def digest_of(state: Any, shape: Shape) -> str:
    """Hash a whole state, as `tests.crash.recorded.check` does."""
    parts = (state.read(0, size, name) for name, size in zip(shape.names, shape.sizes, strict=True))
    return str(xxhash.xxh3_64_hexdigest(b"".join(parts)))


def rows_of(store: Any, first: int, last: int = 1 << 60) -> list[list[int]]:
    """Return the headers of these entries, without their times."""
    entries = store.journal.entries
    entries = entries[(entries["seq"] >= first) & (entries["seq"] <= last)]
    return [[int(row[0]), *map(int, row[2:])] for row in entries.tolist()]


class Host:
    """Does what one life does, and notes it."""

    def __init__(self, spec: Spec, recorder: Recorder, root: Path) -> None:
        self.spec, self.recorder, self.root = spec, recorder, root
        self.number = spec.first
        self.mutex = threading.Lock()
        self.over = threading.Event()
        self.store: Any = None
        self.noted = 0  # entries up to here are in the recording, as far as anybody has seen them

    # Calls and their marks.

    def call(self, op: str, act: Any, **args: Any) -> Any:
        """Do a call between its two marks; `act` takes its number, gives what to note.

        With the second one go the headers that nobody has noted yet: of calls, too, that will never
        return.
        """
        with self.mutex:
            number = self.number
            self.number += 1
        self.recorder.mark(b=number, op=op, **args)
        try:
            result = act(number)
        except Exception as error:
            self.recorder.mark(e=number, x=type(error).__name__, m=str(error)[:200])
            self._judge(op, error)
            return None
        old, rows = None, []
        with suppress(jrnl.JrnlError):
            old, rows = self.store.window.oldest, rows_of(self.store, self.noted + 1)
        self.recorder.mark(e=number, r=result, old=old, rows=rows)
        self._noted(rows)
        return result

    def _noted(self, rows: list[list[int]]) -> None:
        """Leave these headers out from now on. Until they are recorded, all note them."""
        with self.mutex:
            self.noted = max([self.noted, *(row[0] for row in rows)])

    def _judge(self, op: str, error: Exception) -> None:
        """Stop at what a failed call of the file system leaves; all else that is odd is a bug."""
        if self.spec.fault and isinstance(error, LATER):
            if isinstance(error, jrnl.StorePoisoned):  # else: does it take more?
                self.over.set()
        elif isinstance(error, jrnl.StoreClosed) and self.over.is_set():
            pass
        elif not isinstance(error, (jrnl.JournalFull, jrnl.PointExpired, jrnl.PinnedPoint,
                                    jrnl.UnknownPoint, jrnl.NameTaken)):  # fmt: skip
            if self.spec.damaged and isinstance(error, (jrnl.JrnlError, OSError)):
                if not isinstance(error, jrnl.CorruptionError):
                    self.over.set()
                return
            self.over.set()
            self.bug(f"{op}: {''.join(traceback.format_exception(error))}")

    def bug(self, text: str) -> None:
        self.recorder.mark(bug=text[-3000:])

    # Threads.

    def live(self) -> None:
        spec = self.spec
        try:
            self._open()
        except Exception as error:
            if (spec.fault or spec.damaged) and isinstance(error, (jrnl.JrnlError, OSError)):
                return
            self.bug(f"opening: {traceback.format_exc()}")
            return
        if spec.fault:
            self.recorder.fault(*spec.fault)
        threads = [threading.Thread(target=self._guard, args=(self._write, k))
                   for k in range(spec.writers)]  # fmt: skip
        threads.append(threading.Thread(target=self._guard, args=(self._rest, 99)))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if spec.ends == "close":
            open_ones = {number: recovery.seq for number, recovery in self.store.recoveries.items()}
            self.call("close", lambda _: self._close(), open=open_ones)

    def _close(self) -> int:
        seq = int(self.store.seq)
        poisoned = self.store._session.log.poisoned
        self.store.close()
        if poisoned:  # closing gives up what it could not save, and says nothing
            raise jrnl.StorePoisoned("what was not durable is lost")
        return seq

    def _open(self) -> None:
        shape, path = self.spec.shape, self.root / NAME
        if self.spec.creates:
            sizes = dict(zip(shape.names, shape.sizes, strict=True))
            self.store = jrnl.create(path, volumes=sizes, journal=shape.journal, sync=shape.sync,
                                     images=shape.images, overflow=shape.overflow,
                                     overlay=65536)  # fmt: skip
        else:
            self.store = jrnl.open(path, overlay=65536)
        facts = asdict(Facts.of(self.store))
        self.noted = facts["seq"]
        self.recorder.mark(opened=facts)

    def _guard(self, act: Any, k: int) -> None:
        rng = random.Random(f"{self.spec.seed} {k}")
        try:
            act(rng, k)
        except Exception:
            self.bug(traceback.format_exc())
            self.over.set()

    def _write(self, rng: random.Random, k: int) -> None:
        """Write: now here, now where the others do."""
        for _ in range(self.spec.steps):
            if self.over.is_set():
                return
            self._write_once(rng, k)
            if rng.random() < 0.2:
                self.call("flush", lambda _: self.store.flush())

    def _write_once(self, rng: random.Random, k: int) -> None:
        from tests.crash.recorded.history import content_of

        v = rng.choice([0, 0, 0, 1, 1, 2])
        size, volume = self.spec.shape.sizes[v], self.store.volumes[f"v{v}"]
        n = rng.choice([1, 300, 512, 1024, 4096, self.spec.longest])
        n = min(n, size // 2, self.spec.shape.journal // 5)
        o = rng.randrange(size - n + 1)
        if rng.random() < 0.5:  # its own part, whole sectors
            o = min((k * size // 4 + o // 4) // 512 * 512, size - n)
        if v == 2:  # all of it, so that it is now a hole, now none
            o, n = 0, size
        kind = rng.choice(["write"] * 6 + ["write_many", "discard", "zero"])
        if kind == "write":
            self.call("write", lambda q: volume.write(o, content_of(q, n)), v=v, o=o, n=n)
        elif kind == "write_many":
            n = rng.choice([512, 700])
            offsets = [rng.randrange(size - n + 1) for _ in range(rng.choice([2, 3, 5, 12]))]
            while n * len(offsets) > self.spec.shape.journal // 4:
                offsets.pop()
            self.call("write_many",
                      lambda q: volume.write_many(offsets, content_of(q, n * len(offsets))),
                      v=v, o=offsets, n=n)  # fmt: skip
        else:
            act = volume.discard if kind == "discard" else volume.write_zeroes
            n = min(n, 1024)
            self.call(kind, lambda _: act(o, n), v=v, o=o, n=n)

    def _rest(self, rng: random.Random, _: int) -> None:
        """Do all the rest."""
        acts = ["snapshot", "restore"] * 3
        acts += ["mark", "pin", "unpin", "flush", "view", "recover", "read_snapshot", "delete",
                 "forget", "verify"]  # fmt: skip
        if self.spec.shape.images != "after":
            acts += ["rewind", "rewind", "rewind"]
        for _ in range(self.spec.steps // 2):
            if self.over.is_set():
                return
            act = rng.choice(acts)
            with suppress(jrnl.PointExpired, jrnl.UnknownPoint, jrnl.JournalFull):
                self._act(act, rng)

    def _act(self, act: str, rng: random.Random) -> None:
        try:
            getattr(self, act)(rng)
        except (jrnl.PointExpired, jrnl.UnknownPoint, jrnl.JournalFull):
            raise
        except Exception as error:
            if isinstance(error, jrnl.PinnedPoint):
                return
            self._judge(act, error)

    # What the one thread does.

    def point(self, rng: random.Random) -> int:
        seqs = self.store.journal.entries["seq"][-25:].tolist()
        return int(rng.choice(seqs or [self.store.seq]))

    def flush(self, _: random.Random) -> None:
        self.call("flush", lambda _: self.store.flush())

    def name(self, letter: str) -> str:
        with self.mutex:
            self.number += 1
            return f"{letter}-{self.number}"

    def mark(self, _: random.Random) -> None:
        name = self.name("m")
        self.call("mark", lambda _: self.store.mark(name).seq, name=name)

    def pin(self, _: random.Random) -> None:
        name = self.name("p")
        if len(self.store.pins) < 2:
            self.call("mark", lambda _: self.store.mark(name, pinned=True).seq, name=name,
                      pinned=True)  # fmt: skip

    def unpin(self, rng: random.Random) -> None:
        names = [pin.name for pin in self.store.pins if pin.name]
        if names:
            name = rng.choice(names)
            self.call("unpin", lambda _: self.store.unpin(name), name=name)

    def snapshot(self, rng: random.Random) -> None:
        name = self.name("n")
        if len(self.store.snapshots) < 3:
            self.call("snapshot", lambda _: self.store.snapshot(name).seq, name=name)
            if rng.random() < 0.3 and name in self.store.snapshots:
                self.store.snapshots[name].wait()

    def delete(self, rng: random.Random) -> None:
        names = [name for name in self.store.snapshots if not name.startswith("base")]
        if names:
            name = rng.choice(names)
            self.call("delete", lambda _: self.store.snapshots[name].delete(), name=name)

    def rewind(self, rng: random.Random) -> None:
        for recovery in list(self.store.recoveries.values()):
            self._forget(recovery)
        for name in [pin.name for pin in self.store.pins if pin.name]:
            self.call("unpin", lambda _, name=name: self.store.unpin(name), name=name)
        to = self.point(rng)

        def act(_: int) -> dict[str, int]:
            done = self.store.rewind(to)
            return {"seq": int(done.seq), "entries": int(done.entries), "to": to}

        self.call("rewind", act, to=to)

    def restore(self, rng: random.Random) -> None:
        to = self.point(rng)
        recovery = self.store.recover(to)
        if rng.random() < 0.3:
            recovery, first = recovery.again(), recovery
            first.close()
        self.saw("recovery", recovery.seq, recovery)
        to = recovery.seq

        def act(_: int) -> dict[str, Any]:
            done = recovery.restore()
            return {"first": int(done.first_seq), "last": int(done.last_seq),
                    "rows": rows_of(self.store, done.first_seq, done.last_seq)}  # fmt: skip

        self.call("restore", act, to=to, rid=recovery.id)
        if len(self.store.recoveries) > 2:
            self._forget(next(iter(self.store.recoveries.values())))

    def _forget(self, recovery: Any) -> None:
        number = int(recovery.id)
        self.call("forget", lambda _: recovery.close(), rid=number)

    def forget(self, rng: random.Random) -> None:
        recoveries = list(self.store.recoveries.values())
        if recoveries:
            self._forget(rng.choice(recoveries))

    # Looking.

    def saw(self, what: str, seq: int, state: Any) -> None:
        self.recorder.mark(saw=what, seq=int(seq), digest=digest_of(state, self.spec.shape))

    def view(self, rng: random.Random) -> None:
        with self.store.view(self.point(rng)) as view:
            self.saw("view", view.seq, view)

    def recover(self, rng: random.Random) -> None:
        with self.store.recover(self.point(rng)) as recovery:
            self.saw("recovery", recovery.seq, recovery)
            with recovery.again() as again:
                self.saw("recovery", again.seq, again)

    def read_snapshot(self, rng: random.Random) -> None:
        snapshots = list(self.store.snapshots.values())
        if snapshots and self.spec.shape.overflow != "fold":
            snapshot = rng.choice(snapshots)
            self.saw("snapshot", snapshot.seq, snapshot)

    def verify(self, _: random.Random) -> None:
        report = self.store.verify()
        if not report.ok and not self.spec.damaged and not self.spec.fault:
            self.bug(f"verify: {report.problems}")


def run(spec: Spec, log: Path, root: Path) -> None:
    """Live a life in this process, which ends with it."""
    recorder = Recorder()
    rng = random.Random(f"{spec.seed} end")
    recorder.begin(log, root, spec.seed, spec.pause_us)
    if spec.ends == "kill" and spec.fault is None:
        recorder.fault("any", "KILL", rng.randrange(60, 40 * spec.steps))
    if spec.rest_s:  # a large volume's copy takes its time, and threads wait for their turn
        rests = [0.0, spec.rest_s / 10, spec.rest_s]
        jrnl.snapshot_copier.time = SimpleNamespace(
            sleep=lambda _: time.sleep(rng.choice(rests)), monotonic=time.monotonic
        )
    Host(spec, recorder, root).live()
    if spec.ends == "leave":
        atexit._run_exitfuncs()
    recorder.stop()  # a snapshot may still be being copied
    if spec.ends == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    os._exit(0)
