# What views and recoveries are read by: one call from Python's arguments to the image.
#
# Takes: reentry, states

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
    cdef object only             # the index of its only volume; None where it shows several

    def __cinit__(self, Image image, dict volumes, *args, **keywords):
        self.shown = image
        self.volumes = volumes
        if len(volumes) == 1:
            [self.only] = volumes.values()

    @property
    def _image(self):
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

    def _ground(self):
        """Image: what a scratch image shows now, for others too; it goes on over that.

        In one step: a finalizer that wrote to it meanwhile would write to what is given up.
        """
        cdef Image shown = self._open(), ground, top
        cdef bint collected = PyGC_Disable()
        try:
            with shown.engine:
                if shown.data.map.count == 0:
                    return shown.base
                ground = shown._layer()
                top = Image.scratch(ground)
                top.seq = shown.seq
                top.hold()
                self.shown = top
                shown.let_go()
                return ground
        finally:
            if collected:
                PyGC_Enable()

    cdef uint32_t _index(self, volume) except? 0xFFFFFFFF:
        if volume is None and self.only is not None:
            return self.only
        found = self.volumes.get(volume) if type(volume) is str else None
        return found if found is not None else self._find(volume)

    def _find(self, volume):
        """The index of a volume given by name, as a Volume, or by None. Raises UnknownVolume."""
        raise UnknownVolume(volume)

    def read(self, offset, length, volume=None):
        """bytes: `length` bytes of a volume at `offset`.

        Raises OutOfBounds, UnknownVolume, CorruptionError, StoreClosed; of a view, PointExpired.
        """
        cdef Image image = self._open()
        check_call(image.data.core)
        return image.read(offset, length, self._index(volume))

    def readinto(self, offset, buffer, volume=None):
        """Fill `buffer`, writable and C-contiguous, from `offset` on. Raises as `read`."""
        cdef Image image = self._open()
        check_call(image.data.core)
        image.readinto(offset, buffer, self._index(volume))
