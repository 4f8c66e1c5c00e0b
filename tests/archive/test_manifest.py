"""Manifests come from whoever can write to the bucket: what is none is told, and costs little."""

from __future__ import annotations

import json
import random
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jrnl import CorruptionError, FormatError
from jrnl.archive import sealed
from jrnl.archive.manifest import (
    KINDS,
    MOST_BYTES,
    Manifest,
    Origin,
    SegmentFacts,
    SnapshotFacts,
    list_key,
    manifest_key,
    segment_key,
    snapshot_key,
    sum_of,
)
from jrnl.errors import ArchiveError
from tests.model.amount import SHARE, more_in_long

_SEALED_AS = b"manifest"
NUMBER = st.integers(0, (1 << 63) - 1)
HEX = st.text("0123456789abcdef", min_size=1, max_size=32)
NAME = st.sampled_from([f"{a}{b}" for a in "abcdvxyz" for b in ("", "1", "_x9")])
ORIGIN = st.builds(
    Origin,
    key=HEX,
    volumes=st.lists(
        st.tuples(NAME, st.integers(1, 1 << 50)).map(list), min_size=1, unique_by=lambda v: v[0]
    ),
    journal=NUMBER,
    images=st.sampled_from(["both", "after"]),
    overflow=st.sampled_from(["evict", "fold", "refuse"]),
    sync=st.sampled_from(["flush", "always"]),
    created_ns=NUMBER,
)


@st.composite
def manifests(draw: st.DrawFn) -> Manifest:
    """Draw what a writer might say."""
    epoch = draw(st.integers(1, 1000))
    seqs = sorted(draw(st.lists(st.integers(1, 1 << 40), max_size=12, unique=True)))
    rows, base = [], 0
    for last in seqs:
        head = draw(st.integers(1, 1000))
        rows.append(
            SegmentFacts(
                segment_key(epoch, base + 1, last), base, base + 1, last,
                draw(st.integers(-1, base)), head + draw(st.integers(0, 1 << 30)), head,
                draw(NUMBER), draw(HEX),
            )
        )  # fmt: skip
        base = last
    listed = draw(st.integers(0, len(rows)))
    lists = [replace(each, key=list_key(epoch, each.first, each.last)) for each in rows[:listed]]
    states = sorted(draw(st.lists(st.integers(0, base), max_size=3, unique=True)))
    snapshots = [
        SnapshotFacts(seq, draw(NUMBER), snapshot_key(epoch, seq, k), draw(NUMBER), draw(HEX))
        for k, seq in enumerate(states)
    ]
    marks = draw(st.dictionaries(NAME, st.tuples(NUMBER, NUMBER, NUMBER, NAME).map(list)))
    return Manifest(
        draw(st.integers(1, 1 << 40)), epoch, draw(HEX), draw(st.sampled_from(KINDS)),
        draw(NUMBER), draw(ORIGIN), base, draw(NUMBER), snapshots, rows[listed:], lists, marks,
        draw(st.lists(st.sampled_from([each.key for each in rows] or ["seg/1"]), max_size=3)),
        draw(HEX),
    )  # fmt: skip


@given(manifests())
def test_what_is_said_is_read_back(manifest: Manifest):
    body = manifest.to_bytes()
    found = Manifest.parse(body, manifest_key(manifest.n))
    assert found == manifest
    assert found.sum == sum_of(body)


def sample() -> Manifest:
    origin = Origin("ab12", [["v", 4096], ["w", 512]], 65536, "both", "evict", "flush", 7)
    first = SegmentFacts(segment_key(2, 1, 9), 0, 1, 9, -1, 100, 40, 5, "aa")
    segments = [replace(first, key=segment_key(3, 10, 12), base=9, first=10, last=12, low=4)]
    snapshots = [SnapshotFacts(9, 5, snapshot_key(3, 9, 1), 80, "bb")]
    lists = [replace(first, key=list_key(3, 1, 9))]
    return Manifest(
        5, 3, "cafe", "publish", 9, origin, 12, 6, snapshots, segments, lists,
        {"m": [3, 4, 3, "v"]}, ["pack/00000001-000000000001"], "dd",
    )  # fmt: skip


KEY = manifest_key(5)


def refused(body: bytes) -> None:
    with pytest.raises((CorruptionError, FormatError), match=KEY):
        Manifest.parse(body, KEY)


def test_every_flipped_bit_and_every_end_is_noticed():
    body = sample().to_bytes()
    assert Manifest.parse(body, KEY) == sample()
    for at in range(8 * len(body)):
        hurt = bytearray(body)
        hurt[at // 8] ^= 1 << at % 8
        refused(bytes(hurt))
    for end in range(len(body)):
        refused(body[:end])
    refused(body + b"\0")


ODD: tuple[Any, ...] = (
    None, True, False, -1, 0, 1, 1.5, 1e308, float("nan"), float("inf"), 1 << 63, -(1 << 63) - 1,
    10**4000, "", "x", "\0", "../../etc/passwd", "\ud800", "a" * 5000, [], [[]], {}, {"": 0},
    [None], [[0, 0, 0]], "seg/00000003-00000000000000000001-00000000000000000009/..",
)  # fmt: skip


def forged(said: Any) -> bytes:
    return sealed.seal(_SEALED_AS, json.dumps(said).encode())


def said_by(manifest: Manifest) -> Any:
    body = manifest.to_bytes()
    return json.loads(sealed.unseal(_SEALED_AS, body, KEY, MOST_BYTES))


def places(value: Any, way: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the way to each value inside."""
    yield way
    if isinstance(value, list):
        value = dict(enumerate(value))
    for key, each in value.items() if isinstance(value, dict) else ():
        yield from places(each, (*way, key))


def with_value(said: Any, way: tuple[Any, ...], value: Any) -> Any:
    if not way:
        return value
    copy = json.loads(json.dumps(said))
    inside = copy
    for key in way[:-1]:
        inside = inside[key]
    inside[way[-1]] = value
    return copy


def taken_or_refused(body: bytes) -> bool:
    """Whether it is taken for a manifest, which then can be written and read again."""
    try:
        found = Manifest.parse(body, KEY)
    except (CorruptionError, FormatError):
        return False
    again = found.to_bytes()
    assert Manifest.parse(again, KEY) == found
    return True


def test_every_value_forged_with_a_right_checksum_is_refused_or_harmless():
    said = said_by(sample())
    assert taken_or_refused(forged(said))
    taken = 0
    ways = list(places(said))
    assert len(ways) > 60
    for way in ways:
        for value in ODD:
            taken += taken_or_refused(forged(with_value(said, way, value)))
    assert 0 < taken < len(ways) * len(ODD) / 5


@more_in_long("count", 1500, 60000 // SHARE)
def test_several_values_forged_at_once_are_refused_or_harmless(count: int, seed: int):
    rng = random.Random(seed)
    said = said_by(sample())
    ways = list(places(said))
    pool = [*ODD, *(pick(said, way) for way in ways)]
    for _ in range(count):
        other = said
        for _ in range(rng.randint(1, 3)):
            way = rng.choice(ways)
            try:
                other = with_value(other, way, rng.choice(pool))
            except (LookupError, TypeError):
                continue
        taken_or_refused(forged(other))


def pick(said: Any, way: tuple[Any, ...]) -> Any:
    for key in way:
        said = said[key]
    return said


@pytest.mark.parametrize("missing", ["n", "epoch", "store", "segments", "lists", "condemned"])
def test_a_value_that_is_missing_is_told(missing: str):
    said = said_by(sample())
    del said[missing]
    refused(forged(said))


def test_what_a_newer_version_writes_is_refused_as_such():
    said = said_by(sample())
    for changes in ({"format": 2}, {"flags": ["striped"]}):
        with pytest.raises(FormatError, match="newer"):
            Manifest.parse(forged(said | changes), KEY)


def test_a_manifest_by_another_number_is_refused():
    with pytest.raises(FormatError, match="manifest 5"):
        Manifest.parse(sample().to_bytes(), manifest_key(6))


@pytest.mark.parametrize(
    "payload",
    [
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"9" * 100_000,
        b"{}",
        b"[]",
        b'"',
        b"",
        b"\xff\xfe",
        b" " * (1 << 20),
        b"[" + b"[]," * 50_000 + b"[]]",
        b'{"format":1,"flags":[],"n":1' + b',"n":1' * 100_000 + b"}",
    ],
    ids=lambda payload: f"{len(payload)} of {payload[:5]!r}",
)
def test_no_payload_is_too_odd_to_be_refused(payload: bytes):
    refused(sealed.seal(_SEALED_AS, payload))


def test_a_payload_that_says_it_is_huge_takes_no_memory():
    bomb = sealed.seal(_SEALED_AS, bytes(MOST_BYTES + 1))
    assert len(bomb) < 1 << 20
    tracemalloc.start()
    try:
        refused(bomb)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


def test_a_manifest_that_could_not_be_read_is_not_written(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("jrnl.archive.manifest.MOST_BYTES", 1000)
    sample().to_bytes()
    marks = {f"m{k}": [1, 1, 1] for k in range(100)}
    with pytest.raises(ArchiveError, match="100 marks"):
        replace(sample(), marks=marks).to_bytes()
