"""Where two states differ, who wrote a range, and what a phase of writing cost."""

from __future__ import annotations

import itertools
import random
import threading
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

import jrnl
from jrnl import Kind
from tests.model.amount import more_in_long
from tests.model.disk_twin import DiskTwin
from tests.model.history_check import (
    check_diff,
    check_history,
    check_snapshot_diff,
    check_stats,
    differing,
    extents_of,
    runs,
)
from tests.model.twin import Clock, Twin
from tests.model.whole import START_NS

SIZES = [
    [1],
    [4096, 4097],
    [70000, 511, 12345],
]


def live(twin: Twin, random_: random.Random, steps: int) -> None:
    """Writes near each other, discards, marks, snapshots, rewinds."""
    for step in range(steps):
        volume = random_.randrange(len(twin.sizes))
        size = twin.sizes[volume]
        offset = min(random_.randrange(size), random_.choice([size, 700]) - 1)
        length = min(random_.choice([1, 7, 64, 300, 513]), size - offset)
        act = random_.random()
        if act < 0.6:
            data = random_.choice([random_.randbytes(length), bytes(length), b"\7" * length])
            twin.write(volume, offset, data)
        elif act < 0.75:
            twin.zero(random_.choice([Kind.DISCARD, Kind.ZEROES]), volume, offset, length)
        elif act < 0.8:
            twin.flush()
        elif act < 0.85:
            twin.clock.now += random_.randrange(10**9)
            twin.mark(f"m{step}")
        elif act < 0.9 and len(twin.snapshots) < 3:
            twin.snapshot(f"s{step}")
        elif twin.rewinds:
            twin.rewind(max(twin.oldest, twin.newest - random_.randrange(6)))


def check_all(twin: Twin, random_: random.Random, most: int) -> None:
    """Each pair of states, or so many of the pairs, and each range, of what is there."""
    kept = [seq for seq in range(twin.base, twin.newest + 1) if twin.model.is_kept(seq, twin.base)]
    assert len(kept) > 4
    pairs = list(itertools.combinations_with_replacement(kept, 2))
    for a, b in random_.sample(pairs, min(len(pairs), most)):
        check_diff(twin, a, b)
        check_stats(twin, a, b)
    for name in twin.snapshots:
        for seq in twin.kept_states():
            check_snapshot_diff(twin, name, seq)
    for volume, size in enumerate(twin.sizes):
        places = sorted({0, 1, 63, 64, 299, 511, 512, 700, size - 1, size})
        for start, stop in itertools.combinations([p for p in places if 0 <= p <= size], 2):
            check_history(twin, volume, start, stop - start)
        check_history(twin, volume, 0, 0)


PAIRS = more_in_long("most", 70, 1 << 30)


@PAIRS
@pytest.mark.parametrize("images", ["before", "both", "after"])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_every_pair_of_states_in_memory_is_told_apart(sizes, images, most, seed):
    twin = Twin(sizes, images=images)
    with twin.store:
        random_ = random.Random(seed)
        live(twin, random_, 25)
        check_all(twin, random_, most)  # nothing has left yet
        live(twin, random_, 120)
        assert twin.base > 0
        check_all(twin, random_, most)


@PAIRS
@pytest.mark.parametrize("images", ["both", "after"])
@pytest.mark.parametrize("sizes", SIZES[1:], ids=str)
def test_every_pair_of_states_on_disk_is_told_apart(sizes, images, most, seed):
    twin = DiskTwin(sizes, 32768, images)
    try:
        random_ = random.Random(seed)
        for _ in range(3):
            live(twin, random_, 30)
            check_all(twin, random_, most)
            twin.reopen()
            check_all(twin, random_, most)
        twin.kill()
        live(twin, random_, 5)
        check_all(twin, random_, most)
    finally:
        twin.discard()


@pytest.fixture
def store():
    """Two volumes of 64 KiB; entries 1 to 6, of which 4 is a mark."""
    with jrnl.create(volumes={"a": 65536, "b": 65536}, journal="64KiB") as made:
        a, b = made["a"], made["b"]
        a.write(100, b"one")
        a.write(103, b"two")
        b.write(0, b"x" * 200)
        made.mark("marked")
        b.write(50, b"x" * 10)
        a.discard(60000, 5536)
        yield made


def test_extents_are_those_that_the_entries_between_wrote(store):
    extents = store.diff(0, store.seq)
    assert extents.dtype == np.dtype([("volume", "<u2"), ("offset", "<u8"), ("length", "<u8")])
    # The two writes touch; the discard was of zeroes; the rewrite counts, though it wrote the same.
    assert extents.tolist() == [(0, 100, 6), (1, 0, 200)]
    assert store.diff("marked", store.seq).tolist() == [(1, 50, 10)]
    assert store.diff("marked", store.seq, exact=True).tolist() == []
    assert store.diff(3, 3).tolist() == []


def test_the_order_of_the_points_does_not_matter(store):
    assert np.array_equal(store.diff(5, 1), store.diff(1, 5))
    assert store.diff(1, 5).tolist() == [(0, 103, 3), (1, 0, 200)]


def test_a_volume_is_named_by_its_name_or_by_itself(store):
    for volume in ("b", store["b"]):
        assert store.diff(0, 6, volume).tolist() == [(1, 0, 200)]
        assert store.history(0, 60, volume)["seq"].tolist() == [3, 5]
    with pytest.raises(jrnl.UnknownVolume):
        store.diff(0, 6, "c")
    with pytest.raises(jrnl.UnknownVolume, match="several"):
        store.history(0, 60)


def test_no_extent_reaches_from_one_volume_into_the_next():
    with jrnl.create(volumes={"a": 100, "b": 100, "c": 7}, journal="64KiB") as store:
        store["a"].write(90, b"x" * 10)
        store["b"].write(0, b"x" * 100)
        store["c"].write(0, b"x" * 7)
        expected = [(0, 90, 10), (1, 0, 100), (2, 0, 7)]
        assert store.diff(0, 3).tolist() == expected
        assert store.diff(0, 3, exact=True).tolist() == expected


def test_an_exact_extent_joins_what_lies_less_than_64_bytes_apart():
    with jrnl.create(size=65536, journal="64KiB") as store:
        volume = store.volume
        volume.write(0, bytes([1]) + bytes(63) + bytes([1]) + bytes(64) + bytes([1]))
        volume.write(4090, bytes([1]))
        volume.write(4090 + 64, bytes([1]))  # in the next block
        assert store.diff(0, 3, exact=True).tolist() == [(0, 0, 65), (0, 129, 1), (0, 4090, 65)]


@pytest.mark.parametrize("seed_of_case", range(20))
def test_exact_extents_are_the_runs_of_unequal_bytes(seed_of_case, seed):
    random_ = np.random.default_rng((seed, seed_of_case))
    with jrnl.create(size=20000, journal="256KiB") as store:
        before = store.volume.read(0, 20000)
        for _ in range(random_.integers(1, 12)):
            length = int(random_.choice([1, 60, 64, 70, 5000]))
            offset = int(random_.integers(0, 20000 - length))
            store.volume.write(offset, (random_.random(length) < 0.02).astype(np.uint8))
        unequal = differing((before,), (store.volume.read(0, 20000),))
        assert store.diff(0, store.seq, exact=True).tolist() == extents_of(unequal, 64)
        assert sum(mask.sum() for mask in unequal) <= sum(n for _, n in runs(unequal[0], 64))


def test_all_kinds_of_points_are_taken():
    clock = Clock()
    with jrnl.create(size=4096, journal="64KiB", clock=clock) as store:
        start = store.mark()
        store.volume.write(0, b"1")
        clock.now += 10**9
        mark = store.mark("m")
        snapshot = store.snapshot("s")
        store.volume.write(9, b"2")
        after = datetime.fromtimestamp(START_NS // 10**9, UTC) + timedelta(seconds=0.5)
        for point in (0, np.int64(0), start):
            assert store.diff(point, "m").tolist() == [(0, 0, 1)]
            assert store.stats(point, mark).writes == 1
        for point in ("m", mark, "s", snapshot, after, 1):
            assert store.diff(store.seq, point).tolist() == [(0, 9, 1)], point
            assert store.stats(point).bytes == 1
        assert store.stats(until=after).entries == 1


def test_states_across_a_rewind_differ_by_what_was_kept():
    with jrnl.create(size=4096, journal="64KiB") as store:
        volume = store.volume
        volume.write(0, b"kept")
        volume.write(100, b"dropped")
        rewound = store.rewind(1).seq
        assert store.diff(1, rewound).tolist() == []
        assert store.diff(0, rewound).tolist() == [(0, 0, 4)]
        volume.write(200, b"new")
        assert store.diff(1, store.seq).tolist() == [(0, 200, 3)]
        assert store.history(0, 4096)["seq"].tolist() == [1, rewound + 1]
        stats = store.stats()
        assert (stats.entries, stats.writes, stats.rewinds, stats.bytes) == (3, 2, 1, 7)
        with pytest.raises(jrnl.PointExpired):
            store.diff(2, store.seq)
        replaced, store_seq = rewound, store.rewind(rewound).seq
        assert store.diff(replaced, store_seq).tolist() == []  # an alias of the same state


@pytest.mark.parametrize("images", ["before", "after", "both"])
def test_a_snapshot_older_than_the_window_is_compared_to_the_byte(images):
    with jrnl.create(size=65536, journal="16KiB", images=images) as store:
        store.volume.write(0, b"same")
        store.snapshot("old")
        store.volume.write(20000, b"A" + bytes(99) + b"B")
        store.snapshot("newer")
        store.volume.write(0, b"same")
        for _ in range(40):
            store.volume.write(8192, b"later" * 100)
        with pytest.raises(jrnl.PointExpired):
            store.diff(0, store.seq)
        between = [(0, 20000, 1), (0, 20100, 1)]
        assert store.diff("old", "newer").tolist() == between
        assert store.diff("newer", 1).tolist() == between  # state 1 is the snapshot's
        assert store.diff("old", store.seq).tolist() == [(0, 8192, 500), *between]
        assert store.diff(store.seq, "old", "data", exact=True).tolist() == [
            (0, 8192, 500),
            *between,
        ]


@pytest.mark.parametrize("exact", [False, True])
def test_damaged_headers_are_gone_round_by_comparing_content(exact):
    with jrnl.create(size=65536, journal="64KiB") as store:
        store.volume.write(0, b"1")
        store.snapshot("s").wait()
        store.volume.write(0, b"1")
        store.volume.write(4096, b"2")
        store.volume.write(5000, b"3")
        store._engine._damage_header(2, 16, 0xFF)
        assert store.diff("s", store.seq, exact=exact).tolist() == [(0, 4096, 1), (0, 5000, 1)]
        assert store.diff(3, 4).tolist() == [(0, 5000, 1)]  # does not need that entry
        assert store.diff(store.seq, 0)["offset"].tolist() == [0, 4096, 5000]  # by the snapshot
        with pytest.raises(jrnl.CorruptionError):
            store.diff(2, store.seq, exact=exact)
        with pytest.raises(jrnl.CorruptionError, match="entry 3"):
            store.history(60000, 1)
        with pytest.raises(jrnl.CorruptionError, match="entry 3"):
            store.stats()
        assert store.stats(until=1).writes == 1


def test_a_damaged_header_before_a_phase_hides_when_it_began():
    with jrnl.create(size=4096, journal="64KiB") as store:
        for k in range(4):
            store.volume.write(k, b"x")
        store._engine._damage_header(1, 8, 1)
        with pytest.raises(jrnl.CorruptionError):
            store.stats(since=2)
        assert store.diff(2, 4).tolist() == [(0, 2, 2)]


@pytest.mark.parametrize("field", ["volume", "kind"])
def test_without_checksums_a_header_that_cannot_be_is_seen(field):
    byte = {"volume": 36, "kind": 38}[field]
    with jrnl.create(size=4096, journal="64KiB", checksum=False) as store:
        store.volume.write(0, b"x")
        store._engine._damage_header(0, byte, 0x40)
        for ask in (lambda: store.history(0, 1), store.stats):
            with pytest.raises(jrnl.CorruptionError):
                ask()


def test_damaged_images_are_seen_where_they_are_read_only():
    with jrnl.create(size=65536, journal="64KiB") as store:
        store.volume.write(0, b"x" * 500)
        store.volume.write(0, b"y" * 500)
        position = int.from_bytes(store._engine._header_bytes(2)[24:32], "little")
        store._engine._damage_image(position, 1)
        assert store.diff(1, 2).tolist() == [(0, 0, 500)]
        with pytest.raises(jrnl.CorruptionError):
            store.diff(1, 2, exact=True)


def test_states_that_cannot_be_rebuilt_can_still_be_told_apart_by_headers():
    with jrnl.create(size=4096, journal="64KiB", images="after") as store:
        store.volume.write(5, b"x")
        store.volume.write(7, b"x")
        assert store.window.oldest == 2
        assert store.diff(0, 1).tolist() == [(0, 5, 1)]
        with pytest.raises(jrnl.PointExpired):
            store.diff(0, 1, exact=True)


def test_who_wrote_a_range_and_what_was_there(store):
    rows = store.history(102, 2, "a")
    assert rows.dtype == store.journal.entries.dtype
    assert rows["seq"].tolist() == [1, 2]
    assert [store.journal.before(seq) for seq in rows["seq"]] == [bytes(3), bytes(3)]
    assert store.history(103, 1, "a")["seq"].tolist() == [2]
    assert store.history(65535, 1, "a")["kind"].tolist() == [Kind.DISCARD]
    assert store.history(200, 100, "b").tolist() == []  # begins where entry 3 ends
    assert store.history(0, 100, "a").tolist() == []  # ends where entry 1 begins
    assert store.history(101, 0, "a").tolist() == []
    assert store.history(65536, 0, "a").tolist() == []


def test_a_range_that_is_not_there_is_out_of_bounds(store):
    for offset, length in [(65536, 1), (0, 65537), (-1, 1), (0, -1), (2**70, 1), (1, 2**63 - 1)]:
        with pytest.raises(jrnl.OutOfBounds):
            store.history(offset, length, "a")
    for bad in (1.0, None, "1", True):
        with pytest.raises(jrnl.InvalidType):
            store.history(bad, 1, "a")


def test_stats_count_a_phase(store):
    stats = store.stats(since="marked")
    assert (stats.since, stats.until, stats.entries) == (4, 6, 2)
    assert (stats.writes, stats.bytes, stats.distinct_bytes, stats.rewritten_bytes) == (
        1,
        10,
        10,
        0,
    )
    assert (stats.discards, stats.discarded_bytes) == (1, 5536)
    assert stats.journal_bytes == 64 + 64 + 64  # two headers, and ten bytes on a line of 64
    assert stats.write_amplification == (192 + 10) / 10
    assert stats.evictions == 0
    assert store.stats("marked", 5).discards == 0
    nothing = store.stats(6)
    assert (nothing.entries, nothing.write_amplification, nothing.seconds) == (0, 0.0, 0.0)
    assert sum(row.journal_bytes for row in (store.stats(0, 3), store.stats(3))) == nothing.used


def test_distinct_bytes_count_an_overwritten_byte_once():
    with jrnl.create(volumes={"a": 4096, "b": 4096}, journal="64KiB") as store:
        for offset in (0, 5, 20, 7):
            store["a"].write(offset, b"x" * 10)
        store["b"].write(0, b"x" * 10)
        store["b"].discard(0, 10)
        stats = store.stats()
        assert (stats.bytes, stats.distinct_bytes, stats.rewritten_bytes) == (50, 37, 13)


def test_phases_follow_each_other(store):
    store.flush()
    store["a"].write(0, b"later")
    store.flush()
    store.flush()
    points = [0, "marked", 7, store.seq]
    phases = [store.stats(a, b) for a, b in itertools.pairwise(points)]
    whole = store.stats()
    for field in ("entries", "writes", "bytes", "flushes", "marks", "journal_bytes"):
        assert sum(getattr(phase, field) for phase in phases) == getattr(whole, field)
    assert [phase.flushes for phase in phases] == [0, 1, 1]


def test_a_phase_that_ends_before_it_begins_is_refused(store):
    with pytest.raises(jrnl.InvalidArgument, match="exchange them"):
        store.stats(5, 4)


def test_points_that_are_not_there(store):
    for ask in (store.diff, store.stats):
        with pytest.raises(jrnl.UnknownPoint):
            ask(0, 7)
        with pytest.raises(jrnl.UnknownPoint):
            ask("nobody", 6)
        with pytest.raises(jrnl.InvalidType):
            ask(True, 6)
        with pytest.raises(jrnl.InvalidArgument):
            ask(datetime(2024, 1, 1), 6)
    snapshot = store.snapshot("gone")
    snapshot.delete()
    with pytest.raises(jrnl.UnknownPoint, match="deleted"):
        store.diff(snapshot, 0)


def test_an_edit_must_end_before_states_are_compared_but_not_before_they_are_counted(store):
    with store["a"].edit(0, 5) as mem:
        mem[:] = 1
        with pytest.raises(jrnl.EditOpen):
            store.diff(0, 6)
        assert store.history(0, 5, "a")["seq"].tolist() == [7]
        assert store.stats(6).writes == 1


def test_what_is_told_while_others_write_is_of_one_moment():
    with jrnl.create(size=65536, journal="16KiB") as store:
        store.snapshot("empty")
        done = threading.Event()

        def write() -> None:
            for k in range(3000):
                store.volume.write(k % 100 * 100, bytes([k % 255 + 1]) * 100)
            done.set()

        writer = threading.Thread(target=write)
        writer.start()
        rounds = 0
        while not done.is_set() or not rounds:
            stats = store.stats()
            assert stats.entries == stats.writes == stats.until - stats.since
            assert stats.distinct_bytes == stats.bytes == 100 * stats.writes
            seqs = store.history(0, 65536)["seq"]
            assert np.array_equal(seqs, np.arange(seqs.size) + (seqs[0] if seqs.size else 0))
            with suppress(jrnl.PointExpired):  # by the time that it is asked for
                extents = store.diff("empty", store.seq, exact=True)
                assert extents["length"].sum() % 100 == 0
            rounds += 1
        writer.join()


def test_a_closed_store_says_so():
    store = jrnl.create(size=4096)
    store.close()
    for ask in (lambda: store.diff(0, 0), lambda: store.history(0, 1), store.stats):
        with pytest.raises(jrnl.StoreClosed):
            ask()


def test_a_store_open_for_reading_tells_all_of_it(tmp_path):
    with jrnl.create(tmp_path / "s", size=65536, journal="1MiB") as store:
        store.volume.write(1, b"x")
        store.snapshot("s")
        store.volume.write(600, b"y")
        told = [store.diff(0, 2).tolist(), store.history(0, 9).tolist(), store.stats(0, 2)[:15]]
    with jrnl.open(tmp_path / "s", "r") as store:
        assert [store.diff(0, 2).tolist(), store.history(0, 9).tolist()] == told[:2]
        assert store.stats(0, 2)[:14] == told[2][:14]
        assert store.diff("s", 2, exact=True).tolist() == [(0, 600, 1)]


@pytest.mark.parametrize("images", ["before", "after", "both"])
def test_a_digest_is_the_same_by_every_way_to_name_a_state(images):
    clock = Clock()
    with jrnl.create(volumes={"a": 5000, "b": 1}, journal="16KiB", clock=clock, images=images) as s:
        s["a"].write(0, b"first")
        snapshot = s.snapshot("s")
        digest = s.digest()
        at = datetime.fromtimestamp(START_NS // 10**9, UTC)
        clock.now += 10**9
        mark = s.mark("m")
        bookmark = s.mark()
        for point in (None, 1, 2, "s", snapshot, "m", mark, bookmark, at, s.seq):
            assert s.digest(point) == digest
        for k in range(100):
            s["a"].write(k, b"other" * 50)
        assert s.window.oldest > 2
        for point in ("s", snapshot, 1):  # the journal has forgotten it, the snapshot has not
            assert s.digest(point) == digest
        for point in (mark, 2, 0):
            with pytest.raises(jrnl.PointExpired):
                s.digest(point)
        assert s.digest() == s.digest(s.seq) != digest
