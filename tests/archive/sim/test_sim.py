"""Writers, collectors and readers over a simulated object store; `make crash` runs many more."""

from __future__ import annotations

import re
from itertools import product

import pytest

from tests.archive.sim import runs
from tests.archive.sim.campaign import RANDOM
from tests.archive.sim.choose import Every, Given
from tests.archive.sim.oracle import quickly
from tests.archive.sim.sabotage import SWITCHES, noticed
from tests.archive.sim.world import World
from tests.model.amount import SHARE, more_in_long


@pytest.fixture(autouse=True)
def quick():
    with quickly():
        yield


@more_in_long("ways", 200, 10000 // SHARE)
@pytest.mark.parametrize("name", runs.CASES)
def test_no_order_of_a_few_actors_breaks_a_rule(name: str, ways: int):
    failures, whole = [], 0

    def each(world: World, every: Every) -> bool:
        nonlocal whole
        whole += not world.seen
        if world.failure:
            path = ",".join(map(str, every.path[: every.at]))
            command = f"python -m tests.archive.sim.campaign --case '{name}' --ways {path}"
            failures.append(f"{world.failure}\n    {command}")
        return len(failures) > 3

    every = runs.every_way(runs.CASES[name], ways, each)
    assert not failures, "\n".join(failures)
    assert whole > 0
    assert len(every.states) > ways / 3


@more_in_long("count", 200, 5000 // SHARE)
@pytest.mark.parametrize("kind", RANDOM)
def test_random_runs_break_no_rule(kind: str, count: int, seed: int):
    once, only = RANDOM[kind]
    traces, acknowledged, failures = set(), 0, []
    for number in range(seed, seed + count):
        world = once(number)
        traces.add(world.trace)
        acknowledged += world.counts["acknowledged"]
        if world.failure:
            command = f"python -m tests.archive.sim.campaign {only} {number}"
            failures.append(f"{world.failure}\n    {command}")
    assert not failures, "\n".join(failures)
    assert len(traces) > 0.9 * count
    assert acknowledged > 2 * count


def test_a_run_is_the_same_each_time():
    for number, (once, _) in product((3, 5, 8), RANDOM.values()):
        first, second = once(number), once(number)
        assert first.steps > 20
        assert (first.trace, first.steps, first.counts) == (
            second.trace, second.steps, second.counts
        )  # fmt: skip


def test_a_way_of_a_case_can_be_gone_again():
    paths = []

    def each(world: World, every: Every) -> bool:
        paths.append((every.path[: every.at], world.trace, world.seen))
        return len(paths) == 200

    case = runs.CASES["two writers, one fault"]
    runs.every_way(case, 1000, each)
    whole = [(path, trace) for path, trace, seen in paths if not seen]
    assert whole
    for path, trace in whole:
        assert runs.run(case, Given(path)).trace == trace


@pytest.mark.sabotage
@pytest.mark.parametrize("name", SWITCHES)
def test_a_rule_that_is_taken_away_is_missed_for_its_own_reason(name: str):
    seed, failure = noticed(name)
    assert seed >= 0
    assert re.search(SWITCHES[name].says, failure), failure
