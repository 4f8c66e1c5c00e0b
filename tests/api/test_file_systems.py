"""File systems inside volumes: files of real ones, at any state, and hostile ones refused."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

import jrnl
from jrnl import logwrites
from jrnl.files import open_file_system
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
    with open(image, "rb") as file:
        for offset in range(0, store.volume.size, 1 << 20):
            piece = file.read(1 << 20)
            if piece.strip(b"\0"):
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
        for k in (320, 366, 399):
            with store.view(int(seqs[k])) as view:
                found[k] = {path for path, _ in open_file_system(view).walk()}
        assert [len(found[k]) for k in found] == [18, 18, 110]
        assert "/apt" in found[320]
        assert "/apt" not in found[399]
        with pytest.raises(jrnl.FormatError, match="neither"):
            open_file_system(store.view(0))


def test_without_dissect_it_is_said_what_to_install(unpack, monkeypatch):
    monkeypatch.setitem(sys.modules, "dissect.extfs.extfs", None)
    log = logwrites.attach(unpack("ext4-docs"), size=SIZE)
    with log, pytest.raises(jrnl.MissingPackage, match=r"pip install 'jrnl-engine\[files\]'"):
        open_file_system(log.view(log.seq))
