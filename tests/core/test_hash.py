"""XXH3: the C functions of the xxhash wheel where they hold, its documented call where not."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import numpy as np
import pytest
import xxhash
from xxhash import _xxhash

import jrnl
from jrnl import _core


@pytest.fixture
def by_call() -> Iterator[None]:
    """Sums by Python's call for the length of a test."""
    assert _core._resolve_hash(None) == "call"
    yield
    assert _core._resolve_hash(_xxhash.__file__) == _core.hash_in_use


def fast() -> str:
    return _core._resolve_hash(_xxhash.__file__)


def work(store: jrnl.Store, rounds: int = 40) -> None:
    random = np.random.default_rng(1)
    for k in range(rounds):
        length = int(random.integers(1, 3000))
        offset = int(random.integers(store.volume.size - length))
        data = random.integers(0, 256, length, np.uint8)
        if k % 5 == 0:
            with store.volume.edit(offset, length) as lent:
                lent[:] = data
        elif k % 7 == 0:
            store.volume.write_many([offset, offset // 2], np.stack([data, data]))
        elif k % 11 == 0:
            store.volume.discard(offset, length)
        else:
            store.volume.write(offset, data)


def check(store: jrnl.Store) -> None:
    assert store.verify().ok
    for seq in range(store.window.oldest, store.seq + 1, 7):
        with store.recover(seq) as recovery:
            recovery.as_array()
        store.digest(seq)


def test_the_hash_in_use_is_named():
    assert _core.hash_in_use in ("XXH3_64bits_dispatch", "XXH3_64bits", "call")
    assert fast() == _core.hash_in_use


@pytest.mark.parametrize("path", [None, "/nowhere/at/all.so", np.__file__, b"/nowhere"])
def test_without_the_wheels_functions_the_call_serves(path):
    try:
        assert _core._resolve_hash(path) == "call"
        with jrnl.create(size=65536, journal="64KiB") as store:
            work(store)
            check(store)
    finally:
        fast()


@pytest.mark.parametrize("images", ["before", "after", "both"])
def test_what_one_has_summed_the_other_verifies(images):
    try:
        with jrnl.create(size=65536, journal="1MiB", images=images) as store:
            store.snapshot("start")
            fast()
            work(store)
            store.snapshot("fast")
            _core._resolve_hash(None)
            check(store)
            work(store)
            store.snapshot("by call")
            fast()
            check(store)
            store._engine._damage_image(5, 1)
            assert not store.verify().ok
            _core._resolve_hash(None)
            assert not store.verify().ok
    finally:
        fast()


@pytest.mark.parametrize("kind", ["call", "fast"])
def test_a_headers_sum_is_xxh3_with_the_slot_as_its_seed(kind):
    try:
        _core._resolve_hash(None) if kind == "call" else fast()
        with jrnl.create(size=4096, journal="16KiB") as store:
            for slot in range(3):
                seq = store.volume.write(0, b"data")
                header = store._engine._header_bytes(seq)
                assert xxhash.xxh3_64_intdigest(header[:56], slot) == int.from_bytes(
                    header[56:], "little"
                )
    finally:
        fast()


class Reenters:
    """Garbage that writes when it is collected."""

    def __init__(self, store: jrnl.Store) -> None:
        self.store = store
        self.itself = self

    def __del__(self) -> None:
        self.store.volume.write(60_000, b"from a finalizer")


@pytest.mark.parametrize("images", ["before", "after", "both"])
def test_no_finalizer_comes_between_the_steps_of_a_write(images, by_call, monkeypatch):
    """Summing by call makes Python objects, which would set off the garbage collector."""
    real = xxhash.xxh3_64_intdigest

    def busy(*arguments: object) -> int:
        assert not gc.isenabled()
        assert [[] for _ in range(2000)]
        return real(*arguments)

    monkeypatch.setattr(xxhash, "xxh3_64_intdigest", busy)
    with jrnl.create(size=65536, journal="64KiB", images=images) as store:
        for k in range(60):
            Reenters(store)
            store.volume.write(k * 100, bytes([k]) * 1000)
            Reenters(store)
            store.mark(f"mark {k}")
            with store.volume.edit(k * 100, 500) as lent:
                lent[:] = 1
        assert gc.isenabled()
        gc.collect()
        assert store.volume.read(60_000, 16) == b"from a finalizer"
        assert store.verify().ok
        check(store)
