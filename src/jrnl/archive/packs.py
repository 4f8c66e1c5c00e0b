"""Chunks on their way into packs, which are put several at a time."""

from __future__ import annotations

from array import array
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import xxhash

from jrnl.archive import sealed
from jrnl.archive.table import CHUNK, PIECE_BYTES, Pack, hash_of, pack_key
from jrnl.errors import InvalidArgument

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from jrnl.archive.objects import Objects
    from jrnl.archive.table import Chunks

PACK_BYTES = 8 << 20
AT_ONCE = 4
_KIND = b"pack"


class PackWriter:
    """Chunks that are new, in packs of about 8 MiB.

    It takes `at_once + 1` packs of memory, and some 200 bytes for each chunk. Where a call has
    raised, it is of no more use: another one goes on, from `next_number`.

    Parameters
    ----------
    objects : Objects
    epoch : int
        The writer's, in which it is the only one.
    number : int
        Of the first pack; none is ever used twice in an epoch.
    at_once : int
        Packs that are being put at a time.
    pack_bytes : int
        How long a pack gets before it is put.

    Attributes
    ----------
    next_number : int
        Of the next pack.
    sent_bytes : int
        Of all packs that were put.
    """

    def __init__(
        self,
        objects: Objects,
        epoch: int,
        number: int = 1,
        *,
        at_once: int = AT_ONCE,
        pack_bytes: int = PACK_BYTES,
    ) -> None:
        self._objects, self._epoch = objects, epoch
        self.next_number = number
        self.sent_bytes = 0
        self._at_once, self._pack_bytes = at_once, pack_bytes
        self._pool: ThreadPoolExecutor | None = None
        self._going: deque[tuple[Future[bytes], int, int]] = deque()
        self._buffer: NDArray[np.uint8] | None = None
        self._used = 0
        # Of each chunk, in a row: pack, position, stored, length.
        self._chunks = array("I")
        self._hashes: dict[bytes, int] = {}
        self._packs: list[Pack] = []
        self._begun = 0  # packs, with the one that is being filled

    @property
    def keys(self) -> list[str]:
        """The keys of the packs that were put."""
        return [pack.key for pack in self._packs]

    def add(self, content: bytes | memoryview) -> int:
        """Take a chunk of at most 64 KiB, unless it was taken before; return its index here.

        Raises
        ------
        ArchiveError
            A pack before it could not be put.
        """
        length = len(content)
        if not 0 < length <= PIECE_BYTES:
            raise InvalidArgument(f"a chunk has 1 to {PIECE_BYTES} bytes, not {length}")
        known = hash_of(content)
        return self.add_packed(known, packed_or_plain(content), length)

    def add_packed(self, known_by: bytes, stored: bytes | memoryview, length: int) -> int:
        """Take a chunk by its hash and as it is to be stored; see `add`."""
        index = self._hashes.get(known_by)
        if index is not None:
            return index
        if self._buffer is None:
            self._begin()
        assert self._buffer is not None
        stop = self._used + len(stored)
        self._buffer.data[self._used : stop] = stored
        index = self._hashes[known_by] = len(self._hashes)
        self._chunks.extend((self._begun - 1, self._used, len(stored), length))
        self._used = stop
        if stop >= self._pack_bytes:
            self._send()
        return index

    def finish(self) -> tuple[Chunks, list[Pack]]:
        """Put what is left, and wait for all; return the chunks by index, and their packs.

        Raises
        ------
        ArchiveError
        """
        try:
            self._send()
            while self._going:
                self._landed()
        finally:
            self.close()
        chunks = np.empty(len(self._hashes), CHUNK)
        hashes = np.frombuffer(b"".join(self._hashes), np.uint8)
        chunks["hash"] = hashes.reshape(-1, CHUNK["hash"].shape[0])
        columns = np.array(self._chunks, np.uint32).reshape(-1, 4)
        for k, name in enumerate(("pack", "position", "stored", "length")):
            chunks[name] = columns[:, k]
        return chunks, self._packs

    def close(self) -> None:
        """Wait for what is on its way, and put no more."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None

    def _begin(self) -> None:
        # A fresh one each time: an attempt that was given up may still be at the last one.
        self._buffer = np.empty(self._pack_bytes + PIECE_BYTES, np.uint8)
        self._used = sealed.HEADER_BYTES
        self._begun += 1

    def _send(self) -> None:
        if self._buffer is None:
            return
        while len(self._going) >= self._at_once:
            self._landed()
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._at_once, "jrnl-archive-put")
        number = self.next_number
        self.next_number += 1
        future = self._pool.submit(self._put, number, self._buffer.data[: self._used])
        self._going.append((future, number, self._used))
        self._buffer = None

    def _put(self, number: int, body: memoryview) -> bytes:
        payload = body[sealed.HEADER_BYTES :]
        body[: sealed.HEADER_BYTES] = sealed.frame_header(_KIND, payload, len(payload))
        self._objects.create(pack_key(self._epoch, number), body)
        return xxhash.xxh3_128_digest(body)

    def _landed(self) -> None:
        future, number, length = self._going.popleft()
        self._packs.append(Pack(self._epoch, number, length, future.result()))
        self.sent_bytes += length


def packed_or_plain(content: bytes | memoryview) -> bytes | memoryview:
    """Return what a chunk is stored as: one zstd frame, or itself where that is no shorter."""
    packed = sealed.pack(content)
    return packed if len(packed) < len(content) else content
