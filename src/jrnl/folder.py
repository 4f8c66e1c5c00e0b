"""Folders: where a store's files lie. Tests put a simulated disk in the place of `Folder`."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import stat
from typing import TYPE_CHECKING, Protocol

from jrnl._core import CallbackDevice, FileDevice
from jrnl.errors import StoreLocked

if TYPE_CHECKING:
    from typing import Self

_CLONE = 0x40049409  # ioctl FICLONE, linux/fs.h


class Place(Protocol):
    """What a store needs of a folder. All names are plain, without a slash."""

    def names(self) -> list[str]:
        """Names of the files and folders in it."""

    def make(self, name: str) -> Place:
        """Make a folder. Raises FileExistsError."""

    def folder(self, name: str) -> Place:
        """Open a folder. Raises FileNotFoundError, NotADirectoryError."""

    def create(self, name: str, size: int) -> FileDevice | CallbackDevice:
        """Make a sparse file of `size` bytes. Raises FileExistsError."""

    def open(self, name: str, writable: bool) -> FileDevice | CallbackDevice:
        """Open a file. Raises FileNotFoundError."""

    def clone(self, source: str, target: str) -> bool:
        """Make `target` share the blocks of `source`, where the file system can; else make none."""

    def rename(self, old: str, new: str) -> None:
        """Give a file or folder another name. Raises FileExistsError."""

    def remove(self, name: str) -> None:
        """Remove a file, or a folder with all that is in it."""

    def sync(self) -> None:
        """Make its names durable."""

    def lock(self, exclusive: bool) -> None:
        """Take the lock that lasts until `close`. Raises StoreLocked."""

    def close(self) -> None:
        """Let go of the folder and its lock. Closing twice is fine."""


class Folder:
    """A folder of the file system; its descriptor carries the lock."""

    def __init__(self, path: str | os.PathLike[str], parent: int | None = None) -> None:
        self._descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY, dir_fd=parent)
        self._owner = 0  # the process that took the lock

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()

    def names(self) -> list[str]:
        """Return the names of the files and folders in it."""
        # Of its own: a descriptor has one place in the list, whoever reads it.
        own = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self._descriptor)
        try:
            return os.listdir(own)
        finally:
            os.close(own)

    def make(self, name: str) -> Folder:
        """Make a folder. Raises FileExistsError."""
        os.mkdir(name, dir_fd=self._descriptor)
        return self.folder(name)

    def folder(self, name: str) -> Folder:
        """Open a folder. Raises FileNotFoundError, NotADirectoryError."""
        return Folder(name, self._descriptor)

    def create(self, name: str, size: int) -> FileDevice:
        """Make a sparse file of `size` bytes. Raises FileExistsError."""
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        descriptor = os.open(name, flags, 0o666, dir_fd=self._descriptor)
        device = FileDevice(descriptor)
        os.ftruncate(descriptor, size)
        return device

    def open(self, name: str, writable: bool) -> FileDevice:
        """Open a plain file, no link or folder. Raises FileNotFoundError."""
        flags = (os.O_RDWR if writable else os.O_RDONLY) | os.O_CLOEXEC | os.O_NOFOLLOW
        device = FileDevice(os.open(name, flags | os.O_NONBLOCK, dir_fd=self._descriptor))
        if not stat.S_ISREG(os.fstat(device.fileno()).st_mode):
            device.close()
            raise OSError(errno.EINVAL, "this is no plain file", name)
        return device

    def clone(self, source: str, target: str) -> bool:
        """Make `target` share the blocks of `source`, where the file system can; else make none."""
        with_source = self.open(source, False)
        device = self.create(target, 0)
        try:
            fcntl.ioctl(device.fileno(), _CLONE, with_source.fileno())
        except OSError:
            self.remove(target)
            return False
        finally:
            device.close()
            with_source.close()
        return True

    def rename(self, old: str, new: str) -> None:
        """Give a file or folder another name. Raises FileExistsError."""
        if new in self.names():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), new)
        os.rename(old, new, src_dir_fd=self._descriptor, dst_dir_fd=self._descriptor)

    def remove(self, name: str) -> None:
        """Remove a file, or a folder with all that is in it."""
        try:
            os.unlink(name, dir_fd=self._descriptor)
        except IsADirectoryError:
            shutil.rmtree(name, dir_fd=self._descriptor)

    def sync(self) -> None:
        """Make its names durable."""
        os.fsync(self._descriptor)

    def lock(self, exclusive: bool) -> None:
        """Take the lock that lasts until `close`. Raises StoreLocked."""
        kind = fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH
        try:
            fcntl.flock(self._descriptor, kind | fcntl.LOCK_NB)
            self._owner = os.getpid()
        except BlockingIOError as error:
            raise StoreLocked(
                "the store is open already, in another process or in this one; close it there, "
                "or open it for reading only in both"
            ) from error

    def close(self) -> None:
        """Let go of the folder and its lock. Closing twice is fine."""
        descriptor, self._descriptor = getattr(self, "_descriptor", -1), -1
        if descriptor >= 0:
            if self._owner == os.getpid():  # a forked child has the descriptor, too
                fcntl.flock(descriptor, fcntl.LOCK_UN)
            os.close(descriptor)
