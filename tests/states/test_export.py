"""Logs made of journals: replayed, they go through the very states of the store."""

from __future__ import annotations

import os
import random
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

import jrnl
from jrnl import crash, logwrites
from tests.model.logs import DISCARD, FLUSH, FUA, MARK, Entry, plain_states, unpack_log
from tests.model.traces import SIZE, TRACES, Recorded

SIZES = {"a": 24 * 4096, "b": 10_000}  # `b` ends inside a sector


def play(store: jrnl.Store, numbers: random.Random, count: int) -> None:
    """Do all that makes entries, at any place and of any length."""
    for k in range(count):
        volume = store[numbers.choice([*store.volumes])]
        offset = numbers.randrange(volume.size)
        length = numbers.randrange(min(9000, volume.size - offset)) + 1
        if numbers.random() < 0.4:  # as a file system does
            offset = offset // 512 * 512
            length = min(-(-length // 512) * 512, volume.size - offset)
        act = numbers.randrange(12)
        if act < 6:
            volume.write(offset, numbers.randbytes(length))
        elif act == 6:
            volume.discard(offset, length)
        elif act == 7:
            volume.write_zeroes(offset, length)
        elif act == 8:
            store.flush()
        elif act == 9:
            store.mark(f"mark {k}")
        elif act == 10 and store.options.images != "after":
            there = store.states()
            store.rewind(int(there[-min(4, there.size)]))
        elif act == 11 and numbers.random() < 0.2:
            for snapshot in store.snapshots.values():
                snapshot.delete()
            store.snapshot(f"snapshot {k}")


def content(store: jrnl.Store, seq: int, name: str) -> bytes:
    """What a volume held in a state."""
    with store.recover(seq) as state:
        return state.read(0, state[name].size, name)


def read(path: Path) -> tuple[int, list[Entry]]:
    return unpack_log(path.read_bytes())


def check_log(store: jrnl.Store, path: Path, name: str, made: logwrites.Exported) -> None:
    """Hold each state of a log against that of the store, by two readers."""
    size = store[name].size
    sector, entries = read(path)
    padded = -(-size // sector) * sector
    states = plain_states(entries, padded, sector)
    assert made.seqs.tolist() == store.states().tolist()
    with logwrites.attach(path, size=padded) as log:
        for seq, count in zip(made.seqs.tolist(), made.counts.tolist(), strict=True):
            expected = content(store, seq, name).ljust(padded, b"\0")
            assert states[count] == expected, seq
            with log.view(count) as view:
                assert view.read(0, padded) == expected, seq
    assert made.counts[-1] == len(entries)


@pytest.mark.parametrize("images", ["before", "after", "both"])
@pytest.mark.parametrize("sector", [512, 4096])
@pytest.mark.parametrize("count", [0, 20, 150])
def test_each_state_of_a_store_comes_out_of_its_log(tmp_path, seed, images, sector, count):
    with jrnl.create(volumes=SIZES, journal="128KiB", images=images) as store:
        if images == "after":
            store.snapshot("first")
        play(store, random.Random(seed), count)
        assert store.window.oldest > 0 or count < 150
        for name in SIZES:
            path = tmp_path / name
            made = logwrites.export(store, path, volume=name, sector_size=sector)
            check_log(store, path, name, made)


@pytest.mark.parametrize("images", ["after", "both"])
@pytest.mark.parametrize("count", [25, 150])
def test_each_state_of_a_store_on_disk_comes_out_of_its_log(folder, seed, images, count):
    golden = folder / "golden.img"
    golden.write_bytes(random.Random(seed).randbytes(30_000))
    path = folder / "store.jrnl"
    options = {"journal": "512KiB", "images": images, "sync": "always"}
    with jrnl.create(path, source=golden, **options) as store:
        if images == "after":
            store.snapshot("first")
        play(store, random.Random(seed), count)
        expected = {seq: content(store, seq, "data") for seq in store.states().tolist()}
    with jrnl.open(path, mode="r") as store:
        made = logwrites.export(store, folder / "log")
        check_log(store, folder / "log", "data", made)
        assert made.seqs.tolist() == [*expected]
    written = [entry for entry in read(folder / "log")[1][made.counts[0] :] if entry.sectors]
    assert all(entry.flags & FUA for entry in written)


@pytest.mark.parametrize("trace", TRACES)
def test_a_recorded_history_goes_in_and_comes_out_the_same(unpack, tmp_path, trace):
    recorded = Recorded(unpack(trace))
    with jrnl.create(size=SIZE, journal="128MiB") as store:
        seqs = logwrites.replay(unpack(trace), store.volume)
        made = logwrites.export(store, tmp_path / "log")
        assert made.counts.tolist() == made.seqs.tolist() == [*range(store.seq + 1)]
        was = logwrites.attach(unpack(trace), size=SIZE)
        with was, logwrites.attach(tmp_path / "log", size=SIZE) as log:
            for k in range(0, len(seqs), 20):
                assert log.digest(int(seqs[k])) == was.digest(k)
            assert log.digest() == was.digest() == store.digest()
        assert recorded.entries + 1 == len(seqs)
        with jrnl.create(size=SIZE, journal="128MiB") as second:
            logwrites.replay(tmp_path / "log", second.volume)
            assert second.digest() == store.digest()
            logwrites.export(second, tmp_path / "again")
            assert (tmp_path / "again").read_bytes() == (tmp_path / "log").read_bytes()


def test_entries_become_what_the_kernel_would_have_recorded(tmp_path):
    with jrnl.create(size=8192, journal="64KiB") as store:
        store.volume.write(1024, b"w" * 512)
        store.flush()
        store.volume.write(1030, b"part")
        store.mark("a mark")
        store.volume.discard(0, 4096)
        store.volume.discard(100, 50)
        store.volume.write(4096, b"dropped")
        store.rewind(6)
        store.volume.write_zeroes(512, 1024)
        logwrites.export(store, tmp_path / "log")
    part = b"w" * 6 + b"part" + b"w" * 502
    assert read(tmp_path / "log") == (
        512,
        [
            Entry(2, 1, 0, b"w" * 512),
            Entry(flags=FLUSH),
            Entry(2, 1, 0, part),
            Entry(flags=MARK, text=b"a mark"),
            Entry(0, 8, DISCARD),
            Entry(0, 1, 0, bytes(512)),  # a part of a sector is not discarded
            Entry(1, 2, 0, bytes(1024)),
        ],
    )


@pytest.mark.parametrize("mode", ["prefix", "subset", "torn"])
def test_a_log_has_the_crash_states_of_its_store(tmp_path, mode):
    with jrnl.create(size=8192, journal="64KiB") as store:
        for k in range(9):
            store.volume.write(512 * (3 * k % 7), bytes([k + 1]) * 1024)
            if k % 3 == 1:
                store.flush()
        store.volume.discard(0, 1024)
        logwrites.export(store, tmp_path / "log")
        with logwrites.attach(tmp_path / "log", size=8192) as log:
            told, expected = (
                [(state.id.partition(":")[2], state.digest()) for state in states]
                for states in (crash.states(log, mode=mode), crash.states(store, mode=mode))
            )
    assert len(told) > 10
    assert told == expected


def test_a_log_begins_with_what_the_oldest_state_holds(tmp_path):
    with jrnl.create(size="1MiB", journal="16KiB") as store:
        for k in range(40):
            store.volume.write(8192 * k, bytes([k + 1]) * 1000)
        oldest = store.window.oldest
        assert oldest > 0
        made = logwrites.export(store, tmp_path / "log")
    _, entries = read(tmp_path / "log")
    first = entries[: made.counts[0]]
    assert [entry.sector for entry in first[:-2]] == [16 * k for k in range(oldest)]
    assert {entry.sectors for entry in first[:-2]} == {8}  # of what was never written: nothing
    assert first[-2:] == [Entry(flags=FLUSH), Entry(flags=MARK, text=b"jrnl-state-%d" % oldest)]
    with logwrites.attach(tmp_path / "log") as log:
        assert log.marks[f"jrnl-state-{oldest}"] == made.counts[0]


@pytest.mark.parametrize("count", [3, 40])
def test_a_mark_of_an_earlier_state_stands_behind_that(tmp_path, count):
    with jrnl.create(size="1MiB", journal="16KiB") as store:
        for k in range(count):
            store.volume.write(8192 * k, bytes([k + 1]) * 1000)
        oldest, newest = store.window
        assert (oldest > 0) == (count == 40)
        early = oldest + 8 if oldest else 0  # so that it is there to the end
        store.mark("own")
        store.mark("early", at=early)
        store.mark("of the newest", at=newest)
        store.mark("another", at=newest)
        store.volume.write(0, b"later")
        store.mark("last", at=store.seq)
        store.rewind(store.seq - 1)
        store.mark("of what a rewind went to", at=store.seq)
        made = logwrites.export(store, tmp_path / "log")
        check_log(store, tmp_path / "log", "data", made)
        with logwrites.attach(tmp_path / "log", size="1MiB") as log:
            names = [name for name in log.marks if not name.startswith("jrnl-state-")]
            assert sorted(names) == sorted(store.marks)
            for name in names:
                assert log.digest(name) == store.digest(name)
            assert log.marks["of the newest"] < log.marks["another"] < log.marks["own"]
            assert log.marks["early"] == made.counts[made.seqs.tolist().index(early)]


@pytest.mark.parametrize("full", [True, False])
def test_a_mark_of_the_oldest_state_whose_entry_has_left_is_in_the_log(tmp_path, full):
    images = "both" if full else "after"
    with jrnl.create(size="64KiB", journal="16KiB", images=images) as store:
        store.volume.write(0, b"before")
        store.mark("kept")
        if full:
            with store.pin("kept"), suppress(jrnl.JournalFull):
                while True:
                    store.volume.write(4096, b"later")
            with pytest.raises(jrnl.PointExpired):
                store.journal.after(2)
        assert store.window.oldest == 2
        made = logwrites.export(store, tmp_path / "log")
        check_log(store, tmp_path / "log", "data", made)
        with logwrites.attach(tmp_path / "log", size="64KiB") as log:
            assert log.marks.keys() == {"jrnl-state-2", "kept"}
            assert log.digest("kept") == store.digest("kept")


def test_an_oldest_state_of_zeroes_is_named_where_it_is_not_state_0(tmp_path):
    with jrnl.create(size=4096, journal="16KiB") as store:
        for _ in range(300):
            store.volume.write_zeroes(0, 4096)
        oldest = store.window.oldest
        assert oldest > 0
        logwrites.export(store, tmp_path / "log")
    assert read(tmp_path / "log")[1][1].text == b"jrnl-state-%d" % oldest


def test_with_after_images_and_no_snapshot_the_log_is_the_present_state(tmp_path):
    with jrnl.create(size=4096, journal="16KiB", images="after") as store:
        store.volume.write(0, b"x" * 512)
        made = logwrites.export(store, tmp_path / "log")
        assert (made.seqs.tolist(), made.counts.tolist()) == ([1], [3])
        check_log(store, tmp_path / "log", "data", made)


def test_a_long_entry_becomes_several(tmp_path):
    size = 33 << 20
    with jrnl.create(size=size, journal="128MiB") as store:
        data = np.arange(size, dtype=np.uint8)
        store.volume.write(0, data)
        made = logwrites.export(store, tmp_path / "log")
        assert made.counts.tolist() == [0, 2]
        with logwrites.attach(tmp_path / "log") as log:
            assert log.entries["length"].tolist() == [32 << 20, 1 << 20]
            assert log.digest() == store.digest()


@pytest.mark.parametrize("images", ["before", "after"])
def test_a_log_of_more_than_is_held_in_memory_has_every_state(tmp_path, images):
    with jrnl.create(size="82MiB", journal="256MiB", images=images) as store:
        if images == "after":
            store.snapshot("first")
        for k in range(80):  # each over a part of the one before, and not of whole sectors
            store.volume.write((k << 20) + 100, bytes([k + 1]) * (2 << 20))
        made = logwrites.export(store, tmp_path / "log")
        assert made.counts.tolist() == [*range(81)]
        with logwrites.attach(tmp_path / "log", size="82MiB") as log:
            for seq in range(81):
                start = max(0, seq - 2) << 20
                with log.view(seq) as one, store.view(seq) as other:
                    assert one.read(start, 4 << 20) == other.read(start, 4 << 20)
            assert log.digest() == store.digest()


def test_what_stands_behind_the_end_of_a_volume_is_zeroes(tmp_path):
    content = b"\xff" * ((1 << 20) + 600)
    (tmp_path / "golden").write_bytes(content)
    with jrnl.create(source=tmp_path / "golden", journal="64KiB") as store:
        store.volume.discard((1 << 20) + 512, 88)
        logwrites.export(store, tmp_path / "log")
    _, entries = read(tmp_path / "log")
    assert plain_states(entries, (1 << 20) + 1024)[2] == content + bytes(424)
    assert entries[-1] == Entry(2049, 1, DISCARD)  # up to the end, so all of the last sector


def test_progress_ends_with_all_and_an_exception_from_it_leaves_nothing(tmp_path):
    with jrnl.create(size="3MiB", journal="64KiB") as store:
        for k in range(300):
            store.volume.write(k * 10_000, bytes([k % 255 + 1]) * 400)
        told = []
        logwrites.export(store, tmp_path / "log", progress=lambda *parts: told.append(parts))
        assert told[-1][0] == told[-1][1]
        assert [done for done, _ in told] == sorted(done for done, _ in told)

        def stop(done: int, total: int) -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            logwrites.export(store, tmp_path / "other", progress=stop)
    assert os.listdir(tmp_path) == ["log"]


def test_nothing_is_written_over_and_nothing_is_left_where_it_fails(tmp_path):
    there = tmp_path / "there"
    there.write_bytes(b"kept")
    (tmp_path / "link").symlink_to("nowhere")
    store = jrnl.create(volumes={"a": 4096, "b": 4096}, journal="16KiB")
    for path in (there, tmp_path / "link", tmp_path):
        with pytest.raises(jrnl.PathExists, match="already"):
            logwrites.export(store, path, volume="a")
    with pytest.raises(jrnl.UnknownVolume, match="'a', 'b'"):
        logwrites.export(store, tmp_path / "new")
    with pytest.raises(jrnl.InvalidArgument, match="513"):
        logwrites.export(store, tmp_path / "new", volume="a", sector_size=513)
    with pytest.raises(jrnl.InvalidType, match="str"):
        logwrites.export("store", tmp_path / "new")
    with pytest.raises(jrnl.InvalidType):
        logwrites.export(store, 3.5, volume="a")
    with pytest.raises(FileNotFoundError, match="absent/new"):
        logwrites.export(store, tmp_path / "absent" / "new", volume="a")
    store.close()
    with pytest.raises(jrnl.StoreClosed):
        logwrites.export(store, tmp_path / "new", volume="a")
    assert sorted(os.listdir(tmp_path)) == ["link", "there"]
    assert there.read_bytes() == b"kept"


def test_what_appears_at_the_path_meanwhile_stays(tmp_path):
    there = tmp_path / "log"
    with jrnl.create(size=4096, journal="64KiB") as store:
        store.volume.write(0, b"x")

        def make(done: int, total: int) -> None:
            there.write_bytes(b"somebody else's")

        with pytest.raises(jrnl.PathExists):
            logwrites.export(store, there, progress=make)
    assert os.listdir(tmp_path) == ["log"]
    assert there.read_bytes() == b"somebody else's"


def test_entries_that_leave_meanwhile_end_an_export_unless_they_are_kept(tmp_path):
    with jrnl.create(size="1MiB", journal="64KiB") as store:
        for k in range(30):
            store.volume.write(k * 4096, bytes([k + 1]) * 512)

        def write(done: int, total: int) -> None:
            for k in range(20):
                store.volume.write(k * 4096, b"n" * 4096)

        with store.pin(store.window.oldest), pytest.raises(jrnl.JournalFull):
            logwrites.export(store, tmp_path / "log", progress=write)
        with pytest.raises(jrnl.PointExpired):
            logwrites.export(store, tmp_path / "log", progress=write)
    assert os.listdir(tmp_path) == []


def test_what_is_written_meanwhile_is_not_in_the_log(tmp_path):
    with jrnl.create(size="1MiB", journal="1MiB") as store:
        for k in range(30):
            store.volume.write(k * 4096, bytes([k + 1]) * 512)
        last = store.seq

        def write(done: int, total: int) -> None:
            store.volume.write(0, b"n" * 100_000)

        made = logwrites.export(store, tmp_path / "log", progress=write)
        assert store.seq > last == made.seqs[-1]
        with logwrites.attach(tmp_path / "log", size="1MiB") as log:
            assert log.digest() == store.digest(last)
