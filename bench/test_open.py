"""Writes while many recoveries or views are open, by the same writes into a store with none."""

import pytest

import jrnl

from . import tables, workload
from .harness import Case, clocked, race
from .workload import BLOCK, JOURNAL, VOLUME, WRITES

pytestmark = pytest.mark.benchmark(disable_gc=True)

OPEN = {
    "1 open recovery": ("recover", 1),
    "30 open recoveries": ("recover", 30),
    "100 open views": ("view", 100),
}
BLOCK_BYTES = workload.rows(1, BLOCK).tobytes()


@pytest.fixture(scope="module")
def stores():
    """Two of a kind, in which every write evicts."""
    options = {"size": VOLUME, "journal": JOURNAL}
    with jrnl.create(**options) as ours, jrnl.create(**options) as bare:
        for store in (ours, bare):
            workload.warm(store.volume)
            workload.warm_small(store.volume, JOURNAL, 64)
            workload.warm(store.volume)
        yield ours, bare


def write_each(store, offsets):
    write, block = store.volume.write, BLOCK_BYTES
    for offset in offsets:
        write(offset, block)


def race_beside(benchmark, name, stores, **hooks):
    ours, bare = stores
    race(
        benchmark,
        Case(tables.OPEN, f"beside {name}", WRITES, target=1.2, yardstick="beside none"),
        lambda offsets: write_each(ours, offsets),
        prepare=lambda number: (workload.offsets(number, WRITES, BLOCK).tolist(),),
        yardstick=lambda offsets: clocked(write_each, bare, offsets),
        **hooks,
    )


def close_all(opened):
    while opened:
        opened.pop(0).close()


@pytest.mark.parametrize("what", OPEN)
def test_write_that_pushes_out_what_they_need(benchmark, stores, what):
    """Opened anew for each round, which is shorter than the window: each write's eviction counts,
    and for recoveries it is a copy more."""
    opened = []
    race_beside(
        benchmark,
        what,
        stores,
        arm=lambda _: opened.extend(workload.open_many(stores[0], *OPEN[what])),
        disarm=lambda _: close_all(opened),
    )


def test_write_once_they_have_all(benchmark, stores):
    """In the long run: every block was overwritten and has left since the youngest was opened."""
    what = "30 open recoveries"
    opened = workload.open_many(stores[0], *OPEN[what])
    for _ in range(2):
        workload.warm(stores[0].volume)
    race_beside(benchmark, f"{what}, once they have all that they need", stores)
    close_all(opened)
