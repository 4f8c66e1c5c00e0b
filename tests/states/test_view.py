"""Views: what they cost, what is written to them, and views of views."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

import jrnl
from jrnl import OutOfBounds, PointExpired, ReadOnlyStore, StoreClosed, UnknownVolume

KINDS = [("memory", "before"), ("memory", "both"), ("disk", "both")]


def made(kind: str, images: str, path: Path, **keywords: object) -> jrnl.Store:
    where = path / "s.jrnl" if kind == "disk" else None
    return jrnl.create(where, journal="1MiB", images=images, **keywords)


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def test_a_view_of_a_thousand_entries_takes_less_than_a_hundredth_of_its_volume():
    with jrnl.create(size="256MiB", journal="64MiB") as store:
        for k in range(1000):
            store.volume.write(k * 200_000, bytes(4096))
        before = resident()
        views = [store.view(k) for k in range(10)]
        assert all(view.read(0, 1) == b"\0" for view in views)
        assert resident() - before < 10 * (256 << 20) // 100


@pytest.mark.parametrize(("kind", "images"), KINDS)
def test_what_is_written_to_a_view_is_its_own(kind, images, tmp_path):
    with made(kind, images, tmp_path, volumes={"a": 10000, "b": 5000}) as store:
        for k in range(8):
            store["a"].write(k * 1000, bytes([k + 1]) * 1500)
        store.flush()
        seq, production = store.seq, store["a"].read(0, 10000)
        plain = store.view(4)
        first, second = store.view(4, writable=True), store.view(4, writable=True)
        old = plain.read(0, 10000, "a")
        first.write(4090, b"first", "a")
        first.discard(9000, 1000, "a")
        second.write(0, b"second", "a")
        second.write(4999, b"!", "b")
        assert first.read(0, 10000, "a") == old[:4090] + b"first" + old[4095:9000] + bytes(1000)
        assert second.read(0, 10000, "a") == b"second" + old[6:]
        assert second.read(4999, 1, "b") == b"!"
        assert plain.read(0, 10000, "a") == old
        store["a"].write(0, b"x" * 10000)  # production moves on
        assert first.read(4090, 5, "a") == b"first"
        assert second.read(0, 10000, "a") == b"second" + old[6:]
        first.close()
        assert second.read(0, 6, "a") == b"second"
        second.close()
        store.rewind(seq)
        assert (store["a"].read(0, 10000), plain.read(0, 10000, "a")) == (production, old)


@pytest.mark.parametrize(("kind", "images"), KINDS)
def test_views_of_views_part_where_they_were_made(kind, images, tmp_path):
    with made(kind, images, tmp_path, size=20000) as store:
        for k in range(5):
            store.volume.write(k * 3000, bytes([k + 1]) * 4000)
        root = store.view(2, writable=True)
        base = root.read(0, 20000)
        root.write(0, b"one")
        child = root.view(writable=True)
        glance = root.view()
        root.write(0, b"two")
        child.write(10, b"child")
        grandchild = child.view(writable=True)
        child.write(10, b"CHILD")
        grandchild.write(15000, b"grand")
        assert root.read(0, 20000) == b"two" + base[3:]
        assert glance.read(0, 20000) == b"one" + base[3:]
        assert child.read(0, 15) == b"one" + base[3:10] + b"CHILD"
        assert grandchild.read(0, 15) == b"one" + base[3:10] + b"child"
        root.close()
        child.close()
        assert grandchild.read(15000, 5) == b"grand"
        assert grandchild.read(0, 3) == b"one"
        assert glance.view().read(0, 3) == b"one"
        with pytest.raises(StoreClosed):
            root.view()


def test_only_a_writable_view_takes_writes():
    with jrnl.create(volumes={"a": 4096, "b": 4096}) as store:
        view = store.view(0)
        for act in (
            lambda: view.write(0, b"x", "a"),
            lambda: view.discard(0, 1, "a"),
            lambda: view.write_zeroes(0, 1, "a"),
            lambda: view.as_file("a").write(b"x"),
        ):
            with pytest.raises(ReadOnlyStore):
                act()
        view = store.view(0, writable=True)
        for offset, data in ((4096, b"x"), (4000, bytes(97)), (-1, b"x"), (1 << 70, b"x")):
            with pytest.raises(OutOfBounds):
                view.write(offset, data, "a")
        with pytest.raises(OutOfBounds):
            view.write_zeroes(1, 4096, "a")
        with pytest.raises(UnknownVolume):
            view.write(0, b"x")
        with pytest.raises(jrnl.InvalidType):
            view.write(0, "text", "a")
        assert view.own_bytes == 0
        view.write(4096, b"", "a")
        view.close()
        with pytest.raises(StoreClosed):
            view.write(0, b"x", "a")
        view.close()


def test_a_writable_view_as_a_file():
    with jrnl.create(size=10000) as store:
        store.volume.write(0, b"abcdef")
        view = store.view(1, writable=True)
        with view.as_file() as file:
            assert file.writable()
            file.seek(3)
            assert file.write(b"XYZ" * 2000) == 6000
            file.seek(0)
            assert file.read(6) == b"abcXYZ"
            assert file.write(bytes(10000)) == 9994  # what fits
        assert view.own_bytes == 10000
        assert store.volume.read(0, 6) == b"abcdef"


def test_a_view_expires_and_never_shows_wrong_bytes():
    with jrnl.create(size=1 << 16, journal=16384) as store:
        store.volume.write(0, bytes([1]) * (1 << 12))
        plain, scratch = store.view(1), store.view(1, writable=True)
        scratch.write(5, b"mine")
        child = scratch.view(writable=True)
        for k in range(100):
            store.volume.write(k % 16 << 12, bytes([k]) * 4096)
        assert store.window.oldest > 1
        for view in (plain, scratch, child):
            with pytest.raises(PointExpired, match="state 1 "):
                view.read(1 << 15, 1)
            with pytest.raises(PointExpired):
                view.view().read(1 << 15, 1)
        with pytest.raises(PointExpired):
            child.write(1 << 15, b"x")  # what surrounds it is not known any more
        with pytest.raises(PointExpired):
            child.write(1 << 14, bytes(4097))  # one whole block, and a byte of the next: neither
        with pytest.raises(PointExpired):
            child.read(1 << 14, 1)
        child.write(1 << 14, bytes([7]) * 4096)
        assert child.read(1 << 14, 4096) == bytes([7]) * 4096
        assert child.read(0, 4096) == bytes([1] * 5) + b"mine" + bytes([1]) * 4087  # its own block


@pytest.mark.parametrize(("kind", "images"), KINDS)
def test_views_and_recoveries_of_some_volumes(kind, images, tmp_path):
    with made(kind, images, tmp_path, volumes={"a": 8192, "b": 8192, "c": 4096}) as store:
        for k in range(9):
            store["abc"[k % 3]].write(k * 100, bytes([k + 1]) * 200)
        view, recovery = store.view(3, volumes=["c", "a"]), store.recover(3, volumes=["a"])
        assert list(view.volumes) == ["a", "c"]
        assert list(recovery.volumes) == ["a"]
        assert recovery.read(0, 8192) == view.read(0, 8192, "a")  # the only one needs no name
        for image in (view, recovery):
            with pytest.raises(UnknownVolume, match="'b'"):
                image.read(0, 1, "b")
        whole = store.recover(3)
        assert recovery.plan.bytes < whole.plan.bytes
        wanted = {name: store[name].read(0, store[name].size) for name in "abc"}
        wanted["a"] = recovery.read(0, 8192)
        dry = recovery.restore(dry_run=True)
        assert store.seq == 9
        assert recovery.restore() == dry
        assert {name: store[name].read(0, store[name].size) for name in "abc"} == wanted
        wanted["c"] = whole.read(0, 4096, "c")
        whole.restore(volumes=["c"])
        assert {name: store[name].read(0, store[name].size) for name in "abc"} == wanted
        for bad, error in ((["x"], UnknownVolume), ("a", jrnl.InvalidType), ([], ValueError)):
            for ask in (
                lambda bad=bad: store.view(3, volumes=bad),
                lambda bad=bad: store.recover(3, volumes=bad),
                lambda bad=bad: store.plan(3, volumes=bad),
                lambda bad=bad: whole.restore(volumes=bad),
            ):
                with pytest.raises(error):
                    ask()
        with pytest.raises(UnknownVolume):
            recovery.restore(volumes=["b"])


@pytest.mark.parametrize(("kind", "images"), KINDS)
def test_while_others_write_every_look_is_at_one_state(kind, images, tmp_path):
    """Each write makes the whole volume one byte; readers must never see two."""
    with made(kind, images, tmp_path, size=20000) as store:
        done, wrong = threading.Event(), []

        def host() -> None:
            k = 0
            while not done.is_set():
                k += 1
                store.volume.write(0, bytes([k % 251]) * 20000)
                if len(set(store.volume.read(0, 20000))) != 1:
                    wrong.append("production")

        def look(image: jrnl.View | jrnl.Recovery, seq: int) -> None:
            content = image.read(0, 20000)
            if content != bytes([seq % 251 if seq else 0]) * 20000:
                wrong.append(f"{image} at {seq}")

        store.volume.write(0, bytes(20000))
        store.rewind(0)  # entry 2 stands for state 0; the host's entry k has seq k + 2
        threads = [threading.Thread(target=host)]
        for thread in threads:
            thread.start()
        try:
            while store.seq < 5:
                pass
            for _ in range(40):
                newest = store.window.newest
                recovery = store.recover(newest, undoable=True)
                look(recovery, newest - 2)
                recovery.seek(newest - 1)
                look(recovery, newest - 3)
                with store.view(newest - 1) as view, store.view(newest, writable=True) as scratch:
                    scratch.write(0, bytes(20000))
                    look(view, newest - 3)
                    look(scratch, 0)
                recovery.close()
        except PointExpired:
            pass  # the host was faster: the window is what it is
        finally:
            done.set()
            for thread in threads:
                thread.join()
        assert not wrong


def test_numpy_writes_to_a_view():
    with jrnl.create(size=1 << 16) as store, store.view(0, writable=True) as view:
        view.write(4096, np.arange(1024, dtype=np.uint32))
        into = np.empty(1024, np.uint32)
        view.readinto(4096, into)
        assert (into == np.arange(1024)).all()
