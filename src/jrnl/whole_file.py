"""Files that are there whole or not at all, and never in the place of another one."""

from __future__ import annotations

import errno
import io
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from jrnl.errors import InvalidType, PathExists

Path = str | os.PathLike[str]

_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK)
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def whole_file(path: Path) -> Iterator[io.FileIO]:
    """Lend a new file, which has its name once the block has ended, and is durable then.

    Until then it lies beside it as ``.jrnl-new-...``; an exception in the block removes that.

    Raises
    ------
    PathExists
        There is something at the path, before the block or by its end.
    InvalidType, OSError
    """
    try:
        name = os.fsdecode(path)
    except TypeError as error:
        raise InvalidType(f"the path of a new file: {error}") from error
    _check_free(name)
    temporary = os.path.join(os.path.dirname(name), f".jrnl-new-{secrets.token_hex(8)}")
    try:
        file = io.FileIO(temporary, "x+")
    except OSError as error:
        error.filename = name
        raise
    try:
        with file:
            yield file
            os.fsync(file.fileno())
        _place(temporary, name)
        _sync_folder(os.path.dirname(name) or ".")
    except BaseException as error:
        with suppress(FileNotFoundError):
            os.unlink(temporary)
        if isinstance(error, OSError) and error.filename is None and error.errno in _NO_ROOM:
            error.filename = name
        raise


def _check_free(name: str) -> None:
    if os.path.lexists(name):
        raise PathExists(
            errno.EEXIST, "there is something there already; remove it, or use another path", name
        )


def _place(temporary: str, name: str) -> None:
    """Give a file its name, where that is free: a link fails where it is not."""
    try:
        os.link(temporary, name)
    except FileExistsError:
        _check_free(name)
        raise
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        _check_free(name)  # a file system without links: somebody else may come in between
        os.rename(temporary, name)
        return
    os.unlink(temporary)


def _sync_folder(folder: str) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
