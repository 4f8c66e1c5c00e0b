"""Many threads on one store: writes are linear by seq, reads are whole, nothing waits for ever."""

from __future__ import annotations

import gc
import itertools
import logging
import os
import random
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import numpy as np
import pytest

import jrnl
from tests.model.disk_twin import folder_in_memory

BLOCK = 4096
JOIN_SECONDS = 60  # far beyond what any of these takes: to tell a deadlock from a slow machine


@pytest.fixture(autouse=True)
def quick_switches() -> Iterator[None]:
    """Let threads take turns as often as Python lets them."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


class Crew:
    """Threads that run until they are done or told to stop; an error is raised at the end."""

    def __init__(self) -> None:
        self.stop = threading.Event()
        self.errors: list[BaseException] = []
        self.threads: list[threading.Thread] = []

    def start(self, task: Callable[[], object]) -> None:
        def run() -> None:
            try:
                task()
            except BaseException as error:
                self.errors.append(error)
                self.stop.set()

        thread = threading.Thread(target=run, daemon=True)
        self.threads.append(thread)
        thread.start()

    def again_and_again(self, task: Callable[[], object]) -> None:
        def run() -> None:
            while not self.stop.is_set():
                task()

        self.start(run)

    def join(self) -> None:
        deadline = time.monotonic() + JOIN_SECONDS
        for thread in self.threads:
            thread.join(max(0.1, deadline - time.monotonic()))
            assert not thread.is_alive(), "a deadlock"
        for error in self.errors:
            raise error


@contextmanager
def crew(seconds: float | None = None) -> Iterator[Crew]:
    made = Crew()
    try:
        yield made
        if seconds is not None:
            made.stop.wait(seconds)
            made.stop.set()
    except BaseException:
        made.stop.set()
        raise
    made.join()


def check_chain(store: jrnl.Store, first: bytes) -> None:
    """Hold every entry's before-image against what the entries before it make; then every state."""
    content = bytearray(first)
    states = {store.window.oldest: bytes(content)}
    for entry in store.journal.entries:
        seq, offset, length = int(entry["seq"]), int(entry["offset"]), int(entry["length"])
        if entry["kind"] in (jrnl.Kind.WRITE, jrnl.Kind.DISCARD, jrnl.Kind.ZEROES):
            assert store.journal.before(seq) == content[offset : offset + length], seq
            content[offset : offset + length] = store.journal.after(seq)
        states[seq] = bytes(content)
    assert store.volume.read(0, len(content)) == content
    for seq, expected in states.items():
        with store.recover(seq) as recovery:
            assert recovery.read(0, len(content)) == expected, seq


def test_writes_of_many_threads_are_linear_by_seq():
    with jrnl.create(size=3 * BLOCK, journal="4MiB", images="both") as store:
        volume = store.volume
        taken: list[int] = []

        def write(seed: int) -> None:
            draw = random.Random(seed)
            for _ in range(60):
                offset, length = draw.randrange(2 * BLOCK), draw.randrange(2, BLOCK)
                fill = bytes([draw.randrange(1, 256)])
                kind = draw.randrange(5)
                if kind == 0:
                    seq = volume.discard(offset, length)
                elif kind == 1:
                    seq = volume.write_many([offset, offset // 2], fill * (2 * (length // 2)))
                    taken.append(seq - 1)
                elif kind == 2:
                    with volume.edit(offset, length) as lent:
                        lent[:] = fill[0]
                        seq = store.seq
                else:
                    seq = volume.write(offset, fill * length)
                taken.append(seq)

        with crew() as threads:
            for seed in range(4):
                threads.start(lambda seed=seed: write(seed))
        assert sorted(taken) == list(range(1, store.seq + 1))
        check_chain(store, bytes(3 * BLOCK))
        assert store.verify().ok


@pytest.mark.parametrize("images", ["before", "after", "both"])
def test_a_block_is_read_whole_while_the_ring_wraps_around(images):
    with jrnl.create(size=16 * BLOCK, journal="64KiB", images=images) as store:
        volume = store.volume
        volume.write_many(np.arange(16) * BLOCK, np.ones((16, BLOCK), np.uint8)[:, :BLOCK])
        store.snapshot("start")
        array = volume.as_array()

        def write() -> None:
            offsets = np.array(random.sample(range(16), 4)) * BLOCK
            blocks = np.repeat(np.random.randint(1, 256, (4, 1), np.uint8), BLOCK, axis=1)
            volume.write_many(offsets, blocks)
            volume.write(random.randrange(16) * BLOCK, bytes([random.randrange(1, 256)]) * BLOCK)

        def read() -> None:
            place = random.randrange(16) * BLOCK
            whole = volume.read(place, BLOCK)
            assert whole == whole[:1] * BLOCK
            buffer = bytearray(2 * BLOCK)
            volume.readinto(0, buffer)
            assert buffer[:BLOCK] == buffer[:1] * BLOCK
            assert buffer[BLOCK:] == buffer[-1:] * BLOCK
            assert array[place] > 0

        with crew(0.5) as threads:
            for _ in range(2):
                threads.again_and_again(write)
                threads.again_and_again(read)
        assert store.verify().ok
        assert store.window.oldest > 16 or images == "after"


def is_whole(content: bytes | np.ndarray) -> None:
    blocks = np.frombuffer(content, np.uint8).reshape(-1, BLOCK)
    assert (blocks == blocks[:, :1]).all()


class Everything:
    """Each of a store's methods, as a task; each block always holds one value, in any state."""

    def __init__(self, store: jrnl.Store) -> None:
        self.store = store
        self.volume = store.volume
        self.size = store.volume.size
        self.names = map("name {}".format, itertools.count())

    def write(self) -> None:
        blocks = np.repeat(np.random.randint(0, 256, (2, 1), np.uint8), BLOCK, axis=1)
        self.volume.write_many(np.random.choice(8, 2) * BLOCK, blocks)

    def edit(self) -> None:
        with self.volume.edit(3 * BLOCK, BLOCK) as lent:
            lent[:] = random.randrange(256)

    def look(self) -> None:
        with (
            suppress(jrnl.PointExpired, jrnl.UnknownPoint),
            self.store.view(random.randint(*self.store.window)) as view,
        ):
            is_whole(view.read(0, self.size))

    def recover(self) -> None:
        store = self.store
        gone = suppress(jrnl.PointExpired, jrnl.UnknownPoint)
        with gone, store.recover(random.randint(*store.window)) as recovery:
            is_whole(recovery.read(0, self.size))
            assert recovery.plan.bytes <= self.size
            is_whole(recovery.as_array())
            if random.random() < 0.3:
                recovery.restore()
            with recovery.again() as again:
                is_whole(again.read(0, self.size))

    def take(self) -> None:
        name = f"snapshot {next(self.names)}"
        snapshot = self.store.snapshot(name)
        is_whole(snapshot.read(0, self.size))
        assert self.store.snapshots[name] is snapshot
        is_whole(self.store.recover(name, base=name).as_array())
        snapshot.delete()

    def name(self) -> None:
        self.store.mark(f"mark {next(self.names)}")
        self.store.flush()
        assert all(mark.seq for mark in self.store.marks.values())
        assert 0 not in self.store.recoveries
        repr(self.store)

    def pin(self) -> None:
        self.store.mark(f"mark {next(self.names)}", pinned=True)
        self.unpin()

    def unpin(self) -> None:
        for pin in self.store.pins:
            self.store.unpin(pin.name)

    def check(self) -> None:
        assert self.store.verify().ok
        assert len(self.store.digest()) == 32
        assert self.store.journal.used <= self.store.journal.capacity
        seqs = self.store.journal.entries["seq"]
        assert (np.diff(seqs.astype(np.int64)) > 0).all()

    def go_back(self) -> None:
        store = self.store
        with suppress(jrnl.PinnedPoint, jrnl.PointExpired, KeyError):
            store.rewind(max(store.window.oldest, store.seq - random.randrange(5)))
            with store.savepoint():
                self.volume.write(0, b"\xff" * BLOCK)
                raise KeyError


@pytest.mark.parametrize("images", ["before", "after", "both"])
def test_every_method_goes_with_every_other_on_other_threads(images):
    with jrnl.create(size=8 * BLOCK, journal="256KiB", images=images) as store:
        store.snapshot("start")
        do = Everything(store)
        with crew(1.0) as threads:
            for task in (do.write, do.edit, do.look, do.recover, do.take, do.name, do.check):
                threads.again_and_again(task)
            if images != "after":
                threads.again_and_again(do.go_back)
        assert store.verify().ok
        is_whole(store.volume.read(0, 8 * BLOCK))
        assert store.seq > 100


def test_closing_during_writes_ends_them_with_store_closed():
    for round_number in range(6):
        store = jrnl.create(size="1MiB", journal="64KiB")
        volume, closed = store.volume, []

        def work(volume: jrnl.Volume = volume, closed: list[int] = closed) -> None:
            try:
                while True:
                    volume.write(random.randrange(1 << 19), b"x" * 2000)
                    volume.write_many([0, 5000], bytes(4000))
                    volume.read(0, 1 << 20)
            except jrnl.StoreClosed:
                closed.append(1)

        def look(store: jrnl.Store = store, closed: list[int] = closed) -> None:
            try:
                while True:
                    with suppress(jrnl.PointExpired), store.recover(store.seq) as recovery:
                        recovery.read(0, 100_000)
                    with suppress(jrnl.PointExpired), store.view(store.seq) as view:
                        view.read(0, 100_000)
            except jrnl.StoreClosed:
                closed.append(1)

        with crew() as threads:
            for task in (work, work, look):
                threads.start(task)
            time.sleep(0.01 * round_number)
            store.close()
        assert len(closed) == 3


def test_two_edits_on_two_threads_wait_for_each_other():
    with jrnl.create(size=BLOCK) as store:
        inside: list[int] = []

        def edit(value: int) -> None:
            for _ in range(40):
                with store.volume.edit(0, 100) as lent:
                    inside.append(value)
                    assert inside == [value]
                    lent[:50] = value
                    time.sleep(0)
                    lent[50:] = value
                    inside.remove(value)

        with crew() as threads:
            for value in (1, 2, 3):
                threads.start(lambda value=value: edit(value))
        assert store.seq == 120
        for seq in range(121):
            content = store.view(seq).read(0, 100)
            assert content == content[:1] * 100


def test_other_threads_wait_for_the_end_of_an_edit():
    with jrnl.create(size=BLOCK) as store, crew() as threads:
        seen: list[bytes] = []
        with store.volume.edit(0, 4) as lent:
            lent[:2] = 7
            threads.start(lambda: seen.append(store.volume.read(0, 4)))
            threads.start(lambda: seen.append(store.recover(store.seq).read(0, 4)))
            threads.start(lambda: store.mark("after"))
            time.sleep(0.05)
            assert not seen
            assert "after" not in repr(seen)
            lent[2:] = 7
        threads.join()
        assert seen == [b"\7\7\7\7"] * 2
        assert store.marks["after"].seq == 2


def test_a_large_copy_lets_other_threads_run():
    with jrnl.create(size="64MiB", journal="256MiB") as store:
        content = np.ones(16 << 20, np.uint8)
        store.volume.write(0, content)  # maps the pages
        ticks, done = [0], threading.Event()

        def tick() -> None:
            while not done.is_set():
                ticks[0] += 1
                time.sleep(0)

        def measure(call: Callable[[], object]) -> int:
            store.volume.write(0, content)  # something for a rewind to put back
            before = ticks[0]
            call()
            return ticks[0] - before

        def take() -> None:
            snapshot = store.snapshot("large")
            snapshot.wait()
            snapshot.delete()

        sys.setswitchinterval(10)  # whoever holds the GIL keeps it: only letting go of it counts
        with crew() as threads:
            threads.start(tick)
            try:
                for call in (
                    lambda: store.rewind(store.seq - 1),
                    lambda: store.volume.write(0, content),
                    lambda: store.volume.write_many([0, 8 << 20], content),
                    lambda: store.volume.read(0, 16 << 20),
                    lambda: store.volume.readinto(0, content),
                    lambda: store.volume.write_zeroes(0, 16 << 20),
                    take,
                    lambda: store.recover(store.seq - 1).read(0, 16 << 20),
                ):
                    # Once is enough; on busy cores the other thread may miss its turn.
                    assert any(measure(call) > 0 for _ in range(100))
            finally:
                done.set()


def test_a_buffer_that_changes_during_its_write_leaves_journal_and_volume_alike():
    with jrnl.create(size="2MiB", journal="32MiB", images="both") as store:
        volume, data = store.volume, bytearray(1 << 20)
        shared = np.frombuffer(data, np.uint8).reshape(4, -1)

        def scribble() -> None:
            shared[:, random.randrange(1024) :: 1024] += 1

        def write() -> None:
            volume.write(5, data)
            assert store.journal.after(store.seq) == volume.read(5, 1 << 20)
            last = volume.write_many([0, 1 << 19, 1 << 20, 3 << 19], shared)
            for k in range(4):
                assert store.journal.after(last - 3 + k) == volume.read(k << 19, 1 << 18)

        with crew(0.7) as threads:
            threads.again_and_again(scribble)
            threads.start(lambda: [write() for _ in range(200) if not threads.stop.is_set()])
        assert store.verify().ok
        content = bytearray(store.recover(store.window.oldest).as_array())
        for entry in store.journal.entries:
            seq, offset, length = int(entry["seq"]), int(entry["offset"]), int(entry["length"])
            assert store.journal.before(seq) == content[offset : offset + length]
            content[offset : offset + length] = store.journal.after(seq)
        assert volume.read(0, 2 << 20) == content


def test_offsets_that_change_during_a_batch_never_lead_outside():
    with jrnl.create(size=64 * BLOCK, journal="1MiB") as store:
        offsets = np.zeros(2000, np.int64)
        data = np.ones((2000, 64), np.uint8)

        def move() -> None:
            offsets[::7] = random.choice([0, 63 * BLOCK, 1 << 40, -(1 << 40), 1 << 62])

        def write() -> None:
            with suppress(jrnl.OutOfBounds):
                store.volume.write_many(offsets, data)

        with crew(0.4) as threads:
            threads.again_and_again(move)
            threads.again_and_again(write)
        places = store.journal.entries["offset"]
        assert set(places.tolist()) <= {0, 63 * BLOCK}


def test_recoveries_and_views_may_be_collected_on_any_thread():
    with jrnl.create(size=64 * BLOCK, journal="128KiB") as store:
        bin_: list[object] = []

        def make() -> None:
            with suppress(jrnl.PointExpired):
                cycle: list[object] = [store.recover(store.seq), store.view(store.seq)]
                cycle.append(cycle)
                bin_.append(cycle)
                bin_.append(store.recover(store.seq))

        def drop() -> None:
            if bin_:
                bin_.pop()
            if random.random() < 0.05:
                gc.collect(0)

        def write() -> None:
            store.volume.write(random.randrange(63 * BLOCK), bytes(BLOCK))
            assert 0 not in store.recoveries

        with crew(0.7) as threads:
            for task in (make, drop, drop, write, write):
                threads.again_and_again(task)
        bin_.clear()
        gc.collect()
        assert store.recoveries == {}
        assert store.verify().ok
        store.rewind(store.window.oldest)


def test_savepoints_of_one_thread_take_back_what_others_write_meanwhile():
    with jrnl.create(size=BLOCK) as store:
        with pytest.raises(KeyError), store.savepoint(), crew() as threads:
            threads.start(lambda: store.volume.write(0, b"other"))
            threads.join()
            raise KeyError
        assert store.volume.read(0, 5) == bytes(5)


def test_several_stores_do_not_wait_for_each_other():
    first, second = jrnl.create(size=BLOCK), jrnl.create(size=BLOCK)
    with crew() as threads, first.volume.edit(0, 10) as lent:
        lent[:] = 1
        threads.start(lambda: second.volume.write(0, b"goes on"))
        threads.join()
    assert second.volume.read(0, 7) == b"goes on"


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("on_disk", [False, True])
def test_a_child_forked_while_others_write_never_waits_for_them(on_disk, tmp_path):
    path = tmp_path / "store" if on_disk else None
    with jrnl.create(path, size=8 * BLOCK, journal="256KiB") as store, crew() as threads:
        do = Everything(store)
        for task in (do.write, do.write, do.take):
            threads.again_and_again(task)
        for _ in range(12):
            child = os.fork()
            if child == 0:
                signal.alarm(20)  # where it hangs, it dies
                try:
                    is_whole(store.volume.read(0, 8 * BLOCK))
                    store.volume.write(0, b"c" * BLOCK)
                    with store.view(store.seq - 1) as view:
                        is_whole(view.read(0, 8 * BLOCK))
                    os._exit(1 if on_disk else 9)
                except jrnl.StoreLocked:
                    os._exit(9 if on_disk else 1)
                finally:
                    os._exit(1)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
        threads.stop.set()


class Alarm(Exception):
    """What a signal raises in the middle of a task."""


class Storm:
    """Signals at short and random times, each raising in the task that is under way."""

    def __init__(self) -> None:
        self.armed = self.over = False
        self.count = 0

    def __enter__(self) -> Storm:
        self.old = signal.signal(signal.SIGALRM, self.strike)
        return self

    def __exit__(self, *exc: object) -> None:
        self.over = True
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, self.old)

    def strike(self, number: int, frame: object) -> None:
        if not self.over:
            signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-5, 3e-4))
        if self.armed:
            self.armed = False
            raise Alarm

    def run(self, task: Callable[[], object]) -> None:
        try:
            self.armed = True
            signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-5, 3e-4))
            task()
            self.armed = False
        except Alarm:
            self.count += 1


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("on_disk", [False, True])
def test_signals_leave_each_call_done_or_undone_and_nothing_locked(monkeypatch, on_disk):
    # A signal may leave the lock of a logging handler taken, and pytest has one.
    monkeypatch.setattr(logging.getLogger("jrnl"), "propagate", False)
    folder = folder_in_memory()  # a sync there ends before the next signal
    path = folder / "store" if on_disk else None
    store = jrnl.create(path, size=8 * BLOCK, journal="256KiB", images="both")
    do = Everything(store)
    tasks = [do.write, do.edit, do.look, do.recover, do.take, do.name, do.check, do.go_back, do.pin]
    np.random.randint(np.unique([1])[0])  # an import that a signal breaks off may stay locked

    def act() -> None:
        try:
            random.choice(tasks)()
        except jrnl.JournalFull:  # a signal came between a pin and its end
            do.unpin()

    with Storm() as storm:
        while storm.count < 1500:
            storm.run(act)
    do.unpin()
    gc.collect()
    with crew() as threads:  # on other threads: is the lock free?
        for task in tasks[:-1]:  # what is pinned may leave no room for the others
            threads.start(task)
    assert store.verify().ok
    content = store.volume.read(0, 8 * BLOCK)
    is_whole(content)
    store.close()
    if path is not None:
        with jrnl.open(path) as again:
            assert not again.problems
            assert again.verify().ok
            assert again.volume.read(0, 8 * BLOCK) == content
            for recovery in again.recoveries.values():
                is_whole(recovery.as_array())
    shutil.rmtree(folder)


def test_a_recovery_may_be_closed_while_another_thread_closes_the_store(tmp_path):
    store = jrnl.create(tmp_path / "s", size=8 * BLOCK, journal="256KiB")
    recovery = store.recover(0)
    with crew() as threads, store._engine:
        threads.start(recovery.close)
        time.sleep(0.05)  # by now it waits for the lock
        store.close()
