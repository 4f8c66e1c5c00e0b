"""The timeline, looked at through what was drawn onto it."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

import jrnl
from jrnl import logwrites, plot
from tests.model import logs
from tests.model.places import DATA, ROOT


def tables(figure: Any, name: str) -> list[np.ndarray]:
    """The heat maps of one kind, in order, each from its volume's beginning."""
    drawn = [image for axes in figure.axes for image in axes.images]
    return [image.get_array().filled(0) for image in drawn if image.get_gid() == name]


def moments(figure: Any, lane: str) -> list[float]:
    """Where the signs of a lane stand."""
    lines = [line for axes in figure.axes for line in axes.lines if line.get_gid() == lane]
    return [float(x) for line in lines for x in line.get_xdata()]


def texts(figure: Any) -> list[str]:
    """All that is written."""
    from matplotlib.text import Text

    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


def saved(figure: Any, kind: str) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind)
    return buffer.getvalue()


def span(figure: Any) -> tuple[float, float]:
    left, right = figure.axes[0].get_xlim()
    return float(left), float(right)


@pytest.fixture
def store():
    """A store with a past; each entry a second after the one before."""
    with jrnl.create(volumes={"root": "1MiB", "log": "64KiB"}, journal="4MiB") as store:
        for k in range(40):
            store["root"].write(k * 20_000, b"x" * 1000)
            store["log"].write(k * 100, b"y" * 100)
            if k % 10 == 9:
                store.mark(f"round {k}")
                store.flush()
        store.snapshot("nightly")
        store["root"].discard(0, 50_000)
        store["root"].write(7, b"z")
        store.rewind("nightly")
        store["root"].write(9, b"z")
        yield store


@pytest.mark.parametrize("by", ["time", "seq"])
def test_a_timeline_shows_every_byte_that_was_written(store, by):
    figure = plot.timeline(store, by=by)
    root, log = tables(figure, "written")
    assert root.sum() == 40 * 1000 + 1
    assert log.sum() == 40 * 100
    (sizes,) = tables(figure, "sizes")
    assert sizes.sum() == 81
    (only,) = tables(plot.timeline(store, "log", by=by), "written")
    assert np.array_equal(only.sum(axis=1), log.sum(axis=1)) or only.sum() == log.sum()


def test_marks_snapshots_flushes_and_rewinds_stand_where_they_happened(store):
    figure = plot.timeline(store, by="seq")
    kinds = store.journal.entries["kind"]
    seqs = store.journal.entries["seq"]
    assert moments(figure, "flushes") == seqs[kinds == jrnl.Kind.FLUSH].tolist()
    assert moments(figure, "rewinds") == seqs[kinds == jrnl.Kind.REWIND].tolist()
    assert moments(figure, "marks") == [mark.seq for mark in store.marks.values()]
    assert moments(figure, "snapshots") == [store.snapshots["nightly"].seq]
    written = texts(figure)
    for text in ("round 9", "nightly", "4 marks", "1 snapshot", "4 flushes", "1 rewind", "window"):
        assert text in written
    hatched = [bar for axes in figure.axes for bar in axes.patches if bar.get_hatch()]
    (bar,) = hatched
    rewind = int(seqs[kinds == jrnl.Kind.REWIND][0])
    assert (bar.get_x(), bar.get_width()) == (
        store.snapshots["nightly"].seq,
        rewind - store.snapshots["nightly"].seq,
    )


def test_times_are_those_of_the_entries(store):
    figure = plot.timeline(store)
    times = store.journal.entries["time_ns"]
    left, right = span(figure)
    marks = [mark.time_ns for mark in store.marks.values()]
    part = [(x - left) / (right - left) for x in moments(figure, "marks")]
    wanted = [(t - times[0]) / (times[-1] + 1 - times[0]) for t in marks]
    assert part == pytest.approx(wanted, abs=1e-6)
    assert any(text.startswith("time since 20") for text in texts(figure))


def test_a_mark_that_names_an_earlier_state_stands_there():
    with jrnl.create(size="64KiB", journal="64KiB") as store:
        for _ in range(20):
            store.volume.write(0, b"x")
        store.mark("late", at=7)
        assert moments(plot.timeline(store, by="seq"), "marks") == [7]
        figure = plot.timeline(store, by="time")
        times = store.journal.entries["time_ns"].tolist()
        (x,) = moments(figure, "marks")
        left, right = span(figure)
        part = (times[6] - times[0]) / (times[-1] + 1 - times[0])
        assert (x - left) / (right - left) == pytest.approx(part, abs=1e-6)


def test_the_window_is_what_can_be_recovered():
    with jrnl.create(size="64KiB", journal="64KiB", images="after") as store:
        for _ in range(10):
            store.volume.write(0, b"x")
        store.snapshot("first")
        for _ in range(10):
            store.volume.write(0, b"x")
        figure = plot.timeline(store, by="seq")
        (bar,) = [bar for axes in figure.axes for bar in axes.patches if bar.get_gid() == "window"]
        assert (bar.get_x(), bar.get_x() + bar.get_width()) == (10, span(figure)[1])
        assert "states 10 to 20 can be recovered" in texts(figure)


def test_the_ring_is_as_full_as_the_store_says_and_its_end_is_marked_where_it_is_near():
    with jrnl.create(size="1MiB", journal="64KiB") as store:
        for k in range(200):
            store.volume.write(k * 500, b"x" * 500)
        figure = plot.timeline(store, by="seq")
        lines = {line.get_label(): line for axes in figure.axes for line in axes.lines}
        assert max(lines["used"].get_ydata()) == store.journal.used
        assert set(lines["capacity"].get_ydata()) == {64 << 10}


def test_start_and_stop_cut_a_part_out(store):
    seqs = [mark.seq for mark in store.marks.values()]
    figure = plot.timeline(store, start="round 9", stop="round 29", by="seq")
    assert sum(table.sum() for table in tables(figure, "written")) == 20 * 1100
    assert moments(figure, "marks") == [seqs[0] + 1, *seqs[1:3]]  # the first one is at the edge
    with pytest.raises(jrnl.InvalidArgument, match="no state"):
        plot.timeline(store, start=9, stop=3)
    with pytest.raises(jrnl.UnknownPoint):
        plot.timeline(store, start="never")
    with pytest.raises(jrnl.UnknownVolume):
        plot.timeline(store, "never")
    with pytest.raises(jrnl.InvalidType):
        plot.timeline(store.volumes)


@pytest.mark.parametrize("trace", ["ext4-sqlite", "ext4-docs"])
def test_a_log_is_drawn_by_seq_for_it_has_no_times(trace):
    with logwrites.attach(DATA / f"{trace}.log.xz", "64MiB") as history:
        figure = plot.timeline(history)
        assert "seq" in texts(figure)
        flags = history.entries["flags"]
        written = history.entries["length"][flags & logwrites.DISCARD == 0].sum()
        assert tables(figure, "written")[0].sum() == written
        flushes = np.flatnonzero(flags & (logwrites.FLUSH | logwrites.FUA)) + 1
        assert set(moments(figure, "flushes")) <= set(flushes.tolist())
        assert f"{flushes.size} flushes" in texts(figure)
        assert tables(plot.timeline(history, everything=True), "cleared")[0].any(axis=1).all()
        with pytest.raises(jrnl.InvalidArgument, match="no times"):
            plot.timeline(history, by="time")


@pytest.mark.parametrize("count", [0, 1, 2])
@pytest.mark.parametrize("kind", ["png", "svg"])
def test_a_history_of_hardly_anything_is_drawn(count, kind):
    with jrnl.create(size="64KiB", journal="64KiB") as store:
        for _ in range(count):
            store.volume.write(0, b"x")
        figure = plot.timeline(store)
        assert saved(figure, kind)
        assert sum(table.sum() for table in tables(figure, "written")) == count
        assert ("no entries: nothing has been written" in texts(figure)) is (count == 0)


def test_entries_of_one_time_are_drawn_by_seq():
    with jrnl.create(size="64KiB", journal="256KiB") as store:
        store.volume.write_many(np.arange(100) * 8, np.ones((100, 8), np.uint8))
        assert len(set(store.journal.entries["time_ns"].tolist())) == 1
        figure = plot.timeline(store)
        assert "seq" in texts(figure)
        assert span(figure) == (0.5, 100.5)
        assert tables(figure, "written")[0].sum() == 800


def test_a_volume_of_many_tib_is_a_picture_of_what_is_in_use():
    with jrnl.create(size="16TiB", journal="4MiB") as store:
        for k in range(100):
            store.volume.write(k * 4096, b"x" * 4096)
            store.volume.write((15 << 40) + k, b"x")
        figure = plot.timeline(store, by="seq")
        (table,) = tables(figure, "written")
        assert table.sum() == 100 * 4097
        assert 40 < table.any(axis=1).sum() <= len(table) <= 160
        assert "15 TiB" in texts(figure)
        assert any(line.get_gid() == "left out" for line in figure.axes[0].lines)
        (whole,) = tables(plot.timeline(store, everything=True, by="seq"), "written")
        assert whole.any(axis=1).sum() == 2
        assert whole.sum() == table.sum()


def test_of_many_volumes_those_are_shown_that_most_was_written_to():
    with jrnl.create(volumes={f"v{k}": "64KiB" for k in range(9)}, journal="1MiB") as store:
        for k in range(9):
            store[f"v{k}"].write(0, b"x" * (100 + 10 * (k * 4 % 9)))
        figure = plot.timeline(store)
        shown = [axes.get_ylabel().split("\n")[0] for axes in figure.axes]
        wrote = sorted(range(9), key=lambda k: -(k * 4 % 9))[:6]
        assert [name for name in shown if name.startswith("v")] == [f"v{k}" for k in sorted(wrote)]
        assert any("6 of 9 volumes" in text for text in texts(figure))
        (alone,) = tables(plot.timeline(store, "v0"), "written")
        assert alone.sum() == 100


def test_hundreds_of_thousands_of_entries_are_a_small_file():
    count = 1 << 18
    with jrnl.create(size="4GiB", journal="64MiB") as store:
        rng = np.random.default_rng(0)
        for k in range(64):
            offsets = rng.integers(0, 64 << 20, count // 64)
            store.volume.write_many(offsets, np.zeros((count // 64, 8), np.uint8))
            store.mark(f"m{k}")
            store.flush()
        figure = plot.timeline(store)
        held = int(np.count_nonzero(store.journal.entries["kind"] == jrnl.Kind.WRITE))
        assert tables(figure, "written")[0].sum() == 8 * held > count
        svg = saved(figure, "svg")
        assert len(svg) < 600_000
        assert svg.count(b"<path") + svg.count(b"<use") < 2000


def test_many_flushes_and_marks_are_pixels_in_an_svg():
    with jrnl.create(size="64KiB", journal="16MiB") as store:
        for k in range(5000):
            store.volume.write(k, b"x")
            store.mark(f"mark {k}")
            store.flush()
        figure = plot.timeline(store, by="seq")
        assert len(moments(figure, "flushes")) <= 1200
        assert saved(figure, "svg").count(b"<use") < 500


def overlaps(figure: Any) -> list[tuple[str, str]]:
    """Which of the things that are written stand over one another."""
    figure.canvas.draw()
    written = [
        (text.get_text(), text.get_window_extent())
        for axes in figure.axes
        for text in [*axes.texts, *axes.get_xticklabels(), *axes.get_yticklabels()]
        if text.get_text() and text.get_visible()
    ]
    return [
        (one, other)
        for k, (one, box) in enumerate(written)
        for other, other_box in written[k + 1 :]
        if min(box.x1, other_box.x1) - max(box.x0, other_box.x0) > 1
        and min(box.y1, other_box.y1) - max(box.y0, other_box.y0) > 1
    ]


@pytest.mark.parametrize("seed", range(4))
def test_labels_do_not_overlap(seed):
    rng = np.random.default_rng(seed)
    with jrnl.create(volumes={"a": "1GiB", "b" * 60: "64KiB"}, journal="4MiB") as store:
        for k in range(int(rng.integers(5, 200))):
            if rng.integers(4) == 0:
                store.mark(f"{k} " + "wide WORDS " * int(rng.integers(1, 9)))
            if rng.integers(30) == 0:
                store.snapshot(f"snapshot {k}")
            offset = int(rng.integers(0, 2 ** int(rng.integers(1, 30))))
            store["a"].write(offset, b"x" * int(2 ** rng.integers(0, 12)))
            store["b" * 60].write(offset % 60_000, b"x")
        for by in ("time", "seq"):
            assert overlaps(plot.timeline(store, by=by, width=7 + 3 * (seed % 3))) == []


def test_a_name_is_written_as_it_is_and_letters_that_the_font_lacks_as_unknown():
    with jrnl.create(size="64KiB", journal="64KiB") as store:
        for name in ("$x^2", "日本", "a\u202eb", "\\frac{1}"):
            store.mark(name)
            for _ in range(30):
                store.volume.write(0, b"x")
        figure = plot.timeline(store, by="seq", title="$\\frac$\nnext")
        assert saved(figure, "png")  # a font that lacks letters would warn, which is an error here
        assert {"$x^2", "\ufffd\ufffd", "a\ufffdb", "\\frac{1}"} <= set(texts(figure))


def test_a_log_of_hostile_marks_and_lengths_is_drawn(tmp_path):
    size = 1 << 62
    log = [logs.discard(0, size // 512)] * 2
    log += [logs.mark(b"$" * 200), logs.mark(b"\xff\n\r"), logs.write(1, b"x" * 512)]
    (tmp_path / "log").write_bytes(logs.pack_log(log))
    with logwrites.attach(tmp_path / "log") as history:
        assert saved(plot.timeline(history), "png")
        figure = plot.timeline(history, everything=True)
        assert tables(figure, "written")[0].sum() == 512


def test_a_store_that_is_open_for_reading_alone_is_drawn(folder):
    with jrnl.create(folder / "store", size="1MiB", journal="1MiB") as made:
        made.volume.write(0, b"x" * 5000)
        made.mark("noon")
    with jrnl.open(folder / "store", mode="r") as store:
        figure = plot.timeline(store, by="seq")
        assert tables(figure, "written")[0].sum() == 5000
        assert any(text.endswith(f"{folder.name}/store") for line in texts(figure)
                   for text in line.split("\n"))  # fmt: skip


def run(program: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True
    )
    return done.stdout


def test_matplotlib_is_imported_when_it_is_used_and_no_display_is_asked_for():
    program = (
        "import sys, jrnl\n"
        "assert 'matplotlib' not in sys.modules\n"
        "store = jrnl.create(size=4096, journal='64KiB')\n"
        "store.volume.write(0, b'x')\n"
        "jrnl.plot.page(store, '/dev/null')\n"
        "assert 'matplotlib' not in sys.modules\n"
        "jrnl.plot.timeline(store).savefig('/dev/null', format='png')\n"
        "print('matplotlib.pyplot' in sys.modules)\n"
    )
    assert run(program) == "False\n"


def test_without_matplotlib_it_is_said_what_to_install():
    program = (
        "import sys, jrnl\n"
        "sys.modules['matplotlib'] = None\n"
        "try: jrnl.plot.timeline(jrnl.create(size=4096, journal='64KiB'))\n"
        "except jrnl.MissingPackage as error: print(error)\n"
    )
    assert "pip install 'jrnl-engine[plot]'" in run(program)


def test_the_picture_in_the_documents_is_there_and_small():
    picture = ROOT / "docs" / "images" / "timeline.png"
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert picture.stat().st_size < 200_000
    text = (ROOT / "docs" / "pictures.md").read_text()
    assert re.search(r"!\[[^\]]+\]\(images/timeline\.png\)", text)
