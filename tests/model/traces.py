"""The recorded histories of ext4 under tests/data: what their volumes held after some entries."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np

from tests.model.places import DATA

TRACES = ["ext4-sqlite", "ext4-docs"]
SIZE = 64 << 20


class Recorded:
    """What was recorded of a log: how many entries it has, and SHA-256 of the volume by entry."""

    def __init__(self, log: Path) -> None:
        said = json.loads((DATA / f"{log.stem}.json").read_text())
        assert said["volume_size"] == SIZE
        self.entries: int = said["entries"]
        self.digests = {int(k): digest for k, digest in said["sha256_after_entries"].items()}


def sha256(content: np.ndarray | bytes) -> str:
    return hashlib.sha256(content).hexdigest()
