"""A store that is served, and clients of it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

import jrnl
import jrnl.nbd
from tests.model.nbd_client import Client


class Served:
    """Servers of one test, and clients, all closed at its end."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder, self.stack, self.count = folder, stack, 0
        self.path = ""

    def __call__(self, store: jrnl.Store, **options: Any) -> jrnl.nbd.Server:
        self.count += 1
        self.path = str(self.folder / f"s{self.count}")
        return self.stack.enter_context(jrnl.nbd.serve(store, unix=self.path, **options))

    def client(self, name: str | None = "", **options: Any) -> Client:
        """A connection, negotiated unless `name` is None."""
        client = self.stack.enter_context(Client(self.path))
        if name is not None:
            client.go(name, **options)
        return client

    def uri(self, name: str = "") -> str:
        return f"nbd+unix:///{name}?socket={self.path}"


@pytest.fixture
def served() -> Iterator[Served]:
    """A function that serves a store on a Unix socket; a socket's path must be short."""
    with tempfile.TemporaryDirectory(prefix="jrnl-") as folder, ExitStack() as stack:
        yield Served(Path(folder), stack)


@pytest.fixture
def store() -> Iterator[jrnl.Store]:
    with jrnl.create(size="1MiB", journal="1MiB") as made:
        yield made


Serve = Callable[..., jrnl.nbd.Server]
