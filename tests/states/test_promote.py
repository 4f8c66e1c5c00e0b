"""A writable view is kept: what it changed comes onto production, and nothing else does."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

import jrnl
from jrnl import JournalFull, PointExpired, ProductionChanged, ReadOnlyStore, StoreClosed

SIZES = {"a": 120_000, "b": 9_001}
STORES = [("memory", "before"), ("memory", "both"), ("memory", "after"), ("disk", "both"),
          ("disk", "after")]  # fmt: skip
Content = dict[str, bytearray]


def made(kind: str, images: str, path: Path, **options: object) -> jrnl.Store:
    where = path / "s" if kind == "disk" else None
    return jrnl.create(where, **{"volumes": SIZES, "journal": "1MiB", "images": images, **options})


@pytest.fixture(params=STORES, ids="-".join)
def store(request, tmp_path):
    with made(*request.param, tmp_path) as store:
        yield store


def content(state: jrnl.State) -> Content:
    return {name: bytearray(volume.read(0, volume.size)) for name, volume in state.volumes.items()}


def scribble(chance: random.Random, state: jrnl.State, model: Content, count: int) -> None:
    for _ in range(count):
        name = chance.choice(list(model))
        length = chance.choice([1, 9, 300, 4096, 6000])
        offset = chance.randrange(SIZES[name] - length)
        data = chance.choice([chance.randbytes(length), bytes(length), bytes([7]) * length])
        state[name].write(offset, data)
        model[name][offset : offset + length] = data


def present_view(store: jrnl.Store, writable: bool = True) -> jrnl.View:
    """A view of the present state; with after-images alone that takes a snapshot."""
    if store.options.images == "after":
        store.snapshot(f"base {store.seq}")
    return store.view(store.seq, writable)


def differing_bytes(one: Content, other: Content) -> int:
    return sum(
        int((np.frombuffer(one[name], np.uint8) != np.frombuffer(other[name], np.uint8)).sum())
        for name in one
    )


def test_what_a_view_changed_comes_onto_production(store, seed):
    chance = random.Random(seed)
    model = content(store)
    scribble(chance, store, model, 10)
    for _ in range(4):
        before, seq = content(store), store.seq
        view = present_view(store)
        scribble(chance, view, model, 12)
        if chance.random() < 0.5:
            view = view.view(True)
            scribble(chance, view, model, 5)
        if chance.random() < 0.5:
            store.mark(f"at {store.seq}")  # these change no bytes
            store.flush()
        newest = store.seq
        restored = view.promote()
        assert content(store) == content(view) == model
        assert restored.first_seq == newest + 1
        assert restored.last_seq == store.seq
        kinds = store.journal.between(restored.first_seq, restored.last_seq)["kind"]
        assert set(kinds.tolist()) <= {jrnl.Kind.WRITE}
        assert store.digest() == view.digest()
        assert differing_bytes(before, model) <= restored.bytes <= 64 * 60 * 1024
        assert listed(view.diff()) == listed(store.diff(seq, store.seq, exact=True))
        with store.recover(restored.first_seq - 1) as recovery:
            assert content(recovery) == before
            if chance.random() < 0.3:  # as a restore it can be undone
                recovery.restore()
                model = before
                assert content(store) == before
    assert store.verify().ok
    assert not store.recoveries


def listed(extents: np.ndarray) -> list[tuple[int, ...]]:
    return [tuple(row) for row in extents.tolist()]


def test_a_view_may_be_promoted_again_and_again(store):
    model = content(store)
    view, chance = present_view(store), random.Random(3)
    for _ in range(5):
        scribble(chance, view, model, 3)
        view.promote()
        assert content(store) == model
    seq = store.seq
    assert view.promote() == (seq + 1, seq, 0) and store.seq == seq
    child = view.view(True)
    scribble(chance, child, model, 3)
    child.promote()
    assert content(store) == model


def test_it_is_refused_where_production_has_moved_on_unless_told_to(store):
    view = present_view(store)
    view["a"].write(10, b"view")
    store["b"].write(0, b"moved")
    before, seq = content(store), store.seq
    with pytest.raises(ProductionChanged, match=r"since state 0.*force=True"):
        view.promote()
    assert (content(store), store.seq) == (before, seq)
    assert view.promote(force=True).bytes == 4
    with pytest.raises(ProductionChanged):
        view.promote()
    before["a"][10:14] = b"view"
    assert content(store) == before


def test_a_view_of_some_volumes_minds_only_these(tmp_path):
    with made("memory", "both", tmp_path) as store:
        view = store.view(0, True, volumes=["a"])
        store["b"].write(0, b"beside")
        view["a"].write(3, b"promoted")
        assert view.promote().bytes == 8
        assert store["a"].read(3, 8) == b"promoted" and store["b"].read(0, 6) == b"beside"


def test_production_that_came_back_has_not_moved_on(tmp_path):
    with made("memory", "both", tmp_path) as store:
        start = store["a"].write(0, b"x")
        view = store.view(start, True)
        view["a"].write(0, b"view")
        store["a"].write(0, b"dropped")
        store.rewind(start)
        view.promote()
        assert store["a"].read(0, 4) == b"view"


def test_with_force_just_the_bytes_that_the_view_changed_are_written(store, seed):
    chance = random.Random(seed)
    model = content(store)
    scribble(chance, store, model, 10)
    view = present_view(store)
    old = content(view)
    new = content(view)
    scribble(chance, view, new, 10)
    scribble(chance, store, model, 15)
    for name, size in SIZES.items():
        changed = np.flatnonzero(
            np.frombuffer(new[name], np.uint8) != np.frombuffer(old[name], np.uint8)
        )
        assert size
        for place in changed.tolist():
            model[name][place] = new[name][place]
    view.promote(force=True)
    assert content(store) == model
    again = view.promote(force=True)
    assert again.bytes == 0 and content(store) == model


def test_it_costs_what_the_view_wrote_and_not_the_volume():
    with jrnl.create(size="4GiB", journal="1MiB") as store:
        store.volume.write(1 << 31, b"before" * 1000)
        view = store.view(store.seq, True)
        view.volume.write(1 << 30, b"promoted")
        before = store._engine.compared_bytes
        assert view.promote().bytes == 8
        assert store._engine.compared_bytes - before <= 4096


def test_on_disk_it_lasts_and_leaves_nothing_behind(tmp_path):
    with made("disk", "both", tmp_path) as store:
        files = sorted(path.name for path in (tmp_path / "s").iterdir())
        view = store.view(0, True)
        view["a"].write(5000, b"lasting" * 1000)
        view.promote()
        assert sorted(path.name for path in (tmp_path / "s").iterdir()) == files
        # Whatever becomes of the process: it is durable when it returns.
        assert store._session.log.durable_seq >= store.seq
    with jrnl.open(tmp_path / "s") as store:
        assert store["a"].read(5000, 7000) == b"lasting" * 1000
        assert not store.recoveries and store.problems == []


def test_what_does_not_fit_the_journal_changes_nothing(tmp_path):
    for kind in ("memory", "disk"):
        path = tmp_path / kind
        path.mkdir()
        with made(kind, "both", path, journal="128KiB", overflow="refuse") as store:
            view = store.view(0, True)
            view["a"].write(0, random.Random(1).randbytes(110_000))
            with pytest.raises(JournalFull):
                view.promote()
            assert store.seq == 0 and not any(store["a"].read(0, 120_000))
            assert not store.recoveries


def test_in_a_store_that_folds_the_snapshot_goes_on_before(tmp_path):
    for kind in ("memory", "disk"):
        path = tmp_path / kind
        path.mkdir()
        with made(kind, "both", path, journal="128KiB", overflow="fold") as store:
            store.snapshot("mine").wait()
            for k in range(10):
                store["a"].write(k * 4096, bytes([k + 1]) * 4096)
            view = store.view(store.seq, True)
            view["a"].write(0, random.Random(1).randbytes(40_000))
            view.promote()
            assert content(store) == content(store.recover(store.seq))
            assert store["a"].read(0, 40_000) == random.Random(1).randbytes(40_000)
            assert store.verify().ok


def test_what_cannot_be_promoted_says_why(tmp_path):
    with made("memory", "both", tmp_path, journal="64KiB") as store:
        with pytest.raises(ReadOnlyStore, match="writable=True"):
            store.view(0).promote()
        with pytest.raises(jrnl.InvalidType):
            store.view(0, True).promote(1)
        view = store.view(0, True)
        view["a"].write(0, b"x")
        for k in range(200):
            store["a"].write(k * 100, bytes([k]) * 1000)
        with pytest.raises(ProductionChanged):
            view.promote()
        with pytest.raises(PointExpired):  # nobody knows what it changed
            view.promote(force=True)
        with pytest.raises(PointExpired):
            view.diff()
        with store["a"].edit(0, 10), pytest.raises(jrnl.EditOpen):
            view.promote(force=True)
        view.close()
        with pytest.raises(StoreClosed):
            view.promote()
        view = store.view(store.seq, True)
    with pytest.raises(StoreClosed):
        view.promote()


def test_a_store_that_is_open_for_reading_takes_nothing(tmp_path):
    made("disk", "both", tmp_path).close()
    with jrnl.open(tmp_path / "s", mode="r") as store:
        view = store.view(0, True)
        view["a"].write(0, b"x")
        with pytest.raises(ReadOnlyStore):
            view.promote()
        assert view.diff().size == 1


def test_a_diff_of_a_view_alone_says_what_it_changed(store, seed):
    chance = random.Random(seed)
    scribble(chance, store, content(store), 5)
    view = present_view(store)
    assert view.diff().size == 0
    old, new = content(view), content(view)
    scribble(chance, view, new, 8)
    child = view.view(True)
    plain = store.recover(view.seq)
    assert listed(view.diff()) == listed(view.diff(plain)) == listed(child.diff())
    assert listed(view.diff(volume="b")) == [row for row in listed(view.diff()) if row[0] == 1]
    told = sum(length for _, _, length in listed(view.diff()))
    assert differing_bytes(old, new) <= told <= view.diff(exact=False)["length"].sum()
    assert view.view().diff().size == view.diff().size
