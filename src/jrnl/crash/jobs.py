"""How a check is held against one state after the other: here, by commands, or in processes."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable, Generator, Iterator
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


class Workers:
    """Forked processes, side by side; one that has died or hangs makes room for another.

    Each walks over all states, and looks at every so many-th; to walk costs little.
    """

    def __init__(
        self, states: States, judge: Judge, jobs: int, told: Told, timeout_s: float | None
    ) -> None:
        self._states, self._judge, self._told, self._timeout_s = states, judge, told, timeout_s
        self._context = multiprocessing.get_context("fork")
        self._at = self._context.RawArray("q", [-1] * jobs)  # which state each is looking at,
        self._since = self._context.RawArray("d", jobs)  # since when; 0: at none
        self._through = self._context.RawArray("b", jobs)  # whether each has come to its end
        self._found: Any = self._context.SimpleQueue()
        self._running = {k: self._start(k) for k in range(jobs)}

    def _start(self, own: int) -> BaseProcess:
        """Start one, behind the state at which the one before it has ended."""
        self._since[own] = 0.0
        worker = self._context.Process(target=self._work, args=(own, self._at[own]))
        worker.start()
        return worker

    def bad_ones(self) -> Found:
        """Yield the bad ones."""
        try:
            yield from self._watch()
        finally:
            states = self._states
            if not states.coverage.looked:  # nobody came to the end
                states.seen_by_others(Coverage(looked=max(self._at) + 1, exact=False))
            for worker in self._running.values():
                worker.terminate()
                worker.join()

    def _watch(self) -> Found:
        while self._running:
            # What is alive is asked before the queue is read: all that the dead have said is there.
            ended = [k for k, worker in self._running.items() if not worker.is_alive()]
            yield from self._said()
            for own in ended:
                worker = self._running.pop(own)
                if not self._through[own]:  # whatever its exit code: a check may call exit(0)
                    code = worker.exitcode
                    yield self._lost(own, f"the check ended its process, with exit code {code}")
                    self._running[own] = self._start(own)
            for own in self._late():
                self._running[own].kill()
                self._running.pop(own).join()
                yield self._lost(own, f"the check has not ended after {self._timeout_s} s")
                self._running[own] = self._start(own)
            self._told.tell(max(0, *self._at, 0))
            if not ended and self._running:
                next(iter(self._running.values())).join(0.005)

    def _said(self) -> Found:
        while not self._found.empty():
            said = self._found.get()
            if isinstance(said, Exception):
                raise said
            if isinstance(said, Coverage):
                self._states.seen_by_others(said)
            else:
                yield said

    def _late(self) -> list[int]:
        """Say whose check takes longer than it may."""
        if self._timeout_s is None:
            return []
        until = time.monotonic() - self._timeout_s
        return [k for k in self._running if 0 < self._since[k] < until]

    def _lost(self, own: int, message: str) -> Bad:
        place = max(0, self._at[own])
        id = next(state.id for n, state in enumerate(self._states.again()) if n == place)
        return Bad(id, message, died=True)

    def _work(self, own: int, after: int) -> None:
        """Be one of the processes."""
        try:
            for place, state in enumerate(self._states):
                if place % len(self._at) == own and place > after:
                    self._at[own], self._since[own] = place, time.monotonic()
                    message = self._judge(state)
                    self._since[own] = 0.0
                    if message is not None:
                        self._found.put(Bad(state.id, message))
            if own == 0:
                self._found.put(self._states.coverage)
        except Exception as error:
            self._found.put(error)
        self._through[own] = 1
        os._exit(0)


def apart(judge: Judge, timeout_s: float) -> Judge:
    """Return a judge that does the same in a forked process, and ends it where it takes longer."""
    context = multiprocessing.get_context("fork")

    def judged(state: CrashState) -> str | None:
        here, there = context.Pipe(duplex=False)
        worker = context.Process(target=lambda: there.send(judge(state)))
        worker.start()
        there.close()
        try:
            if not here.poll(timeout_s):
                return f"the check has not ended after {timeout_s} s"
            message: str | None = here.recv()
            return message
        except EOFError:
            worker.join()
            return f"the check ended its process, with exit code {worker.exitcode}"
        finally:
            here.close()
            worker.kill()
            worker.join()

    return judged
