"""Archives that somebody else has written: nothing is read beyond bounds, and nothing hangs."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest

import jrnl
from jrnl import Kind
from jrnl.archive.ledger import Ledger
from jrnl.archive.manifest import manifest_key, sum_of
from jrnl.archive.objects import from_url
from jrnl.archive.segment import SEGMENT_ROW, Segment
from jrnl.archive.table import CHUNK, ROW, Pack, Table
from tests.archive.histories import SIZES, Archived, content_of, new_url

NOTHING = (1 << 64) - 1


@pytest.fixture(scope="module")
def archived(tmp_path_factory):
    with Archived(tmp_path_factory.mktemp("hostile"), new_url(), 70) as made:
        made.go_on(60)
        made.archive.close()
        yield made


def forged(archived, change, bodies=None):
    """Another archive, with the newest manifest changed and other objects in their places."""
    url = new_url()
    objects = from_url(url)
    newest = Ledger(archived.objects).look()
    bodies = bodies or {}
    for listed in archived.objects.list(""):
        if listed.key != manifest_key(newest.n):
            objects.create(listed.key, bodies.get(listed.key) or archived.objects.get(listed.key))
    manifest = change(newest)
    objects.create(manifest_key(manifest.n), manifest.to_bytes())
    return url


def with_segment(archived, segment):
    """An archive whose last segment is another one, which its manifest says is right."""
    newest = Ledger(archived.objects).look()
    head, data = segment.to_parts()
    body = head + data
    facts = replace(
        newest.segments[-1], bytes=len(body), head_bytes=len(head), sum=sum_of(body),
        base=segment.base, first=segment.first, last=segment.last,
    )  # fmt: skip
    news = {"segments": [*newest.segments[:-1], facts], "seq": segment.last}
    return forged(archived, lambda now: replace(now, **news), {facts.key: body})


def refusing(url, seq=None):
    def read():
        with jrnl.archive.open(url, seq) as state:
            content_of(state)

    with pytest.raises((jrnl.CorruptionError, jrnl.FormatError, jrnl.PointExpired)) as raised:
        read()
    return str(raised.value)


@pytest.mark.parametrize(
    "row",
    [
        (Kind.WRITE, 0, SIZES["a"] - 3, 4, 0),
        (Kind.WRITE, 1, SIZES["b"], 4, 0),
        (Kind.WRITE, 2, 0, 4, 0),
        (Kind.DISCARD, 0, 0, SIZES["a"] + 1, NOTHING),
        (Kind.ZEROES, 0, (1 << 63) - 4, 4, NOTHING),
    ],
)
def test_entries_outside_the_volumes_are_refused(archived, tmp_path, row):
    newest = Ledger(archived.objects).look()
    kind, volume, offset, length, position = row
    base = newest.segments[-1].base
    rows = np.array([(base + 1, 1, kind, volume, offset, length, position)], SEGMENT_ROW)
    data = memoryview(b"four" if kind == Kind.WRITE else b"")
    url = with_segment(archived, Segment(base, rows, data))
    assert newest.segments[-1].key in refusing(url)
    with pytest.raises(jrnl.CorruptionError):
        jrnl.archive.restore(url, tmp_path / "s")
    assert not (tmp_path / "s").exists()
    assert not jrnl.archive.verify(url).ok


def test_a_table_that_unpacks_to_more_than_the_volumes_take_is_not_unpacked(archived):
    newest = Ledger(archived.objects).look()
    count = 1 << 20
    rows = np.zeros(count, ROW)
    rows["offset"], rows["length"] = np.arange(count) << 16, 1 << 16
    chunks = np.zeros(1, CHUNK)
    chunks["position"], chunks["stored"], chunks["length"] = 64, 1 << 16, 1 << 16
    body = Table(rows, chunks, [Pack(1, 1, 1 << 17, bytes(16))]).to_bytes()
    facts = replace(newest.snapshots[-1], bytes=len(body), sum=sum_of(body))
    url = forged(
        archived,
        lambda now: replace(now, snapshots=[*now.snapshots[:-1], facts]),
        {facts.key: body},
    )
    message = refusing(url)
    assert facts.key in message
    assert "at most" in message


def test_a_manifest_that_says_more_of_a_segment_than_is_in_it_is_refused(archived):
    newest = Ledger(archived.objects).look()
    facts = replace(newest.segments[-1], last=newest.seq + 1)
    news = {"segments": [*newest.segments[:-1], facts], "seq": newest.seq + 1}
    with pytest.raises(jrnl.CorruptionError, match=facts.key):
        jrnl.archive.open(forged(archived, lambda now: replace(now, **news)), newest.seq + 1)


def test_a_segment_that_is_another_one_is_refused(archived):
    newest = Ledger(archived.objects).look()
    first, second = newest.segments[0], newest.segments[1]
    url = forged(archived, lambda now: now, {first.key: archived.objects.get(second.key)})
    assert first.key in refusing(url)


def test_what_a_manifest_says_at_random_raises_what_is_told_or_reads_right(archived):
    newest = Ledger(archived.objects).look()
    dice = random.Random(1)
    for _ in range(150):
        k = dice.randrange(len(newest.segments))
        name = dice.choice(["base", "first", "last", "low", "bytes", "head_bytes", "time_ns"])
        value = dice.choice([0, 1, -1, (1 << 63) - 1, dice.randrange(200)])
        changed = replace(newest.segments[k], **{name: value})

        def change(now, k=k, changed=changed):
            return replace(now, segments=[*now.segments[:k], changed, *now.segments[k + 1 :]])

        url = forged(archived, change)
        seq = dice.choice([*archived.states])
        try:
            with jrnl.archive.open(url, seq) as state:
                assert content_of(state) == archived.states[seq]
        except (jrnl.CorruptionError, jrnl.FormatError, jrnl.PointExpired):
            pass
