"""The server: listeners, connections, and their end."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING
from urllib.parse import quote

from jrnl.closeable import ClosesItself
from jrnl.errors import InvalidArgument, JrnlError
from jrnl.nbd import listeners
from jrnl.nbd.connection import Connection, Spare
from jrnl.nbd.exports import Exports

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from jrnl.store import Store

_log = logging.getLogger("jrnl.nbd")
_PATIENCE_S = 5.0  # for clients to take their replies, once the server ends


class Server(ClosesItself):
    """A store served by NBD; made by `serve`.

    Attributes
    ----------
    uri : str or None
        Where it listens, as an NBD URI without an export's name: the Unix socket, where there is
        one; None with standard input alone.
    uris : list of str
        All places where it listens: the Unix socket, the TCP port.
    port : int or None
        TCP.
    """

    def __init__(self, store: Store, exports: Exports, limits: Limits) -> None:
        self._store, self._exports, self._limits = store, exports, limits
        self.uris: list[str] = []
        self.port: int | None = None
        self._spare = Spare(limits.spare_bytes, 2 * limits.handshake_s)
        self._listeners: list[tuple[socket.socket, str | None]] = []
        self._connections: dict[Connection, threading.Thread] = {}
        self._acceptors: list[threading.Thread] = []
        self._mutex = threading.RLock()  # of who is taken on; a signal's handler may come in
        self._closes = threading.Lock()  # taken once, and for good
        self._pid = os.getpid()
        self._ended = _Ended()
        self._closing = False
        store._session.on_replaced.append(self._replaced)

    def __repr__(self) -> str:
        return f"<jrnl.nbd.Server {self.uri or 'on standard input'}, {len(self.clients)} clients>"

    @property
    def uri(self) -> str | None:
        """Where it listens, first of all."""
        return self.uris[0] if self.uris else None

    @property
    def clients(self) -> list[dict[str, int | str | None]]:
        """What each connection has asked for: `export`, and counts since it began."""
        return [{"export": each.export, **each.counters} for each in self._connections.copy()]

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until it is closed, or with standard input until that client has gone.

        Signals are heard meanwhile. Returns whether that has happened.
        """
        return self._ended.wait(seconds)

    def close(self) -> None:
        """Take no more requests, answer those that are here, flush the store. Twice is fine.

        A signal's handler may call it, and what runs on a connection's thread (`on_low`), whose own
        client is then not waited for. In a forked child, whose connections are its parent's, it
        only closes the child's own ends of what is listened on.
        """
        forked = os.getpid() != self._pid  # looked at first: a lock may be held by nobody
        if not self._closes.acquire(blocking=False):
            return
        try:
            if forked:
                self._closing = True
            else:
                with self._mutex:  # who is taken on at this moment is among them from here on
                    self._closing = True
            self._deafen(forked)
            if not forked:
                self._spare.end()
                self._disconnect(0, socket.SHUT_RD)
                self._disconnect(_PATIENCE_S, socket.SHUT_RDWR)
        finally:
            with suppress(ValueError):
                self._store._session.on_replaced.remove(self._replaced)
            try:
                if not forked and not self._store._engine.closed:
                    self._store.flush()
            finally:
                self._ended.set()

    def _deafen(self, forked: bool) -> None:
        """Listen no more."""
        for listener, path in self._listeners:
            if not forked:
                with suppress(OSError):
                    listener.shutdown(socket.SHUT_RDWR)  # whoever accepts is woken
            listener.close()
            if path is not None and not forked:
                listeners.remove(path)

    def _disconnect(self, patience_s: float, how: int) -> None:
        """End what is still there after some time; then wait for its threads."""
        until = time.monotonic() + patience_s
        me = threading.current_thread()
        there = self._connections.copy().items()  # in one step: threads take themselves out
        for connection, thread in there:
            if patience_s and thread is not me and thread.is_alive():
                thread.join(max(0.0, until - time.monotonic()))
            # Who has called this from its own thread gets the reply to what that came of.
            connection.cut(socket.SHUT_RD if thread is me else how)
        until = time.monotonic() + patience_s
        for _, thread in there:
            if patience_s and thread is not me and thread.is_alive():
                thread.join(max(0.0, until - time.monotonic()))

    def _replaced(self) -> None:
        if os.getpid() != self._pid:
            return  # the connections are the parent's
        self._exports.production_replaced()
        for connection in self._connections.copy():
            connection.production_replaced()

    # Connections.

    def _listen(self, listener: socket.socket, path: str | None) -> None:
        self._listeners.append((listener, path))
        thread = threading.Thread(target=self._accept, args=(listener,), daemon=True,
                                  name="jrnl-nbd-accept")  # fmt: skip
        self._acceptors.append(thread)
        thread.start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError as error:
                if self._closing or listener.fileno() < 0:  # shut down, or closed already
                    return
                _log.warning("no connection can be taken: %s", error)
                time.sleep(0.1)  # out of descriptors: some will come back
                continue
            try:
                if client.family != socket.AF_UNIX:
                    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._begin(client.fileno(), client.fileno(), client.close)
            except (OSError, RuntimeError, MemoryError) as error:  # no thread can be started, say
                _log.warning("a connection was refused: %s", error)
                client.close()

    def _begin(self, source: int, target: int, close: Callable[[], object]) -> None:
        """Serve a connection on a thread of its own; refuse it where there are too many."""
        connection = Connection(source, target, self._exports, self._spare)
        thread = threading.Thread(target=self._serve, args=(connection, close), daemon=True,
                                  name="jrnl-nbd")  # fmt: skip
        with self._mutex:
            taken = not self._closing and len(self._connections) < self._limits.connections
            try:
                if taken:
                    self._connections[connection] = thread  # first: it takes itself out
                    thread.start()
            except BaseException:
                self._connections.pop(connection, None)
                connection.close()
                raise
        if not taken:
            _log.warning("a connection was refused: there are %d", self._limits.connections)
            connection.close()
            close()

    def _serve(self, connection: Connection, close: Callable[[], object]) -> None:
        why = "it has left"
        try:
            why = connection.serve(self._limits.handshake_s)
        except Exception:
            _log.exception("a connection ended by an error")
        finally:
            self._connections.pop(connection, None)
            connection.close()
            _log.info("client of %s: %s", connection.export or "no export", why)
            close()

    def _serve_pipes(self) -> None:
        """Serve standard input and output; what else is printed must go elsewhere."""
        source, target = os.dup(0), os.dup(1)

        def close() -> None:
            os.close(source)
            os.close(target)
            self._ended.set()

        self._begin(source, target, close)


class _Ended:
    """What is waited for: an event that a signal's handler may set while it is being waited for.

    threading.Event holds a lock then, which its own thread would wait for in the handler.
    """

    def __init__(self) -> None:
        self._is_set = False
        self._until = threading.Lock()
        self._until.acquire()

    def set(self) -> None:
        self._is_set = True
        with suppress(RuntimeError):  # it was set before
            self._until.release()

    def wait(self, seconds: float | None) -> bool:
        """Wait until it is set; return whether it is."""
        if self._is_set:
            return True
        left = -1 if seconds is None else min(max(seconds, 0), threading.TIMEOUT_MAX)
        if self._until.acquire(timeout=left):
            with suppress(RuntimeError):
                self._until.release()  # the next one who waits
        return self._is_set


class Limits:
    """What clients may ask of a server.

    Parameters
    ----------
    connections : int
        At one time. Each has up to 4 MiB of memory.
    handshake_s : float
        Seconds, from connecting to having chosen an export; and how long a client that has spare
        room may do nothing. Who waits for some gives up after twice that.
    spare_bytes : int
        For requests of more than 2 MiB, all connections together; at least 64 MiB.
    """

    def __init__(self, connections: int, handshake_s: float, spare_bytes: int) -> None:
        self.connections, self.handshake_s = connections, handshake_s
        self.spare_bytes = max(spare_bytes, 64 << 20)


def serve(
    store: Store,
    unix: str | os.PathLike[str] | None = None,
    port: int | None = None,
    *,
    host: str = "127.0.0.1",
    sockets: Sequence[socket.socket] = (),
    stdio: bool = False,
    read_only: bool = False,
    max_connections: int = 64,
    handshake_s: float = 30.0,
    spare_bytes: int = 256 << 20,
) -> Server:
    """Serve a store's volumes, and its earlier states, by NBD; return at once.

    Exports are ``VOLUME``, ``VOLUME@POINT`` for reading, ``VOLUME@POINT+rw`` for a scratch branch,
    and ``@mark``, whose writes set marks. An empty name is the only volume. Requests are answered
    on a thread for each connection, without the GIL.

    Parameters
    ----------
    store : Store
        It stays the caller's, who closes the server first.
    unix : path, optional
        Listen on a Unix socket of mode 0600.
    port : int, optional
        Listen on TCP; 0 for a free port.
    host : str
        Of the TCP port: loopback, unless another address is named. There is no encryption, and
        whoever connects may write.
    sockets : sequence of socket.socket
        That listen already.
    stdio : bool
        Serve the one client on standard input and output.
    read_only : bool
        Take no writes and no marks.
    max_connections, handshake_s, spare_bytes
        Limits: connections at one time; seconds for a handshake; bytes for requests of more than
        2 MiB, of which a client may send up to 32 MiB. In the midst of such a request a client may
        do nothing for `handshake_s`, too.

    Raises
    ------
    InvalidArgument
        It is not said where to listen, or a limit is not positive.
    StoreClosed
    OSError
        The address is in use, or may not be used.
    """
    if unix is None and port is None and not sockets and not stdio:
        raise InvalidArgument("say where to listen: unix=, port=, sockets= or stdio=True")
    if max_connections < 1 or handshake_s <= 0:
        raise InvalidArgument("max_connections and handshake_s must be positive")
    store._engine.check_not_closed()
    read_only = read_only or store.options.mode == "r"
    limits = Limits(max_connections, handshake_s, spare_bytes)
    server = Server(store, Exports(store, read_only), limits)
    try:
        if unix is not None:
            path = os.fspath(unix)
            server._listen(listeners.listen_unix(path), path)
            server.uris.append(f"nbd+unix:///?socket={quote(os.path.abspath(path))}")
        if port is not None:
            listener = listeners.listen_tcp(host, port)
            server.port = listener.getsockname()[1]
            shown = f"[{host}]" if ":" in host else host
            server.uris.append(f"nbd://{shown}:{server.port}")
            server._listen(listener, None)
        for listener in sockets:
            server._listen(listener, None)
        if stdio:
            server._serve_pipes()
    except BaseException:
        with suppress(JrnlError, OSError):
            server.close()
        raise
    return server
