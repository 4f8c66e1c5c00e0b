"""Block write logs in the dm-log-writes format: read them, replay them onto a volume."""

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

__all__ = ["DISCARD", "FLUSH", "FUA", "MARK", "METADATA", "Log", "LogWarning", "read_log", "replay"]
