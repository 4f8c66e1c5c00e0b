"""Threads that take turns: one of them runs at a time, and which one is chosen.

Shipping code runs on threads of its own as it is. Whoever has the baton runs until its next call of
the simulated store, and there hands it to whomever the choice falls on, who may be itself.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

_idle: list[Player] = []  # threads of runs that are over, to be used again


class Player(threading.Thread):
    """A thread that runs one function after the other, each when it is given the baton."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.turn = threading.Lock()
        self.turn.acquire()
        self.work: Callable[[], Player | None] = lambda: None
        self.start()

    def run(self) -> None:
        while True:
            self.turn.acquire()
            follower = self.work()
            _idle.append(self)
            if follower is not None:
                follower.turn.release()
            else:
                _over.release()

    def wait(self) -> None:
        self.turn.acquire()


_over = threading.Lock()
_over.acquire()


def player(work: Callable[[], Player | None]) -> Player:
    """Return a thread that will do `work`, which returns who has the baton next; None ends it."""
    found = _idle.pop() if _idle else Player()
    found.work = work
    return found


def begin(first: Player) -> None:
    """Give the baton away, and wait until somebody ends the run."""
    first.turn.release()
    _over.acquire()


def hand(giver: Player, taker: Player) -> None:
    """Give the baton to another one, and wait until it comes back."""
    if giver is not taker:
        taker.turn.release()
        giver.wait()
