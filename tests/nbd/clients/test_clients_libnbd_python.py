"""libnbd, by its Python binding: many requests at a time, and what a client should not ask.

The binding is Debian's, of the package python3-libnbd, for the system's Python: each program runs
there.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import jrnl
from tests.model.tools import PATIENCE, SYSTEM_PYTHON, lacking_binding, need

SIZE = 4 << 20
BEGIN = """
import errno, os, random, sys
import nbd

def refuses(expected, call, *arguments, **options):
    try:
        call(*arguments, **options)
    except nbd.Error as error:
        assert error.errnum == expected, (error.errnum, error.string)
    else:
        raise AssertionError("it was not refused")

h = nbd.NBD()
"""


@pytest.fixture(scope="module")
def may():
    need(packages=lacking_binding())


@pytest.fixture
def store(may):
    with jrnl.create(size=SIZE, journal="32MiB") as made:
        yield made


def client(program: str, *arguments: object, whole: bool = False) -> None:
    """Run a program on libnbd, of which `h` is a handle; `whole`: in this environment."""
    kept = dict(os.environ) if whole else {"PATH": os.environ.get("PATH", "")}
    done = subprocess.run(
        [SYSTEM_PYTHON, "-I", "-c", BEGIN + program, *map(str, arguments)],
        capture_output=True, text=True, timeout=PATIENCE, check=False, env=kept,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_many_requests_at_a_time_are_all_answered(served, store, seed):
    served(store)
    client(
        """
uri, seed = sys.argv[1:]
h.connect_uri(uri)
assert h.get_protocol() == "newstyle-fixed" and h.get_structured_replies_negotiated()
rng, model, done = random.Random(int(seed)), bytearray(h.get_size()), []

def completed(error):
    assert error.value == 0
    done.append(1)
    return 1

for round_ in range(20):
    slots = rng.sample(range(64), 30)
    for slot in slots:
        offset, length = slot * 65536 + rng.randrange(1000), rng.randrange(1, 60000)
        kind, flags = rng.randrange(4), rng.choice([0, nbd.CMD_FLAG_FUA])
        if kind < 2:
            data = rng.randbytes(length)
            h.aio_pwrite(nbd.Buffer.from_bytearray(data), offset, completed, flags)
            model[offset : offset + length] = data
        elif kind == 2:
            h.aio_zero(length, offset, completed, flags | rng.choice([0, nbd.CMD_FLAG_NO_HOLE]))
            model[offset : offset + length] = bytes(length)
        else:
            h.aio_trim(length, offset, completed, flags)
            model[offset : offset + length] = bytes(length)
    h.aio_flush(completed)
    while h.aio_in_flight():
        h.poll(-1)
    assert h.pread(65536, 0) == model[:65536]
assert len(done) == 20 * 31
assert h.pread(h.get_size(), 0) == model

chunks = []
def chunk(data, offset, status, error):
    chunks.append((offset, bytes(data), status))
h.pread_structured(100000, 5, chunk, nbd.CMD_FLAG_DF)
assert [(5, model[5:100005], nbd.READ_DATA)] == chunks
h.cache(4096, 0)
h.shutdown()
""",
        served.uri("data"), seed,
    )  # fmt: skip
    assert store.verify().ok


def test_block_status_has_several_contexts_and_a_piece_of_each(served, store):
    store.mark("old")
    store.volume.write(1 << 20, b"x" * 65536)
    store.mark("new")
    store.volume.write((1 << 20) + 100, b"y" * 1000)
    served(store)
    client(
        """
names = ["base:allocation", "jrnl:changed:old", "qemu:dirty-bitmap:new", "jrnl:changed:none"]
for name in names:
    h.add_meta_context(name)
h.connect_uri(sys.argv[1])
assert [h.can_meta_context(name) for name in names] == [True, True, True, False]
found = {}
def status(name, offset, entries, error):
    found[name] = [*zip(entries[::2], entries[1::2])]
start, length = 1 << 20, 65536
h.block_status(h.get_size(), 0, status)
end = h.get_size() - start - length
assert found[names[0]] == [(start, 3), (length, 0), (end, 3)]
assert found[names[1]] == [(start, 0), (length, 1), (end, 0)]
assert found[names[2]] == [(start + 100, 0), (1000, 1), (h.get_size() - start - 1100, 0)]
h.block_status(h.get_size() - 7, 7, status, nbd.CMD_FLAG_REQ_ONE)
assert found[names[2]] == [(start + 93, 0)]
assert found[names[0]] == [(start - 7, 3)]
""",
        served.uri("data"),
    )


def test_requests_that_are_wrong_are_refused_and_the_next_is_served(served, store):
    store.mark("good")
    served(store)
    client(
        """
h.set_strict_mode(0)
h.connect_uri(sys.argv[1])
size, E = h.get_size(), errno
h.pwrite(b"kept" * 128, 0)
refuses(E.EINVAL, h.pread, 512, size)
refuses(E.EINVAL, h.pread, 512, size - 511)
refuses(E.EINVAL, h.pread, 512, 1 << 63)
refuses(E.ENOSPC, h.pwrite, b"x" * 512, size - 511)
refuses(E.ENOSPC, h.zero, 512, (1 << 63) - 1)
refuses(E.ENOSPC, h.trim, 513, size - 512)
refuses(E.EINVAL, h.cache, 513, size - 512)
refuses(E.EINVAL, h.pwrite, b"x", 0, 1 << 4)
refuses(E.EINVAL, h.pwrite, b"x", 0, 1 << 9)
refuses(E.EINVAL, h.trim, 512, 0, nbd.CMD_FLAG_NO_HOLE)
refuses(E.EINVAL, h.block_status, 512, 0, lambda *_: 0)   # no context was asked for
h.zero(0, 0)
h.trim(0, size)
assert h.pread(512, 0) == b"kept" * 128
""",
        served.uri("data"),
    )
    client(
        """
h.set_strict_mode(0)
h.connect_uri(sys.argv[1])
assert h.is_read_only()
refuses(errno.EPERM, h.pwrite, b"x" * 512, 0)
refuses(errno.EPERM, h.trim, 512, 0)
refuses(errno.EPERM, h.zero, 512, 0, nbd.CMD_FLAG_FAST_ZERO)
h.flush()
assert h.pread(512, 0) == bytes(512)
""",
        served.uri("data@good"),
    )
    assert store.verify().ok


def test_options_are_tried_one_after_the_other_before_one_is_chosen(served, store):
    store.mark("good")
    served(store)
    client(
        """
h.set_opt_mode(True)
h.connect_unix(sys.argv[1])
names = []
h.opt_list(lambda name, description: names.append(name))
assert names == ["data", "data@good", "@mark"], names
h.set_export_name("data@nothing")
refuses(errno.ENOENT, h.opt_info)
h.set_export_name("data@good")
h.set_full_info(True)
h.opt_info()
assert h.is_read_only() and h.get_canonical_export_name() == "data@good"
contexts = []
h.add_meta_context("qemu:")
h.opt_list_meta_context(contexts.append)
h.clear_meta_contexts()
assert contexts == ["qemu:dirty-bitmap:good"], contexts
h.add_meta_context("base:allocation")
h.set_export_name("data")
h.opt_go()
assert not h.is_read_only() and h.can_meta_context("base:allocation")
h.pwrite(b"x", 0)

for before in ("set_request_structured_replies", "set_request_block_size", "set_handshake_flags"):
    other = nbd.NBD()
    getattr(other, before)(0)
    other.connect_unix(sys.argv[1])
    assert other.pread(1, 0) == b"x"
gone = nbd.NBD()
gone.set_opt_mode(True)
gone.connect_unix(sys.argv[1])
gone.opt_abort()
""",
        served.path,
    )


def test_what_one_connection_flushes_all_were_told(served, store):
    served(store)
    client(
        """
h.connect_uri(sys.argv[1])
assert h.can_multi_conn()
other = nbd.NBD()
other.connect_uri(sys.argv[1])
h.pwrite(b"one", 0)
assert other.pread(3, 0) == b"one"
other.flush()
""",
        served.uri("data"),
    )
    assert store.journal.entries["kind"].tolist() == [jrnl.Kind.WRITE, jrnl.Kind.FLUSH]


def test_a_server_on_standard_input_and_output_serves_who_started_it(may, tmp_path):
    path = tmp_path / "s.jrnl"
    jrnl.create(path, size=SIZE, journal="1MiB").close()
    paths = os.pathsep.join(str(Path(each).absolute()) for each in sys.path)
    run = """
os.environ["PYTHONPATH"] = sys.argv[1]
h.connect_command(sys.argv[2:])
h.pwrite(b"kept", 7)
h.shutdown()
"""
    client(run, paths, sys.executable, "-m", "jrnl", "serve", path, whole=True)
    with jrnl.open(path, mode="r") as store:
        assert store.volume.read(7, 4) == b"kept"
