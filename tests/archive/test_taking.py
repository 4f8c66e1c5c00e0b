"""Taking segments: what the journal of an open store says, no more, and never what is damaged."""

from __future__ import annotations

import random
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

import jrnl
from jrnl import Kind
from jrnl.archive.replaying import Replayer
from jrnl.archive.segment import NOTHING, Segment
from jrnl.archive.taking import take
from tests.archive.replays import SIZES, History, check_same

FIELDS = ["seq", "time_ns", "kind", "volume", "offset", "length"]


def make(folder: Path, **options: object) -> jrnl.Store:
    return jrnl.create(folder / "store", volumes=SIZES, **{"journal": "1MiB", **options})


def check_taken(store: jrnl.Store, segment: Segment, after: int = 0) -> None:
    """It has what the journal has of these entries."""
    wanted = store.journal.between(after + 1, segment.last)
    assert segment.rows[FIELDS].tolist() == wanted.tolist()
    assert segment.base == after
    at = 0
    for row in segment.rows:
        if row["kind"] == Kind.WRITE:
            assert bytes(segment.written(row)) == store.journal.after(int(row["seq"]))
        elif row["kind"] == Kind.MARK:
            name = bytes(segment.written(row)).split(b"\0")[0]
            assert name == store.journal.after(int(row["seq"]))
        if row["kind"] in (Kind.WRITE, Kind.MARK):
            assert row["position"] == at
            at += int(row["length"])
    assert at == len(segment.data)


def work(store: jrnl.Store) -> None:
    a, b = store["a"], store["b"]
    a.write(0, bytes(range(256)) * 16)
    a.write(100, b"inside a sector")
    a.write(510, b"over its end")
    b.write(5000, b"z")  # the last byte, of a sector that goes beyond the volume
    b.write(0, b"all of it" * 555 + b"123456")
    a.discard(512, 3000)
    a.write_zeroes(7, 3)
    store.mark("all")
    store.mark("some", volumes=["b"])
    if store.options.images == "both":
        store.mark("earlier", at=3)
    a.write(0, bytes(4096))
    a.write(8192, random.Random(1).randbytes(11_000))
    store.flush()


@pytest.mark.parametrize("images", ["both", "after"])
@pytest.mark.parametrize("overlay", ["64KiB", None])
def test_it_has_what_the_journal_says(tmp_path, images, overlay):
    with make(tmp_path, images=images, overlay=overlay) as store:
        work(store)
        segment = take(store, 0)
        assert segment.last == store.seq
        check_taken(store, segment)
        for after in range(store.seq):
            check_taken(store, take(store, after), after)
        assert take(store, store.seq) is None
    with jrnl.open(tmp_path / "store", "r") as store:  # from the files alone
        check_taken(store, take(store, 0))


def test_what_is_not_durable_is_not_taken(tmp_path):
    with make(tmp_path) as store:
        store["a"].write(0, b"durable")
        store.flush()
        store["a"].write(0, b"not yet")
        assert take(store, 0).last == 2
        assert take(store, 2) is None
        store.flush()
        assert take(store, 2).last == 4


def test_no_entry_after_the_wanted_one_and_no_more_bytes_than_wanted_are_taken(tmp_path):
    with make(tmp_path) as store:
        work(store)
        for upto in range(store.seq + 1):
            segment = take(store, 0, upto)
            assert (segment.last if segment else 0) == upto
        assert take(store, 0, store.seq + 100).last == store.seq
        for most in (0, 1, 4096, 4111, 30_000):
            after, whole = 0, b""
            while segment := take(store, after, most_bytes=most):
                assert len(segment.data) <= most or segment.rows.size == 1
                check_taken(store, segment, after)
                after, whole = segment.last, whole + bytes(segment.data)
            assert (after, whole) == (store.seq, bytes(take(store, 0).data))


def test_after_a_rewind_it_goes_on_with_that(tmp_path):
    with make(tmp_path) as store:
        for k in range(5):
            store["a"].write(k, b"x")
        store.flush()
        assert take(store, 0).last == 6
        store.rewind(2)
        store["a"].write(9, b"y")
        store.flush()
        segment = take(store, 6)
        assert segment.rows[["seq", "kind", "offset"]].tolist()[:2] == [
            (7, Kind.REWIND, 2), (8, Kind.WRITE, 9),
        ]  # fmt: skip
        assert (segment.base, segment.low, int(segment.rows[0]["position"])) == (6, 2, 2)
        check_taken(store, take(store, 2), 2)
        store.rewind(7)  # another one takes the place of the first
        assert take(store, 4).rows[["seq", "offset", "position"]].tolist() == [(10, 7, 2)]


def test_a_state_that_is_not_there_is_refused(tmp_path):
    with make(tmp_path, journal="64KiB") as store:
        for after in (1, 1 << 70, -1):
            with pytest.raises(jrnl.UnknownPoint):
                take(store, after)
        for k in range(40):
            store["a"].write(k * 512, bytes([k]) * 4000)
            store.flush()
        assert store.window.oldest > 1
        take(store, store.window.oldest)
        with pytest.raises(jrnl.PointExpired):
            take(store, store.window.oldest - 1)
        with pytest.raises(jrnl.InvalidType):
            take(store, "1")
    with pytest.raises(jrnl.StoreClosed):
        take(store, 0)
    with jrnl.create(size=4096) as store, pytest.raises(jrnl.InvalidArgument, match="on disk"):
        take(store, 0)


def damage(store: jrnl.Store, path: Path, content: bytes) -> None:
    """Flip a bit of what an entry wrote, wherever the log's file has it."""
    store.close()
    log = bytearray((path / "log").read_bytes())
    at = log.find(content)
    assert at > 0
    while at > 0:
        log[at] ^= 1
        at = log.find(content, at)
    (path / "log").write_bytes(log)


def test_a_damaged_entry_is_named_and_nothing_of_it_is_taken(tmp_path):
    store = make(tmp_path)
    for k in range(6):
        store["a"].write(4096, bytes([k + 1]) * 4096)
    store.flush()
    damage(store, tmp_path / "store", bytes([4]) * 4096)
    with jrnl.open(tmp_path / "store") as store:
        with pytest.raises(jrnl.CorruptionError, match="entry 4 is damaged"):
            take(store, 3)
        segment = take(store, 0)
        assert bytes(segment.data) == b"".join(bytes([k]) * 4096 for k in (1, 2, 3))
        assert take(store, 4).first == 5


def test_a_damaged_header_is_named(tmp_path):
    with make(tmp_path) as store:
        for _ in range(6):
            store["a"].write(4096, b"x")
        store.flush()
        store._engine._damage_header(3, 16, 1)
        with pytest.raises(jrnl.CorruptionError, match="entry 4 is damaged"):
            take(store, 3)
        assert take(store, 0).last == 3
        assert take(store, 0, 3).last == 3
        store._engine._damage_header(3, 16, 1)


def test_beside_writers_and_rewinds_all_that_is_taken_leads_to_their_states(tmp_path):
    dice = random.Random(time.time_ns())
    with make(tmp_path, journal="4MiB") as store:
        history = History(store)
        stop = threading.Event()

        def write() -> None:
            while not stop.is_set():
                for _ in range(dice.randrange(1, 30)):
                    length = dice.choice([1, 512, 3000])
                    store["a"].write(dice.randrange(37_000), dice.randbytes(length))
                if dice.random() < 0.3:
                    with suppress(jrnl.PointExpired):
                        store.rewind(store.seq - dice.randrange(20))
                store.flush()

        writer = threading.Thread(target=write)
        writer.start()
        end = time.monotonic() + 1.5
        try:
            while time.monotonic() < end and history.after is not None:
                try:
                    segment = take(store, history.after, most_bytes=dice.choice([1, 9000, 1 << 20]))
                except jrnl.PointExpired:
                    history.after = None
                    break
                if segment is not None:
                    history.segments.append(segment)
                    history.after = segment.last
        finally:
            stop.set()
            writer.join()
        if not history.end():
            pytest.skip("the writer was too fast for this machine")
        assert len(history.segments) > 3
        with Replayer(seq=0, time_ns=0, volumes=SIZES, journal="4MiB") as replayer:
            for segment in history.segments:
                replayer.apply(segment)
            copy = replayer.finish()
        with copy:
            assert check_same(store, copy) > 3


def test_what_has_no_bytes_has_no_position(tmp_path):
    with make(tmp_path) as store:
        store["a"].discard(0, 512)
        store.flush()
        assert take(store, 0).rows["position"].tolist() == [NOTHING, NOTHING]
