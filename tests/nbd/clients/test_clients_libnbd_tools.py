"""libnbd's programs: nbdinfo, nbdcopy and nbdfuse, of Debian's package libnbd-bin."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from contextlib import ExitStack

import pytest

import jrnl
from tests.model.mounts import lacking_right
from tests.model.tools import attempt, command, need, run

SIZE = 4 << 20


@pytest.fixture
def store():
    need("nbdinfo", "nbdcopy")
    with jrnl.create(size=SIZE, journal="16MiB") as made:
        yield made


def filled(store: jrnl.Store, seed: int) -> bytes:
    """Write here and there; return what the volume then holds."""
    rng = random.Random(seed)
    for _ in range(20):
        length = rng.choice([1, 512, 4096, 100_000])
        store.volume.write(rng.randrange(SIZE - length), rng.randbytes(length))
    return store.volume.read(0, SIZE)


def told(uri: str, *options: str) -> dict:
    return json.loads(run("nbdinfo", "--json", *options, uri))


def test_nbdinfo_reads_what_an_export_can_do(served, store):
    store.mark("good")
    served(store)
    (found,) = told(served.uri("data"))["exports"]
    assert found["export-size"] == SIZE
    assert found["contexts"] == ["base:allocation", "jrnl:changed:good", "qemu:dirty-bitmap:good"]
    can = {name: value for name, value in found.items() if name[:4] in ("can_", "is_r")}
    assert can.pop("is_rotational") is can.pop("is_read_only") is False
    assert can and all(can.values())
    assert [found[f"block_size_{kind}"] for kind in ("minimum", "preferred", "maximum")] == [
        1, 4096, 32 << 20,
    ]  # fmt: skip
    (past,) = told(served.uri("data@good"))["exports"]
    assert past["is_read_only"] and not past["can_zero"] and past["export-size"] == SIZE
    (scratch,) = told(served.uri("data@good+rw"))["exports"]
    assert not scratch["is_read_only"] and scratch["can_zero"]


def test_nbdinfo_lists_all_exports_with_what_they_are(served):
    need("nbdinfo")
    with jrnl.create(volumes={"root": SIZE, "log": "64KiB"}, journal="1MiB") as store:
        store.mark("good")
        served(store)
        found = {each["export-name"]: each for each in told(served.uri(), "--list")["exports"]}
    assert [*found] == ["root", "log", "root@good", "log@good", "@mark"]
    assert found["log@good"]["export-size"] == 65536
    assert found["root"]["description"] == "volume 'root', as it is now"


def test_nbdinfo_says_why_an_export_is_not_there(served, store):
    served(store)
    done = attempt("nbdinfo", served.uri("data@nothing"))
    assert done.returncode == 1
    assert "nothing" in done.stderr


def test_a_map_of_changes_is_exact(served, store, seed):
    filled(store, seed)
    good = store.mark("good")
    store.volume.write(100_001, b"x" * 5000)
    store.volume.discard(2 << 20, 4096)
    served(store)
    found = told(served.uri("data"), "--map=qemu:dirty-bitmap:good")
    dirty = [(each["offset"], each["length"]) for each in found if each["type"]]
    assert dirty == [(int(o), int(n)) for _, o, n in store.diff(good, store.seq).tolist()]
    assert sum(each["length"] for each in found) == SIZE
    ours = told(served.uri("data"), "--map=jrnl:changed:good")
    assert ours == [{key: each[key] for key in ours[0]} for each in found]


def test_a_map_of_allocation_covers_what_is_there(served, store, seed):
    content = filled(store, seed)
    served(store)
    found = told(served.uri("data"), "--map")
    assert sum(each["length"] for each in found) == SIZE
    for each in found:
        if each["type"]:
            assert not any(content[each["offset"] : each["offset"] + each["length"]])
    assert len(found) > 1 and any(each["type"] for each in found)


@pytest.mark.parametrize("options", [(), ("--connections=4", "--requests=16"), ("--synchronous",)])
def test_nbdcopy_brings_a_volume_out_and_in(served, store, seed, tmp_path, options):
    content = filled(store, seed)
    image, changed = tmp_path / "out.img", tmp_path / "in.img"
    store.mark("good")
    store.volume.write(0, b"later" * 1000)
    served(store)
    run("nbdcopy", *options, served.uri("data@good"), image)
    assert image.read_bytes() == content
    changed.write_bytes(random.Random(seed + 1).randbytes(SIZE // 2) + bytes(SIZE // 2))
    run("nbdcopy", "--flush", *options, changed, served.uri("data"))
    assert store.volume.read(0, SIZE) == changed.read_bytes()
    assert store.journal.entries["kind"][-1] == jrnl.Kind.FLUSH
    assert store.verify().ok


def test_nbdcopy_copies_from_one_export_onto_another(served, store, seed):
    content = filled(store, seed)
    store.mark("good")
    store.volume.discard(0, SIZE)
    served(store)
    run("nbdcopy", served.uri("data@good"), served.uri("data"))
    assert store.volume.read(0, SIZE) == content


def test_nbdcopy_starts_a_server_by_handing_it_a_socket(tmp_path, seed):
    need("nbdcopy")
    path, image, other = tmp_path / "s.jrnl", tmp_path / "out.img", tmp_path / "in.img"
    other.write_bytes(random.Random(seed + 1).randbytes(SIZE))
    with jrnl.create(path, size=SIZE, journal="16MiB") as store:
        content = filled(store, seed)
    server = ["[", sys.executable, "-m", "jrnl", "serve", str(path), "]"]
    for arguments in ([*server, str(image)], ["--flush", str(other), *server]):
        options = [each for each in arguments if each.startswith("--")]
        places = [each for each in arguments if not each.startswith("--")]
        # Not a tool's environment: the server's may be a sanitized build.
        done = subprocess.run(
            command("nbdcopy", *options, "--", *places), capture_output=True, check=False
        )
        assert done.returncode == 0, done.stderr
    assert image.read_bytes() == content
    with jrnl.open(path) as store:
        assert store.verify().ok and store.volume.read(0, SIZE) == other.read_bytes()


@pytest.fixture
def may_mount():
    need("nbdfuse", "umount", right=lacking_right("ext4"))


def test_an_export_is_a_file_by_nbdfuse(may_mount, outside):
    jrnl.create(outside.path, size=SIZE, journal="16MiB").close()
    outside.start()
    with ExitStack() as stack:
        disk, mark = outside.fused("data", stack), outside.fused("@mark", stack)
        run("dd", f"of={disk}", "bs=1000", "seek=7", "conv=notrunc,fsync", stdin="first" * 200)
        run("dd", f"of={mark}", "conv=notrunc,fsync", stdin="good\n")
        run("dd", f"of={disk}", "bs=1000", "seek=7", "conv=notrunc,fsync", stdin="other" * 200)
        run("dd", f"of={mark}", "conv=notrunc,fsync", stdin="better\n")
        past = outside.fused("data@good", stack)
        assert past.read_bytes()[7000:8000] == b"first" * 200
        assert run("dd", f"if={disk}", "bs=1000", "skip=7", "count=1") == "other" * 200
        with pytest.raises(OSError), open(past, "r+b") as file:
            file.write(b"x")
            file.flush()
        refused = attempt("dd", f"of={mark}", "conv=notrunc,fsync", stdin="no/name\n")
        assert refused.returncode == 1
    outside.stop()
    with jrnl.open(outside.path, mode="r") as store:
        assert [*store.marks] == ["good", "better"]


def test_what_a_killed_server_had_flushed_is_there_for_the_next_client(outside):
    need("nbdcopy")
    jrnl.create(outside.path, size=SIZE, journal="16MiB").close()
    content = random.Random(1).randbytes(SIZE)
    image = outside.folder / "in.img"
    image.write_bytes(content)
    outside.start()
    run("nbdcopy", "--flush", image, outside.uri())
    outside.kill()
    outside.start()  # where a stale socket lies
    run("nbdcopy", outside.uri(), image)
    assert image.read_bytes() == content
