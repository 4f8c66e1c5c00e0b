"""Long runs on stores on disk: closed, killed and opened again between all that a host can do."""

from __future__ import annotations

import itertools
import random

import pytest

from tests.model.amount import SHARE, more_in_long
from tests.model.disk_twin import DiskTwin
from tests.states.test_long_run import ACTS, ALL, TINY, Acts, Player

IMAGES = ["both", "after"]


class DiskPlayer(Player):
    """Closes, kills and opens the store, too."""

    def __init__(self, twin: DiskTwin, dice: random.Random) -> None:
        super().__init__(twin, dice)
        self.moves += [(self.reopen, 3), (self.look, 1), (self.kill, 5)]

    def reopen(self) -> None:
        self.twin.reopen()

    def look(self) -> None:
        self.twin.look()

    def kill(self) -> None:
        self.twin.kill(look=self.dice.random() < 0.2)


def run(
    seed: object, images: str, moves: int, journal: int, sizes: list[int], overflow: str, sync: str
) -> None:
    dice = random.Random(f"{seed} {images} {journal} {sizes} {overflow} {sync}")
    twin = DiskTwin(sizes, journal, images, overflow, sync)
    try:
        DiskPlayer(twin, dice).play_on(moves, looks=0.2)
        twin.kill()
        twin.check()
    finally:
        twin.discard()


@more_in_long("moves", 120, 500)
@pytest.mark.parametrize("sync", ["flush", "always"])
@pytest.mark.parametrize("overflow", ["evict", "refuse"])
@pytest.mark.parametrize("images", IMAGES)
def test_every_state_is_exact_through_all_lives(seed, images, overflow, sync, moves):
    run(seed, images, moves, 65536, [511, 70000], overflow, sync)


@more_in_long("moves", 120, 500)
@pytest.mark.parametrize("journal", [16384, 20000, 1 << 18])
@pytest.mark.parametrize("images", IMAGES)
def test_every_state_of_any_ring_is_exact_through_all_lives(seed, images, journal, moves):
    run(seed, images, moves, journal, [12345, 200000], "evict", "flush")


@pytest.mark.long
@pytest.mark.parametrize("part", range(5))
@pytest.mark.parametrize("overflow", ["evict", "refuse"])
@pytest.mark.parametrize("images", IMAGES)
def test_every_state_is_exact_through_many_more_lives(seed, images, overflow, part):
    dice = random.Random(f"{seed} {part}")
    for _ in range(-(-8 // SHARE)):
        journal = dice.choice([16384, 16483, 20000, 65536, 1 << 18])
        sizes = [
            dice.choice([1, 511, 4096, 4097, 70000, 200000]) for _ in range(dice.randrange(1, 4))
        ]
        sync = dice.choice(["flush", "flush", "always"])
        run(dice.randrange(1 << 32), images, 500, journal, sizes, overflow, sync)


# Exhaustive: all short sequences of what a host can do, each ended by a kill.


class DiskActs(Acts):
    """A kill is an act, too."""

    def kill(self) -> None:
        self.twin.kill()

    def flush_and_kill(self) -> None:
        self.twin.flush()
        self.twin.kill()


DISK_ACTS = [*ACTS, "kill", "flush_and_kill"]


def play_all(images: str, length: int, start: int, share: slice = ALL) -> None:
    """Play every sequence of acts, or a share, on a log that has taken `start` writes."""
    for acts in list(itertools.product(DISK_ACTS, repeat=length))[share]:
        twin = DiskTwin([TINY], 16384, images)
        try:
            for k in range(start):
                twin.write(0, 50 * k, bytes([k + 1]) * 300)
            for act in acts:
                getattr(DiskActs(twin), act)()
            twin.kill()
            twin.check()
            twin.reopen()
            twin.check_names()
        except BaseException as error:
            error.add_note(f"after {start} writes: {acts}")
            raise
        finally:
            twin.discard()


@more_in_long("every", 9, 1)
@pytest.mark.parametrize("start", [0, 12])
@pytest.mark.parametrize("images", IMAGES)
def test_every_sequence_of_two_acts_outlives_a_kill(images, start, every, seed):
    play_all(images, 2, start, share=slice(seed % every, None, every))


@pytest.mark.long
@pytest.mark.parametrize("start", [0, 12])
@pytest.mark.parametrize("images", IMAGES)
def test_every_sequence_of_three_acts_outlives_a_kill(images, start, seed):
    play_all(images, 3, start, share=slice(seed % SHARE, None, SHARE))
