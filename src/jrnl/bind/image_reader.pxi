# What views and recoveries are read by: one call from Python's arguments to the image.
#
# Takes: errors, copy_on_write, reentry, arguments, images

cdef class ImageReader:
    """The part of a view or a recovery that reads; the Python layer adds the rest.

    Parameters
    ----------
    image : Image
    volumes : dict of str to int
        The index of each volume that it shows, by name.
    """

    cdef Image image             # None once it is closed
    cdef readonly dict _indices
    cdef object only             # the index of its only volume; None where it shows several

    def __cinit__(self, Image image, dict volumes, *args, **keywords):
        self.image = image
        self._indices = volumes
        if len(volumes) == 1:
            [self.only] = volumes.values()

    @property
    def _image(self):
        """Its content. Raises StoreClosed once it is closed."""
        return self._open()

    cdef Image _open(self):
        if self.image is None:
            raise StoreClosed(f"the {type(self).__name__.lower()} is closed")
        return self.image

    def _show(self, Image image):
        """Show another image, or none: it is closed. Return the one before."""
        before, self.image = self.image, image
        return before

    def _ground(self):
        """Image: what a writable image shows now, for others too; it goes on over that.

        In one step: a finalizer that wrote to it meanwhile would write to what is given up.
        """
        cdef Image shown = self._open(), ground, top
        cdef bint collected = PyGC_Disable()
        try:
            with shown.engine:
                if shown.data.map.count == 0:
                    return shown.base
                ground = shown._layer()
                top = Image.writable(ground)
                top.seq = shown.seq
                top.acquire()
                self.image = top
                shown.release()
                return ground
        finally:
            if collected:
                PyGC_Enable()

    def _write_blocks(self, uint32_t volume, const int64_t[::1] offsets, data, uint64_t length):
        """Write blocks of `length` to a scratch image; each lies inside the volume.

        All of them, or none. Raises StoreClosed, MemoryError, and what `read` raises.
        """
        cdef Image image = self._open()
        cdef Py_buffer view
        cdef int status
        take_buffer(data, &view, 0)
        try:
            with image.engine:
                if offsets.shape[0]:
                    with nogil:
                        status = cow_write_many(&image.data, volume, &offsets[0],
                                                offsets.shape[0], <const uint8_t*>view.buf,
                                                length)
                    raise_status(status, image.data.core)
        finally:
            PyBuffer_Release(&view)

    cdef Live* _followed(self):
        """What it is read through of the journal, where that expires: a view's; NULL: nothing."""
        cdef Image image = self.image
        while image is not None:
            if image.data.live is not NULL:
                return NULL if image.data.live.preserves else image.data.live
            image = image.base
        return NULL

    @property
    def _needs_after(self):
        """int or None: the state after which a view needs the journal's entries; None: none."""
        cdef Live* live = self._followed()
        return None if live is NULL else live.seq

    def _set_aside(self, bint aside):
        """Say that a rewind need not mind this view: who rewinds closes it. The lock is held."""
        cdef Live* live = self._followed()
        if live is not NULL:
            live.aside = aside

    cdef uint32_t _index(self, volume) except? 0xFFFFFFFF:
        if volume is None and self.only is not None:
            return self.only
        found = self._indices.get(volume) if type(volume) is str else None
        return found if found is not None else self._find(volume)

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
