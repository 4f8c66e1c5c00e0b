"""Cases built by hand, in which one call of the store meets another one.

Each raises Failure where the store breaks a promise; with every rule in place none does.
"""

from __future__ import annotations

import threading
import time

from jrnl.disk import open as opening
from tests.crash.directed import cut, small
from tests.crash.disk import OLD, Op
from tests.crash.expect import Failure
from tests.crash.workload import STORE

PATIENCE = 60  # seconds


def flush_during_a_sync() -> None:
    """Somebody writes and flushes while the log is synced for another one; the power fails."""
    disk, store = small()
    store.volume.write(0, b"a" * 512)
    other = threading.Thread(target=lambda: (store.volume.write(4096, b"b" * 512), store.flush()))
    newest = store.seq + 3  # this one's FLUSH, the other one's write and FLUSH

    def hook(op: Op) -> None:
        if (op.kind, op.name) == ("sync", "log") and other.ident is None:
            other.start()
            deadline = time.monotonic() + PATIENCE
            while store.seq < newest and time.monotonic() < deadline:
                time.sleep(0.001)

    disk.before = hook
    store.flush()
    other.join()
    disk.before = None
    found = opening.open_in(cut(disk.moment(), OLD).place(), STORE, overlay=65536).seq
    if found < newest:
        raise Failure(f"acknowledged {newest}, found {found}")
