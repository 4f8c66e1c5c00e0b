"""A process is killed while it writes; nothing that it flushed is lost. Run it:

python examples/crash_safe_store.py
"""

import signal
import subprocess
import sys
import tempfile

import jrnl

BLOCK = 4096


def write_until_killed(path: str) -> None:
    """The process that dies: it says which block is durable once it is, and goes on writing."""
    with jrnl.open(path) as store:
        for number in range(1, 1_000_000):
            store.volume.write(number % 256 * BLOCK, number.to_bytes(8, "little") * (BLOCK // 8))
            if number % 10 == 0:
                store.flush()
                print(number, flush=True)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/disk.jrnl"
        with jrnl.create(path, size="1MiB", journal="16MiB") as store:
            store.mark("empty")
        command = [sys.executable, __file__, path]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            promised = [int(writer.stdout.readline()) for _ in range(20)][-1]
            writer.send_signal(signal.SIGKILL)
        print(f"killed     after {promised} writes were flushed; it was on to the next ones")

        with jrnl.open(path) as store:
            numbers = [store.volume.read(k * BLOCK, BLOCK) for k in range(256)]
            newest = max(int.from_bytes(block[:8], "little") for block in numbers)
            print(f"reopened   write {newest} is the newest, problems: {store.problems}")
            assert newest >= promised
            assert all(block == block[:8] * (BLOCK // 8) for block in numbers), "a torn write"
            assert store.problems == []

            # The past came through, too: the journal is on disk like the volume.
            with store.recover("empty") as recovery:
                assert recovery.read(0, 256 * BLOCK) == bytes(256 * BLOCK)
                recovery.restore()
            print(f"recovered  the empty disk of before, from {store.stats().entries} entries")
            assert store.volume.read(0, 256 * BLOCK) == bytes(256 * BLOCK)
            assert store.verify().ok


if __name__ == "__main__":
    if len(sys.argv) > 1:
        write_until_killed(sys.argv[1])
    else:
        main()
