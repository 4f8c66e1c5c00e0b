"""The page: a history on which a person moves along time, and takes the point to go back to."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import os
import shlex
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from jrnl.heat import Axis
from jrnl.plot.axis import Scale, as_text, rewound, scale_of
from jrnl.plot.cells import Cells, cells_of, most_written, parts_of
from jrnl.plot.source import Named, Told, told_of
from jrnl.sizes import as_flag
from jrnl.store import Store

if TYPE_CHECKING:
    from jrnl.logwrites import LogHistory
    from jrnl.points import Point
    from jrnl.volume import Volume

    Ints = NDArray[np.int64]

STEPS_MAX = 8000  # what the slider can stand on, beside the names
NAMES_MAX = 1000
PAGE_BYTES_MAX = 4 << 20
_EXACT = 1 << 53  # of a larger number JavaScript does not keep every digit
_CLEARED, _LOWEST, _HIGHEST = 1, 2, 255  # what a cell is coloured by


def page(
    history: Store | LogHistory,
    path: str | os.PathLike[str],
    volume: str | Volume | None = None,
    start: Point | None = None,
    stop: Point | None = None,
    *,
    by: Axis | None = None,
    everything: bool = False,
    title: str | None = None,
) -> None:
    """Write one HTML file on which a person moves along a history, and copies a point of it.

    The file needs no server, and takes nothing from elsewhere. It has a heat map, the entries at
    the moment that is looked at, and the name or the seq by which `Store.recover` and the command
    go back to it. It is at most 4 MiB: a history of more than 8,000 entries is shown in so many
    steps, beside those to the newest 1,000 marks and snapshots.

    Parameters
    ----------
    history : Store or LogHistory
    path : str or path-like
        The file, which is written anew.
    volume, start, stop, by, everything
        As of `timeline`.
    title : str, optional
        By default where the history lies.

    Raises
    ------
    InvalidArgument, PointExpired, UnknownPoint, UnknownVolume, CorruptionError, InvalidType
    StoreClosed
        As `timeline`.
    OSError
        The file cannot be written.
    """
    told = told_of(history, start, stop)
    scale = scale_of(told, by)
    data = _data_of(
        told, scale, most_written(told, told.only(volume)), as_flag(everything, "everything")
    )
    data["title"] = told.name if title is None else title
    place = history.options.path if isinstance(history, Store) else None
    data["command"] = place and f"jrnlctl recover {shlex.quote(place)} --out FILE --to "
    Path(path).write_text(_filled(data), encoding="utf-8", errors="replace")


def _filled(data: dict[str, Any]) -> str:
    """Return the page with its data, its style and its script in it."""
    folder = files("jrnl.plot") / "assets"
    script = (folder / "page.js").read_text(encoding="utf-8")
    style = (folder / "page.css").read_text(encoding="utf-8")
    parts = {
        "title": html.escape(data["title"]),
        "style": style,
        "script": script,
        "style_hash": _hash(style),
        "script_hash": _hash(script),
        "data": _embedded(data),
    }
    pieces = (folder / "page.html").read_text(encoding="utf-8").split("%%")
    # Every other piece is the name of a part: what is filled in is not looked at again.
    return "".join(parts[piece] if k % 2 else piece for k, piece in enumerate(pieces))


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _embedded(data: dict[str, Any]) -> str:
    """Return data as JSON in which nothing ends or begins an element, whatever names there are."""
    text = json.dumps(data, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _data_of(told: Told, scale: Scale, names: dict[int, str], everything: bool) -> dict[str, Any]:
    marks, snapshots = told.marks[-NAMES_MAX:], told.snapshots[-NAMES_MAX:]
    named = [("mark", n) for n in marks] + [("snapshot", n) for n in snapshots]
    ends = _step_ends(told, [n.seq for _, n in named])
    rows = max(24, 120 // len(names))
    cells = {index: cells_of(told, scale, index, rows, everything=everything) for index in names}
    written = np.concatenate([c.written[c.written > 0] for c in cells.values()])
    least, most = (int(written.min()), int(written.max())) if written.size else (1, 1)
    edges = parts_of(scale)
    return {
        "format": 1,
        "axis": scale.kind,
        "origin": as_text(scale.low) if scale.kind == "time" else None,
        "window": [_exact(told.window.oldest), _exact(told.window.newest)],
        "since": _exact(told.since),
        "entries": int(told.seq.size),
        "edges": _places(scale, edges),
        "heat": {"least": _exact(least), "most": _exact(most)} if written.size else None,
        "volumes": [
            {
                "name": name,
                "index": index,
                "size": _exact(told.volumes[name]),
                "shown": _exact(cells[index].ruler.shown_bytes()),
                "block": _exact(cells[index].ruler.block),
                "starts": [_exact(start) for start in cells[index].ruler.starts.tolist()],
                "rows": cells[index].ruler.rows.tolist(),
                "ticks": cells[index].ruler.ticks(),
                "cells": _shades(cells[index], least, most),
            }
            for index, name in names.items()
        ],
        "steps": _steps(told, scale, ends),
        "names": [_name(kind, n, scale, told, ends) for kind, n in named],
        "all_volumes": len(told.volumes),
        "more_names": len(told.marks) + len(told.snapshots) - len(named),
        "dropped": [_places(scale, np.array(pair)) for pair in rewound(told, scale)[-NAMES_MAX:]],
    }


def _step_ends(told: Told, named: list[int]) -> NDArray[np.intp]:
    """Return the entries that steps end with: all if they are few, those that have names anyway."""
    count = told.seq.size
    size = max(1, -(-count // STEPS_MAX))
    regular = np.append(np.arange(size - 1, count, size), count - 1)
    at = np.searchsorted(told.seq, np.array(named, np.int64), "right") - 1
    ends: NDArray[np.intp] = np.unique(np.concatenate([regular, at]).astype(np.intp))
    return ends[ends >= 0]


def _steps(told: Told, scale: Scale, ends: NDArray[np.intp]) -> dict[str, Any]:
    """Return a column for each thing that is told of a step: of its one entry, or of them all."""
    if not ends.size:
        return {name: [] for name in ("seq", "at", "kind", "volume", "low", "high",
                                      "bytes", "count", "flushes")}  # fmt: skip
    starts = np.concatenate([[0], ends[:-1] + 1])
    touching = np.isin(told.kind, (1, 2, 3)) & (told.length > 0)
    none = np.iinfo(np.int64).max

    def least(values: Ints) -> Ints:
        found: Ints = np.minimum.reduceat(np.where(touching, values, none), starts)
        return found

    low, high = least(told.offset), -least(-(told.offset + told.length))
    volume, last_volume = least(told.volume), -least(-told.volume)
    there = low < none
    kind, last_kind = np.minimum.reduceat(told.kind, starts), np.maximum.reduceat(told.kind, starts)
    columns = {
        "kind": np.where(kind == last_kind, kind, -1),
        "volume": np.where(there & (volume == last_volume), volume, -1),
        "low": np.where(there, low, 0),
        "high": np.where(there, high, 0),
        "bytes": np.add.reduceat(np.where(touching, told.length, 0), starts),
        "count": ends - starts + 1,
        "flushes": np.add.reduceat(told.flush.astype(np.int64), starts),
        "seq": told.seq[ends],
    }
    shown = {name: [_exact(n) for n in column.tolist()] for name, column in columns.items()}
    return {**shown, "at": _places(scale, scale.at[ends])}


def _name(
    kind: str, named: Named, scale: Scale, told: Told, ends: NDArray[np.intp]
) -> dict[str, Any]:
    """Return what is told of a mark or a snapshot; its step is -1 where it stands on none."""
    if named.seq == told.since:
        step = 0
    else:
        at = int(np.searchsorted(told.seq[ends], named.seq)) if ends.size else 0
        there = at < ends.size and int(told.seq[ends[at]]) == named.seq
        step = at + 1 if there else -1
    place = _places(scale, np.array([scale.of(named.seq, named.time_ns)]))[0]
    return {"name": named.name, "kind": kind, "seq": _exact(named.seq), "step": step, "at": place}


def _places(scale: Scale, values: Ints) -> list[int | float]:
    """Return places on the axis: microseconds from its beginning, or seqs."""
    if scale.kind == "seq":
        return values.tolist()  # type: ignore[no-any-return]
    return [round(value / 1000, 3) for value in (values - scale.low).tolist()]


def _shades(cells: Cells, least: int, most: int) -> str:
    """Return one byte a cell, row by row from the volume's beginning, in base64."""
    span = max(np.log(most / least), 1e-9)
    shades = np.where(cells.cleared > 0, _CLEARED, 0)
    part = np.log(np.maximum(cells.written, least) / least) / span
    shades = np.where(cells.written > 0, _LOWEST + part * (_HIGHEST - _LOWEST), shades)
    return base64.b64encode(shades.astype(np.uint8).tobytes()).decode()


def _exact(number: int) -> int | str:
    """Return a number as it survives JavaScript: one that is too large for it as text."""
    return number if -_EXACT <= number <= _EXACT else str(number)
