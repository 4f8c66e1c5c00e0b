"""Power cuts below real file systems: what the disk was told is recorded, and cut short.

A store lives on ext4, XFS or btrfs, on a disk that QEMU records; what the disk may hold at some
moment is then mounted again, and the store opened (F3, docs/testing.md). Needs root, loop devices,
FUSE, and the Debian packages qemu-utils, libnbd-bin, e2fsprogs, xfsprogs and btrfs-progs.
"""

from __future__ import annotations

import random
import warnings
from pathlib import Path

import pytest

import jrnl
from jrnl import crash, logwrites
from tests.conftest import PROFILE
from tests.crash import cut_life
from tests.crash.cut_disk import (
    IMAGE_BYTES,
    SYSTEMS,
    Disk,
    check,
    record,
)
from tests.model import tools
from tests.model.amount import SHARE
from tests.model.mounts import in_memory, lacking_right, mounted
from tests.model.tools import run

CUTS = {"short": 9, "default": 15, "long": 300}[PROFILE]
LONG_CUTS = 450


def need(name: str) -> None:
    """Skip where this machine cannot do it; in CI, packages have to be there."""
    tools.need(*SYSTEMS[name].tools, right=lacking_right(SYSTEMS[name].kind))


def cut_power(name: str, seed: int, folder: Path, count: int) -> None:
    """Record a life on a file system, and check what `count` power cuts leave of it."""
    life = cut_life.live(seed)
    with in_memory(folder / "memory") as memory:
        recording = record(memory, name, seed)
        with Disk(recording, memory) as disk:
            for cut in disk.cuts(random.Random(seed), count):
                try:
                    check(disk, cut, life, memory)
                except BaseException as error:
                    kept = folder / "recording"
                    recording.keep(kept)
                    drop = "" if cut.drop is None else f" {cut.drop}"
                    error.add_note(
                        f"replay: python -m tests.crash.cut_disk {kept} {cut.count}{drop}"
                    )
                    raise
            run("cmp", disk.replay(cut), recording.disk)  # the last one is the end


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_power_cut_below_a_file_system_leaves_a_whole_store(name, seed, tmp_path):
    need(name)
    cut_power(name, seed, tmp_path, CUTS)


@pytest.mark.long
@pytest.mark.parametrize("name", SYSTEMS)
def test_many_power_cuts_below_a_file_system_leave_a_whole_store(name, seed, tmp_path):
    need(name)
    cut_power(name, seed, tmp_path, LONG_CUTS // SHARE)


def test_a_store_is_whole_on_what_crash_states_leave_below_it(seed, tmp_path):
    """jrnl on itself: of what the disk below its own store was told, any subset may be lost."""
    need("ext4")
    life = cut_life.live(seed)
    with in_memory(tmp_path / "memory") as memory:
        recording = record(memory, "ext4", seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", logwrites.LogWarning)  # the end is not counted
            log = logwrites.attach(recording.log, size=IMAGE_BYTES, source=recording.base)

        def check(state):
            entry = log.entries[state.seq - 1]
            discard = entry["flags"] & logwrites.DISCARD
            end = int(entry["data"]) + (0 if discard else int(entry["length"]))
            image = memory / "state.img"
            run("cp", state.path(), image)
            with mounted(image, memory / "state", "ext4", "data=ordered") as root:
                cut_life.check(root / cut_life.FOLDER, life, recording.promised(end))

        with log:
            first = recording.promises[0].position
            start = int((log.entries["data"] <= first).sum()) + 1
            found = crash.campaign(log, check, start=start, mode="subset", limit=CUTS, seed=seed)
        assert found.ok, str(found)
        assert found.coverage.looked > CUTS // 2


def test_a_store_that_never_syncs_is_noticed(seed, tmp_path):
    """The test of the test: its files are not synced, and what it promised is not there."""
    need("ext4")
    life = cut_life.live(seed)
    with in_memory(tmp_path / "memory") as memory:
        recording = record(memory, "ext4", seed, "--deaf")
        with Disk(recording, memory) as disk, pytest.raises((AssertionError, jrnl.JrnlError)):
            for cut in disk.cuts(random.Random(seed), CUTS):
                check(disk, cut, life, memory)
