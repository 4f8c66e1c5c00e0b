"""Names as pictures write them: somebody else chose them, and a font may not have their letters."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.ft2font import FT2Font

_UNKNOWN = "\ufffd"
_LETTER_POINTS = 5.6  # about, of the small letters that names are written in


def plain(text: str, longest: int) -> str:
    """Return a text on one line, cut to `longest` letters, of letters that the font has.

    What turns the direction of writing, or has no shape of its own, is shown as unknown.
    """
    font = _font()
    letters = [
        char
        if unicodedata.category(char)[0] in "LNPSZ"
        and char not in "\u2028\u2029"
        and unicodedata.bidirectional(char) not in ("R", "AL")
        and font.get_char_index(ord(char))
        else _UNKNOWN
        for char in text[: longest + 1]
    ]
    return "".join(letters[: longest - 1]) + "…" if len(letters) > longest else "".join(letters)


@cache
def _font() -> FT2Font:
    from matplotlib.font_manager import FontProperties, findfont, get_font

    return get_font(findfont(FontProperties()))


def place_labels(
    places: Sequence[float], texts: Sequence[str], width: float, most: int
) -> Iterator[tuple[int, bool]]:
    """Choose which labels are written so that none is over another one, or over another's sign.

    Parameters
    ----------
    places : sequence of float
        Where each one's sign stands, rising, in points.
    texts : sequence of str
    width : float
        Of the lane, in points.
    most : int
        How many labels at most.

    Yields
    ------
    (int, bool)
        Which one, and whether it stands before its sign: there is no room behind.
    """
    free_from, written = 0.0, 0
    for k, (place, text) in enumerate(zip(places, texts, strict=True)):
        if written == most:
            return
        need = 10 + len(text) * _LETTER_POINTS
        before = next((p for p in reversed(places[:k]) if p < place - 1), None)
        behind = next((p for p in places[k + 1 :] if p > place + 1), width + 6)
        if place >= free_from and place + need <= min(behind - 6, width):
            free_from = place + need
        elif place - need >= max(free_from, 0.0 if before is None else before + 6):
            free_from = place + 6
        else:
            continue
        written += 1
        yield k, free_from == place + 6
