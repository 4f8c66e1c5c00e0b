"""What a store on disk logs: openings after crashes and damage, poison, what was redone."""

from __future__ import annotations

import errno
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

import jrnl
from jrnl.disk import open as opening
from jrnl.disk.create import create_in
from tests.crash.disk import NEW, OLD, Op, SimDisk

BLOCK = 4096


@pytest.fixture(autouse=True)
def everything(caplog) -> Iterator[None]:
    with caplog.at_level(logging.DEBUG, "jrnl"):
        yield


def told(caplog) -> list[str]:
    return [record.jrnl_event for record in caplog.records]


def facts(caplog, event: str) -> list[dict[str, object]]:
    return [record.args for record in caplog.records if record.jrnl_event == event]


def create(path: Path) -> jrnl.Store:
    return jrnl.create(path, size=16 * BLOCK, journal="256KiB")


def test_creating_closing_and_opening_are_told_with_the_path(caplog, tmp_path):
    with create(tmp_path / "s") as store:
        store.volume.write(0, b"x")
    with jrnl.open(tmp_path / "s"), pytest.raises(jrnl.StoreLocked):
        jrnl.open(tmp_path / "s")
    jrnl.open(tmp_path / "s", "r").close()
    assert told(caplog) == ["created", "closed", "opened", "closed", "opened", "closed"]
    assert {record.jrnl_store for record in caplog.records} == {str(tmp_path / "s")}
    assert {record.name for record in caplog.records} == {"jrnl.disk"}
    assert [fact["mode"] for fact in facts(caplog, "opened")] == ["for writing", "for reading"]
    assert {fact["end"] for fact in facts(caplog, "opened")} == {"it was closed"}
    assert facts(caplog, "closed")[0]["seq"] == 1


def test_an_opening_after_a_crash_tells_what_it_has_read_again(caplog):
    disk = SimDisk()
    store = create_in(disk.place(), "s", size=16 * BLOCK, journal="256KiB")
    for k in range(5):
        store.volume.write(k * BLOCK, b"x" * BLOCK)
        last = store.flush()
    after = disk.survivor()
    store.close()
    caplog.clear()
    opening.open_in(after.place(), "s").close()
    assert told(caplog)[:2] == ["replayed", "opened"]
    assert facts(caplog, "replayed")[0]["last"] == last
    assert facts(caplog, "replayed")[0]["groups"] == 5
    assert facts(caplog, "opened")[0]["end"] == "a crash"


def test_damage_is_told_as_problems(caplog, tmp_path):
    with create(tmp_path / "s") as store:
        store.snapshot("shot").wait()
        for k in range(8):
            store.volume.write(k * BLOCK, bytes([k + 1]) * BLOCK)
    (tmp_path / "s" / "index").write_bytes(b"")
    caplog.clear()
    with jrnl.open(tmp_path / "s") as store:
        problems = store.problems
    assert problems
    assert [fact["problem"] for fact in facts(caplog, "problem")] == problems
    levels = {r.levelname for r in caplog.records if r.jrnl_event == "problem"}
    assert levels == {"WARNING"}


def test_a_failed_sync_is_told_once_as_an_error_with_its_cause(caplog):
    disk = SimDisk()
    store = create_in(disk.place(), "s", size=16 * BLOCK, journal="256KiB")
    store.volume.write(0, b"x")

    def fail(op: Op) -> None:
        if op.kind == "sync":
            raise OSError(errno.EIO, "the disk is gone")

    disk.before = fail
    with pytest.raises(OSError):
        store.flush()
    assert told(caplog)[-1] == "poisoned"
    for _ in range(3):
        with pytest.raises(jrnl.StorePoisoned):
            store.volume.write(0, b"y")
        with pytest.raises(jrnl.StorePoisoned):
            store.flush()
    assert store.metrics()["poisoned"] == 1
    assert store.metrics()["problems"] == 1
    disk.before = None
    store.close()
    assert told(caplog).count("poisoned") == 1
    record = next(record for record in caplog.records if record.jrnl_event == "poisoned")
    assert (record.levelname, record.name) == ("ERROR", "jrnl.disk")
    assert "the disk is gone" in record.getMessage()
    assert told(caplog)[-1] == "abandoned"


def test_a_copy_that_fails_is_told_and_poisons(caplog):
    disk = SimDisk()
    store = create_in(disk.place(), "s", size=16 * BLOCK, journal="256KiB")
    store.volume.write(0, b"x" * BLOCK)

    def fail(op: Op) -> None:
        if op.kind == "pwrite" and op.name.startswith("snapshot-"):
            raise OSError(errno.ENOSPC, "no space left")

    disk.before = fail
    snapshot = store.snapshot("shot")
    with pytest.raises(OSError):
        snapshot.wait()
    store.close()
    assert told(caplog).count("copy_failed") == 1
    assert told(caplog).count("poisoned") == 1
    assert "no space left" in str(facts(caplog, "copy_failed")[0]["problem"])


def test_a_recovery_is_told_of_once_it_is_durable(caplog, tmp_path):
    with create(tmp_path / "s") as store:
        store.volume.write(0, b"x")
        store.volume.write(0, b"y")
        recovery = store.recover(1)
        assert "kept" not in told(caplog)
        recovery.restore()
        assert facts(caplog, "kept")[0]["state"] == 1
        assert facts(caplog, "kept")[0]["recovery"] == recovery.id
    assert told(caplog).count("kept") == 1
    assert told(caplog).index("kept") < told(caplog).index("restored")


def test_a_copy_that_a_crash_has_broken_off_is_told_as_taken_up_again(caplog, monkeypatch):
    from jrnl import snapshot_copier

    monkeypatch.setattr(snapshot_copier, "automatic", False)
    disk = SimDisk()
    store = create_in(disk.place(), "s", size=16 * BLOCK, journal="256KiB")
    store.volume.write(0, b"x" * BLOCK)
    store.snapshot("shot")
    after = disk.survivor()
    store.close()
    caplog.clear()
    again = opening.open_in(after.place(), "s")
    assert facts(caplog, "redone") == [{"store": again._session.events._store,
                                        "what": "snapshot 'shot' is copied on"}]  # fmt: skip
    again.snapshots["shot"].wait()
    assert told(caplog)[-1] == "copied"
    again.close()


def test_what_leaves_the_log_is_told(caplog, tmp_path):
    with create(tmp_path / "s") as store:
        for k in range(200):
            store.volume.write(k % 16 * BLOCK, bytes([k]) * BLOCK)
        assert store.metrics()["evictions_total"] > 0
        assert told(caplog)[:2] == ["created", "left"]
        assert facts(caplog, "left")[0]["oldest"] > 0


def test_a_torn_end_of_the_log_is_told(caplog):
    disk = SimDisk()
    store = create_in(disk.place(), "s", size=16 * BLOCK, journal="256KiB")
    store.volume.write(0, b"durable")
    seq = store.flush()
    for k in range(4):
        store.volume.write(k * BLOCK, bytes([k + 1]) * BLOCK)
    moments = []

    def look(op: Op) -> None:
        if op.kind == "sync" and op.name == "log":
            moments.append(disk.moment())

    disk.before = look
    store.flush()
    disk.before = None
    store.close()
    caplog.clear()
    moment = moments[0]
    choice = [NEW] * len(moment.changes)
    choice[5] = OLD  # a sector of an image
    torn = moment.crashed(tuple(choice))
    opening.open_in(torn.place(), "s").close()
    assert facts(caplog, "cut")[0]["seq"] == facts(caplog, "opened")[0]["seq"]
    assert seq <= facts(caplog, "cut")[0]["seq"] < store._engine.seq
    caplog.clear()
    opening.open_in(moment.crashed((NEW,) * len(moment.changes)).place(), "s").close()
    assert "cut" not in told(caplog)
