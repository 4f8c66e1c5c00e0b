"""A chain of lives: one is recorded, its crashes are looked at, from one of them the next goes on.

This runs in a process that was started under the recorder; each life is a fork of it.
"""

from __future__ import annotations

import faulthandler
import json
import os
import random
import shutil
import signal
import traceback
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from tests.crash.expect import Failure
from tests.crash.recorded import crashes, life, recording
from tests.crash.recorded.check import Check
from tests.crash.recorded.disk import Disk, Tree, digest, read_tree, write_tree
from tests.crash.recorded.history import Life, World
from tests.crash.recorded.life import Shape, Spec
from tests.crash.recorded.promises import Facts, Promise, Promises, found_in
from tests.crash.recorded.recording import Call, Missed, Record

DEPTH = 5
POINTS = 45  # places of a recording that are looked at
WAYS_EACH = 3  # beside what a kill leaves, and what was durable
DAMAGES = 25  # of a store that was closed
PATIENCE = 60  # seconds: what takes longer hangs


@dataclass(frozen=True)
class State:
    """A state of the disk: after so many records, lost in this way; or damaged."""

    at: int
    way: str = "kill"
    number: int = 0
    damage: str = ""
    damage_number: int = 0
    dig: bool = False
    spare: str = ""  # files of this kind are not damaged


@dataclass
class Link:
    """One life of a chain, and from which state it began."""

    spec: Spec
    start: State | None


@dataclass
class Result:
    counts: Counter[str] = field(default_factory=Counter)
    failures: list[tuple[str, State | None]] = field(default_factory=list)
    seen: set[bytes] = field(default_factory=set)


def shape_of(seed: int) -> Shape:
    """Return the store of a seed: most keep both images, some fold, some sync each write."""
    dice = random.Random(f"{seed} shape")
    return Shape(
        images=dice.choice(["both"] * 5 + ["after"]),
        sizes=dice.choice([(65536, 5500, 1024), (131072, 5500, 1024)]),
        journal=dice.choice([16384, 16384, 32768, 65536, 262144]),
        sync=dice.choice(["flush"] * 4 + ["always"]),
        overflow=dice.choice(["evict", "evict", "fold"]),
    )


def spec_of(seed: int, depth: int, shape: Shape, damaged: bool = False) -> Spec:
    dice = random.Random(f"{seed} {depth} spec")
    fault = None
    if dice.random() < 0.15 and not damaged:
        fault = (dice.choice(["write", "sync", "name", "any"]),
                 dice.choice(["EIO", "ENOSPC", "SHORT"]), dice.randrange(300),
                 dice.choice([1, -1]))  # fmt: skip
    return Spec(
        seed=seed * 100 + depth, shape=shape, first=1 + 100_000 * depth, creates=depth == 0,
        writers=dice.choice([2, 2, 3]), steps=dice.choice([15, 30, 45]),
        ends=dice.choice(["kill", "kill", "close", "close", "leave"]),
        pause_us=dice.choice([0, 200, 600, 3000]), fault=fault, damaged=damaged,
        longest=min(shape.journal // 10, 8000),
        rest_s=dice.choice([0.0, 0.0, 0.01, 0.05, 0.3]),
    )  # fmt: skip


class Chain:
    """The lives of one seed.

    Parameters
    ----------
    room : Path
        A folder on tmpfs of its own; it keeps the recordings of the chain.
    """

    def __init__(self, seed: int, room: Path, result: Result) -> None:
        self.seed, self.room, self.result = seed, room, result
        self.shape = shape_of(seed)
        self.dice = random.Random(f"{seed} chain")
        self.links: list[Link] = []
        self.promise: Promise | None = None  # of what the last life began from
        self.known: dict[tuple[bytes, bool], Facts | None] = {}  # what a state has shown

    def run(self) -> None:
        disk, start, damaged = Disk(), None, False
        for depth in range(DEPTH):
            damaged = damaged or bool(start and start.damage)
            spec = spec_of(self.seed, depth, self.shape, damaged)
            spec = replace(spec, creates=life.NAME not in disk.kept())
            self.links.append(Link(spec, start))
            self._save()
            if not self._live(depth, disk, start is not None and start.dig):
                return
            try:
                ended = self._look(depth, disk)
            except Missed as error:
                self.fail(f"a call was missed: {error}", None)
                return
            if ended is None:
                return
            disk, start = ended

    def _save(self) -> None:
        text = json.dumps({"seed": self.seed, "links": [asdict(link) for link in self.links]})
        (self.room / "chain.json").write_text(text)

    def log(self, depth: int) -> Path:
        return self.room / f"life-{depth}.rec"

    # Living.

    def _live(self, depth: int, disk: Disk, dig: bool) -> bool:
        """Live the last link's life from what is on a disk; False where it came to nothing."""
        root, log = self.room / "root", self.room / "now.rec"
        shutil.rmtree(root, ignore_errors=True)
        write_tree(disk.kept(), root, dig)
        self.status(f"life {depth}")
        child = os.fork()
        if child == 0:
            try:
                signal.alarm(PATIENCE)
                with open(self.room / "stderr", "w") as errors:
                    os.dup2(errors.fileno(), 2)
                    faulthandler.register(signal.SIGALRM, file=2, chain=True)
                life.run(self.links[-1].spec, log, root)
            finally:
                os._exit(97)
        _, status = os.waitpid(child, 0)
        self.result.counts["lives"] += 1
        self.result.counts[f"lives at depth {depth + 1}"] += 1
        recording.save(log, self.log(depth))
        if status and not (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL):
            said = (self.room / "stderr").read_text()[-2000:]
            self.fail(f"the process of a life ended with {status}: {said}", None)
            return False
        return True

    def prepared(self, depth: int) -> tuple[list[Record], Promises]:
        """Return what a life's recording says, and what holds in it. Raises Failure, Missed."""
        records = recording.read(self.log(depth))
        spec, lived = self.links[depth].spec, Life(records, list(self.shape.sizes))
        if self.promise is None or spec.creates:
            self.promise = None
            base: World | None = World(0, {0: tuple(bytes(n) for n in self.shape.sizes)})
        elif lived.opened is None:
            base = self.promise.world  # killed before it was open: nothing has changed
        else:
            base = self._resumed(Facts.parse(lived.opened), spec.damaged)
        if base is None:
            raise Untold
        always = self.shape.sync == "always"
        return records, Promises(lived, base, always, self.promise)

    def _resumed(self, facts: Facts, lenient: bool) -> World | None:
        """Return the history with which a life has begun."""
        assert self.promise is not None
        world = found_in(self.promise, facts, lenient)
        if world is None:
            return None
        check = Check(self.room, self.shape, random.Random(0), lenient)
        check.names(facts, self.promise, world)
        world.low = facts.seq
        world.trim(facts.oldest)
        return world

    # Looking.

    def _look(self, depth: int, disk: Disk) -> tuple[Disk, State] | None:
        """Look at crash states of a recording; return where the next life goes on, if anywhere."""
        try:
            records, promises = self.prepared(depth)
        except Untold:
            return None
        except (Failure, Missed) as error:
            self.fail(f"the life that went on: {error}", None)
            return None
        for problem in (*promises.life.bugs, *promises.wrong()):
            self.fail(problem, None)
        goes_on, chosen, before = None, self._places(records), len(self.result.failures)
        next_at = self._next_place(records, chosen)
        for at in range(len(records) + 1):
            if at in chosen:
                promise = promises.at(at)
                for state in self._states(at):
                    self._try(disk, state, promise)
                if self.dice.random() < 0.3:
                    self._damage(disk, promise, at, 3)
                if at == next_at:
                    goes_on = self._go_on(disk, at, promise, len(records))
            if at < len(records):
                disk.follow(records[at])
        if digest(disk.kept()) != digest(read_tree(self.room / "root")):
            self.fail(
                "a call was missed: the recording does not lead to what is in the files", None
            )
        if self._was_closed(promises):
            self._damage(disk, promises.at(len(records)), len(records), DAMAGES)
        return goes_on if len(self.result.failures) == before else None

    def _was_closed(self, promises: Promises) -> bool:
        calls = promises.life.calls
        return bool(calls) and calls[-1].name == "close" and calls[-1].happened

    def _places(self, records: list[Record]) -> set[int]:
        """Choose places: where seldom anything is written, within long calls, and anywhere."""
        changing = [k for k, record in enumerate(records)
                    if record.call not in (Call.MARK, Call.OPENED, Call.LOCKED)]  # fmt: skip
        third = POINTS // 3
        chosen = {len(records)}
        for places in (rare(records, changing), within_long_calls(records, changing), changing):
            some = self.dice.sample(places, min(third, len(places)))
            chosen |= {*some, *(k + 1 for k in some)}
        return chosen

    def _next_place(self, records: list[Record], chosen: set[int]) -> int:
        return len(records) if self.dice.random() < 0.4 else self.dice.choice(sorted(chosen))

    def _states(self, at: int) -> Iterator[State]:
        yield State(at, "kill")
        yield State(at, "none")
        for way in self.dice.sample(crashes.WAYS[2:], WAYS_EACH):
            yield State(at, way, self.dice.randrange(1000), dig=self.dice.random() < 0.3)

    def _go_on(self, disk: Disk, at: int, promise: Promise, end: int) -> tuple[Disk, State] | None:
        """Choose what the next life begins from; what a kill leaves is not durable even then."""
        ways = ["kill", "kill", *crashes.WAYS[1:]]
        state = State(at, self.dice.choice(ways), self.dice.randrange(1000),
                      dig=self.dice.random() < 0.3)  # fmt: skip
        closed = at == end and self.links[-1].spec.ends == "close"
        if closed and self.dice.random() < 0.5:
            state = replace(state, way="kill", damage=self.dice.choice(crashes.DAMAGES),
                            damage_number=self.dice.randrange(10_000),
                            spare=self._spared(False))  # fmt: skip
        self.promise = promise
        began = self.begun(disk, state)
        return None if began is None else (began, state)

    @staticmethod
    def begun(disk: Disk, state: State) -> Disk | None:
        """Return the disk that a life begins on."""
        if state.damage:
            changed = damaged_by(disk.reread(), disk, state)
            return None if changed is None else Disk.of(changed[0])
        if state.way == "kill":
            return disk.after_kill()
        return Disk.of(crashes.left(disk, state.way, state.number))

    def _damage(self, disk: Disk, promise: Promise, at: int, times: int) -> None:
        for _ in range(times):
            self._try(disk, State(at, damage=self.dice.choice(crashes.DAMAGES),
                                  damage_number=self.dice.randrange(10_000),
                                  spare=self._spared(promise.closed)), promise)  # fmt: skip

    def _spared(self, closed: bool) -> str:
        """Where a fold was interrupted, its snapshot's sums are made anew (docs/corruption.md)."""
        return "snapshot" if self.shape.overflow == "fold" and not closed else ""

    def _try(self, disk: Disk, state: State, promise: Promise) -> None:
        tree = crashes.left(disk, state.way, state.number)
        where = ""
        if state.damage:
            changed = damaged_by(tree, disk, state)
            if changed is None:
                return
            tree, where = changed
        mark = digest(tree)
        self.result.counts["states"] += 1
        shown = self.known.get((mark, state.dig))
        if shown is not None and promise.kept_by(shown):
            return
        self.result.counts["opened"] += 1
        self.result.seen.add(mark)
        self.status(json.dumps(asdict(state)))
        try:
            self.known[mark, state.dig] = self.check(tree, state, promise)
        except Exception as error:
            self.fail(f"{type(error).__name__}: {error} {where}", state, error)

    def check(self, tree: Tree, state: State, promise: Promise) -> Facts | None:
        """Open a state and hold it against the promise. Raises Failure and whatever else."""
        root = self.room / "state"
        write_tree(tree, root, state.dig)
        lenient = bool(state.damage) or self.links[-1].spec.damaged
        rng = random.Random(f"{self.seed} {state}")
        signal.alarm(PATIENCE)
        try:
            return Check(root, self.shape, rng, lenient).run(promise)
        finally:
            signal.alarm(0)
            shutil.rmtree(root, ignore_errors=True)

    # Telling.

    def status(self, text: str) -> None:
        (self.room / "status").write_text(f"{self.seed} {len(self.links)} {text}")

    def fail(self, text: str, state: State | None, error: Exception | None = None) -> None:
        frames = ""
        if error is not None and error.__traceback__ is not None:
            last = traceback.extract_tb(error.__traceback__)[-4:]
            frames = "".join(f"\n      {f.filename}:{f.lineno} {f.name}: {f.line}" for f in last)
        self.result.failures.append((text + frames, state))


def rare(records: list[Record], changing: list[int]) -> list[int]:
    """Return where files are changed that are changed seldom: not the log, not the volumes."""
    often = {node for node, count in Counter(records[k].node for k in changing).most_common(3)}
    return [k for k in changing if records[k].node not in often]


def within_long_calls(records: list[Record], changing: list[int]) -> list[int]:
    """Return where a call is under way that has several steps."""
    open_calls: set[int] = set()
    inside = []
    for k, record in enumerate(records):
        if record.call == Call.MARK:
            fact = json.loads(record.first)
            if fact.get("op") in ("restore", "rewind", "snapshot", "delete", "close"):
                open_calls.add(fact["b"])
            open_calls.discard(fact.get("e", -1))
        elif open_calls:
            inside.append(k)
    return sorted(set(inside) & set(changing))


class Untold(Exception):
    """A damaged store has said that it has lost something: nobody knows how it goes on."""


def damaged_by(tree: Tree, disk: Disk, state: State) -> tuple[Tree, str] | None:
    return crashes.damaged(tree, disk, state.damage, state.damage_number, state.spare)


def replay(folder: Path, room: Path) -> list[str]:
    """Make the state of a failure again from its recordings, and look at it."""
    saved = json.loads((folder / "chain.json").read_text())
    result = Result()
    chain = Chain(saved["seed"], room, result)
    disk: Disk | None = Disk()
    last = json.loads((folder / "failure.json").read_text())
    for depth, link in enumerate(saved["links"]):
        shutil.copy(folder / f"life-{depth}.rec", chain.log(depth))
        spec = link["spec"]
        shape = Shape(**{**spec["shape"], "sizes": tuple(spec["shape"]["sizes"])})
        chain.shape = shape
        fault = tuple(spec["fault"]) if spec["fault"] else None
        chain.links.append(Link(Spec(**{**spec, "shape": shape, "fault": fault}),
                                State(**link["start"]) if link["start"] else None))  # fmt: skip
        try:
            records, promises = chain.prepared(depth)
        except (Failure, Missed) as error:
            return [f"the life that went on: {error}"]
        following = saved["links"][depth + 1 : depth + 2]
        state = State(**(following[0]["start"] if following else last["state"] or {"at": 0}))
        assert disk is not None
        for record in records[: state.at]:
            disk.follow(record)
        promise = promises.at(state.at)
        if following:
            chain.promise, disk = promise, chain.begun(disk, state)
    found = [*promises.life.bugs, *promises.wrong()]
    if last["state"]:
        tree = crashes.left(disk, state.way, state.number)
        if state.damage:
            tree = damaged_by(tree, disk, state)[0]
        try:
            chain.check(tree, state, promise)
        except Exception as error:
            found.append(f"{type(error).__name__}: {error}")
    return found
