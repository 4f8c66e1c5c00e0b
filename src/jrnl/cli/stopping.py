"""The signals that end a command which goes on until it is told to stop."""

from __future__ import annotations

import os
import select
import signal
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from contextlib import ExitStack

_STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_ITSELF = 0  # no signal has that number
_ENDS = {_ITSELF, *(int(number) for number in _STOPPING)}


class Stopping:
    """Hears that a command is to end: by a signal, or by itself.

    It is the signal's C handler that tells: Python's own would not run before a thread that waits
    has something to read, where the signal comes just as it begins to.

    Parameters
    ----------
    restoring : ExitStack
        What was handled before is put back by it, once all is closed.
    """

    def __init__(self, restoring: ExitStack) -> None:
        self._heard, self._told = os.pipe()
        self._is_over = False
        for end in (self._heard, self._told):
            os.set_blocking(end, False)
            restoring.callback(os.close, end)
        before = signal.set_wakeup_fd(self._told, warn_on_full_buffer=False)
        restoring.callback(signal.set_wakeup_fd, before)
        for number in _STOPPING:
            handler = signal.getsignal(number)
            if handler is not signal.SIG_IGN:  # as nohup has it, and a shell for what is behind
                signal.signal(number, lambda *_: None)
                restoring.callback(signal.signal, number, handler)

    def end(self) -> None:
        """Have it end, from any thread."""
        os.write(self._told, bytes([_ITSELF]))

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until it is to end, for at most so long; return whether it is.

        Other signals that Python handles wake it up, too, and it goes on waiting.
        """
        deadline = None if seconds is None else time.monotonic() + seconds
        while not self._is_over:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            if not select.select([self._heard], [], [], left)[0]:
                break
            self._is_over = not _ENDS.isdisjoint(os.read(self._heard, 64))
        return self._is_over
