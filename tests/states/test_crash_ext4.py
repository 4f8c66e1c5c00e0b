"""What a power cut leaves of ext4, as it was recorded, held against e2fsck.

`e2fsck -fn` on a file system that was not unmounted tells of all that its journal would put in
order. So the journal is replayed first, as a mount does, by `e2fsck -E journal_only`; that must not
stumble, and what is left then has to be without a fault. (The free counts of the superblock are
never right before a file system is unmounted; no fault, says its status.)
"""

from __future__ import annotations

import lzma
import os
import shutil
import struct
import subprocess

import pytest

from jrnl import crash, logwrites
from tests.model.places import DATA
from tests.model.traces import SIZE, TRACES

MADE = 299  # by this entry mke2fs has made the file system, and flushed it
ENVIRONMENT = {**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"}


@pytest.fixture
def is_whole():
    """A check: nothing is wrong with the file system once its journal has been replayed."""
    if shutil.which("e2fsck", path=ENVIRONMENT["PATH"]) is None:
        if os.environ.get("CI"):
            pytest.fail("needs the Debian package e2fsprogs")
        pytest.skip("needs the Debian package e2fsprogs")

    def run(*command):
        return subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=False)

    def check(state):
        path = state.path()
        replayed = run("e2fsck", "-y", "-E", "journal_only", path)
        said = replayed.stdout + replayed.stderr
        assert replayed.returncode in (0, 1), said
        assert "checksum" not in said, said  # a mount would stop there
        found = run("e2fsck", "-fn", path)
        assert found.returncode == 0, found.stdout + found.stderr

    return check


def tears_the_superblock(state):
    """Whether one half of ext4's superblock is lost, and the other one is there."""
    spans = [(max(lost.offset, 1024), min(lost.offset + lost.length, 2048)) for lost in state.lost]
    return any(stop - start == 512 for start, stop in spans)


@pytest.mark.parametrize("mode", ["prefix", "subset", "torn"])
@pytest.mark.parametrize("name", TRACES)
def test_ext4_is_whole_whatever_a_power_cut_leaves_of_it(is_whole, name, mode):
    def check(state):
        return tears_the_superblock(state) or is_whole(state)

    with logwrites.attach(DATA / f"{name}.log.xz", size=SIZE) as log:
        found = crash.campaign(log, check, start=MADE, mode=mode, limit=8)
    assert found.ok, str(found)
    assert found.coverage.looked > 6


def test_ext4_takes_it_that_its_superblock_of_two_sectors_is_not_torn(is_whole):
    """Its checksum is then wrong, and without a superblock nobody finds the journal."""
    with logwrites.attach(DATA / "ext4-docs.log.xz", size=SIZE) as log:
        state = crash.state(log, "315-t2ef2")
        assert len(state.lost) > 1
        small = crash.shrink(state, is_whole)
        assert small.id == "315-t2"
        assert tears_the_superblock(small)
        with pytest.raises(AssertionError, match="Superblock checksum does not match"):
            is_whole(small)


# In ext4-docs: the last of the blocks of a transaction in the journal, a flush, and the commit that
# makes them count.
BLOCKS, FLUSH, COMMIT = 376, 377, 378


def tag(offset):
    if not 16 << 20 <= offset < 20 << 20:
        return "outside the journal"
    return "commit" if offset == 16858112 else "journal"


def without_flush(path, seq):
    """A copy of the trace in which an entry is no flush."""
    with logwrites.read_log(DATA / "ext4-docs.log.xz") as log:
        header = int(log.entries["data"][seq - 1]) - 512
    content = bytearray(lzma.decompress((DATA / "ext4-docs.log.xz").read_bytes()))
    (flags,) = struct.unpack_from("<Q", content, header + 16)
    assert flags == logwrites.FLUSH
    struct.pack_into("<Q", content, header + 16, logwrites.METADATA)
    path.write_bytes(content)
    return path


def test_ext4_without_the_flush_before_a_commit_is_found_to_break(is_whole, tmp_path):
    path = without_flush(tmp_path / "log", FLUSH)
    bounds = {"start": FLUSH, "stop": COMMIT, "mode": "subset", "reduce": "pattern", "tag": tag}
    with logwrites.attach(path, size=SIZE) as log:
        found = crash.campaign(log, is_whole, failures_max=1, **bounds)
        assert not found.ok
        [failure] = found.failures
        small = crash.state(log, failure.shrunk)
        assert small.seq == COMMIT
        assert [lost.entry for lost in small.lost] == [BLOCKS]
        assert "(journal), after flush 311" in failure.explanation
        with pytest.raises(AssertionError, match="Invalid checksum recovering data block"):
            is_whole(small)
    with logwrites.attach(DATA / "ext4-docs.log.xz", size=SIZE) as log:
        assert crash.campaign(log, is_whole, **bounds).ok
