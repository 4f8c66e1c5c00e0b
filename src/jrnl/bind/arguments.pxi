# From Python's arguments to C's: every caller's mistake is caught here, before anything changes.
#
# Takes: memory

cdef uint64_t as_unsigned(object value, str name, uint64_t size) except? 0xFFFFFFFFFFFFFFFF:
    """`value` as a count of bytes; what does not fit 63 bits is out of any volume's bounds."""
    cdef int overflow = 0
    cdef long long number
    if not PyLong_CheckExact(value):
        try:
            if isinstance(value, bool):
                raise TypeError("a bool is no count of bytes")
            value = PyNumber_Index(value)
        except TypeError as error:
            raise InvalidType(f"{name} must be an int (bytes), not "
                              f"{type(value).__name__}") from error
    number = PyLong_AsLongLongAndOverflow(value, &overflow)
    if overflow < 0 or (number < 0 and not overflow):
        raise OutOfBounds(f"{name} {shown(value)} is below 0; the volume has {size} bytes")
    if overflow:
        raise OutOfBounds(f"{name} {shown(value)} is outside the volume, which has {size} bytes")
    return <uint64_t>number


cdef int take_buffer(object data, Py_buffer* view, int flags) except -1:
    """Export `data` as C-contiguous bytes; release `view` afterwards."""
    cdef str wanted = "data must be bytes or another C-contiguous buffer"
    if flags & PyBUF_WRITABLE:
        wanted = "what is read into must be a bytearray or another writable, C-contiguous buffer"
    try:
        PyObject_GetBuffer(data, view, flags | PyBUF_C_CONTIGUOUS | PyBUF_FORMAT)
    except TypeError as error:
        raise InvalidType(f"{wanted}, not {type(data).__name__}") from error
    except (BufferError, ValueError) as error:
        raise InvalidArgument(f"the buffer cannot be used: {error}; "
                              + _buffer_advice(data, flags)) from error
    if _holds_objects(view):
        PyBuffer_Release(view)
        raise InvalidType("the buffer holds Python objects, not bytes")
    return 0


cdef class FlatBuffer:
    """A C-contiguous buffer of any shape and format as one run of bytes, which can be sliced."""

    cdef Py_buffer view
    cdef bint exported

    def __cinit__(self, data, bint writable=False):
        take_buffer(data, &self.view, PyBUF_WRITABLE if writable else 0)
        self.exported = True

    def __dealloc__(self):
        if self.exported:
            PyBuffer_Release(&self.view)

    def __getbuffer__(self, Py_buffer* buffer, int flags):
        PyBuffer_FillInfo(buffer, self, self.view.buf, self.view.len, self.view.readonly, flags)


def _as_offsets(offsets, uint64_t size):
    """A new int64 array from what a caller gave as offsets into a volume of `size` bytes.

    Always a copy: offsets are checked first and used later, and another thread may change the
    caller's in between.
    """
    try:
        array = numpy.asarray(offsets)
    except ValueError as error:
        raise InvalidArgument(f"offsets must have one dimension: {error}") from error
    if array.ndim == 0 and array.dtype.kind not in "iu":
        raise InvalidType("offsets must be an array or a list of ints (bytes), not "
                          f"{type(offsets).__name__}")
    if array.ndim != 1:
        raise InvalidArgument(f"offsets must have one dimension, not {array.ndim}")
    if array.size == 0:
        return numpy.empty(0, numpy.int64)
    if array.dtype.kind in "fO":
        # Python ints beyond 63 bits make an array of floats or of objects.
        numbers = list(offsets)
        if not all(type(number) is int for number in numbers):
            raise InvalidType(f"offsets must be integers (bytes), not {array.dtype}")
        _check_offsets_fit(min(numbers), max(numbers), size)
        return numpy.array(numbers, numpy.int64)
    if array.dtype.kind not in "iu":
        raise InvalidType(f"offsets must be integers (bytes), not {array.dtype}")
    if array.dtype.kind == "u" and array.dtype.itemsize == 8:
        _check_offsets_fit(0, int(array.max()), size)
    return numpy.array(array, numpy.int64, order="C")


def _check_offsets_fit(lowest, highest, size):
    """Raise OutOfBounds where the lowest or the highest offset does not fit int64."""
    for offset in (lowest, highest):
        if not -2**63 <= offset < 2**63:
            raise OutOfBounds(f"offset {shown(offset)} is outside the volume, which has {size} "
                              "bytes")


cdef uint64_t block_length(const Py_buffer* view, uint64_t count) except? 0xFFFFFFFFFFFFFFFF:
    """The length of each of `count` equal blocks in a buffer."""
    if view.ndim > 1 and <uint64_t>view.shape[0] != count:
        raise InvalidArgument(f"{count} offsets need {count} rows of data, not {view.shape[0]}")
    if count == 0:
        if view.len:
            raise InvalidArgument(f"{view.len} bytes of data for no offsets")
        return 0
    if view.len % count:
        raise InvalidArgument(f"{view.len} bytes of data are not {count} equal blocks")
    return view.len // count
