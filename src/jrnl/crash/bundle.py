"""Bundles: all that it takes to see a failing crash state again, in a folder."""

from __future__ import annotations

import json
import os
import re
from typing import TYPE_CHECKING, Any, BinaryIO

import xxhash

from jrnl.crash.damaged import DamagedState
from jrnl.crash.epoch import SECTOR
from jrnl.logwrites.read import DISCARD, FLUSH, FUA, HEADER, MAGIC, SUPER, VERSION

if TYPE_CHECKING:
    from jrnl.crash.state import CrashState
    from jrnl.state import State

_SOURCE = "before.img"
_LOG = "entries.log"
_NAME_MAX = 200  # a file's name has at most 255 bytes; an id that lists what is lost is longer


def write_bundle(state: CrashState, message: str, folder: str | os.PathLike[str]) -> str:
    """Write a state's bundle into a folder of its own below `folder`; return that one's path.

    It has ``state.json``, the volumes of the state as sparse files, and of a history of one volume
    its entries since the last flush, as a dm-log-writes log, over the state before them: what
    ``replay`` in ``state.json`` says makes the state again from these two alone. There is none of
    a state in which a part of a sector is damaged. In a file a sector that cannot be read holds
    what was there before.
    """
    path = os.path.join(folder, _as_file_name(f"crash-{state.id}"))
    os.makedirs(path, exist_ok=True)
    told: dict[str, Any] = {
        "id": state.id,
        "seq": state.seq,
        "acked": state.acked,
        "message": message,
        "explanation": state.explain(),
        "lost": [lost._asdict() for lost in state.lost],
        "images": {},
    }
    for name in state.volumes:
        image = f"{_as_file_name(name)}.img"
        _write_image(state._as_image(), name, os.path.join(path, image))
        told["images"][name] = image
    if len(told["images"]) == 1 and _can_be_replayed(state):
        told["replay"] = _write_history(state, path)
    with open(os.path.join(path, "state.json"), "w", encoding="utf-8") as file:
        json.dump(told, file, indent=2)
        file.write("\n")
    return path


def _can_be_replayed(state: CrashState) -> bool:
    """Whether a log, of whole sectors, says the same: not of a part of one that is damaged."""
    if not isinstance(state, DamagedState):
        return True
    unit = state._epoch.units[state._unit]
    return unit.offset % SECTOR == unit.end % SECTOR == 0


def _as_file_name(text: str) -> str:
    name = re.sub(r"[^\w.-]", "_", text)
    if len(name) <= _NAME_MAX:
        return name
    told_apart = xxhash.xxh3_64_hexdigest(text.encode(errors="backslashreplace"))
    return f"{name[:_NAME_MAX]}-{told_apart}"


def _write_image(state: State, name: str, path: str) -> None:
    index = state._indices[name]
    with open(path, "wb") as file:
        for offset, length in zip(*(part.tolist() for part in state._held(index)), strict=True):
            for start in range(offset, offset + length, 1 << 20):
                content = state._read(index, start, min(1 << 20, offset + length - start))
                if content.strip(b"\0"):
                    file.seek(start)
                    file.write(content)
        file.truncate(state._size(index))


def _write_history(state: CrashState, path: str) -> str:
    """Write the state before the last flush's writes, and these as a log; say how to use them."""
    before = state._without([])
    before._kept = 0
    _write_image(before, state._run.names[0], os.path.join(path, _SOURCE))
    with open(os.path.join(path, _LOG), "wb") as file:
        count = _write_log(state, file)
    lost = state.id.rpartition(":")[2].partition("-")[2]
    own = f"{count}-{lost}" if lost else f"{count}"
    size = -(-state._run.sizes[0] // SECTOR) * SECTOR  # a log's entries are whole sectors
    return (
        f"jrnl.crash.state(jrnl.logwrites.attach({_LOG!r}, size={size}, source={_SOURCE!r}), "
        f"{own!r})"
    )


def _write_log(state: CrashState, file: BinaryIO) -> int:
    """Write the entries of the state's epoch up to it; return how many they are."""
    epoch = state._epoch
    done = state._done
    sector = SECTOR
    file.write(SUPER.pack(MAGIC, VERSION, done, sector).ljust(sector, b"\0"))
    for k in range(done):
        row = epoch.rows[k]
        offset, length = int(row["offset"]), int(row["length"])
        start, stop = offset // sector * sector, -(-(offset + length) // sector) * sector
        flags = (FUA if row["fua"] else 0) | (FLUSH if row["flush"] and k else 0)
        whole = (start, stop) == (offset, offset + length)
        if row["zeroes"] and whole:
            file.write(
                HEADER.pack(start // sector, (stop - start) // sector, flags | DISCARD, 0).ljust(
                    sector, b"\0"
                )
            )
            continue
        # A log has whole sectors only: with it comes what of earlier entries is there, no more.
        at = state._without([])
        before, after = ((1 << first) - 1 for first in epoch.firsts[k : k + 2])
        at._kept = state._kept & before | after & ~before
        header = HEADER.pack(start // sector, (stop - start) // sector, flags, 0)
        file.write(header.ljust(sector, b"\0"))
        size = state._run.sizes[0]
        content = at._read(0, start, min(stop, size) - start)
        file.write(content.ljust(stop - start, b"\0"))
    return done
