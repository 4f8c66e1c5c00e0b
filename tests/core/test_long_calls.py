"""Long calls: where they hear a signal, and what they show where a handler has changed something.

A signal is made pending from C, and the call begun from C: no step of Python lies in between, so
its handler can run only inside the call, or after it.
"""

from __future__ import annotations

import ctypes
import operator
import random
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import numpy as np
import pytest

import jrnl
from jrnl._core import ExtentMap, Image, compare_images

PART = 16 << 20  # bytes between two looks
SIZE = 5 * PART // 2
ENTRIES = 10_000


class Stop(BaseException):
    pass


def stop(*_: object) -> None:
    raise Stop


@contextmanager
def handling(handler: Callable[..., object]) -> Iterator[None]:
    before = signal.signal(signal.SIGUSR1, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGUSR1, before)


def call_with_a_signal_pending(call: Callable[[], object]) -> tuple[bool, object]:
    """Whether the call has returned, and what."""
    trip = partial(ctypes.pythonapi.PyErr_SetInterruptEx, int(signal.SIGUSR1))
    results: list[Any] = []
    with suppress(Stop):
        results.extend(map(operator.call, [trip, call]))
    return len(results) == 2, results[-1] if results else None


def make(path: object = None, **options: Any) -> jrnl.Store:
    return jrnl.create(path, size=SIZE, journal="128MiB", **options)


def filled(path: object = None) -> jrnl.Store:
    store = make(path)
    data = random.Random(1).randbytes(1 << 20)
    for start in range(0, SIZE, len(data)):
        store.volume.write(start, data)
    return store


def readers(store: jrnl.Store) -> dict[str, Any]:
    store.snapshot("shot").wait()
    before = store.seq
    store.volume.write(0, b"later")
    return {
        "production": store.volume,
        "view": store.view(before),
        "writable view": store.view(before, writable=True),
        "recovery": store.recover(before),
        "undoable recovery": store.recover(before, undoable=True),
        "recovery from a snapshot": store.recover(before, "shot"),
    }


@pytest.mark.parametrize("where", ["memory", "disk"])
def test_a_long_read_ends_where_a_handler_raises(where, tmp_path):
    with filled(tmp_path / "s" if where == "disk" else None) as store:
        for name, state in readers(store).items():
            buffer = np.full(SIZE, 7, np.uint8)
            with handling(stop):
                ended, _ = call_with_a_signal_pending(partial(state.readinto, 0, buffer))
            assert not ended, name
            assert (buffer[:PART] != 7).any(), name  # a part was read, ...
            assert (buffer[PART:] == 7).all(), name  # ... and no other one
            with handling(stop):
                assert not call_with_a_signal_pending(partial(state.read, 0, SIZE))[0], name
            assert state.read(SIZE - 5, 5) == store.volume.read(SIZE - 5, 5), name


@pytest.mark.parametrize("where", ["memory", "disk"])
def test_a_long_read_shows_one_state_whatever_a_handler_writes_meanwhile(where, tmp_path):
    with filled(tmp_path / "s" if where == "disk" else None) as store:
        for name, state in readers(store).items():
            calls = []

            def write(*_: object, state: Any = state, calls: list[int] = calls) -> None:
                calls.append(1)
                for target in (store.volume, state):
                    if target is store.volume or getattr(state, "writable", False):
                        target.write(1, b"first")
                        target.write(SIZE - 9, b"last")

            before = state.read(0, SIZE)
            with handling(write):
                ended, found = call_with_a_signal_pending(partial(state.read, 0, SIZE))
            assert ended, name
            assert calls == [1], name
            assert found in (before, state.read(0, SIZE)), name


def core_calls(store: jrnl.Store) -> dict[str, Callable[[], object]]:
    """The steps of the Python layer's calls that may take long."""
    engine, newest = store._engine, store.seq
    image = Image.live(engine, newest - ENTRIES, False)
    extents = ExtentMap.backward(engine, newest - ENTRIES, newest)
    offsets = np.arange(0, SIZE, 4096)
    lengths = np.minimum(4096, SIZE - offsets)
    whole = np.array([0]), np.array([SIZE])
    ahead = store.view(newest - ENTRIES)
    return {
        "a view's map": partial(Image.live, engine, newest - ENTRIES, False),
        "a view's first read": partial(ahead.read, 0, 1),
        "the way back": partial(ExtentMap.backward, engine, newest - ENTRIES, newest),
        "copying a recovery's bytes": partial(extents.settle, 0, extents.count),
        "a whole volume": image.materialise,
        "two images": partial(compare_images, image, Image.production(engine), 0, *whole),
        "a restore's look": partial(image.differences, 0, offsets, lengths),
        "a frozen copy": partial(Image.frozen, engine),
        "a frozen copy's sums": store.snapshots["shot"]._image.verify,
    }


CORE_CALLS = [
    "a view's map",
    "a view's first read",
    "the way back",
    "copying a recovery's bytes",
    "a whole volume",
    "two images",
    "a restore's look",
    "a frozen copy",
    "a frozen copy's sums",
]


@pytest.fixture(scope="module")
def written() -> Iterator[jrnl.Store]:
    store = filled()
    store.snapshot("shot").wait()
    ahead = store.view(store.seq)
    order = np.random.default_rng(1).permutation(SIZE // 64)[:ENTRIES] * 64
    store.volume.write_many(order, bytes(64) * ENTRIES)
    ahead.close()
    yield store
    store.close()


@pytest.mark.parametrize("name", CORE_CALLS)
def test_a_long_look_ends_where_a_handler_raises(name, written):
    view = None
    if name == "a view's first read":  # opened before what it has to look at was written
        view = written.view(written.seq)
        order = np.random.default_rng(2).permutation(SIZE // 64)[:ENTRIES] * 64
        written.volume.write_many(order, bytes(64) * ENTRIES)
    calls = core_calls(written)
    assert list(calls) == CORE_CALLS
    call = calls[name] if view is None else partial(view.read, 0, 1)
    with handling(stop):
        assert not call_with_a_signal_pending(call)[0]
    call()  # nothing is left locked or half done
    assert written.verify().ok
    if view is not None:
        view.close()


@pytest.mark.parametrize("name", ["a whole volume", "two images", "the way back"])
def test_a_handler_may_close_the_store_inside_a_long_look(name):
    store = filled()
    store.snapshot("shot").wait()
    store.volume.write_many(np.arange(ENTRIES) * 64, bytes(64) * ENTRIES)
    call = core_calls(store)[name]
    with handling(lambda *_: store.close()), pytest.raises(jrnl.StoreClosed):
        call_with_a_signal_pending(call)


def test_what_changes_something_is_finished_before_a_handler_runs():
    store = make()
    data, seqs = bytes(SIZE), []
    with handling(lambda *_: seqs.append(store.seq)):
        for call in (
            partial(store.volume.write, 0, data),
            partial(store.volume.write_many, np.array([0, SIZE // 2]), bytes([1]) * SIZE),
            partial(store.volume.discard, 0, SIZE),
        ):
            ended, seq = call_with_a_signal_pending(call)
            assert ended
            assert seqs.pop() == seq


# A discard of a large sparse volume.


def history_of(store: jrnl.Store) -> tuple[object, ...]:
    entries = store.journal.entries
    states = [seq for seq in entries["seq"].tolist() if seq > store.window.oldest]
    return (
        store.window,
        [entries[name].tolist() for name in ("seq", "kind", "volume", "offset", "length")],
        [store.digest(seq) for seq in [store.window.oldest, *states[::9]]],
        store.stats().evictions,
    )


@pytest.mark.parametrize("images", ["before", "after", "both"])
@pytest.mark.parametrize("checksum", [True, False])
def test_a_long_discard_is_what_its_pieces_are_one_by_one(images, checksum, seed):
    size = 4 << 20
    for step in range(6):
        dice = random.Random(seed + step)
        pair = [
            jrnl.create(size=size, journal="16KiB", images=images, checksum=checksum)
            for _ in range(2)
        ]
        piece = pair[0]._engine.ring_size[1] // 8 // 512 * 512
        writes = [(dice.randrange(size - 900), dice.randrange(1, 900)) for _ in range(step)]
        shot = step % 3 == 0
        offset = dice.choice([0, 1, dice.randrange(size // 4)])
        length = size - offset - dice.choice([0, 3, dice.randrange(size // 4)])
        for store in pair:
            for k, (start, count) in enumerate(writes):
                store.volume.write(start, bytes([k + 1]) * count)
            if shot:
                store.snapshot("shot").wait()
        views = [store.view(store.seq) for store in pair if shot or images != "after"]
        pair[0].volume.discard(offset, length)
        for start in range(offset, offset + length, piece):
            pair[1].volume.discard(start, min(piece, offset + length - start))
        assert history_of(pair[0]) == history_of(pair[1])
        for view in [] if shot else views:  # else it reads the snapshot
            with pytest.raises(jrnl.PointExpired):
                view.read(0, 1)
        for store in pair:
            store.volume.write(5, b"afterwards")
            if images != "after":
                store.rewind(store.seq - 1)
            assert store.verify().ok
        if shot:
            results = [store.recover("shot").restore()[2] for store in pair]
            assert results[0] == results[1]
        assert history_of(pair[0]) == history_of(pair[1])


def test_a_discard_of_eight_tebibytes_keeps_its_last_pieces_alone():
    store = jrnl.create(size="8TiB", journal="64MiB")
    store.volume.write(5 << 40, b"something")
    seq = store.volume.discard(0, 8 << 40)
    assert seq == store.seq == 1 + (8 << 20)
    assert store.window == (seq - store._engine.ring_size[0], seq)
    assert store.volume.read(5 << 40, 9) == bytes(9)
