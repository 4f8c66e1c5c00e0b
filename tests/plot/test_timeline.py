"""The timeline, looked at through what was drawn onto it."""

from __future__ import annotations

import io

import numpy as np
import pytest

import jrnl
from jrnl import logwrites, plot
from tests.model.places import DATA


def images(figure) -> dict[str, np.ndarray]:
    """The heat maps by name, each from its volume's beginning; of several volumes the last."""
    drawn = [image for axes in figure.axes for image in axes.images]
    return {image.get_gid(): image.get_array().filled(0) for image in drawn}


def saved(figure, kind: str) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind)
    return buffer.getvalue()


def test_a_timeline_shows_every_byte_that_was_written():
    with jrnl.create(size="1MiB", journal="1MiB") as store:
        for k in range(50):
            store.volume.write(k * 5000, b"x" * 777)
        store.volume.discard(1 << 19, 4096)
        figure = plot.timeline(store, by="seq")
        shown = images(figure)
        assert shown["written"].sum() == 50 * 777
        assert shown["cleared"].sum() > 0
        assert shown["sizes"].sum() == 50
        assert saved(figure, "png").startswith(b"\x89PNG")


def test_a_trace_is_drawn_by_seq_for_it_has_no_times():
    with logwrites.attach(DATA / "ext4-sqlite.log.xz", "64MiB") as history:
        figure = plot.timeline(history)
        assert figure.axes[-1].get_xlabel() in ("seq", "") and any(
            axes.get_xlabel() == "seq" for axes in figure.axes
        )
        written = history.entries["length"][history.entries["flags"] & logwrites.DISCARD == 0]
        assert images(figure)["written"].sum() == written.sum()
        with pytest.raises(jrnl.InvalidArgument, match="no times"):
            plot.timeline(history, by="time")
