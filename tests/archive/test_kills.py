"""Writers and collectors that are killed at any moment: what was acknowledged stays in the archive.

The store, the writer and the object store are real; what is held against them is a plain reader.
"""

from __future__ import annotations

import random
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import xxhash

import jrnl
from jrnl.archive.objects import from_url
from tests.archive import seaweed as seaweeds
from tests.archive.killing import killed, started
from tests.archive.seaweed import SeaweedFS
from tests.model.amount import SHARE, more_in_long
from tests.model.archived import Archived

WRITER = """
import json, os, random, sys
import jrnl, xxhash
path, url, seed = sys.argv[1:]
dice = random.Random(int(seed))
store = jrnl.open(path)
options = json.loads(os.environ["OPTIONS"])
archive = store.archive(url, interval=0.01, snapshot_every=60_000, segment="64KiB",
                        grace=0.3, collect_every=0.4, **options)
print("begun", flush=True)
volume = store.volume
while True:
    for _ in range(dice.randrange(1, 9)):
        length = dice.choice([1, 700, 3000])
        volume.write(dice.randrange(volume.size - 3000), dice.randbytes(length))
    if dice.random() < 0.1:
        store.rewind(dice.choice(store.states()[-20:].tolist()))
    if dice.random() < 0.5:
        seq = archive.flush()
        print(seq, xxhash.xxh3_64_hexdigest(volume.read(0, volume.size)), flush=True)
"""

COLLECTOR = """
import json, os, sys, time
from jrnl.archive.collector import collect
from jrnl.archive.objects import from_url
from jrnl.errors import ArchiveError
objects = from_url(sys.argv[1], **json.loads(os.environ["OPTIONS"]))
while True:
    try:
        collect(objects, 0.3)
    except ArchiveError as error:
        assert "faster" in str(error) or "as fast" in str(error), error
    time.sleep(0.02)
"""


def check(url: Any, options: dict[str, Any], acknowledged: dict[int, str]) -> None:
    """All that was acknowledged is there, as far as no rewind has dropped it since."""
    found = Archived(from_url(url, **options))
    assert found.manifest.seq >= max(acknowledged, default=-1)
    assert found.manifest.seq in found.states
    for seq, digest in acknowledged.items():
        if seq in found.states:
            assert xxhash.xxh3_64_hexdigest(found.states[seq][0]) == digest, f"state {seq}"
    newest = max(acknowledged, default=None)
    if newest is not None and newest not in found.states:  # only a rewind after it drops it
        rows = [facts for facts in found.manifest.segments if 0 <= facts.low < newest < facts.last]
        assert rows, f"state {newest} was acknowledged and is not there"


def lives(url: Any, options: dict[str, Any], path: Path, rounds: int, seed: int) -> None:
    dice = random.Random(seed)
    jrnl.create(path, size=30_000, journal="128KiB").close()
    acknowledged: dict[int, str] = {}
    for k in range(rounds):
        writer = started(WRITER, options, path, url, seed * 1000 + k)
        collector = started(COLLECTOR, options, url) if dice.random() < 0.5 else None
        try:
            assert writer.stdout is not None
            assert writer.stdout.readline() == "begun\n", writer.stderr and writer.stderr.read()
            if collector is not None:
                killed(collector, dice.uniform(0, 0.5))
            for line in killed(writer, dice.uniform(0, 0.8)):
                seq, _, digest = line.partition(" ")
                if len(digest) == 16:
                    acknowledged[int(seq)] = digest
        finally:
            for process in (writer, *([collector] if collector else [])):
                process.kill()
                process.communicate()
        check(url, options, acknowledged)
        acknowledged = {seq: digest for seq, digest in acknowledged.items()
                        if seq > max(acknowledged) - 30}  # fmt: skip
    assert acknowledged


@more_in_long("rounds", 4, 60 // SHARE)
def test_what_was_acknowledged_outlives_kills_on_a_folder(tmp_path: Path, rounds: int):
    lives(tmp_path / "archive", {}, tmp_path / "s", rounds, 1)


@more_in_long("rounds", 4, 200 // SHARE)
def test_what_was_acknowledged_outlives_kills_on_seaweedfs(
    tmp_path: Path, seaweed: SeaweedFS, rounds: int
):
    lives(seaweed.url("kills"), seaweed.options, tmp_path / "s", rounds, 2)


@more_in_long("rounds", 2, 20 // SHARE)
def test_a_writer_goes_on_when_seaweedfs_was_killed(tmp_path: Path, rounds: int):
    seaweeds.need()
    server, dice = SeaweedFS(tmp_path / "weed"), random.Random(3)
    server.start()
    url, acknowledged = server.url("survives"), {}
    often = {"interval": 0.02, "snapshot_every": 60_000, "segment": "64KiB"}
    with ExitStack() as stack:
        stack.callback(server.stop)
        store = stack.enter_context(jrnl.create(tmp_path / "s", size=30_000, journal="128KiB"))
        archive = stack.enter_context(store.archive(url, **often, **server.options))
        for _ in range(rounds):
            until = time.monotonic() + dice.uniform(0.1, 0.8)
            while time.monotonic() < until:
                store.volume.write(dice.randrange(27_000), dice.randbytes(3000))
                acknowledged |= flushed(store, archive, 0.05)
            server.stop()
            store.volume.write(dice.randrange(27_000), dice.randbytes(3000))
            time.sleep(0.2)
            server.start()
            acknowledged |= flushed(store, archive, 60)
        assert archive.archived_seq == store.seq
        check(url, server.options, acknowledged)


def flushed(store: jrnl.Store, archive: Any, timeout: float) -> dict[int, str]:
    try:
        seq = archive.flush(timeout)
    except jrnl.ArchiveLagging:
        return {}
    return {seq: xxhash.xxh3_64_hexdigest(store.volume.read(0, store.volume.size))}
