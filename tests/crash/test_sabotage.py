"""The bench finds what is wrong: a disk that leaves something out, a volume written too early."""

from __future__ import annotations

import pytest

from tests.crash import bench
from tests.crash.bench import Plan
from tests.crash.disk import Op
from tests.crash.expect import START_NS, World
from tests.crash.oracle import OrderOracle
from tests.crash.sabotage import SABOTAGES
from tests.model import Model


@pytest.mark.parametrize("name", SABOTAGES)
def test_a_sync_that_does_nothing_is_noticed(name: str):
    result = bench.Result()
    for seed in range(24):
        plan = Plan(seed=seed, sabotage=name, failures=1, fail=0.9 if "cache" in name else 0.25)
        bench.Bench(plan, result).run_lives()
        if result.failures:
            break
    assert result.failures, str(result)


def a_write(number: int, file: str, data: bytes, offset: int = 0) -> Op:
    return Op(number, "pwrite", f"s/{file}", offset, data)


def test_the_order_oracle_refuses_a_sector_whose_entry_is_not_synced():
    model = Model([2048], 65536, "both", START_NS)
    oracle = OrderOracle(["v0"], lambda: [World(model)])
    model.write(0, 0, b"a" * 512, START_NS)
    oracle.see(a_write(1, "log", b"group"))
    oracle.see(a_write(2, "v0.img", b"a" * 512))
    assert len(oracle.problems) == 1
    oracle.see(Op(3, "sync", "s/log"))
    oracle.see(a_write(4, "v0.img", b"a" * 512 + bytes(1536)))
    oracle.see(a_write(5, "snapshot-n-v0.img", b"?" * 512))
    assert len(oracle.problems) == 1
    model.write(0, 512, b"b" * 512, START_NS)
    oracle.see(Op(6, "sync", "s/log"))
    oracle.see(a_write(7, "v0.img", b"b" * 512, 512))
    assert len(oracle.problems) == 2
    oracle.see(a_write(8, "v0.img", b"a" * 100))
    assert "whole sectors" in oracle.problems[-1]
