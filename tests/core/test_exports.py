"""Memory that was handed out stays valid, whatever happens to what it came from."""

from __future__ import annotations

import gc
import itertools
import mmap
import os
import pickle
import sys
import weakref
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

import jrnl

SIZE = 65536


def make() -> jrnl.Store:
    store = jrnl.create(size=SIZE, journal="16KiB")
    store.volume.write(0, bytes(range(256)))
    return store


EXPORTS: dict[str, Callable[[jrnl.Store], object]] = {
    "as_array": lambda store: store.volume.as_array(),
    "a slice": lambda store: store.volume.as_array()[16:4096:3],
    "a reshaped view": lambda store: store.volume.as_array().reshape(-1, 64)[::2],
    "another dtype": lambda store: store.volume.as_array().view(">u4"),
    "memoryview": lambda store: memoryview(store.volume.as_array()),
    "frombuffer": lambda store: np.frombuffer(memoryview(store.volume.as_array()), np.uint16),
    "ndarray over it": lambda store: np.ndarray((8, 8), np.uint8, store.volume.as_array(), 64),
    "recovery array": lambda store: store.recover(0).as_array(),
    "recovery slice": lambda store: memoryview(store.recover(1).as_array())[5:],
    "dlpack": lambda store: np.from_dlpack(store.recover(1).as_array()),
}


def wrap_around(store: jrnl.Store) -> None:
    for k in range(200):
        store.volume.write(k * 300, bytes([k]) * 300)


@pytest.mark.parametrize("export", EXPORTS)
@pytest.mark.parametrize("order", list(itertools.permutations(["wrap", "close", "del"])))
def test_an_export_outlives_wraps_close_and_collection_in_any_order(export, order):
    holder = {"store": make()}
    held = EXPORTS[export](holder["store"])
    for step in order:
        store = holder.get("store")
        if step == "del":
            holder.clear()
            del store
            gc.collect()
        elif store is not None and not (step == "wrap" and closed(store)):
            {"wrap": wrap_around, "close": jrnl.Store.close}[step](store)
        store = None
        content = bytes(memoryview(held))
        assert len(content) == memoryview(held).nbytes > 0
        assert np.array_equal(np.asarray(held), np.asarray(held).copy())


def closed(store: jrnl.Store) -> bool:
    return "closed" in repr(store)


def test_production_as_an_array_follows_writes_and_keeps_the_last_content():
    store = make()
    array = store.volume.as_array()
    assert (array.shape, array.dtype, array.flags.owndata) == ((SIZE,), np.uint8, False)
    store.volume.write(10, b"new")
    assert array[10:13].tobytes() == b"new"
    store.rewind(1)
    assert array[10:13].tolist() == [10, 11, 12]
    store.close()
    del store
    gc.collect()
    assert array[:256].tobytes() == bytes(range(256))
    assert pickle.loads(pickle.dumps(array)).tobytes() == array.tobytes()


def test_production_as_an_array_cannot_be_written_by_any_road():
    with make() as store:
        array = store.volume.as_array()
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1
        with pytest.raises(ValueError, match="WRITEABLE"):
            array.flags.writeable = True
        assert memoryview(array).readonly


def test_a_recoverys_array_is_the_callers_own():
    with make() as store:
        recovery = store.recover(1)
        array = recovery.as_array()
        array[:] = 9
        assert recovery.read(0, 4) == bytes(range(4))
        assert store.volume.read(0, 4) == bytes(range(4))
        other = recovery.as_array()
        assert not np.shares_memory(array, other)
        recovery.close()
        assert other[:256].tobytes() == bytes(range(256))


def test_a_wrapped_bytearray_cannot_be_resized_until_all_that_came_from_it_is_gone():
    buffer = bytearray(SIZE)
    store = jrnl.wrap(buffer)
    array = store.volume.as_array()
    with pytest.raises(BufferError):
        buffer.append(1)
    store.close()
    with pytest.raises(BufferError):
        buffer.clear()
    array = array[5:9]
    with pytest.raises(BufferError):
        buffer.extend(b"more")
    del array
    buffer.append(1)
    assert len(buffer) == SIZE + 1


def test_a_wrapped_bytearray_is_released_with_a_store_that_was_never_closed():
    buffer = bytearray(SIZE)
    store = jrnl.wrap(buffer)
    store.volume.write(0, b"kept")
    volume, view, recovery = store.volume, store.view(0), store.recover(0)
    del store
    gc.collect()
    with pytest.raises(BufferError):
        buffer.append(1)
    volume.write(4, b" on")
    assert view.read(0, 7) == recovery.read(0, 7) == bytes(7)
    del volume, view, recovery
    gc.collect()
    buffer.append(1)
    assert buffer[:7] == b"kept on"


def test_a_wrapped_array_and_map_stay_as_long_as_they_are_needed():
    array = np.zeros(SIZE, np.uint8)
    gone = weakref.ref(array)
    store = jrnl.wrap(array)
    production = store.volume.as_array()
    del array
    store.volume.write(0, b"x")
    store.close()
    del store
    gc.collect()
    assert gone() is not None
    assert production[0] == ord("x")
    del production
    gc.collect()
    assert gone() is None
    pages = mmap.mmap(-1, SIZE)
    with jrnl.wrap(pages) as store:
        store.volume.write(0, b"y")
        with pytest.raises(BufferError):
            pages.close()
    del store
    gc.collect()
    assert pages[:1] == b"y"
    pages.close()


def test_what_an_edit_lent_stays_valid_memory_after_its_end():
    store = make()
    with store.volume.edit(0, 100) as lent:
        other = lent[10:20]
    store.close()
    del store
    gc.collect()
    assert lent.tobytes() == bytes(range(100))
    assert other.tobytes() == bytes(range(10, 20))


def test_a_caller_s_buffer_is_free_again_after_each_call_even_a_failed_one():
    with make() as store:
        buffer = bytearray(100)
        offsets = np.zeros(4, np.int64)
        for call in (
            lambda: store.volume.write(0, buffer),
            lambda: store.volume.write(SIZE, buffer),
            lambda: store.volume.write(0, memoryview(buffer)[::2]),
            lambda: store.volume.write_many(offsets, buffer),
            lambda: store.volume.write_many([SIZE], buffer),
            lambda: store.volume.write_many([0, 1, 2], buffer),
            lambda: store.volume.write_many([0.5], buffer),
            lambda: store.volume.readinto(0, buffer),
            lambda: store.volume.readinto(SIZE, buffer),
            lambda: store.view(0).readinto(SIZE, buffer),
            lambda: store.recover(0).readinto(SIZE, buffer),
            lambda: store.volume.as_file().write(buffer),
            lambda: store.volume.as_file().readinto(buffer),
        ):
            with suppress(jrnl.JrnlError):
                call()
            buffer.append(0)
            buffer.pop()
        assert sys.getrefcount(offsets) == 2


def test_what_is_dropped_goes_at_once_and_its_memory_with_it():
    buffer = bytearray(SIZE)
    gc.collect()
    gc.disable()
    try:
        store = jrnl.wrap(buffer)
        store.volume.write(0, b"kept")
        store.mark("mark")
        store.snapshot("snapshot")
        held = [store.view(0), store.recover(0), store.recover(0).again(), store.plan(0)]
        assert held[1].plan.oldest_after_restore == 0
        del held
        store.rewind(0)  # nothing of all that is pinned any more
        del store
        buffer.append(1)
    finally:
        gc.enable()


def test_views_recoveries_and_snapshots_may_be_dropped_in_any_order():
    for order in itertools.permutations(range(4)):
        store = make()
        snapshot = store.snapshot("taken")
        store.volume.write(0, b"later")
        held: list[object] = [store.view(0), store.recover(1), snapshot, store]
        again = held[1].again()
        wrap_around(store)
        del store, snapshot
        for index in order:
            held[index] = None
        assert again.read(0, 5) == bytes(range(5))


def test_a_closed_view_pins_nothing_even_where_a_traceback_has_it():
    with make() as store:
        store.volume.write(0, b"later")
        view, recovery = store.view(2), store.recover(2)
        with pytest.raises(jrnl.OutOfBounds) as caught:
            view.read(SIZE, 1)
        with pytest.raises(jrnl.UnknownPoint) as other:
            recovery.again(17)
        view.close()
        recovery.close()
        assert store.rewind(1).entries == 1
        del caught, other


def test_a_recovery_taken_again_outlives_the_one_that_it_came_from():
    with make() as store:
        store.volume.write(0, b"later")
        first = store.recover(1)
        second, third = first.again(), first.again(0)
        first.close()
        with pytest.raises(jrnl.PinnedPoint):
            store.rewind(1)
        wrap_around(store)
        assert second.read(0, 5) == bytes(range(5))
        assert third.read(0, 5) == bytes(5)
        second.close()
        third.close()


def test_a_recoverys_path_can_be_opened_by_others_and_goes_with_it():
    with jrnl.create(size="4MiB") as store:
        store.volume.write(0, bytes(range(256)))
        recovery = store.recover(1)
        path = recovery.path()
        assert recovery.path() == path
        assert Path(path).read_bytes() == recovery.as_array().tobytes()
        with open(path, "r+b") as file:
            file.write(b"scratch")
        assert recovery.read(0, 7) == bytes(range(7))
        assert os.stat(path).st_blocks * 512 <= 1 << 20
        recovery.close()
        assert not os.path.exists(path)
        with store.recover(0) as dropped:
            path = dropped.path()
        assert not os.path.exists(path)
        store.recover(0).path()
        gc.collect()
