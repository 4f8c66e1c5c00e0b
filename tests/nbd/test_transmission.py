"""Requests of NBD clients, held against a model of bytes."""

from __future__ import annotations

import random
import shutil
import threading

import numpy as np
import pytest

import jrnl
from tests.model.nbd_client import (
    CACHE,
    DF,
    EINVAL,
    ENOSPC,
    EPERM,
    ESHUTDOWN,
    FAST,
    FLUSH,
    FUA,
    ONE,
    READ,
    STATUS,
    TRIM,
    WRITE,
    ZEROES,
    Disconnected,
)

SIZE = 1 << 20


def play(rng: random.Random, client, model: bytearray, depth: int, steps: int) -> None:
    """Keep up to `depth` requests under way, whose ranges are apart, and check what they bring."""
    open_ones: dict[int, tuple[int, int, int, bytes]] = {}
    for step in range(steps + depth):
        while open_ones and (len(open_ones) >= depth or step >= steps):
            lengths = {c: n for c, (kind, _, n, _) in open_ones.items() if kind == READ}
            cookie, reply = client.reply(lengths)
            kind, offset, length, expected = open_ones.pop(cookie)
            assert reply.error == 0
            assert kind != READ or reply.data == expected
        if step >= steps:
            continue
        length = rng.choice([0, 1, 511, 512, 4096, 5000, 70000])
        offset = rng.randrange(SIZE - length + 1)
        if any(o < offset + length and offset < o + n for _, o, n, _ in open_ones.values()):
            continue
        kind = rng.choice([READ, READ, WRITE, WRITE, TRIM, ZEROES, FLUSH, CACHE])
        data, expected = b"", b""
        if kind == WRITE:
            data = rng.randbytes(length)
            model[offset : offset + length] = data
        elif kind in (TRIM, ZEROES):
            model[offset : offset + length] = bytes(length)
        elif kind == READ:
            expected = bytes(model[offset : offset + length])
        elif kind == FLUSH:
            offset = length = 0
        flags = rng.choice([0, FUA]) if kind in (WRITE, TRIM, ZEROES) else 0
        cookie = client.ask(kind, offset, length, data, flags)
        open_ones[cookie] = kind, offset, length, expected


@pytest.mark.parametrize("structured", [True, False])
@pytest.mark.parametrize("depth", [1, 16])
@pytest.mark.parametrize("where", ["memory", "disk"])
def test_what_is_read_is_what_was_written(served, tmp_path, seed, structured, depth, where):
    path = tmp_path / "s.jrnl" if where == "disk" else None
    with jrnl.create(path, size=SIZE, journal="4MiB") as store:
        served(store)
        client = served.client(structured=structured)
        model = bytearray(SIZE)
        play(random.Random(seed), client, model, depth, 300)
        assert client.read(0, SIZE) == store.volume.read(0, SIZE) == model
        assert store.verify().ok


def test_each_write_is_an_entry_and_each_flush_and_fua_a_flush_entry(served, store):
    served(store)
    client = served.client()
    client.write(0, b"a" * 512)
    client.write(512, b"b" * 512, FUA)
    client.flush()  # nothing is new
    client.write(0, b"c")
    client.flush()
    assert client.call(TRIM, 0, 512, flags=FUA).error == 0
    assert client.call(ZEROES, 0, 512).error == 0
    assert [jrnl.Kind(kind).name for kind in store.journal.entries["kind"].tolist()] == [
        "WRITE", "WRITE", "FLUSH", "WRITE", "FLUSH", "DISCARD", "FLUSH", "ZEROES",
    ]  # fmt: skip


def test_what_was_flushed_is_durable(served, tmp_path):
    with jrnl.create(tmp_path / "s.jrnl", size=SIZE, journal="1MiB") as store:
        served(store)
        client = served.client()
        client.write(0, b"kept")
        client.flush()
        client.write(4, b"too", FUA)
        client.write(7, b"maybe")
        shutil.copytree(tmp_path / "s.jrnl", tmp_path / "t.jrnl")  # as a crash would leave it
        with jrnl.open(tmp_path / "t.jrnl") as left:
            assert left.read(0, 7) == b"kepttoo"


def test_one_send_with_many_requests_is_answered_whole(served, store):
    served(store)
    client = served.client()
    cookies = [client.ask(WRITE, k * 512, 512, bytes([k]) * 512) for k in range(64)]
    cookies += [client.ask(FLUSH) for _ in range(5)]
    replies = [client.reply({}) for _ in cookies]
    assert [cookie for cookie, _ in replies] == cookies
    assert {reply.error for _, reply in replies} == {0}
    assert client.read(0, 64 * 512) == b"".join(bytes([k]) * 512 for k in range(64))


@pytest.mark.parametrize("structured", [True, False])
def test_requests_of_32_mib_are_served_and_longer_ones_are_not(served, structured):
    size = 80 << 20
    with jrnl.create(size=size, journal="16MiB") as store:
        served(store)
        client = served.client(structured=structured)
        content = np.random.default_rng(1).bytes(32 << 20)
        client.write(5, content)
        client.write(0, b"12345")
        assert client.read(5, 32 << 20) == content
        assert client.read(0, 6) == b"12345" + content[:1]
        assert client.call(READ, 0, (32 << 20) + 1).error == EINVAL
        client.ask(WRITE, 0, (32 << 20) + 1)
        with pytest.raises(Disconnected):
            client.take(1)
        assert store.volume.read(5, 1000) == content[:1000]


def test_a_write_longer_than_an_entry_may_be_becomes_several(served):
    with jrnl.create(size=SIZE, journal="64KiB") as store:
        served(store)
        client = served.client()
        content = np.random.default_rng(2).bytes(300_000)
        client.write(1000, content)
        assert client.read(1000, 300_000) == content
        assert store.seq > 1


def test_errors_are_the_protocols(served, store):
    served(store)
    client = served.client()
    wrong = {
        (READ, SIZE - 1, 2, 0): EINVAL,
        (READ, 1 << 63, 512, 0): EINVAL,
        (READ, (1 << 64) - 512, 1024, 0): EINVAL,
        (READ, 0, 0xFFFFFFFF, 0): EINVAL,
        (TRIM, SIZE, 1, 0): ENOSPC,
        (ZEROES, 0, SIZE + 1, 0): ENOSPC,
        (STATUS, 0, 512, 0): EINVAL,  # no context was agreed on
        (CACHE, SIZE, 1, 0): EINVAL,
        (READ, 0, 512, ONE): EINVAL,
        (TRIM, 0, 512, DF): EINVAL,
        (77, 0, 0, 0): EINVAL,
        (FLUSH, 0, 1, 0): EINVAL,
    }
    for (kind, offset, length, flags), error in wrong.items():
        assert client.call(kind, offset, length, flags=flags).error == error
    assert client.call(WRITE, SIZE - 1, data=b"ab").error == ENOSPC
    assert client.call(WRITE, 0, data=b"ab", flags=16).error == EINVAL
    assert client.read(0, 4) == bytes(4)  # and the connection goes on
    assert store.seq == 0


def test_a_store_that_takes_no_writes_says_so(served, tmp_path):
    jrnl.create(tmp_path / "s.jrnl", size=SIZE, journal="1MiB").close()
    with jrnl.open(tmp_path / "s.jrnl", mode="r") as store:
        served(store)
        client = served.client()
        assert client.flags & 2
        assert client.call(WRITE, 0, data=b"ab" * 600).error == EPERM
        assert client.call(ZEROES, 0, 512).error == EPERM
        client.flush()
        assert client.read(0, 512) == bytes(512)


def test_a_full_journal_says_no_space(served):
    with jrnl.create(size=SIZE, journal="16KiB", overflow="refuse") as store:
        served(store)
        client = served.client()
        errors = [client.call(WRITE, 0, data=bytes([k]) * 4096).error for k in range(1, 8)]
        assert errors[0] == 0 and errors[-1] == ENOSPC
        assert client.read(0, 1) == store.volume.read(0, 1)


def test_a_closed_store_says_shut_down(served, store):
    served(store)
    client = served.client()
    store.close()
    assert client.call(READ, 0, 512).error == ESHUTDOWN
    assert client.call(WRITE, 0, data=b"x").error == ESHUTDOWN


def test_zeroing_is_never_slower_than_writing_and_says_so(served, store):
    served(store)
    client = served.client()
    assert client.flags & 1 << 11
    client.write(0, b"x" * 8192)
    assert client.call(ZEROES, 0, 4096, flags=FAST).error == 0
    before = store.journal.used
    client.write(4096, b"y" * 4096)
    written, before = store.journal.used - before, store.journal.used
    assert client.call(ZEROES, 4096, 4096, flags=FAST).error == 0
    assert store.journal.used - before <= written
    assert client.read(0, 8192) == bytes(8192)


def test_connections_write_side_by_side(served, store):
    served(store)
    clients = [served.client() for _ in range(4)]

    def write(k: int) -> None:
        for step in range(200):
            clients[k].write(k * 65536 + step * 64, bytes([k * 50 + step % 50]) * 64, step % 3 == 0)

    threads = [threading.Thread(target=write, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for k in range(4):
        expected = b"".join(bytes([k * 50 + step % 50]) * 64 for step in range(200))
        assert clients[0].read(k * 65536, 200 * 64) == expected
    assert store.verify().ok


def test_the_callback_at_the_low_mark_is_called_for_clients_writes(served):
    called = threading.Event()
    with jrnl.create(size=SIZE, journal="64KiB", low=0.5, on_low=lambda _: called.set()) as store:
        served(store)
        client = served.client()
        for k in range(32):
            client.write(k * 4096, bytes([k + 1]) * 4096)
        assert called.is_set()
