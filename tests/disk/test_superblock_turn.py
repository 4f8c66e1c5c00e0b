"""Who writes the superblocks, or takes a copy on, holds no lock that a signal's handler waits for.

What a handler would do stands in the place of a function that is called there.
"""

from __future__ import annotations

import errno
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import jrnl
from jrnl import snapshot_copier
from jrnl.disk import superblock
from jrnl.disk.file_copy import FileCopy

LONG = 60  # seconds: who waits for a lock that is never let go waits longer


@pytest.fixture(params=["flush", "always"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[jrnl.Store]:
    with jrnl.create(tmp_path / "s", size=32768, journal="64KiB", sync=request.param) as store:
        write_a_lap(store, 1)
        yield store


def write_a_lap(store: jrnl.Store, value: int) -> None:
    """So much that the superblocks have to follow."""
    for k in range(48):
        store.volume.write(k % 8 * 4096, bytes([value + k % 7]) * 4096)
        if k % 4 == 3:
            store.flush()


def inside(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object], times: int = 1) -> list[int]:
    """Have `act` done while a document is packed, the first few times."""
    pack, done = superblock.pack, [0]

    def packing(*arguments: Any) -> bytes:
        if done[0] < times:
            done[0] += 1
            act()
        return pack(*arguments)

    monkeypatch.setattr(superblock, "pack", packing)
    return done


def is_whole(store: jrnl.Store) -> None:
    """What there is can be read, and outlives a closing."""
    content, path = store.volume.read(0, 32768), store.options.path
    assert store.verify().ok
    store.flush()
    store.close()
    with jrnl.open(path) as again:
        assert again.volume.read(0, 32768) == content
        assert not again.problems


def test_a_write_from_inside_needs_the_superblocks_too(store, monkeypatch):
    inside(monkeypatch, lambda: write_a_lap(store, 50))
    snapshot = store.snapshot("s")
    assert snapshot.read(0, 4096) != store.volume.read(0, 4096)
    is_whole(store)


def test_another_thread_needs_them_while_a_call_from_inside_waits_for_it(store, monkeypatch):
    def act() -> None:
        other = threading.Thread(target=write_a_lap, args=(store, 90), daemon=True)
        other.start()
        other.join(LONG)
        assert not other.is_alive()
        store.volume.read(0, 4096)

    inside(monkeypatch, act)
    store.snapshot("s")
    is_whole(store)


@pytest.mark.parametrize("times", [1, 20])
@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOENT, "a handler's own"),
        jrnl.StoreBusy("what a handler's call was told"),
        jrnl.UnknownPoint("what another of its calls was told"),
        KeyboardInterrupt(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_a_handler_raises_is_no_answer_of_the_disk(store, error, times, monkeypatch):
    def act() -> None:
        raise error

    done = inside(monkeypatch, act, times)
    with pytest.raises(type(error)):
        store.snapshot("s")
        for _ in range(1000):  # it is raised as soon as the superblocks are written
            pass
    assert done[0] == times
    write_a_lap(store, 30)
    is_whole(store)


def test_an_older_document_that_comes_late_is_not_written(store):
    keeper, names = store._session, [letter * 200 for letter in "abcd"]
    with store._engine:
        late = keeper.record_apart()
        for name in names:
            store.mark(name, pinned=True)
    used, path = keeper.superblock.used, store.options.path
    late()
    assert keeper.superblock.used == used
    store.close()
    with jrnl.open(path) as again:
        assert [*again.marks] == names


@pytest.mark.parametrize("on_disk", [False, True])
def test_a_snapshot_from_inside_the_start_of_the_copying_thread(on_disk, tmp_path, monkeypatch):
    begin = snapshot_copier.start_new_thread

    def struck(*arguments: Any) -> int:
        if "inner" not in store.snapshots:
            store.snapshot("inner")
        return begin(*arguments)

    monkeypatch.setattr(snapshot_copier, "automatic", True)
    monkeypatch.setattr(snapshot_copier, "start_new_thread", struck)
    make = (lambda **options: jrnl.create(tmp_path / "s", **options)) if on_disk else jrnl.create
    with make(size=1 << 20, journal="1MiB") as store:
        store.volume.write(0, b"x" * 100000)
        store.snapshot("outer")
        assert set(store.snapshots) == {"inner", "outer"}
        for snapshot in store.snapshots.values():
            assert snapshot.wait(LONG)
            assert snapshot.read(0, 100000) == b"x" * 100000


def test_a_copy_that_comes_as_the_thread_ends_is_made(monkeypatch):
    """Who adds it sees a thread that is still alive."""
    monkeypatch.setattr(snapshot_copier, "automatic", False)
    with jrnl.create(size=1 << 20, journal="1MiB") as store:
        store.volume.write(0, b"x" * 100000)
        making = store._session.copier
        looked = making._next

        def looking() -> Any:
            monkeypatch.setattr(making, "_next", looked)
            found = looked()
            store.snapshot("s")
            return found

        monkeypatch.setattr(making, "_next", looking)
        assert making.turn()  # goes on, for there is one now
        while making.turn():
            pass
        assert store.snapshots["s"].complete


FINALIZER = """
import gc, sys, threading
import jrnl

store = jrnl.create(size="1MiB", journal="256KiB")
for k in range(100):
    store.volume.write(k * 4096, b"y" * 2000)
making, begun, done = store._session.copier, threading.Event(), threading.Event()

class Late:
    def __del__(self):
        begun.set()
        try:
            store.volume.write(0, b"late")
        except jrnl.StoreBusy:
            pass
        done.set()

def collecting(call):
    def called(*arguments):
        if threading.get_ident() != threading.main_thread().ident and not begun.is_set():
            late = Late()
            late.itself = late
            del late
            gc.collect()
        return call(*arguments)
    return called

if sys.argv[1] == "starts":  # a Thread says that it has started by setting an event
    threading.Event.set, begun.set = collecting(threading.Event.set), begun.set
    jrnl.snapshot_copier._work = collecting(jrnl.snapshot_copier._work)
else:
    making._next = collecting(making._next)
with store._engine:
    store.snapshot("s")
    begun.wait()
    if sys.argv[1] == "copies":
        making.finish_all()
done.wait()
assert store.snapshots["s"].wait(60)
print("done")
"""


@pytest.mark.parametrize("when", ["starts", "copies"])
def test_a_finalizer_on_the_copying_thread_waits_for_nobody_who_waits_for_it(when):
    """Whoever has the engine's lock may wait for a piece, and for the thread's start."""
    command = [sys.executable, "-c", FINALIZER, when]
    run = subprocess.run(command, timeout=LONG, capture_output=True, text=True, check=False)
    assert run.stdout == "done\n", run.stderr


@pytest.fixture(params=[False, True], ids=["memory", "disk"])
def waiting(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[jrnl.Snapshot, list[threading.Thread]]]:
    """A snapshot that is copied by a thread, and who has made its pieces so far."""
    made_by = []
    for kind in (snapshot_copier.MemoryCopy, FileCopy):
        step = kind.step

        def stepping(self: Any, pieces: int, *, gently: bool, step: Any = step) -> None:
            made_by.append(threading.current_thread())
            step(self, pieces, gently=gently)

        monkeypatch.setattr(kind, "step", stepping)
    monkeypatch.setattr(snapshot_copier, "automatic", True)
    size = 64 << 20
    store = jrnl.create(tmp_path / "s", size=size) if request.param else jrnl.create(size=size)
    with store:
        for at in range(0, size, 1 << 20):
            store.volume.write(at, bytes([at >> 20]) * (1 << 20))
        yield store.snapshot("s"), made_by


def test_who_waits_for_a_copy_makes_none_of_it(waiting):
    """It would hold the gate, and a handler that comes in could wait for who waits for that."""
    snapshot, made_by = waiting
    while not snapshot.wait(0):
        pass
    assert snapshot.complete
    assert threading.current_thread() not in made_by


def test_who_has_the_lock_makes_it(waiting):
    snapshot, made_by = waiting
    engine = snapshot._image.engine
    assert not engine.is_locked_here()
    with engine:
        assert engine.is_locked_here()
        assert snapshot.wait(LONG)
    assert not engine.is_locked_here()
    assert threading.current_thread() in made_by


def test_who_makes_a_piece_does_not_wait_for_the_rest(waiting):
    """A finalizer that comes in there would wait for itself."""
    snapshot, _ = waiting
    with snapshot._session().copier.gate, pytest.raises(jrnl.StoreBusy):
        snapshot.wait(LONG)
    assert snapshot.wait(LONG)


def test_what_stops_the_thread_is_raised_where_somebody_waits(waiting, monkeypatch):
    snapshot, made_by = waiting
    kind = type(snapshot._copy)
    whole = kind.step

    def failing(self: Any, pieces: int, *, gently: bool) -> None:
        raise MemoryError("none")

    monkeypatch.setattr(kind, "step", failing)
    with pytest.raises(MemoryError):
        snapshot.wait(LONG)
    monkeypatch.setattr(kind, "step", whole)
    assert snapshot.wait(LONG)
    assert threading.current_thread() not in made_by
