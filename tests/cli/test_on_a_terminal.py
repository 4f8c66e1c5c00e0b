"""What is different on a terminal: questions, progress, Ctrl-C, completion; and the page."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
import time

import pytest

import jrnl
from ci.cli_page import PAGE, page
from jrnl.cli.app import TASKS, app
from tests.model.logs import pack_log, write

PIPES = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
PROGRAM = [sys.executable, "-m", "jrnl"]


class Terminal:
    """The command on a pseudo-terminal."""

    def __init__(self, *words):
        self.master, slave = pty.openpty()
        self.process = subprocess.Popen(
            [*PROGRAM, *map(str, words)], stdin=slave, stdout=slave, stderr=slave,
            start_new_session=True, env={**os.environ, "TERM": "xterm", "COLUMNS": "100"},
        )  # fmt: skip
        os.close(slave)
        self.said = ""

    def read(self, until=None, seconds=30):
        deadline = time.monotonic() + seconds
        while until is None or until not in self.said:
            assert time.monotonic() < deadline, self.said
            if select.select([self.master], [], [], 0.1)[0]:
                try:
                    piece = os.read(self.master, 65536)
                except OSError:  # it has ended
                    piece = b""
                if not piece:
                    return self.said
                self.said += piece.decode()
        return self.said

    def answer(self, text):
        os.write(self.master, text.encode())

    def end(self):
        self.read()
        os.close(self.master)
        return self.process.wait(30)


@pytest.mark.parametrize(
    ("answer", "code", "seq"), [("y\n", 0, 3), ("n\n", 1, 8), ("\n", 1, 8), ("\x04", 130, 8)]
)
def test_a_rewind_is_asked_for(path, run, answer, code, seq):
    terminal = Terminal("rewind", path, "--to", "good")
    assert "5 entries will be gone for good" in terminal.read("[y/N]")
    terminal.answer(answer)
    assert terminal.end() == code
    assert "Traceback" not in terminal.said
    info = run("info", path, "--json").json
    assert (info["seq"], info["window"]["newest"]) == ((9, 9) if seq == 3 else (8, 8))


def test_a_restore_says_its_plan_before_it_asks(path):
    terminal = Terminal("restore", path, "--to", "good")
    said = terminal.read("[y/N]")
    assert "restore state 3" in said
    assert "the window will be 0 to" in said
    until = time.monotonic() + 60
    while terminal.process.poll() is None:  # again, as a person would: it may just begin to read
        assert time.monotonic() < until, terminal.said
        terminal.process.send_signal(signal.SIGINT)
        time.sleep(0.3)
    assert terminal.end() in (130, -signal.SIGINT)  # one more came once it had ended
    assert "Traceback" not in terminal.said


@pytest.fixture
def long_log(folder):
    log = folder / "long.log"
    data = os.urandom(512)
    log.write_bytes(pack_log([write(k % 100, data) for k in range(40000)]))
    return log


def test_progress_is_shown_on_a_terminal_alone_and_ctrl_c_ends_it(path, long_log, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    slow = (
        "import sys, time; from jrnl.cli import main, progress, common; from jrnl import control\n"
        "def slow(path, name, arguments, report):\n"
        "    print('ready', flush=True)\n"
        "    for k in range(1000): report.progress(k, 1000); time.sleep(0.05)\n"
        "control.call = slow; sys.exit(main(['verify', sys.argv[1]]))"
    )
    words = [sys.executable, "-c", slow, str(path)]
    monkeypatch.setattr(sys.modules[__name__], "PROGRAM", words)
    terminal = Terminal()
    terminal.read("verifying")
    os.killpg(terminal.process.pid, signal.SIGINT)
    assert terminal.end() == 130
    assert "Traceback" not in terminal.said
    with subprocess.Popen(words, **PIPES, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        time.sleep(1.5)
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=30)[1].strip() == ""
        assert process.returncode == 130


def test_a_replay_that_ctrl_c_ends_keeps_what_was_replayed(path, long_log):
    before = (path / "log").stat().st_mtime_ns
    with subprocess.Popen(
        [*PROGRAM, "replay", str(path), str(long_log)], **PIPES, text=True
    ) as process:
        while (path / "log").stat().st_mtime_ns == before:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert not said.strip()
    with jrnl.open(path) as store:
        assert store.verify().ok


def completed(*words):
    variables = {
        "COMP_WORDS": " ".join(["jrnlctl", *map(str, words)]),
        "COMP_CWORD": str(len(words)),
    }
    done = subprocess.run(
        PROGRAM, text=True, capture_output=True, check=False,
        env={**os.environ, **variables, "_JRNLCTL_COMPLETE": "bash_complete"},
    )  # fmt: skip
    assert not done.stderr
    return [line.partition(",")[2] for line in done.stdout.splitlines() if line]


def test_the_shell_completes_commands_and_names(path):
    assert completed("rest") == ["restore", "restore-from"]
    assert completed("plan", path, "--to", "") == ["good", "copy"]
    assert completed("diff", path, "g") == ["good"]
    assert completed("plan", path / "nix", "--to", "") == []
    assert completed("export", path, "x", "--volume", "") == ["data"]


def test_the_shell_is_told_how_to_complete():
    done = subprocess.run(
        PROGRAM, text=True, capture_output=True, check=True,
        env={**os.environ, "_JRNLCTL_COMPLETE": "bash_source"},
    )  # fmt: skip
    assert "complete" in done.stdout
    assert "jrnlctl" in done.stdout


def test_the_page_is_what_the_commands_say():
    assert PAGE.read_text() == page(), "run: python ci/cli_page.py"


def test_every_command_is_grouped_by_its_task_and_teaches_with_an_example(run):
    grouped = [command.name for commands in TASKS.values() for command in commands]
    assert sorted(grouped) == sorted(app.commands)
    said = run("--help").out
    assert all(task in said for task in TASKS)
    for name in grouped:
        assert f"jrnlctl {name} " in run(name, "--help").out
