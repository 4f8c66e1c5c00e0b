"""`as_file()` passes for a file where Python takes one, whatever state it is of."""

from __future__ import annotations

import gzip
import io
import lzma
import mmap
import pickle
import random
import shutil
import tarfile
import zipfile
from contextlib import closing

import numpy as np
import pytest

import jrnl
from jrnl import crash, logwrites
from tests.model.logs import pack_log, write

SIZE = 256 << 10


@pytest.fixture
def store():
    with jrnl.create(size=SIZE, journal="1MiB") as made:
        yield made


@pytest.fixture
def file(store):
    return store.volume.as_file()


def tar(file: io.RawIOBase, mode: str) -> None:
    with tarfile.open(fileobj=file, mode=mode) as archive:
        for name, content in (("a", b"in a"), ("b", b"in b" * 1000)):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz", "w|", "w|bz2"])
def test_a_tar_archive_is_written_and_read_back_from_an_older_state(store, file, mode):
    tar(file, mode)
    made = store.seq
    store.volume.write(0, b"damage" * 1000)
    file, mode = store.view(made).as_file(), mode.replace("w", "r")
    with tarfile.open(fileobj=file, mode=mode) as archive:
        found = {info.name: archive.extractfile(info).read() for info in archive}
    assert found == {"a": b"in a", "b": b"in b" * 1000}


def test_a_zip_archive_needs_to_be_told_where_it_ends(store, file):
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a", b"in a" * 5000)
    end = file.tell()
    store.volume.write(end, b"what was there before" * 400)
    for state in (store, store.view(store.seq), store.recover(store.seq)):
        with pytest.raises(zipfile.BadZipFile):
            zipfile.ZipFile(state.volume.as_file())
        with zipfile.ZipFile(state.volume.as_file().part(0, end)) as archive:
            assert archive.testzip() is None
            assert archive.read("a") == b"in a" * 5000


def test_a_part_begins_and_ends_where_it_is_told(store, file):
    file.write(bytes(range(250)))
    part = file.part(10, 100)
    assert part.read() == bytes(range(10, 110))
    assert (part.seek(-1, io.SEEK_END), part.write(b"xyz")) == (99, 1)
    with pytest.raises(OSError, match="100 bytes"):
        part.write(b"more")
    assert store.volume.read(108, 4) == bytes([108]) + b"x" + bytes([110, 111])
    inner = part.part(50, 50)
    file.close()
    assert inner.read(3) == bytes([60, 61, 62])
    inner.flush()
    assert store.journal.entries[-1]["kind"] == jrnl.Kind.FLUSH
    assert file.closed
    assert part.part(100, 0).read() == b""
    for offset, length in ((-1, 5), (0, 101), (101, 0), (5, -1), (2**70, 1)):
        with pytest.raises(jrnl.OutOfBounds):
            part.part(offset, length)
    with pytest.raises(jrnl.InvalidType):
        part.part(0, 1.5)
    with pytest.raises(jrnl.StoreClosed):
        file.part(0, 1)
    with store.view(0) as view, pytest.raises(jrnl.ReadOnlyStore):
        view.as_file().part(0, 10).write(b"x")


def test_compressed_data_is_read_up_to_where_it_ends(store, file):
    store.volume.write(0, random.Random(1).randbytes(SIZE))
    with gzip.GzipFile(fileobj=file, mode="wb") as packed:
        packed.write(b"text" * 1000)
    end = file.tell()
    with gzip.GzipFile(fileobj=file.part(0, end)) as packed:
        assert packed.read() == b"text" * 1000
    file.seek(0)
    with lzma.LZMAFile(file, "wb") as packed:
        packed.write(b"text" * 1000)
    with lzma.LZMAFile(file.part(0, file.tell())) as packed:
        assert packed.read() == b"text" * 1000


def test_objects_and_arrays_are_saved_and_loaded(file):
    for buffered in (file, io.BufferedRandom(file)):
        buffered.seek(0)
        pickle.dump({"a": [1, 2, 3]}, buffered)
        np.save(buffered, np.arange(1000))
        np.savez_compressed(buffered, x=np.ones(10))
        buffered.flush()
        buffered.seek(0)
        assert pickle.load(buffered) == {"a": [1, 2, 3]}
        assert np.load(buffered).tolist() == [*range(1000)]


def test_what_needs_a_descriptor_or_another_size_says_that_it_cannot(file):
    for call in (
        lambda: mmap.mmap(file.fileno(), 0),
        lambda: np.fromfile(file, np.uint8, 3),
        lambda: np.arange(3).tofile(file),
        lambda: file.truncate(100),
    ):
        with pytest.raises(io.UnsupportedOperation):
            call()


def test_files_are_copied_from_and_to_a_volume(store, file, tmp_path):
    content = random.Random(2).randbytes(SIZE)
    shutil.copyfileobj(io.BytesIO(content), file)
    assert store.volume.read(0, SIZE) == content
    with open(tmp_path / "copy", "wb") as out:
        file.seek(0)
        shutil.copyfileobj(file, out)
    assert (tmp_path / "copy").read_bytes() == content
    with pytest.raises(OSError, match="cannot grow"):
        shutil.copyfileobj(io.BytesIO(b"x"), file)


def test_lines_come_one_by_one(store):
    text = b"first\nsecond\n\nfourth"
    store.volume.write(0, text)
    file = store.volume.as_file().part(0, len(text))
    assert [*file] == [b"first\n", b"second\n", b"\n", b"fourth"]
    file.seek(0)
    assert file.readline(3) == b"fir"
    assert file.readlines() == [b"st\n", b"second\n", b"\n", b"fourth"]
    file.seek(0)
    with io.TextIOWrapper(io.BufferedReader(file)) as lines:
        assert [*lines] == ["first\n", "second\n", "\n", "fourth"]
    store.volume.as_file().writelines([b"FIRST\n", b"S"])
    assert store.volume.read(0, 8) == b"FIRST\nSe"


def test_a_read_takes_no_more_memory_than_there_is_to_read(file, tmp_path):
    file.seek(SIZE - 5)
    assert file.read(2**62) == bytes(5)
    file.seek(SIZE + 2**70)
    assert (file.read(2**80), file.read(), file.readall()) == (b"", b"", b"")
    file.seek(3)
    assert len(file.read(None)) == SIZE - 3
    for size in ("1", 1.5, True):
        with pytest.raises(jrnl.InvalidType):
            file.read(size)
    (tmp_path / "log").write_bytes(pack_log([write(0, bytes(512))]))
    with logwrites.attach(tmp_path / "log", size=2**61) as large, pytest.raises(MemoryError):
        large.view(1).as_file().readall()


def test_a_read_that_fails_moves_nothing(store):
    with jrnl.create(size=SIZE, journal="16KiB") as other:
        other.volume.write(0, b"x" * 1000)
        with closing(other.view(0)) as view:
            file = view.as_file()
            file.seek(10)
            for _ in range(30):
                other.volume.write(0, b"y" * 1000)
            for call in (file.read, lambda: file.read(5), lambda: file.readinto(bytearray(3))):
                with pytest.raises(jrnl.PointExpired):
                    call()
            assert file.tell() == 10


@pytest.mark.parametrize("of", [bytes, bytearray, memoryview, np.array])
def test_any_buffer_is_written_and_read_into(store, of):
    numbers = np.arange(12, dtype=np.int32)
    shapes = {
        bytes: numbers.tobytes(),
        bytearray: bytearray(numbers.tobytes()),
        memoryview: memoryview(numbers).cast("B").cast("i", (3, 4)),
        np.array: numbers.reshape(2, 6),
    }
    data = shapes[of]
    for state in (store, store.view(store.seq, writable=True)):
        file = state.volume.as_file()
        file.seek(5)
        assert file.write(data) == 48
        assert file.tell() == 53
        assert state.volume.read(5, 48) == numbers.tobytes()
        back = np.zeros((3, 4), np.int32)
        file.seek(5)
        assert file.readinto(memoryview(back)) == 48
        assert back.ravel().tolist() == numbers.tolist()
        for bad in (memoryview(numbers)[::2], memoryview(bytes(9))[::2]):
            with pytest.raises(jrnl.InvalidArgument):
                file.write(bad)
        for bad in ("text", 5, None):
            with pytest.raises(jrnl.InvalidType):
                file.write(bad)
        for bad in (b"constant", memoryview(b"constant")):
            with pytest.raises((jrnl.InvalidType, jrnl.InvalidArgument)):
                file.readinto(bad)
        released = memoryview(bytearray(5))
        released.release()
        with pytest.raises((jrnl.InvalidArgument, ValueError)):
            file.write(released)
        assert file.tell() == 53


CONTENT = bytes(range(256)) * 16


def states(store, folder):
    """A state of each kind that shows CONTENT at the volume's start."""
    store.volume.write(0, CONTENT)
    store.flush()
    at = store.seq
    store.snapshot("here")
    (folder / "log").write_bytes(pack_log([write(0, CONTENT)]))
    log = logwrites.attach(folder / "log", size=SIZE)
    (last,) = [state.id for state in crash.states(store, start=at, stop=at)]
    return {
        "store": store,
        "view": store.view(at),
        "writable view": store.view(at, writable=True),
        "recovery": store.recover(at),
        "moving recovery": store.recover(at, undoable=True),
        "snapshot": store.snapshots["here"],
        "crash state": crash.state(store, last),
        "fork": crash.state(store, last).fork(),
        "log": log.view(1),
        "writable log": log.view(1, writable=True),
        "log's recovery": log.recover(1),
    }


def test_all_kinds_of_states_are_files(store, tmp_path):
    for name, state in states(store, tmp_path).items():
        file = state.volume.as_file()
        assert file.seekable() and file.readable()
        buffered = io.BufferedRandom(file) if file.writable() else io.BufferedReader(file)
        assert buffered.read(len(CONTENT)) == CONTENT, name
        buffered.seek(100)
        assert buffered.peek(1)[:1] == CONTENT[100:101]
        if file.writable():
            buffered.write(b"written")
            buffered.seek(99)
            assert buffered.read(9) == CONTENT[99:100] + b"written" + CONTENT[107:108], name
            assert state.volume.read(100, 7) == b"written"
        else:
            with pytest.raises(io.UnsupportedOperation):
                buffered.write(b"written")
        buffered.close()
        assert file.closed
        for call in (file.read, file.tell, lambda f=file: f.seek(0), lambda f=file: f.write(b"")):
            with pytest.raises((jrnl.StoreClosed, jrnl.ReadOnlyStore)):
                call()


def test_who_writes_through_a_file_can_see_it_in_another_one(store):
    with store.volume.as_file() as one, store.as_file() as other:
        one.write(b"seen")
        assert other.read(4) == b"seen"
    with pytest.raises(ValueError, match="closed"), one:
        pass
