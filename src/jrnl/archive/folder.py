"""Objects in a local folder: whole or absent, and durable once they are created."""

from __future__ import annotations

import os
import secrets
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from jrnl.archive.obstored import ObstoreObjects
from jrnl.extras import need

if TYPE_CHECKING:
    from jrnl.archive.failures import Patience

_STAGING = "staging"
_LEFT_BEHIND_S = 24 * 3600


class FolderObjects(ObstoreObjects):
    """Objects in a folder. The first one that is created makes it; before, it holds nothing.

    `obstore` writes a file and links it by its name, and syncs neither. So a file is written by
    another name first, synced, linked, and then the folders are synced: a power cut leaves all of
    an object or none of it.
    """

    def __init__(self, path: str, patience: Patience | None = None) -> None:
        store = need("obstore.store", "archive")
        super().__init__(store.MemoryStore(), path, patience)  # holds nothing, and never will
        self._path = path
        self._make = store.LocalStore
        self._found: Any = None

    def _reach(self) -> Any:
        if self._found is None and os.path.isdir(self._path):
            self._found = self._make(prefix=self._path)
        return self._store if self._found is None else self._found

    def _put(self, key: str, body: bytes | memoryview) -> None:
        if self._found is None:
            self._prepare()
        folder = self._reach()
        staged = f"{_STAGING}/{secrets.token_hex(16)}"
        folder.put(staged, body, use_multipart=False)
        try:
            _sync(os.path.join(self._path, staged))
            folder.copy(staged, key, overwrite=False)  # a link, which fails where there is one
        finally:
            with suppress(FileNotFoundError):
                folder.delete(staged)

    def _create(self, key: str, body: bytes | memoryview) -> None:
        super()._create(key, body)
        # Also where it is there from an attempt before, which may have failed to sync them.
        while key:
            key = os.path.dirname(key)
            _sync(os.path.join(self._path, key))

    def _prepare(self) -> None:
        """Make the folder, and delete what a crash has left behind in it."""
        os.makedirs(self._path, exist_ok=True)
        _sync(os.path.dirname(self._path))
        folder = self._reach()
        for some in folder.list(_STAGING):
            for left in some:
                if time.time() - left["last_modified"].timestamp() > _LEFT_BEHIND_S:
                    with suppress(FileNotFoundError):
                        folder.delete(left["path"])


def _sync(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
