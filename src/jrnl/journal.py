"""The journal as its users see it: what it holds, and each entry's images."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from jrnl._core import Engine, tally
from jrnl.closeable import NotCopied
from jrnl.errors import InvalidArgument, InvalidType, UnknownPoint, shown
from jrnl.plan import AFTER, BEFORE
from jrnl.points import Point, SeqPoint, parse_mark_text, parse_point
from jrnl.steady import steadily

_SEQ_MAX = (1 << 64) - 1


class Journal(NotCopied):
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

    def between(self, start: Point | None = None, stop: Point | None = None) -> NDArray[np.void]:
        """Return the retained entries from one seq to another, both among them; as `entries`.

        It costs what it returns, however much the journal holds.

        Parameters
        ----------
        start, stop : int or Mark, optional
            Seqs, whether or not there are entries of these; by default there is no bound.

        Raises
        ------
        InvalidType
            Neither an int nor a Mark.
        InvalidArgument, CorruptionError, StoreClosed
        """
        first = 0 if start is None else max(0, _seq_of(start))
        last = _SEQ_MAX if stop is None else max(0, _seq_of(stop))
        with self._engine as engine:
            engine.check_not_closed()
            return engine.entries(min(first, engine.seq + 1), min(last, engine.seq))

    def used_up_to(self, seqs: Iterable[int]) -> NDArray[np.int64]:
        """Return how much of `used` is taken by the entries up to each of some seqs.

        On disk, a header before the first one, and what is left over where the log begins anew,
        belong to none.

        Parameters
        ----------
        seqs : iterable of int
            Rising; whether or not there are entries of these.

        Returns
        -------
        ndarray
            int64[n], bytes.

        Raises
        ------
        InvalidArgument
            They do not rise.
        InvalidType, CorruptionError, StoreClosed
        """
        bounds = [_seq_of(seq) for seq in seqs]
        if any(b < a for a, b in pairwise(bounds)):
            raise InvalidArgument("the seqs must rise")
        with self._engine as engine:
            engine.check_not_closed()
            return steadily(engine, partial(self._used_up_to, bounds))

    def _used_up_to(self, bounds: list[int]) -> NDArray[np.int64]:
        engine = self._engine
        low, newest = engine.base_seq, engine.seq
        used = np.empty(len(bounds), np.int64)
        total = 0
        for k, bound in enumerate(bounds):
            high = min(max(bound, low), newest)
            total += tally(engine, low, high)[2]
            used[k], low = total, high
        return used

    def before(self, seq: int) -> bytes:
        """Return what entry `seq` overwrote; nothing for a mark, a flush or a rewind.

        Raises
        ------
        InvalidArgument
            The store was made with ``images="after"``, and keeps none of it.
        PointExpired
            The entry has left the journal, or a rewind has dropped it.
        UnknownPoint
            There is no such entry, yet or ever: seqs begin at 1.
        CorruptionError, InvalidType, EditOpen, StoreClosed
        """
        return self._image(seq, after=False)

    def after(self, seq: int) -> bytes:
        """Return what entry `seq` wrote; nothing for a flush or a rewind, for a mark its name.

        What an entry wrote is kept only with ``images="after"`` or "both", which is the default on
        disk and not in memory: there, what entry `seq` wrote is read from ``store.view(seq)``.

        Raises
        ------
        InvalidArgument
            The store was made with ``images="before"``.
        PointExpired, UnknownPoint, CorruptionError, InvalidType, EditOpen, StoreClosed
            As `before`.
        """
        return self._image(seq, after=True)

    def _state_named(self, seq: int) -> int | None:
        """Return the earlier state that a mark's entry names; None: the one after it."""
        with self._engine as engine:
            engine.check_open()
            text = steadily(engine, partial(engine.image_bytes, seq, True))
        return parse_mark_text((text or b"").decode(errors="replace").split("\0")[1:])[1]

    def _image(self, seq: int, *, after: bool) -> bytes:
        number = _seq_of(seq)
        with self._engine as engine:
            engine.check_open()
            return steadily(engine, partial(self._image_of, number, after=after))

    def _image_of(self, seq: int, *, after: bool) -> bytes:
        engine = self._engine
        if not 0 <= seq <= engine.seq:
            raise UnknownPoint(f"there is no entry {shown(seq)}; the newest is {engine.seq}")
        image = engine.image_bytes(seq, after)
        if image is not None and after and not engine.changes_bytes(seq):
            return image.split(b"\0")[0]  # a mark's volumes follow its name
        if image is not None:
            return image
        wanted = AFTER if after else BEFORE
        if not engine.images & wanted and engine.changes_bytes(seq):
            kept, other = ("before", "after") if after else ("after", "before")
            raise InvalidArgument(
                f"the store keeps no {other}-images (images={kept!r}); "
                f"create it with images='{other}' or 'both'"
            )
        return b""


def _seq_of(point: Point) -> int:
    """Return the seq of what names an entry. Raises InvalidType."""
    parsed = parse_point(point)
    if not isinstance(parsed, SeqPoint):
        raise InvalidType(f"an entry is named by its seq (int), not {type(point).__name__}")
    return parsed.seq
