"""Long runs of random operations, from a seed, against the model of whole states."""

from __future__ import annotations

import itertools
import random
from datetime import timedelta

import pytest

from jrnl import Kind
from tests.model.amount import SHARE, more_in_long
from tests.model.twin import EPOCH, Twin

IMAGES = ["before", "after", "both"]
NAMES = ["a", "b", "c", "d"]
CHECK_EVERY = 60


class Player:
    """Plays random operations on a twin, as a host with a taste for trouble would."""

    def __init__(self, twin: Twin, dice: random.Random) -> None:
        self.twin = twin
        self.dice = dice
        self.moves = [
            (self.write, 40),
            (self.write_many, 8),
            (self.zero, 10),
            (self.edit, 6),
            (self.flush, 6),
            (self.mark, 5),
            (self.snapshot, 2),
            (self.delete, 2),
            (self.recover, 8),
            (self.again, 4),
            (self.restore, 3),
            (self.close_recovery, 8),
            (self.seek, 6),
            (self.view, 5),
            (self.view_of_a_view, 3),
            (self.write_view, 6),
            (self.close_view, 5),
            (self.rewind, 6),
            (self.enter_savepoint, 4),
            (self.leave_savepoint, 5),
            (self.wait, 10),
        ]

    def play(self) -> None:
        moves, weights = zip(*self.moves, strict=True)
        self.dice.choices(moves, weights)[0]()

    # What to do it to.

    def place(self, longest: int = 1 << 40) -> tuple[int, int, int]:
        """(volume, offset, length): often short, often at a block's edge, sometimes long."""
        dice = self.dice
        volume = dice.randrange(len(self.twin.sizes))
        size = self.twin.sizes[volume]
        any_length = dice.randrange(1, 9000)
        length = dice.choice([1, 8, 63, 64, 65, 511, 512, 4096, 4097, any_length, size])
        length = min(length, size, longest)
        offset = dice.randrange(size - length + 1)
        if dice.random() < 0.5:
            offset = min(offset // 512 * 512, size - length)
        return volume, offset, length

    def data(self, length: int) -> bytes:
        if self.dice.random() < 0.2:
            return bytes(length)
        return self.dice.randbytes(length)

    def point(self) -> object:
        """Any way to name a state, which need not be there any more."""
        twin, dice = self.twin, self.dice
        kept = twin.kept_states()
        choices = [dice.choice(kept), dice.choice(kept), dice.randrange(twin.newest + 1)]
        choices += [*twin.marks(), *twin.snapshots.values(), twin.store.seq]
        choices += [EPOCH + timedelta(microseconds=twin.clock.now // 1000 - dice.randrange(60))]
        return dice.choice(choices)

    def some(self) -> list[int] | None:
        """Some of the volumes, or None: all."""
        count = len(self.twin.sizes)
        some = self.dice.sample(range(count), self.dice.randrange(1, count + 1))
        return self.dice.choice([None, None, sorted(some)])

    # Moves.

    def write(self) -> None:
        volume, offset, length = self.place(self.twin.model.write_max)
        self.twin.write(volume, offset, self.data(length))

    def write_many(self) -> None:
        volume, offset, length = self.place(600)
        near = [min(offset + k * 100, self.twin.sizes[volume] - length) for k in range(4)]
        offsets = self.dice.choices(near, k=self.dice.randrange(1, 7))
        self.twin.write_many(volume, offsets, self.data(length * len(offsets)))

    def zero(self) -> None:
        kind = self.dice.choice([Kind.DISCARD, Kind.ZEROES])
        self.twin.zero(kind, *self.place())

    def edit(self) -> None:
        volume, offset, length = self.place(1000)

        def within() -> None:
            other, start, count = self.place(500)
            apart = other != volume or start + count <= offset or offset + length <= start
            if apart and self.dice.random() < 0.5:
                self.twin.write(other, start, self.data(count))
            elif apart:
                self.twin.edit(other, start, self.data(count), fails=self.dice.random() < 0.3)

        self.twin.edit(volume, offset, self.data(length), self.dice.random() < 0.3, within)

    def flush(self) -> None:
        self.twin.flush()

    def mark(self) -> None:
        self.twin.mark(self.dice.choice(NAMES))

    def snapshot(self) -> None:
        if len(self.twin.snapshots) < 3:
            self.twin.snapshot(self.dice.choice(NAMES))

    def delete(self) -> None:
        if self.twin.snapshots:
            self.twin.delete(self.dice.choice(sorted(self.twin.snapshots)))

    def recover(self) -> None:
        if len(self.twin.recoveries) < 4:
            base = self.dice.choice([None, *sorted(self.twin.snapshots)])
            undoable, some = self.dice.random() < 0.4, self.some()
            self.twin.recover(self.point(), base, undoable, some)

    def seek(self) -> None:
        if self.twin.recoveries:
            opened = self.dice.choice(self.twin.recoveries)
            for _ in range(self.dice.randrange(1, 5)):
                self.twin.seek(opened, self.point())

    def again(self) -> None:
        if self.twin.recoveries and len(self.twin.recoveries) < 6:
            opened = self.dice.choice(self.twin.recoveries)
            self.twin.again(opened, self.dice.choice([None, self.point()]))

    def restore(self) -> None:
        if self.twin.recoveries:
            opened, some = self.dice.choice(self.twin.recoveries), self.some()
            fits = some is None or {*some} <= {*opened.volumes}
            self.twin.restore(opened, some if fits else None)

    def close_recovery(self) -> None:
        if self.twin.recoveries:
            self.twin.close_recovery(self.dice.choice(self.twin.recoveries))

    def view(self) -> None:
        if len(self.twin.views) < 4:
            self.twin.view(self.point(), self.dice.random() < 0.4, self.some())

    def view_of_a_view(self) -> None:
        if self.twin.views and len(self.twin.views) < 6:
            self.twin.view_of(self.dice.choice(self.twin.views), self.dice.random() < 0.5)

    def write_view(self) -> None:
        if self.twin.views:
            volume, offset, length = self.place()
            opened = self.dice.choice(self.twin.views)
            self.twin.write_view(opened, volume, offset, self.data(length))

    def close_view(self) -> None:
        if self.twin.views:
            self.twin.close_view(self.dice.choice(self.twin.views))

    def rewind(self) -> None:
        near = max(0, self.twin.newest - self.dice.randrange(8))
        self.twin.rewind(self.dice.choice([near, near, self.point()]))

    def enter_savepoint(self) -> None:
        if len(self.twin.savepoints) < 4:
            self.twin.enter_savepoint(self.dice.choice([None, None, *NAMES]))

    def leave_savepoint(self) -> None:
        if self.twin.savepoints:
            self.twin.leave_savepoint(fails=self.dice.random() < 0.5)

    def wait(self) -> None:
        self.twin.clock.now += self.dice.choice([0, 1, 1000, 10**6, -2000, 5000])

    def play_on(self, moves: int, looks: float) -> None:
        """Play; hold what is open against the model after a share of the moves, all after some."""
        for k in range(moves):
            try:
                self.play()
                if self.dice.random() < looks:
                    self.twin.check_open()
                if k % CHECK_EVERY == CHECK_EVERY - 1:
                    self.twin.check()
            except BaseException as error:
                error.add_note(f"in move {k} of {moves}")
                raise


def run(seed: int, images: str, moves: int, journal: int, sizes: list[int], overflow: str) -> None:
    dice = random.Random(f"{seed} {images} {journal} {sizes} {overflow}")
    twin = Twin(sizes, journal, images, dice.random() < 0.7, overflow)
    Player(twin, dice).play_on(moves, looks=0.3)
    while twin.savepoints:
        twin.leave_savepoint(fails=False)
    twin.check()


@more_in_long("moves", 200, 1000)
@pytest.mark.parametrize("overflow", ["evict", "refuse"])
@pytest.mark.parametrize("sizes", [[4097], [511, 70000], [1, 12345, 512]], ids=str)
@pytest.mark.parametrize("images", IMAGES)
def test_every_state_of_the_window_is_exact_all_along(seed, images, sizes, overflow, moves):
    run(seed, images, moves, 16384, sizes, overflow)


@more_in_long("moves", 120, 600)
@pytest.mark.parametrize("journal", [16483, 65536, 1 << 20])
@pytest.mark.parametrize("images", IMAGES)
def test_every_state_of_a_larger_ring_is_exact_all_along(seed, images, journal, moves):
    run(seed, images, moves, journal, [200000, 65536], "evict")


@pytest.mark.long
@pytest.mark.parametrize("part", range(10))
@pytest.mark.parametrize("overflow", ["evict", "refuse"])
@pytest.mark.parametrize("images", IMAGES)
def test_every_state_is_exact_over_many_more_runs(seed, images, overflow, part):
    dice = random.Random(f"{seed} {part}")
    for _ in range(-(-10 // SHARE)):
        journal = dice.choice([16384, 16483, 20000, 65536, 300000])
        sizes = [
            dice.choice([1, 511, 4096, 4097, 70000, 200000]) for _ in range(dice.randrange(1, 4))
        ]
        run(dice.randrange(1 << 32), images, 500, journal, sizes, overflow)


# Exhaustive: all short sequences of what a host can do, on a small volume and a small ring.

TINY = 7200
ALL = slice(None)


class Acts:
    """What the sequences are made of."""

    def __init__(self, twin: Twin) -> None:
        self.twin = twin

    def write_some(self) -> None:
        self.twin.write(0, 100, bytes([self.twin.newest % 251 + 1]) * 70)

    def write_near(self) -> None:
        self.twin.write(0, 130, bytes([self.twin.newest % 251 + 1]) * 3500)

    def write_most(self) -> None:
        self.twin.write(0, 11, bytes([self.twin.newest % 251 + 1]) * self.twin.model.write_max)

    def write_many(self) -> None:
        self.twin.write_many(0, [120, 100, 4090], bytes(k * 7 % 251 + 1 for k in range(90)))

    def discard_all(self) -> None:
        self.twin.zero(Kind.DISCARD, 0, 0, TINY)

    def zero_some(self) -> None:
        self.twin.zero(Kind.ZEROES, 0, 90, 65)

    def edit(self) -> None:
        self.twin.edit(0, 60, bytes([self.twin.newest % 251 + 1]) * 64)

    def edit_and_fail(self) -> None:
        self.twin.edit(0, 120, bytes(3000), fails=True, within=lambda: self.twin.write(0, 0, b"in"))

    def mark_and_flush(self) -> None:
        self.twin.mark(f"m{self.twin.newest}")
        self.twin.flush()

    def snapshot(self) -> None:
        self.twin.snapshot(f"s{len(self.twin.snapshots)}")

    def rewind_one(self) -> None:
        self.twin.rewind(max(0, self.twin.newest - 1))

    def rewind_all(self) -> None:
        self.twin.rewind(self.twin.oldest)

    def rewind_round(self) -> None:
        start = self.twin.newest
        self.twin.write(0, 5000, bytes([self.twin.newest % 251 + 1]) * 500)
        self.twin.rewind(start)

    def restore_oldest(self) -> None:
        opened = self.twin.recover(self.twin.oldest)
        self.twin.restore(opened)
        self.twin.close_recovery(opened)

    def recover_and_view(self) -> None:
        self.twin.recover(self.twin.oldest)
        self.twin.view(self.twin.oldest)


ACTS = [name for name in vars(Acts) if not name.startswith("_")]


def play_all(images: str, length: int, start: int, *begin: str, share: slice = ALL) -> None:
    """Play every sequence of acts that begins so, on a ring that took `start` writes before."""
    for rest in list(itertools.product(ACTS, repeat=length - len(begin)))[share]:
        acts = (*begin, *rest)
        twin = Twin([TINY], 16384, images)
        for k in range(start):
            twin.write(0, 50 * k, bytes([k + 1]) * 300)
        try:
            for act in acts:
                getattr(Acts(twin), act)()
            twin.check()
        except BaseException as error:
            error.add_note(f"after {start} writes: {acts}")
            raise


@more_in_long("every", 9, 1)
@pytest.mark.parametrize("start", [0, 40])
@pytest.mark.parametrize("images", IMAGES)
def test_every_sequence_of_two_acts_is_right(images, start, every, seed):
    play_all(images, 2, start, share=slice(seed % every, None, every))


@pytest.mark.long
@pytest.mark.parametrize("images", IMAGES)
def test_every_sequence_of_three_acts_is_right(images):
    play_all(images, 3, 0)


@pytest.mark.long
@pytest.mark.parametrize("begin", ACTS)
@pytest.mark.parametrize("images", IMAGES)
def test_every_sequence_of_four_acts_is_right(images, begin, seed):
    play_all(images, 4, 0, begin, share=slice(seed % SHARE, None, SHARE))


# The wrap: each place near the end of the image area for the head, each class of sizes.


@more_in_long("every", 10, 1)
@pytest.mark.parametrize("images", IMAGES)
@pytest.mark.parametrize("length", [1, 64, 65, 640, 1280, 2500, 3584, 7168])
def test_images_of_every_size_are_whole_wherever_the_ring_ends(images, length, every, seed):
    """The head stands at each line of the last 40; across the wrap and back, and across again."""
    model = Twin([1], 16384, images).model
    step = 128 if images == "both" else 64  # what the smallest write takes
    length = min(length, model.write_max)
    for left in range(0, 41 * 64, step)[seed % every :: every]:
        twin = Twin([TINY], 16384, images)
        fill_to(twin, model.area - left)
        start = twin.newest
        for k in range(3):
            twin.write(0, k, bytes([k + 101]) * length)
        twin.check()
        if twin.rewinds and twin.is_in_window(start):
            twin.rewind(start)
            twin.check()
            for k, size in enumerate([left, length, 2 * left, length // 2, 3000]):
                twin.write(0, k, bytes([k + 201]) * min(size, model.write_max))
                twin.check()


def fill_to(twin: Twin, head: int) -> None:
    """Write until the next image goes to `head`: in few pieces, then in many."""
    images = 2 if twin.model.images == "both" else 1
    left = head // images
    while left:
        piece = min(left, twin.model.write_max, 700 if left < 1500 else left)
        piece = piece // 64 * 64 or left
        twin.write(0, 0, bytes([twin.newest + 1]) * piece)
        left -= piece
    assert twin.base == 0
    assert twin._images_used() == head
