"""The kernel in use beside the others that this processor runs, and writes from several threads."""

import threading
from functools import partial

import pytest

import jrnl
from jrnl import _core

from . import tables, workload
from .harness import Case, clocked, race
from .workload import BATCH, BLOCK, JOURNAL, VOLUME, WRITES

pytestmark = pytest.mark.benchmark(disable_gc=True)

TOO_SLOW = 1.10  # a choice that is so far off the best is flagged


@pytest.fixture(scope="module")
def volume():
    with jrnl.create(size=VOLUME, journal=JOURNAL) as store:
        workload.evicting(store.volume)
        yield store.volume


@pytest.mark.parametrize("batch", [1, BATCH])
def test_the_choice_beside_the_best(benchmark, volume, batch):
    """All kernels in turn over the same work; the yardstick is the fastest of each round."""
    name = workload.way_of_writing(batch)
    case = Case(
        tables.KERNELS,
        f"{name}: {jrnl.kernel}",
        WRITES // 4,
        target=TOO_SLOW,
        yardstick=f"the best of {', '.join(_core._kernel_names())}",
    )
    write = workload.writing(batch)

    def best(batches):
        laps = []
        try:
            for kernel in _core._kernel_names():
                _core._choose_kernels(kernel)
                laps.append(clocked(write, volume, batches))
        finally:
            _core._choose_kernels(jrnl.kernel)
        return min(laps)

    def prepare(number):
        offsets = workload.offsets(number, case.count, BLOCK)
        return (workload.cut(offsets, batch),)

    race(benchmark, case, partial(write, volume), prepare=prepare, yardstick=best)


@pytest.mark.parametrize("threads", [2, 4])
@pytest.mark.parametrize("batch", [1, BATCH])
def test_threads(benchmark, threads, batch):
    """One lock a store: the same writes from one thread are the yardstick."""
    name = workload.way_of_writing(batch)
    case = Case(
        tables.THREADS,
        f"{name}, {threads} threads",
        WRITES // 4 * threads,
        yardstick="the same from one thread",
    )
    sizes = {f"volume {k}": VOLUME // 4 for k in range(threads)}
    writing = workload.writing(batch)

    def write(volume, offsets):
        writing(volume, workload.cut(offsets, batch))

    with jrnl.create(volumes=sizes, journal=JOURNAL) as store:
        volumes = list(store.volumes.values())
        for volume in volumes:
            workload.warm(volume)

        def one_after_the_other(offsets):
            for volume in volumes:
                write(volume, offsets)

        def together(offsets):
            running = [threading.Thread(target=write, args=(volume, offsets)) for volume in volumes]
            for thread in running:
                thread.start()
            for thread in running:
                thread.join()

        race(
            benchmark,
            case,
            together,
            prepare=lambda number: (workload.offsets(number, WRITES // 4, BLOCK, VOLUME // 4),),
            yardstick=lambda offsets: clocked(one_after_the_other, offsets),
        )
