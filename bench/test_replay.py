"""Replay of a recorded ext4 and SQLite history, a dm-log-writes log."""

import json
import lzma
import pathlib

import pytest

import jrnl

from . import tables
from .harness import Case, keep, race

pytestmark = pytest.mark.benchmark(disable_gc=True)

TRACE = pathlib.Path(__file__).parent.parent / "tests" / "data" / "ext4-sqlite.log.xz"


def test_replay(benchmark, tmp_path):
    log = tmp_path / "ext4-sqlite.log"
    log.write_bytes(lzma.decompress(TRACE.read_bytes()))
    facts = json.loads(TRACE.with_name("ext4-sqlite.json").read_text())
    case = Case(tables.REPLAY, f"`logwrites.replay`, {facts['entries']:,} entries")
    stores = []

    def replay():
        jrnl.logwrites.replay(log, stores[-1].volume)

    result = race(
        benchmark,
        case,
        replay,
        arm=lambda: stores.append(jrnl.create(size=facts["volume_size"], journal="64MiB")),
        disarm=lambda: stores.pop().close(),
    )
    if result:
        speed = log.stat().st_size / 1e6 / (result["value"] / 1e9)
        log_speed = result | {"name": "the same, of log", "value": speed, "unit": "MB/s"}
        keep(benchmark, log_speed)
