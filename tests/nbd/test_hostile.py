"""Clients that say what they should not, or nothing: an error or a disconnect, and it goes on."""

from __future__ import annotations

import errno
import os
import random
import socket
import stat
import struct
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

import jrnl
import jrnl.nbd
from tests.model.nbd_client import (
    ABORT,
    ACK,
    EXPORT_NAME,
    GO,
    INVALID,
    LIST,
    SET_META,
    STARTTLS,
    STRUCTURED,
    TOO_BIG,
    UNSUP,
    WRITE,
    Client,
    Disconnected,
    meta,
    with_length,
)
from tests.model.places import ROOT


def is_well(served, store) -> None:
    """Another client is served as ever, and the store is as it should be."""
    with Client(served.path) as client:
        client.go("data")
        client.write(0, b"fine")
        assert client.read(0, 4) == b"fine"
    assert store.verify().ok


def ends(client: Client) -> bool:
    try:
        while client.take(1):
            pass
    except (Disconnected, TimeoutError) as error:
        return isinstance(error, Disconnected)
    return False


@pytest.mark.parametrize(("option", "data", "error"), [
    (STARTTLS, b"", UNSUP),
    (11, b"", UNSUP),
    (12345, b"x" * 100, UNSUP),
    (LIST, b"x", INVALID),
    (STRUCTURED, b"x", INVALID),
    (GO, b"", INVALID),
    (GO, with_length("data"), INVALID),
    (GO, with_length("data") + b"\0\5", INVALID),
    (GO, struct.pack(">I", 1 << 31) + b"data\0\0", INVALID),
    (GO, struct.pack(">I", 4) + b"\xff\xff\xff\xff\0\0", INVALID),
    (GO, with_length("a" * 5000) + b"\0\0", TOO_BIG),
    (LIST, b"x" * 70000, TOO_BIG),
    (SET_META, b"", INVALID),
    (SET_META, with_length("data") + struct.pack(">I", 1 << 31), INVALID),
    (SET_META, meta("data", "base:allocation")[:-1], INVALID),
    (SET_META, meta("data", "base:allocation") + b"x", INVALID),
])  # fmt: skip
def test_a_wrong_option_is_refused_and_the_handshake_goes_on(served, store, option, data, error):
    served(store)
    client = served.client(None)
    client.greet()
    if option == SET_META:
        client.option(STRUCTURED)
    ((kind, _),) = client.option(option, data)
    assert kind == error
    assert client.option(LIST)[-1] == (ACK, b"")
    is_well(served, store)


@pytest.mark.parametrize("data", [
    struct.pack(">I", 1 << 7),  # flags that there are not
    struct.pack(">I", 3) + b"WRONGOPT" + struct.pack(">II", LIST, 0),
    struct.pack(">I", 3) + b"IHAVEOPT" + struct.pack(">II", LIST, 1 << 31),
    struct.pack(">I", 3) + b"IHAVEOPT" + struct.pack(">II", EXPORT_NAME, 1 << 20),
    struct.pack(">I", 3) + b"IHAVEOPT" + struct.pack(">II", EXPORT_NAME, 5) + b"other",
    struct.pack(">I", 3) + (b"IHAVEOPT" + struct.pack(">II", 99, 0)) * 1001,
])  # fmt: skip
def test_what_is_no_handshake_is_disconnected(served, store, data):
    served(store)
    client = served.client(None)
    client.take(18)
    client.send(data)
    assert ends(client)
    is_well(served, store)


def test_the_old_way_to_name_an_export_works_with_and_without_zeroes(served, store):
    served(store)
    for flags, zeroes in ((3, 0), (1, 124)):
        client = served.client(None)
        client.greet(flags)
        client.send(b"IHAVEOPT" + struct.pack(">II", EXPORT_NAME, 4) + b"data")
        size, transmission = struct.unpack(">QH", client.take(10))
        assert size == store.volume.size and transmission & 1
        assert client.take(zeroes) == bytes(zeroes)
        client.write(0, b"x")
    is_well(served, store)


def test_a_client_may_leave_during_the_handshake(served, store):
    served(store)
    client = served.client(None)
    client.greet()
    assert client.option(ABORT) == [(ACK, b"")]
    assert ends(client)
    is_well(served, store)


@pytest.mark.parametrize("data", [
    struct.pack(">IHHQQI", 0x25609514, 0, 0, 1, 0, 512),
    struct.pack(">IHHQQI", 0x25609513, 0, WRITE, 1, 0, 0xFFFFFFFF),
    struct.pack(">IHHQQI", 0x25609513, 0, WRITE, 1, 0, (32 << 20) + 1),
    b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
])  # fmt: skip
def test_what_is_no_request_is_disconnected(served, store, data):
    served(store)
    client = served.client()
    client.send(data)
    assert ends(client)
    is_well(served, store)


@pytest.mark.parametrize("cut", [0, 1, 27, 28, 29, 4000, 4123])
def test_a_write_that_is_broken_off_changes_nothing(served, store, cut):
    served(store)
    whole = struct.pack(">IHHQQI", 0x25609513, 0, WRITE, 1, 0, 4096) + b"x" * 4096
    client = served.client()
    client.send(whole[:cut])
    client.socket.close()
    until = time.monotonic() + 10
    server_clients = 1
    while server_clients and time.monotonic() < until:
        time.sleep(0.01)
        server_clients = len([t for t in threading.enumerate() if t.name == "jrnl-nbd"])
    assert store.volume.read(0, 4096) == bytes(4096)
    assert store.seq == 0
    is_well(served, store)


def test_a_handshake_takes_no_longer_than_it_may(served, store):
    served(store, handshake_s=0.3)
    silent, dripping = served.client(None), served.client(None)
    began = time.monotonic()
    dripping.take(18)
    try:
        while time.monotonic() < began + 20:
            dripping.send(b"\0")
            time.sleep(0.05)
    except Disconnected:
        pass
    assert ends(silent)
    assert time.monotonic() < began + 20
    is_well(served, store)


def test_there_are_no_more_connections_than_there_may_be(served, store):
    served(store, max_connections=3)
    first = [served.client() for _ in range(3)]
    assert ends(served.client(None))
    first[0].write(0, b"still served")
    first[0].socket.close()
    until = time.monotonic() + 10
    while time.monotonic() < until:
        try:
            served.client()
            break
        except (Disconnected, OSError):
            time.sleep(0.01)
    else:
        pytest.fail("a place that has become free is not given to another client")


def test_a_client_that_takes_no_replies_keeps_nobody_waiting(served, store):
    served(store)
    slow = served.client()
    slow.socket.settimeout(0.5)
    with pytest.raises((TimeoutError, Disconnected)):
        for _ in range(10_000):
            slow.ask(0, 0, 1 << 20)
    is_well(served, store)


SLOW = """
import os, sys, time
from tests.model.nbd_client import STATUS, Client
path, told, *contexts = sys.argv[1:]
with Client(path) as client:
    client.go(contexts=tuple(contexts))
    client.ask(STATUS, 0, 128 << 20)  # megabytes of extents, which nobody takes
    client.take(1)  # it has begun to send
    print("asked", flush=True)
    until = time.monotonic() + 20
    while not os.path.exists(told) and time.monotonic() < until:
        time.sleep(0.01)
    sys.exit(not os.path.exists(told))
"""


def test_a_client_that_takes_no_block_status_stops_nobody_else(served, tmp_path):
    with jrnl.create(size="128MiB", journal="64MiB") as store:
        marks = [f"m{k}" for k in range(12)]
        for name in marks:
            store.mark(name)
        offsets = np.arange(0, 128 << 20, 8192)
        store.volume.write_many(offsets, np.ones((offsets.size, 1), np.uint8))
        served(store)
        contexts = [f"jrnl:changed:{name}" for name in marks]
        command = [sys.executable, "-c", SLOW, served.path, str(tmp_path / "told"), *contexts]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as slow:
            assert slow.stdout.readline() == b"asked\n"
            is_well(served, store)
            (tmp_path / "told").touch()  # Python runs on; else the client gives up waiting
            assert slow.wait() == 0


def test_long_requests_of_many_clients_share_the_room(served):
    with jrnl.create(size="64MiB", journal="256MiB") as store:
        served(store, spare_bytes=1)  # the least there can be: two long requests at a time
        clients = [served.client() for _ in range(6)]
        content = bytes(range(256)) * (32 << 12)

        def write(client: Client) -> None:
            client.write(0, content)
            assert client.read(0, len(content)) == content

        threads = [threading.Thread(target=write, args=(client,)) for client in clients]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert store.volume.read(0, len(content)) == content
        assert served.client().read(len(content) - 1, 1) == content[-1:]


def test_random_bytes_do_no_harm(served, store, seed):
    served(store)
    rng = random.Random(seed)
    for step in range(150):
        client = served.client(None if step % 3 == 0 else "")
        try:
            if step % 3 == 0:
                client.take(18)
                client.send(struct.pack(">I", rng.choice([0, 1, 2, 3, rng.randrange(1 << 32)])))
            for _ in range(rng.randrange(1, 6)):
                client.send(noise(rng, step % 3))
        except Disconnected:
            pass
        client.socket.close()
    is_well(served, store)


def noise(rng: random.Random, kind: int) -> bytes:
    """Bytes that look like an option, or like a request, more or less."""
    if kind == 0:
        length = rng.choice([0, 4, 10, 100, rng.randrange(1 << 32)])
        data = rng.randbytes(min(length, 200))
        return b"IHAVEOPT" + struct.pack(">II", rng.randrange(12), length) + data
    magic = rng.choice([0x25609513] * 9 + [rng.randrange(1 << 32)])
    length = rng.choice([0, 1, 512, 4096, 1 << 20, rng.randrange(1 << 32)])
    offset = rng.choice([0, 512, 1 << 20, rng.randrange(1 << 64)])
    flags = rng.choice([0, 0, 0, rng.randrange(1 << 16)])
    head = struct.pack(">IHHQQI", magic, flags, rng.randrange(9), rng.randrange(1 << 64), offset,
                       length)  # fmt: skip
    return head + rng.randbytes(rng.choice([0, min(length, 5000)]))


# Listening, and its end.


def test_only_its_user_can_open_the_socket(served, store):
    served(store)
    assert stat.S_IMODE(os.stat(served.path).st_mode) == 0o600


def test_a_stale_socket_gives_way_and_one_in_use_does_not(served, store, tmp_path):
    server = served(store)
    path = served.path
    with pytest.raises(OSError, match="another server") as caught:
        jrnl.nbd.serve(store, unix=path)
    assert caught.value.errno == errno.EADDRINUSE
    with Client(path) as client:
        client.go()
    server.close()
    assert not os.path.exists(path)
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(path)
    with jrnl.nbd.serve(store, unix=path), Client(path) as client:
        client.go()
    (tmp_path / "file").write_text("somebody's")
    with pytest.raises(OSError):
        jrnl.nbd.serve(store, unix=tmp_path / "file")
    assert (tmp_path / "file").read_text() == "somebody's"


def test_a_server_that_ends_answers_what_it_has_and_flushes(served, tmp_path):
    with jrnl.create(tmp_path / "s.jrnl", size="1MiB", journal="1MiB") as store:
        server = served(store)
        client = served.client()
        cookies = [client.ask(WRITE, k * 512, 512, bytes([k + 1]) * 512) for k in range(100)]
        assert client.reply({})[0] == cookies[0]
        server.close()
        answered = 1
        with pytest.raises(Disconnected):
            while client.reply({})[1].error == 0:
                answered += 1
        assert store.volume.read(0, answered * 512) == b"".join(
            bytes([k + 1]) * 512 for k in range(answered)
        )
        assert store.journal.entries["kind"][-1] == jrnl.Kind.FLUSH
        server.close()  # twice is fine
        with pytest.raises((Disconnected, OSError)):
            Client(served.path)


def test_a_server_that_ends_complains_of_nothing(served, store, caplog):
    for _ in range(50):
        served(store).close()
    assert not caplog.records


def test_tcp_is_on_loopback_alone(store):
    with jrnl.nbd.serve(store, port=0) as server:
        assert server.uri == f"nbd://127.0.0.1:{server.port}"
        with socket.create_connection(("127.0.0.1", server.port)) as there:
            assert there.recv(8) == b"NBDMAGIC"
    with pytest.raises(jrnl.InvalidArgument, match="where to listen"):
        jrnl.nbd.serve(store)
    store.close()
    with pytest.raises(jrnl.StoreClosed):
        jrnl.nbd.serve(store, port=0)
