"""Hypothesis plays the host of a store on disk, and now and then pulls the plug of its process."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule, run_state_machine_as_test

from tests.model.amount import SHARE
from tests.model.disk_twin import DiskTwin
from tests.states.test_statemachine import SIZES, StoreMachine


class DiskMachine(StoreMachine):
    """The same rules, and the end of a life."""

    @initialize(
        sizes=st.lists(SIZES, min_size=1, max_size=2),
        journal=st.sampled_from([16384, 16483, 20000, 32768, 65536, 1 << 18]),
        images=st.sampled_from(["both", "both", "after"]),
        overflow=st.sampled_from(["evict", "evict", "fold", "fold", "refuse"]),
        sync=st.sampled_from(["flush", "flush", "always"]),
    )
    def create(self, sizes, journal, images, overflow, sync):
        self.twin = DiskTwin(sizes, journal, images, overflow, sync)
        self.steps = 0

    @rule()
    def reopen(self):
        self.twin.reopen()

    @rule()
    def look(self):
        self.twin.look()

    @rule(look=st.booleans())
    def kill(self, look):
        self.twin.kill(look)

    @precondition(lambda self: self.twin.newest > 0)
    @rule(k=st.integers(1, 12))
    def step_back_and_die(self, k):
        """A rewind's entry is in no group of the log yet."""
        self.twin.rewind(max(self.twin.oldest, self.twin.newest - k))
        self.twin.kill()

    def teardown(self):
        if hasattr(self, "twin"):
            try:
                self.twin.kill()
                self.twin.check()
            finally:
                self.twin.discard()


def play(examples: int, steps: int = 50) -> None:
    run_state_machine_as_test(
        DiskMachine, settings=settings(max_examples=examples, stateful_step_count=steps)
    )


def test_a_store_on_disk_is_what_the_model_is():
    play(settings.default.max_examples // 10)


@pytest.mark.long
def test_a_store_on_disk_is_what_the_model_is_over_many_more_examples():
    play(4 * settings.default.max_examples // SHARE)
