"""The C loops of yardstick.c over numpy arrays: the hand-written way that jrnl is measured by."""

import ctypes

import numpy as np

from . import workload
from .compiler import declare, load

KERNELS = ("avx512", "avx2", "portable")  # the fixed kernels, as yardstick.c counts them

_u64, _pointer = ctypes.c_uint64, ctypes.c_void_p


def _functions():
    library = load("yardstick")
    write = (_pointer, _pointer, _u64, _pointer, _pointer, _u64, _pointer, _u64, _u64)
    return {
        "write": declare(library, _u64, "yard_write", *write),
        "both": declare(library, _u64, "yard_write_both", *write),
        "has_kernel": declare(library, ctypes.c_int, "yard_has_kernel", ctypes.c_int),
        "fixed": declare(library, _u64, "yard_write_fixed", ctypes.c_int, *write, _u64),
        "laps": declare(library, None, "yard_write_laps", *write, _pointer),
        "scatter": declare(
            library, _u64, "yard_scatter", _pointer, _pointer, _pointer, _pointer, _u64, _u64
        ),
        "undo": declare(library, _u64, "yard_undo", _pointer, _pointer, _pointer, _u64, _u64),
        "copy": declare(library, _u64, "yard_whole_copy", _pointer, _u64, _pointer, _u64),
    }


class CLoop:
    """A volume and a ring for the C loops; each method returns the nanoseconds of its loop.

    `address` puts the loops to work on somebody else's volume (a 4 GiB one fits the machine once).
    """

    def __init__(self, volume_bytes, ring_bytes, address=None):
        self._c = _functions()
        self.volume = None if address else workload.touch(workload.buffer(volume_bytes))
        self.ring = workload.touch(workload.buffer(ring_bytes))
        self._volume = address or self.volume.ctypes.data
        self._ring_at = ctypes.c_uint64(0)

    def _write_arguments(self, offsets, rows):
        assert offsets.dtype == np.int64 and rows.flags.c_contiguous
        return (
            self._volume,
            self.ring.ctypes.data,
            self.ring.size,
            ctypes.byref(self._ring_at),
            offsets.ctypes.data,
            len(offsets),
            rows.ctypes.data,
            len(rows),
            rows.shape[1],
        )

    def restart(self):
        """The next image goes to the ring's start."""
        self._ring_at.value = 0

    def write(self, offsets, rows):
        """Old block to the ring, new block in; write i takes row i % len(rows)."""
        return self._c["write"](*self._write_arguments(offsets, rows))

    def write_both(self, offsets, rows):
        """As `write`; the new block goes to the ring, too."""
        return self._c["both"](*self._write_arguments(offsets, rows))

    def kernels(self):
        """The fixed kernels that this processor runs, by name."""
        return [name for kind, name in enumerate(KERNELS) if self._c["has_kernel"](kind)]

    def write_fixed(self, kernel, offsets, rows, batch=1):
        """As `write` with a fixed kernel; with a `batch` it looks ahead in each of that many."""
        return self._c["fixed"](KERNELS.index(kernel), *self._write_arguments(offsets, rows), batch)

    def write_best(self, offsets, rows, batch=1):
        """The nanoseconds of the fastest fixed kernel, all of them in turn over the same work."""
        return min(self.write_fixed(name, offsets, rows, batch) for name in self.kernels())

    def write_laps(self, offsets, rows):
        """The nanoseconds of each write, a clock read included."""
        laps = np.zeros(len(offsets), np.int64)
        self._c["laps"](*self._write_arguments(offsets, rows), laps.ctypes.data)
        return laps

    def scatter(self, image, sources, offsets, length):
        """Ring blocks number `sources` to `image` at `offsets`."""
        return self._c["scatter"](
            image.ctypes.data,
            self.ring.ctypes.data,
            sources.ctypes.data,
            offsets.ctypes.data,
            len(offsets),
            length,
        )

    def undo(self, offsets, length):
        """The images that lie at the ring's start back to `offsets`, newest first."""
        return self._c["undo"](
            self._volume, self.ring.ctypes.data, offsets.ctypes.data, len(offsets), length
        )

    def whole_copy(self, volume_bytes, pristine):
        """`pristine`, as often as it takes, over the volume."""
        return self._c["copy"](self._volume, volume_bytes, pristine.ctypes.data, pristine.size)
