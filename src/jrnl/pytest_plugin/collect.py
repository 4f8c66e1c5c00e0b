"""Collecting: a test for each crash state of a history, or one for all of them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

import pytest

from jrnl import crash, logwrites
from jrnl.errors import InvalidArgument
from jrnl.sizes import as_int

if TYPE_CHECKING:
    from pathlib import Path

    from jrnl.crash import CrashState, States

STATE = pytest.StashKey["CrashState"]()  # of a test, while it has one
_HISTORIES = pytest.StashKey[dict[object, object]]()


class Walk:
    """The crash states that one test function is run on.

    Parameters
    ----------
    config : pytest.Config
    folder : Path
        What the path of a log is relative to.
    history : Store, LogHistory, path of a log, or a callable that returns one of these
    items : bool or int
        Whether each state has a test of its own; or how many tests there are for all of them.
    source, size
        Of a log, as for `logwrites.attach`.
    **wanted
        As for `crash.states`.
    """

    def __init__(
        self,
        config: pytest.Config,
        folder: Path,
        history: Any,
        *,
        items: bool | int = True,
        source: Any = None,
        size: Any = None,
        **wanted: Any,
    ) -> None:
        if items is not True and items is not False and as_int(items, "items must be an int") < 1:
            raise InvalidArgument(f"items must be True, False or from 1 on, not {items!r}")
        self.config, self.items = config, items
        self.only: str | None = config.getoption("--jrnl-state")
        self.shrunk = 0
        self._folder, self._history = folder, history
        self._source, self._size, self._wanted = source, size, wanted
        self._states: Iterator[CrashState] = iter(())
        self._next: int | None = None
        self._coverage = ""

    @property
    def history(self) -> object:
        """The history, opened once in a run. Raises what opening it does."""
        opened = self.config.stash.setdefault(_HISTORIES, {})
        history = self._history
        if callable(history):
            if history not in opened:
                opened[history] = history()
            history = opened[history]
        if isinstance(history, str | os.PathLike):
            path = self._folder / os.fspath(history)
            source = self._source
            if isinstance(source, str | os.PathLike):
                source = self._folder / os.fspath(source)
            key = (path, self._size, source if isinstance(source, os.PathLike) else id(source))
            if key not in opened:
                log = logwrites.attach(path, size=self._size, source=source)
                self.config.add_cleanup(log.close)
                opened[key] = log
            history = opened[key]
        return history

    def states(self) -> States:
        """Return all states. Raises as `crash.states`."""
        return crash.states(self.history, **self._wanted)

    def named(self, id: str) -> CrashState:
        """Return a state by its id. Raises as `crash.state`."""
        return crash.state(self.history, id, tag=self._wanted.get("tag"))

    def ids(self) -> list[str]:
        """Return the ids of all states. Raises what looking at the history does."""
        if self.only is not None:
            return [self.only]
        states = self.states()
        ids = [state.id for state in states]
        self._coverage = str(states.coverage)
        return ids

    def state(self, place: int, id: str, node: pytest.Item) -> CrashState:
        """Return the state at a place among all; from one to the next it costs least."""
        if self.only is not None:
            return self.named(id)
        if place == 0:
            node.user_properties.append(("crash_states", self._coverage))
        if self._next is None:
            self._states, self._next = iter(self.states()), 0
        if place < self._next:
            return self.named(id)
        skipped = place - self._next
        self._next = place + 1
        return next(islice(self._states, skipped, None))


class One:
    """What the test of one state gets: the state at a place in a walk."""

    __slots__ = ("id", "place", "walk")

    def __init__(self, walk: Walk, place: int, id: str) -> None:
        self.walk, self.place, self.id = walk, place, id

    def take(self, node: pytest.Item) -> CrashState:
        """Return it."""
        state = node.stash[STATE] = self.walk.state(self.place, self.id, node)
        return state

    def give_back(self, node: pytest.Item) -> None:
        """Let its files go on to the next one, whatever still refers to it."""
        node.stash[STATE].close()
        del node.stash[STATE]


class Part:
    """What a test that goes through states itself gets: one in so many of a walk."""

    def __init__(self, walk: Walk, place: int, parts: int) -> None:
        self.walk, self.place, self.parts = walk, place, parts

    def take(self, node: pytest.Item) -> Part:
        """Return it: states come when the function is called."""
        return self

    def give_back(self, node: pytest.Item) -> None:
        """Do nothing."""


def parametrize(metafunc: pytest.Metafunc, mark: pytest.Mark) -> None:
    """Make the tests of a function that is marked with crash_states."""
    name = metafunc.function.__name__
    if "crash_state" not in metafunc.fixturenames:
        pytest.fail(f"{name} is marked with crash_states, and takes no crash_state", pytrace=False)
    node = metafunc.definition
    walk = Walk(metafunc.config, node.path.parent, *mark.args, **mark.kwargs)
    params: list[One] | list[Part]
    if walk.items is True:
        ids = walk.ids()
        params = [One(walk, place, id) for place, id in enumerate(ids)]
    else:
        _check_all_in_one(metafunc, name)
        parts = 1 if walk.only is not None else max(1, walk.items)
        ids = [f"{k + 1}of{parts}" for k in range(parts)]
        if parts == 1:
            ids = [getattr(pytest, "HIDDEN_PARAM", "all")]  # from pytest 8.4 on
        params = [Part(walk, k, parts) for k in range(parts)]
    metafunc.parametrize("crash_state", params, ids=ids, indirect=True)


def _check_all_in_one(metafunc: pytest.Metafunc, name: str) -> None:
    """Refuse what can't be: a fixture is made once for a test, not once for each state."""
    for fixture, found in metafunc.definition._fixtureinfo.name2fixturedefs.items():
        if any("crash_state" in each.argnames for each in found):
            pytest.fail(
                f"{name} goes through all states itself, but its fixture {fixture} takes one: have "
                "a test for each state (items=True), or call from the test what it does",
                pytrace=False,
            )
