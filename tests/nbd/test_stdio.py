"""One client on standard input and output, and sockets that somebody else has opened."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import jrnl
import jrnl.nbd
from tests.model.nbd_client import FLUSH, Client, Disconnected, Pipes

SERVE = """
import signal, sys
import jrnl, jrnl.nbd

def ends(*_):
    raise SystemExit

signal.signal(signal.SIGTERM, ends)
with jrnl.open(sys.argv[1]) as store:
    with jrnl.nbd.serve(store, stdio="stdio" in sys.argv, sockets=jrnl.nbd.inherited()) as server:
        print("serving", file=sys.stderr, flush=True)
        server.wait()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    jrnl.create(tmp_path / "s.jrnl", size="1MiB", journal="1MiB").close()
    return tmp_path / "s.jrnl"


@contextmanager
def process(path: Path, *arguments: str, **options) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-c", SERVE, str(path), *arguments]
    with subprocess.Popen(command, stderr=subprocess.PIPE, **options) as running:
        try:
            yield running
        finally:
            running.kill()


def check(client: Client) -> None:
    client.go()
    client.write(4096, b"kept")
    assert client.read(4096, 4) == b"kept"
    assert client.call(FLUSH).error == 0


def kept(path: Path) -> bytes:
    with jrnl.open(path, mode="r") as store:
        return store.volume.read(4096, 4)


@pytest.mark.parametrize("end", ["leave", "terminate"])
def test_two_pipes_are_served_until_their_client_leaves_or_the_server_is_told_to_end(path, end):
    with process(path, "stdio", stdin=subprocess.PIPE, stdout=subprocess.PIPE) as running:
        client = Client(Pipes(running.stdout, running.stdin))
        check(client)
        client.write(4096, b"late")  # neither flushed nor disconnected
        if end == "leave":
            running.stdin.close()
        else:
            running.send_signal(signal.SIGTERM)
        assert running.wait(30) == 0
        with pytest.raises(Disconnected):
            client.take(1)
    assert kept(path) == b"late"


@pytest.mark.parametrize("end", ["leave", "terminate"])
def test_one_socket_is_served_as_both(path, end):
    ours, theirs = socket.socketpair()
    with theirs, process(path, "stdio", stdin=theirs, stdout=theirs) as running:
        with Client(ours) as client:
            check(client)
            if end == "terminate":
                began = time.monotonic()
                running.send_signal(signal.SIGTERM)
                assert running.wait(30) == 0
                assert time.monotonic() - began < 20
        assert running.wait(30) == 0
    assert kept(path) == b"kept"


def test_a_socket_that_was_handed_over_is_served(path, tmp_path):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "a"))
        listener.listen()
        code = ("import os, sys; os.dup2(int(sys.argv[1]), 3); os.set_inheritable(3, True)\n"
                "os.environ |= {'LISTEN_PID': str(os.getpid()), 'LISTEN_FDS': '1'}\n"
                "os.execv(sys.executable, [sys.executable, '-c', *sys.argv[2:]])")  # fmt: skip
        number = str(listener.fileno())
        command = [sys.executable, "-c", code, number, SERVE, str(path)]
        with subprocess.Popen(
            command, stderr=subprocess.PIPE, pass_fds=[listener.fileno()]
        ) as running:
            try:
                with Client(str(tmp_path / "a")) as client:
                    check(client)
                running.send_signal(signal.SIGTERM)
                assert running.wait(30) == 0
            finally:
                running.kill()
    assert kept(path) == b"kept"


def test_sockets_meant_for_another_process_are_left_alone(monkeypatch):
    monkeypatch.setenv("LISTEN_PID", str(os.getpid() + 1))
    monkeypatch.setenv("LISTEN_FDS", "1")
    assert jrnl.nbd.inherited() == []
    assert "LISTEN_FDS" not in os.environ
    monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
    monkeypatch.setenv("LISTEN_FDS", "many")
    with pytest.raises(jrnl.InvalidArgument, match="LISTEN_FDS"):
        jrnl.nbd.inherited()
