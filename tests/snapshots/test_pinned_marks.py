"""Pinned marks beside snapshots: which of these leads to a mark's state, and may not be deleted."""

from __future__ import annotations

import pytest

import jrnl
from jrnl import JournalFull, PinnedPoint
from tests.model.disk_twin import BLOCK, DiskTwin
from tests.model.twin import Twin


@pytest.mark.parametrize("overflow", ["evict", "fold", "refuse"])
def test_an_opening_does_not_count_on_a_snapshot_of_some_volumes(folder, overflow):
    """With after-images alone it leads to no state of all of them."""
    store = jrnl.create(folder / "s", volumes={"a": 1 << 14, "b": 1 << 14}, journal=1 << 16,
                        images="after", overflow=overflow)  # fmt: skip
    store["b"].write(0, b"before")
    whole = store.snapshot("whole", pinned=True)
    for name in {*store.snapshots} - {"whole"}:  # a fold's own
        store.snapshots[name].delete()
    store["b"].write(100, b"between")
    store.snapshot("part", volumes=["a"])
    mark = store.mark("safe", pinned=True)
    wanted = store["b"].read(0, 1 << 14)
    assert [pin.needs for pin in store.pins] == [whole.seq]
    for mode in ("r", "r+"):
        store.close()
        store = jrnl.open(folder / "s", mode)
        assert [pin.needs for pin in store.pins] == [whole.seq]
    with pytest.raises(JournalFull):
        for k in range(1000):
            store["b"].write(k % 10 * 1000, bytes([k % 251 + 1]) * 1000)
    with store.recover(mark) as recovery:
        assert recovery.read(0, 1 << 14, "b") == wanted
    store.snapshots["part"].delete()
    with pytest.raises(PinnedPoint, match="'whole'"):
        store.snapshots["whole"].delete()
    store.close()


@pytest.mark.parametrize("overflow", ["evict", "fold", "refuse"])
@pytest.mark.parametrize("place", [Twin, DiskTwin])
def test_a_pinned_mark_pushes_out_nothing_that_leads_to_it(place, overflow):
    """With after-images alone that is a snapshot's; a fold brings the snapshot on instead."""
    twin = place([BLOCK], 16384, "after", overflow=overflow)
    twin.snapshot("s")
    twin.write(0, 0, b"x" * 100)
    refused = 0
    for k in range(200):
        if twin.pin_mark(f"m{k}"):
            twin.unpin(f"m{k}")
        else:
            refused += 1
    assert (refused == 0) == (overflow == "fold")
    twin.check()
    if place is DiskTwin:
        twin.discard()


@pytest.mark.parametrize("overflow", ["evict", "fold"])
@pytest.mark.parametrize("images", ["both", "after"])
@pytest.mark.parametrize("killed", [False, True])
@pytest.mark.parametrize("left", ["early", "one"])
def test_a_pinned_mark_and_snapshots_of_one_state(overflow, images, killed, left):
    """An opening counts on the snapshots of the mark's own state, and a fold may come to it."""
    twin = DiskTwin([4 * BLOCK, BLOCK], 1 << 16, images, overflow)
    twin.write(0, 100, b"before")
    twin.snapshot("early")
    twin.write(0, 103, b"between")
    twin.pin_mark("m")
    twin.snapshot("one")
    twin.snapshot("two")
    for _ in range(2):
        twin.kill(look=True) if killed else twin.look()
        for name in sorted({*twin.snapshots} - {left}):
            twin.delete(name)  # or it must not be, as it is needed
        for k in range(60):
            twin.write(0, k * 41 % BLOCK, bytes([k + 1]) * (k % 2000))
        twin.check()
    twin.unpin("m")
    for k in range(60):
        assert twin.write(0, k * 41 % BLOCK, bytes([k + 1]) * (k % 2000))
    twin.check()
    twin.discard()
