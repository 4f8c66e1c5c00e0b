"""A prepared disk for each test, put back in microseconds. Run it:

python examples/reset_between_tests.py

Tests that need a large prepared image copy it for each test, or share it and fall over each other's
leftovers. A rewind puts back what a test has written, and nothing else. A test that writes more
than the journal holds gets JournalFull, and what it wrote is put back all the same.
"""

import contextlib
import time
from collections.abc import Callable, Iterator

import numpy as np

import jrnl

STORE = jrnl.create(size="64MiB", journal="16MiB")
PREPARED = "prepared"


def prepare() -> None:
    """What takes long: a file system, a database, ten thousand users."""
    for at in range(0, STORE.volume.size, 1 << 20):
        STORE.volume.write(at, np.full(1 << 20, at >> 20 & 0xFF, np.uint8))
    STORE.mark(PREPARED, pinned=True)  # however much a test writes, this state stays


@contextlib.contextmanager
def disk() -> Iterator[jrnl.Volume]:
    """The fixture. (With pytest: @pytest.fixture, and the test takes `disk` as an argument.)"""
    try:
        yield STORE.volume
    finally:
        STORE.rewind(PREPARED)


def test_that_writes(volume: jrnl.Volume) -> None:
    for offset in range(0, 100 * 4096, 4096):
        volume.write(offset, b"test data" * 400)
    assert volume.read(0, 4) == b"test"


def test_that_wipes_and_dies(volume: jrnl.Volume) -> None:
    volume.discard(0, 8 << 20)
    raise RuntimeError("the test has failed half way")


def test_that_writes_too_much(volume: jrnl.Volume) -> None:
    for offset in range(0, volume.size, 1 << 20):
        volume.write(offset, b"more than the journal holds" * 30000)


def main() -> None:
    prepare()
    wanted = STORE.digest()
    tests: list[Callable[[jrnl.Volume], None]] = [
        test_that_writes,
        test_that_wipes_and_dies,
        test_that_writes_too_much,
    ]
    for test in tests * 2:
        verdict = "passed"
        with disk() as volume:
            try:
                test(volume)
            except RuntimeError as error:
                verdict = str(error)
            except jrnl.JournalFull:
                verdict = "needs a larger journal"
            start = time.perf_counter()
        reset_us = (time.perf_counter() - start) * 1e6
        print(f"{test.__name__:25} {verdict}; reset in {reset_us:,.0f} µs")
        assert STORE.digest() == wanted

    # A savepoint does the same for a part of a test, and only where it raises.
    with contextlib.suppress(KeyError), STORE.savepoint():
        STORE.volume.write(0, b"never happened")
        raise KeyError
    assert STORE.digest() == wanted
    print(f"afterwards                the disk is as it was prepared, {STORE.window}")
    STORE.close()


if __name__ == "__main__":
    main()
