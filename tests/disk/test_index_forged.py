"""An index whose headers say anything, under checksums that are right: R19.

Each field of some headers, and what the superblocks say of the index, gets odd values, and every
sum is put right again. Opening and all that reads headers must then end in an answer or in one of
jrnl's exceptions: no endless loop, no read of other memory, no crash of the process. So the cases
run in a process of their own, which has to end.

    python -m tests.disk.test_index_forged PATH      do every case; prints how many
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import xxhash

import jrnl
from jrnl._core import FileDevice
from jrnl.disk import superblock
from tests.disk.test_fuzz import ENTRY, HEAD
from tests.model.amount import more_in_long
from tests.model.places import ROOT

FIELDS = ("seq", "time_ns", "offset", "position", "length", "volume", "kind", "flags",
          "before_sum", "after_sum")  # fmt: skip
BITS = dict(zip(FIELDS, (64, 63, 64, 64, 32, 16, 8, 8, 64, 64), strict=True))
ODD = (0, 1, 4, 9, 64, 255, 511, 4096, 61440, 1 << 20, (1 << 32) - 1, 1 << 48, (1 << 62) - 1,
       (1 << 64) - (1 << 16), (1 << 64) - 1)  # fmt: skip
SIZE = 65536
FEW = (0, 1, 7, 4096, 1 << 20, 1 << 40, (1 << 63) - 1)
OWN = [(name, k, value) for name, count in (("index", 3), ("tail", 4), ("head", 3))
       for k in range(count) for value in FEW]  # fmt: skip


def make(path: Path) -> None:
    """A closed store with a snapshot, a mark, a discard and a REWIND in its index."""
    with jrnl.create(path, size=SIZE, journal="64KiB", overlay=65536) as store:
        for k in range(4):
            store.volume.write(k * 1024, bytes([k + 1]) * 700)
            store.flush()
        store.snapshot("a").wait()
        store.mark("m")
        store.volume.discard(512, 1024)
        store.rewind(7)
        for k in range(3):
            store.volume.write(k * 1024, bytes([k + 1]) * 700)


def supers(path: Path) -> list[FileDevice]:
    return [FileDevice(os.open(path / name, os.O_RDWR)) for name in superblock.NAMES]


def write_super(path: Path, change: object) -> None:
    """Have both superblocks say what `change` makes of their document."""
    devices = supers(path)
    found = superblock.unpack(0, devices[0])
    change(found)
    superblock.Superblock(devices, found.key, found.generation).write(found.document)
    for device in devices:
        device.close()


def forge(path: Path, slot: int, field: str, value: int) -> None:
    """Change one field of a header in the index, and put right what is summed over it."""

    def change(found: superblock.Found) -> None:
        index = bytearray((path / "index").read_bytes())
        at = HEAD + slot * ENTRY.size
        entry = list(ENTRY.unpack_from(index, at))
        before = entry[-1]
        entry[FIELDS.index(field)] = value & ((1 << BITS[field]) - 1)
        body = ENTRY.pack(*entry)[:56]
        entry[-1] = xxhash.xxh3_64_intdigest(body, (found.key + slot) % (1 << 64))
        ENTRY.pack_into(index, at, *entry)
        (path / "index").write_bytes(index)
        total = found.document["index_sum"] + entry[-1] - before
        found.document["index_sum"] = total % (1 << 64)

    write_super(path, change)


def look(path: Path, mode: str) -> int:
    """Do everything that reads headers; return how much of it gave an answer."""
    refusals = (jrnl.JrnlError, OSError, MemoryError)
    try:
        store = jrnl.open(path, mode, overlay=65536)
    except refusals:
        return 0
    volume, seq, answers = store.volume, store.seq, 1
    acts = [
        lambda: volume.read(0, SIZE), lambda: store.view(3).read(0, SIZE),
        lambda: store.recover(3).read(0, SIZE), lambda: store.recover(seq, "a").read(0, SIZE),
        lambda: store.diff(1, seq), lambda: store.history(0, 4096), store.stats,
        lambda: store.plan(2), lambda: store.journal.entries, lambda: store.marks,
        lambda: store.window_time, store.verify,
    ]  # fmt: skip
    if mode == "r+":
        acts += [lambda: volume.write(5, b"x"), store.flush, lambda: store.rewind(3)]
    for act in (*acts, store.close):
        try:
            act()
        except refusals:
            continue
        answers += 1
    return answers


def cases(slots: range) -> Iterator[tuple[int, str, int]]:
    for slot in slots:
        for field in FIELDS:
            yield from ((slot, field, value) for value in ODD)


def do_all(path: Path, every: int) -> tuple[int, int]:
    """Do every so many cases; return how many, and how many answers there were."""
    make(path)
    work = path.with_name("work")
    done = answers = 0
    for k, case in enumerate([*cases(range(16)), *OWN]):
        if k % every:
            continue
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(path, work)
        if case in OWN:
            name, place, value = case
            write_super(work, lambda found, n=name, p=place, v=value:
                        found.document[n].__setitem__(p, v))  # fmt: skip
        else:
            forge(work, *case)
        answers += look(work, "r") + look(work, "r+")
        done += 1
    return done, answers


@more_in_long("every", 28, 7)
def test_forged_headers_and_a_forged_end_of_the_index_are_answered_or_refused(tmp_path, every):
    command = [sys.executable, "-X", "faulthandler", "-m", "tests.disk.test_index_forged",
               str(tmp_path / "store"), str(every)]  # fmt: skip
    ended = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                           timeout=900, cwd=ROOT, check=False)  # fmt: skip
    assert ended.returncode == 0, ended.stdout
    done, answers = map(int, ended.stdout.split())
    assert done > 2100 // every
    assert answers > 10 * done


@pytest.mark.parametrize("field", ["seq", "offset", "position", "length", "kind", "flags"])
def test_an_index_of_a_forged_header_is_left_aside_and_the_log_read(tmp_path, field):
    path = tmp_path / "store"
    make(path)
    with jrnl.open(path, "r") as store:
        states = {seq: store.digest(seq) for seq in (1, 3, 7, store.seq)}
    forge(path, 2, field, SIZE if field == "offset" else 0)
    with jrnl.open(path, "r") as store:
        assert store.problems == ["the index is damaged; it was made again from the log"]
        assert {seq: store.digest(seq) for seq in states} == states


if __name__ == "__main__":
    print(*do_all(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1))
