"""Stores on disk: making them and opening them, through the interface of a folder."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

from jrnl._core import FORMAT
from jrnl.disk import snapshot_files, telling
from jrnl.disk.load import Loader
from jrnl.disk.log_files import HEAD_BYTES, SLOT_BYTES, check_head, head_bytes, volume_file
from jrnl.disk.record import Record
from jrnl.disk.scan import Scan
from jrnl.disk.session import DiskSession
from jrnl.disk.superblock import NAMES, SUPER_BYTES, Superblock
from jrnl.errors import (
    CorruptionError,
    FormatError,
    InvalidArgument,
    ReadOnlyStore,
)
from jrnl.fold import Folding
from jrnl.options import Settings, overlay_size
from jrnl.plan import BOTH
from jrnl.retention import Limits
from jrnl.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from jrnl.disk.folder import Place
    from jrnl.disk.record import Document
    from jrnl.disk.superblock import Device
    from jrnl.sizes import Size

_BLOCK = FORMAT["constants"]["LOG_BLOCK_BYTES"]
_LOST_SHOWN = 8


def open_in(
    place: Place,
    name: str,
    mode: str = "r+",
    *,
    overlay: Size | None = None,
    clock: Callable[[], int] | None = None,
    on_low: Callable[[Store], object] | None = None,
    path: str | None = None,
    maker: Callable[..., Store] | None = None,
) -> Store:
    """Open the store `name` of a folder. Raises what `open` raises."""
    if mode not in ("r", "r+"):
        raise InvalidArgument(f"mode must be 'r' or 'r+', not {mode!r}")
    folder = place.folder(name)
    try:
        folder.lock(mode == "r+")
    except BaseException:
        folder.close()
        raise
    settings = Settings(
        overlay=overlay,
        clock=clock,
        limits=Limits(on_low=on_low),
        path=path,
        writable=mode == "r+",
        maker=maker,
    )
    return open_locked(folder, settings)


def open_locked(folder: Place, settings: Settings, *, fresh: bool = False) -> Store:
    """Open the store in a folder, which it has from then on; a `fresh` one was made just now."""
    with ExitStack() as failed:
        failed.callback(folder.close)
        superblock, document = _read_superblocks(folder, settings.writable)
        failed.callback(_close, superblock.devices)
        record = Record.of(document)
        settings = _filled(settings, record)
        found: list[str] = []
        devices = _open_files(folder, superblock, record, settings.writable, found, failed)
        if settings.writable:
            _heal(folder, superblock, document)
        for device in devices[2:]:
            device.expect_random()
        engine = settings.engine(devices[2:], overlay_size(settings.journal, settings.overlay))
        session = DiskSession(
            folder, superblock, record, engine, devices,
            writable=settings.writable, told_as=settings.path,
        )  # fmt: skip
        failed.callback(session.let_go)
        session.found += found
        engine.set_retention(settings.limits.least_ns, 0)
        scan = _find_state(session, record)
        store = _start(session, record, settings)
        failed.pop_all()
    if fresh:
        session.tell_made("created")
    else:
        telling.of_opening(session, scan, clean=record.clean)
    return store


def _filled(settings: Settings, record: Record) -> Settings:
    """Add to what an opening was given what the superblocks say. Raises InvalidArgument."""
    return replace(
        settings,
        sizes=dict(record.volumes),
        journal=record.journal,
        images=record.images,
        overflow=record.overflow,
        sync=record.sync,
        overlay=overlay_size(record.journal, settings.overlay),
        limits=record.limits(settings.limits.on_low),
    )


def _close(devices: Iterable[Device | None]) -> None:
    for device in devices:
        if device is not None:
            device.close()


def _settle(devices: list[Device], writable: bool) -> None:
    """Have files say what the disk has."""
    for device in devices:
        if writable:
            device.sync()  # what a killed process has left in the cache
        device.drop_cache()  # what never reached the disk is not to be believed


def _read_superblocks(folder: Place, writable: bool) -> tuple[Superblock, Document]:
    devices: list[Device | None] = []
    for name in NAMES:
        try:
            devices.append(folder.open(name, writable))
        except (FileNotFoundError, NotADirectoryError):
            devices.append(None)
    if devices == [None, None]:
        raise FormatError("this is no store: there is no superblock")
    try:
        _settle([device for device in devices if device is not None], writable)
        superblock, found = Superblock.read(devices)
        if writable and not found.writable:
            raise ReadOnlyStore(
                "the store has features that this version can read, not write: use mode='r'"
            )
        return superblock, found.document
    except BaseException:
        _close(devices)
        raise


def _open_files(
    folder: Place,
    superblock: Superblock,
    record: Record,
    writable: bool,
    found: list[str],
    failed: ExitStack,
) -> list[Device]:
    """Open the log, its index and the volumes; put what is wrong with them into `found`."""
    key, journal, volumes = superblock.key, record.journal, record.volumes
    area, slots = journal - journal % _BLOCK, journal // 8 // SLOT_BYTES
    devices: list[Device] = []
    for name in ("log", "index", *(volume_file(k, name) for k, (name, _) in enumerate(volumes))):
        devices.append(_open_file(folder, name, writable))
        failed.callback(devices[-1].close)
    heads = list(zip(("log", "index"), devices[:2], strict=True))
    whole = {file: check_head(file, device, key, area, slots) for file, device in heads}
    for (name, size), device in zip(volumes, devices[2:], strict=True):
        if device.size != size:
            raise FormatError(f"the file of volume {name!r} has {device.size} bytes, not {size}")
    if not record.clean:
        _settle([devices[0], *devices[2:]], writable)
    for file, device in heads:
        if not whole[file]:
            found.append(f"the file {file!r} was cut, or damaged at its start")
            if writable:
                if file == "index":
                    device.truncate(HEAD_BYTES + slots * SLOT_BYTES)
                device.pwrite(0, head_bytes(file, key, area, slots))
    return devices


def _heal(folder: Place, superblock: Superblock, document: Document) -> None:
    """Have both superblocks hold the document that was read, before anything relies on it."""
    for copy, name in enumerate(NAMES):
        if superblock.devices[copy] is None:
            superblock.devices[copy] = folder.create(name, SUPER_BYTES)
            folder.sync()
    superblock.heal(document)


def _open_file(folder: Place, name: str, writable: bool) -> Device:
    try:
        return folder.open(name, writable)
    except FileNotFoundError as error:
        if name != "index":
            raise CorruptionError(f"the store's file {name!r} is missing") from error
        return snapshot_files.missing() if not writable else folder.create(name, 0)


def _find_state(session: DiskSession, record: Record) -> Scan:
    """Bring the engine to the newest state that the log proves."""
    log = session.log
    number, position, slot, seq, time_ns = record.tail
    log.begin_at(number, position, slot, seq, time_ns, record.created_ns)
    log.set_aliases(record.aliases)
    scan = Scan(session, record)
    scan.run()
    epoch = max(pair[0] for pair in record.epochs) + 1
    for volume, offset, length in record.lost:
        log.put_lost(volume, offset, length)
    log.lost_production = record.lost_production
    rewound = record.rewound
    if record.undo is None and rewound is not None and log.engine.seq < rewound[1]:
        log.finish_opening(epoch, scan.synced, rewound[3])
    else:
        log.finish_opening(epoch, scan.synced)
    lost = log.lost()
    session.damaged = bool(scan.damage or lost or log.lost_production)
    if lost:
        ranges = ", ".join(f"{offset} to {offset + size} of {record.volumes[volume][0]!r}"
                           for volume, offset, size in lost[:_LOST_SHOWN])  # fmt: skip
        more = f" and {len(lost) - _LOST_SHOWN} more" if lost[_LOST_SHOWN:] else ""
        session.found.append(f"production is lost in the bytes {ranges}{more}: an entry that "
                               "held them is damaged")  # fmt: skip
    for first, last in scan.damage:
        session.found.append(f"the log is damaged: of the entries {first} to {last}, some or "
                               "all cannot be read")  # fmt: skip
    return scan


def _show(session: DiskSession, record: Record) -> None:
    """For reading only: show what an opening for writing would make of it.

    Raises ReadOnlyStore where that takes writing: a restore that can only be finished.
    """
    log, engine = session.log, session.engine
    undo, restore, rewound = record.undo, record.restore, record.rewound
    if undo is not None:
        log.show_undone(undo)
    elif rewound is not None and engine.seq < rewound[1]:
        log.set_rewound(*rewound)
        log.put_rewound()
    if restore is None or restore.start in (engine.seq, engine.newest_state):
        return
    there = engine.base_seq <= restore.start < engine.seq
    if engine.images != BOTH or not there or session.restore_is_folded():
        raise ReadOnlyStore(
            "a crash has interrupted a restore, which takes writing to be finished: open the "
            "store once with mode='r+'"
        )
    log.show_undone(restore.start)


def _go_on(session: DiskSession, loader: Loader, record: Record) -> None:
    """Begin a new epoch, and finish a rewind that was interrupted.

    Its entry may have others leave, so all that needs them is known before (R19).
    """
    log, undo, rewound = session.log, record.undo, record.rewound
    if rewound is not None and (undo is not None or session.engine.seq >= rewound[1]):
        rewound = None
    if undo is not None:
        log.set_undo(undo)
    elif rewound is not None:
        log.set_rewound(*rewound)
    log.record()
    session.remove_strays()
    loader.load_snapshots(undo)
    if record.overflow == "fold":
        Folding(session).begin()
    if undo is not None:
        log.undo(undo)
        session.redone.append(f"a rewind to state {undo} was finished")
    elif rewound is not None:
        log.put_rewound()
        session.redone.append(f"a rewind to state {rewound[0]} was finished")


def _start(session: DiskSession, record: Record, settings: Settings) -> Store:
    """Finish what was interrupted, begin a new epoch, and accept writes."""
    loader = Loader(session)
    with session.engine:
        session.load_preserved(record.rewound)
    if not settings.writable:
        _show(session, record)
    with session.engine:
        if settings.writable:
            _go_on(session, loader, record)
        else:
            loader.load_snapshots(None)
        loader.load_rest()
        store = Store(session, settings)
        if settings.writable:
            session.bound_epochs()
        if session.state.restore is not None and settings.writable:
            session.finish_restore()
    if settings.writable:
        session.copier.start()
    return store
