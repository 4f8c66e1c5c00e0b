"""Where a standby lies: made beside its place, and put there whole; one follower at a time."""

from __future__ import annotations

import fcntl
import os
import shutil
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from jrnl.api import open_store, split_path
from jrnl.errors import StoreExists, StoreLocked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from jrnl.store import Store

MARK = "standby"  # a file in the store's folder, for as long as it only follows


class StandbyPlace:
    """The folder of a standby, and what lies beside it while another one is made.

    A store that is made again is whole, under a name of its own, before the old one is given
    another; so whatever is interrupted, one of the two is found and put in its place.

    Parameters
    ----------
    path : str or path

    Raises
    ------
    StoreLocked
        Another process follows into this place.
    FileNotFoundError, OSError
        The folder that it is to lie in is not there.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._parent, self._name = split_path(path)
        self.path = os.path.join(self._parent, self._name)
        self._next = os.path.join(self._parent, f".{self._name}.next")
        self._old = os.path.join(self._parent, f".{self._name}.old")
        self._lock_path = os.path.join(self._parent, f".{self._name}.follow")
        self._lock = self._locked()
        try:
            self._settle()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let another one follow. Closing twice is fine."""
        lock, self._lock = self._lock, -1
        if lock >= 0:
            with suppress(FileNotFoundError):
                os.unlink(self._lock_path)
            os.close(lock)

    def is_there(self) -> bool:
        """Whether there is a store, or something else."""
        return os.path.lexists(self.path)

    def is_marked(self) -> bool:
        """Whether it is a standby, which holds nothing that the archive has not."""
        return os.path.exists(os.path.join(self.path, MARK))

    def mark(self) -> None:
        """Say that it is one; what it holds has been held against the archive."""
        if not self.is_marked():
            _mark(self.path)

    def open(self, clock: Callable[[], int]) -> Store:
        """Open the store, to make entries with the times that this clock gives."""
        return open_store(self.path, clock=clock)

    def promoted(self) -> Store:
        """Open the store as one that is written to: it is no standby any more."""
        with suppress(FileNotFoundError):
            os.unlink(os.path.join(self.path, MARK))
        _sync(self.path)
        return open_store(self.path)

    @contextmanager
    def making(self) -> Iterator[str]:
        """Give the path at which to make the next store; at the end it takes the place."""
        shutil.rmtree(self._next, ignore_errors=True)
        try:
            yield self._next
            _mark(self._next)
        except BaseException:
            shutil.rmtree(self._next, ignore_errors=True)
            raise
        if self.is_there():
            os.rename(self.path, self._old)
        os.rename(self._next, self.path)
        _sync(self._parent)
        shutil.rmtree(self._old, ignore_errors=True)

    def _settle(self) -> None:
        """Finish, or take back, what was interrupted."""
        if not self.is_there():
            if os.path.exists(os.path.join(self._next, MARK)):
                os.rename(self._next, self.path)
            elif os.path.lexists(self._old):
                os.rename(self._old, self.path)
            _sync(self._parent)
        if self.is_there() and not os.path.isdir(self.path):
            raise StoreExists(f"there is something at {self.path!r} that is no store")
        for left in (self._next, self._old):
            if os.path.lexists(left):
                shutil.rmtree(left, ignore_errors=True)

    def _locked(self) -> int:
        """Return the descriptor of a file that is locked, and still there. Raises StoreLocked."""
        while True:
            lock = os.open(self._lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.path.samestat(os.fstat(lock), os.stat(self._lock_path)):
                    return lock
            except BlockingIOError as error:
                os.close(lock)
                raise StoreLocked(
                    f"{self.path!r} is followed into already, by another process or in this one"
                ) from error
            except FileNotFoundError:  # the one that had it has ended just now
                pass
            os.close(lock)


def _mark(path: str) -> None:
    descriptor = os.open(os.path.join(path, MARK), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    _sync(path)


def _sync(folder: str) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
