"""What pytest loads of jrnl: options, markers and fixtures. The rest comes once a test asks for it.

It stands beside the package, not in it: to import a part of jrnl is to import jrnl and NumPy, which
takes longer than many a run. What does the work is `jrnl.pytest_plugin`.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from jrnl.crash import CrashState
    from jrnl.pytest_plugin.lend import Stores
    from jrnl.store import Store

_MARKERS = (
    "jrnl(size=, journal=, ..., prepare=): what jrnl_store is made with: options of jrnl.create, "
    "and a function that is called once with the new store",
    "crash_states(history, mode='prefix', start=, stop=, limit=, seed=, reduce=, tag=, source=, "
    "size=, items=True): run the test, which takes crash_state, on what a disk may hold after a "
    "power cut; items=False: all of them in one test, items=N: in N tests",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Take --jrnl-state and --jrnl-bundles."""
    group = parser.getgroup("jrnl", "crash states")
    group.addoption(
        "--jrnl-state", metavar="ID",
        help="of tests marked with crash_states, run those on this state alone",
    )  # fmt: skip
    help_bundles = "the folder for what it takes to see a bad crash state again"
    group.addoption("--jrnl-bundles", metavar="DIR", help=help_bundles)
    parser.addini("jrnl_bundles", f"{help_bundles}; by default one in pytest's cache")


def pytest_configure(config: pytest.Config) -> None:
    """Say which markers there are."""
    for marker in _MARKERS:
        config.addinivalue_line("markers", marker)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make a test for each crash state."""
    mark = metafunc.definition.get_closest_marker("crash_states")
    if mark is not None:
        from jrnl.pytest_plugin.collect import parametrize

        parametrize(metafunc, mark)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Call a test function that goes through the states itself for each of them."""
    if "crash_state" not in pyfuncitem.funcargs:
        return None
    from jrnl.pytest_plugin.together import call_for_all

    return call_for_all(pyfuncitem)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Say of a test that fails on a crash state what that is, and how to see it again."""
    report = yield
    if report.failed and isinstance(item, pytest.Function) and "crash_state" in item.fixturenames:
        from jrnl.pytest_plugin.apart import explain

        explain(item, call, report)
    return report


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say how many of the states that there are were looked at."""
    said = [
        f"{report.nodeid.partition('[')[0]}: {value}"
        for outcome in ("passed", "failed", "skipped", "xfailed", "xpassed")
        for report in terminalreporter.stats.get(outcome, ())
        if report.user_properties
        for name, value in report.user_properties
        if name == "crash_states"
    ]
    if said:
        terminalreporter.section("crash states")
        for line in dict.fromkeys(said):
            terminalreporter.line(line)


@pytest.fixture(scope="session")
def _jrnl_stores() -> Iterator[Stores]:
    from jrnl.pytest_plugin.lend import Stores

    stores = Stores()
    yield stores
    stores.close()


@pytest.fixture
def jrnl_store_options() -> Any:
    """Say what jrnl_store is: options for `jrnl.create`, a store, or a function that makes one.

    Override it; among the options ``prepare`` may be a function that is called once with the new
    store. @pytest.mark.jrnl adds to the options.
    """
    return {}


@pytest.fixture
def jrnl_store(
    request: pytest.FixtureRequest, _jrnl_stores: Stores, jrnl_store_options: Any
) -> Iterator[Store]:
    """Lend a store, in memory by default, put back after each test to what it was before it."""
    mark = request.node.get_closest_marker("jrnl")
    lent = _jrnl_stores.lend(jrnl_store_options, {} if mark is None else mark.kwargs)
    yield lent.store
    lent.put_back()


@pytest.fixture
def crash_state(request: pytest.FixtureRequest) -> Iterator[CrashState]:
    """Give what a disk may hold after a power cut; see @pytest.mark.crash_states."""
    if not hasattr(request, "param"):
        raise pytest.UsageError("crash_state is of tests marked with @pytest.mark.crash_states")
    yield request.param.take(request.node)
    request.param.give_back(request.node)
