"""Hypothesis plays the host: whatever it does, the store says and holds what the model does."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from jrnl import Kind
from tests.model.amount import SHARE
from tests.model.twin import EPOCH, Twin

SIZES = st.sampled_from([1, 511, 4096, 4097, 12345, 70000, 200000])
LENGTHS = st.one_of(
    st.integers(0, 200), st.sampled_from([511, 512, 4095, 4096, 4097]), st.integers(0, 1 << 18)
)
PLACES = st.integers(0, (1 << 18) - 1)
BYTES = st.integers(0, 255)
NAMES = st.sampled_from(["a", "b", "c"])
PICKS = st.integers(0, 1 << 10)
SOME = st.sampled_from([None, None, 0, 1])  # which volumes
POINTS = st.sampled_from(
    ["kept", "kept", "kept", "near", "near", "any", "name", "snapshot", "time"]
)
EVERY = 4  # full checks, in steps


class StoreMachine(RuleBasedStateMachine):
    """A store of one or two volumes over a journal so small that it wraps all the time.

    Places, lengths and picks are taken modulo what there is.
    """

    @initialize(
        sizes=st.lists(SIZES, min_size=1, max_size=2),
        journal=st.sampled_from([16384, 16483, 20000, 32768, 65536]),
        images=st.sampled_from(["before", "before", "both", "both", "after"]),
        checksum=st.booleans(),
        overflow=st.sampled_from(["evict", "evict", "fold", "fold", "refuse"]),
    )
    def create(self, sizes, journal, images, checksum, overflow):
        self.twin = Twin(sizes, journal, images, checksum, overflow)
        self.steps = 0

    def range(self, place: int, length: int, longest: int = 1 << 40) -> tuple[int, int, int]:
        """(volume, offset, length) of a range that is there."""
        sizes = self.twin.sizes
        volume, offset = place % len(sizes), place // len(sizes)
        offset %= sizes[volume]
        return volume, offset, min(length, longest, sizes[volume] - offset)

    def pick(self, things, k: int):
        return things[k % len(things)]

    def some(self, chosen: int | None) -> list[int] | None:
        """Some of the volumes, or None: all."""
        return None if chosen is None else [chosen % len(self.twin.sizes)]

    def point(self, kind: str, k: int) -> object:
        """A way to name a state; it need not be there."""
        twin = self.twin
        if kind == "kept":
            return self.pick(twin.kept_states(), k)
        if kind == "near":
            return max(0, twin.newest - k % 6)
        if kind == "name":
            return self.pick([*twin.marks(), *twin.snapshots, "nobody"], k)
        if kind == "snapshot":
            return self.pick([*twin.snapshots.values(), 0], k)
        if kind == "time":
            return EPOCH + timedelta(microseconds=twin.clock.now // 1000 - k % 50)
        return k % (twin.newest + 2)

    # Bytes.

    @rule(place=PLACES, length=LENGTHS, byte=BYTES)
    def write(self, place, length, byte):
        volume, offset, length = self.range(place, length, self.twin.model.write_max)
        self.twin.write(volume, offset, bytes(k * byte & 0xFF for k in range(length)))

    @rule(place=PLACES, length=st.integers(1, 1500), count=st.integers(2, 40), byte=BYTES)
    def write_on(self, place, length, count, byte):
        """Many writes, each a little further on: what makes a ring wrap."""
        volume, offset, length = self.range(place, length, self.twin.model.write_max)
        for k in range(count):
            at = min(offset + k * length // 2, self.twin.sizes[volume] - length)
            self.twin.write(volume, at, bytes([byte + k & 0xFF]) * length)

    @rule(places=st.lists(PLACES, max_size=5), length=st.integers(0, 300), byte=BYTES)
    def write_many(self, places, length, byte):
        volume = places[0] % len(self.twin.sizes) if places else 0
        size = self.twin.sizes[volume]
        length = min(length, size)
        near = [place % min(400, size - length + 1) for place in places]
        data = bytes((byte + k) & 0xFF for k in range(len(near) * length))
        self.twin.write_many(volume, near, data)

    @rule(kind=st.sampled_from([Kind.DISCARD, Kind.ZEROES]), place=PLACES, length=LENGTHS)
    def zero(self, kind, place, length):
        self.twin.zero(kind, *self.range(place, length))

    @rule(place=PLACES, length=st.integers(0, 700), byte=BYTES, fails=st.booleans())
    def edit(self, place, length, byte, fails):
        volume, offset, length = self.range(place, length)
        self.twin.edit(volume, offset, bytes([byte]) * length, fails)

    @rule(
        places=st.tuples(PLACES, PLACES),
        lengths=st.tuples(st.integers(1, 300), st.integers(1, 300)),
        byte=BYTES,
        fails=st.tuples(st.booleans(), st.booleans()),
        nested=st.booleans(),
    )
    def edit_and_more(self, places, lengths, byte, fails, nested):
        """Write elsewhere, or edit, while an edit is open."""
        volume, offset, length = self.range(places[0], lengths[0])
        other, start, count = self.range(places[1], lengths[1])

        def within() -> None:
            if volume == other and start < offset + length and offset < start + count:
                self.twin.refuses_in_edit(other, start, count)
            elif nested:
                self.twin.edit(other, start, bytes([byte ^ 1]) * count, fails[1])
            else:
                self.twin.write(other, start, bytes([byte ^ 2]) * count)

        self.twin.edit(volume, offset, bytes([byte]) * length, fails[0], within)

    # Names and time.

    @rule()
    def flush(self):
        self.twin.flush()

    @rule(name=NAMES)
    def mark(self, name):
        self.twin.mark(name)

    @rule()
    def bookmark(self):
        self.twin.bookmark()

    @rule(name=NAMES, pinned=st.sampled_from([False, False, False, True]))
    def snapshot(self, name, pinned):
        self.twin.snapshot(name, pinned)

    @precondition(lambda self: self.twin.snapshots)
    @rule(pieces=st.integers(1, 4))
    def copy_bit(self, pieces):
        self.twin.copy_bit(pieces)

    @precondition(lambda self: self.twin.snapshots)
    @rule(k=PICKS)
    def delete(self, k):
        self.twin.delete(self.pick(sorted(self.twin.snapshots), k))

    # Keeping.

    @precondition(lambda self: len(self.twin.pins) < 3)
    @rule(kind=POINTS, k=PICKS)
    def pin(self, kind, k):
        self.twin.pin(self.point(kind, k))

    @precondition(lambda self: self.twin.pins)
    @rule(which=PICKS, drop=st.booleans())
    def release(self, which, drop):
        self.twin.release(self.pick(self.twin.pins, which), drop)

    @rule(name=NAMES)
    def pin_mark(self, name):
        self.twin.pin_mark(name)

    @rule(name=NAMES)
    def unpin(self, name):
        self.twin.unpin(name)

    @precondition(lambda self: self.twin.open_pins())
    @rule()
    def let_all_go(self):
        for opened in [*self.twin.pins]:
            self.twin.release(opened)
        for name in [*self.twin.pinned]:
            self.twin.unpin(name)

    @rule(step=st.sampled_from([1, 999, 1000, 10**6, 10**12, -1, -1000, -(10**9)]))
    def wait(self, step):
        self.twin.clock.now += step

    # Going back.

    @precondition(lambda self: len(self.twin.recoveries) < 5)
    @rule(kind=POINTS, k=PICKS, base=PICKS, undoable=st.booleans(), some=SOME)
    def recover(self, kind, k, base, undoable, some):
        base = self.pick([None, *self.twin.snapshots], base)
        self.twin.recover(self.point(kind, k), base, undoable, self.some(some))

    @precondition(lambda self: self.twin.recoveries)
    @rule(which=PICKS, moves=st.lists(st.tuples(POINTS, PICKS), min_size=1, max_size=4))
    def seek(self, which, moves):
        opened = self.pick(self.twin.recoveries, which)
        for kind, k in moves:
            self.twin.seek(opened, self.point(kind, k))

    @precondition(lambda self: 0 < len(self.twin.recoveries) < 7)
    @rule(which=PICKS, own=st.booleans(), kind=POINTS, k=PICKS)
    def again(self, which, own, kind, k):
        opened = self.pick(self.twin.recoveries, which)
        self.twin.again(opened, None if own else self.point(kind, k))

    @precondition(lambda self: self.twin.recoveries)
    @rule(which=PICKS, some=SOME)
    def restore(self, which, some):
        opened = self.pick(self.twin.recoveries, which)
        volumes = self.some(some)
        if volumes is not None and not {*volumes} <= {*opened.volumes}:
            volumes = None
        self.twin.restore(opened, volumes)

    @precondition(lambda self: self.twin.recoveries)
    @rule(which=PICKS)
    def close_recovery(self, which):
        self.twin.close_recovery(self.pick(self.twin.recoveries, which))

    @precondition(lambda self: len(self.twin.views) < 5)
    @rule(kind=POINTS, k=PICKS, writable=st.booleans(), some=SOME)
    def view(self, kind, k, writable, some):
        self.twin.view(self.point(kind, k), writable, self.some(some))

    @precondition(lambda self: 0 < len(self.twin.views) < 7)
    @rule(which=PICKS, writable=st.booleans())
    def view_of_a_view(self, which, writable):
        self.twin.view_of(self.pick(self.twin.views, which), writable)

    @precondition(lambda self: self.twin.views)
    @rule(which=PICKS, place=PLACES, length=LENGTHS, byte=BYTES)
    def write_view(self, which, place, length, byte):
        volume, offset, length = self.range(place, length)
        data = bytes(k * byte & 0xFF for k in range(length))
        self.twin.write_view(self.pick(self.twin.views, which), volume, offset, data)

    @precondition(lambda self: self.twin.views)
    @rule(which=PICKS)
    def close_view(self, which):
        self.twin.close_view(self.pick(self.twin.views, which))

    @rule(kind=POINTS, k=PICKS)
    def rewind(self, kind, k):
        self.twin.rewind(self.point(kind, k))

    @rule(k=st.integers(1, 12))
    def step_back(self, k):
        self.twin.rewind(max(self.twin.oldest, self.twin.newest - k))

    @precondition(lambda self: len(self.twin.savepoints) < 4)
    @rule(name=st.one_of(st.none(), NAMES))
    def enter_savepoint(self, name):
        self.twin.enter_savepoint(name)

    @precondition(lambda self: self.twin.savepoints)
    @rule(fails=st.booleans())
    def leave_savepoint(self, fails):
        self.twin.leave_savepoint(fails)

    # Always.

    @invariant()
    def holds(self):
        if hasattr(self, "twin"):
            self.steps += 1
            self.twin.check_journal()
            for opened in self.twin.views:
                self.twin.check_view(opened)
            if self.steps % EVERY == 0:
                self.twin.check()

    def teardown(self):
        if hasattr(self, "twin"):
            while self.twin.savepoints:
                self.twin.leave_savepoint(fails=False)
            self.twin.check()
            self.twin.store.close()


def play(examples: int) -> None:
    run_state_machine_as_test(
        StoreMachine, settings=settings(max_examples=examples, stateful_step_count=50)
    )


def test_the_store_is_what_the_model_is():
    play(settings.default.max_examples // 4)


@pytest.mark.long
def test_the_store_is_what_the_model_is_over_many_more_examples():
    play(7 * settings.default.max_examples // SHARE)
