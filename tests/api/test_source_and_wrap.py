"""Volumes that begin with content, from files or callers' memory; and what sparse volumes cost."""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import jrnl

MIB = 1 << 20
IMAGES = ["before", "after", "both"]


def content_of(length: int, seed: int = 1) -> bytes:
    return np.random.default_rng(seed).integers(1, 256, length, np.uint8).tobytes()


def resident_bytes() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * mmap.PAGESIZE


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "golden.img"
    path.write_bytes(content_of(100_001))
    return path


# Sources


@pytest.mark.parametrize("images", IMAGES)
def test_state_0_is_the_files_content_and_nothing_of_it_is_journaled(source, images):
    content = source.read_bytes()
    with jrnl.create(source=source, journal="1MiB", images=images) as store:
        assert (store.volume.name, store.volume.size, store.seq) == ("data", 100_001, 0)
        assert store.journal.used == 0
        assert store.volume.read(0, 100_001) == content
        store.snapshot("golden")
        store.volume.write(50_000, b"changed")
        store.volume.discard(0, 10)
        assert store.recover(0).as_array().tobytes() == content
        assert store.recover(2, base="golden").read(0, 10) == bytes(10)
        assert store.digest(0) == store.digest("golden")
        assert store.verify().ok
    assert source.read_bytes() == content


def test_a_source_may_be_given_as_text_path_or_bytes(source):
    for path in (source, str(source), os.fsencode(source), f"{source.parent}/./{source.name}"):
        with jrnl.create(source=path) as store:
            assert store.volume.size == 100_001


def test_a_larger_volume_reads_as_zeroes_behind_its_source(source):
    with jrnl.create(source=source, size="1MiB") as store:
        assert store.volume.size == MIB
        assert store.volume.read(100_000, 10) == source.read_bytes()[-1:] + bytes(9)
        assert store.volume.read(MIB - 5, 5) == bytes(5)
        store.volume.discard(0, MIB)
        assert store.rewind(0).bytes == MIB
        assert store.volume.read(0, 100_001) == source.read_bytes()


def test_several_volumes_have_a_source_each_or_none(source, tmp_path):
    other = tmp_path / "log.img"
    other.write_bytes(b"log")
    with jrnl.create(source={"root": source, "log": other}) as store:
        assert [(name, volume.size) for name, volume in store.volumes.items()] == [
            ("root", 100_001),
            ("log", 3),
        ]
        assert store["log"].read(0, 3) == b"log"
    with jrnl.create(volumes={"log": 10, "free": 5}, source={"log": other}) as store:
        assert store["log"].read(0, 10) == b"log" + bytes(7)
        assert store["free"].read(0, 5) == bytes(5)
    with jrnl.create(volumes={"only": 10}, source=other) as store:
        assert store["only"].read(0, 4) == b"log\0"
    with jrnl.create(size=10, source={"named": other}) as store:
        assert store["named"].read(0, 4) == b"log\0"


def test_sources_that_are_none_are_refused(source, tmp_path):
    empty = tmp_path / "empty"
    empty.touch()
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    cases: list[tuple[dict[str, object], type[Exception], str]] = [
        ({"source": tmp_path / "missing"}, FileNotFoundError, "missing"),
        ({"source": tmp_path}, IsADirectoryError, str(tmp_path)),
        ({"source": empty}, jrnl.InvalidArgument, "empty.*at least one byte"),
        ({"source": pipe}, jrnl.InvalidArgument, "pipe' is neither a file nor a block device"),
        ({"source": "/dev/zero"}, jrnl.InvalidArgument, "'/dev/zero' is neither"),
        ({"source": 0}, jrnl.InvalidType, "int"),
        ({"source": source.open("rb")}, jrnl.InvalidType, "BufferedReader"),
        ({"source": [source]}, jrnl.InvalidType, "list"),
        ({"source": {"data": 0}}, jrnl.InvalidType, "int"),
        ({"source": {}}, jrnl.InvalidArgument, "at least one volume"),
        ({"source": {"a/b": source}}, jrnl.InvalidArgument, "'a/b'"),
        ({"source": {1: source}}, jrnl.InvalidType, "int"),
        ({"source": source, "size": 100_000}, jrnl.InvalidArgument, "100001 bytes.*100000"),
        ({"source": source, "volumes": {"a": 1}}, jrnl.InvalidArgument, "'a', which has 1"),
        ({"source": source, "volumes": {"a": "1MiB", "b": 1}}, jrnl.InvalidArgument, "several"),
        (
            {"source": {"c": source}, "volumes": {"a": "1MiB"}},
            jrnl.InvalidArgument,
            "source for 'c', but no such volume",
        ),
        (
            {"source": {"a": source, "b": source}, "size": "1MiB"},
            jrnl.InvalidArgument,
            "source for 'b'",
        ),
    ]
    for options, error, message in cases:
        with pytest.raises(error, match=message):
            jrnl.create(**options)
    os.fstat(0)  # and 0 was not closed
    if hasattr(cases[6][0]["source"], "close"):
        cases[6][0]["source"].close()


@pytest.fixture
def sparse(tmp_path: Path) -> Path:
    """A file of 8 GiB with three islands of data in it."""
    path = tmp_path / "sparse.img"
    with open(path, "wb") as file:
        file.truncate(8 << 30)
        for place in (0, 3 << 30, (8 << 30) - 4096):
            file.seek(place)
            file.write(content_of(4096, place % 1000))
    if os.stat(path).st_blocks * 512 > MIB:
        if os.environ.get("CI") == "true":
            pytest.fail(f"the file system of {tmp_path} keeps no holes, which this needs")
        pytest.skip("the file system keeps no holes")
    return path


def test_holes_of_a_source_cost_neither_memory_nor_time(sparse):
    before, start = resident_bytes(), time.perf_counter()
    with jrnl.create(source=sparse, journal="1MiB") as store:
        assert store.volume.size == 8 << 30
        for place in (0, 3 << 30, (8 << 30) - 4096):
            assert store.volume.read(place, 4096) == content_of(4096, place % 1000)
        assert store.volume.read(1 << 30, 4096) == bytes(4096)
        store.snapshot("start")
        store.volume.write(5 << 30, b"more")
        assert store.recover(0, base="start").read(5 << 30, 4) == bytes(4)
        assert store.rewind(0).bytes == 4
        assert resident_bytes() - before < 64 * MIB
    assert time.perf_counter() - start < 5


def test_a_source_with_a_hole_at_its_end_is_as_long_as_the_file(tmp_path):
    path = tmp_path / "tail"
    path.write_bytes(b"head")
    os.truncate(path, 10 * MIB + 7)
    with jrnl.create(source=path) as store:
        assert store.volume.size == 10 * MIB + 7
        assert store.volume.read(0, 5) == b"head\0"
        assert store.volume.read(10 * MIB, 7) == bytes(7)


def test_a_source_that_shrinks_while_it_is_read_gives_zeroes(tmp_path, monkeypatch):
    path = tmp_path / "shrinking"
    path.write_bytes(content_of(3 * MIB))
    real = os.lseek

    def shrink_then_seek(*arguments: int) -> int:
        os.truncate(path, MIB)
        return real(*arguments)

    monkeypatch.setattr(os, "lseek", shrink_then_seek)
    with jrnl.create(source=path) as store:
        assert store.volume.read(0, 3 * MIB) == content_of(3 * MIB)[:MIB] + bytes(2 * MIB)


def test_a_source_on_a_file_system_that_knows_no_holes_is_read_whole(source, monkeypatch):
    def no_holes(*arguments: int) -> int:
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(os, "lseek", no_holes)
    with jrnl.create(source=source, size="1MiB") as store:
        assert store.volume.read(0, 100_001) == source.read_bytes()


# Wrapping


def buffers(tmp_path: Path) -> dict[str, object]:
    (tmp_path / "mapped").write_bytes(bytes(4096))
    with open(tmp_path / "mapped", "r+b") as file:
        mapped = mmap.mmap(file.fileno(), 0)
    return {
        "bytearray": bytearray(4096),
        "memoryview": memoryview(bytearray(5000))[500:4596],
        "ndarray": np.zeros((8, 64), np.float64),
        "structured": np.zeros(512, [("Offset", "<u4"), ("O", "<u4")]),
        "anonymous map": mmap.mmap(-1, 4096),
        "file map": mapped,
    }


@pytest.mark.parametrize("images", IMAGES)
def test_a_callers_memory_is_adopted_without_a_copy(tmp_path, images):
    for kind, buffer in buffers(tmp_path).items():
        plain = memoryview(buffer).cast("B") if kind != "structured" else buffer.view(np.uint8).data
        plain[:4] = b"here"
        with jrnl.wrap(buffer, "1MiB", images=images) as store:
            assert (store.volume.name, store.volume.size, store.seq) == ("data", 4096, 0)
            store.snapshot("start")
            store.volume.write(2, b"new content")
            assert bytes(plain[:14]) == b"henew content\0"
            assert store.recover(0).read(0, 5) == b"here\0"
            assert store.recover(1, base="start").read(0, 5) == b"henew"
            if images != "after":
                assert store.rewind(0).bytes == 11
                assert bytes(plain[:5]) == b"here\0"
            assert store.verify().ok
        plain.release()


def test_memory_that_cannot_be_written_or_is_not_contiguous_is_not_adopted():
    cases: list[tuple[object, type[Exception], str]] = [
        (b"bytes", jrnl.InvalidArgument, "writable and C-contiguous"),
        (memoryview(bytearray(8)).toreadonly(), jrnl.InvalidArgument, "writable"),
        (np.frombuffer(bytes(8)), jrnl.InvalidArgument, "writable"),
        (mmap.mmap(-1, 4096, access=mmap.ACCESS_READ), jrnl.InvalidArgument, "writable"),
        (np.zeros(8)[::2], jrnl.InvalidArgument, "contiguous"),
        (np.zeros((2, 3), order="F"), jrnl.InvalidArgument, "contiguous"),
        (memoryview(bytearray(8))[::-1], jrnl.InvalidArgument, "contiguous"),
        (bytearray(), jrnl.InvalidArgument, "empty; a volume has at least one byte"),
        (np.zeros((0, 5)), jrnl.InvalidArgument, "empty"),
        (np.array([None]), jrnl.InvalidType, "Python objects"),
        ("text", jrnl.InvalidType, "str has no buffer"),
        (None, jrnl.InvalidType, "NoneType"),
        (4096, jrnl.InvalidType, "int"),
    ]
    for buffer, error, message in cases:
        with pytest.raises(error, match=message):
            jrnl.wrap(buffer)
    released = bytearray(8)
    for options in ({"images": "none"}, {"journal": 1}, {"overflow": "x"}, {"clock": 1}):  # lets go
        with pytest.raises(jrnl.JrnlError):
            jrnl.wrap(released, **options)
    released.append(1)


def test_two_stores_over_one_buffer_each_see_what_goes_around_them():
    buffer = bytearray(4096)
    with jrnl.wrap(buffer) as store:
        store.volume.write(0, b"journaled")
        store.snapshot("here").wait()
        buffer[100:103] = b"not"
        assert store.volume.read(100, 3) == b"not"
        assert store.view(0).read(100, 3) == b"not"  # as the documentation says
        assert store.recover(1, base="here").read(100, 3) == bytes(3)
        assert any("'here'" in problem for problem in store.verify().problems)


def test_a_mapped_file_is_journaled_in_place(tmp_path):
    path = tmp_path / "disk"
    path.write_bytes(bytes(8192))
    with open(path, "r+b") as file, mmap.mmap(file.fileno(), 0) as pages:
        with jrnl.wrap(pages) as store:
            store.volume.write(4096, b"on disk")
        del store
        pages.flush()
    assert path.read_bytes()[4096:4103] == b"on disk"


# What a large, sparse volume costs

HUGE = """
import resource, time, jrnl
start = time.perf_counter()
store = jrnl.create(size="1TiB", journal="1MiB", images={images!r})
volume, step = store.volume, (1 << 40) // 50
for k in range(50):
    volume.write(k * step, bytes([k + 1]) * 4096)
store.mark("here")
middle = store.seq // 2
{more}
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter() - start)
"""
BACK = """
with store.recover(middle) as recovery:
    assert recovery.read((middle - 1) * step, 4096) == bytes([middle]) * 4096
    assert recovery.read(middle * step, 4096) == bytes(4096)
    assert recovery.plan.bytes == 25 * 4096, recovery.plan
    assert recovery.restore().bytes == 25 * 4096
with store.view(1) as view:
    assert view.read(step, 4096) == bytes(4096)
assert store.rewind("here").bytes == 25 * 4096
assert store.rewind(0).bytes == 50 * 4096
with store.savepoint():
    volume.discard(0, 1 << 30)
    volume.write(1 << 39, b"x")
with volume.edit(1 << 38, 4096) as lent:
    lent[:] = 1
"""


@pytest.mark.parametrize(("images", "more"), [("before", BACK), ("both", BACK), ("after", "")])
def test_a_volume_of_a_tebibyte_costs_the_pages_that_are_touched(images, more):
    code = HUGE.format(images=images, more=more)
    plain = "import resource, jrnl; print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    results = [
        subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True)
        for text in (plain, code)
    ]
    before_kib = int(results[0].stdout)
    peak_kib, seconds = results[1].stdout.split()
    assert int(peak_kib) - before_kib < 64 * 1024
    assert float(seconds) < 5


def test_a_snapshot_of_a_sparse_volume_costs_what_was_written():
    before = resident_bytes()
    with jrnl.create(size="4GiB", journal="1MiB") as store:
        store.volume.write(3 << 30, b"x" * 4096)
        start = time.perf_counter()
        for k in range(10):
            store.snapshot(f"s{k}")
        store.volume.write(1 << 30, b"y")
        recovery = store.recover("s5", base="s5")
        assert recovery.read(3 << 30, 4) == b"xxxx"
        assert recovery.restore().bytes == 1
        assert time.perf_counter() - start < 5
        assert resident_bytes() - before < 128 * MIB


def test_sizes_and_offsets_beyond_4_gib_are_exact():
    with jrnl.create(size=(1 << 42) + 13, journal="1MiB") as store:
        volume = store.volume
        places = [(1 << 32) - 2, (1 << 40) + 1, (1 << 42) + 10, (1 << 31) - 3]
        for k, place in enumerate(places):
            volume.write(place, bytes([k + 1]) * 3)
        assert store.journal.entries["offset"].tolist() == places
        for k, place in enumerate(places):
            assert volume.read(place, 3) == bytes([k + 1]) * 3
            assert store.view(k).read(place, 3) == bytes(3)
        with pytest.raises(jrnl.OutOfBounds, match=str((1 << 42) + 13)):
            volume.write((1 << 42) + 11, b"abc")
        assert store.seq == 4
        assert volume.discard(1 << 41, 100 << 20) > 4


def test_several_buffers_are_wrapped_as_volumes_under_one_sequence():
    root, log = bytearray(b"r" * 4096), np.zeros(8192, np.uint8)
    with jrnl.wrap({"root": root, "log": log}, journal="64KiB") as store:
        assert {name: volume.size for name, volume in store.volumes.items()} == {
            "root": 4096, "log": 8192,
        }  # fmt: skip
        start = store.mark("start")
        store["root"].write(0, b"new")
        store["log"].write(100, b"line")
        assert root[:3] == b"new"
        assert bytes(log[100:104]) == b"line"
        store.rewind(start)
    assert root == b"r" * 4096
    assert not log.any()
    with pytest.raises(jrnl.InvalidArgument, match="the buffer of 'log' is empty"):
        jrnl.wrap({"root": root, "log": bytearray()})
    with pytest.raises(jrnl.InvalidArgument):
        jrnl.wrap({})
    with pytest.raises(jrnl.InvalidArgument):
        jrnl.wrap({"a/b": bytearray(10)})
