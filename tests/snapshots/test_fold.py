"""Folding, case by case: what `tests/model/twin.py` meets at random, and what it cannot meet."""

from __future__ import annotations

import errno
import json
import shutil
from pathlib import Path

import pytest

import jrnl
from jrnl import CorruptionError, JournalFull, Kind, StorePoisoned
from jrnl.disk import open as opening
from jrnl.disk import superblock as blocks
from jrnl.disk.create import create_in
from jrnl.disk.record import Record, SnapshotRow, check
from tests.crash.disk import SimDisk
from tests.model.disk_twin import DiskTwin
from tests.model.twin import Twin

BLOCK = 4096
IMAGES = ("before", "both", "after")


def block(number: int) -> bytes:
    return bytes([number % 255 + 1]) * BLOCK


def fill(store: jrnl.Store, first: int = 0, count: int = 40) -> list[bytes]:
    """Write more than the journal holds; return every state of the first volume from now on."""
    volume = next(iter(store.volumes.values()))
    states = [volume.read(0, volume.size)]
    for k in range(first, first + count):
        volume.write(k * 3 % (volume.size // BLOCK) * BLOCK, block(k))
        states.append(volume.read(0, volume.size))
    return states


def content(image: jrnl.Snapshot | jrnl.Recovery | jrnl.View) -> bytes:
    return image.read(0, 8 * BLOCK, "data")


@pytest.fixture(params=["memory", "disk"])
def make(request: pytest.FixtureRequest, tmp_path: Path):
    """How to make a store that folds, with a journal of a few blocks."""

    def made(images: str = "both", **keywords: object) -> jrnl.Store:
        if request.param == "disk" and images == "before":
            images = "both"  # a store on disk keeps after-images
        path = tmp_path / "store" if request.param == "disk" else None
        return jrnl.create(path, size=8 * BLOCK, journal="64KiB", images=images,
                           overflow="fold", **keywords)  # fmt: skip

    return made


@pytest.mark.parametrize("images", IMAGES)
def test_the_oldest_snapshot_goes_on_to_the_oldest_state(make, images):
    store = make(images)
    snapshot = store.snapshot("s")
    if images == "after":
        store.snapshots["base"].delete()
    states = fill(store)
    assert list(store.snapshots.values()) == [snapshot]
    assert snapshot.seq == store.window.oldest > 0
    assert content(snapshot) == states[snapshot.seq]
    assert snapshot.verify().ok
    assert store.verify().ok
    with store.recover(store.seq, "s") as recovery:
        assert content(recovery) == states[-1]


@pytest.mark.parametrize("images", IMAGES)
def test_without_a_snapshot_a_base_is_made(make, images):
    store = make(images)
    assert list(store.snapshots) == (["base"] if images == "after" else [])
    states = fill(store)
    assert list(store.snapshots) == ["base"]
    assert store.snapshots["base"].seq == store.window.oldest
    assert content(store.snapshots["base"]) == states[store.window.oldest]


def test_a_base_takes_a_name_that_is_free(make):
    store = make("both")
    states = fill(store, count=2)
    store.snapshot("base")
    store.rewind(1)  # so that nothing leads on from it
    fill(store)
    assert {name: s.seq for name, s in store.snapshots.items()} == {
        "base": 2,
        "base-2": store.window.oldest,
    }
    assert content(store.snapshots["base"]) == states[2]
    store.mark("base-3")
    store.snapshots["base-2"].delete()
    store.volume.write(0, block(1) * 2)
    store.volume.write(0, block(1) * 2)
    assert {"base-2", "base"} == set(store.snapshots)
    assert store.verify().ok


def test_a_mark_called_base_keeps_its_name(make):
    store = make("both")
    fill(store, count=4)
    store.mark("base")
    while not store.snapshots:
        store.volume.write(0, block(2)[:600])
    assert list(store.snapshots) == ["base-2"]
    assert "base" in store.marks


def test_a_mark_whose_entry_makes_a_base_does_not_share_its_name():
    store = jrnl.create(size=BLOCK, journal="16KiB", overflow="fold")
    for k in range(32):  # as many headers as there is room for
        store.volume.write(0, bytes([k]))
    assert not store.snapshots
    store.mark("base")
    assert list(store.snapshots) == ["base-2"]
    assert list(store.marks) == ["base"]
    store.mark("other")
    store.snapshots["base-2"].delete()


def test_a_deleted_base_is_made_again_of_an_earlier_state(make):
    store = make("both")
    states = fill(store)
    store.snapshots["base"].delete()
    states += fill(store, 40, 12)[1:]
    assert content(store.snapshots["base"]) == states[store.snapshots["base"].seq]
    assert store.snapshots["base"].seq == store.window.oldest


def test_with_after_images_a_deleted_base_is_made_of_the_present(make):
    store = make("after")
    states = fill(store)
    store.snapshots["base"].delete()
    assert store.window.oldest == store.seq
    states += fill(store, 40, 30)[1:]
    base = store.snapshots["base"]
    assert base.seq == store.window.oldest >= 40
    assert content(base) == states[base.seq]


@pytest.mark.parametrize("images", IMAGES)
def test_who_holds_the_snapshot_keeps_what_it_was(make, images):
    store = make(images)
    states = fill(store, count=3)
    snapshot = store.snapshot("s")
    if images == "after":
        store.snapshots["base"].delete()
    view, recovery = store.view("s"), store.recover("s")
    states += fill(store, 3)[1:]
    assert snapshot.seq == store.window.oldest > 3
    assert content(snapshot) == states[snapshot.seq]
    for held in (view, recovery, recovery.again()):
        assert (held.seq, content(held)) == (3, states[3])
    recovery.restore()
    assert store.volume.read(0, 8 * BLOCK) == states[3]
    assert content(snapshot) == states[snapshot.seq] if snapshot.seq < len(states) else True


@pytest.mark.parametrize("images", IMAGES)
def test_a_pinned_snapshot_stays_and_another_one_goes_on(make, images):
    store = make(images)
    states = fill(store, count=2)
    store.snapshot("free")
    pinned = store.snapshot("kept", pinned=True)
    if images == "after":
        store.snapshots["base"].delete()
    states += fill(store, 2)[1:]
    assert (pinned.seq, content(pinned), pinned.pinned) == (2, states[2], True)
    assert store.snapshots["free"].seq == store.window.oldest > 2
    assert not store.snapshots["free"].pinned


@pytest.mark.parametrize("images", IMAGES)
def test_where_all_are_pinned_the_journal_is_full(make, images):
    store = make(images)
    fill(store, count=2)
    store.snapshot("kept", pinned=True)
    if images == "after":
        store.snapshots["base"].delete()
    volume = store.volume
    with pytest.raises(JournalFull):
        fill(store, 2)
    states = [volume.read(0, 8 * BLOCK)]
    seq, window = store.seq, store.window
    for write in (
        lambda: volume.write(0, block(7)),
        lambda: volume.write_many([0, BLOCK], block(1) + block(2)),
        lambda: volume.discard(0, 8 * BLOCK) if images != "after" else volume.write(0, block(8)),
        lambda: volume.edit(0, 3 * BLOCK).__enter__(),
        store.recover(window.oldest if images != "after" else "kept").restore,
    ):
        with pytest.raises(JournalFull, match=r"snapshots.* are pinned, .* at state 2; .*delete"):
            write()
        assert (store.seq, store.window) == (seq, window)
        assert volume.read(0, 8 * BLOCK) == states[-1]
    for recovery in store.recoveries.values():
        recovery.close()
    store.snapshots["kept"].delete()
    fill(store)
    assert store.snapshots["base"].seq == store.window.oldest


def test_a_batch_larger_than_what_is_left_is_refused_whole(make):
    store = make("both")
    store.snapshot("kept", pinned=True)
    volume = store.volume
    blocks_of_7 = b"".join(block(k) for k in range(8))
    with pytest.raises(JournalFull):
        volume.write_many([k * BLOCK for k in range(8)], blocks_of_7)
    assert store.seq == 0
    assert volume.read(0, 8 * BLOCK) == bytes(8 * BLOCK)


def test_a_batch_longer_than_the_journal_folds_on_the_way(make):
    store = make("both")
    fill(store, count=3)
    count = 60
    data = b"".join(block(k) for k in range(count))
    store.volume.write_many([k % 8 * BLOCK for k in range(count)], data)
    assert store.seq == 3 + count
    assert store.snapshots["base"].seq == store.window.oldest
    assert store.verify().ok


def test_volumes_of_odd_sizes_discards_and_zeroes_fold():
    for images in IMAGES:
        for Kept in (Twin, DiskTwin) if images != "before" else (Twin,):
            twin = Kept([1, 511, 9001], 16384, images, overflow="fold")
            for k in range(120):
                twin.write(2, k * 331 % 8000, bytes([k + 1]) * (k * 7 % 900 + 1))
                twin.write(k % 2, 0, bytes([k + 3]))
                twin.zero(Kind.DISCARD, 2, k * 97 % 4000, 5000)
                twin.write(1, 100, bytes([k]) * 411)
            assert twin.folded > 5
            twin.check()
            twin.store.close()


def test_two_snapshots_take_turns():
    """The oldest one goes past the next, which stays where it was; deleted, the next goes on."""
    store = jrnl.create(size=8 * BLOCK, journal="64KiB", overflow="fold")
    states = fill(store, count=2)
    first = store.snapshot("first")
    states += fill(store, 2, 2)[1:]
    second = store.snapshot("second")
    states += fill(store, 4)[1:]
    assert first.seq == store.window.oldest
    assert (second.seq, content(second)) == (4, states[4])
    third = store.snapshot("third")
    first.delete()
    states += fill(store, 44)[1:]
    assert third.seq == store.window.oldest
    assert (second.seq, content(second)) == (4, states[4])


@pytest.mark.parametrize("images", ["before", "after"])
def test_a_damaged_entry_stops_the_fold_until_the_snapshot_is_deleted(images):
    store = jrnl.create(size=8 * BLOCK, journal="64KiB", images=images, overflow="fold")
    snapshot = store.snapshot("s")
    if images == "after":
        store.snapshots["base"].delete()
    volume = store.volume
    for k in range(5):
        volume.write(k % 2 * BLOCK, block(k))
    store._engine._damage_image(BLOCK * 2 + 100, 1)
    with pytest.raises(CorruptionError, match=r"'s'.*delete the snapshot"):
        fill(store)
    seq, now, window = store.seq, volume.read(0, 8 * BLOCK), store.window
    was = content(snapshot)
    with pytest.raises(CorruptionError):
        volume.write(0, block(1))
    assert (store.seq, volume.read(0, 8 * BLOCK), store.window) == (seq, now, window)
    assert (content(snapshot), snapshot.verify().ok) == (was, True)
    snapshot.delete()
    fill(store)
    assert store.snapshots["base"].seq <= store.window.oldest
    assert store.snapshots["base"].verify().ok


def test_of_two_ways_the_one_that_is_not_damaged_is_taken():
    store = jrnl.create(size=8 * BLOCK, journal="64KiB", images="both", overflow="fold")
    snapshot = store.snapshot("s")
    store.volume.write(0, block(1))
    store._engine._damage_image(BLOCK + 100, 1)  # the after-image of entry 1
    states = fill(store)
    assert content(snapshot) == states[snapshot.seq - 1]


def test_a_damaged_snapshot_is_not_written_over(make):
    store = make("both")
    store.volume.write(0, block(1) * 2)
    store.volume.write(2 * BLOCK, block(2) * 2)
    snapshot = store.snapshot("s")
    snapshot.wait()
    if store.options.path is None:
        snapshot._image._damage(0, 3 * BLOCK + 5, 1)
    else:
        store._session.place.open("snapshot-1-0.img", True).pwrite(3 * BLOCK + 5, b"\0")
    seq = snapshot.seq
    with pytest.raises(CorruptionError, match="delete the snapshot"):
        for k in range(60):
            store.volume.write(3 * BLOCK + 100 + k % 2 * 512, bytes([k + 1]) * 1024)
    assert snapshot.seq >= seq
    assert not snapshot.verify().ok
    snapshot.delete()
    fill(store)
    assert store.snapshots["base"].verify().ok


def test_an_edit_that_is_open_does_not_become_a_state():
    store = jrnl.create(size=8 * BLOCK, journal="64KiB", images="after", overflow="fold")
    store.snapshots["base"].delete()
    volume = store.volume
    for k in range(10):
        volume.write(BLOCK, block(k))
    with volume.edit(0, BLOCK) as mem:
        mem[:] = 1
        with pytest.raises(jrnl.EditOpen):
            for _ in range(40):
                volume.write(BLOCK, block(2))
    volume.write(BLOCK, block(3))
    base = store.snapshots["base"]
    with store.recover(store.seq, base) as recovery:
        assert content(recovery) == volume.read(0, 8 * BLOCK)


def test_wrapped_memory_folds():
    buffer = bytearray(8 * BLOCK)
    store = jrnl.wrap(buffer, "64KiB", overflow="fold")
    states = fill(store)
    assert content(store.snapshots["base"]) == states[store.window.oldest]


# On disk.


def test_pins_and_folded_snapshots_are_there_after_reopening(tmp_path):
    path = tmp_path / "store"
    store = jrnl.create(path, size=8 * BLOCK, journal="64KiB", overflow="fold")
    pinned = store.snapshot("kept", pinned=True)
    states = fill(store, count=1)
    free = store.snapshot("free")
    states += fill(store, 1)[1:]
    assert pinned.seq == 0
    seq = free.seq
    store.close()
    for mode in ("r", "r+"):
        store = jrnl.open(path, mode)
        assert {name: (s.seq, s.pinned) for name, s in store.snapshots.items()} == {
            "kept": (0, True),
            "free": (seq, False),
        }
        assert content(store.snapshots["free"]) == states[seq]
        assert store.verify().ok
        if mode == "r":
            store.close()
    states += fill(store, 41)[1:]
    assert content(store.snapshots["free"]) == states[store.window.oldest]
    store.close()


def interrupted(tmp_path: Path, images: str) -> tuple[Path, list[bytes]]:
    """Return a store whose process was killed in the middle of a fold: one sector is written."""
    path, dead = tmp_path / "store", tmp_path / "dead"
    store = jrnl.create(path, size=8 * BLOCK, journal="64KiB", images=images, overflow="fold")
    store.snapshot("s")
    if images == "after":
        store.snapshots["base"].delete()
    states = fill(store)
    keeper = store._session
    fold_begins = keeper.fold_begins

    def killed(row: SnapshotRow, image: object, seq: int) -> None:
        fold_begins(row, image, seq)
        shutil.copytree(path, dead)
        device = (dead / f"snapshot-{row.id}-0.img").open("r+b")
        device.write(states[seq][: BLOCK // 2])
        device.close()
        raise InterruptedError(errno.EINTR, "killed")

    keeper.fold_begins = killed
    while not dead.exists():
        try:
            states += fill(store, len(states) - 1, 1)[1:]
        except InterruptedError:
            break
    return dead, states


@pytest.mark.parametrize("images", ["both", "after"])
def test_an_interrupted_fold_is_shown_and_finished(tmp_path, images):
    path, states = interrupted(tmp_path, images)
    files = {file.name: file.read_bytes() for file in path.iterdir()}
    store = jrnl.open(path, "r")
    shown = store.snapshots["s"]
    assert content(shown) == states[shown.seq]
    assert shown.verify().ok
    store.close()
    assert {file.name: file.read_bytes() for file in path.iterdir()} == files
    store = jrnl.open(path)
    assert not store.problems
    assert store.snapshots["s"].seq == shown.seq
    assert content(store.snapshots["s"]) == states[shown.seq]
    assert store.verify().ok
    fill(store)
    store.close()


def test_an_interrupted_fold_that_cannot_be_finished_is_never_read(tmp_path):
    """One of the entries that it takes is damaged: the snapshot is neither state."""
    path, states = interrupted(tmp_path, "both")
    document = newest(path)
    (fact,) = document["snapshots"]
    log = bytearray((path / "log").read_bytes())
    wanted = states[fact["fold"]]
    place = next(k * BLOCK for k in range(8) if wanted[k * BLOCK : (k + 1) * BLOCK]
                 != states[fact["seq"]][k * BLOCK : (k + 1) * BLOCK])  # fmt: skip
    image, at = wanted[place : place + BLOCK], -1
    while (at := log.find(image, at + 1)) >= 0:
        log[at + 9] ^= 1
    (path / "log").write_bytes(log)
    for mode in ("r", "r+"):
        store = jrnl.open(path, mode)
        assert any("was being brought on" in problem for problem in store.problems)
        with pytest.raises(CorruptionError):
            content(store.snapshots["s"])
        assert not store.verify().ok
        assert store.volume.read(0, 8 * BLOCK) == states[store.seq]
        if mode == "r":
            store.close()
    with pytest.raises(CorruptionError, match="delete the snapshot"):
        fill(store)
    store.snapshots["s"].delete()
    fill(store)
    assert store.snapshots["base"].verify().ok
    store.close()
    assert not {file.name for file in path.iterdir()} & {"snapshot-1-0.img", "snapshot-1-0.sums"}


def newest(path: Path) -> dict[str, object]:
    """Return the document of a store's superblocks."""
    head = blocks._HEAD.unpack_from((path / "super.0").read_bytes())
    data = (path / "super.0").read_bytes()
    return json.loads(data[blocks._BODY : blocks._BODY + head[7]])


@pytest.mark.parametrize(
    "change", [{"fold": 0}, {"fold": "7"}, {"fold": -1}, {"fold": None}, {"pinned": 1}]
)
def test_a_document_with_a_fold_that_no_store_writes_is_refused(tmp_path, change):
    path, _ = interrupted(tmp_path, "both")
    document = newest(path)
    assert Record.of(document).document() == document
    document["snapshots"][0].update(change)
    with pytest.raises(jrnl.FormatError, match="no store says"):
        check(document)


def test_a_failed_write_into_the_snapshot_poisons_and_reopening_folds_again():
    disk = SimDisk()
    store = create_in(disk.place(), "s", size=8 * BLOCK, journal="64KiB",
                                overflow="fold")  # fmt: skip
    store.snapshot("s")
    states = fill(store, count=3)

    def fails(op: object) -> None:
        if op.kind == "pwrite" and op.name.startswith("snapshot-1-0.sums"):
            raise OSError(5, "the simulated disk says EIO")

    disk.before = fails
    with pytest.raises(OSError, match="EIO"):
        while True:
            states += fill(store, len(states) - 1, 1)[1:]
    disk.before = None
    with pytest.raises(StorePoisoned):
        store.volume.write(0, b"x")
    again = opening.open_in(disk.survivor().place(), "s")
    snapshot = again.snapshots["s"]
    assert snapshot.seq > 0
    assert content(snapshot) == states[snapshot.seq]
    assert again.verify().ok
