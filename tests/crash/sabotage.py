"""What a disk may leave out so that the bench has something to find.

Each of these makes some syncs do nothing, as if the store had none there. The order oracle cannot
see it, for the store does call them; states must be lost.
"""

from __future__ import annotations

from collections.abc import Callable

from tests.crash.disk import Op
from tests.crash.oracle import OTHER_IMAGES

CREATING = ".s.new"  # the folder in which a store is made


def _is_volume(op: Op) -> bool:
    return op.name.endswith(".img") and not op.name.startswith(OTHER_IMAGES)


def _in_store(op: Op) -> bool:
    return op.path.startswith("s/")


SABOTAGES: dict[str, Callable[[Op], bool]] = {
    "log_sync": lambda op: _in_store(op) and op.name.startswith("log"),
    "super_sync": lambda op: _in_store(op) and op.name.startswith("super"),
    "volume_sync": lambda op: _in_store(op) and _is_volume(op),
    "copy_sync": lambda op: _in_store(op) and op.name.startswith(OTHER_IMAGES),
    "folder_sync": lambda op: op.kind == "syncdir" and op.path == "s",
    "create_files": lambda op: op.kind == "sync" and op.path.startswith(CREATING),
    "create_folder": lambda op: op.kind == "syncdir" and op.path.startswith(CREATING),
    "create_parent": lambda op: op.kind == "syncdir" and not op.path,
    "keeps_cache": lambda op: False,  # `drop_cache` does nothing
}
