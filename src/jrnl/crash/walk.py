"""Walks over the states that a power cut may have left."""

from __future__ import annotations

import random
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

from jrnl.crash.choose import MODES, Choice
from jrnl.crash.damaged import DAMAGES, DamagedState
from jrnl.crash.epoch import Sums
from jrnl.crash.files import Run
from jrnl.crash.pattern import Patterns
from jrnl.crash.source import source_of
from jrnl.crash.state import CrashState
from jrnl.crash.timeline import Timeline
from jrnl.errors import InvalidArgument
from jrnl.sizes import as_int, check_callable

if TYPE_CHECKING:
    from jrnl.crash.state import Tag
    from jrnl.crash.timeline import Stretch
    from jrnl.points import Point

REDUCE: Final = (None, "pattern")

Promise = tuple[int, int]  # the last flush seen, and how many writes with FUA since
# seq, entries made, what was promised; then for each state which units are there, and its sum.
Batch = tuple[int, int, Promise, list[int], list[int]]


class Coverage(NamedTuple):
    """How much of what there is was looked at, so far.

    Attributes
    ----------
    looked : int
        States that were given.
    same : int
        States that were passed over since their content had been given before, and no more was
        promised since.
    legal : int
        Choices of what is lost, over all moments up to the next flush: states that there may be,
        those of the same content counted apart.
    exact : bool
        Whether it has come to the end, and looked at each of these: `looked` is the number of all
        states.
    at_least : int
        How many different states there are, as far as is known: `looked` where that is exact, else
        a lower bound.
    patterns : int
        With ``reduce="pattern"``, the patterns seen.
    reduced : int
        States that were passed over since their pattern had been seen before.
    """

    looked: int = 0
    same: int = 0
    legal: int = 0
    exact: bool = True
    at_least: int = 0
    patterns: int = 0
    reduced: int = 0

    def __str__(self) -> str:
        there = f"{_number(self.legal)} choices of what is lost"
        if self.exact:
            said = f"{self.looked} states, all that there are ({there}, {self.same} of them repeat)"
        else:
            said = f"{self.looked} states of at least {_number(self.at_least)} ({there})"
        if self.patterns:
            said += f"; {self.patterns} patterns, {self.reduced} states of one seen before left out"
        return said


def _number(count: int) -> str:
    return str(count) if count < 10**9 else f"2**{count.bit_length() - 1}"


class States(Iterator[CrashState]):
    """The states that a disk may hold if power fails, one after the other; `jrnl.crash.states`."""

    def __init__(
        self,
        history: object,
        start: Point | None,
        stop: Point | None,
        mode: str,
        limit: int | None,
        seed: int,
        reduce: str | None,
        tag: Tag | None,
        damage: str | None = None,
    ) -> None:
        if mode not in MODES:
            raise InvalidArgument(f"mode must be one of {', '.join(MODES)}, not {mode!r}")
        if reduce not in REDUCE:
            raise InvalidArgument(f"reduce must be 'pattern' or None, not {reduce!r}")
        if limit is not None and as_int(limit, "limit must be an int") < 0:
            raise InvalidArgument(f"limit must be at least 0, not {limit}")
        as_int(seed, "seed must be an int")
        check_callable(tag, "tag")
        if damage not in (None, *DAMAGES):
            raise InvalidArgument(f"damage must be one of {', '.join(DAMAGES)}, not {damage!r}")
        if damage is not None and mode != "torn":
            raise InvalidArgument("damage is of writes that were torn: it takes mode='torn'")
        if damage is not None and reduce is not None:
            raise InvalidArgument("patterns are of what is lost: damage takes reduce=None")
        self._damage = damage
        self._again = partial(States, history, start, stop, mode, limit, seed, reduce, tag, damage)
        self._by_others: Coverage | None = None
        self._mode, self._limit, self._seed = mode, limit, seed
        source = source_of(history)
        self._timeline = Timeline(source, start, stop)
        self._run = Run(history, source, tag)
        self._patterns = Patterns(source, self._run, tagged=tag is not None) if reduce else None
        self._looked = self._same = self._legal = self._reduced = 0
        self._exact, self._most, self._ended = True, 0, False
        self._states = self._chosen()

    def __next__(self) -> CrashState:
        return next(self._states)

    def __iter__(self) -> Iterator[CrashState]:
        return self._states  # a frame less for each state

    def __repr__(self) -> str:
        return f"<jrnl.crash.States, {self.coverage}>"

    @property
    def coverage(self) -> Coverage:
        """What has been looked at so far, of how many."""
        if self._by_others is not None:
            return self._by_others
        exact = self._exact and self._ended
        return Coverage(
            looked=self._looked,
            same=self._same,
            legal=self._legal,
            exact=exact,
            at_least=self._looked if exact else max(self._looked, self._most),
            patterns=0 if self._patterns is None else len(self._patterns.seen),
            reduced=self._reduced,
        )

    def again(self) -> States:
        """Return the same states once more, from the first one on."""
        return self._again()

    def seen_by_others(self, coverage: Coverage) -> None:
        """Take note of what other processes have looked at, of the same states."""
        self._by_others = coverage

    def _chosen(self) -> Iterator[CrashState]:
        """Yield what is to be looked at: all, or as many as wanted, spread over the history."""
        if self._patterns is not None:
            yield from self._representatives(self._patterns)
            self._ended = True
            return
        picker = _Picker(None)
        if self._limit is not None:
            there = sum(walk.size for walk in self._epochs())
            if there > self._limit:
                picker, self._exact = _Picker(_spread(there, self._limit, self._seed)), False
        for state in self._found(picker):
            self._looked += 1
            yield state
        self._ended = True

    def _representatives(self, patterns: Patterns) -> Iterator[CrashState]:
        """Yield a state of each pattern; then others, where more are wanted."""
        given = set()
        for place, state in enumerate(self._found(_Picker(None))):
            if self._looked == self._limit:
                self._exact = False
                return
            if not patterns.is_new(state):
                self._reduced += 1
                self._exact = False
                continue
            given.add(place)
            self._looked += 1
            yield state
        if self._limit is None or self._exact:
            return
        said = self._same, self._legal
        for place, state in enumerate(self._found(_Picker(None))):
            if self._looked == self._limit:
                break
            if place not in given:
                self._looked += 1
                self._reduced -= 1
                yield state
        self._same, self._legal = said
        self._exact = self._reduced == 0

    def _epochs(self) -> Iterator[_EpochWalk]:
        stretches = self._timeline.stretches(prefixes=self._mode == "prefix")
        for first, stretch in enumerate(stretches):
            yield _EpochWalk(
                self._timeline, stretch, self._mode, self._seed, self._damage, first=not first
            )

    def _found(self, picker: _Picker) -> Iterator[CrashState]:
        """Yield states, each content once for what was promised by then.

        What a disk held before a promise may be all that is left of it after: another state.
        """
        seen: dict[Promise, set[int]] = {}
        ground = 0
        for walk in self._epochs():
            epoch, sums = walk.epoch, Sums(walk.epoch)
            run = self._run
            run.enter(epoch)
            self._legal += walk.legal
            seen = {promise: found for promise, found in seen.items() if promise[0] == epoch.acked}
            for seq, done, promise, kept, totals in walk.batches(sums, picker):
                contents = seen.setdefault(promise, set())
                for units, relative in zip(kept, totals, strict=True):
                    total = relative + ground
                    if total in contents:
                        self._same += 1
                    else:
                        contents.add(total)
                        yield CrashState(run, epoch, seq, done, units, promise[0], total)
                for unit in walk.damaged(seq, done, picker):
                    yield DamagedState(run, epoch, seq, done, unit, walk.damage)
            self._exact &= walk.is_counted
            self._most = max(self._most, sums.different())
            ground += sums.sum_of(epoch.whole)


class _Picker:
    """Which states of a run are wanted, by their number; all by default."""

    def __init__(self, wanted: Iterator[int] | None) -> None:
        self._wanted = wanted
        self._next = 0 if wanted is None else next(wanted, None)
        self._done = 0

    @property
    def takes_all(self) -> bool:
        """Whether every state is wanted."""
        return self._wanted is None

    def take(self, size: int) -> list[int]:
        """Return which of the next `size` states are wanted."""
        if self._wanted is None:
            return list(range(size))
        start, self._done = self._done, self._done + size
        found = []
        while self._next is not None and self._next < self._done:
            found.append(self._next - start)
            self._next = next(self._wanted, None)
        return found


def _spread(there: int, wanted: int, seed: int) -> Iterator[int]:
    """Yield as many numbers below `there` as are wanted: one drawn from each of equal parts."""
    rng = random.Random(seed)
    for k in range(wanted):
        yield rng.randrange(k * there // wanted, (k + 1) * there // wanted)


class _EpochWalk:
    """The states of one epoch, in the order of time."""

    def __init__(
        self,
        timeline: Timeline,
        stretch: Stretch,
        mode: str,
        seed: int,
        damage: str | None,
        *,
        first: bool,
    ) -> None:
        self.epoch = timeline.epoch(stretch, torn=mode == "torn")
        self._stretch, self._prefixes, self._seed = stretch, mode == "prefix", seed
        self.damage = damage or ""
        steps = timeline.steps(self.epoch, first=first, prefixes=self._prefixes)
        self._choices = [Choice(self.epoch, step) for step in steps]

    def damaged(self, seq: int, done: int, picker: _Picker) -> list[int]:
        """Return which units of the entry that was under way are damaged, each in one state."""
        units = self._damaged(seq, done)
        return units if picker.takes_all else [units[k] for k in picker.take(len(units))]

    def _damaged(self, seq: int, done: int) -> list[int]:
        epoch = self.epoch
        if not self.damage or not done or epoch.rows["seq"][done - 1] != seq:
            return []
        units = range(epoch.firsts[done - 1], epoch.firsts[done])
        return [unit for unit in units if epoch.free >> unit & 1]

    @property
    def legal(self) -> int:
        """How many choices there are of what is lost."""
        if self._prefixes:
            return self.size
        return sum(choice.legal + self._damages(choice) for choice in self._choices)

    def _damages(self, choice: Choice) -> int:
        return len(self._damaged(choice.step.seq, choice.step.done))

    @property
    def is_counted(self) -> bool:
        """Whether all of them are looked at."""
        return self._prefixes or all(choice.is_counted for choice in self._choices)

    @property
    def size(self) -> int:
        """How many of them are looked at, at most."""
        return sum(self._size(choice) + self._damages(choice) for choice in self._choices)

    def _size(self, choice: Choice) -> int:
        if self._prefixes:
            return 1
        return choice.legal if choice.is_counted else choice.sample_size

    def batches(self, sums: Sums, picker: _Picker) -> Iterator[Batch]:
        """Yield the states by the moment: what all have in common, which units are there, sums."""
        present = total = 0
        stretch = self._stretch
        fuas = [0, *self.epoch.rows["fua"].cumsum().tolist()]
        for choice in self._choices:
            step = choice.step
            total = sums.moved(present, total, present ^ choice.present)
            present = choice.present
            kept, totals = self._of(choice, sums, total, picker)
            if kept and kept[0] == present == self.epoch.whole and stretch.end is not None:
                # All that a flush covers: told as of that flush, the most that was promised.
                if not stretch.end_writes:
                    yield stretch.end, step.done, (stretch.end, 0), kept[:1], totals[:1]
                if not stretch.end_writes or not (stretch.end_is_kept or self._prefixes):
                    kept, totals = kept[1:], totals[1:]  # or the next epoch begins with it
            yield step.seq, step.done, (stretch.acked, fuas[step.done]), kept, totals

    def _of(
        self, choice: Choice, sums: Sums, total: int, picker: _Picker
    ) -> tuple[list[int], list[int]]:
        """Return which units are there in the states of a moment that are wanted, and the sums."""
        wanted = None if picker.takes_all else picker.take(self._size(choice))
        if wanted == []:
            return [], []
        if self._prefixes:
            kept, totals = [choice.present], [total]
        elif choice.is_counted:
            kept, totals = choice.every(sums)
        else:
            losts = list(choice.sampled(self._seed))
            if wanted is not None:  # a sample may have less than there could be
                losts = [losts[k] for k in wanted if k < len(losts)]
                wanted = None
            kept = [choice.present ^ lost for lost in losts]
            totals = [choice.sum_without(sums, total, lost) for lost in losts]
        if wanted is not None:
            kept, totals = [kept[k] for k in wanted], [totals[k] for k in wanted]
        return kept, totals
