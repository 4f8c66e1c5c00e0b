"""The shipping store on a simulated disk: a short run of each bench. `make crash` runs long."""

from __future__ import annotations

import random

import pytest

from tests.crash import bench, faults
from tests.crash.bench import Plan
from tests.crash.workload import Shape, sequences
from tests.model.amount import more_in_long

IMAGES = ("both", "after")


def held(result: bench.Result, distinct: int) -> None:
    """Nothing was lost, and enough was looked at."""
    print(result)
    assert not result.failures, "\n".join(result.failures)
    assert len(result.seen) >= distinct


@pytest.mark.long
def test_random_lives():
    held(bench.run_seeds(Plan(states=3), iter(range(6)), None), 2000)


@pytest.mark.parametrize("images", IMAGES)
def test_every_operation_on_a_fresh_store(images: str):
    names = list(sequences(images, 1))
    held(bench.run_sequences(Plan(states=12), images, names), 200)


@more_in_long("count", 1, 3)
@pytest.mark.parametrize("images", IMAGES)
def test_folds_in_all_their_crash_states(images: str, count: int, seed: int):
    """The second lap brings the snapshot on; some openings in between are themselves cut."""
    laps = [("fill", "snapshot", "fill"), ("fill", "fill", "fill"), ("fill", "again", "fill")]
    laps = random.Random(seed).sample(laps, count)
    held(bench.run_sequences(Plan(states=4, deep=0.2), images, laps, None, "fold"), 40 * count)


@more_in_long("count", 20, 120)
def test_some_sequences_of_three_operations(seed: int, count: int):
    names = random.Random(seed).sample(list(sequences("both", 3)), count)
    held(bench.run_sequences(Plan(states=6), "both", names), 5 * count)


LEAST_FAULTS = {633: 4, 211: 16}  # by step, wherever the sample begins


@more_in_long("step", 633, 211)
@pytest.mark.parametrize("images", IMAGES)
@pytest.mark.parametrize("overflow", ["evict", "fold"])
def test_some_failing_calls(images: str, overflow: str, step: int, seed: int):
    shape = Shape(images=images, overflow=overflow)
    counts, failures = faults.run_all(shape, step=step, first=seed % step)
    assert not failures, "\n".join(failures)
    assert counts["unseen"] == 0
    assert counts["raised"] >= LEAST_FAULTS[step]
