"""Recorded ext4 histories: every recorded state from every base, all the ways back and forth."""

from __future__ import annotations

import random
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest

import jrnl
from jrnl import PointExpired, logwrites
from tests.model.amount import more_in_long
from tests.model.traces import SIZE, TRACES, Recorded, sha256

IMAGES = ["before", "after", "both"]


class History:
    """A trace, replayed into a store with a snapshot at its start and one on the way."""

    def __init__(self, log: Path, images: str, journal: str) -> None:
        recorded = Recorded(log)
        self.digests = recorded.digests
        self.images = images
        self.store = jrnl.create(size=SIZE, journal=journal, images=images)
        self.store.snapshot("start")
        self.seqs = logwrites.replay(log, self.store.volume, self.progress)
        assert len(self.seqs) == recorded.entries + 1
        self.middle = sorted(self.digests)[len(self.digests) // 2]

    def progress(self, done: int, total: int) -> None:
        if done == 256:
            self.store.snapshot("early")

    def points(self) -> list[tuple[int, str]]:
        """(seq, SHA-256) of each recorded state."""
        return [(int(self.seqs[k]), digest) for k, digest in sorted(self.digests.items())]

    def middle_point(self) -> tuple[int, str]:
        return int(self.seqs[self.middle]), self.digests[self.middle]


@pytest.fixture(scope="module", params=TRACES)
def trace(request) -> str:
    return request.param


@pytest.fixture(scope="module", params=IMAGES)
def history(request, trace, unpack):
    """One history for the tests that change nothing."""
    history = History(unpack(trace), request.param, "256MiB")
    yield history
    history.store.close()


@more_in_long("every", 3, 1)
@pytest.mark.parametrize("base", [None, "start", "early"])
def test_every_recorded_state_is_rebuilt_exactly(history, base, every, seed):
    store = history.store
    early = store.snapshots["early"].seq
    routes = set()
    for seq, digest in history.points()[seed % every :: every]:
        if base == "early" and history.images == "after" and seq < early:
            with pytest.raises(PointExpired):  # after-images lead forward only
                store.recover(seq, base)
            continue
        with store.recover(seq, base) as recovery:
            assert sha256(recovery.as_array()) == digest
            assert recovery.base == base or base is None
            routes.add(recovery.plan.route)
    onward = {"before": "bridge", "after": "forward", "both": "forward"}[history.images]
    assert onward in routes or base is None
    assert routes <= {"backward", onward, "bridge"}


@more_in_long("every", 3, 1)
def test_a_view_shows_every_recorded_state(history, every, seed):
    content = np.empty(SIZE, np.uint8)
    for seq, digest in history.points()[seed % every :: every]:
        with history.store.view(seq) as view:
            view.readinto(0, content)
            assert sha256(content) == digest


def test_states_in_between_are_what_the_entries_make_of_the_one_before(unpack, trace):
    """Every 100th state, against the after-images applied one by one."""
    store = History(unpack(trace), "both", "256MiB").store
    state = np.zeros(SIZE, np.uint8)
    content = np.empty(SIZE, np.uint8)
    for k, entry in enumerate(store.journal.entries):
        if entry["kind"] <= jrnl.Kind.ZEROES:
            part = state[entry["offset"] : entry["offset"] + entry["length"]]
            assert part.tobytes() == store.journal.before(int(entry["seq"]))
            part[:] = np.frombuffer(store.journal.after(int(entry["seq"])), np.uint8)
        if k % 100 == 99:
            with store.view(int(entry["seq"])) as view:
                view.readinto(0, content)
            assert np.array_equal(content, state)
    assert np.array_equal(store.volume.as_array(), state)


def test_the_history_verifies(history):
    assert history.store.verify().ok


def damage(store: jrnl.Store) -> None:
    """Write and discard here and there, as a host that has lost its mind."""
    dice = random.Random(5)
    for _ in range(300):
        offset, length = dice.randrange(SIZE - 70000), dice.randrange(1, 70000)
        if dice.random() < 0.3:
            store.volume.discard(offset, length)
        else:
            store.volume.write(offset, dice.randbytes(length))


@pytest.mark.parametrize("images", IMAGES)
@pytest.mark.parametrize("base", [None, "start"])
def test_restored_damaged_restored_again_undone_and_rewound(unpack, trace, images, base):
    history = History(unpack(trace), images, "512MiB")
    store, end = history.store, sha256(history.store.volume.as_array())
    seq, digest = history.middle_point()
    recovery = store.recover(seq, base)
    first = recovery.restore()
    assert sha256(store.volume.as_array()) == digest
    damage(store)
    store.snapshots["start"].delete()
    with recovery.again() as again:
        again.restore()
        assert again.base == recovery.base
        assert sha256(store.volume.as_array()) == digest
    before = "early" if images == "after" else None
    with store.recover(first.first_seq - 1, before) as undo:
        undo.restore()
    assert sha256(store.volume.as_array()) == end
    if images != "after":
        pinned = recovery.base == "production"
        with pytest.raises(jrnl.PinnedPoint) if pinned else nullcontext():
            store.rewind(seq)
        recovery.close()
        store.rewind(seq)
        assert sha256(store.volume.as_array()) == digest
        with pytest.raises(PointExpired):
            store.recover(first.first_seq)
    assert store.verify().ok


@pytest.mark.parametrize("images", IMAGES)
def test_a_ring_that_wraps_keeps_what_its_window_says(unpack, trace, images):
    history = History(unpack(trace), images, "4MiB")
    store = history.store
    store.snapshots["start"].delete()
    oldest = store.window.oldest
    assert oldest > 0
    for seq, digest in history.points():
        if seq < oldest:
            with pytest.raises(PointExpired):
                store.recover(seq)
        else:
            with store.recover(seq) as recovery:
                assert sha256(recovery.as_array()) == digest
    assert history.points()[-1][0] >= oldest
    assert store.verify().ok
