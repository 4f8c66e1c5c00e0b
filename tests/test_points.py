"""Points: what names a state of this store, and what names one of another."""

from __future__ import annotations

import pytest

import jrnl
from tests.fingerprint import unchanged


@pytest.mark.parametrize("on_disk", [False, True])
def test_marks_and_pins_of_another_store_name_no_state_here(on_disk, tmp_path):
    path = tmp_path / "s.jrnl" if on_disk else None
    with jrnl.create(size=4096) as other, jrnl.create(path, size=4096) as store:
        foreign = [other.mark("start"), other.mark("x"), other.pin(1)]
        for k in range(10):
            store.volume.write(0, bytes([k]))
        own = store.mark("x")
        for point in foreign:
            with unchanged(store), pytest.raises(jrnl.UnknownPoint, match="use its seq"):
                store.rewind(point)
            for act in (store.recover, store.view, store.plan, store.pin, store.digest):
                with pytest.raises(jrnl.UnknownPoint, match="use its seq"):
                    act(point)
        store.volume.write(0, b"later")
        with store.pin(3) as pin, store.view(pin) as view:
            assert view.seq == 3
        store.rewind(own)
    if path is not None:
        with jrnl.open(path) as store:
            with store.view(own) as view:
                assert view.read(0, 1) == bytes([9])
            store.rewind(own)
