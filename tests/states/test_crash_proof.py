"""Crash states find bugs: in toy stores made with one mistake, and none in those made right."""

from __future__ import annotations

import json

import pytest

import jrnl
from jrnl import crash, logwrites
from tests.model.toys import (
    TOYS,
    ForgetsAFlush,
    RecoversOnce,
    ReliesOnOrder,
    TrustsATornRecord,
    WrongNumber,
)


def campaign(toy, **options):
    """Hold a toy's check against all states of its life."""
    return crash.campaign(toy.life(), toy.check, mode=toy.mode, tag=toy.tag, **options)


def is_bad(toy, state):
    with pytest.raises(WrongNumber) as raised:
        toy.check(state)
    return str(raised.value)


@pytest.mark.parametrize("toy", TOYS)
def test_a_store_made_right_passes_on_all_states(toy):
    right = toy(right=True)
    found = campaign(right)
    assert found.ok, str(found)
    assert found.coverage.exact
    assert found.coverage.looked > 13


# Of each wrong one: what is wrong, and what is lost of the state that is shrunk.
FOUND = {
    ForgetsAFlush: (
        "WrongNumber: 4 was promised, 0 is there",
        "state 10-s1: power failed after entry 10, the last flush that was acknowledged is 8\n"
        "  lost of what no flush covers, 1:\n"
        "  entry 9: write of 512 bytes at offset 0 of 'data' (home), after flush 8",
    ),
    TrustsATornRecord: (
        "WrongNumber: half of it is 1, half of it is 0",
        "state 1-t8: power failed after entry 1, the last flush that was acknowledged is none\n"
        "  lost of what no flush covers, 1:\n"
        "  entry 1: write of 512 bytes at offset 3584 of 'data', after flush 0",
    ),
    ReliesOnOrder: (
        "WrongNumber: the parts are of [0, 1, 1]",
        "state 3-s1: power failed after entry 3, the last flush that was acknowledged is none\n"
        "  lost of what no flush covers, 1:\n"
        "  entry 1: write of 512 bytes at offset 1536 of 'data' (part 0), after flush 0",
    ),
}


@pytest.mark.parametrize("toy", FOUND)
def test_a_store_with_a_mistake_is_found_shrunk_and_explained(toy):
    found = campaign(toy(right=False), failures_max=1)
    assert not found.ok
    [failure] = found.failures
    assert (failure.message, failure.explanation) == FOUND[toy]
    assert str(found).endswith(
        f"1 failed\n\n{failure.message}\n{failure.explanation}\n"
        f"again: jrnl.crash.state(history, {failure.shrunk!r})"
    )


@pytest.mark.parametrize("toy", FOUND)
def test_a_bad_state_that_has_lost_much_shrinks_to_what_matters(toy):
    wrong = toy(right=False)
    history = wrong.life()
    bad = [s for s in crash.states(history, mode=wrong.mode, tag=wrong.tag) if fails(wrong, s)]
    worst = max(bad, key=lambda state: sum(lost.length for lost in state.lost))
    small = crash.shrink(worst, wrong.check)
    [lost] = small.lost
    assert lost.length == 512
    assert small.seq == worst.seq
    is_bad(wrong, small)
    assert not fails(wrong, small._without([]))  # with that there, too, it passes


def fails(toy, state):
    try:
        toy.check(state)
    except WrongNumber:
        return True
    return False


@pytest.mark.parametrize("toy", FOUND)
def test_a_bad_state_is_made_again_by_its_id_in_another_run(toy):
    first, second = toy(right=False), toy(right=False)
    [failure] = campaign(first, failures_max=1).failures
    again = crash.state(second.life(), failure.shrunk, tag=second.tag)
    assert again.explain() == failure.explanation
    assert f"WrongNumber: {is_bad(second, again)}" == FOUND[toy][0]


@pytest.mark.parametrize("toy", FOUND)
def test_a_bad_state_is_made_again_from_its_bundle_alone(toy, tmp_path, monkeypatch):
    wrong = toy(right=False)
    [failure] = campaign(wrong, failures_max=1, bundles=tmp_path).failures
    monkeypatch.chdir(failure.bundle)
    with open("state.json") as file:
        told = json.load(file)
    assert (told["id"], told["explanation"]) == (failure.shrunk, failure.explanation)
    image = (tmp_path / failure.bundle / told["images"]["data"]).read_bytes()
    again = eval(told["replay"], {"jrnl": jrnl, "crash": crash, "logwrites": logwrites})
    assert again.read(0, len(image)) == image
    assert f"WrongNumber: {is_bad_content(wrong, again, told)}" == told["message"]


def is_bad_content(toy, state, told):
    """The same as `is_bad`, at the moment that the bundle tells of: its log has seqs of its own."""
    with pytest.raises(WrongNumber) as raised:
        toy.hold(crash.state(toy.store, told["id"]), toy.read(state))
    return str(raised.value)


def test_prefixes_alone_do_not_find_what_relies_on_their_order():
    wrong = ReliesOnOrder(right=False)
    history = wrong.life()
    assert crash.campaign(history, wrong.check, mode="prefix").ok
    assert not crash.campaign(history, wrong.check, mode="subset", failures_max=1).ok


def test_whole_writes_alone_do_not_find_what_trusts_a_torn_one():
    wrong = TrustsATornRecord(right=False)
    history = wrong.life()
    assert crash.campaign(history, wrong.check, mode="subset").ok
    assert not crash.campaign(history, wrong.check, mode="torn", failures_max=1).ok


def recovery_cut(toy, state):
    """A campaign over the states of a recovery of `state`, each recovered once more."""
    with state.fork() as fork:
        toy.recover(fork)
        return crash.campaign(fork, toy.check_of_recovery(state), mode=toy.mode, tag=toy.tag)


def test_a_recovery_that_is_whole_if_only_it_ends_passes_where_it_does():
    assert campaign(RecoversOnce(right=False)).ok


def test_a_recovery_made_right_may_be_cut_anywhere():
    right = RecoversOnce(right=True)
    looked = 0
    for state in crash.states(right.life(), mode=right.mode):
        found = recovery_cut(right, state)
        assert found.ok, str(found)
        looked += found.coverage.looked
    assert looked > 100


def test_a_recovery_that_must_not_be_cut_is_found_shrunk_and_made_again():
    wrong = RecoversOnce(right=False)
    history = wrong.life()
    cuts = (recovery_cut(wrong, state) for state in crash.states(history, mode=wrong.mode))
    failure = next(found.failures[0] for found in cuts if not found.ok)
    assert failure.message == "WrongNumber: 0 in the first home, 1 in the second one"
    assert failure.explanation == (
        "state 2:3-s1: power failed after entry 3, the last flush that was acknowledged is none\n"
        "  lost of what no flush covers, 1:\n"
        "  entry 1: write of 512 bytes at offset 0 of 'data' (first home), after flush 0"
    )
    again = crash.state(history, failure.shrunk, recover=wrong.recover, tag=wrong.tag)
    assert again.explain() == failure.explanation
    with pytest.raises(WrongNumber, match="0 in the first home, 1 in the second"):
        wrong.check_of_recovery(crash.state(history, "2"))(again)
