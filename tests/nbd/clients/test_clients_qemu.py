"""QEMU's programs: qemu-img and qemu-io, of Debian's package qemu-utils."""

from __future__ import annotations

import json
import random
import subprocess
import threading

import pytest

import jrnl
from tests.model.tools import command, environment, need, run

SIZE = 4 << 20


@pytest.fixture
def store():
    need("qemu-img", "qemu-io")
    with jrnl.create(size=SIZE, journal="32MiB") as made:
        yield made


def options(path: object, name: str = "data", **more: object) -> str:
    """What QEMU calls an image, of an export."""
    rest = "".join(f",{key.replace('_', '-')}={value}" for key, value in more.items())
    return f"driver=nbd,server.type=unix,server.path={path},export={name}{rest}"


def qemu_io(path: object, *commands: str, name: str = "data", **more: object) -> str:
    """Run commands of qemu-io on an export; each must succeed."""
    arguments = [word for each in commands for word in ("-c", each)]
    return run("qemu-io", *arguments, "--image-opts", options(path, name, **more))


def mapped(path: object, name: str = "data", **more: object) -> list[dict]:
    told = run("qemu-img", "map", "--output=json", "--image-opts", options(path, name, **more))
    return json.loads(told)


def test_a_map_tells_zeroes_from_data(served, store):
    served(store)
    assert [(each["length"], each["zero"]) for each in mapped(served.path)] == [(SIZE, True)]
    store.volume.write(1 << 20, b"x" * 65536)
    assert [(each["start"], each["length"]) for each in mapped(served.path) if each["data"]] == [
        (1 << 20, 65536)
    ]


def test_convert_and_compare_agree_with_the_volume(served, store, seed, tmp_path):
    rng = random.Random(seed)
    for _ in range(10):
        store.volume.write(rng.randrange(SIZE - 100_000), rng.randbytes(100_000))
    store.mark("good")
    content = store.volume.read(0, SIZE)
    served(store)
    raw, qcow = tmp_path / "a.img", tmp_path / "a.qcow2"
    run("qemu-img", "convert", "-O", "raw", served.uri("data@good"), raw)
    run("qemu-img", "convert", "-O", "qcow2", served.uri("data@good"), qcow)
    assert raw.read_bytes() == content
    qemu_io(served.path, "write -P 9 1M 64k")
    run("qemu-img", "compare", qcow, served.uri("data@good"))
    with pytest.raises(AssertionError, match="mismatch"):
        run("qemu-img", "compare", qcow, served.uri("data"))
    run("qemu-img", "convert", "-n", "-W", "-m", "8", "-O", "raw", qcow, served.uri("data"))
    assert store.volume.read(0, SIZE) == content


def test_qemu_io_writes_zeroes_discards_flushes_and_forces(served, store):
    served(store)
    qemu_io(
        served.path,
        "write -P 1 0 1M", "write -f -P 2 64k 64k", "write -z 128k 64k", "write -z -u 192k 64k",
        "write -z -f 256k 512", "discard 512k 64k", "flush",
        "read -P 1 0 64k", "read -P 2 64k 64k", "read -P 0 128k 128k", "read -P 1 257k 255k",
        "read -P 0 512k 64k", "aio_write -P 3 1M 64k", "aio_write -P 4 2M 64k", "aio_flush",
        "read -P 3 1M 64k", "read -P 4 2M 64k",
    )  # fmt: skip
    kinds = [jrnl.Kind(kind).name for kind in store.journal.entries["kind"].tolist()]
    assert kinds[:8] == ["WRITE", "WRITE", "FLUSH", "ZEROES", "ZEROES", "ZEROES", "FLUSH",
                         "DISCARD"] or kinds.count("FLUSH") >= 3, kinds  # fmt: skip
    with pytest.raises(AssertionError, match="Pattern verification failed"):
        qemu_io(served.path, "read -P 7 0 64k")


def test_marks_are_set_and_gone_back_to_in_scratch_branches_by_qemu_io(served, store, tmp_path):
    served(store)
    name = tmp_path / "name"
    for text, pattern in (("one", 1), ("two", 2)):
        name.write_text(f"{text}\n")
        qemu_io(served.path, f"write -P {pattern} 0 64k", "flush")
        qemu_io(served.path, f"write -s {name} 0 512", name="@mark")
    qemu_io(served.path, "read -P 1 0 64k", "write -P 5 4k 4k", "read -P 5 4k 4k", "read -P 1 0 4k",
            name="data@one+rw")  # fmt: skip
    run("qemu-io", "-r", "-c", "read -P 1 0 64k", "--image-opts", options(served.path, "data@one"))
    qemu_io(served.path, "read -P 2 0 64k")
    assert [*store.marks] == ["one", "two"]


# Backups.


def changes(path: object, point: str, name: str) -> list[tuple[int, int]]:
    """Where QEMU sees a dirty bitmap set: it shows that as what is not data."""
    found = mapped(path, name, x_dirty_bitmap=f"qemu:dirty-bitmap:{point}")
    return [(each["start"], each["length"]) for each in found if not each["data"]]


def test_an_incremental_backup_by_dirty_bitmap_is_the_state_to_the_byte(served, seed, tmp_path):
    need("qemu-img", "qemu-io", "nbdcopy", "nbdinfo")
    rng = random.Random(seed)
    image = tmp_path / "backup.img"
    with jrnl.create(size=SIZE, journal="32MiB") as store:
        served(store)

        def write_on() -> None:
            for _ in range(10):
                length = rng.choice([1, 700, 4096, 60_000])
                store.volume.write(rng.randrange(SIZE - length), rng.randbytes(length))
            store.volume.discard(rng.randrange(SIZE - 9000), 9000)

        write_on()
        store.mark("monday")
        run("nbdcopy", served.uri("data@monday"), image)
        for before, after in (("monday", "tuesday"), ("tuesday", "wednesday")):
            write_on()
            store.mark(after)
            write_on()  # which the backup must not see
            dirty = changes(served.path, before, f"data@{after}")
            told = json.loads(run("nbdinfo", "--json", f"--map=qemu:dirty-bitmap:{before}",
                                  served.uri(f"data@{after}")))  # fmt: skip
            assert dirty == [(each["offset"], each["length"]) for each in told if each["type"]]
            assert 0 < sum(length for _, length in dirty) < SIZE
            for offset, length in dirty:
                copy_extent(served, f"data@{after}", image, offset, length)
            with store.view(after) as view:
                assert image.read_bytes() == view.read(0, SIZE)


def copy_extent(served, name: str, image: object, offset: int, length: int) -> None:
    """Copy a range of an export onto the same range of a file, by qemu-img: whole sectors."""
    end = -(-(offset + length) // 512) * 512
    offset -= offset % 512
    length = end - offset
    source = f"driver=raw,offset={offset},size={length},file.{options(served.path, name)}"
    source = source.replace(",server.", ",file.server.").replace(",export=", ",file.export=")
    target = f"driver=raw,offset={offset},size={length},file.driver=file,file.filename={image}"
    run("qemu-img", "convert", "-n", "--image-opts", source, "--target-image-opts", target)


# A client that comes back.


class Session:
    """A qemu-io that is told one command after another."""

    def __init__(self, target: str) -> None:
        arguments = command("qemu-io", "--image-opts", target)
        self._process = subprocess.Popen(
            arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, bufsize=1, env=environment(),
        )  # fmt: skip

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def tell(self, text: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(text + "\n")

    def hear(self, expected: str) -> str:
        """Read up to a line in which something stands."""
        assert self._process.stdout is not None
        heard = ""
        for line in self._process.stdout:
            heard += line
            if expected in line:
                return heard
        raise AssertionError(f"{expected!r} was not said: {heard}")


def test_a_client_goes_on_after_a_kill_and_restart_of_the_server(outside):
    need("qemu-io")
    jrnl.create(outside.path, size=SIZE, journal="32MiB").close()
    outside.start()
    with Session(options(outside.socket, reconnect_delay=60)) as session:
        for round_ in (1, 2):
            session.tell(f"write -f -P {round_} {round_}M 64k")
            session.hear("wrote 65536/65536")
            outside.kill()
            back = threading.Timer(0.3, outside.start)
            back.start()
            session.tell(f"read -P {round_} {round_}M 64k")  # waits for the server
            assert "verification failed" not in session.hear("read 65536/65536")
            back.join()
    outside.stop()
    with jrnl.open(outside.path, mode="r") as store:
        assert store.volume.read(2 << 20, 65536) == b"\2" * 65536
        assert store.verify().ok


def test_a_client_that_a_rewind_has_disconnected_comes_back_and_sees_it(served, store):
    served(store)
    store.volume.write(0, b"\1" * 65536)
    store.mark("good")
    with Session(options(served.path, reconnect_delay=60)) as session:
        session.tell("write -f -P 2 0 64k")
        session.hear("wrote 65536/65536")
        store.rewind("good")
        session.tell("read -P 1 0 64k")
        assert "verification failed" not in session.hear("read 65536/65536")
