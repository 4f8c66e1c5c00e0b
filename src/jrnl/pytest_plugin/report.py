"""What is told of a test that fails on a crash state: what is lost, and how to see it again."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from jrnl.crash import CrashState, shrink
from jrnl.crash.bundle import write_bundle
from jrnl.errors import InvalidArgument, JrnlError

if TYPE_CHECKING:
    from jrnl.pytest_plugin.collect import Walk

SHRUNK_MAX: Final = 3  # of one test function in one process

Check = Callable[[CrashState], bool]


def tell(
    item: pytest.Function, walk: Walk, state: CrashState, message: str, check: Check | None
) -> str:
    """Shrink a bad state, leave its bundle, and return what there is to say.

    Parameters
    ----------
    check : callable, optional
        Runs the test on a state: whether it passes. Without, nothing is shrunk.
    """
    said = []
    if walk.shrunk >= SHRUNK_MAX:
        check = None
        said.append(f"not shrunk, and no bundle: that is for the first {SHRUNK_MAX} of a test")
    smaller = state
    if check is not None:
        smaller, how = _shrunk(state, check)
        said.append(how)
    said.append(smaller.explain())
    said.append(f"replay: {replay(item, smaller.id, state.id)}")
    if walk.shrunk < SHRUNK_MAX:
        said.append(f"bundle: {_bundle(item, smaller, message)}")
    walk.shrunk += 1
    return "\n".join(said)


def _shrunk(state: CrashState, check: Check) -> tuple[CrashState, str]:
    if not state.lost:
        return state, f"state {state.id} fails, and has nothing lost: there is nothing to shrink"
    try:
        smaller = shrink(state, check)
    except InvalidArgument:
        return state, f"state {state.id} failed, and passes when the test is run again"
    if smaller.id == state.id:
        return state, f"no state with less lost than {state.id} has fails"
    return smaller, f"state {state.id} shrinks to {smaller.id}: that is what it takes to fail"


def _bundle(item: pytest.Function, state: CrashState, message: str) -> str:
    try:
        return write_bundle(state, message, _folder(item))
    except (JrnlError, OSError) as error:  # a full disk; the rest is told all the same
        return f"none: {error}"


def replay(item: pytest.Function, id: str, failed: str) -> str:
    """Return the command that runs a test on one state."""
    name, bracket, rest = item.nodeid.partition("[")
    parts = rest.removesuffix("]").rpartition(failed)
    node = f"{name}[{parts[0]}{id}{parts[2]}]" if bracket and parts[1] else item.nodeid
    return f"python -m pytest {shlex.quote(node)} --jrnl-state={id}"


def _folder(item: pytest.Function) -> Path:
    """Return the folder for the bundles of a test function."""
    config = item.config
    given = config.getoption("--jrnl-bundles") or config.getini("jrnl_bundles")
    cache = getattr(config, "cache", None)
    folder: Path
    if given:
        folder = config.invocation_params.dir / given
    elif cache is not None:
        folder = Path(cache.mkdir("jrnl-bundles"))
    else:
        temporary: pytest.TempPathFactory = config._tmp_path_factory  # type: ignore[attr-defined]
        folder = temporary.getbasetemp() / "jrnl-bundles"
    return folder / re.sub(r"[^\w.-]+", "_", item.nodeid.partition("[")[0])
