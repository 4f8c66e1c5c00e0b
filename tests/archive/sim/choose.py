"""Who decides what happens next: chance, by a seed, or one way after the other, until the last."""

from __future__ import annotations

import random
from collections.abc import Callable, Hashable, Sequence
from typing import Protocol


class Seen(BaseException):
    """From here on it goes as it has gone before."""


class Chooser(Protocol):
    """Takes one of several ways, each with a weight above 0."""

    def pick(self, weights: Sequence[float]) -> int:
        """Return the number of the way."""

    def arrive(self, state: Callable[[], Hashable]) -> None:
        """Be told of what the next pick depends on; may raise Seen."""


class Chance:
    """Chooses by a seed."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)

    def pick(self, weights: Sequence[float]) -> int:
        if len(weights) == 1:
            return 0
        at = self.rng.random() * sum(weights)
        for k, weight in enumerate(weights):
            at -= weight
            if at < 0:
                return k
        return len(weights) - 1

    def arrive(self, state: Callable[[], Hashable]) -> None:
        pass


class Every:
    """Takes every way, in one run after the other: `while every.another(): ...`.

    A state that was reached before is not gone on from: what follows does not depend on the way
    to it.
    """

    def __init__(self, first: Sequence[int] = ()) -> None:
        self.path = list(first)  # what the next run picks first
        self.counts: list[int] = []  # how many ways there were
        self.at = 0
        self.states: set[int] = set()
        self.begun = False

    def another(self) -> bool:
        """Go on to the next run; False where all were run."""
        if not self.begun:
            self.begun = True
            return True
        del self.path[self.at :]
        del self.counts[self.at :]
        while self.path and self.path[-1] + 1 == self.counts[-1]:
            self.path.pop()
            self.counts.pop()
        self.at = 0
        if not self.path:
            return False
        self.path[-1] += 1
        return True

    def pick(self, weights: Sequence[float]) -> int:
        if len(weights) == 1:
            return 0
        if self.at == len(self.path):
            self.path.append(0)
        if self.at == len(self.counts):
            self.counts.append(len(weights))
        self.at += 1
        return self.path[self.at - 1]

    def arrive(self, state: Callable[[], Hashable]) -> None:
        if self.at < len(self.path):
            return  # a way that another run has found
        key = hash(state())
        if key in self.states:
            raise Seen
        self.states.add(key)


class Given:
    """Takes the ways of a run that is to be seen again, and then the first one each time."""

    def __init__(self, path: Sequence[int]) -> None:
        self.path = list(path)
        self.at = 0

    def pick(self, weights: Sequence[float]) -> int:
        if len(weights) == 1:
            return 0
        self.at += 1
        return self.path[self.at - 1] if self.at <= len(self.path) else 0

    def arrive(self, state: Callable[[], Hashable]) -> None:
        pass
