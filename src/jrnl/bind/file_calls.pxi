# What a file over a volume does at each call of a buffered file's: as little as it can.

cdef extern from "Python.h":
    bint PyMemoryView_Check(object)
    Py_buffer* PyMemoryView_GET_BUFFER(object)


cdef Py_ssize_t _plain_length(object data):
    """Bytes of `data` where it is bytes, or a memoryview that is a run of single bytes; else -1."""
    cdef Py_buffer* view
    if PyBytes_CheckExact(data):
        return PyBytes_GET_SIZE(data)
    if not PyMemoryView_Check(data):
        return -1
    view = PyMemoryView_GET_BUFFER(data)
    if view.ndim != 1 or view.itemsize != 1 or view.suboffsets is not NULL:
        return -1
    if view.strides is not NULL and view.strides[0] != 1:
        return -1
    return view.len


class FileCalls:
    """The calls of `VolumeFile` that a buffered file makes, whose short way is compiled.

    What needs more than that, or has to be refused, is left to `_seek`, `_count`, `_read_some`
    and `_write_pieces`.
    """

    closed = False

    def readable(self):
        """Return True."""
        return True

    def seekable(self):
        """Return True."""
        return True

    def writable(self):
        """Whether it takes writes."""
        return self._write is not None

    def tell(self):
        """Return the position in bytes."""
        if self.closed:
            self._check_open()
        return self._position

    def seek(self, offset, whence=0):
        """Move the position; past the end is allowed, before the start is not.

        Raises InvalidType, InvalidArgument, StoreClosed.
        """
        if self.closed or not PyLong_CheckExact(offset) or whence != 0 or offset < 0:
            return self._seek(offset, whence)
        self._position = offset
        return offset

    def read(self, size=-1):
        """Return up to `size` bytes, by default all that follow; nothing at the end.

        Raises InvalidType, StoreClosed, MemoryError.
        """
        cdef Py_ssize_t count = self._count(size)
        content = PyBytes_FromStringAndSize(NULL, count)
        if count == 0:
            return content
        view = PyMemoryView_FromMemory(PyBytes_AS_STRING(content), count, PyBUF_WRITE)
        try:
            self._read(self._position, view)
        finally:
            view.release()
        self._position += count
        return content

    def readall(self):
        """Return all that follows; raises what `read` does."""
        return self.read()

    def readinto(self, buffer):
        """Read up to as many bytes as `buffer` takes; return how many, 0 at the end.

        Raises InvalidType, InvalidArgument, StoreClosed.
        """
        cdef Py_ssize_t length = _plain_length(buffer)
        position = self._position
        if self.closed or length <= 0 or length > self._size - position:
            return self._read_some(buffer)
        self._read(position, buffer)
        self._position = position + length
        return length

    def write(self, data):
        """Write `data`, in as few entries as it takes; return how many bytes were written.

        That is all of it, but where the volume ends before, as a device does, or where the journal
        has room for some of the entries only.

        Raises
        ------
        OSError
            ENOSPC: the position is at the volume's end or past it, and its size is fixed.
        JournalFull
            No room is left for the first entry; see `Volume.write`.
        ReadOnlyStore, InvalidType, InvalidArgument, StoreClosed
        """
        cdef Py_ssize_t length = _plain_length(data)
        position = self._position
        if self.closed or length <= 0 or length > self._longest or length > self._size - position:
            return self._write_pieces(data)
        self._write(position, data)
        self._position = position + length
        return length
