"""Replaying: a store made again has the states, entries and marks of its original, seq by seq."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import jrnl
from jrnl import Kind
from jrnl._core import replay_until
from jrnl.archive.replaying import Replayer, Resumed
from jrnl.archive.segment import NOTHING, SEGMENT_ROW, Segment
from jrnl.archive.taking import take
from tests.archive.replays import SIZES, Clock, History, check_same, steps

START = 1_700_000_000_000_000_000


def written(folder: Path, **options: object) -> History:
    """A history with a bit of everything."""
    options = {"journal": "1MiB", "clock": Clock(), **options}
    history = History(jrnl.create(folder / "original", volumes=SIZES, **options))
    dice = random.Random(7)
    for k in range(60):
        history.do(("write", dice.choice("ab"), (dice.randrange(5000), 700, 1), k))
        if k % 7 == 3:
            history.do(("discard", "a", (dice.randrange(5000), 3000, 512)))
            history.do(("mark", None, None, False))
        if k % 11 == 10 and history.store.options.images == "both":
            history.do(("rewind", dice.randrange(1, 5)))
        if k % 20 == 19:
            history.do(("take", 9000))
    assert history.end()
    return history


def fill_from(replayer: Replayer, state: jrnl.View) -> None:
    for k, (name, size) in enumerate(SIZES.items()):
        for start in range(0, size, 4096):
            data = state.read(start, min(4096, size - start), name)
            if any(data):
                replayer.fill(k, start, data)


@given(
    st.lists(steps, max_size=40),
    st.sampled_from(["16KiB", "64KiB", "1MiB"]),
    st.booleans(),
    st.integers(0, 20),
)
def test_a_store_made_again_is_its_original_state_by_state(done, journal, on_disk, begin):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        options = {"volumes": SIZES, "journal": journal}
        with jrnl.create(path / "original", clock=Clock(), **options) as store:
            history = History(store)
            for step in done[:begin]:
                history.do(step)
            store.flush()
            seq, time_ns, base = store.seq, store._engine.time_ns, store.view(store.seq)
            contents = [base.read(0, size, name) for name, size in SIZES.items()]
            base.close()
            marks = [mark for mark in store.marks.values() if mark.seq == seq]
            history.segments, history.after = [], seq
            for step in done[begin:]:
                history.do(step)
            if not history.end() or any(0 <= each.low < seq for each in history.segments):
                return  # something has left before it was taken, or older states are needed
            where = path / "copy" if on_disk else None
            with Replayer(where, seq=seq, time_ns=time_ns, marks=marks, **options) as replayer:
                for k, content in enumerate(contents):
                    replayer.fill(k, 0, content)
                for segment in history.segments:
                    replayer.apply(segment)
                copy = replayer.finish()
            with copy:
                assert check_same(store, copy) > 0
                assert copy.window.oldest <= max(store.window.oldest, seq)
                assert copy.verify().ok
                if seq:
                    with pytest.raises(jrnl.PointExpired):
                        copy.view(seq - 1)
            assert sorted(os.listdir(path)) == (["copy"] if on_disk else []) + ["original"]
            if on_disk:
                with jrnl.open(path / "copy") as copy:
                    assert not copy.problems
                    check_same(store, copy)


@pytest.mark.parametrize("images", ["both", "after"])
@pytest.mark.parametrize("on_disk", [True, False])
def test_every_state_on_the_way_is_the_originals(tmp_path, images, on_disk):
    history = written(tmp_path, images=images)
    with history.store as original:
        seqs = range(original.window.oldest if images == "both" else original.seq, original.seq + 1)
        for upto in [*seqs][:: max(1, len(seqs) // 9)]:
            try:
                wanted = original.digest(upto)
            except jrnl.PointExpired:
                continue
            path = tmp_path / f"copy-{upto}" if on_disk else None
            with Replayer(path, seq=0, time_ns=START, volumes=SIZES, images=images) as replayer:
                for segment in history.segments:
                    replayer.apply(segment, upto)
                assert replayer.seq == upto
                with replayer.finish() as copy:
                    assert (copy.seq, copy.digest()) == (upto, wanted)
                    assert copy.options.images == images


def test_a_store_that_begins_later_has_that_state_and_none_before_it(tmp_path):
    history = written(tmp_path)
    with history.store as original:
        rewinds = [int(row["position"]) for s in history.segments for row in s.rows
                   if row["kind"] == Kind.REWIND]  # fmt: skip
        begin = min(rewinds)
        view = original.view(begin)
        time_ns = original._engine.state_time(begin)
        with Replayer(
            tmp_path / "copy", seq=begin, time_ns=time_ns, created_ns=START, volumes=SIZES
        ) as replayer:
            fill_from(replayer, view)
            assert replayer.seq == begin
            for segment in history.segments:
                replayer.apply(segment)
            with pytest.raises(jrnl.InvalidArgument, match="before apply"):
                replayer.fill(0, 0, b"late")
            copy = replayer.finish()
        with copy:
            assert copy.window.oldest == begin
            check_same(original, copy)
            for point in (begin - 1, 0, datetime.fromtimestamp(START / 1e9, UTC)):
                with pytest.raises(jrnl.PointExpired):
                    copy.view(point)
            with pytest.raises(jrnl.UnknownPoint):
                copy.view(datetime.fromtimestamp(START / 1e9 - 10, UTC))
            copy["a"].write(0, b"it goes on")
            copy.flush()
            assert copy.journal.entries["seq"][-1] == original.seq + 2
            assert copy.journal.entries["time_ns"][-1] > time.time_ns() - 60 * 10**9
        view.close()


def test_a_later_begin_cannot_go_back_before_it(tmp_path):
    with jrnl.create(tmp_path / "original", volumes=SIZES, clock=Clock()) as store:
        for k in range(6):
            store["a"].write(k, b"x")
        store.flush()
        before = take(store, 4)
        store.rewind(2)
        store.flush()
        with Replayer(seq=4, time_ns=START, volumes=SIZES) as replayer:
            assert replayer.apply(before) == 7
            with pytest.raises(jrnl.PointExpired, match="replay from an earlier state"):
                replayer.apply(take(store, 7))
            assert replayer.seq == 7


def test_its_rules_hold_from_the_end_on(tmp_path):
    history = written(tmp_path)
    history.store.close()
    for path in (tmp_path / "copy", None):
        sync = {"sync": "always"} if path else {}
        with Replayer(
            path, seq=0, time_ns=START, volumes=SIZES, journal="32KiB", overflow="refuse", low=0.5,
            keep_at_least=7.0, **sync,
        ) as replayer:  # fmt: skip
            for segment in history.segments:
                replayer.apply(segment)
            copy = replayer.finish()
        with copy:
            options = copy.options
            assert (options.overflow, options.low) == ("refuse", 0.5)
            assert options.keep_at_least.total_seconds() == 7.0
            assert options.sync == sync.get("sync")
            assert copy.window.oldest > 0
            with pytest.raises(jrnl.JournalFull):
                for _ in range(99):
                    copy["a"].write(0, bytes(3000))


def test_a_smaller_journal_has_a_shorter_window_and_the_same_states(tmp_path):
    with jrnl.create(tmp_path / "o", volumes=SIZES, clock=Clock(), journal="4MiB") as store:
        for k in range(300):
            store["a"].write(k * 97, bytes([k % 251 + 1]) * 900)
        store.flush()
        for path in (tmp_path / "copy", None):
            with Replayer(path, seq=0, time_ns=START, volumes=SIZES, journal="128KiB") as replayer:
                replayer.apply(take(store, 0))
                copy = replayer.finish()
            with copy:
                assert 0 < copy.window.oldest < copy.seq == store.seq
                assert check_same(store, copy) > 20


def test_segments_are_applied_once_and_in_order(tmp_path):
    history = written(tmp_path)
    first, second, *_ = history.segments
    with history.store, Replayer(seq=0, time_ns=START, volumes=SIZES) as replayer:
        with pytest.raises(jrnl.InvalidArgument, match="apply what lies between first"):
            replayer.apply(second)
        assert replayer.apply(first) == first.last
        assert replayer.apply(first) == first.last
        assert replayer.apply(second, second.first) == second.first
        assert replayer.apply(second) == second.last


def test_a_finished_store_goes_on_where_it_was(tmp_path):
    history = written(tmp_path)
    path = tmp_path / "copy"
    with history.store as original:
        with Replayer(path, seq=0, time_ns=START, volumes=SIZES) as replayer:
            replayer.finish().close()
        for segment in history.segments:
            with Resumed(path) as resumed:
                assert resumed.seq == segment.base
                half = (segment.first + segment.last) // 2
                assert resumed.apply(segment, half) <= half
                resumed.commit()
                assert resumed.store.metrics()["durable_seq"] == resumed.seq
                resumed.apply(segment)
                with suppress(jrnl.PointExpired):
                    assert resumed.store.digest() == original.digest(segment.last)
        with jrnl.open(path) as copy:
            check_same(original, copy)
            copy["a"].write(0, b"its own, and at its own time")
            assert copy.journal.entries["time_ns"][-1] > time.time_ns() - 60 * 10**9


def test_a_rewind_that_was_interrupted_on_its_way_is_made_when_it_goes_on(tmp_path):
    """A crash may have left entries in the place of those that nobody has archived."""
    rows = [
        (1, START, Kind.WRITE, 0, 0, 1, 0), (5, START, Kind.REWIND, 0, 1, 0, 1),
        (9, START, Kind.REWIND, 0, 7, 0, 1),
    ]  # fmt: skip
    segment = hostile(*rows, data=b"x")
    path = tmp_path / "copy"
    with Replayer(path, seq=0, time_ns=START, volumes=SIZES) as replayer:
        replayer.apply(segment, 1)
        replayer.finish().close()
    with Resumed(path) as resumed:
        replay_until(resumed.store._engine, 3)
        resumed.commit()
    with Resumed(path) as resumed:
        assert resumed.seq == 3
        assert resumed.apply(segment, 5) == 5
        assert resumed.store.journal.entries["seq"].tolist() == [1, 5]
        replay_until(resumed.store._engine, 8)
        with pytest.raises(jrnl.PointExpired):  # of 7 nobody knows by now
            resumed.apply(segment)
    with Replayer(seq=0, time_ns=START, volumes=SIZES) as replayer:
        assert replayer.apply(segment) == 9
        with replayer.finish() as copy:
            assert copy.journal.entries[["seq", "offset"]].tolist() == [(1, 0), (9, 7)]
            assert copy.digest(7) == copy.digest(1) == copy.digest()


@pytest.mark.parametrize("on_disk", [True, False])
def test_marks_are_the_originals(tmp_path, on_disk):
    with jrnl.create(tmp_path / "original", volumes=SIZES, clock=Clock()) as store:
        store["a"].write(0, b"1")
        base = store.mark("base", volumes=["b"])
        store.mark("earlier", volumes=["b", "a"], at=base)
        for k in range(4):
            store["a"].write(k, b"x")
            store.mark(f"all {k}", pinned=k == 1)
        store.flush()
        first = take(store, base.seq)
        store.mark("dropped")
        store.rewind("all 3")
        store.mark("after it")
        store.rewind("all 2")
        store.flush()
        path = tmp_path / "copy" if on_disk else None
        with Replayer(
            path, seq=base.seq, time_ns=base.time_ns, volumes=SIZES, marks=[base]
        ) as replayer:
            replayer.fill(0, 0, b"1")
            replayer.apply(first)
            replayer.apply(take(store, first.last))
            copy = replayer.finish()
        with copy:
            assert [*copy.marks] == ["base", "earlier", "all 0", "all 1", "all 2"]
            assert check_same(store, copy) > 5
            assert copy.pins == ()


def hostile(*rows: tuple[int, ...], data: bytes = b"") -> Segment:
    return Segment(0, np.array([*rows], SEGMENT_ROW), memoryview(data))


@pytest.mark.parametrize(
    "segment",
    [
        hostile((1, START, Kind.WRITE, 2, 0, 1, 0), data=b"x"),
        hostile((1, START, Kind.WRITE, 0, SIZES["a"], 1, 0), data=b"x"),
        hostile((1, START, Kind.DISCARD, 1, 0, SIZES["b"] + 1, NOTHING)),
        hostile((1, START, Kind.MARK, 0, 0, 1, 0), data=b"\xff"),
        hostile((1, START, Kind.MARK, 0, 0, 3, 0), data=b"a/b"),
        hostile((1, START, Kind.MARK, 0, 0, 2, 0), data=b"17"),
    ],
)
@pytest.mark.parametrize("on_disk", [True, False])
def test_what_no_store_has_written_is_refused_and_changes_nothing(tmp_path, segment, on_disk):
    path = tmp_path / "copy" if on_disk else None
    Segment.parse(segment.to_bytes(), "seg/1")
    with Replayer(path, seq=0, time_ns=START, volumes=SIZES) as replayer:
        with pytest.raises(jrnl.CorruptionError, match="seg/1"):
            replayer.apply(segment, key="seg/1")
        assert replayer.seq == 0
    assert os.listdir(tmp_path) == []


def test_an_entry_that_no_room_is_large_enough_for_is_refused(tmp_path):
    data = bytes(SIZES["a"])
    segment = hostile((1, START, Kind.WRITE, 0, 0, len(data), 0), data=data)
    for path in (tmp_path / "copy", None):
        with Replayer(path, seq=0, time_ns=START, volumes=SIZES, journal="16KiB") as replayer:
            with pytest.raises(jrnl.EntryTooLarge):
                replayer.apply(segment)
            assert replayer.seq == 0


def test_filling_outside_a_volume_is_refused():
    with Replayer(seq=0, time_ns=START, volumes=SIZES) as replayer:
        for volume, offset in ((2, 0), (-1, 0), (0, SIZES["a"]), (0, -1)):
            with pytest.raises(jrnl.OutOfBounds):
                replayer.fill(volume, offset, b"x")


def test_what_is_given_up_leaves_nothing_and_what_is_there_is_not_touched(tmp_path):
    history = written(tmp_path)
    history.store.close()
    path = tmp_path / "copy"
    with Replayer(path, seq=0, time_ns=START, volumes=SIZES) as replayer:
        replayer.fill(0, 0, b"x")
    with Replayer(path, seq=0, time_ns=START, volumes=SIZES) as replayer:
        replayer.apply(history.segments[0])
    with pytest.raises(jrnl.StoreClosed):
        replayer.apply(history.segments[0])
    assert os.listdir(tmp_path) == ["original"]
    with Replayer(path, seq=0, time_ns=START, volumes=SIZES) as replayer:
        assert not path.exists()
        path.mkdir()
        (path / "mine").touch()
        with pytest.raises(jrnl.StoreExists) as raised:
            replayer.finish()
        assert raised.value.filename == str(path)
    assert sorted(os.listdir(tmp_path)) == ["copy", "original"]
    assert os.listdir(path) == ["mine"]
    with pytest.raises(jrnl.StoreExists):
        Replayer(path, seq=0, time_ns=START, volumes=SIZES)


REPLAY = """
import sys
from jrnl.archive.replaying import Replayer, Resumed
from jrnl.archive.segment import Segment
path, *segments = sys.argv[1:]
print("begun", flush=True)
with Replayer(path, seq=0, time_ns=0, volumes={"a": 40_000, "b": 5_001}, journal="256KiB") as new:
    for name in segments:
        new.apply(Segment.parse(open(name, "rb").read(), name))
    new.finish().close()
print("done", flush=True)
"""


def test_one_that_is_killed_leaves_a_whole_store_or_none(tmp_path):
    history = written(tmp_path)
    names = []
    for k, segment in enumerate(history.segments):
        names.append(str(tmp_path / f"{k}.seg"))
        Path(names[-1]).write_bytes(segment.to_bytes())
    place = tmp_path / "place"
    place.mkdir()
    path, dice = place / "copy", random.Random(time.time_ns())
    seen = {True: 0, False: 0}
    with history.store as original:
        for _ in range(12):
            process = subprocess.Popen(
                [sys.executable, "-c", REPLAY, path, *names], stdout=subprocess.PIPE, text=True
            )
            assert process.stdout.readline() == "begun\n"
            time.sleep(dice.random() * 0.25)
            process.send_signal(signal.SIGKILL)
            process.wait()
            process.stdout.close()
            seen[path.exists()] += 1
            if path.exists():
                with jrnl.open(path) as copy:
                    assert not copy.problems
                    check_same(original, copy)
                for name in os.listdir(path):
                    (path / name).unlink()
                path.rmdir()
        with Replayer(path, seq=0, time_ns=0, volumes=SIZES, journal="256KiB") as replayer:
            for segment in history.segments:
                replayer.apply(segment)
            with replayer.finish() as copy:
                check_same(original, copy)
    assert os.listdir(place) == ["copy"]  # what the killed ones have left is gone
