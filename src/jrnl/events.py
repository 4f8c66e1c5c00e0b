"""What an operator is told: what happens to a store beside plain reads and writes, by `logging`.

The library sets no handler and no level. A handler may do anything, and wait for anybody. So no
record is made, nor anything of `logging` called, while a lock of the store is held: what happens
inside a call is noted, and told once that call has let go (`Engine.happened`).
"""

from __future__ import annotations

import logging
import sys
from collections import deque
from types import SimpleNamespace
from typing import Any, NamedTuple

_WAITING_MAX = 1024  # of these the oldest are dropped
_ROUND = 64  # told at a time: what a handler makes happen is told with a later call


class Event(NamedTuple):
    """What may happen, and how it is told."""

    logger: str
    level: int
    message: str  # with the names of its facts; the store's name stands before it


_DISK, _STORE, _COPY, _JOURNAL = "jrnl.disk", "jrnl.store", "jrnl.copy", "jrnl.journal"
_ARCHIVE = "jrnl.archive"
DEBUG, INFO, WARNING, ERROR = logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR

EVENTS = {
    # Stores come and go.
    "made": Event(_STORE, DEBUG, "made in memory: %(volumes)d volumes of %(bytes)d bytes, "
                  "a journal of %(journal)d"),
    "unmade": Event(_STORE, DEBUG, "closed, at entry %(seq)d: its memory is given back"),
    "created": Event(_DISK, INFO, "created: %(volumes)d volumes of %(bytes)d bytes, "
                     "a journal of %(journal)d"),
    "opened": Event(_DISK, INFO, "opened %(mode)s after %(end)s: entry %(seq)d is the newest, "
                    "%(oldest)d the oldest state"),
    "replayed": Event(_DISK, INFO, "the log was read from entry %(first)d to %(last)d, in "
                      "%(groups)d groups, for what the volumes' files have not got"),
    "cut": Event(_DISK, INFO, "behind entry %(seq)d the log's torn end was cut: it was never "
                 "durable"),
    "redone": Event(_DISK, INFO, "what had been interrupted is settled: %(what)s"),
    "problem": Event(_DISK, WARNING, "found wrong at opening: %(problem)s"),
    "closed": Event(_DISK, INFO, "closed: all is durable, up to entry %(seq)d"),
    "abandoned": Event(_DISK, WARNING, "closed without being saved: entries are durable up to "
                       "%(durable)d of %(seq)d"),
    "poisoned": Event(_DISK, ERROR, "poisoned at entry %(seq)d, nothing is written any more: "
                      "%(cause)s; close the store and open it again"),
    "kept": Event(_DISK, INFO, "recovery %(recovery)d of state %(state)d is durable"),
    # States, and what is done with them.
    "snapshot": Event(_STORE, INFO, "snapshot %(name)r of state %(seq)d taken"),
    "deleted": Event(_STORE, INFO, "snapshot %(name)r of state %(seq)d deleted"),
    "restored": Event(_STORE, INFO, "state %(state)d restored: %(bytes)d bytes written, as the "
                      "entries %(first)d to %(last)d"),
    "promoted": Event(_STORE, INFO, "a view of state %(state)d promoted: %(bytes)d bytes written, "
                      "as the entries %(first)d to %(last)d"),
    "rewound": Event(_STORE, INFO, "production rewound to state %(state)d: %(entries)d entries "
                     "dropped, %(bytes)d bytes put back, entry %(seq)d stands for it"),
    # Copies.
    "copying": Event(_COPY, DEBUG, "the copy of state %(seq)d has begun"),
    "copied": Event(_COPY, INFO, "the copy of state %(seq)d is whole: %(bytes)d bytes in "
                    "%(seconds).3f s"),
    "copy_damaged": Event(_COPY, WARNING, "the copy of state %(seq)d has ended: %(problem)s"),
    "copy_failed": Event(_COPY, ERROR, "the copy of state %(seq)d has stopped: %(problem)s"),
    "folded": Event(_COPY, DEBUG, "snapshot %(name)r went on from state %(first)d to %(last)d, so "
                    "that entries may leave"),
    "based": Event(_COPY, INFO, "snapshot %(name)r of state %(seq)d made, so that entries may "
                   "leave"),
    # Room.
    "left": Event(_JOURNAL, DEBUG, "%(entries)d entries have left since this was told last; the "
                  "window begins at state %(oldest)d"),
    "low": Event(_JOURNAL, WARNING, "room is low: %(used)d of %(capacity)d bytes are used"),
    "full": Event(_JOURNAL, WARNING, "refused after entry %(seq)d: %(why)s"),
    # Elsewhere.
    "archived": Event(_ARCHIVE, INFO, "archived at %(url)s from now on, with epoch %(epoch)d; "
                      "state %(seq)d is the newest there"),
    "unarchived": Event(_ARCHIVE, WARNING, "archiving has failed after state %(seq)d, and is tried "
                        "again: %(problem)s"),
    "lagging": Event(_ARCHIVE, WARNING, "the archive is %(seconds).1f s behind, at state %(seq)d: "
                     "writers wait"),
    "fenced": Event(_ARCHIVE, ERROR, "nothing is archived any more after state %(seq)d: "
                    "%(problem)s"),
}  # fmt: skip

logging.getLogger("jrnl").addHandler(logging.NullHandler())
# Looking one up takes a lock of logging's, which a signal's handler that raises may leave taken.
_LOGGERS = {name: logging.getLogger(name) for name in (_DISK, _STORE, _COPY, _JOURNAL, _ARCHIVE)}


class Events:
    """What has happened to one store, until it is told.

    It knows nothing of the store but its name: the engine holds it.

    Parameters
    ----------
    store : str
        What it is called in all messages.

    Attributes
    ----------
    counts : dict of str to int
        How often each has happened, whether anybody listens or not.
    telling : set of int
        The threads that are in `tell`; the engine keeps it.
    """

    def __init__(self, store: str) -> None:
        self._store = store
        self._waiting: deque[tuple[str, dict[str, Any]]] = deque(maxlen=_WAITING_MAX)
        self.telling: set[int] = set()
        self._refused: tuple[object, ...] = ()
        self.counts = dict.fromkeys(EVENTS, 0)
        for event in EVENTS.values():  # the first time it takes that lock, too
            _LOGGERS[event.logger].isEnabledFor(event.level)

    def add(self, name: str, facts: dict[str, Any]) -> None:
        """Note an event; it is told by `tell`."""
        self.counts[name] += 1
        if name == "full":  # whoever tries again and again is refused again and again
            refused = tuple(facts.values())
            if refused == self._refused:
                return
            self._refused = refused
        self._waiting.append((name, facts))

    def tell(self) -> None:
        """Tell of what is noted. The caller holds no lock of the store.

        What a handler raises is reported as unraisable: what has happened has happened. What it
        does to this store is noted, too, and told with a later call.
        """
        for _ in range(min(len(self._waiting), _ROUND)):
            try:
                name, facts = self._waiting.popleft()
            except IndexError:  # another thread was faster
                return
            try:
                self._log(name, facts)
            except Exception as error:
                _report(error)

    def _log(self, name: str, facts: dict[str, Any]) -> None:
        event = EVENTS[name]
        logger = _LOGGERS[event.logger]
        if logger.isEnabledFor(event.level):
            extra = {"jrnl_event": name, "jrnl_store": self._store}
            logger.log(
                event.level, f"%(store)r: {event.message}", {"store": self._store, **facts},
                extra=extra,
            )  # fmt: skip


def _report(error: Exception) -> None:
    sys.unraisablehook(
        SimpleNamespace(
            exc_type=type(error), exc_value=error, exc_traceback=error.__traceback__,
            err_msg="Exception ignored in a logging handler, told of a jrnl store", object=None,
        )
    )  # fmt: skip
