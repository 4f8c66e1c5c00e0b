"""Stores made again from an archive."""

from __future__ import annotations

import os

import pytest

import jrnl
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
