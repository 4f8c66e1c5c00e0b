"""The whole campaign: every short sequence of operations, then random lives, until it is enough.

    python -m tests.crash.campaign --states 200000 --jobs 2       what CI runs (make crash)
    python -m tests.crash.campaign --seconds 3600 --jobs 2        as long as you like (make soak)

All stores have the same key, so that a crash state counts once, whatever run it came from. The last
line has the counts; each failure comes with the command that replays it.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import groupby, product
from operator import itemgetter
from types import SimpleNamespace

from jrnl.disk import create
from tests.crash import damage, faults
from tests.crash.bench import Plan, Result, run_seeds, run_sequences
from tests.crash.workload import Shape, sequences

KEY = 0x6A726E6C


@dataclass(frozen=True)
class Task:
    """What one process does at a time."""

    kind: str  # "sequences" | "lives" | "damage" | "faults"
    images: str = "both"
    names: tuple[tuple[str, ...], ...] = ()
    seed: int = 0
    step: int = 1
    story: str = "closed"


@dataclass
class Total:
    """What has been looked at so far."""

    seen: set[bytes] = field(default_factory=set)
    counts: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)

    def add(self, task: Task, result: Result | tuple[Counter[str], list[str]]) -> None:
        if isinstance(result, Result):
            self.seen |= set(result.seen)
            self.counts.update(result.counts)
            self.failures += result.failures
            return
        counts, failures = result
        self.counts.update({f"{task.kind}: {name}": count for name, count in counts.items()})
        self.failures += failures


def fix_keys() -> None:
    """Every store gets one key, and every creation one temporary name."""
    create.secrets = SimpleNamespace(randbits=lambda _: KEY, token_hex=lambda _: "0")


def run(task: Task) -> Result | tuple[Counter[str], list[str]]:
    fix_keys()
    if task.kind == "sequences":
        return run_sequences(Plan(states=2), task.images, list(task.names))
    if task.kind == "lives":
        return run_seeds(Plan(states=10, deep=0.15, depth=3), iter([task.seed]), None)
    if task.kind == "faults":
        return faults.run_all(Shape(images=task.images), step=task.step, first=task.seed)
    return damage.run(task.images, step=task.step, first=task.seed, story=task.story)


def tasks(seed: int, *, damages: int, fault_step: int) -> Iterator[Task]:
    """Yield all that is to be done, without an end."""
    for images in ("both", "after"):
        # What begins alike leaves many a crash state twice, which need not be opened again.
        for _, names in groupby(sorted(sequences(images, 3)), itemgetter(0)):
            yield Task("sequences", images, tuple(names))
        parts = 32
        # With after-images alone there is less to damage: every sixteenth of it is enough.
        thin = damages if images == "both" else 16 * damages
        for part in range(parts if damages else 0):
            yield Task("damage", images, step=parts * thin, seed=part * thin)
        stories = [name for name in (*damage.STORIES, damage.FOLDED) if name != "closed"]
        for story in stories if damages and images == "both" else ():
            for end, part in product(("", "-killed"), range(4)):
                yield Task("damage", step=4 * damages, seed=part * damages, story=story + end)
        for part in range(parts if fault_step else 0):
            yield Task("faults", images, step=parts * fault_step, seed=part * fault_step)
    while True:
        yield Task("lives", seed=seed)
        seed += 1


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--states", type=int, default=0, help="distinct states that are enough")
    parser.add_argument("--seconds", type=float, default=0, help="go on for so long")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--damages", type=int, default=0, help="every so many; 0 for none")
    parser.add_argument("--faults", type=int, default=0, help="every so many; 0 for none")
    args = parser.parse_args()
    total, start = Total(), time.monotonic()
    work = tasks(args.seed, damages=args.damages, fault_step=args.faults)
    with multiprocessing.get_context("fork").Pool(args.jobs) as pool:
        pending = []
        for task in work:
            pending.append((task, pool.apply_async(run, (task,))))
            while len(pending) >= 2 * args.jobs:
                done, answer = pending.pop(0)
                total.add(done, answer.get())
            enough = task.kind == "lives" and len(total.seen) >= args.states
            if (enough and time.monotonic() - start >= args.seconds) or len(total.failures) > 9:
                break
        for done, answer in pending:
            total.add(done, answer.get())
    print("\n".join(total.failures))
    counts = {"distinct states": len(total.seen), "failures": len(total.failures)}
    counts |= {"seconds": round(time.monotonic() - start)} | dict(sorted(total.counts.items()))
    print(json.dumps(counts, indent=2))
    print(f"{len(total.seen):,} distinct crash states, {len(total.failures)} lost or refused")
    return 1 if total.failures else 0


if __name__ == "__main__":
    sys.exit(main())
