"""Production as a base by its name, and a recovery's file for other programs."""

import os
import subprocess
import sys
import time

import pytest

import jrnl
from jrnl.cli import main
from tests.model.places import DATA

TRACE = DATA / "ext4-sqlite.log.xz"


def test_a_plans_base_can_be_asked_for():
    store = jrnl.create(size=8192, journal="16KiB")
    store.snapshot("start")
    for k in range(4):
        store.volume.write(k, b"x")
    for base in ("production", "start"):
        assert store.plan(2, base=base).base == base
        assert store.recover(2, base=base).read(0, 4) == b"xx\0\0"


def test_the_file_of_a_recovery_of_a_large_volume_takes_room_and_time_for_what_was_written():
    store = jrnl.create(size="1TiB", journal="1MiB")
    store.volume.write(3 << 38, b"there")
    store.volume.write(3 << 38, b"again")
    with store.recover(1) as recovery:
        start = time.process_time()
        path = recovery.path()
        assert time.process_time() - start < 20  # walking all of it takes minutes
        facts = os.stat(path)
        assert facts.st_size == 1 << 40
        assert facts.st_blocks * 512 <= 4 << 20
        with open(path, "rb") as file:
            file.seek(3 << 38)
            assert file.read(6) == b"there\0"


def test_the_file_of_a_state_has_room_for_the_blocks_that_are_not_zero():
    store = jrnl.create(size="1GiB", journal="1MiB")
    for k in range(16):
        store.volume.write(k << 26, b"x")
    assert os.stat(store.view(16).path()).st_blocks * 512 <= 16 * 4096


def test_a_rewind_that_is_refused_says_which_state_is_in_the_way():
    store = jrnl.create(size=8192, journal="16KiB")
    for k in range(4):
        store.volume.write(k, b"x")
    with store.view(3), pytest.raises(jrnl.PinnedPoint, match="state 3"):
        store.rewind(1)


def test_the_demo_ends_quietly_when_its_reader_goes():
    command = [sys.executable, "-m", "jrnl", "demo", str(TRACE)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as demo:
        demo.stdout.close()
        assert demo.stderr.read() == b""
        assert demo.wait() == 1


def full(store):
    for _ in range(60):
        store.volume.write(0, b"x" * 1000)
    return store


def test_a_rewind_to_a_snapshot_older_than_the_window_says_what_to_do_instead():
    store = jrnl.create(size=8192, journal="16KiB")
    taken = store.snapshot("old")
    full(store)
    for point in ("old", taken, 0):
        with pytest.raises(jrnl.PointExpired, match=r"'old' now.* recover it and restore"):
            store.rewind(point)
    store.recover("old").restore()
    assert store.volume.read(0, 8192) == bytes(8192)


def test_a_base_that_leads_nowhere_is_told_apart_from_no_base():
    store = jrnl.create(size=8192, journal="16KiB")
    store.snapshot("old")
    full(store)
    with pytest.raises(jrnl.PointExpired, match="leave base out"):
        store.recover(store.seq, base="old")
    assert store.recover(store.seq).seq == store.seq


@pytest.mark.parametrize("name", ["ext4-sqlite", "ext4-docs"])
def test_the_demo_checks_one_way_against_another(name, capsys):
    assert main(["demo", str(TRACE.with_name(f"{name}.log.xz"))]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    planned = lines["plan"].split("from '")[1].split("'")[0]
    checked = lines["cross-check"].split("from '")[1].split("'")[0]
    assert {planned, checked} == {"production", "start"}
    assert "ext4" in lines["replay"]
    assert "re-recover" in lines
