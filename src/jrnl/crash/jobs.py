"""How a check is held against one state after the other: here, by commands, or in processes."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Any, NamedTuple

from jrnl.crash.walk import Coverage

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess

    from jrnl.crash.check import Judge
    from jrnl.crash.state import CrashState
    from jrnl.crash.walk import States

Progress = Callable[[int, int], object]

_TOLD_SECONDS = 0.5


class Bad(NamedTuple):
    """A state that is bad: its id, what is wrong, and whether that has ended the process."""

    id: str
    message: str
    died: bool = False


Found = Generator[Bad, None, None]


class Told:
    """How far a campaign has come, told now and then."""

    def __init__(self, progress: Progress | None) -> None:
        self._progress, self._next, self.failed = progress, 0.0, 0

    def tell(self, looked: int, *, last: bool = False) -> None:
        """Tell it, where it is time to."""
        if self._progress is not None and (last or time.monotonic() >= self._next):
            self._next = time.monotonic() + _TOLD_SECONDS
            self._progress(looked, self.failed)


def one_by_one(states: States, judge: Judge, told: Told) -> Found:
    """Yield the bad ones, checked in this process."""
    for looked, state in enumerate(states):
        told.tell(looked)
        message = judge(state)
        if message is not None:
            yield Bad(state.id, message)


def by_commands(states: States, judge: Judge, jobs: int, told: Told) -> Found:
    """Yield the bad ones, checked by commands side by side, each on a disk of its own."""
    running: dict[Future[str | None], CrashState] = {}
    with ThreadPoolExecutor(jobs) as pool:
        for looked, state in enumerate(states):
            told.tell(looked)
            for name in state.volumes:
                state.path(name)  # here: disks are this thread's
            running[pool.submit(judge, state)] = state
            if len(running) >= jobs:
                yield from _ended(running)
        while running:
            yield from _ended(running)


def _ended(running: dict[Future[str | None], CrashState]) -> Iterator[Bad]:
    done, _ = wait(running, return_when=FIRST_COMPLETED)
    for future in done:
        state = running.pop(future)
        message = future.result()
        if message is not None:
            yield Bad(state.id, message)
        state.close()


def by_processes(states: States, judge: Judge, jobs: int, told: Told) -> Found:
    """Yield the bad ones, checked in forked processes side by side.

    Each walks over all states, and looks at every so many-th; to walk costs little.
    """
    context = multiprocessing.get_context("fork")
    at = context.RawArray("q", [-1] * jobs)  # which state each is looking at
    through = context.RawArray("b", jobs)  # whether each has come to its end
    found: Any = context.SimpleQueue()
    workers = [
        context.Process(target=_work, args=(states, judge, k, at, through, found))
        for k in range(jobs)
    ]
    for worker in workers:
        worker.start()
    try:
        yield from _from_workers(states, workers, at, through, found, told)
    finally:
        if not states.coverage.looked:  # nobody came to the end
            states.seen_by_others(Coverage(looked=max(at) + 1, exact=False))
        for worker in workers:
            worker.terminate()
            worker.join()


def _from_workers(
    states: States,
    workers: Sequence[BaseProcess],
    at: Any,
    through: Any,
    found: Any,
    told: Told,
) -> Found:
    left = set(range(len(workers)))
    while left:
        ended = {k for k in left if not workers[k].is_alive()}  # before the queue is read
        while not found.empty():
            said = found.get()
            if isinstance(said, Exception):
                raise said
            if isinstance(said, Coverage):
                states.seen_by_others(said)
            else:
                yield said
        for k in sorted(ended):
            if not through[k]:  # whatever its exit code: a check may have called exit(0)
                place = max(0, at[k])
                id = next(state.id for n, state in enumerate(states.again()) if n == place)
                code = workers[k].exitcode
                yield Bad(id, f"the check ended its process, with exit code {code}", died=True)
        left -= ended
        told.tell(max(0, *at, 0))
        if not ended and left:
            workers[min(left)].join(0.005)


def _work(states: States, judge: Judge, own: int, at: Any, through: Any, found: Any) -> None:
    """Be one of the processes."""
    try:
        for place, state in enumerate(states):
            if place % len(at) == own:
                at[own] = place
                message = judge(state)
                if message is not None:
                    found.put(Bad(state.id, message))
        if own == 0:
            found.put(states.coverage)
    except Exception as error:
        found.put(error)
    through[own] = 1
    os._exit(0)
