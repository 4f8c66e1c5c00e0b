"""Reading parts of large entries on disk: each image is summed once, and then by its blocks."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

import jrnl

BLOCK = 4096
LENGTH = 3 * 10**6  # of an entry: no whole number of blocks
OFFSET = 1000


@pytest.fixture(params=["in memory", "in the log's file"])
def store(request, tmp_path):
    with jrnl.create(tmp_path / "s", size="8MiB", journal="64MiB", overlay="16MiB") as made:
        rng = np.random.default_rng(1)
        for _ in range(3):
            made.volume.write(OFFSET, rng.integers(0, 256, LENGTH, np.uint8))
        made.flush()
        if request.param == "in the log's file":
            made._session.log.write_back()
        yield made


def summed(store: jrnl.Store) -> int:
    return store._session.log.summed_bytes


def test_a_view_sums_an_image_once_and_then_the_blocks_that_it_reads(store):
    rng = random.Random(2)
    with store.view(1) as view, store.view(2) as other, store.recover(1) as recovery:
        wanted = recovery.read(0, LENGTH + 2 * OFFSET)
        second = other.read(0, LENGTH + 2 * OFFSET)
        view.read(OFFSET, 1), other.read(OFFSET, 1)
        before = summed(store)
        for _ in range(300):
            at, length = rng.randrange(LENGTH - 3 * BLOCK), rng.choice((1, 100, BLOCK, 3 * BLOCK))
            assert view.read(at, length) == wanted[at : at + length]
            assert other.read(at, length) == second[at : at + length]
        # Whole images, one at each change of the view, would be six hundred times as much.
        assert summed(store) - before <= 2 * 300 * 6 * BLOCK + 2 * LENGTH


def test_damage_that_arises_after_an_image_was_verified_is_seen(tmp_path):
    path = tmp_path / "s"
    with jrnl.create(path, size="8MiB", journal="64MiB", overlay="16MiB") as store:
        content = np.arange(LENGTH, dtype=np.uint32).view(np.uint8)[:LENGTH]
        for k in range(3):
            store.volume.write(0, content ^ k)
        store.flush()
        store._session.log.write_back()
        view, other = store.view(1), store.view(2)
        assert view.read(0, BLOCK) == content[:BLOCK].tobytes()
        assert other.read(0, BLOCK) == (content[:BLOCK] ^ 1).tobytes()
        assert view.read(0, BLOCK) == content[:BLOCK].tobytes()
        damage(path / "log", content[2_000_000 : 2_000_000 + 512].tobytes())
        other.read(0, BLOCK)
        assert view.read(BLOCK, BLOCK) == content[BLOCK : 2 * BLOCK].tobytes()
        with pytest.raises(jrnl.CorruptionError, match="entry"):
            for at in range(2_000_000 - BLOCK, 2_000_000 + BLOCK, BLOCK):
                view.read(at, BLOCK)
                other.read(0, BLOCK)
        view.close()
        other.close()


def damage(path: Path, what: bytes) -> None:
    """Flip a bit wherever the file has these bytes."""
    content = path.read_bytes()
    places, at = [], content.find(what)
    while at >= 0:
        places.append(at)
        at = content.find(what, at + 1)
    assert places
    with open(path, "r+b") as file:
        for place in places:
            file.seek(place + 5)
            file.write(bytes([content[place + 5] ^ 1]))
