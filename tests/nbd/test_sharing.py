"""Connections that name the same share it, whatever its name comes to mean beside them."""

from __future__ import annotations

import pytest

import jrnl
from tests.model.nbd_client import (
    ACK,
    EPERM,
    GO,
    SET_META,
    STATUS,
    STRUCTURED,
    WRITE,
    meta,
    with_length,
)

SIZE = 1 << 20


def fold_on(store: jrnl.Store) -> None:
    """Write until a fold has brought the snapshot on."""
    before = store.snapshots["snap"].seq
    for k in range(1000):
        store.volume.write(0, b"%08d" % k)
        store.volume.write(4096 + k % 100 * 4096, bytes([k % 255 + 1]) * 4096)
        if store.snapshots["snap"].seq > before:
            return
    pytest.fail("no fold has come")


@pytest.mark.parametrize("suffix", ["", "+rw"])
def test_connections_share_a_snapshot_that_a_fold_brings_on(served, suffix):
    with jrnl.create(size=SIZE, journal="128KiB", overflow="fold") as store:
        store.volume.write(0, b"original")
        store.snapshot("snap").wait()
        served(store)
        one = served.client(f"data@snap{suffix}")
        assert one.read(0, 8) == b"original"
        fold_on(store)
        two = served.client(f"data@snap{suffix}")
        assert two.read(0, 8) == one.read(0, 8) == b"original"
        assert len(store.views) == 1


@pytest.mark.parametrize("change", ["fold", "delete"])
def test_what_is_opened_is_what_its_contexts_were_agreed_on_for(served, change):
    with jrnl.create(size=SIZE, journal="128KiB", overflow="fold") as store:
        store.volume.write(0, b"original")
        store.snapshot("snap").wait()
        served(store)
        client = served.client(None)
        client.greet()
        client.option(STRUCTURED)
        client.structured = True
        client.option(SET_META, meta("data@snap", "base:allocation"))
        if change == "fold":
            fold_on(store)
        else:
            store.snapshots["snap"].delete()
        assert client.option(GO, with_length("data@snap") + b"\0\0")[-1] == (ACK, b"")
        reply = client.call(STATUS, 0, 8192)
        assert reply.error == 0 and reply.extents[1][0][1] == 0
        assert client.read(0, 8) == b"original"


def test_a_snapshot_that_is_taken_again_is_another_one(served, store):
    store.volume.write(0, b"old")
    store.snapshot("snap").wait()
    served(store)
    old = served.client("data@snap")
    store.volume.write(0, b"new")
    store.snapshots["snap"].delete()
    store.snapshot("snap").wait()
    assert served.client("data@snap").read(0, 3) == b"new"
    assert old.read(0, 3) == b"old"


def test_a_name_that_ends_as_a_scratch_branch_does_is_itself_first(served, store):
    store.volume.write(0, b"old")
    store.mark("good+rw")
    store.volume.write(0, b"new")
    served(store)
    itself, branch = served.client("data@good+rw"), served.client("data@good+rw+rw")
    assert itself.flags & 2 and itself.call(WRITE, 0, data=b"x").error == EPERM
    branch.write(3, b"er")
    assert branch.read(0, 5) == b"older" and itself.read(0, 5) == b"old\0\0"
