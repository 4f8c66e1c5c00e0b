"""docs/scale.md quotes what bench/scale.py prints, and tells its figures as they are."""

from __future__ import annotations

import re

import pytest

from tests.model.places import ROOT

pytest.importorskip("obstore")
pytest.importorskip("zstandard")

from bench import scale
from jrnl.archive.chunks import PIECE_BYTES, TABLE_MOST
from jrnl.archive.lists import LISTED, NAMED_MOST
from jrnl.archive.manifest import MOST_BYTES

PAGE = (ROOT / "docs" / "scale.md").read_text()
TEXT = " ".join(PAGE.split())


LOADS = {load.name: scale.day_of(load) for load in scale.LOADS}
STILL = next(day for name, day in LOADS.items() if name.startswith("never still: "))
SLOW = next(day for name, day in LOADS.items() if name.endswith("every 60 s"))


def test_the_page_has_what_the_script_prints():
    assert PAGE.partition(scale.BEGIN)[2].partition(scale.END)[0] == scale.quoted()


def test_what_the_page_says_in_words_is_what_is_computed():
    def requests(day):
        return day.puts + day.lists + day.gets

    assert "some fifty times" in TEXT
    assert 45 < requests(STILL) / requests(SLOW) < 60
    assert "86,400 of them" in TEXT
    assert STILL.manifests_held_bytes / STILL.manifest_bytes == 86400
    assert f"takes {scale.TABLE / 1e6:.0f} MB" in TEXT
    assert "27 billion objects" in TEXT
    assert round(STILL.objects * scale.STORES / 1e9) == 27
    content = TABLE_MOST / scale.ROW_BYTES * PIECE_BYTES / (1 << 40)
    assert f"about {content:.1f} TiB" in TEXT
    assert f"itself, {NAMED_MOST} at most, and older ones by lists of {LISTED}" in TEXT
    assert f"{NAMED_MOST} segments are eight minutes" in TEXT
    assert 8 <= NAMED_MOST / 60 < 9
    assert f"its table: {STILL.snapshots * scale.TABLE / 1e9:.0f} GB a day for the 1 GB" in TEXT
    assert f"takes {MOST_BYTES >> 20} MiB before it is compressed" in TEXT
    assert len(re.findall(r"^(?:heavy|never still): .*refused$", PAGE, re.M)) == 2
