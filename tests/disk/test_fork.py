"""Forks on disk, to and from disk: whole or absent, and untouched by what becomes of others."""

from __future__ import annotations

import os
import random
import shutil
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

import jrnl
from jrnl.disk.create import create_in, make_in
from jrnl.disk.open import open_in
from tests.crash.disk import CHANGING, Op, SimDisk
from tests.model.mounts import lacking_right, mounted

SIZES = {"odd": 3 * 65536 + 4097, "small": 600}
IMAGES = ("before", "both")  # on disk: both
STATES = 12


def played(store: jrnl.Store) -> list[dict[str, bytes]]:
    """Write to a store; return what each state shows, from 0 on."""
    rng = random.Random(7)
    content = {name: bytearray(size) for name, size in SIZES.items()}
    states = [{name: bytes(each) for name, each in content.items()}]
    for k in range(1, STATES):
        name = rng.choice([*SIZES])
        start = rng.randrange(SIZES[name] - 100)
        data = rng.randbytes(min(SIZES[name] - start, rng.choice((10, 4096, 9000))))
        if k % 5 == 4:
            store[name].discard(start, len(data))
            data = bytes(len(data))
        else:
            store[name].write(start, data)
        content[name][start : start + len(data)] = data
        states.append({name: bytes(each) for name, each in content.items()})
    return states


def shown(store: jrnl.Store) -> dict[str, bytes]:
    return {name: store[name].read(0, size) for name, size in SIZES.items()}


def made(folder: Path, where: str) -> jrnl.Store:
    path = {"memory": None, "disk": folder / "parent"}[where]
    return jrnl.create(path, volumes=SIZES, journal="256KiB")


@pytest.mark.parametrize("at", [None, 0, 5, "snapshot"])
@pytest.mark.parametrize("ways", ["memory disk", "disk disk", "disk memory"])
def test_a_fork_is_the_state_that_was_asked_for_and_stays_it(tmp_path, ways, at):
    one, other = ways.split()
    with made(tmp_path, one) as store:
        states = played(store)
        store.snapshot("snapshot")
        store["small"].write(3, b"later")
        states.append(shown(store))
        seq = {None: STATES, "snapshot": STATES - 1}.get(at, at)
        heard: list[tuple[int, int]] = []
        path = tmp_path / "fork" if other == "disk" else None
        fork = store.fork(path, at, progress=lambda *told: heard.append(told))
        assert shown(fork) == states[seq]
        assert (fork.seq, fork.window) == (0, (0, 0))
        parent = fork.parent
        assert parent is not None
        assert (parent.seq, parent.digest) == (seq, store.digest(at))
        assert all(done <= total for done, total in heard)
        assert not heard or heard[-1][0] == heard[-1][1]
        key = store.fork().parent.key
        assert parent.key == key
        store.rewind(2)
        store["odd"].write_zeroes(0, SIZES["odd"])
        fork["odd"].write(0, b"mine")
        assert store["odd"].read(0, 4) == bytes(4)
        fork.rewind(0)
    shutil.rmtree(tmp_path / "parent", ignore_errors=True)
    assert shown(fork) == states[seq]
    fork.close()
    if path is not None:
        for mode in ("r", "r+"):
            with jrnl.open(path, mode) as again:
                assert shown(again) == states[seq]
                assert (again.parent, again.parent.recorded) == (parent, parent.digest)
                assert again.verify().ok
        assert os.listdir(tmp_path) == ["fork"]


def test_a_store_that_is_open_for_reading_is_forked_and_not_written_to(tmp_path):
    with made(tmp_path, "disk") as store:
        states = played(store)
    before = {file: file.read_bytes() for file in (tmp_path / "parent").iterdir()}
    with jrnl.open(tmp_path / "parent", "r") as store:
        store.fork(tmp_path / "fork", 3).close()
        assert shown(store.fork()) == states[-1]
    assert before == {file: file.read_bytes() for file in (tmp_path / "parent").iterdir()}
    with jrnl.open(tmp_path / "fork") as fork:
        assert shown(fork) == states[3]


def test_a_snapshot_of_some_volumes_is_forked_to_these(tmp_path):
    with made(tmp_path, "disk") as store:
        states = played(store)
        store.snapshot("part", volumes=["small"])
        with store.fork(tmp_path / "fork", "part") as fork:
            assert [*fork.volumes] == ["small"]
            assert fork.volume.read(0, 600) == states[-1]["small"]
        assert [*store.fork(volumes=["small"]).volumes] == ["small"]
        with store.fork().fork(volumes=["odd"]) as fork:
            assert fork.volume.read(0, SIZES["odd"]) == states[-1]["odd"]


@pytest.mark.parametrize("at", [None, "named"])
@pytest.mark.parametrize(
    ("ways", "images"),
    [
        *((ways, images) for ways in ("memory memory", "memory disk") for images in IMAGES),
        *((ways, "both") for ways in ("disk disk", "disk memory")),
    ],
)
def test_a_fork_with_its_history_goes_back_to_every_state_of_the_window(tmp_path, ways, at, images):
    one, other = ways.split()
    path = {"memory": None, "disk": tmp_path / "parent"}[one]
    with jrnl.create(path, volumes=SIZES, journal="256KiB", images=images) as store:
        played(store)
        for k in range(60):
            store["odd"].write(k * 3000, bytes([k + 7]) * 5000)
        assert store.window.oldest > 0
        store.mark("named", volumes=["odd"])
        for k in range(6):
            store["odd"].write(k * 5000, bytes([k + 1]) * 5000)
        store.rewind(store.seq - 3)
        store.flush()
        store.rewind("named" if at is None else store.seq - 1)
        store["small"].write_zeroes(0, 300)
        store.mark("earlier", at=store.seq - 1)
        fork = store.fork(tmp_path / "fork" if other == "disk" else None, at, history=True)
        newest = store.seq if at is None else store.marks["named"].seq
        wanted = [seq for seq in store.states().tolist() if seq <= newest]
        assert len(wanted) > 3
        assert fork.window == (store.window.oldest, newest)
        states = {seq: store.digest(seq) for seq in wanted}
        marks = {name: mark.seq for name, mark in store.marks.items() if mark.seq <= newest}
        entries = store.journal.between(wanted[0] + 1, newest)
        parent = fork.parent
        assert (parent.seq, parent.digest) == (newest, states[newest])
    if other == "disk":
        fork.close()
        fork = jrnl.open(tmp_path / "fork")
        assert fork.parent == parent
    assert fork.states().tolist() == wanted
    assert {seq: fork.digest(seq) for seq in wanted} == states
    assert fork.marks.keys() >= (marks.keys() if at is None else {"named"})
    assert (fork.journal.entries == entries).all()
    assert fork.verify().ok
    fork.rewind(wanted[1])
    assert fork.digest() == states[wanted[1]]
    assert fork.fork(tmp_path / "third").seq == 0
    fork.close()


def test_what_cannot_be_forked_is_refused_and_nothing_is_left(tmp_path):
    with made(tmp_path, "disk") as store:
        played(store)
        (tmp_path / "taken").mkdir()
        with pytest.raises(jrnl.StoreExists):
            store.fork(tmp_path / "taken")
        with pytest.raises(jrnl.InvalidArgument, match="in the store itself"):
            store.fork(tmp_path / "parent" / "fork")
        with pytest.raises(jrnl.UnknownPoint):
            store.fork(tmp_path / "fork", 99)
        with pytest.raises(jrnl.UnknownVolume):
            store.fork(tmp_path / "fork", volumes=["nix"])
        with pytest.raises(jrnl.InvalidArgument, match="leave volumes out"):
            store.fork(volumes=["odd"], history=True)
        with pytest.raises(jrnl.InvalidArgument, match="in the store itself"):
            store.fork(tmp_path / "parent" / "fork", history=True)
        with pytest.raises(jrnl.InvalidArgument, match="images"):
            store.fork(tmp_path / "fork", images="before")

        def stop(done: int, total: int) -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            store.fork(tmp_path / "fork", progress=stop)
        assert sorted(os.listdir(tmp_path)) == ["parent", "taken"]
        assert not store.recoveries
        store.close()
        with pytest.raises(jrnl.StoreClosed):
            store.fork()


@pytest.mark.parametrize("where", ["memory", "disk"])
def test_a_power_cut_at_any_moment_leaves_a_whole_fork_or_none(where):
    disk, rng = SimDisk(), random.Random(1)
    if where == "disk":
        store = create_in(disk.place(), "parent", size=9000, journal="16KiB", overlay="64KiB")
    else:
        store = jrnl.create(size=9000, journal="16KiB")
    store.volume.write(100, b"old" * 1000)
    store.mark("old")
    wanted = store.volume.read(0, 9000)
    store.volume.write(0, b"new" * 1000)
    store.flush()

    def maker(path, settings, content):
        return make_in(disk.place(), path, replace(settings, maker=None), content)

    store._settings = replace(store._settings, maker=maker)
    looked = [0, 0]

    def hook(op: Op) -> None:
        if op.kind in CHANGING and rng.random() < 0.3:
            check(op)

    def check(op: Op) -> None:
        moment = disk.moment()
        for _, choice in moment.choices().picked(3, rng):
            cut = moment.crashed(choice)
            there = "fork" in cut.place().names()
            looked[there] += 1
            if there:
                with open_in(cut.place(), "fork") as fork:
                    assert fork.volume.read(0, 9000) == wanted
                    assert fork.parent is not None
                    assert fork.problems == []
            else:
                create_in(cut.place(), "fork", size=512, journal="16KiB").close()
                assert {*cut.place().names()} <= {"fork", "parent"}

    disk.before = hook
    fork = store.fork("fork", "old", journal="16KiB", overlay="64KiB")
    disk.before = None
    check(Op(0, "sync", "fork"))
    assert looked[0] > 20
    assert looked[1] > 0
    assert fork.volume.read(0, 9000) == wanted


@pytest.mark.parametrize("mode", ["r+", "r"])
@pytest.mark.parametrize("kind", ["xfs", "btrfs"])
def test_where_the_file_system_can_blocks_are_shared(tmp_path, kind, mode):
    lacking = lacking_right(kind)
    if lacking:
        pytest.skip(lacking)
    file, size = tmp_path / "disk", 64 << 20
    file.touch()
    os.truncate(file, 512 << 20)
    with ExitStack() as stack:
        place = stack.enter_context(mounted(file, tmp_path / "on", kind, make=("-q",)))
        with jrnl.create(place / "parent", size=size, journal="4MiB") as store:
            for k in range(128):
                store.volume.write(k << 19, random.Random(k).randbytes(1 << 19))
            store.mark("full")
            store.volume.write(5, b"later")
            wanted = store.volume.read(0, size)
        store = stack.enter_context(jrnl.open(place / "parent", mode))
        os.sync()
        before = os.statvfs(place)
        heard: list[tuple[int, int]] = []
        forks = []
        for name, at in (("one", None), ("two", "full")):
            fork = store.fork(
                place / name, at, journal="1MiB", progress=lambda *told: heard.append(told)
            )
            forks.append(stack.enter_context(fork))
        os.sync()
        after = os.statvfs(place)
        assert sum(total for done, total in heard if done == total) < 100
        assert (before.f_bfree - after.f_bfree) * before.f_bsize < 24 << 20
        assert forks[0].volume.read(0, size) == wanted
        with store.view("full") as view:
            assert forks[1].volume.read(0, size) == view.read(0, size)
        forks[0].volume.write(1 << 20, b"mine")
        forks[0].flush()
        assert store.volume.read(0, size) == wanted


@pytest.mark.parametrize("other", ["memory", "disk"])
def test_of_after_images_alone_a_fork_with_its_history_keeps_both(tmp_path, other):
    store = jrnl.create(size=9000, journal="64KiB", images="after")
    store.snapshot("base")
    for k in range(6):
        store.volume.write(k, bytes([k + 1]))
    with store.fork(tmp_path / "fork" if other == "disk" else None, history=True) as fork:
        assert fork.options.images == "both"
        assert fork.states().tolist() == store.states().tolist() == [*range(7)]
        for seq in range(7):
            assert fork.digest(seq) == store.digest(seq)
        fork.rewind(3)


@pytest.mark.parametrize("rewound", [False, True])
def test_after_images_alone_hold_no_history(tmp_path, rewound):
    store = jrnl.create(size=9000, journal="64KiB")
    store.volume.write(0, b"1")
    if rewound:
        store.rewind(0)
    for path in (None, tmp_path / "fork"):
        with pytest.raises(jrnl.InvalidArgument, match="history"):
            store.fork(path, history=True, images="after")
    assert not [*tmp_path.iterdir()]


def test_an_entry_larger_than_the_journal_given_cannot_come_along(tmp_path):
    store = jrnl.create(size="1MiB", journal="1MiB")
    store.volume.write(0, b"1" * 100_000)
    for path in (None, tmp_path / "fork"):
        with pytest.raises(jrnl.EntryTooLarge):
            store.fork(path, history=True, journal="64KiB")
    assert not [*tmp_path.iterdir()]
