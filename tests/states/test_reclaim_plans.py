"""Pins, thresholds and ages at once: what a plan says is what a restore does."""

from __future__ import annotations

import random
import shutil

from hypothesis import given, settings
from hypothesis import strategies as st

import jrnl
from jrnl import JournalFull
from tests.model.disk_twin import folder_in_memory
from tests.model.twin import Clock
from tests.states.test_reclaim import SECOND, content

RULES = st.fixed_dictionaries({
    "reclaim": st.sampled_from([None, None, (0.9, 0.5), (0.6, 0.6), (1, 0.3)]),
    "keep_at_least": st.sampled_from([None, None, 3]),
    "keep_at_most": st.sampled_from([None, None, 9]),
})  # fmt: skip


def play(store: jrnl.Store, clock: Clock, dice: random.Random) -> int:
    """Do anything, within the rules; count the restores."""
    pins: list[jrnl.Pin] = []
    restores = 0
    for _ in range(80):
        act, size = dice.random(), store.volume.size
        clock.now += dice.choice((0, 0, SECOND))
        face = store.seq, store.window, store.volume.read(0, size)
        try:
            if act < 0.5:
                length = dice.randrange(1, 3000)
                store.volume.write(dice.randrange(size - length), dice.randbytes(length))
            elif act < 0.6:
                store.volume.write_many([0, 5000, 9000, 400], dice.randbytes(4 * 1500))
            elif act < 0.65:
                store.volume.discard(dice.randrange(4096), 20000)
            elif act < 0.75:
                store.flush()
            elif act < 0.8:
                pins.append(store.pin(dice.choice([*store.journal.entries["seq"], store.seq])))
            elif act < 0.9 and pins:
                pins.pop(dice.randrange(len(pins))).release()
            else:
                with store.recover(store.window.oldest) as recovery:
                    wanted = recovery.read(0, size)
                    oldest = recovery.plan.oldest_after_restore
                    recovery.restore()
                    assert store.window.oldest == oldest
                    assert store.volume.read(0, size) == wanted
                    restores += 1
        except JournalFull:
            assert face == (store.seq, store.window, store.volume.read(0, size))
        for pin in pins:
            assert pin.seq >= store.window.oldest
            content(store, pin.seq)
    assert store.verify().ok
    return restores


@settings(deadline=None)
@given(seed=st.integers(0, 1 << 32), rules=RULES, journal=st.sampled_from([16384, 32768, 65536]))
def test_whatever_the_rules_a_restore_does_what_its_plan_says(seed, rules, journal):
    clock = Clock()
    with jrnl.create(size=32768, journal=journal, clock=clock, images="both", **rules) as store:
        play(store, clock, random.Random(seed))


@settings(deadline=None, max_examples=max(settings.default.max_examples // 2, 10))
@given(
    seed=st.integers(0, 1 << 32),
    rules=RULES,
    journal=st.sampled_from([16384, 32768, 65536, 1 << 18]),
    sync=st.sampled_from(["flush", "always"]),
)
def test_whatever_the_rules_on_disk_a_restore_does_what_its_plan_says(seed, rules, journal, sync):
    clock, folder = Clock(), folder_in_memory()
    try:
        with jrnl.create(folder / "s", size=32768, journal=journal, clock=clock, sync=sync,
                         overlay="64KiB", **rules) as store:  # fmt: skip
            play(store, clock, random.Random(seed))
    finally:
        shutil.rmtree(folder)
