"""A log that is appended to, held against each disk that a power cut could leave of it.

Run it: python examples/crash_test_a_log.py. A record is its length, a checksum, and its text. It is
promised once an append has returned. First the log does not look at the checksum; then it does;
then its recovery is cut as well.
"""

import struct
import zlib
from collections.abc import Iterator

import jrnl
from jrnl import crash

SIZE = 16 << 10
HEADER = struct.Struct("<II")
TEXTS = [f"record {n} " * 150 for n in range(1, 6)]  # of several sectors, so they can be torn

Disk = jrnl.Volume | crash.CrashState


def append(store: jrnl.Store, end: int, text: str) -> int:
    """Write a record where the log ends; return where it ends then."""
    content = text.encode()
    store.volume.write(end, HEADER.pack(len(content), zlib.crc32(content)) + content)
    store.flush()
    return end + HEADER.size + len(content)


def records(disk: Disk, *, checked: bool = True) -> Iterator[tuple[int, str]]:
    """Yield each record's end and text, up to the first one that is not there, or not whole."""
    end = 0
    while True:
        length, checksum = HEADER.unpack(disk.read(end, HEADER.size))
        content = disk.read(end + HEADER.size, min(length, SIZE - end - HEADER.size))
        if not length or (checked and zlib.crc32(content) != checksum):
            return
        end += HEADER.size + length
        yield end, content.decode()


def recover(store: jrnl.Store) -> None:
    """Clear what is left of a torn record, and go on with the log."""
    end = max((end for end, _ in records(store.volume)), default=0)
    store.volume.write_zeroes(end, 4096)
    store.flush()
    append(store, end, "after the power cut")


def main() -> None:
    store = jrnl.create(size=SIZE, journal="1MiB")
    end = 0
    promised = []
    for text in TEXTS:
        end = append(store, end, text)
        promised.append((store.seq, text))

    def least(state: crash.CrashState) -> list[str]:
        return [text for seq, text in promised if seq <= state.acked]

    def holds(state: crash.CrashState, *, checked: bool) -> None:
        found = [text for _, text in records(state, checked=checked)]
        assert found == TEXTS[: len(found)], "a record is not what was written"
        assert len(found) >= len(least(state)), "a promised record is gone"

    hasty = crash.campaign(store, lambda state: holds(state, checked=False), mode="torn")
    failure = hasty.failures[0]
    print(f"unchecked {failure.message}: {failure.id}, shrunk to {failure.shrunk}")
    assert failure.shrunk is not None
    for lost in crash.state(store, failure.shrunk).lost:
        print(f"lost      {lost}")

    careful = crash.campaign(store, lambda state: holds(state, checked=True), mode="torn")
    assert careful.ok, careful
    print(f"checked   {careful.coverage}")

    # Each of these disks is recovered, and the power fails again at each moment of that.
    cuts = 0
    for state in crash.states(store, mode="torn"):
        with state.fork() as fork:
            recover(fork)
            for cut in crash.states(fork, mode="torn"):
                cuts += 1
                again = [text for _, text in records(cut)]
                assert again[: len(least(state))] == least(state), cut.id
    print(f"recovered {cuts} disks that a power cut during the recovery leaves")
    store.close()


if __name__ == "__main__":
    main()
