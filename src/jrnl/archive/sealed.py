"""One frame of an archive's object: what it is, how long, with checksums, compressed."""

from __future__ import annotations

import struct
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import xxhash

from jrnl.errors import CorruptionError, FormatError
from jrnl.extras import need

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Readable = bytes | bytearray | memoryview | NDArray[Any]

MAGIC = b"JRNLARCH"
VERSION = 1
FLAGS = 0  # features that a reader has to know; none yet
_FIELDS = struct.Struct("<8s8sHBxIQQ16s")  # magic, kind, version, codec, flags, stored, length, sum
HEADER_BYTES = _FIELDS.size + 8  # 64, with its own sum
PLAIN, ZSTD = 0, 1
_LEVEL = 1
_local = threading.local()


@dataclass(frozen=True, slots=True)
class Header:
    """What a frame's first 64 bytes say, checked: `stored` bytes follow, `length` once unpacked."""

    kind: bytes
    codec: int
    stored: int
    length: int
    sum: bytes

    @property
    def frame_bytes(self) -> int:
        """Length of the whole frame."""
        return HEADER_BYTES + self.stored


def seal(kind: bytes, payload: Readable, *, compress: bool = True) -> bytes:
    """Return a frame of `payload`, compressed where that makes it smaller.

    Parameters
    ----------
    kind : bytes
        What it holds, such as ``b"manifest"``: at most 8 letters.
    payload : bytes-like
    compress : bool

    Raises
    ------
    MissingPackage
        zstandard is not installed.
    """
    content = _view(payload)
    codec, stored = PLAIN, content
    if compress and len(content):
        packed = memoryview(pack(content))
        if len(packed) < len(content):
            codec, stored = ZSTD, packed
    return b"".join((frame_header(kind, stored, len(content), codec), stored))


def frame_header(kind: bytes, stored: Readable, length: int, codec: int = PLAIN) -> bytes:
    """Return the 64 bytes that stand before `stored`, which is `length` bytes once unpacked."""
    stored = _view(stored)
    fields = _FIELDS.pack(
        MAGIC, kind, VERSION, codec, FLAGS, len(stored), length, xxhash.xxh3_128_digest(stored)
    )
    return fields + xxhash.xxh3_64_digest(fields)


def parse_header(kind: bytes, body: Readable, key: str, most: int) -> Header:
    """Return what a frame's first 64 bytes say.

    Parameters
    ----------
    kind : bytes
        What it has to hold, such as ``b"manifest"``: at most 8 letters.
    body : bytes-like
        Begins with the frame; may end anywhere behind the header.
    key : str
        The object, for messages.
    most : int
        Bytes, the most that its payload may take, packed or not.

    Raises
    ------
    CorruptionError
        It is damaged, something else, or too large.
    FormatError
        It is whole, but of a version or with features that are not known here.
    """
    head = bytes(_view(body)[:HEADER_BYTES])
    fields, checksum = head[: _FIELDS.size], head[_FIELDS.size :]
    if len(head) < HEADER_BYTES or xxhash.xxh3_64_digest(fields) != checksum:
        raise CorruptionError(f"{key} is damaged: its header does not match its checksum")
    magic, found, version, codec, flags, stored, length, payload_sum = _FIELDS.unpack(fields)
    if magic != MAGIC:
        raise CorruptionError(f"{key} is damaged: it is no object of an archive")
    if version != VERSION or flags & ~FLAGS or codec not in (PLAIN, ZSTD):
        raise FormatError(
            f"{key} has format version {version}, features {flags:#x} and codec {codec}; this "
            f"version of jrnl knows version {VERSION}, features {FLAGS:#x} and codecs 0 and 1: "
            "use a newer one"
        )
    if found != kind.ljust(8, b"\0"):
        raise CorruptionError(f"{key} is damaged: it holds a {found!r}, not a {kind!r}")
    if max(stored, length) > most or (codec == PLAIN and stored != length):
        raise CorruptionError(
            f"{key} is damaged: it says {stored} bytes stored and {length} unpacked; at most "
            f"{most} can be"
        )
    return Header(kind, codec, stored, length, payload_sum)


def unseal_first(kind: bytes, body: Readable, key: str, most: int) -> tuple[bytes, int]:
    """Return the payload of the frame that `body` begins with, and the frame's length.

    Takes and raises what `parse_header` does.
    """
    content = _view(body)
    header = parse_header(kind, content, key, most)
    stored = content[HEADER_BYTES : header.frame_bytes]
    if len(stored) != header.stored:
        raise CorruptionError(
            f"{key} is damaged: it ends after {len(content)} bytes of {header.frame_bytes}"
        )
    if xxhash.xxh3_128_digest(stored) != header.sum:
        raise CorruptionError(f"{key} is damaged: its content does not match its checksum")
    if header.codec == PLAIN:
        return bytes(stored), header.frame_bytes
    return unpack(stored, header.length, key), header.frame_bytes


def unseal(kind: bytes, body: Readable, key: str, most: int) -> bytes:
    """Return the payload of an object that is one frame. Takes and raises as `parse_header`."""
    payload, used = unseal_first(kind, body, key, most)
    if used != len(_view(body)):
        raise CorruptionError(f"{key} is damaged: something follows its {used} bytes")
    return payload


def pack(content: Readable) -> bytes:
    """Return `content` as one zstd frame that says its length.

    Raises
    ------
    MissingPackage
    """
    packer = getattr(_local, "packer", None)  # of each thread: it is not for several at a time
    if packer is None:
        packer = _local.packer = _zstandard().ZstdCompressor(level=_LEVEL, write_content_size=True)
    packed: bytes = packer.compress(content)
    return packed


def unpack(packed: Readable, length: int, key: str) -> bytes:
    """Return what one zstd frame holds, which has to be `length` bytes; no more is allocated.

    Raises
    ------
    CorruptionError
        It is no such frame.
    MissingPackage
    """
    zstandard = _zstandard()
    unpacker = getattr(_local, "unpacker", None)
    if unpacker is None:
        unpacker = _local.unpacker = zstandard.ZstdDecompressor()
    try:
        said = zstandard.get_frame_parameters(packed).content_size
        if said != length:
            raise CorruptionError(f"{key} is damaged: packed are {said} bytes, not {length}")
        content: bytes = unpacker.decompress(packed, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise CorruptionError(f"{key} is damaged: it cannot be unpacked: {error}") from error
    if len(content) != length:
        raise CorruptionError(f"{key} is damaged: it unpacks to {len(content)} bytes of {length}")
    return content


def _view(content: Readable) -> memoryview:
    return memoryview(content).cast("B")  # type: ignore[arg-type]  # an array is a buffer


def _zstandard() -> Any:
    return need("zstandard", "archive")
