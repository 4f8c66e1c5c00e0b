"""Who may write the next manifest, and what a collector leaves: rules that were broken once."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from jrnl.archive.collector import _Collection, collect
from jrnl.archive.ledger import Condemned, Ledger
from jrnl.archive.manifest import (
    Manifest,
    Origin,
    SegmentFacts,
    SnapshotFacts,
    manifest_key,
    segment_key,
    snapshot_key,
    sum_of,
)
from jrnl.archive.named import Named
from jrnl.archive.objects import KeyTaken, Listed, ObjectMissing
from jrnl.errors import ArchiveUnreachable, Fenced
from tests.archive.sim.wire import GRACE_NS, SECOND, Wire

ORIGIN = Origin("ab", [["v", 4096]], 65536, "both", "evict", "flush", 0)
GRACE = GRACE_NS / SECOND


class Straight:
    """Objects in the simulated store, without anybody who comes between two calls.

    Attributes
    ----------
    hidden : set of str
        What listings do not show yet.
    before : callable
        Called before each call, with what it is and its key.
    """

    url = "sim://store"

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.hidden: set[str] = set()
        self.before: Callable[[str, str], Any] = lambda what, key: None

    def create(self, key: str, body: bytes | memoryview) -> None:
        self.before("create", key)
        if not self.wire.create(key, bytes(body)) and self.wire.objects[key].body != body:
            raise KeyTaken(key)

    def get(self, key: str, most: int = 1 << 30) -> bytes:
        self.before("get", key)
        if key not in self.wire.objects:
            raise ObjectMissing(key)
        return self.wire.objects[key].body

    def list(self, prefix: str, after: str = "") -> Iterator[Listed]:
        self.before("list", prefix)
        shown = self.wire.listing(prefix, after, [])
        return iter([each for each in shown if each.key not in self.hidden])

    def delete(self, keys: Iterable[str]) -> None:
        for key in keys:
            self.before("delete", key)
            self.wire.delete(key)


@pytest.fixture
def wire() -> Wire:
    return Wire(lambda kind, key, body: None)


@pytest.fixture
def objects(wire: Wire) -> Straight:
    return Straight(wire)


def ledger_of(objects: Straight, writer: str = "a") -> Ledger:
    return Ledger(objects, clock=lambda: objects.wire.now_ns, writer=writer)


def claimed(objects: Straight, writer: str = "a") -> Ledger:
    ledger = ledger_of(objects, writer)
    ledger.claim(lambda base: ORIGIN)
    return ledger


def put(ledger: Ledger, seq: int) -> SegmentFacts:
    key, body = segment_key(ledger.epoch, seq, seq), f"{ledger.writer} {seq}".encode()
    ledger.objects.create(key, body)
    return SegmentFacts(key, seq - 1, seq, seq, -1, len(body), 1, 0, sum_of(body))


def adding(*facts: SegmentFacts) -> Callable[[Manifest], Manifest | None]:
    def change(base: Manifest) -> Manifest | None:
        fresh = [each for each in facts if each.last > base.seq]
        if not fresh:
            return None
        return base.with_news(segments=[*base.segments, *fresh], seq=fresh[-1].last)

    return change


def replacing(*facts: SegmentFacts) -> Callable[[Manifest], Manifest | None]:
    return lambda base: base.with_news(segments=[*facts], seq=facts[-1].last)


def collect_all(objects: Straight) -> Any:
    return collect(objects, GRACE, clock=lambda: objects.wire.now_ns)


def grow_old(wire: Wire) -> None:
    """Let more than the grace period go by; ages are told from the youngest object."""
    wire.wait(GRACE_NS + SECOND)
    wire.create(f"seg/00000000-{wire.now_ns:020d}-{0:020d}", b"")


def test_a_writer_goes_on_alone(objects: Straight):
    ledger = claimed(objects)
    for seq in range(1, 5):
        ledger.publish(adding(put(ledger, seq)))
    found = ledger_of(objects, "b").look()
    assert found == ledger.current
    assert [each.last for each in found.segments] == [1, 2, 3, 4]
    assert [each.n for each in ledger.all()] == [1, 2, 3, 4, 5]


def test_a_fenced_writer_stays_fenced_and_cannot_claim_the_archive_back(objects: Straight):
    first, second = claimed(objects, "a"), claimed(objects, "b")
    facts = put(first, 1)
    for _ in range(3):
        with pytest.raises(Fenced, match="epoch 2; ours is 1"):
            first.publish(adding(facts))
    with pytest.raises(Fenced):
        first.publish(lambda base: None)
    with pytest.raises(Fenced):
        first.claim(lambda base: ORIGIN)
    second.publish(adding(put(second, 1)))


def test_who_claims_again_does_not_take_over_from_another(objects: Straight):
    first = claimed(objects, "a")
    claimed(objects, "b")
    with pytest.raises(Fenced, match="since epoch 1"):
        first.claim(lambda base: ORIGIN)


def test_a_claim_whose_answer_never_came_is_ones_own(objects: Straight, wire: Wire):
    ledger = claimed(objects)
    create, answers = objects.create, [False]

    def lose_answer(key: str, body: bytes) -> None:
        create(key, body)
        if key.startswith("manifest") and not answers.pop():
            raise ArchiveUnreachable(key)

    objects.create = lose_answer  # type: ignore[assignment]
    with pytest.raises(ArchiveUnreachable):
        ledger.claim(lambda base: ORIGIN)
    objects.create = create  # type: ignore[method-assign]
    grow_old(wire)
    grow_old(wire)
    assert collect_all(objects).objects == 1
    assert ledger.claim(lambda base: ORIGIN).epoch == 3
    assert ledger.publish(adding(put(ledger, 1))).seq == 1


def test_a_copy_of_a_process_is_fenced(objects: Straight):
    """A machine that is copied while it runs has two writers of one name and one epoch."""
    one = claimed(objects, "a")
    two = ledger_of(objects, "a")
    two.current, two.epoch = one.current, one.epoch
    one.publish(adding(put(one, 1)))
    with pytest.raises(Fenced, match="a copy of this process"):
        two.publish(adding(replace(one.current.segments[0], sum="ee")))
    with pytest.raises(Fenced, match="a copy of this process"):
        two.claim(lambda base: ORIGIN)


def test_an_answer_that_never_came_is_found_out(objects: Straight):
    ledger = claimed(objects)
    facts, create = put(ledger, 1), objects.create

    def lose_answer(key: str, body: bytes) -> None:
        create(key, body)
        raise ArchiveUnreachable(key)

    objects.create = lose_answer  # type: ignore[assignment]
    with pytest.raises(ArchiveUnreachable):
        ledger.publish(adding(facts))
    objects.create = create  # type: ignore[method-assign]
    more = put(ledger, 2)
    found = ledger.publish(adding(facts, more))
    assert [each.last for each in found.segments] == [1, 2]
    assert found.n == 3


def test_a_look_between_two_manifests_does_not_hide_what_was_condemned(
    objects: Straight, wire: Wire
):
    ledger = claimed(objects)
    facts = put(ledger, 1)
    grow_old(wire)
    assert collect_all(objects).objects == 1
    assert ledger.look().kind == ledger.look_ahead().kind == "collect"
    with pytest.raises(Condemned):
        ledger.publish(adding(facts))
    ledger.claim(lambda base: ORIGIN)
    with pytest.raises(Condemned):  # of another epoch
        ledger.publish(adding(facts))
    assert ledger.publish(adding(put(ledger, 1))).seq == 1


def test_a_reader_that_sleeps_does_not_take_what_has_a_free_number(objects: Straight, wire: Wire):
    """Manifest 2 is listed, deleted, and its number taken by a writer that has slept as well."""
    ledger = claimed(objects)
    sleeper = ledger_of(objects)
    sleeper.current = ledger.current
    ledger.publish(adding(put(ledger, 1)))

    def sleep(what: str, key: str) -> None:
        if (what, key) == ("get", manifest_key(2)):
            objects.before = lambda what, key: None
            ledger.publish(adding(put(ledger, 2)))
            grow_old(wire)
            ledger.publish(adding(put(ledger, 3)))
            collect_all(objects)
            assert manifest_key(2) not in wire.objects
            sleeper.create(sleeper.current.with_news(kind="publish", epoch=1, seq=1))

    reader = ledger_of(objects, "r")
    objects.before = sleep
    found = reader.look()
    assert found.seq == 3
    assert found == ledger_of(objects, "s").look_ahead()


def test_a_free_number_that_is_taken_again_does_not_count(objects: Straight, wire: Wire):
    ledger = claimed(objects, "a")
    sleeper = ledger_of(objects, "b")
    begun = False

    def begin(base: Manifest | None) -> Origin:
        nonlocal begun
        if not begun:
            begun = True
            for seq in range(1, 5):
                ledger.publish(adding(put(ledger, seq)))
                grow_old(wire)
            collect_all(objects)
            assert manifest_key(2) not in wire.objects
        return ORIGIN

    assert sleeper.claim(begin).n > 6
    assert sleeper.publish(adding(put(sleeper, 5))).seq == 5


def test_a_free_number_does_not_count_though_the_next_one_is_still_there(
    objects: Straight, wire: Wire
):
    ledger, sleeper, asked = claimed(objects, "a"), ledger_of(objects, "b"), []

    def begin(base: Manifest | None) -> Origin:
        asked.append(base)
        if len(asked) == 1:
            for seq in (1, 2, 3):
                ledger.publish(adding(put(ledger, seq)))
            wire.delete(manifest_key(2))
        return ORIGIN

    assert sleeper.claim(begin).n == 5
    assert [base.n for base in asked] == [1, 4]


def test_a_collector_passes_over_what_has_taken_a_free_number(objects: Straight, wire: Wire):
    ledger = claimed(objects)
    for seq in (1, 2):
        ledger.publish(adding(put(ledger, seq)))
    wire.delete(manifest_key(2))
    gone = SnapshotFacts(1, 0, snapshot_key(1, 1, 0), 9, "aa")
    first = ledger.read(1)
    ledger.create(first.with_news(kind="publish", snapshots=[gone], seq=1))
    garbage = put(ledger, 3).key
    grow_old(wire)
    wire.delete(manifest_key(3))
    wire.create(manifest_key(3), ledger.current.to_bytes())  # it came but now
    assert collect_all(objects).objects == 1
    assert garbage not in wire.objects
    assert ledger.publish(adding(put(ledger, 4))).n == 5


def test_a_collector_keeps_what_manifests_name_that_no_listing_shows_yet(
    objects: Straight, wire: Wire
):
    ledger = claimed(objects)
    facts = [put(ledger, seq) for seq in (1, 2)]
    grow_old(wire)
    ledger.publish(adding(*facts))
    ledger.publish(lambda base: base.with_news(segments=base.segments[1:]))
    objects.hidden = {manifest_key(2), manifest_key(3)}
    collect_all(objects)
    assert facts[0].key in wire.objects
    objects.hidden = set()
    grow_old(wire)
    collect_all(objects)
    assert facts[0].key not in wire.objects
    assert facts[1].key in wire.objects


def test_a_collector_gets_on_beside_a_busy_writer(objects: Straight, wire: Wire):
    ledger = claimed(objects)
    garbage, late = put(ledger, 1).key, put(ledger, 2)
    grow_old(wire)
    seq = iter(range(3, 100))

    def write(what: str, key: str) -> None:
        if what == "create" and key.startswith("manifest") and next(seq) < 9:
            kept, objects.before = objects.before, lambda what, key: None
            ledger.publish(adding(replace(late, base=0)), [late.key])
            ledger.publish(lambda base: base.with_news(marks={"m": [1, next(seq), 1]}))
            objects.before = kept

    objects.before = write
    assert collect_all(objects).objects == 1
    assert garbage not in wire.objects
    assert late.key in wire.objects


def test_a_collector_condemns_so_many_at_a_time_and_comes_to_an_end(
    objects: Straight, wire: Wire, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("jrnl.archive.collector._CONDEMNED_MOST", 3)
    ledger = claimed(objects)
    for seq in range(10):
        put(ledger, seq + 1)
    grow_old(wire)
    assert collect_all(objects).objects == 10
    collections = [each for each in ledger.all() if each.kind == "collect"]
    assert [len(each.condemned) for each in collections] == [3, 3, 3, 1]


def test_a_collector_asks_for_each_manifest_of_the_grace_period_once(objects: Straight, wire: Wire):
    ledger = claimed(objects)
    for seq in range(1, 30):
        ledger.publish(adding(put(ledger, seq)))
        wire.wait(SECOND)
    asked = []
    objects.before = lambda what, key: asked.append((what, key)) if what == "get" else None
    collect_all(objects)
    assert len(asked) == len(set(asked)) == 31  # 30, and that there is none behind


def test_who_collects_again_reads_what_is_new(objects: Straight, wire: Wire):
    ledger, seen, asked = claimed(objects), Named(), []
    for seq in range(1, 30):
        ledger.publish(adding(put(ledger, seq)))
    collect(objects, GRACE, clock=lambda: wire.now_ns, seen=seen)
    for seq in range(30, 33):
        ledger.publish(adding(put(ledger, seq)))
    objects.before = lambda what, key: asked.append((what, key)) if what == "get" else None
    collect(objects, GRACE, clock=lambda: wire.now_ns, seen=seen)
    assert len(asked) == 4  # three, and that there is none behind


@pytest.mark.parametrize("seed", range(30))
def test_what_is_remembered_is_what_would_be_read(objects: Straight, wire: Wire, seed: int):
    dice, ledger, seen, deleted = random.Random(seed), claimed(objects), Named(), 0
    for seq in range(1, 60):
        facts = put(ledger, seq)
        change = replacing if dice.random() < 0.3 else adding  # what the last ones named goes
        ledger.publish(change(facts))
        if dice.random() < 0.5:
            wire.wait(dice.choice([SECOND, GRACE_NS // 3, GRACE_NS // 2]))
        if dice.random() < 0.3:
            grace = GRACE_NS if dice.random() < 0.7 else GRACE_NS * 2
            each = [_Collection(objects, grace, lambda: wire.now_ns, of) for of in (Named(), seen)]
            firsts = [one._name_back_from(one.base) for one in each]
            assert firsts[0] == firsts[1]
            assert each[0].named <= each[1].named
            more = each[1].named - each[0].named
            assert not more or firsts[0] == 0, more
            if dice.random() < 0.5:
                deleted += collect(objects, GRACE, clock=lambda: wire.now_ns, seen=seen).manifests
    assert deleted or seed
