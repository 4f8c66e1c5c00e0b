"""The page: what is in it, and what a person sees and does in a real browser."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import shutil
from bisect import bisect_right
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import jrnl
from jrnl import logwrites, plot
from tests.model import logs
from tests.model.places import DATA
from tests.plot import browser

HOSTILE = [
    "<img src=x onerror=alert(1)>",
    "<!--<script>",
    "'\"`${alert(2)}&lt;",
    "%%script%%",
    "\u202egnp.exe\u2028",
    "日本 🙂",
    "a" * 255,
]
SIZES = {"wide": (1280, 800), "narrow": (390, 844)}


def data_of(path: Path) -> dict[str, Any]:
    """What is embedded in a page."""
    (text,) = re.findall(
        r'<script type="application/json" id="data">(.*?)</script>', path.read_text(), re.S
    )
    found: dict[str, Any] = json.loads(text)
    return found


@pytest.fixture
def store() -> Iterator[jrnl.Store]:
    """A store with a past: two volumes, marks, a snapshot, a rewind."""
    with jrnl.create(volumes={"root": "1MiB", "log": "64KiB"}, journal="4MiB") as store:
        for k in range(40):
            store["root"].write(k * 20_000, b"x" * 1000)
            store["log"].write(k * 100, b"y" * 100)
            if k % 10 == 9:
                store.mark(f"round {k}")
                store.flush()
        store.snapshot("nightly")
        store["root"].discard(0, 50_000)
        store["log"].write_zeroes(0, 10)
        store.mark("bad day")
        store["root"].write(7, b"z")
        store.rewind("nightly")
        store["root"].write(9, b"z")
        yield store


def test_a_page_tells_of_each_entry_and_each_name(store, tmp_path):
    plot.page(store, tmp_path / "page.html", title="a & b")
    data = data_of(tmp_path / "page.html")
    entries = store.journal.entries
    steps = data["steps"]
    assert steps["seq"] == entries["seq"].tolist()
    assert steps["kind"] == entries["kind"].tolist()
    for k, entry in enumerate(entries):
        if entry["kind"] <= jrnl.Kind.ZEROES:
            assert steps["low"][k] == entry["offset"]
            assert steps["high"][k] == entry["offset"] + entry["length"]
            assert steps["bytes"][k] == entry["length"]
            assert steps["volume"][k] == entry["volume"]
    assert data["window"] == list(store.window)
    named = {name["name"]: (name["kind"], name["seq"]) for name in data["names"]}
    wanted = {name: ("mark", mark.seq) for name, mark in store.marks.items()}
    assert named == {**wanted, "nightly": ("snapshot", store.snapshots["nightly"].seq)}
    for name in data["names"]:
        assert steps["seq"][name["step"] - 1] == name["seq"]
    (dropped,) = data["dropped"]
    assert dropped[0] < dropped[1]
    assert [(v["name"], v["size"]) for v in data["volumes"]] == [
        ("root", 1 << 20),
        ("log", 1 << 16),
    ]
    for volume in data["volumes"]:
        cells = base64.b64decode(volume["cells"])
        assert len(cells) == volume["rows"][-1] * (len(data["edges"]) - 1)
        assert max(cells) > 2


def test_a_page_takes_nothing_from_elsewhere_and_runs_its_own_script_alone(store, tmp_path):
    plot.page(store, tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text()
    assert not re.search(r"https?:|\bsrc=|\bhref=|@import|url\(", text)
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', text)
    assert policy.startswith("default-src 'none'; ")
    for kind, content in re.findall(r"<(script|style)>(.*?)</", text, re.S):
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy


def test_no_name_gets_out_of_the_data(tmp_path):
    path = tmp_path / "page.html"
    with jrnl.create(volumes={"<script><b>": 4096}, journal="1MiB") as store:
        for name in HOSTILE[:4]:
            store.mark(name)
            store.volume.write(0, b"x")
        plot.page(store, path, title="</title><script>alert(3)</script>")
        text = path.read_text()
        assert text.count("<script") == text.count("</script>") == 2
        assert text.count("</title>") == 1
        data = data_of(path)
        assert [name["name"] for name in data["names"]] == HOSTILE[:4]
        assert data["volumes"][0]["name"] == "<script><b>"


def test_a_page_is_bounded_whatever_the_history_is(tmp_path):
    path = tmp_path / "page.html"
    with jrnl.create(size="1GiB", journal="64MiB") as store:
        rng = np.random.default_rng(0)
        for k in range(1500):
            store.mark(f"{k:04}" + "<" * 251)
            store.volume.write_many(rng.integers(0, 1 << 29, 60), np.zeros((60, 16), np.uint8))
        plot.page(store, path)
        assert path.stat().st_size <= 4 << 20
        data = data_of(path)
        count = len(data["steps"]["seq"])
        assert 8000 <= count <= 9001
        assert sum(data["steps"]["count"]) == data["entries"] == store.journal.entries.size
        assert sum(data["steps"]["bytes"]) == 1500 * 60 * 16
        assert len(data["names"]) == 1000
        assert data["more_names"] == 500
        for name in data["names"]:  # each of those that are there can be stood on
            assert data["steps"]["seq"][name["step"] - 1] == name["seq"]


def test_numbers_that_javascript_would_round_are_text(tmp_path):
    offset = (1 << 62) + 512
    log = [logs.write(1, b"x" * 512), logs.discard(offset // 512, 1)]
    (tmp_path / "log").write_bytes(logs.pack_log(log))
    with logwrites.attach(tmp_path / "log") as history:
        plot.page(history, tmp_path / "page.html")
    data = data_of(tmp_path / "page.html")
    assert data["steps"]["low"] == [512, str(offset)]
    assert data["volumes"][0]["size"] == str(offset + 512)
    assert data["axis"] == "seq"
    assert data["command"] is None


@pytest.mark.parametrize("count", [0, 1])
def test_a_history_of_no_entry_or_one_has_a_page(count, tmp_path):
    with jrnl.create(size="64KiB", journal="64KiB") as store:
        for _ in range(count):
            store.volume.write(5, b"x")
        plot.page(store, tmp_path / "page.html")
    assert data_of(tmp_path / "page.html")["steps"]["seq"] == [1] * count


def test_a_page_of_a_store_on_disk_has_the_command_to_recover(tmp_path, folder):
    with jrnl.create(folder / "my disk", size="64KiB", journal="64KiB") as made:
        made.volume.write(0, b"x")
    with jrnl.open(folder / "my disk", mode="r") as store:
        plot.page(store, tmp_path / "page.html")
    command = data_of(tmp_path / "page.html")["command"]
    assert command == f"jrnlctl recover '{folder}/my disk' --out FILE --to "


@given(
    st.lists(
        st.tuples(st.integers(0, (1 << 20) - 300), st.integers(0, 300), st.booleans()),
        min_size=1, max_size=12,
    ),
    st.booleans(),
)  # fmt: skip
def test_whatever_is_left_out_of_a_map_it_is_nothing_that_was_written(
    tmp_path_factory, writes, everything
):
    path = tmp_path_factory.getbasetemp() / "ruler.html"
    with jrnl.create(size="1MiB", journal="1MiB") as store:
        for offset, length, clears in writes:
            if clears:
                store.volume.discard(offset, length)
            else:
                store.volume.write(offset, b"x" * length)
        plot.page(store, path, by="seq", everything=everything)
    (volume,) = data_of(path)["volumes"]
    starts, rows, block = volume["starts"], volume["rows"], volume["block"]
    cells = np.frombuffer(base64.b64decode(volume["cells"]), np.uint8).reshape(rows[-1], -1)
    assert len(cells) <= 120
    ends = [start + (b - a) * block for start, (a, b) in zip(starts, pairwise(rows), strict=True)]
    assert all(end < start for end, start in zip(ends, starts[1:], strict=False))
    wanted = np.zeros(len(cells), bool)
    for offset, length, clears in writes:
        for at in range(offset, offset + length if not clears else 0):
            part = bisect_right(starts, at) - 1
            assert starts[part] <= at < ends[part]
            wanted[rows[part] + (at - starts[part]) // block] = True
    assert np.array_equal((cells >= 2).any(axis=1), wanted)
    ticks = [row for row, _ in volume["ticks"]]
    assert ticks == sorted(set(ticks))
    assert all(0 <= row < rows[-1] for row in ticks)


# In a browser.


@pytest.fixture(scope="module")
def chromium(tmp_path_factory) -> Iterator[browser.Browser]:
    program = browser.found()
    if program is None:
        if os.environ.get("CI"):
            pytest.fail("needs the Debian package chromium")
        pytest.skip("needs the Debian package chromium")
    profile = tmp_path_factory.mktemp("chromium")
    opened = browser.Browser(program, profile)
    yield opened
    opened.close()
    shutil.rmtree(profile, ignore_errors=True)


def text(chromium: browser.Browser, element: str) -> str:
    found: str = chromium.run(f"document.getElementById('{element}').textContent")
    return found


def drawn(chromium: browser.Browser) -> list[str]:
    """What stands on each canvas."""
    found: list[str] = chromium.run(
        "[...document.querySelectorAll('canvas.map')].map((c) => c.toDataURL())"
    )
    return found


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("size", SIZES)
def test_moving_along_time_changes_what_is_shown(chromium, store, tmp_path, size, dark):
    plot.page(store, tmp_path / "page.html")
    chromium.open(tmp_path / "page.html", *SIZES[size], dark=dark)
    assert text(chromium, "point") == str(store.seq)
    before, rows = drawn(chromium), text(chromium, "rows")
    chromium.run(
        "(() => { const s = document.getElementById('slider'); s.value = 5;"
        "s.dispatchEvent(new Event('input', {bubbles: true})); })()"
    )
    assert text(chromium, "point") == "5"
    assert text(chromium, "rows") != rows
    assert all(a != b for a, b in zip(before, drawn(chromium), strict=True))
    current = "document.querySelector('tr[aria-current]').cells[0].textContent"
    assert chromium.run(current) == "5"
    chromium.press("ArrowRight")
    chromium.press("ArrowRight")
    assert text(chromium, "point") == "7"
    chromium.press("]")
    assert text(chromium, "point") == "round 9"
    chromium.press("[")  # none before
    chromium.press("Home")
    assert text(chromium, "point") == "0"
    chromium.press("End")
    chromium.press("[")
    assert text(chromium, "point") == "nightly"
    assert "snapshot “nightly”" in text(chromium, "about")
    assert chromium.complaints() == []
    assert chromium.asked_for() == [(tmp_path / "page.html").as_uri()]


@pytest.mark.parametrize("size", SIZES)
def test_nothing_is_wider_than_the_window_and_labels_do_not_overlap(
    chromium, store, tmp_path, size
):
    store.mark("a" * 255)
    store.mark("\u4e00" * 80)
    plot.page(store, tmp_path / "page.html", title="/a/long/path" * 30)
    chromium.open(tmp_path / "page.html", *SIZES[size])
    assert chromium.run("document.documentElement.scrollWidth <= innerWidth")
    boxes = chromium.run(
        "[...document.querySelectorAll('.label')].map((l) => [...l.children].map((c) => {"
        "const b = c.getBoundingClientRect(); return [b.top, b.bottom]; })"
        ".sort((a, b) => a[0] - b[0]))"
    )
    assert all(len(column) >= 2 for column in boxes)
    for column in boxes:
        for upper, lower in pairwise(column):
            assert upper[1] <= lower[0] + 4
    nameless = (
        "[...document.querySelectorAll('button, input, select, canvas')].filter((e) =>"
        "!e.labels?.length && !e.getAttribute('aria-label') && !e.textContent.trim()"
        "&& e.getAttribute('aria-hidden') !== 'true').length"
    )
    assert chromium.run(nameless) == 0


def test_clicking_on_the_map_goes_there(chromium, store, tmp_path):
    plot.page(store, tmp_path / "page.html", by="seq")
    chromium.open(tmp_path / "page.html", *SIZES["wide"])
    left, top, width, height = chromium.run(
        "(() => { const b = document.querySelector('canvas.map').getBoundingClientRect();"
        "return [b.left, b.top, b.width, b.height]; })()"
    )
    chromium.click(left + width / 2, top + height / 2)
    assert abs(int(re.sub(r"\D", "", text(chromium, "point"))) - store.seq / 2) < 5
    chromium.click(left + width - 1, top + height / 2)
    assert text(chromium, "point") == str(store.seq)


def test_the_point_is_copied_also_where_the_clipboard_is_refused(chromium, store, tmp_path):
    plot.page(store, tmp_path / "page.html")
    chromium.open(tmp_path / "page.html", *SIZES["wide"])
    chromium.press("Home")
    chromium.press("]")
    chromium.run(
        "window.taken = null; document.addEventListener('copy',"
        "() => { window.taken = document.activeElement.value; });"
        "Object.defineProperty(navigator, 'clipboard', {value: {writeText(text) {"
        "window.asked = text; return window.refused ? Promise.reject(new Error('no')) :"
        "Promise.resolve(); }}});"
    )
    click = "document.getElementById('copy').click(); new Promise((done) => setTimeout(done, 50))"
    chromium.run(click)
    assert chromium.run("window.asked") == "round 9"
    assert text(chromium, "copied") == "Copied: round 9"
    assert chromium.run("window.taken") is None
    chromium.press("ArrowLeft")
    assert text(chromium, "copied") == ""
    chromium.run("window.refused = true")
    chromium.run(click)
    assert chromium.run("window.taken") == text(chromium, "point")
    assert text(chromium, "copied") == f"Copied: {text(chromium, 'point')}"
    chromium.run("document.execCommand = () => false")
    chromium.run(click)
    assert "Ctrl+C" in text(chromium, "copied")
    assert chromium.run("getSelection().toString()") == text(chromium, "point")


def test_hostile_names_are_shown_and_do_nothing(chromium, tmp_path):
    with jrnl.create(volumes={HOSTILE[0]: 4096}, journal="1MiB") as store:
        for name in [name for name in HOSTILE if "/" not in name]:
            store.mark(name.replace("\u2028", ""))
            store.volume.write(0, b"x")
        names = list(store.marks)
        plot.page(store, tmp_path / "page.html", title=HOSTILE[1])
    chromium.open(tmp_path / "page.html", *SIZES["wide"])
    shown = []
    chromium.press("Home")
    for _ in names:
        chromium.press("]")
        shown.append(text(chromium, "point"))
    assert shown == names
    assert text(chromium, "title") == HOSTILE[1]
    assert chromium.run("document.images.length") == 0
    assert chromium.complaints() == []


def test_a_state_outside_the_window_is_not_offered(chromium, tmp_path):
    with jrnl.create(size="64KiB", journal="64KiB", images="after") as store:
        store.volume.write(0, b"x")
        store.volume.write(0, b"y")
        store.snapshot("first")
        store.volume.write(0, b"z")
        plot.page(store, tmp_path / "page.html")
        assert store.window.oldest == 2
    chromium.open(tmp_path / "page.html", *SIZES["wide"])
    disabled = "document.getElementById('copy').disabled"
    assert chromium.run(disabled) is False
    chromium.press("Home")
    assert chromium.run(disabled) is True
    assert "can't be recovered" in text(chromium, "about")


@pytest.mark.parametrize("trace", ["ext4-sqlite", "ext4-docs"])
def test_a_trace_has_a_page_that_works(chromium, tmp_path, trace):
    with logwrites.attach(DATA / f"{trace}.log.xz", "64MiB") as history:
        plot.page(history, tmp_path / "page.html")
        seq = history.seq
    chromium.open(tmp_path / "page.html", *SIZES["wide"])
    assert text(chromium, "point") == str(seq)
    chromium.press("ArrowLeft")
    assert text(chromium, "point") == str(seq - 1)
    assert chromium.complaints() == []
    assert chromium.picture().startswith(b"\x89PNG")
