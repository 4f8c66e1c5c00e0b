"""A new journal's memory is faulted in ahead of the writer, by a thread that ends with the lap."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

import jrnl
from tests.model.places import ROOT

MIB = 1 << 20


def threads() -> int:
    return len(os.listdir("/proc/self/task"))


def resident() -> int:
    """Bytes."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGESIZE")


def becomes(true: Callable[[], bool]) -> bool:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        if true():
            return True
        time.sleep(0.001)
    return False


def fill(store: jrnl.Store, length: int) -> None:
    block = bytes(range(256)) * (MIB // 512)
    for at in range(0, length, len(block)):
        store.volume.write(at % store.volume.size, block)


def test_the_memory_is_there_before_the_writer():
    with jrnl.create(size=4 * MIB, journal=64 * MIB) as store:
        fill(store, 4 * MIB)  # both of the volume and of the journal
        before = resident()
        fill(store, 16 * MIB)
        assert becomes(lambda: resident() - before >= 24 * MIB)


def test_it_takes_no_more_than_twice_what_is_used():
    with jrnl.create(size=4 * MIB, journal=256 * MIB) as store:
        before = resident()
        fill(store, 8 * MIB)
        time.sleep(0.05)
        assert resident() - before < (4 + 2 * 8 + 8) * MIB


def ends_with_the_lap() -> None:
    before = threads()
    with jrnl.create(size=4 * MIB, journal=32 * MIB) as store:
        fill(store, 4 * MIB)
        assert becomes(lambda: threads() == before + 1)
        fill(store, 28 * MIB)
        assert becomes(lambda: threads() == before)
        fill(store, 64 * MIB)
        assert threads() == before


def not_for_a_small_or_unused_journal() -> None:
    before = threads()
    with jrnl.create(size=4 * MIB, journal=8 * MIB) as store:
        fill(store, 32 * MIB)
        assert threads() == before
    with jrnl.create(size=4 * MIB, journal=256 * MIB) as store:
        fill(store, MIB)
        assert threads() == before


def ends_before_the_store() -> None:
    before = threads()
    for length in range(2 * MIB, 8 * MIB, MIB // 2):
        store = jrnl.create(size=4 * MIB, journal=64 * MIB)
        fill(store, length)
        store.close()
        assert becomes(lambda: threads() == before)


@pytest.mark.parametrize(
    "what", [ends_with_the_lap, not_for_a_small_or_unused_journal, ends_before_the_store]
)
def test_the_thread(what: Callable[[], None]):
    """In a process of its own: threads of other tests may just be ending here."""
    command = f"from tests.core.test_prefault import {what.__name__} as what; what()"
    paths = [str(ROOT), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
    subprocess.run([sys.executable, "-c", command], cwd=ROOT, env=environment, check=True)


def test_a_forked_child_goes_on_without_it():
    with jrnl.create(size=4 * MIB, journal=64 * MIB) as store:
        fill(store, 4 * MIB)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # that there is a thread
            child = os.fork()
        if child == 0:
            status = 1
            try:
                fill(store, 48 * MIB)
                good = store.seq
                store.volume.write(0, b"child")
                store.rewind(good)
                store.close()
                status = 0
            finally:
                os._exit(status)
        assert os.waitpid(child, 0)[1] == 0
        fill(store, 48 * MIB)
