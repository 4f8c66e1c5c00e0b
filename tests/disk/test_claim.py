"""The steps of the claim again, in a store on disk, which is opened again wherever that is fair."""

from __future__ import annotations

import pytest

import jrnl
from tests.states import test_claim
from tests.states.test_claim import FIRST, write_three

test_requests_are_received = test_claim.test_requests_are_received
test_a_snapshot_holds_the_first_state = test_claim.test_a_snapshot_holds_the_first_state
test_writes_make_the_second_state = test_claim.test_writes_make_the_second_state
test_recovery_makes_a_third_state = test_claim.test_recovery_makes_a_third_state_between
test_restore_copies_it_to_production = test_claim.test_restore_copies_it_to_production
test_again_starts_from_the_copy = test_claim.test_again_starts_from_the_preserved_copy


@pytest.fixture(params=["both", "after"])
def images(request) -> str:
    return request.param


@pytest.fixture
def store(tmp_path, images):
    with jrnl.create(tmp_path / "s", size="64KiB", journal="64KiB", images=images) as store:
        store.volume.write(0, FIRST)
        yield store


@pytest.mark.parametrize("images", ["both"])
def test_an_entry_holds_what_it_overwrote(store):
    test_claim.test_an_entry_holds_what_it_overwrote(store)


def test_every_step_outlives_the_store_that_took_it(store, tmp_path):
    """Snapshot, writes, recovery, restore, re-recovery, restore: a store is opened for each."""
    store.snapshot("original")
    contents = write_three(store.volume)
    store.close()
    with jrnl.open(tmp_path / "s") as later:
        recovery = later.recover(3, base="original")
        assert recovery.base == "original"
        number = recovery.id
        recovery.restore()
    with jrnl.open(tmp_path / "s") as later:
        assert later.volume.read(0, 4096) == contents[1]
        later.snapshots["original"].delete()
        later.volume.write(0, b"\xff" * 4096)
    with jrnl.open(tmp_path / "s") as later:
        later.recoveries[number].again().restore()
        assert later.volume.read(0, 4096) == contents[1]
    with jrnl.open(tmp_path / "s") as later:
        later.recoveries[number].again(to=2).restore()
        assert later.volume.read(0, 4096) == contents[0]
        assert later.verify().ok
