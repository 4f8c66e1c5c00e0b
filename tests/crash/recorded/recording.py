"""The recorder: built, loaded, switched on; and what it has recorded, read back."""

from __future__ import annotations

import ctypes
import functools
import json
import os
import struct
import subprocess
import tempfile
from collections.abc import Iterator
from enum import IntEnum
from pathlib import Path
from typing import NamedTuple

SOURCE = Path(__file__).with_name("recorder.c")
HEAD_BYTES = 64
LOG_BYTES = 48 << 20
_HEAD = struct.Struct("<QQQQ")
_RECORD = struct.Struct("<IIQQQqII")


class Call(IntEnum):
    """What a record is of; as in recorder.c."""

    OPENED = 1
    CREATED = 2
    MADE = 3
    WRITTEN = 4
    RESIZED = 5
    PUNCHED = 6
    CLONED = 7
    SYNC_BEGINS = 8
    SYNC_ENDS = 9
    RENAMED = 10
    LINKED = 11
    UNLINKED = 12
    REMOVED = 13
    LOCKED = 14
    MARK = 15
    UNKNOWN = 16


CLASSES = {"any": 0, "write": 1, "sync": 2, "name": 3, "size": 4, "folder": 5}
FAULTS = {"SHORT": 10001, "KILL": 10002, "DELAY": 10003, "EIO": 5, "ENOSPC": 28}


class Record(NamedTuple):
    """One call, or one mark of the test."""

    call: Call
    thread: int
    node: int
    offset: int
    length: int
    result: int
    first: bytes
    second: bytes


class Missed(AssertionError):
    """The recorder has not seen everything, or something that is not modelled."""


@functools.cache
def library() -> str:
    """Compile the recorder, once a day's work: its name says what it was made of."""
    text = SOURCE.read_bytes()
    name = f"jrnl-recorder-{os.getuid()}-{hash_of(text)}.so"
    target = Path(tempfile.gettempdir()) / name
    if not target.exists():
        with tempfile.TemporaryDirectory(dir=target.parent) as folder:
            made = Path(folder) / name
            compiler = os.environ.get("CC", "gcc").split()
            subprocess.run(
                [*compiler, "-O2", "-fPIC", "-shared", "-Wall", "-Wextra", "-Werror",
                 "-o", made, SOURCE, "-ldl", "-lpthread"],
                check=True, env={k: v for k, v in os.environ.items() if k != "LD_PRELOAD"},
            )  # fmt: skip
            made.replace(target)
    return str(target)


def preloaded() -> str:
    """Return the LD_PRELOAD of a process that is to be recorded."""
    others = os.environ.get("LD_PRELOAD", "")
    return f"{others}:{library()}" if others else library()


def hash_of(text: bytes) -> str:
    import xxhash

    return xxhash.xxh3_64_hexdigest(text)


class Recorder:
    """The recorder of this process, which was started under it. Nothing happens until `begin`."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL(None)
        self._library.rec_begin.argtypes = [
            ctypes.c_char_p, ctypes.c_char_p, ctypes.c_uint64, ctypes.c_uint64, ctypes.c_int,
        ]  # fmt: skip

    def begin(self, log: Path, root: Path, seed: int, pause_us: int) -> None:
        """Record what happens below `root`."""
        error = self._library.rec_begin(
            os.fsencode(log), os.fsencode(root), LOG_BYTES, seed & (1 << 63) - 1, pause_us
        )
        if error:
            raise OSError(error, os.strerror(error), str(log))

    def fault(self, where: str, what: str, at: int, count: int = 1) -> None:
        """Let calls of a class fail, from the n-th from now on."""
        numbers = ctypes.c_long(at), ctypes.c_long(count)
        self._library.rec_fault(CLASSES[where], FAULTS[what], *numbers)

    def mark(self, **facts: object) -> None:
        """Put a note among the records."""
        text = json.dumps(facts).encode()
        self._library.rec_mark(text, ctypes.c_uint32(len(text)))

    def stop(self) -> None:
        """Let nothing change any more, so that the process can end between two calls."""
        self._library.rec_stop()


def save(log: Path, target: Path) -> None:
    """Keep a recording without the room it has not used."""
    with open(log, "rb") as file:
        used = _HEAD.unpack(file.read(_HEAD.size))[0]
        file.seek(0)
        target.write_bytes(file.read(HEAD_BYTES + used))


def read(log: Path) -> list[Record]:
    """Return what was recorded. Raises Missed."""
    with open(log, "rb") as file:
        used, overflowed, _, _ = _HEAD.unpack(file.read(_HEAD.size))
        file.seek(HEAD_BYTES)
        data = file.read(used)
    if overflowed:
        raise Missed("the recording is full")
    return list(_records(data))


def _records(data: bytes) -> Iterator[Record]:
    at = 0
    while at < len(data):
        call, thread, node, offset, length, result, first, second = _RECORD.unpack_from(data, at)
        start = at + _RECORD.size
        middle, end = start + first, start + first + second
        record = Record(
            Call(call), thread, node, offset, length, result, data[start:middle], data[middle:end]
        )
        if record.call == Call.UNKNOWN:
            raise Missed(f"a call that is not modelled: {record.first!r}")
        yield record
        at = (end + 7) & ~7
