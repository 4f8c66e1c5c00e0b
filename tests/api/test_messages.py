"""What messages tell beside the error's class: the path, the way out, what there is instead."""

from __future__ import annotations

import errno
import io
from collections.abc import Callable
from datetime import UTC, datetime

import numpy as np
import pytest

import jrnl
from jrnl.catalog import Catalog
from jrnl.points import check_name
from tests.model.fingerprint import unchanged

SIZE = 65536
TIMES = np.zeros(8, "datetime64[ns]")


@pytest.fixture
def store():
    with jrnl.create(size=SIZE, journal="16KiB") as made:
        made.volume.write(0, b"one")
        made.mark("first")
        yield made


def fill(store: jrnl.Store, count: int = 64) -> None:
    for k in range(count):
        store.volume.write(k * 100, b"later")


# Callables


@pytest.mark.parametrize(
    "call",
    [
        lambda store: store.recover(0, progress=5),
        lambda store: store.verify(progress=5),
        lambda store: store.recover(0, undoable=True).seek(1, progress=5),
        lambda store: store.recover(0).again(1, progress=5),
        lambda store: store.recover(0).again(progress=5),
    ],
    ids=["recover", "verify", "seek", "again", "again to its own"],
)
def test_what_is_to_be_called_back_is_looked_at_first(store, call):
    with unchanged(store), pytest.raises(jrnl.InvalidType, match=r"progress must be.*not int"):
        call(store)


@pytest.mark.parametrize("name", ["clock", "on_low"])
def test_an_opening_looks_at_callables_before_it_looks_for_a_store(tmp_path, name):
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(jrnl.InvalidType, match=f"{name} must be callable, not int"):
            jrnl.open(path, **{name: 3})


@pytest.mark.parametrize("entries", [0, 1, 1024, 1500])
@pytest.mark.parametrize("snapshots", [0, 2])
def test_a_verification_tells_that_it_is_done(entries, snapshots):
    with jrnl.create(size=SIZE, journal="1MiB") as store:
        for k in range(entries):
            store.volume.write(k, b"x")
        for k in range(snapshots):
            store.snapshot(f"s{k}").wait()
        told = []
        store.verify(progress=lambda done, total: told.append((done, total)))
        assert told[-1] == (entries + snapshots,) * 2
        assert [done for done, _ in told] == sorted(done for done, _ in told)


# Points


def test_a_forgotten_mark_is_told_how_it_is_kept(store):
    fill(store)
    with pytest.raises(jrnl.UnknownPoint, match=r"'first'; there is none.*pinned=True.*a snapshot"):
        store.rewind("first")


@pytest.mark.parametrize("year", [1, 1600, 1969])
def test_a_time_before_all_stores_is_shown_as_it_was_given(store, year):
    with pytest.raises(jrnl.UnknownPoint, match=f"exist at {year:04}-01-01T00:00:00"):
        store.recover(datetime(year, 1, 1, tzinfo=UTC))


@pytest.mark.parametrize("seq", [2**64, 2**70, -(2**70), -1])
def test_a_number_that_no_state_has_is_told_the_newest(store, seq):
    for point in (seq, jrnl.Mark(None, seq, 0)):
        with unchanged(store), pytest.raises(jrnl.UnknownPoint, match=f"{seq}[; ].*newest is 2"):
            store.recover(point)


def test_a_base_is_told_from_what_bases_there_are(store):
    store.snapshot("taken")
    with pytest.raises(jrnl.UnknownPoint, match="base is called 'no'; there is 'production', 'tak"):
        store.recover(0, base="no")
    with pytest.raises(jrnl.InvalidArgument, match=r"mark;.*there is 'production', 'taken'$"):
        store.recover(0, base="first")
    for k in range(9):
        store.snapshot(f"s{k}")
    with pytest.raises(jrnl.UnknownPoint, match="and 3 more") as caught:
        store.recover(0, base="no")
    assert "'first'" not in str(caught.value)


@pytest.mark.parametrize(
    "call",
    [
        lambda store: store.mark("production"),
        lambda store: store.mark("production", pinned=True),
        lambda store: store.snapshot("production"),
        lambda store: store.savepoint("production").__enter__(),
    ],
)
def test_nothing_new_is_called_what_a_base_is_called(store, call):
    with unchanged(store), pytest.raises(jrnl.InvalidArgument, match="'production' names a base"):
        call(store)


def test_a_store_with_such_a_name_still_opens(tmp_path, monkeypatch):
    with monkeypatch.context() as before:
        before.setattr(Catalog, "check_free", lambda self, name: check_name(name))
        with jrnl.create(tmp_path / "w", size=SIZE, journal="64KiB") as store:
            store.snapshot("production")
            store.volume.write(0, b"later")
    with jrnl.open(tmp_path / "w") as store:
        assert store.problems == []
        with store.recover("production") as recovery:
            assert recovery.read(0, 5) == bytes(5)
        store.snapshots["production"].delete()
    with jrnl.create(volumes={"production": 1}) as store:
        assert list(store) == ["production"]


def test_with_after_images_alone_no_way_out_is_named_that_is_none():
    with jrnl.create(size=SIZE, images="after") as store:
        store.volume.write(0, b"x")
        for look in (store.recover, store.plan, store.view):
            with pytest.raises(jrnl.PointExpired, match="snapshot") as caught:
                look(0)
            assert "leave base out" not in str(caught.value)
            assert "recover it" not in str(caught.value)
        with pytest.raises(jrnl.PointExpired, match=r"take a snapshot before, or recover it$"):
            store.view(store.seq)
        assert store.recover(store.seq).read(0, 1) == b"x"
        with pytest.raises(jrnl.PointExpired, match="leave base out"):
            store.recover(0, base="production")


# Pins and room


def test_a_rewind_that_is_held_up_says_where_recoveries_are_found(store):
    store.recover(0).restore()
    with pytest.raises(jrnl.PinnedPoint, match=r"store\.recoveries.*delete_recovery") as caught:
        store.rewind(0)
    assert "close it first" in str(caught.value)
    for number in store.recoveries:
        store.delete_recovery(number)
    store.rewind(0)


def test_a_mark_is_unpinned_by_its_name_or_as_what_it_is(store):
    for name in ("one", "two"):
        store.mark(name, pinned=True)
    store.unpin(store.marks["one"])
    store.unpin("two")
    assert store.pins == ()
    with pytest.raises(jrnl.UnknownPoint, match="no pinned mark is called 'one'; there is none"):
        store.unpin(store.marks["one"])
    for wrong in (5, None, ["one"], store.mark()):
        with pytest.raises(jrnl.InvalidType, match="a mark or its name"):
            store.unpin(wrong)


def full(store: jrnl.Store) -> str:
    with pytest.raises(jrnl.JournalFull) as caught:
        fill(store, 200)
    return str(caught.value)


@pytest.mark.parametrize("images", ["before", "after", "both"])
def test_a_journal_that_refuses_says_what_makes_room(images):
    with jrnl.create(size=SIZE, journal="16KiB", images=images, overflow="refuse") as store:
        message = full(store)
        assert "end the open edit" not in message
        assert "'evict' or 'fold'" in message
        assert ("rewind" in message) == (images != "after")
        if images != "after":
            store.rewind(0)
            store.volume.write(0, b"x")


def test_a_journal_that_an_edit_keeps_full_says_so():
    with jrnl.create(size=SIZE, journal="16KiB") as store, store.volume.edit(60000, 1):
        assert "end the open edit" in full(store)


def test_a_journal_that_is_pinned_says_what_may_pin_it(store):
    with store.view(0, pinned=True):
        assert "close the pinned view" in full(store)
    with store.pin(store.seq):
        with pytest.raises(jrnl.PinnedPoint, match="close the pinned view"):
            store.rewind(store.window.oldest)
        assert "release the pin" in full(store)
    store.mark("kept", pinned=True)
    message = full(store)
    assert "unpin the mark" in message
    assert "view" not in message


# Buffers and offsets


def read_only(length: int) -> np.ndarray:
    array = np.zeros(length, np.uint8)
    array.flags.writeable = False
    return array


TARGETS: dict[str, Callable[[], object]] = {
    "bytes": lambda: bytes(8),
    "read-only": lambda: read_only(8),
    "strided": lambda: np.zeros(16, np.uint8)[::2],
}
READERS: dict[str, Callable[[jrnl.Store, object], object]] = {
    "volume": lambda store, buffer: store.volume.readinto(0, buffer),
    "view": lambda store, buffer: store.view(0).readinto(0, buffer),
    "recovery": lambda store, buffer: store.recover(0).readinto(0, buffer),
    "file": lambda store, buffer: store.volume.as_file().readinto(buffer),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("target", TARGETS)
def test_what_cannot_be_read_into_is_told_what_can(store, reader, target):
    with pytest.raises(jrnl.InvalidArgument, match="pass a writable, C-cont") as caught:
        READERS[reader](store, TARGETS[target]())
    assert "ascontiguousarray" not in str(caught.value)
    assert "  " not in str(caught.value)
    with pytest.raises(jrnl.InvalidType, match=r"read into must be a bytearray.*not int"):
        READERS[reader](store, 5)


def test_what_cannot_be_written_is_told_what_can(store):
    with pytest.raises(jrnl.InvalidArgument, match=r"C-contiguous \(numpy\.ascont") as caught:
        store.volume.write(0, np.zeros(16, np.uint8)[::2])
    assert "  " not in str(caught.value)


@pytest.mark.parametrize("times", [TIMES, TIMES - TIMES])
def test_an_array_of_times_is_told_how_it_lends_its_bytes(store, times):
    for call in (
        lambda: store.volume.write(0, times),
        lambda: store.volume.write_many([0], times),
        lambda: store.volume.readinto(0, times),
        lambda: jrnl.wrap(times),
    ):
        with unchanged(store), pytest.raises(jrnl.InvalidArgument, match=r"\.view\('i8'\)"):
            call()
    store.volume.write(0, times.view("i8"))
    store.volume.readinto(0, times.view("i8"))


def test_offsets_that_are_no_list_are_told_what_they_are(store):
    for offsets in ((k for k in range(3)), {1, 2}, "12", None, io.BytesIO()):
        kind = type(offsets).__name__
        with unchanged(store), pytest.raises(jrnl.InvalidType, match=f"a list of ints.*{kind}"):
            store.volume.write_many(offsets, b"xyz")
    with pytest.raises(jrnl.InvalidArgument, match="one dimension, not 0"):
        store.volume.write_many(5, b"x")


def test_a_count_below_nought_is_said_to_be_that(store):
    for call in (store.volume.read, store.volume.discard, store.view(0).read):
        for length in (-5, -(2**80)):
            with pytest.raises(jrnl.OutOfBounds, match=f"length {length} is below 0; .*{SIZE} by"):
                call(0, length)
        with pytest.raises(jrnl.OutOfBounds, match=f"length {2**80} is outside the volume"):
            call(0, 2**80)


# Paths


def test_an_error_names_the_path_that_was_given(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    for path in ("none", tmp_path / "none", b"none"):
        given = path if path == "none" else str(tmp_path / "none")
        with pytest.raises(FileNotFoundError) as caught:
            jrnl.open(path)
        assert caught.value.filename == ("none" if isinstance(path, bytes) else given)
        assert caught.value.errno == errno.ENOENT
    for path, message in (("empty", "no superblock"), ("./file", "a file, and no store")):
        with pytest.raises(jrnl.FormatError, match=f"^'{path}': .*{message}"):
            jrnl.open(path)
    with jrnl.create("./w", size=SIZE, journal="16KiB"):
        with pytest.raises(jrnl.StoreLocked, match=r"^'./w': the store is open already"):
            jrnl.open("./w")
        with pytest.raises(jrnl.StoreExists, match=r"already.*'./w'$") as exists:
            jrnl.create("./w", size=SIZE)
        assert (exists.value.errno, exists.value.filename) == (errno.EEXIST, "./w")
    for name in ("super.0", "super.1"):
        (tmp_path / "w" / name).write_bytes(bytes(4096))
    with pytest.raises(jrnl.FormatError, match=r"^'./w': super.0 is no superblock"):
        jrnl.open("./w")


@pytest.mark.parametrize(
    ("path", "size"), [("1GiB", "'1GiB'"), (4096, "4096"), ("disk.jrnl", "'64MiB'")]
)
def test_a_size_in_the_place_of_the_path_is_told_apart(tmp_path, monkeypatch, path, size):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(jrnl.InvalidArgument, match=r"is the path.*pass size") as caught:
        jrnl.create(path)
    assert f"create(size={size})" in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_a_closed_store_says_whether_it_can_be_had_again(tmp_path):
    for path, way in ((None, "create another"), (tmp_path / "w", "open it again")):
        store = jrnl.create(path, size=SIZE, journal="16KiB")
        store.close()
        with pytest.raises(jrnl.StoreClosed, match=f"the store is closed; {way}"):
            store.volume.read(0, 1)


def test_a_store_open_for_reading_has_nothing_to_flush(tmp_path):
    with jrnl.create(tmp_path / "w", size=SIZE, journal="16KiB") as store:
        seq = store.volume.write(0, b"x")
    with jrnl.open(tmp_path / "w", "r") as store:
        store.volume.as_file().flush()
        assert store.flush() == store.seq == seq
