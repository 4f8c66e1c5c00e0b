"""The compiled objects: what they do when they are misused, collected, or caught in a cycle."""

from __future__ import annotations

import gc
import weakref

import pytest

import jrnl
from jrnl._core import Engine, ExtentMap, Image, MemoryDevice, VolumeIO


class Disk(bytearray):
    """A buffer that owns the store over itself."""

    store: jrnl.Store


@pytest.mark.parametrize("kind", [ExtentMap, Image])
def test_an_object_over_no_engine_is_refused(kind):
    for arguments in [(), (None,), ("engine",)]:
        with pytest.raises(TypeError):
            kind(*arguments)
    with pytest.raises(TypeError):
        VolumeIO(None, 0)


def test_a_cycle_through_a_wrapped_buffer_is_collected_and_the_buffer_released():
    disk = Disk(8192)
    disk.store = jrnl.wrap(disk)
    disk.store.volume.write(0, b"content")
    gone = weakref.ref(disk)
    del disk
    gc.collect()
    assert gone() is None


def test_a_cycle_through_extent_maps_and_images_is_collected():
    engine = Engine([MemoryDevice(4096)], 16384)
    VolumeIO(engine, 0).write(0, b"content")
    gone = weakref.ref(engine)
    ring: list[object] = [ExtentMap.backward(engine, 0, 1), Image.live(engine, 0, True)]
    ring += [Image.patched(Image.frozen(engine), ExtentMap.bridge(engine, 0, 1), 1, True), ring]
    del engine, ring
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize("close", [False, True])
def test_a_store_goes_at_once_when_its_last_name_does(close):
    gc.disable()
    try:
        buffer = bytearray(65536)
        store = jrnl.wrap(buffer)
        store.volume.write(0, b"content")
        store.mark("noon")
        store.recover(0)
        if close:
            store.snapshot("evening")
            store.recover(0, base="evening").restore()
            store.close()
        gone = weakref.ref(store)
        del store
        assert gone() is None
        buffer.append(1)  # it is not exported any more
    finally:
        gc.enable()


def test_an_adopted_buffer_is_released_when_its_device_goes():
    buffer = bytearray(4096)
    device = MemoryDevice.adopt(buffer)
    with pytest.raises(BufferError):
        buffer.append(1)
    del device
    buffer.append(1)
    with pytest.raises(jrnl.InvalidArgument):
        MemoryDevice.adopt(bytes(4096))
