"""How a server ends, and what it does where it cannot go on as it should."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys
import threading
import time
from contextlib import suppress

import pytest

import jrnl
import jrnl.nbd
from tests.model.nbd_client import READ, WRITE, Client, Disconnected
from tests.model.places import ROOT


def run(program: str, folder: str) -> str:
    """Run a program of its own; return what it prints."""
    command = [sys.executable, "-W", "ignore", "-c", program, folder]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_thread_that_cannot_be_started_costs_one_connection(served, store, monkeypatch, caplog):
    server, plain, failed = served(store), threading.Thread.start, []

    def start(thread):
        if not failed:
            failed.append(thread)
            raise RuntimeError("can't start new thread")
        plain(thread)

    monkeypatch.setattr(threading.Thread, "start", start)
    with pytest.raises(Disconnected):
        served.client("data")
    served.client("data").write(0, b"fine")
    assert "can't start new thread" in caplog.text and len(server.clients) == 1
    server.close()
    assert server.wait(0)


def test_a_server_may_be_closed_by_a_connections_own_thread(served):
    servers = []
    with jrnl.create(
        size="4MiB", journal="2MiB", low=0.5, on_low=lambda *_: servers[0].close()
    ) as store:
        servers.append(served(store))
        store.mark("good", pinned=True)
        client = served.client()
        with pytest.raises(Disconnected):
            for k in range(1000):
                client.write(k * 4096, b"x" * 4096)
        assert servers[0].wait(10)
        assert store.journal.entries["kind"][-1] == jrnl.Kind.FLUSH
        with pytest.raises(OSError):
            Client(served.path)


SIGNAL = """
import os, signal, sys
import jrnl, jrnl.nbd
from tests.model.nbd_client import Client
path = sys.argv[1] + "/s"
for k in range(6):
    with jrnl.create(size="1MiB", journal="1MiB") as store:
        server = jrnl.nbd.serve(store, unix=path)
        clients = [Client(path) for _ in range(40)]
        for client in clients:
            client.go()
        signal.signal(signal.SIGALRM, lambda *_: server.close())
        signal.setitimer(signal.ITIMER_REAL, 0.05 + 0.011 * k)
        while not server.wait(0):
            server.clients
        for client in clients:
            client.socket.close()
print("ended")
"""


def test_a_signals_handler_may_close_a_server_that_is_looked_at(served, store):
    assert run(SIGNAL, str(served.folder)) == "ended\n"


FORK = """
import os, sys
import jrnl, jrnl.nbd
from tests.model.nbd_client import Client
path = sys.argv[1] + "/s"
with jrnl.create(size="1MiB", journal="1MiB") as store, jrnl.nbd.serve(store, unix=path) as server:
    with Client(path) as client:
        client.go()
        client.write(0, b"before")
        if not (child := os.fork()):
            server.close()
            os._exit(not server.wait(0))
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert client.read(0, 6) == b"before"
        with Client(path) as other:
            other.go()
            other.write(0, b"after")
            assert client.read(0, 5) == b"after"
assert not os.path.exists(path)
print("ended")
"""


def test_a_forked_child_that_closes_the_server_closes_nothing_of_its_parents(served):
    assert run(FORK, str(served.folder)) == "ended\n"


def test_over_tcp_a_server_ends_soon_though_its_clients_go_on(store):
    server = jrnl.nbd.serve(store, port=0)
    client = Client(socket.create_connection(("127.0.0.1", server.port)))
    client.go()
    begun = threading.Event()

    def flood() -> None:
        request = struct.pack(">IHHQQI", 0x25609513, 0, WRITE, 1, 0, 512) + bytes(512)
        try:
            while True:
                client.send(request * 100)
                begun.set()
        except Disconnected:
            pass

    def take() -> None:
        try:
            while client.take(16):
                pass
        except Disconnected:
            pass

    threads = [threading.Thread(target=target) for target in (flood, take)]
    for thread in threads:
        thread.start()
    assert begun.wait(10)
    since = time.monotonic()
    server.close()
    took = time.monotonic() - since
    with suppress(OSError):
        client.socket.shutdown(socket.SHUT_RDWR)
    for thread in threads:
        thread.join()
    client.socket.close()
    assert took < 4  # after 5 seconds it would be cut off


# Room for long requests.


@pytest.mark.parametrize("kind", [WRITE, READ])
def test_who_stops_in_a_long_request_gives_its_room_to_others(served, kind):
    with jrnl.create(size="64MiB", journal="128MiB") as store:
        served(store, spare_bytes=1, handshake_s=0.5)
        stalled = [served.client() for _ in range(2)]
        for client in stalled:
            client.ask(kind, 0, (32 << 20) - 28)  # all the room that there is
        time.sleep(0.1)
        other, content = served.client(), os.urandom(3 << 20)
        other.write(0, content)
        assert other.read(0, len(content)) == content


def test_who_waits_too_long_for_room_is_disconnected(served):
    with jrnl.create(size="64MiB", journal="128MiB") as store:
        served(store, spare_bytes=1, handshake_s=0.5)
        slow, over = [served.client() for _ in range(2)], threading.Event()
        for client in slow:
            client.ask(WRITE, 0, (32 << 20) - 28)
        time.sleep(0.1)

        def drip() -> None:
            while not over.wait(0.1):
                for client in slow:
                    client.send(b"x")

        thread = threading.Thread(target=drip)
        thread.start()
        try:
            waiting = served.client()
            waiting.ask(WRITE, 0, 3 << 20)
            since = time.monotonic()
            with pytest.raises(Disconnected):
                waiting.take(1)
            assert time.monotonic() > since + 0.5
        finally:
            over.set()
            thread.join()
        served.client().write(0, b"fine")
