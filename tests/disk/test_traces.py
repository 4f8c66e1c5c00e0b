"""Recorded ext4 histories in a store on disk: every recorded state, before and after opening it."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

import jrnl
from jrnl import PointExpired, logwrites
from tests.model.amount import more_in_long
from tests.model.traces import SIZE, TRACES, Recorded, sha256

IMAGES = ["both", "after"]


class DiskHistory:
    """A trace in a store on disk, which is closed and opened at one place of it."""

    def __init__(self, folder: Path, log: Path, images: str, journal: str) -> None:
        recorded = Recorded(log)
        self.images = images
        self.path = folder / "store"
        self.store = jrnl.create(
            self.path, size=SIZE, journal=journal, images=images, overlay="4MiB"
        )
        self.store.snapshot("start")
        seqs = logwrites.replay(log, self.store.volume, self.progress)
        assert len(seqs) == recorded.entries + 1
        self.points = [(int(seqs[k]), digest) for k, digest in sorted(recorded.digests.items())]

    def progress(self, done: int, total: int) -> None:
        if done == 256:
            self.store.snapshot("early")

    def reopen(self, mode: str = "r+") -> None:
        self.store.close()
        self.store = jrnl.open(self.path, mode, overlay="4MiB")
        assert not self.store.problems

    def kill(self) -> None:
        """Go on with a copy of what a killed process would have left."""
        other = self.path.with_name(self.path.name + "-killed")
        shutil.copytree(self.path, other)
        self.store.close()
        shutil.rmtree(self.path)
        self.path = other
        self.store = jrnl.open(other, overlay="4MiB")
        assert not self.store.problems

    def middle(self) -> tuple[int, str]:
        return self.points[len(self.points) // 2]


def production(store: jrnl.Store) -> str:
    return sha256(store.volume.read(0, SIZE))


@more_in_long("every", 3, 1)
@pytest.mark.parametrize("trace", TRACES)
@pytest.mark.parametrize("images", IMAGES)
def test_every_recorded_state_is_rebuilt_after_opening(unpack, folder, trace, images, every, seed):
    history = DiskHistory(folder, unpack(trace), images, "64MiB")
    assert production(history.store) == history.points[-1][1]
    for mode in ("r", "r+"):
        history.reopen(mode)
        with history.store as store:
            early = store.snapshots["early"].seq
            bases = [None, "start", "early"] if mode == "r" else [None]
            for k, (seq, digest) in enumerate(history.points[seed % every :: every]):
                base = bases[k % len(bases)]
                if base == "early" and images == "after" and seq < early:
                    base = None  # after-images lead forward only
                with store.recover(seq, base) as recovery:
                    assert sha256(recovery.as_array()) == digest
            assert store.verify().ok
    assert sha256((history.path / "data.img").read_bytes()) == history.points[-1][1]


@pytest.mark.parametrize("trace", TRACES)
def test_a_killed_history_is_as_it_was(unpack, folder, trace):
    history = DiskHistory(folder, unpack(trace), "both", "64MiB")
    history.store.flush()
    history.kill()
    content = np.empty(SIZE, np.uint8)
    with history.store as store:
        assert production(store) == history.points[-1][1]
        for seq, digest in history.points[::3]:
            with store.view(seq) as view:
                view.readinto(0, content)
                assert sha256(content) == digest


@pytest.mark.parametrize("trace", TRACES)
@pytest.mark.parametrize("images", IMAGES)
def test_restored_reopened_restored_again_undone_and_rewound(unpack, folder, trace, images):
    history = DiskHistory(folder, unpack(trace), images, "128MiB")
    end, (seq, digest) = production(history.store), history.middle()
    recovery = history.store.recover(seq)
    first = recovery.restore()
    assert production(history.store) == digest
    history.reopen()
    store = history.store
    store.volume.discard(1 << 20, 40 << 20)
    store.snapshots["start"].delete()
    recovery = store.recoveries[recovery.id]
    with recovery.again() as again:
        again.restore()
        assert production(store) == digest
    history.kill()
    store = history.store
    assert production(store) == digest
    undo = "early" if images == "after" else None
    with store.recover(first.first_seq - 1, undo) as before:
        before.restore()
    assert production(store) == end
    if images == "both":
        store.rewind(seq)
        history.kill()
        store = history.store
        assert production(store) == digest
        with pytest.raises(PointExpired):
            store.recover(first.first_seq)
    assert store.verify().ok
    store.close()


@pytest.mark.parametrize("images", IMAGES)
@pytest.mark.parametrize("trace", TRACES)
def test_a_log_that_wraps_keeps_what_its_window_says(unpack, folder, trace, images):
    history = DiskHistory(folder, unpack(trace), images, "4MiB")
    store = history.store
    store.snapshots["start"].delete()
    # A group leaves whole: as much as the largest entry's images may be free beside an eighth.
    largest = 2 * int(store.journal.entries["length"].max())
    assert store.journal.used >= store.journal.capacity * 7 // 8 - largest
    window = store.window
    assert window.oldest > 0
    history.reopen()
    store = history.store
    assert store.window == window
    kept = [point for point in history.points if point[0] >= window.oldest]
    assert kept
    for seq, digest in kept:
        with store.recover(seq) as recovery:
            assert sha256(recovery.as_array()) == digest
    for seq, _ in history.points[: -len(kept)]:
        if seq != store.snapshots["early"].seq:
            with pytest.raises(PointExpired):
                store.recover(seq)
    assert store.verify().ok
    store.close()
