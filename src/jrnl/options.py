"""Options: what `create`, `open` and `wrap` take, checked before anything is made."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from jrnl.errors import InvalidArgument, InvalidType
from jrnl.limits import Limits, parse_limits
from jrnl.plan import AFTER, BEFORE, BOTH
from jrnl.points import check_name
from jrnl.sizes import Size, as_flag, check_callable, parse_size
from jrnl.sources import Path, file_size

JOURNAL_MIN_BYTES = 16 * 1024
OVERLAY_MIN_BYTES = 64 * 1024
OVERLAY_DEFAULT_BYTES = 64 << 20
IMAGES = {"before": BEFORE, "after": AFTER, "both": BOTH}
_OVERFLOWS = ("evict", "fold", "refuse")
_SYNCS = ("flush", "always")
_VOLUMES_MAX = 65535
_FILE_MAX_BYTES = 1 << 60


class Options(NamedTuple):
    """What a store is made with.

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
    always : bool
    clock : callable or None
    limits : Limits
    """

    sizes: dict[str, int]
    sources: dict[str, Path]
    journal: int
    images: int
    overflow: str
    always: bool
    clock: Callable[[], int] | None
    limits: Limits = Limits()


def parse(
    *,
    on_disk: bool,
    size: Size | None = None,
    volumes: Mapping[str, Size] | None = None,
    source: Path | Mapping[str, Path] | None = None,
    journal: Size = "64MiB",
    images: str | None = None,
    overflow: str = "evict",
    checksum: bool = True,
    sync: str | None = None,
    clock: Callable[[], int] | None = None,
    **rules: Any,
) -> Options:
    """Check what `create` was given. Raises InvalidArgument, InvalidType, OSError."""
    if images is None and on_disk:
        images = "both"
    mode, checksum = parse_modes(images, overflow, clock), as_flag(checksum, "checksum")
    if on_disk:
        _check_on_disk(mode, checksum, sync)
    elif sync is not None:
        raise InvalidArgument("sync is for stores on disk; this one is in memory")
    limits = parse_limits(overflow=overflow, **rules)
    capacity = parse_journal(journal)
    if volumes is not None and not isinstance(volumes, Mapping):
        raise InvalidType(f"volumes must map names to sizes, not be a {type(volumes).__name__}")
    if size is not None and volumes is not None:
        raise InvalidArgument("size names the one volume 'data', volumes names them all: pass one")
    sources = _parse_sources(source, volumes)
    sizes = _parse_volumes(size, volumes, sources)
    if on_disk and max(sizes.values()) > _FILE_MAX_BYTES:
        raise InvalidArgument("a volume on disk has at most 1 EiB")
    return Options(sizes, sources, capacity, mode, overflow, sync == "always", clock, limits)


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


def parse_modes(images: str | None, overflow: str, clock: object) -> int:
    """Return the image mode; check what does not need to be looked at further."""
    if images not in (None, *IMAGES):
        raise InvalidArgument(f"images must be 'before', 'after' or 'both', not {images!r}")
    if overflow not in _OVERFLOWS:
        raise InvalidArgument(f"overflow must be 'evict', 'fold' or 'refuse', not {overflow!r}")
    check_callable(clock, "clock")
    return IMAGES[images or "before"]


def parse_journal(journal: Size) -> int:
    """Return the journal's size in bytes."""
    capacity = parse_size(journal, "journal")
    if capacity < JOURNAL_MIN_BYTES:
        raise InvalidArgument(f"a journal has at least 16KiB, not {journal!r}")
    return capacity


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
