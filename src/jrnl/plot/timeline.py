"""The timeline: what a history is, in one figure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from jrnl.extras import need
from jrnl.heat import Axis
from jrnl.plot import panels
from jrnl.plot.axis import Scale, as_size, scale_of
from jrnl.plot.cells import ROWS, cells_of, extent_of, most_written
from jrnl.plot.source import REWIND, WRITE, Told, told_of
from jrnl.plot.text import plain
from jrnl.sizes import as_flag

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from jrnl.logwrites import LogHistory
    from jrnl.points import Point
    from jrnl.store import Store
    from jrnl.volume import Volume

_SHARED = 3  # panels that are of all volumes
_TITLE_LETTERS, _PLACE_LETTERS = 120, 60
_LEFT_POINTS, _RIGHT_POINTS = 95.0, 95.0  # about, beside the panels
_HEAT, _SIZES, _EVENT, _FILL = 4.4, 1.0, 0.26, 1.0  # heights, in inches


def timeline(
    history: Store | LogHistory,
    volume: str | Volume | None = None,
    start: Point | None = None,
    stop: Point | None = None,
    *,
    by: Axis | None = None,
    everything: bool = False,
    title: str | None = None,
    width: float = 12.0,
) -> Figure:
    """Draw a history on one line of time: what was written where, and what can be recovered.

    From above: a heat map of each volume, colour for the bytes that were written in a cell, and
    where it was discarded or zeroed alone; how large the writes are; the window, snapshots, marks,
    flushes and rewinds; how full the ring is of the entries up to each moment, or how long a log.

    Save it by ``figure.savefig("timeline.png", dpi=120)``, or as ``.svg`` or ``.pdf``: heat maps
    are pixels there, too, so that a file stays small. It needs no display.

    Parameters
    ----------
    history : Store or LogHistory
    volume : str or Volume, optional
        Only this one; by default all, up to 6: those that most was written to.
    start, stop : point, optional
        Only what was written after state `start`, up to state `stop`; an int is a bound, whether or
        not it is the seq of a state.
    by : "time" or "seq", optional
        What stands below. By default time, and the seq where all entries have one time, or none.
    everything : bool
        Show volumes from their beginning to their end. By default what was never written is left
        out of a heat map, if that is more than half of it, and a line drawn in its place.
    title : str, optional
        Its first line; by default it says what is shown.
    width : float
        Of the figure, in inches; its height follows from what there is to show.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    MissingPackage
        There is no matplotlib; it says what to install.
    InvalidArgument
        There is no state from `start` to `stop`; or a log is to be shown by time.
    PointExpired, UnknownPoint, UnknownVolume, CorruptionError, InvalidType, StoreClosed
    """
    figure_class = need("matplotlib.figure", "plot").Figure
    told = told_of(history, start, stop)
    scale = scale_of(told, by)
    names = most_written(told, told.only(volume))
    lanes = 2 + bool(told.marks) + bool(told.snapshots) + bool((told.kind == REWIND).any())
    heights = [max(1.2, _HEAT / len(names))] * len(names) + [_SIZES, _EVENT * lanes, _FILL]
    figure: Figure = figure_class(figsize=(width, sum(heights) + 1.9), layout="constrained")
    grid = figure.add_gridspec(len(heights), 2, height_ratios=heights, width_ratios=[60, 1])
    first = figure.add_subplot(grid[0, 0])
    axes = [first] + [figure.add_subplot(grid[k, 0], sharex=first) for k in range(1, len(heights))]
    _draw_volumes(figure, axes, told, scale, names, as_flag(everything, "everything"))
    *_, sizes, events, fill = axes
    image = panels.draw_sizes(sizes, told, scale)
    if image is not None:
        bar = figure.colorbar(image, cax=figure.add_subplot(grid[len(names), 1]), label="writes")
        bar.ax.yaxis.label.set_fontsize("small")
        bar.ax.tick_params(labelsize="small")
        counts = [10**k for k in range(19) if 10**k <= (image.norm.vmax or 1)]
        bar.set_ticks([float(count) for count in counts], labels=[f"{n:,}" for n in counts])
        bar.minorticks_off()
    width_points = width * 72 - _LEFT_POINTS - _RIGHT_POINTS
    panels.draw_events(events, told, scale, width_points)
    panels.draw_fill(fill, told, scale)
    _finish(figure, axes, told, scale, title)
    return figure


def _draw_volumes(
    figure: Figure,
    axes: list[Axes],
    told: Told,
    scale: Scale,
    names: dict[int, str],
    everything: bool,
) -> None:
    grid = figure.axes[0].get_gridspec()
    assert grid is not None
    rows = max(40, ROWS // len(names))
    cells = {index: cells_of(told, scale, index, rows, everything=everything) for index in names}
    norm = panels.norm_of([c.written for c in cells.values()])
    image = None
    for k, (index, name) in enumerate(names.items()):
        drawn = panels.draw_heat(axes[k], told, scale, cells[index], name, norm)
        panels.draw_marks_through(axes[k], told, scale)
        image = drawn or image
    if image is not None:
        bar = figure.colorbar(image, cax=figure.add_subplot(grid[: len(names), 1]))
        bar.set_label("written in a cell", fontsize="small")
        least, most = int(norm.vmin or 1), int(norm.vmax or 1)
        powers = range(least.bit_length() - 1, most.bit_length() + 1)
        step = -(-len(powers) // 8)
        ticks = [2**p for p in powers[::step] if least <= 2**p <= most]
        bar.set_ticks([float(t) for t in ticks], labels=[as_size(t) for t in ticks])
        bar.ax.tick_params(labelsize="small")
        bar.minorticks_off()


def _finish(figure: Figure, axes: list[Axes], told: Told, scale: Scale, title: str | None) -> None:
    """Label what all panels share."""
    from matplotlib.ticker import MaxNLocator

    for upper in axes[:-1]:
        upper.tick_params(axis="x", labelbottom=False)
    for each in axes:
        each.tick_params(labelsize="small")
        each.yaxis.label.set_fontsize("small")
        for side in ("top", "right"):
            each.spines[side].set_visible(False)
    lowest = axes[-1]
    lowest.set_xlim(*extent_of(scale))
    lowest.xaxis.set_major_locator(MaxNLocator(9, integer=scale.kind == "seq", min_n_ticks=1))
    lowest.ticklabel_format(axis="x", style="plain", useOffset=False)
    lowest.set_xlabel(scale.label)
    figure.align_ylabels(axes)
    shown = len(axes) - _SHARED
    left = f"; {shown} of {len(told.volumes)} volumes" if shown < len(told.volumes) else ""
    figure.suptitle(f"{_title(told, title)}\n{_summary(told)}{left}", parse_math=False)
    if not told.seq.size:
        axes[0].annotate(
            "no entries: nothing has been written", (0.5, 0.5), xycoords="axes fraction",
            ha="center", va="center", color=panels.FAINT,
        )  # fmt: skip
    left_out = any(line.get_gid() == "left out" for each in axes for line in each.lines)
    handles = panels.legend_of(told, left_out)
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=len(handles),
        fontsize="small",
        frameon=False,
    )


def _title(told: Told, title: str | None) -> str:
    """Say what is seen."""
    if title is not None:
        return plain(title, _TITLE_LETTERS)
    place = plain(told.name[-_PLACE_LETTERS:], _PLACE_LETTERS)
    cut = "…" if len(told.name) > _PLACE_LETTERS else ""
    return f"What was written where, and when: {cut}{place}"


def _summary(told: Told) -> str:
    """Say how much it is."""
    wrote = told.kind == WRITE
    count, total = int(np.count_nonzero(wrote)), int(told.length[wrote].sum())
    seqs = f"seq {told.since + 1} to {told.until}" if told.seq.size else f"seq {told.until}"
    return f"{count:,} write{'s' * (count != 1)}, {as_size(total)} ({seqs})"
