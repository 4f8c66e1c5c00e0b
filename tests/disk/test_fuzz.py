"""Hostile logs: seeded mutations of what lies on disk, with the checksums put right again.

Whoever can sum can make a store say anything: opening, reading and verifying it must end in an
answer or in one of jrnl's exceptions, and must take neither for ever nor all memory (F26).

    python -m tests.disk.test_fuzz SEED COUNT
"""

from __future__ import annotations

import os
import random
import shutil
import struct
import sys
from contextlib import suppress
from pathlib import Path

import pytest
import xxhash

import jrnl
from jrnl import snapshot_copier
from jrnl._core import FORMAT, FileDevice
from jrnl.disk import superblock
from tests.model.amount import SHARE
from tests.model.disk_twin import folder_in_memory

BLOCK = FORMAT["constants"]["LOG_BLOCK_BYTES"]
HEAD = FORMAT["constants"]["LOG_HEAD_BYTES"]
GROUP = struct.Struct("<16Q")
ENTRY = struct.Struct("<QqQQIHBBQQQ")
SUMMED = 56
MAGIC = GROUP.unpack_from(b"purglnrj".ljust(GROUP.size, b"\0"))[0]
ODD = (0, 1, 2, 511, 512, 4095, 4096, 65535, 1 << 31, (1 << 32) - 1, 1 << 40, (1 << 63) - 1,
       1 << 63, (1 << 64) - 1)  # fmt: skip


def make(path: Path, seed: int) -> None:
    """A killed store with a bit of everything in it."""
    rng = random.Random(seed)
    original = path.with_name("original")
    store = jrnl.create(original, volumes={"a": 9000, "b": 4096}, journal="64KiB",
                        images=rng.choice(["both", "after"]))  # fmt: skip
    for k in range(rng.randrange(5, 40)):
        name, size = rng.choice([("a", 9000), ("b", 4096)])
        length = rng.randrange(1, 1500)
        store[name].write(rng.randrange(size - length), rng.randbytes(length))
        if rng.random() < 0.3:
            store.flush()
        if k == 4:
            store.snapshot("s")
            store.mark("m")
        if rng.random() < 0.1 and store._engine.images == 3:
            with suppress(jrnl.PointExpired):
                store.rewind(rng.randrange(store.window.oldest, store.seq + 1))
    if rng.random() < 0.5:
        store.close()
    else:
        store.flush()
    shutil.copytree(original, path)
    store.close()
    shutil.rmtree(original)


def key_of(path: Path) -> tuple[int, dict]:
    for copy, name in enumerate(superblock.NAMES):
        with open(path / name, "rb") as file:
            device = FileDevice(os.dup(file.fileno()))
            try:
                found = superblock.unpack(copy, device)
            except (jrnl.FormatError, jrnl.CorruptionError):
                continue
            return found.key, found.document
    raise AssertionError("no superblock")


def groups(log: bytes) -> list[int]:
    """Where something starts that looks like a group."""
    return [
        at for at in range(HEAD, len(log) - GROUP.size, BLOCK)
        if struct.unpack_from("<Q", log, at)[0] == MAGIC
    ]  # fmt: skip


def odd(rng: random.Random, value: int, bits: int) -> int:
    choice = rng.choice([value + 1, value - 1, value ^ (1 << rng.randrange(bits)), *ODD])
    return choice & ((1 << bits) - 1)


def entry_places(log: bytearray, at: int) -> list[int]:
    fields = GROUP.unpack_from(log, at)
    headers_at, count = fields[5], fields[13]
    places = [at + GROUP.size + k * ENTRY.size for k in range(min(count, 6))]
    places += [at + headers_at + k * ENTRY.size for k in range(min(max(count - 6, 0), 200))]
    return [place for place in places if place + ENTRY.size <= len(log)]


def resum(log: bytearray, at: int, key: int) -> None:
    """Put a group's checksums right: of its entry headers, of them together, and its own."""
    fields = list(GROUP.unpack_from(log, at))
    places = entry_places(log, at)
    for k, place in enumerate(places):
        slot = (fields[6] + k + key) & ((1 << 64) - 1)
        body = bytes(log[place : place + SUMMED])
        struct.pack_into("<Q", log, place + SUMMED, xxhash.xxh3_64_intdigest(body, slot))
    first = b"".join(bytes(log[p : p + ENTRY.size]) for p in places[:6])
    total = xxhash.xxh3_64_intdigest(first)
    if len(places) > 6:
        rest = b"".join(bytes(log[p : p + ENTRY.size]) for p in places[6:])
        total = xxhash.xxh3_64_intdigest(rest, total)
    fields[12] = total
    GROUP.pack_into(log, at, *fields)
    seed = xxhash.xxh3_64_intdigest(struct.pack("<4Q", key, fields[1], fields[2], fields[3]))
    own = xxhash.xxh3_64_intdigest(bytes(log[at : at + 120]), seed)
    struct.pack_into("<Q", log, at + 120, own)


def mutate(path: Path, rng: random.Random) -> None:
    """Change a few fields of groups, entries or the superblocks, and put the checksums right."""
    key, document = key_of(path)
    log = bytearray((path / "log").read_bytes())
    for _ in range(rng.randrange(1, 4)):
        at = rng.choice(groups(log) or [HEAD])
        if rng.random() < 0.4:
            fields = list(GROUP.unpack_from(log, at))
            k = rng.randrange(1, 15)
            fields[k] = odd(rng, fields[k], 64)
            GROUP.pack_into(log, at, *fields)
        elif places := entry_places(log, at):
            place = rng.choice(places)
            fields = list(ENTRY.unpack_from(log, place))
            k = rng.randrange(10)
            bits = (64, 63, 64, 64, 32, 16, 8, 8, 64, 64)[k]
            fields[k] = odd(rng, fields[k], bits)
            ENTRY.pack_into(log, place, *fields)
        resum(log, at, key)
    (path / "log").write_bytes(log)
    if rng.random() < 0.3:
        for _ in range(rng.randrange(1, 3)):
            change(document, rng)
        document["clean"] = rng.random() < 0.3
        for copy, name in enumerate(superblock.NAMES):
            with open(path / name, "r+b") as file:
                file.write(superblock.pack(copy, key, 1 << 30, document))
    if rng.random() < 0.3:
        index = bytearray((path / "index").read_bytes())
        index[rng.randrange(HEAD, len(index))] ^= 1 << rng.randrange(8)
        (path / "index").write_bytes(index)


def any_value(rng: random.Random) -> object:
    """Mostly what is right in kind: what is not, is refused early."""
    return rng.choice([
        *range(5), rng.randrange(60), odd(rng, 3, 40), -1, True, False, None, 0.5, 1e-9, 1.0,
        "s", "m", "a", "", [], [0], [1], [0, 1], [1, 0], [0, 10**9], [0.9, 0.2], [2], ["a"], {},
    ])  # fmt: skip


def change(document: dict, rng: random.Random) -> None:
    """Change one thing that the superblocks say."""
    name = rng.choice(["tail", "head", "index", "durable_number", "synced_seq", "epochs", *RULES])
    if name in RULES:
        document[name] = RULES[name](rng)
        if name in ("snapshots", "recoveries", "pins") and rng.random() < 0.5:
            document[name] *= 2
        return
    value = document[name]
    if isinstance(value, list) and value and isinstance(value[0], int):
        value[rng.randrange(len(value))] = odd(rng, 3, 40)
    elif isinstance(value, int):
        document[name] = odd(rng, value, 40)


def some_of(rng: random.Random, right: dict, optional: dict) -> dict:
    """A record with some of the keys that it may have, and a value or two that are any."""
    made = {**right, **{key: value for key, value in optional.items() if rng.random() < 0.4}}
    for _ in range(rng.randrange(3)):
        made[rng.choice([*made])] = any_value(rng)
    return made


def a_snapshot(rng: random.Random) -> list:
    seq = rng.randrange(50)
    right = {"id": rng.randrange(3), "name": rng.choice("st"), "seq": seq, "time_ns": 1}
    optional = {"copying": True, "volumes": rng.choice([[0], [1], [0, 1]]), "pinned": True,
                "fold": seq + rng.randrange(1, 20)}  # fmt: skip
    return [some_of(rng, right, optional)]


def a_recovery(rng: random.Random) -> list:
    right = {"id": rng.randrange(3), "seq": rng.randrange(50), "base": rng.choice(["s", "t"]),
             "base_seq": rng.randrange(50), "copy": rng.randrange(3), "route": "forward",
             "entries": 1, "bytes": 1}  # fmt: skip
    optional = {"undoable": True, "version": rng.randrange(3), "volumes": rng.choice([[0], [1]])}
    return [some_of(rng, right, optional)]


def a_pin(rng: random.Random) -> list:
    row = [rng.choice(["m", "other"]), rng.randrange(60), rng.choice([0, 1, -1]), "a"]
    row = row[: rng.choice([3, 3, 4])]
    if rng.random() < 0.3:
        row[rng.randrange(len(row))] = any_value(rng)
    return [row]


def a_restore(rng: random.Random) -> dict:
    right = {"recovery": rng.randrange(3), "start": rng.randrange(60)}
    return some_of(rng, right, {"volumes": rng.choice([[0], [1], [0, 1]])})


def a_pair(rng: random.Random) -> object:
    return rng.choice([[0.9, 0.2], [1e-9, 1e-9], [0, 5], [10**9, 10**18], any_value(rng)])


RULES = {
    "snapshots": a_snapshot,
    "recoveries": a_recovery,
    "pins": a_pin,
    "restore": a_restore,
    "retain": a_pair,
    "reclaim": a_pair,
    "low": any_value,
    "overflow": lambda rng: rng.choice(["evict", "fold", "refuse"]),
    "undo": any_value,
    "next_id": any_value,
}


def use(path: Path, mode: str, rng: random.Random) -> None:
    """Everything that reads; in "r+", a little that writes."""
    with jrnl.open(path, mode) as store:
        for act in (
            lambda: [volume.read(0, volume.size) for volume in store.volumes.values()],
            lambda: store.journal.entries,
            store.verify,
            lambda: store.marks,
            lambda: store.view(rng.randrange(store.seq + 1)).read(0, 100, "a"),
            lambda: store.recover(rng.randrange(store.seq + 1)).read(0, 100, "a"),
            lambda: store.snapshots["s"].read(0, 100, "a"),
            store.digest,
            lambda: [found.read(0, 100, "a") for found in store.snapshots.values()],
            lambda: [found.read(0, 100, "a") for found in store.recoveries.values()],
            lambda: (store.pins, store.window_time, store.stats(), store.problems),
            *(
                (*writes(store, rng), lambda: store["a"].write(0, b"x" * 600), store.flush)
                if mode == "r+"
                else ()
            ),
        ):
            try:
                act()
            except (jrnl.JrnlError, KeyError):
                continue


def writes(store: jrnl.Store, rng: random.Random) -> list:
    return [
        lambda: [found.wait() for found in store.snapshots.values()],
        lambda: store.snapshot("new"),
        lambda: [found.restore() for found in store.recoveries.values()],
        lambda: [store["a"].write(0, bytes([k]) * 2000) for k in range(40)],
        lambda: store.rewind(rng.randrange(store.seq + 1)),
        lambda: store.unpin("m"),
        lambda: [found.delete() for found in store.snapshots.values()],
        lambda: [found.close() for found in store.recoveries.values()],
    ]


def run(seed: int, count: int) -> None:
    folder = folder_in_memory()
    try:
        for k in range(seed, seed + count):
            rng = random.Random(k)
            path = folder / str(k)
            make(path, k)
            mutate(path, rng)
            for mode in ("r", "r+"):
                try:
                    use(path, mode, rng)
                except (jrnl.JrnlError, MemoryError):
                    continue
                except Exception as error:
                    error.add_note(f"python -m tests.disk.test_fuzz {k} 1")
                    raise
            shutil.rmtree(path)
    finally:
        shutil.rmtree(folder)


@pytest.mark.parametrize(
    "seed_once_failed",
    [
        361769,  # a group that begins at seq 0
        799363,  # a copy's number that is to be given out again
    ],
)
def test_once_failed_mutations(seed_once_failed):
    run(seed_once_failed, 1)


def test_mutated_stores_are_refused_or_answer(seed):
    run(seed % 1_000_000, 60)


@pytest.mark.long
@pytest.mark.parametrize("part", range(6))
def test_many_mutated_stores_are_refused_or_answer(seed, part):
    run(seed % 1_000_000 + 500 * part, 500 // SHARE)


if __name__ == "__main__":
    snapshot_copier.automatic = False  # as tests/conftest.py says
    run(int(sys.argv[1]), int(sys.argv[2]))
