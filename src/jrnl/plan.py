"""The planner: which way to a state is the cheapest, and what it will move.

Four ways lead to state t. *Backward* from production or a later snapshot takes the before-images in
between (I1). From an earlier snapshot, *forward* takes the after-images in between (I3), and the
*bridge* takes before-images only: what was written since the snapshot comes from the first later
before-image, or from production (I2; US 2009/0019308 A1).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from functools import partial
from operator import itemgetter
from typing import Literal, NamedTuple

from jrnl._core import Chains, Engine, ExtentMap, Image
from jrnl.errors import CorruptionError, PointExpired

Route = Literal["backward", "bridge", "forward"]
Volumes = Collection[int] | None  # indices; None: all

BEFORE, AFTER, BOTH = 1, 2, 3


@dataclass(frozen=True)
class Plan:
    """What a recovery will do; what it says equals what then moves.

    Attributes
    ----------
    route : {"backward", "bridge", "forward"}
    base : str
        The snapshot that the image starts from, or "production".
    entries : int
        Journal entries from which bytes are taken.
    bytes : int
        Distinct bytes that are copied to make the image.
    """

    route: Route
    base: str
    entries: int
    bytes: int
    _outcome: Callable[[], int] = field(repr=False, compare=False)
    _compared: Callable[[], int] = field(repr=False, compare=False)

    @property
    def oldest_after_restore(self) -> int:
        """The window's oldest state if the recovered image were restored now.

        A restore journals what it overwrites, so it may push old entries out. It is found
        by comparing the image with production when it is asked for, which reads what may differ.
        """
        return self._outcome()

    @property
    def compared(self) -> int:
        """Bytes of production that a restore now would compare with the recovered image.

        That is what was written since the state, or since the base if that is older, each byte
        counted once; of what differs there, as much is written. It is told from headers and notes
        when it is asked for; no content is read.
        """
        return self._compared()


class Base(NamedTuple):
    """A state that an image can start from."""

    name: str
    seq: int | None  # as the journal counts now; None where it no longer knows the state
    image: Image | None  # None for production: its image is made when it is chosen
    covers: frozenset[int] | None = None  # volumes by index; None for all


class Way(NamedTuple):
    """One way to the target, with its map of what comes from where."""

    route: Route
    base: Base
    extents: ExtentMap
    extra_bytes: int = 0  # a base that must be copied first
    apart: int = 0  # bytes that only the base lacks: a restore compares them, too

    @property
    def entries(self) -> int:
        """Entries that bytes are taken from."""
        return self.extents.entries

    @property
    def bytes(self) -> int:
        """Distinct bytes that this way copies."""
        return self.extents.bytes + self.extra_bytes


def choose(
    engine: Engine,
    bases: Iterable[Base],
    target: int,
    volumes: Volumes = None,
    *,
    chains: Chains | None = None,
    advice: str | None = None,
) -> Way:
    """Return the cheapest way to state `target`, its restore counted. The caller holds the lock.

    Each way has to compare, before a restore, what was written since `target`. From an earlier
    base, what was written before `target` and never since is compared beside.

    Parameters
    ----------
    volumes : collection of int, optional
        The indices of the volumes that are asked for; all by default.
    chains : Chains, optional
        For a short step: take the first way that there is, and look at what lies between only.
    advice : str, optional
        What an error says is to be done.

    Raises
    ------
    PointExpired
        No base leads there with the entries that are left.
    CorruptionError
        All that do lead there have a damaged header among them.
    """
    usable = [(base.seq, base) for base in bases if base.seq is not None]
    later = [start for start in usable if start[0] >= target]
    earlier = [start for start in usable if start[0] < target]
    tries: list[Callable[[], Way]] = []
    # Distinct bytes only grow with the distance, so the nearest base on each side is enough.
    if later:
        tries += _ways_back(engine, *min(later, key=itemgetter(0)), target, volumes)
    if earlier:
        tries += _ways_on(engine, *max(earlier, key=itemgetter(0)), target, volumes, chains)
    ways: list[Way] = []
    damage: CorruptionError | None = None
    for find in tries:
        try:
            ways.append(find())
            if chains is not None:
                break
        except CorruptionError as error:  # another way may do without the damaged entry
            damage = error
    if not ways and damage is not None:
        raise damage
    if not ways:
        kept = ", ".join(f"{base.name!r} (state {base.seq})" for _, base in usable)
        if advice is None:
            advice = "use a snapshot before it that the journal leads on from"
            if engine.images == AFTER:
                advice += "; with images='before' or 'both' none is needed"
        raise PointExpired(
            f"no entries lead to state {target} from {kept or 'the base asked for'}: the journal "
            f"holds those after {engine.base_seq}; {advice}"
        )
    # Both ways on start from one base, of which the bridge knows exactly what it lacks.
    lacking = min((way.apart for way in ways if way.route != "backward"), default=0)
    return min(ways, key=lambda way: way.bytes + (lacking if way.apart else 0))


def _ways_back(
    engine: Engine, seq: int, base: Base, target: int, volumes: Volumes
) -> list[Callable[[], Way]]:
    if seq == target:
        copied = 0
        if base.image is None and engine.images == AFTER:
            copied = sum(engine.sizes)  # production moves on, and nothing keeps what it was
        return [lambda: Way("backward", base, ExtentMap(engine), copied)]
    if engine.images & BEFORE and target >= engine.base_seq:
        return [lambda: Way("backward", base, ExtentMap.backward(engine, target, seq, volumes))]
    return []


def _ways_on(
    engine: Engine, seq: int, base: Base, target: int, volumes: Volumes, chains: Chains | None
) -> list[Callable[[], Way]]:
    if seq < engine.base_seq:
        return []
    tries: list[Callable[[], Way]] = []
    if engine.images & AFTER:
        tries.append(partial(_forward, engine, seq, base, target, volumes))
    if engine.images & BEFORE:
        tries.append(partial(_bridge, engine, seq, base, target, volumes, chains))
    return tries


def _forward(engine: Engine, seq: int, base: Base, target: int, volumes: Volumes) -> Way:
    extents = ExtentMap.forward(engine, seq, target, volumes)
    return Way("forward", base, extents, apart=extents.bytes)  # at most


def _bridge(
    engine: Engine, seq: int, base: Base, target: int, volumes: Volumes, chains: Chains | None
) -> Way:
    extents = ExtentMap.bridge(engine, seq, target, volumes, chains)
    return Way("bridge", base, extents, apart=extents.from_production)
