"""Stores of format version 1, as an earlier day has left them, open today with all their points.

Each archive under tests/data/golden has a .json beside it: the digests of all its states, taken
from a model of the writes when the store was made. "closed" ones were closed in order, "killed"
ones copied while they were open and had entries that were not flushed.
"""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest
import xxhash

import jrnl
from tests.model.places import DATA

GOLDEN = DATA / "golden"
NAMES = sorted(path.stem for path in GOLDEN.glob("*.json"))


@pytest.fixture(params=NAMES)
def name(request) -> str:
    return request.param


@pytest.fixture
def facts(name) -> dict:
    return json.loads((GOLDEN / f"{name}.json").read_text())


@pytest.fixture
def folder(name, tmp_path) -> Path:
    target = tmp_path / name
    target.mkdir()
    with tarfile.open(GOLDEN / f"{name}.tar.xz") as archive:
        for member in archive.getmembers():
            content = archive.extractfile(member)
            assert content is not None
            (target / member.name).write_bytes(content.read())
    return target


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def digest(readable: jrnl.Snapshot | jrnl.Recovery, sizes: dict[str, int]) -> str:
    parts = [readable.read(0, size, volume) for volume, size in sizes.items()]
    return xxhash.xxh3_128_hexdigest(b"".join(parts))


def check(store: jrnl.Store, facts: dict) -> None:
    """Everything that the store held when it was made."""
    sizes = facts["volumes"]
    assert store.problems == []
    assert {name: volume.size for name, volume in store.volumes.items()} == sizes
    assert store.window.oldest == facts["oldest"]
    for seq, right in facts["states"].items():
        assert store.digest(int(seq)) == right, f"state {seq}"
    for seq in facts["dropped"]:
        with pytest.raises(jrnl.PointExpired):
            store.recover(seq)
    assert {name: mark.seq for name, mark in store.marks.items()} == facts["marks"]
    found = {name: [one.seq, digest(one, sizes)] for name, one in store.snapshots.items()}
    assert found == facts["snapshots"]
    found = {str(key): [one.seq, digest(one, sizes)] for key, one in store.recoveries.items()}
    assert found == facts["recoveries"]
    for recovery in store.recoveries.values():
        with recovery.again() as again:
            assert digest(again, sizes) == facts["recoveries"][str(recovery.id)][1]
    assert store.verify()[:4] == (True, [], len(store.journal.entries), len(facts["snapshots"]))


def check_routes(store: jrnl.Store, facts: dict) -> None:
    """Every state from every snapshot from which there is a way; a way there must be right."""
    routes = set()
    for base, (start, _) in facts["snapshots"].items():
        for seq, right in facts["states"].items():
            try:
                with store.recover(int(seq), base=base) as recovery:
                    assert digest(recovery, facts["volumes"]) == right, f"state {seq} from {base}"
                    routes.add(recovery.plan.route)
            except jrnl.PointExpired:
                assert start < facts["oldest"] or store._engine.images == 2
    assert "forward" in routes


def test_a_golden_store_opens_for_reading_and_nothing_is_written(folder, facts):
    before = files(folder)
    with jrnl.open(folder, "r") as store:
        assert store.seq == facts["newest"]
        check(store, facts)
        check_routes(store, facts)
        with pytest.raises(jrnl.ReadOnlyStore):
            store[next(iter(facts["volumes"]))].write(0, b"x")
    assert files(folder) == before


def test_a_golden_store_opens_for_writing_and_goes_on(folder, facts):
    with jrnl.open(folder) as store:
        assert store.seq == facts["newest"]
        check(store, facts)
        check_routes(store, facts)
        volume = store["root"]
        content = bytearray(volume.read(0, volume.size))
        content[7:11] = b"more"
        assert volume.write(7, b"more") == facts["newest"] + 1
        store.flush()
    assert (folder / "root.img").read_bytes() == bytes(content)
    del facts["states"][str(facts["oldest"])]  # may have left to make room
    with jrnl.open(folder) as store:
        assert store["root"].read(7, 4) == b"more"
        for seq, right in facts["states"].items():
            if int(seq) >= store.window.oldest:
                assert store.digest(int(seq)) == right
        assert store.verify().ok


def test_there_are_closed_and_killed_stores_of_both_kinds_of_images():
    assert NAMES == ["after-killed", "both-closed", "both-killed", "wrapped-closed"]
    assert sum(path.stat().st_size for path in GOLDEN.iterdir()) < 50_000
