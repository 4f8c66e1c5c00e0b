"""The bytes of a handshake: read and written by descriptors, before a deadline."""

from __future__ import annotations

import os
import select
import time


class Gone(Exception):
    """The peer has gone, is too slow, or says what is no NBD."""


class Channel:
    """One connection, while it is negotiated.

    Parameters
    ----------
    source, target : int
        Descriptors; one socket, or two pipes.
    seconds : float
        After which the handshake is over, whatever the peer does.
    """

    def __init__(self, source: int, target: int, seconds: float) -> None:
        self.source, self.target = source, target
        self._until = time.monotonic() + seconds

    def read(self, length: int) -> bytes:
        """Return `length` bytes. Raises Gone."""
        parts, left = [], length
        while left:
            self._wait(self.source, select.POLLIN)
            try:
                part = os.read(self.source, min(left, 65536))
            except OSError as error:
                raise Gone(str(error)) from error
            if not part:
                raise Gone("it has disconnected")
            parts.append(part)
            left -= len(part)
        return b"".join(parts)

    def skip(self, length: int) -> None:
        """Read `length` bytes and forget them. Raises Gone."""
        while length:
            part = min(length, 65536)
            self.read(part)
            length -= part

    def write(self, data: bytes) -> None:
        """Write all of `data`. Raises Gone."""
        view = memoryview(data)
        while view:
            self._wait(self.target, select.POLLOUT)
            try:
                view = view[os.write(self.target, view[:65536]) :]
            except OSError as error:
                raise Gone(str(error)) from error

    def _wait(self, descriptor: int, event: int) -> None:
        left = self._until - time.monotonic()
        poll = select.poll()
        poll.register(descriptor, event)
        if left <= 0 or not poll.poll(left * 1000):
            raise Gone("its handshake has taken too long")
