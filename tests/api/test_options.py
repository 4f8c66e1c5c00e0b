"""What a store tells of itself: `store.options`."""

from __future__ import annotations

import dataclasses
import inspect
from datetime import timedelta

import numpy as np
import pytest

import jrnl
from jrnl._core import kernel_in_use

VOLUMES = {"root": 8192, "log": 4096}
SMALL = {"size": 4096, "journal": "16KiB"}
DEFAULTS = {
    "path": None, "mode": "r+", "volumes": {"data": 4096}, "journal": 16384, "images": "before",
    "overflow": "evict", "checksum": True, "sync": None, "overlay": None, "reclaim": None,
    "low": None, "keep_at_least": None, "keep_at_most": None, "kernel": kernel_in_use,
}  # fmt: skip
GIVEN = {
    "images": "both", "overflow": "fold", "reclaim": (0.9, 0.5), "low": 0.25,
    "keep_at_least": timedelta(seconds=1), "keep_at_most": timedelta(hours=2),
}  # fmt: skip


def told(store: jrnl.Store) -> dict[str, object]:
    return dataclasses.asdict(store.options)


def test_options_are_named_as_the_arguments_of_create():
    given = set(inspect.signature(jrnl.create).parameters)
    names = {field.name for field in dataclasses.fields(jrnl.Options)}
    # A source and a clock are used up; the sizes of all volumes are in `volumes`.
    assert given - names == {"size", "source", "clock", "on_low"}
    assert names - given == {"mode", "kernel"}


def test_a_store_in_memory_tells_what_it_was_made_with():
    with jrnl.create(**SMALL) as store:
        assert told(store) == DEFAULTS
        with pytest.raises(dataclasses.FrozenInstanceError):
            store.options.images = "both"
    with jrnl.create(volumes=VOLUMES, journal="1MiB", checksum=False, **GIVEN) as store:
        assert told(store) == {
            **DEFAULTS, **GIVEN, "volumes": VOLUMES, "journal": 1 << 20, "checksum": False,
        }  # fmt: skip
    with jrnl.wrap(np.zeros(4096, np.uint8), "16KiB", overflow="refuse") as store:
        assert told(store) == {**DEFAULTS, "overflow": "refuse"}
    with pytest.raises(jrnl.StoreClosed):
        _ = store.options


@pytest.mark.parametrize("sync", ["flush", "always"])
def test_a_store_on_disk_tells_it_however_it_is_opened(tmp_path, monkeypatch, sync):
    monkeypatch.chdir(tmp_path)
    expected = {
        **DEFAULTS, **GIVEN, "path": str(tmp_path / "s"), "volumes": VOLUMES, "journal": 1 << 20,
        "sync": sync, "overlay": 128 << 10,
    }  # fmt: skip
    options = {"journal": "1MiB", "sync": sync, "overlay": "128KiB", **GIVEN}
    with jrnl.create("s", volumes=VOLUMES, **options) as store:
        assert told(store) == expected
    with jrnl.open("./s") as store:
        assert told(store) == {**expected, "overlay": 2 << 20}  # of the opening, not of the store
    with jrnl.open("s", "r", overlay="64KiB") as store:
        assert told(store) == {**expected, "mode": "r", "overlay": 64 << 10}


def test_retention_is_told_as_it_is_now(tmp_path):
    for path in (None, tmp_path / "s"):
        with jrnl.create(path, **SMALL, keep_at_least=5) as store:
            assert store.options.keep_at_least == timedelta(seconds=5)
            store.retain(at_most=0.25)
            assert store.options.keep_at_least is None
            assert store.options.keep_at_most == timedelta(milliseconds=250)
    with jrnl.open(path) as store:
        assert store.options.keep_at_most == timedelta(milliseconds=250)
