"""The handshake: a client chooses an export, and what is spoken about it."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from jrnl.errors import JrnlError
from jrnl.nbd import protocol
from jrnl.nbd.channel import Channel, Gone
from jrnl.nbd.extents import Context, matching, there

if TYPE_CHECKING:
    from jrnl.nbd.exports import Export, Exports


class Refused(Exception):
    """An option that is answered with an error, after which the handshake goes on."""

    def __init__(self, kind: int, message: str) -> None:
        super().__init__(message)
        self.kind = kind


@dataclass
class Agreed:
    """What a handshake has come to."""

    export: Export
    structured: bool
    contexts: list[Context] = field(default_factory=list)  # by id, from 1 on


class Handshake:
    """One client's options, until it has chosen an export, or has gone.

    Fixed newstyle. Source: proto.md, "Newstyle negotiation".
    """

    def __init__(self, channel: Channel, exports: Exports) -> None:
        self._channel, self._exports = channel, exports
        self._structured = False
        self._chosen: dict[str, Context] = {}
        self._chosen_of: Export | None = None  # held open, so that these are of what is opened
        self._no_zeroes = False

    def run(self) -> Agreed | None:
        """Negotiate; None where the client has said that it leaves. Raises Gone."""
        try:
            return self._run()
        finally:
            self._choose(None, {})

    def _run(self) -> Agreed | None:
        channel = self._channel
        channel.write(protocol.GREETING)
        (flags,) = protocol.CLIENT_FLAGS.unpack(channel.read(4))
        if flags & ~(protocol.FIXED_NEWSTYLE | protocol.NO_ZEROES):
            raise Gone(f"it asks for flags that there are not: {flags:#x}")
        self._no_zeroes = bool(flags & protocol.NO_ZEROES)
        for _ in range(protocol.OPTIONS_MAX):
            magic, option, length = protocol.OPTION.unpack(channel.read(16))
            if magic != protocol.OPTION_MAGIC:
                raise Gone("it sends no option")
            if option == protocol.EXPORT_NAME:
                return self._export_name(length)
            if option == protocol.ABORT:
                channel.skip(min(length, protocol.OPTION_MAX_BYTES))
                self._reply(option, protocol.ACK)
                return None
            agreed = self._answer(option, length)
            if agreed is not None:
                return agreed
        raise Gone("it sends options without end")

    def _answer(self, option: int, length: int) -> Agreed | None:
        """Answer an option; what was agreed where that ends the handshake."""
        try:
            data = self._data(length)
            if option in (protocol.GO, protocol.INFO):
                return self._go(option, data)
            if option == protocol.LIST:
                self._list(data)
            elif option == protocol.STRUCTURED_REPLY:
                _check_empty(data)
                self._structured = True
            elif option in (protocol.LIST_META_CONTEXT, protocol.SET_META_CONTEXT):
                self._contexts(option, data)
            else:
                raise Refused(protocol.ERR_UNSUP, "this server does not know that option")
        except Refused as refusal:
            self._reply(option, refusal.kind, str(refusal).encode())
            return None
        self._reply(option, protocol.ACK)
        return None

    def _data(self, length: int) -> bytes:
        if length > protocol.OPTION_MAX_BYTES:
            if length > 1 << 24:
                raise Gone(f"an option of {length} bytes")
            self._channel.skip(length)
            raise Refused(protocol.ERR_TOO_BIG, f"at most {protocol.OPTION_MAX_BYTES} bytes")
        return self._channel.read(length)

    def _reply(self, option: int, kind: int, data: bytes = b"") -> None:
        data = data[: protocol.STRING_MAX_BYTES]
        head = protocol.OPTION_REPLY.pack(protocol.OPTION_REPLY_MAGIC, option, kind, len(data))
        self._channel.write(head + data)

    # Options.

    def _export_name(self, length: int) -> Agreed:
        if length > protocol.STRING_MAX_BYTES:
            raise Gone(f"an export's name of {length} bytes")
        name = self._channel.read(length)
        try:
            export = self._exports.open_like(self._chosen_of, name.decode())
        except (UnicodeDecodeError, JrnlError, OSError) as error:
            raise Gone(f"it asks for {name!r}: {error}") from error  # there is no error reply
        try:
            reply = struct.pack(">QH", export.size, flags_of(export, self._structured))
            self._channel.write(reply if self._no_zeroes else reply + bytes(124))
        except BaseException:
            self._exports.close(export)
            raise
        return self._agreed(export)

    def _go(self, option: int, data: bytes) -> Agreed | None:
        name, rest = _string(data)
        if len(rest) < 2 or len(rest) != 2 + 2 * int.from_bytes(rest[:2]):  # noqa: PLR2004
            raise Refused(protocol.ERR_INVALID, "its length is wrong")
        asked = struct.unpack(f">{len(rest) // 2 - 1}H", rest[2:])
        export = self._open(name, self._chosen_of)
        try:
            self._inform(option, export, set(asked))
            if option == protocol.GO:
                self._reply(option, protocol.ACK)
                return self._agreed(export)
        except BaseException:
            self._exports.close(export)
            raise
        self._exports.close(export)
        self._reply(option, protocol.ACK)
        return None

    def _inform(self, option: int, export: Export, asked: set[int]) -> None:
        """Say what an export is like; its size in any case, and the block sizes."""
        flags = flags_of(export, self._structured)
        told = {protocol.INFO_EXPORT: struct.pack(">QH", export.size, flags)}
        if protocol.INFO_NAME in asked:
            told[protocol.INFO_NAME] = export.name.encode()
        if protocol.INFO_DESCRIPTION in asked:
            told[protocol.INFO_DESCRIPTION] = export.description.encode()
        told[protocol.INFO_BLOCK_SIZE] = struct.pack(">III", *protocol.BLOCK_SIZES)
        for kind, text in told.items():
            self._reply(option, protocol.INFO_REPLY, struct.pack(">H", kind) + text)

    def _list(self, data: bytes) -> None:
        _check_empty(data)
        for name, description in self._exports.names():
            text = struct.pack(">I", len(name.encode())) + name.encode() + description.encode()
            self._reply(protocol.LIST, protocol.SERVER, text)

    def _contexts(self, option: int, data: bytes) -> None:
        if not self._structured:
            raise Refused(protocol.ERR_INVALID, "ask for structured replies first")
        name, rest = _string(data)
        queries = _queries(rest)
        export, setting = self._open(name), option == protocol.SET_META_CONTEXT
        try:
            names = [] if setting and not queries else matching(queries, export.contexts)
            known = set() if setting else {*export.contexts()}
            # Each is looked up in the journal: no more than a client can use at a time.
            unsure = [name for name in names if name not in known][: protocol.CONTEXTS_MAX]
            made = there(export.context, unsure)
            names = [name for name in names if name in known or name in made]
        except BaseException:
            self._exports.close(export)
            raise
        if setting:
            self._choose(export, made)
        else:
            self._exports.close(export)
        for number, context in enumerate(names, 1):
            told = struct.pack(">I", number if setting else 0) + context.encode()
            self._reply(option, protocol.META_CONTEXT, told)

    def _open(self, name: str, held: Export | None = None) -> Export:
        try:
            return self._exports.open_like(held, name)
        except (JrnlError, OSError, MemoryError) as error:
            raise Refused(protocol.ERR_UNKNOWN, str(error)) from error

    def _choose(self, export: Export | None, contexts: dict[str, Context]) -> None:
        """Take note of the contexts that a client wants, in the place of any before."""
        before, self._chosen_of, self._chosen = self._chosen_of, export, contexts
        if before is not None:
            self._exports.close(before)

    def _agreed(self, export: Export) -> Agreed:
        contexts = [*self._chosen.values()] if self._chosen_of is export else []
        return Agreed(export, self._structured, contexts)


def flags_of(export: Export, structured: bool) -> int:
    """Return the transmission flags of an export."""
    flags = protocol.HAS_FLAGS | protocol.SEND_FLUSH | protocol.CAN_MULTI_CONN | protocol.SEND_CACHE
    if structured:
        flags |= protocol.SEND_DF
    if export.read_only:
        return flags | protocol.READ_ONLY
    flags |= protocol.SEND_FUA | protocol.SEND_TRIM
    return flags | protocol.SEND_WRITE_ZEROES | protocol.SEND_FAST_ZERO


def _check_empty(data: bytes) -> None:
    if data:
        raise Refused(protocol.ERR_INVALID, "this option takes no data")


def _string(data: bytes) -> tuple[str, bytes]:
    """Return a string with its length before it, and what follows."""
    length = int.from_bytes(data[:4])
    if len(data) < 4 + length:
        raise Refused(protocol.ERR_INVALID, "a string is longer than the option")
    if length > protocol.STRING_MAX_BYTES:
        raise Refused(protocol.ERR_TOO_BIG, f"a string has at most {protocol.STRING_MAX_BYTES}")
    try:
        return data[4 : 4 + length].decode(), data[4 + length :]
    except UnicodeDecodeError as error:
        raise Refused(protocol.ERR_INVALID, "a string is not UTF-8") from error


def _queries(data: bytes) -> list[str]:
    if len(data) < 4:  # noqa: PLR2004
        raise Refused(protocol.ERR_INVALID, "the number of queries is missing")
    count, rest, found = int.from_bytes(data[:4]), data[4:], []
    if protocol.QUERIES_MAX < count <= len(rest) // 4:
        raise Refused(protocol.ERR_TOO_BIG, f"at most {protocol.QUERIES_MAX} queries")
    for _ in range(min(count, len(data))):
        query, rest = _string(rest)
        found.append(query)
    if len(found) != count or rest:
        raise Refused(protocol.ERR_INVALID, "the number of queries is wrong")
    return found
