"""What a client can open: volumes, earlier states, scratch branches, marks; and what it is told."""

from __future__ import annotations

import random
import shutil
import time
from datetime import UTC, datetime, timedelta

import pytest

import jrnl
from tests.model.nbd_client import (
    EINVAL,
    EIO,
    EPERM,
    FUA,
    INFO,
    INVALID,
    LIST,
    LIST_META,
    META,
    ONE,
    READ,
    SERVER,
    SET_META,
    STRUCTURED,
    TRIM,
    UNKNOWN,
    WRITE,
    ZEROES,
    Disconnected,
    meta,
    with_length,
)

SIZE = 1 << 20


def listed(client) -> list[str]:
    client.greet()
    return [text[4 : 4 + int.from_bytes(text[:4])].decode()
            for kind, text in client.option(LIST) if kind == SERVER]  # fmt: skip


def test_volumes_marks_and_snapshots_are_listed(served):
    with jrnl.create(volumes={"root": "64KiB", "log": "32KiB"}, journal="1MiB") as store:
        store.mark("good")
        store.snapshot("monday")
        served(store)
        names = listed(served.client(None))
        assert names == ["root", "log", "root@good", "root@monday", "log@good", "log@monday",
                         "@mark"]  # fmt: skip
        assert served.client("log").size == 32768
        refused = served.client(None)
        refused.greet()
        kind, text = refused.option(INFO, with_length("") + b"\0\0")[-1]
        assert kind == UNKNOWN and b"root, log" in text


def test_an_earlier_state_by_any_kind_of_point(served, store):
    vol = store.volume
    vol.write(0, b"one")
    good = store.mark("good")
    time.sleep(0.002)
    at = datetime.now(UTC)
    time.sleep(0.002)
    vol.write(0, b"two")
    store.snapshot("later")
    vol.write(0, b"six")
    served(store)
    expected = {"data@1": b"one", "data@good": b"one", f"data@{at.isoformat()}": b"one",
                "data@later": b"two", "data@0": b"\0\0\0", "data": b"six", "": b"six",
                f"data@{good.seq}": b"one"}  # fmt: skip
    for name, content in expected.items():
        client = served.client(name)
        assert client.read(0, 3) == content, name
        assert bool(client.flags & 2) == ("@" in name)
        if "@" in name:
            assert client.call(WRITE, 0, data=b"x").error == EPERM


@pytest.mark.parametrize("name", [
    "other", "data@nothing", "data@99", "data@", "data@1e3", "data@2999-13-01", "@",
    "data@good+rw+rw", "other@good", "\N{SNOWMAN}", "a" * 4096,
])  # fmt: skip
def test_what_is_not_there_is_refused_with_a_reason(served, store, name):
    store.mark("good")
    served(store)
    client = served.client(None)
    client.greet()
    kind, text = client.option(INFO, with_length(name) + b"\0\0")[-1]
    assert kind == UNKNOWN and text
    assert client.option(INFO, with_length("data") + b"\0\0")[-1] == (1, b"")  # it goes on


def test_a_scratch_branch_is_shared_and_goes_with_its_last_connection(served, store):
    store.volume.write(0, b"base" * 1024)
    store.mark("good")
    store.volume.write(0, b"production")
    served(store)
    one, two = served.client("data@good+rw"), served.client("data@good+rw")
    one.write(4096, b"scratch")
    assert two.read(0, 4) == b"base" and two.read(4096, 7) == b"scratch"
    assert one.call(TRIM, 0, 512).error == one.call(ZEROES, 512, 512).error == 0
    assert two.read(0, 1030) == bytes(1024) + b"baseba"
    assert served.client("data@good").read(4096, 7) == bytes(7)
    assert store.volume.read(4096, 7) == bytes(7)
    for client in (one, two):
        client.socket.close()
    until = time.monotonic() + 10
    while len(store.views) > 1 and time.monotonic() < until:
        time.sleep(0.01)
    assert served.client("data@good+rw").read(4096, 7) == bytes(7)


@pytest.mark.parametrize("newer_goes_first", [False, True])
@pytest.mark.parametrize("suffix", ["", "+rw"])
def test_a_name_that_has_come_to_mean_another_state_is_not_shared(
    served, store, suffix, newer_goes_first
):
    vol, name = store.volume, f"data@again{suffix}"
    vol.write(0, b"old")
    store.mark("before")
    store.mark("again")
    server = served(store)
    first = served.client(name)
    assert first.read(0, 3) == b"old"
    store.rewind("before", close_views=True)
    vol.write(0, b"new")
    store.mark("again")
    second, third = served.client(name), served.client(name)
    assert second.read(0, 3) == third.read(0, 3) == b"new"
    assert first.call(READ, 0, 3).error

    def leave(*clients) -> None:
        count = len(server.clients) - len(clients)
        for client in clients:
            client.socket.close()
        until = time.monotonic() + 10
        while len(server.clients) > count and time.monotonic() < until:
            time.sleep(0.01)
        assert len(server.clients) == count

    if newer_goes_first:
        leave(second, third)
        leave(first)
        assert not store.views
    else:
        leave(first)  # the last of its own, and no other one's
        assert second.read(0, 3) == b"new" and len(store.views) == 1
    assert served.client(name).read(0, 3) == b"new"
    assert len(store.views) == 1


def test_views_go_when_nobody_reads_them(served, store):
    store.mark("good")
    store.volume.write(0, b"x")
    server = served(store)
    client = served.client("data@good")
    client.read(0, 512)
    assert len(store.views) == 1
    assert server.clients == [{"export": "data@good", "requests": 1, "errors": 0,
                               "bytes_read": 0, "bytes_written": 0}]  # fmt: skip
    client.socket.close()
    until = time.monotonic() + 10
    while store.views and time.monotonic() < until:
        time.sleep(0.01)
    assert not store.views


def test_an_earlier_state_that_has_left_the_journal_is_an_error(served):
    with jrnl.create(size=SIZE, journal="64KiB") as store:
        store.volume.write(0, b"x")
        store.mark("good")
        served(store)
        client = served.client("data@good")
        for k in range(64):
            store.volume.write(k * 4096, bytes([k + 1]) * 4096)
        assert client.call(READ, 0, 512).error == EIO
        assert client.call(READ, 0, 512).error == EIO  # the connection goes on


def test_writes_to_the_mark_export_set_marks(served, store):
    served(store)
    writer, marker = served.client(), served.client("@mark")
    assert marker.size == 4096
    writer.write(0, b"one")
    marker.write(0, b"first\n")
    writer.write(0, b"two")
    text = b"second\n".ljust(4096, b"\0")
    marker.write(0, text)
    assert marker.read(0, 4096) == text
    assert {name: mark.seq for name, mark in store.marks.items()} == {"first": 2, "second": 4}
    with store.view("first") as view:
        assert view.read(0, 3) == b"one"
    for wrong in (b"first\n", b"a/b\n", b"12\n", b"\xff\xfe\n", b"x" * 300):
        assert marker.call(WRITE, 0, data=wrong).error == EINVAL
    assert marker.read(0, 4096) == text
    marker.write(0, bytes(512))  # no name, no mark
    assert len(store.marks) == 2


def test_a_mark_is_durable_once_its_device_is_flushed_or_its_write_forced(served, tmp_path):
    with jrnl.create(tmp_path / "s.jrnl", size=SIZE, journal="1MiB") as store:
        served(store)
        writer, marker = served.client(), served.client("@mark")
        for name, flags in (("first", FUA), ("second", 0)):
            writer.write(0, name.encode())
            marker.write(0, f"{name}\n".encode(), flags)
            if not flags:
                marker.flush()
            left = tmp_path / f"{name}.jrnl"
            shutil.copytree(tmp_path / "s.jrnl", left)  # as a crash would leave it
            with jrnl.open(left) as there, there.view(name) as view:
                assert view.read(0, len(name)) == name.encode()


def test_a_block_that_a_page_cache_changes_in_part_sets_the_new_name(served, store):
    served(store)
    marker = served.client("@mark")
    for name in (b"a-long-name\n", b"b\n"):
        block = bytearray(marker.read(0, 4096))
        block[: len(name)] = name
        marker.write(0, bytes(block))
    assert [*store.marks] == ["a-long-name", "b"]


def test_a_server_for_reading_sets_no_marks_and_takes_no_writes(served, store):
    store.mark("good")
    served(store, read_only=True)
    assert "@mark" not in listed(served.client(None))
    client = served.client(None)
    client.greet()
    assert client.option(INFO, with_length("@mark") + b"\0\0")[-1][0] == UNKNOWN
    assert served.client().call(WRITE, 0, data=b"x").error == EPERM


# Metadata contexts.


def extents(pairs: list[tuple[int, int]], flag: int) -> bytearray:
    """One byte for each of the export's: whether the flag is set."""
    return bytearray(b"".join(bytes([flags & flag]) * length for length, flags in pairs))


def test_allocation_never_says_zero_of_what_is_none(served, seed):
    rng = random.Random(seed)
    for where in range(4):
        with jrnl.create(size=SIZE, journal="2MiB") as store:
            vol = store.volume
            for _ in range(where * 3):
                vol.write(rng.randrange(SIZE - 9000), rng.randbytes(rng.choice([1, 512, 9000])))
                if rng.random() < 0.3:
                    vol.discard(rng.randrange(SIZE - 9000), 9000)
            store.mark("good")
            served(store)
            for name in ("", "data@good", "data@good+rw"):
                client = served.client(name, contexts=("base:allocation",))
                if name.endswith("+rw"):
                    client.write(5000, b"scratch")
                pairs = client.status(0, SIZE)[1]
                assert sum(length for length, _ in pairs) == SIZE
                zero = extents(pairs, 2)
                content = client.read(0, SIZE)
                assert all(not byte for byte, said in zip(content, zero, strict=True) if said)
                assert where or name.endswith("+rw") or all(zero)


def test_what_has_changed_since_a_point_is_exact(served, seed):
    rng = random.Random(seed)
    with jrnl.create(size=SIZE, journal="4MiB") as store:
        vol = store.volume
        changed = {}
        for name in ("a", "b", "c"):
            for at in changed.values():
                at[:] = at
            store.mark(name)
            changed[name] = bytearray(SIZE)
            for _ in range(20):
                n = rng.choice([1, 100, 4096, 70000])
                o = rng.randrange(SIZE - n)
                vol.write(o, rng.randbytes(n))
                for at in changed.values():
                    at[o : o + n] = b"\1" * n
        served(store)
        for kind in ("jrnl:changed", "qemu:dirty-bitmap"):
            names = tuple(f"{kind}:{name}" for name in changed)
            client = served.client(contexts=names)
            found = client.status(0, SIZE)
            for number, at in enumerate(changed.values(), 1):
                assert extents(found[number], 1) == at
            parts = [client.status(o, 65536)[2] for o in range(0, SIZE, 65536)]
            assert extents([pair for part in parts for pair in part], 1) == changed["b"]
        vol.write(7, b"later")
        changed["c"][7:12] = b"\1" * 5
        assert extents(client.status(0, SIZE)[3], 1) == changed["c"]
        # Between two points: what was written after a and before b.
        between = served.client("data@b", contexts=("jrnl:changed:a",)).status(0, SIZE)[1]
        ranges = store.diff("a", "b").tolist()
        assert sum(n for n, flags in between if flags) == sum(n for _, _, n in ranges)


def test_a_reply_has_one_extent_where_one_is_asked_for(served, store):
    store.volume.write(65536, b"x" * 65536)
    served(store)
    client = served.client(contexts=("base:allocation",))
    assert client.status(100, SIZE - 100, ONE)[1] == [(65536 - 100, 3)]
    assert client.status(100, SIZE - 100)[1][1:] == [(65536, 0), (SIZE - 131072, 3)]


def test_contexts_are_listed_and_unknown_ones_left_out(served, store):
    store.mark("good")
    served(store)
    client = served.client(None)
    client.greet()
    assert client.option(LIST_META, meta("data"))[-1][0] == INVALID  # no structured replies yet
    client.option(STRUCTURED)

    def told(option: int, *queries: str) -> list[str]:
        return [text[4:].decode() for kind, text in client.option(option, meta("data", *queries))
                if kind == META]  # fmt: skip

    known = ["base:allocation", "jrnl:changed:good", "qemu:dirty-bitmap:good"]
    assert told(LIST_META) == known
    assert told(LIST_META, "qemu:") == known[2:]
    assert told(LIST_META, "jrnl:changed:", "base:") == [known[1], known[0]]
    assert told(LIST_META, "jrnl:changed:none", "jrnl:changed:0") == ["jrnl:changed:0"]
    assert told(SET_META, "jrnl:changed:none", "x-other:thing", "jrnl:changed:0") == [
        "jrnl:changed:0"
    ]
    assert told(SET_META) == []


def test_contexts_of_one_export_are_not_anothers(served, store):
    store.mark("good")
    served(store)
    client = served.client(None)
    client.greet()
    client.option(STRUCTURED)
    client.structured = True
    client.option(SET_META, meta("data@good", "base:allocation"))
    client.option(7, with_length("data") + b"\0\0")
    assert client.call(7, 0, 512).error == EINVAL


# Production is put back.


@pytest.mark.parametrize("how", ["rewind", "restore", "promote", "savepoint"])
def test_who_has_cached_production_is_disconnected_when_it_goes_back(served, store, how):
    store.volume.write(0, b"old")
    store.mark("good")
    served(store)
    writer, reader = served.client(), served.client()
    other = served.client("data@0")
    writer.write(0, b"new")
    assert reader.read(0, 3) == b"new"  # who has asked for nothing yet has nothing cached
    if how == "rewind":
        store.rewind("good", close_views=True)
    elif how == "restore":
        with store.recover("good") as recovery:
            recovery.restore()
    elif how == "promote":
        with store.view("good", writable=True) as view:
            view.write(3, b"er")
            view.promote(force=True)
    else:
        with pytest.raises(KeyError), store.savepoint():
            other.socket.close()
            store.volume.write(0, b"abc")
            raise KeyError
    for client in (writer, reader):
        with pytest.raises(Disconnected):
            client.call(WRITE, 0, data=b"stale")
    content = {"savepoint": b"new\0\0", "promote": b"newer"}.get(how, b"old\0\0")
    assert store.volume.read(0, 5) == served.client().read(0, 5) == content


def test_nobody_is_disconnected_where_nothing_was_put_back(served, store):
    store.volume.write(0, b"old")
    served(store)
    client = served.client()
    with pytest.raises(jrnl.UnknownPoint):
        store.rewind("nothing")
    store.rewind(store.seq)
    with store.recover(store.seq) as recovery:
        recovery.restore()
    client.write(0, b"new")


def test_a_point_in_the_future_or_too_old_is_refused(served):
    with jrnl.create(size=SIZE, journal="64KiB") as store:
        for k in range(64):
            store.volume.write(k * 4096, bytes([k + 1]) * 4096)
        served(store)
        client = served.client(None)
        client.greet()
        past = datetime.now(UTC) - timedelta(days=1)
        for point in ("0", "65", past.isoformat()):
            reply = client.option(INFO, with_length(f"data@{point}") + b"\0\0")
            assert reply[-1][0] == UNKNOWN
