"""The journal as its users see it: what it holds, and each entry's images."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from jrnl._core import Engine
from jrnl.errors import InvalidArgument, InvalidType, UnknownPoint, shown
from jrnl.plan import AFTER, BEFORE
from jrnl.points import SeqPoint, parse_point


class Journal:
    """What the journal holds; ``store.journal``."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def __repr__(self) -> str:
        return f"<jrnl.Journal, {self._engine.used} of {self.capacity} bytes used>"

    @property
    def capacity(self) -> int:
        """Bytes of headers and images together."""
        return self._engine.capacity

    @property
    def used(self) -> int:
        """Bytes that the retained entries take, headers and images. Raises StoreClosed."""
        with self._engine as engine:
            engine.check_not_closed()
            return engine.used

    @property
    def entries(self) -> NDArray[np.void]:
        """The retained entries in seq order, a copy.

        A structured array with the fields seq (uint64), time_ns (int64), kind (uint8, a `Kind`),
        volume (uint16, its index in ``store.volumes``), offset and length (uint64, bytes). A
        REWIND's offset is the seq of the state it stands for; a MARK's length is its text's.

        Raises
        ------
        CorruptionError, StoreClosed
        """
        with self._engine as engine:
            engine.check_not_closed()
            return engine.entries()

    def before(self, seq: int) -> bytes:
        """Return what entry `seq` overwrote; nothing for a mark, a flush or a rewind.

        Raises
        ------
        PointExpired, UnknownPoint, CorruptionError, StoreClosed
        InvalidArgument
            The store keeps no before-images.
        """
        return self._image(seq, after=False)

    def after(self, seq: int) -> bytes:
        """Return what entry `seq` wrote; a mark's name for a mark. Raises as `before`."""
        return self._image(seq, after=True)

    def _image(self, seq: int, *, after: bool) -> bytes:
        parsed = parse_point(seq)
        if not isinstance(parsed, SeqPoint):
            raise InvalidType(f"an entry is named by its seq (int), not {type(seq).__name__}")
        with self._engine as engine:
            engine.check_open()
            if not 0 <= parsed.seq <= engine.seq:
                raise UnknownPoint(
                    f"there is no entry {shown(parsed.seq)}; the newest is {engine.seq}"
                )
            image = engine.image_bytes(parsed.seq, after)
            if image is not None and after and not engine.changes_bytes(parsed.seq):
                return image.split(b"\0")[0]  # a mark's volumes follow its name
            if image is not None:
                return image
            wanted = AFTER if after else BEFORE
            if not engine.images & wanted and engine.changes_bytes(parsed.seq):
                kept, other = ("before", "after") if after else ("after", "before")
                raise InvalidArgument(
                    f"the store keeps no {other}-images (images={kept!r}); "
                    f"create it with images='{other}' or 'both'"
                )
            return b""
