"""Sockets that clients connect to."""

from __future__ import annotations

import errno
import os
import socket
import stat
from contextlib import suppress

from jrnl.errors import InvalidArgument, naming

_BACKLOG = 64


def listen_unix(path: str) -> socket.socket:
    """Listen on a Unix socket that only this user can open (mode 0600).

    A stale one, which nobody listens on, gives way.

    Raises
    ------
    OSError
        EADDRINUSE: somebody listens there already, or something else has that path.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with naming(lambda: path):
            _remove_stale(path)
            listener.bind(path)
        os.chmod(path, 0o600)  # before anybody can connect: nobody listens yet
        listener.listen(_BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener


def _remove_stale(path: str) -> None:
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise FileExistsError(errno.EEXIST, "there is something else than a socket", path)
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except (ConnectionRefusedError, FileNotFoundError):
            remove(path)
            return
    raise OSError(errno.EADDRINUSE, "another server listens there", path)


def listen_tcp(host: str, port: int) -> socket.socket:
    """Listen on a TCP port; 0: one that is free. Raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=_BACKLOG)


def inherited() -> list[socket.socket]:
    """Return the sockets that systemd has handed over (LISTEN_FDS), or none.

    Source: sd_listen_fds(3). The variables are taken out of the environment.

    Raises
    ------
    InvalidArgument
        They are there, and no numbers.
    """
    owner, count = os.environ.pop("LISTEN_PID", None), os.environ.pop("LISTEN_FDS", None)
    os.environ.pop("LISTEN_FDNAMES", None)
    if count is None or owner != str(os.getpid()):
        return []
    if not count.isascii() or not count.isdigit():
        raise InvalidArgument(f"LISTEN_FDS must be a number, not {count!r}")
    return [socket.socket(fileno=descriptor) for descriptor in range(3, 3 + int(count))]


def remove(path: str) -> None:
    """Remove the path of a Unix socket that was listened on."""
    with suppress(FileNotFoundError):
        os.unlink(path)
