"""Recovering again, after what went wrong: damage, a change of mind, another opening."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

import jrnl
from jrnl import CorruptionError

BLOCK = 4096


def write(store: jrnl.Store, count: int = 8) -> list[bytes]:
    """Write a block at a time; return the first block's content at each state."""
    states = [bytes(BLOCK)]
    for k in range(count):
        store.volume.write(0, bytes([k + 1]) * BLOCK)
        states.append(bytes([k + 1]) * BLOCK)
    return states


class Cancelled(Exception):
    pass


def cancel(done: int, total: int) -> None:
    raise Cancelled


@pytest.mark.parametrize("images", ["before", "both"])
def test_after_a_damaged_entry_other_points_and_later_the_same(images):
    with jrnl.create(size=2 * BLOCK, journal="1MiB", images=images) as store:
        states = write(store)
        whole = store.recover(6)
        room = BLOCK * (2 if images == "both" else 1)
        store._engine._damage_image(3 * room + 5, 1)  # what entry 4 overwrote: state 3
        before = store.seq, store.window, store.journal.used, set(store.recoveries)
        with pytest.raises(CorruptionError, match="entry 4"):
            store.recover(3, base="production")
        with pytest.raises(CorruptionError):
            whole.again(3)
        assert (store.seq, store.window, store.journal.used, set(store.recoveries)) == before
        for to in (2, 4, 7):  # their bytes come from other entries
            with whole.again(to) as again, store.recover(to) as fresh:
                assert again.read(0, BLOCK) == fresh.read(0, BLOCK) == states[to]
        assert whole.again().read(0, BLOCK) == states[6]
        store._engine._damage_image(3 * room + 5, 1)  # mended
        with whole.again(3) as again:
            assert again.read(0, BLOCK) == states[3]
            again.restore()
        assert store.volume.read(0, BLOCK) == states[3]
        assert whole.again().read(0, BLOCK) == states[6]  # its own copy does not care


@pytest.mark.parametrize("on_disk", [False, True])
def test_after_a_cancelled_one_several_at_once(on_disk, tmp_path):
    path = tmp_path / "s.jrnl" if on_disk else None
    with jrnl.create(path, size=2 * BLOCK, journal="1MiB") as store:
        states = write(store)
        with pytest.raises(Cancelled):
            store.recover(1, progress=cancel)
        assert not store.recoveries
        first = store.recover(1)
        with pytest.raises(Cancelled):
            first.again(2, progress=cancel)
        many = [first, *(first.again(to) for to in (2, 3, 4)), store.recover(5)]
        assert set(store.recoveries) == {recovery.id for recovery in many}
        for recovery in (many[3], many[0], many[3]):
            recovery.restore()
            assert store.volume.read(0, BLOCK) == states[recovery.seq]
        for recovery in many:
            assert recovery.read(0, BLOCK) == states[recovery.seq]
        store.delete_recovery(first.id)
        assert set(store.recoveries) == {recovery.id for recovery in many[1:]}
        assert many[1].again(1).read(0, BLOCK) == states[1]


def test_after_reopening_to_the_same_point_and_to_others(tmp_path):
    path: Path = tmp_path / "s.jrnl"
    with closing(jrnl.create(path, size=2 * BLOCK, journal="1MiB")) as store:
        states = write(store)
        store.snapshot("s")
        kept = [store.recover(6), store.recover(2, base="s", undoable=True)]
        for recovery in kept:
            recovery.restore()
        ids = [recovery.id for recovery in kept]
    for life in range(3):
        with jrnl.open(path) as store:
            assert list(store.recoveries) == ids
            for number, to in zip(ids, (6, 2), strict=True):
                recovery = store.recoveries[number]
                assert recovery.read(0, BLOCK) == states[to]
                assert recovery.again().read(0, BLOCK) == states[to]
                with recovery.again(5 - life) as again:
                    assert again.read(0, BLOCK) == states[5 - life]
                    again.restore()
                assert store.volume.read(0, BLOCK) == states[5 - life]
            assert store.verify().ok
    with jrnl.open(path, mode="r") as store:
        assert store.recoveries[ids[0]].again(1).read(0, BLOCK) == states[1]
