"""Many runs of writers, collectors and readers over the simulated store, until it is enough.

    python -m tests.archive.sim.campaign --runs 100000 --jobs 2       what CI runs (make crash)
    python -m tests.archive.sim.campaign --seconds 3600 --jobs 2      for so long (make soak)
    python -m tests.archive.sim.campaign --only 4711                  that run, told call by call
    python -m tests.archive.sim.campaign --archiving 4711             one with the writer that ships
    python -m tests.archive.sim.campaign --case NAME --ways 0,2,1     that way of a case, told

First every order of a few small cases, then random runs, one in six of them with the writer that
ships and a store that is made up, the others with the ledger alone. Two runs are one interleaving
where the same calls have the same outcomes in the same order; each counts once. In a case, a way
that comes to a state from which another one went on is not gone again: such ways are told apart.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import time
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from tests.archive.sim import runs
from tests.archive.sim.choose import Every, Given
from tests.archive.sim.oracle import quickly
from tests.archive.sim.world import World

CHUNK = 100  # random runs that one process does at a time; five times as many of the small ones
RANDOM = {
    "": (runs.at_random, "--only"),
    "archiving": (runs.archiving_at_random, "--archiving"),
}
FAILURES_MOST = 10


class Task(NamedTuple):
    """What one process does at a time."""

    case: str  # or "": random runs; "archiving": those with the writer that ships
    first: int
    count: int


class Result(NamedTuple):
    """What was seen."""

    traces: set[int]
    cut: int  # ways that met a known state
    steps: int
    counts: Counter[str]
    failures: list[str]


def do(task: Task) -> Result:
    found = Result(set(), 0, 0, Counter(), [])
    cut = steps = 0

    def see(world: World, how: str) -> bool:
        nonlocal cut, steps
        steps += world.steps
        cut += world.seen
        found.counts.update(world.counts)
        if not world.seen:
            found.traces.add(world.trace)
        if world.failure:
            found.failures.append(f"{world.failure}\n    python -m {__spec__.name} {how}")
        return len(found.failures) >= FAILURES_MOST

    if task.case in runs.CASES:

        def each(world: World, every: Every) -> bool:
            ways = ",".join(map(str, every.path[: every.at]))
            return see(world, f"--case '{task.case}' --ways {ways}")

        runs.every_way(runs.CASES[task.case], task.count, each)
    else:
        once, only = RANDOM[task.case]
        for seed in range(task.first, task.first + task.count):
            if see(once(seed), f"{only} {seed}"):
                break
    return found._replace(cut=cut, steps=steps)


def tasks(seed: int, ways: int) -> Iterator[Task]:
    for name in runs.CASES if ways else ():
        yield Task(name, 0, ways)
    while True:
        yield Task("", seed, 5 * CHUNK)
        yield Task("archiving", seed, CHUNK)
        seed += 5 * CHUNK


def tell(world: World) -> int:
    print(world.failure or f"well, after {world.steps} steps")
    return 1 if world.failure else 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=0, help="distinct interleavings: enough")
    parser.add_argument("--seconds", type=float, default=0, help="go on for so long")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0, help="of the first random run")
    parser.add_argument("--every", type=int, default=2000, help="ways of a case, at most")
    parser.add_argument("--only", type=int, help="one random run")
    parser.add_argument("--archiving", type=int, help="one random run with the writer that ships")
    parser.add_argument("--case", choices=[*runs.CASES])
    parser.add_argument("--ways", default="", help="of that case, by numbers")
    return parser.parse_args()


def main() -> int:
    args = arguments()
    if args.only is not None:
        return tell(runs.at_random(args.only, tell=True))
    if args.archiving is not None:
        return tell(runs.archiving_at_random(args.archiving, tell=True))
    if args.case:
        path = [int(number) for number in args.ways.split(",") if number]
        return tell(runs.run(runs.CASES[args.case], Given(path), tell=True))
    start, seen, total = time.monotonic(), set[int](), Result(set(), 0, 0, Counter(), [])
    with multiprocessing.get_context("fork").Pool(args.jobs) as pool:  # hashes are alike in all
        pending = []
        for task in tasks(args.seed, args.every):
            pending.append(pool.apply_async(do, (task,)))
            while len(pending) >= 2 * args.jobs:
                total = joined(seen, total, pending.pop(0).get())
            is_enough = task.case in RANDOM and len(seen) >= args.runs
            if (is_enough and time.monotonic() - start >= args.seconds) or (
                len(total.failures) >= FAILURES_MOST
            ):
                break
        for answer in pending:
            total = joined(seen, total, answer.get())
    print("\n".join(total.failures))
    counts = {"distinct interleavings": len(seen), "failures": len(total.failures)}
    counts |= {"ways cut at a known state": total.cut, "steps": total.steps}
    counts |= {"seconds": round(time.monotonic() - start)} | dict(sorted(total.counts.items()))
    print(json.dumps(counts, indent=2))
    print(
        f"{len(seen):,} distinct interleavings, {total.counts['acknowledged']:,} segments "
        f"acknowledged, {len(total.failures)} runs in which a rule was broken"
    )
    return 1 if total.failures else 0


def joined(seen: set[int], total: Result, new: Result) -> Result:
    seen |= new.traces
    total.counts.update(new.counts)
    total.failures.extend(new.failures)
    return total._replace(cut=total.cut + new.cut, steps=total.steps + new.steps)


if __name__ == "__main__":
    with quickly():
        sys.exit(main())
