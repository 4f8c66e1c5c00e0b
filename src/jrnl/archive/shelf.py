"""What was read from an archive and is kept in memory: so many bytes, the latest used."""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock

Source = tuple[str, int]  # the object's key, and which part of it


class Shelf:
    """A cache with a bound; what was not used for the longest time goes first.

    Parameters
    ----------
    most_bytes : int
        What is larger on its own is not kept at all.
    """

    def __init__(self, most_bytes: int) -> None:
        self.most_bytes = most_bytes
        self.bytes = 0
        self._parts: OrderedDict[Source, bytes] = OrderedDict()
        self._lock = Lock()

    def get(self, source: Source) -> bytes | None:
        """Return a part, or None where it is not there."""
        with self._lock:
            found = self._parts.get(source)
            if found is not None:
                self._parts.move_to_end(source)
            return found

    def put(self, source: Source, part: bytes) -> None:
        """Keep a part."""
        with self._lock:
            self.bytes -= len(self._parts.pop(source, b""))
            if len(part) > self.most_bytes:
                return
            self._parts[source] = part
            self.bytes += len(part)
            while self.bytes > self.most_bytes:
                _, oldest = self._parts.popitem(last=False)
                self.bytes -= len(oldest)

    def clear(self) -> None:
        """Keep nothing."""
        with self._lock:
            self._parts.clear()
            self.bytes = 0
