"""What an ext file system's journal says is to be put into place: of journals made by hand."""

from __future__ import annotations

import io
import struct

import pytest

from jrnl import FormatError
from jrnl.ext_journal import Journal, Overlaid

MAGIC, SIZE = 0xC03B3998, 1024
DESCRIPTOR, COMMIT, REVOKE = 1, 2, 5
ESCAPED, SAME_UUID, LAST = 1, 2, 8


def head(kind: int, sequence: int) -> bytes:
    return struct.pack(">III", MAGIC, kind, sequence)


def descriptor(sequence: int, *blocks: int, flags: int = 0) -> bytes:
    """Name blocks; the first one's tag has the journal's id behind it."""
    text = head(DESCRIPTOR, sequence)
    for k, block in enumerate(blocks):
        last = LAST if k == len(blocks) - 1 else 0
        text += struct.pack(">IHH", block, 0, flags | last | (SAME_UUID if k else 0))
        text += b"" if k else bytes(16)
    return text


def revoke(sequence: int, *blocks: int) -> bytes:
    used = 16 + 4 * len(blocks)
    return head(REVOKE, sequence) + struct.pack(f">I{len(blocks)}I", used, *blocks)


def journal(*blocks: bytes, start: int = 1, sequence: int = 7, features: int = 1) -> Journal:
    """A journal of 16 blocks, in which these stand from `start` on, in a ring."""
    ring = [b""] * 15
    for k, block in enumerate(blocks):
        ring[(start - 1 + k) % 15] = block
    first = head(4, 0) + struct.pack(">IIIIIIIII", SIZE, 16, 1, sequence, start, 0, 0, features, 0)
    file = io.BytesIO(b"".join(block.ljust(SIZE, b"\0") for block in (first, *ring)))
    return Journal(file, lambda value, data: value)


def shown(made: Journal) -> dict[int, bytes]:
    return {
        block: made.read(place, escaped=escaped).rstrip(b"\0")
        for block, (place, escaped) in made.blocks().items()
    }


def test_the_newest_committed_content_of_each_block_counts():
    made = journal(
        descriptor(7, 100, 200), b"old", b"two", head(COMMIT, 7),
        descriptor(8, 100), b"new", head(COMMIT, 8),
        descriptor(9, 200), b"not committed",
    )  # fmt: skip
    assert shown(made) == {100: b"new", 200: b"two"}


def test_a_transaction_of_several_descriptors_ends_with_its_commit():
    made = journal(
        descriptor(7, 100), b"one", descriptor(7, 200), b"two", head(COMMIT, 7), head(COMMIT, 9)
    )
    assert shown(made) == {100: b"one", 200: b"two"}


@pytest.mark.parametrize("start", [1, 9, 13, 14, 15])
def test_the_ring_goes_on_at_its_begin(start):
    made = journal(
        descriptor(7, 100, 200), b"one", b"two", head(COMMIT, 7),
        descriptor(8, 300), b"three", head(COMMIT, 8), start=start,
    )  # fmt: skip
    assert shown(made) == {100: b"one", 200: b"two", 300: b"three"}


def test_what_was_revoked_is_not_put_into_place_but_what_came_after_is():
    made = journal(
        descriptor(7, 100, 200, 300), b"one", b"two", b"three", head(COMMIT, 7),
        revoke(8, 100, 200), descriptor(8, 400), b"four", head(COMMIT, 8),
        descriptor(9, 200), b"again", head(COMMIT, 9),
        revoke(10, 300),
    )  # fmt: skip
    assert shown(made) == {200: b"again", 300: b"three", 400: b"four"}


def test_a_block_that_begins_with_the_magic_gets_it_back():
    made = journal(descriptor(7, 100, flags=ESCAPED), bytes(4) + b"rest", head(COMMIT, 7))
    assert shown(made) == {100: MAGIC.to_bytes(4, "big") + b"rest"}


def test_stale_transactions_and_a_journal_that_is_empty_count_nothing():
    stale = descriptor(6, 100), b"stale", head(COMMIT, 6)
    assert shown(journal(*stale)) == {}
    assert shown(journal(*stale, start=0, sequence=6)) == {}
    assert shown(journal(b"no magic", *stale, sequence=6)) == {}


def test_a_journal_that_goes_round_for_ever_ends():
    assert shown(journal(*[head(COMMIT, 7 + k) for k in range(15)])) == {}
    again = [descriptor(7, *range(100, 114))] * 15
    assert shown(journal(*again)) == {}


def test_wide_block_numbers_and_revokes_are_read():
    gone = head(REVOKE, 8) + struct.pack(">IQ", 24, 1 << 32 | 6)
    made = journal(
        head(DESCRIPTOR, 7) + struct.pack(">IHHI", 6, 0, 0, 1) + bytes(16)
        + struct.pack(">IHHI", 5, 0, LAST | SAME_UUID, 1),
        b"six", b"five", head(COMMIT, 7), gone, head(COMMIT, 8), features=3,
    )  # fmt: skip
    assert shown(made) == {1 << 32 | 5: b"five"}


@pytest.mark.parametrize("features", [32, 1 << 31])
def test_unknown_features_are_refused(features):
    with pytest.raises(FormatError, match="features"):
        journal(features=features)


def test_a_file_is_read_with_the_journals_blocks_in_place():
    made = journal(descriptor(7, 1, 3), b"A" * SIZE, b"B" * SIZE, head(COMMIT, 7))
    plain = bytes(range(256)) * 16 + b"tail"
    expected = plain[:SIZE] + b"A" * SIZE + plain[2048:3072] + b"B" * SIZE + b"tail"
    file = Overlaid(io.BytesIO(plain), made)
    assert file.block_count == 2
    assert file.read(10_000) == expected
    for start, length in ((0, 1), (1000, 50), (1023, 2050), (3000, 2000), (4095, 2), (5000, 3)):
        assert file.seek(start) == start
        assert file.read(length) == expected[start : start + length]
    assert file.seek(-6, io.SEEK_END) == 4094
    assert file.seek(-10, io.SEEK_CUR) == file.tell() == 4084
