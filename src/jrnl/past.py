"""The past of a store: the public methods that look at earlier states, and change none."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from jrnl import heat, history, search
from jrnl.errors import InvalidArgument, InvalidType
from jrnl.history import Stats
from jrnl.plan import BEFORE
from jrnl.points import Point
from jrnl.recovery import Recovery, recover
from jrnl.sizes import Size, as_flag
from jrnl.snapshot import Snapshot
from jrnl.state import ImageState, State
from jrnl.steady import steadily
from jrnl.view import View
from jrnl.volume import Production, Volume

if TYPE_CHECKING:
    from jrnl._core import Engine
    from jrnl.catalog import Catalog
    from jrnl.resolve import Resolver
    from jrnl.session import Session


class Past(ImageState):
    """What a store shows of its states; `Store` adds all that makes and changes them."""

    _session: Session
    _engine: Engine
    _catalog: Catalog
    _resolver: Resolver
    _production: Production

    # Views.

    def view(
        self,
        at: Point,
        writable: bool = False,
        *,
        volumes: Iterable[str] | None = None,
        pinned: bool = False,
    ) -> View:
        """Look at an earlier state without copying it.

        Parameters
        ----------
        at : point
            As for `recover`.
        writable : bool
            Let it be written to: copy on write, thrown away when it is closed, unless
            `View.promote` puts it onto production before.
        volumes : iterable of str, optional
            Show only these volumes; by default those of the mark or
            snapshot that `at` names, or all.
        pinned : bool
            Keep its state in the window, as `pin` does, until it is closed.

        Raises
        ------
        PointExpired, UnknownPoint, UnknownVolume, CorruptionError, InvalidArgument, InvalidType,
        EditOpen, StoreClosed
        """
        writable, pinned = as_flag(writable, "writable"), as_flag(pinned, "pinned")
        with self._engine as engine:
            engine.check_open()
            view = steadily(engine, partial(self._view, at, volumes, writable, pinned))
            self._session.views.add(view)
            return view

    def _view(
        self,
        at: Point,
        volumes: Iterable[str] | None = None,
        writable: bool = False,
        pinned: bool = False,
    ) -> View:
        resolver = self._resolver
        only = resolver.only(volumes, at)
        image, pin = resolver.image_of(at, only), None
        if pinned and resolver.snapshot_of(at, only) is None:  # that one needs no entry
            pin = self._session.pins.pin(resolver.resolve(at))
        return View(image, self._catalog.covered(only), self._session, writable=writable, pin=pin)

    @property
    def views(self) -> Mapping[int, View]:
        """The open views by `View.id`, for as long as somebody holds them.

        `View.opened` tells where each was opened: what stands in the way of a rewind.
        """
        with self._engine as engine:
            engine.check_not_closed()
            return MappingProxyType(self._session.views.all())

    # What there is, and where it went wrong.

    def states(self, start: Point | None = None, stop: Point | None = None) -> NDArray[np.int64]:
        """Return the seqs of the states that are there, rising: each can be viewed or recovered.

        What a rewind dropped is not among them. A state that only a snapshot holds is not, either.

        Parameters
        ----------
        start, stop : point, optional
            The first one and the last one, both among them; by default those of the window. An int
            is a bound, whether or not it is the seq of a state.

        Returns
        -------
        ndarray
            int64[n].

        Raises
        ------
        CorruptionError
            The header of one of their entries is damaged.
        PointExpired, UnknownPoint, InvalidType, InvalidArgument, StoreClosed
        """
        with self._engine as engine:
            engine.check_not_closed()
            return steadily(engine, partial(self._states, start, stop))

    def _states(self, start: Point | None, stop: Point | None) -> NDArray[np.int64]:
        engine, resolve = self._engine, self._resolver.resolve
        oldest = self._resolver.oldest()
        first, last = (
            bound if isinstance(bound, int) and not isinstance(bound, bool) else resolve(bound)
            for bound in (
                oldest if start is None else start,
                engine.seq if stop is None else stop,
            )
        )
        first, last = max(first, oldest), min(last, engine.seq)
        if first > last:
            return np.empty(0, np.int64)
        seqs = engine.entries(max(first, oldest + 1), last)["seq"].astype(np.int64)
        return np.concatenate([np.array([oldest] if first == oldest else [], np.int64), seqs])

    def bisect(
        self,
        check: Callable[[State], object],
        start: Point | None = None,
        stop: Point | None = None,
    ) -> int:
        """Return the first state at which a check fails, by binary search.

        It is called for about log2 of as many states as there are, and is taken at its word: where
        it fails once it is supposed to fail ever after. Where it does not, the state that is found
        is one at which it fails while it holds at the one before.

        Parameters
        ----------
        check : callable
            Called with a state to read, closed afterwards: a view, or with after-images alone a
            recovery. What it returns counts as true or false; what it raises ends the search.
        start, stop : point, optional
            The first and the last state to look at, as for `states`.

        Returns
        -------
        int
            A seq; that of the first state where it fails there already.

        Raises
        ------
        InvalidArgument
            It holds at the last one; or there are no states between `start` and `stop`.
        PointExpired
            A state has left the window meanwhile; a `pin` keeps it.
        UnknownPoint, CorruptionError, EditOpen, InvalidType, StoreClosed
        """
        seqs = partial(self.states, start, stop)
        return search.bisect(check, seqs, partial(self._holds, check))

    def _holds(self, check: Callable[[State], object], seq: int) -> bool:
        with self._engine as engine:
            engine.check_open()
            shown = steadily(engine, partial(self._state_at, seq))
        try:
            return bool(check(shown))
        finally:
            shown.close()

    # What has happened.

    def diff(  # type: ignore[override]
        self,
        a: Point | State,
        b: Point | None = None,
        volume: str | Volume | None = None,
        *,
        exact: bool = False,
    ) -> NDArray[np.void]:
        """Say where two states differ. Their order does not matter.

        Of a state alone (a view, say) it tells where production differs from it, exactly, as
        `State.diff` does; a `volume` is to be named as such then. What follows is of two points.

        By default that is told from the headers of the entries between them, and nothing is read:
        the extents that these entries wrote. Outside of them the states are equal; inside, bytes
        may be, since a write may write what was there already. Zeroes over zeroes do not count
        where the journal says so.

        With `exact` both states are read there and compared: an extent begins and ends with a byte
        that differs, and between two such bytes runs of less than 64 equal ones are part of it.

        A state that only a snapshot holds, and one that damaged headers lead to, is read and
        compared in any case, wherever it may differ: the answer is exact then.

        Parameters
        ----------
        a, b : point
            As for `recover`; or `a` is a state, and `b` left out. Without `exact`, their entries
            are enough: they need not be in the window of a store with ``images="after"``.
        volume : str or Volume, optional
            Only this one; all of them by default, also where a point is a snapshot of some. Once
            that is all that holds its state, name one that it covers.

        Returns
        -------
        ndarray
            Structured: volume (uint16, its index in ``store.volumes``), offset and length (uint64,
            bytes), sorted by volume and offset; extents neither touch nor overlap.

        Raises
        ------
        PointExpired, UnknownPoint, UnknownVolume, CorruptionError, InvalidArgument, InvalidType,
        EditOpen, StoreClosed, MemoryError
        """
        exact = as_flag(exact, "exact")
        if isinstance(a, State) and b is None:
            return super().diff(a, volume)
        if b is None or (isinstance(a, State) and not isinstance(a, Snapshot)):
            raise InvalidType("diff takes two points, or one state, such as a view")
        with self._engine as engine:
            engine.check_open()
            index = None if volume is None else self._catalog.volume_index(volume)
            only = None if index is None else frozenset({index})
            state = self._resolver.state
            return steadily(
                engine,
                lambda: history.diff(engine, (state(a, only), state(b, only)), index, exact),
            )

    def history(
        self, offset: int, length: int, volume: str | Volume | None = None
    ) -> NDArray[np.void]:
        """Say who wrote in a range of a volume: the retained entries that did, oldest first.

        They are rows of ``store.journal.entries``: writes, discards and zeroes whose range overlaps
        it. What was there before entry `seq` is ``store.journal.before(seq)``. What a rewind
        dropped is in no state and not in here. Nobody has written in an empty range.

        Parameters
        ----------
        offset, length : int
            Bytes.
        volume : str or Volume, optional
            Where there are several.

        Raises
        ------
        OutOfBounds, UnknownVolume, InvalidType, StoreClosed
        CorruptionError
            A header is damaged: it could be of an entry that wrote there.
        """
        with self._engine as engine:
            engine.check_not_closed()
            index = self._catalog.volume_index(volume)
            return steadily(engine, lambda: history.history(engine, offset, length, index))

    def stats(
        self,
        since: Point | None = None,
        until: Point | None = None,
        volume: str | Volume | None = None,
    ) -> Stats:
        """Count what was written after state `since`, up to and including state `until`.

        By default, all that the journal holds. A phase is what lies between two points: mark its
        start and its end. What a rewind dropped counts nowhere.

        Parameters
        ----------
        since, until : point, optional
        volume : str or Volume, optional
            Only what was written to this one; all of them by default.

        Returns
        -------
        Stats

        Raises
        ------
        InvalidArgument
            `since` is the later one.
        CorruptionError
            A header among them is damaged.
        PointExpired, UnknownPoint, UnknownVolume, InvalidType, StoreClosed
        """
        with self._engine as engine:
            engine.check_not_closed()
            index = None if volume is None else self._catalog.volume_index(volume)

            def count() -> Stats:
                first = engine.base_seq if since is None else self._resolver.resolve(since)
                last = engine.seq if until is None else self._resolver.resolve(until)
                return history.stats(engine, first, last, index)

            return steadily(engine, count)

    def heat(
        self,
        block: Size = "64KiB",
        bins: heat.Bins = 256,
        start: Point | None = None,
        stop: Point | None = None,
        volume: str | Volume | None = None,
        *,
        by: heat.Axis | None = None,
        kinds: heat.Names = None,
    ) -> NDArray[np.int64]:
        """Count the bytes that were changed, by time and block: where it is hot, and when.

        It is told from the entries' headers, and exact: an entry counts in each block that it
        covers as many bytes as it changed there. So the sum is that of the entries' lengths.

        Parameters
        ----------
        block : int or str
            Bytes of a block.
        bins : int or sequence of int
            How many equal spans from the first entry that changed bytes to the last one, whichever
            volume and kinds are asked for; row k is from
            ``first + (last - first + 1) * k // bins`` on. Or the edges, which rise: row k is of
            ``edges[k] <= at < edges[k + 1]``, and what lies before or behind is left out.
        start, stop : point, optional
            What was changed after state `start`, up to and including state `stop`; by default all
            that the journal holds. What a rewind dropped counts nowhere.
        volume : str or Volume, optional
            Only this one. By default all of them, one after the other: the columns of a volume of
            n bytes are ``ceil(n / block)``, the last one of which may be a shorter block.
        by : "time" or "seq", optional
            What bins and edges are of: nanoseconds since 1970-01-01 UTC, or seqs. Time by default.
        kinds : iterable of str, optional
            Of which entries: "write", "discard", "zeroes". All three by default.

        Returns
        -------
        ndarray
            int64[bins, blocks], bytes. Beside it, about 100 bytes are used for each entry.

        Raises
        ------
        InvalidArgument
            There would be more than 2**26 numbers (512 MiB); it says which block or bins would do.
            Or there is no such block, bins, edges, axis or kind, or `start` is the later one.
        CorruptionError
            A header among them is damaged.
        PointExpired, UnknownPoint, UnknownVolume, InvalidType, MemoryError, StoreClosed
        """
        with self._engine as engine:
            engine.check_not_closed()
            index = None if volume is None else self._catalog.volume_index(volume)
            axis = heat.as_axis(by, "time")

            def look() -> heat.Changes:
                first = engine.base_seq if start is None else self._resolver.resolve(start)
                last = engine.seq if stop is None else self._resolver.resolve(stop)
                if first > last:
                    raise InvalidArgument(f"start={first} is later than stop={last}; exchange them")
                return heat.changes_of(engine, first, last, axis)

            changes, sizes = steadily(engine, look), engine.sizes
        return heat.heat(sizes, changes, block, bins, index, kinds)

    def digest(self, at: Point | None = None) -> str:
        """Return one XXH3-128, as 32 hex digits, over all volumes one after the other.

        Equal digests mean equal states. `at` is any point; the present state by default. Of a
        snapshot of some volumes the digest is over these alone. Takes and raises what `recover`
        does.
        """
        with self._engine as engine:
            engine.check_open()
            return steadily(engine, partial(self._digest, at))

    def _digest(self, at: Point | None) -> str:
        if at is None:
            return self._production.digest()
        named = self._resolver.named(at)
        names: Iterable[str] = named.volumes if isinstance(named, Snapshot) else self
        shown = self._state_at(at, names)
        try:
            return shown.digest()
        finally:
            shown._close()

    def _state_at(self, at: Point, volumes: Iterable[str] | None = None) -> View | Recovery:
        """Return a state to look at, which is not listed among the open ones if it is a view."""
        if self._engine.images & BEFORE:
            return self._view(at, volumes)
        # With after-images alone, not every state that can be rebuilt can be viewed.
        return recover(self._session, at, volumes=volumes)
