"""File systems inside volumes: files of real ones, at any state, and hostile ones refused."""

from __future__ import annotations

import io
import os
import random
import shutil
import sqlite3
import struct
import subprocess
import sys
from contextlib import closing, suppress
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

import jrnl
from jrnl import logwrites
from jrnl.files import open_file_system
from tests.model.amount import more_in_long
from tests.model.traces import SIZE

MADE_BYTES = {"ext4": 8 << 20, "xfs": 300 << 20, "btrfs": 110 << 20}
PACKAGES = {"ext4": "e2fsprogs", "xfs": "xfsprogs", "btrfs": "btrfs-progs"}
LONG = bytes(range(256)) * 4000
NAME = os.fsdecode(b"n\xe4me")  # not UTF-8


def run(*words: object, stdin: bytes | None = None) -> bytes:
    done = subprocess.run([*map(str, words)], input=stdin, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def need(kind: str) -> None:
    """Skip where the package is not installed; in CI it has to be."""
    if shutil.which(f"mkfs.{kind}") is None:
        reason = f"needs the Debian package {PACKAGES[kind]}"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)


def make_tree(folder: Path) -> Path:
    """Make what each file system is filled with."""
    (folder / "sub" / "deeper").mkdir(parents=True)
    (folder / "short").write_bytes(b"short\n")
    (folder / "empty").write_bytes(b"")
    (folder / "sub" / "long").write_bytes(LONG)
    (folder / "sub" / "deeper" / "bottom").write_bytes(b"bottom")
    (folder / "sub" / "up").symlink_to("../short")
    (folder / "sub" / "round").symlink_to("round")
    (folder / "sub" / "away").symlink_to("/sub/deeper")
    with open(folder / "sparse", "wb") as file:
        file.seek(1 << 20)
        file.write(b"end")
    os.utime(folder / "short", (1_000_000_000, 1_000_000_000))
    return folder


def make(kind: str, folder: Path) -> Path:
    """Make an image of a file system that holds the tree, without mounting it."""
    need(kind)
    tree, image = make_tree(folder / "tree"), folder / f"{kind}.img"
    with open(image, "wb") as file:
        file.truncate(MADE_BYTES[kind])
    if kind == "ext4":
        (tree / NAME).write_bytes(b"named")
        run("mkfs.ext4", "-q", "-d", tree, image)
    elif kind == "btrfs":
        (tree / NAME).write_bytes(b"named")
        run("mkfs.btrfs", "-q", "--rootdir", tree, image)
    else:
        (folder / "proto").write_text(prototype(tree))
        run("mkfs.xfs", "-q", "-p", folder / "proto", image)
    return image


def prototype(folder: Path) -> str:
    """What mkfs.xfs is told of a tree."""

    def lines(folder: Path):
        for path in sorted(folder.iterdir()):
            if path.is_symlink():
                yield f"{path.name} l--777 0 0 {os.readlink(path)}"
            elif path.is_dir():
                yield f"{path.name} d--755 0 0"
                yield from lines(path)
                yield "$"
            else:
                yield f"{path.name} ---644 0 0 {path}"

    return "\n".join(["/", "0 0", "d--755 0 0", *lines(folder), "$", ""])


def content(fs: jrnl.files.FileSystem, path: str | bytes) -> bytes:
    out = io.BytesIO()
    assert fs.cat(path, out) == len(out.getvalue())
    return out.getvalue()


@pytest.mark.parametrize("kind", MADE_BYTES)
def test_what_mkfs_has_put_there_is_read_in_an_older_state(tmp_path, kind):
    image = make(kind, tmp_path)
    with jrnl.create(size=MADE_BYTES[kind], source=None, journal="64MiB") as store:
        write_image(store, image)
        store.mark("made")
        store.volume.write(0, b"\xff" * (1 << 20))
        with pytest.raises(jrnl.FormatError, match="neither ext2"):
            open_file_system(store.volume)
        with store.view("made") as view:
            fs = open_file_system(view)
            assert fs.kind == kind
            assert fs.unclean in ((None,) if kind == "xfs" else (False,))
            check_tree(fs, named=kind != "xfs")


def write_image(store: jrnl.Store, image: Path) -> None:
    """Write what a sparse file holds."""
    with open(image, "rb") as file:
        end = 0
        with suppress(OSError):  # ENXIO: no more data
            while True:
                start = os.lseek(file.fileno(), end, os.SEEK_DATA)
                end = os.lseek(file.fileno(), start, os.SEEK_HOLE)
                for offset in range(start, end, 1 << 20):
                    piece = os.pread(file.fileno(), min(1 << 20, end - offset), offset)
                    store.volume.write(offset, piece)


def check_tree(fs: jrnl.files.FileSystem, *, named: bool) -> None:
    names = ["empty", "short", "sparse", "sub"] + [NAME] * named
    found = {entry.name: entry for entry in fs.ls()}
    assert sorted(found.keys() - {"lost+found"}) == sorted(names)
    assert [*found] == sorted(found)
    assert (found["short"].type, found["short"].size) == ("file", 6)
    if named:  # mkfs.xfs does not keep times
        assert found["short"].mtime == datetime(2001, 9, 9, 1, 46, 40, tzinfo=UTC)
        assert content(fs, NAME) == content(fs, os.fsencode(NAME)) == b"named"
    below = {path: entry.type for path, entry in fs.walk("/sub")}
    assert below == {
        "/sub/away": "link",
        "/sub/deeper": "dir",
        "/sub/deeper/bottom": "file",
        "/sub/long": "file",
        "/sub/round": "link",
        "/sub/up": "link",
    }
    assert {path for path, _ in fs.walk() if path.startswith("/sub/")} == set(below)
    assert content(fs, "short") == content(fs, "/sub/up") == b"short\n"
    assert content(fs, "sub/long") == content(fs, "/sub/./deeper/../long") == LONG
    assert content(fs, "/sub/away/bottom") == content(fs, "sub/away/../deeper/bottom") == b"bottom"
    assert content(fs, "empty") == b""
    assert content(fs, "sparse") == bytes(1 << 20) + b"end"
    assert [entry.name for entry in fs.ls("/sub/up")] == ["short"]
    for path, told in (
        ("/nobody", "no 'nobody'"),
        ("/short/x", "'short' is not a directory"),
        ("/sub/round", "40 links"),
    ):
        with pytest.raises(jrnl.UnknownPath, match=told):
            fs.ls(path)
    with pytest.raises(jrnl.UnknownPath, match="'dir'"):
        fs.cat("/sub", io.BytesIO())
    with pytest.raises(jrnl.UnknownPath, match="not a directory"):
        [*fs.walk("short")]
    with pytest.raises(jrnl.FormatError, match="size_max"):
        fs.cat("sub/long", io.BytesIO(), size_max=1000)


def test_files_of_a_recorded_history_are_what_debugfs_says_they_are(unpack):
    need("ext4")
    log = logwrites.attach(unpack("ext4-docs"), size=SIZE)
    with log, log.view(log.seq) as view:
        fs = open_file_system(view.volume)
        assert (fs.kind, fs.unclean) == ("ext4", False)
        found = [(path, entry) for path, entry in fs.walk() if entry.type == "file"]
        assert len(found) == 85
        for path, entry in found[::7]:
            expected = run("debugfs", "-R", f'cat "{path}"', view.path())
            assert content(fs, path) == expected
            assert entry.size == len(expected)


def test_each_mark_of_a_recorded_history_has_its_own_files(unpack):
    with jrnl.create(size=SIZE, journal="128MiB") as store:
        seqs = logwrites.replay(unpack("ext4-docs"), store.volume)
        found = {}
        for k in (304, 366, 399):
            with store.view(int(seqs[k])) as view:
                found[k] = {path for path, _ in open_file_system(view).walk()}
        assert [len(found[k]) for k in found] == [1, 18, 110]
        assert "/apt" in found[366]
        assert "/apt" not in found[399]
        with pytest.raises(jrnl.FormatError, match="neither"):
            open_file_system(store.view(0))


def as_mounted(image: Path, path: str) -> bytes:
    """A file as it is once e2fsck has applied the journal, and mended what is left."""
    done = subprocess.run(["e2fsck", "-fy", image], capture_output=True, check=False)
    assert done.returncode in (0, 1), done.stdout
    return run("debugfs", "-R", f"cat {path}", image)


def test_what_a_journal_holds_is_shown_in_place(unpack, tmp_path):
    need("ext4")
    with logwrites.attach(unpack("ext4-sqlite"), size=SIZE) as log:
        for seq, count in ((560, 34), (1456, 124), (2128, 158), (2240, 162)):
            with log.view(seq) as view:
                fs = open_file_system(view)
                assert fs.unclean == (fs.applied > 0) == (seq < 2240)
                for name in ("t.db", "t.db-wal") if fs.unclean else ("t.db",):
                    (tmp_path / name).write_bytes(content(fs, name))
                with closing(sqlite3.connect(tmp_path / "t.db")) as base:
                    (table,) = base.execute("select name from sqlite_master").fetchone()
                    assert base.execute(f"select count(*) from {table}").fetchone() == (count,)
                if fs.unclean:
                    image = tmp_path / "image"
                    shutil.copyfile(view.path(), image)
                    assert content(fs, "t.db-wal") == as_mounted(image, "t.db-wal")
                    plain = open_file_system(view, journal=False)
                    assert (plain.applied, plain.unclean) == (0, True)
                    assert [entry.name for entry in plain.ls()] == ["lost+found"]


def journal_place(view: jrnl.State) -> int:
    """The byte of the volume where the journal begins."""
    image = view.read(0, view.volume.size)
    magic = struct.pack(">III", 0xC03B3998, 4, 0)
    (place,) = [at for at in range(0, len(image), 1024) if image[at : at + 12] == magic]
    return place


@pytest.mark.parametrize(
    ("byte", "value", "told"),
    [
        (0, 0, "does not begin as one"),
        (43, 0xFF, "features"),
        (12, 0xFF, "where it begins"),
        (28, 0xFF, "where it begins"),
    ],
)
def test_a_journal_that_cannot_be_read_is_told_and_can_be_left_out(unpack, byte, value, told):
    log = logwrites.attach(unpack("ext4-sqlite"), size=SIZE)
    with log, log.view(1008, writable=True) as view:
        view.volume.write(journal_place(view) + byte, bytes([value]))
        with pytest.raises(jrnl.FormatError, match=told):
            open_file_system(view)
        fs = open_file_system(view, journal=False)
        assert [entry.name for entry in fs.ls()] == ["lost+found"]


def test_a_transaction_that_is_not_whole_does_not_count(unpack):
    log = logwrites.attach(unpack("ext4-sqlite"), size=SIZE)
    with log, log.view(1008, writable=True) as view:
        place = journal_place(view)
        (start,) = struct.unpack(">I", view.read(place + 28, 4))
        assert open_file_system(view).applied == 9
        for block in range(start, start + 3):  # its descriptor, and two blocks of it
            at = place + 1024 * block + 600
            (byte,) = view.read(at, 1)
            view.volume.write(at, bytes([byte ^ 1]))
            fs = open_file_system(view)
            assert (fs.applied, [entry.name for entry in fs.ls()]) == (0, ["lost+found"])
            view.volume.write(at, bytes([byte]))


def test_without_dissect_it_is_said_what_to_install(unpack, monkeypatch):
    monkeypatch.setitem(sys.modules, "dissect.extfs.extfs", None)
    log = logwrites.attach(unpack("ext4-docs"), size=SIZE)
    with log, pytest.raises(jrnl.MissingPackage, match=r"pip install 'jrnl-engine\[files\]'"):
        open_file_system(log.view(log.seq))


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """An image of each kind, once."""
    made: dict[str, bytes] = {}

    def image(kind: str) -> bytearray:
        if kind not in made:
            made[kind] = make(kind, tmp_path_factory.mktemp(kind)).read_bytes()
        return bytearray(made[kind])

    return image


def read_all(state: jrnl.State) -> None:
    """Read whatever there is of a file system that may be damaged."""
    out = io.BytesIO()
    fs = open_file_system(state)
    for path, entry in fs.walk():
        if entry.type == "file":
            try:
                fs.cat(path, out)
            except (jrnl.FormatError, jrnl.UnknownPath):
                continue


@more_in_long("count", 25, 1000)
@pytest.mark.parametrize("kind", MADE_BYTES)
def test_a_damaged_file_system_is_read_or_refused(images, kind, count, seed):
    numbers = random.Random(seed)
    image = images(kind)
    held = (np.frombuffer(image, np.uint64).reshape(-1, 64).any(axis=1).nonzero()[0] * 512).tolist()
    store = jrnl.wrap(image, journal="1MiB")
    for _ in range(count):
        with store.view(0, writable=True) as view:
            for _ in range(numbers.randrange(1, 40)):
                place = numbers.choice(held) + numbers.randrange(0, 512, 4)
                junk = [b"\xff" * 4, bytes(4), b"\1\0\0\0", numbers.randbytes(4)]
                view.write(place, numbers.choice(junk))
            with suppress(jrnl.FormatError):
                read_all(view)


def changed(images, folder: Path, *requests: str) -> bytearray:
    """An image of ext4 in which debugfs has changed what the kernel would never write."""
    path = folder / "changed.img"
    path.write_bytes(images("ext4"))
    for request in requests:
        run("debugfs", "-w", "-R", request, path)
    return bytearray(path.read_bytes())


def index_block(child: int) -> bytes:
    """A block of an extent tree, of 1 KiB, that leads to the same block again and again."""
    count = 84
    head = struct.pack("<4HI", 0xF30A, count, count, 1, 0)
    return (head + struct.pack("<IIHH", 0, child, 0, 0) * count).ljust(1024, b"\0")


@pytest.mark.parametrize("blocks", [[7000, 7000], [7000, 7001, 7002, 7003, 7004, 7005, 7006]])
def test_a_tree_that_leads_nowhere_is_not_followed_for_ever(images, tmp_path, blocks):
    fields = {0: 0x0001F30A, 1: 0x00010004, 3: 0, 4: blocks[0], 5: 0}
    image = changed(
        images, tmp_path, *(f"sif short block[{k}] {value}" for k, value in fields.items())
    )
    image[blocks[-1] * 1024 : blocks[-1] * 1024 + 8] = b"\x0a\xf3".ljust(
        8, b"\0"
    )  # no entries, no level below
    for block, child in pairwise(blocks):
        image[block * 1024 : (block + 1) * 1024] = index_block(child)
    with jrnl.wrap(image, journal="16KiB") as store:
        fs = open_file_system(store)
        assert content(fs, "sub/deeper/bottom") == b"bottom"
        with pytest.raises(jrnl.FormatError, match="back into itself"):
            fs.cat("short", io.BytesIO())
        assert content(fs, "sub/deeper/bottom") == b"bottom"


def test_a_size_that_cannot_be_is_refused(images, tmp_path):
    image = changed(
        images, tmp_path, f"sif short size {2**50}", f"sif sub size {2**50}", "sif empty size 5000"
    )
    with jrnl.wrap(image, journal="16KiB") as store:
        fs = open_file_system(store)
        with pytest.raises(jrnl.FormatError, match="size_max"):
            fs.cat("short", io.BytesIO())
        for path in ("sub", "sub/long"):
            with pytest.raises(jrnl.FormatError, match="more than the volume"):
                fs.ls(path)
        assert content(fs, "empty") == bytes(5000)  # sparse
        sizes = {entry.name: entry.size for entry in fs.ls()}
        assert sizes["short"] == sizes["sub"] == 2**50


def test_a_directory_that_has_itself_is_entered_once(images, tmp_path):
    image = changed(images, tmp_path, "ln sub sub/deeper/again", "ln / sub/top")
    with jrnl.wrap(image, journal="16KiB") as store:
        paths = [path for path, _ in open_file_system(store).walk()]
    assert len(paths) == len(set(paths))
    assert "/sub/deeper/again" in paths
    assert "/sub/top" in paths
    assert not any(path.startswith(("/sub/deeper/again/", "/sub/top/")) for path in paths)


def test_a_root_that_is_a_file_and_a_magic_alone_are_no_file_system(images, tmp_path):
    store = jrnl.wrap(changed(images, tmp_path, "sif / mode 0100644"), journal="16KiB")
    with store, pytest.raises(jrnl.FormatError, match="root"):
        open_file_system(store)
    for place, magic in ((0, b"XFSB"), (0x10040, b"_BHRfS_M"), (0x438, b"\x53\xef")):
        with jrnl.create(size="1MiB", journal="16KiB") as store:
            store.volume.write(place, magic)
            with pytest.raises(jrnl.FormatError, match="cannot be read"):
                open_file_system(store.volume)
    with jrnl.create(size=10, journal="16KiB") as store:
        with pytest.raises(jrnl.FormatError, match="neither"):
            open_file_system(store.volume)
        for bad in (b"bytes", store.volume.name, None):
            with pytest.raises(jrnl.InvalidType):
                open_file_system(bad)


def test_what_happens_to_the_state_is_told_as_that(images):
    with jrnl.create(size=MADE_BYTES["ext4"], journal="64KiB") as store:
        image = images("ext4")
        file = store.volume.as_file()
        for start in range(0, len(image), 4096):
            if any(image[start : start + 4096]):
                file.seek(start)
                file.write(image[start : start + 4096])
        view = store.view(store.seq)
        fs, now = open_file_system(view), open_file_system(store)
        for _ in range(40):
            store.volume.write(0, b"\xff" * 4096)
        for call in (fs.ls, lambda: fs.cat("sub/long", io.BytesIO()), lambda: [*fs.walk()]):
            with pytest.raises(jrnl.PointExpired):
                call()
    with pytest.raises(jrnl.StoreClosed):
        now.ls("/sub")


def test_what_the_reader_raises_comes_through(images):
    class Full:
        def write(self, data: bytes) -> None:
            raise OSError("full")

    store = jrnl.wrap(images("ext4"), journal="16KiB")
    with store, pytest.raises(OSError, match="full"):
        open_file_system(store).cat("short", Full())


def test_a_file_system_in_a_partition_is_read_through_a_part(images):
    image = images("ext4")
    with jrnl.create(size=(1 << 20) + len(image), journal="32MiB") as store:
        store.volume.as_file().part(1 << 20, len(image)).write(image)
        with pytest.raises(jrnl.FormatError, match="part"):
            open_file_system(store)
        fs = open_file_system(store.as_file().part(1 << 20, len(image)))
        assert content(fs, "short") == b"short\n"
