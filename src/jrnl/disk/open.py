"""Stores on disk: making them and opening them, through the interface of a folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jrnl._core import FORMAT, Engine, Log
from jrnl.disk import snapshot_files
from jrnl.disk.log_files import HEAD_BYTES, SLOT_BYTES, check_head, head_bytes, volume_file
from jrnl.disk.record import checked
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
from jrnl.options import Setup, overlay_size
from jrnl.plan import BOTH
from jrnl.retention import apply, limits_of
from jrnl.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable

    from jrnl.catalog import Catalog
    from jrnl.disk.folder import Place
    from jrnl.disk.superblock import Device, Document
    from jrnl.sizes import Size

_BLOCK = FORMAT["constants"]["LOG_BLOCK_BYTES"]
_PIECE_BYTES = 1 << 20
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
    return open_locked(folder, mode == "r+", overlay, clock, on_low, path)


def open_locked(
    folder: Place,
    writable: bool,
    overlay: Size | None,
    clock: Callable[[], int] | None,
    on_low: Callable[[Store], object] | None,
    path: str | None,
) -> Store:
    """Open the store in a folder, which it has from then on."""
    keeper = None
    try:
        keeper, document = _read_superblocks(folder, writable)
        memory = overlay_size(document["journal"], overlay)
        limits = limits_of(document, on_low)
        setup = Setup(document["overflow"], limits, True, path, document["sync"], memory, writable)
        return _open(keeper, document, setup, clock)
    except BaseException:
        if keeper is not None:
            keeper.let_go()
        folder.close()
        raise


def _settle(devices: list[Device], writable: bool) -> None:
    """Have files say what the disk has."""
    for device in devices:
        if writable:
            device.sync()  # what a killed process has left in the cache
        device.drop_cache()  # what never reached the disk is not to be believed


def _read_superblocks(folder: Place, writable: bool) -> tuple[DiskSession, Document]:
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
        document = checked(found.document)
    except BaseException:
        for device in devices:
            if device is not None:
                device.close()
        raise
    fixed: Document = {
        key: document[key]
        for key in (
            "journal", "images", "overflow", "sync", "volumes", "created_ns", "reclaim", "low",
        )
        if key in document
    }  # fmt: skip
    return DiskSession(folder, superblock, fixed, document), document


def _open(
    keeper: DiskSession,
    document: Document,
    setup: Setup,
    clock: Callable[[], int] | None,
) -> Store:
    writable = setup.writable
    key = keeper.superblock.key
    journal = document["journal"]
    area, slots = journal - journal % _BLOCK, journal // 8 // SLOT_BYTES
    names = [name for name, _ in document["volumes"]]
    sizes = [size for _, size in document["volumes"]]
    log_file, index_file, *volumes = (
        _open_file(keeper, file, writable)
        for file in ("log", "index", *(volume_file(k, name) for k, name in enumerate(names)))
    )
    heads = {
        file: check_head(file, device, key, area, slots)
        for file, device in (("log", log_file), ("index", index_file))
    }
    for name, device, size in zip(names, volumes, sizes, strict=True):
        if device.size != size:
            raise FormatError(f"the file of volume {name!r} has {device.size} bytes, not {size}")
    if not document["clean"]:
        _settle([log_file, *volumes], writable)
    for file, device in (("log", log_file), ("index", index_file)):
        if not heads[file]:
            keeper.problems.append(f"the file {file!r} was cut, or damaged at its start")
            if writable:
                if file == "index":
                    device.truncate(HEAD_BYTES + slots * SLOT_BYTES)
                device.pwrite(0, head_bytes(file, key, area, slots))
    if writable:
        _heal(keeper, document)
    for device in volumes:
        device.expect_random()
    engine = Engine(
        volumes, journal, document["images"], True, document["overflow"] == "refuse", clock,
        sizes, setup.overlay or 0,
    )  # fmt: skip
    log = Log(engine, log_file, index_file, key, keeper.record if writable else _nothing,
              document["sync"] == "always", not writable)  # fmt: skip
    keeper.log = log
    keeper.hold_pins()
    engine.set_retention(setup.limits.least_ns, 0)
    _find_state(keeper, log, document)
    return _start(keeper, log, document, names, setup)


def _nothing() -> None:
    """Write no superblock: the store is open for reading."""


def _heal(keeper: DiskSession, document: Document) -> None:
    """Have both superblocks hold the document that was read, before anything relies on it."""
    devices = keeper.superblock.devices
    for copy, name in enumerate(NAMES):
        if devices[copy] is None:
            devices[copy] = keeper.place.create(name, SUPER_BYTES)
            keeper.place.sync()
    keeper.superblock.heal(document)


def _open_file(keeper: DiskSession, name: str, writable: bool) -> Device:
    try:
        device = keeper.place.open(name, writable)
    except FileNotFoundError as error:
        if name != "index":
            raise CorruptionError(f"the store's file {name!r} is missing") from error
        device = snapshot_files.missing() if not writable else keeper.place.create(name, 0)
    keeper.files.append(device)
    return device


def _find_state(keeper: DiskSession, log: Log, document: Document) -> None:
    """Bring the engine to the newest state that the log proves."""
    number, position, slot, seq, time_ns = document["tail"]
    log.begin_at(number, position, slot, seq, time_ns, document["created_ns"])
    log.set_aliases(document["aliases"])
    scan = Scan(keeper, log, document)
    scan.run()
    epoch = max(pair[0] for pair in document["epochs"]) + 1
    for volume, offset, length in document["lost"]:
        log.put_lost(volume, offset, length)
    log.lost_production = document["lost_production"]
    rewound = document["rewound"]
    if document["undo"] is None and rewound is not None and log.engine.seq < rewound[1]:
        log.finish_opening(epoch, scan.synced, rewound[3])
    else:
        log.finish_opening(epoch, scan.synced)
    lost = log.lost()
    keeper.damaged = bool(scan.damage or lost or log.lost_production)
    if lost:
        ranges = ", ".join(f"{offset} to {offset + size} of {document['volumes'][volume][0]!r}"
                           for volume, offset, size in lost[:_LOST_SHOWN])  # fmt: skip
        more = f" and {len(lost) - _LOST_SHOWN} more" if lost[_LOST_SHOWN:] else ""
        keeper.problems.append(f"production is lost in the bytes {ranges}{more}: an entry that "
                               "held them is damaged")  # fmt: skip
    for first, last in scan.damage:
        keeper.problems.append(f"the log is damaged: of the entries {first} to {last}, some or "
                               "all cannot be read")  # fmt: skip


def _show(keeper: DiskSession, log: Log, document: Document) -> None:
    """For reading only: show what an opening for writing would make of it.

    Raises ReadOnlyStore where that takes writing: a restore that can only be finished.
    """
    engine = log.engine
    undo, restore, rewound = document["undo"], document["restore"], document["rewound"]
    if undo is not None:
        log.show_undone(undo)
    elif rewound is not None and engine.seq < rewound[1]:
        log.set_rewound(*rewound)
        log.put_rewound()
    if restore is None or restore["start"] in (engine.seq, engine.newest_state):
        return
    there = engine.base_seq <= restore["start"] < engine.seq
    if engine.images != BOTH or not there or keeper.restore_is_folded():
        raise ReadOnlyStore(
            "a crash has interrupted a restore, which takes writing to be finished: open the "
            "store once with mode='r+'"
        )
    log.show_undone(restore["start"])


def _go_on(keeper: DiskSession, log: Log, document: Document, catalog: Catalog) -> None:
    """Begin a new epoch, and finish a rewind that was interrupted.

    Its entry may have others leave, so all that needs them is known before (R19).
    """
    engine, undo, rewound = log.engine, document["undo"], document["rewound"]
    is_rewound = undo is None and rewound is not None and engine.seq < rewound[1]
    if undo is not None:
        log.set_undo(undo)
    elif is_rewound:
        log.set_rewound(*rewound)
    log.record()
    keeper.remove_strays()
    keeper.load_snapshots(catalog, undo)
    if document["overflow"] == "fold":
        Folding(catalog, engine).begin()
    if undo is not None:
        log.undo(undo)
    elif is_rewound:
        log.put_rewound()


def _start(
    keeper: DiskSession,
    log: Log,
    document: Document,
    names: list[str],
    setup: Setup,
) -> Store:
    """Finish what was interrupted, begin a new epoch, and accept writes."""
    engine, writable = log.engine, setup.writable
    with engine:
        keeper.load_kept(document["rewound"])
    if not writable:
        _show(keeper, log, document)
    store = Store(engine, names, setup, keeper)
    catalog = store._catalog
    with engine:
        if writable:
            _go_on(keeper, log, document, catalog)
        else:
            keeper.load_snapshots(catalog, None)
        keeper.load(catalog, store._resolve)
        store._pins.load(keeper.held_pins())
        apply(engine, setup.limits, store)
        catalog.snapshots_changed()
        if writable:
            keeper.bound_epochs()
        if keeper.restore is not None and writable:
            store._finish_restore()
    if writable:
        store._catalog.copier.start()
    return store
