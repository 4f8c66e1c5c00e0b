"""Archives whose segments are so many that lists have them: they are read as any other."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

import jrnl
from jrnl.archive import writer
from jrnl.archive.ledger import Ledger
from jrnl.archive.objects import from_url
from tests.archive.histories import Archived, content_of, new_url
from tests.archive.test_restore import check_window


@pytest.fixture(scope="module")
def archived(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writer, "NAMED_MOST", 6)
        patch.setattr(writer, "LISTED", 4)
        folder = tmp_path_factory.mktemp("lists")
        with Archived(folder, new_url(), 60, snapshot_every="60KiB") as made:
            for _ in range(35):
                made.go_on(3)
            yield made


def test_each_state_is_read_and_dropped_ones_are_told(archived):
    newest = Ledger(archived.objects).look()
    assert len(newest.lists) >= 3
    for seq, content in archived.states.items():
        with jrnl.archive.open(archived.url, seq) as state:
            assert content_of(state) == content, seq
            time = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(
                microseconds=-(-state.time_ns // 1000)
            )
        if seq + 1 in archived.states:
            with jrnl.archive.open(archived.url, time) as state:
                assert state.seq >= seq
                assert (
                    state.time_ns <= int(time.timestamp()) * 10**9 + time.microsecond * 1000 + 999
                )
    for seq in archived.dropped:
        with pytest.raises(jrnl.PointExpired, match="rewind"):
            jrnl.archive.open(archived.url, seq)


def test_all_of_it_is_verified_restored_and_followed(archived, tmp_path):
    report = jrnl.archive.verify(archived.url)
    assert report.ok, report.problems
    assert report.lists >= 3
    assert report.segments == len(archived.keys("seg/"))
    with jrnl.archive.restore(archived.url, tmp_path / "s") as store:
        assert check_window(store, archived) == len(archived.states)
    with jrnl.archive.follow(archived.url, tmp_path / "standby", poll=0.02) as standby:
        assert standby.seq == archived.store.seq


def test_a_list_that_is_damaged_is_named(archived):
    key = archived.keys("rows/")[0]
    url = new_url()
    objects = from_url(url)
    for listed in archived.objects.list(""):
        body = archived.objects.get(listed.key)
        objects.create(listed.key, body if listed.key != key else body[:-1] + b"?")
    refused = 0
    for seq in archived.states:
        try:
            with jrnl.archive.open(url, seq) as state:
                assert content_of(state) == archived.states[seq]
        except jrnl.CorruptionError as error:
            assert key in str(error)
            refused += 1
    assert refused
    assert any(problem.startswith(key) for problem in jrnl.archive.verify(url).problems)
