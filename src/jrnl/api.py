"""Making stores: in memory, over a caller's buffer, on disk."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace

from jrnl._core import Engine, MemoryDevice
from jrnl.disk import create as creating
from jrnl.disk import open as opening
from jrnl.disk.folder import Folder
from jrnl.errors import (
    CorruptionError,
    FormatError,
    InvalidArgument,
    InvalidType,
    ReadOnlyStore,
    StoreLocked,
    shown,
)
from jrnl.fold import Folding
from jrnl.fork import Content
from jrnl.options import Settings, parse, with_volumes
from jrnl.retention import Duration
from jrnl.session import Session
from jrnl.sizes import Size, check_callable, parse_size
from jrnl.sources import Path, load
from jrnl.store import Store
from jrnl.volume_file import Writable


def create(
    path: Path | None = None,
    *,
    size: Size | None = None,
    volumes: Mapping[str, Size] | None = None,
    source: Path | Mapping[str, Path] | None = None,
    journal: Size = "64MiB",
    images: str | None = None,
    overflow: str = "evict",
    checksum: bool = True,
    sync: str | None = None,
    overlay: Size | None = None,
    clock: Callable[[], int] | None = None,
    reclaim: tuple[float, float] | None = None,
    low: float | None = None,
    on_low: Callable[[Store], object] | None = None,
    keep_at_least: Duration | None = None,
    keep_at_most: Duration | None = None,
) -> Store:
    """Create a store: in memory, or with a `path`, on disk.

    Parameters
    ----------
    path : str or path, optional
        A folder that is made for the store, whole or not at all.
    size : int or str, optional
        Bytes of the one volume "data"; a str is like "512B", "64KiB", "64MiB", "1GiB", "1TiB".
        A volume costs the memory of the pages that were touched.
    volumes : mapping of str to size, optional
        Several volumes by name, instead of `size`.
    source : path, or mapping of volume name to path, optional
        Files or block devices whose content is state 0; nothing of it is journaled, and holes cost
        nothing. A volume takes its file's size unless `size` or `volumes` gives a larger one.
    journal : int or str
        Bytes for headers and images together, from 16 KiB.
    images : {"before", "after", "both"}, optional
        What an entry keeps: the bytes overwritten, the bytes written, or both. By default "before"
        in memory and "both" on disk, where "before" is refused: a crash needs the bytes written.
    overflow : {"evict", "fold", "refuse"}
        When the journal is full: let the oldest entries go; let them go once the oldest snapshot
        that is not pinned has been brought on over them; or raise JournalFull. With "fold" and
        without a snapshot, one called "base" is made; with ``images="after"`` at creation.
    checksum : bool
        Sum headers and images with XXH3-64, and hold them against it before they are applied. A
        store on disk needs it.
    sync : {"flush", "always"}, optional
        On disk: what was written is durable once `Store.flush` has returned (the default), or once
        the write has.
    overlay : int or str, optional
        On disk: bytes of memory for what the volumes' files have not got yet, a power of two from
        64 KiB; 64 MiB by default, less for a smaller journal.
    clock : callable, optional
        Gives the time of an entry in nanoseconds since 1970-01-01 UTC; the system's by default.
        What it raises at creation ends that. Later it is reported as unraisable
        (`sys.unraisablehook`), and the entry has the time of the one before.
    reclaim : (float, float), optional
        Two fractions of the journal, start and stop: an entry that would fill it beyond the first
        has the oldest leave until it is filled to the second. It is as full as the fuller of its
        two parts, headers and images. By default it is filled up, and then the oldest leave one by
        one, on disk a sixteenth at a time.
    low : float, optional
        A fraction of the journal: with less free room than that it is low.
    on_low : callable, optional
        Called as ``on_low(store)`` by the writing thread, once the operation that made the room low
        is done and the lock is let go, and again only after there was more. It may do anything.
        What it raises is reported as unraisable (`sys.unraisablehook`): the write is done.
    keep_at_least, keep_at_most : timedelta, or seconds as int or float, optional
        What is younger never leaves, and what is older does; see `Store.retain`.

    Returns
    -------
    Store

    Raises
    ------
    InvalidArgument, InvalidType
        An argument is malformed, or they contradict each other.
    OSError
        A source cannot be read, or a file not be written.
    StoreExists
        There is something at `path` already.
    MemoryError
        There is no address space for that much.
    """
    if path is not None and size is None and volumes is None and source is None:
        _refuse_path_alone(path)
    settings = parse(
        on_disk=path is not None, journal=journal, images=images, overflow=overflow,
        checksum=checksum, sync=sync, overlay=overlay, clock=clock, reclaim=reclaim, low=low,
        on_low=on_low, keep_at_least=keep_at_least, keep_at_most=keep_at_most,
    )  # fmt: skip
    settings = replace(with_volumes(settings, size, volumes, source), maker=make_in_files)
    if path is not None:
        return make_in_files(path, settings)
    engine = settings.engine([MemoryDevice(length) for length in settings.sizes.values()])
    for index, name in enumerate(settings.sizes):
        if name in settings.sources:
            load(engine, index, settings.sources[name])
    return _in_memory(engine, settings)


def make_in_files(path: Path, settings: Settings, content: Content | None = None) -> Store:
    """Make a store on disk with settings that have been checked; a fork begins with `content`."""
    parent, name = split_path(path)
    settings = replace(settings, path=os.path.join(parent, name))
    with telling(path, parent, name), Folder(parent) as folder:
        return creating.make_in(folder, name, settings, content)


def _in_memory(engine: Engine, settings: Settings) -> Store:
    session = Session(engine, list(settings.sizes))
    if settings.overflow == "fold":
        Folding(session).begin()
    store = Store(session, settings)
    session.tell_made()
    return store


def _refuse_path_alone(path: object) -> None:
    size = "64MiB"
    with suppress(InvalidArgument, InvalidType):
        parse_size(path)  # type: ignore[arg-type]
        size = path  # type: ignore[assignment]
    raise InvalidArgument(
        f"the first argument, {shown(path)}, is the path of a store on disk: pass size, volumes "
        f"or source, too; for a store in memory pass no path: create(size={shown(size)})"
    )


@contextmanager
def telling(path: Path, parent: str, name: str) -> Iterator[None]:
    """Have errors name the path that the caller gave, or a file below it.

    Below it is its name in a folder, and while it is made another one.
    """
    given = os.fsdecode(path)
    try:
        yield
    except OSError as error:
        failed = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else ""
        first, _, rest = failed.removeprefix(parent).lstrip("/").partition("/")
        if first == name or first.startswith(f".{name}.new-"):
            error.filename = os.path.join(given, rest) if rest else given
        raise
    except (FormatError, CorruptionError, StoreLocked, ReadOnlyStore) as error:
        error.args = (f"{given!r}: {error}",)
        raise


def split_path(path: Path) -> tuple[str, str]:
    """Return the folder that a store lies in, and its name there."""
    try:
        text = os.fsdecode(path)
    except TypeError as error:
        raise InvalidType(f"a path must be a str or a path, not {type(path).__name__}") from error
    if not text or "\0" in text:
        raise InvalidArgument(f"{text!r} is no path")
    return os.path.split(os.path.realpath(text))


def open_store(
    path: Path,
    mode: str = "r+",
    *,
    overlay: Size | None = None,
    clock: Callable[[], int] | None = None,
    on_low: Callable[[Store], object] | None = None,
) -> Store:
    """Open a store on disk; ``jrnl.open``.

    After a crash, what was durable is there and what was torn is cut; an interrupted operation is
    finished or taken back. Damage never makes it refuse as long as one superblock can be read:
    ``store.problems`` says what was found.

    Parameters
    ----------
    path : str or path
        What `create` was given.
    mode : {"r+", "r"}
        For reading and writing, alone; or for reading only, beside other readers: then nothing is
        written, and what the log has and the volumes' files have not is kept in memory.
    overlay, clock, on_low
        As for `create`; `low` is as it was given there.

    Raises
    ------
    FileNotFoundError, OSError
    StoreLocked
        It is open already, in another process or in this one.
    FormatError
        Not a store, of a newer version, or with files of another one.
    CorruptionError
        Both superblocks are damaged, or a file is missing or cut.
    ReadOnlyStore
        Only a newer version may write to it; or it is to be read only, and a crash has interrupted
        a restore whose entries can't be taken back.
    InvalidArgument, InvalidType
    """
    check_callable(clock, "clock")
    check_callable(on_low, "on_low")
    parent, name = split_path(path)
    if not name:
        raise FormatError(f"{os.fspath(path)!r} is no store")
    with telling(path, parent, name), Folder(parent) as folder:
        try:
            return opening.open_in(
                folder, name, mode, overlay=overlay, clock=clock, on_low=on_low,
                path=os.path.join(parent, name), maker=make_in_files,
            )  # fmt: skip
        except NotADirectoryError as error:
            raise FormatError("this is a file, and no store") from error


def wrap(
    buffer: Writable | Mapping[str, Writable],
    journal: Size = "64MiB",
    *,
    images: str | None = None,
    overflow: str = "evict",
    checksum: bool = True,
    clock: Callable[[], int] | None = None,
    reclaim: tuple[float, float] | None = None,
    low: float | None = None,
    on_low: Callable[[Store], object] | None = None,
    keep_at_least: Duration | None = None,
    keep_at_most: Duration | None = None,
) -> Store:
    """Journal a caller's own memory: `buffer` becomes the volume "data", without a copy.

    Parameters
    ----------
    buffer : writable, C-contiguous buffer, or mapping of volume name to such
        Any shape, and any dtype but datetime64 and timedelta64, which lend no bytes: pass
        ``array.view("i8")``. It stays exported until the store and all arrays from it are gone;
        where the store was not closed, its forks in memory, too.
        What is written to it around the store is not journaled, and no checksum sees it.
    journal, images, overflow, checksum, clock, reclaim, low, on_low, keep_at_least, keep_at_most
        As for `create`, whose exceptions it raises.
    """
    settings = parse(
        on_disk=False, journal=journal, images=images, overflow=overflow, checksum=checksum,
        clock=clock, reclaim=reclaim, low=low, on_low=on_low, keep_at_least=keep_at_least,
        keep_at_most=keep_at_most,
    )  # fmt: skip
    buffers = buffer if isinstance(buffer, Mapping) else {"data": buffer}
    devices = {name: MemoryDevice.adopt(each) for name, each in buffers.items()}
    for name, device in devices.items():
        if device.size == 0:
            raise InvalidArgument(
                f"the buffer of {name!r} is empty; a volume has at least one byte"
            )
    sizes = {name: device.size for name, device in devices.items()}
    settings = replace(with_volumes(settings, None, sizes, None), maker=make_in_files)
    engine = settings.engine([*devices.values()])
    for index, size in enumerate(sizes.values()):
        engine.mark_written(index, 0, size)
    return _in_memory(engine, settings)
