"""Block write logs in the dm-log-writes format: read, replayed onto a volume, looked into in place.

``read_log`` checks a log, ``replay`` writes it onto a volume of a store, entry by entry,
``attach`` makes a read-only history of it that copies nothing, and ``export`` makes a log of what a
store remembers.
"""

from jrnl.logwrites.attach import LogHistory, attach
from jrnl.logwrites.export import Exported, export
from jrnl.logwrites.log_state import LogRecovery, LogView
from jrnl.logwrites.read import (
    DISCARD,
    FLUSH,
    FUA,
    MARK,
    METADATA,
    Log,
    LogWarning,
    read_log,
)
from jrnl.logwrites.replay import replay

__all__ = [
    "DISCARD",
    "FLUSH",
    "FUA",
    "MARK",
    "METADATA",
    "Exported",
    "Log",
    "LogHistory",
    "LogRecovery",
    "LogView",
    "LogWarning",
    "attach",
    "export",
    "read_log",
    "replay",
]
