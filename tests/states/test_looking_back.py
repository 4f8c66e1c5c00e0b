"""Which views are open and where; which states are there; where a check began to fail."""

from __future__ import annotations

import gc
from pathlib import Path

import numpy as np
import pytest

import jrnl
from jrnl import InvalidArgument, InvalidType, PinnedPoint, PointExpired, StoreClosed

KINDS = [("memory", "before"), ("memory", "both"), ("disk", "both")]


def made(kind: str, images: str, path: Path, **options: object) -> jrnl.Store:
    where = path / "s" if kind == "disk" else None
    return jrnl.create(where, size=100_000, images=images, **{"journal": "1MiB", **options})


def opens_one(store: jrnl.Store, **options: object) -> jrnl.View:
    return store.view(store.seq, **options)


def test_the_open_views_are_listed_with_where_they_were_opened():
    with jrnl.create(size=1000) as store:
        assert dict(store.views) == {}
        one, two = opens_one(store), store.view(0, writable=True)
        child = two.view()
        assert dict(store.views) == {one.id: one, two.id: two, child.id: child}
        assert [one.id, two.id, child.id] == sorted({one.id, two.id, child.id})
        here = Path(__file__).name
        assert here in one.opened and one.opened.endswith(" in opens_one")
        assert child.opened.endswith(f"in {two.opened.rpartition(' in ')[2]}")
        one.close()
        assert one.id not in store.views
        del two
        gc.collect()
        assert list(store.views.values()) == [child]
        store.digest(0), store.bisect(lambda view: False)
        assert list(store.views.values()) == [child]
        with pytest.raises(TypeError):
            store.views[7] = child  # type: ignore[index]
    with pytest.raises(StoreClosed):
        _ = store.views


@pytest.mark.parametrize(("kind", "images"), KINDS)
def test_a_rewind_says_which_views_are_in_its_way_and_closes_them_if_told_to(
    kind, images, tmp_path
):
    with made(kind, images, tmp_path) as store:
        for k in range(6):
            store.volume.write(k * 1000, bytes([k + 1]) * 1000)
        early = store.view(2)
        old = early.read(0, 100_000)
        late, pinned = opens_one(store), opens_one(store, pinned=True)
        scratch = store.view(5, writable=True)
        child = scratch.view()
        before = store.digest(), store.seq
        with pytest.raises(PinnedPoint) as caught:
            store.rewind(3)
        for view in (late, pinned, scratch, child):
            assert f"view {view.id} of state {view.seq}, opened at {view.opened}" in str(
                caught.value
            )
        assert f"view {early.id} " not in str(caught.value) and "close_views" in str(caught.value)
        assert (store.digest(), store.seq) == before
        store.rewind(3, close_views=True)
        assert list(store.views) == [early.id] and early.read(0, 100_000) == old
        for view in (late, pinned, scratch, child):
            with pytest.raises(StoreClosed):
                view.read(0, 1)
        assert not store.pins
        assert store.volume.read(0, 4000) == b"".join(
            bytes([k + 1]) * 1000 for k in range(3)
        ) + bytes(1000)
        store.rewind(2)
        with pytest.raises(InvalidType):
            store.rewind(2, close_views="yes")


@pytest.mark.parametrize(("kind", "images"), KINDS)
def test_no_view_is_closed_where_the_rewind_is_refused_for_another_reason(kind, images, tmp_path):
    with made(kind, images, tmp_path) as store:
        for k in range(6):
            store.volume.write(k * 1000, bytes([k + 1]) * 1000)
        views = [store.view(5), store.view(6, pinned=True), store.view(5, writable=True)]
        shown = [view.read(0, 100_000) for view in views]
        recovery = store.recover(4)
        with pytest.raises(PinnedPoint):
            store.rewind(3, close_views=True)
        recovery.close()
        pin = store.pin(5)
        with pytest.raises(PinnedPoint, match="state 5 is pinned"):
            store.rewind(3, close_views=True)
        pin.release()
        with pytest.raises(jrnl.UnknownPoint):
            store.rewind(99, close_views=True)
        assert list(store.views.values()) == views
        assert [view.read(0, 100_000) for view in views] == shown
        with pytest.raises(PinnedPoint):  # they stand in the way again
            store.rewind(3)
        store.rewind(3, close_views=True)
        assert not store.views


def test_a_view_whose_journal_moved_on_after_a_refusal_is_still_exact():
    with jrnl.create(size=10_000, journal="64KiB") as store:
        for k in range(5):
            store.volume.write(k, b"x")
        view, recovery = store.view(4), store.recover(4)
        wanted = view.read(0, 10_000)
        for k in range(20):
            with pytest.raises(PinnedPoint):
                store.rewind(2, close_views=True)
            store.volume.write(k * 100, b"later")
            assert view.read(0, 10_000) == wanted
        recovery.close()


# States.


def test_the_states_are_those_that_can_be_viewed(tmp_path):
    for kind, images in KINDS:
        path = tmp_path / f"{kind}{images}"
        path.mkdir()
        with made(kind, images, path, journal="64KiB") as store:
            for k in range(200):
                store.volume.write(k * 400, bytes([k]) * 400)
                if k % 40 == 39:
                    store.rewind(store.seq - 7)
            store.mark("here")
            found = store.states()
            assert found.dtype == np.int64
            viewable = []
            for seq in range(store.seq + 1):
                try:
                    store.view(seq).close()
                    viewable.append(seq)
                except PointExpired:
                    pass
            replaced = {seq for seq in viewable if store._engine.resolve(seq) != seq}
            assert found.tolist() == [seq for seq in viewable if seq not in replaced]
            oldest, newest = store.window
            assert found[0] == oldest and found[-1] == newest
            middle = int(found[len(found) // 2])
            assert store.states(middle).tolist() == [s for s in found.tolist() if s >= middle]
            assert store.states(stop=middle).tolist() == [s for s in found.tolist() if s <= middle]
            assert store.states(middle, middle).tolist() == [middle]
            assert (
                store.states("here").tolist() == [newest] == store.states(newest, 1 << 70).tolist()
            )
            assert store.states(-5, 10**9).tolist() == found.tolist()
            assert store.states(5, 4).size == 0
            for wrong in (True, 1.5, b"x"):
                with pytest.raises(InvalidType):
                    store.states(wrong)  # type: ignore[arg-type]
            with pytest.raises(jrnl.UnknownPoint):
                store.states("nowhere")
    with pytest.raises(StoreClosed):
        store.states()


def test_with_after_images_the_states_begin_at_a_snapshot():
    with jrnl.create(size=1000, images="after") as store:
        for k in range(5):
            store.volume.write(k, b"x")
        assert store.states().tolist() == [5]
        store.snapshot("base")
        store.volume.write(9, b"x")
        assert store.states().tolist() == [5, 6]


@pytest.mark.parametrize(("kind", "images"), [*KINDS, ("memory", "after"), ("disk", "after")])
def test_bisect_finds_the_first_state_at_which_a_check_fails(kind, images, tmp_path):
    with made(kind, images, tmp_path) as store:
        store.snapshot("start")
        for k in range(100):
            store.volume.write(k * 10, bytes([k + 1]))
        store.mark("end")
        calls = []

        def fewer_than(count: int):
            def check(state: jrnl.State) -> bool:
                calls.append(state)
                return sum(map(bool, state.volume.read(0, 1000))) < count

            return check

        for count in (1, 2, 50, 99, 100):
            calls.clear()
            assert store.bisect(fewer_than(count)) == count
            assert len(calls) <= 2 + 7
        assert store.bisect(fewer_than(40), 10, "end") == 40
        assert store.bisect(fewer_than(40), 60) == 60  # fails there already
        with pytest.raises(InvalidArgument, match="holds at state 30, the last one"):
            store.bisect(fewer_than(40), stop=30)
        with pytest.raises(InvalidArgument, match="no states"):
            store.bisect(fewer_than(40), 30, 20)
        with pytest.raises(InvalidType):
            store.bisect("no check")
        with pytest.raises(ZeroDivisionError):
            store.bisect(lambda state: 1 // 0)
        assert not store.views and not store.recoveries
        with pytest.raises(StoreClosed):
            calls[0].read(0, 1)


# Entries.


def test_the_entries_of_a_range_are_those_of_all_entries():
    with jrnl.create(size=10_000, journal="32KiB") as store:
        for k in range(300):
            store.volume.write(k, b"x" * 100)
            if k % 50 == 49:
                store.rewind(store.seq - 3)
        entries = store.journal.entries
        seqs = entries["seq"].astype(np.int64)
        for start, stop in ((None, None), (0, 1 << 80), (250, 270), (seqs[3], seqs[3]), (290, None),
                            (None, 280), (-3, -1), (5, 2), (10**6, None), (0, 0)):  # fmt: skip
            low = 0 if start is None else int(start)
            high = 1 << 80 if stop is None else int(stop)
            wanted = [k for k, seq in enumerate(seqs.tolist()) if low <= seq <= high]
            found = store.journal.between(start, stop)
            assert found.dtype == entries.dtype
            assert found.tolist() == entries[wanted].tolist()
        mark = store.mark("here")
        assert store.journal.between(mark)["seq"].tolist() == [store.seq]
        for wrong in ("here", 1.5, True):
            with pytest.raises(InvalidType):
                store.journal.between(wrong)  # type: ignore[arg-type]
    with pytest.raises(StoreClosed):
        store.journal.between()


def test_an_opened_store_tells_its_options(tmp_path):
    options = {"volumes": {"x": 5000, "y": 7000}, "journal": 1 << 20, "images": "after",
               "overflow": "refuse", "sync": "always"}  # fmt: skip
    jrnl.create(tmp_path / "s", **options).close()
    with jrnl.open(tmp_path / "s", mode="r") as store:
        assert {name: getattr(store.options, name) for name in options} == options
        assert store.options.mode == "r"


def test_views_that_are_dropped_leave_nothing_behind():
    with jrnl.create(size=1000) as store:
        kept = store.view(0)
        for _ in range(1000):
            store.view(0)
        gc.collect()
        assert list(store.views.values()) == [kept]
        assert len(store._session.views._open) < 200
