"""Crash states from Hypothesis: what is drawn, what it shrinks to, machines that lose power."""

from __future__ import annotations

import re

import pytest
from hypothesis import HealthCheck, Phase, find, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import rule, run_state_machine_as_test

import jrnl
from jrnl import crash
from jrnl.strategies import CrashMachine, crash_states

QUIET = settings(database=None, deadline=None, print_blob=False)


def small_history():
    """Two epochs, of three writes and of four; two of each touch one block."""
    store = jrnl.create(size="64KiB", journal="1MiB")
    for k in range(3):
        store.volume.write(4096 * k // 2, bytes([k + 1]) * 700)
    store.flush()
    for k in range(4):
        store.volume.write(4096 * k // 2, bytes([k + 11]) * 700)
    return store


@pytest.mark.parametrize("mode", ["prefix", "subset", "torn"])
def test_what_is_drawn_is_what_there_may_be_and_comes_back_by_its_id(mode):
    with small_history() as history:
        legal = {state.digest() for state in crash.states(history, mode=mode)}
        drawn = set()

        @settings(QUIET, max_examples=200, phases=[Phase.generate])
        @given(state=crash_states(history, mode=mode))
        def look(state):
            again = crash.state(history, state.id)
            assert again.digest() == state.digest()
            drawn.add(state.digest())

        look()
        # Of a log of few states all are drawn; of torn ones there are too many to look at all.
        assert drawn <= legal or mode == "torn"
        assert len(drawn) > min(len(legal), 60) // 2


def test_it_shrinks_to_the_first_moment_and_the_fewest_that_are_lost():
    with small_history() as history:
        states = crash_states(history)
        assert find(states, lambda _: True, settings=QUIET).id == "0"
        found = find(states, lambda state: len(state.lost) >= 2, settings=QUIET)
        assert (found.seq, found.id) == (2, "2-s3")


def test_of_very_many_writes_few_are_lost_or_all_from_some_on():
    with jrnl.create(size="1MiB", journal="4MiB") as history:
        for k in range(200):
            history.volume.write(4096 * k, b"x")
        states = crash_states(history, start=200)
        assert find(states, lambda state: len(state.lost) > 100, settings=QUIET).lost
        assert len(find(states, lambda state: state.lost, settings=QUIET).lost) == 1


def test_a_failing_example_says_how_to_have_its_state_again():
    @settings(QUIET)
    @given(state=crash_states(small_history))
    def never_loses(state):
        assert not state.lost

    with pytest.raises(AssertionError) as caught:
        never_loses()
    said = "\n".join(caught.value.__notes__)
    assert "state=<jrnl.crash.CrashState 1-s1>" in said
    assert "jrnl.crash.state(history, '1-s1')" in said
    assert "entry 1: write of 700 bytes at offset 0" in said


@pytest.mark.parametrize("arguments", [{"mode": "all"}, {"tag": 3}])
def test_what_is_no_argument_is_refused_before_anything_is_drawn(arguments):
    with small_history() as history, pytest.raises((jrnl.InvalidArgument, jrnl.InvalidType)):
        crash_states(history, **arguments)


RECORDS = st.sampled_from([b"a", b"b"])


class ToyLog(CrashMachine):
    """A log of one byte records, and a header that says how many there are."""

    options = {"size": "64KiB", "journal": "256KiB"}  # noqa: RUF012
    flushes = True

    def __init__(self):
        super().__init__()
        self.records = self.acknowledged = b""

    @rule(record=RECORDS)
    def append(self, record):
        self.store.volume.write(4096 + len(self.records), record)
        self.records += record

    @rule()
    def commit(self):
        if self.flushes:
            self.store.flush()  # the header tells of records: they have to be there first
        self.store.volume.write(0, bytes([len(self.records)]))
        self.store.flush()
        self.acknowledged = self.records

    @rule(record=RECORDS)
    def append_and_tell(self, record):
        """The same in one step, which power may leave half done."""
        self.append(record)
        if self.flushes:
            self.store.flush()
        self.store.volume.write(0, bytes([len(self.records)]))

    def recovered(self, state):
        assert self.store is not state
        [count] = self.store.volume.read(0, 1)
        found = self.store.volume.read(4096, count)
        assert found.startswith(self.acknowledged)
        assert found == self.records[:count]
        self.records = self.acknowledged = found


class ForgetsAFlush(ToyLog):
    flushes = False


MACHINES = settings(
    QUIET, max_examples=60, stateful_step_count=12, suppress_health_check=[*HealthCheck]
)

FINDS = settings(MACHINES, max_examples=500, phases=[Phase.generate, Phase.shrink])


def test_a_machine_goes_on_from_what_the_power_left():
    run_state_machine_as_test(ToyLog, settings=MACHINES)


def test_a_machine_finds_the_flush_that_was_forgotten():
    with pytest.raises(AssertionError) as caught:
        run_state_machine_as_test(ForgetsAFlush, settings=FINDS)
    said = "\n".join(caught.value.__notes__)
    calls = re.findall(r"state\.(\w+)\(", said)
    assert len(calls) < 6
    assert calls[-2:] == ["crash", "teardown"]
    assert any(call.startswith("append") for call in calls)
    assert re.search(r"what power leaves\): <jrnl.crash.CrashState [\w:-]+-s\w+>", said)
    assert re.search(r"entry \d+: write of 1 bytes at offset 409\d", said)


def test_a_machine_loses_power_in_its_recovery_too():
    ids = []

    class Twice(CrashMachine):
        options = {"size": "64KiB", "images": "both"}  # noqa: RUF012
        mode = "torn"

        @rule()
        def write(self):
            self.store.volume.write(0, b"x" * 2000)

        def recovered(self, state):
            assert self.store.options.images == "both"
            self.store.volume.write(4096, b"recovered")
            ids.append(state.id)

    run_state_machine_as_test(Twice, settings=MACHINES)
    assert max(id.count(":") for id in ids) >= 2
    assert any("-t" in id for id in ids)
