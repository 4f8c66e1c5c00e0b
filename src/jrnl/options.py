"""Options: what `create`, `open` and `wrap` take, checked, and what a store tells of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal

from jrnl._core import Engine, kernel_in_use
from jrnl.errors import InvalidArgument, InvalidType
from jrnl.plan import AFTER, BEFORE, BOTH
from jrnl.points import check_name
from jrnl.retention import Limits, parse_limits
from jrnl.sizes import Size, as_flag, check_callable, parse_size
from jrnl.sources import Path, file_size

if TYPE_CHECKING:
    from jrnl._core import CallbackDevice, FileDevice, MemoryDevice

    Device = MemoryDevice | FileDevice | CallbackDevice

JOURNAL_MIN_BYTES = 16 * 1024
OVERLAY_MIN_BYTES = 64 * 1024
OVERLAY_DEFAULT_BYTES = 64 << 20
IMAGES = {"before": BEFORE, "after": AFTER, "both": BOTH}
_OVERFLOWS = ("evict", "fold", "refuse")
_SYNCS = ("flush", "always")
_VOLUMES_MAX = 65535
_FILE_MAX_BYTES = 1 << 60


@dataclass(frozen=True)
class Options:
    """What a store was made with, and how it is open; ``store.options``.

    All but `mode`, `overlay` and `kernel` is what it was created with; on disk it is kept there.
    The names are those of `create`'s arguments.

    Attributes
    ----------
    path : str or None
        Where it lies, whole; None in memory.
    mode : {"r+", "r"}
        Whether it may be written to.
    volumes : dict of str to int
        Bytes of each volume, in order.
    journal : int
        Bytes.
    images : {"before", "after", "both"}
    overflow : {"evict", "fold", "refuse"}
    checksum : bool
    sync : {"flush", "always"} or None
        When writes are durable; None in memory, where they never are.
    overlay : int or None
        Bytes of memory for what the volumes' files have not got yet; None in memory.
    reclaim : (float, float) or None
    low : float or None
    keep_at_least, keep_at_most : timedelta or None
        As `create` or, since then, `Store.retain` has set it.
    kernel : str
        Which of the engine's kernels moves the bytes: the processor decides.
    """

    path: str | None
    mode: Literal["r+", "r"]
    volumes: dict[str, int]
    journal: int
    images: str
    overflow: str
    checksum: bool
    sync: str | None
    overlay: int | None
    reclaim: tuple[float, float] | None
    low: float | None
    keep_at_least: timedelta | None
    keep_at_most: timedelta | None
    kernel: str = kernel_in_use


@dataclass(frozen=True)
class Settings:
    """What `create`, `wrap` or `open` was given, checked, and what it hands on to all parts.

    A store in files has most of it in its superblocks: an opening begins with what it was given,
    and fills in the rest.

    Attributes
    ----------
    sizes : dict of str to int
        Bytes of each volume, in order.
    sources : dict of str to path
    journal : int
        Bytes.
    images : int
        1 before, 2 after, 3 both.
    overflow : str
    checksum : bool
    limits : Limits
    clock : callable or None
    path, sync, overlay
        In files.
    writable : bool
    maker : callable, optional
        ``maker(path, settings, content)``: who makes a fork on disk.
    """

    sizes: dict[str, int] = field(default_factory=dict)
    sources: dict[str, Path] = field(default_factory=dict)
    journal: int = 0
    images: int = BEFORE
    overflow: str = "evict"
    checksum: bool = True
    limits: Limits = field(default_factory=Limits)
    clock: Callable[[], int] | None = None
    path: str | None = None
    sync: str | None = None
    overlay: Size | None = None
    writable: bool = True
    maker: Callable[..., Any] | None = None

    def engine(self, devices: Sequence[Device], overlay: int = 0) -> Engine:
        """Return an engine over the devices of the volumes."""
        refuses = self.overflow == "refuse"
        return Engine(
            devices, self.journal, self.images, self.checksum, refuses, self.clock,
            [*self.sizes.values()], overlay,
        )  # fmt: skip

    def options(self, engine: Engine) -> Options:
        """Return what ``store.options`` tells of the store with this engine."""
        least, most = (timedelta(microseconds=ns / 1000) if ns else None for ns in engine.retention)
        images = next(name for name, mode in IMAGES.items() if mode == self.images)
        overlay = None if self.overlay is None else parse_size(self.overlay)
        return Options(
            self.path, "r+" if self.writable else "r", dict(self.sizes), self.journal, images,
            self.overflow, self.checksum, self.sync, overlay, self.limits.reclaim, self.limits.low,
            least, most,
        )  # fmt: skip


def parse(
    *,
    on_disk: bool,
    journal: Size = "64MiB",
    images: str | None = None,
    overflow: str = "evict",
    checksum: bool = True,
    sync: str | None = None,
    overlay: Size | None = None,
    clock: Callable[[], int] | None = None,
    **rules: Any,
) -> Settings:
    """Check what `create` or `wrap` was given, all but the volumes.

    Raises InvalidArgument, InvalidType.
    """
    if images is None and on_disk:
        images = "both"
    mode, checksum = _parse_modes(images, overflow, clock), as_flag(checksum, "checksum")
    if on_disk:
        _check_on_disk(mode, checksum, sync)
    elif sync is not None:
        raise InvalidArgument("sync is for stores on disk; this one is in memory")
    limits = parse_limits(overflow=overflow, **rules)
    capacity = parse_size(journal, "journal")
    if capacity < JOURNAL_MIN_BYTES:
        raise InvalidArgument(f"a journal has at least 16KiB, not {journal!r}")
    if on_disk:
        overlay, sync = overlay_size(capacity, overlay), sync or "flush"
    elif overlay is not None:
        raise InvalidArgument("overlay is for stores on disk; this one is in memory")
    return Settings(
        journal=capacity, images=mode, overflow=overflow, checksum=checksum, limits=limits,
        clock=clock, sync=sync, overlay=overlay,
    )  # fmt: skip


def with_volumes(
    settings: Settings,
    size: Size | None = None,
    volumes: Mapping[str, Size] | None = None,
    source: Path | Mapping[str, Path] | None = None,
) -> Settings:
    """Add the volumes that `create` was given. Raises InvalidArgument, InvalidType, OSError."""
    if volumes is not None and not isinstance(volumes, Mapping):
        raise InvalidType(f"volumes must map names to sizes, not be a {type(volumes).__name__}")
    if size is not None and volumes is not None:
        raise InvalidArgument("size names the one volume 'data', volumes names them all: pass one")
    sources = _parse_sources(source, volumes)
    sizes = _parse_volumes(size, volumes, sources)
    if settings.sync is not None and max(sizes.values()) > _FILE_MAX_BYTES:
        raise InvalidArgument("a volume on disk has at most 1 EiB")
    return replace(settings, sizes=sizes, sources=sources)


def _check_on_disk(mode: int, checksum: bool, sync: str | None) -> None:
    if mode == BEFORE:
        raise InvalidArgument(
            "a store on disk takes images='both' or 'after': what is durable in the journal is "
            "written to the volumes again after a crash, and before-images alone cannot do that"
        )
    if not checksum:
        raise InvalidArgument("a store on disk needs its checksums to tell a torn write from data")
    if sync not in (None, *_SYNCS):
        raise InvalidArgument(f"sync must be 'flush' or 'always', not {sync!r}")


def _parse_modes(images: str | None, overflow: str, clock: object) -> int:
    """Return the image mode; check what does not need to be looked at further."""
    if images not in (None, *IMAGES):
        raise InvalidArgument(f"images must be 'before', 'after' or 'both', not {images!r}")
    if overflow not in _OVERFLOWS:
        raise InvalidArgument(f"overflow must be 'evict', 'fold' or 'refuse', not {overflow!r}")
    check_callable(clock, "clock")
    return IMAGES[images or "before"]


def overlay_size(journal: int, overlay: Size | None) -> int:
    """Return the bytes of memory for what the volumes' files have not got yet: a power of two."""
    if overlay is None:
        return min(OVERLAY_DEFAULT_BYTES, max(OVERLAY_MIN_BYTES, 2 << (journal - 1).bit_length()))
    wanted = parse_size(overlay, "overlay")
    if wanted < OVERLAY_MIN_BYTES or wanted & (wanted - 1):
        raise InvalidArgument(f"overlay must be a power of two from 64KiB, not {overlay!r}")
    return wanted


def _parse_sources(
    source: Path | Mapping[str, Path] | None, volumes: Mapping[str, Size] | None
) -> dict[str, Path]:
    if source is None:
        return {}
    if isinstance(source, Mapping):
        return dict(source)
    if volumes is not None and len(volumes) > 1:
        raise InvalidArgument("one source for several volumes; pass source={volume: path}")
    return {next(iter(volumes or ["data"])): source}


def _parse_volumes(
    size: Size | None, volumes: Mapping[str, Size] | None, sources: Mapping[str, Path]
) -> dict[str, int]:
    """Return each volume's size in bytes, in order."""
    if size is not None:
        wanted = {next(iter(sources), "data"): parse_size(size)}
    elif volumes is not None:
        wanted = {name: parse_size(wish, f"size of {name!r}") for name, wish in volumes.items()}
    else:
        wanted = {name: file_size(path) for name, path in sources.items()}
    if not wanted:
        raise InvalidArgument("a store has at least one volume: pass size, volumes or source")
    if len(wanted) > _VOLUMES_MAX:
        raise InvalidArgument(f"a store has at most {_VOLUMES_MAX} volumes, not {len(wanted)}")
    for name in wanted:
        check_name(name)
    for name, path in sources.items():
        if name not in wanted:
            raise InvalidArgument(f"there is a source for {name!r}, but no such volume")
        if file_size(path) > wanted[name]:
            raise InvalidArgument(
                f"{os.fspath(path)!r} has {file_size(path)} bytes, more than the volume {name!r}, "
                f"which has {wanted[name]}"
            )
    return wanted
