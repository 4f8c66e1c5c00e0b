"""Stores with a history, and the command run in this process, as its script runs it."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import jrnl
from jrnl.cli import main
from jrnl.control import ControlServer

# A shell's background job ignores Ctrl-C, what nohup runs SIGHUP, and so would all that is started
# here.
for number, default in {
    signal.SIGINT: signal.default_int_handler,
    signal.SIGHUP: signal.SIG_DFL,
}.items():
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, default)


class Ran(NamedTuple):
    """What a command has given."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def line(self) -> str:
        """The one line of an error."""
        assert self.code, self
        assert self.err.count("\n") == 1, self.err
        assert self.err.startswith("jrnlctl: "), self.err
        assert not self.out
        return self.err.removeprefix("jrnlctl: ").rstrip("\n")


Run = Callable[..., Ran]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command with these words."""

    def run(*words: object) -> Ran:
        code = main([str(word) for word in words])
        return Ran(code, *capsys.readouterr())

    return run


@pytest.fixture
def path(folder: Path) -> Path:
    """A store of 1 MiB: states 1 to 8, a mark at 3, a snapshot of 6."""
    made = folder / "disk.jrnl"
    with jrnl.create(made, size="1MiB", journal="1MiB") as store:
        store.volume.write(0, b"one" * 1000)
        store.volume.write(8192, b"two" * 1000)
        store.mark("good")
        store.volume.write(4096, b"three" * 100)
        store.volume.discard(0, 4096)
        store.flush()
        store.snapshot("copy").wait()
        store.volume.write_zeroes(8192, 100)
        store.volume.write(100, b"last")
    return made


@pytest.fixture(params=["unserved", "served"])
def anyhow(request: pytest.FixtureRequest, path: Path) -> Iterator[Path]:
    """The same store, as nobody has it open, and while it is served."""
    if request.param == "unserved":
        yield path
        return
    with jrnl.open(path) as store, ControlServer(store):
        yield path
