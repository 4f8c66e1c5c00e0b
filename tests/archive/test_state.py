"""States of an archive, opened for reading: each is what the store was."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

import jrnl
from jrnl.archive.objects import from_url
from jrnl.archive.state import open_in
from tests.archive.histories import SIZES, Archived, content_of, new_url


@pytest.fixture(params=["memory", "folder"])
def url(request, tmp_path):
    return new_url(None if request.param == "memory" else tmp_path)


@pytest.mark.parametrize("seed", range(4))
def test_each_archived_state_is_what_the_store_was(tmp_path, url, seed):
    with Archived(tmp_path, url, seed) as archived:
        archived.go_on(150)
        for seq, content in archived.states.items():
            with jrnl.archive.open(url, seq) as state:
                assert content_of(state) == content, seq
                assert state.seq == seq
        for seq in archived.dropped:
            with pytest.raises(jrnl.PointExpired, match="dropped by a rewind"):
                jrnl.archive.open(url, seq)


def test_states_around_a_gap_are_there_and_those_in_it_are_told(tmp_path):
    url = new_url()
    with Archived(tmp_path, url, 5, journal="256KiB") as archived:
        archived.go_on(20)
        archived.gap()
        archived.go_on(20)
        assert archived.gone
        there = 0
        for seq, content in archived.states.items():
            with jrnl.archive.open(url, seq) as state:
                assert content_of(state) == content, seq
                there += 1
        assert there > 20
        for seq in archived.gone:
            with pytest.raises(jrnl.PointExpired) as raised:
                jrnl.archive.open(url, seq)
            assert "nearest" in str(raised.value) or "rewind" in str(raised.value)


def test_ranges_are_read_and_bounds_are_kept(tmp_path, url):
    with Archived(tmp_path, url, 6) as archived:
        archived.go_on(60)
        content = content_of(archived.store)
        with jrnl.archive.open(url) as state:
            assert [*state.volumes] == ["a", "b"]
            for index, (name, size) in enumerate(SIZES.items()):
                for offset, length in ((0, 1), (65_535, 2), (size - 1, 1), (1, 70_000 - 1), (5, 0)):
                    want = content[index][offset : offset + length]
                    assert state.read(offset, length, name) == want
                    assert state[name].read(offset, length) == want
                with pytest.raises(jrnl.OutOfBounds):
                    state.read(size, 1, name)
            buffer = np.empty(1000, np.uint8)
            state.readinto(99, buffer, "b")
            assert buffer.tobytes() == content[1][99:1099]
            with state.as_file("a") as file:
                assert file.read() == content[0]
            with open(state.path("b"), "rb") as file:
                assert file.read() == content[1]
            with pytest.raises(jrnl.ReadOnlyStore):
                state["a"].write(0, b"x")
            with pytest.raises(jrnl.UnknownVolume):
                state.read(0, 1)
        with pytest.raises(jrnl.StoreClosed):
            state.read(0, 1, "a")
        state.close()


def test_digest_diff_and_extents_agree_with_the_store(tmp_path):
    url = new_url()
    with Archived(tmp_path, url, 7) as archived:
        archived.go_on(80)
        early, late = sorted(archived.states)[3], archived.store.seq
        with jrnl.archive.open(url, early) as before, jrnl.archive.open(url) as now:
            assert now.digest() == archived.store.digest()
            assert not now.diff(archived.store).size
            changed = now.diff(before)
            for index, name in enumerate(SIZES):
                mask = np.zeros(SIZES[name], np.bool_)
                for _, offset, length in changed[changed["volume"] == index].tolist():
                    mask[offset : offset + length] = True
                mine, other = (
                    np.frombuffer(archived.states[seq][index], np.uint8) for seq in (late, early)
                )
                assert not (mine != other)[~mask].any()
                held = np.zeros(SIZES[name], np.bool_)
                for _, offset, length in now[name].data_extents().tolist():
                    held[offset : offset + length] = True
                assert not mine[~held].any()
            assert changed.size


def test_marks_and_times_name_states(tmp_path):
    url = new_url()
    with Archived(tmp_path, url, 8) as archived:
        store = archived.store
        times = {}
        for k in range(12):
            archived.write()
            if k % 3 == 0:
                store.mark(f"m{k}")
                archived.note()
            if k % 4 == 1:
                archived.flush()
            rows = store.journal.between(store.seq, store.seq)
            times[store.seq] = int(rows["time_ns"][0])
            time.sleep(0.002)
        archived.flush()
        for name, mark in store.marks.items():
            with jrnl.archive.open(url, name) as state, jrnl.archive.open(url, mark) as same:
                assert state.seq == same.seq == mark.seq
                assert content_of(state) == archived.states[mark.seq]
        for seq, time_ns in times.items():
            at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=time_ns // 1000 + 1)
            with jrnl.archive.open(url, at) as state:
                assert state.seq == seq
                assert state.time_ns == time_ns
                assert abs((state.time - at).total_seconds()) < 0.001
        with jrnl.archive.open(url, datetime.now(UTC) + timedelta(days=1)) as state:
            assert state.seq == state.newest == store.seq


def test_a_time_names_the_state_that_a_rewind_has_left(tmp_path):
    url = new_url()
    with Archived(tmp_path, url, 9) as archived:
        archived.write()
        kept = archived.store.seq
        time.sleep(0.002)
        for _ in range(3):
            archived.write()
        archived.flush()
        time.sleep(0.002)
        between = datetime.now(UTC)
        time.sleep(0.002)
        archived.store.rewind(kept)
        archived.flush()
        with jrnl.archive.open(url, between) as state:
            assert state.seq == kept


@pytest.mark.parametrize("archived_first", [False, True])
def test_a_rewind_to_a_rewind_is_to_the_state_that_both_have(tmp_path, archived_first):
    url = new_url()
    with jrnl.create(tmp_path / "store", size="64KiB", journal="1MiB") as store:
        archive = store.archive(url, interval=3600)
        for place, byte in enumerate(b"123"):
            store.volume.write(place, bytes([byte]))
        archive.flush(60)
        store.rewind(1)
        first = store.seq
        if archived_first:
            archive.flush(60)
        store.volume.write(4, b"4")
        if archived_first:
            archive.flush(60)
        store.rewind(first)  # it takes the place of the first one
        second = store.seq
        archive.flush(60)
        expected = content_of(store)
        for seq in (None, second, first, 1):
            with jrnl.archive.open(url, seq) as state:
                assert content_of(state) == expected, seq
        with jrnl.archive.open(url, first) as state:
            assert state.seq == (first if archived_first else second)
        for seq in (2, 3, first + 1):
            with pytest.raises(jrnl.PointExpired, match="dropped by a rewind to 1;"):
                jrnl.archive.open(url, seq)


def test_points_that_are_not_there_say_what_is(tmp_path):
    url = new_url()
    with pytest.raises(jrnl.ArchiveError, match="no archive"):
        jrnl.archive.open(url)
    with Archived(tmp_path, url, 10) as archived:
        archived.write()
        newest = archived.flush()
        for point, error, words in (
            (newest + 1, jrnl.UnknownPoint, f"newest is {newest}"),
            (1 << 200, jrnl.UnknownPoint, "not archived"),
            (-1, jrnl.UnknownPoint, "numbered from 0"),
            ("nobody", jrnl.UnknownPoint, "no mark is called 'nobody'"),
            (datetime(2001, 1, 1, tzinfo=UTC), jrnl.PointExpired, "oldest"),
            (datetime(2001, 1, 1), jrnl.InvalidArgument, "zone"),
            (True, jrnl.InvalidType, "bool"),
            (1.5, jrnl.InvalidType, "float"),
        ):
            with pytest.raises(error, match=words):
                jrnl.archive.open(url, point)


def test_states_before_the_oldest_snapshot_are_told(tmp_path):
    with Archived(tmp_path, new_url(), 12) as archived:
        for _ in range(30):
            archived.write()
        archived.store.flush()
        archived.archive.close()
        late = new_url()
        archived.archive = archived.store.archive(late, **archived.policy)
        archived.flush()
        with pytest.raises(jrnl.PointExpired, match="any more; there are"):
            jrnl.archive.open(late, 3)


def test_the_cache_keeps_no_more_than_it_was_given(tmp_path):
    url = new_url()
    with Archived(tmp_path, url, 13) as archived:
        archived.go_on(100)
        with jrnl.archive.open(url, cache="100KiB") as state:
            for _ in range(2):
                for name, size in SIZES.items():
                    state.read(0, size, name)
                    assert 0 < state.cached_bytes <= 100 << 10
            assert content_of(state) == content_of(archived.store)
            state.close()
            assert state.cached_bytes == 0


def test_many_threads_read_one_state(tmp_path):
    url = new_url()
    with Archived(tmp_path, url, 14) as archived:
        archived.go_on(80)
        content = content_of(archived.store)
        with jrnl.archive.open(url, cache="64KiB") as state, ThreadPoolExecutor(8) as pool:

            def read(k: int) -> bool:
                offset = k * 997 % 190_000
                return state.read(offset, 9000, "a") == content[0][offset : offset + 9000]

            assert all(pool.map(read, range(200)))


class Slow:
    """Objects far away: each call takes its time, and the longest chain of calls is counted."""

    def __init__(self, objects):
        self._objects, self._lock = objects, threading.Lock()
        self.url = objects.url
        self.trips = self.calls = 0

    def __getattr__(self, name):
        call = getattr(self._objects, name)

        def far(*arguments, **options):
            with self._lock:
                trip = self.trips + 1
            found = call(*arguments, **options)
            if name == "list":
                found = iter([*found])
            time.sleep(0.4)  # all that begins meanwhile goes side by side
            with self._lock:
                self.trips, self.calls = max(self.trips, trip), self.calls + 1
            return found

        return far


def test_opening_and_reading_a_block_takes_three_round_trips(tmp_path):
    url = new_url()
    with Archived(tmp_path, url, 15, snapshot_every="10GiB") as archived:
        archived.archive.close()
        archived.store["a"].write(0, bytes([7]) * 200_000)
        archived.store.flush()
        again = new_url()
        archived.archive = archived.store.archive(again, **archived.policy)
        archived.flush()
        for _ in range(5):
            archived.store["b"].write(5000, b"later")
            archived.flush()
        far = Slow(from_url(again))
        with open_in(far, None, 1 << 20) as state:
            assert far.trips == 2
            assert state.read(70_000, 4096, "a") == bytes([7]) * 4096
            assert far.trips == 3
            assert state.read(5000, 5, "b") == b"later"
            assert far.trips == 4
            assert state.read(5000, 5, "b") == b"later"
            assert far.trips == 4


def test_jrnl_is_imported_without_what_an_archive_needs():
    program = (
        "import sys; sys.modules['obstore'] = sys.modules['zstandard'] = None; import jrnl\n"
        "try: jrnl.archive.open('s3://bucket/x')\n"
        "except jrnl.MissingPackage as error: print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert "jrnl-engine[archive]" in done.stdout
