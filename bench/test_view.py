"""Views: what making one costs, what reading through it costs, and what it holds in memory."""

import contextlib
import os
import types

import pytest

import jrnl

from . import tables, workload
from .harness import Case, clocked, keep, race, row
from .on_disk import folder
from .workload import BLOCK, DISK_JOURNAL, DISK_OVERLAY, JOURNAL, KIB, MIB, VOLUME

pytestmark = pytest.mark.benchmark(disable_gc=True)

ENTRIES = 100 if workload.SMALL else 1_000
SIZES = (MIB, 4 * MIB, 16 * MIB) if workload.SMALL else (64 * MIB, 256 * MIB, 1024 * MIB)
COUNTS = (100, 200, 400) if workload.SMALL else (100, 1_000, 10_000)
READS = 64 if workload.SMALL else 4096
VIEWS = 32


def write_apart(volume, count, seed=0):
    """`count` entries of 4 KiB, each on a block of its own; the state before them."""
    before = volume._engine.seq
    offsets = workload.distinct_offsets(seed, count, BLOCK, volume.size)
    rows = workload.rows(100, BLOCK, seed=6)
    for some in workload.batches(offsets, 100):
        volume.write_many(some, rows[: len(some)])
    return before


def store_with(size, count):
    """A volume of which little but `count` blocks was ever written, and the state before them."""
    store = jrnl.create(size=size, journal=JOURNAL)
    return store, write_apart(store.volume, count)


def race_to_make(benchmark, case, here, there, times):
    """Make a view in one store, by `times` what it takes in another; 0: by nothing."""
    store, at = here
    other, before = there
    opened = []
    race(
        benchmark,
        case,
        lambda: opened.append(store.view(at)),
        yardstick=(lambda: times * clocked(other.view, before)) if times else None,
        disarm=lambda: opened.pop().close(),
        rounds=101,
    )


@pytest.mark.parametrize("size", SIZES)
def test_making_one_over_volumes_of_all_sizes(benchmark, size):
    smallest = tables.size(SIZES[0])
    case = Case(
        tables.VIEW,
        f"`view` over {ENTRIES:,} entries, {tables.size(size)} volume",
        yardstick=f"{smallest} volume",
    )
    here, there = store_with(size, ENTRIES), store_with(SIZES[0], ENTRIES)
    with here[0], there[0]:
        race_to_make(benchmark, case, here, there, size != SIZES[0])


@pytest.mark.parametrize("count", COUNTS)
def test_making_one_over_more_and_more_entries(benchmark, count):
    times = count // COUNTS[0]
    case = Case(
        tables.VIEW,
        f"`view` over {count:,} entries",
        yardstick=f"{times} times that over {COUNTS[0]}",
    )
    here, there = store_with(VOLUME, count), store_with(VOLUME, COUNTS[0])
    with here[0], there[0]:
        race_to_make(benchmark, case, here, there, times if times > 1 else 0)


# Reading.

STORES = {
    "in memory": lambda place: jrnl.create(size=VOLUME, journal=JOURNAL),
    "on disk": lambda place: jrnl.create(
        place / "store", size=VOLUME, journal=DISK_JOURNAL, overlay=DISK_OVERLAY
    ),
}


@pytest.fixture(scope="module", params=STORES)
def seen(request):
    """A written volume, and views of it before few of its blocks were overwritten, and many."""
    with contextlib.ExitStack() as stack:
        place = stack.enter_context(folder()) if request.param == "on disk" else None
        store = stack.enter_context(STORES[request.param](place))
        workload.warm(store.volume)
        many = write_apart(store.volume, JOURNAL // 4 // BLOCK, seed=1)
        few = write_apart(store.volume, ENTRIES, seed=2)
        views = {"few": store.view(few), "many": store.view(many)}
        assert store.window.oldest <= many  # nothing that they need has left
        yield types.SimpleNamespace(where=request.param, store=store, views=views)
        for view in views.values():
            view.close()


BUFFERS = {length: bytearray(length) for length in (BLOCK, MIB)}


def read(source, offsets, length):
    for offset in offsets:
        source.read(offset, length)


def readinto(source, offsets, length):
    buffer = BUFFERS[length]
    for offset in offsets:
        source.readinto(offset, buffer)


CASES = {
    "`read` of 4 KiB": (read, BLOCK),
    "`readinto` of 4 KiB": (readinto, BLOCK),
    "`readinto` of 1 MiB": (readinto, MIB),
}


@pytest.mark.parametrize("changed", ["few", "many"])
@pytest.mark.parametrize("name", CASES)
def test_reading(benchmark, seen, name, changed):
    """Production reads the same offsets just before, so both find the cache as warm."""
    act, length = CASES[name]
    count = max(8, READS * BLOCK // length)
    blocks = {"few": ENTRIES, "many": JOURNAL // 4 // BLOCK + ENTRIES}[changed]
    case = Case(
        tables.VIEW_READ,
        f"{name} {seen.where}, {blocks:,} blocks overwritten since",
        count=count,
        target=1.1,
        yardstick="production",
    )
    view, volume = seen.views[changed], seen.store.volume
    race(
        benchmark,
        case,
        lambda offsets: act(view, offsets, length),
        prepare=lambda number: (workload.offsets(number, count, length).tolist(),),
        yardstick=lambda offsets: clocked(act, volume, offsets, length),
    )


# Memory.


def resident_bytes():
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_memory(benchmark):
    """What the process grows by with each of many views, all open at once."""
    store, at = store_with(VOLUME, ENTRIES)
    with store:
        before = resident_bytes()
        views = benchmark.pedantic(lambda: [store.view(at) for _ in range(VIEWS)])
        grown = (resident_bytes() - before) / VIEWS
        assert all(view.seq == at for view in views)
        for view in views:
            view.close()
    case = Case(
        tables.VIEW,
        f"memory of a view over {ENTRIES:,} entries, {tables.size(VOLUME)} volume",
        yardstick="1% of the volume",
        target=1.0,
    )
    keep(benchmark, row(case, grown / KIB, VOLUME // 100 / KIB, unit="KiB"))
