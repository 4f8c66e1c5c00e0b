"""Pins, the two thresholds, the callback at the low mark, retention by time: in memory, on disk."""

from __future__ import annotations

import gc
import itertools
import random
import shutil
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jrnl
from jrnl import InvalidArgument, InvalidType, JournalFull, PinnedPoint, PointExpired
from tests.model.disk_twin import BLOCK
from tests.model.fingerprint import unchanged
from tests.model.twin import Clock
from tests.model.whole import START_NS

SECOND = 10**9
PLACES = ["memory", "disk"]
Make = Callable[..., jrnl.Store]


@pytest.fixture(params=PLACES)
def make(request, folder) -> Iterator[Make]:
    """Makes a store of one volume, with a clock that stands still, in memory or on disk."""
    stores = []

    def new(**options: object) -> jrnl.Store:
        path = None if request.param == "memory" else folder / f"s{len(stores)}"
        options = {"size": 1 << 16, "journal": 1 << 17, "clock": Clock(), **options}
        stores.append(jrnl.create(path, **options))
        return stores[-1]

    yield new
    for store in stores:
        store.close()


def fill(store: jrnl.Store, count: int, length: int = 1000, first: int = 0) -> int:
    """Write until that was done, or refused; say how many were."""
    for k in range(count):
        try:
            store.volume.write((first + k) * 777 % 60000, bytes([k % 251 + 1]) * length)
        except JournalFull:
            return k
    return count


def refuses(store: jrnl.Store, act: Callable[[], object], match: str | None = None) -> None:
    """Twice: on disk a full log's open group may be closed before that is known."""
    with pytest.raises(JournalFull, match=match):
        act()
    with unchanged(store), pytest.raises(JournalFull, match=match):
        act()


def content(store: jrnl.Store, seq: int) -> bytes:
    with store.view(seq) as view:
        return view.read(0, store.volume.size)


# Pins


def test_a_pinned_state_and_all_later_ones_stay(make):
    store = make()
    fill(store, 20)
    states = {20: store.volume.read(0, 1 << 16)}
    pin = store.pin(20)
    assert (pin.seq, pin.name, repr(pin)) == (20, None, "<jrnl.Pin at 20>")
    assert store.pins == (pin,)
    while fill(store, 1, first=store.seq):
        states[store.seq] = store.volume.read(0, 1 << 16)
    assert 0 < store.window.oldest <= 20
    assert len(states) > 10
    for seq, state in states.items():
        assert content(store, seq) == state
    refuses(
        store, lambda: store.volume.write(0, bytes(5000)), "state 20 is pinned.*release the pin"
    )
    pin.release()
    pin.release()
    assert (store.pins, repr(pin)) == ((), "<jrnl.Pin at 20, released>")
    assert fill(store, 300) == 300
    assert store.window.oldest > 20
    assert store.verify().ok


def test_the_oldest_of_several_pins_counts_and_a_block_ends_one(make):
    store = make()
    fill(store, 30)
    with store.pin(10) as low, store.pin(25) as high:
        assert store.pins == (low, high)
        fill(store, 1000)
        assert store.window.oldest <= 10
        low.release()
        fill(store, 1000)
        assert 10 <= store.window.oldest <= 25
    assert store.pins == ()
    assert fill(store, 300) == 300


def test_a_pin_that_nobody_holds_keeps_nothing(make):
    store = make()
    store.pin(0)
    gc.collect()
    assert store.pins == ()
    assert fill(store, 300) == 300


def test_a_pin_that_is_dropped_while_another_thread_has_the_lock_is_released_later(make):
    store = make()
    pins = [store.pin(0)]
    inside, done = threading.Event(), threading.Event()

    def hold_the_lock() -> None:
        with store._engine:
            inside.set()
            done.wait()

    other = threading.Thread(target=hold_the_lock)
    other.start()
    inside.wait()
    pins.clear()
    gc.collect()
    done.set()
    other.join()
    assert fill(store, 300) == 300


def test_a_pin_outlives_its_store(make):
    store = make()
    pin = store.pin(0)
    store.close()
    with pytest.raises(jrnl.StoreClosed):
        len(store.pins)
    pin.release()
    del store
    gc.collect()
    assert pin.seq == 0


@pytest.mark.parametrize("images", ["both", "after"])
def test_what_does_not_fit_beside_a_pin_is_refused_whole(make, images):
    store = make(images=images)
    store.snapshot("start")
    fill(store, 5)
    pin = store.pin(5)
    fill(store, 1000)
    offsets = list(range(0, 60000, 3000))
    for act in (
        lambda: store.volume.write_many(offsets, bytes(len(offsets) * 2048)),
        lambda: store.volume.write_many(offsets, b"\1" * len(offsets) * 2048),
        lambda: store.volume.edit(0, 20000).__enter__(),
    ):
        refuses(store, act)
    recovery = store.recover(5)
    refuses(store, recovery.restore)
    with pytest.raises(JournalFull):
        int(recovery.plan.oldest_after_restore)
    if images == "both":
        refuses(store, lambda: store.volume.discard(0, 1 << 16))
    recovery.close()
    assert content(store, pin.seq)[:10] == content(store, 5)[:10]


def test_a_flush_on_disk_needs_no_room(folder):
    with jrnl.create(folder / "s", size=1 << 16, journal=1 << 16) as store:
        pin = store.pin(0)
        fill(store, 1000)
        newest = store.seq
        while store.flush() == store.seq:
            if not fill(store, 1, 1):
                break
        assert store.seq >= newest
        shutil.copytree(folder / "s", folder / "copy")
        with jrnl.open(folder / "copy") as copy:
            assert copy.seq == store.seq
            assert copy.volume.read(0, 1 << 16) == store.volume.read(0, 1 << 16)
        pin.release()


def test_a_rewind_does_not_go_below_a_pin(make):
    store = make(images="both")
    fill(store, 10)
    pin = store.pin(6)
    with unchanged(store), pytest.raises(PinnedPoint, match="state 6 is pinned"):
        store.rewind(5)
    store.rewind(6)
    assert content(store, 6) == store.volume.read(0, 1 << 16)
    pin.release()
    store.rewind(5)


def test_a_pin_follows_the_rewind_that_replaces_its_entry(make):
    store = make(images="both")
    fill(store, 4)
    first = store.rewind(3).seq
    wanted = store.volume.read(0, 1 << 16)
    pin = store.pin(first)
    fill(store, 3)
    second = store.rewind(first).seq
    assert pin.seq == second > first
    fill(store, 1000)
    assert store.window.oldest <= second
    assert content(store, first) == content(store, second) == wanted
    pin.release()


@pytest.mark.parametrize("full", range(6))
def test_a_full_log_of_which_nothing_may_leave_can_be_rewound(make, full):
    store = make(images="both", journal=1 << 15)
    pin = store.pin(0)
    fill(store, 1000)
    fill(store, full, 1)
    states = {seq: content(store, seq) for seq in range(store.seq + 1)}
    to = store.seq - 1
    store.rewind(to)
    assert store.volume.read(0, 1 << 16) == states[to]
    for seq in range(to + 1):
        assert content(store, seq) == states[seq]
    pin.release()


def test_what_is_not_there_cannot_be_pinned(make):
    store = make()
    fill(store, 300)
    gone = store.window.oldest - 1
    for at, error in ((gone, PointExpired), (301, jrnl.UnknownPoint), ("x", jrnl.UnknownPoint),
                      (True, InvalidType)):  # fmt: skip
        with pytest.raises(error):
            store.pin(at)
    assert store.pins == ()


def test_with_after_images_a_pin_keeps_its_snapshot(make):
    store = make(images="after")
    fill(store, 3)
    with pytest.raises(PointExpired, match="take a snapshot first"):
        store.pin(3)
    with unchanged(store), pytest.raises(PointExpired):
        store.mark("m", pinned=True)
    base = store.snapshot("base")
    fill(store, 3)
    wanted = store.volume.read(0, 1 << 16)
    pin = store.pin(6)
    store.snapshot("later")
    fill(store, 1000)
    assert store.window.oldest == 3
    with pytest.raises(PinnedPoint, match="'base'"):
        base.delete()
    store.snapshots["later"].delete()
    assert content(store, 6) == wanted
    pin.release()
    base.delete()


# Pinned marks


def test_a_pinned_mark_keeps_its_state_until_it_is_unpinned(make):
    store = make()
    fill(store, 5)
    mark = store.mark("safe", pinned=True)
    wanted = store.volume.read(0, 1 << 16)
    assert [(pin.seq, pin.name) for pin in store.pins] == [(mark.seq, "safe")]
    with pytest.raises(JournalFull):
        for _ in range(1000):
            store.volume.write(0, bytes(1000))
    assert content(store, "safe") == wanted
    with pytest.raises(JournalFull, match=r"pinned by the mark 'safe'.*unpin the mark"):
        store.volume.write(0, bytes(3000))
    with pytest.raises(jrnl.UnknownPoint, match="'safe'"):
        store.unpin("other")
    store.unpin("safe")
    assert "safe" in store.marks
    assert fill(store, 300) == 300
    assert "safe" not in store.marks
    with pytest.raises(InvalidArgument, match="bookmark"):
        store.mark(pinned=True)


def test_to_release_a_marks_pin_is_to_unpin_it(make):
    store = make()
    store.mark("m", pinned=True)
    (pin,) = store.pins
    pin.release()
    assert store.pins == ()
    with pytest.raises(jrnl.UnknownPoint):
        store.unpin("m")


@pytest.mark.parametrize("killed", [False, True])
@pytest.mark.parametrize("images", ["both", "after"])
def test_a_pinned_mark_outlives_its_store(folder, images, killed):
    path = folder / "s"
    store = jrnl.create(path, size=1 << 16, journal=1 << 16, images=images)
    fill(store, 3)
    store.snapshot("base")
    mark = store.mark("safe", pinned=True)
    wanted = store.volume.read(0, 1 << 16)
    fill(store, 1000)
    for k in range(3):
        if killed:
            shutil.copytree(path, folder / f"copy-{k}")
            store.close()
            path = folder / f"copy-{k}"
        else:
            store.close()
        store = jrnl.open(path)
        assert [(pin.seq, pin.name) for pin in store.pins] == [(mark.seq, "safe")]
        fill(store, 1000)
        assert content(store, "safe") == wanted
        assert not store.problems
    with jrnl.open(shutil.copytree(path, folder / "look"), "r") as look:
        assert [pin.name for pin in look.pins] == ["safe"]
    store.unpin("safe")
    shutil.copytree(path, folder / "unpinned")
    store.close()
    with jrnl.open(folder / "unpinned") as store:
        assert store.pins == ()
        assert fill(store, 300) == 300


def test_as_many_rewinds_as_the_table_of_epochs_takes_do_not_let_a_pinned_state_go(
    folder, monkeypatch
):
    monkeypatch.setattr("jrnl.disk.session.EPOCHS_MAX", 8)
    monkeypatch.setattr("jrnl.disk.session.EPOCHS_HELD", 32)
    with jrnl.create(folder / "s", size=8192, journal=1 << 20) as store:
        store.mark("m", pinned=True)
        store.volume.write(0, b"kept")
        with pytest.raises(JournalFull, match="unpin"):
            for _ in range(64):
                store.volume.write(0, b"stays")
                store.volume.write(0, b"gone")
                store.rewind(store.seq - 1)
        assert store.window.oldest <= 1
        store.unpin("m")
        for _ in range(64):
            store.volume.write(0, b"stays")
            store.volume.write(0, b"gone")
            store.rewind(store.seq - 1)
        assert store.window.oldest > 1
        assert store.verify().ok


# Two thresholds


@settings(deadline=None)
@given(
    parts=st.lists(st.floats(0.05, 1), min_size=2, max_size=2),
    lengths=st.lists(st.integers(1, 4000), min_size=30, max_size=120),
    images=st.sampled_from(["before", "both"]),
)
def test_reclaiming_goes_from_one_threshold_to_the_other(parts, lengths, images):
    start, stop = max(parts), min(parts)
    store = jrnl.create(size=8192, journal=1 << 16, images=images, reclaim=(start, stop))
    slots, area = store._engine.ring_size
    for length in lengths:
        old, before = store.journal.used, store.window.oldest
        count = len(store.journal.entries)
        store.volume.write(0, b"x" * length)
        room = -(-length // 64) * 64 * (2 if images == "both" else 1)
        rooms = (store.journal.entries["length"].astype(int) + 63) // 64 * 64
        used, entries = store.journal.used - 64 * len(rooms), len(rooms)
        was = old - 64 * count + room
        if store.window.oldest == before:
            assert count == 0 or (was <= int(area * start) and count + 1 <= int(slots * start))
            continue
        beyond = was > int(area * start) or count + 1 > int(slots * start)
        assert beyond or was + 2 * 8192 > area, "reclaimed too early"
        assert entries == 1 or (used <= int(area * stop) and entries <= int(slots * stop))
    store.close()


def test_on_disk_reclaiming_stops_at_the_lower_threshold(folder):
    store = jrnl.create(folder / "s", size=1 << 16, journal=1 << 18, reclaim=(0.75, 0.25))
    used = []
    for k in range(400):
        store.volume.write(k * 777 % 60000, bytes(1000))
        if k % 3 == 2:
            store.flush()
        used.append(store.journal.used)
    assert max(used) <= 0.75 * (1 << 18) + 2 * BLOCK
    drops = [new for old, new in itertools.pairwise(used) if new < old]
    assert len(drops) > 2
    assert all(0.1 * (1 << 18) < new <= 0.25 * (1 << 18) + 2 * BLOCK for new in drops)
    store.close()
    with jrnl.open(folder / "s") as store:
        for k in range(200):
            store.volume.write(k * 777 % 60000, bytes(1000))
            assert store.journal.used <= 0.75 * (1 << 18) + 2 * BLOCK


def test_a_pin_in_the_way_of_the_lower_threshold_refuses_nothing_that_fits(make):
    store = make(reclaim=(0.5, 0.25))
    pin = store.pin(0)
    done = fill(store, 1000)
    assert store.journal.used > 0.7 * (1 << 17)
    assert done == store.seq
    assert store.window.oldest == 0
    pin.release()
    fill(store, 1)
    assert store.journal.used <= 0.25 * (1 << 17) + 3 * BLOCK


def test_thresholds_are_for_journals_whose_entries_may_leave():
    for wrong in ((0.5,), "ab", (0.5, 0.6), (0, 0), (1.5, 1), (True, 1), 0.5, (float("nan"), 0.1)):
        with pytest.raises((InvalidArgument, InvalidType)):
            jrnl.create(size=4096, reclaim=wrong)
    with pytest.raises(InvalidArgument, match="refuse"):
        jrnl.create(size=4096, reclaim=(0.9, 0.5), overflow="refuse")
    with pytest.raises(InvalidArgument, match="refuse"):
        jrnl.wrap(bytearray(4096), reclaim=(0.9, 0.5), overflow="refuse")


# The low mark


def test_the_callback_comes_once_until_there_is_more_room_again(make):
    told = []
    store = make(low=0.3, on_low=lambda it: told.append((it, it.seq)), reclaim=(0.9, 0.2))
    full = []
    for _ in range(400):
        before = store.journal.used
        store.volume.write(0, b"x" * 1000)
        if store.journal.used < before:
            full.append(store.seq)
    assert len(full) > 2
    assert len(told) in (len(full), len(full) + 1)
    assert all(found is store for found, _ in told)
    for (_, seq), (low, high) in zip(told[1:], itertools.pairwise(full), strict=False):
        assert low < seq <= high


@pytest.mark.parametrize("how", ["write", "many", "discard", "edit", "mark", "restore", "file"])
def test_the_callback_comes_after_the_operation_and_outside_the_lock(make, how):
    seen = []

    def on_low(store: jrnl.Store) -> None:
        other = threading.Thread(target=lambda: seen.append((store.seq, store.volume.read(0, 4))))
        other.start()
        other.join(10)
        seen.append(store.snapshot("taken").seq)
        seen.append(store.mark("here").seq)

    store = make(low=0.5, on_low=on_low)
    store.volume.write(0, b"first")
    while store.journal.used < 45000:
        store.volume.write(30000, b"\1" * 500)
    big = b"abcd" * 5000
    act = {
        "write": lambda: store.volume.write(0, big),
        "many": lambda: store.volume.write_many([0, 10000], big),
        "discard": lambda: store.volume.discard(0, 40000),
        "edit": lambda: edit(store, seen, big),
        "mark": lambda: [store.mark(f"m{k}") for k in range(300) if not seen],
        "restore": lambda: restore(store, seen),
        "file": lambda: store.volume.as_file().write(big),
    }[how]
    act()
    (seq, read), snapshot, mark = seen
    assert mark == snapshot + 1 == seq + 1
    assert read == content(store, seq)[:4]


def restore(store: jrnl.Store, seen: list[object]) -> None:
    with store.recover(0) as old, store.recover(store.seq) as new:
        for recovery in itertools.cycle((old, new)):
            if seen:
                break
            recovery.restore()


def edit(store: jrnl.Store, seen: list[object], data: bytes) -> None:
    with store.volume.edit(0, len(data)) as lent:
        lent[:] = 7
        with store.volume.edit(30000, len(data)) as other:
            other[:] = 8
        assert seen == []


def test_what_the_callback_raises_undoes_nothing(make, monkeypatch):
    raised = []
    monkeypatch.setattr(sys, "unraisablehook", lambda info: raised.append(info.exc_value))

    def on_low(store: jrnl.Store) -> None:
        raise KeyError(store.seq)

    store = make(low=1, on_low=on_low)
    assert store.volume.write(0, b"abcd") == 1
    assert [error.args for error in raised] == [(1,)]
    assert store.volume.read(0, 4) == b"abcd"


def test_the_callback_does_not_keep_the_store():
    store = jrnl.create(size=4096, low=0.5, on_low=print)
    gone = weakref.ref(store)
    del store
    assert gone() is None


def test_a_callback_that_writes_is_not_called_again_for_that(make):
    calls = []

    def on_low(store: jrnl.Store) -> None:
        calls.append(store.seq)
        store.volume.write(0, b"more")

    store = make(low=1, on_low=on_low)
    store.volume.write(0, b"abcd")
    assert calls == [1]
    assert store.seq == 2


def test_the_low_mark_outlives_its_store_and_the_callback_is_given_again(folder):
    with jrnl.create(folder / "s", size=4096, journal=1 << 16, low=1) as store:
        store.volume.write(0, b"nobody is told")
    told = []
    with jrnl.open(folder / "s", on_low=told.append) as store:
        store.volume.write(0, b"told")
        assert told == [store]
    with jrnl.create(folder / "t", size=4096), pytest.raises(InvalidArgument, match="low"):
        jrnl.create(size=4096, on_low=print)
    with pytest.raises(InvalidArgument, match="low"):
        jrnl.open(folder / "t", on_low=print)
    for low, on_low in ((0, None), (1.1, None), (True, None), ("1", None), (0.5, 7)):
        with pytest.raises((InvalidArgument, InvalidType)):
            jrnl.create(size=4096, low=low, on_low=on_low)


# Retention by time


def test_what_is_young_never_leaves(make):
    clock = Clock()
    store = make(clock=clock, keep_at_least=10)
    done = fill(store, 1000)
    assert done < 1000
    refuses(store, lambda: store.volume.write(0, bytes(5000)), "younger than the 10 seconds")
    clock.now += 10 * SECOND - 1
    refuses(store, lambda: store.volume.write(0, bytes(5000)))
    clock.now += 1
    assert fill(store, 10) > 0
    assert store.window.oldest > 0
    store.retain()
    assert fill(store, 300) == 300


@settings(deadline=None)
@given(
    steps=st.lists(st.tuples(st.integers(0, 30), st.sampled_from(["write", "ask", "pin", "go"])),
                   max_size=60),
    longest=st.integers(1, 100),
    images=st.sampled_from(["before", "both"]),
)  # fmt: skip
def test_in_memory_what_is_too_old_is_gone_to_the_nanosecond(steps, longest, images):
    clock = Clock()
    store = jrnl.create(
        size=4096, clock=clock, images=images, keep_at_most=timedelta(seconds=longest)
    )
    times, pins, base, written = [], [], 0, [bytes(8)]
    for wait, act in steps:
        clock.now += wait * SECOND
        if act == "write":
            written.append(len(times).to_bytes(8, "little"))
            store.volume.write(0, written[-1])
            times.append(clock.now)
        elif act == "pin":
            pins.append(store.pin(store.window.oldest))
        elif act == "go" and pins:
            pins.pop(0).release()
        while base < len(times) and clock.now - times[base] > longest * SECOND:
            if any(pin.seq <= base for pin in pins):
                break
            base += 1
        assert store.window == (base, len(times))
        assert store.window_time.oldest.timestamp() == ([START_NS, *times][base]) / SECOND
        for seq in range(len(times) + 1):
            if seq < base:
                with pytest.raises(PointExpired):
                    store.view(seq)
            else:
                assert content(store, seq)[:8] == written[seq]
    store.close()


def test_an_open_view_is_not_served_what_is_too_old(make):
    clock = Clock()
    store = make(clock=clock, keep_at_most=16)
    store.volume.write(0, b"old")
    store.flush()
    view = store.view(0)
    recovery = store.recover(0)
    assert view.read(0, 3) == bytes(3)
    clock.now += 19 * SECOND
    with pytest.raises(PointExpired):
        view.read(0, 3)
    assert recovery.read(0, 3) == bytes(3)
    assert store.window.oldest == store.seq
    view.close()
    recovery.close()


def test_a_view_or_recovery_begun_before_is_whole_or_refused(make):
    """A clock that leaps with every look at it."""
    clock = Clock()
    store = make(clock=lambda: clock() + next(leaps), keep_at_most=5, images="both")
    for k in range(50):
        store.volume.write(k, b"%d" % k)
        try:
            with store.recover(store.window.oldest) as recovery:
                assert len(recovery.read(0, 100)) == 100
        except PointExpired:
            pass
    assert store.verify().ok


leaps = itertools.count(0, SECOND)


def test_on_disk_what_is_too_old_is_gone_within_an_eighth(folder):
    clock, dice = Clock(), random.Random(5)
    with jrnl.create(folder / "s", size=1 << 16, journal=1 << 20, clock=clock,
                     keep_at_most=800) as store:  # fmt: skip
        times = {0: START_NS}
        for _ in range(300):
            clock.now += dice.randrange(40) * SECOND
            if dice.random() < 0.8:
                store.volume.write(0, b"x")
            if dice.random() < 0.3:
                store.flush()
            rows = store.journal.entries
            times |= dict(zip(rows["seq"].tolist(), rows["time_ns"].tolist(), strict=True))
            oldest = store.window.oldest
            ages = [clock.now - times[seq] for seq in rows["seq"].tolist()]
            assert all(age <= 900 * SECOND for age in ages)
            assert oldest == 0 or clock.now - times[oldest] > 800 * SECOND
        assert oldest > 0


def test_retention_outlives_its_store_and_can_be_changed(folder):
    clock = Clock()
    minute = timedelta(minutes=1)
    with jrnl.create(folder / "s", size=4096, journal=1 << 16, clock=clock,
                     keep_at_least=minute) as store:  # fmt: skip
        store.volume.write(0, b"x")
    with jrnl.open(folder / "s", clock=clock) as store:
        assert fill_small(store, 200) < 200
        store.retain(at_least=None, at_most=minute)
        clock.now += 70 * SECOND
        assert store.window.oldest > 0
        assert fill_small(store, 200) == 200
        shutil.copytree(folder / "s", folder / "copy")
    with jrnl.open(folder / "copy", clock=clock) as store:
        store.volume.write(0, b"x")
        clock.now += 70 * SECOND
        assert store.window.oldest == store.seq
        store.retain()
    with jrnl.open(folder / "copy", clock=clock) as store:
        store.volume.write(0, b"x")
        clock.now += 700 * SECOND
        assert store.window.oldest < store.seq
    with jrnl.open(folder / "copy", "r", clock=clock) as store, pytest.raises(jrnl.ReadOnlyStore):
        store.retain(minute)


def fill_small(store: jrnl.Store, count: int) -> int:
    for k in range(count):
        try:
            store.volume.write(0, b"y" * 1000)
        except JournalFull:
            return k
    return count


def test_durations_are_checked():
    for wrong in (0, -1, True, "1", float("nan"), float("inf"), 1e12, timedelta(0)):
        with pytest.raises((InvalidArgument, InvalidType)):
            jrnl.create(size=4096, keep_at_least=wrong)
        with jrnl.create(size=4096) as store, pytest.raises((InvalidArgument, InvalidType)):
            store.retain(at_most=wrong)
    with pytest.raises(InvalidArgument, match="at least"):
        jrnl.create(size=4096, keep_at_least=2, keep_at_most=1.5)


def test_the_window_has_times(make):
    clock = Clock()
    store = make(clock=clock)
    born = datetime.fromtimestamp(START_NS // SECOND, UTC)
    assert store.window_time == (born, born)
    clock.now += 5 * SECOND
    store.volume.write(0, b"x")
    assert store.window_time == jrnl.WindowTime(born, born + timedelta(seconds=5))
    with store.view(store.window_time.oldest) as view:
        assert view.seq == 0


def test_a_rewind_that_opening_finishes_loses_no_mark_of_the_oldest_state(folder, monkeypatch):
    record, intents = jrnl.disk.session.DiskSession.record, []

    def recording(self) -> None:
        record(self)
        if self.log.state()["undo"] is not None:
            intents.append(shutil.copytree(folder / "s", folder / f"intent-{len(intents)}"))

    monkeypatch.setattr("jrnl.disk.session.DiskSession.record", recording)
    marks = {}
    with jrnl.create(folder / "s", size=1 << 16, journal=1 << 15) as store:
        for k in range(40):
            if k % 3 == 0:
                store.volume.write(k * 1000, bytes([k + 1]) * 500)
            marks[f"m{k}"] = store.mark(f"m{k}").seq
            store.volume.write(0, b"gone")
            store._session.log.write_back()
            store._session.log.record()  # says that the volume has it: the rewind needs an intent
            store.rewind(store.seq - 1)
    monkeypatch.undo()
    moved = 0
    for path in intents:
        with jrnl.open(path) as store:
            oldest, newest = store.window
            kept = {name for name, seq in marks.items() if oldest <= seq < newest}
            assert store.marks.keys() == kept
            moved += marks.get("m0", 0) < oldest
    assert moved > 10


def test_a_pinned_mark_that_cannot_be_had_changes_nothing(make):
    store = make(journal=16384, images="after", size=1 << 14)
    store.snapshot("s")
    while store._engine.entry_count == store.seq and store.window.oldest == 0:
        before = store.seq, store.window
        try:
            mark = store.mark(f"m{store.seq}", pinned=True)
        except JournalFull:
            assert (store.seq, store.window) == before
            assert not store.pins
            break
        assert store.recover(mark).read(0, 1)
        store.unpin(mark.name)
    else:
        raise AssertionError("a pinned mark has pushed out what it is rebuilt from")


@pytest.mark.parametrize("writable", [False, True])
def test_a_pinned_view_stays_with_its_state_where_a_rewind_replaces_its_entry(make, writable):
    store = make(size=4096, journal=65536)
    store.volume.write(0, b"a" * 100)
    store.rewind(0)
    with store.view(store.seq, writable, pinned=True) as view:
        store.volume.write(0, b"b" * 100)
        store.rewind(view.seq)  # its REWIND entry takes the place of the one before
        fill_until_refused(store)
        assert view.read(0, 100) == bytes(100)


def fill_until_refused(store: jrnl.Store) -> None:
    """Write until that is refused."""
    with pytest.raises(JournalFull):
        for k in range(10_000):
            store.volume.write(k % 40 * 100, bytes([k % 251 + 1]) * 100)


@pytest.mark.parametrize("start", [0.3, 0.9])
def test_a_rewind_is_whole_where_thresholds_meet_snapshots_that_no_fold_may_touch(make, start):
    store = make(size=4096, journal=65536, images="both", overflow="fold", reclaim=(start, 0.2))
    store.snapshot("s", pinned=True).wait()
    fill_until_refused(store)
    target = store.seq - 1
    with store.view(target) as view:
        state = view.read(0, 4096)
    result = store.rewind(target)
    assert store.seq == result.seq == target + 2
    assert store.volume.read(0, 4096) == state
    with pytest.raises(PointExpired):
        store.view(target + 1)
