"""Views of views of views: however long the chain, reading and freeing it costs what a few do."""

from __future__ import annotations

import random

import pytest

import jrnl

SIZE = 60000


def deep(image):
    """Layers of an image, down to what is no layer."""
    count = 0
    while image is not None:
        image, count = image.base, count + 1
    return count


def test_a_hundred_thousand_views_of_views_are_exact_and_shallow():
    store = jrnl.create(size=SIZE, journal="64KiB")
    store.volume.write(0, b"ground" * 20)
    wanted, view = bytearray(store.volume.read(0, SIZE)), store.view(store.seq, writable=True)
    for k in range(100_000):
        view.write(k * 7 % SIZE, b"y")
        wanted[k * 7 % SIZE] = ord("y")
        following = view.view(writable=True)
        view.close()
        view = following
    assert view.read(0, SIZE) == wanted
    assert deep(view._image) < 16
    view.close()


def test_views_that_stay_open_along_a_chain_each_show_what_they_did():
    store, dice = jrnl.create(size=SIZE, journal="64KiB"), random.Random(1)
    store.volume.write(100, b"ground" * 20)
    view = store.view(store.seq, writable=True)
    content, kept = bytearray(store.volume.read(0, SIZE)), []
    for _ in range(3000):
        at, piece = dice.randrange(SIZE - 5000), dice.randbytes(dice.randrange(1, 5000))
        view.write(at, piece)
        content[at : at + len(piece)] = piece
        following = view.view(writable=dice.random() < 0.8)
        if len(kept) < 40 or dice.random() < 0.01:
            kept.append((following if dice.random() < 0.5 else view.view(), bytes(content)))
        if following.writable and all(following is not other for other, _ in kept):
            view.close()
            view = following
    assert deep(view._image) < 16
    for other, wanted in kept:
        assert other.read(0, SIZE) == wanted
    view.write(0, b"last")
    for other, wanted in kept:
        assert other.read(0, SIZE) == wanted
        other.close()


@pytest.mark.parametrize("undoable", [False, True])
def test_a_recovery_made_again_and_again_stands_on_the_same_copy(undoable):
    store = jrnl.create(size=SIZE, journal="64KiB")
    store.volume.write(0, b"ground")
    recovery = store.recover(0, undoable=undoable)
    before = deep(recovery._image)
    for _ in range(10_000):
        following = recovery.again()
        recovery.close()
        recovery = following
    assert deep(recovery._image) == before
    assert recovery.read(0, 6) == bytes(6)
