# What views and recoveries are read by: one call from Python's arguments to the image.

cdef class StateIO:
    """The part of a view or a recovery that reads; the Python layer adds the rest.

    Parameters
    ----------
    image : Image
    volumes : dict of str to int
        The index of each volume that it shows, by name.
    """

    cdef Image shown             # None once it is closed
    cdef readonly dict volumes

    def __cinit__(self, Image image, dict volumes, *args, **keywords):
        self.shown = image
        self.volumes = volumes

    @property
    def image(self):
        """Its content. Raises StoreClosed once it is closed."""
        return self._open()

    cdef Image _open(self):
        if self.shown is None:
            raise StoreClosed(f"the {type(self).__name__.lower()} is closed")
        return self.shown

    def _show(self, Image image):
        """Show another image, or none: it is closed. Return the one before."""
        before, self.shown = self.shown, image
        return before

    cdef uint32_t _index(self, volume) except? 0xFFFFFFFF:
        found = self.volumes.get(volume) if type(volume) is str else None
        return found if found is not None else self._find(volume)

    def _find(self, volume):
        """The index of a volume given by name, as a Volume, or by None. Raises UnknownVolume."""
        raise UnknownVolume(volume)

    def read(self, offset, length, volume=None):
        """bytes: `length` bytes of a volume at `offset`.

        Raises OutOfBounds, UnknownVolume, CorruptionError, StoreClosed; of a view, PointExpired.
        """
        return self._open().read(offset, length, self._index(volume))

    def readinto(self, offset, buffer, volume=None):
        """Fill `buffer`, writable and C-contiguous, from `offset` on. Raises as `read`."""
        self._open().readinto(offset, buffer, self._index(volume))
