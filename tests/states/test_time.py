"""Points in time: the last state at or before it, in the order of the seqs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from jrnl import PointExpired, UnknownPoint
from tests.model.twin import EPOCH, Twin
from tests.model.whole import START_NS


def at(time_ns: int) -> datetime:
    return EPOCH + timedelta(microseconds=time_ns // 1000)


def test_time_stands_still_where_the_clock_runs_backwards():
    twin = Twin([512])
    times = []
    for step in (0, 5000, -9000, 0, 1000, 10**12, -(10**15), 10**9):
        twin.clock.now += step
        twin.write(0, 0, b"x")
        times.append(twin.clock.highest - START_NS)
    assert times == [0, 5000, 5000, 5000, 5000, 10**12 - 3000, 10**12 - 3000, 10**12 - 3000]
    entries = twin.store.journal.entries
    assert (entries["time_ns"] - START_NS).tolist() == times
    assert twin.recover(at(START_NS)).seq == 1
    assert twin.recover(at(START_NS + 4000)).seq == 1
    assert twin.recover(at(START_NS + 5000)).seq == 5
    assert twin.recover(at(START_NS + 10**12 - 4000)).seq == 5
    assert twin.recover(at(START_NS + 10**15)).seq == 8
    twin.check()


def test_time_of_a_tie_is_the_last_of_its_states():
    twin = Twin([512])
    for k in range(4):
        twin.write(0, k, b"x")
    assert twin.recover(at(START_NS)).seq == 4
    twin.close_recovery(twin.recoveries[0])
    assert twin.rewind(2)  # which takes an entry, at the same time
    assert twin.recover(at(START_NS)).seq == 5


def test_time_before_the_store_is_unknown_and_before_the_window_is_expired():
    twin = Twin([512])
    for k in range(100):
        twin.clock.now += 10**6
        twin.write(0, k, b"x")
    with pytest.raises(UnknownPoint):
        twin.store.recover(at(START_NS - 1000))
    with pytest.raises(PointExpired):
        twin.store.recover(at(START_NS))
    with pytest.raises(PointExpired):
        twin.store.recover(at(START_NS + twin.oldest * 10**6 - 1000))
    for seq in range(twin.oldest, 101):
        for late in (0, 1000, 999_000):
            assert twin.recover(at(START_NS + seq * 10**6 + late)).seq == seq


def test_time_of_dropped_states_leads_to_the_state_gone_back_to():
    twin = Twin([512])
    for k in range(5):
        twin.clock.now += 10**6
        twin.write(0, k, b"x")
    twin.clock.now += 10**6
    twin.rewind(2)
    for passed, seq in [(2, 2), (3, 2), (5, 2), (6, 6), (9, 6)]:
        assert twin.recover(at(START_NS + passed * 10**6)).seq == seq
    zone = datetime.fromtimestamp(START_NS // 10**9 + 1, UTC).astimezone()
    assert twin.recover(zone).seq == 6
    twin.check()
