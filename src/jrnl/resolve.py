"""Resolving: from a point to its seq, the base to start from, the image and the plan."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from jrnl._core import ExtentMap, Image
from jrnl.catalog import chosen
from jrnl.compare import bytes_to_compare
from jrnl.errors import InvalidArgument, InvalidType, PointExpired, UnknownPoint
from jrnl.history import State
from jrnl.pins import Pin
from jrnl.plan import BEFORE, Base, Plan, Way, choose
from jrnl.points import (
    PRODUCTION,
    Mark,
    NamePoint,
    Point,
    SeqPoint,
    TimePoint,
    parse_point,
)
from jrnl.snapshot import Snapshot, covers, telling_of_parts
from jrnl.steady import steadily
from jrnl.window import is_in_window, oldest_after, oldest_state, present_seq

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from jrnl._core import Engine
    from jrnl.catalog import Catalog

Only = frozenset[int] | None  # volumes by index; None: all


class Resolver:
    """What a store's points mean now. Callers hold the engine's lock."""

    def __init__(self, engine: Engine, catalog: Catalog) -> None:
        self._engine = engine
        self._catalog = catalog

    def oldest(self) -> int:
        """Return the oldest state of the window."""
        engine = self._engine
        return oldest_state(self._catalog.snapshots, engine, engine.base_seq, engine.seq)

    def resolve(self, point: Point) -> int:
        """Return the seq that the point's state is kept under. Raises as `recover`."""
        if type(point) is int and 0 <= point <= self._engine.seq:  # the usual case, in short
            return self._engine.resolve(point)
        self._check_own(point)
        parsed = parse_point(point)
        if isinstance(parsed, TimePoint):
            return self._engine.seq_at(parsed.time_ns)
        if isinstance(parsed, NamePoint):
            return self._engine.resolve(self._catalog.find_name(parsed.name).seq)
        return self._engine.resolve(parsed.seq)

    def _check_own(self, point: object) -> None:
        """Raise UnknownPoint for what was deleted, or is of another store."""
        foreign = isinstance(point, Snapshot) and point._image.engine is not self._engine
        if isinstance(point, Pin):
            foreign = not point._is_of(self._engine)
        elif isinstance(point, Mark) and point.name is None:
            foreign = not self._knows_bookmark(point)
        elif isinstance(point, Mark) and point.name is not None:
            own = self._catalog.find_mark(point.name)
            if own is None:  # of a state that is there it would be known
                foreign = is_in_window(self._catalog.snapshots, self._engine, point.seq)
            else:
                foreign = own.time_ns != point.time_ns
        if foreign:
            what = type(point).__name__.lower()
            name = getattr(point, "name", None)
            raise UnknownPoint(
                f"the {what} {name!r} is of another store, or was dropped; use its seq"
            )

    def _knows_bookmark(self, mark: Mark) -> bool:
        """Whether it can be of this store; where its write was lost, its seq may be another's."""
        engine = self._engine
        if mark._store is not None and mark._store != engine.identity:
            return False
        # A REWIND's entry that a later one replaced goes by that one's time.
        if present_seq(engine, mark.seq) != mark.seq:
            return True  # resolving it says what has become of the state
        return engine.state_time(mark.seq) <= mark.time_ns

    def only(self, volumes: Iterable[str] | None, point: Point) -> Only:
        """Return the indices of the volumes that are asked for: by name, or by the point."""
        if volumes is None:
            named = self.named(point)
            if isinstance(named, Snapshot):
                return named._covers
            volumes = None if named is None else named.volumes
        if volumes is None:
            return None
        return frozenset(chosen(self._catalog.indices, volumes, self._engine))

    def named(self, point: Point) -> Mark | Snapshot | None:
        """Return the mark or snapshot that a point is, or is the name of."""
        self._check_own(point)
        if isinstance(point, str):
            return self._catalog.snapshots.get(point) or self._catalog.find_mark(point)
        return point if isinstance(point, Mark | Snapshot) else None

    def snapshot_of(self, point: Point, only: Only = None) -> Snapshot | None:
        """Return a snapshot that holds what is asked of the state that `point` names, if any."""
        found: Snapshot | None = None
        parsed = None
        if isinstance(point, Snapshot) and point.name in self._catalog.snapshots:
            found = self._catalog.snapshots[point.name]
        else:
            parsed = parse_point(point)
        if isinstance(parsed, NamePoint):
            found = self._catalog.snapshots.get(parsed.name)
        if found is not None and covers(found, only):
            return found
        seq = parsed.seq if isinstance(parsed, SeqPoint) else None if found is None else found.seq
        for snapshot in self._catalog.snapshots.values():
            if snapshot.seq == seq and covers(snapshot, only):
                return snapshot
        return None

    def choose(self, to: Point, base: str | Snapshot | None, only: Only) -> tuple[Way, int]:
        """Return the way to `to`, and the seq of its state."""
        engine = self._engine
        self._check_own(to)
        bases = self._bases(base, only)
        target = self.snapshot_of(to, only)
        if target is not None and present_seq(engine, target.seq) is None:
            # The journal no longer knows this state, but the snapshot is a point of its own.
            if base is not None:
                asked = self._catalog.snapshots.get(bases[0].name)
                if asked is None or asked.seq != target.seq:
                    raise PointExpired(
                        f"state {target.seq} is only in the snapshot {target.name!r} now, "
                        f"and cannot be reached from {bases[0].name!r}"
                    )
                target = asked
            own = Base(target.name, target.seq, target._image, target._covers)
            return Way("backward", own, ExtentMap(engine)), target.seq
        parts = self._catalog.snapshots if base is None else {}
        advice = None if base is None else "leave base out, or use a later snapshot"
        with telling_of_parts(parts, to, only):
            seq = self.resolve(to)
            return choose(engine, bases, seq, only, advice=advice), seq

    def state(self, point: Point, only: Only) -> State:
        """Return what `diff` has to know of a point, and of which volumes."""
        self._check_own(point)
        snapshot = self.snapshot_of(point, only)
        if snapshot is not None and present_seq(self._engine, snapshot.seq) is None:
            return State(None, lambda: snapshot._image)

        def image() -> Image:
            way, seq = self.choose(point, None, only)
            base = way.base.image or Image.production(self._engine)
            return Image.patched(base, way.extents, seq, False)

        with telling_of_parts(self._catalog.snapshots, point, only):
            return State(self.resolve(point), image)

    def _bases(self, base: str | Snapshot | None, only: Only) -> list[Base]:
        """Return what an image may start from: all there is, or just the snapshot asked for."""
        engine = self._engine
        if base is not None:
            if not isinstance(base, str | Snapshot):
                raise InvalidType(
                    f"a base is a Snapshot or the name of one, not {type(base).__name__}"
                )
            self._check_own(base)
            if base == PRODUCTION and base not in self._catalog.snapshots:
                return [Base(PRODUCTION, engine.seq, None)]
            found = base if isinstance(base, Snapshot) else self._catalog.find_base(base)
            if not covers(found, only):
                raise InvalidArgument(
                    f"the snapshot {found.name!r} covers only the volumes "
                    f"{', '.join(map(repr, found.volumes))}; name no other ones, or use another "
                    "base, such as 'production'"
                )
            return [Base(found.name, present_seq(engine, found.seq), found._image, found._covers)]
        return [*self._snapshot_bases(only), Base(PRODUCTION, engine.seq, None)]

    def _snapshot_bases(self, only: Only) -> list[Base]:
        return [
            Base(snapshot.name, present_seq(self._engine, snapshot.seq), snapshot._image,
                 snapshot._covers)
            for snapshot in self._catalog.snapshots.values()
            if covers(snapshot, only)
        ]  # fmt: skip

    def image_of(self, at: Point, only: Only) -> Image:
        """Return the image of a state that copies nothing."""
        engine = self._engine
        snapshot = self.snapshot_of(at, only)
        if snapshot is not None:
            return Image.patched(snapshot._image, ExtentMap(engine), snapshot.seq, False)
        with telling_of_parts(self._catalog.snapshots, at, only):
            seq = self.resolve(at)
        if engine.images & BEFORE:
            return Image.live(engine, seq, False, only)
        try:
            way = choose(engine, self._snapshot_bases(only), seq, only)
        except PointExpired as error:
            advice = "take a snapshot before"
            if seq == engine.seq:  # which `recover` would copy
                advice += ", or recover it"
            raise PointExpired(
                f"with images='after' no view can follow state {seq} once it is overwritten, but "
                f"from a snapshot at or before it that the journal leads on from; {advice}"
            ) from error
        assert way.base.image is not None
        image = Image.patched(way.base.image, way.extents, seq, False)
        assert way.base.seq is not None
        image.expires_after(way.base.seq)
        return image

    def way_to_present(self, only: Only) -> Way:
        """Return a way to the present state that copies as little as can be: of these volumes."""
        engine = self._engine
        if not engine.images & BEFORE:  # production would be copied, whole
            try:
                return choose(engine, self._snapshot_bases(only), engine.seq, only)
            except PointExpired:
                pass
        return Way("backward", Base(PRODUCTION, engine.seq, None), ExtentMap(engine))

    def plan(self, to: Point, base: str | Snapshot | None, volumes: Iterable[str] | None) -> Plan:
        """Say what a recovery would move; what a restore would, once it is asked."""
        only = self.only(volumes, to)
        way, seq = self.choose(to, base, only)

        def later(ask: Callable[[Image, list[int]], int]) -> int:
            """Look again: what a way says holds until the next write."""
            with self._engine as engine:
                engine.check_open()

                def look() -> int:
                    way, at = self.choose(seq, base, only)
                    start = way.base.image or Image.production(engine)
                    image = Image.patched(start, way.extents, at, False)
                    return ask(image, [*self._catalog.covered(only).values()])

                return steadily(engine, look)

        def oldest(image: Image, indices: list[int]) -> int:
            return oldest_after(self._catalog.snapshots, image, indices)

        asked = partial(later, oldest), partial(later, bytes_to_compare)
        return Plan(way.route, way.base.name, way.entries, way.bytes, *asked)
