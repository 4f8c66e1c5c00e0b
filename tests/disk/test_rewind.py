"""What a rewind on disk costs: the syncs of a simulated disk, counted (docs/durability.md)."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

import jrnl
from jrnl.disk import open as opening
from jrnl.disk.create import create_in
from tests.crash.disk import OLD, Op, SimDisk

BLOCK = 4096
BLOCKS = 64
SUPERS = ["super.0", "super.1"]


class Counted:
    """A store on a simulated disk, which says what was synced."""

    def __init__(self, **options: object) -> None:
        self.disk = SimDisk()
        self.synced: list[str] = []
        self.disk.before = self._before
        wanted = {"size": BLOCKS * BLOCK, "journal": "1MiB", "overlay": "1MiB", **options}
        self.store = create_in(self.disk.place(), "s", **wanted)

    def _before(self, op: Op) -> None:
        if op.kind in ("sync", "syncdir"):
            self.synced.append(op.name)

    def write(self, *blocks: int, of: int = 0) -> None:
        for block in blocks:
            self.store.volume.write(block * BLOCK + 100, bytes([of + block + 1]) * 3000)

    def content(self) -> bytes:
        return self.store.volume.read(0, BLOCKS * BLOCK)

    def rewind(self, to: jrnl.Point) -> list[str]:
        """Rewind; return what was synced meanwhile, in order."""
        self.synced.clear()
        self.store.rewind(to)
        return list(self.synced)

    def reopened(self, disk: SimDisk) -> jrnl.Store:
        disk.before = None
        return opening.open_in(disk.place(), "s")


def power_cut(disk: SimDisk) -> SimDisk:
    """The disk without all that was not synced."""
    moment = disk.moment()
    return moment.crashed((OLD,) * len(moment.changes))


def flushed(counted: Counted) -> None:
    counted.store.flush()


def nothing(counted: Counted) -> None:
    """Leave it as it is."""


# What is done before the mark, and after the writes that follow it; what the rewind then syncs.
CHEAP: dict[str, tuple[Callable[[Counted], None], Callable[[Counted], None], list[str]]] = {
    "nothing is dirty": (flushed, flushed, SUPERS),
    "the writes are in the open group": (flushed, nothing, SUPERS),
    "so is the mark": (nothing, nothing, ["log", *SUPERS]),
    "the open group with the mark is closed by a flush": (nothing, flushed, SUPERS),
}


@pytest.mark.parametrize("case", CHEAP)
def test_what_the_volumes_have_not_got_need_not_go_back(case):
    before, after, expected = CHEAP[case]
    counted = Counted()
    counted.write(0, 1, 2)
    mark = counted.store.mark("m")
    before(counted)
    wanted = counted.content()
    for _ in range(3):
        counted.write(1, 2, 3, of=100)
        after(counted)
        assert sorted(counted.rewind(mark)) == sorted(expected)
        assert counted.content() == wanted
        expected = SUPERS  # the mark's group is durable now
    for disk in (counted.disk.survivor(), power_cut(counted.disk)):
        store = counted.reopened(disk)
        assert store.volume.read(0, BLOCKS * BLOCK) == wanted
        assert store.problems == []
        store.close()


def test_what_they_have_got_goes_back_in_one_sync_where_nothing_durable_says_that_they_have_it():
    counted = Counted(overlay="64KiB", journal="4MiB")
    counted.write(*range(8))
    counted.store.flush()
    mark = counted.store.mark("m")
    counted.store.flush()
    wanted = counted.content()
    for k in range(20):
        before = counted.synced.count("v0.img")
        counted.write(*range(40), of=100 + k)  # twice the overlay's memory
        counted.store.flush()
        assert "data.img" in counted.synced[before:]
        synced = counted.rewind(mark)
        assert sorted(synced) == ["data.img", *SUPERS]
        assert synced.index("data.img") < min(map(synced.index, SUPERS))
        assert counted.content() == wanted
    store = counted.reopened(counted.disk.survivor())
    assert store.volume.read(0, BLOCKS * BLOCK) == wanted
    assert store.window.oldest == 0


def test_an_intent_comes_first_where_the_superblocks_say_that_they_have_it():
    counted = Counted()
    counted.write(0, 1)
    counted.store.flush()
    wanted, mark = counted.content(), counted.store.mark("m")
    counted.write(1, 2, of=100)
    counted.store.close()
    counted.store = opening.open_in(counted.disk.place(), "s")
    assert counted.rewind(mark.seq) == [*SUPERS, "data.img", *SUPERS] or counted.synced == [
        *reversed(SUPERS), "data.img", *reversed(SUPERS)
    ]  # fmt: skip
    assert counted.content() == wanted
    # From then on nothing is left to say.
    counted.write(1, 2, of=7)
    assert sorted(counted.rewind("m")) == SUPERS


def test_rewinds_of_any_length_keep_every_state_before_them():
    rng = random.Random(5)
    counted = Counted(journal="4MiB", overlay="64KiB")
    states = [(0, counted.content())]
    for _ in range(60):
        for _ in range(rng.choice((1, 3, 30))):
            counted.write(rng.randrange(BLOCKS), of=rng.randrange(150))
            states.append((counted.store.seq, counted.content()))
            if rng.random() < 0.2:
                counted.store.flush()
        back = rng.randrange(1, min(40, len(states)))
        del states[-back:]
        seq, wanted = states[-1] if states else (0, bytes(BLOCKS * BLOCK))
        assert len(counted.rewind(seq)) <= 6
        assert counted.content() == wanted
        for disk in (counted.disk.survivor(), power_cut(counted.disk)):
            store = counted.reopened(disk)
            assert store.volume.read(0, BLOCKS * BLOCK) == wanted
        for seq, content in rng.sample(states, min(3, len(states))):
            with counted.store.view(seq) as view:
                assert view.read(0, BLOCKS * BLOCK) == content
        states = states or [(0, bytes(BLOCKS * BLOCK))]


def test_damage_to_an_entry_that_was_written_back_long_ago_does_not_reach_production():
    """The superblocks name what the volumes' files have got, though nothing else asks them to."""
    counted = Counted(overlay="64KiB")
    for k in range(BLOCKS):
        counted.write(k)
        counted.store.flush()
    wanted = counted.content()
    disk = counted.disk.survivor()
    log = bytearray(disk.read("s/log"))
    for at in range(4096 + 512, 4096 + 512 + 64 * 4096, 4096):  # of each of the first groups
        log[at] ^= 1
    disk.replace("s/log", bytes(log))
    store = counted.reopened(disk)
    assert store.volume.read(0, BLOCKS * BLOCK) == wanted
    assert store.verify().problems
