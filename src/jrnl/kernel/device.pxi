# Devices: all file I/O of the core goes through here. A FileDevice is a descriptor, and a
# CallbackDevice a Python object, so that a simulated disk can stand under the very code that ships.
#
# Takes: lock

cdef extern from *:
    """
    /* The core in whose middle this thread has called Python: a device, the superblocks' writer. */
    static __thread void *jrnl_inside;
    """
    void* jrnl_inside

cdef extern from "<unistd.h>" nogil:
    ssize_t pread(int fd, void* buffer, size_t count, int64_t offset)
    ssize_t pwrite(int fd, const void* buffer, size_t count, int64_t offset)
    int fdatasync(int fd)
    int ftruncate(int fd, int64_t length)
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

cdef extern from *:
    """
    static __thread int jrnl_failed_descriptor = -1;
    """
    int failed_descriptor "jrnl_failed_descriptor"   # what this thread's last failure was met on

cdef enum:
    ENDED_EARLY = -1             # in the place of an errno
    PARTS_MAX = 512              # buffers in one call of pwritev

_device_error = None             # what a CallbackDevice raised last, to be raised again


cdef inline int _failed(const Device* device, int code, int* error) noexcept nogil:
    global failed_descriptor
    failed_descriptor = device.descriptor
    error[0] = code
    return E_IO


cdef int device_read(const Device* device, uint8_t* target, uint64_t length, uint64_t offset,
                     int* error) noexcept nogil:
    """Read exactly `length` bytes; `error` is an errno, or ENDED_EARLY."""
    cdef ssize_t count
    while length:
        if device.object is not NULL:
            count = _callback_read(device, target, length, offset, error)
            if count < 0:
                return E_IO
        else:
            count = pread(device.descriptor, target, length, <int64_t>offset)
        if count < 0:
            if errno == EINTR:
                continue
            return _failed(device, errno, error)
        if count == 0:
            return _failed(device, ENDED_EARLY, error)
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
            count = _callback_write(device, source, length, offset, error)
            if count < 0:
                return E_IO
        else:
            count = pwrite(device.descriptor, source, length, <int64_t>offset)
        if count < 0:
            if errno == EINTR:
                continue
            return _failed(device, errno, error)
        if count == 0:
            return _failed(device, EIO, error)
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
            return _failed(device, errno, error)
        if done == 0:
            return _failed(device, EIO, error)
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
        return _callback_sync(device, error)
    if fdatasync(device.descriptor) != 0:    # not even after EINTR: an error is reported only once
        return _failed(device, errno, error)
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


cdef int _note_error(error, int* number) noexcept:
    global _device_error, failed_descriptor
    _device_error = error
    failed_descriptor = -1
    number[0] = EIO
    if isinstance(error, OSError) and isinstance(error.errno, int):
        number[0] = error.errno
    return E_IO


cdef ssize_t _callback_read(const Device* device, uint8_t* buffer, uint64_t length,
                            uint64_t offset, int* error) noexcept nogil:
    global jrnl_inside
    cdef Py_ssize_t count
    cdef void* before = jrnl_inside
    with gil:
        jrnl_inside = <void*>device.core
        try:
            content = bytes((<object>device.object).pread(offset, length))
            count = min(len(content), <Py_ssize_t>length)
            memcpy(buffer, PyBytes_AS_STRING(content), count)
            return count
        except BaseException as problem:
            return _note_error(problem, error)
        finally:
            jrnl_inside = before


cdef ssize_t _callback_write(const Device* device, const uint8_t* source, uint64_t length,
                             uint64_t offset, int* error) noexcept nogil:
    global jrnl_inside
    cdef ssize_t count
    cdef void* before = jrnl_inside
    with gil:
        jrnl_inside = <void*>device.core
        try:
            count = (<object>device.object).pwrite(
                offset, PyMemoryView_FromMemory(<char*>source, length, PyBUF_READ))
            return min(max(count, 0), <ssize_t>length)
        except BaseException as problem:
            return _note_error(problem, error)
        finally:
            jrnl_inside = before


cdef int _callback_sync(const Device* device, int* error) noexcept nogil:
    global jrnl_inside
    cdef void* before = jrnl_inside
    with gil:
        jrnl_inside = <void*>device.core
        try:
            (<object>device.object).sync()
            return OK
        except BaseException as problem:
            return _note_error(problem, error)
        finally:
            jrnl_inside = before


cdef int device_extend(const Device* device, uint64_t size, int* error) noexcept nogil:
    """Make a file longer; what is added reads as zeroes."""
    if device.object is not NULL:
        return _callback_extend(device, size, error)
    if ftruncate(device.descriptor, <int64_t>size) == 0:
        return OK
    return _failed(device, errno, error)


cdef int _callback_extend(const Device* device, uint64_t size, int* error) noexcept nogil:
    global jrnl_inside
    cdef void* before = jrnl_inside
    with gil:
        jrnl_inside = <void*>device.core
        try:
            (<object>device.object).truncate(size)
            return OK
        except BaseException as problem:
            return _note_error(problem, error)
        finally:
            jrnl_inside = before


cdef int raise_io(int error, str what) except -1:
    """Raise what a device met with."""
    global _device_error
    problem, _device_error = _device_error, None
    name = _failed_name()
    if problem is None and error == ENDED_EARLY:
        problem = CorruptionError(f"{name or what} ends too early: it was cut")
    elif problem is None:
        problem = OSError(error, os.strerror(error), name or what)
    problem._jrnl_device = True    # not what a signal's handler has raised
    raise problem


cdef _failed_name():
    """The path of the file that a device of this thread has failed on, where it is known."""
    global failed_descriptor
    descriptor, failed_descriptor = failed_descriptor, -1
    return path_of(descriptor)


def path_of(descriptor):
    """str or None: where an open file or folder lies, as far as that can be told."""
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}")
    except OSError:
        return None


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


cdef class Turn:
    """Whoever writes the superblocks: one at a time, and nothing older after something newer.

    Attributes
    ----------
    used : int
        Bytes of the newest content of the first device.
    """

    cdef pthread_mutex_t* mutex
    cdef uint64_t newest
    cdef public uint64_t used

    def __cinit__(self):
        self.mutex = jrnl_plain_mutex_new()
        if self.mutex is NULL:
            raise MemoryError("no memory for a lock")

    def __dealloc__(self):
        if self.mutex is not NULL:
            pthread_mutex_destroy(self.mutex)
            free(self.mutex)

    def put(self, uint64_t number, list devices not None, list contents not None):
        """Have each device begin with its content, durably, one after the other.

        One step: no signal's handler comes in between, so none can wait for whoever has the turn.
        Nothing is done where `number`, or a greater one, was put before. Raises OSError.
        """
        cdef Device* device
        cdef const uint8_t* content
        cdef uint64_t length
        cdef int k, error = 0, status = OK
        for one in devices:
            if not isinstance(one, CallbackDevice):
                (<FileDevice?>one).fileno()
        with nogil:
            pthread_mutex_lock(self.mutex)
        try:
            if number <= self.newest:
                return
            for k in range(len(devices)):
                device = _device_of(devices[k])
                content = <const uint8_t*>PyBytes_AS_STRING(<bytes?>contents[k])
                length = len(contents[k])
                with nogil:
                    status = device_write(device, content, length, 0, &error)
                    if status == OK:
                        status = device_sync(device, &error)
                if status != OK:
                    break
            if status == OK:
                self.newest = number
                self.used = length
        finally:
            pthread_mutex_unlock(self.mutex)
        if status != OK:
            raise_io(error, "a superblock")


cdef Device* _device_of(device) except NULL:
    if isinstance(device, CallbackDevice):
        return &(<CallbackDevice>device).device
    return &(<FileDevice?>device).device


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
        """Make the file `size` bytes long. Raises OSError."""
        try:
            os.ftruncate(self.fileno(), size)
        except OSError as error:
            error.filename = path_of(self.device.descriptor)
            raise

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
    ``drop_cache()``, ``truncate(size)`` and ``close()``, and perhaps ``data_extents()``. What it
    raises reaches the caller.
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
        """list of (start, stop): what `target` says is no hole; all of it where it says nothing."""
        told = getattr(self.target, "data_extents", None)
        return [(0, self.target.size)] if told is None else told()

    def close(self):
        """Close it."""
        self.target.close()


cdef Device as_device(device, Core* core):
    """The core's handle of a device; the caller keeps the device."""
    cdef Device handle
    if isinstance(device, FileDevice):
        handle = (<FileDevice>device).device
    else:
        handle = (<CallbackDevice?>device).device
    handle.core = core
    return handle
