"""Superblocks always keep room for the way out: R17."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import jrnl
from jrnl._core import FileDevice
from jrnl.disk import session, superblock

SIZE = 65536
ROOM = 6000


def make(path: Path) -> jrnl.Store:
    return jrnl.create(path, size=SIZE, journal="256KiB", overlay=65536)


def state_of(store: jrnl.Store, path: Path) -> tuple[object, ...]:
    """All that a refused call must leave as it was."""
    written = [(path / name).read_bytes() for name in superblock.NAMES]
    return (store.seq, store.journal.entries.tolist(), dict(store.marks), [*store.snapshots],
            [pin.name for pin in store.pins], [*store.recoveries], written)  # fmt: skip


GROWS = {
    "a pinned mark": lambda store, k: store.mark(f"m{k}" + "é" * 40, pinned=True),
    "a snapshot": lambda store, k: store.snapshot(f"s{k}" + "x" * 90).wait(),
    "an open recovery": lambda store, k: store.recover(0),
}


@pytest.fixture
def small(monkeypatch) -> None:
    """Little room for names."""
    monkeypatch.setattr(session, "ROOM_BYTES", ROOM)
    monkeypatch.setattr(superblock, "ROOM_BYTES", ROOM)


@pytest.mark.parametrize("what", GROWS)
def test_what_would_take_the_last_room_is_refused_before_anything_changes(tmp_path, small, what):
    path, kept = tmp_path / "store", []
    store = make(path)
    store.volume.write(0, b"a")
    with pytest.raises(jrnl.CatalogFull, match=r"unpin marks, delete snapshots or close"):
        for k in range(100):
            before = state_of(store, path)
            kept.append(GROWS[what](store, k))
    assert len(kept) > 5
    assert state_of(store, path) == before
    for grow in GROWS.values():  # nothing else gets in, either
        with pytest.raises(jrnl.CatalogFull):
            for _ in range(40):
                kept.append(grow(store, 1000 + len(kept)))
    store.volume.write(0, b"b")  # all that takes no room goes on
    store.mark("plain")
    store.flush()
    seq = store.seq
    store.rewind(seq - 1)
    names, pins = [*store.snapshots], [pin.name for pin in store.pins]
    store.close()
    for name in superblock.NAMES:
        assert (path / name).stat().st_size == superblock.SUPER_BYTES
    with jrnl.open(path, overlay=65536) as store:
        assert [*store.snapshots] == names
        assert [pin.name for pin in store.pins] == pins
        for name in names:
            store.snapshots[name].delete()
        for name in pins:
            store.unpin(name)
        for recovery in store.recoveries.values():
            recovery.close()
        GROWS[what](store, 2000)


@pytest.mark.parametrize("what", GROWS)
def test_closing_and_opening_never_outgrow_what_was_accepted(tmp_path, monkeypatch, what):
    """Whatever is open when a store is closed, its facts were counted when they were accepted."""
    monkeypatch.setattr(session, "ROOM_BYTES", ROOM)
    monkeypatch.setattr(superblock, "ROOM_BYTES", ROOM)
    path, kept = tmp_path / "store", []
    store = make(path)
    store.volume.write(0, b"a")
    with pytest.raises(jrnl.CatalogFull):
        for k in range(100):
            kept.append(GROWS[what](store, k))
    store.close()
    for _ in range(3):
        with jrnl.open(path, overlay=65536) as store:
            assert store._session.superblock.used < ROOM + 600
            store.volume.write(0, b"b")


def test_names_of_volumes_that_fill_a_superblock_are_refused_at_creation(tmp_path):
    names = {f"{k:05}" + "v" * 200: 512 for k in range(4000)}
    with pytest.raises(jrnl.InvalidArgument, match="fewer volumes, or shorter names"):
        jrnl.create(tmp_path / "store", volumes=names)
    assert [*tmp_path.iterdir()] == []


def fill(path: Path, bytes_left: int) -> None:
    """Fill the superblocks up to so many bytes, as an earlier version let it come to.

    That took thousands of names. Here it is a few snapshots whose facts are long.
    """
    devices = [FileDevice(os.open(path / name, os.O_RDWR)) for name in superblock.NAMES]
    found = superblock.unpack(0, devices[0])
    facts = [{"id": k, "name": f"s{k}", "seq": 1, "time_ns": 0, "note": ""} for k in range(1, 5)]
    found.document["snapshots"] += facts
    room = superblock.SUPER_BYTES - bytes_left - 64
    facts[0]["note"] = "x" * (room - len(superblock.packed(found.document)))
    superblock.Superblock(devices, found.key, found.generation).write(found.document)
    for device in devices:
        device.close()


@pytest.mark.parametrize("bytes_left", [0, 1, 30, 200])
def test_a_store_that_an_earlier_version_has_filled_opens_and_can_be_cleared(tmp_path, bytes_left):
    path = tmp_path / "store"
    with make(path) as store:
        store.volume.write(0, b"a" * 512)
    fill(path, bytes_left)
    with jrnl.open(path, overlay=65536) as store:
        store.volume.write(0, b"b" * 512)
        store.flush()
        assert len(store.snapshots) == 4
        with pytest.raises(jrnl.CatalogFull):
            store.mark("more", pinned=True)
        with pytest.raises(jrnl.CatalogFull):
            store.rewind(0)
        assert store.volume.read(0, 512) == b"b" * 512
        store.snapshots["s2"].delete()
        with pytest.raises(jrnl.CatalogFull):
            store.mark("more", pinned=True)
        store.snapshots["s1"].delete()
        store.mark("more", pinned=True)
    with jrnl.open(path, overlay=65536) as store:
        assert store.volume.read(0, 512) == b"b" * 512
        assert [*store.snapshots] == ["s3", "s4"]
        store.unpin("more")
        store.rewind(0)
