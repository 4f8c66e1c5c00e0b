"""A test of one crash state that has failed: run again on states that have less lost."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from jrnl.pytest_plugin.collect import STATE, One
from jrnl.pytest_plugin.report import tell

if TYPE_CHECKING:
    from jrnl.crash import CrashState


class _Given:
    """What a test that is run again gets: a state at hand."""

    def __init__(self, state: CrashState) -> None:
        self._state = state

    def take(self, node: pytest.Item) -> CrashState:
        return self._state

    def give_back(self, node: pytest.Item) -> None:
        self._state.close()


def explain(item: pytest.Function, call: pytest.CallInfo[None], report: pytest.TestReport) -> None:
    """Add to the report of a test what its state is, the shrunk one, and how to replay it.

    The test is set up, run and torn down for each smaller state, with all its fixtures.
    """
    callspec = getattr(item, "callspec", None)
    param = None if callspec is None else callspec.params.get("crash_state")
    state = item.stash.get(STATE, None)
    if not isinstance(param, One) or state is None or call.excinfo is None:
        return
    if call.when == "teardown":
        return
    message = call.excinfo.exconly()
    pdb = item.config.getoption("usepdb", False)  # which is to find the fixtures as they are
    with _silence(item):
        check = None if pdb else _Again(item, report)
        try:
            text = tell(item, param.walk, state, message, check)
        except Exception as error:  # of a tagger, say; the test's own failure counts
            text = f"state {state.id}; no more could be told: {type(error).__name__}: {error}"
    item.callspec.params["crash_state"] = param
    report.sections.append(("crash state", text))


class _Again:
    """Runs a test again, with fixtures of its own, on another state."""

    def __init__(self, item: pytest.Function, report: pytest.TestReport) -> None:
        self._item, self._report, self._first = item, report, True

    def __call__(self, state: CrashState) -> bool:
        item, setup = self._item, self._item.session._setupstate
        self._tear_down()
        item.callspec.params["crash_state"] = _Given(state)
        item._initrequest()
        try:
            setup.setup(item)
            item.runtest()
        except pytest.skip.Exception:
            return True
        except (Exception, pytest.fail.Exception):
            return False
        finally:
            self._tear_down()
        return True

    def _tear_down(self) -> None:
        parent: Any = self._item.parent  # what it has in common with the next one: all but itself
        try:
            self._item.session._setupstate.teardown_exact(parent)
        except Exception as error:
            if self._first:
                self._report.sections.append(("teardown", f"{type(error).__name__}: {error}"))
        self._first = False


@contextmanager
def _silence(item: pytest.Item) -> Iterator[None]:
    """Drop what is printed meanwhile."""
    capture: Any = item.config.pluginmanager.getplugin("capturemanager")
    if capture is None or not capture.is_globally_capturing():
        yield
        return
    capture.resume_global_capture()
    try:
        yield
    finally:
        capture.suspend_global_capture()
        capture.read_global_capture()
