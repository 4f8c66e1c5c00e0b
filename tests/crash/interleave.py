"""The copier's thread beside its host: their steps in every order, and each crash in between.

Lives on the simulated disk have one thread, in which a snapshot's copy is made between two of the
host's calls. Here it is made inside them. Whoever is about to change the disk and has not got the
engine's lock may be overtaken, by the copier's thread as well as by another one of the host's: that
happens at such an operation, for as many steps as one likes. What has to wait for a lock waits, as
it does in life.

    python -m tests.crash.interleave             every order
    python -m tests.crash.interleave --case N    one of them
"""

from __future__ import annotations

import argparse
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import jrnl
from tests.crash.bench import Bench, Plan, Result, Stop, fresh
from tests.crash.disk import CHANGING, Op, SimDisk
from tests.crash.expect import Check, Expectation
from tests.crash.workload import Shape

STEPS = 9  # of a copy, and one more
WAIT_SECONDS = 60.0  # far beyond what it takes: then it is a deadlock
LOOK_SECONDS = 0.002
ASLEEP = 8  # looks in a row, longer than anybody tries to get the engine's lock


@dataclass(frozen=True)
class Order:
    """Where the two meet.

    Attributes
    ----------
    text : str
        The host's operations. In "a b | c d" the c and d happen inside the last of the others.
    at : int
        The operation of the disk, counted from the first one of the meeting.
    steps : int
        So many steps the copier takes there.
    each : bool
        And one at each operation after that.
    after : str
        What the host does next, with the copy as far as it is.
    """

    text: str
    at: int
    steps: int = 0
    each: bool = False
    overflow: str = "evict"
    after: str = ""

    @property
    def before(self) -> list[str]:
        return self.text.partition(" | ")[0].split()

    @property
    def inside(self) -> list[str]:
        return self.text.partition(" | ")[2].split()


class Meeting(Bench):
    """A life in which two threads meet at operations of the disk."""

    def __init__(self, order: Order, result: Result, looks: bool = True) -> None:
        shape = Shape(overflow=order.overflow)
        super().__init__(Plan(shape=shape, states=2, deep=0.0, failures=3, go_on=0.3), result)
        self.order_, self.crashes = order, looks
        self.met = -1  # operations since the meeting began
        self.was_free: list[bool] = []
        self.other: Other | None = None

    def hook(self, op: Op) -> str | None:
        if self.other is not None and self.other.is_me():
            self.other.wait_for_turn()
        elif self.met >= 0 and op.kind in CHANGING:
            at, self.met = self.met, self.met + 1
            self.meet(at)
        return super().hook(op)

    def meet(self, at: int) -> None:
        order = self.order_
        if self.other is not None and not self.other.is_done():
            self.other.go_on()
            self.was_free.append(False)
            return
        steps = order.steps if at == order.at else 0
        if at > order.at >= 0 and order.each:
            steps = 1
        act = None
        if order.inside and at == order.at:
            act = self._host_goes_on
        elif steps and not order.inside:
            act = lambda: self._copy(steps)  # noqa: E731
        self.other = Other(lambda: self._look_for_lock(act))
        self.other.go_on()

    def part(self) -> None:
        """The meeting is over: nobody is in the other's way any more."""
        self.met = -1
        if self.other is not None:
            self.other.end()
            self.other = None

    def _look_for_lock(self, act: object) -> None:
        """Do it, where whoever is at the disk has not got the engine's lock."""
        store = self.host.store
        if store is None or store._engine.closed:
            return
        free = store._engine.enter_soon()
        self.was_free.append(free)
        if free:
            store._engine.leave()
            if act is not None:
                act()

    def _copy(self, steps: int) -> None:
        copier = self.host.store._session.copier
        for _ in range(steps):
            if not copier.gate.acquire(blocking=False):
                return  # the host makes the copy itself
            try:
                copier.step()
            finally:
                copier.gate.release()

    def _host_goes_on(self) -> None:
        for name in self.order_.inside:
            self.host.do(name)

    def run(self, base: SimDisk, world: Expectation) -> None:
        self.looks = False
        with suppress(Stop):
            self._guard(self._run, base, world)
        self.host.abandon()

    def _run(self, base: SimDisk, world: Expectation) -> None:
        host = self.host
        disk = base.moment().crashed(())
        disk.before = self.hook
        self.order.new_life(True, 0)
        host.take_up(disk, world)
        self.order.opened()
        *before, last = self.order_.before
        for name in before:
            host.do(name)
        self.looks = self.crashes
        self.met = 0
        host.do(last)
        self.part()
        for name in self.order_.after.split():
            host.do(name)
        self.looks = False
        for name in ("fill", "fill", "copy", "reopen"):  # whatever needs old entries is found out
            host.do(name)
            Check(host.store, host.model, host.world, host.rng).all()


class Other:
    """The other thread: it runs while the first one waits for it, until it is done or waits itself.

    Then the first one goes on; and at its next operation of the disk this one may again.
    """

    def __init__(self, act: Callable[[], object]) -> None:
        self._act = act
        self._first = threading.current_thread()
        self._raised: list[BaseException] = []
        self._done = threading.Event()
        self._turn = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        self._turn.wait()
        try:
            self._act()
        except BaseException as error:
            self._raised.append(error)
        finally:
            self._done.set()

    def is_me(self) -> bool:
        return threading.current_thread() is self._thread

    def is_done(self) -> bool:
        return self._done.is_set()

    def wait_for_turn(self) -> None:
        """Wait until the first one meets this one again, or waits for what this one has."""
        asleep = 0
        while asleep < ASLEEP and not self._turn.wait(LOOK_SECONDS):
            asleep = asleep + 1 if sleeps(self._first) else 0

    def go_on(self) -> None:
        """Let it run until it is done, or waits for something that this thread has."""
        self._turn.set()
        asleep = 0
        while asleep < ASLEEP and not self._done.wait(LOOK_SECONDS):
            asleep = asleep + 1 if sleeps(self._thread) else 0
        self._turn.clear()
        if self._raised:
            raise self._raised.pop()

    def end(self) -> None:
        self._turn.set()
        if not self._done.wait(WAIT_SECONDS):
            raise AssertionError("a deadlock")
        if self._raised:
            raise self._raised.pop()


def sleeps(thread: threading.Thread) -> bool:
    """Whether the system says so; a thread that has just ended does not."""
    path = f"/proc/self/task/{thread.native_id}/stat"
    with suppress(OSError):
        return Path(path).read_text().rpartition(")")[2].split()[0] == "S"
    return False


# What the copier meets: calls that let go of the engine's lock; and what meets the copier.
HOST = (
    ("write_sectors write_across snapshot", "evict"),
    ("write_sectors write_across snapshot", "fold"),
    ("write_sectors snapshot write_many write_sectors flush", "evict"),
    ("write_sectors snapshot write_sectors snapshot", "evict"),
)
AFTER = ("", "write_sectors rewind", "write_sectors restore", "delete_snapshot", "reopen")
COPIER = (
    "write_many flush",
    "discard flush",
    "write_sectors snapshot",
    "delete_snapshot",
    "mark flush write_end",
)


def orders() -> Iterator[Order]:
    """Yield every order, as far as it differs from the others."""
    for text, overflow in HOST:
        for at in free_operations(Order(text, -1, overflow=overflow)):
            for steps in range(1, STEPS + 1):
                yield Order(text, at, steps, True, overflow)
                for after in AFTER:  # it meets a copy under way
                    yield Order(text, at, steps, False, overflow, after)
    for inside in COPIER:
        text = f"write_sectors write_across snapshot write_sectors copy | {inside}"
        for at in free_operations(Order(text, -1)):
            yield Order(text, at)


def free_operations(order: Order) -> list[int]:
    """Return at which operations of the meeting the engine's lock is to be had."""
    meeting = Meeting(order, Result(), looks=False)
    meeting.run(*fresh(meeting.host.shape))
    return [k for k, free in enumerate(meeting.was_free) if free]


def run_all(cases: list[Order], looks: bool = True) -> Result:
    """Run them all, up to a few failures; `looks`: at the crash states, too."""
    result = Result()
    bases: dict[str, tuple[SimDisk, Expectation]] = {}
    for order in cases:
        if order.overflow not in bases:
            bases[order.overflow] = fresh(Shape(overflow=order.overflow))
        before = len(result.failures)
        Meeting(order, result, looks).run(*bases[order.overflow])
        result.counts["orders"] += 1
        for k in range(before, len(result.failures)):
            result.failures[k] = f"{order}\n{result.failures[k]}"
        if len(result.failures) >= 3:
            break
    return result


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--case", type=int)
    args = parser.parse_args()
    cases = list(orders())
    result = run_all(cases if args.case is None else [cases[args.case]])
    print("\n".join(result.failures))
    print(f"{len(cases)} orders: {result}")
    return 1 if result.failures else 0


if __name__ == "__main__":
    jrnl.snapshot_copier.automatic = False
    sys.exit(main())
