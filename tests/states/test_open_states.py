"""Many earlier states open at once: what leaves the journal is kept once, and for all of them."""

from __future__ import annotations

import ctypes
import itertools
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import jrnl
from tests.model.apart import run_apart

SIZE = 12_000


class Past:
    """A store over a tiny ring, what it held at each seq, and recoveries that are open."""

    def __init__(self, seed: int, path: str | None = None, overflow: str = "evict") -> None:
        self.random = random.Random(seed)
        journal = "16KiB" if path is None else "128KiB"
        self.store = jrnl.create(path, size=SIZE, journal=journal, overflow=overflow)
        self.now = bytearray(SIZE)
        self.taken = 0
        self.open: list[tuple[jrnl.Recovery | jrnl.Snapshot, bytes]] = []

    def write(self, count: int) -> None:
        for _ in range(count):
            length = self.random.choice([1, 60, 700, 4096])
            offset = self.random.randrange(SIZE - length)
            data = self.random.randbytes(length)
            self.store.volume.write(offset, data)
            self.now[offset : offset + length] = data

    def recover(self) -> None:
        self.open.append((self.store.recover(self.store.seq), bytes(self.now)))

    def snapshot(self) -> None:
        self.taken += 1
        self.open.append((self.store.snapshot(f"s{self.taken}"), bytes(self.now)))

    def check(self) -> None:
        for state, content in self.open:
            assert state.read(0, SIZE) == content
            at = self.random.randrange(SIZE - 5000)
            assert state.read(at, 5000) == content[at : at + 5000]
        assert self.store.volume.read(0, SIZE) == bytes(self.now)


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
@pytest.mark.parametrize("between", [0, 2, 30])
def test_states_are_exact_in_whatever_order_they_are_closed(order, between):
    past = Past(between)
    for _ in range(4):
        past.write(between)
        past.recover()
    past.write(between)
    states = list(past.open)
    for k in order:
        past.check()
        past.write(between // 2 + 1)
        past.check()
        states[k][0].close()
        past.open.remove(states[k])
    past.check()
    past.store.close()


def test_any_mixture_of_opening_closing_rewinding_is_exact(seed):
    past = Past(seed)
    for step in range(600):
        past.write(past.random.choice([0, 1, 3, 40]))
        match past.random.randrange(5):
            case 0 if len(past.open) < 30:
                past.recover()
            case 1 if len(past.open) < 30 and step % 3 == 0:
                past.snapshot()
            case 2 if past.open:
                state, _ = past.open.pop(past.random.randrange(len(past.open)))
                state.close() if isinstance(state, jrnl.Recovery) else state.delete()
            case 3:
                with pytest.raises(ZeroDivisionError), past.store.savepoint():
                    before = bytes(past.now)
                    past.write(2)
                    raise ZeroDivisionError
                past.now = bytearray(before)
            case 4:
                for state, _ in past.open[:2]:
                    if isinstance(state, jrnl.Snapshot):
                        state.wait()
        if step % 5 == 0:
            past.check()
    past.store.close()


def test_a_long_chain_is_read_by_an_index_and_stays_exact():
    past = Past(3)
    for _ in range(40):
        past.write(5)
        past.recover()
        past.check()
    for k in (39, 20, 0, 10, 10, 10):
        past.open.pop(k)[0].close()
        past.check()
        past.write(3)
        past.check()
    past.store.close()


MEMORY = """
import sys, jrnl
store = jrnl.create(size="8MiB", journal="8MiB")
def fill(byte):
    for k in range(0, 8 << 20, 4096):
        store.volume.write(k, bytes([byte]) * 4096)
fill(1)
recoveries = [store.recover(store.seq) for _ in range(int(sys.argv[1]))]
for byte in range(2, 6):
    fill(byte)
assert all(r.read(123_456, 4096) == bytes([1]) * 4096 for r in recoveries)
print(bytes_held())
"""


def test_what_leaves_is_kept_once_for_thirty_recoveries():
    assert int(run_apart(MEMORY, 30)) < int(run_apart(MEMORY, 1)) + (8 << 20)


# A failing allocator.

ALLOCATOR = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>

volatile uintptr_t fail_low, fail_high;
volatile long fail_at = -1, failed;
volatile int fail_on;

static int fails(void *caller)
{
    if (fail_at < 0 || (uintptr_t)caller < fail_low || (uintptr_t)caller >= fail_high)
        return 0;
    if (fail_at > 0) {
        fail_at--;
        return 0;
    }
    failed++;
    if (!fail_on)
        fail_at = -1;
    errno = ENOMEM;
    return 1;
}

#define REAL(name) static typeof(&name) real; if (!real) real = dlsym(RTLD_NEXT, #name)
void *malloc(size_t size)
{
    REAL(malloc);
    return fails(__builtin_return_address(0)) ? NULL : real(size);
}
void *realloc(void *at, size_t size)
{
    REAL(realloc);
    return fails(__builtin_return_address(0)) ? NULL : real(at, size);
}
void *calloc(size_t count, size_t size)
{
    static char early[4096];    /* for dlsym itself, once */
    static size_t used;
    static int looking;
    static typeof(&calloc) real;
    if (!real && looking) {
        used += count * size;
        return used <= sizeof early ? early + used - count * size : NULL;
    }
    looking = 1;
    if (!real)
        real = dlsym(RTLD_NEXT, "calloc");
    return fails(__builtin_return_address(0)) ? NULL : real(count, size);
}
void *mmap(void *at, size_t size, int prot, int flags, int fd, off_t offset)
{
    REAL(mmap);
    void *caller = __builtin_return_address(0);
    return fails(caller) ? MAP_FAILED : real(at, size, prot, flags, fd, offset);
}
"""


def changes(past: Past, k: int) -> None:
    """Change something that takes memory, and remember what it has come to."""
    volume, length = past.store.volume, 2000
    data, offset = bytes([k]) * length, k * 997 % (SIZE - length)
    now = bytearray(past.now)
    match k % 8:
        case 0 | 1:
            volume.write(offset, data)
            now[offset : offset + length] = data
        case 2:
            other = (offset + 5000) % (SIZE - length)
            volume.write_many([offset, other], data * 2)
            now[offset : offset + length] = now[other : other + length] = data
        case 3 if past.store.options.overflow == "evict":  # longer than the ring
            volume.write_many([offset] * 80, b"".join(bytes([n]) * length for n in range(80)))
            now[offset : offset + length] = bytes([79]) * length
        case 4:
            volume.discard(offset, SIZE - offset)
            now[offset:] = bytes(SIZE - offset)
        case 5:
            with volume.edit(offset, length) as memory:
                memory[:] = np.frombuffer(data, np.uint8)
            now[offset : offset + length] = data
        case 6:
            state, content = past.open[0]
            state.restore()
            now = bytearray(content)
        case 7:
            past.store.snapshot("new").delete()
    past.now = now


def failing_allocator() -> tuple[ctypes.c_long, ctypes.c_long, ctypes.c_int]:
    """Have it fail for the core alone; return at which count, how often so far, and from it on."""
    library = ctypes.CDLL(None)
    spans = [line.split()[0].split("-") for line in Path("/proc/self/maps").read_text().split("\n")
             if "_core" in line and "jrnl" in line]  # fmt: skip
    ctypes.c_size_t.in_dll(library, "fail_low").value = min(int(low, 16) for low, _ in spans)
    ctypes.c_size_t.in_dll(library, "fail_high").value = max(int(high, 16) for _, high in spans)
    at, failed = (ctypes.c_long.in_dll(library, name) for name in ("fail_at", "failed"))
    return at, failed, ctypes.c_int.in_dll(library, "fail_on")


def failing_lives(on_disk: bool, overflow: str, folder: str) -> None:
    """Run in a process with the failing allocator: one failure at each count, or all from it on."""
    at, failed, fail_on = failing_allocator()
    for sticky in (0, 1):
        fail_on.value = sticky
        counts = itertools.accumulate(itertools.count(), lambda n, _: n + 1 + n // 8)
        for count in counts:
            path = f"{folder}/{sticky}-{count}" if on_disk else None
            past = Past(count, path, overflow)
            past.write(20)
            past.recover()
            past.snapshot()
            if overflow == "fold":
                past.open.pop()  # it goes on
            past.write(2)
            past.recover()
            before, refused = failed.value, 0
            for k in range(32):
                seq = past.store.seq
                at.value = count if k == 0 else at.value
                try:
                    changes(past, k)
                except MemoryError:
                    refused += 1
                    left, at.value = at.value, -1
                    assert past.store.seq == seq, (count, k, past.store.seq - seq)
                    assert past.store.volume.read(0, SIZE) == bytes(past.now), (count, k)
                    at.value = left
                except jrnl.StorePoisoned:  # a part of a long batch or a restore is in the log
                    assert on_disk
                    assert k % 8 >= 2
                    break
            at.value = -1
            if past.store._engine.on_disk and k < 31:
                past.store.close()
                with jrnl.open(path) as store:
                    assert store.verify().ok
                continue
            past.check()
            past.write(100)
            past.check()
            past.store.close()
            if failed.value == before:
                break
            if path is not None:
                shutil.rmtree(path)
        assert count > 3 and (refused or count)
    print("exact")


@pytest.mark.parametrize(
    ("where", "overflow"), [("memory", "evict"), ("memory", "fold"), ("disk", "evict")]
)
def test_no_failed_allocation_loses_an_open_state(where, overflow, tmp_path):
    (tmp_path / "fail.c").write_text(ALLOCATOR)
    library = tmp_path / "fail.so"
    subprocess.run(["cc", "-O1", "-shared", "-fPIC", tmp_path / "fail.c", "-o", library, "-ldl"],
                   check=True)  # fmt: skip
    program = (
        "import jrnl.snapshot_copier; jrnl.snapshot_copier.automatic = False\n"
        "from tests.states.test_open_states import failing_lives\n"
        f"failing_lives({where == 'disk'}, {overflow!r}, {str(tmp_path)!r})"
    )
    # Before a sanitizer's allocator, which calls no other one, though it wants to be the first.
    preload = f"{library} {os.environ.get('LD_PRELOAD', '')}".strip()
    options = f"{os.environ.get('ASAN_OPTIONS', '')}:verify_asan_link_order=0".strip(":")
    run = subprocess.run(
        [sys.executable, "-c", program],
        check=False,
        env={**os.environ, "LD_PRELOAD": preload, "ASAN_OPTIONS": options},
        capture_output=True,
        text=True,
    )
    assert run.stdout == "exact\n", run.stderr
