"""Restoring what differs: 64 bytes in volumes of two sizes, with a snapshot in the store."""

import contextlib

import pytest

import jrnl

from . import tables, workload
from .harness import Case, clocked, race
from .on_disk import filled_store, folder
from .workload import GIB, JOURNAL, MIB

pytestmark = pytest.mark.benchmark(disable_gc=True)

SIZES = (4 * MIB, 16 * MIB) if workload.SMALL else (256 * MIB, GIB)
DIFFERENCE = workload.rows(1, 64).tobytes()


@contextlib.contextmanager
def in_memory(size):
    with jrnl.create(size=size, journal=JOURNAL) as store:
        workload.warm(store.volume)
        yield store


@contextlib.contextmanager
def on_disk(size):
    with folder() as here, filled_store(here / "store", size=size) as store:
        yield store


def change(store):
    """A state is remembered, and 64 bytes are written."""
    before = store.seq
    store.volume.write(store.volume.size // 2, DIFFERENCE)
    return before


def go_back(store, point):
    with store.recover(point) as recovery:
        recovery.restore()


@pytest.mark.parametrize("where", [in_memory, on_disk])
def test_restore(benchmark, where):
    place = where.__name__.replace("_", " ")
    case = Case(
        tables.RESTORE,
        f"`recover`, `restore`, `close` {place}, {tables.size(SIZES[1])}",
        target=1.2,
        yardstick=tables.size(SIZES[0]),
    )
    points = []
    with where(SIZES[0]) as smaller, where(SIZES[1]) as larger:
        for store in (smaller, larger):
            store.snapshot("bench").wait()
        race(
            benchmark,
            case,
            lambda: go_back(larger, points.pop()),
            yardstick=lambda: clocked(go_back, smaller, change(smaller)),
            arm=lambda: points.append(change(larger)),
            rounds=51,
        )
