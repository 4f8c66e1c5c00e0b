"""The wire: lines of JSON through a socket in the store's folder, and errors as JSON.

A client sends one request, ``{"op": name, "args": {...}}``. It is answered by ``{"begun": true}``
before anything is done, then by any number of ``{"progress": [done, total]}`` and
``{"rows": [...]}``, and by one ``{"result": ...}`` or ``{"error": {...}}`` at the end. Whoever
closes the connection ends it.
"""

from __future__ import annotations

import json
import os
import socket
import struct
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from jrnl import errors
from jrnl.errors import JrnlError

if TYPE_CHECKING:
    from collections.abc import Iterator

SOCKET = "control.sock"
REQUEST_MAX_BYTES = 64 << 10
ANSWER_MAX_BYTES = 256 << 20
_RECEIVE_BYTES = 64 << 10
_CREDENTIALS = struct.Struct("3i")  # struct ucred: process, user, group


class Gone(ConnectionError):
    """The other side has closed the connection, or takes too long."""


class TooLong(JrnlError):
    """A line that is longer than it may be."""


def address(folder: int) -> str:
    """Return a path of the socket in an opened folder, short enough wherever that lies.

    A socket's path has at most 107 bytes, and a store's may be longer.
    """
    return f"/proc/self/fd/{folder}/{SOCKET}"


def process_of(connection: socket.socket) -> int:
    """Return the number of the process on the other side, as the kernel knows it."""
    return _credentials(connection)[0]


def user_of(connection: socket.socket) -> int:
    """Return the user whose process is on the other side, as the kernel knows it."""
    return _credentials(connection)[1]


def _credentials(connection: socket.socket) -> tuple[int, ...]:
    told = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return _CREDENTIALS.unpack(told)


def encode(message: dict[str, Any]) -> bytes:
    """Return a message as a line."""
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"


def lines(connection: socket.socket, longest: int, first_seconds: float) -> Iterator[bytes]:
    """Yield lines until the other side closes; what is no whole line then is dropped.

    Raises
    ------
    TimeoutError
        The first line is not there after so many seconds; for the others there is no limit.
    TooLong, OSError
    """
    pending = bytearray()
    deadline = time.monotonic() + first_seconds
    waiting = True
    while True:
        piece = b""
        connection.settimeout(max(0.001, deadline - time.monotonic()) if waiting else None)
        with suppress(ConnectionResetError):
            piece = connection.recv(_RECEIVE_BYTES)
        if not piece:
            return
        searched = len(pending)
        pending += piece
        while (end := pending.find(b"\n", searched)) >= 0:
            line = bytes(pending[:end])
            del pending[: end + 1]
            searched, waiting = 0, False
            yield line
        if len(pending) > longest:
            raise TooLong(f"a line has at most {longest} bytes")


def told(error: BaseException) -> dict[str, Any]:
    """Return an error as JSON: its class, what it says, and what the system said."""
    said: dict[str, Any] = {"class": type(error).__name__, "message": str(error)}
    if isinstance(error, OSError):
        said["errno"], said["strerror"] = error.errno, error.strerror
        if isinstance(error.filename, str | bytes):
            said["filename"] = os.fsdecode(error.filename)
    return said


def raised(said: Any) -> Exception:
    """Return the exception for an error as JSON: of jrnl's own class, OSError, or JrnlError."""
    if not isinstance(said, dict):
        return JrnlError("the serving process gave an answer that is none")
    name, message = str(said.get("class")), str(said.get("message"))
    found = getattr(errors, name, None)
    known = found if isinstance(found, type) and issubclass(found, JrnlError) else None
    if isinstance(said.get("errno"), int) and (known is None or issubclass(known, OSError)):
        error = (known or OSError)(said["errno"], str(said.get("strerror")))
        assert isinstance(error, OSError)
        if isinstance(said.get("filename"), str):
            error.filename = said["filename"]
        return error
    if known is not None:
        return known(message)
    if name == "MemoryError":
        return JrnlError("the serving process has not enough memory")
    return JrnlError(f"the serving process failed: {name}: {message}")


def close(connection: socket.socket) -> None:
    """Close a connection that may be gone already."""
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
