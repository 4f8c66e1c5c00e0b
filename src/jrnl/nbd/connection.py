"""One connection: its handshake, then its requests, on a thread of its own."""

from __future__ import annotations

import errno
import os
import socket
import struct
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from jrnl._core import Transmission
from jrnl.nbd import protocol
from jrnl.nbd.channel import Channel, Gone
from jrnl.nbd.negotiate import Agreed, Handshake

if TYPE_CHECKING:
    from jrnl.nbd.exports import Export, Exports

_PATIENCE_MAX_MS = (1 << 31) - 1


class Spare:
    """Room for requests longer than what each connection has: a bound on bytes in flight.

    Parameters
    ----------
    total : int
        Bytes.
    seconds : float
        After which who waits for some gives up.
    """

    def __init__(self, total: int, seconds: float) -> None:
        self._left, self._seconds = total, min(seconds, threading.TIMEOUT_MAX)
        self._changed = threading.Condition()
        self._over = False

    def take(self, count: int) -> bool:
        """Wait for `count` bytes; False where that takes too long, or the server ends meanwhile."""
        with self._changed:
            self._changed.wait_for(lambda: self._left >= count or self._over, self._seconds)
            if self._over or self._left < count:
                return False
            self._left -= count
            return True

    def give(self, count: int) -> None:
        """Give them back."""
        with self._changed:
            self._left += count
            self._changed.notify_all()

    def end(self) -> None:
        """Let nobody wait any more."""
        with self._changed:
            self._over = True
            self._changed.notify_all()


class Connection:
    """A client.

    Parameters
    ----------
    source, target : int
        Descriptors: a socket twice, or two pipes.
    exports : Exports
    spare : Spare
    """

    def __init__(self, source: int, target: int, exports: Exports, spare: Spare) -> None:
        self._source, self._target, self._exports, self._spare = source, target, exports, spare
        self._stop = -1 if source == target else os.eventfd(0)
        self._mutex = threading.RLock()  # a signal's handler may come in, and cut it off
        self._closed = self._over = False
        self._export: Export | None = None
        self._agreed: Agreed | None = None
        self._transmission: Transmission | None = None

    @property
    def export(self) -> str | None:
        """The name of what it has chosen, once it has."""
        return None if self._export is None else self._export.name

    @property
    def counters(self) -> dict[str, int]:
        """What it was served so far."""
        return {} if self._transmission is None else self._transmission.counters

    def serve(self, seconds: float) -> str:
        """Serve it until it goes; return why it went."""
        try:
            channel = Channel(self._source, self._target, seconds)
            agreed = Handshake(channel, self._exports).run()
        except Gone as error:
            return str(error)
        if agreed is None:
            return "it has left"
        self._agreed, self._export = agreed, agreed.export
        try:
            self._transmission = Transmission(
                self._source, self._target, agreed.export.size, self._answer, self._spare,
                agreed.export.production, agreed.export.read_only, agreed.structured, self._stop,
                int(min(seconds * 1000, _PATIENCE_MAX_MS)),
            )  # fmt: skip
            if self._over:
                self._transmission.finish()
            self._transmission.serve()
        except MemoryError as error:
            return str(error)
        finally:
            self._exports.close(agreed.export)
        return "it has left"

    def cut(self, how: int = socket.SHUT_RDWR) -> None:
        """Break it off: no more is read from it, and with SHUT_RDWR nothing is sent, either."""
        self._over = True  # TCP goes on to read what comes
        if self._transmission is not None:
            self._transmission.finish()
        with self._mutex:
            if self._closed:
                return  # its descriptors may be others' by now
            if self._stop >= 0:
                os.eventfd_write(self._stop, 1)
            with suppress(OSError), socket.socket(fileno=os.dup(self._source)) as there:
                there.shutdown(how)

    def close(self) -> None:
        """Leave its descriptors alone from here on."""
        with self._mutex:
            self._closed = True
            if self._stop >= 0:
                os.close(self._stop)

    def production_replaced(self) -> None:
        """Break it off where it has cached production's bytes. The engine's lock is held."""
        if self._export is not None and self._export.production is not None:
            if self._transmission is not None:
                self._transmission.end()
            self.cut()

    def _answer(
        self, kind: int, flags: int, offset: int, length: int, data: bytes | None
    ) -> tuple[int, list[bytes]]:
        """Answer what C does not: an error's number, and the contents of the reply's chunks."""
        assert self._agreed is not None
        try:
            if kind == protocol.BLOCK_STATUS:
                return self._status(flags, offset, length)
            return 0, [self._agreed.export.answer(kind, flags, offset, length, data)]
        except Exception as error:
            return protocol.error_of(error), []

    def _status(self, flags: int, offset: int, length: int) -> tuple[int, list[bytes]]:
        """Return a chunk for each context that was agreed on."""
        assert self._agreed is not None
        if not self._agreed.contexts or not length:
            return errno.EINVAL, []
        most = 1 if flags & protocol.REQ_ONE else protocol.EXTENTS_MAX
        return 0, [
            struct.pack(">I", number) + context.status(offset, length, most)
            for number, context in enumerate(self._agreed.contexts, 1)
        ]
