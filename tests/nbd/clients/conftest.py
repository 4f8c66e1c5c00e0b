"""A store that another process serves, which can be killed."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.model.mounts import fused
from tests.model.tools import PATIENCE

PROGRAM = (sys.executable, "-m", "jrnl", "serve")


class Outside:
    """The server of a store on disk, in a process of its own.

    Attributes
    ----------
    path : Path
        Of the store; the test makes it.
    """

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.path, self.socket, self.folder = folder / "s.jrnl", folder / "nbd", folder
        self._stack, self._count = stack, 0
        self._process: subprocess.Popen[str] | None = None
        stack.callback(self.kill)

    def start(self) -> None:
        """Serve the store; return once clients can connect."""
        arguments = [*PROGRAM, str(self.path), "--unix", str(self.socket)]
        self._process = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        assert "nbd+unix:" in self._process.stdout.readline()

    def stop(self) -> None:
        """Let it end by itself: it flushes and closes the store."""
        self._end(signal.SIGTERM)
        assert self._process is not None and self._process.returncode == 0

    def kill(self) -> None:
        """Kill it, in the middle of whatever it does."""
        self._end(signal.SIGKILL)

    def _end(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(PATIENCE)
            assert self._process.stdout is not None
            self._process.stdout.close()

    def uri(self, name: str = "") -> str:
        return f"nbd+unix:///{name}?socket={self.socket}"

    def fused(self, name: str, stack: ExitStack) -> Path:
        """Offer an export as a file, until `stack` is closed."""
        self._count += 1
        return stack.enter_context(fused(self.uri(name), self.folder / f"fuse{self._count}"))


@pytest.fixture
def outside() -> Iterator[Outside]:
    """A server in a process of its own; a socket's path must be short."""
    with tempfile.TemporaryDirectory(prefix="jrnl-") as folder, ExitStack() as stack:
        yield Outside(Path(folder), stack)
