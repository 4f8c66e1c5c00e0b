"""Folders: where a store's files lie. Tests put a simulated disk in the place of `Folder`."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import stat
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

from jrnl._core import CallbackDevice, FileDevice, path_of
from jrnl.errors import StoreLocked, naming

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from typing import Self

_CLONE = 0x40049409  # ioctl FICLONE, linux/fs.h


class Place(Protocol):
    """What a store needs of a folder. All names are plain, without a slash."""

    def names(self) -> list[str]:
        """Names of the files and folders in it."""

    def make(self, name: str) -> Place:
        """Make a folder. Raises FileExistsError; StoreLocked where somebody removes it at once."""

    def clear(self, name: str) -> None:
        """Remove a folder that an interrupted creation has left: nobody has it locked."""

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

    def _naming(self, name: str = "") -> AbstractContextManager[None]:
        """Have errors name the whole path of `name` in this folder, or of the folder itself."""
        return naming(lambda: os.path.join(path_of(self._descriptor) or "", name).rstrip("/"))

    def names(self) -> list[str]:
        """Return the names of the files and folders in it."""
        # Of its own: a descriptor has one place in the list, whoever reads it.
        with self._naming():
            own = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self._descriptor)
            try:
                return os.listdir(own)
            finally:
                os.close(own)

    def make(self, name: str) -> Folder:
        """Make a folder. Raises FileExistsError; StoreLocked where somebody removes it at once."""
        with self._naming(name):
            os.mkdir(name, dir_fd=self._descriptor)
        try:
            return self.folder(name)
        except FileNotFoundError as error:
            raise StoreLocked(f"somebody has removed the new folder {name!r}") from error

    def clear(self, name: str) -> None:
        """Remove a folder that an interrupted creation has left: nobody has it locked.

        Once it is locked it is what the name says, or its maker has given it another one before.
        """
        with suppress(OSError, StoreLocked), self.folder(name) as folder:
            folder.lock(True)
            there = os.stat(name, dir_fd=self._descriptor, follow_symlinks=False)
            if os.path.samestat(there, os.fstat(folder._descriptor)):
                self.remove(name)

    def folder(self, name: str) -> Folder:
        """Open a folder. Raises FileNotFoundError, NotADirectoryError."""
        with self._naming(name):
            return Folder(name, self._descriptor)

    def create(self, name: str, size: int) -> FileDevice:
        """Make a sparse file of `size` bytes. Raises FileExistsError."""
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        with self._naming(name):
            device = FileDevice(os.open(name, flags, 0o666, dir_fd=self._descriptor))
        device.truncate(size)
        return device

    def open(self, name: str, writable: bool) -> FileDevice:
        """Open a plain file, no link or folder. Raises FileNotFoundError."""
        flags = (os.O_RDWR if writable else os.O_RDONLY) | os.O_CLOEXEC | os.O_NOFOLLOW
        with self._naming(name):
            device = FileDevice(os.open(name, flags | os.O_NONBLOCK, dir_fd=self._descriptor))
            if not stat.S_ISREG(os.fstat(device.fileno()).st_mode):
                device.close()
                raise OSError(errno.EINVAL, "this is no plain file")
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
        with self._naming(new):
            if new in self.names():
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
            try:
                os.rename(old, new, src_dir_fd=self._descriptor, dst_dir_fd=self._descriptor)
            except OSError as error:  # somebody was faster: a store's folder is never empty
                if error.errno in (errno.ENOTEMPTY, errno.ENOTDIR, errno.EISDIR):
                    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST)) from error
                raise

    def remove(self, name: str) -> None:
        """Remove a file, or a folder with all that is in it."""
        with self._naming(name):
            try:
                os.unlink(name, dir_fd=self._descriptor)
            except IsADirectoryError:
                shutil.rmtree(name, dir_fd=self._descriptor)

    def sync(self) -> None:
        """Make its names durable."""
        with self._naming():
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
