"""What is known of an export's blocks: found once, then kept up; and what that saves."""

from __future__ import annotations

import random

import pytest

import jrnl
from tests.model.nbd_client import (
    LIST_META,
    META,
    STRUCTURED,
    TOO_BIG,
    TRIM,
    ZEROES,
    meta,
)

SIZE = 1 << 20


@pytest.fixture
def found(monkeypatch) -> list[str]:
    """The volumes that were looked through as a whole."""
    calls = []
    plain = jrnl.StateVolume.data_extents

    def data_extents(volume):
        calls.append(volume.name)
        return plain(volume)

    monkeypatch.setattr(jrnl.StateVolume, "data_extents", data_extents)
    return calls


def check(client) -> None:
    """What is said to be zero is zero."""
    content, at = client.read(0, client.size), 0
    for length, flags in client.status(0, client.size)[1]:
        assert not flags or not any(content[at : at + length])
        at += length
    assert at == client.size


@pytest.mark.parametrize("name", ["data", "data@good+rw"])
def test_extents_are_found_once_and_follow_what_is_written(served, found, seed, name):
    rng = random.Random(seed)
    with jrnl.create(size=SIZE, journal="8MiB") as store:
        store.volume.write(SIZE // 2, b"there")
        store.mark("good")
        served(store)
        client = served.client(name, contexts=("base:allocation",))
        for _ in range(20):
            for _ in range(3):
                n = rng.choice([1, 512, 5000])
                client.write(rng.randrange(SIZE - n), rng.randbytes(n))
            assert client.call(TRIM, rng.randrange(SIZE - 9000), 9000).error == 0
            check(client)
        assert client.status(SIZE - 1, 1)[1] and found == ["data"]


def test_extents_are_found_again_where_the_journal_cannot_tell_what_was_written(served, found):
    with jrnl.create(size=SIZE, journal="64KiB") as store:
        served(store)
        client = served.client("data", contexts=("base:allocation",))
        for start in (0, SIZE // 2):
            for k in range(32):
                client.write(start + k * 8192, b"x" * 4096)
            check(client)
            assert client.status(start, 8192)[1][0][1] == 0
        assert len(found) > 1


@pytest.mark.parametrize("kind", [TRIM, ZEROES])
def test_zeroes_on_a_scratch_branch_take_room_only_where_something_was(served, kind):
    with jrnl.create(size="64MiB", journal="8MiB") as store:
        store.volume.write(8 << 20, b"x" * (3 << 20))
        store.mark("good")
        served(store)
        client = served.client("data@good+rw")
        [view] = store.views.values()
        assert client.call(kind, 16 << 20, 48 << 20).error == 0
        assert view.own_bytes == 0
        client.write(32 << 20, b"own")
        assert client.call(kind, (8 << 20) + 5, 48 << 20).error == 0
        assert client.read(8 << 20, 8) == b"xxxxx\0\0\0"
        assert not any(client.read((8 << 20) + 5, 4 << 20)) and not any(client.read(32 << 20, 9))
        assert view.own_bytes <= (3 << 20) + 8192
        assert store.volume.read((8 << 20) + 5, 3) == b"xxx"


def test_queries_without_end_are_refused_and_the_handshake_goes_on(served, store):
    store.mark("good")
    served(store)
    client = served.client(None)
    client.greet()
    client.option(STRUCTURED)
    ((kind, _),) = client.option(LIST_META, meta("data", *["jrnl:"] * 65))
    assert kind == TOO_BIG
    *told, _ = client.option(LIST_META, meta("data", *["jrnl:"] * 64))
    assert [(kind, text[4:]) for kind, text in told] == [(META, b"jrnl:changed:good")]
