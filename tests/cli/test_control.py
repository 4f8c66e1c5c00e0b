"""The socket of a served store: who may ask, what a hostile client gets, what a stale one costs."""

from __future__ import annotations

import json
import os
import socket
import stat
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from inspect import signature
from random import Random

import pytest

import jrnl
from jrnl import control
from jrnl.control import ControlServer
from tests.model.amount import more_in_long
from tests.model.logs import pack_log, write

SOCKET = "control.sock"


@pytest.fixture
def served(path):
    with jrnl.open(path) as store, ControlServer(store, request_seconds=0.5) as server:
        yield store, server, path


def connect(path):
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(10)
    folder = os.open(path, os.O_PATH)
    client.connect(f"/proc/self/fd/{folder}/{SOCKET}")
    os.close(folder)
    return client


def answers(client, sent=b""):
    with suppress(BrokenPipeError):  # it may have closed by then; what it has said is there
        client.sendall(sent)
    text = b""
    with suppress(ConnectionResetError):  # ... all the same
        while piece := client.recv(65536):
            text += piece
    return [json.loads(line) for line in text.splitlines()]


def ask(path, sent):
    with connect(path) as client:
        return answers(client, sent)


def goes_on(path):
    return control.call(path, "info")["seq"] == 8


def test_only_its_user_can_connect(served):
    *_, path = served
    there = os.stat(path / SOCKET)
    assert stat.S_ISSOCK(there.st_mode)
    assert stat.S_IMODE(there.st_mode) == 0o600


def test_a_request_is_begun_then_answered(served):
    *_, path = served
    begun, answer = ask(path, b'{"op": "names"}\n')
    assert begun == {"begun": True}
    assert answer == {"result": ["good", "copy"]}


@pytest.mark.parametrize(
    "sent",
    [
        b"\n", b"null\n", b"[]\n", b"{}\n", b"\xff\xfe\n", b'{"op": 3}\n', b'{"op": "exec"}\n',
        b'{"op": "info", "more": 1}\n', b'{"op": "info", "args": []}\n',
        b'{"op": "info", "args": {"store": 1}}\n', b'{"op": "log", "args": {"start": 1}}\n',
        b'{"op": "log", "args": {"start": "-"}}\n', b'{"op": "history", "args": {"offset": 0}}\n',
        b'{"op": "history", "args": {"offset": true, "length": 1}}\n',
        b'{"op": "history", "args": {"offset": -1, "length": 99999999999999999999999}}\n',
        b'{"op": "crash", "args": {"check": ["x", 1]}}\n', b"[" * 60000 + b"\n",
        b'{"op": "mark", "args": {"name": "\\ud800"}}\n', b"x" * 200_000,
    ],
    ids=lambda sent: repr(sent[:40]),
)  # fmt: skip
def test_a_hostile_request_gets_an_error_and_the_server_goes_on(served, sent):
    *_, path = served
    with connect(path) as client:
        told = answers(client, sent)
    assert set(told[-1]) == {"error"}
    assert goes_on(path)


def test_a_request_that_does_not_end_is_cut_short(served):
    *_, path = served
    [told] = ask(path, b"x" * 200_000)
    assert told["error"]["class"] == "TooLong"


def test_a_client_that_asks_too_slowly_is_told(served):
    *_, path = served
    with connect(path) as client:
        client.sendall(b'{"op":')
        [told] = answers(client)
    assert told["error"]["class"] == "TimeoutError"
    assert goes_on(path)


def test_clients_beyond_the_limit_are_told(path):
    with jrnl.open(path) as store, ControlServer(store, connections_max=2):
        held = [connect(path), connect(path)]
        time.sleep(0.1)
        assert "too many" in ask(path, b'{"op": "info"}\n')[0]["error"]["message"]
        for client in held:
            client.close()
        deadline = time.monotonic() + 10
        while True:
            try:
                assert goes_on(path)
                return
            except jrnl.JrnlError:
                assert time.monotonic() < deadline


def test_another_users_process_gets_an_error(served, monkeypatch):
    *_, path = served
    monkeypatch.setattr("jrnl.control.server.user_of", lambda client: os.geteuid() + 1)
    [told] = ask(path, b'{"op": "info"}\n')
    assert "only the user" in told["error"]["message"]


def test_a_client_that_goes_away_does_no_harm(served, folder):
    store, _, path = served
    log = folder / "long.log"
    log.write_bytes(pack_log([write(k % 100, b"x" * 512) for k in range(20000)]))
    with connect(path) as client:
        asked = {"op": "replay", "args": {"log": str(log)}}
        client.sendall(json.dumps(asked).encode() + b"\n")
        assert b"begun" in client.recv(100)
    control.call(path, "info")
    assert store.verify().ok


def test_an_error_keeps_its_class_and_its_file(served, folder):
    *_, path = served
    with pytest.raises(jrnl.UnknownPoint, match="did you mean 'good'"):
        control.call(path, "plan", {"to": "god"})
    with pytest.raises(OSError) as caught:
        control.call(path, "replay", {"log": str(folder / "nix")})
    assert isinstance(caught.value, FileNotFoundError)
    assert caught.value.filename == str(folder / "nix")


def leave_stale(path):
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path / SOCKET))


def test_a_stale_socket_is_ignored_and_replaced(run, path):
    leave_stale(path)
    assert not control.is_served(path)
    assert run("info", path).code == 0
    assert jrnl.open(path).close() is None
    with jrnl.open(path) as store, ControlServer(store):
        assert control.is_served(path)
        assert run("mark", path, "there").code == 0
        assert "there" in store.marks
    assert not (path / SOCKET).exists()


def test_a_file_in_the_place_of_the_socket_is_said_to_be_there(path):
    (path / SOCKET).write_text("hm")
    assert not control.is_served(path)
    with jrnl.open(path) as store, ControlServer(store):
        assert control.is_served(path)


def test_a_folder_whose_path_is_too_long_for_a_socket_is_served(run, folder):
    deep = folder / ("d" * 100) / ("e" * 100)
    deep.mkdir(parents=True)
    with jrnl.create(deep / "s", size="64KiB", journal="64KiB") as store, ControlServer(store):
        assert run("mark", deep / "s", "there").code == 0
        assert "there" in store.marks


def test_a_store_in_memory_or_one_that_is_only_read_has_no_socket(path):
    with jrnl.create(size="64KiB") as store, pytest.raises(jrnl.InvalidArgument, match="on disk"):
        ControlServer(store)
    with jrnl.open(path, "r") as store, pytest.raises(jrnl.InvalidArgument, match="writing"):
        ControlServer(store)


def test_a_command_waits_for_a_serving_process_that_is_closing_the_store(run, path):
    store = jrnl.open(path)
    server = ControlServer(store)
    server.close()
    threading.Timer(0.3, store.close).start()
    assert run("mark", path, "late").code == 0


def test_closing_the_server_ends_what_is_under_way(served, folder):
    store, server, path = served
    log = folder / "long.log"
    log.write_bytes(pack_log([write(k % 100, b"x" * 512) for k in range(60000)]))
    with connect(path) as client:
        asked = {"op": "replay", "args": {"log": str(log)}}
        client.sendall(json.dumps(asked).encode() + b"\n")
        assert b"begun" in client.recv(100)
        server.close()
        last = answers(client)[-1]
    assert "being stopped" in last["error"]["message"] or last.get("result")
    assert store.verify().ok


def test_all_that_the_table_has_says_whether_it_writes(path):
    before = {name: (path / name).read_bytes() for name in os.listdir(path)}
    for name, operation in control.OPERATIONS.items():
        takes = signature(operation.run).parameters.keys()
        if not operation.writes and not takes & {"out", "check", "place"}:
            given = {"history": {"offset": 0, "length": 1}, "diff": {"a": "0", "b": "8"},
                     "plan": {"to": "good"}}  # fmt: skip
            control.call(path, name, given.get(name))
    assert {name: (path / name).read_bytes() for name in os.listdir(path)} == before


@more_in_long("count", 150, 5000)
def test_random_requests_get_an_answer_or_an_end(served, seed, count):
    store, _, path = served
    random = Random(seed)
    outside = {"out", "picture", "html", "log", "bundles", "check", "url"}  # files, commands
    takes = {
        name: [*signature(operation.run).parameters][2:]
        for name, operation in control.OPERATIONS.items()
    }
    inside = [name for name, names in takes.items() if not outside & {*names}]
    values = ["good", "8", "0", "copy", "data", 0, 1, -1, 2**70, None, True, [], {}, "\0", 1.5, "/"]
    for _ in range(count):
        name = random.choice(inside)
        given = random.sample(takes[name], random.randrange(len(takes[name]) + 1))
        asked = {"op": name, "args": {each: random.choice(values) for each in given}}
        sent = bytearray(json.dumps(asked).encode())
        for _ in range(random.choice([0, 0, 0, 1, 5])):
            sent[random.randrange(len(sent))] = random.randrange(256)
        told = ask(path, bytes(sent) + b"\n")
        assert told == [] or set(told[-1]) in ({"error"}, {"result"}), (sent, told)
    assert control.call(path, "verify")["ok"]
    assert store.verify().ok


def test_many_ask_at_once(served):
    store, _, path = served
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda k: control.call(path, "mark", {"name": f"m{k}"}), range(24)))
    assert sorted(mark["seq"] for mark in made) == sorted(
        mark.seq for name, mark in store.marks.items() if name[0] == "m"
    )
    assert len({mark["seq"] for mark in made}) == 24


@pytest.mark.skipif(os.geteuid() != 0, reason="takes root, to be another user")
def test_another_user_is_told_who_serves_the_store(served, folder):
    *_, path = served
    os.chmod(folder, 0o755)
    ask_as_nobody = (
        "import os, sys; os.setgroups([]); os.setgid(65534); os.setuid(65534);"
        "from jrnl.cli import main; sys.exit(main(['info', sys.argv[1]]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", f"import jrnl.cli.app; {ask_as_nobody}", str(path)],
        text=True, capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "another user's process serves the store" in done.stderr
    assert done.stderr.count("\n") == 1


def speak(path, said, clients=1):
    """Have something in the place of a serving process that says this to each client."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path / SOCKET))
    listener.listen()

    def serve():
        with listener:
            for _ in range(clients):
                client, _ = listener.accept()
                with client:
                    client.recv(1000)
                    for piece in said:
                        with suppress(BrokenPipeError):
                            client.sendall(piece)
                        time.sleep(0.1 if len(said) > 1 else 0)

    thread = threading.Thread(target=serve)
    thread.start()
    return thread


@pytest.mark.parametrize(
    "said",
    [b"[" * 100_000, b"7", b'{"result": {}}', b'{"result": 7}', b'{"result": {"volumes": 7}}',
     b'{"error": 7}', b'{"progress": 1}', b'{"progress": [1, "2"]}', b'{"rows": [7]}',
     b'{"rows": {}}', b"\xff"],
    ids=lambda said: str(said)[:30],
)  # fmt: skip
def test_an_answer_that_is_none_gets_one_line(run, path, said):
    thread = speak(path, [said + b"\n"])
    assert "an answer that" in run("info", path).line
    thread.join()


@pytest.mark.parametrize("said", [[], [b"{"] * 30], ids=["nothing", "a byte now and then"])
def test_what_has_the_socket_and_never_answers_is_named(path, said):
    listener = None
    if said:
        thread = speak(path, said)
    else:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(path / SOCKET))
        listener.listen()
    with pytest.raises(jrnl.JrnlError, match=f"process {os.getpid()}, .* does not answer"):
        control.call(path, "info", answer_seconds=0.3)
    if listener is None:
        thread.join()
    else:
        listener.close()


def test_one_that_lets_nobody_in_is_no_reason_to_wait(run, path):
    with socket.socket(socket.AF_UNIX) as listener, ExitStack() as waiting:
        listener.bind(str(path / SOCKET))
        listener.listen(0)
        waiting.enter_context(connect(path))
        assert "takes no more clients" in run("info", path).line


def test_what_is_begun_may_take_longer_than_its_answer(path):
    thread = speak(path, [b'{"begun": true}\n', *[b""] * 5, b'{"result": 7}\n'])
    assert control.call(path, "info", answer_seconds=0.3) == 7
    thread.join()


def test_a_server_that_ends_in_the_middle_is_told_of(path, monkeypatch):
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path / SOCKET))
    listener.listen()

    def serve():
        for said in (b'{"begun": true}\n', b""):
            client, _ = listener.accept()
            client.recv(1000)
            client.sendall(said)
            client.close()
        listener.close()

    thread = threading.Thread(target=serve)
    thread.start()
    with pytest.raises(jrnl.JrnlError, match="has ended in the middle of it"):
        control.call(path, "mark", {"name": "maybe"})
    assert (
        control.call(path, "mark", {"name": "surely"})["seq"] == 9
    )  # nothing was begun: done here
    thread.join()
    with jrnl.open(path, "r") as store:
        assert set(store.marks) == {"good", "surely"}
