"""Marks of earlier states: made now, of what was."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

import jrnl
from jrnl import tables
from tests.model.logs import FLUSH


@pytest.fixture(params=["memory", "disk"])
def store(request, folder):
    path = folder / "s" if request.param == "disk" else None
    with jrnl.create(path, size="64KiB", journal="256KiB") as made:
        for k in range(1, 6):
            made.volume.write(0, bytes([k]) * 100)
        yield made


def reopened(store):
    path = store.options.path
    if path is None:
        return store
    store.close()
    return jrnl.open(path)


def test_a_mark_of_an_earlier_state_is_a_point_also_once_the_store_was_reopened(store):
    made = store.mark("then", at=3)
    assert (made.name, made.seq) == ("then", 3)
    assert store.seq == 6
    with reopened(store) as again:
        assert again.marks["then"] == made
        assert again.view("then").read(0, 2) == b"\3\3"
        assert again.view(made).seq == 3
        assert again.plan("then").bytes == again.plan(3).bytes
        with pytest.raises(jrnl.NameTaken):
            again.mark("then", at=4)


def test_it_names_any_point_and_some_volumes(store):
    store.mark("now")
    store.mark("other", at="now", volumes=["data"])
    store.mark("third", at=datetime.now(UTC))
    with reopened(store) as again:
        assert [again.marks[name].seq for name in ("now", "other", "third")] == [6, 6, 7]
        assert again.marks["other"].volumes == ("data",)


def test_a_rewind_over_its_entry_takes_it_away_and_one_below_its_state_too(store):
    store.mark("then", at=3)
    store.mark("early", at=1)
    store.rewind(4)
    with reopened(store) as again:
        assert dict(again.marks) == {}
        again.mark("then", at=3)
        again.volume.write(0, b"x")
        again.rewind(again.seq - 1)
        assert again.marks["then"].seq == 3
        again.rewind("then")
        assert dict(again.marks) == {}
        assert again.read(0, 1) == b"\3"


def test_it_lives_as_long_as_its_state(store):
    store.mark("then", at=3)
    for k in range(200):
        store.volume.write(0, bytes([k]) * 4096)
    assert store.window.oldest > 3
    with reopened(store) as again:
        assert dict(again.marks) == {}
        again.volume.write(0, b"x")
        again.mark("oldest", at=again.window.oldest)
        seq = again.window.oldest
        with reopened(again) as third:
            assert third.marks["oldest"].seq == seq == third.window.oldest


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"at": 99}, jrnl.UnknownPoint),
        ({"at": "nothing"}, jrnl.UnknownPoint),
        ({"at": True}, jrnl.InvalidType),
        ({"at": 3, "pinned": True}, jrnl.InvalidArgument),
        ({"at": 3, "name": None}, jrnl.InvalidArgument),
    ],
)
def test_what_it_cannot_name_is_refused_before_anything_changes(store, given, error):
    with pytest.raises(error):
        store.mark(**{"name": "then", **given})
    assert store.seq == 5
    assert dict(store.marks) == {}


def test_a_state_that_has_left_the_window_gets_no_mark(store):
    store.snapshot("kept").wait()
    for k in range(200):
        store.volume.write(0, bytes([k]) * 4096)
    for point in (3, "kept"):
        with pytest.raises(jrnl.PointExpired):
            store.mark("then", at=point)


def test_with_after_images_alone_no_snapshot_leads_to_an_earlier_state():
    with jrnl.create(size="64KiB", journal="64KiB", images="after") as store:
        store.volume.write(0, b"one")
        store.snapshot("copy")
        store.volume.write(0, b"two")
        store.mark("between", at="copy")
        assert store.recover("between").read(0, 3) == b"one"
        with pytest.raises(jrnl.PointExpired):
            store.mark("before", at=0)


def test_rows_say_which_state_it_names_and_in_a_log_it_stands_there(store, folder):
    store.mark("then", at=3)
    store.mark("now")
    rows = {row["name"]: row for row in tables.rows(store) if row["kind"] == "mark"}
    assert (rows["then"]["state"], "state" in rows["now"]) == (3, False)
    made = jrnl.logwrites.export(store, folder / "out.log")
    with jrnl.logwrites.attach(folder / "out.log", size="64KiB") as log:
        assert log.marks.keys() == {"then", "now"}
        assert log.marks["now"] == made.counts[-1]
        assert log.view("then").read(0, 2) == b"\3\3"
        assert FLUSH not in log.entries["flags"]
