"""How much to try, from which seed, and the one command that replays a failure.

JRNL_TEST_PROFILE picks a Hypothesis profile: "default", "short" (for a slow build, such as the
sanitized one) or "long". All random tests draw from one seed, fresh for each run unless
--hypothesis-seed gives one; a failure prints the command that runs the test from the same seed.
"""

from __future__ import annotations

import gc
import os
import random

import pytest
from hypothesis import HealthCheck, settings

from jrnl import snapshot_copier

PROFILE = os.environ.get("JRNL_TEST_PROFILE", "default")

snapshot_copier.automatic = False  # snapshots are copied by hand, so that a run can be repeated

for name, examples in {"short": 10, "default": 100, "long": 2000}.items():
    settings.register_profile(
        name,
        max_examples=examples,
        deadline=None,  # machines differ, and are shared
        print_blob=True,
        derandomize=False,
        suppress_health_check=[HealthCheck.too_slow],
    )
settings.load_profile(PROFILE)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    if config.option.hypothesis_seed is None:
        config.option.hypothesis_seed = str(random.SystemRandom().randrange(1 << 32))


def pytest_collection_finish() -> None:
    """What there is by now stays; without this a `gc.collect()` takes a fifth of a second."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """What a random test draws from."""
    return int(request.config.option.hypothesis_seed)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> pytest.TestReport:
    report = yield
    if report.failed:
        report.sections.append(("replay", replay_command(item)))
    return report


def replay_command(item: pytest.Item) -> str:
    profile = "" if PROFILE == "default" else f"JRNL_TEST_PROFILE={PROFILE} "
    marked = [name for name in ("long", "sabotage") if item.get_closest_marker(name)]
    marker = "".join(f" -m {name}" for name in marked)
    seed = item.config.option.hypothesis_seed
    return f"{profile}python -m pytest '{item.nodeid}'{marker} --hypothesis-seed={seed}"
