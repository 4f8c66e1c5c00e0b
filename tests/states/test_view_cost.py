"""What a view takes: memory by what was overwritten since, whatever the volume's size."""

from __future__ import annotations

import gc
import os
from pathlib import Path

import numpy as np
import pytest

import jrnl
from tests.model.apart import run_apart

MIB = 1 << 20
BLOCK = 4096
ENTRIES = 1000
VIEWS = 16


def resident_bytes() -> int:
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize("place", ["memory", "disk"])
def test_a_view_takes_less_than_a_hundredth_of_the_volume(place, tmp_path):
    size = 64 * MIB
    path = None if place == "memory" else tmp_path / "store"
    with jrnl.create(path, size=size, journal="32MiB", images="both") as store:
        store.volume.write(0, b"\1" * MIB)
        at = store.seq
        offsets = np.random.default_rng(1).choice(size // BLOCK, ENTRIES, replace=False) * BLOCK
        for offset in offsets.tolist():
            store.volume.write(offset, b"\2" * BLOCK)
        store.view(at).close()  # what the first one leaves behind is not counted
        before = resident_bytes()
        views = [store.view(at) for _ in range(VIEWS)]
        grown = (resident_bytes() - before) / VIEWS
        assert grown < size / 100
        for view in views:
            assert view.read(0, MIB) == b"\1" * MIB
            view.close()


MANY_VIEWS = """
import jrnl

with jrnl.create(size="4MiB", journal="1MiB") as store:
    for k in range(200):
        store.volume.write(k * 4096, b"x" * 512)
    for _ in range(100):
        store.view(0).close()
    before = bytes_held()
    for _ in range(2000):
        store.view(0).close()
    print(bytes_held() - before)
"""


def test_many_views_made_and_closed_leave_nothing_behind():
    assert int(run_apart(MANY_VIEWS)) < MIB
