"""Crash states drawn by Hypothesis, and state machines that lose power.

@given(state=crash_states(history, mode="subset"))
def test_it_comes_back(state):
    check(state)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from hypothesis import note
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from jrnl.api import create
from jrnl.crash.choose import MODES
from jrnl.crash.files import Run
from jrnl.crash.source import source_of
from jrnl.crash.state import CrashState
from jrnl.crash.timeline import Timeline
from jrnl.errors import InvalidArgument
from jrnl.sizes import check_callable

if TYPE_CHECKING:
    from jrnl.crash.choose import Step
    from jrnl.crash.epoch import Epoch
    from jrnl.crash.state import Tag
    from jrnl.crash.timeline import Stretch
    from jrnl.points import Point
    from jrnl.store import Store

__all__ = ["CrashMachine", "crash_states"]

_ALL_DRAWN_MAX = 64  # units that may be lost: each drawn by itself; of more, those that are listed
_LISTED_MAX = 16


def crash_states(
    history: object,
    mode: str = "subset",
    start: Point | None = None,
    stop: Point | None = None,
    tag: Tag | None = None,
) -> st.SearchStrategy[CrashState]:
    """Draw what a disk may hold if power fails at some moment from `start` to `stop`.

    It shrinks towards an early moment and nothing lost. A failing example says how to make its
    state again.

    Parameters
    ----------
    history : Store, LogHistory or callable
        A callable is called once, when the first state is drawn, and returns one of the two.
    mode, start, stop, tag
        As for `jrnl.crash.states`; here all states of a mode may be drawn, however many there are.

    Returns
    -------
    SearchStrategy of CrashState

    Raises
    ------
    InvalidArgument, InvalidType; while drawing, what reading the history raises.
    """
    if mode not in MODES:
        raise InvalidArgument(f"mode must be one of {', '.join(MODES)}, not {mode!r}")
    check_callable(tag, "tag")
    moments: list[_Moments] = []

    @st.composite
    def drawn(draw: st.DrawFn) -> CrashState:
        if not moments:
            made = history() if callable(history) else history
            moments.append(_Moments(made, mode, start, stop, tag))
        state = moments[0].draw(draw)
        note(_Replay(state))
        return state

    return drawn()


class _Replay:
    """What is printed of a state in a failing example; written out only then."""

    def __init__(self, state: CrashState) -> None:
        self._state = state

    def __repr__(self) -> str:
        state = self._state
        return f"{state.explain()}\nto have it again: jrnl.crash.state(history, {state.id!r})"


class _Moments:
    """The moments of a history at which power may fail, and their states."""

    def __init__(
        self, history: Any, mode: str, start: Point | None, stop: Point | None, tag: Tag | None
    ) -> None:
        self._history, self._tag, self._mode = history, tag, mode
        self._source = source_of(history)
        self._timeline = timeline = Timeline(self._source, start, stop)
        self._at: list[tuple[Stretch, Step]] = []
        for number, stretch in enumerate(timeline.stretches()):
            epoch = timeline.epoch(stretch, torn=mode == "torn")
            steps = timeline.steps(epoch, first=not number, prefixes=mode == "prefix")
            self._at += [(stretch, step) for step in steps]
        self._last: tuple[Stretch, Epoch, Run] | None = None

    def draw(self, draw: st.DrawFn) -> CrashState:
        """Draw one of the states."""
        stretch, step = self._at[draw(st.integers(0, len(self._at) - 1))]
        epoch, run = self._entered(stretch)
        kept = (1 << epoch.firsts[step.done]) - 1
        if self._mode != "prefix":
            units = [k for k in range(epoch.firsts[step.done]) if epoch.free >> k & 1]
            for k in _lost(draw, units):
                kept ^= 1 << k
        return CrashState(run, epoch, step.seq, step.done, kept)

    def _entered(self, stretch: Stretch) -> tuple[Epoch, Run]:
        if self._last is None or self._last[0] != stretch:
            epoch = self._timeline.epoch(stretch, torn=self._mode == "torn")
            run = Run(self._history, self._source, self._tag)
            run.enter(epoch)
            self._last = stretch, epoch, run
        return self._last[1:]


def _lost(draw: st.DrawFn, units: list[int]) -> list[int]:
    """Draw which of some units are lost; fewer are simpler."""
    if len(units) <= _ALL_DRAWN_MAX:
        lost = draw(st.integers(0, (1 << len(units)) - 1)) if units else 0
        return [k for place, k in enumerate(units) if lost >> place & 1]
    few = draw(st.sets(st.sampled_from(units), max_size=_LISTED_MAX))
    from_some_on = draw(st.sampled_from([None, *reversed(units)]))
    if from_some_on is not None:
        return [k for k in units if (k >= from_some_on) != (k in few)]
    return sorted(few)


class CrashMachine(RuleBasedStateMachine):
    """A state machine whose disk loses power; derive yours from it, and add rules.

    `store` is the disk that the program under test writes to, and flushes. At any moment the rule
    `crash` may have the power fail: of what no flush covers, some is lost. The machine goes on with
    a store that begins with what is left, after `recovered` was called.

    Attributes
    ----------
    store : Store
        The disk, in memory; another one after each crash.
    mode : {"prefix", "subset", "torn"}
        Of the class: what may be lost; see `jrnl.crash.states`.
    options : mapping
        Of the class: what the first store is made with, options of `jrnl.create`. The journal has
        to hold what is written between two flushes.
    """

    mode: ClassVar[str] = "subset"
    options: ClassVar[Mapping[str, Any]] = {"size": "1MiB", "journal": "4MiB"}

    def __init__(self) -> None:
        super().__init__()
        self.store: Store = create(**self.options)

    @rule(data=st.data())
    def crash(self, data: st.DataObject) -> None:
        """Have the power fail, now."""
        before = self.store
        now = before.seq
        states = crash_states(before, self.mode, start=now, stop=now)
        state = data.draw(states, label="what power leaves")
        kept = {
            name: self.options[name]
            for name in ("journal", "images", "overflow", "checksum", "clock")
            if name in self.options
        }
        self.store = state.fork(**kept)
        try:
            self.recovered(state)
        finally:
            state.close()
            before.close()

    def recovered(self, state: CrashState) -> None:
        """Do what the program does when it starts again on `self.store`, and go on with that.

        Here a machine has the program recover, checks what it finds, and has its model forget what
        was not acknowledged. It does nothing by itself.

        Parameters
        ----------
        state : CrashState
            What was left: `lost` says what of it was not. It is closed when this returns.
        """

    def teardown(self) -> None:
        """Close the store. A machine that overrides it calls ``super().teardown()``."""
        self.store.close()
