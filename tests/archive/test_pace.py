"""When an archive gets another snapshot, and that collecting garbage holds nothing up."""

from __future__ import annotations

import threading
from itertools import pairwise

import pytest

import jrnl
from jrnl.archive import working, writer
from jrnl.archive.collector import Collected
from jrnl.archive.ledger import Ledger
from jrnl.archive.lists import expanded
from jrnl.archive.objects import from_url


@pytest.fixture
def store(folder):
    with jrnl.create(folder / "disk.jrnl", size="64KiB", journal="1MiB") as made:
        yield made


def test_an_archive_begins_with_the_state_that_was_durable_when_it_was_attached(
    store, folder, monkeypatch
):
    written, step = threading.Event(), writer.Writer.step

    def late(self):
        assert written.wait(60)
        return step(self)

    monkeypatch.setattr(writer.Writer, "step", late)
    store.volume.write(0, b"before")
    store.flush()
    with store.archive(folder / "archive", interval=60) as archive:
        for k in range(20):
            store.volume.write(k, b"after")
            store.mark(f"mark {k}")
        store.flush()
        written.set()
        archive.flush()
    newest = Ledger(from_url(folder / "archive")).look()
    assert newest is not None
    assert newest.snapshots[0].seq == 2
    assert newest.marks["mark 0"][0] == 4


def test_however_small_segments_are_a_snapshot_follows_after_so_many(store, folder, monkeypatch):
    most = 8
    monkeypatch.setattr(writer, "NAMED_MOST", most)
    with store.archive(folder / "archive", interval=0.01) as archive:
        for k in range(5 * most):
            store.volume.write(k, b"x")
            archive.flush()
    objects = from_url(folder / "archive")
    newest = Ledger(objects).look()
    assert newest is not None
    newest = expanded(objects, newest)
    seqs = [snapshot.seq for snapshot in newest.snapshots]
    assert len(seqs) > 2
    for low, high in pairwise(seqs):
        # One is made beside the writer, which goes on meanwhile.
        assert sum(low < each.last <= high for each in newest.segments) <= 3 * most


def test_archiving_goes_on_while_garbage_is_collected(store, folder, monkeypatch):
    begun, may_end = threading.Event(), threading.Event()

    def collect(objects, grace, **_):
        begun.set()
        assert may_end.wait(60)
        return Collected(0, 0, 0)

    monkeypatch.setattr(working, "collect", collect)
    with store.archive(folder / "archive", collect_every=0.01) as archive:
        assert begun.wait(20)
        store.volume.write(0, b"meanwhile")
        assert archive.flush(timeout=20) == store.seq
        may_end.set()
