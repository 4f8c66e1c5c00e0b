"""`jrnlctl serve` as a process: other commands go through it, and signals end it cleanly."""

from __future__ import annotations

import os
import signal
import socket
import struct
import subprocess
import sys
import urllib.request
from contextlib import contextmanager

import pytest

import jrnl
from tests.model.nbd_client import ABORT, OPTION_MAGIC, Client, Disconnected
from tests.model.places import ROOT

PROGRAM = [sys.executable, "-m", "jrnl"]


@contextmanager
def serving(*words, stop=signal.SIGTERM, code=0):
    process = subprocess.Popen(
        [*PROGRAM, "serve", *map(str, words)], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, cwd=ROOT,
    )  # fmt: skip
    try:
        process.said = process.stdout.readline()
        yield process
        if process.poll() is None:
            process.send_signal(stop)
        said = process.communicate(timeout=60)[1]
        assert process.returncode == code, said
        assert "Traceback" not in said
    finally:
        process.kill()
        process.wait()


def connect(socket_path):
    client = Client(str(socket_path))
    client.go("data")
    return client


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_it_and_what_was_written_is_there(path, folder, run, stop):
    with serving(path, "--unix", folder / "sock", stop=stop) as process:
        assert "nbd+unix:" in process.said
        with connect(folder / "sock") as client:
            client.write(0, b"by NBD")
            assert run("mark", path, "then").code == 0
            client.write(0, b"after ")
            assert run("info", path, "--json").json["marks"].keys() == {"good", "then"}
            with pytest.raises(jrnl.StoreLocked):
                jrnl.open(path)
    assert not (folder / "sock").exists()
    assert not (path / "control.sock").exists()
    with jrnl.open(path, "r") as store:
        assert store.read(0, 6) == b"after "
        assert store.view("then").read(0, 6) == b"by NBD"


def test_a_restore_through_it_disconnects_whoever_writes(path, folder, run):
    with serving(path, "--unix", folder / "sock"), connect(folder / "sock") as client:
        client.write(0, b"by NBD")
        assert run("restore", path, "--to", "good", "--yes").code == 0
        with pytest.raises((Disconnected, AssertionError)):
            client.write(0, b"stale")
        with connect(folder / "sock") as again:
            assert again.read(0, 3) == b"one"


def test_once_it_is_killed_commands_go_on_alone_and_the_next_one_serves(path, folder, run):
    with serving(path, "--unix", folder / "sock", stop=signal.SIGKILL, code=-signal.SIGKILL):
        assert run("mark", path, "there").code == 0
    assert (path / "control.sock").exists()
    assert "there" in run("info", path, "--json").json["marks"]
    with serving(path, "--unix", folder / "sock"):
        assert run("mark", path, "more").code == 0


def test_two_cannot_serve_one_store_but_for_reading(path, folder, run):
    with serving(path, "--unix", folder / "a"):
        assert "open already" in run("serve", path, "--unix", folder / "b").line
    with serving(path, "--unix", folder / "a", "--read-only"):
        before = sorted(os.listdir(path))
        with serving(path, "--unix", folder / "b", "--read-only"):
            assert run("verify", path).code == 0
            with connect(folder / "b") as client:
                assert client.read(100, 4) == b"last"
        assert sorted(os.listdir(path)) == before
        assert "control.sock" not in before


def test_on_standard_input_and_output_nothing_else_is_written_there(path):
    process = subprocess.Popen(
        [*PROGRAM, "serve", str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )  # fmt: skip
    asked = struct.pack(">I", 3) + OPTION_MAGIC + struct.pack(">II", ABORT, 0)
    said, complained = process.communicate(asked, timeout=60)
    assert process.returncode == 0
    assert not complained
    assert said[:16] == b"NBDMAGIC" + OPTION_MAGIC
    assert len(said) == 18 + 20


def test_a_store_in_memory_is_served(folder):
    with serving("--memory", "1MiB", "--journal", "64KiB", "--unix", folder / "sock") as process:
        assert "data of 1 MiB" in process.said
        with connect(folder / "sock") as client:
            client.write(4096, b"kept")
            client.flush()
            assert client.read(4096, 4) == b"kept"


def test_systemd_hands_its_sockets_over(path, folder):
    start = (
        "import os, sys; os.dup2(int(sys.argv[1]), 3); os.set_inheritable(3, True);"
        "os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='1');"
        "os.execv(sys.executable, [sys.executable, '-m', 'jrnl', 'serve', sys.argv[2]])"
    )
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "sock"))
        listener.listen()
        process = subprocess.Popen(
            [sys.executable, "-c", start, str(listener.fileno()), str(path)],
            pass_fds=[listener.fileno()], stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        with connect(folder / "sock") as client:
            assert client.read(100, 4) == b"last"
        process.terminate()
        assert "inherited" in process.communicate(timeout=60)[0]
        assert process.returncode == 0


def test_all_places_where_it_listens_are_said(path, folder):
    with serving(path, "--unix", folder / "sock", "--port", "0") as process:
        unix, port = process.said.partition(" at ")[2].split(" and ")
        assert unix == f"nbd+unix:///?socket={folder / 'sock'}"
        assert port.startswith("nbd://127.0.0.1:")
        with socket.create_connection(("127.0.0.1", int(port.rpartition(":")[2]))) as client:
            assert client.recv(8) == b"NBDMAGIC"


def test_metrics_are_served_beside(path, folder):
    pytest.importorskip("prometheus_client")
    with serving(path, "--unix", folder / "sock", "--metrics", 0) as process:
        address = process.said.split("metrics at ")[1].strip()
        with urllib.request.urlopen(address, timeout=30) as answer:
            assert b"jrnl_up 1.0" in answer.read()


def test_what_happens_is_logged_where_it_is_asked_for(path, folder, run):
    for words, logged in (((), False), (("-v",), True)):
        with serving(path, "--unix", folder / "sock", *words) as process:
            assert run("snapshot", path, f"taken {logged}").code == 0
            process.terminate()
            said = process.stderr.read()
        assert ("jrnlctl: " in said and "taken" in said) == logged
        assert logged or not said
