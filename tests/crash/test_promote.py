"""A promotion that a kill or a power cut breaks off: all of it or nothing."""

from __future__ import annotations

import random

import pytest

from jrnl.disk import open as opening
from tests.crash.directed import kills, small
from tests.crash.workload import STORE

SIZE = 65536


@pytest.mark.parametrize("images", ["both", "after"])
@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("flushed", [False, True])
def test_what_is_left_of_a_promotion_is_all_of_it_or_nothing(images, force, flushed):
    chance = random.Random(4)
    disk, store = small(images=images, journal=1 << 18)
    states = {0: bytes(SIZE)}
    store.snapshot("base").wait()
    for _ in range(4):
        store.volume.write(chance.randrange(SIZE - 900), chance.randbytes(900))
        states[store.seq] = store.volume.read(0, SIZE)
    view = store.view(store.seq, writable=True)
    for _ in range(6):
        view.volume.write(chance.randrange(SIZE - 3000), chance.randbytes(3000))
    if force:
        store.volume.write(5, b"moved on")
    if flushed:
        store.flush()
    before, low = store.volume.read(0, SIZE), store.seq if flushed else 0
    states[store.seq] = before
    left = list(kills(disk, lambda: view.promote(force)))
    after = store.volume.read(0, SIZE)
    assert after != before and len(left) > 10
    found = {after_crash(one, states, before, after, low) for one in left}
    assert found >= {"nothing", "all"}


def after_crash(disk, states, before, after, low) -> str:
    store = opening.open_in(disk.place(), STORE, overlay=SIZE)
    content = store.volume.read(0, SIZE)
    assert store.problems == [] and store.verify().ok
    for recovery in list(store.recoveries.values()):  # what an undone promotion leaves
        if content == before:
            recovery.restore()
            assert store.volume.read(0, SIZE) == after
            store.recover(recovery.seq).close()
        recovery.close()
    store.close()
    if content == after:
        return "all"
    if content == before:
        return "nothing"
    assert content in [state for seq, state in states.items() if seq >= low]
    return "earlier"
