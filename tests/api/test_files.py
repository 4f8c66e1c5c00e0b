"""Volumes and views as file objects."""

from __future__ import annotations

import errno
import gc
import io
import os
import zipfile

import numpy as np
import pytest

import jrnl
from tests.model.fingerprint import unchanged

SIZE = 10_000


@pytest.fixture
def store():
    with jrnl.create(size=SIZE, journal="256KiB") as made:
        made.volume.write(0, bytes(range(250)) * 40)
        yield made


def test_a_volume_is_read_and_written_like_a_file_of_fixed_size(store):
    file = store.volume.as_file()
    assert (file.readable(), file.writable(), file.seekable()) == (True, True, True)
    assert file.read(4) == bytes([0, 1, 2, 3])
    assert file.tell() == 4
    assert file.write(b"abcd") == 4
    assert file.tell() == 8
    assert store.volume.read(0, 10) == bytes([0, 1, 2, 3]) + b"abcd" + bytes([8, 9])
    assert file.seek(-2, io.SEEK_END) == SIZE - 2
    assert file.readall() == bytes([248, 249])
    assert (file.read(1), file.readall(), file.readinto(bytearray(9))) == (b"", b"", 0)
    assert len(file.read(SIZE + 1)) == 0
    file.seek(0)
    assert len(file.read()) == SIZE


def test_seeking_past_the_end_is_allowed_and_before_the_start_is_not(store):
    file = store.volume.as_file()
    assert file.seek(SIZE + 5) == SIZE + 5
    assert file.read(10) == b""
    assert file.seek(-5, io.SEEK_CUR) == SIZE
    with pytest.raises(OSError, match=f"byte {SIZE} is past.* {SIZE} bytes") as full:
        file.write(b"x")
    assert full.value.errno == errno.ENOSPC
    with pytest.raises(jrnl.InvalidArgument, match="-1"):
        file.seek(-1)
    with pytest.raises(jrnl.InvalidArgument, match=r"2\*\*"):
        file.seek(-(10**5000))
    with pytest.raises(jrnl.InvalidArgument, match="3"):
        file.seek(0, 3)
    for place in (1.5, "1", None, True):
        with pytest.raises(jrnl.InvalidType, match=type(place).__name__):
            file.seek(place)
    assert file.seek(2**70) == 2**70
    assert file.read(1) == b""
    assert file.seek(np.int64(7)) == 7


def test_a_file_cannot_be_resized_and_has_no_descriptor(store):
    file = store.volume.as_file()
    with unchanged(store):
        for call in (file.truncate, lambda: file.truncate(5), file.fileno):
            with pytest.raises(io.UnsupportedOperation):
                call()
    assert not file.isatty()


@pytest.mark.parametrize("of", ["volume", "view"])
def test_a_write_past_the_end_writes_what_fits_and_then_nothing_as_on_a_device(store, of):
    view = store.view(store.seq, writable=True)
    file = (store.volume if of == "volume" else view).as_file()
    file.seek(SIZE - 3)
    assert file.write(b"four") == 3
    assert file.tell() == SIZE
    before = store.seq
    for position in (SIZE, SIZE + 1, 2**70):
        file.seek(position)
        with pytest.raises(OSError) as full:
            file.write(b"x")
        assert full.value.errno == errno.ENOSPC
        assert file.write(b"") == 0
        assert file.tell() == position
    assert store.seq == before
    file.seek(-4, io.SEEK_END)
    assert file.read() == bytes([246]) + b"fou"
    view.close()


def test_a_buffered_write_past_the_end_fails_once_what_fits_is_there(store):
    file = io.BufferedRandom(store.volume.as_file(), buffer_size=512)
    file.seek(SIZE - 3)
    file.write(b"four")
    with pytest.raises(OSError) as full:
        file.flush()
    assert full.value.errno == errno.ENOSPC
    assert store.volume.read(SIZE - 3, 3) == b"fou"
    with pytest.raises(OSError):  # it tries again
        file.close()


def test_reading_looking_around_and_closing_adds_no_entry(store):
    with unchanged(store):
        with store.volume.as_file() as file:
            file.read(10)
            file.seek(3)
        store.volume.as_file().read(1)
        gc.collect()


def test_flush_adds_one_flush_entry_when_there_is_something_to_flush(store):
    file = store.volume.as_file()
    file.flush()
    assert store.journal.entries[-1]["kind"] == jrnl.Kind.FLUSH
    with unchanged(store):
        file.flush()
    file.write(b"x")
    file.flush()
    assert store.journal.entries[-1]["kind"] == jrnl.Kind.FLUSH


def test_a_closed_file_says_so(store):
    file = store.volume.as_file()
    file.close()
    file.close()
    assert file.closed
    for call in (
        file.tell,
        file.flush,
        file.readall,
        lambda: file.seek(0),
        lambda: file.read(1),
        lambda: file.readinto(bytearray(1)),
        lambda: file.write(b"x"),
    ):
        with pytest.raises(ValueError, match="closed"):
            call()


def test_a_file_outlives_its_store_harmlessly():
    store = jrnl.create(size=100)
    file, seen = store.volume.as_file(), store.view(0).as_file()
    file.write(b"abc")
    store.close()
    for call in (file.flush, lambda: file.read(1), lambda: file.write(b"x"), lambda: seen.read(1)):
        with pytest.raises(jrnl.StoreClosed):
            call()
    file.close()
    seen.close()


def test_buffered_files_work_over_a_volume(store):
    with io.BufferedRandom(store.volume.as_file(), buffer_size=512) as file:
        assert file.read(5) == bytes(range(5))
        file.write(b"hello")
        file.seek(0)
        assert file.read(10) == bytes(range(5)) + b"hello"
        file.seek(SIZE - 4)
        file.write(b"tail")
        file.flush()
        assert store.volume.read(SIZE - 4, 4) == b"tail"
        file.seek(5000)
        for _ in range(100):
            file.write(b"0123456789")
    assert store.volume.read(5000, 1000) == b"0123456789" * 100
    assert store.recover(1).read(5, 1) == b"\x05"


def test_a_zip_archive_can_live_in_a_volume():
    with jrnl.create(size="64KiB") as store:
        with zipfile.ZipFile(io.BufferedRandom(store.volume.as_file()), "w") as archive:
            archive.writestr("a.txt", "some text")
        state = store.seq
        store.volume.discard(0, store.volume.size)
        raw = store.view(state).as_file().readall().rstrip(b"\0")
        with zipfile.ZipFile(io.BytesIO(raw + bytes(64))) as archive:
            assert archive.read("a.txt") == b"some text"


def test_text_can_be_read_and_written_through_a_volume(store):
    store.volume.write_zeroes(0, SIZE)
    text = io.TextIOWrapper(io.BufferedRandom(store.volume.as_file()), "utf-8", newline="\n")
    text.write("naïve\nlines\n")
    text.flush()
    text.seek(0)
    assert [text.readline(), text.readline()] == ["naïve\n", "lines\n"]
    text.close()


@pytest.mark.parametrize("images", ["before", "after", "both"])
def test_a_long_write_is_split_into_as_few_entries_as_it_takes(images):
    with jrnl.create(size="64KiB", journal="64KiB", images=images) as store:
        largest = 14336 if images == "both" else 28672
        content = os.urandom(2 * largest + 1)
        file = store.volume.as_file()
        assert file.write(content) == len(content)
        assert store.volume.read(0, len(content)) == content
        lengths = store.journal.entries["length"].tolist()
        assert lengths[-2:] == [largest, 1]
        assert store.seq == 3


def test_a_write_that_the_journal_has_room_for_in_part_says_how_much_was_written():
    with jrnl.create(size="64KiB", journal="16KiB", overflow="refuse") as store:
        file = store.volume.as_file()
        assert file.write(bytes(30000)) == 14336
        assert file.tell() == 14336
        with unchanged(store), pytest.raises(jrnl.JournalFull):
            file.write(b"more")


def test_a_view_is_a_read_only_file_of_its_state(store):
    store.volume.write(0, b"later")
    with store.view(1) as view, view.as_file() as file:
        assert (file.readable(), file.writable(), file.seekable()) == (True, False, True)
        assert file.read(5) == bytes(range(5))
        with unchanged(store):
            with pytest.raises(jrnl.ReadOnlyStore, match="earlier state"):
                file.write(b"x")
            file.flush()
        buffered = io.BufferedReader(file)
        buffered.seek(-10, io.SEEK_END)
        assert buffered.read() == bytes(range(240, 250))
        view.close()
        with pytest.raises(jrnl.StoreClosed, match="view"):
            file.seek(0) and file.read(1)
            file.read(1)


def test_a_view_of_several_volumes_gives_a_file_of_each():
    with jrnl.create(volumes={"a": 100, "b": 50}) as store:
        store["b"].write(0, b"in b")
        view = store.view(1)
        assert view.as_file("b").readall() == b"in b" + bytes(46)
        assert len(view.as_file("a").readall()) == 100
        for volume in (None, "c"):
            with pytest.raises(jrnl.UnknownVolume, match="'a', 'b'"):
                view.as_file(volume)
