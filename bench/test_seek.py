"""Seeking in an undoable recovery: what a step costs, by its distance."""

import pytest

import jrnl

from . import tables, workload
from .harness import Case, clocked, race
from .workload import BLOCK, JOURNAL, VOLUME

pytestmark = pytest.mark.benchmark(disable_gc=True)

DISTANCES = (10, 100, 400) if workload.SMALL else (10, 100, 1_000, 10_000)


@pytest.fixture(scope="module")
def history():
    """A written volume, and as many later writes as the longest step, each on its own block."""
    with jrnl.create(size=VOLUME, journal=JOURNAL) as store:
        workload.warm(store.volume)
        offsets = workload.distinct_offsets(0, DISTANCES[-1], BLOCK, VOLUME)
        rows = workload.rows(10, BLOCK, seed=6)
        for some in workload.batches(offsets, 10):
            store.volume.write_many(some, rows[: len(some)])
        yield store


def there_and_back(recovery, near, far):
    recovery.seek(near)
    recovery.seek(far)


@pytest.mark.parametrize("distance", DISTANCES)
def test_seek(benchmark, history, distance):
    """Back and on again; by a copy of as many blocks, out of a buffer and into another."""
    case = Case(
        tables.SEEK,
        f"`seek` over {distance:,} entries",
        count=2,
        yardstick="as many blocks copied",
    )
    newest = history.seq
    ours, theirs = workload.buffer(VOLUME), workload.buffer(distance * BLOCK)
    workload.touch(ours)
    workload.touch(theirs)
    offsets = workload.distinct_offsets(0, DISTANCES[-1], BLOCK, VOLUME)[-distance:].tolist()
    source, target = memoryview(theirs), memoryview(ours)

    def copy():
        for _ in range(2):
            for k, offset in enumerate(offsets):
                target[offset : offset + BLOCK] = source[k * BLOCK : (k + 1) * BLOCK]

    recovery = history.recover(newest, undoable=True)
    try:
        race(
            benchmark,
            case,
            lambda: there_and_back(recovery, newest - distance, newest),
            yardstick=lambda: clocked(copy),
        )
        assert recovery.seq == newest
    finally:
        recovery.close()


@pytest.mark.parametrize("distance", DISTANCES)
def test_recover_anew(benchmark, history, distance):
    """What a user does without `seek`: recover, read, close, for each state."""
    case = Case(
        tables.SEEK,
        f"`recover` anew, {distance:,} entries back",
        yardstick="`seek`",
        instead=True,
    )
    newest = history.seq
    opened = []
    with history.recover(newest, undoable=True) as recovery:

        def seek():
            recovery.seek(newest)
            return clocked(recovery.seek, newest - distance)

        race(
            benchmark,
            case,
            lambda: opened.append(history.recover(newest - distance)),
            yardstick=seek,
            disarm=lambda: opened.pop().close(),
        )
