"""The steps of the claim of US 2009/0019308 A1, each as an operation; docs/design.md lists them."""

from __future__ import annotations

import pytest

import jrnl

FIRST = b"first state".ljust(4096, b"1")


@pytest.fixture(params=["before", "both"])
def store(request):
    with jrnl.create(size="64KiB", journal="64KiB", images=request.param) as store:
        store.volume.write(0, FIRST)
        yield store


def write_three(volume: jrnl.Volume) -> list[bytes]:
    """Three overlapping writes; the content after each."""
    contents = []
    for offset, data in ((0, b"one" * 100), (200, b"two" * 100), (100, b"three" * 30)):
        volume.write(offset, data)
        contents.append(volume.read(0, 4096))
    return contents


def test_requests_are_received(store):
    volume = store.volume
    volume.write(10, b"written")
    volume.discard(4096, 4096)
    volume.write_zeroes(11, 3)
    assert volume.read(10, 7) == b"w\0\0\0ten"


def test_a_snapshot_holds_the_first_state(store):
    original = store.snapshot("original")
    write_three(store.volume)
    assert original.read(0, 4096) == FIRST
    assert original.seq == 1


def test_writes_make_the_second_state(store):
    store.snapshot("original")
    contents = write_three(store.volume)
    assert store.volume.read(0, 4096) == contents[-1] != FIRST


def test_an_entry_holds_what_it_overwrote(store):
    first = store.seq + 1
    contents = [FIRST, *write_three(store.volume)]
    entries = store.journal.entries
    assert [entry["seq"] for entry in entries[1:]] == [first, first + 1, first + 2]
    for content, entry in zip(contents[:3], entries[1:], strict=True):
        start, stop = entry["offset"], entry["offset"] + entry["length"]
        assert store.journal.before(entry["seq"]) == content[start:stop]


def test_recovery_makes_a_third_state_between(store):
    store.snapshot("original")
    contents = write_three(store.volume)
    for k, seq in enumerate((2, 3)):
        with store.recover(seq, base="original") as updated:
            assert updated.plan.route in ("bridge", "forward")
            assert updated.base == "original"
            assert updated.read(0, 4096) == contents[k]
    assert store.volume.read(0, 4096) == contents[2]


def test_restore_copies_it_to_production(store):
    store.snapshot("original")
    contents = write_three(store.volume)
    store.recover(3, base="original").restore()
    assert store.volume.read(0, 4096) == contents[1]


def test_again_starts_from_the_preserved_copy(store):
    original = store.snapshot("original")
    contents = write_three(store.volume)
    recovery = store.recover(3, base="original")
    recovery.restore()
    original.delete()
    store.volume.write(0, b"\xff" * 4096)
    recovery.again().restore()
    assert store.volume.read(0, 4096) == contents[1]
    recovery.again(to=2).restore()
    assert store.volume.read(0, 4096) == contents[0]
