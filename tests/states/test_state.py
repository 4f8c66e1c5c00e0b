"""One interface for a state: what reads production reads a view, a recovery and a snapshot."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import xxhash

import jrnl
from jrnl import InvalidArgument, InvalidType, OutOfBounds, ReadOnlyStore, UnknownVolume

SIZES = {"a": 300_000, "b": 5001, "c": 70_000}
STORES = [("memory", "before"), ("memory", "both"), ("memory", "after"), ("disk", "both"),
          ("disk", "after")]  # fmt: skip
Content = dict[str, bytes]


def made(kind: str, images: str, path: Path, name: str = "s") -> jrnl.Store:
    where = path / name if kind == "disk" else None
    return jrnl.create(where, volumes=SIZES, journal="4MiB", images=images)


def write_some(store: jrnl.Store, seed: int, count: int = 20) -> None:
    chance = random.Random(seed)
    for _ in range(count):
        volume = store[chance.choice(list(SIZES))]
        length = min(chance.choice([1, 17, 4096, 5001]), volume.size)
        offset = chance.randrange(volume.size - length + 1)
        if chance.random() < 0.5:
            volume.write(offset, chance.randbytes(length))
        else:
            volume.discard(offset, length)


def content(state: jrnl.State) -> Content:
    return {name: volume.read(0, volume.size) for name, volume in state.volumes.items()}


# A state that shows what production holds when it is made, whatever is written afterwards.
KINDS: dict[str, Callable[[jrnl.Store], jrnl.State]] = {
    "store": lambda store: store,
    "view": lambda store: store.view(snapshot_of(store)),
    "writable view": lambda store: store.view(snapshot_of(store), writable=True),
    "view of a view": lambda store: store.view(snapshot_of(store), writable=True).view(),
    "recovery": lambda store: store.recover(store.seq),
    "undoable recovery": lambda store: store.recover(store.seq, undoable=True),
    "snapshot": lambda store: store.snapshot("taken"),
    "complete snapshot": lambda store: complete(store.snapshot("taken")),
}


def complete(snapshot: jrnl.Snapshot) -> jrnl.Snapshot:
    snapshot.wait()
    return snapshot


def snapshot_of(store: jrnl.Store) -> str | int:
    """A point that can be viewed: with after-images alone that takes a snapshot."""
    return store.snapshot("base").name if store.options.images == "after" else store.seq


@pytest.fixture(params=STORES, ids="-".join)
def store(request, tmp_path) -> Iterator[jrnl.Store]:
    with made(*request.param, tmp_path) as store:
        write_some(store, 1)
        yield store


@pytest.mark.parametrize("kind", KINDS)
def test_all_states_are_read_alike(kind, store):
    expected, seq = content(store), store.seq
    state = KINDS[kind](store)
    if kind != "store":
        write_some(store, 2, 3)
    assert state.seq == seq
    assert list(state) == list(state.volumes) == list(SIZES) and len(state.volumes) == 3
    assert "a" in state.volumes and "x" not in state.volumes and "a" in state
    assert content(state) == expected
    for name, size in SIZES.items():
        volume = state[name]
        assert (volume.name, volume.size) == (name, size) and volume == state.volumes[name]
        assert isinstance(volume, jrnl.StateVolume)
        buffer = bytearray(100)
        volume.readinto(size - 100, buffer)
        assert buffer == expected[name][-100:] == state.read(size - 100, 100, name)
        state.readinto(0, buffer, volume=name)
        assert buffer == expected[name][:100]
        with volume.as_file() as file, state.as_file(name) as other:
            assert file.read() == other.read() == expected[name]
        assert Path(volume.path()).read_bytes() == expected[name]
        assert state.path(name) == volume.path()
    with pytest.raises(UnknownVolume, match="several"):
        _ = state.volume
    for act in (lambda: state["x"], lambda: state.read(0, 1, "x"), lambda: state.read(0, 1)):
        with pytest.raises(UnknownVolume):
            act()


@pytest.mark.parametrize("kind", KINDS)
def test_the_digest_is_that_of_the_content_whatever_the_kind(kind, store):
    whole = xxhash.xxh3_128_hexdigest(b"".join(content(store).values()))
    assert store.digest() == KINDS[kind](store).digest() == whole
    assert store.digest(store.seq) == whole


@pytest.mark.parametrize("kind", KINDS)
def test_a_bad_argument_is_refused_as_a_volume_of_production_does(kind, store):
    state = KINDS[kind](store)
    calls: list[Callable[[jrnl.StateVolume], object]] = [
        lambda volume: volume.read(0, SIZES["b"] + 1),
        lambda volume: volume.read(-1, 1),
        lambda volume: volume.read(1 << 70, 1),
        lambda volume: volume.read(1.5, 1),  # type: ignore[arg-type]
        lambda volume: volume.read(0, True) and None,
        lambda volume: volume.readinto(5000, bytearray(2)),
        lambda volume: volume.readinto(0, b"constant"),  # type: ignore[arg-type]
        lambda volume: volume.readinto(0, memoryview(bytearray(8))[::2]),
        lambda volume: volume.write(5000, b"xx"),
        lambda volume: volume.write("0", b"x"),  # type: ignore[arg-type]
        lambda volume: volume.write(0, "text"),  # type: ignore[arg-type]
        lambda volume: volume.write(-1, b"x"),
        lambda volume: volume.write_zeroes(5000, 2),
        lambda volume: volume.discard(0, -1),
        lambda volume: volume.write_many([0, 5000], b"xxxx"),
        lambda volume: volume.write_many([-1], b"x"),
        lambda volume: volume.write_many([0, 1], b"xxx"),
        lambda volume: volume.write_many([0.5], b"x"),  # type: ignore[list-item]
        lambda volume: volume.write_many([[0]], b"x"),  # type: ignore[list-item]
        lambda volume: volume.write_many([0, 1], np.zeros((3, 2), np.uint8)),
        lambda volume: volume.write_many([], b"x"),
    ]
    before = content(state)
    for call in calls:
        wanted = told(lambda call=call: call(store["b"]))
        found = told(lambda call=call: call(state["b"]))
        assert found == wanted or found[0] is ReadOnlyStore
    assert content(state) == before


def told(call: Callable[[], object]) -> tuple[type[BaseException], str]:
    with pytest.raises((OutOfBounds, InvalidType, InvalidArgument, ReadOnlyStore)) as caught:
        call()
    return caught.type, str(caught.value)


def scribble(chance: random.Random, volume: jrnl.StateVolume, model: bytearray) -> int:
    """Write to a volume, one way or another, and to its model."""
    way = chance.choice(["write", "many", "zeroes", "discard", "file"])
    length = chance.choice([0, 1, 63, 4096, 9000]) % volume.size
    offset = chance.randrange(volume.size - length + 1)
    data = chance.randbytes(length)
    if way == "many":
        offsets = [chance.randrange(volume.size - 10) for _ in range(5)]
        blocks = np.frombuffer(chance.randbytes(50), np.uint8).reshape(5, 10)
        for at, block in zip(offsets, blocks, strict=True):
            model[at : at + 10] = block.tobytes()
        return volume.write_many(np.array(offsets), blocks)
    model[offset : offset + length] = data if way in ("write", "file") else bytes(length)
    if way == "file":
        with volume.as_file() as file:
            file.seek(offset)
            assert length == 0 or file.write(data) == length
        return -1
    if way == "write":
        return volume.write(offset, data)
    return (volume.write_zeroes if way == "zeroes" else volume.discard)(offset, length)


@pytest.mark.parametrize("kind", ["store", "writable view", "child"])
def test_what_is_written_to_a_volume_of_a_state_is_there(kind, store, seed):
    chance = random.Random(seed)
    parent = store.view(snapshot_of(store), writable=True)
    state: jrnl.State = {"store": store, "writable view": parent}.get(kind) or parent.view(True)
    model = {name: bytearray(data) for name, data in content(state).items()}
    for _ in range(60):
        name = chance.choice(list(SIZES))
        seq = scribble(chance, state[name], model[name])
        assert seq in (-1, state.seq)
        if chance.random() < 0.1:
            assert Path(state.path(name)).read_bytes() == bytes(model[name])
    assert content(state) == model


def test_what_cannot_be_written_says_so(store):
    for name, make in KINDS.items():
        if name not in ("store", "writable view"):
            state = make(store)
            for act in (
                lambda state=state: state["a"].write(0, b"x"),
                lambda state=state: state["a"].write_many([0], b"x"),
                lambda state=state: state["a"].write_zeroes(0, 1),
                lambda state=state: state["a"].discard(0, 1),
                lambda state=state: state["a"].as_file().write(b"x"),
            ):
                with pytest.raises(ReadOnlyStore):
                    act()
            for snapshot in list(store.snapshots.values()):
                snapshot.delete()


# Differences.


def differing(one: Content, other: Content) -> list[tuple[int, int, int]]:
    """Where two contents differ: runs of less than 64 equal bytes are part of an extent."""
    found: list[tuple[int, int, int]] = []
    for index, name in enumerate(SIZES):
        mine, theirs = (np.frombuffer(each[name], np.uint8) for each in (one, other))
        places = np.flatnonzero(mine != theirs).tolist()
        for k, place in enumerate(places):
            if k and place - places[k - 1] <= 64:
                volume, offset, _ = found[-1]
                found[-1] = volume, offset, place + 1 - offset
            else:
                found.append((index, place, 1))
    return found


def listed(extents: np.ndarray) -> list[tuple[int, int, int]]:
    return [tuple(row) for row in extents.tolist()]


def covers_all(extents: np.ndarray, wanted: list[tuple[int, int, int]]) -> bool:
    rows = listed(extents)
    return all(
        any(
            volume == index and start <= offset and offset + length <= start + count
            for volume, start, count in rows
        )
        for index, offset, length in wanted
    )


@pytest.mark.parametrize("kind", KINDS)
def test_a_diff_of_any_two_states_of_a_store_is_exact(kind, store):
    first = KINDS[kind](store)
    earlier = content(store)
    later = store.recover(store.seq)
    write_some(store, 3, 6)
    if kind == "store":
        earlier = content(store)
    scratch = store.view(store.snapshot("later"), writable=True)
    scratch["a"].write(1000, b"scratch" * 100)
    scratch["c"].discard(0, 5000)
    states = [(first, earlier), *((state, content(state)) for state in (scratch, store, later))]
    for one, its in states:
        for other, others in states:
            wanted = differing(its, others)
            assert listed(one.diff(other)) == wanted
            assert covers_all(one.diff(other, exact=False), wanted)
            of_one = [row for row in wanted if row[0] == 2]
            assert listed(one.diff(other, volume="c")) == of_one


@pytest.mark.parametrize("images", ["before", "both"])
def test_states_of_different_stores_are_compared_byte_by_byte(images, tmp_path, seed):
    with made("memory", images, tmp_path) as one, made("disk", "both", tmp_path) as other:
        write_some(one, seed, 3)
        write_some(other, seed, 5)
        view = other.view(3, writable=True)
        for state in (other, view, other.recover(4), other.snapshot("s")):
            wanted = differing(content(one), content(state))
            assert listed(one.diff(state)) == listed(state.diff(one)) == wanted
            assert covers_all(one.diff(state, exact=False), wanted)
        assert view.digest() == one.digest() == one.digest(3)
        view["b"].write(0, b"!")
        assert view.digest() != one.digest()


def test_a_diff_needs_states_of_the_same_volumes(tmp_path):
    with jrnl.create(volumes={"a": 9000, "b": 500}) as store, jrnl.create(size=9000) as other:
        store["b"].write(3, b"b")
        part = store.view(0, volumes=["b"])
        assert listed(store.diff(part, volume="b")) == [(1, 3, 1)] == listed(part.diff(store, "b"))
        assert part.volume.name == "b" and part.read(3, 1) == b"\0"
        for one, two in ((store, part), (part, store), (store, other)):
            with pytest.raises(InvalidArgument, match="name a volume"):
                one.diff(two)
        with pytest.raises(UnknownVolume):
            store.diff(part, volume="a")
        larger = jrnl.create(volumes={"a": 9001, "b": 500})
        with larger, pytest.raises(InvalidArgument, match="9001"):
            store.diff(larger)
        for wrong in (0, "x", None, store["a"]):
            with pytest.raises(InvalidType):
                store.view(0).diff(wrong) if wrong is not None else part.view().diff(0)
        with pytest.raises(InvalidType):
            store.diff(part, 0)
        with pytest.raises(InvalidType):
            store.diff(0)
        with pytest.raises(InvalidType):
            store.diff(part, volume="b", exact=1)


def test_a_state_of_some_volumes_covers_these_alone(store):
    snapshot = store.snapshot("some", volumes=["b", "c"])
    recovery = store.recover("some")
    for state in (snapshot, recovery, store.view("some")):
        assert list(state.volumes) == ["b", "c"] == list(state)
        whole = b"".join(store[name].read(0, SIZES[name]) for name in "bc")
        assert state.digest() == xxhash.xxh3_128_hexdigest(whole) == store.digest("some")
        with pytest.raises(UnknownVolume):
            state["a"]
        with pytest.raises(UnknownVolume):
            state.path("a")
    with pytest.raises(UnknownVolume, match="covers only 'b', 'c', not 'a'"):
        snapshot.read(0, 1, "a")


def test_what_moves_by_a_diff_costs_what_was_written_between(tmp_path):
    with jrnl.create(size="1GiB", journal="1MiB") as store:
        store.volume.write(0, b"x" * 4096)
        one, two = store.view(0), store.recover(store.seq)
        store.volume.write(1 << 29, b"y" * 4096)
        before = store._engine.compared_bytes
        assert listed(one.diff(two)) == [(0, 0, 4096)]
        assert listed(two.diff(store)) == [(0, 1 << 29, 4096)]
        assert store._engine.compared_bytes - before <= 1 << 16


# Paths.


def test_the_path_of_what_stays_is_a_file_of_its_own(store):
    for kind in ("view", "recovery", "complete snapshot"):
        state = KINDS[kind](store)
        before = content(state)
        path = state["b"].path()
        program = f"open({path!r}, 'r+b').write(b'theirs')"
        subprocess.run([sys.executable, "-c", program], check=True)
        assert Path(path).read_bytes() == b"theirs" + before["b"][6:]
        assert content(state) == before
        for snapshot in list(store.snapshots.values()):
            snapshot.delete()
        if isinstance(state, jrnl.View | jrnl.Recovery):
            state.close()
        assert not Path(path).exists()


def test_the_path_of_what_may_change_follows_and_can_only_be_read(store):
    view = store.view(snapshot_of(store), writable=True)
    for state in (store, view):
        path = state["a"].path()
        with pytest.raises(PermissionError), open(path, "r+b") as file:
            file.write(b"theirs")
            file.flush()
        state["a"].write(200_000, b"mine" * 1000)
        state["a"].discard(0, 10_000)
        assert state["a"].path() == path
        assert Path(path).read_bytes() == state["a"].read(0, SIZES["a"])
    if store.options.images != "after":
        store.rewind(5, close_views=True)
        assert Path(store["a"].path()).read_bytes() == store["a"].read(0, SIZES["a"])


# What used to be spelled otherwise.


def test_old_spellings_work_and_say_so():
    with jrnl.create(volumes=SIZES) as store:
        view, snapshot = store.view(0), store.snapshot("s", volumes=["a", "c"])
        with pytest.warns(DeprecationWarning, match="no numbers"):
            assert [10, 20, 30][view.volumes["b"]] == 20
        with pytest.warns(DeprecationWarning, match="mapping"):
            assert snapshot.volumes == ("a", "c")
        with pytest.warns(DeprecationWarning, match="mapping"):
            assert snapshot.volumes[1] == "c"
        with pytest.raises(TypeError):
            [10, 20, 30][store["a"]]  # type: ignore[call-overload]
