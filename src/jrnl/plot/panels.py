"""The panels of a timeline: each draws one thing that a history tells onto axes of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from jrnl.plot.axis import Scale, as_size, rewound
from jrnl.plot.cells import Cells, extent_of, parts_of
from jrnl.plot.source import DISCARDED, REWIND, WRITE, ZEROES, Named, Told
from jrnl.plot.text import place_labels, plain

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap, LogNorm, Normalize
    from matplotlib.image import AxesImage

    Ints = NDArray[np.int64]

_TICKS = 1200  # moments that are told apart among flushes and marks
_LABELS = 12
_VECTORS = 200  # of more signs in a lane, an SVG has pixels

# Okabe and Ito's, which people who see few colours can tell apart; they differ in shape, too.
BLUE, ORANGE, GREEN, RED = "#0072B2", "#E69F00", "#009E73", "#D55E00"
DISCARD_COLOUR, INK, FAINT = "#C9DFF0", "#222222", "#8A8A8A"


def norm_of(tables: list[Ints]) -> LogNorm:
    """Return a logarithmic scale that all of these tables are coloured by."""
    from matplotlib.colors import LogNorm

    written = [table[table > 0] for table in tables]
    least = min((int(found.min()) for found in written if found.size), default=1)
    most = max((int(found.max()) for found in written if found.size), default=1)
    return LogNorm(least, max(most, 2 * least))


def draw_heat(
    axes: Axes, told: Told, scale: Scale, cells: Cells, name: str, norm: LogNorm
) -> AxesImage | None:
    """Draw what was written where; return what a colour bar takes, or None where nothing was."""
    from matplotlib import colormaps
    from matplotlib.colors import ListedColormap, Normalize

    ruler = cells.ruler
    extent = (*extent_of(scale), 0.0, float(ruler.row_count))
    flat = ListedColormap([DISCARD_COLOUR])
    _draw_cells(axes, np.minimum(cells.cleared, 1), extent, "cleared", flat, Normalize(0, 1))
    colours = ListedColormap(colormaps["magma_r"](np.linspace(0.2, 0.97, 256)))
    image = _draw_cells(axes, cells.written, extent, "written", colours, norm)
    axes.set_ylim(0, ruler.row_count)
    for row in ruler.rows[1:-1].tolist():  # where something is left out
        axes.axhline(row, color=FAINT, linewidth=0.4, gid="left out")
    ticks = ruler.ticks()
    axes.set_yticks([float(row) for row, _ in ticks], [text for _, text in ticks])
    said = as_size(ruler.size)
    if not ruler.is_whole:
        said = f"{as_size(ruler.shown_bytes())} of {said}"
    called = f"offset in {plain(name, 24)}" if len(told.volumes) == 1 else plain(name, 16)
    axes.set_ylabel(f"{called}\n({said})", parse_math=False)
    cell = f"a cell is {as_size(ruler.block)} by {scale.span(parts_of(scale))}"
    axes.annotate(
        cell, (1, 1), xytext=(0, 2), xycoords="axes fraction", textcoords="offset points",
        ha="right", va="bottom", fontsize="x-small", color=FAINT,
    )  # fmt: skip
    return image


def _draw_cells(
    axes: Axes,
    cells: Ints,
    extent: tuple[float, float, float, float],
    gid: str,
    colours: Colormap,
    norm: Normalize,
) -> AxesImage | None:
    """Draw a table as pixels, nothing where it is 0; return None where it is 0 everywhere."""
    if not cells.any():
        return None
    return axes.imshow(
        np.ma.masked_equal(cells, 0), cmap=colours, norm=norm, origin="lower", aspect="auto",
        interpolation="nearest", extent=extent, gid=gid,
    )  # fmt: skip


def size_ticks(axes: Axes, low: int, high: int, count: int = 6) -> None:
    """Put ticks at round sizes from `low` to `high` bytes."""
    step = 1
    while step * count < high - low:
        step *= 2
    ticks = range(-(-low // step) * step, high + 1, step)
    axes.set_yticks([float(tick) for tick in ticks], [as_size(tick) for tick in ticks])


def draw_sizes(axes: Axes, told: Told, scale: Scale) -> AxesImage | None:
    """Draw how large the writes are, and how many; return what a colour bar takes, or None."""
    from matplotlib import colormaps
    from matplotlib.colors import ListedColormap, LogNorm

    wanted = (told.kind == WRITE) & (told.length > 0)
    axes.set_ylabel("size of\na write")
    if not wanted.any():
        axes.set_yticks([])
        return None
    power = np.frexp(told.length[wanted].astype(float))[1] - 1
    low, high = int(power.min()), int(power.max())
    edges = parts_of(scale)
    column = np.searchsorted(edges, scale.at[wanted], "right") - 1
    counts = np.zeros((high - low + 1, edges.size - 1), np.int64)
    np.add.at(counts, (power - low, column), 1)
    colours = ListedColormap(colormaps["viridis_r"](np.linspace(0.1, 1, 256)))
    norm = LogNorm(1, max(2, int(counts.max())))
    extent = (*extent_of(scale), low - 0.5, high + 0.5)
    image = _draw_cells(axes, counts, extent, "sizes", colours, norm)
    powers = range(low, high + 1, -(-(high - low + 1) // 6))
    axes.set_ylim(low - (0.5 if high > low else 1.5), high + (0.5 if high > low else 1.5))
    axes.set_yticks([float(p) for p in powers], [as_size(2**p) for p in powers])
    return image


def draw_fill(axes: Axes, told: Told, scale: Scale) -> None:
    """Draw how full the ring is of the entries up to each moment, or how long a log is."""
    seqs, used, capacity = told.fill
    axes.set_ylabel("log" if capacity is None else "ring")
    top = int(used.max(initial=0))
    if seqs.size:
        left, right = extent_of(scale)
        x = [left, *(scale.shown(scale.of_state(seq)) for seq in seqs.tolist()), right]
        y = [0, *used.tolist(), top]
        axes.fill_between(x, y, step="post", color=BLUE, alpha=0.25, linewidth=0)
        axes.plot(x, y, drawstyle="steps-post", color=BLUE, linewidth=1.2, label="used")
    if capacity is None:
        said = f"{as_size(top)} long at its end"
    else:
        said = f"{as_size(top)} of {as_size(capacity)} at the end ({top / capacity:.0%})"
        if top * 2 > capacity:
            top = capacity
            axes.axhline(capacity, color=INK, linewidth=0.8, linestyle="--", label="capacity")
    axes.set_ylim(0, max(1.0, top * 1.45))
    size_ticks(axes, 0, max(1, top), 3)
    axes.annotate(
        said, (0.005, 0.97), xycoords="axes fraction", va="top", fontsize="small", color=INK
    )


LANES = ("rewinds", "flushes", "marks", "snapshots", "window")  # from below


def draw_events(axes: Axes, told: Told, scale: Scale, width_points: float) -> None:
    """Draw the window, snapshots, marks, flushes and rewinds, a lane each, by name."""
    lanes = [lane for lane in LANES if lane != "rewinds" or (told.kind == REWIND).any()]
    lanes = [lane for lane in lanes if lane != "snapshots" or told.snapshots]
    lanes = [lane for lane in lanes if lane != "marks" or told.marks]
    y = {lane: k for k, lane in enumerate(lanes)}
    left, right = extent_of(scale)
    axes.set_xlim(left, right)
    axes.set_ylim(-0.6, len(lanes) - 0.4)
    axes.set_yticks(range(len(lanes)), [_counted(told, lane) for lane in lanes])
    axes.tick_params(axis="y", length=0)
    start = max(told.since, told.window.oldest)
    x0 = left if start <= told.since else scale.shown(scale.of_state(start))
    if start <= told.until:
        axes.barh(y["window"], right - x0, left=x0, height=0.5, color=GREEN, gid="window")
        less = ", less those dropped" if (told.kind == REWIND).any() else ""
        said = f"states {start} to {told.until} can be recovered{less}"
        axes.annotate(
            said, ((x0 + right) / 2, y["window"]), ha="center", va="center_baseline",
            fontsize="small", color="white",
        )  # fmt: skip
    _draw_moments(axes, scale, scale.at[told.flush], y["flushes"], "|", INK, "flushes")
    for low, high in rewound(told, scale)[-_TICKS:]:
        first, last = scale.shown(low), scale.shown(high)
        axes.barh(
            y["rewinds"], last - first, left=first, height=0.5, facecolor="none", edgecolor=RED,
            hatch="////", linewidth=0,
        )  # fmt: skip
    ends = scale.at[told.kind == REWIND]
    if ends.size:
        _draw_moments(axes, scale, ends, y["rewinds"], 4, RED, "rewinds")
    for lane, named, marker, colour in (
        ("marks", told.marks, "v", BLUE),
        ("snapshots", told.snapshots, "D", ORANGE),
    ):
        if named:
            at = np.array([scale.of(n.seq, n.time_ns) for n in named], np.int64)
            _draw_moments(axes, scale, at, y[lane], marker, colour, lane)
            _draw_names(axes, scale, named, at, y[lane], width_points)


def _counted(told: Told, lane: str) -> str:
    """Return what stands beside a lane: how many there are."""
    if lane == "window":
        return lane
    count = {
        "marks": len(told.marks),
        "snapshots": len(told.snapshots),
        "flushes": int(np.count_nonzero(told.flush)),
        "rewinds": int(np.count_nonzero(told.kind == REWIND)),
    }[lane]
    one = {"flushes": "flush"}.get(lane, lane[:-1])
    return f"{count:,} {one if count == 1 else lane}"


def _draw_moments(
    axes: Axes, scale: Scale, at: Ints, y: int, marker: str | int, colour: str, gid: str
) -> None:
    """Draw a sign at each moment; those too close to be told apart get one."""
    edges = scale.edges(_TICKS)
    _, first = np.unique(np.searchsorted(edges, at, "right"), return_index=True)
    x = [scale.shown(value) for value in at[first].tolist()]
    axes.plot(
        x, [y] * len(x), linestyle="none", marker=marker, color=colour, markersize=6,
        markeredgewidth=0.7, gid=gid, rasterized=len(x) > _VECTORS,
    )  # fmt: skip


def _draw_names(
    axes: Axes, scale: Scale, named: list[Named], at: Ints, y: int, width_points: float
) -> None:
    """Write names beside their signs, as many as there is room for."""
    left, right = extent_of(scale)
    places = [(scale.shown(x) - left) / (right - left) * width_points for x in at.tolist()]
    texts = [plain(n.name, 20) for n in named]
    for k, before in place_labels(places, texts, width_points, _LABELS):
        axes.annotate(
            texts[k], (scale.shown(int(at[k])), y), xytext=(-6 if before else 6, 0),
            textcoords="offset points", ha="right" if before else "left", va="center_baseline",
            fontsize="small", color=INK, parse_math=False,
        )  # fmt: skip


def draw_marks_through(axes: Axes, told: Told, scale: Scale) -> None:
    """Draw a faint line at each mark and snapshot through a panel, unless there are many."""
    for named, colour in ((told.marks, BLUE), (told.snapshots, ORANGE)):
        if len(named) <= _LABELS:
            for n in named:
                x = scale.shown(scale.of(n.seq, n.time_ns))
                axes.axvline(x, color=colour, linewidth=0.9, linestyle=":")


def legend_of(told: Told, left_out: bool) -> list[Artist]:
    """Return the signs that stand for something other than what is written beside them."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    made: list[Artist] = []
    if np.isin(told.kind, (DISCARDED, ZEROES)).any():
        made.append(Patch(color=DISCARD_COLOUR, label="discarded or zeroed, and not written"))
    if left_out:
        made.append(Line2D([], [], color=FAINT, linewidth=0.7, label="never written, left out"))
    for named, colour, said in ((told.marks, BLUE, "mark"), (told.snapshots, ORANGE, "snapshot")):
        if named and len(named) <= _LABELS:
            made.append(Line2D([], [], color=colour, linestyle=":", label=said))
    if (told.kind == REWIND).any():
        made.append(
            Patch(facecolor="none", edgecolor=RED, hatch="////", label="dropped by a rewind")
        )
    return made
