"""One test that goes through all crash states itself: what a test for each costs would be too much.

A state that fails has a report of its own, under the name that its own test would have.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, NoReturn

import pytest

from jrnl.pytest_plugin.collect import Part
from jrnl.pytest_plugin.report import tell

if TYPE_CHECKING:
    from jrnl.crash import CrashState, States

FAILURES_MAX: Final = 10


def call_for_all(item: pytest.Function) -> bool | None:
    """Call a function for each state of its part; None where it is one state's alone.

    Fails with how many states have failed, each of which was reported before.
    """
    part = item.funcargs["crash_state"]
    if not isinstance(part, Part):
        return None
    arguments = {name: item.funcargs[name] for name in item._fixtureinfo.argnames}
    states: States | None = None
    some: Iterable[CrashState]
    if part.walk.only is not None:
        some = [part.walk.named(part.walk.only)]
    else:
        states = part.walk.states()
        some = states if part.parts == 1 else islice(states, part.place, None, part.parts)
    failed = _call(item, part, arguments, some)
    if states is not None and part.place == 0:
        item.user_properties.append(("crash_states", str(states.coverage)))
    if failed:
        more = f"; the test has ended with the first {FAILURES_MAX}"
        pytest.fail(
            f"{len(failed)} crash states fail: {', '.join(failed)}"
            + (more if len(failed) >= FAILURES_MAX else ""),
            pytrace=False,
        )
    return True


def _call(
    item: pytest.Function, part: Part, arguments: dict[str, Any], states: Iterable[CrashState]
) -> list[str]:
    """Return the ids of the states that fail."""
    call, failed = item.obj, []
    for state in states:
        arguments["crash_state"] = state
        try:
            call(**arguments)
        except pytest.skip.Exception:
            continue
        except (Exception, pytest.fail.Exception) as error:
            failed.append(state.id)
            _report(item, part, arguments, state, error)
            if len(failed) >= FAILURES_MAX or item.session.shouldfail:
                break
    return failed


def _report(
    item: pytest.Function,
    part: Part,
    arguments: dict[str, Any],
    state: CrashState,
    error: BaseException,
) -> None:
    """Report the failure of one state, as if it had a test of its own."""
    call = pytest.CallInfo.from_call(partial(_raise, error), "call")
    report = item.ihook.pytest_runtest_makereport(item=item, call=call)
    if not report.failed:
        return  # xfail
    path, line, name = report.location
    report.location = (path, line, f"{name.partition('[')[0]}[{state.id}]")
    text = tell(item, part.walk, state, pytest.ExceptionInfo.from_exception(error).exconly(),
                partial(_passes, item, arguments))  # fmt: skip
    report.sections.append(("crash state", text))
    crash = getattr(report.longrepr, "reprcrash", None)
    if crash is not None:  # what the short summary shows: reports of one test have one name
        crash.message = f"[{state.id}] {crash.message}"
    with _shown(item):
        item.ihook.pytest_runtest_logreport(report=report)


def _shown(item: pytest.Item) -> AbstractContextManager[None]:
    """Return a block in which what pytest prints is not captured as the test's."""
    capture: Any = item.config.pluginmanager.getplugin("capturemanager")
    shown: AbstractContextManager[None]
    shown = nullcontext() if capture is None else capture.global_and_fixture_disabled()
    return shown


def _raise(error: BaseException) -> NoReturn:
    raise error


def _passes(item: pytest.Function, arguments: dict[str, Any], state: CrashState) -> bool:
    try:
        item.obj(**{**arguments, "crash_state": state})
    except pytest.skip.Exception:
        return True
    except (Exception, pytest.fail.Exception):
        return False
    return True
