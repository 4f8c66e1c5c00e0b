# Devices: all file I/O of the core goes through here. A FileDevice is a descriptor, and a
# CallbackDevice a Python object, so that a simulated disk can stand under the very code that ships.

cdef extern from "<unistd.h>" nogil:
    ssize_t pread(int fd, void* buffer, size_t count, int64_t offset)
    ssize_t pwrite(int fd, const void* buffer, size_t count, int64_t offset)
    int fdatasync(int fd)
    int64_t lseek(int fd, int64_t offset, int whence)
    int SEEK_DATA

cdef extern from "<sys/uio.h>" nogil:
    cdef struct iovec:
        void* iov_base
        size_t iov_len
    ssize_t pwritev(int fd, const iovec* parts, int count, int64_t offset)

cdef extern from "<fcntl.h>" nogil:
    int posix_fadvise(int fd, int64_t offset, int64_t length, int advice)
    int POSIX_FADV_DONTNEED
    int POSIX_FADV_RANDOM

cdef enum:
    ENDED_EARLY = -1             # in the place of an errno
    PARTS_MAX = 512              # buffers in one call of pwritev

_device_error = None             # what a CallbackDevice raised last, to be raised again


cdef int device_read(const Device* device, uint8_t* target, uint64_t length, uint64_t offset,
                     int* error) noexcept nogil:
    """Read exactly `length` bytes; `error` is an errno, or ENDED_EARLY."""
    cdef ssize_t count
    while length:
        if device.object is not NULL:
            count = _callback_read(device.object, target, length, offset, error)
            if count < 0:
                return E_IO
        else:
            count = pread(device.descriptor, target, length, <int64_t>offset)
        if count < 0:
            if errno == EINTR:
                continue
            error[0] = errno
            return E_IO
        if count == 0:
            error[0] = ENDED_EARLY
            return E_IO
        target += count
        offset += <uint64_t>count
        length -= <uint64_t>count
    return OK


cdef int device_write(const Device* device, const uint8_t* source, uint64_t length,
                      uint64_t offset, int* error) noexcept nogil:
    """Write all of `length` bytes."""
    cdef ssize_t count
    while length:
        if device.object is not NULL:
            count = _callback_write(device.object, source, length, offset, error)
            if count < 0:
                return E_IO
        else:
            count = pwrite(device.descriptor, source, length, <int64_t>offset)
        if count < 0:
            if errno == EINTR:
                continue
            error[0] = errno
            return E_IO
        if count == 0:
            error[0] = EIO
            return E_IO
        source += count
        offset += <uint64_t>count
        length -= <uint64_t>count
    return OK


cdef int device_write_parts(const Device* device, iovec* parts, int count, uint64_t offset,
                            int* error) noexcept nogil:
    """Write `count` buffers one after the other; the list is used up."""
    cdef ssize_t done
    cdef int status
    while count:
        if device.object is not NULL:
            status = device_write(device, <uint8_t*>parts.iov_base, parts.iov_len, offset, error)
            if status != OK:
                return status
            done = <ssize_t>parts.iov_len
        else:
            done = pwritev(device.descriptor, parts, count, <int64_t>offset)
        if done < 0:
            if errno == EINTR:
                continue
            error[0] = errno
            return E_IO
        if done == 0:
            error[0] = EIO
            return E_IO
        offset += <uint64_t>done
        while count and <size_t>done >= parts.iov_len:
            done -= <ssize_t>parts.iov_len
            parts += 1
            count -= 1
        if done:
            parts.iov_base = <uint8_t*>parts.iov_base + done
            parts.iov_len -= <size_t>done
    return OK


cdef int device_sync(const Device* device, int* error) noexcept nogil:
    if device.object is not NULL:
        return _callback_sync(device.object, error)
    if fdatasync(device.descriptor) != 0:    # not even after EINTR: an error is reported only once
        error[0] = errno
        return E_IO
    return OK


cdef uint64_t device_next_data(const Device* device, uint64_t offset,
                               uint64_t size) noexcept nogil:
    """Where the first byte from `offset` on may stand that is not in a hole; `size` at most."""
    cdef int64_t found
    if device.object is not NULL:
        return offset
    found = lseek(device.descriptor, <int64_t>offset, SEEK_DATA)
    if found < 0:
        return size if errno == ENXIO else offset
    return <uint64_t>found if <uint64_t>found < size else size


cdef int _keep_error(error, int* number) noexcept:
    global _device_error
    _device_error = error
    number[0] = EIO
    if isinstance(error, OSError) and isinstance(error.errno, int):
        number[0] = error.errno
    return E_IO


cdef ssize_t _callback_read(void* target, uint8_t* buffer, uint64_t length, uint64_t offset,
                            int* error) noexcept nogil:
    cdef Py_ssize_t count
    with gil:
        try:
            content = bytes((<object>target).pread(offset, length))
            count = min(len(content), <Py_ssize_t>length)
            memcpy(buffer, PyBytes_AS_STRING(content), count)
            return count
        except BaseException as problem:
            return _keep_error(problem, error)


cdef ssize_t _callback_write(void* target, const uint8_t* source, uint64_t length,
                             uint64_t offset, int* error) noexcept nogil:
    cdef ssize_t count
    with gil:
        try:
            count = (<object>target).pwrite(
                offset, PyMemoryView_FromMemory(<char*>source, length, PyBUF_READ))
            return min(max(count, 0), <ssize_t>length)
        except BaseException as problem:
            return _keep_error(problem, error)


cdef int _callback_sync(void* target, int* error) noexcept nogil:
    with gil:
        try:
            (<object>target).sync()
            return OK
        except BaseException as problem:
            return _keep_error(problem, error)


cdef int raise_io(int error, str what) except -1:
    """Raise what a device met with."""
    global _device_error
    problem, _device_error = _device_error, None
    if problem is not None:
        raise problem
    if error == ENDED_EARLY:
        raise CorruptionError(f"{what} ends too early: it was cut")
    raise OSError(error, os.strerror(error), what)


cdef _pread(const Device* device, uint64_t offset, uint64_t length):
    cdef int error = 0
    cdef int status
    content = PyBytes_FromStringAndSize(NULL, length)
    cdef uint8_t* target = <uint8_t*>PyBytes_AS_STRING(content)
    with nogil:
        status = device_read(device, target, length, offset, &error)
    if status != OK:
        raise_io(error, "the file")
    return content


cdef _pwrite(const Device* device, uint64_t offset, const uint8_t[::1] data):
    cdef int error = 0
    cdef int status
    if data.shape[0]:
        with nogil:
            status = device_write(device, &data[0], data.shape[0], offset, &error)
        if status != OK:
            raise_io(error, "the file")
    return data.shape[0]


cdef _sync(const Device* device):
    cdef int error = 0
    cdef int status
    with nogil:
        status = device_sync(device, &error)
    if status != OK:
        raise_io(error, "the file")


cdef class FileDevice:
    """A file or block device behind the device interface; takes over an open descriptor."""

    def __cinit__(self, int descriptor):
        self.device.descriptor = descriptor

    def __dealloc__(self):
        if self.device.descriptor >= 0:
            os.close(self.device.descriptor)

    def fileno(self):
        """int: the descriptor. Raises StoreClosed."""
        if self.device.descriptor < 0:
            raise StoreClosed("the file is closed")
        return self.device.descriptor

    @property
    def size(self):
        """int: bytes."""
        return os.lseek(self.fileno(), 0, os.SEEK_END)

    def pread(self, uint64_t offset, uint64_t length):
        """bytes: exactly `length` bytes at `offset`. Raises OSError, CorruptionError at the end."""
        self.fileno()
        return _pread(&self.device, offset, length)

    def pwrite(self, uint64_t offset, const uint8_t[::1] data):
        """int: how many bytes were written at `offset`, which is all. Raises OSError."""
        self.fileno()
        return _pwrite(&self.device, offset, data)

    def sync(self):
        """Make the content durable. Raises OSError; never call it again after that."""
        self.fileno()
        _sync(&self.device)

    def drop_cache(self):
        """Forget clean cached pages: what is read next is what the disk has."""
        posix_fadvise(self.fileno(), 0, 0, POSIX_FADV_DONTNEED)

    def expect_random(self):
        """Have the kernel cache small pages: a small write to a large folio looks at all of it."""
        posix_fadvise(self.fileno(), 0, 0, POSIX_FADV_RANDOM)

    def truncate(self, uint64_t size):
        """Make the file `size` bytes long."""
        os.ftruncate(self.fileno(), size)

    def data_extents(self):
        """list of (start, stop): ranges that are not holes; all of it where that is not known."""
        extents = []
        size = self.size
        stop = 0
        while stop < size:
            try:
                start = os.lseek(self.device.descriptor, stop, os.SEEK_DATA)
                stop = os.lseek(self.device.descriptor, start, os.SEEK_HOLE)
            except OSError as error:
                if error.errno == ENXIO:
                    break
                start, stop = stop, size
            extents.append((start, min(stop, size)))
        return extents

    def close(self):
        """Close the file. Closing twice is fine."""
        if self.device.descriptor >= 0:
            descriptor, self.device.descriptor = self.device.descriptor, -1
            os.close(descriptor)


cdef class CallbackDevice:
    """A Python object behind the device interface: the tests' simulated disk.

    `target` has ``size``, ``pread(offset, length)``, ``pwrite(offset, data)``, ``sync()``,
    ``drop_cache()``, ``truncate(size)`` and ``close()``. What it raises reaches the caller.
    """

    def __cinit__(self, target):
        self.target = target
        self.device.descriptor = -1
        self.device.object = <void*>target

    @property
    def size(self):
        """int: bytes."""
        return self.target.size

    def pread(self, uint64_t offset, uint64_t length):
        """bytes: exactly `length` bytes at `offset`."""
        return _pread(&self.device, offset, length)

    def pwrite(self, uint64_t offset, const uint8_t[::1] data):
        """int: how many bytes were written at `offset`."""
        return _pwrite(&self.device, offset, data)

    def sync(self):
        """Make the content durable."""
        _sync(&self.device)

    def drop_cache(self):
        """Forget clean cached pages."""
        self.target.drop_cache()

    def expect_random(self):
        """Nothing that a simulated disk would do."""

    def truncate(self, uint64_t size):
        """Make it `size` bytes long."""
        self.target.truncate(size)

    def data_extents(self):
        """list of (start, stop): all of it."""
        return [(0, self.target.size)]

    def close(self):
        """Close it."""
        self.target.close()
