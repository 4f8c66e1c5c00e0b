"""Points: what names a state of this store, and what names one of another."""

from __future__ import annotations

import pytest

import jrnl
from tests.model.fingerprint import unchanged


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


@pytest.mark.parametrize("images", ["before", "after", "both"])
def test_marks_follow_the_store_and_are_looked_through_once_for_each_change(images, monkeypatch):
    store = jrnl.create(size=4096, journal="16KiB", images=images)
    catalog, looks = store._catalog, []
    alive = catalog._alive

    def counted(*about):
        looks.append(about)
        return alive(*about)

    monkeypatch.setattr(catalog, "_alive", counted)
    marks = store.marks
    if images == "after":
        store.snapshot("base").wait()
    made = [store.mark(f"m{k}") for k in range(20)]
    assert list(marks.values()) == made
    looks.clear()
    assert len(marks) == len(store.marks) == 20
    assert store.marks == marks == {mark.name: mark for mark in made}
    assert [*store.marks] == [*marks.keys()]
    assert looks == []  # nothing has changed
    assert marks["m7"] is made[7]
    assert len(looks) == 1  # whether that one is there still
    assert "nobody" not in marks
    assert marks.get(7) is None
    items = marks.items()
    if images != "after":
        store.rewind(made[9].seq)
        assert list(marks) == [f"m{k}" for k in range(10)]
        with pytest.raises(KeyError):
            marks["m10"]
    store.mark("last")
    assert marks["last"].seq == store.seq
    assert len(items) == 20  # what was there when it was asked for
    for k in range(600):
        store.volume.write(k % 4000, bytes([k % 256]) * 90)
    assert not marks
    assert "last" not in marks
    with pytest.raises(TypeError):
        marks["new"] = made[0]
    store.close()
    with pytest.raises(jrnl.StoreClosed):
        len(marks)
    assert repr(marks)


def test_who_looks_at_the_marks_while_one_is_entered_does_not_hide_it():
    class Looked(dict[str, jrnl.Mark]):
        """A signal's handler looks at the marks just before one is there."""

        def __setitem__(self, name: str, mark: jrnl.Mark) -> None:
            seen.append(list(store.marks))
            super().__setitem__(name, mark)

    seen: list[list[str]] = []
    with jrnl.create(size=4096, journal="64KiB") as store:
        store.mark("first")
        store._catalog._marks = Looked(store._catalog._marks)
        store.mark("second")
        assert seen == [["first"]]
        assert list(store.marks) == ["first", "second"]
