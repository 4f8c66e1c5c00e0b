"""Recoveries that move: forward and back, exact at every stop, whole where a move fails."""

from __future__ import annotations

import os
import random
from pathlib import Path

import numpy as np
import pytest

import jrnl
from jrnl import CorruptionError, InvalidArgument, Kind, PointExpired
from tests.model.disk_twin import DiskTwin
from tests.model.twin import Twin

SIZES = [70000, 12345]


def busy(twin: Twin, dice: random.Random, moves: int) -> None:
    """Writes of all kinds of lengths, crowded enough to overlap."""
    for _ in range(moves):
        volume = dice.randrange(len(twin.sizes))
        length = dice.choice([1, 64, 500, 512, 4096, 5000])
        length = min(length, twin.sizes[volume], twin.model.write_max)
        offset = dice.randrange(min(20000, twin.sizes[volume] - length + 1))
        if dice.random() < 0.1:
            twin.zero(Kind.DISCARD, volume, offset, length)
        else:
            twin.write(volume, offset, dice.randbytes(length))


def make(kind: str, images: str, journal: int = 1 << 20) -> Twin:
    if kind == "disk":
        return DiskTwin(SIZES, journal, images)
    return Twin(SIZES, journal, images)


STORES = [("memory", "before"), ("memory", "both"), ("disk", "both")]


@pytest.mark.parametrize(("kind", "images"), STORES)
def test_a_thousand_seeks_end_like_a_thousand_recoveries(seed, kind, images):
    dice, twin = random.Random(seed), make(kind, images)
    busy(twin, dice, 200)
    opened = twin.recover(100, undoable=True)
    assert opened is not None
    for k in range(1000):
        if k % 100 == 99:
            busy(twin, dice, 5)  # production goes on, and the window with it
        assert twin.seek(opened, dice.randrange(twin.oldest, twin.newest + 1))
        if k % 25 == 0:
            twin.check_recovered(opened.seq)
    if kind == "disk":
        twin.discard()


@pytest.mark.parametrize("kind", ["memory", "disk"])
def test_with_after_images_alone_it_moves_forward(seed, kind):
    dice, twin = random.Random(seed), make(kind, "after")
    twin.snapshot("start")
    busy(twin, dice, 60)
    opened = twin.recover(10, undoable=True)
    for to in (20, 21, 59, twin.newest):
        assert twin.seek(opened, to)
    assert twin.seek(opened, 5)  # back by way of the preserved copy
    if kind == "disk":
        twin.discard()


def test_fast_to_a_point_surely_good_and_undoable_from_there(seed):
    dice, twin = random.Random(seed), Twin(SIZES, 1 << 20)
    busy(twin, dice, 30)
    twin.snapshot("good")
    busy(twin, dice, 50)
    opened = twin.recover("good", undoable=True)
    assert opened.recovery.base == "good"
    assert opened.recovery.plan.bytes == 0  # nothing was moved to get there
    for to in range(30, twin.newest + 1):
        assert twin.seek(opened, to)
    for to in range(twin.newest, 29, -1):
        assert twin.seek(opened, to)


@pytest.mark.parametrize(("kind", "images"), STORES)
def test_it_goes_on_when_the_way_has_left_the_window(seed, kind, images):
    dice, twin = random.Random(seed), make(kind, images, 1 << 18)
    busy(twin, dice, 40)
    opened = twin.recover(20, undoable=True)
    while twin.oldest <= opened.base:
        busy(twin, dice, 20)  # where it stands, and what it preserves, are both gone
    before = opened.recovery.base
    assert twin.seek(opened, twin.newest - 3)
    assert opened.recovery.base == before == "production"
    for to in (twin.oldest, twin.newest, twin.newest - 5):
        assert twin.seek(opened, to)
    with pytest.raises(PointExpired):
        opened.recovery.seek(20)
    twin.check_recovery(opened)
    if kind == "disk":
        twin.discard()


def test_a_move_that_fails_changes_nothing(seed):
    dice, twin = random.Random(seed), Twin([70000], 1 << 20, "both")
    busy(twin, dice, 100)
    opened = twin.recover(50, undoable=True)
    store = twin.store

    class Cancelled(Exception):
        pass

    def cancel(done: int, total: int) -> None:
        raise Cancelled

    for to in (10, 90):
        with pytest.raises(Cancelled):
            opened.recovery.seek(to, progress=cancel)
        assert opened.recovery.seq == 50
        twin.check_recovery(opened)
    with pytest.raises(InvalidArgument, match="must not write"):
        opened.recovery.seek(10, progress=lambda done, total: store.volume.write(0, b"x"))
    assert opened.recovery.seq == 50
    store.rewind(store.seq - 1)
    store._engine._damage_header(70, 0, 1)  # entry 71: there is a way around it to later states
    assert twin.seek(opened, 90)
    assert twin.seek(opened, 75)
    store._engine._damage_header(40, 0, 1)
    assert not store.verify().ok
    twin.close_recovery(opened)
    opened = twin._opened(store.recover(80, undoable=True), 80)
    for to in (30, 20):
        with pytest.raises(CorruptionError):
            opened.recovery.seek(to)
        assert opened.recovery.seq == 80
        twin.check_recovery(opened)
    store._engine._damage_header(70, 0, 1)
    store._engine._damage_header(40, 0, 1)
    assert twin.seek(opened, 30)


def test_progress_ends_at_all_of_the_bytes(seed):
    dice, twin = random.Random(seed), Twin(SIZES, 1 << 20)
    busy(twin, dice, 200)
    told: list[tuple[int, int]] = []
    recovery = twin.store.recover(10, progress=lambda *pair: told.append(pair))
    assert told[-1] == (recovery.plan.bytes, recovery.plan.bytes)
    assert [done for done, _ in told] == sorted({done for done, _ in told})
    told.clear()
    again = recovery.again(50, progress=lambda *pair: told.append(pair))
    assert told[-1][0] == again.plan.bytes
    with pytest.raises(KeyError):
        twin.store.recover(0, progress=lambda *_: {}["x"])
    assert set(twin.store.recoveries) == {recovery.id, again.id}


def test_a_path_follows_and_cannot_be_written_to(seed):
    dice, twin = random.Random(seed), Twin(SIZES, 1 << 20)
    busy(twin, dice, 100)
    recovery = twin.store.recover(50, undoable=True)
    path = Path(recovery.path("v0"))
    with open(path, "rb") as file:
        held = np.memmap(file, np.uint8, "r")
        for to in (10, 90, 0, 100, 51):
            recovery.seek(to)
            wanted = twin.model.states[to][0]
            assert recovery.path("v0") == str(path)
            assert path.read_bytes() == wanted
            assert held.tobytes() == wanted  # who has it open sees it, too
        file.seek(0)
        assert file.read(100) == twin.model.states[51][0][:100]
    with pytest.raises(PermissionError), open(path, "r+b") as file:
        os.pwrite(file.fileno(), b"x", 0)
    for size in (0, 1 << 30):
        with pytest.raises(PermissionError):
            os.truncate(path, size)
    recovery.seek(7)
    assert path.read_bytes() == twin.model.states[7][0]
    recovery.close()
    assert not path.exists()


def test_only_an_undoable_recovery_moves():
    with jrnl.create(size=4096) as store:
        store.volume.write(0, b"x")
        with pytest.raises(InvalidArgument, match="undoable=True"):
            store.recover(0).seek(1)
        recovery = store.recover(0, undoable=True)
        recovery.close()
        with pytest.raises(jrnl.StoreClosed):
            recovery.seek(1)


def test_what_was_restored_and_moved_is_kept_as_it_was_restored(tmp_path):
    path = tmp_path / "s.jrnl"
    with jrnl.create(path, size=8192, journal="1MiB") as store:
        for k in range(10):
            store.volume.write(k * 100, bytes([k + 1]) * 150)
        recovery = store.recover(5, undoable=True)
        recovery.restore()
        recovery.seek(8)
        assert recovery.restore().bytes > 0
        recovery.seek(3)
        number = recovery.id
    with jrnl.open(path) as store:  # as it was when the store was closed
        kept = store.recoveries[number]
        assert (kept.seq, kept.undoable) == (3, True)
        with store.view(3) as view:
            assert kept.read(0, 8192) == view.read(0, 8192)
        kept.seek(7)
        with store.view(7) as view:
            assert kept.read(0, 8192) == view.read(0, 8192)
        kept.close()
        assert not store.recoveries
    assert not [name for name in os.listdir(path) if name.startswith(("recovery", "snapshot"))]


def test_with_after_images_alone_seek_advises_what_may_help():
    with jrnl.create(size="64KiB", images="after", journal="128KiB") as store:
        store.volume.write(0, b"a" * 4096)
        store.snapshot("s").wait()
        recovery = store.recover("s", undoable=True)
        for k in range(100):
            store.volume.write(k % 16 * 4096, bytes([k]) * 4096)
        with pytest.raises(jrnl.PointExpired, match=r"store\.recover\(\) may find another way"):
            recovery.seek(store.seq - 1)
        recovery.seek(store.seq)
        assert recovery.read(0, 65536) == store.volume.read(0, 65536)
