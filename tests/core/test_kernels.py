"""The kernels that move bytes: held against xxhash, chosen at import, forced by JRNL_KERNEL."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import xxhash

import jrnl
from jrnl import _core
from tests.model.places import ROOT

HERE = Path(__file__).parent
SOURCE = ROOT / "src" / "jrnl" / "kernel"
FLAGS = ("-O1", "-Wall", "-Wextra", "-Wno-psabi", "-shared", "-fPIC", f"-I{SOURCE}", f"-I{HERE}")
EMULATE = '-DJRNL_EMULATE="kernels_emulated.h"'  # AVX-512 in plain C: see kernels_emulated.h
VARIANTS = {
    "as built": ((), ["avx512", "avx2", "portable"]),
    "emulated": ((EMULATE,), ["avx512", "avx2", "portable"]),
    "without vectors": (("-DJRNL_NO_VECTORS",), ["portable"]),
    "sanitized": (
        ("-fsanitize=undefined", "-fno-sanitize-recover=undefined"),
        ["avx512", "avx2", "portable"],
    ),
}
LENGTHS = (241, 256, 257, 319, 320, 321, 1023, 1024, 1025, 1088, 2048, 2049, 4095, 4096, 9000)
PAGE = 4096


class Room:
    """Memory from a page's boundary on, to be used at any offset from it."""

    def __init__(self, length: int) -> None:
        self.all = np.full(length + 3 * PAGE, 7, np.uint8)
        self.start = -self.all.ctypes.data % PAGE + PAGE

    def at(self, offset: int, length: int) -> np.ndarray:
        return self.all[self.start + offset : self.start + offset + length]

    def untouched(self, offset: int, length: int) -> bool:
        """Whether nothing but a range was written to."""
        start = self.start + offset
        return bool((self.all[:start] == 7).all() and (self.all[start + length :] == 7).all())


class Kernels:
    """One of the kernels of a library made of kernels.c."""

    def __init__(self, library: ctypes.CDLL, place: int) -> None:
        self.library, self.place = library, place
        for name in ("kernels_sum", "kernels_copy_sum"):
            getattr(library, name).restype = ctypes.c_uint64

    def write(
        self,
        before: np.ndarray,
        after: np.ndarray,
        target: np.ndarray,
        data: np.ndarray,
        images: int,
        stream: int,
    ) -> tuple[int, int]:
        sums = np.zeros(2, np.uint64)
        self.library.kernels_write(
            self.place,
            ctypes.c_void_p(before.ctypes.data if images & 1 else None),
            ctypes.c_void_p(after.ctypes.data if images & 2 else None),
            ctypes.c_void_p(target.ctypes.data),
            ctypes.c_void_p(data.ctypes.data),
            ctypes.c_size_t(len(target)),
            stream,
            ctypes.c_void_p(sums.ctypes.data),
        )  # fmt: skip
        return int(sums[0]), int(sums[1])

    def copy_sum(self, target: np.ndarray, source: np.ndarray, stream: int) -> int:
        return self.library.kernels_copy_sum(self.place, *self._both(target, source), stream)

    def copy(self, target: np.ndarray, source: np.ndarray, stream: int) -> None:
        self.library.kernels_copy(self.place, *self._both(target, source), stream)

    def sum(self, source: np.ndarray) -> int:
        return self.library.kernels_sum(
            self.place, ctypes.c_void_p(source.ctypes.data), ctypes.c_size_t(len(source))
        )

    @staticmethod
    def _both(target: np.ndarray, source: np.ndarray) -> tuple[object, ...]:
        return (
            ctypes.c_void_p(target.ctypes.data),
            ctypes.c_void_p(source.ctypes.data),
            ctypes.c_size_t(len(source)),
        )


def compiled(variant: str, folder: Path) -> list[tuple[str, Kernels | None]]:
    """The kernels of kernels.c by name; None where this processor cannot run one."""
    options, _ = VARIANTS[variant]
    path = folder / "kernels.so"
    command = ["gcc", *FLAGS, *options, "-o", str(path), str(HERE / "kernels.c")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if EMULATE in options and "simde/" in done.stderr and "No such file" in done.stderr:
        if os.environ.get("CI"):
            pytest.fail("libsimde-dev is not installed: .ci/run installs it")
        pytest.skip("AVX-512 is emulated with Debian's libsimde-dev, which is not installed")
    assert done.returncode == 0, done.stderr
    library = ctypes.CDLL(str(path))
    library.kernels_name.restype = ctypes.c_char_p
    found: list[tuple[str, Kernels | None]] = []
    while name := library.kernels_name(len(found)):
        runs = library.kernels_run(len(found))
        found.append((name.decode(), Kernels(library, len(found)) if runs else None))
    return found


def shifts(length: int) -> Iterator[tuple[int, int]]:
    """Some places of a target and of its data within a line."""
    yield from ((0, 0), (1, 0), (63, 63), (length % 64, 5))


def check_write(kernels: Kernels, length: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    old, new = random.integers(0, 256, (2, length), np.uint8)
    room = -(-length // 64) * 64
    for images in (1, 2, 3):
        for stream in (0, 1):
            for shift, data_shift in shifts(length):
                before, after, target, data = (Room(length + 64) for _ in range(4))
                target.at(shift, length)[:] = old
                data.at(data_shift, length)[:] = new
                sums = kernels.write(
                    before.at(0, length), after.at(0, length), target.at(shift, length),
                    data.at(data_shift, length), images, stream,
                )  # fmt: skip
                assert np.array_equal(target.at(shift, length), new)
                assert target.untouched(shift, length)
                assert before.untouched(0, room if images & 1 else 0)
                assert after.untouched(0, room if images & 2 else 0)
                if images & 1:
                    assert np.array_equal(before.at(0, length), old)
                    assert sums[0] == xxhash.xxh3_64_intdigest(old)
                if images & 2:
                    assert np.array_equal(after.at(0, length), new)
                    assert sums[1] == xxhash.xxh3_64_intdigest(new)


def check_copies(kernels: Kernels, length: int, seed: int) -> None:
    content = np.random.default_rng(seed).integers(0, 256, length, np.uint8)
    for stream in (0, 1):
        for shift, source_shift in shifts(length):
            source, target, line = (Room(length + 64) for _ in range(3))
            source.at(source_shift, length)[:] = content
            kernels.copy(target.at(shift, length), source.at(source_shift, length), stream)
            assert np.array_equal(target.at(shift, length), content)
            assert target.untouched(shift, length)
            if length >= 241:
                sums = (
                    kernels.copy_sum(line.at(0, length), source.at(source_shift, length), stream),
                    kernels.sum(source.at(source_shift, length)),
                )
                assert set(sums) == {xxhash.xxh3_64_intdigest(content)}
                assert np.array_equal(line.at(0, length), content)


@pytest.mark.parametrize("variant", VARIANTS)
def test_each_kernel_moves_and_sums_what_xxhash_sums(variant, tmp_path):
    found = compiled(variant, tmp_path)
    assert [name for name, _ in found] == VARIANTS[variant][1]
    ran = [name for name, kernels in found if kernels]
    assert ran == (VARIANTS[variant][1] if variant == "emulated" else ran)
    assert "portable" in ran
    for _, kernels in found:
        for seed, length in enumerate(LENGTHS if kernels else ()):
            check_write(kernels, length, seed)
        for seed, length in enumerate((64, 65, 127, 200, 511, *LENGTHS) if kernels else ()):
            check_copies(kernels, length, seed)


def started(kernel: str, code: str = "import jrnl; print(jrnl.kernel)") -> tuple[int, str]:
    """How a process with JRNL_KERNEL set ends, and what it prints."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env=os.environ | {"JRNL_KERNEL": kernel},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout.strip() + done.stderr


@pytest.mark.parametrize("kernel", _core._kernel_names(False))
def test_an_environment_variable_forces_each_kernel_or_says_why_not(kernel):
    status, said = started(kernel)
    if kernel in _core._kernel_names():
        assert (status, said) == (0, kernel)
    else:
        assert status == 1
        assert f"InvalidArgument: JRNL_KERNEL={kernel}: this processor cannot run it" in said


def test_a_kernel_that_there_is_not_is_refused_by_name():
    status, said = started("avx1024")
    assert status == 1
    assert "JRNL_KERNEL=avx1024: this build has " in said


def test_the_kernel_in_use_is_the_best_that_runs():
    assert jrnl.kernel == _core.kernel_in_use == _core._choose_kernels()
    if "JRNL_KERNEL" not in os.environ:
        assert jrnl.kernel == _core._kernel_names()[0]


@pytest.fixture
def restored() -> Iterator[None]:
    yield
    _core._choose_kernels(None if jrnl.kernel == "none" else jrnl.kernel)


def test_kernels_that_disagree_with_xxhash_do_not_serve(restored, monkeypatch):
    real = xxhash.xxh3_64_intdigest
    monkeypatch.setattr(xxhash, "xxh3_64_intdigest", lambda *arguments: real(*arguments) ^ 1)
    with pytest.warns(RuntimeWarning, match="kernel disagrees with xxhash"):
        assert _core._choose_kernels() == "none"
    with pytest.raises(jrnl.InvalidArgument, match="sums are not those of xxhash"):
        _core._choose_kernels("portable")


@pytest.mark.parametrize("images", ["before", "after", "both"])
@pytest.mark.parametrize("writer", [*_core._kernel_names(), "none"])
def test_what_one_kernel_has_written_the_others_verify_and_rebuild(images, writer, restored):
    """Odd lengths at odd offsets, past the cache and through it, one by one and in batches."""
    random = np.random.default_rng(4)
    with jrnl.create(size="4MiB", journal="64MiB", images=images) as store:
        model = np.zeros(store.volume.size, np.uint8)
        states = []
        _core._choose_kernels(writer)
        for k in range(500):
            length = int(random.integers(1, 9000)) if k % 50 else 900_000
            offset = int(random.integers(store.volume.size - 2 * length))
            data = random.integers(0, 256, (2, length), np.uint8)
            model[offset : offset + length] = data[0]
            if k % 3:
                store.volume.write(offset, data[0])
            else:
                model[offset + length // 2 : offset + length // 2 + length] = data[1]
                store.volume.write_many([offset, offset + length // 2], data)
            if k % 25 == 0:
                states.append((store.seq, model.copy()))
        for reader in [*_core._kernel_names(), "none"]:
            _core._choose_kernels(reader)
            assert store.verify().ok
            assert np.array_equal(np.frombuffer(store.volume.read(0, 4 << 20), np.uint8), model)
            if images != "after":
                for seq, state in states:
                    with store.recover(seq) as recovery:
                        assert np.array_equal(recovery.as_array(), state)
        if images != "after":
            store.rewind(states[0][0])
            assert np.array_equal(store.volume.as_array(), states[0][1])


@pytest.mark.parametrize("kernel", [*_core._kernel_names(), "none"])
def test_data_that_is_a_part_of_the_volume_itself_is_written_as_it_was(kernel, restored):
    _core._choose_kernels(kernel)
    content = np.random.default_rng(3).integers(0, 256, 65536, np.uint8)
    buffer = bytearray(content.tobytes())
    with jrnl.wrap(buffer, journal="1MiB") as store:
        for offset, source in ((100, 0), (0, 100), (4096, 4097), (4097, 4096), (8, 8)):
            before = bytes(buffer)
            seq = store.seq
            store.volume.write(offset, memoryview(buffer)[source : source + 9000])
            assert buffer[offset : offset + 9000] == before[source : source + 9000]
            store.rewind(seq)
            assert bytes(buffer) == before
            store.volume.readinto(source, memoryview(buffer)[offset : offset + 9000])
            assert buffer[offset : offset + 9000] == before[source : source + 9000]
            buffer[:] = before


LOOKS_AHEAD = """
#include "kernels.h"
static __attribute__((noinline)) void fetch(const uint8_t *at)
{
    %s;
}
void look_ahead(const uint8_t *at)
{
    fetch(at);
}
"""


@pytest.mark.parametrize(
    "call", ["jrnl_prefetch_page(at)", "jrnl_prefetch(at, 512)", "jrnl_prefetch_far(at, 512)"]
)
def test_the_compiler_keeps_a_function_that_does_nothing_but_look_ahead(call: str, tmp_path: Path):
    """GCC takes one for a function without an effect, and drops its calls."""
    source = tmp_path / "ahead.c"
    source.write_text(LOOKS_AHEAD % call)
    flags = ("-O3", "-S", "-Wno-unused-function", f"-I{SOURCE}", "-o", "-")
    done = subprocess.run(
        ["gcc", *flags, str(source)], capture_output=True, text=True, check=True
    )  # fmt: skip
    caller = done.stdout.split("\nlook_ahead:")[1].split(".cfi_endproc")[0]
    assert "fetch" in caller
