"""A group of volumes: one sequence, and what is done to some of them alone."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

import jrnl
from tests.model.fingerprint import unchanged

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
        moved = mark._replace(name="other")
        assert (moved, moved.volumes) == (("other", 7, mark.time_ns), ("a", "c"))
        assert mark == store.marks["some"]
        assert mark != jrnl.Mark(*mark)
        assert hash(mark) == hash(store.marks["some"])
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
        if store.options.path is None:
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


MODES = [("memory", "before"), ("memory", "both"), ("memory", "after"), ("disk", "both"),
         ("disk", "after")]  # fmt: skip


def digest_of(volumes: dict[str, bytes]) -> str:
    """What `digest` says of a store with these volumes and no others."""
    with jrnl.create(volumes={name: len(held) for name, held in volumes.items()}) as store:
        for name, held in volumes.items():
            store[name].write(0, held[:4096])
            store[name].write(4096 if len(held) > 4096 else 0, held[-4096:])
        return store.digest()


def lose(store: jrnl.Store, seq: int) -> None:
    """Write until the journal has let go of a state."""
    k = 0
    while store.journal.entries["seq"][0] <= seq + 1:
        store["b"].write(k % 8 * 512, bytes([k % 251]) * 512)
        k += 1


@pytest.mark.parametrize(("kind", "images"), MODES)
def test_going_back_to_a_snapshot_of_some_volumes_leaves_the_others_alone(kind, images, tmp_path):
    with make(kind, tmp_path, images=images) as store:
        store["a"].write(0, b"a1")
        snapshot = store.snapshot("part", volumes=["a"])
        store["a"].write(0, b"a2")
        store["b"].write(0, b"LOG")
        for point in ("part", snapshot):
            with store.recover(point) as recovery:
                assert list(recovery.volumes) == ["a"]
                assert recovery.plan == store.plan(point)
                recovery.restore()
            assert store["a"].read(0, 2) == b"a1"
            assert store["b"].read(0, 3) == b"LOG"
            store["a"].write(0, b"a2")
        with store.view(snapshot, writable=True) as view:
            assert list(view.volumes) == ["a"]
            assert view.read(0, 2) == b"a1"
        if images != "after":
            with store.recover("part", volumes=["b", "a"]) as recovery:  # told otherwise
                assert recovery.read(0, 3, "b") == bytes(3)
            assert store.diff("part", store.seq)["volume"].tolist() == [0, 1]
            store.rewind("part")  # of all volumes
            assert (store["a"].read(0, 2), store["b"].read(0, 3)) == (b"a1", bytes(3))


def check_more_is_told_of(store: jrnl.Store, point: str | jrnl.Snapshot, seq: int) -> None:
    asks: list[Callable[[], object]] = [
        lambda: store.view(point, volumes=["a", "b"]),
        lambda: store.recover(point, volumes=["b"]),
        lambda: store.plan(point, volumes=["a", "b", "c"]),
        lambda: store.diff(point, store.seq, "b"),
        lambda: store.diff(point, store.seq),
        lambda: store.recover(seq),
    ]
    for ask in asks:
        with pytest.raises(jrnl.PointExpired, match="'part' now, which covers only 'a', 'c'"):
            ask()


@pytest.mark.parametrize(("kind", "images"), MODES)
def test_a_snapshot_of_some_volumes_is_a_point_once_its_state_has_left(kind, images, tmp_path):
    overlay = {"overlay": "64KiB"} if kind == "disk" else {}
    store = make(kind, tmp_path, images=images, journal="64KiB", **overlay)
    for name in "abc":
        store[name].write(0, name.encode())
    then = content(store)
    part = store.snapshot("part", volumes=["c", "a"])
    known = store.digest("part")
    store["a"].write(4090, b"changed")
    lose(store, part.seq)
    for _ in range(2):
        for point in ("part", store.snapshots["part"]):
            with store.view(point) as view, store.recover(point) as recovery:
                for shown in (view, recovery):
                    assert list(shown.volumes) == ["a", "c"]
                    assert shown.read(0, 8192, "a") == then["a"]
                    assert shown.read(0, 4096, "c") == then["c"]
            assert store.digest(point) == known == digest_of({"a": then["a"], "c": then["c"]})
            assert store.diff(point, store.seq, "a").tolist() == [(0, 4090, 7)]
            assert store.diff(store.seq, point, "c").tolist() == []
            check_more_is_told_of(store, point, part.seq)
        with pytest.raises(jrnl.PointExpired) as caught:
            store.recover(0)
        assert "covers" not in str(caught.value)
        if images != "after":
            with pytest.raises(jrnl.PointExpired, match="rewind needs the entries since"):
                store.rewind("part")
        if kind == "memory":
            break
        store.close()
        store = jrnl.open(tmp_path / "s.jrnl")
    store.close()


@pytest.mark.parametrize(("kind", "images"), MODES)
def test_snapshots_of_any_volumes_hold_what_they_cover(kind, images, tmp_path):
    """Against states that are kept whole: whatever is asked is right, or has expired."""
    rand = random.Random(f"{kind} {images}")
    overlay = {"overlay": "64KiB"} if kind == "disk" else {}
    with make(kind, tmp_path, images=images, journal="64KiB", **overlay) as store:
        taken: dict[str, tuple[dict[str, bytes], list[str]]] = {}
        for step in range(300):
            name = rand.choice("abc")
            length = rand.randrange(1, 900)
            store[name].write(rand.randrange(SIZES[name] - length), rand.randbytes(length))
            if step % 12 == 5:
                covered = sorted(rand.sample("abc", rand.randrange(1, 4)))
                store.snapshot(f"s{step}", volumes=covered)
                taken[f"s{step}"] = content(store), covered
            if step % 6 or not taken:
                continue
            point = rand.choice([*taken])
            then, covered = taken[point]
            for look in (store.view, store.recover):
                with look(point) as shown:
                    assert list(shown.volumes) == covered
                    assert {n: shown.read(0, SIZES[n], n) for n in covered} == {
                        n: then[n] for n in covered
                    }
                asked = sorted(rand.sample("abc", rand.randrange(1, 4)))
                with suppress(jrnl.PointExpired), look(point, volumes=asked) as shown:
                    assert {n: shown.read(0, SIZES[n], n) for n in asked} == {
                        n: then[n] for n in asked
                    }
                    continue
                assert not set(asked) <= set(covered)
            assert store.digest(point) == digest_of({n: then[n] for n in covered})


def test_a_volume_is_given_by_its_name_or_as_itself_and_never_as_another_stores():
    with jrnl.create(volumes=SIZES) as store, jrnl.create(volumes=SIZES) as other:
        store["a"].write(0, b"one")
        own, foreign = store["a"], other["a"]
        taken, view, recovery = store.snapshot("taken"), store.view(1), store.recover(1)
        calls: list[Callable[[jrnl.Volume], object]] = [
            lambda volume: store.diff(0, 1, volume).size,
            lambda volume: store.history(0, 1, volume).size,
            lambda volume: store.plan(0, volumes=[volume]).bytes,
            lambda volume: [*store.recover(0, volumes=[volume]).volumes],
            lambda volume: [*store.view(0, volumes=["b", volume]).volumes],
            lambda volume: recovery.restore(volumes=[volume]).bytes,
            lambda volume: view.read(0, 3, volume),
            lambda volume: recovery.read(0, 3, volume),
            lambda volume: recovery.as_array(volume)[:3].tobytes(),
            lambda volume: taken.read(0, 3, volume),
            lambda volume: store[volume],
            lambda volume: store.mark("mark", volumes=[volume]).volumes,
            lambda volume: tuple(store.snapshot("part", volumes=[volume]).volumes),
        ]
        for call in calls:
            with unchanged(store), pytest.raises(jrnl.InvalidArgument, match="of another store"):
                call(foreign)
        answers = [call(own) for call in calls]
        assert answers == [1, 1, 3, ["a"], ["a", "b"], 0, b"one", b"one", b"one", b"one", own,
                           ("a",), ("a",)]  # fmt: skip
        with pytest.raises(jrnl.UnknownVolume), store.view(0, volumes=["b"]) as some:
            some.read(0, 3, own)
        for nobody in (store.mark("b"), taken, 0, b"a"):  # what has a name is not a volume yet
            with pytest.raises(jrnl.UnknownVolume):
                store.diff(0, 1, nobody)
