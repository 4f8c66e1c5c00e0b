"""A group of volumes: one sequence, and what is done to some of them alone."""

from __future__ import annotations

from pathlib import Path

import pytest

import jrnl

KINDS = ["memory", "disk"]
SIZES = {"a": 8192, "b": 8192, "c": 4096}


def make(kind: str, path: Path, **keywords: object) -> jrnl.Store:
    where = path / "s.jrnl" if kind == "disk" else None
    return jrnl.create(where, volumes=SIZES, **{"journal": "1MiB", **keywords})


def content(store: jrnl.Store) -> dict[str, bytes]:
    return {name: store[name].read(0, size) for name, size in SIZES.items()}


@pytest.mark.parametrize("kind", KINDS)
def test_a_mark_of_some_volumes_is_gone_back_to_for_these(kind, tmp_path):
    with make(kind, tmp_path) as store:
        for k, name in enumerate("abcabc"):
            store[name].write(k * 10, bytes([k + 1]) * 20)
        mark = store.mark("some", volumes=["c", "a"])
        assert mark == ("some", 7, mark.time_ns)
        assert mark.volumes == ("a", "c")
        assert store.mark("all").volumes is None
        then = content(store)
        for name in "abc":
            store[name].write(100, b"later")
        now = content(store)
        for point in ("some", mark, store.marks["some"]):
            with store.view(point) as view, store.recover(point) as recovery:
                assert list(view.volumes) == list(recovery.volumes) == ["a", "c"]
                assert view.read(0, 8192, "a") == recovery.read(0, 8192, "a") == then["a"]
                assert recovery.plan == store.plan(point) != store.plan("all")
        assert list(store.view("some", volumes=["b"]).volumes) == ["b"]
        assert store.digest("some") == store.digest(7)
        recovery = store.recover("some")
        recovery.restore()
        assert content(store) == {**then, "b": now["b"]}
        recovery.close()
        store.rewind("some")  # a rewind is of all volumes
        assert content(store) == then


def test_a_mark_of_some_volumes_outlives_closing(tmp_path):
    with make("disk", tmp_path) as store:
        store["a"].write(0, b"one")
        store.mark("some", volumes=["a"])
        store.mark("pinned", pinned=True, volumes=["b", "c"])
        store["a"].write(0, b"two")
        assert store.journal.after(2) == b"some"
    for _ in range(2):
        with jrnl.open(tmp_path / "s.jrnl") as store:
            assert store.marks["some"].volumes == ("a",)
            assert store.marks["pinned"].volumes == ("b", "c")
            assert [pin.name for pin in store.pins] == ["pinned"]
            assert list(store.recover("pinned").volumes) == ["b", "c"]
            assert store.verify().ok


def test_the_oldest_states_mark_keeps_its_volumes(tmp_path):
    with make("disk", tmp_path, journal="64KiB", overlay="64KiB") as store:
        store["a"].write(0, b"one")
        mark = store.mark("some", volumes=["b"])
        pin = store.pin(mark)
        with pytest.raises(jrnl.JournalFull):
            for k in range(1000):
                store["a"].write(k % 8 * 512, bytes([k % 251]) * 512)
        del pin
        assert store.window.oldest <= mark.seq
    with jrnl.open(tmp_path / "s.jrnl") as store:
        assert store.marks["some"].volumes == ("b",)


@pytest.mark.parametrize("kind", KINDS)
def test_a_mistake_is_told_before_anything_has_changed(kind, tmp_path):
    with make(kind, tmp_path) as store:
        for volumes, error in (
            (["x"], jrnl.UnknownVolume),
            ([], jrnl.InvalidArgument),
            ("a", jrnl.InvalidType),
            (7, jrnl.InvalidType),
        ):
            for act in (store.mark, store.snapshot):
                with pytest.raises(error):
                    act("name", volumes=volumes)
        assert (store.seq, dict(store.marks), dict(store.snapshots)) == (0, {}, {})


@pytest.mark.parametrize("kind", KINDS)
def test_a_pinned_view_keeps_its_state(kind, tmp_path):
    with make(
        kind, tmp_path, journal="64KiB", **({"overlay": "64KiB"} if kind == "disk" else {})
    ) as store:
        store["a"].write(0, b"one")
        view = store.view(1, pinned=True)
        child = view.view(writable=True)
        with pytest.raises(jrnl.JournalFull, match="pinned"):
            for k in range(1000):
                store["a"].write(k % 8 * 512, bytes([k % 251]) * 512)
        assert store.window.oldest <= 1
        assert view.read(0, 3, "a") == child.read(0, 3, "a") == b"one"
        if store._keeper is None:
            with pytest.raises(jrnl.PinnedPoint):
                store.rewind(0)
        view.close()
        for k in range(1000):
            store["a"].write(k % 8 * 512, bytes([k % 251]) * 512)
        assert store.window.oldest > 1
        with pytest.raises(jrnl.PointExpired):
            child.read(0, 3, "a")
        assert store.pins == ()
        store.snapshot("kept")
        assert store.view("kept", pinned=True).read(0, 512, "a") == store["a"].read(0, 512)
        assert store.pins == ()  # a copy needs no entry
