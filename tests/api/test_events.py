"""What a store in memory logs: which records, when they come, and what a handler may do."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

import jrnl

BLOCK = 4096


@pytest.fixture(autouse=True)
def everything(caplog) -> Iterator[None]:
    with caplog.at_level(logging.DEBUG, "jrnl"):
        yield


def told(caplog) -> list[str]:
    return [record.jrnl_event for record in caplog.records]


def create(**options: Any) -> jrnl.Store:
    return jrnl.create(**{"size": 16 * BLOCK, "journal": "64KiB", **options})


def test_the_library_sets_no_handler_and_no_level():
    assert [type(handler) for handler in logging.getLogger("jrnl").handlers] == [
        logging.NullHandler
    ]
    for name in ("disk", "store", "copy", "journal"):
        logger = logging.getLogger(f"jrnl.{name}")
        assert (logger.handlers, logger.level, logger.propagate) == ([], logging.NOTSET, True)


def test_a_life_in_memory_is_told(caplog):
    with create() as store:
        store.volume.write(0, b"one")
        good = store.mark()
        store.snapshot("shot").wait()
        store.volume.write(0, b"two")
        with store.recover(good) as recovery:
            done = recovery.restore()
        with store.view(1, writable=True) as view:
            view.write(0, b"three")
            view.promote(force=True)
        store.snapshots["shot"].delete()
        rewound = store.rewind(good)
    assert told(caplog) == [
        "made", "copying", "snapshot", "copied", "restored", "promoted", "deleted", "rewound",
        "unmade",
    ] or told(caplog)[:4] == ["made", "copying", "copied", "snapshot"]  # fmt: skip
    facts = {record.jrnl_event: record.args for record in caplog.records}
    assert facts["restored"]["first"] == done.first_seq
    assert facts["restored"]["bytes"] == done.bytes
    assert facts["rewound"]["seq"] == rewound.seq
    assert facts["rewound"]["state"] == good.seq
    assert len({record.jrnl_store for record in caplog.records}) == 1


def test_two_stores_are_told_apart(caplog):
    create().close()
    create().close()
    assert len({record.jrnl_store for record in caplog.records}) == 2


def test_no_message_has_anything_of_the_data(caplog):
    with create(overflow="refuse") as store:
        with suppress(jrnl.JournalFull):
            for k in range(100):
                store.volume.write(k % 16 * BLOCK, b"SECRET" * 600)
        store.snapshot("shot").wait()
        store.rewind(3)
    assert "full" in told(caplog)
    assert all("SECRET" not in record.getMessage() for record in caplog.records)
    assert all(len(record.getMessage()) < 500 for record in caplog.records)


def test_a_refusal_is_told_once_however_often_it_is_tried(caplog):
    with create() as store:
        pin = store.pin(0)
        for _ in range(2):
            for _ in range(100):
                with suppress(jrnl.JournalFull):
                    store.volume.write(0, bytes(BLOCK))
        assert told(caplog).count("full") == 1
        assert store.metrics()["refusals_total"] > 100
        record = next(record for record in caplog.records if record.jrnl_event == "full")
        assert (record.levelname, record.name) == ("WARNING", "jrnl.journal")
        assert "state 0 is pinned" in record.getMessage()
        pin.release()
        store.volume.write(0, bytes(BLOCK))
        pin = store.pin(store.seq)
        for _ in range(100):
            with suppress(jrnl.JournalFull):
                store.volume.write(0, bytes(BLOCK))
        assert told(caplog).count("full") == 2
        pin.release()


def test_low_room_is_told_beside_the_callback(caplog):
    called = []
    with create(low=0.5, on_low=called.append) as store:
        for k in range(14):
            store.volume.write(k * BLOCK, bytes(BLOCK))
        assert called == [store]
    assert told(caplog).count("low") == 1


@pytest.mark.parametrize("rule", [{"reclaim": (0.9, 0.5)}, {"keep_at_most": 5}])
def test_what_leaves_by_a_rule_is_told_at_once_and_then_once_a_second(caplog, rule):
    now = 0

    def clock() -> int:
        return now

    with create(clock=clock, **rule) as store:
        for k in range(1000):
            now += 10_000_000
            store.volume.write(k % 16 * BLOCK, b"x" * (BLOCK if "reclaim" in rule else 8))
        records = [record for record in caplog.records if record.jrnl_event == "left"]
        assert store.metrics()["evictions_total"] > 100
        assert 3 <= len(records) <= 11
        first_told = records[0].args["entries"]
        assert 0 < first_told < 40
        assert records[-1].args["oldest"] <= store.window.oldest
        total = sum(record.args["entries"] for record in records)
        assert first_told < total <= store.metrics()["evictions_total"]


def test_plain_eviction_and_plain_writes_are_not_told(caplog):
    with create() as store:
        for k in range(200):
            store.volume.write(k % 16 * BLOCK, bytes([k]) * BLOCK)
            store.flush()
        store.volume.discard(0, BLOCK)
        store.recover(store.seq - 2).close()
        assert store.metrics()["evictions_total"] > 0
    assert told(caplog) == ["made", "unmade"]


def test_folds_are_told(caplog):
    with create(overflow="fold") as store:
        for k in range(200):
            store.volume.write(k % 16 * BLOCK, bytes([k]) * BLOCK)
        folds = [record.args for record in caplog.records if record.jrnl_event == "folded"]
        assert told(caplog)[:2] == ["made", "based"]
        assert len(folds) == store.metrics()["folds_total"] > 2
        assert folds[-1]["last"] == store.snapshots["base"].seq
        assert [fold["first"] for fold in folds[1:]] == [fold["last"] for fold in folds[:-1]]


class Acting(logging.Handler):
    """Does something with each record."""

    def __init__(self, act: Callable[[logging.LogRecord], object]) -> None:
        super().__init__()
        self.act = act

    def createLock(self) -> None:
        self.lock = None  # nobody waits for it who makes something happen

    def emit(self, record: logging.LogRecord) -> None:
        with suppress(jrnl.StoreClosed):  # what has happened last is told after it
            self.act(record)


@pytest.fixture
def listen() -> Iterator[Callable[[Callable[[logging.LogRecord], object]], None]]:
    logger = logging.getLogger("jrnl")
    added = []

    def add(act: Callable[[logging.LogRecord], object]) -> None:
        added.append(Acting(act))
        logger.addHandler(added[-1])

    yield add
    for handler in added:
        logger.removeHandler(handler)


def fill(store: jrnl.Store) -> None:
    for k in range(100):
        store.volume.write(k % 16 * BLOCK, bytes([k]) * BLOCK)


WHERE: dict[str, tuple[dict[str, object], Callable[[jrnl.Store], object]]] = {
    "a fold, inside a write": ({"overflow": "fold"}, fill),
    "a reclaim, inside a write": ({"reclaim": (0.9, 0.5)}, fill),
    "a rewind": ({}, lambda store: store.rewind(0)),
    "a snapshot": ({}, lambda store: store.snapshot("s").wait()),
    "a restore": ({}, lambda store: store.recover(0).restore()),
}


@pytest.mark.parametrize("where", WHERE)
@pytest.mark.parametrize("images", ["before", "both"])
def test_no_lock_is_held_where_a_handler_runs_which_may_do_anything(listen, where, images):
    options, act = WHERE[where]
    held, done = [], []
    with create(images=images, **options) as store:
        store.volume.write(8, b"begun")

        def elsewhere() -> None:
            with suppress(jrnl.StoreClosed):
                store.volume.write(0, b"elsewhere")
            held.append(False)

        def handler(record: logging.LogRecord) -> None:
            if len(done) > 30 or threading.current_thread() is not threading.main_thread():
                return
            thread = threading.Thread(target=elsewhere, daemon=True)
            thread.start()
            thread.join(20)
            done.append(record.jrnl_event)
            with suppress(jrnl.PinnedPoint):
                store.volume.write(0, b"from a handler")
                store.snapshot(f"taken {len(done)}")
                store.rewind(store.seq)

        listen(handler)
        act(store)
        assert len(held) == len(done) >= 1
        assert store.verify().ok


def test_a_handler_that_raises_changes_nothing_and_is_reported(listen, monkeypatch):
    reported = []
    monkeypatch.setattr(sys, "unraisablehook", reported.append)

    def handler(record: logging.LogRecord) -> None:
        raise ZeroDivisionError(record.jrnl_event)

    listen(handler)
    with create(overflow="fold") as store:
        fill(store)
        assert store.volume.read(3 * BLOCK, 1) == bytes([99])
        good = store.mark()
        store.volume.write(0, b"dropped")
        assert store.rewind(good).entries == 1
        assert store.verify().ok
    assert {str(found.exc_value) for found in reported} >= {"made", "folded", "rewound"}
    assert {found.exc_type for found in reported} == {ZeroDivisionError}


def test_what_pythons_own_handlers_meet_is_theirs(monkeypatch, capsys):
    """logging.raiseExceptions has them print it."""
    handler = logging.StreamHandler(open("/dev/full", "w"))  # noqa: SIM115
    logger = logging.getLogger("jrnl.store")
    logger.addHandler(handler)
    try:
        create().close()
    finally:
        logger.removeHandler(handler)
        with suppress(OSError):
            handler.stream.close()
    assert "No space left" in capsys.readouterr().err


def test_a_handler_that_makes_things_happen_is_not_called_from_inside_itself(listen):
    depth, deepest, seen = 0, 0, []
    with create() as store:

        def handler(record: logging.LogRecord) -> None:
            nonlocal depth, deepest
            depth += 1
            deepest = max(deepest, depth)
            seen.append(record.jrnl_event)
            if len(seen) < 300:
                store.volume.write(0, b"x")
                store.rewind(store.seq - 1)
            depth -= 1

        listen(handler)
        for _ in range(5):
            store.volume.write(0, b"y")
            store.rewind(store.seq - 1)
        assert deepest == 1
        assert 5 <= len(seen) <= 300


def test_an_edits_events_come_after_its_block(caplog):
    with create(reclaim=(0.9, 0.5)) as store:
        for k in range(12):
            store.volume.write(k * BLOCK, bytes([k]) * BLOCK)
        before = told(caplog)
        with store.volume.edit(15 * BLOCK, BLOCK) as lent:
            lent[:] = 1
            with suppress(jrnl.JournalFull):
                fill(store)
            assert told(caplog) == before
        assert len(told(caplog)) > len(before)
