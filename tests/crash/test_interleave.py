"""The copier's thread meets its host inside calls: some of the orders. `interleave.py` has all."""

from __future__ import annotations

import random

from tests.crash import interleave
from tests.crash.interleave import AFTER, COPIER, HOST, Order, free_operations, run_all


def test_where_the_lock_is_to_be_had():
    """A snapshot commits and records without it; nothing else here would be a meeting."""
    text = HOST[0][0]
    assert len(free_operations(Order(text, -1))) >= 4
    copying = f"{text} write_sectors copy"
    assert len(free_operations(Order(copying, -1))) >= 4


def test_some_orders_of_the_host_and_the_copier_in_their_crash_states(seed: int):
    rng = random.Random(seed)
    text, overflow = rng.choice(HOST)
    places = free_operations(Order(text, -1, overflow=overflow))
    steps = range(1, interleave.STEPS + 1)
    cases = [Order(text, rng.choice(places), rng.choice(steps), True, overflow) for _ in range(3)]
    cases.append(Order(text, places[-1], rng.choice(steps), False, overflow, rng.choice(AFTER)))
    inside = f"{HOST[0][0]} write_sectors copy | {rng.choice(COPIER)}"
    cases += [Order(inside, rng.choice(free_operations(Order(inside, -1)))) for _ in range(1)]
    result = run_all(cases)
    assert not result.failures, "\n".join(result.failures)
    assert result.counts["orders"] == len(cases)
    assert result.counts["opened"] > 20
