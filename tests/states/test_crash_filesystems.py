"""Two file systems in this process: littlefs is built for power cuts, pyfatfs is not."""

from __future__ import annotations

import importlib
import io
import os
import struct
import sys
import types
import warnings

import pytest

import jrnl
from jrnl import crash


def need(module, package):
    """Import what the `test` extra brings."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"needs {package} from PyPI: {error}")


# littlefs: a file is as it was when it was closed last, or as the write under way makes it.

BLOCK, BLOCKS = 1024, 48
SHAPE = {
    "block_size": BLOCK, "block_count": BLOCKS, "prog_size": 16, "read_size": 16,
    "cache_size": BLOCK,
}  # fmt: skip


@pytest.fixture(scope="module")
def littlefs():
    return need("littlefs", "littlefs-python")


def on_disk(littlefs, store):
    """The block device that littlefs is given: a store's volume, flushed where it says so."""
    disk = store.volume

    class Disk(littlefs.UserContext):
        def read(self, shape, block, offset, size):
            return bytearray(disk.read(block * BLOCK + offset, size))

        def prog(self, shape, block, offset, data):
            disk.write(block * BLOCK + offset, bytes(data))
            return 0

        def erase(self, shape, block):
            disk.write(block * BLOCK, b"\xff" * BLOCK)
            return 0

        def sync(self, shape):
            store.flush()
            return 0

    return Disk(buffsize=0)


class Life:
    """Files written on littlefs, one after the other, and what was promised of them, by seq."""

    def __init__(self, littlefs, syncs=True):
        self.littlefs = littlefs
        self.store = jrnl.create(size=BLOCK * BLOCKS, journal="4MiB")
        device = on_disk(littlefs, self.store)
        files = littlefs.LittleFS(device, mount=False, **SHAPE)
        files.format()
        files.mount()
        self.start = self.store.flush()
        if not syncs:
            device.sync = lambda shape: 0
        self.written = []
        for k in range(12):
            name, content = f"file {k % 3}", bytes([k]) * (700 * (k % 5) + 50)
            with files.open(name, "wb") as file:
                file.write(content)
            self.written.append((self.store.seq, name, content))
        files.unmount()

    def check(self, state):
        self.check_image(state.read(0, BLOCK * BLOCKS), state.acked)

    def check_image(self, image, acked):
        device = self.littlefs.UserContext(buffer=bytearray(image))
        files = self.littlefs.LittleFS(device, mount=False, **SHAPE)
        files.mount()
        promised = {name: content for seq, name, content in self.written if seq <= acked}
        under_way = [(name, content) for seq, name, content in self.written if seq > acked][:1]
        for name, content in promised.items():
            with files.open(name, "rb") as file:
                found = file.read()
            assert found == content or (name, found) in under_way, name


@pytest.mark.parametrize(("mode", "limit"), [("prefix", None), ("subset", None), ("torn", 400)])
def test_littlefs_mounts_whatever_is_left_of_it_and_has_what_it_promised(littlefs, mode, limit):
    life = Life(littlefs)
    found = crash.campaign(life.store, life.check, start=life.start, mode=mode, limit=limit)
    assert found.ok, str(found)
    assert found.coverage.exact == (limit is None)
    assert found.coverage.looked > 50


def test_littlefs_on_a_disk_that_is_never_flushed_is_found_to_lose_files(littlefs):
    life = Life(littlefs, syncs=False)
    last = life.store.seq
    life.store.flush()

    def check(state):
        life.check_image(state.read(0, BLOCK * BLOCKS), last)

    found = crash.campaign(life.store, check, start=last, mode="subset", failures_max=1)
    assert not found.ok


# pyfatfs: a directory names a file before the table of clusters knows of it.

FAT_SIZE = 256 << 10


@pytest.fixture(scope="module")
def pyfatfs():
    # It stands on `fs`, which asks setuptools' pkg_resources for one call; that is gone since 82.
    if importlib.util.find_spec("pkg_resources") is None:
        nothing = types.SimpleNamespace(declare_namespace=lambda name: None)
        sys.modules["pkg_resources"] = nothing
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        need("pyfatfs", "pyfatfs")
        return need("pyfatfs.PyFatFS", "pyfatfs")


@pytest.fixture
def fat(pyfatfs, tmp_path):
    """A volume with a FAT file system, one file in it, and the seq at which that was promised."""
    image = tmp_path / "fat.img"
    image.write_bytes(bytes(FAT_SIZE))
    maker = pyfatfs.PyFat()
    maker.mkfs(str(image), maker.FAT_TYPE_FAT12, FAT_SIZE)
    maker.close()
    store = jrnl.create(source=image, journal="4MiB")
    files = pyfatfs.PyFatBytesIOFS(store.volume.as_file())
    files.writebytes("kept.txt", b"kept " * 200)
    files.close()
    promised = store.flush()
    files = pyfatfs.PyFatBytesIOFS(store.volume.as_file())
    files.writebytes("new.txt", b"new " * 300)
    files.writebytes("newer.txt", b"newer " * 300)
    files.close()
    return store, promised


def fat_tag(store):
    boot = store.volume.read(0, 64)
    (reserved,), tables = struct.unpack_from("<H", boot, 14), boot[16]
    (sectors,) = struct.unpack_from("<H", boot, 22)
    root = (reserved + tables * sectors) * 512

    def tag(offset):
        if offset < reserved * 512:
            return "boot sector"
        if offset < root:
            return f"FAT {(offset // 512 - reserved) // sectors + 1}"
        return "root directory" if offset < root + 7168 else "file data"

    return tag


def fat_check(pyfatfs):
    def check(state):
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Filesystem was not cleanly unmounted")
            files = pyfatfs.PyFatBytesIOFS(io.BytesIO(state.read(0, FAT_SIZE)))
        found = {name: files.readbytes(name) for name in files.listdir("/")}
        assert found["kept.txt"] == b"kept " * 200

    return check


def test_pyfatfs_is_found_to_name_a_file_before_it_has_a_place(pyfatfs, fat):
    store, promised = fat
    tag = fat_tag(store)
    check = fat_check(pyfatfs)
    found = crash.campaign(store, check, start=promised, mode="prefix", tag=tag)
    assert not found.ok
    assert "FREE_CLUSTER mark found in FAT cluster chain" in found.failures[0].message
    assert found.failures[0].explanation.endswith("nothing is lost")  # it needs no reordering

    # At its end, with all that was written but for what a disk may still hold back.
    last = store.seq
    bad = next(
        state for state in crash.states(store, last, mode="subset", tag=tag) if fails(check, state)
    )
    small = crash.shrink(bad, check)
    assert {lost.tag for lost in small.lost} == {"FAT 1"}
    assert all(f"(FAT 1), after flush {promised}" in str(lost) for lost in small.lost)
    again = crash.state(store, small.id, tag=tag)
    assert again.explain() == small.explain()
    assert fails(check, again)


def fails(check, state):
    try:
        check(state)
    except Exception:
        return True
    return False
