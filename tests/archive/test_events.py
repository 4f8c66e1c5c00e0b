"""What an operator is told of an archive, and when."""

from __future__ import annotations

import logging
import shutil
import time

import pytest

import jrnl
from jrnl.archive.ledger import Ledger
from jrnl.archive.objects import from_url


@pytest.fixture
def store(folder):
    with jrnl.create(folder / "disk.jrnl", size="64KiB", journal="1MiB") as made:
        yield made


def told(caplog):
    """The events of archives, in order, and their messages."""
    records = [record for record in caplog.records if record.name == "jrnl.archive"]
    return {record.jrnl_event: record.getMessage() for record in records}


def until(holds):
    end = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_the_beginning_of_an_archive_is_told_and_its_end_by_another_writer(store, folder, caplog):
    with caplog.at_level(logging.INFO, "jrnl.archive"):
        archive = store.archive(folder / "archive")
        archive.flush()
        assert [*told(caplog)] == ["archived"]
        Ledger(from_url(folder / "archive")).claim(lambda newest: newest.store)
        store.volume.write(0, b"late")
        with pytest.raises(jrnl.Fenced):
            archive.flush()
        until(lambda: "fenced" in told(caplog))
    assert str(folder / "archive") in told(caplog)["archived"]
    assert "another writer" in told(caplog)["fenced"]
    assert [*told(caplog)] == ["archived", "fenced"]
    assert archive.has_ended


def test_what_fails_is_told_once_and_that_writers_wait(store, folder, caplog):
    archive = store.archive(folder / "archive", interval=0.02, lag_at_most=0.1)
    archive.flush()
    shutil.rmtree(folder / "archive" / "manifest")
    (folder / "archive" / "manifest").touch()
    with caplog.at_level(logging.WARNING, "jrnl.archive"):
        store.volume.write(0, b"first")
        store.flush()
        until(lambda: store.metrics()["archive_failures_total"] > 1)
        until(lambda: "lagging" in told(caplog))
    names = [record.jrnl_event for record in caplog.records if record.name == "jrnl.archive"]
    assert sorted(names) == ["lagging", "unarchived"]
    assert "is tried again" in told(caplog)["unarchived"]
    assert not archive.has_ended
