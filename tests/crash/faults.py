"""Every I/O call of a workload failing, once and for ever, in every way that it can.

Expected of each: the call raises an OSError, or StorePoisoned; after a failed write or sync nothing
more is taken; what was acknowledged is there after reopening, exactly, whether the process was
killed (the cache is what the failure left of it) or the power was cut. A short write is no failure.

    python -m tests.crash.faults --images both                    every call
    python -m tests.crash.faults --number 120 --fault EIO         one of them
"""

from __future__ import annotations

import argparse
import errno
import random
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

import jrnl
from tests.crash.disk import SYNC_FAILURES, Op, SimDisk
from tests.crash.expect import Expectation, Failure
from tests.crash.workload import STORE, Host, Shape

# "cut" is a power cut, after which the store is opened again.
# fmt: off
SCRIPT = (
    "write_sectors", "write_inside", "flush", "write_many", "snapshot", "write_across", "mark",
    "copy", "again", "write_end", "rewind", "savepoint", "fill", "reopen", "discard",
    "write_zeroes", "cut", "write_sectors", "flush", "delete_snapshot", "restore", "snapshot",
    "copy", "read_only",
)
# fmt: on
ERRORS = {name: getattr(errno, name) for name in ("EIO", "ENOSPC", "EDQUOT", "EFBIG")}
BY_KIND = {
    "pread": ("EIO",),
    "pwrite": (*ERRORS, "short", "zero"),
    "sync": SYNC_FAILURES,
    "syncdir": SYNC_FAILURES,
}
POISONS = ("pwrite", "sync")  # what nothing may be taken after, when it has failed


@dataclass(frozen=True)
class Fault:
    """The call with this number fails, and for ever means: all later ones of its kind, too."""

    number: int
    how: str
    forever: bool = False

    def command(self, shape: Shape) -> str:
        return (
            f"python -m tests.crash.faults --images {shape.images} --overflow {shape.overflow} "
            f"--number {self.number} --fault {self.how}" + " --forever" * self.forever
        )


class Run:
    """The script on a disk on which one fault happens."""

    def __init__(self, shape: Shape, fault: Fault | None = None) -> None:
        self.shape, self.fault = shape, fault
        self.kinds: list[str] = []  # of all calls so far
        self.fired: Op | None = None
        self.over = False
        self.host = Host(shape, random.Random(7))

    def hook(self, op: Op) -> int | str | None:
        if self.over:
            return None
        self.kinds.append(op.kind)
        fault, number = self.fault, len(self.kinds) - 1
        if fault is None or number < fault.number:
            return None
        if number > fault.number and not (fault.forever and op.kind == self.fired.kind):
            return None
        self.fired = self.fired or op
        if fault.how in ERRORS:
            raise OSError(ERRORS[fault.how], f"the simulated disk says {fault.how}")
        if fault.how == "short":
            return max(1, len(op.data) * (number % 7 + 1) // 8)
        return 0 if fault.how == "zero" else fault.how

    def play(self) -> None:
        host = self.host
        host.disk.before = self.hook
        host.create()
        for name in SCRIPT:
            if name == "cut":
                moment = host.disk.moment()
                disk = moment.crashed((1,) * len(moment.changes))
                disk.before = self.hook
                host.take_up(disk, host.expectation)
            else:
                host.do(name)

    def run(self) -> str:
        """Return what the fault led to: "unseen", "raised" or "harmless". Raises Failure."""
        try:
            self.play()
        except (OSError, jrnl.StorePoisoned) as error:
            if self.fired is None or self.fault.how == "short":
                raise Failure(f"without a failed call: {error!r}") from error
            self._refuses(error)
            outcome = "raised"
        else:
            if self.fired is None:
                return "unseen"
            if self.fired.kind in POISONS and self.fault.how != "short":
                raise Failure(f"{self.fired[:4]} failed, and nobody was told")
            outcome = "harmless"
        self.over = True
        self._reopen()
        self.host.abandon()
        return outcome

    def _refuses(self, error: Exception) -> None:
        """After a failed write or sync, the store takes nothing more; reading goes on."""
        store = self.host.store
        if store is None or self.fired.kind not in POISONS:
            return
        volume = next(iter(store.volumes.values()))
        for act in (lambda: volume.write(0, b"x"), store.flush, lambda: store.mark("after")):
            try:
                act()
            except (jrnl.StorePoisoned, jrnl.StoreClosed):
                continue
            except OSError as other:
                raise Failure(f"after {error!r} it tries again: {other!r}") from other
            raise Failure(f"after {error!r} it takes more")
        with suppress(jrnl.StorePoisoned, jrnl.StoreClosed, OSError):
            volume.read(0, 512)

    def _reopen(self) -> None:
        """As the next process finds it; and after a power cut, with some states of the disk."""
        host = self.host
        expectation, moment = host.expectation, host.disk.moment()
        disks = [("killed", host.disk.survivor())]
        choices = moment.choices()
        for number, choice in choices.picked(4, random.Random(self.fault.number)):
            disks.append((f"power cut, state {number}", moment.crashed(choice)))
        for what, disk in disks:
            try:
                self._reopen_on(disk, expectation)
            except Exception as error:
                raise Failure(f"{what}: {type(error).__name__}: {error}") from error

    def _reopen_on(self, disk: SimDisk, expectation: Expectation) -> None:
        next_life = Host(self.shape, random.Random(3))
        next_life.now, next_life.named = self.host.now + 10**9, 10**6
        if not disk.exists(STORE) and not expectation.absent:
            raise Failure("the store is gone")
        next_life.take_up(disk, expectation)
        for name in ("write_sectors", "flush", "reopen"):
            next_life.do(name)
        next_life.store.close()


def calls(shape: Shape) -> list[str]:
    """Return the kinds of all calls of the script, in order."""
    run = Run(shape)
    run.play()
    kinds = run.kinds.copy()
    run.host.abandon()
    return kinds


def faults(kinds: list[str], step: int = 1, first: int = 0) -> Iterator[Fault]:
    """Yield every fault, or every `step`-th of each kind of call."""
    seen: Counter[tuple[str, str, bool]] = Counter()
    for number, kind in enumerate(kinds):
        for how in BY_KIND.get(kind, ("EIO", "ENOSPC")):
            for forever in (False, True):
                key = kind, how, forever
                if (seen[key] + first) % step == 0:
                    yield Fault(number, how, forever)
                seen[key] += 1


def run_all(shape: Shape, step: int = 1, first: int = 0) -> tuple[Counter[str], list[str]]:
    """Return how the faults ended, and the failures, each with the command that replays it."""
    counts: Counter[str] = Counter()
    failures = []
    for fault in faults(calls(shape), step, first):
        run = Run(shape, fault)
        try:
            counts[run.run()] += 1
        except Exception as error:
            where = f"{run.fired[1:3]} in {run.host.done[-1:]}" if run.fired else ""
            what = f"    {where} {type(error).__name__}: {error}"
            failures.append(f"{fault.command(shape)}\n{what}")
    return counts, failures


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", default="both", choices=("both", "after"))
    parser.add_argument("--overflow", default="evict", choices=("evict", "fold"))
    parser.add_argument("--step", type=int, default=1, help="only every so many")
    parser.add_argument("--number", type=int)
    parser.add_argument("--fault", default="EIO")
    parser.add_argument("--forever", action="store_true")
    args = parser.parse_args()
    shape = Shape(images=args.images, overflow=args.overflow)
    if args.number is not None:
        print(Run(shape, Fault(args.number, args.fault, args.forever)).run())
        return 0
    counts, failures = run_all(shape, args.step)
    print("\n".join(failures[:20]))
    print(f"{dict(counts)}, {len(failures)} failures")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
