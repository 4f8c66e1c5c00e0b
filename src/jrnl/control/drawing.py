"""Operations that draw a history."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Literal, cast

from jrnl.control.files import check_outside, source_of
from jrnl.control.points import point_of
from jrnl.errors import InvalidArgument

if TYPE_CHECKING:
    from jrnl.control.report import Report, Row
    from jrnl.logwrites import LogHistory
    from jrnl.store import Store

PICTURES = ("pdf", "png", "svg")


def plot(
    history: Store | LogHistory,
    report: Report,
    picture: str | None = None,
    html: str | None = None,
    volume: str | None = None,
    start: str | None = None,
    stop: str | None = None,
    by: str | None = None,
    title: str | None = None,
) -> Row:
    """Draw a history as a picture, as a page, or as both."""
    from jrnl import plot as plotting

    axis = cast('Literal["time", "seq"] | None', by)
    kind = "" if picture is None else picture.rpartition(".")[2].lower()
    if picture is not None and kind not in PICTURES:
        raise InvalidArgument(f"{picture!r} must end with .{', .'.join(PICTURES)}")
    first, last = (None if text is None else point_of(history, text) for text in (start, stop))
    made = [os.path.abspath(path) for path in (picture, html) if path is not None]
    for path in made:
        check_outside(path, source_of(history))
    if picture is not None:
        figure = plotting.timeline(history, volume, first, last, by=axis, title=title)
        figure.savefig(picture, dpi=120, format=kind)
    if html is not None:
        plotting.page(history, html, volume, first, last, by=axis, title=title)
    return {"made": made}
