"""What happens in between: interrupts, callbacks, an interpreter that ends, threads and the GIL."""

import gc
import os
import signal
import subprocess
import sys
import threading

import pytest

import jrnl
from tests.core.test_signals import Strike
from tests.model.amount import more_in_long


def run(program):
    """Run a program that hangs where it fails."""
    return subprocess.run(
        [sys.executable, "-c", program], timeout=60, check=True, capture_output=True, text=True
    ).stdout


def filled_store():
    store = jrnl.create(size="1MiB", journal="1MiB")
    for k in range(1500):
        store.volume.write(k, b"x")
    return store


def test_a_progress_callback_may_close_the_store():
    store = filled_store()
    with pytest.raises(jrnl.StoreClosed):
        store.verify(lambda done, total: store.close())


def test_a_progress_callback_may_rewind_and_delete_snapshots():
    store = filled_store()
    store.snapshot("one")
    store.snapshot("two")

    def disturb(done, total):
        if store.seq == 1500:
            store.rewind(10)
        elif done:
            store.snapshots["one"].delete()
            store.snapshot("one")

    assert store.verify(disturb).ok


def test_a_signal_may_close_the_store_at_any_time():
    """By a handler that returns: whatever was under way then finds it closed."""
    before = signal.getsignal(signal.SIGALRM)
    try:
        for k in range(100):
            store = filled_store()
            signal.signal(signal.SIGALRM, lambda *_, store=store: store.close())
            signal.setitimer(signal.ITIMER_REAL, 0.0002 + k * 0.00002)
            with pytest.raises(jrnl.StoreClosed):
                while True:
                    with store.recover(store.seq - 3) as recovery:
                        recovery.restore()
                    store.view(store.seq - 2).read(0, 5000)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_an_interrupt_never_leaves_an_edit_open():
    def interrupt(*_):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        for k in range(50):
            store = jrnl.create(size="1MiB", journal="1MiB")
            with pytest.raises(KeyboardInterrupt):
                signal.setitimer(signal.ITIMER_REAL, 0.001 + k * 0.00001)
                while True:
                    with store.volume.edit(0, 64) as memory:
                        memory[0] = 1
            store.flush()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_dropping_a_view_never_waits_for_another_threads_edit():
    store = filled_store()
    held = [store.view(5), store.recover(7)]
    opened, dropped = threading.Event(), threading.Event()

    def edit():
        with store.volume.edit(0, 4096):
            opened.set()
            assert dropped.wait(30)

    thread = threading.Thread(target=edit)
    thread.start()
    assert opened.wait(30)
    held.clear()
    dropped.set()
    thread.join()
    store.rewind(1)  # and nothing is pinned by what was dropped


def test_the_interpreter_ends_while_a_daemon_thread_has_the_lock():
    run(
        "import jrnl, threading, time, types\n"
        "worker = types.ModuleType('worker')\n"
        "exec('def edit(volume, event):\\n with volume.edit(0, 9):\\n'\n"
        "     '  event.set()\\n  import time\\n  time.sleep(1000)', worker.__dict__)\n"
        "store = jrnl.create(size='1MiB', journal='1MiB')\n"
        "store.volume.write(0, b'a')\n"
        "view, opened = store.view(0), threading.Event()\n"
        "arguments = store.volume, opened\n"
        "threading.Thread(target=worker.edit, args=arguments, daemon=True).start()\n"
        "opened.wait()\n"
    )


def test_one_path_is_made_once_whoever_asks():
    def count():
        return len(os.listdir("/proc/self/fd"))

    store = jrnl.create(size="4MiB", journal="1MiB")
    store.volume.write(0, b"a")
    before = count()
    for _ in range(20):
        recovery = store.recover(0)
        barrier = threading.Barrier(4)
        threads = [
            threading.Thread(target=lambda r=recovery, b=barrier: (b.wait(), r.path()))
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        recovery.close()
    assert count() == before


def test_c_callers_with_and_without_the_gil_share_an_engine_where_sums_need_the_gil():
    """The lock's holder may then be waiting for the GIL that another caller has."""
    run(
        "import ctypes, threading, jrnl._core as core\n"
        "assert core._resolve_hash(None) == 'call'\n"
        "get = ctypes.pythonapi.PyCapsule_GetPointer\n"
        "get.restype, get.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]\n"
        "table = (ctypes.c_void_p * 4).from_address(get(core._C_API, b'jrnl._core._C_API'))\n"
        "u64, at = ctypes.c_uint64, ctypes.c_void_p\n"
        "engine, size = at(), u64(1 << 20)\n"
        "made = ctypes.CFUNCTYPE(ctypes.c_int, at, ctypes.c_uint32, at, u64, ctypes.c_uint)\n"
        "assert made(table[1])(ctypes.addressof(engine), 1, ctypes.addressof(size), 1 << 20, 5)"
        " == 0\n"
        "types = ctypes.c_int, at, ctypes.c_uint32, u64, ctypes.c_char_p, u64, at\n"
        "without = ctypes.CFUNCTYPE(*types)(table[3])\n"
        "having = ctypes.PYFUNCTYPE(*types)(table[3])\n"
        "def run(write):\n"
        "    for _ in range(5000):\n"
        "        assert write(engine, 0, 0, bytes(4096), 4096, None) == 0\n"
        "threads = [threading.Thread(target=run, args=[f]) for f in (without, having, without)]\n"
        "for thread in threads: thread.start()\n"
        "for thread in threads: thread.join()\n"
    )


def test_an_edit_that_is_never_left_outlives_nothing_that_it_needs():
    """The collector takes a store's parts down in any order."""
    for _ in range(20):
        store = jrnl.create(size="1MiB", journal="64KiB", images="both")
        volume = store.volume
        edit = volume.edit(0, 4096)
        edit.__enter__()
        cycle = [store, volume, edit]
        cycle.append(cycle)
        volume.cycle = cycle
        del store, volume, edit, cycle
        gc.collect()


@more_in_long("step", 7, 1)
@pytest.mark.parametrize("images", ["before", "both"])
def test_a_savepoint_that_is_struck_at_any_place_is_rewound_and_gone(images, step, seed):
    store = jrnl.create(size=4096, journal="64KiB", images=images)

    def block():
        with pytest.raises(KeyError), store.savepoint("try"):
            store.volume.write(0, b"dropped")
            raise KeyError

    counting = Strike(-1)
    counting.run(block)
    assert counting.count > 20
    for at in range(1 + seed % step, counting.count + 1, step):
        strike = Strike(at)
        strike.run(block)
        assert strike.struck
        assert store.volume.read(0, 7) == bytes(7)
        assert not store.marks
        assert not store._rewinder.starts
    store.mark("try")


@pytest.mark.parametrize("images", ["before", "after", "both"])
def test_a_batch_longer_than_the_ring_is_whole_whatever_breaks_a_fold_off(images):
    class Stop(BaseException):
        pass

    for at in range(1, 12):
        store = jrnl.create(size="64KiB", journal="16KiB", images=images, overflow="fold")
        if not store.snapshots:  # with after-images alone there is one from the start
            store.snapshot("base").wait()
        hook, calls = store._catalog._watcher.__self__, []

        def broken(seq, hook=hook, calls=calls, at=at):
            calls.append(seq)
            if len(calls) == at:
                raise Stop
            hook(seq)

        store._engine.set_fold(broken)
        with pytest.raises(Stop):
            store.volume.write_many([k * 100 for k in range(500)], b"x" * 100 * 500)
            calls.clear()  # what was raised is raised after the next step at the latest
        assert store.volume.read(0, 50000) == b"x" * 50000
        assert store.seq == 500
        assert store.verify().ok


@pytest.mark.parametrize("images", ["before", "after", "both"])
@pytest.mark.parametrize("where", ["memory", "disk"])
def test_nothing_comes_between_the_entries_of_a_batch_longer_than_the_ring(where, images, tmp_path):
    if where == "disk" and images == "before":
        return  # there is no such store
    for at in range(4):
        store = jrnl.create(
            tmp_path / str(at) if where == "disk" else None,
            size="256KiB",
            journal="16KiB" if where == "memory" else "96KiB",
            images=images,
            overflow="fold",
        )
        if not store.snapshots:
            store.snapshot("base").wait()
        hook, calls, told = store._catalog._watcher.__self__, [], []

        def disturbed(seq, hook=hook, calls=calls, told=told, store=store, at=at):
            for _ in range(2):
                calls.append(seq)
                if len(calls) > at:
                    try:
                        told.append(store.volume.write(0, b"from inside"))
                    except jrnl.JrnlError as error:
                        told.append(type(error).__name__)
                hook(seq)

        store._engine.set_fold(disturbed)
        for call in (
            lambda v: v.write_many([k * 200 for k in range(900)], b"x" * 200 * 900),
            lambda v: v.discard(0, 180_000),
        ):
            before = store.seq
            last = call(store.volume)
            entries = store.journal.entries
            kinds = entries["kind"][entries["seq"] > before].tolist()
            assert len(set(kinds)) == 1
            assert last == store.seq
            assert store.volume.read(0, 11) != b"from inside"
        assert set(told) == {"StoreBusy"}
        assert store.verify().ok
        store.close()
