"""The shipping store on a simulated disk, and every crash that the disk allows.

At each operation of the disk the power is cut: a part of the states that it may leave, chosen by
the operation's number, is opened by the shipping code and held against the model; some of these
openings are themselves cut at their operations, or meet one damaged superblock copy.

    python -m tests.crash.bench --seconds 60 --jobs 2      random lives
    python -m tests.crash.bench --sequences 2 --jobs 2     every sequence of up to 2 operations

Failures print the one command that replays them.
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace

import jrnl
from jrnl import CorruptionError, FormatError
from jrnl.disk import superblock
from tests.crash.disk import CHANGING, SYNC_FAILURES, Moment, Op, SimDisk
from tests.crash.expect import Expectation, Failure
from tests.crash.oracle import OrderOracle
from tests.crash.workload import MIXES, STORE, Host, Shape, sequences

SUPERS = ("super.0", "super.1")


@dataclass(frozen=True)
class Where:
    """One crash state: which choice at which operation, and so on inside its opening."""

    op: int
    state: int
    damage: int = -1  # which byte of which superblock copy has a bit flipped: 2 * byte + copy
    inner: tuple[tuple[int, int], ...] = ()

    def command(self) -> str:
        text = f"--op {self.op} --state {self.state}"
        if self.damage >= 0:
            text += f" --damage {self.damage}"
        if self.inner:
            text += " --depth " + ",".join(f"{op}:{state}" for op, state in self.inner)
        return text


@dataclass(frozen=True)
class Plan:
    """How much to look at. Everything else follows from the seed."""

    seed: int = 0
    shape: Shape | None = None  # by the seed, if None
    lives: int = 3
    length: int = 30  # operations in a life
    states: int = 8  # looked at for each operation of the disk
    exhaustive: int = 12  # all subsets of up to so many unsynced changes can be looked at
    depth: int = 2  # how many crashes one after the other, each in the opening after the last
    deep: float = 0.08  # how often an opening is itself cut
    inner: int = 4  # crash states looked at for each opening that is
    damaged: float = 0.03  # how often one superblock copy is damaged
    reads: float = 0.05  # how often it is opened for reading first
    go_on: float = 0.1  # how often the store is used after it was opened
    fail: float = 0.25  # how often a life has a sync that fails
    failures: int = 3  # give up after so many
    sequence: tuple[str, ...] = ()  # these operations, once, instead of random lives
    only: Where | None = None


# What each crash state was found to show: the state, the window's oldest one, the history up to it.
Shown = dict[bytes, set[tuple[int, int, int]]]


@dataclass
class Result:
    """What a run has looked at."""

    counts: Counter[str] = field(default_factory=Counter)
    seen: set[bytes] = field(default_factory=set)
    failures: list[str] = field(default_factory=list)
    shown: Shown = field(default_factory=dict)  # of sequences, which have much in common

    def add(self, other: Result) -> None:
        self.counts += other.counts
        self.seen |= other.seen
        self.failures += other.failures

    def __str__(self) -> str:
        parts = [f"{len(self.seen):,} distinct states", f"{len(self.failures)} lost or refused"]
        parts += [f"{count:,} {name}" for name, count in sorted(self.counts.items())]
        return ", ".join(parts)


class NextLife(Exception):
    """This life ends here."""


class Stop(Exception):
    """Time is over, or there were failures enough."""


def shape_of(seed: int) -> Shape:
    """Return the store of a seed: most keep both images, some sync every write, or fold."""
    return Shape(images="after" if seed % 3 == 2 else "both",
                 sync="always" if seed % 5 == 4 else "flush",
                 overflow="fold" if seed % 4 in (1, 2) else "evict")  # fmt: skip


class Bench:
    """One run: lives of one store, or one sequence of operations on a fresh one."""

    def __init__(self, plan: Plan, result: Result, deadline: float | None = None) -> None:
        self.plan, self.result, self.deadline = plan, result, deadline
        self.rng = random.Random(plan.seed)
        self.host = Host(plan.shape or shape_of(plan.seed), random.Random(plan.seed + 1))
        self.host.on_step = self.drain
        self.order = OrderOracle(self.host.shape.names, lambda: self.host.expectation.worlds)
        self.moments: list[Moment] = []
        self.known: dict[bytes, tuple[int, int]] = {}  # state: (generation, seq found)
        self.op = self.syncs = 0
        self.crash_at = self.crash_in = self.fail_at = -1
        self.fail_how = SYNC_FAILURES[0]
        self.failed = False
        self.survivor: SimDisk | None = None
        self.last: Moment | None = None
        self.looks = True

    @property
    def counts(self) -> Counter[str]:
        return self.result.counts

    # What happens.

    def run_lives(self) -> None:
        with suppress(Stop):
            for life in range(self.plan.lives):
                self._arm()
                try:
                    self._guard(self._live, life)
                except NextLife:
                    self.counts["lives ended by a crash"] += 1
                else:
                    self.drain_last()
        self.host.abandon()

    def run_sequence(self, base: SimDisk, world: Expectation) -> None:
        """Do the operations on a copy of a store, and look at the last one's crash states."""
        self.looks = False
        with suppress(Stop):
            self._guard(self._sequence, base, world)
        self.host.abandon()

    def _sequence(self, base: SimDisk, world: Expectation) -> None:
        disk = base.moment().crashed(())
        disk.before = self.hook
        self.order.new_life(True, 0)
        self.host.take_up(disk, world)
        self.order.opened()
        for k, name in enumerate(self.plan.sequence):
            self.looks = k == len(self.plan.sequence) - 1
            self.host.rng = random.Random(f"{self.plan.seed} {k} {name}")
            self.host.do(name)
        self.drain_last()

    def _arm(self) -> None:
        rng = self.rng
        self.crash_at = -1
        self.crash_in = rng.randrange(self.plan.length * 5 // 4)  # an operation of the host
        self.fail_at, self.fail_how = -1, rng.choice(SYNC_FAILURES)
        if rng.random() < self.plan.fail:
            self.fail_at = self.syncs + rng.randrange(2 * self.plan.length)
        self.failed = False

    def _live(self, life: int) -> None:
        host = self.host
        names = MIXES[self.plan.seed % len(MIXES)]
        try:
            if life == 0:
                self.fail_at = -1
                host.disk.before = self.hook
                host.create()
            else:
                self._next_life()
            self.order.opened()
            for k in range(self.plan.length):
                if k == self.crash_in:
                    self.crash_at = self.op + self.rng.randrange(1, 10)
                host.do(self.rng.choice(names))
        except (OSError, jrnl.StorePoisoned):
            if not self.failed:
                raise
            self._poisoned()
            self.survivor = self.survivor or host.disk.survivor()
            self.drain_last()

    def _poisoned(self) -> None:
        """After a failed sync nothing is taken any more."""
        self.counts["failed syncs"] += 1
        if self.host.store is None:
            return
        with suppress(jrnl.StorePoisoned, jrnl.StoreClosed):
            next(iter(self.host.store.volumes.values())).write(0, b"x")
            self.host.store.flush()
            raise Failure("a store whose sync failed takes writes and flushes")

    def _next_life(self) -> None:
        """The process is killed, or the power fails with some state of the disk."""
        host, expectation = self.host, self.host.expectation
        if self.rng.random() < 0.5:
            disk, cut = self.survivor or host.disk.survivor(), False
        else:
            cut = True
            moment = self.last if self.survivor is not None else host.disk.moment()
            choices = moment.choices(self.plan.exhaustive)
            disk = moment.crashed(choices[self.rng.randrange(len(choices))])
        self.counts["power cuts" if cut else "kills"] += 1
        self.survivor, self.moments = None, []
        self.order.new_life(cut, min((world.low for world in expectation.worlds), default=0))
        disk.before = self.hook
        host.take_up(disk, expectation)

    # Every operation of the disk.

    def hook(self, op: Op) -> str | None:
        if op.kind not in CHANGING:
            return None
        self.op += 1
        self.order.see(op)
        moment = self.host.disk.moment()
        moment.op = self.op
        self.moments.append(moment)
        if self.op == self.crash_at:
            self.survivor = self.host.disk.survivor()
        if op.kind == "sync":
            self.syncs += 1
            if self.syncs == self.fail_at:
                self.failed = True
                return self.fail_how
        return None

    def drain(self) -> None:
        """Look at the crash states of the step that has just ended."""
        moments, self.moments = self.moments, []
        expectation = self.host.expectation
        if self.order.problems:
            self._fail(self.order.problems[0], f"--op {self.op}")
            self.order.problems.clear()
        for moment in moments:
            if self.survivor is None or moment.op <= self.crash_at or self.failed:
                self.last = moment
            if self.looks and self.plan.only is None:
                self._look_at(moment, expectation)
            elif self.plan.only is not None and self.plan.only.op == moment.op:
                self._look_at_only(moment, expectation)
        if self.survivor is not None:
            raise NextLife

    def drain_last(self) -> None:
        """Look at the disk as it is between two steps."""
        self.op += 1
        moment = self.host.disk.moment()
        moment.op = self.op
        self.moments.append(moment)
        self.drain()

    def _look_at(self, moment: Moment, expectation: Expectation) -> None:
        rng = random.Random(self.plan.seed * 1_000_003 + moment.op)
        choices = moment.choices(self.plan.exhaustive)
        damageable = not moment.touches("super")
        for state, choice in choices.picked(self.plan.states, rng):
            where = Where(moment.op, state)
            self._look(moment.crashed(choice), expectation, where, self.plan.depth)
            if damageable and rng.random() < self.plan.damaged:
                where = replace(where, damage=rng.randrange(1 << 20))
                self._look(moment.crashed(choice), expectation, where, 1)

    def _look_at_only(self, moment: Moment, expectation: Expectation) -> None:
        where = self.plan.only
        choice = moment.choices(self.plan.exhaustive)[where.state]
        self._look(moment.crashed(choice), expectation, where, len(where.inner) + 1)

    # One crash state.

    def _look(
        self, disk: SimDisk, expectation: Expectation, where: Where, depth: int, level: int = 0
    ) -> None:
        if self.deadline is not None and time.monotonic() > self.deadline:
            raise Stop
        self.counts["states"] += 1
        if where.damage >= 0 and level == 0 and not damage_super(disk, where.damage):
            return
        mark = disk.fingerprint()
        if self._is_known(mark, expectation):
            return
        self.result.seen.add(mark)
        rng = random.Random(f"{self.plan.seed} {where}")
        moments: list[Moment] = []
        deep = rng.random() < self.plan.deep and depth > 1
        inner = where.inner if self.plan.only else ()
        reads, goes_on = rng.random() < self.plan.reads, rng.random() < self.plan.go_on
        if not (deep or reads or goes_on or self.plan.only):
            shown = self._shown_before(mark, expectation)
            if shown is not None:
                self.counts["shown before"] += 1
                self.known[mark] = (self.host.generation, shown)
                return
        if deep or inner:
            disk.before = lambda op: moments.append(disk.moment()) if op.kind in CHANGING else None
        try:
            self._open(disk, mark, expectation, rng, reads, goes_on)
        except Exception as error:
            self._fail(error, where.command())
        finally:
            disk.before = None
        if self.plan.only is not None:
            self._inner_only(moments, expectation, where, level)
        elif deep:
            self._inner(moments, expectation, where, depth, rng)

    def _inner(
        self,
        moments: list[Moment],
        expectation: Expectation,
        where: Where,
        depth: int,
        rng: random.Random,
    ) -> None:
        for _ in range(self.plan.inner if moments else 0):
            k = rng.randrange(len(moments))
            choices = moments[k].choices(self.plan.exhaustive)
            state = rng.randrange(len(choices))
            self.counts["inside opening"] += 1
            deeper = replace(where, inner=(*where.inner, (k, state)))
            level = len(deeper.inner)
            self._look(moments[k].crashed(choices[state]), expectation, deeper, depth - 1, level)

    def _inner_only(
        self, moments: list[Moment], expectation: Expectation, where: Where, level: int
    ) -> None:
        if level < len(where.inner):
            k, state = where.inner[level]
            choice = moments[k].choices(self.plan.exhaustive)[state]
            self._look(moments[k].crashed(choice), expectation, where, 1, level + 1)

    def _is_known(self, mark: bytes, expectation: Expectation) -> bool:
        """Whether the state was looked at, and what it showed then is still what it must show."""
        if self.plan.only is not None or mark not in self.known:
            return False
        generation, seq = self.known[mark]
        low = max((world.low for world in expectation.worlds), default=0)
        return generation == self.host.generation and seq >= low

    def _shown_before(self, mark: bytes, expectation: Expectation) -> int | None:
        """Return where another sequence found it, if it has to show here what it showed there."""
        for seq, oldest, history in self.result.shown.get(mark, ()):
            promised = expectation.oldest is None or oldest <= expectation.oldest
            if promised and any(world.upto(seq) == history for world in expectation.worlds):
                return seq
        return None

    def _open(
        self,
        disk: SimDisk,
        mark: bytes,
        expectation: Expectation,
        rng: random.Random,
        reads: bool,
        goes_on: bool,
    ) -> None:
        host = self.host
        if expectation.absent and not disk.exists(STORE):
            self._absent(disk)
            return
        seq = self._read_only(disk, expectation) if reads else None
        other = Host(host.shape, rng)
        other.disk, other.now, other.named = disk, host.now + 10**9, 10**6
        store = other.store = other.open_on(disk)
        disk.before = None
        self.counts["opened"] += 1
        history, world = expectation.matched(store, rng)
        if seq is not None and seq != world.model.seq:
            raise Failure(f"opened for reading it is at {seq}, for writing {world.model.seq}")
        self.known[mark] = (host.generation, world.model.seq)
        if self.plan.sequence and (shown := history.upto(store.seq)) is not None:
            self.result.shown.setdefault(mark, set()).add((store.seq, store.window.oldest, shown))
        if goes_on:
            other.world = world
            self._go_on(other, rng)
        else:
            store.close()

    def _read_only(self, disk: SimDisk, expectation: Expectation) -> int | None:
        """Open it for reading first; return the state, or None where that takes writing."""
        wrote, hook = [], disk.before
        disk.before = lambda op: wrote.append(op[:3]) if op.kind in CHANGING else None
        try:
            store = self.host.open_on(disk, "r")
        except jrnl.ReadOnlyStore as error:
            if "interrupted a restore" not in str(error) or wrote:
                raise
            disk.before = hook
            self.counts["not for reading"] += 1
            return None
        try:
            seq = expectation.match(store, random.Random(1)).model.seq
        except Failure as failure:
            raise Failure(f"for reading: {failure}") from failure
        store.close()
        disk.before = hook
        if wrote:
            raise Failure(f"opening for reading only did {wrote[:3]}")
        self.counts["opened for reading"] += 1
        return seq

    def _absent(self, disk: SimDisk) -> None:
        """There is no store: opening says so, and it can be created."""
        with suppress(FileNotFoundError):
            self.host.open_on(disk)
            raise Failure("there is no such store, and it was opened")
        self.counts["absent"] += 1
        if self.counts["absent"] % 16 == 1:
            other = Host(self.host.shape, random.Random(1))
            other.disk = disk
            other.create()
            disk.before = None
            other.do("write_sectors")
            other.do("reopen")
            if disk.place().names() != [STORE]:
                raise Failure(f"beside the store there is {disk.place().names()}")
            other.store.close()

    def _go_on(self, other: Host, rng: random.Random) -> None:
        """Use the store that a crash has left."""
        for name in ("write_sectors", rng.choice(MIXES[0]), "write_inside", "flush"):
            other.do(name)
        other.do("reopen")
        other.store.close()
        self.counts["gone on with"] += 1

    # Failures.

    def _guard(self, act: object, *args: object) -> None:
        """Run; what fails outside a crash state is a failure, too, and ends the run."""
        try:
            act(*args)
        except (NextLife, Stop):
            raise
        except Exception as error:
            self._fail(error, f"--op {self.op}")
            raise Stop from error

    def _fail(self, error: object, where: str) -> None:
        plan = self.plan
        what = f"--sequence {','.join(plan.sequence)}" if plan.sequence else f"--seed {plan.seed}"
        if plan.sequence and self.host.shape.images != "both":
            what += f" --images {self.host.shape.images}"
        if plan.sequence and self.host.shape.overflow != "evict":
            what += f" --overflow {self.host.shape.overflow}"
        for name in ("lives", "length", "fail"):
            if not plan.sequence and getattr(plan, name) != getattr(Plan, name):
                what += f" --{name} {getattr(plan, name)}"
        lines = [f"python -m tests.crash.bench {what} {where}"]
        lines.append(f"    in {' '.join(self.host.done[-4:])}: {type(error).__name__}: {error}")
        if isinstance(error, Exception):
            frames = traceback.extract_tb(error.__traceback__)[-3:]
            lines += [f"        {f.filename}:{f.lineno} {f.name}: {f.line}" for f in frames]
        self.result.failures.append("\n".join(lines))
        if len(self.result.failures) >= plan.failures:
            raise Stop


def damage_super(disk: SimDisk, number: int) -> bool:
    """Flip a bit of one superblock copy; return whether there is one, and the other one is whole.

    A failed sync may have torn that before: two copies of two are more than a store survives.
    """
    path = f"{STORE}/{SUPERS[number % 2]}"
    if not all(disk.exists(f"{STORE}/{name}") for name in SUPERS):
        return False
    other = 1 - number % 2
    try:
        superblock.unpack(other, disk.place().folder(STORE).file(SUPERS[other]))
    except (CorruptionError, FormatError):
        return False
    data = bytearray(disk.read(path))
    used = len(data.rstrip(b"\0"))
    if not used:
        return False
    data[number // 2 % used] ^= 1 << number % 7
    disk.replace(path, bytes(data))
    return True


def fresh(shape: Shape) -> tuple[SimDisk, Expectation]:
    """Return the disk of a store that was created, and what it must show."""
    host = Host(shape, random.Random(0))
    host.create()
    host.close()
    return host.disk, Expectation([host.world])


def run_seeds(plan: Plan, seeds: Iterator[int], seconds: float | None) -> Result:
    result = Result()
    deadline = None if seconds is None else time.monotonic() + seconds
    for seed in seeds:
        Bench(replace(plan, seed=seed), result, deadline).run_lives()
        if len(result.failures) >= plan.failures:
            break
        if deadline is not None and time.monotonic() > deadline:
            break
    return result


def run_sequences(
    plan: Plan,
    images: str,
    names: list[tuple[str, ...]],
    seconds: float | None = None,
    overflow: str = "evict",
) -> Result:
    result, shape = Result(), Shape(images=images, overflow=overflow)
    deadline = None if seconds is None else time.monotonic() + seconds
    base, world = fresh(shape)
    for sequence in names:
        bench = Bench(replace(plan, shape=shape, sequence=sequence), result, deadline)
        bench.run_sequence(base, world)
        result.counts["sequences"] += 1
        if len(result.failures) >= plan.failures:
            break
        if deadline is not None and time.monotonic() > deadline:
            break
    result.shown.clear()
    return result


def _job(arguments: tuple[argparse.Namespace, Plan, int]) -> Result:
    args, plan, job = arguments
    if args.sequence:
        return run_sequences(plan, args.images, [tuple(args.sequence.split(","))], None,
                             args.overflow)  # fmt: skip
    if args.sequences:
        names = list(sequences(args.images, args.sequences))
        random.Random(args.seed).shuffle(names)
        return run_sequences(plan, args.images, names[job :: args.jobs], args.seconds,
                             args.overflow)  # fmt: skip
    if args.op is not None or args.seconds is None:
        return run_seeds(
            plan, iter(range(args.seed + job, args.seed + args.seeds, args.jobs)), None
        )
    return run_seeds(plan, iter(range(args.seed + job, sys.maxsize, args.jobs)), args.seconds)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seeds", type=int, default=1, help="so many, where --seconds is not said")
    parser.add_argument("--seconds", type=float, help="random lives for so long")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--states", type=int, default=Plan.states)
    parser.add_argument("--lives", type=int, default=Plan.lives)
    parser.add_argument("--length", type=int, default=Plan.length)
    parser.add_argument("--deep", type=float, default=Plan.deep)
    parser.add_argument("--depth-of-crashes", type=int, default=Plan.depth)
    parser.add_argument("--failures", type=int, default=Plan.failures)
    parser.add_argument("--images", default="both", choices=("both", "after"))
    parser.add_argument("--overflow", default="evict", choices=("evict", "fold"))
    parser.add_argument("--sequences", type=int, help="every sequence of up to so many operations")
    parser.add_argument("--sequence", help="this one, joined by commas")
    parser.add_argument("--fail", type=float, default=Plan.fail)
    parser.add_argument("--op", type=int, help="replay a crash state of this operation ...")
    parser.add_argument("--state", type=int, default=0, help="... this one")
    parser.add_argument("--damage", type=int, default=-1, help="... with this byte damaged")
    parser.add_argument("--depth", default="", help="... and these crashes inside its opening")
    return parser.parse_args()


def main() -> int:
    args = parse()
    only = None
    if args.op is not None:
        pairs = [pair.split(":") for pair in args.depth.split(",") if pair]
        inner = tuple((int(op), int(state)) for op, state in pairs)
        only = Where(args.op, args.state, args.damage, inner)
        args.jobs = 1
    plan = Plan(args.seed, states=args.states, lives=args.lives, length=args.length, only=only,
                deep=args.deep, depth=args.depth_of_crashes, failures=args.failures,
                fail=args.fail)  # fmt: skip
    jobs = [(args, plan, job) for job in range(args.jobs)]
    total, start = Result(), time.monotonic()
    if args.jobs == 1:
        total.add(_job(jobs[0]))
    else:
        with multiprocessing.get_context("fork").Pool(args.jobs) as pool:
            for result in pool.imap_unordered(_job, jobs):
                total.add(result)
    print("\n".join(total.failures[: args.failures]))
    print(f"{total}, in {time.monotonic() - start:.0f} s")
    return 1 if total.failures else 0


if __name__ == "__main__":
    sys.exit(main())
