"""The serving side: operations on a store of this process, asked for through a socket."""

from __future__ import annotations

import json
import os
import socket
import time
from contextlib import suppress
from threading import BoundedSemaphore, Lock, Thread
from typing import TYPE_CHECKING, Any, Self

from jrnl.control.table import OPERATIONS
from jrnl.control.wire import (
    REQUEST_MAX_BYTES,
    SOCKET,
    Gone,
    TooLong,
    address,
    close,
    encode,
    told,
    user_of,
)
from jrnl.errors import InvalidArgument, JrnlError, StoreLocked

if TYPE_CHECKING:
    from jrnl.control.report import Row
    from jrnl.store import Store

CONNECTIONS_MAX = 32
REQUEST_SECONDS = 10.0  # in which a client has to ask
_SEND_SECONDS = 30.0  # in which it has to take rows, or the result
_TELL_SECONDS = 0.1  # between two words of progress


class ControlServer:
    """Lets other processes of the same user, and root, do operations on a store.

    It listens at ``control.sock`` in the store's folder, which only this user can connect to; one
    that a killed process has left is replaced. Each request is answered by a thread of its own, so
    that what holds for threads holds here: any operation may come at any time.

    Parameters
    ----------
    store : Store
        On disk, and open for writing.
    connections_max, request_seconds
        How many clients there may be at a time, and how long one may take to ask.

    Attributes
    ----------
    closing : bool
        Whether what is under way is to end.

    Raises
    ------
    InvalidArgument
        The store is in memory, or is only read.
    StoreLocked
        Somebody listens there already.
    OSError
    """

    def __init__(
        self,
        store: Store,
        *,
        connections_max: int = CONNECTIONS_MAX,
        request_seconds: float = REQUEST_SECONDS,
    ) -> None:
        options = store.options
        if options.path is None or options.mode == "r":
            raise InvalidArgument("only a store on disk that is open for writing has a socket")
        self._store, self._request_seconds = store, request_seconds
        self._room = BoundedSemaphore(connections_max)
        self._lock, self.closing = Lock(), False
        self._clients: dict[Thread, socket.socket] = {}
        self._folder = os.open(options.path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self._listener = _listen(self._folder)
            self._made = os.stat(SOCKET, dir_fd=self._folder, follow_symlinks=False)
        except BaseException:
            os.close(self._folder)
            raise
        self._thread = Thread(target=self._accept, name="jrnl control", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Take no more requests, and wait for what is under way. Closing twice is fine."""
        with self._lock:
            if self.closing:
                return
            self.closing = True
        self._remove()
        close(self._listener)
        self._thread.join()
        with self._lock:
            clients = dict(self._clients)
        for client in clients.values():  # who has not asked yet is not waited for
            with suppress(OSError):
                client.shutdown(socket.SHUT_RD)
        for thread in clients:
            thread.join()
        os.close(self._folder)

    def _remove(self) -> None:
        with suppress(OSError):
            there = os.stat(SOCKET, dir_fd=self._folder, follow_symlinks=False)
            if os.path.samestat(there, self._made):
                os.unlink(SOCKET, dir_fd=self._folder)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                if self.closing:
                    return
                time.sleep(_TELL_SECONDS)  # no descriptors left, say
                continue
            if not self._room.acquire(blocking=False):
                client.setblocking(False)
                _answer(client, JrnlError("too many clients are asking; try again"))
                client.close()
                continue
            thread = Thread(target=self._serve, args=(client,), daemon=True)
            with self._lock:
                self._clients[thread] = client
            thread.start()

    def _serve(self, client: socket.socket) -> None:
        try:
            client.settimeout(self._request_seconds)
            self._answer_one(client)
        except OSError:
            pass  # the client has gone
        finally:
            with self._lock:
                self._clients = {
                    thread: each for thread, each in self._clients.items() if each is not client
                }
            client.close()
            self._room.release()

    def _answer_one(self, client: socket.socket) -> None:
        try:
            _check_user(client)
            line = _first_line(client, self._request_seconds)
            if line is None:
                return
            name, arguments = _request(line)
            operation = OPERATIONS[name]
            operation.check(arguments)
        except (JrnlError, TimeoutError) as error:
            _answer(client, error)
            return
        client.settimeout(_SEND_SECONDS)
        with self._lock:
            if self.closing:
                return  # nothing was said: the client opens the store itself
            client.sendall(encode({"begun": True}))
        report = _Sent(self, client)
        try:
            result = operation(self._store, report, arguments)
        except Gone:
            return
        except Exception as error:  # whatever it is, the client is told, and the server goes on
            report.finish()
            _answer(client, error)
        else:
            report.finish()
            client.sendall(encode({"result": result}))


def _listen(folder: int) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        os.fchmod(listener.fileno(), 0o600)  # the mode that its file is made with
        _remove_stale(folder)
        listener.bind(address(folder))
        listener.listen(CONNECTIONS_MAX)
    except BaseException:
        listener.close()
        raise
    return listener


def _remove_stale(folder: int) -> None:
    """Remove a socket at which nobody listens. Raises StoreLocked where somebody does."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(address(folder))
        except FileNotFoundError:
            return
        except ConnectionRefusedError:
            os.unlink(SOCKET, dir_fd=folder)
            return
        except OSError:
            pass
    raise StoreLocked(f"another process listens at {SOCKET} in the store already")


def _check_user(client: socket.socket) -> None:
    if user_of(client) not in (0, os.geteuid()):
        raise JrnlError("only the user who serves the store, and root, may ask")


def _first_line(client: socket.socket, seconds: float) -> bytes | None:
    """Return the request; None where the client closes before. It has so long for all of it."""
    deadline = time.monotonic() + seconds
    pending = b""
    while b"\n" not in pending:
        if len(pending) > REQUEST_MAX_BYTES:
            raise TooLong(f"a request has at most {REQUEST_MAX_BYTES} bytes")
        client.settimeout(max(0.001, deadline - time.monotonic()))
        piece = client.recv(REQUEST_MAX_BYTES)
        if not piece:
            return None
        pending += piece
    return pending.partition(b"\n")[0]


def _request(line: bytes) -> tuple[str, dict[str, Any]]:
    try:
        asked = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InvalidArgument("a request is one JSON object on one line") from error
    if not isinstance(asked, dict) or not asked.keys() <= {"op", "args"}:
        raise InvalidArgument("a request is an object with op and args")
    name, arguments = asked.get("op"), asked.get("args", {})
    if not isinstance(name, str) or name not in OPERATIONS:
        raise InvalidArgument(f"there is no operation {name!r}; there is {', '.join(OPERATIONS)}")
    return name, arguments


def _answer(client: socket.socket, error: BaseException) -> None:
    with suppress(OSError):
        client.sendall(encode({"error": told(error)}))


class _Sent:
    """A report through a socket.

    Progress may be told with the store's lock held, so it never waits for the client: what the
    socket does not take at once is sent before the next word, and words in between are left out.
    """

    def __init__(self, server: ControlServer, client: socket.socket) -> None:
        self._server, self._client = server, client
        self._left, self._next = b"", 0.0

    def progress(self, done: int, total: int) -> None:
        """Tell the client, if it listens. Raises Gone; JrnlError where the server is closed."""
        if self._server.closing:
            raise JrnlError("the process that serves the store is being stopped")
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + _TELL_SECONDS
        line = self._left or encode({"progress": [int(done), int(total)]})
        try:
            sent = self._client.send(line, socket.MSG_DONTWAIT)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            raise Gone("the client has gone") from error
        self._left = line[sent:] if sent else self._left

    def rows(self, rows: list[Row]) -> None:
        """Send rows; waits for the client, but not for ever. Raises Gone."""
        try:
            self.finish()
            self._client.sendall(encode({"rows": rows}))
        except OSError as error:
            raise Gone("the client has gone") from error

    def finish(self) -> None:
        """Send what is left of a word of progress."""
        left, self._left = self._left, b""
        self._client.sendall(left)
