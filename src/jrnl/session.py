"""Sessions: what the parts of an open store share, and what they ask of the place where it lies."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from jrnl._core import Image
from jrnl.catalog import Catalog
from jrnl.compare import joined
from jrnl.errors import CorruptionError
from jrnl.events import Events
from jrnl.pins import Pins
from jrnl.plan import BEFORE
from jrnl.resolve import Resolver
from jrnl.snapshot_copier import Copier, MemoryCopy
from jrnl.sources import cloned
from jrnl.view import Views

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from contextlib import AbstractContextManager

    from jrnl._core import CallbackDevice, Engine, ExtentMap, FileDevice, Log
    from jrnl.compare import Ranges
    from jrnl.lineage import Lineage
    from jrnl.metrics import Number
    from jrnl.points import Mark
    from jrnl.recovery import Recovery
    from jrnl.snapshot import Snapshot
    from jrnl.snapshot_copier import Copy
    from jrnl.steady import Stamp


class Session:
    """The session of a store in memory, where nothing has to outlive the process.

    A store in files has another one (`disk.session`), which does beside what keeps its files right.
    Whoever makes a store picks one; nobody else asks where it lies. Callers hold the engine's lock.

    Parameters
    ----------
    names : list of str
        The volumes', in order.
    log : Log, optional
        Of a store in files.
    told_as : str, optional
        What log records call the store; a name for the purpose by default.
    lineage : Lineage, optional
        Of a fork.

    Attributes
    ----------
    engine : Engine
    lineage : Lineage or None
        What it is a fork of.
    events : Events
    catalog : Catalog
    copier : Copier
    pins : Pins
    resolver : Resolver
    views : Views
    on_closing : list of callable
        Called, without the lock, before the store is closed: who works beside it ends.
    on_rewind : list of callable
        Called with the state before production is rewound to it, with the lock held: who holds a
        later one for no caller gives it up. They must not raise.
    archive : Archive or None
        Which archives it.
    on_replaced : list of callable
        Called, with the engine's lock held, once production has been put back to an earlier state
        by a rewind, a restore or a promotion: who has cached its bytes has old ones. They must not
        raise.
    """

    def __init__(
        self,
        engine: Engine,
        names: list[str],
        log: Log | None = None,
        told_as: str | None = None,
        lineage: Lineage | None = None,
    ) -> None:
        self.engine = engine
        self.lineage = lineage
        self._log = log
        self.events = Events(told_as or f"memory-{engine.identity & 0xFFFFFFFF:08x}")
        engine.set_events(self.events)
        self.copier = Copier(engine, log)
        self.catalog = Catalog(engine, {name: k for k, name in enumerate(names)})
        self.pins = Pins(engine, self.catalog)
        self.resolver = Resolver(engine, self.catalog)
        self.views = Views()
        self.on_replaced: list[Callable[[], object]] = []
        self.on_closing: list[Callable[[], object]] = []
        self.on_rewind: list[Callable[[int], object]] = []
        self.archive: Any = None

    def changing(self) -> AbstractContextManager[object]:
        """Return a block that changes files, if there are any, and none of them from inside it."""
        return nullcontext()

    def problems(self) -> list[str]:
        """Say what opening has found, and what has stopped all writing since."""
        return []

    def replaced(self) -> None:
        """Tell those who wait for it that production's bytes are others now."""
        for told in [*self.on_replaced]:
            told()

    def metrics(self) -> dict[str, Number]:
        """Return the numbers that depend on where the store lies."""
        return {"poisoned": 0}

    def tell_made(self, name: str = "made") -> None:
        """Tell that the store has been made."""
        engine = self.engine
        sizes = engine.sizes
        engine.happened(name, volumes=len(sizes), bytes=sum(sizes), journal=engine.capacity)

    def tell_closed(self) -> None:
        """Tell that the store is closed."""
        self.engine.happened("unmade", seq=self.engine.seq)

    # Snapshots.

    def check_snapshot(self, name: str, covered: list[int]) -> None:
        """Raise CatalogFull where there is no room for one more snapshot."""

    def begin_snapshot(self, covered: list[int]) -> tuple[Image, Copy | None]:
        """Begin a snapshot of production; return its image, and how that becomes a copy."""
        engine = self.engine
        if not engine.images & BEFORE:
            return Image.frozen(engine, covered), None
        image = Image.live(engine, engine.seq, True, covered)
        return image, MemoryCopy(image, covered)

    def enter_snapshot(self, snapshot: Snapshot) -> Callable[[], None]:
        """Give a snapshot its name; return what ends that, to be called without the lock."""
        self.catalog.add_snapshot(snapshot)
        return _nothing

    def snapshot_deleted(self, image: Image) -> None:
        """Forget a snapshot's copy."""

    def fold(self, image: Image, extents: ExtentMap, seq: int, stamp: Stamp) -> Image:
        """Bring a snapshot's copy on to state `seq`; who holds the copy keeps the old one."""
        own = Image.frozen_of(image) if image.is_shared else image
        own.advance(extents, seq, stamp=stamp)
        return own

    def make_base(self, name: str, seq: int) -> Image:
        """Copy state `seq`, or where that cannot be had, the present one, for a snapshot."""
        engine = self.engine
        if engine.images & BEFORE:
            try:
                return Image.frozen_of(Image.live(engine, seq, False))
            except CorruptionError:  # later entries are damaged; production is not
                pass
        engine.check_settled()  # an edit's bytes are no state
        return Image.frozen(engine)

    # Recoveries.

    def check_recovery(self, name: str, volumes: Iterable[int] | None) -> None:
        """Raise CatalogFull where one more recovery could not be kept when the store is closed."""

    def check_listed(self, listed: int) -> None:
        """Raise Moved where another recovery has come or gone, and taken files with it."""

    def preserve(self) -> Image:
        """Copy production as it is now; the copy lasts as long as a recovery needs it."""
        return Image.frozen(self.engine)

    def restore(
        self, recovery: Recovery, ranges: Ranges, everything: bool, stamp: Stamp
    ) -> tuple[int, int]:
        """Write these ranges of a recovery's image onto production; return the first and last seq.

        Raises Moved where anything has changed since the stamp was taken.
        """
        self.catalog.save_recovery(recovery)
        return recovery._image.restore(*joined(ranges), stamp)

    def promote(
        self, image: Image, indices: dict[str, int], ranges: Ranges, stamp: Stamp
    ) -> tuple[int, int]:
        """Write these ranges of a view's image onto production; return the first and last seq.

        `indices` are the volumes that the view shows. Raises as `restore`.
        """
        return image.restore(*joined(ranges), stamp)

    def recovery_closed(self, recovery: Recovery) -> None:
        """Forget a recovery that was kept."""

    def delete_recovery(self, number: int) -> bool:
        """Forget a recovery that could not be taken up; False where there is none of that id."""
        return False

    # Forks.

    def clone_files(self, files: dict[int, FileDevice | CallbackDevice]) -> bool:
        """Have new files share what the volumes' files hold, by volume; False where none can.

        They hold production as it is now then.
        """
        log = self._log
        if log is None or log.poisoned or (log.read_only and log.lags):
            return False  # there are no files, or they lag behind, and stay so
        with self.engine.exclusive() as engine:
            return cloned(engine, files, None if log.read_only else log.write_back)

    # Marks, pins and rewinds.

    def check_mark(self, row: list[object]) -> None:
        """Raise CatalogFull where there is no room for a mark, pinned or of some volumes."""

    def pin_mark(self, mark: Mark) -> None:
        """Make a mark and its pin durable."""

    def unpin_mark(self, name: str) -> None:
        """Forget a mark's pin, durably."""

    def set_retention(self, least_ns: int, most_ns: int) -> None:
        """Remember how long states are kept, durably."""

    def check_rewind(self) -> None:
        """Raise what a rewind must not run into."""

    def rewound(self) -> None:
        """Take note of a rewind."""

    # Closing.

    @property
    def unsaved(self) -> bool:
        """Whether there is anything that closing would make durable."""
        return False

    def check_closing(self) -> None:
        """Raise EditOpen inside an edit, StoreClosed."""
        self.engine.check_open()

    def save(self, recoveries: list[Recovery]) -> None:
        """Make everything durable, these recoveries too."""

    def end(self) -> None:
        """Write nothing from here on: what is given up now stays where it is."""

    def let_go(self) -> None:
        """Close all files, and give up the lock."""


def _nothing() -> None:
    """End nothing: it is all done."""
