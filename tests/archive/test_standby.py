"""Standbys: stores that follow an archive, and take over."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress

import pytest

import jrnl
from jrnl.archive import place
from tests.archive.histories import Archived, content_of, new_url
from tests.archive.test_restore import check_window

POLL = 0.02


@pytest.mark.parametrize("seed", range(4))
def test_a_standby_comes_to_have_the_states_that_the_original_has(tmp_path, seed):
    url = new_url()
    with Archived(tmp_path, url, 40 + seed, snapshot_every="60KiB") as archived:
        archived.go_on(15)
        with jrnl.archive.follow(url, tmp_path / "standby", poll=POLL) as standby:
            for _ in range(5):
                archived.go_on(25)
                assert standby.wait(archived.store.seq, 30)
                assert standby.seq == archived.store.seq == standby.archived_seq
                assert standby.lag == 0.0
                with standby.view() as view:
                    assert content_of(view) == content_of(archived.store)
        with pytest.raises(jrnl.StoreClosed):
            _ = standby.seq
        with jrnl.open(tmp_path / "standby", "r") as store:
            check_window(store, archived)
            assert store.verify().ok


def test_promoting_fences_the_old_writer_and_goes_on_in_the_archive(tmp_path):
    url = new_url()
    with Archived(tmp_path, url, 45) as archived:
        archived.go_on(40)
        standby = jrnl.archive.follow(url, tmp_path / "standby", poll=POLL)
        archived.go_on(20)
        with standby.promote() as store:
            assert store.seq == archived.store.seq
            assert content_of(store) == content_of(archived.store)
            check_window(store, archived)
            archived.store["a"].write(0, b"too late")
            with pytest.raises(jrnl.Fenced):
                archived.archive.flush(30)
            store["a"].write(0, b"in time")
            archive = store._session.archive
            archive.flush(30)
            with jrnl.archive.open(url) as state:
                assert state.read(0, 7, "a") == b"in time"
                assert state.digest() == store.digest()
            for seq in [*archived.states][::10]:
                with jrnl.archive.open(url, seq) as state:
                    assert content_of(state) == archived.states[seq]
        with pytest.raises(jrnl.StoreClosed):
            standby.update()
        with jrnl.open(tmp_path / "standby") as store:
            assert store["a"].read(0, 7) == b"in time"


def test_a_promotion_that_fails_can_be_made_again(tmp_path, monkeypatch):
    url = new_url()
    with Archived(tmp_path, url, 55) as archived:
        archived.go_on(20)
        standby = jrnl.archive.follow(url, tmp_path / "standby", poll=POLL)
        opened = place.open_store

        def failing(path, **options):
            if options:
                return opened(path, **options)
            raise OSError("no more files")

        monkeypatch.setattr(place, "open_store", failing)
        with pytest.raises(OSError, match="no more files"):
            standby.promote()
        assert standby.seq == archived.store.seq
        monkeypatch.undo()
        with standby.promote() as store:
            assert content_of(store) == content_of(archived.store)
            archived.write()
            with pytest.raises(jrnl.Fenced):
                archived.archive.flush(60)


def test_a_standby_can_be_promoted_without_archiving_on(tmp_path):
    url = new_url()
    with Archived(tmp_path, url, 46) as archived:
        archived.go_on(10)
        with jrnl.archive.follow(url, tmp_path / "standby").promote(archive=False) as store:
            assert store._session.archive is None
            store["a"].write(0, b"x")
            assert store.journal.entries["time_ns"][-1] > time.time_ns() - 60_000_000_000


@pytest.mark.parametrize("seed", range(2))
def test_a_standby_goes_past_a_gap(tmp_path, seed):
    url = new_url()
    with Archived(tmp_path, url, 47 + seed, journal="256KiB") as archived:
        archived.go_on(20)
        with jrnl.archive.follow(url, tmp_path / "standby", poll=POLL) as standby:
            archived.gap()
            archived.go_on(20)
            assert standby.wait(archived.store.seq, 30), standby.problem
            with standby.view() as view:
                assert content_of(view) == content_of(archived.store)
            archived.go_on(10)
            assert standby.wait(archived.store.seq, 30)
        with jrnl.archive.follow(url, tmp_path / "standby") as standby:
            assert standby.seq == archived.store.seq
        with jrnl.open(tmp_path / "standby", "r") as store:
            check_window(store, archived)
        assert sorted(os.listdir(tmp_path)) == sorted(
            name for name in os.listdir(tmp_path) if not name.startswith(".")
        )


def test_what_is_no_standby_of_the_archive_is_refused(tmp_path):
    url = new_url()
    with Archived(tmp_path, url, 50) as archived:
        archived.go_on(20)
        jrnl.create(tmp_path / "other", size="1MiB").close()
        with pytest.raises(jrnl.InvalidArgument, match="of another store"):
            jrnl.archive.follow(url, tmp_path / "other")
        (tmp_path / "file").write_bytes(b"x")
        with pytest.raises(jrnl.StoreExists):
            jrnl.archive.follow(url, tmp_path / "file")
        jrnl.archive.follow(url, tmp_path / "standby").close()
        with jrnl.open(tmp_path / "standby") as store:
            store["a"].write(0, b"written around")
            store.flush()
        with pytest.raises(jrnl.InvalidArgument, match="was written to"):
            jrnl.archive.follow(url, tmp_path / "standby")
        archived.go_on(20)
        with pytest.raises(jrnl.InvalidArgument, match="was written to"):
            jrnl.archive.follow(url, tmp_path / "standby")
        for poll in (0, -1, "1", True):
            with pytest.raises(jrnl.InvalidArgument, match="poll"):
                jrnl.archive.follow(url, tmp_path / "none", poll=poll)
        assert not (tmp_path / "none").exists()


def test_the_old_writer_follows_the_new_one(tmp_path):
    url = new_url()
    with Archived(tmp_path, url, 51) as archived:
        archived.go_on(20)
        standby = jrnl.archive.follow(url, tmp_path / "standby", poll=POLL)
        path = tmp_path / "store-51"
        archived.archive.close()
        archived.store.close()
        with standby.promote() as store:
            store["a"].write(7, b"new")
            store._session.archive.flush(30)
            with jrnl.archive.follow(url, path, poll=POLL) as old:
                assert old.wait(store.seq, 30)
                with old.view() as view:
                    assert content_of(view) == content_of(store)


def test_a_store_with_entries_that_were_never_archived_is_not_replaced(tmp_path):
    url = new_url()
    with Archived(tmp_path, url, 56, journal="256KiB") as archived:
        archived.go_on(5)
        archived.archive.close()
        archived.write()
        kept = archived.store.seq
        archived.store.close()
        shutil.copytree(tmp_path / "store-56", tmp_path / "only here")
        archived.store = jrnl.open(tmp_path / "store-56")
        while archived.store.window.oldest <= kept:
            archived.write(60_000)
        archived.store.flush()
        archived.archive = archived.store.archive(url, **archived.policy)
        archived.flush()
        with pytest.raises(jrnl.InvalidArgument, match="may be nowhere else"):
            jrnl.archive.follow(url, tmp_path / "only here")
        with jrnl.open(tmp_path / "only here") as store:
            assert store.seq == kept


def test_one_follows_at_a_time(tmp_path):
    url = new_url()
    with Archived(tmp_path, url, 52) as archived:
        archived.go_on(5)
        following = jrnl.archive.follow(url, tmp_path / "standby")
        with following, pytest.raises(jrnl.StoreLocked):
            jrnl.archive.follow(url, tmp_path / "standby")
        jrnl.archive.follow(url, tmp_path / "standby").close()


def test_what_goes_wrong_is_shown_and_is_over_when_it_is(tmp_path):
    url = str(tmp_path / "archive")
    with Archived(tmp_path, url, 53) as archived:
        archived.go_on(10)
        with jrnl.archive.follow(url, tmp_path / "standby", poll=POLL) as standby:
            os.rename(url, url + ".away")
            until = time.monotonic() + 30
            while standby.problem is None and time.monotonic() < until:
                time.sleep(0.01)
            assert isinstance(standby.problem, jrnl.ArchiveError)
            seq = standby.seq
            os.rename(url + ".away", url)
            archived.go_on(5)
            assert archived.store.seq > seq
            assert standby.wait(archived.store.seq, 30)
            while standby.problem is not None and time.monotonic() < until:
                time.sleep(0.01)
            assert standby.problem is None


FOLLOWER = """
import sys, jrnl
standby = jrnl.archive.follow(sys.argv[1], sys.argv[2], poll=0.005)
print("follows", flush=True)
sys.stdin.read()
"""


def test_a_follower_that_is_killed_goes_on_where_it_was(tmp_path):
    url = new_url(tmp_path)
    path = tmp_path / "standby"
    with Archived(tmp_path, url, 54, journal="300KiB", snapshot_every="60KiB") as archived:
        archived.go_on(10)
        for round_ in range(12):
            follower = subprocess.Popen(
                [sys.executable, "-c", FOLLOWER, url, str(path)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
            try:
                if round_ % 3:
                    assert follower.stdout.readline() == b"follows\n"
                if round_ % 4 == 3:
                    archived.gap()
                archived.go_on(8)
                time.sleep(archived.dice.random() * 0.3)
            finally:
                follower.send_signal(signal.SIGKILL)
                follower.wait()
                follower.stdin.close()
                follower.stdout.close()
        archived.go_on(10)
        with jrnl.archive.follow(url, path, poll=POLL) as standby:
            assert standby.wait(archived.store.seq, 30)
        with jrnl.open(path, "r") as store:
            assert check_window(store, archived)
            assert store.verify().ok


class Between:
    """A store where an update comes between what `view` asks of it."""

    def __init__(self, store, update):
        self._store, self._update = store, update

    def _run(self, update):
        with suppress(jrnl.PinnedPoint):  # the view that is made meanwhile
            update()

    def __getattr__(self, name):
        return getattr(self._store, name)

    @property
    def seq(self):
        found = self._store.seq
        update, self._update = self._update, None
        if update is not None:
            self.thread = threading.Thread(target=lambda: self._run(update))
            self.thread.start()
            self.thread.join(0.2)  # it waits, or is done
        return found


def test_the_newest_state_is_looked_at_whatever_comes_meanwhile(tmp_path):
    url = new_url()
    with Archived(tmp_path, url, 58) as archived:
        archived.go_on(10)
        with jrnl.archive.follow(url, tmp_path / "standby", poll=1000) as standby:
            for _ in range(3):
                archived.write()
            archived.flush()
            standby.update()
            shown = content_of(standby._store)
            archived.store.rewind(archived.store.seq - 3)
            archived.flush()
            store = standby._store
            standby._store = between = Between(store, standby.update)
            with standby.view() as view:
                assert content_of(view) == shown
            between.thread.join()
            standby._store = store
            assert standby.update() == archived.store.seq


def test_what_is_not_archived_yet_cannot_be_followed(tmp_path, monkeypatch):
    url, go_on = new_url(), threading.Event()
    monkeypatch.setattr("jrnl.archive.chunks.hash_of", lambda content: go_on.wait(60) and b"")
    with jrnl.create(tmp_path / "s", size="1MiB") as store:
        store.volume.write(0, b"something")
        with store.archive(url):  # its first snapshot is on the way
            with pytest.raises(jrnl.UnknownPoint, match="no state is archived yet"):
                jrnl.archive.follow(url, tmp_path / "standby")
            go_on.set()
    assert {each.name for each in tmp_path.iterdir()} == {"s"}
