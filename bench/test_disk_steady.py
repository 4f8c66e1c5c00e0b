"""A store that has been written to for a while: does it slow down, does it grow?

JRNL_BENCH_SECONDS says for how long; `python -m bench --seconds 60` sets it.
"""

import os
import pathlib
import statistics
import time

import numpy as np
import pytest

from . import tables, workload
from .harness import Case, keep, row
from .on_disk import LAST_FLUSH, filled_store, folder, random_blocks
from .peak_ram import peak_bytes
from .workload import BLOCK

pytestmark = pytest.mark.benchmark(disable_gc=True)

SECONDS = float(os.environ.get("JRNL_BENCH_SECONDS", "0.2" if workload.SMALL else "8"))
FLUSH = 64
CHUNK = 64 if workload.SMALL else 4096
WARM = 8 if workload.SMALL else 40  # chunks: the journal has wrapped
PERCENTILES = (50, 99, 99.9)


def write_chunk(store, offsets, block, laps):
    """One chunk, each write clocked, the flush with the write before it."""
    write, flush, clock = store.volume.write, store.flush, time.perf_counter_ns
    for number, offset in enumerate(offsets, 1):
        start = clock()
        write(offset, block)
        if number % FLUSH == 0:
            flush()
        laps.append(clock() - start)


def write_for_a_while(store, seconds, chunks):
    """Chunk by chunk: when each began and ended, and what each write in it took."""
    block = workload.rows(1, BLOCK).tobytes()
    until = time.perf_counter_ns() + seconds * 1e9
    while time.perf_counter_ns() < until or len(chunks) < WARM // 4:
        offsets, laps = random_blocks(len(chunks), CHUNK), []
        write_chunk(store, offsets, block, laps)
        chunks.append(np.array(laps))


def by_second(chunks):
    """Nanoseconds per write of each second (or of each chunk, where there are few)."""
    seconds, ns, count = [], 0, 0
    for laps in chunks:
        ns += int(laps.sum())
        count += len(laps)
        if ns >= min(1e9, SECONDS * 1e9 / 8):
            seconds.append(ns / count)
            ns = count = 0
    return seconds or [ns / count]


def test_steady(benchmark):
    def case(name, **facts):
        return Case(tables.DISK_STEADY, name, killed=LAST_FLUSH, power=LAST_FLUSH, **facts)

    chunks = []
    with folder() as place, filled_store(place / "store") as store:
        block = workload.rows(1, BLOCK).tobytes()
        for number in range(WARM):
            write_chunk(store, random_blocks(-1 - number & 0xFFFF, CHUNK), block, [])
        pathlib.Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        before = peak_bytes()
        benchmark.pedantic(write_for_a_while, (store, SECONDS, chunks))
        after = peak_bytes()
        assert store.window.oldest > 0
    seconds = by_second(chunks)
    quarter = max(1, len(seconds) // 4)
    first, last = statistics.median(seconds[:quarter]), statistics.median(seconds[-quarter:])
    name = f"a write in the last quarter of {SECONDS:g} s"
    drift = case(name, target=1.1, yardstick="in the first quarter")
    keep(benchmark, row(drift, last, first, note=_spread(seconds)))
    laps = np.concatenate(chunks)
    for percentile in PERCENTILES:
        keep(benchmark, row(case(f"p{percentile}"), float(np.percentile(laps, percentile))))
    keep(benchmark, row(case("the longest"), float(laps.max())))
    grown = after - before - laps.nbytes
    memory = case("peak RAM at the end", target=1.05, yardstick="after the first laps")
    keep(benchmark, row(memory, before + max(grown, 0), before, unit="bytes"))


def _spread(seconds):
    return f"by the second {min(seconds) / 1000:.1f} to {max(seconds) / 1000:.1f} µs"
