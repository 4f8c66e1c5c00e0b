"""How much to try, from which seed, and the one command that replays a failure.

JRNL_TEST_PROFILE picks a Hypothesis profile: "default", "short" (for a slow build, such as the
sanitized one) or "long". All random tests draw from one seed, fresh for each run unless
--hypothesis-seed gives one; a failure prints the command that runs the test from the same seed.
"""

from __future__ import annotations

import gc
import lzma
import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from jrnl import snapshot_copier
from tests.model.disk_twin import folder_in_memory
from tests.model.places import DATA

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


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder in memory, where there is one: syncs cost nothing there."""
    made = folder_in_memory()
    yield made
    shutil.rmtree(made)


@pytest.fixture
def automatic() -> Iterator[None]:
    """Snapshots are copied behind the host's back, as they are for users."""
    snapshot_copier.automatic = True
    yield
    snapshot_copier.automatic = False


@pytest.fixture(scope="session")
def unpack(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A function that unpacks a recorded history, once in a session."""
    folder = tmp_path_factory.mktemp("traces")

    def unpack_once(trace: str) -> Path:
        path = folder / f"{trace}.log"
        if not path.exists():
            path.write_bytes(lzma.decompress((DATA / f"{trace}.log.xz").read_bytes()))
        return path

    return unpack_once


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
