"""Valid sessions, changed in a few places: the server goes on, and the store is whole.

Every byte of a session is recorded as a client sends it. What a changed one writes is not known, so
the store is held against itself: `verify`, and what another connection has put into a place of its
own. Meant for the sanitized build (`make sanitize-quick`), where a stray byte ends the process.
"""

from __future__ import annotations

import random
import select
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

import jrnl
from tests.model.amount import SHARE, more_in_long
from tests.model.nbd_client import (
    ACK,
    CACHE,
    CHUNK_MAGIC,
    DF,
    EXPORT_NAME,
    FAST,
    FLUSH,
    FUA,
    GO,
    INFO,
    LIST,
    LIST_META,
    NO_HOLE,
    ONE,
    OPTION_REPLY_MAGIC,
    READ,
    SET_META,
    SIMPLE_MAGIC,
    STATUS,
    STRUCTURED,
    TOO_BIG,
    TRIM,
    UNSUP,
    WRITE,
    ZEROES,
    Client,
    meta,
    with_length,
)

SIZE = 4 << 20
LENGTHS = (1, 512, 4096, 5000, 70_000, 600_000, (2 << 20) + 100_000)  # the last takes more room
EXPORTS = ("", "data", "data@good", "data@good+rw", "data@1", "@mark")
CONTEXTS = ("base:allocation", "jrnl:changed:good", "qemu:dirty-bitmap:good", "qemu:")
INTERESTING = (0, 1, 2, 7, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, SIZE - 1, SIZE, 1 << 25, (1 << 25) + 1,
               1 << 31, (1 << 32) - 1, 1 << 63, (1 << 64) - 1)  # fmt: skip


def option(number: int, data: bytes = b"") -> bytes:
    return b"IHAVEOPT" + struct.pack(">II", number, len(data)) + data


def request(rng: random.Random, kind: int) -> bytes:
    """A request that is in order."""
    (length,) = rng.choices(LENGTHS, [9, 9, 9, 9, 9, 4, 1])
    offset, data, flags = rng.randrange(SIZE - length), b"", 0
    if kind == WRITE:
        data, flags = rng.randbytes(length), rng.choice([0, FUA])
    elif kind == FLUSH:
        offset = length = 0
    elif kind == READ:
        flags = rng.choice([0, DF])
    elif kind == ZEROES:
        flags = rng.choice([0, FUA, NO_HOLE, FAST | FUA])
    elif kind == STATUS:
        flags = rng.choice([0, ONE])
    head = struct.pack(">IHHQQI", 0x25609513, flags, kind, rng.getrandbits(64), offset, length)
    return head + data


def session(rng: random.Random) -> list[bytes]:
    """What a client sends: its flags, options and requests, each a piece of its own."""
    name = rng.choice(EXPORTS)
    pieces = [struct.pack(">I", rng.choice([1, 3, 3, 3]))]
    if rng.random() < 0.8:
        pieces.append(option(STRUCTURED))
        queries = rng.sample(CONTEXTS, rng.randrange(1, 4))
        pieces.append(option(rng.choice([LIST_META, SET_META, SET_META]), meta(name, *queries)))
    if rng.random() < 0.3:
        pieces.append(option(LIST))
    infos = rng.sample(range(4), rng.randrange(4))
    chosen = with_length(name) + struct.pack(f">{len(infos) + 1}H", len(infos), *infos)
    if rng.random() < 0.3:
        pieces.append(option(INFO, chosen))
    pieces.append(option(EXPORT_NAME, name.encode()) if rng.random() < 0.2 else option(GO, chosen))
    kinds = (READ, READ, WRITE, WRITE, FLUSH, TRIM, CACHE, ZEROES, STATUS)
    return pieces + [request(rng, rng.choice(kinds)) for _ in range(rng.randrange(1, 30))]


def changed(rng: random.Random, pieces: list[bytes]) -> bytes:
    """Change bytes, numbers and pieces of a session; in two of three its requests alone."""
    pieces = [*pieces]
    requests = next(k for k, piece in enumerate(pieces) if piece[:4] == b"\x25\x60\x95\x13")
    first = rng.choice([0, requests, requests])
    for _ in range(rng.choice([0, 1, 1, 2, 4])):
        at = rng.randrange(first, len(pieces))
        kind = rng.randrange(7)
        piece = bytearray(pieces[at])
        if kind == 0 and piece:
            piece[rng.randrange(min(len(piece), 40))] ^= 1 << rng.randrange(8)
        elif kind == 1 and piece:  # a number, as the protocol has them: whole, in its first bytes
            width = rng.choice([2, 4, 8])
            value = (rng.choice(INTERESTING) + rng.choice([-1, 0, 0, 1])) % (1 << 8 * width)
            start = rng.randrange(0, max(1, min(len(piece), 40) - width), 2)
            piece[start : start + width] = value.to_bytes(width)
        elif kind == 2:
            piece = piece[: rng.randrange(len(piece) + 1)]
        elif kind == 3:
            piece += rng.randbytes(rng.choice([1, 3, 28, 300]))
        elif kind == 4:
            piece *= 40 if len(piece) < 1000 else 2
        elif kind == 5:
            piece = bytearray()
        else:
            pieces.insert(rng.randrange(first, len(pieces)), bytes(piece))
        pieces[at] = bytes(piece)
    return b"".join(pieces)


def send(path: str, data: bytes, rng: random.Random) -> tuple[bytes, bool]:
    """Send a session in parts of any length; return what came, and whether that is all."""
    got, rest, how = bytearray(), memoryview(data), rng.random()
    cuts = [rng.choice([1, 27, 28, 29, 1000, 100_000]) for _ in range(rng.randrange(8))]
    stays, reads = how < 0.7, how < 0.85  # to the end; at all
    with socket.socket(socket.AF_UNIX) as there, suppress(OSError):
        there.connect(path)
        there.setblocking(False)
        while rest or stays:
            readable, writable, _ = select.select(
                [there] * reads, [there] * bool(rest), [], 10 if reads else 0.02
            )
            if readable:
                part = there.recv(1 << 16)
                if not part:
                    return bytes(got), True
                got += part
            if writable:
                rest = rest[there.send(rest[: cuts.pop() if cuts else len(rest)]) :]
                if not rest and stays:
                    there.shutdown(socket.SHUT_WR)
            if not readable and not writable:
                break
    return bytes(got), False


def items(got: bytes) -> Iterator[tuple[str, int]]:
    """Take apart what a server has said, as far as that can be told: kinds, and where they end.

    Simple replies to a READ have no length of their own, so what is not structured ends here.
    """
    assert b"NBDMAGICIHAVEOPT"[: len(got)] == got[:16]
    at, structured, choosing = 18, False, True
    yield "greeting", at
    while choosing and at < len(got):
        if got[at : at + 8] == OPTION_REPLY_MAGIC.to_bytes(8)[: len(got) - at]:
            option, kind, length = struct.unpack(">III", got[at + 8 : at + 20].ljust(12, b"\0"))
            assert option < 20 or kind in (UNSUP, TOO_BIG), option
            at += 20 + length
            structured |= (option, kind) == (STRUCTURED, ACK)
            choosing = (option, kind) != (GO, ACK)
            yield "option", at
        else:  # EXPORT_NAME has no reply: a size, flags and perhaps zeroes
            size = int.from_bytes(got[at : at + 8])
            assert len(got) - at < 8 or size in (SIZE, 4096), got[at : at + 20]
            zeroes = got[at + 10 : at + 134]
            at += 134 if zeroes and not any(zeroes) else 10
            choosing = False
            yield "export", at
    while structured and at < len(got):
        magic = int.from_bytes(got[at : at + 4].ljust(4, b"\0"))
        if magic == SIMPLE_MAGIC:
            at += 16
            yield "simple", at
        else:
            assert magic == CHUNK_MAGIC or len(got) - at < 4, got[at : at + 20]
            flags, kind = struct.unpack(">HH", got[at + 4 : at + 8].ljust(4, b"\0"))
            assert flags in (0, 1) and kind in (0, 1, 5, 0x8001), (flags, kind)
            at += 20 + int.from_bytes(got[at + 16 : at + 20])
            yield "chunk", at
    yield "end" if structured else "open", at


def well_formed(got: bytes, ended: bool) -> set[str]:
    """Check that what a server has said is NBD, to its last byte; return the kinds of items."""
    if not got:
        return set()
    found = [*items(got)]
    kind, at = found[-1]
    assert not ended or kind == "open" or at == len(got), (kind, at, len(got))
    return {kind for kind, _ in found}


def play(served, store: jrnl.Store, seed: int, sessions: int) -> int:
    """Send changed sessions; return how many came to requests."""
    rng, answered = random.Random(seed), 0
    server = served(store, handshake_s=5)
    store.volume.write(0, b"first" * 1000)
    store.mark("good")
    store.snapshot("copied")
    for number in range(sessions):
        said = send(served.path, changed(rng, session(rng)), rng)
        answered += bool(well_formed(*said) & {"simple", "chunk"})
        if number % 25 == 24:
            with Client(served.path) as other:
                other.go("data")
                place, text = rng.randrange(SIZE - 8), struct.pack(">Q", number)
                other.write(place, text)
                assert other.read(place, 8) == text
    until = time.monotonic() + 30
    while server.clients and time.monotonic() < until:
        time.sleep(0.01)
    assert server.clients == []  # each has been let go of
    assert not store.views
    assert store.verify().ok
    return answered


@more_in_long("sessions", 300, 20_000 // SHARE)
@pytest.mark.parametrize("where", ["memory", "disk"])
def test_changed_sessions_do_no_harm(served, folder, seed, where, sessions):
    path = folder / "s.jrnl" if where == "disk" else None
    with jrnl.create(path, size=SIZE, journal="16MiB") as store:
        answered = play(served, store, seed, sessions)
    assert answered > sessions // 4  # many are still sessions
    if path is not None:
        with jrnl.open(path) as store:
            assert not store.problems and store.verify().ok
