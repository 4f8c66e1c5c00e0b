"""Stores made again from an archive."""

from __future__ import annotations

import errno
import os
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor, wait
from types import SimpleNamespace

import pytest

import jrnl
from jrnl.archive.reader import Reader
from jrnl.archive.restoring import Beside
from tests.archive.histories import SIZES, Archived, content_of, new_url


@pytest.fixture(params=["memory", "folder"])
def url(request, tmp_path):
    return new_url(None if request.param == "memory" else tmp_path)


def check_window(store, archived):
    """Each state of the window is what it was; return how many there are."""
    oldest = store.window.oldest
    there = [seq for seq in archived.states if oldest <= seq <= store.seq]
    for seq in there:
        with store.view(seq) as view:
            assert content_of(view) == archived.states[seq], seq
    assert {*store.states().tolist()} <= {*there}
    for seq in (dropped for dropped in archived.dropped if dropped < store.seq):
        with pytest.raises(jrnl.PointExpired):
            store.view(seq)
    return len(there)


@pytest.mark.parametrize("seed", range(3))
def test_a_restored_store_has_the_states_that_the_original_had(tmp_path, url, seed):
    with Archived(tmp_path, url, 30 + seed, snapshot_every="60KiB") as archived:
        archived.rounds(2, 40)
        with jrnl.archive.restore(url, tmp_path / "again") as store:
            assert store.seq == archived.store.seq
            assert store.options.volumes == SIZES
            assert check_window(store, archived) >= len(
                [seq for seq in archived.states if seq >= archived.store.window.oldest]
            )
            assert {name: mark.seq for name, mark in store.marks.items()} == {
                name: mark.seq for name, mark in archived.store.marks.items()
            }
            rows, mine = archived.store.journal.entries, store.journal.entries
            for name in ("seq", "time_ns", "kind", "volume", "offset", "length"):
                assert mine[name].tolist()[-20:] == rows[name].tolist()[-20:]
            assert store.verify().ok
            store["a"].write(5, b"on")
            store.flush()
        with jrnl.open(tmp_path / "again") as store:
            assert store["a"].read(5, 2) == b"on"


def test_any_state_is_restored_in_memory_as_well(tmp_path):
    url = new_url()
    with Archived(tmp_path, url, 33) as archived:
        archived.go_on(80)
        for seq in [*archived.states][::9]:
            for window in (True, False):
                with jrnl.archive.restore(url, None, seq, window=window) as store:
                    assert store.seq == seq
                    assert content_of(store) == archived.states[seq]
                    check_window(store, archived)
        seq = min(archived.dropped)
        with pytest.raises(jrnl.PointExpired):
            jrnl.archive.restore(url, tmp_path / "none", seq)
        assert not (tmp_path / "none").exists()


def test_a_smaller_journal_takes_a_part_of_the_window_along(tmp_path):
    url = new_url()
    with Archived(tmp_path, url, 34, snapshot_every="60KiB") as archived:
        archived.rounds(4, 30, rewinds=False)
        settings = {"journal": "256KiB", "overflow": "refuse", "sync": "always"}
        with jrnl.archive.restore(url, tmp_path / "small", settings=settings) as store:
            assert store.options.journal == 256 << 10
            assert (store.options.overflow, store.options.sync) == ("refuse", "always")
            assert 0 < store.window.oldest < store.seq
            check_window(store, archived)


def test_progress_is_told_and_what_is_at_the_path_stays(tmp_path, url):
    with Archived(tmp_path, url, 35) as archived:
        archived.go_on(30)
        told = []
        with jrnl.archive.restore(
            url, tmp_path / "s", progress=lambda done, total: told.append((done, total))
        ):
            pass
        assert told == sorted(told)
        assert told[-1][0] == told[-1][1] > 0
        with pytest.raises(jrnl.StoreExists):
            jrnl.archive.restore(url, tmp_path / "s")


def test_a_restore_that_fails_leaves_nothing(tmp_path):
    url = new_url()
    with Archived(tmp_path, url, 36) as archived:
        archived.go_on(30)

        def stop(done, total):
            raise KeyboardInterrupt

        before = {*os.listdir(tmp_path)}
        with pytest.raises(KeyboardInterrupt):
            jrnl.archive.restore(url, tmp_path / "s", progress=stop)
        assert {*os.listdir(tmp_path)} == before


def test_a_restored_store_is_archived_elsewhere_and_not_to_where_it_is_from(tmp_path):
    url, other = new_url(), new_url()
    with Archived(tmp_path, url, 37) as archived:
        archived.go_on(30)
        with jrnl.archive.restore(url, tmp_path / "s") as store:
            with pytest.raises(jrnl.ArchiveUnfit):
                store.archive(url)
            with store.archive(other) as archive:
                store["b"].write(1, b"here")
                archive.flush(30)
            with jrnl.archive.open(other) as state:
                assert state.digest() == store.digest()


def no_room(*_):
    raise OSError(errno.ENOSPC, "there is no room")


def test_what_cannot_be_made_beside_the_volumes_fails_the_restore(tmp_path, monkeypatch):
    url = new_url()
    with Archived(tmp_path, url, 37) as archived:
        archived.go_on(30)
        before = {*os.listdir(tmp_path)}
        monkeypatch.setattr("jrnl.archive.replaying.Replayer.prepare", no_room)
        with pytest.raises(OSError, match="there is no room"):
            jrnl.archive.restore(url, tmp_path / "s")
        assert {*os.listdir(tmp_path)} == before


def test_volumes_are_synced_while_they_are_filled_one_sync_at_a_time(monkeypatch):
    monkeypatch.setattr("jrnl.archive.restoring._SYNCED_BYTES", 100)
    prepared, synced = threading.Event(), []
    replayer = SimpleNamespace(prepare=prepared.wait, sync=lambda: synced.append(1))
    with ThreadPoolExecutor(2) as pool:
        with Beside(SimpleNamespace(begin=pool.submit), replayer) as beside:
            beside.filled(1000)  # not yet: the journal is being made
            prepared.set()
            wait(beside._going)
            beside.filled(1)
            wait(beside._going)
            beside.filled(99)
            assert not wait(beside._going).not_done
            assert synced == [1]
        replayer.sync = no_room
        with (
            pytest.raises(OSError, match="there is no room"),
            Beside(SimpleNamespace(begin=pool.submit), replayer) as beside,
        ):
            wait(beside._going)
            beside.filled(100)


def test_calls_that_were_made_ahead_have_ended_when_one_fails():
    running, ended = threading.Event(), []

    def slow():
        running.set()
        time.sleep(0.2)
        ended.append(1)

    def fail():
        running.wait(60)
        raise OSError("no")

    with ThreadPoolExecutor(2) as pool:
        store = SimpleNamespace(volumes=[], lists=[])
        reader = Reader(None, SimpleNamespace(store=store, lists=[]), pool)
        with pytest.raises(OSError, match="no"):
            list(reader.ahead([fail, slow]))
        assert ended == [1]


@pytest.mark.parametrize("seed", [8, 20, 29])
def test_a_rewind_to_the_oldest_states_is_restored_in_memory_too(tmp_path, seed):
    """Whose journal may hold less than one on disk of the same size."""
    dice = random.Random(seed)
    url, size = new_url(), 1 << 20
    with jrnl.create(tmp_path / "s", size=size, journal="256KiB") as store:
        for _ in range(dice.randrange(12)):
            store.volume.write(0, dice.randbytes(dice.randrange(1, 50_000)))
        with store.archive(url, interval=0.01) as archive:
            start = archive.flush(60)
            for _ in range(dice.randrange(15, 40)):
                data = dice.randbytes(dice.randrange(1, 50_000))
                store.volume.write(dice.randrange(900_000), data)
                archive.flush(60)
            store.rewind(int(dice.choice([seq for seq in store.states() if seq > start][:3])))
            store.volume.write(0, b"x")
            archive.flush(60)
        with pytest.raises(jrnl.PointExpired, match="larger journal"):  # if that is asked for
            jrnl.archive.restore(url, None, settings={"journal": "256KiB"})
        for path in (None, tmp_path / "again"):
            with jrnl.archive.restore(url, path) as again:
                assert again.digest() == store.digest()
                assert again.options.journal in (256 << 10, 512 << 10, 1 << 20)
