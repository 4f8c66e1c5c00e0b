"""Frames: what was sealed comes back; what is damaged or of another kind does not."""

from __future__ import annotations

import os
import struct

import pytest
import xxhash

from jrnl.archive import sealed
from jrnl.errors import CorruptionError, FormatError

MOST = 1 << 20
KEY = "seg/1"
GOLDEN = (
    "4a524e4c415243486d616e6966657374010000000000000007000000000000000700000000000000"
    "917e1274274fc195b27a2d2388d9568cfa99786caeabfa71636f6e74656e74"
)
CONTENTS = [b"", b"a", os.urandom(100), b"abc" * 1000, bytes(70_000)]


def forged(body: bytes, offset: int, value: bytes) -> bytes:
    """A frame whose header says something else, and has the sum for it."""
    fields = bytearray(body[:56])
    fields[offset : offset + len(value)] = value
    return bytes(fields) + xxhash.xxh3_64_digest(fields) + body[64:]


@pytest.mark.parametrize("compress", [True, False])
@pytest.mark.parametrize("content", CONTENTS, ids=len)
def test_what_was_sealed_comes_back(content, compress):
    body = sealed.seal(b"manifest", content, compress=compress)
    assert sealed.unseal(b"manifest", body, KEY, MOST) == content
    assert len(body) <= sealed.HEADER_BYTES + len(content)


def test_what_packs_well_is_packed():
    assert len(sealed.seal(b"table", bytes(70_000))) < 1000


def test_two_frames_in_a_row_are_read_one_after_the_other():
    body = sealed.seal(b"head", b"first" * 99) + sealed.seal(b"data", b"second")
    first, used = sealed.unseal_first(b"head", body, KEY, MOST)
    assert first == b"first" * 99
    assert used == sealed.parse_header(b"head", body[:64], KEY, MOST).frame_bytes
    assert sealed.unseal(b"data", body[used:], KEY, MOST) == b"second"


@pytest.mark.parametrize("content", [b"", b"abc" * 100, os.urandom(60)], ids=len)
def test_any_flipped_bit_and_any_cut_is_noticed(content):
    body = sealed.seal(b"manifest", content)
    for bit in range(8 * len(body)):
        bad = bytearray(body)
        bad[bit // 8] ^= 1 << bit % 8
        with pytest.raises(CorruptionError, match=KEY):
            sealed.unseal(b"manifest", bytes(bad), KEY, MOST)
    for length in range(len(body)):
        with pytest.raises(CorruptionError, match=KEY):
            sealed.unseal(b"manifest", body[:length], KEY, MOST)
    with pytest.raises(CorruptionError, match="follows"):
        sealed.unseal(b"manifest", body + b"\0", KEY, MOST)


def test_another_kind_is_damage_and_another_version_a_matter_of_format():
    body = sealed.seal(b"segment", b"content" * 9)
    with pytest.raises(CorruptionError, match="segment"):
        sealed.unseal(b"table", body, KEY, MOST)
    for offset, value in ((16, b"\x02"), (18, b"\x02"), (20, b"\x01"), (23, b"\x80")):
        with pytest.raises(FormatError, match="newer"):
            sealed.unseal(b"segment", forged(body, offset, value), KEY, MOST)
    with pytest.raises(CorruptionError, match="no object"):
        sealed.unseal(b"segment", forged(body, 0, b"X"), KEY, MOST)


def test_no_more_memory_is_taken_than_may_be():
    body = sealed.seal(b"table", bytes(MOST + 1))
    with pytest.raises(CorruptionError, match="at most"):
        sealed.unseal(b"table", body, KEY, MOST)
    # What is packed says another length than the header: either way round.
    lying = forged(body, 32, struct.pack("<Q", 100))
    with pytest.raises(CorruptionError, match="packed"):
        sealed.unseal(b"table", lying, KEY, MOST)
    with pytest.raises(CorruptionError, match="at most"):
        sealed.unseal(b"table", forged(body, 24, b"\xff" * 8), KEY, MOST)


def test_what_cannot_be_unpacked_is_damage():
    plain = sealed.seal(b"table", os.urandom(500))
    lying = forged(plain, 18, b"\x01")  # says that it is packed
    with pytest.raises(CorruptionError, match="unpacked"):
        sealed.unseal(b"table", lying, KEY, MOST)
    packed = sealed.pack(b"x" * 500)
    for bad in (packed + packed, packed + b"\0", packed[:-1], b""):
        with pytest.raises(CorruptionError):
            sealed.unpack(bad, 500, KEY)


def test_the_bytes_of_a_frame_are_what_they_were():
    body = sealed.seal(b"manifest", b"content", compress=False)
    assert body.hex() == GOLDEN
    assert sealed.unseal(b"manifest", bytes.fromhex(GOLDEN), KEY, MOST) == b"content"
