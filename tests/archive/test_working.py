"""An archive at work beside a store: what is archived is what the store has been."""

from __future__ import annotations

import random
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import jrnl
from jrnl.archive import chunks, writer
from jrnl.archive.objects import from_url
from tests.model.archived import Archived

SIZES = {"a": 40_000, "b": 5_500}


def store_of(tmp_path: Path, **options: Any) -> jrnl.Store:
    return jrnl.create(tmp_path / "s", volumes=SIZES, **{"journal": "256KiB", **options})


def state_of(store: jrnl.Store) -> tuple[bytes, ...]:
    return tuple(volume.read(0, volume.size) for volume in store.volumes.values())


class History:
    """Random calls, and each state that they have led to."""

    def __init__(self, store: jrnl.Store, seed: int) -> None:
        self.store, self.dice = store, random.Random(seed)
        self.states = {store.seq: state_of(store)}

    def go_on(self, steps: int) -> None:
        for _ in range(steps):
            self._once()
            self.states[self.store.seq] = state_of(self.store)

    def _once(self) -> None:
        dice, store = self.dice, self.store
        name = dice.choice([*SIZES])
        volume, length = store[name], dice.choice([1, 100, 512, 3000, 4096])
        offset = dice.randrange(volume.size - length + 1)
        act = dice.choice(["write"] * 6 + ["discard", "zero", "mark", "flush", "rewind", "restore"])
        if act == "write":
            volume.write(offset, dice.randbytes(length))
        elif act == "discard":
            volume.discard(offset, length)
        elif act == "zero":
            volume.write_zeroes(offset, length)
        elif act == "mark":
            store.mark(f"m{store.seq}")
        elif act == "flush":
            store.flush()
        elif store.options.images == "both":
            states = store.states()
            to = int(dice.choice(states[-12:]))
            if act == "rewind":
                before = store.seq
                store.rewind(to)
                for seq in [seq for seq in self.states if to < seq <= before]:
                    del self.states[seq]
            else:
                with store.recover(to) as recovery:
                    first = recovery.restore().first_seq
                for seq in range(first, store.seq):
                    with store.view(seq) as view:
                        self.states[seq] = tuple(
                            view.read(0, size, name) for name, size in SIZES.items()
                        )


def check_archived(found: Archived, states: dict[int, tuple[bytes, ...]]) -> None:
    newest = found.manifest.seq
    for seq, state in found.states.items():
        if seq in states:
            assert state == states[seq], f"state {seq}"
    missing = [seq for seq in states if found.manifest.snapshots[0].seq <= seq <= newest
               and seq not in found.states]  # fmt: skip
    assert missing == []


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("images", ["both", "after"])
def test_every_state_since_the_first_snapshot_is_in_the_archive(
    tmp_path: Path, seed: int, images: str
):
    url = tmp_path / "archive"
    with store_of(tmp_path, images=images) as store:
        history = History(store, seed)
        history.go_on(10)
        with store.archive(url, interval=0.01, snapshot_every=20_000, segment="64KiB") as archive:
            archive.flush(30)
            for _ in range(5):
                history.go_on(12)
                if history.dice.random() < 0.6:
                    seq = archive.flush(30)
                    history.states.setdefault(seq, state_of(store))
            archive.flush(30)
            history.states.setdefault(store.seq, state_of(store))
            assert archive.archived_seq == store.seq
            found = Archived(from_url(url))
    check_archived(found, history.states)
    assert found.states[found.manifest.seq] == history.states[found.manifest.seq]


def test_a_log_that_has_moved_on_is_bridged_by_a_difference(tmp_path: Path):
    url = tmp_path / "archive"
    with store_of(tmp_path, journal="64KiB") as store:
        history = History(store, 1)
        history.go_on(10)
        with store.archive(url) as archive:
            archive.flush(30)
        history.go_on(200)  # far more than the journal holds
        with store.archive(url) as archive:
            archive.flush(30)
            history.go_on(10)
            archive.flush(30)
            history.states[store.seq] = state_of(store)
            found = Archived(from_url(url))
    assert found.states[found.manifest.seq] == history.states[found.manifest.seq]
    for seq, state in found.states.items():
        assert history.states.get(seq, state) == state
    assert len(found.manifest.snapshots) > 1


def test_older_segments_are_named_by_lists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(writer, "NAMED_MOST", 6)
    monkeypatch.setattr(writer, "LISTED", 4)
    url = tmp_path / "archive"
    with store_of(tmp_path) as store:
        history = History(store, 5)
        with store.archive(url, interval=0.01) as archive:
            archive.flush(30)
            for _ in range(25):
                history.go_on(2)
                seq = archive.flush(30)
                history.states.setdefault(seq, state_of(store))
            newest = archive._writer.ledger.current
            assert newest is not None
            assert len(newest.segments) < 20
            assert newest.lists
            archive.collect()
            found = Archived(from_url(url))
    assert len(found.manifest.segments) > 20
    check_archived(found, history.states)


def test_states_that_are_too_old_leave_the_archive(tmp_path: Path):
    url = tmp_path / "archive"
    with store_of(tmp_path) as store:
        history = History(store, 6)
        with store.archive(url, interval=0.01, snapshot_every=1, keep=0, grace=0) as archive:
            until = time.monotonic() + 30
            while len(history.states) < 60 and time.monotonic() < until:
                history.go_on(4)
                seq = archive.flush(30)
                history.states.setdefault(seq, state_of(store))
            oldest = archive._writer.ledger.current.snapshots[0].seq
            time.sleep(0.05)
            archive.collect()
            found = Archived(from_url(url))
    assert oldest > 4
    assert min(found.states) >= oldest
    check_archived(found, history.states)
    there = {each.key for each in from_url(url).list("seg/")}
    named = {facts.key for facts in found.manifest.segments}
    assert named <= there
    assert len(there - named) < 3  # the youngest, no older than what was listed last


def test_marks_are_archived_as_the_store_has_them(tmp_path: Path):
    url = tmp_path / "archive"
    with store_of(tmp_path) as store:
        store.mark("before")
        with store.archive(url) as archive:
            archive.flush(30)
            store["a"].write(0, b"x")
            here = store.mark("here")
            archive.flush(30)
            store["a"].write(0, b"y")
            store.mark("dropped")
            archive.flush(30)
            store.rewind("here")
            store.mark("some", volumes=["b"])
            archive.flush(30)
            marks = Archived(from_url(url)).manifest.marks
            there = {name: mark.seq for name, mark in store.marks.items()}
    assert {name: row[0] for name, row in marks.items()} == there
    assert marks["here"][:2] == [here.seq, here.time_ns]
    assert marks["some"][3:] == ["b"]


def test_a_second_writer_fences_the_first(tmp_path: Path):
    url = tmp_path / "archive"
    with store_of(tmp_path) as store:
        first = store.archive(url, interval=0.01)
        first.flush(30)
        store["a"].write(0, b"x")
        store.flush()
        store._session.archive = None  # as another process would have it
        with store.archive(url, interval=0.01) as second:
            second.flush(30)
            assert second.epoch == first.epoch + 1
            store["a"].write(0, b"y")
            with pytest.raises(jrnl.Fenced, match="epoch 2"):
                first.flush(30)
            assert isinstance(first.problem, jrnl.Fenced)
            before = first.archived_seq
            second.flush(30)
        assert second.archived_seq > before
        first.close()


def test_an_archive_of_another_store_is_refused(tmp_path: Path):
    url = tmp_path / "archive"
    with store_of(tmp_path) as store, store.archive(url) as archive:
        archive.flush(30)
    with jrnl.create(tmp_path / "t", size="1MiB") as other:
        with pytest.raises(jrnl.ArchiveUnfit, match="another store"):
            other.archive(url)
        assert other.options.path is not None


def test_a_store_in_memory_is_refused_before_anything_is_made(tmp_path: Path):
    with jrnl.create(size="1MiB") as store:
        with pytest.raises(jrnl.InvalidArgument, match="on disk"):
            store.archive(tmp_path / "archive")
        with pytest.raises(jrnl.InvalidArgument, match="not archived"):
            store.archive_flush()
    assert not (tmp_path / "archive").exists()


def test_closing_the_store_ends_the_archive(tmp_path: Path):
    store = store_of(tmp_path)
    archive = store.archive(tmp_path / "archive", interval=0.01)
    archive.flush(30)
    store.close()
    assert "closed" in repr(archive)
    with pytest.raises(jrnl.StoreClosed):
        archive.flush(1)
    assert not [t for t in threading.enumerate() if t.name.startswith("jrnl-archive")]


def test_the_numbers_of_an_archive_stand_beside_what_is_durable(tmp_path: Path):
    with store_of(tmp_path) as store:
        assert "archive_seq" not in store.metrics()
        with store.archive(tmp_path / "archive") as archive:
            archive.flush(30)
            numbers = store.metrics()
            assert numbers["archive_seq"] == archive.archived_seq == store.seq
            assert numbers["archive_failures_total"] == numbers["archive_failing"] == 0
        assert "archive_seq" not in store.metrics()


def test_a_rewind_does_not_wait_for_a_snapshot_that_is_being_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    with store_of(tmp_path) as store:
        store["a"].write(0, b"0")
        store.mark("here")
        archive = store.archive(tmp_path / "archive", interval=0.01, snapshot_every=1)
        archive.flush(30)
        gate = stalled(archive, monkeypatch)
        for k in range(6):
            store["a"].write(100 * k, b"x" * 100)
            store.flush()
            until = time.monotonic() + 10
            while archive._writer._held is None and k < 2 and time.monotonic() < until:
                time.sleep(0.01)
            assert store.rewind("here").entries
            gate.set()
            time.sleep(0.05)
        archive.flush(30)
        found = Archived(from_url(tmp_path / "archive"))
        assert found.states[found.manifest.seq] == state_of(store)


def stalled(archive: Any, monkeypatch: pytest.MonkeyPatch, kind: str = "") -> threading.Event:
    """Have its object store not take objects of a kind until the event is set."""
    gate, objects = threading.Event(), archive._writer.objects
    create = objects.create

    def late(key: str, body: Any) -> None:
        if key.startswith(kind):
            gate.wait(30)
        create(key, body)

    monkeypatch.setattr(objects, "create", late)
    return gate


def test_writers_wait_while_the_archive_lags_too_far(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    with store_of(tmp_path) as store:
        archive = store.archive(tmp_path / "archive", interval=0.01, lag_at_most=0.2)
        archive.flush(30)
        gate = stalled(archive, monkeypatch)
        store["a"].write(0, b"x")
        store.flush()
        until = time.monotonic() + 10
        while not archive._throttled and time.monotonic() < until:
            time.sleep(0.01)
        done = threading.Event()

        def write() -> None:
            store["a"].write(0, b"y")
            done.set()

        writer = threading.Thread(target=write)
        writer.start()
        assert not done.wait(0.3)
        assert store["a"].read(0, 1) == b"y"  # it is written; its writer waits
        gate.set()
        assert done.wait(10)
        writer.join()


def test_a_writer_that_has_waited_for_too_long_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    with store_of(tmp_path) as store:
        archive = store.archive(
            tmp_path / "archive", interval=0.01, lag_at_most=0.1, lag_timeout=0.1
        )
        archive.flush(30)
        gate = stalled(archive, monkeypatch)
        store["a"].write(0, b"x")
        store.flush()
        with pytest.raises(jrnl.ArchiveLagging, match="what was written is written"):
            for _ in range(1000):
                store["a"].write(0, b"y")
                time.sleep(0.01)
        with pytest.raises(jrnl.ArchiveLagging, match="was not archived within"):
            archive.flush(0.1)
        assert archive.age > 0.1
        gate.set()
        assert archive.flush(30) == store.seq


@pytest.mark.parametrize("options", [
    {"interval": 0}, {"lag_at_most": -1}, {"segment": "1KiB"}, {"keep": "a day"}, {"grace": True},
])  # fmt: skip
def test_what_no_archive_takes_is_refused(tmp_path: Path, options: dict[str, Any]):
    with store_of(tmp_path) as store, pytest.raises((jrnl.InvalidArgument, jrnl.InvalidType)):
        store.archive(tmp_path / "archive", **options)
    assert not (tmp_path / "archive").exists()


def test_a_rewind_while_a_snapshot_is_sent_is_in_the_next_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    with store_of(tmp_path) as store:
        store["a"].write(0, b"0" * 100)
        store.mark("here")
        archive = store.archive(tmp_path / "archive", interval=0.01, snapshot_every=1)
        archive.flush(30)
        store["a"].write(0, b"1" * 100)
        gate = stalled(archive, monkeypatch, "snap/")
        archive.flush(30)  # the next snapshot is on its way
        store["b"].write(0, b"2")
        store.rewind("here")
        archive.flush(30)
        gate.set()
        for _ in range(20):  # until another one is there
            store["b"].write(0, b"3")
            archive.flush(30)
        found = Archived(from_url(tmp_path / "archive"))
        assert len(found.manifest.snapshots) > 2
        assert found.states[found.manifest.seq] == state_of(store)


def test_a_rewind_to_the_state_that_is_being_sent_does_not_wait_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    with store_of(tmp_path) as store:
        store["a"].write(0, b"0")
        archive = store.archive(tmp_path / "archive", interval=0.01, snapshot_every=1)
        archive.flush(30)
        gate = stalled(archive, monkeypatch, "snap/")
        hold = archive._writer.source.hold

        def later(seq: int, *arguments: Any, **options: Any) -> None:
            store["a"].write(100, b"not durable yet")  # made in a later state than it is of
            hold(seq, *arguments, **options)

        monkeypatch.setattr(archive._writer.source, "hold", later)
        store["a"].write(1, b"1")
        archive.flush(30)
        until = time.monotonic() + 30
        while archive._writer._held is None and time.monotonic() < until:
            time.sleep(0.01)
        assert store.rewind(archive._writer._held.seq).entries
        gate.set()
        archive.flush(30)
        found = Archived(from_url(tmp_path / "archive"))
        with store.view(found.manifest.seq) as view:
            expected = tuple(view.read(0, size, name) for name, size in SIZES.items())
        assert found.states[found.manifest.seq] == expected


def test_a_rewind_to_before_the_archive_while_a_snapshot_is_sent_stalls_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    with store_of(tmp_path) as store:
        store["a"].write(0, b"0" * 100)
        store.flush()
        archive = store.archive(tmp_path / "archive", interval=0.01, snapshot_every=1)
        archive.flush(30)
        gate = stalled(archive, monkeypatch, "snap/")
        store["a"].write(0, b"2" * 300)
        archive.flush(30)
        until = time.monotonic() + 30
        while archive._writer._held is None and time.monotonic() < until:
            time.sleep(0.01)
        assert archive._writer._held is not None
        time.sleep(0.1)  # its table is on its way
        store.rewind(0)
        store["b"].write(0, b"3")
        store.flush()
        time.sleep(0.1)
        gate.set()  # and is put, though a rewind to before all snapshots came
        assert archive.flush(30) == store.seq
        found = Archived(from_url(tmp_path / "archive"))
        assert found.states[found.manifest.seq] == state_of(store)


def test_a_rewind_that_ends_the_first_snapshot_stalls_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """It stands in the middle of a segment then, of which nothing was durable at first."""
    with store_of(tmp_path) as store:
        store["a"].write(0, b"0" * 5000)
        store.flush()
        store["a"].write(0, b"kept")
        keep = store.seq
        store["a"].write(0, b"tried")
        go_on, hashed = threading.Event(), chunks.hash_of

        def slowly(content: Any) -> bytes:
            go_on.wait(30)
            return hashed(content)

        monkeypatch.setattr(chunks, "hash_of", slowly)
        archive = store.archive(tmp_path / "archive", interval=0.01)
        store.rewind(keep)
        store["a"].write(0, b"after")
        go_on.set()
        assert archive.flush(30) == store.seq
        check_newest(store, tmp_path)


@pytest.mark.parametrize("seed", range(4))
def test_a_store_that_is_rewound_all_the_time_is_archived(tmp_path: Path, seed: int):
    """Snapshots end, or are made of a later state than segments have come to."""
    dice = random.Random(seed)
    with store_of(tmp_path, images=dice.choice(["both", "after"])) as store:
        archive = None
        for _ in range(25):
            for _ in range(dice.randrange(1, 6)):
                store["a"].write(dice.randrange(9000), dice.randbytes(dice.choice([3, 3000])))
                if dice.random() < 0.2:
                    store.flush()
                if store.options.images == "both" and dice.random() < 0.5:
                    with suppress(jrnl.PinnedPoint):  # a snapshot that has given way too often
                        store.rewind(dice.choice(store.states()[-6:].tolist()))
            if archive is None or dice.random() < 0.1:
                if archive is not None:
                    archive.close()
                    for _ in range(dice.choice([0, 200])):  # more than the journal holds
                        store["b"].write(0, b"gap" * 1000)
                archive = store.archive(tmp_path / "archive", interval=0.005, snapshot_every=1)
            if dice.random() < 0.3:
                assert archive.flush(30) == store.seq
                check_newest(store, tmp_path)
        archive.flush(30)
        check_newest(store, tmp_path)


def check_newest(store: jrnl.Store, tmp_path: Path) -> None:
    found = Archived(from_url(tmp_path / "archive"))
    assert found.manifest.seq >= store.seq
    assert found.states[store.seq] == state_of(store)
