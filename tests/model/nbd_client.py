"""An NBD client of the tests: what the protocol says, byte by byte, and nothing of the server's.

Source: https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md
"""

from __future__ import annotations

import os
import socket
import struct
from dataclasses import dataclass, field
from typing import IO, Any

EXPORT_NAME, ABORT, LIST, STARTTLS, INFO, GO, STRUCTURED, LIST_META, SET_META = (
    1,
    2,
    3,
    5,
    6,
    7,
    8,
    9,
    10,
)
READ, WRITE, DISC, FLUSH, TRIM, CACHE, ZEROES, STATUS = range(8)
FUA, NO_HOLE, DF, ONE, FAST = 1, 2, 4, 8, 16
ACK, SERVER, INFO_REPLY, META = 1, 2, 3, 4
UNSUP, INVALID, UNKNOWN, TOO_BIG = (1 << 31 | k for k in (1, 3, 6, 9))
EPERM, EIO, EINVAL, ENOSPC, ESHUTDOWN = 1, 5, 22, 28, 108
OPTION_MAGIC, OPTION_REPLY_MAGIC = b"IHAVEOPT", 0x3E889045565A9
REQUEST_MAGIC, SIMPLE_MAGIC, CHUNK_MAGIC = 0x25609513, 0x67446698, 0x668E33EF


class Disconnected(Exception):
    """The server has broken it off."""


@dataclass
class Reply:
    error: int = 0
    data: bytes = b""
    extents: dict[int, list[tuple[int, int]]] = field(default_factory=dict)  # by context id


class Pipes:
    """Two pipes, with what a `Client` needs of a socket."""

    def __init__(self, source: IO[bytes], target: IO[bytes]) -> None:
        self.source, self.target = source.fileno(), target.fileno()

    def sendall(self, data: bytes) -> None:
        while data:
            data = data[os.write(self.target, data) :]

    def recv(self, length: int) -> bytes:
        return os.read(self.source, length)


class Client:
    """One connection: to the Unix socket of that path, or one that is there."""

    def __init__(self, to: str | socket.socket | Pipes, timeout: float = 30.0) -> None:
        self.cookie, self.structured = 0, False
        if isinstance(to, Pipes):
            self.socket: Any = to
            return
        self.socket = socket.socket(socket.AF_UNIX) if isinstance(to, str) else to
        self.socket.settimeout(timeout)
        try:
            if isinstance(to, str):
                self.socket.connect(to)
        except OSError:
            self.socket.close()
            raise
        self.size = self.flags = 0

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        try:
            self.socket.sendall(data)
        except OSError as error:
            raise Disconnected from error

    def take(self, length: int) -> bytes:
        parts = bytearray()
        while len(parts) < length:
            try:
                part = self.socket.recv(min(length - len(parts), 1 << 20))
            except ConnectionError as error:
                raise Disconnected from error
            if not part:
                raise Disconnected
            parts += part
        return bytes(parts)

    # The handshake.

    def greet(self, flags: int = 3) -> None:
        magic, style, server_flags = struct.unpack(">8s8sH", self.take(18))
        assert (magic, style) == (b"NBDMAGIC", OPTION_MAGIC) and server_flags & 1
        self.send(struct.pack(">I", flags))

    def option(self, number: int, data: bytes = b"") -> list[tuple[int, bytes]]:
        """Send an option; return the replies up to the last one: kinds and contents."""
        self.send(OPTION_MAGIC + struct.pack(">II", number, len(data)) + data)
        replies = []
        while not replies or replies[-1][0] in (SERVER, INFO_REPLY, META):
            magic, option, kind, length = struct.unpack(">QIII", self.take(20))
            assert (magic, option) == (OPTION_REPLY_MAGIC, number)
            replies.append((kind, self.take(length)))
        return replies

    def go(
        self, name: str = "", *, structured: bool = True, contexts: tuple[str, ...] = ()
    ) -> dict[int, str]:
        """Negotiate an export; return the names of its contexts by id."""
        self.greet()
        found = {}
        if structured:
            assert self.option(STRUCTURED) == [(ACK, b"")]
            self.structured = True
        if contexts:
            for kind, text in self.option(SET_META, meta(name, *contexts)):
                if kind == META:
                    found[int.from_bytes(text[:4])] = text[4:].decode()
        *told, last = self.option(GO, with_length(name) + b"\0\0")
        assert last == (ACK, b""), last
        infos = {int.from_bytes(text[:2]): text[2:] for _, text in told}
        self.size, self.flags = struct.unpack(">QH", infos[0])
        return found

    # Requests.

    def ask(
        self, kind: int, offset: int = 0, length: int = 0, data: bytes = b"", flags: int = 0
    ) -> int:
        """Send a request without waiting; return its cookie."""
        self.cookie += 1
        head = struct.pack(">IHHQQI", REQUEST_MAGIC, flags, kind, self.cookie, offset, length)
        self.send(head + data)
        return self.cookie

    def reply(self, reads: dict[int, int]) -> tuple[int, Reply]:
        """Take the next reply; `reads` has the lengths of the READs under way, by cookie."""
        reply = Reply()
        while True:
            magic = int.from_bytes(self.take(4))
            if magic == SIMPLE_MAGIC:
                reply.error, cookie = struct.unpack(">IQ", self.take(12))
                if cookie in reads and not reply.error:
                    assert not self.structured
                    reply.data = self.take(reads[cookie])
                return cookie, reply
            assert magic == CHUNK_MAGIC and self.structured
            flags, kind, cookie, length = struct.unpack(">HHQI", self.take(16))
            self._chunk(reply, kind, self.take(length))
            if flags & 1:
                return cookie, reply

    @staticmethod
    def _chunk(reply: Reply, kind: int, content: bytes) -> None:
        if kind == 1:
            reply.data += content[8:]
        elif kind == 5:
            pairs = list(struct.iter_unpack(">II", content[4:]))
            reply.extents[int.from_bytes(content[:4])] = pairs
        elif kind & 1 << 15:
            reply.error = int.from_bytes(content[:4])
        else:
            assert kind == 0 and content == b""

    def call(
        self, kind: int, offset: int = 0, length: int = 0, data: bytes = b"", flags: int = 0
    ) -> Reply:
        """Make a request and wait for it."""
        length = length or len(data)
        mine = self.ask(kind, offset, length, data, flags)
        cookie, reply = self.reply({mine: length} if kind == READ else {})
        assert cookie == mine
        return reply

    def read(self, offset: int, length: int) -> bytes:
        reply = self.call(READ, offset, length)
        assert reply.error == 0
        return reply.data

    def write(self, offset: int, data: bytes, flags: int = 0) -> None:
        assert self.call(WRITE, offset, data=data, flags=flags).error == 0

    def flush(self) -> None:
        assert self.call(FLUSH).error == 0

    def status(self, offset: int, length: int, flags: int = 0) -> dict[int, list[tuple[int, int]]]:
        reply = self.call(STATUS, offset, length, flags=flags)
        assert reply.error == 0
        return reply.extents


def with_length(text: str) -> bytes:
    return struct.pack(">I", len(text.encode())) + text.encode()


def meta(name: str, *queries: str) -> bytes:
    """The content of LIST_META_CONTEXT and SET_META_CONTEXT."""
    return with_length(name) + struct.pack(">I", len(queries)) + b"".join(map(with_length, queries))
